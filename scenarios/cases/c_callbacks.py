"""Group C: callbacks and handles."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import os
import signal
import sys
import traceback
import warnings
from typing import Any

from ..api import CaseContext, case
from ..support import asyncio_log, digest, from_thread, iterations, socket_pair, spin_until

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="unset")


def _context(value: str) -> contextvars.Context:
    context = contextvars.copy_context()
    context.run(VAR.set, value)
    return context


@case(
    "C.01a-fifo-of-ten-thousand",
    "Ten thousand callbacks run in the order in which they were scheduled.",
    report="qasync#123",
    rejects="qasync, where each callback is a native timer",
)
async def fifo(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    ran: list[int] = []
    for i in range(10_000):
        loop.call_soon(ran.append, i)
    loop.call_soon(done.set_result, None)
    await done
    t.check(ran == list(range(10_000)), "callbacks ran out of order", ran=len(ran))
    t.log("ran", len(ran))


@case(
    "C.01b-round-robin-of-chains",
    "Chains of callbacks, tasks and futures that reschedule themselves take turns, strictly.",
    report="qasync#123",
    rejects="a ready queue drained depth first",
)
async def round_robin(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    trace: list[str] = []

    def chain(name: str, left: int) -> None:
        trace.append(name)
        if left:
            loop.call_soon(chain, name, left - 1)

    async def stepper(name: str) -> None:
        for _ in range(60):
            trace.append(name)
            await asyncio.sleep(0)

    async def waiter(name: str) -> None:
        for _ in range(60):
            trace.append(name)
            future = loop.create_future()
            loop.call_soon(future.set_result, None)
            await future

    tasks = []
    for i in range(20):
        loop.call_soon(chain, f"c{i}", 60)
        tasks.append(asyncio.create_task(stepper(f"s{i}")))
        tasks.append(asyncio.create_task(waiter(f"w{i}")))
    await asyncio.gather(*tasks)
    await iterations(3)
    t.log("first 70", trace[:70])
    t.log("all", [len(trace), digest(" ".join(trace))])


@case(
    "C.01c-fifo-across-ways-in",
    "call_soon, call_soon_threadsafe, a task's first step and a done callback share one queue.",
    rejects="a queue of its own for call_soon_threadsafe",
)
async def across_ways_in(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    future.add_done_callback(lambda _: t.log("done callback"))

    async def step() -> None:
        t.log("first step")

    loop.call_soon(t.log, "soon 1")
    loop.call_soon_threadsafe(t.log, "threadsafe 1")
    task = asyncio.create_task(step())
    future.set_result(None)
    loop.call_soon_threadsafe(t.log, "threadsafe 2")
    loop.call_soon(t.log, "soon 2")
    await iterations(3)
    await task


@case(
    "C.02a-next-iteration",
    "What a callback schedules runs after all that was ready before, and after one look at the descriptors.",
    rejects="a turn that drains its queue before it polls; mutant ready-unbounded",
)
async def next_iteration(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (a, b):
        done = loop.create_future()

        def first() -> None:
            t.log("first")
            b.send(b"x")
            loop.call_soon(second)

        def second() -> None:
            t.log("second")
            loop.call_soon(third)

        def third() -> None:
            t.log("third")
            done.set_result(None)

        def readable() -> None:
            t.log("readable", a.recv(1).decode())
            loop.remove_reader(a)

        loop.add_reader(a, readable)
        await asyncio.sleep(0)
        loop.call_soon(first)
        loop.call_soon(t.log, "scheduled before second")
        await done


@case(
    "C.02b-due-timers-between",
    "A timer that falls due while a callback runs is served next, behind what that callback scheduled.",
    rejects="timers looked at after the ready queue, or once a turn",
)
async def due_timers_between(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def busy() -> None:
        loop.call_at(loop.time() + 0.001, t.log, "timer")
        loop.call_soon(t.log, "soon")
        loop.call_soon(loop.call_soon, t.log, "one iteration later")
        loop.call_soon(loop.call_soon, loop.call_soon, done.set_result, None)
        spin_until(loop, loop.time() + 0.002)
        t.log("busy ends")

    loop.call_soon(busy)
    await done


@case(
    "C.02c-never-synchronous",
    "Nothing that schedules runs the callback before it returns.",
    rejects="a loop that steps tasks or done callbacks eagerly",
)
async def never_synchronous(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    async def step() -> None:
        t.log("step")

    with socket_pair() as (a, b):
        b.send(b"x")
        loop.call_soon(t.log, "soon")
        loop.call_later(0, t.log, "later")
        loop.call_soon_threadsafe(t.log, "threadsafe")
        loop.add_writer(b, lambda: (t.log("writable", actor="writer"), loop.remove_writer(b)))
        loop.add_reader(a, lambda: (t.log("readable", actor="reader"), loop.remove_reader(a)))
        task = asyncio.create_task(step())
        future.set_result(None)
        future.add_done_callback(lambda _: t.log("done"))
        t.log("nothing ran")
        await iterations(4)
        await task


@case(
    "C.03a-cancel-before-run",
    "A callback cancelled while it is ready, by an earlier one of the same iteration too, does not run.",
    rejects="a batch of callbacks taken out of the queue beforehand",
)
async def cancel_before_run(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    first = loop.call_soon(t.log, "never: cancelled at once")
    first.cancel()
    victims: list[asyncio.Handle] = []
    loop.call_soon(lambda: [victim.cancel() for victim in victims])
    victims.append(loop.call_soon(t.log, "never: cancelled in the same iteration"))
    loop.call_soon(t.log, "runs")
    victims.append(loop.call_soon_threadsafe(t.log, "never: a threadsafe one"))
    await iterations(2)
    t.log("cancelled", [first.cancelled(), *(v.cancelled() for v in victims)])


@case(
    "C.03b-cancel-due-timer",
    "A timer that is due already, but cancelled by a callback before it in the same iteration, does not fire.",
    rejects="due timers fired straight from the host",
)
async def cancel_due_timer(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    base = loop.time() + 0.002
    loop.call_at(base, lambda: (t.log("first"), second.cancel()))
    second = loop.call_at(base + 0.0001, t.log, "never")
    loop.call_at(base + 0.0002, t.log, "third")
    loop.call_soon(spin_until, loop, base + 0.001)
    await iterations(4)


@case(
    "C.03c-cancel-lets-go",
    "A cancelled handle lets go of its callback and arguments at once.",
    rejects="arguments kept in a host's timer",
)
async def cancel_lets_go(t: CaseContext) -> None:
    import weakref

    class Thing:
        def method(self, *args: Any) -> None:
            t.log("never")

    loop = asyncio.get_running_loop()
    for schedule in (loop.call_soon, loop.call_soon_threadsafe, functools.partial(loop.call_later, 3600)):
        thing = Thing()
        ref = weakref.ref(thing)
        handle = schedule(thing.method, thing)
        del thing
        handle.cancel()
        t.log("let go", ref() is None)
    await iterations(2)


@case(
    "C.04a-context-of-callbacks",
    "Every way of scheduling runs its callback in the context given, or else in a copy of the caller's.",
    report="rubicon-objc#747",
    rejects="a bridge that drops context=; mutant context-of-caller-lost",
)
async def context_of_callbacks(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    VAR.set("caller")

    def tell(name: str) -> None:
        t.log(name, VAR.get())
        VAR.set(f"changed by {name}")

    given = _context("given")
    for name, schedule in (
        ("call_soon", loop.call_soon),
        ("call_soon_threadsafe", loop.call_soon_threadsafe),
        ("call_later", functools.partial(loop.call_later, 0)),
        ("call_at", functools.partial(loop.call_at, loop.time())),
    ):
        schedule(tell, name)
        await iterations(3)
        schedule(tell, name + " with context", context=given)
        await iterations(3)
    t.log("the caller's own", VAR.get())
    t.log("the given one", given.run(VAR.get))


@case(
    "C.04b-context-of-readers",
    "Readers, writers and signal handlers run in the context of their registration, each time.",
    needs="signals",
    report="rubicon-objc#747",
    rejects="readers run in the host's context; mutant context-of-handle-ignored",
)
async def context_of_readers(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (a, b):
        runs = 0
        done = loop.create_future()

        def readable() -> None:
            nonlocal runs
            a.recv(1)
            t.log("reader", VAR.get())
            VAR.set(f"changed {runs}")
            runs += 1
            if runs == 2:
                loop.remove_reader(a)
                done.set_result(None)
            else:
                b.send(b"y")

        VAR.set("at add_reader")
        loop.add_reader(a, readable)
        VAR.set("at add_writer")
        written = loop.create_future()
        loop.add_writer(b, lambda: (t.log("writer", VAR.get()), loop.remove_writer(b), written.set_result(None)))
        VAR.set("at add_signal_handler")
        signalled = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR2, lambda: (t.log("signal", VAR.get()), signalled.set_result(None)))
        VAR.set("main's")
        await written
        b.send(b"x")
        await done
        os.kill(os.getpid(), signal.SIGUSR2)
        await signalled
        loop.remove_signal_handler(signal.SIGUSR2)
        t.log("main", VAR.get())


@case(
    "C.04c-context-of-tasks",
    "Tasks and done callbacks keep the context they were given, or a copy of their creator's, over every step.",
    report="rubicon-objc#747",
    rejects="steps run in the context of whoever woke them",
)
async def context_of_tasks(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()

    async def body(name: str) -> None:
        t.log(name, VAR.get())
        VAR.set(f"set by {name}")
        await asyncio.sleep(0.001)
        t.log(name, VAR.get())
        await iterations(2)
        t.log(name, VAR.get())

    VAR.set("creator")
    given = _context("given")
    await asyncio.gather(
        asyncio.create_task(body("copy")),
    )
    await asyncio.create_task(body("given"), context=given)
    t.log("the creator's own", VAR.get())
    t.log("the given one", given.run(VAR.get))
    future = loop.create_future()
    future.add_done_callback(lambda _: t.log("done callback", VAR.get()))
    future.add_done_callback(lambda _: t.log("done callback with context", VAR.get()), context=given)
    VAR.set("at set_result")
    future.set_result(None)
    await iterations(2)


@case(
    "C.05a-threadsafe-handle",
    "`call_soon_threadsafe` returns a Handle that can be cancelled.",
    rejects="qasync, which returns None",
)
async def threadsafe_handle(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    handle = loop.call_soon_threadsafe(t.log, "never")
    t.log("is a Handle", isinstance(handle, asyncio.Handle))
    handle.cancel()
    t.log("cancelled", handle.cancelled())
    await iterations(3)


@case(
    "C.05b-threadsafe-wakes",
    "A call from another thread wakes a loop that has nothing at all to do.",
    needs="threads",
    rejects="a lost wake; mutant lost-wake-thread",
)
async def threadsafe_wakes(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    for i in range(30):
        woken = loop.create_future()
        # Now and then only when the loop is asleep for certain: a thread that is quicker needs no wake.
        thread = from_thread(
            lambda woken=woken, i=i: loop.call_soon_threadsafe(woken.set_result, i), once_asleep=i % 10 == 0
        )
        t.log("woken", await woken)
        thread.join()


async def _threads(t: CaseContext, threads: int, calls: int) -> None:
    loop = asyncio.get_running_loop()
    ran: dict[int, list[int]] = {k: [] for k in range(threads)}
    left = threads
    done = loop.create_future()

    def finished() -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set_result(None)

    def sender(k: int) -> None:
        for i in range(calls):
            loop.call_soon_threadsafe(ran[k].append, i)
        loop.call_soon_threadsafe(finished)

    started = [from_thread(functools.partial(sender, k)) for k in range(threads)]
    await done
    for thread in started:
        thread.join()
    for k in range(threads):
        t.check(ran[k] == list(range(calls)), "a thread's calls were lost or reordered", thread=k, ran=len(ran[k]))
    t.log("ran", sum(map(len, ran.values())))


@case(
    "C.05c-eight-threads",
    "Calls from 8 threads all run, those of each thread in its order.",
    needs="threads",
    rejects="a wake that is dropped while the queue is being read",
)
async def eight_threads(t: CaseContext) -> None:
    await _threads(t, 8, 1_000)


@case(
    "C.05d-eight-threads-of-ten-thousand",
    "10,000 calls from each of 8 threads all run, those of each thread in its order.",
    needs="threads",
    tier="full",
    rejects="a wake-up pipe that fills up",
    timeout=60,
)
async def eight_threads_full(t: CaseContext) -> None:
    await _threads(t, 8, 10_000)


@case(
    "C.05e-threadsafe-after-close",
    "Scheduling on a closed loop is a RuntimeError, from its own thread and from another.",
    needs="threads",
    rejects="a loop that takes calls it will never run",
)
def threadsafe_after_close(t: CaseContext) -> None:
    async def main() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    loop = t.run(main)
    t.log("closed", loop.is_closed())

    def attempt(name: str) -> None:
        for schedule in (loop.call_soon, loop.call_soon_threadsafe, functools.partial(loop.call_later, 0)):
            try:
                schedule(t.log, "never")
            except RuntimeError as exc:
                t.log(name, str(exc))
            else:
                t.log(name, "taken")

    attempt("own thread")
    from_thread(lambda: attempt("another thread")).join()


@case(
    "C.05f-threadsafe-from-a-callback-while-asleep",
    "Calls from a thread that come while the loop is about to sleep are not delayed.",
    needs="threads",
    rejects="a wake lost between the last look at the queue and the sleep",
)
async def ping_pong(t: CaseContext) -> None:
    import queue

    loop = asyncio.get_running_loop()
    inbox: queue.SimpleQueue[asyncio.Future[int] | None] = queue.SimpleQueue()

    def echo() -> None:
        n = 0
        while (future := inbox.get()) is not None:
            n += 1
            loop.call_soon_threadsafe(future.set_result, n)

    thread = from_thread(echo)
    start = loop.time()
    trips: list[float] = []
    before = start
    while len(trips) < 500:
        future = loop.create_future()
        inbox.put(future)
        n = await future
        now = loop.time()
        trips.append(now - before)
        before = now
        if now - start >= 5 * t.scale:
            break
    inbox.put(None)
    thread.join()
    t.measure("round trip", (before - start) / len(trips), "s")
    t.check(before - start < 5 * t.scale, "wakes were late", took=before - start, trips=len(trips))
    # On a slow machine the sum leaves room for a loop that only polls; half of the trips do not, on any.
    usual = sorted(trips)[len(trips) // 2]
    t.check(usual < 0.05, "wakes are late as a rule", usual=usual)
    t.log("round trips", n)


@case(
    "C.06a-bound-methods-kept",
    "Bound scheduling methods taken before, inside and between runs work whenever they are called later.",
    rejects="wrappers put onto the loop for the time of a run",
)
def bound_methods_kept(t: CaseContext) -> None:
    loop = t.new_loop()
    kept: dict[str, Any] = {}

    def take(name: str) -> None:
        kept[name] = (loop.call_soon, loop.call_later, loop.call_at, loop.call_soon_threadsafe)

    def use(when: str) -> None:
        for name, (soon, later, at, threadsafe) in kept.items():
            soon(t.log, f"soon: taken {name}, called {when}")
            threadsafe(t.log, f"threadsafe: taken {name}, called {when}")
            later(0, t.log, f"later: taken {name}, called {when}")
            at(0, functools.partial(t.log, f"at: taken {name}, called {when}", actor=f"at, taken {name}"))

    async def first() -> None:
        loop.call_soon(take, "in a callback")
        take("in a task")
        await iterations(2)
        use("in the first run")
        await iterations(3)

    async def second() -> None:
        t.log("second run")
        await iterations(3)
        use("in the second run")
        await asyncio.sleep(0.002)

    try:
        take("before")
        use("before the run")
        loop.run_until_complete(first())
        take("between")
        use("between the runs")
        loop.run_until_complete(second())
    finally:
        loop.close()
    try:
        kept["in a task"][0](print)
    except RuntimeError as exc:
        t.log("after close", str(exc))


@case(
    "C.06b-bound-method-called-by-the-host",
    "A bound `call_soon` taken inside a callback is served at once when a host callback calls it.",
    needs="host",
    oracle="own",
    report="asyncio-glib#3",
    rejects="a loop that does not see what the host's callbacks schedule",
)
async def bound_method_by_host(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    taken: list[Any] = []
    loop.call_soon(lambda: taken.append(loop.call_soon))
    await iterations(2)
    for i in range(5):
        served = loop.create_future()
        started = loop.time()
        t.driver.call_from_host(lambda served=served: taken[0](served.set_result, None))
        await served
        t.check(loop.time() - started < 1.0 * t.scale, "served late", took=loop.time() - started)
        t.log("served", i)


@case(
    "C.07a-handle-run-patched",
    "A `Handle._run` patched while the loop runs sees every callback from then on, until it is put back.",
    level="SHOULD",
    rejects="an engine that calls handles' callbacks by itself without looking",
)
async def handle_run_patched(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    original = asyncio.Handle._run  # type: ignore[attr-defined]
    seen: list[str] = []

    def traced(self: asyncio.Handle) -> None:
        callback = self._callback  # type: ignore[attr-defined]
        seen.append(getattr(callback, "__name__", type(callback).__name__))
        original(self)

    def alpha() -> None:
        pass

    def beta() -> None:
        pass

    loop.call_soon(setattr, asyncio.Handle, "_run", traced)
    loop.call_soon(alpha)
    loop.call_soon(beta)
    loop.call_soon(loop.call_later, 0, alpha)
    await iterations(3)
    t.log("seen", [name for name in seen if name in ("alpha", "beta")])
    seen.clear()
    loop.call_soon(beta)
    loop.call_soon(setattr, asyncio.Handle, "_run", original)
    loop.call_soon(alpha)
    await iterations(2)
    t.log("seen until it was put back", [name for name in seen if name in ("alpha", "beta")])


@case(
    "C.07b-debug-switched-in-mid-run",
    "set_debug(True) times the very next callback of the same iteration; set_debug(False) stops that.",
    rejects="an engine that looks at the debug flag once a turn",
)
async def debug_in_mid_run(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()

    def probe_before() -> None: ...

    def probe_same_iteration() -> None: ...

    def probe_next_iteration() -> None: ...

    def probe_after() -> None: ...

    loop.slow_callback_duration = 0.0
    with asyncio_log() as records:
        loop.call_soon(probe_before)
        loop.call_soon(loop.set_debug, True)
        loop.call_soon(probe_same_iteration)
        loop.call_soon(loop.call_soon, probe_next_iteration)
        await iterations(3)
        loop.set_debug(False)
        loop.call_soon(probe_after)
        await iterations(3)
    names = ("probe_before", "probe_same_iteration", "probe_next_iteration", "probe_after")
    t.log("timed", [name for record in records for name in names if name in record.getMessage()])
    t.log("debug", loop.get_debug())


@case(
    "C.07c-handle-subclass",
    "A callback that is replaced by a subclass's own `_run` is run by that.",
    level="SHOULD",
    rejects="an engine that takes every handle for a plain one",
)
async def handle_subclass(t: CaseContext) -> None:
    from unittest import mock  # slow to import

    loop = asyncio.get_running_loop()

    class Loud(asyncio.Handle):
        def _run(self) -> None:
            t.log("loud run")
            super()._run()  # type: ignore[misc]

    with mock.patch("asyncio.events.Handle", Loud):
        loop.call_soon(t.log, "inside")
    loop.call_soon(t.log, "plain")
    await iterations(2)


@case(
    "C.08a-frames-in-a-callback",
    "Callbacks find a frame below them: `sys._getframe(1)`, warnings with a stacklevel, logging's caller, eval.",
    rejects="callbacks entered from C with no Python frame below",
)
async def frames(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()

    def own_frame() -> None:
        t.log("_getframe(1)", isinstance(sys._getframe(1).f_globals, dict))
        t.log("stack", len(traceback.extract_stack()) > 1)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for level in (1, 2, 3):
                warnings.warn(f"level {level}", UserWarning, stacklevel=level)
        t.log("warned", [str(w.message) for w in caught])
        t.log("level 1 is here", caught[0].filename == __file__)

    loop.call_soon(own_frame)
    await iterations(2)
    results: list[Any] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.call_soon(warnings.warn, "from C", UserWarning)
        loop.call_soon(warnings.warn, "from C with a stacklevel", UserWarning, 2)
        loop.call_soon(lambda: results.append(eval("1 + 1")))
        loop.call_soon(exec, "pass")
        loop.call_soon(globals)
        loop.call_soon(sys._getframe)
        loop.call_soon(sys._getframe, 1)
        await iterations(3)
    t.log("warned", [str(w.message) for w in caught])
    t.log("results", results)


@case(
    "C.08b-logging-from-a-callback",
    "A logger's method is a callback like any other, and finds its caller; so it does when a callback calls it.",
    rejects="callbacks entered from C with no Python frame below",
)
async def logging_callback(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    records: list[logging.LogRecord] = []
    logger = logging.getLogger("scenarios.c08b")
    logger.propagate = False
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger.addHandler(handler)

    def own() -> None:
        logger.warning("from a function")

    try:
        loop.call_soon(own)
        loop.call_soon(logger.warning, "%s sheep", 3)
        loop.call_later(0, logger.error, "from a timer")
        await iterations(3)
    finally:
        logger.removeHandler(handler)
    t.log("logged", [record.getMessage() for record in records])
    t.log("called by", [records[0].funcName, records[0].pathname == __file__])
    # With no frame below its own a logger takes itself for the caller.
    t.log("has a caller", [record.pathname != logging.__file__ and record.lineno > 0 for record in records])


@case(
    "C.08c-traceback-of-an-error",
    "The traceback of an exception out of a callback starts where asyncio's does and ends in the callback.",
    level="SHOULD",
    rejects="tracebacks lost on the way through C",
)
async def traceback_of_error(t: CaseContext) -> None:
    from ..support import listen

    loop = asyncio.get_running_loop()
    heard = listen(loop)

    def inner() -> None:
        raise LookupError("on purpose")

    def outer() -> None:
        inner()

    loop.call_soon(outer)
    await iterations(2)
    loop.set_exception_handler(None)
    names = [frame.name for frame in traceback.extract_tb(heard[0]["exception"].__traceback__)]
    t.log("last frames", names[-2:])
