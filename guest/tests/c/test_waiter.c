/* The waiter: one post a park, no spinning, and a stop that always ends. */
#define _GNU_SOURCE
#include "ag_waiter.h"
#include "ag_test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#define MS INT64_C(1000000)

/* A host that counts what the waiter does. */
struct host {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    int began, posts, ended;
    int refuse;             /* so many posts fail first; -1: all */
    int order_wrong;        /* a post before begin or after end */
    sigset_t mask;          /* of the waiter's thread */
};

static void
on_begin(void *arg)
{
    struct host *h = arg;

    pthread_mutex_lock(&h->mutex);
    h->began++;
    pthread_sigmask(SIG_BLOCK, NULL, &h->mask);
    pthread_cond_broadcast(&h->cond);
    pthread_mutex_unlock(&h->mutex);
}

static int
on_post(void *arg)
{
    struct host *h = arg;
    int err = 0;

    pthread_mutex_lock(&h->mutex);
    h->order_wrong |= h->began != 1 || h->ended != 0;
    if (h->refuse != 0) {
        h->refuse -= h->refuse > 0;
        err = -EAGAIN;
    }
    h->posts++;
    pthread_cond_broadcast(&h->cond);
    pthread_mutex_unlock(&h->mutex);
    return err;
}

static void
on_end(void *arg)
{
    struct host *h = arg;

    pthread_mutex_lock(&h->mutex);
    h->ended++;
    pthread_mutex_unlock(&h->mutex);
}

static const ag_waiter_ops ops = {on_begin, on_post, on_end};

static void
host_init(struct host *h)
{
    *h = (struct host){0};
    pthread_mutex_init(&h->mutex, NULL);
    pthread_cond_init(&h->cond, NULL);
}

/* Wait until there were `n` posts (the test's own alarm bounds it). */
static void
wait_posts(struct host *h, int n)
{
    pthread_mutex_lock(&h->mutex);
    while (h->posts < n) {
        pthread_cond_wait(&h->cond, &h->mutex);
    }
    pthread_mutex_unlock(&h->mutex);
}

static int
posts(struct host *h)
{
    int n;

    pthread_mutex_lock(&h->mutex);
    n = h->posts;
    pthread_mutex_unlock(&h->mutex);
    return n;
}

/* Long enough for a thread that is ready to run to show it; for what must not happen. */
static void
settle(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 30 * MS}, NULL);
}

struct fixture {
    ag_waitset ws;
    struct host host;
    ag_waiter *waiter;
};

static void
start(struct fixture *f)
{
    host_init(&f->host);
    CHECK_EQ(ag_waitset_open(&f->ws), 0);
    CHECK_EQ(ag_waiter_start(&f->waiter, &f->ws, &ops, &f->host), 0);
    /* A fork right after this must not find a lock held that `begin` takes (gh-112275). */
    ag_waiter_await_begin(f->waiter);
    pthread_mutex_lock(&f->host.mutex);
    CHECK_EQ(f->host.began, 1);
    pthread_mutex_unlock(&f->host.mutex);
    CHECK_EQ(ag_waiter_stopping(f->waiter), 0);
}

static void
stop(struct fixture *f)
{
    ag_waiter_stop(f->waiter);
    CHECK_EQ(f->host.began, 1);
    CHECK_EQ(f->host.ended, 1);
    CHECK_EQ(f->host.order_wrong, 0);
    ag_waitset_close(&f->ws);
}

TEST(sleeps_until_the_first_park)
{
    struct fixture f;

    start(&f);
    ag_waitset_wake(&f.ws);
    settle();
    CHECK_EQ(posts(&f.host), 0);
    ag_waiter_park(f.waiter);
    wait_posts(&f.host, 1);
    stop(&f);
}

TEST(posts_once_for_each_park)
{
    struct fixture f;

    start(&f);
    ag_waitset_wake(&f.ws);
    for (int i = 1; i <= 50; i++) {
        /* The set stays readable all the time: without the park it would spin. */
        ag_waiter_park(f.waiter);
        wait_posts(&f.host, i);
        CHECK_EQ(posts(&f.host), i);
    }
    settle();
    CHECK_EQ(posts(&f.host), 50);
    stop(&f);
}

TEST(parked_twice_posts_once)
{
    struct fixture f;

    start(&f);
    /* Before the thread has run, perhaps, and certainly before the set is readable. */
    ag_waiter_park(f.waiter);
    settle();
    ag_waitset_wake(&f.ws);
    wait_posts(&f.host, 1);
    settle();
    CHECK_EQ(posts(&f.host), 1);
    stop(&f);
}

TEST(waits_for_the_set)
{
    struct fixture f;
    int64_t deadline = ag_clock() + 40 * MS;

    start(&f);
    CHECK_EQ(ag_waitset_arm(&f.ws, deadline), 0);
    ag_waiter_park(f.waiter);
    wait_posts(&f.host, 1);
    CHECK(ag_clock() >= deadline);
    stop(&f);
}

TEST(consumes_nothing)
{
    struct fixture f;

    start(&f);
    ag_waitset_wake(&f.ws);
    ag_waiter_park(f.waiter);
    wait_posts(&f.host, 1);
    CHECK_EQ(ag_waitset_drain(&f.ws), 1);
    stop(&f);
}

TEST(a_post_that_failed_is_tried_again)
{
    struct fixture f;

    start(&f);
    f.host.refuse = 4;
    ag_waitset_wake(&f.ws);
    ag_waiter_park(f.waiter);
    wait_posts(&f.host, 5);
    settle();
    CHECK_EQ(posts(&f.host), 5);
    stop(&f);
}

TEST(stops_while_asleep)
{
    struct fixture f;

    start(&f);
    stop(&f);
    CHECK_EQ(f.host.posts, 0);
}

TEST(stops_while_it_waits)
{
    struct fixture f;

    start(&f);
    ag_waiter_park(f.waiter);
    settle();
    stop(&f);
    CHECK_EQ(f.host.posts, 0);
}

TEST(stops_while_the_host_refuses_every_post)
{
    struct fixture f;
    int64_t begun;

    start(&f);
    f.host.refuse = -1;
    ag_waitset_wake(&f.ws);
    ag_waiter_park(f.waiter);
    wait_posts(&f.host, 6);     /* the pause is 64 ms by now, and grows */
    begun = ag_clock();
    stop(&f);
    CHECK(ag_clock() - begun < 5000 * MS);
}

TEST(signals_go_to_the_application)
{
    struct fixture f;

    start(&f);
    ag_waitset_wake(&f.ws);
    ag_waiter_park(f.waiter);
    wait_posts(&f.host, 1);
    CHECK_EQ(sigismember(&f.host.mask, SIGINT), 1);
    CHECK_EQ(sigismember(&f.host.mask, SIGCHLD), 1);
    stop(&f);
    pthread_sigmask(SIG_BLOCK, NULL, &f.host.mask);     /* ours is as it was */
    CHECK_EQ(sigismember(&f.host.mask, SIGINT), 0);
}

TEST(many_lives_leave_nothing)
{
    int fds = count_entries("/proc/self/fd"), threads = count_threads();

    for (int i = 0; i < 200; i++) {
        struct fixture f;

        start(&f);
        if (i % 2) {
            ag_waitset_wake(&f.ws);
        }
        ag_waiter_park(f.waiter);
        stop(&f);
    }
    CHECK_EQ(count_entries("/proc/self/fd"), fds);
    CHECK_THREADS(threads);
}

TEST(a_forked_child_forgets_it)
{
    struct fixture f;
    int status, fds = count_entries("/proc/self/fd");
    pid_t child;

    start(&f);
    ag_waiter_park(f.waiter);
    CHECK((child = fork()) >= 0);
    if (child == 0) {
        ag_waiter_forget(f.waiter);
        ag_waitset_close(&f.ws);
        CHECK_EQ(count_entries("/proc/self/fd"), fds);
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    ag_waitset_wake(&f.ws);                 /* and its parent goes on */
    wait_posts(&f.host, 1);
    stop(&f);
}
