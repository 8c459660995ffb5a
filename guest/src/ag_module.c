/* The extension module asyncio_guest._core: the type Guest, the capsules, and the C API. */
#include "ag_internal.h"

#include <errno.h>
#include <string.h>
#include <structmember.h>

static struct PyModuleDef core_module;

static ag_state *
state_of(PyObject *module)
{
    return PyModule_GetState(module);
}

/* --- Guest --- */

static int
is_loop(ag_state *st, PyObject *loop)
{
    int r = PyObject_IsInstance(loop, st->base_loop_type);

    if (r == 0) {
        PyErr_Format(PyExc_TypeError,
                     "a guest runs asyncio's own loops (subclasses of asyncio.BaseEventLoop), not %s: "
                     "give a loop_factory that makes one", Py_TYPE(loop)->tp_name);
    }
    return r > 0;
}

static int
parse_strategy(ag_guest *g, const char *name)
{
    unsigned caps = g->ops != NULL ? g->ops->caps : AG_HOST_WATCH;

    if (name == NULL) {
        g->strategy = caps & AG_HOST_WATCH ? AG_STRATEGY_WATCH : AG_STRATEGY_WAITER;
    } else if (strcmp(name, "watch") == 0) {
        g->strategy = AG_STRATEGY_WATCH;
    } else if (strcmp(name, "waiter") == 0) {
        g->strategy = AG_STRATEGY_WAITER;
    } else {
        PyErr_Format(PyExc_ValueError, "unknown strategy '%s': there are 'watch' and 'waiter'", name);
        return -1;
    }
    if (g->strategy == AG_STRATEGY_WATCH ? !(caps & AG_HOST_WATCH)
                                         : !(caps & (AG_HOST_POST | AG_HOST_POST_PY))) {
        PyErr_Format(PyExc_RuntimeError, "host '%s' cannot %s", g->ops != NULL ? g->ops->name : "(none)",
                     g->strategy == AG_STRATEGY_WATCH ? "watch a descriptor: use strategy 'waiter'"
                                                      : "be posted to: use strategy 'watch'");
        return -1;
    }
    return 0;
}

static int
register_guest(ag_guest *g)
{
    ag_state *st = g->state;
    bool second = false;

    pthread_mutex_lock(st->mutex);
    for (ag_guest *other = st->guests; other != NULL; other = other->next) {
        second |= other->thread == g->thread;
    }
    if (!second) {
        g->next = st->guests;
        st->guests = g;
    }
    pthread_mutex_unlock(st->mutex);
    if (second) {
        PyErr_SetString(PyExc_RuntimeError,
                        "this thread has a guest already: wait for its end, or start the second on another thread");
        return -1;
    }
    return 0;
}

static PyObject *
guest_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *kwlist[] = {"loop", "on_stop", "on_done", "on_host_died", "ops", "toolkit", "native", "strategy",
                             "engine", "budget_ns", "max_iterations", "own_wakeup_fd", "engine_required", NULL};
    PyObject *loop, *on_stop = NULL, *on_done = NULL, *on_host_died = Py_None, *ops = Py_None, *toolkit = Py_None;
    PyObject *native = Py_None, *module;
    const char *strategy = NULL, *engine = NULL;
    long long budget_ns = AG_DEFAULT_BUDGET_NS;
    Py_ssize_t max_iterations = 0;
    int own_wakeup_fd = 1, engine_required = 1, err;
    ag_guest *g;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OOOOOOzzLnpp:Guest", kwlist, &loop, &on_stop, &on_done,
                                     &on_host_died, &ops, &toolkit, &native, &strategy, &engine, &budget_ns,
                                     &max_iterations, &own_wakeup_fd, &engine_required)) {
        return NULL;
    }
    if (on_stop == NULL || on_done == NULL) {
        PyErr_SetString(PyExc_TypeError, "Guest() needs on_stop and on_done");
        return NULL;
    }
    module = PyType_GetModule(type);
    if (module == NULL) {
        return NULL;
    }
    if (!is_loop(state_of(module), loop)) {
        return NULL;
    }
    g = (ag_guest *)type->tp_alloc(type, 0);
    if (g == NULL) {
        return NULL;
    }
    /* What dealloc looks at, before anything can fail. */
    g->ws.fd = g->ws.timer_fd = g->ws.wake_fd = g->ws.inner_fd = -1;
    g->wakeup_fd = g->signal_fd = -1;
    g->phase = AG_STATE_DONE;
    g->module = Py_NewRef(module);
    g->state = state_of(module);
    g->tstate = PyThreadState_Get();
    g->thread = PyThread_get_thread_ident();
    g->loop = Py_NewRef(loop);
    g->on_stop = Py_NewRef(on_stop);
    g->on_done = Py_NewRef(on_done);
    g->on_host_died = on_host_died != Py_None ? Py_NewRef(on_host_died) : NULL;
    g->toolkit = toolkit != Py_None ? Py_NewRef(toolkit) : NULL;
    g->budget_ns = budget_ns > 0 ? budget_ns : AG_DEFAULT_BUDGET_NS;
    g->max_iterations = max_iterations > 0 ? max_iterations : 0;
    g->own_wakeup_fd = own_wakeup_fd;
    g->deadline = AG_NEVER;
    g->selector_class = AG_SELECTOR_ALWAYS_DUE;
    if (ops != Py_None) {
        g->ops = PyCapsule_GetPointer(ops, AG_OPS_CAPSULE);
        if (g->ops == NULL) {
            goto fail;
        }
        if (g->ops->abi != AG_ABI_VERSION) {
            PyErr_Format(PyExc_ImportError, "backend '%s' was built for ABI %d, the core has %d: rebuild it",
                         g->ops->name, g->ops->abi, AG_ABI_VERSION);
            goto fail;
        }
        g->ops_capsule = Py_NewRef(ops);
    }
    if (native != Py_None) {
        g->native = PyCapsule_GetPointer(native, PyCapsule_GetName(native));
        if (g->native == NULL) {
            goto fail;
        }
    }
    if (parse_strategy(g, strategy) < 0) {
        goto fail;
    }
    if (engine != NULL && strcmp(engine, "stock") != 0 && strcmp(engine, "fast") != 0) {
        PyErr_Format(PyExc_ValueError, "unknown engine '%s': there are 'stock' and 'fast'", engine);
        goto fail;
    }
    g->want_fast = engine == NULL || strcmp(engine, "fast") == 0;
    g->loop_dict = PyObject_GenericGetDict(loop, NULL);
    if (g->loop_dict == NULL) {
        PyErr_Clear();
    }
    err = ag_waitset_open(&g->ws);
    if (err < 0) {
        errno = -err;
        PyErr_SetFromErrno(PyExc_OSError);
        goto fail;
    }
    g->phase = AG_STATE_NEW;
    if (ag_loop_look(g) < 0 || ag_engine_probe(g) < 0) {
        goto fail;
    }
    if (engine != NULL && engine_required && g->want_fast) {
        PyObject *debug = PyObject_GetAttr(loop, g->state->s__debug);
        int in_debug = debug != NULL ? PyObject_IsTrue(debug) : -1;

        Py_XDECREF(debug);
        if (in_debug < 0) {
            goto fail;
        }
        if (!g->fast || in_debug) {
            if (in_debug) {
                PyErr_SetString(PyExc_RuntimeError, "engine 'fast' cannot run this loop: debug mode is on");
            } else {
                PyErr_Format(PyExc_RuntimeError, "engine 'fast' cannot run this loop: %U", g->engine_reason);
            }
            goto fail;
        }
    }
    if (register_guest(g) < 0) {
        goto fail;
    }
    return (PyObject *)g;

fail:
    Py_DECREF(g);
    return NULL;
}

static int
guest_traverse(PyObject *self, visitproc visit, void *arg)
{
    ag_guest *g = (ag_guest *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(g->module);
    Py_VISIT(g->loop);
    Py_VISIT(g->loop_dict);
    Py_VISIT(g->selector);
    Py_VISIT(g->signal_handlers);
    Py_VISIT(g->mirror);
    Py_VISIT(g->ready);
    Py_VISIT(g->scheduled);
    Py_VISIT(g->fd_to_key);
    Py_VISIT(g->ops_capsule);
    Py_VISIT(g->toolkit);
    Py_VISIT(g->get_running_loop);
    Py_VISIT(g->current_task);
    Py_VISIT(g->notify_soon);
    Py_VISIT(g->notify_at);
    Py_VISIT(g->on_stop);
    Py_VISIT(g->on_done);
    Py_VISIT(g->on_host_died);
    return 0;
}

static int
guest_clear(PyObject *self)
{
    ag_guest *g = (ag_guest *)self;

    if (g->state != NULL && g->phase != AG_STATE_DONE) {
        ag_guest_detach(g);
    }
    Py_CLEAR(g->loop);
    Py_CLEAR(g->loop_dict);
    Py_CLEAR(g->selector);
    Py_CLEAR(g->signal_handlers);
    Py_CLEAR(g->mirror);
    Py_CLEAR(g->ready);
    Py_CLEAR(g->scheduled);
    Py_CLEAR(g->fd_to_key);
    Py_CLEAR(g->engine_reason);
    Py_CLEAR(g->toolkit);
    Py_CLEAR(g->get_running_loop);
    Py_CLEAR(g->current_task);
    Py_CLEAR(g->notify_soon);
    Py_CLEAR(g->notify_at);
    Py_CLEAR(g->on_stop);
    Py_CLEAR(g->on_done);
    Py_CLEAR(g->on_host_died);
    return 0;
}

static void
guest_dealloc(PyObject *self)
{
    ag_guest *g = (ag_guest *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject *exc_type, *value, *tb;

    PyObject_GC_UnTrack(self);
    /* It may be an exception that ends it: that of a refused start. */
    PyErr_Fetch(&exc_type, &value, &tb);
    if (g->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    /* Never attached, or over: being attached holds a reference. */
    guest_clear(self);
    if (g->state != NULL) {
        ag_guest_unlink(g);
    }
    ag_waitset_close(&g->ws);
    PyMem_RawFree(g->events);
    Py_CLEAR(g->ops_capsule);
    Py_CLEAR(g->module);
    type->tp_free(self);
    Py_DECREF(type);
    PyErr_Restore(exc_type, value, tb);
}

static int
check_thread(ag_guest *g)
{
    if (g->thread != PyThread_get_thread_ident()) {
        PyErr_SetString(PyExc_RuntimeError,
                        "a guest belongs to the thread that started it; wake() and "
                        "loop.call_soon_threadsafe() may be called from others");
        return -1;
    }
    return 0;
}

#define SELF(self) ((ag_guest *)(self))

static PyObject *
guest_attach(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (check_thread(SELF(self)) < 0 || ag_guest_attach(SELF(self)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
guest_run(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (check_thread(SELF(self)) < 0 || ag_guest_run(SELF(self)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
guest_turn(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(ag_turn_impl(SELF(self)));
}

static PyObject *
guest_dispatch(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(ag_dispatch_impl(SELF(self)));
}

/* For hosts that look at what a queued call returns. On another thread it could only do nothing, and the guest would
 * wait for ever without a word: whoever calls it there is told. */
static PyObject *
guest_dispatch_quietly(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (SELF(self)->phase != AG_STATE_DONE && SELF(self)->thread != PyThread_get_thread_ident()) {
        PyErr_Format(PyExc_RuntimeError,
                     "host '%s' called the guest on another thread than the one that started it: what is posted has to "
                     "be called on that thread",
                     SELF(self)->ops->name);
        return NULL;
    }
    ag_dispatch_impl(SELF(self));
    Py_RETURN_NONE;
}

static PyObject *
guest_prepare(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    int64_t deadline = AG_NEVER;
    int due;

    if (check_thread(SELF(self)) < 0) {
        return NULL;
    }
    due = ag_prepare_impl(SELF(self), &deadline);
    return Py_BuildValue("(OL)", due ? Py_True : Py_False, (long long)deadline);
}

static PyObject *
guest_finish_on_poll(PyObject *self, PyObject *arg)
{
    double timeout = PyFloat_AsDouble(arg);
    int r;

    if (timeout == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    if (check_thread(SELF(self)) < 0) {
        return NULL;
    }
    r = ag_guest_finish_on_poll(SELF(self), timeout < 0 ? -1 : timeout > 1e9 ? INT64_MAX / 2 : (int64_t)(timeout * 1e9));
    return r < 0 ? NULL : PyBool_FromLong(r);
}

static PyObject *
guest_detach(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (check_thread(SELF(self)) < 0) {
        return NULL;
    }
    if (SELF(self)->turning) {
        PyErr_SetString(PyExc_RuntimeError, "a turn is on the stack");
        return NULL;
    }
    ag_guest_detach(SELF(self));
    Py_RETURN_NONE;
}

static PyObject *
guest_call(PyObject *self, PyObject *fn)
{
    if (check_thread(SELF(self)) < 0 || ag_guest_call(SELF(self), fn) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
guest_wake(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    int err = SELF(self)->phase == AG_STATE_DONE ? 0 : ag_wake_impl(SELF(self));

    if (err < 0) {
        errno = -err;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

static PyObject *
guest_release_wakeup_fd(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ag_wakeup_fd_release(SELF(self), false);
    Py_RETURN_NONE;
}

static PyObject *
guest_assert_wakeup_fd(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (check_thread(SELF(self)) < 0) {
        return NULL;
    }
    ag_wakeup_fd_assert(SELF(self));
    Py_RETURN_NONE;
}

static PyObject *
guest_host_died(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ag_host_died_impl(SELF(self));
    Py_RETURN_NONE;
}

static PyObject *
guest_after_fork_child(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ag_guest_forked(SELF(self));
    Py_RETURN_NONE;
}

/* Name, member: the one list of the counters. */
#define AG_COUNTERS(X)                                                                                 \
    X(turns) X(turns_descriptor) X(turns_mirrored) X(turns_always_due) X(iterations) X(iterations_fast) \
    X(wakes) X(posts) X(parks) X(again) X(busy) X(over_budget) X(spurious) X(demoted) X(gil_waits)      \
    X(gil_wait_ns) X(longest_turn_ns)

static void
copy_counters(ag_guest *g, ag_counters *ret)
{
    *ret = g->counters;
    ret->wakes = atomic_load(&g->wakes);
    ret->posts = atomic_load(&g->posts);
}

static PyObject *
guest_counters(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ag_counters c;
    PyObject *dict = PyDict_New();

    if (dict == NULL) {
        return NULL;
    }
    copy_counters(SELF(self), &c);
#define X(name)                                                             \
    {                                                                       \
        PyObject *value = PyLong_FromLongLong((long long)c.name);           \
        if (value == NULL || PyDict_SetItemString(dict, #name, value) < 0) { \
            Py_XDECREF(value);                                              \
            Py_DECREF(dict);                                                \
            return NULL;                                                    \
        }                                                                   \
        Py_DECREF(value);                                                   \
    }
    AG_COUNTERS(X)
#undef X
    return dict;
}

static PyMethodDef guest_methods[] = {
    {"attach", guest_attach, METH_NOARGS, "Open the host; the first turn comes from it later."},
    {"run", guest_run, METH_NOARGS, "Drive the host's main loop until the guest is done."},
    {"turn", guest_turn, METH_NOARGS, "Run iterations within the budget: IDLE, MORE, BUSY or DONE."},
    {"dispatch", guest_dispatch, METH_NOARGS, "turn(), and what its answer asks of the host."},
    {"_dispatch_quietly", guest_dispatch_quietly, METH_NOARGS, "dispatch() that returns None."},
    {"prepare", guest_prepare, METH_NOARGS, "(due, deadline in ns of CLOCK_MONOTONIC), before the host blocks."},
    {"finish_on_poll", guest_finish_on_poll, METH_O,
     "Leave the host and go on under poll(2) until done or `timeout` seconds (negative: no limit) have passed; "
     "True if done."},
    {"detach", guest_detach, METH_NOARGS, "Leave the host at once; no callback is called."},
    {"call", guest_call, METH_O, "Call fn() once from a host callback outside any turn."},
    {"wake", guest_wake, METH_NOARGS, "Make the descriptor readable; from any thread."},
    {"host_died", guest_host_died, METH_NOARGS, "The host calls back no more."},
    {"release_wakeup_fd", guest_release_wakeup_fd, METH_NOARGS,
     "Give the signal wakeup descriptor back, before the loop's self-pipe is closed."},
    {"assert_wakeup_fd", guest_assert_wakeup_fd, METH_NOARGS,
     "Set the signal wakeup descriptor again, after the loop has set or unset its own."},
    {"after_fork_child", guest_after_fork_child, METH_NOARGS, "In a forked child: close descriptors, touch no host."},
    {"counters", guest_counters, METH_NOARGS, "The counters as a dict."},
    {"_iterate", ag_guest_iterate, METH_NOARGS, "The iterations of a turn; for asyncio_guest._frame."},
    {NULL, NULL, 0, NULL},
};

static PyObject *
get_loop(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(SELF(self)->loop != NULL ? SELF(self)->loop : Py_None);
}

static PyObject *
get_done(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(SELF(self)->phase == AG_STATE_DONE);
}

static PyObject *
get_turning(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(SELF(self)->turning);
}

static PyObject *
get_fd(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(SELF(self)->ws.fd);
}

static PyObject *
get_engine(PyObject *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(SELF(self)->fast ? "fast" : "stock");
}

static PyObject *
get_engine_reason(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *reason = SELF(self)->engine_reason;

    return Py_NewRef(reason != NULL ? reason : Py_None);
}

static PyObject *
get_strategy(PyObject *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(SELF(self)->strategy == AG_STRATEGY_WATCH ? "watch" : "waiter");
}

static PyObject *
get_selector_class(PyObject *self, void *Py_UNUSED(closure))
{
    static const char *const names[] = {"descriptor", "mirrored", "always-due"};

    return PyUnicode_FromString(names[SELF(self)->selector_class]);
}

static PyObject *
get_host_name(PyObject *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(SELF(self)->ops != NULL ? SELF(self)->ops->name : "none");
}

static PyObject *
get_state(PyObject *self, void *Py_UNUSED(closure))
{
    ag_guest *g = SELF(self);
    const char *name = g->phase == AG_STATE_NEW       ? "new"
                       : g->phase == AG_STATE_CLOSING ? "closing"
                       : g->phase == AG_STATE_DONE    ? "done"
                       : g->turning                   ? "turning"
                       : g->again_pending             ? "again"
                       : g->waiter != NULL            ? "parked"
                                                      : "watched";

    return PyUnicode_FromString(name);
}

static PyGetSetDef guest_getset[] = {
    {"loop", get_loop, NULL, "The asyncio loop.", NULL},
    {"done", get_done, NULL, "Is the guest over?", NULL},
    {"turning", get_turning, NULL, "Is a turn on the stack?", NULL},
    {"fd", get_fd, NULL, "The descriptor that wakes a host; -1 when done.", NULL},
    {"engine", get_engine, NULL, "'fast' or 'stock'.", NULL},
    {"engine_reason", get_engine_reason, NULL, "Why that engine.", NULL},
    {"strategy", get_strategy, NULL, "'watch' or 'waiter'.", NULL},
    {"selector_class", get_selector_class, NULL, "'descriptor', 'mirrored' or 'always-due'.", NULL},
    {"host_name", get_host_name, NULL, "The name of the host; 'none' for an embedder's own loop.", NULL},
    {"state", get_state, NULL, "new, watched, parked, turning, again, closing or done.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef guest_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(ag_guest, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot guest_slots[] = {
    {Py_tp_doc, "Guest(loop, *, on_stop, on_done, on_host_died=None, ops=None, toolkit=None, native=None, "
                "strategy=None, engine=None, budget_ns=4000000, max_iterations=0, own_wakeup_fd=True, "
                "engine_required=True)\n--\n\nOne asyncio loop living in a host."},
    {Py_tp_new, guest_new},
    {Py_tp_dealloc, guest_dealloc},
    {Py_tp_traverse, guest_traverse},
    {Py_tp_clear, guest_clear},
    {Py_tp_methods, guest_methods},
    {Py_tp_getset, guest_getset},
    {Py_tp_members, guest_members},
    {0, NULL},
};

static PyType_Spec guest_spec = {
    .name = "asyncio_guest._core.Guest",
    .basicsize = sizeof(ag_guest),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = guest_slots,
};

/* --- the C API --- */

static int api_fd(ag_guest *g) { return g->ws.fd; }
static int64_t api_deadline(ag_guest *g) { return g->deadline; }
static int api_turning(ag_guest *g) { return g->turning; }
static PyObject *api_object(ag_guest *g) { return (PyObject *)g; }

static int
api_wake(ag_guest *g)
{
    return g->phase == AG_STATE_DONE ? 0 : ag_wake_impl(g);
}

static void
done_free(PyObject *capsule)
{
    PyMem_RawFree(PyCapsule_GetPointer(capsule, NULL));
}

typedef struct done_call {
    void (*fn)(void *, PyObject *);
    void *arg;
} done_call;

static PyObject *
call_done(PyObject *capsule, PyObject *outcome)
{
    done_call *d = PyCapsule_GetPointer(capsule, NULL);

    if (d == NULL) {
        return NULL;
    }
    d->fn(d->arg, outcome);
    Py_RETURN_NONE;
}

static PyMethodDef call_done_def = {"done", call_done, METH_O, NULL};

/* A Python callable for options->done; None without one. */
static PyObject *
wrap_done(const ag_start_options *options)
{
    PyObject *capsule, *function;
    done_call *d;

    if (options == NULL || options->done == NULL) {
        Py_RETURN_NONE;
    }
    d = PyMem_RawMalloc(sizeof *d);
    if (d == NULL) {
        return PyErr_NoMemory();
    }
    *d = (done_call){options->done, options->arg};
    capsule = PyCapsule_New(d, NULL, done_free);
    if (capsule == NULL) {
        PyMem_RawFree(d);
        return NULL;
    }
    function = PyCFunction_New(&call_done_def, capsule);
    Py_DECREF(capsule);
    return function;
}

static PyObject *
capsule_or_none(const void *pointer, const char *name)
{
    if (pointer == NULL) {
        Py_RETURN_NONE;
    }
    return PyCapsule_New((void *)pointer, name, NULL);
}

static int
api_start(ag_guest **ret_guest, PyObject *coro, const ag_start_options *options)
{
    static const ag_start_options defaults = {0};
    PyObject *embed = NULL, *function = NULL, *kwargs = NULL, *args = NULL, *guest = NULL;
    PyObject *ops = NULL, *native = NULL, *done = NULL;

    if (options == NULL) {
        options = &defaults;
    }
    ops = capsule_or_none(options->ops, AG_OPS_CAPSULE);
    native = capsule_or_none(options->native, NULL);
    done = wrap_done(options);
    if (ops == NULL || native == NULL || done == NULL) {
        goto fail;
    }
    embed = PyImport_ImportModule("asyncio_guest._embed");
    if (embed == NULL || (function = PyObject_GetAttrString(embed, "start")) == NULL
        || (args = PyTuple_Pack(1, coro)) == NULL) {
        goto fail;
    }
    kwargs = Py_BuildValue("{s:O,s:O,s:O,s:s,s:L,s:z}", "ops", ops, "native", native, "done", done, "strategy",
                           options->strategy == AG_STRATEGY_WAITER ? "waiter" : "watch", "budget_ns",
                           (long long)options->budget_ns, "engine", options->engine);
    if (kwargs == NULL) {
        goto fail;
    }
    guest = PyObject_Call(function, args, kwargs);

fail:
    Py_XDECREF(ops);
    Py_XDECREF(native);
    Py_XDECREF(done);
    Py_XDECREF(embed);
    Py_XDECREF(function);
    Py_XDECREF(kwargs);
    Py_XDECREF(args);
    if (guest == NULL) {
        return -1;
    }
    *ret_guest = (ag_guest *)guest;
    return 0;
}

static int
call_embed(const char *name, ag_guest *g)
{
    PyObject *embed = PyImport_ImportModule("asyncio_guest._embed");
    PyObject *r;

    if (embed == NULL) {
        return -1;
    }
    r = PyObject_CallMethod(embed, name, "O", (PyObject *)g);
    Py_DECREF(embed);
    Py_XDECREF(r);
    return r != NULL ? 0 : -1;
}

static int
api_cancel(ag_guest *g)
{
    return call_embed("cancel", g);
}

static void
api_release(ag_guest *g)
{
    if (g->phase == AG_STATE_ATTACHED && call_embed("abandon", g) < 0) {
        PyErr_WriteUnraisable((PyObject *)g);
    }
    Py_DECREF(g);
}

static const ag_api api = {
    .abi = AG_ABI_VERSION,
    .fd = api_fd,
    .turn = ag_turn_impl,
    .dispatch = ag_dispatch_impl,
    .prepare = ag_prepare_impl,
    .deadline = api_deadline,
    .turning = api_turning,
    .wake = api_wake,
    .host_died = ag_host_died_impl,
    .start = api_start,
    .cancel = api_cancel,
    .release = api_release,
    .counters = copy_counters,
    .object = api_object,
    .now = ag_clock,
};

/* --- the module --- */

static PyObject *
core_current_guest(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    ag_state *st = state_of(module);
    unsigned long thread = PyThread_get_thread_ident();
    ag_guest *found = NULL;

    pthread_mutex_lock(st->mutex);
    for (ag_guest *g = st->guests; g != NULL; g = g->next) {
        if (g->thread == thread) {
            found = (ag_guest *)Py_NewRef((PyObject *)g);
            break;
        }
    }
    pthread_mutex_unlock(st->mutex);
    return found != NULL ? (PyObject *)found : Py_NewRef(Py_None);
}

static PyMethodDef core_methods[] = {
    {"current_guest", core_current_guest, METH_NOARGS, "The guest of this thread, or None."},
    {NULL, NULL, 0, NULL},
};

/* Where an instance of `type` keeps the slot `name`; -1 when it is no plain slot. */
static Py_ssize_t
slot_offset(PyTypeObject *type, const char *name)
{
    PyObject *descr = PyObject_GetAttrString((PyObject *)type, name);
    Py_ssize_t offset = -1;

    if (descr == NULL) {
        PyErr_Clear();
        return -1;
    }
    if (Py_IS_TYPE(descr, &PyMemberDescr_Type)
        && ((PyMemberDescrObject *)descr)->d_member->type == T_OBJECT_EX) {
        offset = ((PyMemberDescrObject *)descr)->d_member->offset;
    }
    Py_DECREF(descr);
    return offset;
}

static PyObject *
attr_of(PyObject *obj, const char *name)
{
    return obj != NULL ? PyObject_GetAttrString(obj, name) : NULL;
}

static int
load_asyncio(ag_state *st)
{
    static const char *const mirrored[] = {"PollSelector", "SelectSelector", "DevpollSelector"};
    PyObject *asyncio = PyImport_ImportModule("asyncio");
    PyObject *selectors = PyImport_ImportModule("selectors");
    PyObject *heapq = PyImport_ImportModule("heapq");
    PyObject *signal = PyImport_ImportModule("signal");
    PyObject *list = PyList_New(0);
    int r = -1;

    if (list == NULL
        || (st->base_loop_type = attr_of(asyncio, "BaseEventLoop")) == NULL
        || (st->run_once = attr_of(st->base_loop_type, "_run_once")) == NULL
        || (st->time = attr_of(st->base_loop_type, "time")) == NULL
        || (st->handle_type = (PyTypeObject *)attr_of(asyncio, "Handle")) == NULL
        || (st->timer_handle_type = (PyTypeObject *)attr_of(asyncio, "TimerHandle")) == NULL
        || (st->events = PyImport_ImportModule("asyncio.events")) == NULL
        || (st->tasks = PyImport_ImportModule("asyncio.tasks")) == NULL
        || (st->heappop = attr_of(heapq, "heappop")) == NULL
        || (st->heapify = attr_of(heapq, "heapify")) == NULL
        || (st->set_wakeup_fd = attr_of(signal, "set_wakeup_fd")) == NULL || selectors == NULL) {
        goto fail;
    }
    if (!PyType_Check(st->handle_type) || !PyType_Check(st->timer_handle_type)) {
        PyErr_SetString(PyExc_ImportError, "asyncio.Handle is no type");
        goto fail;
    }
    st->epoll_selector_type = (PyTypeObject *)attr_of(selectors, "EpollSelector");
    if (st->epoll_selector_type == NULL) {
        PyErr_Clear();
        st->epoll_selector_type = (PyTypeObject *)attr_of(selectors, "KqueueSelector");
        PyErr_Clear();
    }
    for (size_t i = 0; i < sizeof mirrored / sizeof mirrored[0]; i++) {
        PyObject *type = attr_of(selectors, mirrored[i]);

        if (type == NULL) {
            PyErr_Clear();
            continue;
        }
        if (PyList_Append(list, type) < 0) {
            Py_DECREF(type);
            goto fail;
        }
        Py_DECREF(type);
    }
    st->mirrored_types = PyList_AsTuple(list);
    st->off_callback = slot_offset(st->handle_type, "_callback");
    st->off_args = slot_offset(st->handle_type, "_args");
    st->off_cancelled = slot_offset(st->handle_type, "_cancelled");
    st->off_context = slot_offset(st->handle_type, "_context");
    st->off_when = slot_offset(st->timer_handle_type, "_when");
    st->off_scheduled = slot_offset(st->timer_handle_type, "_scheduled");
    st->off_loop = slot_offset(st->handle_type, "_loop");
    st->off_traceback = slot_offset(st->handle_type, "_source_traceback");
    st->off_repr = slot_offset(st->handle_type, "_repr");
    st->events_dict = PyModule_GetDict(st->events);
    if (st->off_args < 0 || st->off_cancelled < 0 || st->off_context < 0) {
        st->off_callback = -1;
    }
    r = st->mirrored_types != NULL ? 0 : -1;

fail:
    Py_XDECREF(asyncio);
    Py_XDECREF(selectors);
    Py_XDECREF(heapq);
    Py_XDECREF(signal);
    Py_XDECREF(list);
    return r;
}

static int
add_capsule(PyObject *module, const char *attr, const void *pointer, const char *name)
{
    PyObject *capsule = PyCapsule_New((void *)pointer, name, NULL);
    int r = capsule != NULL ? PyModule_AddObjectRef(module, attr, capsule) : -1;

    Py_XDECREF(capsule);
    return r;
}

static int
core_exec(PyObject *module)
{
    ag_state *st = state_of(module);
    PyObject *frame;
    int err, unused;

    err = ag_signal_pipe(&unused, &unused);
    if (err < 0) {
        errno = -err;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    ag_signal_pipe_use();
    st->has_signal_pipe = true;
#define X(name)                                               \
    st->s_##name = PyUnicode_InternFromString(#name);         \
    if (st->s_##name == NULL) {                               \
        return -1;                                            \
    }
    AG_NAMES(X)
#undef X
    st->mutex = PyMem_RawMalloc(sizeof *st->mutex);
    if (st->mutex == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    pthread_mutex_init(st->mutex, NULL);
    if (load_asyncio(st) < 0) {
        return -1;
    }
    st->zero = PyLong_FromLong(0);
    st->polling = PyUnicode_FromString("polling");
    frame = PyImport_ImportModule("asyncio_guest._frame");
    if (st->zero == NULL || st->polling == NULL || (st->frame_turn = attr_of(frame, "turn")) == NULL
        || (st->frame_failed = attr_of(frame, "failed")) == NULL
        || (st->frame_probe = attr_of(frame, "probe")) == NULL
        || (st->frame_run_debug = attr_of(frame, "run_debug")) == NULL
        || (st->frame_swap_in = attr_of(frame, "swap_in")) == NULL) {
        Py_XDECREF(frame);
        return -1;
    }
    Py_DECREF(frame);
    st->guest_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &guest_spec, NULL);
    st->notify_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &ag_notify_spec, NULL);
    if (st->guest_type == NULL || st->notify_type == NULL
        || PyModule_AddObjectRef(module, "Guest", (PyObject *)st->guest_type) < 0) {
        return -1;
    }
    if (add_capsule(module, "_api", &api, AG_API_CAPSULE) < 0
        || add_capsule(module, "poll_ops", &ag_poll_ops, AG_OPS_CAPSULE) < 0
        || add_capsule(module, "callables_ops", &ag_callables_ops, AG_OPS_CAPSULE) < 0
        || PyModule_AddIntConstant(module, "IDLE", AG_IDLE) < 0
        || PyModule_AddIntConstant(module, "MORE", AG_MORE) < 0
        || PyModule_AddIntConstant(module, "BUSY", AG_BUSY) < 0
        || PyModule_AddIntConstant(module, "DONE", AG_DONE) < 0) {
        return -1;
    }
    return 0;
}

static int
core_traverse(PyObject *module, visitproc visit, void *arg)
{
    ag_state *st = state_of(module);

    Py_VISIT(st->guest_type);
    Py_VISIT(st->notify_type);
    Py_VISIT(st->base_loop_type);
    Py_VISIT(st->run_once);
    Py_VISIT(st->time);
    Py_VISIT(st->handle_type);
    Py_VISIT(st->timer_handle_type);
    Py_VISIT(st->epoll_selector_type);
    Py_VISIT(st->mirrored_types);
    Py_VISIT(st->frame_turn);
    Py_VISIT(st->frame_failed);
    Py_VISIT(st->frame_probe);
    Py_VISIT(st->frame_run_debug);
    return 0;
}

static int
core_clear(PyObject *module)
{
    ag_state *st = state_of(module);

#define X(name) Py_CLEAR(st->s_##name);
    AG_NAMES(X)
#undef X
    Py_CLEAR(st->guest_type);
    Py_CLEAR(st->notify_type);
    Py_CLEAR(st->base_loop_type);
    Py_CLEAR(st->run_once);
    Py_CLEAR(st->time);
    Py_CLEAR(st->handle_type);
    Py_CLEAR(st->timer_handle_type);
    Py_CLEAR(st->epoll_selector_type);
    Py_CLEAR(st->mirrored_types);
    Py_CLEAR(st->events);
    Py_CLEAR(st->tasks);
    Py_CLEAR(st->frame_swap_in);
    Py_CLEAR(st->heappop);
    Py_CLEAR(st->heapify);
    Py_CLEAR(st->zero);
    Py_CLEAR(st->set_wakeup_fd);
    Py_CLEAR(st->polling);
    Py_CLEAR(st->frame_turn);
    Py_CLEAR(st->frame_failed);
    Py_CLEAR(st->frame_probe);
    Py_CLEAR(st->frame_run_debug);
    return 0;
}

static void
core_free(void *module)
{
    ag_state *st = state_of(module);

    core_clear(module);
    if (st->has_signal_pipe) {
        st->has_signal_pipe = false;
        ag_signal_pipe_drop();
    }
    if (st != NULL && st->mutex != NULL) {
        pthread_mutex_destroy(st->mutex);
        PyMem_RawFree(st->mutex);
        st->mutex = NULL;
    }
}

static PyModuleDef_Slot core_slots[] = {
    {Py_mod_exec, core_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef core_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "asyncio_guest._core",
    .m_doc = "asyncio as a guest in somebody else's main loop: the core in C.",
    .m_size = sizeof(ag_state),
    .m_methods = core_methods,
    .m_slots = core_slots,
    .m_traverse = core_traverse,
    .m_clear = core_clear,
    .m_free = core_free,
};

PyMODINIT_FUNC PyInit__core(void);

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&core_module);
}
