/* The wait set on Linux: an outer epoll set of ours that holds the selector's descriptor, a
 * timerfd and an eventfd.
 *
 * Nothing is ever added to the selector's own set: EpollSelector.select() sizes its
 * batch by the descriptors that it knows, so one unknown ready descriptor would
 * displace one of the loop's. */
#if defined(__linux__)
#define _GNU_SOURCE
#include "ag_waitset.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S INT64_C(1000000000)

static int
add(const ag_waitset *ws, int fd)
{
    struct epoll_event ev = {.events = EPOLLIN, .data = {.fd = fd}};

    return epoll_ctl(ws->fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

int
ag_waitset_open(ag_waitset *ws)
{
    int err;

    *ws = (ag_waitset){.fd = -1, .timer_fd = -1, .wake_fd = -1, .inner_fd = -1, .armed = INT64_MAX};
    atomic_init(&ws->woken, 0);
    if ((ws->fd = epoll_create1(EPOLL_CLOEXEC)) < 0
        || (ws->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)) < 0
        || (ws->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0) {
        err = -errno;
        goto fail;
    }
    if ((err = add(ws, ws->timer_fd)) < 0 || (err = add(ws, ws->wake_fd)) < 0) {
        goto fail;
    }
    ws->pid = getpid();
    return 0;

fail:
    ag_waitset_close(ws);
    return err;
}

void
ag_waitset_close(ag_waitset *ws)
{
    int *fds[] = {&ws->fd, &ws->timer_fd, &ws->wake_fd};

    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        if (*fds[i] >= 0) {
            close(*fds[i]);
            *fds[i] = -1;
        }
    }
    ws->inner_fd = -1;
}

int
ag_waitset_inner(ag_waitset *ws, int fd)
{
    int err;

    if (ws->inner_fd >= 0) {
        struct epoll_event ev = {0};

        /* ENOENT and EBADF: the selector was closed, and the kernel has removed it. */
        (void)epoll_ctl(ws->fd, EPOLL_CTL_DEL, ws->inner_fd, &ev);
        ws->inner_fd = -1;
    }
    if (fd >= 0) {
        if ((err = add(ws, fd)) < 0) {
            return err;
        }
        ws->inner_fd = fd;
    }
    return 0;
}

int
ag_waitset_add(ag_waitset *ws, int fd)
{
    return add(ws, fd);
}

int
ag_waitset_arm(ag_waitset *ws, int64_t deadline)
{
    struct itimerspec its = {0};

    if (deadline == ws->armed) {
        return 0;
    }
    if (deadline != INT64_MAX) {
        /* An it_value of zero disarms: the beginning of time becomes its first nanosecond. */
        int64_t at = deadline > 0 ? deadline : 1;

        its.it_value.tv_sec = (time_t)(at / NS_PER_S);
        its.it_value.tv_nsec = (long)(at % NS_PER_S);
    }
    /* Setting the timer also takes an expiry that nobody has read out of the set. */
    if (timerfd_settime(ws->timer_fd, TFD_TIMER_ABSTIME, &its, NULL) < 0) {
        return -errno;
    }
    ws->armed = deadline;
    return 0;
}

int
ag_waitset_wake(ag_waitset *ws)
{
    const uint64_t one = 1;

    if (atomic_exchange_explicit(&ws->woken, 1, memory_order_acq_rel)) {
        return 0;
    }
    if (write(ws->wake_fd, &one, sizeof one) < 0 && errno != EAGAIN) {
        return -errno;
    }
    return 1;
}

int
ag_waitset_drain(ag_waitset *ws)
{
    uint64_t count;

    if (!atomic_load_explicit(&ws->woken, memory_order_acquire)) {
        return 0;
    }
    /* The flag is up exactly while one write is in the descriptor or on its way there. If it is on its way
     * the flag stays up: the write makes the set readable in a moment, and the next drain takes it. */
    if (read(ws->wake_fd, &count, sizeof count) < 0) {
        return 0;
    }
    /* The descriptor first, then the flag: the other order lets a wake put its write between the two, where the
     * read takes it, and leaves a flag without a write, which silences every wake to come. A wake that comes
     * between the two in this order is served by the caller, who looks for work after the drain. */
    atomic_exchange_explicit(&ws->woken, 0, memory_order_acq_rel);
    return 1;
}

int
ag_waitset_block(const ag_waitset *ws, int other_fd, int64_t deadline)
{
    struct pollfd p[2] = {{.fd = ws->fd, .events = POLLIN}, {.fd = other_fd, .events = POLLIN}};
    struct timespec ts, *timeout = NULL;
    int n;

    if (deadline != INT64_MAX) {
        int64_t now = ag_clock(), left = deadline > now ? deadline - now : 0;

        ts.tv_sec = (time_t)(left / NS_PER_S);
        ts.tv_nsec = (long)(left % NS_PER_S);
        timeout = &ts;
    }
    n = ppoll(p, other_fd >= 0 ? 2 : 1, timeout, NULL);
    if (n < 0) {
        return -errno;
    }
    return (p[0].revents ? 1 : 0) | (other_fd >= 0 && p[1].revents ? 2 : 0);
}
#else
typedef int ag_no_epoll;    /* ISO C wants one declaration in a file */
#endif
