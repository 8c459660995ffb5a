#define _GNU_SOURCE
#include "ag_waiter.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct ag_waiter {
    const ag_waitset *ws;
    const ag_waiter_ops *ops;
    void *arg;
    pthread_t thread;
    pthread_mutex_t mutex;      /* guards begun and parked */
    pthread_cond_t cond;        /* begun, parked or stopping has become true */
    int begun, parked;
    atomic_int stopping;
    int stop_fds[2];            /* readable end interrupts the wait, for good */
};

/* Sleep until parked, stopping or, with a deadline, that time. 1: go on, 0: stop. */
static int
sleep_until_parked(ag_waiter *w)
{
    int stopping;

    pthread_mutex_lock(&w->mutex);
    while (!w->parked && !atomic_load(&w->stopping)) {
        pthread_cond_wait(&w->cond, &w->mutex);
    }
    stopping = atomic_load(&w->stopping);
    w->parked = 0;
    pthread_mutex_unlock(&w->mutex);
    return !stopping;
}

/* A post that failed is tried again, behind a pause that a stop cuts short. */
static void
post(ag_waiter *w)
{
    int64_t pause = 1000000;

    while (!atomic_load(&w->stopping) && w->ops->post(w->arg) < 0) {
        struct timespec until;
        int64_t at;

        clock_gettime(CLOCK_MONOTONIC, &until);
        at = (int64_t)until.tv_sec * 1000000000 + until.tv_nsec + pause;
        until.tv_sec = (time_t)(at / 1000000000);
        until.tv_nsec = (long)(at % 1000000000);
        pthread_mutex_lock(&w->mutex);
        while (!atomic_load(&w->stopping)
               && pthread_cond_timedwait(&w->cond, &w->mutex, &until) != ETIMEDOUT) {
        }
        pthread_mutex_unlock(&w->mutex);
        pause = pause < 500000000 ? pause * 2 : 1000000000;
    }
}

static void *
waiter_main(void *arg)
{
    ag_waiter *w = arg;

    if (w->ops->begin != NULL) {
        w->ops->begin(w->arg);
    }
    pthread_mutex_lock(&w->mutex);
    w->begun = 1;
    pthread_cond_signal(&w->cond);          /* to ag_waiter_await_begin: nobody else waits yet */
    pthread_mutex_unlock(&w->mutex);
    while (sleep_until_parked(w)) {
        int ready;

        do {
            ready = ag_waitset_block(w->ws, w->stop_fds[0], INT64_MAX);
        } while (ready == -EINTR);
        if (ready & 2 && ready > 0) {
            break;
        }
        /* An error of the wait is posted too: the turn meets the same one and reports it. */
        post(w);
    }
    if (w->ops->end != NULL) {
        w->ops->end(w->arg);
    }
    return NULL;
}

int
ag_waiter_start(ag_waiter **ret_waiter, const ag_waitset *ws, const ag_waiter_ops *ops, void *arg)
{
    pthread_condattr_t attr;
    sigset_t all, old;
    ag_waiter *w;
    int err;

    w = calloc(1, sizeof *w);
    if (w == NULL) {
        return -ENOMEM;
    }
    w->ws = ws;
    w->ops = ops;
    w->arg = arg;
    atomic_init(&w->stopping, 0);
    if (pipe(w->stop_fds) < 0) {
        err = errno;
        free(w);
        return -err;
    }
    for (int i = 0; i < 2; i++) {
        fcntl(w->stop_fds[i], F_SETFD, FD_CLOEXEC);
    }
    pthread_mutex_init(&w->mutex, NULL);
    pthread_condattr_init(&attr);
#ifndef __APPLE__
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
#endif
    pthread_cond_init(&w->cond, &attr);
    pthread_condattr_destroy(&attr);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    err = pthread_create(&w->thread, NULL, waiter_main, w);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (err != 0) {
        ag_waiter_forget(w);
        return -err;
    }
#ifdef __linux__
    pthread_setname_np(w->thread, "asyncio-waiter");
#endif
    *ret_waiter = w;
    return 0;
}

void
ag_waiter_await_begin(ag_waiter *w)
{
    pthread_mutex_lock(&w->mutex);
    while (!w->begun) {
        pthread_cond_wait(&w->cond, &w->mutex);
    }
    pthread_mutex_unlock(&w->mutex);
}

void
ag_waiter_park(ag_waiter *w)
{
    pthread_mutex_lock(&w->mutex);
    if (!w->parked) {
        w->parked = 1;
        pthread_cond_signal(&w->cond);
    }
    pthread_mutex_unlock(&w->mutex);
}

int
ag_waiter_stopping(const ag_waiter *w)
{
    return atomic_load(&w->stopping);
}

void
ag_waiter_stop(ag_waiter *w)
{
    pthread_mutex_lock(&w->mutex);
    atomic_store(&w->stopping, 1);
    pthread_cond_broadcast(&w->cond);
    pthread_mutex_unlock(&w->mutex);
    while (write(w->stop_fds[1], "", 1) < 0 && errno == EINTR) {
    }
    pthread_join(w->thread, NULL);
    pthread_mutex_destroy(&w->mutex);
    pthread_cond_destroy(&w->cond);
    ag_waiter_forget(w);
}

void
ag_waiter_forget(ag_waiter *w)
{
    close(w->stop_fds[0]);
    close(w->stop_fds[1]);
    free(w);
}
