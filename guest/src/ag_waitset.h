/* ag_waitset.h - the descriptor that wakes a host: a selector's own descriptor, a timer and a
 * wake from anywhere, folded into one.
 *
 * Two implementations behind the same functions: epoll with a timerfd and an eventfd
 * (ag_waitset_epoll.c), kqueue with EVFILT_TIMER and EVFILT_USER (ag_waitset_kqueue.c).
 * Nothing here knows Python.
 */
#ifndef AG_WAITSET_H
#define AG_WAITSET_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct ag_waitset {
    int fd;             /* the descriptor; never changes between open and close */
    int timer_fd;       /* epoll only */
    int wake_fd;        /* epoll only */
    int inner_fd;       /* the selector's, watched but not owned; -1: none */
    int64_t armed;      /* the deadline that the timer is set to, INT64_MAX: none */
    atomic_int woken;   /* a wake is in the set and has not been drained */
    pid_t pid;          /* kqueue: not inherited by fork */
} ag_waitset;

/* CLOCK_MONOTONIC, ns. Any thread. */
int64_t ag_clock(void);

/* 0 or -errno; nothing is open on failure. */
int ag_waitset_open(ag_waitset *ws);

/* Closes what open made; a closed set stays closed. In a forked child too: nothing
 * is unregistered, since the set is shared with the parent. */
void ag_waitset_close(ag_waitset *ws);

/* Watch the selector's descriptor instead of the one before; -1 for none.
 * 0 or -errno; -ELOOP: nested deeper than the kernel allows. */
int ag_waitset_inner(ag_waitset *ws, int fd);

/* Watch a further descriptor, level-triggered, until the set is closed. 0 or -errno. */
int ag_waitset_add(ag_waitset *ws, int fd);

/* Become readable at `deadline` (absolute ns; in the past: at once; INT64_MAX: never). Makes no
 * system call when nothing changes. Host thread. 0 or -errno. */
int ag_waitset_arm(ag_waitset *ws, int64_t deadline);

/* Become readable now. Any thread, async-signal-safe. 1: it was asleep; 0: a wake
 * was in the set already; -errno. */
int ag_waitset_wake(ag_waitset *ws);

/* Take the wakes out. Host thread. 1: there was one. */
int ag_waitset_drain(ag_waitset *ws);

/* Has the selector an event now? 1, 0 or -errno. Never blocks. */
int ag_waitset_pending(const ag_waitset *ws);

/* Block until the set or `other_fd` (-1: none) is readable or `deadline` (absolute ns) has come.
 * Bit 0: the set, bit 1: other_fd; 0: deadline; -errno (-EINTR included). */
int ag_waitset_block(const ag_waitset *ws, int other_fd, int64_t deadline);

#endif
