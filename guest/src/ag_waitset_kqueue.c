/* The wait set on macOS and the BSDs: a kqueue with the selector's descriptor, one EVFILT_TIMER
 * and one EVFILT_USER. On Linux it is compiled for its unit tests against libkqueue. */
#if defined(AG_KQUEUE) || !defined(__linux__)
#include "ag_waitset.h"

#include <sys/types.h>
#include <sys/event.h>
#include <sys/time.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#define WAKE_IDENT 1
#define TIMER_IDENT 2

static int
change(const ag_waitset *ws, uintptr_t ident, int filter, unsigned flags, unsigned fflags, int64_t data)
{
    struct kevent kev;

    EV_SET(&kev, ident, filter, flags, fflags, data, NULL);
    return kevent(ws->fd, &kev, 1, NULL, 0, NULL) < 0 ? -errno : 0;
}

/* Nanoseconds until a deadline; 0: it is past, however long. */
static int64_t
time_left(int64_t deadline)
{
    int64_t now = ag_clock();

    return deadline > now ? deadline - now : 0;
}

int
ag_waitset_open(ag_waitset *ws)
{
    int err;

    *ws = (ag_waitset){.fd = -1, .timer_fd = -1, .wake_fd = -1, .inner_fd = -1, .armed = INT64_MAX};
    atomic_init(&ws->woken, 0);
    if ((ws->fd = kqueue()) < 0) {
        return -errno;
    }
    if (fcntl(ws->fd, F_SETFD, FD_CLOEXEC) < 0) {
        err = -errno;
        ag_waitset_close(ws);
        return err;
    }
    if ((err = change(ws, WAKE_IDENT, EVFILT_USER, EV_ADD | EV_CLEAR, NOTE_FFNOP, 0)) < 0) {
        ag_waitset_close(ws);
        return err;
    }
    ws->pid = getpid();
    return 0;
}

void
ag_waitset_close(ag_waitset *ws)
{
    /* A kqueue is not inherited by fork: in the child the number may be somebody else's. */
    if (ws->fd >= 0 && ws->pid == getpid()) {
        close(ws->fd);
    }
    ws->fd = ws->inner_fd = -1;
}

int
ag_waitset_inner(ag_waitset *ws, int fd)
{
    int err;

    if (ws->inner_fd >= 0) {
        /* ENOENT and EBADF: the selector was closed, and the kernel has removed it. */
        (void)change(ws, (uintptr_t)ws->inner_fd, EVFILT_READ, EV_DELETE, 0, 0);
        ws->inner_fd = -1;
    }
    if (fd >= 0) {
        if ((err = change(ws, (uintptr_t)fd, EVFILT_READ, EV_ADD, 0, 0)) < 0) {
            return err;
        }
        ws->inner_fd = fd;
    }
    return 0;
}

int
ag_waitset_add(ag_waitset *ws, int fd)
{
    return change(ws, (uintptr_t)fd, EVFILT_READ, EV_ADD, 0, 0);
}

int
ag_waitset_arm(ag_waitset *ws, int64_t deadline)
{
    int err;

    if (deadline < 0) {
        deadline = 0;           /* INT64_MIN is drain's word for "fetched" */
    }
    if (deadline == ws->armed) {
        return 0;
    }
    if (ws->armed != INT64_MAX) {
        /* ENOENT: it has fired. */
        (void)change(ws, TIMER_IDENT, EVFILT_TIMER, EV_DELETE, 0, 0);
        ws->armed = INT64_MAX;
    }
    if (deadline != INT64_MAX) {
        /* Relative, since absolute timers of macOS count another clock. EV_ONESHOT, since a timer that is due already
         * would else fire for ever, as fast as the system can; it stays readable until somebody fetches it, and the only
         * one who does is drain, which sees that. */
        int64_t left = time_left(deadline);

        if ((err = change(ws, TIMER_IDENT, EVFILT_TIMER, EV_ADD | EV_ONESHOT, NOTE_NSECONDS, left > 0 ? left : 1)) < 0) {
            return err;
        }
        ws->armed = deadline;
    }
    return 0;
}

int
ag_waitset_wake(ag_waitset *ws)
{
    int err;

    if (atomic_exchange_explicit(&ws->woken, 1, memory_order_acq_rel)) {
        return 0;
    }
    err = change(ws, WAKE_IDENT, EVFILT_USER, 0, NOTE_TRIGGER, 0);
    return err < 0 ? err : 1;
}

int
ag_waitset_drain(ag_waitset *ws)
{
    struct timespec zero = {0, 0};
    struct kevent kev[4];       /* all that the set can hold: selector, signal pipe, timer, wake */
    int n, found = 0;

    if (!atomic_load_explicit(&ws->woken, memory_order_acquire)) {
        return 0;
    }
    n = kevent(ws->fd, NULL, 0, kev, 4, &zero);
    for (int i = 0; i < n; i++) {
        if (kev[i].filter == EVFILT_USER) {
            found = 1;          /* EV_CLEAR: fetching has reset it */
        } else if (kev[i].filter == EVFILT_TIMER) {
            ws->armed = INT64_MIN;      /* fetched too: the next arm sets it again */
        }
    }
    if (found) {
        /* The event first, then the flag, as in the epoll set, and for its reasons. */
        atomic_exchange_explicit(&ws->woken, 0, memory_order_acq_rel);
    }
    return found;
}

int
ag_waitset_block(const ag_waitset *ws, int other_fd, int64_t deadline)
{
    struct pollfd p[2] = {{.fd = ws->fd, .events = POLLIN}, {.fd = other_fd, .events = POLLIN}};
    int timeout = -1;
    int n;

    if (deadline != INT64_MAX) {
        int64_t left = time_left(deadline);

        /* Milliseconds, rounded up: the timer inside the set is the exact one. */
        timeout = left <= 0 ? 0 : left > INT64_C(86400000000000) ? 86400000 : (int)((left + 999999) / 1000000);
    }
    n = poll(p, other_fd >= 0 ? 2 : 1, timeout);
    if (n < 0) {
        return -errno;
    }
    return (p[0].revents ? 1 : 0) | (other_fd >= 0 && p[1].revents ? 2 : 0);
}
#else
typedef int ag_no_kqueue;   /* ISO C wants one declaration in a file */
#endif
