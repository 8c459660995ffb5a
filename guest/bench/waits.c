/* Counts how often a process blocks in its main loop: preloaded into a process that is counted, never into one
 * that is timed. A call that may block (poll, select, epoll_wait with a timeout that is not zero) is one wait,
 * whoever makes it: the host's loop, a waiter thread, or plain asyncio's selector. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))

static atomic_uint_fast64_t blocking;

EXPORT uint64_t ag_waits_blocking(void);

/* The number of waits so far. Any thread. */
EXPORT uint64_t
ag_waits_blocking(void)
{
    return atomic_load_explicit(&blocking, memory_order_relaxed);
}

static void
count(int may_block)
{
    if (may_block) {
        atomic_fetch_add_explicit(&blocking, 1, memory_order_relaxed);
    }
}

/* The C library's own function; looked up once, and idempotent where two threads race for it. */
#define REAL(name) \
    static __typeof__(&name) real; \
    if (real == NULL) { \
        *(void **)&real = dlsym(RTLD_NEXT, #name); \
    }

EXPORT int
poll(struct pollfd *fds, nfds_t n, int timeout)
{
    REAL(poll)
    count(timeout != 0);
    return real(fds, n, timeout);
}

EXPORT int
ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
    REAL(ppoll)
    count(timeout == NULL || timeout->tv_sec != 0 || timeout->tv_nsec != 0);
    return real(fds, n, timeout, mask);
}

EXPORT int
select(int n, fd_set *in, fd_set *out, fd_set *err, struct timeval *timeout)
{
    REAL(select)
    count(timeout == NULL || timeout->tv_sec != 0 || timeout->tv_usec != 0);
    return real(n, in, out, err, timeout);
}

EXPORT int
pselect(int n, fd_set *in, fd_set *out, fd_set *err, const struct timespec *timeout, const sigset_t *mask)
{
    REAL(pselect)
    count(timeout == NULL || timeout->tv_sec != 0 || timeout->tv_nsec != 0);
    return real(n, in, out, err, timeout, mask);
}

EXPORT int
epoll_wait(int fd, struct epoll_event *events, int n, int timeout)
{
    REAL(epoll_wait)
    count(timeout != 0);
    return real(fd, events, n, timeout);
}

EXPORT int
epoll_pwait(int fd, struct epoll_event *events, int n, int timeout, const sigset_t *mask)
{
    REAL(epoll_pwait)
    count(timeout != 0);
    return real(fd, events, n, timeout, mask);
}
