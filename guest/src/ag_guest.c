/* The turn, and how its answer reaches the host. */
#include "ag_internal.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

/* --- the wakeup descriptor of signals ---
 *
 * A Ctrl-C must wake a host that blocks in C, so a pipe of ours is the process's signal wakeup
 * descriptor for the guest's life; what comes out of it goes on to the loop's self-pipe, which is where
 * asyncio expects the numbers of signals. Others take the setting away: the loop itself when a handler is
 * added or the last one is removed, PyGObject's MainLoop.run. CPython does not export PySignal_SetWakeupFd, and the
 * Python function makes two system calls, so it is asserted again when something may have happened: at the
 * end of a turn, but not twice within AG_WAKEUP_TURN_NS unless the loop's signal handlers have changed, and
 * in prepare, which needs the GIL for it, after AG_WAKEUP_PREPARE_NS. It is taken in the first turn and not
 * at the start: the host's main loop begins in between, and puts back at its end what it found. */

#define AG_WAKEUP_TURN_NS INT64_C(10000000)
#define AG_WAKEUP_PREPARE_NS INT64_C(100000000)
/* A loop that always has something to do looks at the pipe that often. */
#define AG_SIGNAL_PIPE_NS INT64_C(1000000)

/* signal.set_wakeup_fd(fd, warn_on_full_buffer=False): a storm of signals is no news after the
 * first. 0, or -1 with an exception. */
static int
set_wakeup_fd(ag_guest *g, int fd, int *ret_before)
{
    PyObject *args = Py_BuildValue("(i)", fd);
    PyObject *kwargs = Py_BuildValue("{s:O}", "warn_on_full_buffer", Py_False);
    PyObject *r = args != NULL && kwargs != NULL ? PyObject_Call(g->state->set_wakeup_fd, args, kwargs) : NULL;
    long before;

    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    if (r == NULL) {
        return -1;
    }
    before = PyLong_AsLong(r);
    Py_DECREF(r);
    if (ret_before != NULL) {
        *ret_before = (int)before;
    }
    return 0;
}

/* The number of the loop's own self-pipe, which add_signal_handler sets; -1. */
static int
csock_fd(ag_guest *g)
{
    PyObject *csock = PyObject_GetAttr(g->loop, g->state->s__csock);
    PyObject *fd = csock != NULL && csock != Py_None ? PyObject_CallMethodNoArgs(csock, g->state->s_fileno) : NULL;
    long number = fd != NULL && PyLong_Check(fd) ? PyLong_AsLong(fd) : -1;

    PyErr_Clear();
    Py_XDECREF(csock);
    Py_XDECREF(fd);
    return (int)number;
}

/* `before` was set when we set ours: whoever it belongs to gets it back in the end. */
static void
note_before(ag_guest *g, int before)
{
    if (before >= 0 && before != g->wakeup_fd && before != csock_fd(g)) {
        g->wakeup_fd_before = before;
    }
}

static void
take_wakeup_fd(ag_guest *g)
{
    int before;
    int read_fd, write_fd;

    g->own_wakeup_fd = false;
    if (ag_signal_pipe(&read_fd, &write_fd) < 0 || ag_waitset_add(&g->ws, read_fd) < 0) {
        return;
    }
    if (set_wakeup_fd(g, write_fd, &before) < 0) {
        PyErr_WriteUnraisable(g->state->set_wakeup_fd);
        return;
    }
    g->signal_fd = read_fd;
    g->wakeup_fd = write_fd;
    g->wakeup_fd_before = -1;
    note_before(g, before);
    g->wakeup_asserted = ag_clock();
}

/* Hand signal numbers on to the loop's self-pipe. 1: there were some. */
static int
forward_signals(ag_guest *g)
{
    char buf[256];
    ssize_t n;
    int any = 0;

    if (g->signal_fd < 0) {
        return 0;
    }
    g->signal_pipe_read = ag_clock();
    while ((n = read(g->signal_fd, buf, sizeof buf)) > 0) {
        PyObject *csock = PyObject_GetAttr(g->loop, g->state->s__csock);
        PyObject *r = csock != NULL && csock != Py_None ? PyObject_CallMethod(csock, "send", "y#", buf, (Py_ssize_t)n)
                                                        : Py_NewRef(Py_None);

        /* Full: the loop has more than enough to wake for. Closed: it will hear of no signal. */
        PyErr_Clear();
        Py_XDECREF(r);
        Py_XDECREF(csock);
        any = 1;
    }
    return any;
}

/* GIL held, on the guest's thread; own_wakeup_fd says that it is the main thread. */
static void
assert_wakeup_fd(ag_guest *g, int64_t now)
{
    int before;

    g->wakeup_asserted = now;
    if (set_wakeup_fd(g, g->wakeup_fd, &before) < 0) {
        PyErr_WriteUnraisable(g->state->set_wakeup_fd);
        g->wakeup_fd = -1;
        return;
    }
    note_before(g, before);
}

/* At the end of a turn. */
static void
assert_wakeup_fd_turn(ag_guest *g)
{
    int64_t now;
    Py_ssize_t handlers;

    if (g->wakeup_fd < 0) {
        return;
    }
    handlers = g->signal_handlers != NULL ? PyDict_GET_SIZE(g->signal_handlers) : 0;
    now = ag_clock();
    if (now - g->wakeup_asserted < AG_WAKEUP_TURN_NS && handlers == g->signal_handlers_seen) {
        return;
    }
    g->signal_handlers_seen = handlers;
    assert_wakeup_fd(g, now);
}

void
ag_wakeup_fd_assert(ag_guest *g)
{
    if (g->own_wakeup_fd && g->phase == AG_STATE_ATTACHED) {
        take_wakeup_fd(g);
    } else if (g->wakeup_fd >= 0) {
        assert_wakeup_fd(g, ag_clock());
    }
}

void
ag_wakeup_fd_release(ag_guest *g, bool loop_lives)
{
    int ours = g->wakeup_fd, csock, give_to, now;

    if (ours < 0) {
        return;
    }
    csock = csock_fd(g);
    /* A loop that will be run again has its signal handlers fed between its runs too: a child watcher's SIGCHLD
     * may come then. One that is about to be closed leaves the setting to whoever had it before. */
    give_to = loop_lives && csock >= 0 && g->signal_handlers != NULL && PyDict_GET_SIZE(g->signal_handlers) > 0
              ? csock : g->wakeup_fd_before;
    g->wakeup_fd = -1;
    g->own_wakeup_fd = false;
    if (set_wakeup_fd(g, give_to, &now) < 0) {
        /* Whoever had it before has closed it since. */
        PyErr_Clear();
        if (set_wakeup_fd(g, -1, &now) < 0) {
            PyErr_WriteUnraisable(g->state->set_wakeup_fd);
            return;
        }
    }
    if (now != ours && now != csock && set_wakeup_fd(g, now, NULL) < 0) {
        /* Somebody had taken it and would have kept it, but has closed it. */
        PyErr_Clear();
    }
    /* What came in the meantime is the loop's, not the next guest's. */
    forward_signals(g);
    g->signal_fd = -1;
}

/* --- the waiter's side of a post --- */

/* On the host's own thread. */
static int
call_post(ag_guest *g)
{
    int r;

    g->posting = true;
    atomic_fetch_add(&g->posts, 1);
    r = g->ops->post(g->host);
    g->posting = false;
    return r;
}

static int
call_post_waiter(ag_guest *g)
{
    int r;

    atomic_store(&g->waiter_posting, 1);
    atomic_fetch_add(&g->posts, 1);
    r = g->ops->post(g->host);
    atomic_store(&g->waiter_posting, 0);
    return r;
}

/* For hosts whose post needs the GIL. */
static void
waiter_begin(void *arg)
{
    ag_guest *g = arg;

    g->waiter_tstate = PyThreadState_New(g->tstate->interp);
}

static int
waiter_post(void *arg)
{
    ag_guest *g = arg;
    int r;

    if (!(g->ops->caps & AG_HOST_POST_PY)) {
        r = call_post_waiter(g);
    } else {
        if (ag_interpreter_gone() || g->waiter_tstate == NULL) {
            return -ESHUTDOWN;
        }
        PyEval_RestoreThread(g->waiter_tstate);
        if (ag_waiter_stopping(g->waiter)) {
            r = 0;
        } else if ((r = call_post_waiter(g)) < 0) {
            PyErr_WriteUnraisable((PyObject *)g);
        }
        PyEval_SaveThread();
    }
    if (r < 0) {
        atomic_store(&g->waiter_error, r);
    }
    return r;
}

static void
waiter_end(void *arg)
{
    ag_guest *g = arg;

    if (g->waiter_tstate != NULL && !ag_interpreter_gone()) {
        PyEval_RestoreThread(g->waiter_tstate);
        PyThreadState_Clear(g->waiter_tstate);
        PyThreadState_DeleteCurrent();
    }
    g->waiter_tstate = NULL;
}

static const ag_waiter_ops waiter_ops = {NULL, waiter_post, NULL};
static const ag_waiter_ops waiter_ops_py = {waiter_begin, waiter_post, waiter_end};

/* --- the turn --- */

int
ag_wake_impl(ag_guest *g)
{
    int r = ag_waitset_wake(&g->ws);

    if (r > 0) {
        atomic_fetch_add(&g->wakes, 1);
    }
    return r < 0 ? r : 0;
}

/* The exception that is set, taken out with its traceback in place. */
static PyObject *
take_exception(void)
{
    PyObject *type, *exc, *tb;

    PyErr_Fetch(&type, &exc, &tb);
    PyErr_NormalizeException(&type, &exc, &tb);
    if (tb != NULL) {
        PyException_SetTraceback(exc, tb);
    }
    Py_XDECREF(type);
    Py_XDECREF(tb);
    return exc;
}

/* asyncio stopped or an iteration raised (`exc`, stolen): what now? Sets g->over unless the next phase
 * has begun. */
static void
ask_on_stop(ag_guest *g, PyObject *exc)
{
    PyObject *r = PyObject_CallOneArg(g->on_stop, exc != NULL ? exc : Py_None);
    int go_on = 0;

    Py_XDECREF(exc);
    if (r != NULL) {
        go_on = PyObject_IsTrue(r);
        Py_DECREF(r);
    }
    if (r == NULL || go_on < 0) {
        PyErr_WriteUnraisable(g->on_stop);
        go_on = 0;
    }
    g->over = !go_on;
}

/* Is there anything for another iteration? */
static int
more_to_do(ag_guest *g)
{
    int64_t deadline;

    if (ag_loop_due(g, &deadline)) {
        return 1;
    }
    return ag_waitset_pending(&g->ws);
}

/* Something is left to do: have the descriptor say so, unless the host asks ag_prepare. */
static void
wake_for_rest(ag_guest *g)
{
    if (!(g->ops->caps & AG_HOST_PREPARE)) {
        ag_wake_impl(g);
    }
}

static int
ready_in_child(ag_guest *g)
{
    PyObject *ready = PyObject_GetAttr(g->loop, g->state->s__ready);
    int truth = ready != NULL ? PyObject_IsTrue(ready) : -1;

    Py_XDECREF(ready);
    return truth;
}

static ag_result
turn_body(ag_guest *g)
{
    int64_t start = ag_clock(), before = start, after;
    Py_ssize_t iterations = 0;
    bool ran_any = false, entered_idle = false;
    int error = atomic_exchange(&g->waiter_error, 0);

    if (atomic_exchange(&g->sync_post, 0)) {
        PyErr_Format(PyExc_RuntimeError,
                     "host '%s' called the guest from inside its own post function "
                     "(run_sync_soon_threadsafe): it must only queue the call",
                     g->ops->name);
        ask_on_stop(g, take_exception());
    } else if (error < 0) {
        PyErr_Format(PyExc_RuntimeError, "host '%s' could not be woken by the waiter thread: %s",
                     g->ops->name, error == -1 ? "its post function raised (reported above)" : strerror(-error));
        ask_on_stop(g, take_exception());
    }
    for (;;) {
        int r, stopping, more;

        if (g->over) {
            return AG_DONE;
        }
        r = ag_engine_iterate(g);
        g->counters.iterations++;
        iterations++;
        if (r < 0) {
            ask_on_stop(g, take_exception());
            if (ag_loop_refetch(g) < 0) {
                PyErr_WriteUnraisable(g->loop);
            }
        } else {
            ran_any |= r > 0;
            stopping = ag_loop_stopping(g);
            if (stopping < 0) {
                ask_on_stop(g, take_exception());
            } else if (stopping) {
                ask_on_stop(g, NULL);
            }
        }
        if (g->over) {
            return AG_DONE;
        }
        if (g->forked) {
            /* The child of a fork that a callback made. What is ready it runs to the end, so that a coroutine which
             * returns there stops the loop; nothing would wake it for more. */
            more = ready_in_child(g);
            if (more < 0) {
                ask_on_stop(g, take_exception());
            }
            if (more <= 0) {
                return AG_DONE;
            }
            continue;
        }
        if (ag_loop_changed(g)) {
            if (ag_loop_look(g) < 0 || ag_engine_probe(g) < 0) {
                ask_on_stop(g, take_exception());
                continue;
            }
        }
        after = ag_clock();
        if (after - before > g->budget_ns) {
            g->counters.over_budget++;
        }
        before = after;
        if (g->selector_class == AG_SELECTOR_ALWAYS_DUE) {
            return AG_MORE;
        }
        if (r == 0) {
            /* Nothing ran, and so there is nothing to do: `fast` looks at the selector itself. */
            if (!ran_any && forward_signals(g)) {
                continue;
            }
            break;
        }
        if (ag_loop_refetch(g) < 0) {
            ask_on_stop(g, take_exception());
            continue;
        }
        if (after - start >= g->budget_ns || (g->max_iterations > 0 && iterations >= g->max_iterations)) {
            more = more_to_do(g);
            if (more == 0) {
                break;
            }
            /* An error of the look is met again by the next iteration, which raises it. */
            if (g->burst_start == 0) {
                g->burst_start = start;
            }
            if (g->host != NULL && g->strategy == AG_STRATEGY_WATCH && !(g->ops->caps & AG_HOST_AGAIN_SOON)
                && after - g->burst_start < g->budget_ns) {
                /* Turns cut short by max_iterations: until they have had a budget together, the readable
                 * descriptor brings the next one as soon as the host has looked around. For most hosts `again` is
                 * their lowest priority. */
                wake_for_rest(g);
                return AG_IDLE;
            }
            g->burst_start = 0;
            return AG_MORE;
        }
        if (r == 2) {
            more = more_to_do(g);
            if (more == 0) {
                if (!g->own_run_once || entered_idle) {
                    break;
                }
                /* asyncio enters _run_once once more and sleeps inside: an overridden one has work of its own
                 * there, perhaps. */
                entered_idle = true;
            }
        }
    }
    g->burst_start = 0;
    if (ran_any) {
        g->spurious_streak = 0;
    } else {
        g->counters.spurious++;
        if (++g->spurious_streak >= AG_SPURIOUS_LIMIT && ag_waitset_pending(&g->ws) > 0) {
            /* The selector's descriptor is readable and the loop knows nothing to run for it (a descriptor
             * that was closed while a copy of it lives on): asyncio itself would spin here. The host
             * must not freeze for it. */
            g->counters.demoted++;
            return AG_MORE;
        }
    }
    return AG_IDLE;
}

/* Called by asyncio_guest._frame.turn, so that callbacks find one Python frame below them. */
PyObject *
ag_guest_iterate(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ag_guest *g = (ag_guest *)self;

    g->turn_result = turn_body(g);
    Py_RETURN_NONE;
}

/* Make the guest's loop the running one for the turn, with no task on the way. It is so, mostly: the guest's life counts
 * as one run_forever. *ret_back is a callable that puts back what was where something else runs (a host that is
 * itself asyncio, code of the host's that has left the loop for a moment), or where a callback of the host's has made a
 * task that starts eagerly, and a nested loop of the host's in that first step calls for this turn. */
static int
enter_loop(ag_guest *g, PyObject **ret_back)
{
    PyObject *running = PyObject_CallNoArgs(g->get_running_loop), *task = NULL;

    *ret_back = NULL;
    if (running == NULL) {
        return -1;
    }
    Py_DECREF(running);
    if (running == g->loop) {
        task = PyObject_CallOneArg(g->current_task, g->loop);
        if (task == NULL) {
            return -1;
        }
        if (task == Py_None) {
            Py_DECREF(task);
            return 0;
        }
    }
    *ret_back = PyObject_CallOneArg(g->state->frame_swap_in, g->loop);
    Py_XDECREF(task);
    return *ret_back != NULL ? 0 : -1;
}

static void
leave_loop(ag_guest *g, PyObject *back)
{
    PyObject *r;

    if (back == NULL) {
        return;
    }
    r = PyObject_CallNoArgs(back);
    if (r == NULL) {
        PyErr_WriteUnraisable(g->loop);
    }
    Py_XDECREF(r);
    Py_DECREF(back);
}

static ag_result
turn_locked(ag_guest *g)
{
    PyObject *before, *r;
    int64_t start = ag_clock(), took, deadline;
    ag_result result;
    PyObject *type, *value, *tb;

    /* A host may call from a place where an exception is on its way. */
    PyErr_Fetch(&type, &value, &tb);
    g->turning = true;
    g->again_pending = false;
    g->counters.turns++;
    switch (g->selector_class) {
    case AG_SELECTOR_DESCRIPTOR: g->counters.turns_descriptor++; break;
    case AG_SELECTOR_MIRRORED:   g->counters.turns_mirrored++; break;
    case AG_SELECTOR_ALWAYS_DUE: g->counters.turns_always_due++; break;
    }
    ag_waitset_drain(&g->ws);
    if (g->own_wakeup_fd) {
        take_wakeup_fd(g);
    } else if (start - g->signal_pipe_read > AG_SIGNAL_PIPE_NS) {
        forward_signals(g);
    }
    if (g->selector_class == AG_SELECTOR_ALWAYS_DUE && (ag_loop_look(g) < 0 || ag_engine_probe(g) < 0)) {
        ask_on_stop(g, take_exception());
    }
    g->turn_result = AG_DONE;
    if (enter_loop(g, &before) < 0) {
        /* A signal's exception, where what has to be left and entered is Python. */
        ask_on_stop(g, take_exception());
        g->turn_result = g->over ? AG_DONE : AG_MORE;
        r = NULL;
    } else {
        r = PyObject_CallOneArg(g->state->frame_turn, (PyObject *)g);
        if (r == NULL) {
            /* Only the frame itself can raise: a signal's exception at its first instruction, or
             * recursion. An iteration's own errors are dealt with inside. */
            ask_on_stop(g, take_exception());
            g->turn_result = g->over ? AG_DONE : AG_MORE;
        }
        leave_loop(g, before);
    }
    Py_XDECREF(r);
    result = g->over ? AG_DONE : g->turn_result;
    if (result != AG_DONE) {
        if (ag_loop_refetch(g) < 0 || ag_loop_deadline(g, &deadline) < 0) {
            /* An overridden time(), or a timer's odd `when`: _run_once would raise it. */
            ask_on_stop(g, take_exception());
            result = g->over ? AG_DONE : AG_MORE;
            deadline = ag_clock();
        }
        g->deadline = deadline;
        if (g->selector_class != AG_SELECTOR_ALWAYS_DUE && result == AG_IDLE) {
            ag_waitset_arm(&g->ws, deadline);
        }
        assert_wakeup_fd_turn(g);
    }
    took = ag_clock() - start;
    if (took > g->counters.longest_turn_ns) {
        g->counters.longest_turn_ns = took;
    }
    g->counters.again += result == AG_MORE;
    g->turning = false;
    PyErr_Restore(type, value, tb);
    return result;
}

/* May this call run a turn? AG_IDLE: yes. */
static ag_result
refuse(ag_guest *g)
{
    if (g->phase != AG_STATE_ATTACHED || g->forked || ag_interpreter_gone()) {
        return AG_DONE;
    }
    if (g->thread != PyThread_get_thread_ident()) {
        if (atomic_load(&g->waiter_posting)) {
            atomic_store(&g->sync_post, 1);
        }
        return AG_BUSY;
    }
    if (g->posting) {
        atomic_store(&g->sync_post, 1);
        return AG_BUSY;
    }
    if (g->turning) {
        g->counters.busy++;
        return AG_BUSY;
    }
    return AG_IDLE;
}

static bool
take_gil_counted(ag_guest *g)
{
    int64_t before = ag_clock(), waited;
    bool taken = ag_gil_take(g);

    if (taken && (waited = ag_clock() - before) > AG_GIL_WAIT_NS) {
        g->counters.gil_waits++;
        g->counters.gil_wait_ns += waited;
    }
    return taken;
}

/* --- attaching and detaching --- */

struct ag_call {
    ag_call *next;
    ag_guest *guest;        /* strong */
    PyObject *fn;           /* NULL: dropped by a close */
    bool begun;
};

static void
set_watch(ag_guest *g, bool on)
{
    int err;

    if (g->host == NULL || g->strategy != AG_STRATEGY_WATCH || g->watching == on) {
        return;
    }
    err = g->ops->watch(g->host, g->ws.fd, on);
    if (err < 0) {
        PyErr_Format(PyExc_RuntimeError, "host '%s' cannot %s the guest's descriptor: %s", g->ops->name,
                     on ? "watch" : "stop watching", strerror(-err));
        PyErr_WriteUnraisable((PyObject *)g);
        return;
    }
    g->watching = on;
}

static void
stop_waiter(ag_guest *g)
{
    ag_waiter *waiter = g->waiter;

    if (waiter == NULL) {
        return;
    }
    /* Its post may want the GIL. */
    Py_BEGIN_ALLOW_THREADS
    ag_waiter_stop(waiter);
    Py_END_ALLOW_THREADS
    g->waiter = NULL;
}

/* Nothing that is still queued is to be called; the structures belong to the host's callbacks that
 * may come until it is closed, and find nothing to call. */
static void
drop_calls(ag_guest *g)
{
    for (ag_call *call = g->calls; call != NULL; call = call->next) {
        if (!call->begun) {
            Py_CLEAR(call->fn);
        }
    }
}

/* After the host's close no callback comes any more. Calls that are on the stack free
 * themselves. */
static void
free_calls(ag_guest *g)
{
    ag_call *call = g->calls, *next;

    g->calls = NULL;
    for (; call != NULL; call = next) {
        next = call->next;
        call->next = NULL;
        if (!call->begun) {
            Py_CLEAR(call->fn);
            Py_DECREF(call->guest);
            PyMem_RawFree(call);
        }
    }
}

static void
close_host(ag_guest *g)
{
    if (g->host != NULL) {
        void *host = g->host;

        g->host = NULL;
        g->ops->close(host);
        free_calls(g);
    }
}

/* Take the guest out of its host. While ops->run is on the stack the host object lives on, inert, until
 * that has returned. */
static void
leave_host(ag_guest *g)
{
    ag_notify_remove(g);
    stop_waiter(g);
    if (g->host == NULL) {
        return;
    }
    drop_calls(g);
    if (g->running) {
        set_watch(g, false);
        g->close_pending = true;
        if (g->ops->quit != NULL) {
            g->ops->quit(g->host);
        }
    } else {
        close_host(g);
    }
    g->watching = false;
}

void
ag_guest_unlink(ag_guest *g)
{
    ag_guest **link;

    pthread_mutex_lock(g->state->mutex);
    for (link = &g->state->guests; *link != NULL; link = &(*link)->next) {
        if (*link == g) {
            *link = g->next;
            break;
        }
    }
    pthread_mutex_unlock(g->state->mutex);
}

/* What is attached to a host lives, whoever forgets its Python object. The caller of everything that ends
 * a guest holds a reference of its own. */
static void
drop_self(ag_guest *g)
{
    if (g->self_owned) {
        g->self_owned = false;
        Py_DECREF(g);
    }
}

/* The end: nothing of the guest is left in the host. */
static void
become_done(ag_guest *g)
{
    if (g->phase == AG_STATE_DONE) {
        return;
    }
    g->phase = AG_STATE_CLOSING;
    ag_wakeup_fd_release(g, true);
    leave_host(g);
    ag_guest_unlink(g);
    g->phase = AG_STATE_DONE;
    if (!g->running) {
        ag_waitset_close(&g->ws);
        /* Here, on the host's thread: a tkapp must not die on another. */
        Py_CLEAR(g->toolkit);
    }
    ag_loop_forget(g);
    if (!g->turning) {
        /* No phase begins any more: what they belong to holds the guest. */
        Py_CLEAR(g->on_stop);
        Py_CLEAR(g->on_host_died);
    }
    drop_self(g);
}

static void
call_on_done(ag_guest *g)
{
    PyObject *on_done = g->on_done, *r;

    g->on_done = NULL;
    if (on_done == NULL) {
        return;
    }
    r = PyObject_CallNoArgs(on_done);
    if (r == NULL) {
        PyErr_WriteUnraisable(on_done);
    }
    Py_XDECREF(r);
    Py_DECREF(on_done);
}

void
ag_guest_detach(ag_guest *g)
{
    become_done(g);
    Py_CLEAR(g->on_done);
}

/* asyncio.tasks.current_task(loop), in C: before 3.12, when it was Python, its dict's get(loop). */
static PyObject *
find_current_task(PyObject *tasks)
{
#if PY_VERSION_HEX >= 0x030c0000
    return PyObject_GetAttrString(tasks, "current_task");
#else
    PyObject *all = PyObject_GetAttrString(tasks, "_current_tasks");
    PyObject *get = all != NULL ? PyObject_GetAttrString(all, "get") : NULL;
    Py_XDECREF(all);
    return get;
#endif
}

int
ag_guest_attach(ag_guest *g)
{
    ag_open_args args = {g, g->strategy, g->toolkit, g->native};
    int err;

    if (g->phase != AG_STATE_NEW) {
        PyErr_SetString(PyExc_RuntimeError, "the guest was attached before");
        return -1;
    }
    g->get_running_loop = PyObject_GetAttr(g->state->events, g->state->s__get_running_loop);
    g->current_task = find_current_task(g->state->tasks);
    if (g->get_running_loop == NULL || g->current_task == NULL || ag_loop_look(g) < 0 || ag_engine_probe(g) < 0) {
        return -1;
    }
    g->self_owned = true;
    Py_INCREF(g);
    if (g->ops == NULL) {
        g->phase = AG_STATE_ATTACHED;
        ag_wake_impl(g);
        return 0;
    }
    if ((g->fast || g->strategy == AG_STRATEGY_WAITER || !(g->ops->caps & AG_HOST_PREPARE))
        && ag_notify_install(g) < 0) {
        goto fail;
    }
    if (g->ops->open(&g->host, &args) < 0) {
        goto fail;
    }
    g->phase = AG_STATE_ATTACHED;
    /* The first turn comes from the host: the descriptor is readable from the start. */
    ag_wake_impl(g);
    if (g->strategy == AG_STRATEGY_WATCH) {
        err = g->ops->watch(g->host, g->ws.fd, 1);
        if (err < 0) {
            PyErr_Format(PyExc_RuntimeError, "host '%s' cannot watch the guest's descriptor: %s",
                         g->ops->name, strerror(-err));
            goto fail;
        }
        g->watching = true;
    } else {
        const ag_waiter_ops *ops = g->ops->caps & AG_HOST_POST_PY ? &waiter_ops_py : &waiter_ops;

        err = ag_waiter_start(&g->waiter, &g->ws, ops, g);
        if (err < 0) {
            errno = -err;
            PyErr_SetFromErrno(PyExc_OSError);
            goto fail;
        }
#if PY_VERSION_HEX < 0x030C0000
        if (ops->begin != NULL) {
            /* A thread state is made under a lock that the child of a fork would find held, for ever (gh-112275): what
             * runs after this start may fork at once. */
            Py_BEGIN_ALLOW_THREADS
            ag_waiter_await_begin(g->waiter);
            Py_END_ALLOW_THREADS
        }
#endif
        /* The first post is made here: a function that calls back synchronously, or raises, is refused
         * where the user can see it. */
        err = call_post(g);
        if (atomic_exchange(&g->sync_post, 0)) {
            if (err >= 0 || !PyErr_Occurred()) {
                PyErr_Format(PyExc_RuntimeError,
                             "host '%s' called the guest from inside its own post function "
                     "(run_sync_soon_threadsafe): it must only queue the call",
                             g->ops->name);
            }
            goto fail;
        }
        if (err < 0) {
            if (!PyErr_Occurred()) {
                PyErr_Format(PyExc_RuntimeError, "host '%s' cannot be posted to: %s", g->ops->name, strerror(-err));
            }
            goto fail;
        }
    }
    return 0;

fail:
    {
        PyObject *type, *value, *tb;

        PyErr_Fetch(&type, &value, &tb);
        ag_guest_detach(g);
        PyErr_Restore(type, value, tb);
    }
    return -1;
}

/* --- dispatch: a turn, and what its answer asks of the host --- */

static void
request_again(ag_guest *g)
{
    int err;

    set_watch(g, false);
    if (g->host == NULL) {
        return;
    }
    g->again_pending = true;
    if (g->ops->again != NULL) {
        g->posting = true;
        err = g->ops->again(g->host);
        g->posting = false;
    } else {
        err = call_post(g);
    }
    if (err < 0) {
        if (!PyErr_Occurred()) {
            PyErr_Format(PyExc_RuntimeError, "host '%s' cannot queue another turn: %s", g->ops->name, strerror(-err));
        }
        PyErr_WriteUnraisable((PyObject *)g);
        g->again_pending = false;
        /* The descriptor is the second-best way to be called again. */
        ag_wake_impl(g);
        set_watch(g, true);
        if (g->waiter != NULL) {
            ag_waiter_park(g->waiter);
        }
    }
}

static void
call_host_died(ag_guest *g)
{
    PyObject *r;

    g->host_dead = false;
    if (g->on_host_died == NULL || g->phase != AG_STATE_ATTACHED) {
        return;
    }
    r = PyObject_CallNoArgs(g->on_host_died);
    if (r == NULL) {
        PyErr_WriteUnraisable(g->on_host_died);
    }
    Py_XDECREF(r);
}

static void
apply(ag_guest *g, ag_result result)
{
    switch (result) {
    case AG_IDLE:
        if (g->host_dead) {
            break;
        }
        if (g->waiter != NULL) {
            g->counters.parks++;
            ag_waiter_park(g->waiter);
        } else {
            set_watch(g, true);
        }
        break;
    case AG_MORE:
        if (!g->host_dead && !g->polled) {
            request_again(g);
        }
        break;
    case AG_BUSY:
        /* The nested host loop would spin on a readable descriptor. The turn that is on the stack puts it
         * right when it ends. */
        if (g->turning) {
            set_watch(g, false);
        }
        break;
    case AG_DONE:
        become_done(g);
        if (!g->running) {
            call_on_done(g);
        }
        break;
    }
}

ag_result
ag_turn_impl(ag_guest *g)
{
    ag_result result = refuse(g);
    bool taken;

    if (result != AG_IDLE) {
        return result;
    }
    taken = take_gil_counted(g);
    result = turn_locked(g);
    if (result == AG_DONE && g->ops == NULL) {
        apply(g, AG_DONE);
    }
    ag_gil_release(taken);
    return result;
}

ag_result
ag_dispatch_impl(ag_guest *g)
{
    ag_result result = refuse(g);
    PyObject *type, *value, *tb;
    bool taken;

    if (result == AG_DONE || (result == AG_BUSY && !g->turning)
        || (result == AG_BUSY && g->thread != PyThread_get_thread_ident())) {
        return result;
    }
    taken = take_gil_counted(g);
    Py_INCREF(g);
    PyErr_Fetch(&type, &value, &tb);
    if (result != AG_BUSY) {
        result = turn_locked(g);
    }
    apply(g, result);
    /* `again` has called the guest at once and was refused: nobody is left to call. The next turn ends the guest by an
     * error that says so. */
    while (result == AG_MORE && g->phase == AG_STATE_ATTACHED && atomic_load(&g->sync_post)) {
        result = turn_locked(g);
        apply(g, result);
    }
    if (result != AG_BUSY && g->host_dead) {
        call_host_died(g);
        result = g->phase == AG_STATE_ATTACHED ? result : AG_DONE;
    }
    PyErr_Restore(type, value, tb);
    Py_DECREF(g);
    ag_gil_release(taken);
    return result;
}

int
ag_prepare_impl(ag_guest *g, int64_t *ret_deadline)
{
    int64_t deadline = AG_NEVER;
    bool due = false;

    if (g->phase == AG_STATE_ATTACHED && !g->turning && !g->again_pending && !g->forked
        && !ag_interpreter_gone()) {
        if (g->wakeup_fd >= 0) {
            int64_t now = ag_clock();

            if (now - g->wakeup_asserted > AG_WAKEUP_PREPARE_NS) {
                bool taken = ag_gil_take(g);
                PyObject *type, *value, *tb;

                PyErr_Fetch(&type, &value, &tb);
                assert_wakeup_fd(g, now);
                PyErr_Restore(type, value, tb);
                ag_gil_release(taken);
            }
        }
        /* A burst that goes on: the last turn has found the selector readable already. */
        due = ag_loop_due(g, &deadline) || g->burst_start != 0;
        if (!due && g->selector_class != AG_SELECTOR_ALWAYS_DUE) {
            /* A host callback has set an earlier timer: the descriptor keeps the exact time. */
            ag_waitset_arm(&g->ws, deadline);
        }
        g->deadline = deadline;
    }
    if (ret_deadline != NULL) {
        *ret_deadline = deadline;
    }
    return due;
}

void
ag_host_died_impl(ag_guest *g)
{
    bool taken;

    if (g->phase != AG_STATE_ATTACHED || g->forked || ag_interpreter_gone()
        || g->thread != PyThread_get_thread_ident()) {
        return;
    }
    if (g->turning) {
        g->host_dead = true;
        return;
    }
    taken = ag_gil_take(g);
    Py_INCREF(g);
    call_host_died(g);
    Py_DECREF(g);
    ag_gil_release(taken);
}

/* --- calls outside any turn --- */

static void
trampoline(void *arg)
{
    ag_call *call = arg, **link;
    ag_guest *g = call->guest;
    PyObject *fn, *r, *type, *value, *tb;
    bool taken;

    if (ag_interpreter_gone()) {
        return;
    }
    taken = ag_gil_take(g);
    PyErr_Fetch(&type, &value, &tb);
    call->begun = true;
    fn = call->fn;
    call->fn = NULL;
    if (fn != NULL) {
        r = PyObject_CallNoArgs(fn);
        if (r == NULL) {
            PyErr_WriteUnraisable(fn);
        }
        Py_XDECREF(r);
        Py_DECREF(fn);
    }
    for (link = &g->calls; *link != NULL; link = &(*link)->next) {
        if (*link == call) {
            *link = call->next;
            break;
        }
    }
    PyMem_RawFree(call);
    PyErr_Restore(type, value, tb);
    Py_DECREF(g);
    ag_gil_release(taken);
}

int
ag_guest_call(ag_guest *g, PyObject *fn)
{
    ag_call *call;
    int err;

    if (g->phase != AG_STATE_ATTACHED || g->host == NULL || g->ops->call == NULL) {
        PyErr_Format(PyExc_RuntimeError, "host '%s' cannot call a function outside a turn",
                     g->ops != NULL ? g->ops->name : "(none)");
        return -1;
    }
    call = PyMem_RawCalloc(1, sizeof *call);
    if (call == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    call->guest = (ag_guest *)Py_NewRef((PyObject *)g);
    call->fn = Py_NewRef(fn);
    call->next = g->calls;
    g->calls = call;
    err = g->ops->call(g->host, trampoline, call);
    if (err < 0) {
        g->calls = call->next;
        Py_DECREF(call->fn);
        Py_DECREF(call->guest);
        PyMem_RawFree(call);
        PyErr_Format(PyExc_RuntimeError, "host '%s' cannot queue a call: %s", g->ops->name, strerror(-err));
        return -1;
    }
    return 0;
}

/* --- driving --- */

int
ag_guest_run(ag_guest *g)
{
    int r;

    if (g->ops == NULL || g->ops->run == NULL) {
        PyErr_Format(PyExc_RuntimeError, "host '%s' has no main loop of its own to run",
                     g->ops != NULL ? g->ops->name : "(none)");
        return -1;
    }
    if (g->running) {
        PyErr_SetString(PyExc_RuntimeError, "the host's main loop is running already");
        return -1;
    }
    if (g->phase == AG_STATE_ATTACHED) {
        g->running = true;
        r = g->ops->run(g->host);
        g->running = false;
    } else {
        r = 0;
    }
    if (g->close_pending) {
        PyObject *type, *value, *tb;

        PyErr_Fetch(&type, &value, &tb);
        g->close_pending = false;
        close_host(g);
        if (g->phase == AG_STATE_DONE) {
            ag_waitset_close(&g->ws);
            Py_CLEAR(g->toolkit);
        }
        PyErr_Restore(type, value, tb);
    }
    if (g->phase == AG_STATE_DONE) {
        PyObject *type, *value, *tb;

        PyErr_Fetch(&type, &value, &tb);
        call_on_done(g);
        PyErr_Restore(type, value, tb);
    }
    return r;
}

int
ag_guest_finish_on_poll(ag_guest *g, int64_t timeout_ns)
{
    int64_t end = timeout_ns < 0 ? AG_NEVER : ag_clock() + timeout_ns;

    if (g->turning) {
        PyErr_SetString(PyExc_RuntimeError, "a turn is on the stack");
        return -1;
    }
    if (g->phase != AG_STATE_ATTACHED) {
        return g->phase == AG_STATE_DONE;
    }
    g->polled = true;
    leave_host(g);
    /* What the last turn left, and what came since. */
    ag_wake_impl(g);
    while (g->phase == AG_STATE_ATTACHED) {
        ag_result result = ag_dispatch_impl(g);

        if (PyErr_CheckSignals() < 0) {
            return -1;
        }
        if (result == AG_DONE) {
            break;
        }
        if (ag_clock() >= end) {
            return 0;
        }
        if (result == AG_IDLE) {
            int64_t deadline;

            if (!ag_prepare_impl(g, &deadline)) {
                int r;

                Py_BEGIN_ALLOW_THREADS
                r = ag_waitset_block(&g->ws, -1, end);
                Py_END_ALLOW_THREADS
                if (r < 0 && r != -EINTR) {
                    errno = -r;
                    PyErr_SetFromErrno(PyExc_OSError);
                    return -1;
                }
            }
        }
    }
    if (g->on_done != NULL && !g->running) {
        call_on_done(g);
    }
    return 1;
}

void
ag_guest_forked(ag_guest *g)
{
    g->forked = true;
    g->phase = AG_STATE_DONE;
    g->want_fast = g->fast = false;     /* what it knows of the loop is forgotten below */
    /* The host's connection, the waiter and everything behind them belong to the parent: nothing is called,
     * nobody is joined; the descriptors of this process are closed and that is all. */
    if (g->waiter != NULL) {
        ag_waiter_forget(g->waiter);
        g->waiter = NULL;
    }
    g->waiter_tstate = NULL;
    if (g->running && g->host != NULL) {
        /* The fork happened inside ops->run: it must return, so that the child can unwind. */
        if (g->ops->quit != NULL) {
            g->ops->quit(g->host);
        }
    }
    g->host = NULL;
    g->calls = NULL;
    ag_wakeup_fd_release(g, false);
    ag_waitset_close(&g->ws);
    ag_notify_remove(g);
    ag_loop_forget(g);
    ag_guest_unlink(g);
    Py_CLEAR(g->on_done);
    drop_self(g);
}
