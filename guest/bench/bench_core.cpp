/* What the core itself costs, without a host: Google Benchmark around the public C functions. */
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <poll.h>

#include "asyncio_guest.h"

namespace {

/* A guest without ops that sleeps in a coroutine for good; this program plays the embedder's loop. */
class Idle {
public:
    explicit Idle(const char *engine)
    {
        PyObject *globals = PyModule_GetDict(PyImport_AddModule("__main__"));
        PyObject *coro = PyRun_String("__import__('asyncio').sleep(1e6)", Py_eval_input, globals, globals);
        ag_start_options options = {};

        options.engine = engine;
        if (coro == nullptr || ag_start(&guest_, coro, &options) < 0) {
            PyErr_Print();
            std::exit(1);
        }
        Py_DECREF(coro);
        settle();
        loop_ = PyObject_GetAttrString(ag_object(guest_), "loop");
        noop_ = PyRun_String("lambda: None", Py_eval_input, globals, globals);
    }

    ~Idle()
    {
        ag_cancel(guest_);
        while (ag_turn(guest_) != AG_DONE) {
        }
        ag_release(guest_);
        Py_XDECREF(loop_);
        Py_XDECREF(noop_);
    }

    ag_guest *guest() const { return guest_; }

    /* loop.call_soon(noop) */
    void schedule() const
    {
        Py_XDECREF(PyObject_CallMethod(loop_, "call_soon", "O", noop_));
    }

private:
    /* Turn until there is nothing to do. */
    void settle() const
    {
        pollfd fd = {ag_fd(guest_), POLLIN, 0};

        while (ag_turn(guest_) == AG_MORE || ag_prepare(guest_, nullptr) || poll(&fd, 1, 0) > 0) {
        }
    }

    ag_guest *guest_ = nullptr;
    PyObject *loop_ = nullptr;
    PyObject *noop_ = nullptr;
};

const char *engine_of(const benchmark::State &state)
{
    return state.range(0) ? "fast" : "stock";
}

/* A turn that finds nothing: what a spurious wake costs. */
void turn_of_nothing(benchmark::State &state)
{
    Idle idle(engine_of(state));
    for (auto _ : state) {
        benchmark::DoNotOptimize(ag_turn(idle.guest()));
    }
}

/* ag_wake, the poll that sees it, and the turn. */
void wake_and_turn(benchmark::State &state)
{
    Idle idle(engine_of(state));
    pollfd fd = {ag_fd(idle.guest()), POLLIN, 0};
    for (auto _ : state) {
        ag_wake(idle.guest());
        if (poll(&fd, 1, -1) != 1) {
            state.SkipWithError("the wake was lost");
            break;
        }
        benchmark::DoNotOptimize(ag_turn(idle.guest()));
    }
}

/* What a host pays each time before it blocks. */
void prepare(benchmark::State &state)
{
    Idle idle(engine_of(state));
    int64_t deadline = 0;
    for (auto _ : state) {
        benchmark::DoNotOptimize(ag_prepare(idle.guest(), &deadline));
    }
}

/* The same without the GIL, as toolkits call it that release it around their loop. */
void prepare_without_gil(benchmark::State &state)
{
    Idle idle(engine_of(state));
    PyThreadState *thread = PyEval_SaveThread();
    int64_t deadline = 0;
    for (auto _ : state) {
        benchmark::DoNotOptimize(ag_prepare(idle.guest(), &deadline));
    }
    PyEval_RestoreThread(thread);
}

/* One callback scheduled by the host and run by the turn. */
void call_soon_and_turn(benchmark::State &state)
{
    Idle idle(engine_of(state));
    for (auto _ : state) {
        idle.schedule();
        benchmark::DoNotOptimize(ag_turn(idle.guest()));
    }
}

BENCHMARK(turn_of_nothing)->ArgName("fast")->Arg(0)->Arg(1);
BENCHMARK(wake_and_turn)->ArgName("fast")->Arg(0)->Arg(1);
BENCHMARK(prepare)->ArgName("fast")->Arg(0)->Arg(1);
BENCHMARK(prepare_without_gil)->ArgName("fast")->Arg(1);
BENCHMARK(call_soon_and_turn)->ArgName("fast")->Arg(0)->Arg(1);

}  // namespace

int
main(int argc, char **argv)
{
    const char *python = std::getenv("AG_PYTHON");
    PyConfig config;
    PyStatus status;

    PyConfig_InitPythonConfig(&config);
    status = PyConfig_SetBytesString(&config, &config.program_name, python ? python : AG_PYTHON);
    if (!PyStatus_Exception(status)) {
        status = Py_InitializeFromConfig(&config);
    }
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status)) {
        Py_ExitStatusException(status);
    }
    if (ag_import() < 0) {
        PyErr_Print();
        return 1;
    }
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
        return 2;
    }
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return Py_FinalizeEx() < 0;
}
