/* libkqueue is not a kernel's kqueue: kqueue() returns the end of a pipe, by whose closing it learns of close(), and
 * poll() of that shows nothing. The real set is an epoll set of its own, which a thread closes some time after. These stand
 * before kqueue(), poll() and close() (the linker's --wrap), so that the wait set finds what it would find on macOS and
 * the BSDs: a descriptor that polls, and is gone when it is closed. */
#define _GNU_SOURCE
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_FD = 256 };

static int set_of[MAX_FD];      /* kqueue() -> the epoll set; 0: none */

int __real_poll(struct pollfd *fds, nfds_t n, int timeout);
int __real_kqueue(void);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap_kqueue(void);
int __real_close(int fd);
int __wrap_close(int fd);

static int
is_epoll_set(int fd)
{
    char path[32], target[64] = "";

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return readlink(path, target, sizeof target - 1) > 0 && strcmp(target, "anon_inode:[eventpoll]") == 0;
}

static void
epoll_sets(char found[MAX_FD])
{
    for (int fd = 0; fd < MAX_FD; fd++) {
        found[fd] = (char)is_epoll_set(fd);
    }
}

int
__wrap_kqueue(void)
{
    char before[MAX_FD], after[MAX_FD];
    int kq;

    epoll_sets(before);
    kq = __real_kqueue();
    epoll_sets(after);
    if (kq >= 0 && kq < MAX_FD) {
        set_of[kq] = 0;
        for (int fd = 1; fd < MAX_FD; fd++) {
            if (after[fd] && !before[fd]) {
                set_of[kq] = fd;
            }
        }
        if (set_of[kq] == 0) {
            abort();            /* another libkqueue than this was written for */
        }
    }
    return kq;
}

int
__wrap_close(int fd)
{
    int r = __real_close(fd);

    if (fd >= 0 && fd < MAX_FD && set_of[fd] != 0) {
        while (is_epoll_set(set_of[fd])) {
            __real_poll(NULL, 0, 1);
        }
        set_of[fd] = 0;
    }
    return r;
}

int
__wrap_poll(struct pollfd *fds, nfds_t n, int timeout)
{
    struct pollfd ours[2];
    int ready;

    if (n > 2) {
        abort();
    }
    for (nfds_t i = 0; i < n; i++) {
        ours[i] = fds[i];
        if (fds[i].fd >= 0 && fds[i].fd < MAX_FD && set_of[fds[i].fd] != 0) {
            ours[i].fd = set_of[fds[i].fd];
        }
    }
    ready = __real_poll(ours, n, timeout);
    for (nfds_t i = 0; i < n; i++) {
        fds[i].revents = ours[i].revents;
    }
    return ready;
}
