/* What is there once a process, not once a guest, and why. Everything else hangs on a guest or on the
 * module's state. (The Tcl notifier of backends/tk is process-wide too: Tcl has one. The hooks for fork and
 * interpreter exit are registered in asyncio_guest._exit, once each.)
 *
 * The signal pipe. signal.set_wakeup_fd() is one setting for the process, and code that takes it over puts
 * the number that it found back later (PyGObject's MainLoop.run does). A number that was closed
 * meanwhile makes that raise out of the application's main loop, so the descriptor that guests set must
 * stay valid as long as the interpreters that have the module live. Only the main thread may set it, so one is enough. */
#define _GNU_SOURCE
#include "ag_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef SOCK_CLOEXEC
#define FLAGS (SOCK_CLOEXEC | SOCK_NONBLOCK)
#else
#define FLAGS 0
#endif

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    int users;      /* interpreters that have the module */
    pid_t pid;      /* a forked child shares the parent's and makes its own */
    int fds[2];     /* read, write */
} signal_pipe = {.fds = {-1, -1}};

int
ag_signal_pipe(int *ret_read, int *ret_write)
{
    int err = 0;

    pthread_mutex_lock(&lock);
    if (signal_pipe.pid != getpid()) {
        int fds[2];

        if (signal_pipe.fds[0] >= 0) {
            close(signal_pipe.fds[0]);
            close(signal_pipe.fds[1]);
            signal_pipe.fds[0] = signal_pipe.fds[1] = -1;
        }
        /* A socket, since that is what CPython expects on every system. */
        if (socketpair(AF_UNIX, SOCK_STREAM | FLAGS, 0, fds) < 0) {
            err = -errno;
        } else {
            for (int i = 0; i < 2; i++) {
                if (FLAGS == 0) {
                    fcntl(fds[i], F_SETFD, FD_CLOEXEC);
                    fcntl(fds[i], F_SETFL, O_NONBLOCK);
                }
                signal_pipe.fds[i] = fds[i];
            }
            signal_pipe.pid = getpid();
        }
    }
    if (err == 0) {
        *ret_read = signal_pipe.fds[0];
        *ret_write = signal_pipe.fds[1];
    }
    pthread_mutex_unlock(&lock);
    return err;
}

void
ag_signal_pipe_use(void)
{
    pthread_mutex_lock(&lock);
    signal_pipe.users++;
    pthread_mutex_unlock(&lock);
}

void
ag_signal_pipe_drop(void)
{
    pthread_mutex_lock(&lock);
    if (--signal_pipe.users == 0 && signal_pipe.fds[0] >= 0) {
        close(signal_pipe.fds[0]);
        close(signal_pipe.fds[1]);
        signal_pipe.fds[0] = signal_pipe.fds[1] = -1;
        signal_pipe.pid = 0;
    }
    pthread_mutex_unlock(&lock);
}
