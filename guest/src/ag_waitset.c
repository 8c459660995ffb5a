/* What the two wait sets have in common: the clock, and a look at the selector's descriptor, which poll(2) knows
 * about whatever the set is made of. */
#define _GNU_SOURCE
#include "ag_waitset.h"

#include <errno.h>
#include <poll.h>
#include <time.h>

#define NS_PER_S INT64_C(1000000000)

int64_t
ag_clock(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

int
ag_waitset_pending(const ag_waitset *ws)
{
    struct pollfd p = {.fd = ws->inner_fd, .events = POLLIN};
    int n;

    if (ws->inner_fd < 0) {
        return 0;
    }
    n = poll(&p, 1, 0);
    if (n < 0) {
        return errno == EINTR ? 0 : -errno;
    }
    return n > 0;
}
