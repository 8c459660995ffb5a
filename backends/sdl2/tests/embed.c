/* A program in C that links SDL as usual, has an SDL main loop of its own, and embeds Python with a guest in that loop.
 * Prints the guest's outcome, and how many ticks of a timer of the program's own came. */
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

int
main(void)
{
    if (SDL_Init(SDL_INIT_VIDEO | SDL_INIT_TIMER) < 0
        || SDL_CreateWindow("embed", 0, 0, 200, 100, 0) == NULL) {
        fprintf(stderr, "%s\n", SDL_GetError());
        return 2;
    }
    Uint32 guest_event = SDL_RegisterEvents(1), tick_event = SDL_RegisterEvents(1);

    Py_Initialize();
    PyObject *module = PyImport_ImportModule("asyncio_guest.backends.sdl2._sdl2");
    PyObject *capsule = module != NULL ? PyObject_GetAttrString(module, "ops") : NULL;
    PyObject *globals = PyModule_GetDict(PyImport_AddModule("__main__")), *coro = NULL, *ran;
    if (capsule == NULL || ag_import() < 0
        || (ran = PyRun_String(source, Py_file_input, globals, globals)) == NULL
        || (coro = PyRun_String("main()", Py_eval_input, globals, globals)) == NULL) {
        PyErr_Print();
        return 3;
    }
    Py_DECREF(ran);
    ag_start_options options = {
        .ops = PyCapsule_GetPointer(capsule, AG_OPS_CAPSULE),
        .native = &guest_event,
        .strategy = AG_STRATEGY_WAITER,
        .done = on_done,
    };
    ag_guest *guest;
    if (ag_start(&guest, coro, &options) < 0) {
        PyErr_Print();
        return 4;
    }
    Py_DECREF(coro);

    SDL_TimerID timer = SDL_AddTimer(10, on_tick, &tick_event);
    PyThreadState *state = PyEval_SaveThread();     /* the core takes the GIL when it wants it */
    int ticks = 0;
    while (!over) {
        SDL_Event event;

        if (!SDL_WaitEvent(&event)) {
            return 5;
        }
        if (event.type == guest_event) {
            ((void (*)(void *))event.user.data2)(event.user.data1);
        } else if (event.type == tick_event && ++ticks == 3) {
            SDL_FlushEvents(SDL_FIRSTEVENT, SDL_LASTEVENT);     /* ours too: it comes back */
        }
    }
    PyEval_RestoreThread(state);
    SDL_RemoveTimer(timer);
    printf("%d\n", ticks);
    ag_release(guest);
    Py_DECREF(capsule);
    Py_DECREF(module);
    if (Py_FinalizeEx() < 0) {
        return 6;
    }
    SDL_Quit();
    return 0;
}
