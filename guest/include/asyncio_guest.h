/* asyncio_guest.h - asyncio as a guest in somebody else's main loop.
 *
 * A guest is a descriptor that wakes a sleeping host, a deadline, and one
 * function to call:
 *
 *   ag_fd(g)        readable when the guest has something to do
 *   ag_turn(g)      runs loop iterations within a budget and says what to do next
 *   ag_prepare(g)   what a host with a "before I block" phase calls there
 *
 * Two kinds of code include this header:
 *
 *   a backend       adapts one kind of host: one const ag_host_ops, passed to
 *                   Python as a capsule (AG_OPS_CAPSULE). It calls ag_dispatch()
 *                   from its descriptor, `again` and `post` callbacks and leaves
 *                   the rest to the core.
 *   an embedder     a C program with a main loop of its own that embeds CPython
 *                   and calls ag_start(), with the ops of a backend or with none
 *                   (then it watches ag_fd() and calls ag_turn() itself).
 *
 * Both call ag_import() once, with the GIL held, before any other function: the
 * core lives in the extension module asyncio_guest._core and hands its functions
 * over in a capsule (extension modules cannot be linked against).
 *
 * Times are int64_t absolute nanoseconds of CLOCK_MONOTONIC. Functions return 0
 * or -errno unless said otherwise; ret_ parameters are untouched on failure.
 *
 * States of a guest:
 *
 *             ag_start            dispatch              AG_IDLE
 *      NEW ------------> WATCHED ----------> TURNING ------------> WATCHED
 *                  \       ^  |                 |  |                  (strategy watch)
 *                   \      |  +--- AG_BUSY      |  +--------------> PARKED
 *                    +-> PARKED   (re-entered)  |                     (strategy waiter)
 *                          ^                    | AG_MORE
 *                          |                    v
 *                          +---------------- AGAIN: watch off, ops->again() pending
 *
 *      any --- teardown finished, host died, interpreter exit --> CLOSING --> DONE
 *
 * CLOSING means that the host is being detached; DONE that nothing of the guest is
 * left in the host and that every call answers AG_DONE.
 */
#ifndef ASYNCIO_GUEST_H
#define ASYNCIO_GUEST_H

#include <Python.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define AG_ABI_VERSION 1
#define AG_API_CAPSULE "asyncio_guest._core._api"
#define AG_OPS_CAPSULE "asyncio_guest.host_ops"

#define AG_NEVER INT64_MAX          /* a deadline that never comes */

typedef struct ag_guest ag_guest;   /* opaque */

/* What ag_turn() answers. */
typedef enum ag_result {
    AG_IDLE = 0,    /* nothing to do: sleep until the descriptor wakes you */
    AG_MORE = 1,    /* work is left: call again, behind your own work */
    AG_BUSY = 2,    /* re-entered: a turn is on the stack of this very thread */
    AG_DONE = 3,    /* the guest is over; do not call again */
} ag_result;

/* What a host can do. It needs WATCH, POST or POST_PY. */
enum {
    AG_HOST_WATCH   = 1 << 0,   /* ->watch works */
    AG_HOST_PREPARE = 1 << 1,   /* calls ag_prepare() each time before it blocks */
    AG_HOST_POST    = 1 << 2,   /* ->post works from any thread, without the GIL */
    AG_HOST_POST_PY = 1 << 3,   /* ->post works from any thread, but needs the GIL */
    AG_HOST_AGAIN_SOON = 1 << 4, /* ->again costs no more than a readable descriptor, and comes as soon */
};

/* How the host learns that the guest has work. */
typedef enum ag_strategy {
    AG_STRATEGY_WATCH = 0,      /* the host watches ag_fd() */
    AG_STRATEGY_WAITER = 1,     /* a thread of the core waits on it and posts */
} ag_strategy;

/* Handed to ops->open. */
typedef struct ag_open_args {
    ag_guest   *guest;      /* borrowed; valid until ops->close returns */
    ag_strategy strategy;
    PyObject   *toolkit;    /* borrowed; the toolkit's Python object, or NULL from a C embedder */
    void       *native;     /* the toolkit's C object (GMainContext *, Tcl_Interp *), or NULL */
} ag_open_args;

/* The contract of a host. Every slot is called on the host's thread unless it says
 * otherwise. A slot that is documented "GIL held" must return with the GIL held. */
typedef struct ag_host_ops {
    int         abi;        /* AG_ABI_VERSION */
    unsigned    caps;       /* AG_HOST_* */
    const char *name;       /* "tk", "gtk3"; static storage */

    /* Attach to the toolkit. Must not call ag_dispatch() synchronously.
     * GIL held; 0, or -1 with a Python exception set. On success *ret_host is the
     * backend's own object, passed to every other slot and owned by the backend
     * until close. */
    int  (*open)(void **ret_host, const ag_open_args *args);

    /* Detach everything and free `host`. Called exactly once, also from inside
     * ag_dispatch() (that is: from inside the backend's own callback). After it
     * returns the backend never touches args->guest again: callbacks that are still
     * queued in the toolkit are removed or made no-ops. The waiter is already
     * joined: no ->post is running or will come. GIL held. */
    void (*close)(void *host);

    /* WATCH: watch `fd` for readability, level-triggered (on=1), or stop (on=0); when
     * readable, call ag_dispatch() on the host's thread. Not called twice with the
     * same `on`. May be called from inside ag_dispatch(). GIL held.
     * 0 or -errno. */
    int  (*watch)(void *host, int fd, int on);

    /* One more ag_dispatch(), behind the work that the host already has; never
     * synchronous. The host's redraws, timers and input must get their turn in
     * between, and the guest must get its turn under the host's own flood.
     * At most one is outstanding. GIL held. 0 or -errno. May be NULL if ->post is
     * there. */
    int  (*again)(void *host);

    /* POST: one ag_dispatch() on the host's thread, soon. Called on ANY thread (the
     * waiter's, as a rule), without the GIL (POST) or holding it (POST_PY); never
     * synchronous. Posts may be coalesced, and the core has at most one outstanding. 0 or
     * -errno; for POST_PY -1 with an exception set. */
    int  (*post)(void *host);

    /* Call fn(arg) once from a host callback of its own, outside any turn: fn may run a
     * nested host loop (a modal dialog), inside which turns go on. Never
     * synchronous. fn is called with the GIL in whatever state the host's callbacks
     * have; it takes the GIL itself. If the host closes first, fn is never called: the
     * core has its own list and settles it. GIL held. 0 or -errno. */
    int  (*call)(void *host, void (*fn)(void *), void *arg);

    /* Drive the host's main loop until ->quit. GIL held on entry; released as the
     * toolkit's own main function does. May be NULL (an embedder's loop).
     * 0, or -1 with a Python exception set (a signal handler that raised). */
    int  (*run)(void *host);

    /* Make ->run return soon. Called from inside ->run, mostly in ag_dispatch(). GIL held.
     * Calling it when ->run is not running must not disturb a main loop that
     * the application runs itself. */
    void (*quit)(void *host);
} ag_host_ops;

/* Counters of a guest; all since its start. */
typedef struct ag_counters {
    uint64_t turns;             /* ag_turn() calls that ran */
    uint64_t turns_descriptor;  /* ... on a loop whose selector has a descriptor */
    uint64_t turns_mirrored;    /* ... on a Poll/Select selector mirrored into a set of ours */
    uint64_t turns_always_due;  /* ... on anything else: one iteration a host cycle */
    uint64_t iterations;        /* loop iterations */
    uint64_t iterations_fast;   /* ... executed by the engine `fast` */
    uint64_t wakes;             /* times the core made the descriptor readable itself */
    uint64_t posts;             /* ops->post calls */
    uint64_t parks;             /* times the waiter went to sleep on the descriptor */
    uint64_t again;             /* AG_MORE answers */
    uint64_t busy;              /* re-entries refused (AG_BUSY) */
    uint64_t over_budget;       /* iterations that alone took longer than the budget */
    uint64_t spurious;          /* turns woken by the descriptor that found nothing to run */
    uint64_t demoted;           /* ... that were therefore put behind the host's own work */
    uint64_t gil_waits;         /* turns that waited for the GIL longer than 100 us */
    int64_t  gil_wait_ns;       /* ... total time, ns */
    int64_t  longest_turn_ns;   /* ns, GIL wait not included */
} ag_counters;

typedef struct ag_start_options {
    const ag_host_ops *ops;     /* NULL: the embedder watches ag_fd() itself */
    void       *native;         /* passed to ops->open */
    ag_strategy strategy;
    int64_t     budget_ns;      /* 0: default, 4 ms */
    const char *engine;         /* NULL: probed; "stock", "fast" */
    /* Called last, exactly once, on the host's thread, GIL held, with an outcome.Outcome
     * (borrowed). The guest is AG_DONE by then. NULL: errors go to sys.excepthook. */
    void      (*done)(void *arg, PyObject *outcome);
    void       *arg;
} ag_start_options;

/* The functions of the core. Use the ag_ macros below, not the members. */
typedef struct ag_api {
    int abi;
    int       (*fd)(ag_guest *);
    ag_result (*turn)(ag_guest *);
    ag_result (*dispatch)(ag_guest *);
    int       (*prepare)(ag_guest *, int64_t *ret_deadline);
    int64_t   (*deadline)(ag_guest *);
    int       (*turning)(ag_guest *);
    int       (*wake)(ag_guest *);
    void      (*host_died)(ag_guest *);
    int       (*start)(ag_guest **, PyObject *, const ag_start_options *);
    int       (*cancel)(ag_guest *);
    void      (*release)(ag_guest *);
    void      (*counters)(ag_guest *, ag_counters *);
    PyObject *(*object)(ag_guest *);
    int64_t   (*now)(void);
} ag_api;

/* One pointer a translation unit, as CPython's datetime.h does it. */
static const ag_api *ag_api_;

/* Import asyncio_guest._core and bind the functions below. GIL held.
 * 0, or -1 with a Python exception set. */
static inline int
ag_import(void)
{
    if (ag_api_ != NULL) {
        return 0;
    }
    PyObject *mod = PyImport_ImportModule("asyncio_guest._core");
    if (mod == NULL) {
        return -1;
    }
    PyObject *capsule = PyObject_GetAttrString(mod, "_api");
    Py_DECREF(mod);
    if (capsule == NULL) {
        return -1;
    }
    const ag_api *api = (const ag_api *)PyCapsule_GetPointer(capsule, AG_API_CAPSULE);
    Py_DECREF(capsule);
    if (api == NULL) {
        return -1;
    }
    if (api->abi != AG_ABI_VERSION) {
        PyErr_Format(PyExc_ImportError,
                     "asyncio_guest._core has ABI %d, this code was built for %d: rebuild it",
                     api->abi, AG_ABI_VERSION);
        return -1;
    }
    ag_api_ = api;
    return 0;
}

/* The descriptor. Any thread, no GIL needed. Valid from start to DONE, and never changes. */
#define ag_fd(g)            (ag_api_->fd(g))

/* Run iterations within the budget. Host thread; the GIL may be held or not: it is
 * taken if this thread does not hold it. Never raises, never leaves a Python exception set.
 * For embedders without ops; a backend calls ag_dispatch(). */
#define ag_turn(g)          (ag_api_->turn(g))

/* ag_turn() and then what its answer asks for, through the guest's ops: watch on or off,
 * again, park the waiter, close. What a backend calls from each of its callbacks. Same
 * thread and GIL rules as ag_turn. After AG_DONE the `host` object is gone: the
 * callback must return without touching it. */
#define ag_dispatch(g)      (ag_api_->dispatch(g))

/* Before the host blocks. Host thread; with or without the GIL; changes nothing of the loop. It takes the
 * GIL only on the main thread, and there at most once in 100 ms, to put the signal wakeup descriptor right. 1: something is due, call ag_dispatch() now instead
 * of blocking; 0: block at most until *ret_deadline (AG_NEVER: no timer). The descriptor
 * becomes readable at that deadline by itself: a host that watches it
 * may ignore *ret_deadline. 0 also while a turn is on the stack, and when the
 * guest is over. ret_deadline may be NULL. */
#define ag_prepare(g, ret)  (ag_api_->prepare((g), (ret)))

/* The deadline as of the end of the last turn or prepare. Host thread. */
#define ag_deadline(g)      (ag_api_->deadline(g))

/* 1 while a turn is on the stack. Host thread, no GIL needed. */
#define ag_turning(g)       (ag_api_->turning(g))

/* Make the descriptor readable. Any thread, no GIL needed, async-signal-safe. */
#define ag_wake(g)          (ag_api_->wake(g))

/* The host is going away under the guest (its interpreter, context or display is being
 * destroyed) and calls back no more. Host thread, GIL held or not. The guest
 * cancels its tasks and finishes within a bounded time on poll(2), warns, and calls
 * ops->close. From inside a turn this is put off until the turn ends. */
#define ag_host_died(g)     (ag_api_->host_died(g))

/* Start a guest that runs the coroutine `coro` (borrowed). Host thread, GIL held.
 * 0 and a new reference in *ret_guest, or -1 with an exception set. */
#define ag_start(ret, coro, opts) (ag_api_->start((ret), (coro), (opts)))

/* Cancel the main task. Host thread, GIL held. 0, or -1 with an exception set. */
#define ag_cancel(g)        (ag_api_->cancel(g))

/* Drop a reference got from ag_start. Host thread, GIL held. A guest that is still
 * running is then abandoned: it is finished on poll(2), with a warning. */
#define ag_release(g)       (ag_api_->release(g))

/* Copy the counters. Host thread. */
#define ag_counters_get(g, ret) (ag_api_->counters((g), (ret)))

/* The Python object of the guest (asyncio_guest._core.Guest), borrowed. GIL held. */
#define ag_object(g)        (ag_api_->object(g))

/* The clock of all deadlines: CLOCK_MONOTONIC in ns. Any thread. */
#define ag_now()            (ag_api_->now())

#ifdef __cplusplus
}
#endif
#endif /* ASYNCIO_GUEST_H */
