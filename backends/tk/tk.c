/* tk.c - asyncio as a guest in Tcl's event loop.
 *
 * The guest's descriptor is an ordinary Tcl file handler, and an event source asks ag_prepare() each time before
 * Tcl blocks. What makes it fast is who waits: see notifier.c. Without that notifier everything here works
 * the same, at two context switches an event.
 *
 * Python is entered by tkinter's own route. tkinter keeps the thread state of the thread that is inside Tcl in a
 * variable of its own and takes the GIL from there in each command it made; code that took the GIL by other
 * means and then called tkinter would leave that variable empty, and the next callback inside update() would
 * abort. So one command per guest is made by tkapp.createcommand(), and every callback below calls it. It always
 * succeeds: an error in a command ends mainloop().
 *
 * Every function runs on the thread of the interpreter, except tk_post.
 */
#include "asyncio_guest.h"
#include "notifier.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <unistd.h>

#define OVERDUE_MS 10               /* a guest put behind the host's work is not put off for longer */
#define BURST 1000000               /* ns, for turns that follow each other within one event */

typedef void (*action)(void *);

typedef struct tk_host {
    ag_guest *guest;
    Tcl_Interp *interp;
    PyObject *app;                  /* _tkinter.tkapp, kept alive by the command; NULL: a C embedder */
    Tcl_CmdInfo command;
    char name[48];                  /* of the command */
    action fn;                      /* what the command is to call, and its argument */
    void *arg;
    int depth;                      /* callbacks of ours on the stack, and run */
    int closed;
    int post_fd;                    /* strategy waiter: an eventfd that tk_post writes to; or -1 */
    int prepare;                    /* the event source is there */
    int due;                        /* ag_prepare said so, and no turn has run since */
    int queued;                     /* a due_event is in the queue */
    int again;                      /* waiting for on_again */
    Tcl_TimerToken behind;          /* ... by the timer of on_idle */
    Tcl_TimerToken overdue;
    int main_window;                /* "." is traced */
    enum { RUN_NOT, RUN_MAINLOOP, RUN_OURS } running;   /* run is on the stack: tkinter's main loop, or our own */
    int stop;                       /* quit was called in it */
} tk_host;

typedef struct tk_event {
    Tcl_Event header;
    tk_host *host;
    action fn;
    void *arg;
} tk_event;

static int notifier_is_ours;

/* ------------------------------------------------------------------------------------------ into Python and back */

/* Free what is left of a closed host: in a callback (no GIL, tkinter's thread state in place) by Tcl's call, in
 * Python by tkinter's. Either drops the references that the command holds. */
static void
host_free(tk_host *h, int in_python)
{
    Tcl_Interp *interp = h->interp;

    Tcl_Preserve(interp);
    if (h->command.objProc != NULL && in_python) {
        PyObject *type, *value, *tb, *app = Py_NewRef(h->app);
        PyErr_Fetch(&type, &value, &tb);
        Py_XDECREF(PyObject_CallMethod(app, "deletecommand", "s", h->name));
        PyErr_Clear();
        Py_DECREF(app);
        PyErr_Restore(type, value, tb);
    } else if (h->command.objProc != NULL) {
        Tcl_DeleteCommand(interp, h->name);
    }
    PyMem_RawFree(h);
    Tcl_Release(interp);
}

/* Call fn(arg), with the GIL if this is a tkinter application. `h` may be gone afterwards. */
static void
enter(tk_host *h, action fn, void *arg)
{
    h->depth++;
    if (h->app == NULL) {
        fn(arg);
    } else if (h->command.objProc != NULL) {
        Tcl_Obj *word = Tcl_NewStringObj(h->name, -1);
        Tcl_IncrRefCount(word);
        h->fn = fn;
        h->arg = arg;
        h->command.objProc(h->command.objClientData, h->interp, 1, &word);
        Tcl_DecrRefCount(word);
    }
    if (--h->depth == 0 && h->closed) {
        host_free(h, 0);
    }
}

/* The command. self is (capsule of the host, tkapp). */
static PyObject *
command(PyObject *self, PyObject *unused)
{
    (void)unused;
    tk_host *h = PyCapsule_GetPointer(PyTuple_GET_ITEM(self, 0), NULL);
    if (h->fn != NULL) {
        action fn = h->fn;
        h->fn = NULL;
        fn(h->arg);
    }
    Py_RETURN_NONE;
}

static PyMethodDef command_def = {"asyncio_guest", command, METH_NOARGS, NULL};

static void
command_gone(ClientData data, Tcl_Interp *interp, const char *old, const char *new, int flags)
{
    (void)interp, (void)old, (void)new, (void)flags;
    ((tk_host *)data)->command.objProc = NULL;
}

/* Turns that max_iterations cuts short follow each other for a moment: between two of them Tcl would wait, ask X for
 * events and enter Python anew, which costs more than such a turn. */
static void
dispatch(void *arg)
{
    tk_host *h = arg;
    int64_t end = ag_now() + BURST;
    do {
        h->due = 0;
        ag_dispatch(h->guest);      /* may close the host */
    } while (h->prepare && !h->closed && !h->again && !h->stop && ag_prepare(h->guest, NULL) && ag_now() < end);
}

static void
died(void *arg)
{
    tk_host *h = arg;
    ag_host_died(h->guest);
}

/* ------------------------------------------------------------------------------------------------ Tcl calls us */

static void
on_readable(ClientData data, int mask)
{
    (void)mask;
    enter(data, dispatch, data);
}

static void
on_post(ClientData data, int mask)
{
    eventfd_t count;
    (void)mask;
    eventfd_read(((tk_host *)data)->post_fd, &count);
    enter(data, dispatch, data);
}

static int
event_proc(Tcl_Event *header, int flags)
{
    tk_event *event = (tk_event *)header;
    if (!(flags & TCL_FILE_EVENTS)) {
        return 0;
    }
    enter(event->host, event->fn, event->arg);
    return 1;
}

static int
due_event_proc(Tcl_Event *header, int flags)
{
    tk_host *h = ((tk_event *)header)->host;
    if (!(flags & TCL_FILE_EVENTS)) {
        return 0;
    }
    h->queued = 0;
    if (h->due) {
        enter(h, dispatch, h);
    }
    return 1;
}

static int
delete_event(Tcl_Event *header, ClientData host)
{
    return (header->proc == event_proc || header->proc == due_event_proc) && ((tk_event *)header)->host == host;
}

static tk_event *
new_event(tk_host *h, Tcl_EventProc *proc, action fn, void *arg)
{
    tk_event *event = (tk_event *)Tcl_Alloc(sizeof *event);
    event->header.proc = proc;
    event->host = h;
    event->fn = fn;
    event->arg = arg;
    return event;
}

/* Before Tcl blocks. A guest that waits behind the host's own work is not due. */
static void
setup(ClientData data, int flags)
{
    tk_host *h = data;
    static const Tcl_Time zero = {0, 0};
    if ((flags & TCL_FILE_EVENTS) && !h->again && ag_prepare(h->guest, NULL)) {
        h->due = 1;
        Tcl_SetMaxBlockTime(&zero);
    }
}

static void
check(ClientData data, int flags)
{
    tk_host *h = data;
    if ((flags & TCL_FILE_EVENTS) && h->due && !h->queued) {
        h->queued = 1;
        Tcl_QueueEvent(&new_event(h, due_event_proc, NULL, NULL)->header, TCL_QUEUE_TAIL);
    }
}

static void on_idle(ClientData data);
static void on_again(ClientData data);

static void
again_cancel(tk_host *h)
{
    if (h->again) {
        h->again = 0;
        Tcl_DeleteTimerHandler(h->overdue);
        Tcl_DeleteTimerHandler(h->behind);
        h->behind = NULL;
        Tcl_CancelIdleCall(on_idle, h);
    }
}

/* Either timer; the first cancels the other. The idle call alone starves under a flood of timers, the 10 ms
 * alone come late on an idle host. */
static void
on_again(ClientData data)
{
    again_cancel(data);
    enter(data, dispatch, data);
}

/* Tk's redraws and idle work were asked for before this and have passed. The turn itself comes by a timer of no
 * delay and never from here: "update idletasks", and Tk itself when it maps a window, run idle calls until there
 * are none, and a turn that leaves work would ask for the next one each time. */
static void
on_idle(ClientData data)
{
    tk_host *h = data;
    h->behind = Tcl_CreateTimerHandler(0, on_again, h);
}

static void
on_main_window_gone(ClientData data, Tcl_Interp *interp, const char *old, const char *new, int flags)
{
    tk_host *h = data;
    (void)interp, (void)old, (void)new, (void)flags;
    h->main_window = 0;             /* the trace goes with its command */
    enter(h, died, h);
}

static void
on_interp_gone(ClientData data, Tcl_Interp *interp)
{
    (void)interp;
    enter(data, died, data);
}

/* ------------------------------------------------------------------------------------------------ the core calls us */

static int
tk_watch(void *host, int fd, int on)
{
    if (fd >= FD_SETSIZE && !notifier_is_ours) {
        return -EMFILE;             /* Tcl's own notifier would write past its descriptor sets */
    }
    Tcl_CreateFileHandler(fd, on ? TCL_READABLE : 0, on_readable, host);
    return 0;
}

static int
tk_again(void *host)
{
    tk_host *h = host;
    h->again = 1;
    Tcl_DoWhenIdle(on_idle, h);
    h->overdue = Tcl_CreateTimerHandler(OVERDUE_MS, on_again, h);
    return 0;
}

/* Not by Tcl_ThreadQueueEvent(): Tcl finds the queue by the thread's id, and knows a thread that ended without
 * Tcl_FinalizeThread() for ever. Ids are given out again, and the event would go to the dead one's queue. */
static int
tk_post(void *host)
{
    return eventfd_write(((tk_host *)host)->post_fd, 1) < 0 ? -errno : 0;
}

static int
tk_call(void *host, void (*fn)(void *), void *arg)
{
    tk_host *h = host;
    Tcl_QueueEvent(&new_event(h, event_proc, fn, arg)->header, TCL_QUEUE_TAIL);
    return 0;
}

/* 1, 0 or -1 with an exception. */
static int
on_main_thread(void)
{
    PyObject *threading = PyImport_ImportModule("threading");
    PyObject *thread = threading != NULL ? PyObject_CallMethod(threading, "main_thread", NULL) : NULL;
    PyObject *ident = thread != NULL ? PyObject_GetAttrString(thread, "ident") : NULL;
    int is = ident == NULL ? -1 : PyLong_AsUnsignedLong(ident) == PyThread_get_thread_ident();

    Py_XDECREF(threading);
    Py_XDECREF(thread);
    Py_XDECREF(ident);
    return is;
}

/* tkinter has one flag for the quit() of all interpreters: a main loop on another thread would take the one that is
 * meant for this. So only the main thread runs mainloop(), with its signals and its errors in commands. */
static int
tk_run(void *host)
{
    tk_host *h = host;
    int err = 0, main_thread = h->app != NULL ? on_main_thread() : 0;

    if (main_thread < 0) {
        return -1;
    }
    h->depth++;
    h->running = main_thread ? RUN_MAINLOOP : RUN_OURS;
    if (h->app != NULL) {
        PyObject *app = Py_NewRef(h->app);
        do {
            /* -1: also without a window, and on after the last one closed. */
            PyObject *done = main_thread ? PyObject_CallMethod(app, "mainloop", "i", -1)
                                         : PyObject_CallMethod(app, "dooneevent", "i", 0);
            err = done == NULL ? -1 : 0;
            Py_XDECREF(done);
        } while (err == 0 && !main_thread && !h->stop);
        h->stop = 0;
        Py_DECREF(app);
    } else {
        while (!h->stop && err == 0) {
            Py_BEGIN_ALLOW_THREADS
            Tcl_DoOneEvent(0);
            Py_END_ALLOW_THREADS
            err = PyErr_CheckSignals();
        }
        h->stop = 0;
    }
    h->running = RUN_NOT;
    if (--h->depth == 0 && h->closed) {
        host_free(h, 1);
    }
    return err;
}

static void
tk_quit(void *host)
{
    tk_host *h = host;
    if (!h->running) {
        return;
    }
    h->stop = 1;
    if (h->running == RUN_MAINLOOP) {
        PyObject *type, *value, *tb;
        PyErr_Fetch(&type, &value, &tb);
        Py_XDECREF(PyObject_CallMethod(h->app, "quit", NULL));
        PyErr_Clear();
        PyErr_Restore(type, value, tb);
    }
}

static void
tk_close(void *host)
{
    tk_host *h = host;

    Tcl_DeleteFileHandler(ag_fd(h->guest));
    if (h->post_fd >= 0) {
        Tcl_DeleteFileHandler(h->post_fd);
        close(h->post_fd);
    }
    again_cancel(h);
    if (h->prepare) {
        Tcl_DeleteEventSource(setup, check, h);
    }
    Tcl_DeleteEvents(delete_event, h);
    if (h->main_window) {
        Tcl_UntraceCommand(h->interp, ".", TCL_TRACE_DELETE, on_main_window_gone, h);
    }
    if (h->app == NULL) {
        Tcl_DontCallWhenDeleted(h->interp, on_interp_gone, h);
    } else {
        Tcl_UntraceCommand(h->interp, h->name, TCL_TRACE_DELETE, command_gone, h);
    }
    h->closed = 1;
    if (h->depth == 0) {
        host_free(h, 1);
    }
}

/* The interpreter of a tkapp, on the right thread, in the Tcl that this file is linked to: 0, or -1 with an
 * exception. */
static int
find_interp(PyObject *app, Tcl_Interp **ret_interp)
{
    PyObject *file = NULL, *addr = NULL, *mod = PyImport_ImportModule("_tkinter");
    PyObject *alive = PyObject_CallMethod(app, "exprboolean", "s", "1");
    int err = -1;

    if (mod == NULL) {
        goto done;
    }
    if (alive == NULL) {
        if (PyErr_ExceptionMatches(PyExc_RuntimeError)) {
            PyErr_SetString(PyExc_RuntimeError,
                            "this Tcl interpreter belongs to another thread: start the guest on that thread");
        }
        goto done;
    }
    file = PyObject_GetAttrString(mod, "__file__");
    if (file == NULL) {
        PyErr_Clear();              /* built into the interpreter: its Tcl has a global name then, or none */
    }
    void *lib = dlopen(file != NULL ? PyUnicode_AsUTF8(file) : NULL, RTLD_LAZY | RTLD_NOLOAD);
    Tcl_Interp *(*theirs)(void) = NULL;
    if (lib != NULL) {
        *(void **)&theirs = dlsym(lib, "Tcl_CreateInterp");
        dlclose(lib);
    }
    if (theirs != Tcl_CreateInterp) {
        PyErr_SetString(PyExc_RuntimeError, "this Python's tkinter uses another copy of Tcl than the backend tk: "
                                            "build asyncio_guest against the Tcl of this Python");
        goto done;
    }
    addr = PyObject_CallMethod(app, "interpaddr", NULL);
    Tcl_Interp *interp = addr != NULL ? PyLong_AsVoidPtr(addr) : NULL;
    if (interp == NULL) {
        goto done;
    }
    if (Tcl_GetVar2(interp, "tcl_platform", "threaded", TCL_GLOBAL_ONLY) == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "this Tcl was built without threads; the backend tk needs them");
        goto done;
    }
    *ret_interp = interp;
    err = 0;
done:
    Py_XDECREF(mod);
    Py_XDECREF(file);
    Py_XDECREF(addr);
    Py_XDECREF(alive);
    return err;
}

static int
make_command(tk_host *h, PyObject *app)
{
    PyObject *fn = NULL, *made = NULL, *self = NULL, *capsule = PyCapsule_New(h, NULL, NULL);
    int err = -1;

    PyOS_snprintf(h->name, sizeof h->name, "asyncio_guest_%p", (void *)h);
    if (capsule == NULL || (self = PyTuple_Pack(2, capsule, app)) == NULL ||
        (fn = PyCFunction_New(&command_def, self)) == NULL ||
        (made = PyObject_CallMethod(app, "createcommand", "sO", h->name, fn)) == NULL) {
        goto done;
    }
    if (!Tcl_GetCommandInfo(h->interp, h->name, &h->command)) {
        PyErr_SetString(PyExc_RuntimeError, "tkinter made no command");
        goto done;
    }
    Tcl_TraceCommand(h->interp, h->name, TCL_TRACE_DELETE, command_gone, h);
    h->app = app;
    err = 0;
done:
    Py_XDECREF(capsule);
    Py_XDECREF(self);
    Py_XDECREF(fn);
    Py_XDECREF(made);
    return err;
}

/* This thread's interpreter without a window. It is fetched here, and not by the caller, since a tkapp must lose its
 * last reference on its own thread (Tcl aborts otherwise) and whoever opened the host may be anywhere by then. */
static PyObject *
own_interpreter(void)
{
    PyObject *module = PyImport_ImportModule("asyncio_guest.backends.tk");
    PyObject *app = module != NULL ? PyObject_CallMethod(module, "_interpreter", NULL) : NULL;
    Py_XDECREF(module);
    return app;
}

static int
tk_open(void **ret_host, const ag_open_args *args)
{
    tk_host *h = NULL;
    PyObject *app = NULL;
    int post_fd = -1;

    if (ag_import() < 0) {
        return -1;
    }
    if (args->native == NULL) {
        app = args->toolkit != NULL && args->toolkit != Py_None ? Py_NewRef(args->toolkit) : own_interpreter();
        if (app == NULL) {
            return -1;
        }
    }
    h = PyMem_RawCalloc(1, sizeof *h);
    if (h == NULL) {
        PyErr_NoMemory();
        goto fail;
    }
    if (args->strategy == AG_STRATEGY_WAITER && (post_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        goto fail;
    }
    if (post_fd >= FD_SETSIZE && !notifier_is_ours) {
        PyErr_SetString(PyExc_OSError, "Tcl's own notifier knows 1024 descriptors only");
        goto fail;
    }
    h->guest = args->guest;
    h->interp = args->native;
    h->post_fd = -1;
    if (app != NULL) {
        if (find_interp(app, &h->interp) < 0 || make_command(h, app) < 0) {
            goto fail;
        }
        Py_DECREF(app);             /* the command keeps it */
    } else {
        Tcl_CallWhenDeleted(h->interp, on_interp_gone, h);
    }
    h->main_window = Tcl_FindCommand(h->interp, ".", NULL, TCL_GLOBAL_ONLY) != NULL &&
                     Tcl_TraceCommand(h->interp, ".", TCL_TRACE_DELETE, on_main_window_gone, h) == TCL_OK;
    if (args->strategy == AG_STRATEGY_WATCH) {
        Tcl_CreateEventSource(setup, check, h);
        h->prepare = 1;
    } else {
        Tcl_CreateFileHandler(post_fd, TCL_READABLE, on_post, h);
        h->post_fd = post_fd;
    }
    *ret_host = h;
    return 0;

fail:
    if (post_fd >= 0) {
        close(post_fd);
    }
    Py_XDECREF(app);
    PyMem_RawFree(h);
    return -1;
}

static const ag_host_ops tk_ops = {
    .abi = AG_ABI_VERSION,
    .caps = AG_HOST_WATCH | AG_HOST_PREPARE | AG_HOST_POST,
    .name = "tk",
    .open = tk_open,
    .close = tk_close,
    .watch = tk_watch,
    .again = tk_again,
    .post = tk_post,
    .call = tk_call,
    .run = tk_run,
    .quit = tk_quit,
};

/* --------------------------------------------------------------------------------------------------- the module */

PyDoc_STRVAR(install_notifier_doc,
"install_notifier(others, /)\n--\n\n"
"Make Tcl wait in the calling thread instead of a second one, once per process.\n\n"
"others: idents of the threads that are asked whether they run Tcl.\n"
"Returns (handlers handed over, state); -1 and the reason when Tcl's own notifier stays.");

static PyObject *
install_notifier(PyObject *module, PyObject *others)
{
    (void)module;
    PyObject *list = PySequence_List(others);
    if (list == NULL) {
        return NULL;
    }
    Py_ssize_t n = PyList_GET_SIZE(list);
    Tcl_ThreadId *ids = PyMem_Calloc((size_t)n + 1, sizeof *ids);
    if (ids == NULL) {
        Py_DECREF(list);
        return PyErr_NoMemory();
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        ids[i] = (Tcl_ThreadId)PyLong_AsVoidPtr(PyList_GET_ITEM(list, i));
    }
    Py_DECREF(list);
    const char *state = "";
    int moved = PyErr_Occurred() ? -1 : ag_tk_notifier_install(ids, (size_t)n, &state);
    PyMem_Free(ids);
    if (PyErr_Occurred()) {
        return NULL;
    }
    notifier_is_ours |= moved >= 0;
    return Py_BuildValue("is", moved, state);
}

PyDoc_STRVAR(immortalize_doc,
"immortalize(obj, /)\n--\n\n"
"Never free obj.");

static PyObject *
immortalize(PyObject *module, PyObject *obj)
{
    (void)module;
    Py_INCREF(obj);
    Py_RETURN_NONE;
}

static PyMethodDef module_methods[] = {
    {"immortalize", immortalize, METH_O, immortalize_doc},
    {"install_notifier", install_notifier, METH_O, install_notifier_doc},
    {NULL, NULL, 0, NULL},
};

static int
module_exec(PyObject *module)
{
    PyObject *ops = PyCapsule_New((void *)&tk_ops, AG_OPS_CAPSULE, NULL);
    int err = PyModule_AddObjectRef(module, "ops", ops);
    Py_XDECREF(ops);
    return err;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "asyncio_guest.backends.tk._tk",
    .m_doc = "The backend tk.",
    .m_methods = module_methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__tk(void);

PyMODINIT_FUNC
PyInit__tk(void)
{
    return PyModuleDef_Init(&module_def);
}
