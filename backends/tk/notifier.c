/* notifier.c - see notifier.h.
 *
 * Process-wide state, and why: Tcl has one set of notifier hooks per process (`installed`), threads alert
 * each other through a handle that outlives its thread (`states`, `states_lock`), and a forked child must
 * not share its parent's epoll set (`forks`).
 *
 * How it is known that installing is safe. Hooks replace Tcl's notifier for every later call, but a file
 * handler made before stays in the old notifier's list and is silent from then on: after any Tk(), even
 * a destroyed one, that is the connection to the X server. So the list itself is read. Its head is the first
 * word of the thread's notifier data, which Tcl_InitNotifier() returns; nodes are {fd, mask,
 * ready mask, proc, data, next}. This is no public interface, so it is proved before it is used: a handler
 * made with Tcl_CreateFileHandler() must appear as the new head with exactly its values and the old head behind it,
 * and be gone after Tcl_DeleteFileHandler(). Memory is read through a pipe, which answers EFAULT where a
 * pointer would crash. The proof fails under somebody else's notifier (its handlers are not in that list)
 * and under a Tcl with another layout; then nothing is installed. What is found is moved by
 * public calls: deleted before the hooks are set, created again after.
 */
#define _GNU_SOURCE
#include "notifier.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

#define ALERT UINT64_MAX            /* epoll data of the eventfd; handlers use their descriptor */
#define MAX_EVENTS 64
#define MAX_MOVED 4096              /* a longer list is a ring or no list at all */

typedef struct handler {
    int fd;
    int mask;                       /* TCL_READABLE, ... that the owner wants */
    int ready;                      /* seen since the last service */
    int queued;                     /* an event for it is in Tcl's queue */
    int in_set;                     /* known to the epoll set, ... */
    int set_mask;                   /* ... which reports these; more than `mask` if not yet put right */
    int always;                     /* a regular file: epoll refuses it, select calls it ready */
    Tcl_FileProc *proc;
    ClientData data;
    struct handler *next;
} handler;

/* One for each thread that runs Tcl, and the handle by which Tcl alerts it. Never freed: Tcl keeps the handle of a
 * thread that ended, and takes the next thread of the same id for it; then the state serves again. */
typedef struct state {
    struct state *next;
    ClientData alias;               /* handle of a thread that Tcl knew before we came */
    int alive;
    int forgotten;                  /* by Tcl too: free for any thread */
    int epfd, evfd;
    atomic_int alerted;
    unsigned forks;                 /* value of `forks` when the descriptors were made */
    int n_always;
    handler *handlers;
} state;

typedef struct file_event {
    Tcl_Event header;
    int fd;
} file_event;

static pthread_mutex_t states_lock = PTHREAD_MUTEX_INITIALIZER;
static state *states;
static pthread_key_t thread_end;
static atomic_uint forks;
static int installed;

static _Thread_local state *mine;
static _Thread_local ClientData *learning;  /* where the next alert puts its handle instead of waking anybody */

/* ------------------------------------------------------------------------------------------------- states */

static void
state_close(state *s)
{
    if (s->epfd >= 0) {
        close(s->epfd);
    }
    if (s->evfd >= 0) {
        close(s->evfd);
    }
    s->epfd = s->evfd = -1;
}

static int
state_open(state *s)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = ALERT};

    s->forks = atomic_load(&forks);
    s->epfd = epoll_create1(EPOLL_CLOEXEC);
    s->evfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->epfd < 0 || s->evfd < 0 || epoll_ctl(s->epfd, EPOLL_CTL_ADD, s->evfd, &ev) < 0) {
        int err = errno;
        state_close(s);
        return -err;
    }
    /* Whoever alerted this thread before it could be reached: look at the queue before the first sleep. */
    atomic_store(&s->alerted, 1);
    eventfd_write(s->evfd, 1);
    return 0;
}

/* The thread is over (also as its pthread destructor): give the descriptors back. */
static void
state_end(void *arg)
{
    state *s = arg;

    pthread_mutex_lock(&states_lock);
    s->alive = 0;
    state_close(s);
    /* Under the lock too: the next thread that Tcl takes for this one is given the same state. */
    while (s->handlers != NULL) {
        handler *h = s->handlers;
        s->handlers = h->next;
        free(h);
    }
    s->n_always = 0;
    pthread_mutex_unlock(&states_lock);
    mine = NULL;
}

/* A state for this thread: the one that Tcl already calls `handle`, one that Tcl has forgotten, or a new one. */
static state *
state_new(ClientData handle)
{
    state *s;

    pthread_mutex_lock(&states_lock);
    for (s = states; s != NULL; s = s->next) {
        if (handle != NULL ? s == handle || s->alias == handle : s->forgotten) {
            break;
        }
    }
    if (s == NULL && (s = calloc(1, sizeof *s)) != NULL) {
        s->epfd = s->evfd = -1;
        s->alias = handle;
        s->next = states;
        states = s;
    }
    int err = s == NULL ? -ENOMEM : state_open(s);
    if (err == 0) {
        s->alive = 1;
        s->forgotten = 0;
    }
    pthread_mutex_unlock(&states_lock);
    if (err < 0) {
        Tcl_Panic("asyncio-guest notifier: %s", strerror(-err));
    }
    pthread_setspecific(thread_end, s);
    return s;
}

static void set_register(state *s, handler *h);

/* New descriptors for the same handlers: after fork (the set is shared with the parent), or when the set
 * reports a descriptor that was closed without a word and lives on as a duplicate. */
static void
state_rebuild(state *s)
{
    pthread_mutex_lock(&states_lock);
    state_close(s);
    int err = state_open(s);
    pthread_mutex_unlock(&states_lock);
    if (err < 0) {
        Tcl_Panic("asyncio-guest notifier: %s", strerror(-err));
    }
    for (handler *h = s->handlers; h != NULL; h = h->next) {
        h->in_set = 0;
        set_register(s, h);
    }
}

static state *
current(void)
{
    if (mine == NULL) {
        /* Tcl knew this thread before the hooks were set: alerts come under a handle that only Tcl can tell. */
        ClientData handle = NULL;
        learning = &handle;
        Tcl_ThreadAlert(Tcl_GetCurrentThread());
        learning = NULL;
        mine = state_new(handle);
    }
    if (mine->forks != atomic_load_explicit(&forks, memory_order_relaxed)) {
        state_rebuild(mine);
    }
    return mine;
}

/* In the child: only the thread that forked is left. Its own set is made anew at its next call. */
static void
forked(void)
{
    pthread_mutex_init(&states_lock, NULL);
    for (state *s = states; s != NULL; s = s->next) {
        if (s != mine && s->alive) {
            s->alive = 0;
            state_close(s);
        }
    }
    atomic_fetch_add(&forks, 1);
}

/* -------------------------------------------------------------------------------------------- file handlers */

static handler *
find(state *s, int fd)
{
    handler *h = s->handlers;
    while (h != NULL && h->fd != fd) {
        h = h->next;
    }
    return h;
}

/* Make the epoll set agree with h->mask. */
static void
set_register(state *s, handler *h)
{
    struct epoll_event ev = {.data.u64 = (uint64_t)h->fd};

    ev.events = ((h->mask & TCL_READABLE) ? EPOLLIN : 0u) | ((h->mask & TCL_WRITABLE) ? EPOLLOUT : 0u) |
                ((h->mask & TCL_EXCEPTION) ? EPOLLPRI : 0u);
    if (h->always) {
        h->always = 0;
        s->n_always--;
    }
    if (ev.events == 0) {
        if (h->in_set) {
            epoll_ctl(s->epfd, EPOLL_CTL_DEL, h->fd, NULL);
            h->in_set = 0;
        }
        h->set_mask = 0;
        return;
    }
    int done = h->in_set ? epoll_ctl(s->epfd, EPOLL_CTL_MOD, h->fd, &ev) : -1;
    if (done < 0) {
        done = epoll_ctl(s->epfd, EPOLL_CTL_ADD, h->fd, &ev);
        if (done < 0 && errno == EEXIST) {
            done = epoll_ctl(s->epfd, EPOLL_CTL_MOD, h->fd, &ev);
        }
    }
    h->in_set = done == 0;
    h->set_mask = h->mask;
    if (done < 0 && errno == EPERM) {
        h->always = 1;
        s->n_always++;
    }
}

static void
create_file_handler(int fd, int mask, Tcl_FileProc *proc, ClientData data)
{
    state *s = current();
    handler *h = find(s, fd);

    if (h == NULL) {
        h = calloc(1, sizeof *h);
        if (h == NULL) {
            Tcl_Panic("asyncio-guest notifier: out of memory");
        }
        h->fd = fd;
        h->next = s->handlers;
        s->handlers = h;
    }
    h->proc = proc;
    h->data = data;
    h->mask = mask;
    /* Wanting less is put right when it matters: a handler that is switched off and on again costs no system call. */
    if (!h->in_set || (mask & ~h->set_mask)) {
        set_register(s, h);
    }
}

static void
delete_file_handler(int fd)
{
    state *s = current();

    for (handler **link = &s->handlers; *link != NULL; link = &(*link)->next) {
        handler *h = *link;
        if (h->fd == fd) {
            h->mask = 0;
            set_register(s, h);
            *link = h->next;
            free(h);
            return;
        }
    }
}

static int
file_event_proc(Tcl_Event *event, int flags)
{
    if (!(flags & TCL_FILE_EVENTS)) {
        return 0;
    }
    /* By number, not by pointer: the handler may be gone, or be another one by now. */
    handler *h = find(current(), ((file_event *)event)->fd);
    if (h != NULL) {
        int ready = h->ready & h->mask;
        h->ready = 0;
        h->queued = 0;
        if (ready) {
            h->proc(h->data, ready);
        }
    }
    return 1;
}

static void
set_ready(handler *h, int ready)
{
    h->ready |= ready;
    if (!h->queued) {
        file_event *event = (file_event *)Tcl_Alloc(sizeof *event);
        event->header.proc = file_event_proc;
        event->fd = h->fd;
        h->queued = 1;
        Tcl_QueueEvent(&event->header, TCL_QUEUE_TAIL);
    }
}

/* ------------------------------------------------------------------------------------------------ the wait */

/* epoll_wait with a timeout in microseconds (NULL: for ever), rounded up where the kernel knows only ms. */
static int
wait_set(int epfd, struct epoll_event *events, const Tcl_Time *timeout)
{
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 35)
    static atomic_int missing;      /* a kernel before 5.11 */
    if (timeout != NULL && timeout->usec % 1000 != 0 && !atomic_load_explicit(&missing, memory_order_relaxed)) {
        struct timespec ts = {.tv_sec = timeout->sec, .tv_nsec = timeout->usec * 1000};
        int n = epoll_pwait2(epfd, events, MAX_EVENTS, &ts, NULL);
        if (n >= 0 || errno != ENOSYS) {
            return n;
        }
        atomic_store(&missing, 1);
    }
#endif
    int ms = -1;
    if (timeout != NULL) {
        ms = timeout->sec > INT_MAX / 1000 - 1 ? INT_MAX : (int)(timeout->sec * 1000 + (timeout->usec + 999) / 1000);
    }
    return epoll_wait(epfd, events, MAX_EVENTS, ms);
}

static int
wait_for_event(CONST86 Tcl_Time *timeout)
{
    static const Tcl_Time zero = {0, 0};
    struct epoll_event events[MAX_EVENTS];
    state *s = current();
    int stray = 0;

    int n = wait_set(s->epfd, events, s->n_always ? &zero : timeout);
    if (n < 0) {
        /* Interrupted by a signal: 1 makes Tcl_DoOneEvent return, so that its caller looks at signals. */
        return errno == EINTR ? 1 : -1;
    }
    for (int i = 0; i < n; i++) {
        if (events[i].data.u64 == ALERT) {
            eventfd_t count;
            eventfd_read(s->evfd, &count);
            atomic_store(&s->alerted, 0);   /* what was queued before is seen by our caller, who looks next */
            continue;
        }
        handler *h = find(s, (int)events[i].data.u64);
        if (h == NULL || !h->in_set) {
            stray = 1;
            continue;
        }
        uint32_t got = events[i].events;
        int ready = 0;
        if (got & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
            ready |= TCL_READABLE;
        }
        if (got & (EPOLLOUT | EPOLLERR)) {
            ready |= TCL_WRITABLE;
        }
        if (got & EPOLLPRI) {
            ready |= TCL_EXCEPTION;
        }
        ready &= h->mask;
        if (ready) {
            set_ready(h, ready);
        } else if (h->mask != h->set_mask) {
            /* Unwanted by now. It would spoil a sleep; a look with no sleep it does not harm. */
            if (timeout == NULL || timeout->sec != 0 || timeout->usec != 0) {
                set_register(s, h);
            }
        } else {
            /* A hang-up comes unasked and for ever: whoever waits for anything on this descriptor is told. */
            set_ready(h, h->mask);
        }
    }
    if (s->n_always) {
        for (handler *h = s->handlers; h != NULL; h = h->next) {
            if (h->always) {
                set_ready(h, h->mask & (TCL_READABLE | TCL_WRITABLE));
            }
        }
    }
    if (stray) {
        state_rebuild(s);
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------- the other hooks */

static void
set_timer(CONST86 Tcl_Time *timeout)
{
    (void)timeout;                  /* timeouts come as the argument of wait_for_event */
}

static void
service_mode(int mode)
{
    (void)mode;                     /* there is no second thread to be started */
}

static ClientData
init_notifier(void)
{
    if (mine == NULL) {
        mine = state_new(NULL);
    }
    return mine->alias != NULL ? mine->alias : (ClientData)mine;
}

static void
finalize_notifier(ClientData handle)
{
    state *s = mine;
    (void)handle;
    if (s != NULL) {
        pthread_setspecific(thread_end, NULL);
        state_end(s);
        pthread_mutex_lock(&states_lock);
        s->alias = NULL;
        s->forgotten = 1;
        pthread_mutex_unlock(&states_lock);
    }
}

static void
alert_notifier(ClientData handle)
{
    if (learning != NULL) {
        *learning = handle;
        return;
    }
    pthread_mutex_lock(&states_lock);
    for (state *s = states; s != NULL; s = s->next) {
        if (s->alive && (s == handle || s->alias == handle)) {
            if (!atomic_exchange(&s->alerted, 1)) {
                eventfd_write(s->evfd, 1);
            }
            break;
        }
    }
    pthread_mutex_unlock(&states_lock);
}

/* ------------------------------------------------------------------------------------------------- install */

/* A node of the list of Tcl 8.6's own notifier. */
typedef struct tcl_handler {
    int fd;
    int mask;
    int ready;
    Tcl_FileProc *proc;
    ClientData data;
    struct tcl_handler *next;
} tcl_handler;

/* Copy memory that may not be there: 0 or -errno. */
static int
peek(int pipefd[2], const void *from, void *to, size_t size)
{
    ssize_t n = write(pipefd[1], from, size);
    if (n < 0) {
        return -errno;
    }
    return n == (ssize_t)size && read(pipefd[0], to, size) == (ssize_t)size ? 0 : -EFAULT;
}

static void
probe_proc(ClientData data, int mask)
{
    (void)data;
    (void)mask;
}

/* Prove the layout and read the list into *ret_list (malloc'ed): its length, or -errno. */
static int
read_list(tcl_handler **ret_list)
{
    tcl_handler node, *head = NULL, *with = NULL, *after = NULL, *list = NULL;
    int pipefd[2] = {-1, -1}, probe = -1, n = 0, err = 0;
    /* For Tcl's own notifier this only returns the thread's data and counts one user more. */
    void *data = Tcl_InitNotifier();

    if (pipe2(pipefd, O_CLOEXEC | O_NONBLOCK) < 0 || (probe = eventfd(0, EFD_CLOEXEC)) < 0) {
        err = -errno;
        goto done;
    }
    if (probe >= FD_SETSIZE) {
        err = -EMFILE;              /* Tcl's own notifier would write past its descriptor sets */
        goto done;
    }
    if ((err = peek(pipefd, data, &head, sizeof head)) < 0) {
        goto done;
    }
    Tcl_CreateFileHandler(probe, TCL_READABLE, probe_proc, &node);
    err = peek(pipefd, data, &with, sizeof with);
    if (err == 0 && with != head && with != NULL) {
        err = peek(pipefd, with, &node, sizeof node);
        if (err == 0 && (node.fd != probe || node.mask != TCL_READABLE || node.proc != probe_proc ||
                         node.data != &node || node.next != head)) {
            err = -EPROTO;
        }
    } else if (err == 0) {
        err = -EPROTO;
    }
    Tcl_DeleteFileHandler(probe);
    if (err == 0 && (err = peek(pipefd, data, &after, sizeof after)) == 0 && after != head) {
        err = -EPROTO;
    }
    if (err < 0) {
        goto done;
    }
    for (const tcl_handler *at = head; at != NULL; at = node.next) {
        tcl_handler *more = realloc(list, sizeof *list * (size_t)(n + 1));
        if (more == NULL || n == MAX_MOVED) {
            err = -ENOMEM;
            goto done;
        }
        list = more;
        if ((err = peek(pipefd, at, &node, sizeof node)) < 0) {
            goto done;
        }
        list[n++] = node;
    }
done:
    for (int i = 0; i < 2; i++) {
        if (pipefd[i] >= 0) {
            close(pipefd[i]);
        }
    }
    if (probe >= 0) {
        close(probe);
    }
    if (err < 0) {
        free(list);
        return err;
    }
    *ret_list = list;
    return n;
}

int
ag_tk_notifier_install(const Tcl_ThreadId *others, size_t n_others, const char **ret_state)
{
    static Tcl_NotifierProcs ours = {
        set_timer, wait_for_event, create_file_handler, delete_file_handler,
        init_notifier, finalize_notifier, alert_notifier, service_mode,
    };
    static Tcl_NotifierProcs tcls;  /* all NULL: Tcl's own */
    tcl_handler *list = NULL;

    if (installed) {
        *ret_state = "in-thread";
        return 0;
    }
    int n = read_list(&list);
    if (n < 0) {
        Tcl_ThreadAlert(Tcl_GetCurrentThread());    /* Tcl_InitNotifier() took back an alert, if there was one */
        *ret_state = n == -EMFILE ? "Tcl's own: the process has 1024 descriptors or more"
                                  : "Tcl's own or somebody else's: its handlers could not be read";
        return -1;
    }
    Tcl_SetNotifier(&ours);
    ClientData handle = NULL;
    learning = &handle;
    for (size_t i = 0; i < n_others && handle == NULL; i++) {
        Tcl_ThreadAlert(others[i]);
    }
    learning = NULL;
    if (handle != NULL) {
        /* It may be asleep in Tcl's own notifier, where an alert through the hooks would not wake it. */
        Tcl_SetNotifier(&tcls);
        Tcl_ThreadAlert(Tcl_GetCurrentThread());
        free(list);
        *ret_state = "Tcl's own: another thread already runs Tcl";
        return -1;
    }
    pthread_key_create(&thread_end, state_end);
    pthread_atfork(NULL, NULL, forked);
    installed = 1;
    Tcl_SetNotifier(&tcls);
    for (int i = 0; i < n; i++) {
        Tcl_DeleteFileHandler(list[i].fd);
    }
    Tcl_SetNotifier(&ours);
    /* The list has the newest first. */
    for (int i = n - 1; i >= 0; i--) {
        create_file_handler(list[i].fd, list[i].mask, list[i].proc, list[i].data);
    }
    current();
    free(list);
    *ret_state = n ? "in-thread, handlers handed over" : "in-thread";
    return n;
}
