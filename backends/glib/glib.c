/* glib.c - asyncio as a guest in GLib's main loop, and so in GTK's.
 *
 * Two sources on one GMainContext:
 *
 *   main    priority 0: the guest's descriptor, ag_prepare, posts from other threads, and a guest that has waited
 *           too long behind the host's work
 *   behind  priority 200, after redraws (120) and ordinary idle work: a guest that has work left
 *
 * A fixed priority does not do for the guest with work left: at 0 nothing is drawn any more, at 200 it gets no turn
 * under a flood of timers. So both sources wait for it, and the first cancels the other.
 *
 * The sources keep their state in plain words that `prepare` and `check` read: g_source_set_ready_time(),
 * g_source_modify_unix_fd() and the like write to the context's eventfd each time, even on its own thread, and a
 * turn would cost four system calls more. For the same reason the descriptor is a GPollFD of ours: GLib reads its
 * `events` before each poll, so watching or not is one store.
 *
 * GLib knows nothing of Python: callbacks come without the GIL, and the core takes it. Only GLib is linked, so
 * the same file serves GTK 3, GTK 4 and programs without a window.
 */
#include "asyncio_guest.h"

#include <dlfcn.h>
#include <glib.h>

#define BEHIND 200
#define OVERDUE_US 16000            /* one frame */
#define BURST_US 1000               /* for turns that follow each other within one dispatch */

typedef struct gl_host {
    ag_guest *guest;
    GMainContext *context;
    PyObject *main_loop;            /* the application's own, which run drives; or NULL */
    gboolean driving;               /* ... while it does */
    GMainLoop *loop;                /* of run, while it runs one of its own */
    guint level;                    /* of run's gtk_main(), while that runs */
    gboolean quitting;              /* ... it is to end when what is nested in it has */
    GSource *main, *behind;
    GPollFD poll;
    GSList *calls;                  /* the GSource of each call that has not begun */
    gboolean prepare;               /* strategy watch: ask ag_prepare */
    gboolean again;                 /* a guest with work left waits for its turn */
    gint64 overdue;                 /* ... until then, in g_get_monotonic_time()'s us */
    gint posted;                    /* atomic */
} gl_host;

typedef struct gl_source {
    GSource base;
    gl_host *host;
} gl_source;

typedef struct gl_call {
    gl_host *host;
    GSource *source;
    void (*fn)(void *);
    void *arg;
} gl_call;

static void quit_gtk3(gl_host *h);

/* ------------------------------------------------------------------------------------------------- the sources */

static gboolean
is_due(gl_host *h, GSource *source)
{
    return g_atomic_int_get(&h->posted) || (h->again && g_source_get_time(source) >= h->overdue);
}

static gboolean
main_prepare(GSource *source, gint *timeout)
{
    gl_host *h = ((gl_source *)source)->host;
    *timeout = -1;
    if (h->quitting) {
        quit_gtk3(h);
    }
    /* A guest that waits behind the host's work is not due; the core says no while a turn is on the stack. */
    return is_due(h, source) || (h->prepare && !h->again && ag_prepare(h->guest, NULL));
}

static gboolean
main_check(GSource *source)
{
    gl_host *h = ((gl_source *)source)->host;
    return (h->poll.revents & h->poll.events) || is_due(h, source);
}

static gboolean
main_dispatch(GSource *source, GSourceFunc fn, gpointer data)
{
    gl_host *h = ((gl_source *)source)->host;
    gint64 end = g_get_monotonic_time() + BURST_US;
    (void)fn, (void)data;
    /* Turns that max_iterations cuts short follow each other for a moment: before each, GTK would ask the X server for
     * events twice, which costs more than such a turn. */
    do {
        /* First: what is posted from now on is a new post. */
        g_atomic_int_set(&h->posted, 0);
        h->poll.revents = 0;
        h->again = FALSE;
        ag_dispatch(h->guest);      /* may close the host: the source is then destroyed */
    } while (!g_source_is_destroyed(source) && h->prepare && !h->again && ag_prepare(h->guest, NULL)
             && g_get_monotonic_time() < end);
    return G_SOURCE_CONTINUE;
}

static gboolean
behind_prepare(GSource *source, gint *timeout)
{
    *timeout = -1;
    return ((gl_source *)source)->host->again;
}

static gboolean
behind_check(GSource *source)
{
    return ((gl_source *)source)->host->again;
}

static gboolean
behind_dispatch(GSource *source, GSourceFunc fn, gpointer data)
{
    gl_host *h = ((gl_source *)source)->host;
    (void)fn, (void)data;
    if (h->again) {                 /* not if `main` came first since the poll */
        h->again = FALSE;
        ag_dispatch(h->guest);      /* may close the host */
    }
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs main_funcs = {.prepare = main_prepare, .check = main_check, .dispatch = main_dispatch};
static GSourceFuncs behind_funcs = {.prepare = behind_prepare, .check = behind_check, .dispatch = behind_dispatch};

static GSource *
add_source(gl_host *h, GSourceFuncs *funcs, gint priority, const char *name)
{
    GSource *source = g_source_new(funcs, sizeof(gl_source));
    ((gl_source *)source)->host = h;
    g_source_set_name(source, name);
    g_source_set_priority(source, priority);
    g_source_set_can_recurse(source, TRUE);     /* turns go on inside a modal dialog that one of them opened */
    g_source_attach(source, h->context);
    return source;
}

static gboolean
on_call(gpointer data)
{
    gl_call *call = data;
    call->host->calls = g_slist_remove(call->host->calls, call->source);
    call->fn(call->arg);
    return G_SOURCE_REMOVE;
}

/* ------------------------------------------------------------------------------------------- the core calls us */

static int
gl_watch(void *host, int fd, int on)
{
    gl_host *h = host;
    if (h->poll.fd < 0) {
        h->poll.fd = fd;
        g_source_add_poll(h->main, &h->poll);
    }
    h->poll.events = on ? G_IO_IN : 0;
    return 0;
}

static int
gl_again(void *host)
{
    gl_host *h = host;
    h->again = TRUE;
    h->overdue = g_get_monotonic_time() + OVERDUE_US;
    return 0;
}

static int
gl_post(void *host)
{
    gl_host *h = host;
    g_atomic_int_set(&h->posted, 1);
    g_main_context_wakeup(h->context);
    return 0;
}

static int
gl_call_soon(void *host, void (*fn)(void *), void *arg)
{
    gl_host *h = host;
    gl_call *call = g_new0(gl_call, 1);
    call->host = h;
    call->fn = fn;
    call->arg = arg;
    call->source = g_idle_source_new();
    g_source_set_priority(call->source, G_PRIORITY_DEFAULT);
    g_source_set_callback(call->source, on_call, call, g_free);
    h->calls = g_slist_prepend(h->calls, call->source);
    g_source_attach(call->source, h->context);
    g_source_unref(call->source);   /* the context holds it until it has run or is destroyed */
    return 0;
}

/* GTK 3's own main loop, where the program has loaded and opened GTK 3: Gtk.main_quit() ends that one and no
 * other. */
static struct gtk3_main {
    void (*main)(void), (*quit)(void);
    guint (*level)(void);
    void *(*display)(void);
} gtk3;     /* functions of a library that is never unloaded; same values each time */

static gboolean
find_gtk3(void)
{
    void *lib = dlopen("libgtk-3.so.0", RTLD_LAZY | RTLD_NOLOAD);
    if (lib == NULL) {
        return FALSE;
    }
    *(void **)&gtk3.main = dlsym(lib, "gtk_main");
    *(void **)&gtk3.quit = dlsym(lib, "gtk_main_quit");
    *(void **)&gtk3.level = dlsym(lib, "gtk_main_level");
    *(void **)&gtk3.display = dlsym(lib, "gdk_display_get_default");
    dlclose(lib);
    return gtk3.main != NULL && gtk3.quit != NULL && gtk3.level != NULL && gtk3.display != NULL
           && gtk3.display() != NULL;
}

static int
drive(gl_host *h)
{
    h->driving = TRUE;
    PyObject *r = PyObject_CallMethod(h->main_loop, "run", NULL);
    h->driving = FALSE;
    Py_XDECREF(r);
    return r != NULL ? 0 : -1;
}

static int
gl_run(void *host)
{
    gl_host *h = host;
    /* The one that the application has, so that its own way to end it does. Inside a callback it runs already. */
    if (h->main_loop != NULL && g_main_depth() == 0) {
        return drive(h);
    }
    if (h->context == g_main_context_default() && find_gtk3()) {
        h->level = gtk3.level() + 1;
        h->quitting = FALSE;
        Py_BEGIN_ALLOW_THREADS
        gtk3.main();
        Py_END_ALLOW_THREADS
        h->level = 0;
    } else {
        h->loop = g_main_loop_new(h->context, FALSE);
        Py_BEGIN_ALLOW_THREADS
        g_main_loop_run(h->loop);
        Py_END_ALLOW_THREADS
        g_main_loop_unref(h->loop);
        h->loop = NULL;
    }
    return PyErr_CheckSignals();
}

static void
quit_gtk3(gl_host *h)
{
    /* gtk_main_quit() ends the innermost loop: not one of the application's that is nested in ours. */
    if (gtk3.level() == h->level) {
        h->quitting = FALSE;
        gtk3.quit();
    }
}

static void
gl_quit(void *host)
{
    gl_host *h = host;
    if (h->driving) {
        PyObject *r = PyObject_CallMethod(h->main_loop, "quit", NULL);
        if (r == NULL) {
            PyErr_WriteUnraisable(h->main_loop);
        }
        Py_XDECREF(r);
    } else if (h->loop != NULL) {
        g_main_loop_quit(h->loop);
    } else if (h->level > 0) {
        h->quitting = TRUE;
        quit_gtk3(h);
    }
}

static void
gl_close(void *host)
{
    gl_host *h = host;
    while (h->calls != NULL) {
        GSource *source = h->calls->data;
        h->calls = g_slist_delete_link(h->calls, h->calls);
        g_source_destroy(source);
    }
    g_source_destroy(h->main);
    g_source_unref(h->main);
    g_source_destroy(h->behind);
    g_source_unref(h->behind);
    g_main_context_unref(h->context);
    Py_XDECREF(h->main_loop);
    g_free(h);
}

/* Call a method. -1 with an exception: with a negative `err` the one that was set before, whatever the method does. */
static int
call_method(PyObject *obj, const char *name, int err)
{
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    PyObject *r = PyObject_CallMethod(obj, name, NULL);
    Py_XDECREF(r);
    if (err < 0) {
        PyErr_Restore(type, value, tb);
        return -1;
    }
    return r != NULL ? 0 : -1;
}

/* The context of a GLib.MainContext object. There is no public way from the object to its pointer but to make it, for a
 * moment, this thread's default; that also shows that this thread may run it. */
static GMainContext *
context_of(PyObject *obj)
{
    GMainContext *context = NULL;
    PyObject *r = PyObject_CallMethod(obj, "acquire", NULL);
    int acquired = r == NULL ? -1 : PyObject_IsTrue(r), err;

    Py_XDECREF(r);
    if (acquired <= 0) {
        if (acquired == 0) {
            PyErr_SetString(PyExc_RuntimeError,
                            "another thread runs this GLib main context: start the guest on that thread");
        }
        return NULL;
    }
    err = call_method(obj, "push_thread_default", 0);
    if (err == 0) {
        context = g_main_context_ref_thread_default();
        err = call_method(obj, "pop_thread_default", 0);
    }
    /* Whatever failed: no other thread could run the context any more. */
    err = call_method(obj, "release", err);
    if (err < 0 && context != NULL) {
        g_main_context_unref(context);
        context = NULL;
    }
    return context;
}

/* The toolkit's object is a pair: a GLib.MainContext, or None for this thread's, and what has the methods run and quit of a
 * main loop of the application's, or None. */
static int
gl_open(void **ret_host, const ag_open_args *args)
{
    PyObject *context_object = Py_None, *main_loop = Py_None;
    GMainContext *context;

    if (ag_import() < 0) {
        return -1;
    }
    if (args->toolkit != NULL && args->toolkit != Py_None
        && !PyArg_ParseTuple(args->toolkit, "OO", &context_object, &main_loop)) {
        return -1;
    }
    if (args->native != NULL) {
        context = g_main_context_ref(args->native);
    } else if (context_object != Py_None) {
        context = context_of(context_object);
        if (context == NULL) {
            return -1;
        }
    } else {
        context = g_main_context_ref_thread_default();
    }
    gl_host *h = g_new0(gl_host, 1);
    h->guest = args->guest;
    h->context = context;
    h->main_loop = main_loop != Py_None ? Py_NewRef(main_loop) : NULL;
    h->poll.fd = -1;
    h->prepare = args->strategy == AG_STRATEGY_WATCH;
    h->main = add_source(h, &main_funcs, G_PRIORITY_DEFAULT, "asyncio-guest");
    h->behind = add_source(h, &behind_funcs, BEHIND, "asyncio-guest, behind the host's work");
    *ret_host = h;
    return 0;
}

#define OPS(NAME) {                                             \
    .abi = AG_ABI_VERSION,                                      \
    .caps = AG_HOST_WATCH | AG_HOST_PREPARE | AG_HOST_POST,     \
    .name = NAME,                                               \
    .open = gl_open,                                            \
    .close = gl_close,                                          \
    .watch = gl_watch,                                          \
    .again = gl_again,                                          \
    .post = gl_post,                                            \
    .call = gl_call_soon,                                       \
    .run = gl_run,                                              \
    .quit = gl_quit,                                            \
}

/* The same under each backend's name, which messages and a guest's info say. */
static const ag_host_ops gl_ops[] = {OPS("glib"), OPS("gtk3"), OPS("gtk4")};

/* --------------------------------------------------------------------------------------------------- the module */

PyDoc_STRVAR(owns_context_doc,
"owns_context()\n--\n\n"
"Has the calling thread a GLib main context of its own, or is it inside the global default one?");

static PyObject *
owns_context(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    return PyBool_FromLong(g_main_context_get_thread_default() != NULL ||
                           g_main_context_is_owner(g_main_context_default()));
}

static PyMethodDef module_methods[] = {
    {"owns_context", owns_context, METH_NOARGS, owns_context_doc},
    {NULL, NULL, 0, NULL},
};

static int
module_exec(PyObject *module)
{
    for (size_t i = 0; i < G_N_ELEMENTS(gl_ops); i++) {
        PyObject *ops = PyCapsule_New((void *)&gl_ops[i], AG_OPS_CAPSULE, NULL);
        int err = PyModule_AddObjectRef(module, gl_ops[i].name, ops);
        Py_XDECREF(ops);
        if (err < 0) {
            return err;
        }
    }
    return 0;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "asyncio_guest.backends.glib._glib",
    .m_doc = "The backends glib, gtk3 and gtk4.",
    .m_methods = module_methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__glib(void);

PyMODINIT_FUNC
PyInit__glib(void)
{
    return PyModuleDef_Init(&module_def);
}
