/* How an iteration is executed.
 *
 * stock   calls the loop's own _run_once with polling forced to zero: any BaseEventLoop, any CPython,
 *         debug mode. It is the reference.
 * fast    the same iteration in C for the stock selector loop. Chosen when the code of the Python
 *         methods that it stands for is known (asyncio_guest._frame.probe); cheap tags tell each
 *         iteration whether that still holds, and an iteration for which it does not is stock's.
 *
 * Both do exactly what BaseEventLoop._run_once does, in its order: purge cancelled timers, poll,
 * process events, move due timers, run the handles that were ready at that point.
 */
#include "ag_internal.h"

#include <errno.h>
#include <math.h>
#ifdef __linux__
#include <sys/epoll.h>
#endif

/* base_events._MIN_SCHEDULED_TIMER_HANDLES and _MIN_CANCELLED_TIMER_HANDLES_FRACTION; the probe
 * checks their values. */
#define MIN_SCHEDULED 100
#define MIN_CANCELLED_FRACTION 0.5

static int
set_reason(ag_guest *g, PyObject *reason)
{
    Py_XSETREF(g->engine_reason, reason);
    return reason != NULL ? 0 : -1;
}

static unsigned
tag_of(PyTypeObject *type)
{
    return (unsigned)type->tp_version_tag;
}

static void
record_tags(ag_guest *g)
{
    /* A look-up gives a type that has no version tag a new one. */
    PyObject *value;
    PyTypeObject *types[] = {Py_TYPE(g->loop), g->state->handle_type, g->state->timer_handle_type,
                             g->selector != NULL ? Py_TYPE(g->selector) : NULL};
    unsigned *tags[] = {&g->tag_loop, &g->tag_handle, &g->tag_timer, &g->tag_selector};

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (types[i] == NULL) {
            continue;
        }
        value = PyObject_GetAttrString((PyObject *)types[i], "__init__");
        if (value == NULL) {
            PyErr_Clear();
        }
        Py_XDECREF(value);
        *tags[i] = tag_of(types[i]);
    }
}

int
ag_engine_probe(ag_guest *g)
{
    PyObject *reason;

    g->fast = false;
    if (!g->want_fast) {
        return set_reason(g, PyUnicode_FromString("asked for"));
    }
#ifdef __linux__
    if (g->selector_class != AG_SELECTOR_DESCRIPTOR) {
        return set_reason(g, PyUnicode_FromFormat(
            "the loop's selector is no EpollSelector or the loop overrides _run_once (%s)",
            Py_TYPE(g->loop)->tp_name));
    }
    if (g->own_time) {
        return set_reason(g, PyUnicode_FromString("the loop overrides time()"));
    }
    if (g->fd_to_key == NULL || g->loop_dict == NULL || g->state->off_callback <= 0) {
        return set_reason(g, PyUnicode_FromString("the layout of asyncio's handles is not the known one"));
    }
    reason = PyObject_CallFunctionObjArgs(g->state->frame_probe, g->loop, NULL);
    if (reason == NULL) {
        return -1;
    }
    if (!PyUnicode_Check(reason)) {
        /* None: all of it is known. */
        Py_DECREF(reason);
        g->fast = true;
        record_tags(g);
        return set_reason(g, PyUnicode_FromString("asyncio's own code, as known"));
    }
    record_tags(g);
    return set_reason(g, reason);
#else
    reason = PyUnicode_FromString("built for epoll only");
    return set_reason(g, reason);
#endif
}

/* --- stock --- */

static int
iterate_stock(ag_guest *g)
{
    ag_state *st = g->state;
    PyObject *r, *stopping, *type, *value, *tb;
    int was;

    /* _run_once polls without blocking when something is ready or the loop is stopping. A stand-in for
     * _stopping asks for that; a stop() of the program replaces it and is seen afterwards. */
    was = ag_loop_stopping(g);
    if (was < 0) {
        return -1;
    }
    if (g->unknown_selector && g->own_time && g->scheduled != NULL && PyList_GET_SIZE(g->scheduled) > 0) {
        /* A clock of the loop's own and a selector of its own: virtual time, which the selector moves
         * on by the timeout that it is given. */
        was = 1;
    }
    if (!was && PyObject_SetAttr(g->loop, st->s__stopping, st->polling) < 0) {
        return -1;
    }
    r = PyObject_CallMethodNoArgs(g->loop, st->s__run_once);
    PyErr_Fetch(&type, &value, &tb);
    stopping = PyObject_GetAttr(g->loop, st->s__stopping);
    if (stopping == st->polling && PyObject_SetAttr(g->loop, st->s__stopping, Py_False) < 0) {
        PyErr_WriteUnraisable(g->loop);
    }
    Py_XDECREF(stopping);
    PyErr_Clear();
    PyErr_Restore(type, value, tb);
    if (r == NULL) {
        return -1;
    }
    Py_DECREF(r);
    return 2;
}

/* --- fast --- */
#ifdef __linux__

static inline PyObject **
slot_of(PyObject *obj, Py_ssize_t offset)
{
    return (PyObject **)((char *)obj + offset);
}

static inline bool
is_handle(const ag_state *st, PyObject *obj)
{
    return Py_IS_TYPE(obj, st->handle_type) || Py_IS_TYPE(obj, st->timer_handle_type);
}

static int
run_generic(ag_guest *g, PyObject *handle)
{
    PyObject *r = PyObject_CallMethodNoArgs(handle, g->state->s__run);

    if (r == NULL) {
        return -1;
    }
    Py_DECREF(r);
    return 0;
}

/* What Handle._run does with an exception of the callback. */
static int
callback_failed(ag_guest *g, PyObject *handle)
{
    PyObject *type, *exc, *tb, *before, *r;

    if (PyErr_ExceptionMatches(PyExc_SystemExit) || PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
        return -1;
    }
    PyErr_Fetch(&type, &exc, &tb);
    PyErr_NormalizeException(&type, &exc, &tb);
    if (tb != NULL) {
        PyException_SetTraceback(exc, tb);
    }
    /* The handler runs in an except block there: sys.exc_info() is part of what it may use. */
    before = PyErr_GetHandledException();
    PyErr_SetHandledException(exc);
    r = PyObject_CallFunctionObjArgs(g->state->frame_failed, handle, exc, NULL);
    PyErr_SetHandledException(before);
    Py_XDECREF(before);
    Py_XDECREF(type);
    Py_XDECREF(exc);
    Py_XDECREF(tb);
    if (r == NULL) {
        return -1;
    }
    Py_DECREF(r);
    return 0;
}

/* One handle of the ready queue. A callback may have switched debug mode on or patched Handle._run, and asyncio
 * would see that at the very next handle. */
static int
run_handle(ag_guest *g, PyObject *handle)
{
    const ag_state *st = g->state;
    PyObject *callback, *args, *context, *r;
    PyObject *debug = PyDict_GetItemWithError(g->loop_dict, st->s__debug);

    if (debug != Py_False && (debug == NULL || PyObject_IsTrue(debug))) {
        r = PyObject_CallFunctionObjArgs(st->frame_run_debug, g->loop, handle, NULL);
        Py_XDECREF(r);
        return r != NULL ? 0 : -1;
    }
    if (!is_handle(st, handle) || g->tag_handle != tag_of(st->handle_type)
        || g->tag_timer != tag_of(st->timer_handle_type)) {
        return run_generic(g, handle);
    }
    /* From here Handle._run: context.run(callback, *args). */
    callback = *slot_of(handle, st->off_callback);
    args = *slot_of(handle, st->off_args);
    context = *slot_of(handle, st->off_context);
    if (callback == NULL || args == NULL || context == NULL || !PyTuple_CheckExact(args)
        || !PyContext_CheckExact(context)) {
        return run_generic(g, handle);
    }
    /* The callback may cancel its own handle, which drops both. */
    Py_INCREF(callback);
    Py_INCREF(args);
    Py_INCREF(context);
    if (PyContext_Enter(context) < 0) {
        r = NULL;
    } else {
        PyObject *type, *value, *tb;

        r = PyObject_Vectorcall(callback, &PyTuple_GET_ITEM(args, 0), (size_t)PyTuple_GET_SIZE(args), NULL);
        if (r == NULL) {
            PyErr_Fetch(&type, &value, &tb);
        }
        if (PyContext_Exit(context) < 0 && r != NULL) {
            Py_CLEAR(r);
        } else if (r == NULL) {
            PyErr_Restore(type, value, tb);
        }
    }
    Py_DECREF(callback);
    Py_DECREF(args);
    Py_DECREF(context);
    if (r == NULL) {
        return callback_failed(g, handle);
    }
    Py_DECREF(r);
    return 0;
}

static int
append_ready(ag_guest *g, PyObject *handle)
{
    PyObject *r = PyObject_CallMethodOneArg(g->ready, g->state->s_append, handle);

    Py_XDECREF(r);
    return r != NULL ? 0 : -1;
}

/* _process_events for one half of a key's data. */
static int
process_half(ag_guest *g, PyObject *fileobj, PyObject *handle, PyObject *remove)
{
    int cancelled;

    if (handle == Py_None) {
        return 0;
    }
    cancelled = ag_handle_cancelled(g, handle);
    if (cancelled < 0) {
        return -1;
    }
    if (cancelled) {
        PyObject *r = PyObject_CallMethodOneArg(g->loop, remove, fileobj);

        Py_XDECREF(r);
        return r != NULL ? 0 : -1;
    }
    return append_ready(g, handle);
}

static int
process_event(ag_guest *g, PyObject *key, long mask)
{
    ag_state *st = g->state;
    PyObject *data, *fileobj;
    int r = 0;

    data = PyTuple_Check(key) && PyTuple_GET_SIZE(key) == 4 ? PyTuple_GET_ITEM(key, 3) : NULL;
    if (data == NULL || !PyTuple_CheckExact(data) || PyTuple_GET_SIZE(data) != 2) {
        /* Somebody registered a descriptor with the selector directly: asyncio's own words for it. */
        PyObject *list = Py_BuildValue("[(Ol)]", key, mask);
        PyObject *res = list != NULL ? PyObject_CallMethodOneArg(g->loop, st->s__process_events, list) : NULL;

        Py_XDECREF(list);
        Py_XDECREF(res);
        return res != NULL ? 0 : -1;
    }
    fileobj = PyTuple_GET_ITEM(key, 0);
    Py_INCREF(data);
    Py_INCREF(fileobj);
    if (mask & 1) {
        r = process_half(g, fileobj, PyTuple_GET_ITEM(data, 0), st->s__remove_reader);
    }
    if (r == 0 && mask & 2) {
        r = process_half(g, fileobj, PyTuple_GET_ITEM(data, 1), st->s__remove_writer);
    }
    Py_DECREF(data);
    Py_DECREF(fileobj);
    return r;
}

/* EpollSelector.select(0) and _process_events. The number of events, or -1 with an exception. */
static int
poll_and_process(ag_guest *g)
{
    PyObject *keys[64], **key = keys;
    long masks_small[64], *masks = masks_small;
    Py_ssize_t max_events = PyDict_GET_SIZE(g->fd_to_key);
    int n, found = 0, r = 0;

    if (max_events < 1) {
        max_events = 1;
    }
    if (max_events > g->events_cap) {
        int cap = g->events_cap > 0 ? g->events_cap : 16;
        struct epoll_event *events;

        while (cap < max_events) {
            cap *= 2;
        }
        events = PyMem_RawRealloc(g->events, sizeof *events * (size_t)cap);
        if (events == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        g->events = events;
        g->events_cap = cap;
    }
    /* The GIL is offered once an iteration, as select(0) does. */
    Py_BEGIN_ALLOW_THREADS
    n = epoll_wait(g->selector_fd, g->events, (int)max_events, 0);
    Py_END_ALLOW_THREADS
    if (n < 0) {
        if (errno != EINTR) {
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
        n = 0;
    }
    if (n == 0) {
        return 0;
    }
    /* All keys first and then all events, as there: processing one event may unregister another. */
    if (n > 64) {
        key = PyMem_New(PyObject *, n);
        masks = PyMem_New(long, n);
        if (key == NULL || masks == NULL) {
            PyErr_NoMemory();
            r = -1;
            goto done;
        }
    }
    for (int i = 0; i < n; i++) {
        uint32_t event = g->events[i].events;
        PyObject *fd = PyLong_FromLong(g->events[i].data.fd);
        PyObject *k;
        long mask = 0;

        if (fd == NULL) {
            r = -1;
            goto done;
        }
        k = PyDict_GetItemWithError(g->fd_to_key, fd);
        Py_DECREF(fd);
        if (k == NULL) {
            if (PyErr_Occurred()) {
                r = -1;
                goto done;
            }
            continue;
        }
        if (event & ~(uint32_t)EPOLLIN) {
            mask |= 2;
        }
        if (event & ~(uint32_t)EPOLLOUT) {
            mask |= 1;
        }
        if (PyTuple_Check(k) && PyTuple_GET_SIZE(k) == 4) {
            mask &= PyLong_AsLong(PyTuple_GET_ITEM(k, 2));
        }
        key[found] = Py_NewRef(k);
        masks[found++] = mask;
    }
    for (int i = 0; i < found && r == 0; i++) {
        r = process_event(g, key[i], masks[i]);
    }
done:
    for (int i = 0; i < found; i++) {
        Py_DECREF(key[i]);
    }
    if (key != keys) {
        PyMem_Free(key);
    }
    if (masks != masks_small) {
        PyMem_Free(masks);
    }
    return r < 0 ? -1 : found;
}

/* `if cancelled / scheduled > fraction` of _run_once, and the head of the heap otherwise. */
static int
purge_timers(ag_guest *g)
{
    ag_state *st = g->state;
    Py_ssize_t count = PyList_GET_SIZE(g->scheduled);
    PyObject *value, *kept, *r;
    double cancelled;
    int64_t unused;

    if (count <= MIN_SCHEDULED) {
        return count == 0 ? 0 : ag_loop_deadline(g, &unused);
    }
    value = PyObject_GetAttr(g->loop, st->s__timer_cancelled_count);
    if (value == NULL) {
        return -1;
    }
    cancelled = PyFloat_AsDouble(value);
    Py_DECREF(value);
    if (cancelled == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    if (cancelled / (double)count <= MIN_CANCELLED_FRACTION) {
        return ag_loop_deadline(g, &unused);
    }
    kept = PyList_New(0);
    if (kept == NULL) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(g->scheduled); i++) {
        PyObject *handle = Py_NewRef(PyList_GET_ITEM(g->scheduled, i));
        int is_cancelled = ag_handle_cancelled(g, handle);
        int err = is_cancelled < 0 ? -1
                  : is_cancelled   ? PyObject_SetAttr(handle, st->s__scheduled, Py_False)
                                   : PyList_Append(kept, handle);
        Py_DECREF(handle);
        if (err < 0) {
            Py_DECREF(kept);
            return -1;
        }
    }
    r = PyObject_CallOneArg(st->heapify, kept);
    if (r == NULL || PyObject_SetAttr(g->loop, st->s__scheduled, kept) < 0
        || PyObject_SetAttr(g->loop, st->s__timer_cancelled_count, st->zero) < 0) {
        Py_XDECREF(r);
        Py_DECREF(kept);
        return -1;
    }
    Py_DECREF(r);
    Py_SETREF(g->scheduled, kept);
    return 0;
}

/* time() and what _run_once adds to it: the clock's resolution, 1 ns on every Linux; from 3.15 on at least as much as
 * makes a difference to a double, which is more than that after 97 days. */
static double
end_time_now(void)
{
    double now = (double)ag_clock() * 1e-9, more = 1e-9;

#if PY_VERSION_HEX >= 0x030F0000
    more = fmax(more, nextafter(now, INFINITY) - now);
#endif
    return now + more;
}

/* The number of timers moved to the ready queue, or -1. */
static int
move_due_timers(ag_guest *g)
{
    ag_state *st = g->state;
    double end_time = 0;
    int moved = 0;

    while (PyList_GET_SIZE(g->scheduled) > 0) {
        PyObject *handle = PyList_GET_ITEM(g->scheduled, 0);
        double when;
        int r;

        if (ag_handle_when(g, handle, &when) < 0) {
            return -1;
        }
        if (moved == 0) {
            end_time = end_time_now();
        }
        if (when >= end_time) {
            break;
        }
        handle = PyObject_CallOneArg(st->heappop, g->scheduled);
        if (handle == NULL) {
            return -1;
        }
        if (is_handle(st, handle) && Py_IS_TYPE(handle, st->timer_handle_type) && st->off_scheduled > 0) {
            Py_XSETREF(*slot_of(handle, st->off_scheduled), Py_NewRef(Py_False));
            r = 0;
        } else {
            r = PyObject_SetAttr(handle, st->s__scheduled, Py_False);
        }
        if (r == 0) {
            r = append_ready(g, handle);
        }
        Py_DECREF(handle);
        if (r < 0) {
            return -1;
        }
        moved++;
    }
    return moved;
}

bool
ag_engine_still_fast(ag_guest *g)
{
    ag_state *st = g->state;
    PyObject *debug;
    bool plain;

    if (g->tag_loop == 0 || g->tag_loop != tag_of(Py_TYPE(g->loop))
        || g->tag_handle == 0 || g->tag_handle != tag_of(st->handle_type)
        || g->tag_timer == 0 || g->tag_timer != tag_of(st->timer_handle_type)
        || g->tag_selector == 0 || g->tag_selector != tag_of(Py_TYPE(g->selector))) {
        if (ag_engine_probe(g) < 0) {
            PyErr_Clear();
            g->fast = false;
        }
    }
    if (!g->fast) {
        return false;
    }
    if (PyDict_GetItemWithError(g->loop_dict, st->s__run_once) != NULL
        || PyDict_GetItemWithError(g->loop_dict, st->s__process_events) != NULL
        || PyDict_GetItemWithError(g->loop_dict, st->s__add_callback) != NULL
        || PyDict_GetItemWithError(g->loop_dict, st->s_time) != NULL) {
        return false;
    }
    debug = PyDict_GetItemWithError(g->loop_dict, st->s__debug);
    plain = debug == Py_False || (debug != NULL && !PyObject_IsTrue(debug));
    return plain;
}

static int
iterate_fast(ag_guest *g)
{
    PyObject *ready;
    Py_ssize_t todo;
    int events, timers = 0, ran = 0, r = 0;

    if (PyErr_CheckSignals() < 0) {
        return -1;
    }
    if (g->scheduled == NULL || g->ready == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the loop has lost its queues");
        return -1;
    }
    if (purge_timers(g) < 0) {
        return -1;
    }
    events = poll_and_process(g);
    if (events < 0) {
        return -1;
    }
    if (PyList_GET_SIZE(g->scheduled) > 0) {
        timers = move_due_timers(g);
        if (timers < 0) {
            return -1;
        }
    }
    /* Of one's own: in the child of a fork that a callback makes, the guest forgets it. */
    ready = Py_NewRef(g->ready);
    todo = Py_SIZE(ready);
    for (Py_ssize_t i = 0; i < todo && r >= 0; i++) {
        PyObject *handle = PyObject_CallMethodNoArgs(ready, g->state->s_popleft);

        if (handle == NULL) {
            r = -1;
            break;
        }
        r = ag_handle_cancelled(g, handle);
        if (r == 0) {
            ran = 1;
            r = run_handle(g, handle);
        }
        Py_DECREF(handle);
    }
    Py_DECREF(ready);
    if (r < 0) {
        return -1;
    }
    return ran || events > 0 || timers > 0 || todo > 0;
}
#endif

#ifndef __linux__
bool
ag_engine_still_fast(ag_guest *g)
{
    (void)g;
    return false;
}
#endif

int
ag_engine_iterate(ag_guest *g)
{
#ifdef __linux__
    if (g->want_fast && (g->fast || g->selector_class == AG_SELECTOR_DESCRIPTOR)) {
        if (ag_loop_refetch(g) < 0) {
            return -1;
        }
        if (ag_engine_still_fast(g)) {
            g->counters.iterations_fast++;
            return iterate_fast(g);
        }
    }
#endif
    return iterate_stock(g);
}
