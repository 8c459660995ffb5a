/* ag_test.h - as much of a test framework as the C unit tests need.
 *
 * A program made of TEST()s runs all of them, the named ones, or lists them with --list. A test
 * that misses an expectation says where and ends the program with status 1; each test also has
 * 20 seconds, so that a lost wake is a failure and not a hang.
 */
#ifndef AG_TEST_H
#define AG_TEST_H

#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define AG_TEST_MAX 64

static struct { const char *name; void (*run)(void); } ag_tests[AG_TEST_MAX];
static size_t ag_n_tests;
static const char *ag_current = "?";

#define TEST(test) \
    static void test(void); \
    __attribute__((constructor)) static void register_##test(void) \
    { \
        if (ag_n_tests == AG_TEST_MAX) { \
            abort(); \
        } \
        ag_tests[ag_n_tests].name = #test; \
        ag_tests[ag_n_tests++].run = test; \
    } \
    static void test(void)

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s: not true: %s\n", __FILE__, __LINE__, ag_current, #condition); \
            _exit(1); \
        } \
    } while (0)

#define CHECK_EQ(left, right) \
    do { \
        intmax_t left_ = (intmax_t)(left), right_ = (intmax_t)(right); \
        if (left_ != right_) { \
            fprintf(stderr, "%s:%d: %s: %s is %" PRIdMAX ", not %" PRIdMAX "\n", \
                    __FILE__, __LINE__, ag_current, #left, left_, right_); \
            _exit(1); \
        } \
    } while (0)

/* How many entries a folder of /proc has: open descriptors, threads. */
__attribute__((unused)) static int
count_entries(const char *folder)
{
    DIR *dir = opendir(folder);
    int n = 0;

    CHECK(dir != NULL);
    while (readdir(dir) != NULL) {
        n++;
    }
    closedir(dir);
    return n;
}

static void *
ag_tell_id(void *arg)
{
    snprintf(arg, 64, "/proc/self/task/%ld", syscall(SYS_gettid));
    return arg;
}

/* The threads of this process, after one was made, joined and gone: ThreadSanitizer starts its own beside the first. */
__attribute__((unused)) static int
count_threads(void)
{
    char folder[64];
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, ag_tell_id, folder) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    while (access(folder, F_OK) == 0) {
        usleep(1000);
    }
    return count_entries("/proc/self/task");
}

/* A thread that was joined may be in /proc for a moment yet: wait until there are exactly `wanted`, at most the test's
 * 20 seconds. */
#define CHECK_THREADS(wanted) \
    do { \
        for (int tries_ = 0; count_entries("/proc/self/task") != (wanted) && tries_ < 1000; tries_++) { \
            usleep(10000); \
        } \
        CHECK_EQ(count_entries("/proc/self/task"), (wanted)); \
    } while (0)

int
main(int argc, char **argv)
{
    int ran = 0;

    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (size_t i = 0; i < ag_n_tests; i++) {
            puts(ag_tests[i].name);
        }
        return 0;
    }
    for (size_t i = 0; i < ag_n_tests; i++) {
        int wanted = argc == 1;

        for (int j = 1; j < argc; j++) {
            wanted |= strcmp(argv[j], ag_tests[i].name) == 0;
        }
        if (!wanted) {
            continue;
        }
        ag_current = ag_tests[i].name;
        alarm(20);
        ag_tests[i].run();
        alarm(0);
        ran++;
        printf("ok %s\n", ag_current);
    }
    return ran == 0;
}

#endif
