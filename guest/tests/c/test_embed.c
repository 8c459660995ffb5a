/* A C application with a main loop of its own, and no Python toolkit at all, embeds CPython and hands its
 * loop a guest: it watches ag_fd() and calls ag_turn(). AG_PYTHON is the interpreter whose installation is used. */
#define _GNU_SOURCE
#include "asyncio_guest.h"
#include "ag_test.h"

#include <errno.h>
#include <poll.h>
#include <sys/timerfd.h>

#define MS INT64_C(1000000)

/* The application: a main loop on poll(2) with a timer of its own. */
struct app {
    ag_guest *guest;
    int timer;              /* the application's own 5 ms tick */
    int ticks;
    int cancel_at;          /* cancel the guest at this tick; 0: never */
    int release_at;         /* echo() waits for this tick; 0: for none */
    int turns, more, due;
    int done_calls;
    int done_in_turn;       /* the callback came while a turn was on the stack */
    char outcome[256];      /* repr() of it */
};

static void
on_done(void *arg, PyObject *outcome)
{
    struct app *app = arg;
    PyObject *repr = PyObject_Repr(outcome);

    CHECK(repr != NULL);
    snprintf(app->outcome, sizeof app->outcome, "%s", PyUnicode_AsUTF8(repr));
    Py_DECREF(repr);
    app->done_calls++;
    app->done_in_turn = app->guest != NULL && ag_turning(app->guest);
}

static void
python_start(void)
{
    const char *python = getenv("AG_PYTHON") ? getenv("AG_PYTHON") : AG_PYTHON;
    PyConfig config;
    PyStatus status;

    PyConfig_InitPythonConfig(&config);
    config.install_signal_handlers = 1;
    status = PyConfig_SetBytesString(&config, &config.program_name, python);
    CHECK(!PyStatus_Exception(status));
    status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    CHECK(!PyStatus_Exception(status));
    if (ag_import() < 0) {
        PyErr_Print();
        CHECK(!"asyncio_guest._core cannot be imported");
    }
}

/* What echo() waits for has come. */
static void
release(void)
{
    PyObject *released = PyObject_GetAttrString(PyImport_AddModule("__main__"), "released");

    CHECK(released != NULL);
    CHECK_EQ(PyList_Append(released, Py_None), 0);
    Py_DECREF(released);
}

/* Start `expression` (of the program below) as a guest. */
static void
app_start(struct app *app, const char *expression, const ag_start_options *more)
{
    static const char program[] =
        "import asyncio\n"
        "trace, released = [], []\n"
        "async def echo():\n"
        "    async def serve(reader, writer):\n"
        "        while data := await reader.read(100):\n"
        "            writer.write(data)\n"
        "        writer.close()\n"
        "    server = await asyncio.start_server(serve, '127.0.0.1')\n"
        "    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())\n"
        "    got = b''\n"
        "    for i in range(20):\n"
        "        writer.write(b'%d,' % i)\n"
        "        got += await reader.readuntil(b',')\n"
        "    writer.close()\n"
        "    await writer.wait_closed()\n"
        "    server.close()\n"
        "    for i in range(10000):\n"
        "        if released:\n"
        "            break\n"
        "        await asyncio.sleep(0.002)\n"
        "    return got.decode() + await asyncio.to_thread(str, 42)\n"
        "async def busy():\n"
        "    for i in range(20000):\n"
        "        await asyncio.sleep(0)\n"
        "    return 'not starved'\n"
        "async def for_ever():\n"
        "    trace.append('started')\n"
        "    try:\n"
        "        await asyncio.sleep(3600)\n"
        "    finally:\n"
        "        await asyncio.sleep(0.01)\n"
        "        trace.append('cleaned')\n"
        "async def fails():\n"
        "    await asyncio.sleep(0)\n"
        "    raise ValueError('as it should')\n";
    PyObject *main_dict = PyModule_GetDict(PyImport_AddModule("__main__")), *result, *coro;
    ag_start_options options = more ? *more : (ag_start_options){0};
    const struct itimerspec tick = {{0, 5 * MS}, {0, 5 * MS}};

    *app = (struct app){.cancel_at = app->cancel_at, .release_at = app->release_at};
    CHECK((app->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC)) >= 0);
    CHECK_EQ(timerfd_settime(app->timer, 0, &tick, NULL), 0);
    result = PyRun_String(program, Py_file_input, main_dict, main_dict);
    CHECK(result != NULL);
    Py_DECREF(result);
    if (app->release_at == 0) {
        release();
    }
    coro = PyRun_String(expression, Py_eval_input, main_dict, main_dict);
    CHECK(coro != NULL);
    options.done = on_done;
    options.arg = app;
    if (ag_start(&app->guest, coro, &options) < 0) {
        PyErr_Print();
        CHECK(!"ag_start failed");
    }
    Py_DECREF(coro);
    CHECK_EQ(app->done_calls, 0);
}

/* The application's main loop; the GIL is not held while it runs. Ends with the guest. */
static void
app_run(struct app *app)
{
    PyThreadState *state = PyEval_SaveThread();
    ag_result answer = AG_IDLE;

    while (answer != AG_DONE) {
        struct pollfd fds[] = {{.fd = ag_fd(app->guest), .events = POLLIN}, {.fd = app->timer, .events = POLLIN}};
        int64_t deadline = 0;
        int due = ag_prepare(app->guest, &deadline), n;

        CHECK(due || deadline == AG_NEVER || deadline < ag_now() + INT64_C(100000) * 1000 * MS);
        /* With work left the loop only looks at its own events, and goes on: behind them. */
        do {
            n = poll(fds, 2, answer == AG_MORE || due ? 0 : -1);
        } while (n < 0 && errno == EINTR);
        CHECK(n >= 0);
        if (fds[1].revents) {
            uint64_t expirations;

            CHECK_EQ(read(app->timer, &expirations, sizeof expirations), sizeof expirations);
            app->ticks++;
            if (app->ticks == app->cancel_at || app->ticks == app->release_at) {
                PyEval_RestoreThread(state);
                if (app->ticks == app->cancel_at) {
                    CHECK_EQ(ag_cancel(app->guest), 0);
                } else {
                    release();
                }
                state = PyEval_SaveThread();
            }
        }
        if (fds[0].revents || answer == AG_MORE || due) {
            app->due += due;
            answer = ag_turn(app->guest);
            CHECK(answer != AG_BUSY);
            app->turns++;
            app->more += answer == AG_MORE;
        }
    }
    PyEval_RestoreThread(state);
    CHECK(!PyErr_Occurred());
}

static void
app_end(struct app *app)
{
    CHECK_EQ(app->done_calls, 1);
    CHECK_EQ(app->done_in_turn, 0);
    CHECK_EQ(ag_turn(app->guest), AG_DONE);
    CHECK_EQ(ag_prepare(app->guest, NULL), 0);
    CHECK(ag_wake(app->guest) <= 0);
    CHECK_EQ(app->done_calls, 1);
    ag_release(app->guest);
    close(app->timer);
}

TEST(a_coroutine_runs_in_the_applications_own_loop)
{
    struct app app = {.release_at = 4};
    ag_counters counters;
    int fds = count_entries("/proc/self/fd"), threads = count_threads();

    python_start();
    app_start(&app, "echo()", NULL);
    app_run(&app);
    CHECK(strcmp(app.outcome, "Value('0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,42')") == 0);
    ag_counters_get(app.guest, &counters);
    CHECK_EQ(counters.turns, app.turns);
    CHECK_EQ(counters.turns_descriptor, counters.turns);
    CHECK(counters.iterations >= counters.turns - counters.spurious);
    CHECK_EQ(counters.busy, 0);
    CHECK_EQ(counters.again, app.more);
    CHECK(counters.longest_turn_ns > 0);
    CHECK(app.ticks >= 4);                  /* while the guest ran: the application's timer went on */
    app_end(&app);
    CHECK_EQ(Py_FinalizeEx(), 0);
    CHECK_EQ(count_entries("/proc/self/fd"), fds);
    CHECK_THREADS(threads);
}

/* CPython 3.12 itself does not survive a import of asyncio after Py_FinalizeEx (it dies in ssl). */
#if PY_VERSION_HEX < 0x030C0000 || PY_VERSION_HEX >= 0x030D0000
TEST(an_interpreter_after_the_first)
{
    int fds = 0;

    for (int i = 0; i < 3; i++) {
        struct app app = {0};

        python_start();
        app_start(&app, "echo()", NULL);
        app_run(&app);
        CHECK(strncmp(app.outcome, "Value(", 6) == 0);
        app_end(&app);
        CHECK_EQ(Py_FinalizeEx(), 0);
        if (i == 0) {
            fds = count_entries("/proc/self/fd");
        }
    }
    CHECK_EQ(count_entries("/proc/self/fd"), fds);
}
#endif

TEST(a_busy_guest_does_not_starve_the_application)
{
    struct app app = {0};

    python_start();
    app_start(&app, "busy()", &(ag_start_options){.budget_ns = MS});
    app_run(&app);
    CHECK(strcmp(app.outcome, "Value('not starved')") == 0);
    CHECK(app.more > 3);
    CHECK(app.ticks > 0);
    app_end(&app);
    CHECK_EQ(Py_FinalizeEx(), 0);
}

TEST(the_application_cancels)
{
    struct app app = {.cancel_at = 3};
    PyObject *trace, *repr;

    python_start();
    app_start(&app, "for_ever()", NULL);
    app_run(&app);
    CHECK(strncmp(app.outcome, "Error(CancelledError(", 21) == 0);
    CHECK(app.ticks >= 3);
    trace = PyObject_GetAttrString(PyImport_AddModule("__main__"), "trace");
    CHECK(trace != NULL);
    CHECK((repr = PyObject_Repr(trace)) != NULL);
    CHECK(strcmp(PyUnicode_AsUTF8(repr), "['started', 'cleaned']") == 0);
    Py_DECREF(repr);
    Py_DECREF(trace);
    app_end(&app);
    CHECK_EQ(Py_FinalizeEx(), 0);
}

TEST(an_exception_is_an_outcome)
{
    struct app app = {0};

    python_start();
    app_start(&app, "fails()", NULL);
    app_run(&app);
    CHECK(strcmp(app.outcome, "Error(ValueError('as it should'))") == 0);
    app_end(&app);
    CHECK_EQ(Py_FinalizeEx(), 0);
}

TEST(both_engines_run)
{
    const char *const engines[] = {"stock", "fast"};

    python_start();
    for (size_t i = 0; i < 2; i++) {
        struct app app = {0};
        ag_counters counters;

        app_start(&app, "echo()", &(ag_start_options){.engine = engines[i]});
        app_run(&app);
        ag_counters_get(app.guest, &counters);
        CHECK(counters.iterations > 20);
        if (i == 0) {
            CHECK_EQ(counters.iterations_fast, 0);
        } else {
            CHECK_EQ(counters.iterations_fast, counters.iterations);
        }
        app_end(&app);
    }
    CHECK_EQ(Py_FinalizeEx(), 0);
}

TEST(one_guest_a_thread)
{
    struct app app = {0};
    ag_guest *second = NULL;
    PyObject *main_dict, *coro;

    python_start();
    app_start(&app, "echo()", NULL);
    main_dict = PyModule_GetDict(PyImport_AddModule("__main__"));
    coro = PyRun_String("busy()", Py_eval_input, main_dict, main_dict);
    CHECK(coro != NULL);
    CHECK_EQ(ag_start(&second, coro, &(ag_start_options){0}), -1);
    CHECK(second == NULL);
    CHECK(PyErr_ExceptionMatches(PyExc_RuntimeError));
    PyErr_Clear();
    Py_XDECREF(PyObject_CallMethod(coro, "close", NULL));
    Py_DECREF(coro);
    app_run(&app);
    CHECK(strncmp(app.outcome, "Value(", 6) == 0);
    app_end(&app);
    CHECK_EQ(Py_FinalizeEx(), 0);
}

TEST(an_abandoned_guest_cleans_up)
{
    struct app app = {0};
    PyObject *main_dict, *filter, *trace;

    python_start();
    app_start(&app, "for_ever()", NULL);
    main_dict = PyModule_GetDict(PyImport_AddModule("__main__"));
    filter = PyRun_String("__import__('warnings').simplefilter('ignore')", Py_eval_input, main_dict, main_dict);
    CHECK(filter != NULL);
    Py_DECREF(filter);
    /* Into the sleep: the first turns. */
    for (int i = 0; i < 100 && ag_turn(app.guest) == AG_MORE; i++) {
    }
    {
        ag_guest *guest = app.guest;

        app.guest = NULL;
        ag_release(guest);
    }
    CHECK_EQ(app.done_calls, 1);
    CHECK(strncmp(app.outcome, "Error(CancelledError(", 21) == 0);
    trace = PyObject_GetAttrString(PyImport_AddModule("__main__"), "trace");
    CHECK_EQ(PyObject_Length(trace), 2);
    Py_DECREF(trace);
    close(app.timer);
    CHECK_EQ(Py_FinalizeEx(), 0);
}

TEST(a_guest_left_behind_does_not_hold_the_exit_up)
{
    struct app app = {0};
    PyObject *main_dict, *filter;
    int64_t begun;

    python_start();
    app_start(&app, "for_ever()", NULL);
    main_dict = PyModule_GetDict(PyImport_AddModule("__main__"));
    filter = PyRun_String("__import__('warnings').simplefilter('ignore')", Py_eval_input, main_dict, main_dict);
    CHECK(filter != NULL);
    Py_DECREF(filter);
    for (int i = 0; i < 100 && ag_turn(app.guest) == AG_MORE; i++) {
    }
    begun = ag_now();
    Py_FinalizeEx();
    CHECK(ag_now() - begun < 10 * 1000 * MS);
    CHECK_EQ(app.done_calls, 1);
    close(app.timer);
}
