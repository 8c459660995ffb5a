/* What the core reads of an asyncio loop: which kind of selector it has, what is ready, when the
 * next timer is due; and how it notices work that a host callback made. */
#include "ag_internal.h"

#include <errno.h>
#include <math.h>
#include <structmember.h>

static inline PyObject *
slot(PyObject *obj, Py_ssize_t offset)
{
    return *(PyObject **)((char *)obj + offset);
}

static inline bool
is_stock_handle(const ag_state *st, PyObject *handle)
{
    return (Py_IS_TYPE(handle, st->timer_handle_type) || Py_IS_TYPE(handle, st->handle_type))
           && st->off_cancelled > 0;
}

int
ag_handle_cancelled(ag_guest *g, PyObject *handle)
{
    ag_state *st = g->state;
    PyObject *value;
    int truth;

    if (is_stock_handle(st, handle) && (value = slot(handle, st->off_cancelled)) != NULL) {
        return value == Py_True ? 1 : value == Py_False ? 0 : PyObject_IsTrue(value);
    }
    value = PyObject_GetAttr(handle, st->s__cancelled);
    if (value == NULL) {
        return -1;
    }
    truth = PyObject_IsTrue(value);
    Py_DECREF(value);
    return truth;
}

int
ag_handle_when(ag_guest *g, PyObject *handle, double *ret_when)
{
    ag_state *st = g->state;
    PyObject *value;
    double when;

    if (Py_IS_TYPE(handle, st->timer_handle_type) && st->off_when > 0
        && (value = slot(handle, st->off_when)) != NULL && PyFloat_CheckExact(value)) {
        *ret_when = PyFloat_AS_DOUBLE(value);
        return 0;
    }
    value = PyObject_GetAttr(handle, st->s__when);
    if (value == NULL) {
        return -1;
    }
    when = PyFloat_AsDouble(value);
    Py_DECREF(value);
    if (when == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    *ret_when = when;
    return 0;
}

/* An attribute that asyncio sets on the instance: looked up there first, which is half of what a full
 * look-up costs, four times an iteration. A new reference, or NULL with an exception. */
static PyObject *
instance_attr(ag_guest *g, PyObject *name)
{
    PyObject *value = g->loop_dict != NULL ? PyDict_GetItemWithError(g->loop_dict, name) : NULL;

    if (value != NULL) {
        return Py_NewRef(value);
    }
    return PyErr_Occurred() ? NULL : PyObject_GetAttr(g->loop, name);
}

int
ag_loop_stopping(ag_guest *g)
{
    PyObject *value = instance_attr(g, g->state->s__stopping);
    int truth;

    if (value == Py_False) {
        Py_DECREF(value);
        return 0;
    }
    if (value == NULL) {
        return -1;
    }
    truth = PyObject_IsTrue(value);
    Py_DECREF(value);
    return truth;
}

/* loop.<name>, or NULL without an exception if there is no such attribute. */
static int
lookup(PyObject *obj, PyObject *name, PyObject **ret_value)
{
    PyObject *value = PyObject_GetAttr(obj, name);

    if (value == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear();
    }
    *ret_value = value;
    return 0;
}

/* Put loop.<name> into *slot; the reference that is there already mostly is it. */
static int
refetch(ag_guest *g, PyObject *name, PyObject **slot)
{
    PyObject *value = g->loop_dict != NULL ? PyDict_GetItemWithError(g->loop_dict, name) : NULL;

    if (value != NULL && value == *slot) {
        return 0;
    }
    if (value != NULL) {
        Py_INCREF(value);
    } else if (PyErr_Occurred() || lookup(g->loop, name, &value) < 0) {
        return -1;
    }
    Py_XSETREF(*slot, value);
    return 0;
}

static bool
overrides(ag_guest *g, PyObject *name, PyObject *stock)
{
    PyObject *found;
    bool same;

    if (g->loop_dict != NULL && PyDict_GetItemWithError(g->loop_dict, name) != NULL) {
        return true;
    }
    found = PyObject_GetAttr((PyObject *)Py_TYPE(g->loop), name);
    if (found == NULL) {
        PyErr_Clear();
        return true;
    }
    same = found == stock;
    Py_DECREF(found);
    return !same;
}

static void
drop_mirror(ag_guest *g)
{
    PyObject *mirror = g->mirror;

    if (mirror != NULL) {
        g->mirror = NULL;
        PyObject *r = PyObject_CallMethodNoArgs(mirror, g->state->s_close);
        if (r == NULL) {
            PyErr_WriteUnraisable(mirror);
        }
        Py_XDECREF(r);
        Py_DECREF(mirror);
    }
}

static int
fileno_of(ag_guest *g, PyObject *obj)
{
    PyObject *value = PyObject_CallMethodNoArgs(obj, g->state->s_fileno);
    long fd;

    if (value == NULL) {
        return -1;
    }
    fd = PyLong_AsLong(value);
    Py_DECREF(value);
    if (fd < 0) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "the loop's selector is closed");
        }
        return -1;
    }
    return (int)fd;
}

static int
make_mirror(ag_guest *g)
{
    PyObject *mod, *mirror, *always;
    int truth;

    mod = PyImport_ImportModule("asyncio_guest._mirror");
    if (mod == NULL) {
        return -1;
    }
    mirror = PyObject_CallMethod(mod, "Mirror", "O", g->selector);
    Py_DECREF(mod);
    if (mirror == NULL) {
        return -1;
    }
    g->mirror = mirror;
    always = PyObject_GetAttr(mirror, g->state->s_always_due);
    truth = always != NULL ? PyObject_IsTrue(always) : -1;
    Py_XDECREF(always);
    return truth;
}

/* Which of the three classes the loop's selector belongs to. */
static int
classify(ag_guest *g, int *ret_fd)
{
    ag_state *st = g->state;
    PyObject *sel = g->selector;
    PyObject *dict;

    *ret_fd = -1;
    g->unknown_selector = false;
    if (sel == NULL || (g->own_time && g->own_run_once)) {
        /* An overridden _run_once beside a clock of the loop's own (asyncio's TestLoop) moves that clock on. With
         * asyncio's own clock it is an observer, and the selector tells when there is something to do. */
        return AG_SELECTOR_ALWAYS_DUE;
    }
    if (st->epoll_selector_type != NULL && Py_IS_TYPE(sel, st->epoll_selector_type)) {
        /* A select() put on the instance by a test knows events that the descriptor does not. */
        dict = PyObject_GenericGetDict(sel, NULL);
        if (dict == NULL) {
            return -1;
        }
        bool patched = PyDict_GetItemWithError(dict, st->s_select) != NULL;
        Py_DECREF(dict);
        if (patched) {
            g->unknown_selector = true;
            return AG_SELECTOR_ALWAYS_DUE;
        }
        *ret_fd = fileno_of(g, sel);
        return *ret_fd < 0 ? -1 : AG_SELECTOR_DESCRIPTOR;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(st->mirrored_types); i++) {
        if ((PyObject *)Py_TYPE(sel) == PyTuple_GET_ITEM(st->mirrored_types, i)) {
            int always = make_mirror(g);
            if (always < 0) {
                return -1;
            }
            if (always) {
                drop_mirror(g);
                return AG_SELECTOR_ALWAYS_DUE;
            }
            *ret_fd = fileno_of(g, g->mirror);
            return *ret_fd < 0 ? -1 : AG_SELECTOR_MIRRORED;
        }
    }
    g->unknown_selector = true;
    return AG_SELECTOR_ALWAYS_DUE;
}

int
ag_loop_look(ag_guest *g)
{
    PyObject *sel;
    int cls, fd, err;

    drop_mirror(g);
    if (lookup(g->loop, g->state->s__selector, &sel) < 0) {
        return -1;
    }
    if (sel == Py_None) {
        Py_CLEAR(sel);
    }
    Py_XSETREF(g->selector, sel);
    g->own_run_once = overrides(g, g->state->s__run_once, g->state->run_once);
    g->own_time = overrides(g, g->state->s_time, g->state->time);
    cls = classify(g, &fd);
    if (cls < 0) {
        return -1;
    }
    err = ag_waitset_inner(&g->ws, fd);
    if (err == -ELOOP) {
        /* Nested deeper than the kernel allows: no descriptor can tell. */
        cls = AG_SELECTOR_ALWAYS_DUE;
        fd = -1;
    } else if (err < 0) {
        errno = -err;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    g->selector_class = (ag_selector_class)cls;
    g->selector_fd = cls == AG_SELECTOR_DESCRIPTOR ? fd : -1;
    Py_CLEAR(g->fd_to_key);
    if (cls == AG_SELECTOR_DESCRIPTOR) {
        if (lookup(sel, g->state->s__fd_to_key, &g->fd_to_key) < 0) {
            return -1;
        }
        if (g->fd_to_key != NULL && !PyDict_CheckExact(g->fd_to_key)) {
            Py_CLEAR(g->fd_to_key);
        }
    }
    Py_CLEAR(g->signal_handlers);
    if (lookup(g->loop, g->state->s__signal_handlers, &g->signal_handlers) < 0) {
        return -1;
    }
    if (g->signal_handlers != NULL && !PyDict_CheckExact(g->signal_handlers)) {
        Py_CLEAR(g->signal_handlers);
    }
    return ag_loop_refetch(g);
}

bool
ag_loop_changed(ag_guest *g)
{
    PyObject *sel;
    bool changed;

    if (g->selector != NULL && g->mirror == NULL && g->loop_dict != NULL
        && PyDict_GetItemWithError(g->loop_dict, g->state->s__selector) == g->selector) {
        return false;
    }
    if (g->selector_class == AG_SELECTOR_ALWAYS_DUE) {
        /* Looked at anew each turn, which is each iteration here. */
        return false;
    }
    if (lookup(g->loop, g->state->s__selector, &sel) < 0) {
        PyErr_Clear();
        return true;
    }
    changed = sel != g->selector;
    Py_XDECREF(sel);
    if (!changed && g->mirror != NULL) {
        PyObject *always = PyObject_GetAttr(g->mirror, g->state->s_always_due);
        changed = always == Py_True;
        Py_XDECREF(always);
        PyErr_Clear();
    }
    return changed;
}

int
ag_loop_refetch(ag_guest *g)
{
    if (refetch(g, g->state->s__ready, &g->ready) < 0 || refetch(g, g->state->s__scheduled, &g->scheduled) < 0) {
        return -1;
    }
    if (g->scheduled != NULL && !PyList_CheckExact(g->scheduled)) {
        Py_CLEAR(g->scheduled);
    }
    return 0;
}

static int
loop_time(ag_guest *g, double *ret_now)
{
    PyObject *value = PyObject_CallMethodNoArgs(g->loop, g->state->s_time);
    double now;

    if (value == NULL) {
        return -1;
    }
    now = PyFloat_AsDouble(value);
    Py_DECREF(value);
    if (now == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    *ret_now = now;
    return 0;
}

/* `when` in seconds of the loop's clock, as absolute ns; clamped in double, before the conversion:
 * sleep(math.inf) is an idiom. Rounded up, so that no wake comes early. */
static int64_t
to_deadline(double when, double loop_now, int64_t now)
{
    double left = when - loop_now;

    if (!(left > 0)) {
        return now;
    }
    if (left > AG_MAX_TIMEOUT_S) {
        left = AG_MAX_TIMEOUT_S;
    }
    return now + (int64_t)ceil(left * 1e9);
}

/* The same for a loop whose clock is CLOCK_MONOTONIC: the deadline of a timer is then the same
 * number each time it is computed, and the timer is not set again. */
static int64_t
monotonic_deadline(double when, int64_t now)
{
    double ns = when * 1e9;

    if (!(ns > (double)now)) {
        return now;
    }
    if (ns > (double)now + AG_MAX_TIMEOUT_S * 1e9) {
        return now + (int64_t)(AG_MAX_TIMEOUT_S * 1e9);
    }
    return (int64_t)ceil(ns);
}

static int
pop_cancelled(ag_guest *g)
{
    ag_state *st = g->state;

    while (PyList_GET_SIZE(g->scheduled) > 0) {
        int cancelled = ag_handle_cancelled(g, PyList_GET_ITEM(g->scheduled, 0));
        PyObject *count, *less, *handle;
        int r;

        if (cancelled <= 0) {
            return cancelled;
        }
        count = PyObject_GetAttr(g->loop, st->s__timer_cancelled_count);
        if (count == NULL) {
            return -1;
        }
        less = PyLong_FromLong(PyLong_AsLong(count) - 1);
        Py_DECREF(count);
        if (less == NULL) {
            return -1;
        }
        r = PyObject_SetAttr(g->loop, st->s__timer_cancelled_count, less);
        Py_DECREF(less);
        if (r < 0) {
            return -1;
        }
        handle = PyObject_CallOneArg(st->heappop, g->scheduled);
        if (handle == NULL) {
            return -1;
        }
        r = PyObject_SetAttr(handle, st->s__scheduled, Py_False);
        Py_DECREF(handle);
        if (r < 0) {
            return -1;
        }
    }
    return 0;
}

int
ag_loop_deadline(ag_guest *g, int64_t *ret_deadline)
{
    double when, now;

    if (g->scheduled == NULL) {
        *ret_deadline = AG_NEVER;
        return 0;
    }
    if (g->selector_class != AG_SELECTOR_ALWAYS_DUE && pop_cancelled(g) < 0) {
        return -1;
    }
    if (PyList_GET_SIZE(g->scheduled) == 0) {
        *ret_deadline = AG_NEVER;
        return 0;
    }
    if (ag_handle_when(g, PyList_GET_ITEM(g->scheduled, 0), &when) < 0) {
        return -1;
    }
    if (!g->own_time) {
        *ret_deadline = monotonic_deadline(when, ag_clock());
        return 0;
    }
    if (loop_time(g, &now) < 0) {
        return -1;
    }
    *ret_deadline = to_deadline(when, now, ag_clock());
    return 0;
}

bool
ag_loop_due(const ag_guest *g, int64_t *ret_deadline)
{
    const ag_state *st = g->state;
    PyObject *head, *value;

    if (g->selector_class == AG_SELECTOR_ALWAYS_DUE) {
        *ret_deadline = ag_clock();
        return true;
    }
    if (g->ready != NULL && Py_SIZE(g->ready) > 0) {
        *ret_deadline = ag_clock();
        return true;
    }
    *ret_deadline = AG_NEVER;
    if (g->scheduled == NULL || PyList_GET_SIZE(g->scheduled) == 0) {
        return false;
    }
    /* Only the loop's own thread changes the heap, and that is this one. A head that is not plain
     * (a subclass, an int) needs Python code and with it the GIL: as of the last turn then, or at
     * once when the heap has got a new head. */
    head = PyList_GET_ITEM(g->scheduled, 0);
    if (!g->own_time && Py_IS_TYPE(head, st->timer_handle_type) && st->off_when > 0
        && (value = slot(head, st->off_when)) != NULL && PyFloat_CheckExact(value)) {
        int64_t now = ag_clock();

        *ret_deadline = monotonic_deadline(PyFloat_AS_DOUBLE(value), now);
        return *ret_deadline <= now;
    }
    *ret_deadline = g->deadline;
    return false;
}

void
ag_loop_forget(ag_guest *g)
{
    drop_mirror(g);
    Py_CLEAR(g->selector);
    Py_CLEAR(g->signal_handlers);
    Py_CLEAR(g->ready);
    Py_CLEAR(g->scheduled);
    Py_CLEAR(g->fd_to_key);
}

/* --- call_soon and call_at of the loop, wrapped as instance attributes ---
 *
 * Tasks and futures look them up on the instance each time. On hosts without a prepare phase they make the
 * descriptor readable for work that comes outside a turn, at most once until the next turn. Under
 * the engine `fast` call_soon is asyncio's in C, which is most of what a task's step costs. */

typedef struct {
    PyObject_HEAD
    PyObject *method;       /* the loop's own */
    ag_guest *guest;        /* borrowed; NULL after the guest's end */
    bool timer;             /* call_at: only a new head of the heap is news */
    bool wakes;             /* the host has no prepare phase to notice by itself */
    bool stock;             /* the method is the class's, not something put on the instance */
    vectorcallfunc vectorcall;
} notify_object;

/* BaseEventLoop.call_soon in C, for the engine `fast`: the same Handle in the same queue. NULL without an
 * exception when it is not to be had so: debug mode, a closed loop, replaced methods, odd arguments. */
static PyObject *
fast_call_soon(ag_guest *g, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    ag_state *st = g->state;
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    PyObject *context = NULL, *handle, *arguments, *ready, *r;

    if (nargs < 1 || st->off_loop <= 0 || st->off_traceback <= 0 || st->off_repr <= 0
        || !ag_engine_still_fast(g)
        || PyDict_GetItemWithError(g->loop_dict, st->s__closed) != Py_False
        || PyDict_GetItemWithError(g->loop_dict, st->s__call_soon) != NULL
        || PyDict_GetItemWithError(g->loop_dict, st->s__check_closed) != NULL
        || PyDict_GetItemWithError(g->loop_dict, st->s_get_debug) != NULL
        || PyDict_GetItemWithError(st->events_dict, st->s_Handle) != (PyObject *)st->handle_type
        || (ready = PyDict_GetItemWithError(g->loop_dict, st->s__ready)) == NULL) {
        return NULL;
    }
    if (kwnames != NULL && PyTuple_GET_SIZE(kwnames) > 0) {
        /* _asyncio's own name for it is not interned. */
        if (PyTuple_GET_SIZE(kwnames) != 1
            || PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0), "context") != 0) {
            return NULL;
        }
        context = args[nargs];
    }
    arguments = PyTuple_New(nargs - 1);
    if (arguments == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 1; i < nargs; i++) {
        PyTuple_SET_ITEM(arguments, i - 1, Py_NewRef(args[i]));
    }
    context = context == NULL || context == Py_None ? PyContext_CopyCurrent() : Py_NewRef(context);
    handle = context != NULL ? st->handle_type->tp_alloc(st->handle_type, 0) : NULL;
    if (handle == NULL) {
        Py_DECREF(arguments);
        Py_XDECREF(context);
        return NULL;
    }
    *(PyObject **)((char *)handle + st->off_callback) = Py_NewRef(args[0]);
    *(PyObject **)((char *)handle + st->off_args) = arguments;
    *(PyObject **)((char *)handle + st->off_context) = context;
    *(PyObject **)((char *)handle + st->off_cancelled) = Py_NewRef(Py_False);
    *(PyObject **)((char *)handle + st->off_loop) = Py_NewRef(g->loop);
    *(PyObject **)((char *)handle + st->off_traceback) = Py_NewRef(Py_None);
    *(PyObject **)((char *)handle + st->off_repr) = Py_NewRef(Py_None);
    r = PyObject_CallMethodOneArg(ready, st->s_append, handle);
    if (r == NULL) {
        Py_DECREF(handle);
        return NULL;
    }
    Py_DECREF(r);
    return handle;
}

/* The loop's method as its class has it now: a test may have patched the class since. */
static PyObject *
call_method(notify_object *n, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    ag_guest *g = n->guest;
    PyObject *func, *bound, *r;

    if (g == NULL || !PyMethod_Check(n->method)) {
        return PyObject_Vectorcall(n->method, args, nargsf, kwnames);
    }
    func = PyObject_GetAttr((PyObject *)Py_TYPE(g->loop), n->timer ? g->state->s_call_at : g->state->s_call_soon);
    if (func == NULL) {
        return NULL;
    }
    if (func == PyMethod_GET_FUNCTION(n->method) || !PyFunction_Check(func)) {
        Py_DECREF(func);
        return PyObject_Vectorcall(n->method, args, nargsf, kwnames);
    }
    bound = PyMethod_New(func, g->loop);
    Py_DECREF(func);
    if (bound == NULL) {
        return NULL;
    }
    r = PyObject_Vectorcall(bound, args, nargsf, kwnames);
    Py_DECREF(bound);
    return r;
}

static PyObject *
notify_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    notify_object *n = (notify_object *)self;
    ag_guest *g = n->guest;
    PyObject *handle = NULL;

    if (g != NULL && g->fast && !n->timer && n->stock) {
        handle = fast_call_soon(g, args, nargsf, kwnames);
    }
    if (handle == NULL && !PyErr_Occurred()) {
        handle = call_method(n, args, nargsf, kwnames);
    }

    if (handle == NULL || g == NULL || g->turning || !n->wakes) {
        return handle;
    }
    if (n->timer) {
        PyObject *scheduled = PyObject_GetAttr(g->loop, g->state->s__scheduled);
        bool head = true;

        if (scheduled == NULL) {
            PyErr_Clear();
        } else if (PyList_CheckExact(scheduled) && PyList_GET_SIZE(scheduled) > 0) {
            head = PyList_GET_ITEM(scheduled, 0) == handle;
        }
        Py_XDECREF(scheduled);
        if (!head) {
            return handle;
        }
    }
    ag_wake_impl(g);
    return handle;
}

static int
notify_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((notify_object *)self)->method);
    return 0;
}

static int
notify_clear(PyObject *self)
{
    Py_CLEAR(((notify_object *)self)->method);
    return 0;
}

static void
notify_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    notify_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

/* What the loop's own method answers to: __name__, __self__, __func__, __doc__. */
static PyObject *
notify_getattro(PyObject *self, PyObject *name)
{
    PyObject *value = PyObject_GenericGetAttr(self, name);

    if (value == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        value = PyObject_GetAttr(((notify_object *)self)->method, name);
    }
    return value;
}

static PyObject *
notify_richcompare(PyObject *a, PyObject *b, int op)
{
    /* Bound methods compare equal by function and self; so do these, and with them. */
    if (Py_IS_TYPE(a, Py_TYPE(b))) {
        b = ((notify_object *)b)->method;
    }
    return PyObject_RichCompare(((notify_object *)a)->method, b, op);
}

static Py_hash_t
notify_hash(PyObject *self)
{
    return PyObject_Hash(((notify_object *)self)->method);
}

static PyObject *
notify_repr(PyObject *self)
{
    return PyObject_Repr(((notify_object *)self)->method);
}

static PyMemberDef notify_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(notify_object, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot notify_slots[] = {
    {Py_tp_dealloc, notify_dealloc},
    {Py_tp_traverse, notify_traverse},
    {Py_tp_clear, notify_clear},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_getattro, notify_getattro},
    {Py_tp_richcompare, notify_richcompare},
    {Py_tp_hash, notify_hash},
    {Py_tp_repr, notify_repr},
    {Py_tp_members, notify_members},
    {0, NULL},
};

PyType_Spec ag_notify_spec = {
    .name = "asyncio_guest._core.Notifying",
    .basicsize = sizeof(notify_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = notify_slots,
};

static int
wrap(ag_guest *g, PyObject *name, bool timer, PyObject **ret_notify)
{
    PyObject *method = PyObject_GetAttr(g->loop, name);
    notify_object *n;

    if (method == NULL) {
        return -1;
    }
    n = PyObject_GC_New(notify_object, g->state->notify_type);
    if (n == NULL) {
        Py_DECREF(method);
        return -1;
    }
    n->method = method;
    n->guest = g;
    n->timer = timer;
    n->wakes = g->strategy == AG_STRATEGY_WAITER || !(g->ops->caps & AG_HOST_PREPARE);
    n->stock = PyMethod_Check(method) && g->loop_dict != NULL && PyDict_GetItemWithError(g->loop_dict, name) == NULL;
    n->vectorcall = notify_vectorcall;
    PyObject_GC_Track(n);
    if (PyObject_SetAttr(g->loop, name, (PyObject *)n) < 0) {
        Py_DECREF(n);
        return -1;
    }
    *ret_notify = (PyObject *)n;
    return 0;
}

int
ag_notify_install(ag_guest *g)
{
    if (g->notify_soon != NULL) {
        return 0;
    }
    if (wrap(g, g->state->s_call_soon, false, &g->notify_soon) < 0
        || wrap(g, g->state->s_call_at, true, &g->notify_at) < 0) {
        return -1;
    }
    return 0;
}

static void
unwrap(ag_guest *g, PyObject *name, PyObject **notify)
{
    notify_object *n = (notify_object *)*notify;

    if (n == NULL) {
        return;
    }
    n->guest = NULL;
    if (g->loop_dict != NULL && PyDict_GetItemWithError(g->loop_dict, name) == *notify) {
        /* What stood in the instance before us (somebody's mock) goes back there. */
        PyObject *func = PyMethod_Check(n->method) ? PyMethod_GET_FUNCTION(n->method) : NULL;
        PyObject *stock = PyObject_GetAttr((PyObject *)Py_TYPE(g->loop), name);
        int r = func != NULL && func == stock ? PyObject_DelAttr(g->loop, name)
                                              : PyObject_SetAttr(g->loop, name, n->method);
        if (r < 0) {
            PyErr_WriteUnraisable(g->loop);
        }
        Py_XDECREF(stock);
        PyErr_Clear();
    }
    Py_CLEAR(*notify);
}

void
ag_notify_remove(ag_guest *g)
{
    unwrap(g, g->state->s_call_soon, &g->notify_soon);
    unwrap(g, g->state->s_call_at, &g->notify_at);
}
