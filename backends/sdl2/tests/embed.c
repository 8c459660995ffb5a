/* A program in C that links SDL as usual, has an SDL main loop of its own, and embeds Python with a guest in that loop.
 * Prints the guest's outcome, and how many ticks of a timer of the program's own came; all of it twice, since a program may
 * shut SDL down and begin anew. */
#include "asyncio_guest.h"

#include <SDL.h>
#include <stdio.h>

static const char source[] =
    "import asyncio\n"
    "async def main():\n"
    "    for _ in range(20):\n"
    "        await asyncio.sleep(0.01)\n"
    "    return await asyncio.to_thread(str, 42)\n";

static int over;

static void
on_done(void *arg, PyObject *outcome)
{
    (void)arg;
    PyObject *repr = PyObject_Repr(outcome);
    printf("%s\n", repr != NULL ? PyUnicode_AsUTF8(repr) : "?");
    Py_XDECREF(repr);
    over = 1;
}

static Uint32
on_tick(Uint32 interval, void *type)
{
    SDL_Event event;

    SDL_zero(event);
    event.type = *(Uint32 *)type;
    SDL_PushEvent(&event);
    return interval;
}

/* SDL's life, with a guest in it, until that is over. Prints how many ticks came. 0 or an exit status. */
static int
serve(const ag_host_ops *ops, PyObject *coro)
{
    if (SDL_Init(SDL_INIT_VIDEO | SDL_INIT_TIMER) < 0
        || SDL_CreateWindow("embed", 0, 0, 200, 100, 0) == NULL) {
        fprintf(stderr, "%s\n", SDL_GetError());
        return 2;
    }
    Uint32 guest_event = SDL_RegisterEvents(1), tick_event = SDL_RegisterEvents(1);
    ag_start_options options = {
        .ops = ops,
        .native = &guest_event,
        .strategy = AG_STRATEGY_WAITER,
        .done = on_done,
    };
    ag_guest *guest;
    if (ag_start(&guest, coro, &options) < 0) {
        PyErr_Print();
        return 4;
    }

    SDL_TimerID timer = SDL_AddTimer(10, on_tick, &tick_event);
    PyThreadState *state = PyEval_SaveThread();     /* the core takes the GIL when it wants it */
    int ticks = 0, dropped = 0;
    over = 0;
    while (!over) {
        SDL_Event event;

        if (!SDL_WaitEvent(&event)) {
            return 5;
        }
        if (event.type == guest_event && !dropped) {
            dropped = 1;            /* it comes back */
        } else if (event.type == guest_event) {
            ((void (*)(void *))event.user.data2)(event.user.data1);
        } else if (event.type == tick_event && ++ticks == 3) {
            SDL_FlushEvents(SDL_FIRSTEVENT, SDL_LASTEVENT);     /* ours too, again */
        } else if (ticks > 2000) {
            return 7;
        }
    }
    SDL_RemoveTimer(timer);
    SDL_Quit();                     /* with the timer that looks for a lost event, which is still on */
    PyEval_RestoreThread(state);
    printf("%d\n", ticks);
    ag_release(guest);
    return 0;
}

int
main(void)
{
    Py_Initialize();
    PyObject *module = PyImport_ImportModule("asyncio_guest.backends.sdl2._sdl2");
    PyObject *capsule = module != NULL ? PyObject_GetAttrString(module, "ops") : NULL;
    PyObject *globals = PyModule_GetDict(PyImport_AddModule("__main__")), *ran;
    if (capsule == NULL || ag_import() < 0
        || (ran = PyRun_String(source, Py_file_input, globals, globals)) == NULL) {
        PyErr_Print();
        return 3;
    }
    Py_DECREF(ran);
    for (int life = 0; life < 2; life++) {
        PyObject *coro = PyRun_String("main()", Py_eval_input, globals, globals);
        int status = coro != NULL ? serve(PyCapsule_GetPointer(capsule, AG_OPS_CAPSULE), coro) : 3;

        if (status != 0) {
            return status;
        }
        Py_DECREF(coro);
    }
    Py_DECREF(capsule);
    Py_DECREF(module);
    return Py_FinalizeEx() < 0 ? 6 : 0;
}
