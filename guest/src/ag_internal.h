/* ag_internal.h - what the files of the core share. */
#ifndef AG_INTERNAL_H
#define AG_INTERNAL_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdatomic.h>
#include <pthread.h>
#include <stdbool.h>

#include "asyncio_guest.h"
#include "ag_waiter.h"
#include "ag_waitset.h"

#define AG_DEFAULT_BUDGET_NS INT64_C(4000000)
/* A wait for the GIL that is worth counting. */
#define AG_GIL_WAIT_NS INT64_C(100000)
/* Turns in a row that the descriptor woke for nothing, before the guest queues behind the host. */
#define AG_SPURIOUS_LIMIT 16
/* asyncio's MAXIMUM_SELECT_TIMEOUT. */
#define AG_MAX_TIMEOUT_S (24 * 3600.0)

/* Attribute names, interned once a module. */
#define AG_NAMES(X)         \
    X(_add_callback)        \
    X(_args)                \
    X(_callback)            \
    X(_cancelled)           \
    X(_closed)              \
    X(_context)             \
    X(_call_soon)           \
    X(_check_closed)        \
    X(_csock)               \
    X(_get_running_loop)    \
    X(_set_running_loop)    \
    X(_debug)               \
    X(_fd_to_key)           \
    X(_process_events)      \
    X(_ready)               \
    X(_remove_reader)       \
    X(_remove_writer)       \
    X(_run)                 \
    X(_run_once)            \
    X(_scheduled)           \
    X(_selector)            \
    X(_signal_handlers)     \
    X(_stopping)            \
    X(_timer_cancelled_count) \
    X(_when)                \
    X(always_due)           \
    X(append)               \
    X(call_at)              \
    X(call_soon)            \
    X(close)                \
    X(Handle)               \
    X(fileno)               \
    X(get_debug)            \
    X(popleft)              \
    X(select)               \
    X(time)

typedef struct ag_state {
#define X(name) PyObject *s_##name;
    AG_NAMES(X)
#undef X
    PyTypeObject *guest_type;
    PyTypeObject *notify_type;
    /* asyncio and selectors, as imported at the module's start */
    PyObject *base_loop_type;           /* asyncio.BaseEventLoop */
    PyObject *run_once;                 /* BaseEventLoop._run_once, the function */
    PyObject *time;                     /* BaseEventLoop.time */
    PyTypeObject *handle_type;
    PyTypeObject *timer_handle_type;
    PyTypeObject *epoll_selector_type;  /* or kqueue's; NULL where there is neither */
    PyObject *mirrored_types;           /* tuple: Poll-, Select-, DevpollSelector */
    PyObject *events;                   /* asyncio.events, where tests swap functions and classes */
    PyObject *tasks;
    PyObject *events_dict;              /* borrowed from it */
    bool has_signal_pipe;
    PyObject *heappop;
    PyObject *heapify;
    PyObject *zero;                     /* the int 0 */
    PyObject *set_wakeup_fd;            /* signal.set_wakeup_fd */
    PyObject *polling;                  /* stands in for loop._stopping while `stock` polls */
    /* Python halves of the engines: asyncio_guest._frame */
    PyObject *frame_turn;
    PyObject *frame_failed;
    PyObject *frame_probe;
    PyObject *frame_run_debug;
    PyObject *frame_swap_in;
    /* offsets of the slots of Handle and TimerHandle; -1: the layout is not the known one */
    Py_ssize_t off_callback, off_args, off_cancelled, off_context, off_when, off_scheduled;
    Py_ssize_t off_loop, off_traceback, off_repr;
    /* One guest a thread: the live ones. Guarded by `mutex`, not by the GIL, which
     * free-threaded builds do not have. */
    pthread_mutex_t *mutex;
    ag_guest *guests;
} ag_state;

typedef enum ag_selector_class {
    AG_SELECTOR_DESCRIPTOR,
    AG_SELECTOR_MIRRORED,
    AG_SELECTOR_ALWAYS_DUE,
} ag_selector_class;

typedef enum ag_guest_state {
    AG_STATE_NEW,
    AG_STATE_ATTACHED,      /* WATCHED, PARKED, TURNING and AGAIN of the diagram */
    AG_STATE_CLOSING,
    AG_STATE_DONE,
} ag_guest_state;

typedef struct ag_call ag_call;

struct ag_guest {
    PyObject_HEAD
    ag_state *state;
    PyObject *module;       /* keeps the state alive */
    ag_guest *next;         /* state->guests */
    PyThreadState *tstate;  /* the starting thread's */
    unsigned long thread;
    ag_guest_state phase;
    bool turning;           /* a turn is on the stack */
    bool over;              /* on_stop answered False */
    bool again_pending;     /* AG_MORE was answered; ops->again or ->post is outstanding */
    bool watching;          /* ops->watch(1) is on */
    bool host_dead;         /* ag_host_died came while a turn was on the stack */
    bool running;           /* ops->run is on the stack */
    bool close_pending;     /* close the host when ops->run has returned */
    bool posting;           /* ops->post or ->again is on the stack: a synchronous call is refused */
    bool forked;
    bool polled;            /* finish_on_poll drives it */
    bool self_owned;        /* the reference that being attached holds */
    atomic_int waiter_posting;

    /* the loop */
    PyObject *loop;
    PyObject *loop_dict;
    PyObject *selector;     /* as of the last look */
    PyObject *mirror;
    PyObject *ready;        /* fetched anew at the end of each turn */
    PyObject *scheduled;
    PyObject *fd_to_key;
    ag_selector_class selector_class;
    bool unknown_selector;  /* neither watched nor mirrored */
    bool own_run_once;      /* the loop overrides _run_once() */
    bool own_time;          /* the loop overrides time() */
    int64_t deadline;

    /* the engine */
    bool want_fast;         /* option: fast, or none */
    bool fast;              /* probed: the loop is as the engine knows it */
    PyObject *engine_reason;
    unsigned tag_loop, tag_handle, tag_timer, tag_selector;
    struct epoll_event *events;
    int events_cap;
    int selector_fd;

    /* the host */
    ag_host_ops const *ops;
    PyObject *ops_capsule;
    PyObject *toolkit;
    void *native;
    void *host;
    ag_strategy strategy;
    ag_waitset ws;
    ag_waiter *waiter;
    PyThreadState *waiter_tstate;
    _Atomic(int) waiter_error;  /* -errno of the last failed post */
    atomic_int sync_post;       /* a post called us back on its own stack */
    PyObject *get_running_loop, *current_task;  /* of asyncio.events and asyncio.tasks, as of attach */
    PyObject *notify_soon, *notify_at;
    ag_call *calls;             /* ops->call outstanding */

    /* options */
    int64_t budget_ns;
    Py_ssize_t max_iterations;  /* a turn; 0: no limit */
    bool own_wakeup_fd;         /* until it is taken */
    int wakeup_fd;              /* -1: not set */
    int signal_fd;              /* the other end of it, in the wait set; -1 */
    int64_t signal_pipe_read;   /* when last, ns */
    int wakeup_fd_before;
    int64_t wakeup_asserted;    /* when, ns */
    PyObject *signal_handlers;  /* the loop's dict, or NULL */
    Py_ssize_t signal_handlers_seen;

    PyObject *on_stop, *on_done, *on_host_died;
    PyObject *weakrefs;
    int64_t burst_start;        /* of turns that followed each other with work left, ns; 0: none */
    unsigned spurious_streak;
    _Atomic(uint64_t) posts, wakes;     /* counted on other threads too */
    ag_counters counters;
    ag_result turn_result;
};

/* --- ag_loop.c: what the core reads of a loop --- */

/* Look at loop._selector and what hangs on it, and put the wait set right. 0, or -1 with an
 * exception. GIL held, as for all of the following. */
int ag_loop_look(ag_guest *g);
/* Has loop._selector changed since? */
bool ag_loop_changed(ag_guest *g);
/* Fetch _ready and _scheduled anew. */
int ag_loop_refetch(ag_guest *g);
/* Remove cancelled handles from the head of the heap, as the next _run_once would first of all, and
 * compute the deadline. */
int ag_loop_deadline(ag_guest *g, int64_t *ret_deadline);
/* Is something to run, without looking at the selector? Needs no GIL on the host's thread. */
bool ag_loop_due(const ag_guest *g, int64_t *ret_deadline);
void ag_loop_forget(ag_guest *g);
/* Truth of loop._stopping; -1 with an exception. */
int ag_loop_stopping(ag_guest *g);
int ag_handle_cancelled(ag_guest *g, PyObject *handle);
int ag_handle_when(ag_guest *g, PyObject *handle, double *ret_when);
/* Wrap call_soon and call_at, for hosts that have no prepare phase. */
int ag_notify_install(ag_guest *g);
void ag_notify_remove(ag_guest *g);
extern PyType_Spec ag_notify_spec;

/* --- ag_engine.c --- */

/* Choose between stock and fast again. 0, or -1 with an exception. */
int ag_engine_probe(ag_guest *g);
/* Is the loop in debug mode, or has the program replaced what `fast` stands for? The cheap part of the probe;
 * false means that this iteration, or this call_soon, is asyncio's own. */
bool ag_engine_still_fast(ag_guest *g);
/* One iteration. 1: it ran something, 0: there was nothing to run, 2: one of stock's, which does not
 * tell; -1 with an exception. */
int ag_engine_iterate(ag_guest *g);

/* --- ag_guest.c --- */

/* Like ag_turn, with its GIL and thread rules. */
ag_result ag_turn_impl(ag_guest *g);
ag_result ag_dispatch_impl(ag_guest *g);
int ag_prepare_impl(ag_guest *g, int64_t *ret_deadline);
void ag_host_died_impl(ag_guest *g);
int ag_wake_impl(ag_guest *g);
int ag_guest_attach(ag_guest *g);
int ag_guest_run(ag_guest *g);
int ag_guest_finish_on_poll(ag_guest *g, int64_t timeout_ns);
int ag_guest_call(ag_guest *g, PyObject *fn);
void ag_guest_detach(ag_guest *g);
void ag_guest_forked(ag_guest *g);
void ag_guest_unlink(ag_guest *g);  /* from the list of live guests */
void ag_wakeup_fd_assert(ag_guest *g);
/* Give it back. loop_lives: the loop may be run again. */
void ag_wakeup_fd_release(ag_guest *g, bool loop_lives);

/* --- ag_process.c --- */

/* The process's signal pipe. 0 or -errno. */
int ag_signal_pipe(int *ret_read, int *ret_write);
/* One more, one less interpreter; the last one closes it. */
void ag_signal_pipe_use(void);
void ag_signal_pipe_drop(void);

PyObject *ag_guest_iterate(PyObject *self, PyObject *ignored);

extern const ag_host_ops ag_poll_ops;       /* ag_poll.c */
extern const ag_host_ops ag_callables_ops;  /* ag_callables.c */

static inline PyThreadState *
ag_current_tstate(void)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyThreadState_GetUnchecked();
#else
    return _PyThreadState_UncheckedGet();
#endif
}

static inline bool
ag_interpreter_gone(void)
{
#if PY_VERSION_HEX >= 0x030D0000
    return !Py_IsInitialized() || Py_IsFinalizing();
#else
    return !Py_IsInitialized() || _Py_IsFinalizing();
#endif
}

/* Take the GIL for the guest's thread state unless this thread holds it. The answer goes to
 * ag_gil_release. Comparing thread states is sound before 3.12 too, where the current one is that
 * of whichever thread holds the GIL: only this thread ever runs with the guest's. */
static inline bool
ag_gil_take(ag_guest *g)
{
    if (ag_current_tstate() == g->tstate) {
        return false;
    }
    PyEval_RestoreThread(g->tstate);
    return true;
}

static inline void
ag_gil_release(bool taken)
{
    if (taken) {
        PyEval_SaveThread();
    }
}

#endif
