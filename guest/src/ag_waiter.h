/* ag_waiter.h - the thread that waits for hosts that cannot watch a descriptor.
 *
 * It waits for readiness only: it never dequeues an event and never touches the loop's
 * objects. (A thread that polls and hands over a list of events is wrong: between its return
 * and the turn the host may close a socket or reuse its number.) After one post it
 * sleeps until the turn parks it again, else it would spin.
 */
#ifndef AG_WAITER_H
#define AG_WAITER_H

#include "ag_waitset.h"

typedef struct ag_waiter ag_waiter;

typedef struct ag_waiter_ops {
    void (*begin)(void *arg);   /* on the waiter's thread, first; may be NULL */
    /* One post to the host, on the waiter's thread. 0 or -errno: tried again after a
     * pause that grows from 1 ms to 1 s, until it works or the waiter stops. */
    int  (*post)(void *arg);
    void (*end)(void *arg);     /* on the waiter's thread, last; may be NULL */
} ag_waiter_ops;

/* Start the thread, asleep until the first park. Signals are blocked in it, so that they go to
 * the threads of the application. 0 or -errno. */
int ag_waiter_start(ag_waiter **ret_waiter, const ag_waitset *ws, const ag_waiter_ops *ops, void *arg);

/* Sleep until ops->begin has returned. Before anything else is asked of the waiter; the caller must not hold anything
 * that begin needs (the GIL: tracemalloc takes it for a thread state's memory). */
void ag_waiter_await_begin(ag_waiter *waiter);

/* Wait for the set once more, then post. Any thread. Parking a parked waiter changes nothing. */
void ag_waiter_park(ag_waiter *waiter);

/* 1 once ag_waiter_stop has been called or begun. Any thread. */
int ag_waiter_stopping(const ag_waiter *waiter);

/* End the thread, join it and free. Not from the waiter's thread; the caller must not hold
 * anything that ops->post needs (the GIL). */
void ag_waiter_stop(ag_waiter *waiter);

/* In a forked child, where the thread does not exist: close and free, join nobody. */
void ag_waiter_forget(ag_waiter *waiter);

#endif
