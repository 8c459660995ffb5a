/* callables.c - the core's host of two callables (start_guest_run), with a main loop that can be run.
 *
 * Every slot but run and quit is the core's own. The toolkit's object has the two callables and the main loop as
 * methods: run_sync_soon_threadsafe, run_sync_soon_not_threadsafe, run, quit.
 */
#include "asyncio_guest.h"

#include <errno.h>

typedef struct loop_host {
    const ag_host_ops *ops;     /* the core's; they live as long as its module, which a guest holds */
    void *host;                 /* the core's host */
    PyObject *object;
    int running;
} loop_host;

static int
loop_open(void **ret_host, const ag_open_args *args)
{
    ag_open_args inner = *args;
    PyObject *core = NULL, *capsule = NULL, *threadsafe = NULL, *not_threadsafe = NULL, *pair = NULL;
    loop_host *h = NULL;
    int err = -1;

    if (args->toolkit == NULL) {
        PyErr_SetString(PyExc_TypeError, "a host of callables needs the object that has them");
        return -1;
    }
    core = PyImport_ImportModule("asyncio_guest._core");
    capsule = core != NULL ? PyObject_GetAttrString(core, "callables_ops") : NULL;
    threadsafe = capsule != NULL ? PyObject_GetAttrString(args->toolkit, "run_sync_soon_threadsafe") : NULL;
    not_threadsafe = threadsafe != NULL ? PyObject_GetAttrString(args->toolkit, "run_sync_soon_not_threadsafe") : NULL;
    pair = not_threadsafe != NULL ? PyTuple_Pack(2, threadsafe, not_threadsafe) : NULL;
    if (pair == NULL) {
        goto fail;
    }
    h = PyMem_RawCalloc(1, sizeof *h);
    if (h == NULL) {
        PyErr_NoMemory();
        goto fail;
    }
    h->ops = PyCapsule_GetPointer(capsule, AG_OPS_CAPSULE);
    if (h->ops == NULL) {
        goto fail;
    }
    inner.toolkit = pair;
    err = h->ops->open(&h->host, &inner);
    if (err == 0) {
        h->object = Py_NewRef(args->toolkit);
        *ret_host = h;
        h = NULL;
    }

fail:
    PyMem_RawFree(h);
    Py_XDECREF(pair);
    Py_XDECREF(not_threadsafe);
    Py_XDECREF(threadsafe);
    Py_XDECREF(capsule);
    Py_XDECREF(core);
    return err;
}

static void
loop_close(void *host)
{
    loop_host *h = host;

    h->ops->close(h->host);
    Py_DECREF(h->object);
    PyMem_RawFree(h);
}

static int
loop_post(void *host)
{
    loop_host *h = host;

    return h->ops->post(h->host);
}

static int
loop_again(void *host)
{
    loop_host *h = host;

    return h->ops->again(h->host);
}

static int
loop_call(void *host, void (*fn)(void *), void *arg)
{
    loop_host *h = host;

    return h->ops->call(h->host, fn, arg);
}

static int
loop_run(void *host)
{
    loop_host *h = host;
    PyObject *r;

    h->running = 1;
    r = PyObject_CallMethod(h->object, "run", NULL);
    h->running = 0;
    Py_XDECREF(r);
    return r != NULL ? 0 : -1;
}

static void
loop_quit(void *host)
{
    loop_host *h = host;
    PyObject *r;

    if (!h->running) {
        return;         /* a main loop that runs is the application's */
    }
    r = PyObject_CallMethod(h->object, "quit", NULL);
    if (r == NULL) {
        PyErr_WriteUnraisable(h->object);
    }
    Py_XDECREF(r);
}

static const ag_host_ops loop_ops = {
    .abi = AG_ABI_VERSION,
    .caps = AG_HOST_POST_PY,
    .name = "callables",
    .open = loop_open,
    .close = loop_close,
    .post = loop_post,
    .again = loop_again,
    .call = loop_call,
    .run = loop_run,
    .quit = loop_quit,
};

static int
module_exec(PyObject *module)
{
    PyObject *ops = PyCapsule_New((void *)&loop_ops, AG_OPS_CAPSULE, NULL);
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
    .m_name = "asyncio_guest.backends.callables._callables",
    .m_doc = "The backend callables.",
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__callables(void);

PyMODINIT_FUNC
PyInit__callables(void)
{
    return PyModuleDef_Init(&module_def);
}
