/* pyhost.c - hosts whose main loop is written in Python: asyncio itself, and Tornado's IOLoop, which is asyncio
 * under another name.
 *
 * The toolkit's object is a callable. Called with the guest's `dispatch` it returns the host of one guest, an object
 * with the slots of ag_host_ops as methods: watch(fd, on), again(), post(), call(fn), run(), quit(), close(). All of
 * them have the GIL. `dispatch` may be called at any time, also after close(): it does nothing then.
 *
 * The same slots serve every such host; an ops table of its own gives each its name.
 */
#include "asyncio_guest.h"

#include <errno.h>
#include <stdbool.h>

typedef struct py_host {
    PyObject *object;           /* the host of this guest */
    PyObject *watch, *again;    /* bound, looked up once: they are called at every other turn */
    PyObject *post;
    PyObject *pending;          /* list of the capsules of calls that are queued in the host */
} py_host;

typedef struct py_call {
    void (*fn)(void *);         /* NULL: called, or dropped by a close */
    void *arg;
} py_call;

/* Drop the result of a call. -1 with the exception set. */
static int
done_with(PyObject *r)
{
    Py_XDECREF(r);
    return r != NULL ? 0 : -1;
}

/* The same where the contract wants -errno: the exception is reported here. */
static int
reported(PyObject *r, PyObject *what)
{
    if (done_with(r) < 0) {
        PyErr_WriteUnraisable(what);
        return -EIO;
    }
    return 0;
}

/* What has been called leaves the list; with `all`, what is still queued does nothing from now on. */
static void
prune(py_host *h, bool all)
{
    for (Py_ssize_t i = PyList_GET_SIZE(h->pending) - 1; i >= 0; i--) {
        py_call *call = PyCapsule_GetPointer(PyList_GET_ITEM(h->pending, i), NULL);

        if (all) {
            call->fn = NULL;
        }
        if (call->fn == NULL) {
            PyList_SetSlice(h->pending, i, i + 1, NULL);
        }
    }
}

static void
free_host(py_host *h)
{
    Py_XDECREF(h->object);
    Py_XDECREF(h->watch);
    Py_XDECREF(h->again);
    Py_XDECREF(h->post);
    Py_XDECREF(h->pending);
    PyMem_RawFree(h);
}

static int
py_open(void **ret_host, const ag_open_args *args)
{
    PyObject *dispatch;
    py_host *h;

    if (ag_import() < 0) {
        return -1;
    }
    if (args->toolkit == NULL) {
        PyErr_SetString(PyExc_TypeError, "a host that is written in Python needs its object");
        return -1;
    }
    h = PyMem_RawCalloc(1, sizeof *h);
    if (h == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    h->pending = PyList_New(0);
    dispatch = PyObject_GetAttrString(ag_object(args->guest), "_dispatch_quietly");
    if (dispatch != NULL) {
        h->object = PyObject_CallOneArg(args->toolkit, dispatch);
        Py_DECREF(dispatch);
    }
    if (h->object == NULL || h->pending == NULL
        || (h->watch = PyObject_GetAttrString(h->object, "watch")) == NULL
        || (h->again = PyObject_GetAttrString(h->object, "again")) == NULL
        || (h->post = PyObject_GetAttrString(h->object, "post")) == NULL) {
        free_host(h);
        return -1;
    }
    *ret_host = h;
    return 0;
}

static void
py_close(void *host)
{
    py_host *h = host;
    PyObject *type, *value, *tb;

    PyErr_Fetch(&type, &value, &tb);
    prune(h, true);
    (void)reported(PyObject_CallMethod(h->object, "close", NULL), h->object);
    free_host(h);
    PyErr_Restore(type, value, tb);
}

static int
py_watch(void *host, int fd, int on)
{
    py_host *h = host;

    return reported(PyObject_CallFunction(h->watch, "iO", fd, on ? Py_True : Py_False), h->watch);
}

static int
py_again(void *host)
{
    py_host *h = host;

    return reported(PyObject_CallNoArgs(h->again), h->again);
}

static int
py_post(void *host)
{
    return done_with(PyObject_CallNoArgs(((py_host *)host)->post));
}

static PyObject *
do_call(PyObject *capsule, PyObject *Py_UNUSED(ignored))
{
    py_call *call = PyCapsule_GetPointer(capsule, NULL);

    if (call == NULL) {
        return NULL;
    }
    if (call->fn != NULL) {
        void (*fn)(void *) = call->fn;

        call->fn = NULL;
        fn(call->arg);
    }
    Py_RETURN_NONE;
}

static PyMethodDef do_call_def = {"call_outside_turn", do_call, METH_NOARGS, NULL};

static void
free_call(PyObject *capsule)
{
    PyMem_RawFree(PyCapsule_GetPointer(capsule, NULL));
}

static int
py_call_soon(void *host, void (*fn)(void *), void *arg)
{
    py_host *h = host;
    py_call *call = PyMem_RawMalloc(sizeof *call);
    PyObject *capsule, *function;
    int r;

    if (call == NULL) {
        return -ENOMEM;
    }
    *call = (py_call){fn, arg};
    capsule = PyCapsule_New(call, NULL, free_call);
    if (capsule == NULL) {
        PyMem_RawFree(call);
        PyErr_Clear();
        return -ENOMEM;
    }
    function = PyCFunction_New(&do_call_def, capsule);
    prune(h, false);
    if (function == NULL || PyList_Append(h->pending, capsule) < 0) {
        Py_XDECREF(function);
        Py_DECREF(capsule);
        PyErr_Clear();
        return -ENOMEM;
    }
    r = reported(PyObject_CallMethod(h->object, "call", "O", function), h->object);
    if (r < 0) {
        call->fn = NULL;        /* the core takes the call back: wherever it was put, it does nothing */
    }
    Py_DECREF(function);
    Py_DECREF(capsule);
    return r;
}

static int
py_run(void *host)
{
    return done_with(PyObject_CallMethod(((py_host *)host)->object, "run", NULL));
}

static void
py_quit(void *host)
{
    py_host *h = host;

    (void)reported(PyObject_CallMethod(h->object, "quit", NULL), h->object);
}

/* No PREPARE: a loop of asyncio's says nothing before it blocks, so the core wraps call_soon and call_at. */
#define PY_HOST(NAME)                               \
    {                                               \
        .abi = AG_ABI_VERSION,                      \
        .caps = AG_HOST_WATCH | AG_HOST_POST_PY | AG_HOST_AGAIN_SOON, \
        .name = NAME,                               \
        .open = py_open,                            \
        .close = py_close,                          \
        .watch = py_watch,                          \
        .again = py_again,                          \
        .post = py_post,                            \
        .call = py_call_soon,                       \
        .run = py_run,                              \
        .quit = py_quit,                            \
    }

static const ag_host_ops asyncio_ops = PY_HOST("asyncio");
static const ag_host_ops tornado_ops = PY_HOST("tornado");

/* --------------------------------------------------------------------------------------------------- the module */

static int
add_ops(PyObject *module, const char *name, const ag_host_ops *ops)
{
    PyObject *capsule = PyCapsule_New((void *)ops, AG_OPS_CAPSULE, NULL);
    int err = PyModule_AddObjectRef(module, name, capsule);

    Py_XDECREF(capsule);
    return err;
}

static int
module_exec(PyObject *module)
{
    return add_ops(module, "asyncio_ops", &asyncio_ops) < 0 ? -1 : add_ops(module, "tornado_ops", &tornado_ops);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "asyncio_guest.backends.asyncio._pyhost",
    .m_doc = "Hosts whose main loop is written in Python.",
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__pyhost(void);

PyMODINIT_FUNC
PyInit__pyhost(void)
{
    return PyModuleDef_Init(&module_def);
}
