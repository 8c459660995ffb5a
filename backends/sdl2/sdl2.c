/* sdl2.c - asyncio as a guest in the main loop of an SDL 2 program, which is a program of pygame's as a rule.
 *
 * SDL has no main loop and no callbacks: the program takes events, draws and waits. So the truth about what is due
 * lies in flags of ours, and whoever calls us on the host's thread runs it: the clock between two frames
 * (`serve_until`), the loop that we own (`run`), the program that passes us an event (`handle`). An SDL event, the
 * bell, does nothing but end the sleep of a program that waits in SDL. It may be lost: by a queue that is full, by
 * pygame.event.clear(), by set_blocked(). While something is due and the host is not in our hands, a timer of SDL's
 * looks whether the bell is still in the queue, and rings again.
 *
 * SDL is never linked. pygame-ce brings one of its own under a mangled name, and a second SDL in the process has a
 * second queue: the functions are those that the extension modules of the pygame that is loaded are bound to. Headers
 * are for types.
 *
 * The bell is put into the queue by SDL_PeepEvents: SDL_PushEvent would ask pygame's filter and all watches first.
 */
#ifndef _GNU_SOURCE /* sdl2.pc defines it too, in newer releases */
#define _GNU_SOURCE
#endif
#include "asyncio_guest.h"

#include <SDL.h>
#include <SDL_syswm.h>
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define KEEP_MS 20                  /* how often the timer looks for a bell that was lost */
#define HOTPLUG_NS 3000000000       /* how often SDL itself looks for new joysticks while it waits */
#define IN_FLIGHT_MS 10             /* between the watch that sees an event and the queue that has it */
#define WINDOW_IDS 256              /* SDL numbers its windows from 1 */

/* The functions of SDL that are used, as they are declared. */
#define SDL_FUNCTIONS(F)                                                                                          \
    F(PeepEvents) F(HasEvents) F(FlushEvent) F(PumpEvents) F(WaitEventTimeout) F(AddEventWatch) F(DelEventWatch)  \
    F(RegisterEvents) F(AddTimer) F(WasInit) F(InitSubSystem) F(QuitSubSystem) F(SetHint) F(GetError)             \
    F(GetCurrentVideoDriver) F(GetWindowFromID) F(GetWindowWMInfo)

static struct {
#define F(name) __typeof__(&SDL_##name) name;
    SDL_FUNCTIONS(F)
#undef F
} sdl;      /* a library that is never unloaded; all NULL until `find_sdl` */

typedef struct sdl_call {
    struct sdl_call *next;
    unsigned stamp;                 /* of the pass that it was queued in */
    void (*fn)(void *);
    void *arg;
} sdl_call;

typedef struct sdl_host {
    struct sdl_host *next;
    ag_guest *guest;
    PyObject *take;                 /* the toolkit's callable, or NULL: takes events in `run`, true when that ends */
    sdl_call *calls, **tail;
    unsigned pass;                  /* the last one that this host had its turn in */
    bool posted, again;             /* guarded by the mutex */
    bool running, quit;
    bool video;                     /* the video system was there */
    bool holds;                     /* a reference to SDL's event system */
} sdl_host;

/* What there is once a process: one event queue, and one thread that may take from it. */
static struct {
    pthread_mutex_t mutex;
    int eventfd;                    /* ends a sleep in our hands; -1 without hosts */
    pthread_t thread;               /* of the hosts */
    sdl_host *hosts;                /* changed on that thread with the mutex held, so it may read them without */
    unsigned pass;
    Uint32 type;                    /* of the bell; 0: none yet */
    /* Guarded by the mutex: */
    enum { AWAY, ASLEEP, IN_SDL } where;    /* the host's thread: in the program's hands, asleep in ours, or in SDL's */
    bool rung;                      /* since the host was in our hands, and so in the queue if nobody took it out */
    bool keeping;                   /* the timer is on */
    bool foreign;                   /* an event of somebody else's is on its way into the queue */
} self = {.mutex = PTHREAD_MUTEX_INITIALIZER, .eventfd = -1};

/* ------------------------------------------------------------------------------------------------------ the bell */

/* Is something due? On the host's thread, with the mutex. */
static bool
pending_locked(void)
{
    for (sdl_host *h = self.hosts; h != NULL; h = h->next) {
        if (h->posted || h->again || h->calls != NULL) {
            return true;
        }
    }
    return false;
}

static void serve_bell(void *unused);

/* Any thread. Where the queue is full or shut down, the timer tries again. */
static void
push_bell(void)
{
    void (*function)(void *) = serve_bell;
    SDL_Event event;

    memset(&event, 0, sizeof event);
    event.user.type = self.type;
    /* For programs in C: a function to call with the other pointer. That one is NULL: pygame-ce takes it for a dict. */
    memcpy(&event.user.data2, &function, sizeof function);
    sdl.PeepEvents(&event, 1, SDL_ADDEVENT, 0, 0);
}

/* The timer, on SDL's thread for timers. */
static Uint32 SDLCALL
on_keep(Uint32 interval, void *unused)
{
    (void)unused;
    pthread_mutex_lock(&self.mutex);
    bool rung = self.rung, away = self.where == AWAY;
    self.keeping = rung;
    pthread_mutex_unlock(&self.mutex);
    if (rung && away && sdl.PeepEvents(NULL, 1, SDL_PEEKEVENT, self.type, self.type) == 0) {
        push_bell();
    }
    return rung ? interval : 0;
}

/* End a sleep in our hands, with the mutex. */
static void
end_sleep(void)
{
    if (self.where == ASLEEP) {
        self.where = AWAY;
        (void)!write(self.eventfd, &(uint64_t){1}, sizeof(uint64_t));
    }
}

/* Something is due: end the host's sleep, wherever it sleeps. Any thread; the mutex is held, and released. */
static void
ring_locked(void)
{
    bool push = false, keep = false;

    if (self.where == ASLEEP) {
        end_sleep();
    } else if (!self.rung) {
        self.rung = push = true;
        keep = self.where == AWAY && !self.keeping;
        self.keeping = self.keeping || keep;
    }
    pthread_mutex_unlock(&self.mutex);
    if (push) {
        push_bell();
    }
    if (keep && sdl.AddTimer(KEEP_MS, on_keep, NULL) == 0) {
        pthread_mutex_lock(&self.mutex);
        self.keeping = false;
        pthread_mutex_unlock(&self.mutex);
    }
}

/* The host is in our hands: no bell is needed, and one that is in the queue is taken out. */
static void
hush(void)
{
    pthread_mutex_lock(&self.mutex);
    bool rung = self.rung;
    self.rung = false;
    pthread_mutex_unlock(&self.mutex);
    if (rung) {
        sdl.FlushEvent(self.type);
    }
}

/* The host leaves our hands, or is about to call what may wait in SDL before it returns (a menu's loop): what is still due
 * then must ring, for nobody of us looks. */
static void
leave(void)
{
    pthread_mutex_lock(&self.mutex);
    if (pending_locked()) {
        ring_locked();
    } else {
        pthread_mutex_unlock(&self.mutex);
    }
}

/* ------------------------------------------------------------------------------------------------------- serving */

/* Are there guests, and is this their thread? */
static bool
is_ours(void)
{
    return self.hosts != NULL && pthread_equal(self.thread, pthread_self());
}

static bool
is_open(const sdl_host *host)
{
    sdl_host *h = self.hosts;

    while (h != NULL && h != host) {
        h = h->next;
    }
    return h != NULL;
}

static bool
is_gone(sdl_host *h)
{
    Uint32 up = sdl.WasInit(SDL_INIT_EVENTS | SDL_INIT_VIDEO);
    bool had_video = h->video;

    h->video = (up & SDL_INIT_VIDEO) != 0;
    return !(up & SDL_INIT_EVENTS) || (had_video && !h->video);
}

static void
serve_host(sdl_host *h, unsigned pass)
{
    sdl_call *call;

    if (is_gone(h)) {
        h->video = true;            /* and so it is gone the next time too, if a turn is on the stack now */
        ag_host_died(h->guest);     /* may close the host */
        return;
    }
    /* Those that were there when the pass began; each may run a nested loop, or end the guest. */
    while (is_open(h) && (call = h->calls) != NULL && call->stamp < pass) {
        void (*fn)(void *) = call->fn;
        void *arg = call->arg;

        h->calls = call->next;
        if (h->calls == NULL) {
            h->tail = &h->calls;
        }
        free(call);
        leave();
        fn(arg);
    }
    if (!is_open(h)) {
        return;
    }
    pthread_mutex_lock(&self.mutex);
    bool due = h->posted || h->again;
    h->posted = h->again = false;
    pthread_mutex_unlock(&self.mutex);
    if (due) {
        leave();
        ag_dispatch(h->guest);      /* may close the host */
    }
}

/* Run what is due, each host once. Answers whether something is due again. */
static bool
serve(void)
{
    unsigned pass;
    sdl_host *h;

    if (!is_ours()) {
        return false;
    }
    pass = ++self.pass;
    for (;;) {
        for (h = self.hosts; h != NULL && h->pass >= pass; h = h->next) {
        }
        if (h == NULL) {
            break;
        }
        h->pass = pass;
        serve_host(h, pass);
    }
    pthread_mutex_lock(&self.mutex);
    bool more = pending_locked();
    pthread_mutex_unlock(&self.mutex);
    return more;
}

/* The program has taken a bell out of the queue. */
static void
serve_bell(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&self.mutex);
    self.rung = false;
    pthread_mutex_unlock(&self.mutex);
    serve();
    leave();
}

/* ------------------------------------------------------------------------------------------------------- sleeping */

/* Sleep until something is due, `deadline` comes, `fd` (or -1) is readable or, with `watching`, an event is pushed. The
 * GIL is held, and released meanwhile. */
static void
sleep_until(int64_t deadline, bool watching, int fd)
{
    struct pollfd p[2] = {{.fd = self.eventfd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    struct timespec ts, *timeout = NULL;

    pthread_mutex_lock(&self.mutex);
    bool sleep = !pending_locked() && !(watching && self.foreign);
    if (sleep) {
        self.where = ASLEEP;
    }
    pthread_mutex_unlock(&self.mutex);
    if (!sleep) {
        return;
    }
    if (deadline != AG_NEVER) {
        int64_t left = deadline - ag_now();

        left = left > 0 ? left : 0;
        ts = (struct timespec){.tv_sec = (time_t)(left / 1000000000), .tv_nsec = (long)(left % 1000000000)};
        timeout = &ts;
    }
    Py_BEGIN_ALLOW_THREADS
    ppoll(p, 2, timeout, NULL);     /* a signal ends it early, and is looked at */
    pthread_mutex_lock(&self.mutex);
    if (self.where != ASLEEP) {
        (void)!read(self.eventfd, &(uint64_t){0}, sizeof(uint64_t));
    }
    self.where = AWAY;
    pthread_mutex_unlock(&self.mutex);
    Py_END_ALLOW_THREADS
}

/* Sleep in SDL, until any event is in the queue or `ms` milliseconds have passed. */
static void
sleep_in_sdl(int ms)
{
    Py_BEGIN_ALLOW_THREADS
    pthread_mutex_lock(&self.mutex);
    bool sleep = !pending_locked();
    if (sleep) {
        self.where = IN_SDL;
    }
    pthread_mutex_unlock(&self.mutex);
    if (sleep) {
        sdl.WaitEventTimeout(NULL, ms);
        pthread_mutex_lock(&self.mutex);
        self.where = AWAY;
        pthread_mutex_unlock(&self.mutex);
    }
    Py_END_ALLOW_THREADS
}

/* A window, or NULL: SDL's ways to sleep all need one. */
static SDL_Window *
any_window(void)
{
    static Uint32 known;            /* the last one seen; of the host's thread */
    SDL_Window *window = NULL;

    for (Uint32 id = 0; id < WINDOW_IDS && window == NULL; id++) {
        window = sdl.GetWindowFromID(id == 0 ? known : id);
        known = window != NULL && id != 0 ? id : known;
    }
    return window;
}

/* The descriptor that X11's events come by, or -1. */
static int
x11_fd(SDL_Window *window)
{
#ifdef SDL_VIDEO_DRIVER_X11
    static int (*connection_number)(void *);    /* of a library that SDL never unloads while there is a window */
    SDL_SysWMinfo info;

    SDL_VERSION(&info.version);
    if (window == NULL || !sdl.GetWindowWMInfo(window, &info) || info.subsystem != SDL_SYSWM_X11) {
        return -1;
    }
    if (connection_number == NULL) {
        void *lib = dlopen("libX11.so.6", RTLD_LAZY | RTLD_NOLOAD);

        if (lib != NULL) {
            *(void **)&connection_number = dlsym(lib, "XConnectionNumber");     /* and so it stays loaded */
        }
    }
    return connection_number != NULL ? connection_number(info.info.x11.display) : -1;
#else
    (void)window;
    return -1;
#endif
}

/* Sleep until something is due or an event comes. SDL itself would look at its queue each millisecond without a window
 * or with a driver that cannot wait, and with X11 a bell would go through the X server. */
static void
sleep_for_events(void)
{
    SDL_Window *window = any_window();
    const char *driver = sdl.GetCurrentVideoDriver();
    int fd = x11_fd(window);
    bool waits = window != NULL && driver != NULL && strcmp(driver, "dummy") != 0 && strcmp(driver, "offscreen") != 0;

    if (waits && fd < 0) {
        sleep_in_sdl(-1);
    } else {
        sleep_until(sdl.WasInit(SDL_INIT_JOYSTICK) ? ag_now() + HOTPLUG_NS : AG_NEVER, true, fd);
    }
}

/* A watch of SDL's, while `run` runs: on any thread that pushes an event, before it is in the queue. */
static int SDLCALL
on_push(void *unused, SDL_Event *event)
{
    (void)unused, (void)event;
    if (pthread_equal(self.thread, pthread_self())) {
        return 0;                   /* it is in the queue before we sleep */
    }
    pthread_mutex_lock(&self.mutex);
    self.foreign = true;
    end_sleep();
    pthread_mutex_unlock(&self.mutex);
    return 0;
}

/* ------------------------------------------------------------------------------------------- the core calls us */

static int
sdl_post(void *host)
{
    pthread_mutex_lock(&self.mutex);
    ((sdl_host *)host)->posted = true;
    ring_locked();
    return 0;
}

static int
sdl_again(void *host)
{
    /* Inside ag_dispatch: whoever called that looks at what is due when it returns. */
    pthread_mutex_lock(&self.mutex);
    ((sdl_host *)host)->again = true;
    pthread_mutex_unlock(&self.mutex);
    return 0;
}

static int
sdl_call_soon(void *host, void (*fn)(void *), void *arg)
{
    sdl_host *h = host;
    sdl_call *call = malloc(sizeof *call);

    if (call == NULL) {
        return -ENOMEM;
    }
    *call = (sdl_call){NULL, self.pass, fn, arg};
    pthread_mutex_lock(&self.mutex);
    *h->tail = call;
    h->tail = &call->next;
    ring_locked();
    return 0;
}

/* One round of `run`. 0, 1: the toolkit's object ends the loop, -1 with an exception. */
static int
run_once(sdl_host *h)
{
    hush();
    bool more = serve();
    if (h->quit) {
        return 0;
    }
    if (PyErr_CheckSignals() < 0) {
        return -1;
    }
    hush();                         /* a bell of `serve`'s is no event that waits */
    sdl.PumpEvents();
    pthread_mutex_lock(&self.mutex);
    bool foreign = self.foreign;
    self.foreign = false;
    pthread_mutex_unlock(&self.mutex);
    bool waiting = sdl.HasEvents(SDL_FIRSTEVENT, SDL_LASTEVENT);
    if (waiting && h->take != NULL) {
        leave();
        PyObject *r = PyObject_CallNoArgs(h->take);
        int end = r != NULL ? PyObject_IsTrue(r) : -1;

        Py_XDECREF(r);
        return end;
    }
    if (more) {
        return 0;
    }
    if (waiting) {
        /* They are left to the coroutines; what comes behind them changes nothing. */
        sleep_until(AG_NEVER, false, -1);
    } else if (foreign) {
        sleep_in_sdl(IN_FLIGHT_MS);
    } else {
        sleep_for_events();
    }
    return 0;
}

static int
sdl_run(void *host)
{
    sdl_host *h = host;
    int r = 0;

    h->running = true;
    h->quit = false;
    sdl.AddEventWatch(on_push, NULL);
    while (r == 0 && !h->quit) {
        r = run_once(h);
    }
    if (is_open(h)) {               /* a child that was forked in a turn may find SDL's mutex held for ever */
        sdl.DelEventWatch(on_push, NULL);
    }
    h->running = false;
    leave();
    return r < 0 ? -1 : 0;
}

static void
sdl_quit(void *host)
{
    sdl_host *h = host;

    h->quit = h->running;
}

static void
sdl_close(void *host)
{
    sdl_host *h = host, **link = &self.hosts;
    sdl_call *call;

    while (*link != h) {
        link = &(*link)->next;
    }
    pthread_mutex_lock(&self.mutex);
    *link = h->next;
    pthread_mutex_unlock(&self.mutex);
    if (self.hosts == NULL) {
        hush();
        close(self.eventfd);
        self.eventfd = -1;
    }
    while ((call = h->calls) != NULL) {
        h->calls = call->next;
        free(call);
    }
    if (h->holds) {
        sdl.QuitSubSystem(SDL_INIT_EVENTS);
    }
    Py_XDECREF(h->take);
    free(h);
}

/* -------------------------------------------------------------------------------------------------------- opening */

/* Bind the functions to the SDL that the extension module `path` uses, or, without one, to the program's own. -1 with
 * an exception set. */
static int
find_sdl(const char *path)
{
    void *lib = dlopen(path, RTLD_LAZY | (path != NULL ? RTLD_NOLOAD : 0));
    const char *missing = NULL;

    if (lib == NULL) {
        PyErr_Format(PyExc_RuntimeError, "%s is not loaded: %s", path, dlerror());
        return -1;
    }
#define F(name)                                                         \
    void *name = dlsym(lib, "SDL_" #name);                              \
    missing = name == NULL ? "SDL_" #name : missing;
    SDL_FUNCTIONS(F)
#undef F
    if (missing != NULL) {
        PyErr_Format(PyExc_RuntimeError, "%s has no %s: SDL 2 is needed",
                     path != NULL ? path : "the program", missing);
        dlclose(lib);
        return -1;
    }
    /* The same as before, if there was one: SDL's thread for timers may be reading them. */
#define F(name) if (memcmp(&sdl.name, &name, sizeof name) != 0) memcpy(&sdl.name, &name, sizeof name);
    SDL_FUNCTIONS(F)
#undef F
    return 0;       /* and so it stays loaded */
}

static int
sdl_open(void **ret_host, const ag_open_args *args)
{
    if (ag_import() < 0) {
        return -1;
    }
    if (self.hosts != NULL && !pthread_equal(self.thread, pthread_self())) {
        PyErr_SetString(PyExc_RuntimeError, "SDL has one event queue, and another thread's guest lives in it");
        return -1;
    }
    if (sdl.PeepEvents == NULL && find_sdl(NULL) < 0) {
        return -1;
    }
    if (args->native != NULL) {
        self.type = *(const Uint32 *)args->native;
    } else if (self.type == 0) {
        self.type = sdl.RegisterEvents(1);
    }
    if (self.type < SDL_USEREVENT || self.type > SDL_LASTEVENT) {
        self.type = 0;
        PyErr_SetString(PyExc_RuntimeError, "SDL has no type of event left for the guest");
        return -1;
    }
    if (!sdl.WasInit(SDL_INIT_EVENTS)) {
        /* A program without a display: SDL is not to catch its SIGTERM for that. */
        sdl.SetHint(SDL_HINT_NO_SIGNAL_HANDLERS, "1");
    }
    if (sdl.InitSubSystem(SDL_INIT_EVENTS) < 0) {
        PyErr_Format(PyExc_RuntimeError, "SDL has no events: %s", sdl.GetError());
        return -1;
    }
    sdl_host *h = calloc(1, sizeof *h);
    if (h == NULL) {
        PyErr_NoMemory();
        goto fail;
    }
    if (self.eventfd < 0 && (self.eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        goto fail;
    }
    h->guest = args->guest;
    h->tail = &h->calls;
    h->pass = self.pass;
    h->holds = true;
    h->video = sdl.WasInit(SDL_INIT_VIDEO) != 0;
    if (args->toolkit != NULL && args->toolkit != Py_None) {
        h->take = Py_NewRef(args->toolkit);
    }
    self.thread = pthread_self();
    pthread_mutex_lock(&self.mutex);
    if (self.hosts == NULL) {
        /* SDL_Quit() may have ended the timers and emptied the queue since the last one: nothing would ring again. */
        self.rung = self.keeping = self.foreign = false;
    }
    h->next = self.hosts;
    self.hosts = h;
    pthread_mutex_unlock(&self.mutex);
    *ret_host = h;
    return 0;

fail:
    free(h);
    sdl.QuitSubSystem(SDL_INIT_EVENTS);
    return -1;
}

static const ag_host_ops sdl_ops = {
    .abi = AG_ABI_VERSION,
    .caps = AG_HOST_POST,
    .name = "sdl2",
    .open = sdl_open,
    .close = sdl_close,
    .again = sdl_again,
    .post = sdl_post,
    .call = sdl_call_soon,
    .run = sdl_run,
    .quit = sdl_quit,
};

/* In a forked child: the waiter may have held the mutex, and nothing of the parent's is called. */
static void
forget(void)
{
    pthread_mutex_init(&self.mutex, NULL);
    self.hosts = NULL;
    if (self.eventfd >= 0) {
        close(self.eventfd);
        self.eventfd = -1;
    }
    self.where = AWAY;
    self.rung = self.keeping = self.foreign = false;
}

/* --------------------------------------------------------------------------------------------------- the module */

PyDoc_STRVAR(use_doc,
"use(path, bell)\n--\n\n"
"Use the SDL of the extension module `path`, which is loaded, and `bell` as the type of our events.");

static PyObject *
use(PyObject *module, PyObject *args)
{
    const char *path;
    unsigned bell;

    (void)module;
    if (!PyArg_ParseTuple(args, "sI", &path, &bell) || find_sdl(path) < 0) {
        return NULL;
    }
    self.type = bell;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(handle_doc,
"handle(type)\n--\n\n"
"The program has taken an event of `type`: if that is ours, run what is due.  Answers whether it is.");

static PyObject *
handle(PyObject *module, PyObject *type)
{
    unsigned long number = PyLong_AsUnsignedLong(type);

    (void)module;
    if (number == (unsigned long)-1 && PyErr_Occurred()) {
        return NULL;
    }
    if (self.type == 0 || number != self.type) {
        Py_RETURN_FALSE;
    }
    serve_bell(NULL);
    Py_RETURN_TRUE;
}

PyDoc_STRVAR(pump_doc,
"pump()\n--\n\n"
"Run what is due, and return.");

static PyObject *
pump(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    if (is_ours()) {
        hush();
        serve();
        leave();
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(serve_until_doc,
"serve_until(when)\n--\n\n"
"Run what is due, once at least, and sleep when nothing is, until `when` (time.monotonic_ns()).");

static PyObject *
serve_until(PyObject *module, PyObject *when)
{
    long long deadline = PyLong_AsLongLong(when);
    bool ours = is_ours();
    int err = 0;

    (void)module;
    if (deadline == -1 && PyErr_Occurred()) {
        return NULL;
    }
    for (;;) {
        if (ours) {
            hush();
        }
        bool more = serve();
        err = PyErr_CheckSignals();
        if (err < 0 || ag_now() >= deadline) {
            break;
        }
        if (!more) {
            if (ours) {
                sleep_until(deadline, false, -1);
            } else {
                struct timespec ts = {.tv_sec = (time_t)(deadline / 1000000000),
                                      .tv_nsec = (long)(deadline % 1000000000)};
                Py_BEGIN_ALLOW_THREADS
                clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
                Py_END_ALLOW_THREADS
            }
        }
    }
    if (ours) {
        leave();
    }
    return err < 0 ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(alive_doc,
"alive()\n--\n\n"
"Is SDL's video system there?  If it has gone, its guests are told.");

static PyObject *
alive(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    if (sdl.WasInit == NULL || sdl.WasInit(SDL_INIT_VIDEO)) {
        Py_RETURN_TRUE;
    }
    serve();
    Py_RETURN_FALSE;
}

PyDoc_STRVAR(running_doc,
"running()\n--\n\n"
"Does one of the guests drive the main loop (``asyncio_guest.run``)?");

static PyObject *
running(PyObject *module, PyObject *unused)
{
    sdl_host *h = self.hosts;

    (void)module, (void)unused;
    while (h != NULL && !h->running) {
        h = h->next;
    }
    return PyBool_FromLong(h != NULL);
}

PyDoc_STRVAR(shut_down_doc,
"shut_down()\n--\n\n"
"SDL is about to be shut down: end the guests that live in it.");

static PyObject *
shut_down(PyObject *module, PyObject *unused)
{
    sdl_host *h;

    (void)module, (void)unused;
    if (!is_ours()) {
        Py_RETURN_NONE;
    }
    while ((h = self.hosts) != NULL) {
        ag_host_died(h->guest);
        if (is_open(h)) {
            break;                  /* a turn is on the stack, or ours is: it ends when that does */
        }
    }
    for (h = self.hosts; h != NULL; h = h->next) {
        h->holds = false;
        h->video = true;
    }
    Py_RETURN_NONE;
}

static PyMethodDef module_methods[] = {
    {"use", use, METH_VARARGS, use_doc},
    {"handle", handle, METH_O, handle_doc},
    {"pump", pump, METH_NOARGS, pump_doc},
    {"serve_until", serve_until, METH_O, serve_until_doc},
    {"alive", alive, METH_NOARGS, alive_doc},
    {"running", running, METH_NOARGS, running_doc},
    {"shut_down", shut_down, METH_NOARGS, shut_down_doc},
    {NULL, NULL, 0, NULL},
};

static void
set_up(void)
{
    pthread_atfork(NULL, NULL, forget);
}

static int
module_exec(PyObject *module)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    PyObject *ops;
    int err;

    pthread_once(&once, set_up);
    if (ag_import() < 0) {
        return -1;
    }
    ops = PyCapsule_New((void *)&sdl_ops, AG_OPS_CAPSULE, NULL);
    err = PyModule_AddObjectRef(module, "ops", ops);
    Py_XDECREF(ops);
    return err;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "asyncio_guest.backends.sdl2._sdl2",
    .m_doc = "The backend sdl2.",
    .m_methods = module_methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__sdl2(void);

PyMODINIT_FUNC
PyInit__sdl2(void)
{
    return PyModuleDef_Init(&module_def);
}
