/* The wait set: what makes the descriptor readable, when, and what does not.
 * Built once for each implementation that the system has (epoll; kqueue with AG_KQUEUE). */
#define _GNU_SOURCE
#include "ag_waitset.h"
#include "ag_test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#if !defined(AG_KQUEUE)
#include <sys/epoll.h>
#include <sys/timerfd.h>
#endif

#define MS INT64_C(1000000)

/* Readable now? */
static int
readable(const ag_waitset *ws)
{
    return ag_waitset_block(ws, -1, 0);
}

TEST(is_quiet_at_first)
{
    ag_waitset ws;

    CHECK_EQ(ag_waitset_open(&ws), 0);
    CHECK(ws.fd >= 0);
    CHECK_EQ(readable(&ws), 0);
    CHECK_EQ(ag_waitset_drain(&ws), 0);
    CHECK_EQ(ag_waitset_pending(&ws), 0);
    ag_waitset_close(&ws);
}

TEST(a_wake_makes_it_readable_once)
{
    ag_waitset ws;

    CHECK_EQ(ag_waitset_open(&ws), 0);
    CHECK_EQ(ag_waitset_wake(&ws), 1);
    CHECK_EQ(ag_waitset_wake(&ws), 0);
    CHECK_EQ(readable(&ws), 1);
    CHECK_EQ(readable(&ws), 1);             /* level-triggered */
    CHECK_EQ(ag_waitset_drain(&ws), 1);
    CHECK_EQ(readable(&ws), 0);
    CHECK_EQ(ag_waitset_drain(&ws), 0);
    CHECK_EQ(ag_waitset_wake(&ws), 1);      /* and again */
    CHECK_EQ(readable(&ws), 1);
    ag_waitset_close(&ws);
}

static void *
wake_later(void *arg)
{
    CHECK_EQ(ag_waitset_wake(arg), 1);
    return NULL;
}

TEST(a_wake_from_another_thread_ends_a_wait)
{
    ag_waitset ws;
    pthread_t thread;

    CHECK_EQ(ag_waitset_open(&ws), 0);
    CHECK_EQ(pthread_create(&thread, NULL, wake_later, &ws), 0);
    CHECK_EQ(ag_waitset_block(&ws, -1, INT64_MAX), 1);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    ag_waitset_close(&ws);
}

static ag_waitset *signalled;

static void
wake_from_handler(int number)
{
    (void)number;
    ag_waitset_wake(signalled);
}

TEST(a_wake_from_a_signal_handler_is_seen)
{
    ag_waitset ws;
    struct sigaction action = {.sa_handler = wake_from_handler};
    sigset_t block, old;
    int ready;

    CHECK_EQ(ag_waitset_open(&ws), 0);
    signalled = &ws;
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    sigemptyset(&block);
    sigaddset(&block, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &block, &old);
    CHECK_EQ(kill(getpid(), SIGUSR1), 0);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    do {
        ready = ag_waitset_block(&ws, -1, INT64_MAX);
    } while (ready == -EINTR);
    CHECK_EQ(ready, 1);
    ag_waitset_close(&ws);
}

TEST(a_deadline_in_the_past_is_due_at_once)
{
    const int64_t past[] = {ag_clock() - 1, 1, 0, -1, INT64_MIN};
    ag_waitset ws;

    CHECK_EQ(ag_waitset_open(&ws), 0);
    for (size_t i = 0; i < sizeof past / sizeof past[0]; i++) {
        CHECK_EQ(ag_waitset_arm(&ws, past[i]), 0);
        CHECK_EQ(ag_waitset_block(&ws, -1, ag_clock() + 5000 * MS), 1);
        CHECK_EQ(ag_waitset_arm(&ws, INT64_MAX), 0);
        CHECK_EQ(readable(&ws), 0);         /* disarming takes the expiry out */
    }
    ag_waitset_close(&ws);
}

TEST(a_deadline_is_not_early_and_comes)
{
    ag_waitset ws;
    int64_t deadline = ag_clock() + 30 * MS;

    CHECK_EQ(ag_waitset_open(&ws), 0);
    CHECK_EQ(ag_waitset_arm(&ws, deadline), 0);
    CHECK_EQ(ag_waitset_block(&ws, -1, INT64_MAX), 1);
    CHECK(ag_clock() >= deadline);
    CHECK_EQ(readable(&ws), 1);             /* until it is armed anew */
    CHECK_EQ(ag_waitset_arm(&ws, ag_clock() + 60000 * MS), 0);
    CHECK_EQ(readable(&ws), 0);
    ag_waitset_close(&ws);
}

TEST(the_last_deadline_counts)
{
    ag_waitset ws;
    int64_t now = ag_clock();

    CHECK_EQ(ag_waitset_open(&ws), 0);
    CHECK_EQ(ag_waitset_arm(&ws, now + 10 * MS), 0);
    CHECK_EQ(ag_waitset_arm(&ws, now + 60000 * MS), 0);
    CHECK_EQ(ag_waitset_block(&ws, -1, now + 40 * MS), 0);
    CHECK_EQ(ag_waitset_arm(&ws, now + 50 * MS), 0);
    CHECK_EQ(ag_waitset_block(&ws, -1, INT64_MAX), 1);
    CHECK(ag_clock() >= now + 50 * MS);
    CHECK_EQ(ag_waitset_arm(&ws, INT64_MAX), 0);
    CHECK_EQ(readable(&ws), 0);
    ag_waitset_close(&ws);
}

TEST(a_wait_ends_at_its_own_deadline)
{
    ag_waitset ws;
    int64_t deadline = ag_clock() + 20 * MS;

    CHECK_EQ(ag_waitset_open(&ws), 0);
    CHECK_EQ(ag_waitset_block(&ws, -1, deadline), 0);
    CHECK(ag_clock() >= deadline);
    ag_waitset_close(&ws);
}

TEST(a_wait_tells_the_other_descriptor_apart)
{
    ag_waitset ws;
    int other[2];

    CHECK_EQ(ag_waitset_open(&ws), 0);
    CHECK_EQ(pipe(other), 0);
    CHECK_EQ(ag_waitset_block(&ws, other[0], 0), 0);
    CHECK_EQ(write(other[1], "", 1), 1);
    CHECK_EQ(ag_waitset_block(&ws, other[0], INT64_MAX), 2);
    ag_waitset_wake(&ws);
    CHECK_EQ(ag_waitset_block(&ws, other[0], INT64_MAX), 3);
    close(other[0]);
    close(other[1]);
    ag_waitset_close(&ws);
}

TEST(the_descriptor_never_changes)
{
    ag_waitset ws;
    int fd;

    CHECK_EQ(ag_waitset_open(&ws), 0);
    fd = ws.fd;
    ag_waitset_wake(&ws);
    ag_waitset_drain(&ws);
    ag_waitset_arm(&ws, 1);
    ag_waitset_arm(&ws, INT64_MAX);
    CHECK_EQ(ws.fd, fd);
    CHECK(fcntl(ws.fd, F_GETFD) & FD_CLOEXEC);
    ag_waitset_close(&ws);
    CHECK_EQ(ws.fd, -1);
    ag_waitset_close(&ws);                  /* a closed set stays closed */
}

TEST(closing_leaves_no_descriptor)
{
    int before = count_entries("/proc/self/fd");

    for (int i = 0; i < 100; i++) {
        ag_waitset ws;

        CHECK_EQ(ag_waitset_open(&ws), 0);
        ag_waitset_wake(&ws);
        ag_waitset_arm(&ws, ag_clock() + 1000 * MS);
        ag_waitset_close(&ws);
    }
#if defined(AG_KQUEUE)
    /* libkqueue tidies up on a thread of its own; the alarm ends a wait for what never goes. */
    while (count_entries("/proc/self/fd") != before) {
        poll(NULL, 0, 1);
    }
#endif
    CHECK_EQ(count_entries("/proc/self/fd"), before);
}

/* The shared state of the test below. */
struct race {
    ag_waitset ws;
    atomic_uint produced;
};

enum { RACE_ROUNDS = 50000, RACE_THREADS = 2 };

static void *
race_produce(void *arg)
{
    struct race *race = arg;

    for (int i = 0; i < RACE_ROUNDS; i++) {
        atomic_fetch_add(&race->produced, 1);
        CHECK(ag_waitset_wake(&race->ws) >= 0);
    }
    return NULL;
}

TEST(no_wake_is_lost_between_wake_and_drain)
{
    struct race race;
    pthread_t threads[RACE_THREADS];
    unsigned seen = 0;

    atomic_init(&race.produced, 0);
    CHECK_EQ(ag_waitset_open(&race.ws), 0);
    for (int i = 0; i < RACE_THREADS; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, race_produce, &race), 0);
    }
    while (seen < RACE_ROUNDS * RACE_THREADS) {
        /* With work produced and not seen the set must be readable, now or in a moment. */
        CHECK_EQ(ag_waitset_block(&race.ws, -1, ag_clock() + 10000 * MS), 1);
        ag_waitset_drain(&race.ws);
        seen = atomic_load(&race.produced);
    }
    for (int i = 0; i < RACE_THREADS; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
    /* The last wake may have come after the last drain; once it is out the set is quiet. */
    ag_waitset_drain(&race.ws);
    CHECK_EQ(readable(&race.ws), 0);
    CHECK_EQ(ag_waitset_wake(&race.ws), 1);
    CHECK_EQ(readable(&race.ws), 1);
    ag_waitset_close(&race.ws);
}

/* A set with a pipe in it, as a selector has. libkqueue cannot nest its sets: there it is the pipe's descriptor itself. */
struct selector {
    int fd;
    int pipe[2];
};

static void
selector_open(struct selector *s)
{
    CHECK_EQ(pipe(s->pipe), 0);
#if defined(AG_KQUEUE)
    CHECK((s->fd = dup(s->pipe[0])) >= 0);
#else
    struct epoll_event ev = {.events = EPOLLIN, .data = {.fd = s->pipe[0]}};

    CHECK((s->fd = epoll_create1(EPOLL_CLOEXEC)) >= 0);
    CHECK_EQ(epoll_ctl(s->fd, EPOLL_CTL_ADD, s->pipe[0], &ev), 0);
#endif
}

static void
selector_close(struct selector *s)
{
    if (s->fd >= 0) {
        close(s->fd);
    }
    close(s->pipe[0]);
    close(s->pipe[1]);
}

#if !defined(AG_KQUEUE)
/* How many descriptors a set holds, as the kernel sees it. */
static int
registered(int epoll_fd)
{
    char path[64], line[256];
    FILE *info;
    int n = 0;

    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", epoll_fd);
    CHECK((info = fopen(path, "r")) != NULL);
    while (fgets(line, sizeof line, info) != NULL) {
        n += strncmp(line, "tfd:", 4) == 0;
    }
    fclose(info);
    return n;
}

#endif

TEST(an_event_of_the_selector_makes_it_readable)
{
    ag_waitset ws;
    struct selector s;
    char byte;

    selector_open(&s);
    CHECK_EQ(ag_waitset_open(&ws), 0);
    CHECK_EQ(ag_waitset_inner(&ws, s.fd), 0);
    CHECK_EQ(readable(&ws), 0);
    CHECK_EQ(ag_waitset_pending(&ws), 0);
    CHECK_EQ(write(s.pipe[1], "x", 1), 1);
    CHECK_EQ(ag_waitset_block(&ws, -1, INT64_MAX), 1);
    CHECK_EQ(ag_waitset_pending(&ws), 1);
    CHECK_EQ(ag_waitset_drain(&ws), 0);     /* an event is no wake, and is not consumed */
    CHECK_EQ(ag_waitset_pending(&ws), 1);
    CHECK_EQ(read(s.pipe[0], &byte, 1), 1);
    CHECK_EQ(readable(&ws), 0);
    CHECK_EQ(ag_waitset_pending(&ws), 0);
    ag_waitset_close(&ws);
    selector_close(&s);
}

#if !defined(AG_KQUEUE)
TEST(nothing_is_added_to_the_selectors_own_set)
{
    ag_waitset ws;
    struct selector s;
    struct epoll_event events[8];

    selector_open(&s);
    CHECK_EQ(ag_waitset_open(&ws), 0);
    CHECK_EQ(ag_waitset_inner(&ws, s.fd), 0);
    ag_waitset_wake(&ws);
    ag_waitset_arm(&ws, 1);
    CHECK_EQ(registered(s.fd), 1);
    CHECK_EQ(registered(ws.fd), 3);
    CHECK_EQ(epoll_wait(s.fd, events, 8, 0), 0);
    ag_waitset_close(&ws);
    CHECK_EQ(registered(s.fd), 1);
    selector_close(&s);
}

#endif

TEST(another_selector_replaces_the_first)
{
    ag_waitset ws;
    struct selector first, second;

    selector_open(&first);
    selector_open(&second);
    CHECK_EQ(ag_waitset_open(&ws), 0);
    CHECK_EQ(ag_waitset_inner(&ws, first.fd), 0);
    CHECK_EQ(ag_waitset_inner(&ws, second.fd), 0);
    CHECK_EQ(write(first.pipe[1], "x", 1), 1);
    CHECK_EQ(readable(&ws), 0);
    CHECK_EQ(ag_waitset_pending(&ws), 0);
    CHECK_EQ(write(second.pipe[1], "x", 1), 1);
    CHECK_EQ(readable(&ws), 1);
    CHECK_EQ(ag_waitset_inner(&ws, -1), 0);
    CHECK_EQ(readable(&ws), 0);
    ag_waitset_close(&ws);
    selector_close(&first);
    selector_close(&second);
}

TEST(a_selector_that_was_closed_is_replaced)
{
    ag_waitset ws;
    struct selector first, second;

    selector_open(&first);
    selector_open(&second);
    CHECK_EQ(ag_waitset_open(&ws), 0);
    CHECK_EQ(ag_waitset_inner(&ws, first.fd), 0);
    close(first.fd);
    first.fd = -1;
    CHECK_EQ(ag_waitset_inner(&ws, second.fd), 0);
    CHECK_EQ(write(second.pipe[1], "x", 1), 1);
    CHECK_EQ(readable(&ws), 1);
    ag_waitset_close(&ws);
    selector_close(&first);
    selector_close(&second);
}

TEST(an_event_of_the_selector_outlives_a_drain)
{
    ag_waitset ws;
    struct selector s;

    selector_open(&s);
    CHECK_EQ(ag_waitset_open(&ws), 0);
    CHECK_EQ(ag_waitset_inner(&ws, s.fd), 0);
    CHECK_EQ(ag_waitset_arm(&ws, 1), 0);
    CHECK_EQ(ag_waitset_wake(&ws), 1);
    CHECK_EQ(write(s.pipe[1], "x", 1), 1);
    CHECK_EQ(ag_waitset_drain(&ws), 1);     /* the wake only */
    CHECK_EQ(ag_waitset_arm(&ws, INT64_MAX), 0);
    CHECK_EQ(readable(&ws), 1);
    CHECK_EQ(ag_waitset_pending(&ws), 1);
    ag_waitset_close(&ws);
    selector_close(&s);
}

TEST(a_deadline_that_was_drained_can_be_set_again)
{
    const int64_t past[] = {INT64_MIN, 1};
    ag_waitset ws;

    CHECK_EQ(ag_waitset_open(&ws), 0);
    for (size_t i = 0; i < sizeof past / sizeof past[0]; i++) {
        CHECK_EQ(ag_waitset_arm(&ws, past[i]), 0);
        CHECK_EQ(ag_waitset_block(&ws, -1, INT64_MAX), 1);
        CHECK_EQ(ag_waitset_wake(&ws), 1);
        CHECK_EQ(ag_waitset_drain(&ws), 1);
        CHECK_EQ(ag_waitset_arm(&ws, past[i]), 0);
        CHECK_EQ(ag_waitset_block(&ws, -1, ag_clock() + 5000 * MS), 1);
    }
    ag_waitset_close(&ws);
}

#if !defined(AG_KQUEUE)
TEST(sets_nested_too_deeply_answer_eloop)
{
    ag_waitset ws;
    struct selector s;
    int chain[8], depth = 0, err = 0, fd;

    selector_open(&s);
    fd = s.fd;
    CHECK_EQ(ag_waitset_open(&ws), 0);
    while (depth < 8 && (err = ag_waitset_inner(&ws, fd)) == 0) {
        struct epoll_event ev = {.events = EPOLLIN};

        CHECK_EQ(ag_waitset_inner(&ws, -1), 0);
        CHECK((chain[depth] = epoll_create1(EPOLL_CLOEXEC)) >= 0);
        ev.data.fd = fd;
        if (epoll_ctl(chain[depth], EPOLL_CTL_ADD, fd, &ev) < 0) {
            CHECK_EQ(errno, ELOOP);
        }
        fd = chain[depth++];
    }
    CHECK_EQ(err, -ELOOP);
    CHECK(depth >= 1);
    CHECK_EQ(ws.inner_fd, -1);
    CHECK_EQ(ag_waitset_wake(&ws), 1);      /* the rest of the set is unharmed */
    CHECK_EQ(readable(&ws), 1);
    while (depth > 0) {
        close(chain[--depth]);
    }
    ag_waitset_close(&ws);
    selector_close(&s);
}

TEST(not_a_descriptor_is_an_error)
{
    ag_waitset ws;

    CHECK_EQ(ag_waitset_open(&ws), 0);
    CHECK_EQ(ag_waitset_inner(&ws, 100000), -EBADF);
    CHECK_EQ(ws.inner_fd, -1);
    ag_waitset_close(&ws);
}

TEST(the_same_deadline_makes_no_system_call)
{
    ag_waitset ws;
    const struct itimerspec none = {0};

    CHECK_EQ(ag_waitset_open(&ws), 0);
    CHECK_EQ(ag_waitset_arm(&ws, 1), 0);
    /* Disarmed behind its back, the timer would fire again if it were set. */
    CHECK_EQ(timerfd_settime(ws.timer_fd, 0, &none, NULL), 0);
    CHECK_EQ(ag_waitset_arm(&ws, 1), 0);
    CHECK_EQ(readable(&ws), 0);
    ag_waitset_close(&ws);
}

TEST(a_failed_open_leaves_nothing_open)
{
    struct rlimit old, tight;
    ag_waitset ws;
    int before = count_entries("/proc/self/fd"), probe = dup(0);

    CHECK(probe >= 0);
    close(probe);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
    for (int room = 0; room < 3; room++) {
        tight = (struct rlimit){(rlim_t)(probe + room), old.rlim_max};
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
        CHECK_EQ(ag_waitset_open(&ws), -EMFILE);
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
        CHECK_EQ(count_entries("/proc/self/fd"), before);
    }
}

TEST(a_forked_child_does_not_silence_its_parent)
{
    ag_waitset ws;
    struct selector s;
    int status;
    pid_t child;

    selector_open(&s);
    CHECK_EQ(ag_waitset_open(&ws), 0);
    CHECK_EQ(ag_waitset_inner(&ws, s.fd), 0);
    CHECK((child = fork()) >= 0);
    if (child == 0) {
        ag_waitset_close(&ws);
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK_EQ(registered(ws.fd), 3);
    CHECK_EQ(write(s.pipe[1], "x", 1), 1);
    CHECK_EQ(readable(&ws), 1);
    ag_waitset_close(&ws);
    selector_close(&s);
}
#endif
