/* The host that is nothing but poll(2): what a guest costs with no GUI in the way, what drives a guest when
 * its host is gone, and the shortest example of a backend. */
#define _GNU_SOURCE
#include "ag_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

typedef struct queued_call {
    struct queued_call *next;
    void (*fn)(void *);
    void *arg;
} queued_call;

typedef struct poll_host {
    ag_guest *guest;
    int fd;                     /* the guest's, while it is watched; -1 */
    int pipe[2];                /* posts from other threads */
    bool again;
    int depth;                  /* of nested runs */
    int quit;                   /* runs to end */
    queued_call *calls, **tail;
} poll_host;

static int
poll_open(void **ret_host, const ag_open_args *args)
{
    poll_host *h = PyMem_RawCalloc(1, sizeof *h);

    if (h == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (pipe(h->pipe) < 0) {
        PyMem_RawFree(h);
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    for (int i = 0; i < 2; i++) {
        fcntl(h->pipe[i], F_SETFD, FD_CLOEXEC);
        fcntl(h->pipe[i], F_SETFL, O_NONBLOCK);
    }
    h->guest = args->guest;
    h->fd = -1;
    h->tail = &h->calls;
    *ret_host = h;
    return 0;
}

static void
poll_close(void *host)
{
    poll_host *h = host;
    queued_call *call;

    while ((call = h->calls) != NULL) {
        h->calls = call->next;
        PyMem_RawFree(call);
    }
    close(h->pipe[0]);
    close(h->pipe[1]);
    PyMem_RawFree(h);
}

static int
poll_watch(void *host, int fd, int on)
{
    ((poll_host *)host)->fd = on ? fd : -1;
    return 0;
}

static int
poll_again(void *host)
{
    ((poll_host *)host)->again = true;
    return 0;
}

static int
poll_post(void *host)
{
    /* A full pipe holds posts enough. */
    if (write(((poll_host *)host)->pipe[1], "", 1) < 0 && errno != EAGAIN) {
        return -errno;
    }
    return 0;
}

static int
poll_call(void *host, void (*fn)(void *), void *arg)
{
    poll_host *h = host;
    queued_call *call = PyMem_RawMalloc(sizeof *call);

    if (call == NULL) {
        return -ENOMEM;
    }
    *call = (queued_call){NULL, fn, arg};
    *h->tail = call;
    h->tail = &call->next;
    return 0;
}

static void
run_calls(poll_host *h)
{
    /* Those that are there now; each may run a nested loop, which then runs the rest. */
    queued_call *call, *last = NULL;

    for (call = h->calls; call != NULL; call = call->next) {
        last = call;
    }
    while ((call = h->calls) != NULL) {
        bool is_last = call == last;

        h->calls = call->next;
        if (h->calls == NULL) {
            h->tail = &h->calls;
        }
        call->fn(call->arg);
        PyMem_RawFree(call);
        if (is_last) {
            break;
        }
    }
}

/* Block, without the GIL, until the guest or a post is there. Returns poll(2)'s answer or -errno. */
static int
block(poll_host *h, int64_t deadline, bool *ret_posted)
{
    struct pollfd p[2] = {{.fd = h->pipe[0], .events = POLLIN}, {.fd = h->fd, .events = POLLIN}};
    struct timespec ts, *timeout = NULL;
    int n, err;

    if (deadline != AG_NEVER) {
        int64_t left = deadline - ag_clock();

        left = left > 0 ? left : 0;
        ts.tv_sec = (time_t)(left / 1000000000);
        ts.tv_nsec = (long)(left % 1000000000);
        timeout = &ts;
    }
    Py_BEGIN_ALLOW_THREADS
    n = ppoll(p, h->fd >= 0 ? 2 : 1, timeout, NULL);
    err = errno;
    Py_END_ALLOW_THREADS
    *ret_posted = false;
    if (n < 0) {
        return -err;
    }
    if (p[0].revents) {
        char buf[64];

        while (read(h->pipe[0], buf, sizeof buf) == (ssize_t)sizeof buf) {
        }
        *ret_posted = true;
    }
    return n;
}

static int
poll_run(void *host)
{
    poll_host *h = host;

    h->depth++;
    while (h->quit == 0) {
        int64_t deadline = 0;
        bool posted;
        int n;

        if (PyErr_CheckSignals() < 0) {
            h->depth--;
            return -1;
        }
        run_calls(h);
        if (h->quit) {
            break;
        }
        if (h->again || (h->fd >= 0 && ag_prepare_impl(h->guest, &deadline))) {
            h->again = false;
            ag_dispatch_impl(h->guest);
            continue;
        }
        if (h->calls != NULL) {
            deadline = 0;
        } else if (h->fd < 0) {
            /* Waiter strategy, or muted during a turn: a post ends the wait. */
            deadline = AG_NEVER;
        }
        n = block(h, deadline, &posted);
        if (n < 0 && n != -EINTR) {
            h->depth--;
            errno = -n;
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
        if (n > 0) {
            ag_dispatch_impl(h->guest);
        }
    }
    h->quit--;
    h->depth--;
    return 0;
}

static void
poll_quit(void *host)
{
    poll_host *h = host;

    if (h->quit < h->depth) {
        h->quit++;
    }
}

const ag_host_ops ag_poll_ops = {
    .abi = AG_ABI_VERSION,
    .caps = AG_HOST_WATCH | AG_HOST_PREPARE | AG_HOST_POST,
    .name = "poll",
    .open = poll_open,
    .close = poll_close,
    .watch = poll_watch,
    .again = poll_again,
    .post = poll_post,
    .call = poll_call,
    .run = poll_run,
    .quit = poll_quit,
};
