/* The generic host: a function that queues a call to the host's thread from any thread, and perhaps a
 * cheaper one for the host's thread itself (Trio's run_sync_soon_threadsafe and _not_threadsafe). */
#include "ag_internal.h"

#include <errno.h>

typedef struct callables_host {
    PyObject *threadsafe;
    PyObject *not_threadsafe;   /* may be the same */
    PyObject *dispatch;         /* Guest._dispatch_quietly, bound; safe to call after the guest's end */
    PyObject *pending;          /* list of the capsules of calls that are queued somewhere outside */
} callables_host;

typedef struct pending_call {
    void (*fn)(void *);         /* NULL: called, or dropped by a close */
    void *arg;
} pending_call;

/* What has been called, or (all) is never to be called, leaves the list. */
static void
prune(callables_host *h, bool all)
{
    for (Py_ssize_t i = PyList_GET_SIZE(h->pending) - 1; i >= 0; i--) {
        pending_call *p = PyCapsule_GetPointer(PyList_GET_ITEM(h->pending, i), NULL);

        if (all) {
            p->fn = NULL;
        }
        if (p->fn == NULL) {
            PyList_SetSlice(h->pending, i, i + 1, NULL);
        }
    }
}

static void
callables_close(void *host)
{
    callables_host *h = host;

    if (h->pending != NULL) {
        prune(h, true);
        Py_DECREF(h->pending);
    }
    Py_XDECREF(h->threadsafe);
    Py_XDECREF(h->not_threadsafe);
    Py_XDECREF(h->dispatch);
    PyMem_RawFree(h);
}

static int
callables_open(void **ret_host, const ag_open_args *args)
{
    PyObject *pair = args->toolkit;
    callables_host *h;

    if (pair == NULL || !PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2) {
        PyErr_SetString(PyExc_TypeError, "expected (run_sync_soon_threadsafe, run_sync_soon_not_threadsafe or None)");
        return -1;
    }
    h = PyMem_RawCalloc(1, sizeof *h);
    if (h == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    h->threadsafe = Py_NewRef(PyTuple_GET_ITEM(pair, 0));
    h->not_threadsafe = Py_NewRef(PyTuple_GET_ITEM(pair, PyTuple_GET_ITEM(pair, 1) == Py_None ? 0 : 1));
    h->dispatch = PyObject_GetAttrString((PyObject *)args->guest, "_dispatch_quietly");
    h->pending = PyList_New(0);
    if (h->dispatch == NULL || h->pending == NULL) {
        callables_close(h);
        return -1;
    }
    *ret_host = h;
    return 0;
}

static int
queue(PyObject *function, PyObject *arg)
{
    PyObject *r = PyObject_CallOneArg(function, arg);

    Py_XDECREF(r);
    return r != NULL ? 0 : -1;
}

static int
callables_post(void *host)
{
    callables_host *h = host;

    return queue(h->threadsafe, h->dispatch);
}

static int
callables_again(void *host)
{
    callables_host *h = host;

    return queue(h->not_threadsafe, h->dispatch);
}

static PyObject *
do_call(PyObject *capsule, PyObject *Py_UNUSED(ignored))
{
    pending_call *p = PyCapsule_GetPointer(capsule, NULL);

    if (p == NULL) {
        return NULL;
    }
    if (p->fn != NULL) {
        void (*fn)(void *) = p->fn;

        p->fn = NULL;
        fn(p->arg);
    }
    Py_RETURN_NONE;
}

static PyMethodDef do_call_def = {"call_outside_turn", do_call, METH_NOARGS, NULL};

static void
free_pending(PyObject *capsule)
{
    PyMem_RawFree(PyCapsule_GetPointer(capsule, NULL));
}

static int
callables_call(void *host, void (*fn)(void *), void *arg)
{
    callables_host *h = host;
    pending_call *p = PyMem_RawMalloc(sizeof *p);
    PyObject *capsule, *function;
    int r;

    if (p == NULL) {
        return -ENOMEM;
    }
    *p = (pending_call){fn, arg};
    capsule = PyCapsule_New(p, NULL, free_pending);
    if (capsule == NULL) {
        PyMem_RawFree(p);
        PyErr_Clear();
        return -ENOMEM;
    }
    function = PyCFunction_New(&do_call_def, capsule);
    prune(h, false);
    if (function == NULL || PyList_Append(h->pending, capsule) < 0) {
        Py_DECREF(capsule);
        Py_XDECREF(function);
        PyErr_Clear();
        return -ENOMEM;
    }
    Py_DECREF(capsule);
    r = queue(h->not_threadsafe, function);
    Py_DECREF(function);
    if (r < 0) {
        PyErr_WriteUnraisable(h->not_threadsafe);
        /* The core takes the call back: wherever the function has put it, it does nothing. */
        p->fn = NULL;
        return -EIO;
    }
    return 0;
}

const ag_host_ops ag_callables_ops = {
    .abi = AG_ABI_VERSION,
    .caps = AG_HOST_POST_PY,
    .name = "callables",
    .open = callables_open,
    .close = callables_close,
    .post = callables_post,
    .again = callables_again,
    .call = callables_call,
};
