"""Group X: threads and executors."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import gc
import signal
import threading
import time
import weakref
from typing import Any

from ..api import CaseContext, case
from ..hostside import QueueHost
from ..support import from_thread, iterations, listen, outcome, settle, socket_pair

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="unset")


@case(
    "X.01a-results-and-exceptions",
    "`run_in_executor` brings back results and exceptions, and the callers stay apart.",
    needs="threads",
    rejects="an exception lost in the worker",
)
async def results_and_exceptions(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()

    def work(i: int) -> int:
        if i % 7 == 3:
            raise LookupError(i)
        return i * i

    futures = [loop.run_in_executor(None, work, i) for i in range(40)]
    results = await asyncio.gather(*futures, return_exceptions=True)
    t.log("results", [repr(result) for result in results])
    for base in (SystemExit, KeyboardInterrupt):

        def leave(base: type[BaseException] = base) -> None:
            raise base(3)

        future = loop.run_in_executor(None, leave)
        await asyncio.wait([future])
        t.log("base exception", type(future.exception()).__name__)


@case(
    "X.01b-loop-goes-on-meanwhile",
    "The loop goes on while a worker waits, and hears of its end though it is idle.",
    needs="threads",
    rejects="a wake lost when the worker's future is done",
)
async def goes_on_meanwhile(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    release = threading.Event()
    future = loop.run_in_executor(None, lambda: (release.wait(20 * t.scale), "released")[1])
    for i in range(3):
        await asyncio.sleep(0.002)
        t.log("tick", i)
    loop.call_later(0.002, release.set)
    t.log("worker", await future)
    for i in range(30):
        t.check(await loop.run_in_executor(None, lambda i=i: i) == i, "another worker's result")
    t.log("thirty round trips")


@case(
    "X.01c-cancelled-call",
    "Cancelling the future of a running worker cancels the wait, not the worker; a queued one never starts.",
    needs="threads",
    rejects="a cancelled call whose late result is an error",
)
async def cancelled_call(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    heard = listen(loop)
    release = threading.Event()
    started, finished = threading.Event(), threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:

        def work() -> None:
            started.set()
            release.wait(20 * t.scale)
            finished.set()

        running = loop.run_in_executor(pool, work)
        queued = loop.run_in_executor(pool, t.log, "never")
        await loop.run_in_executor(None, started.wait)
        for future in (running, queued):
            future.cancel()
        await asyncio.wait([running, queued])
        t.log("waits", [outcome(running), outcome(queued)])
        t.log("finished", finished.is_set())
        release.set()
        # By the same worker, so the late result is here then.
        t.log("next", await loop.run_in_executor(pool, finished.is_set))
    await iterations(3)
    t.log("errors", [repr(context.get("exception")) for context in heard])


@case(
    "X.02-to-thread-context",
    "`to_thread` runs in a copy of the caller's context, on another thread, without a running loop.",
    needs="threads",
    rejects="a context lost at the thread's door",
)
async def to_thread_context(t: CaseContext) -> None:
    def work() -> tuple[str, bool, bool]:
        before = VAR.get()
        VAR.set("set in the worker")
        try:
            asyncio.get_running_loop()
            running = True
        except RuntimeError:
            running = False
        return before, running, threading.current_thread() is threading.main_thread()

    VAR.set("the caller's")
    t.log("worker saw", list(await asyncio.to_thread(work)))
    t.log("caller sees", VAR.get())
    t.log("executor saw", await asyncio.get_running_loop().run_in_executor(None, VAR.get))


@case(
    "X.03a-shutdown-waits",
    "The end of the run waits for the default executor's workers.",
    needs="threads",
    rejects="a teardown that leaves threads behind",
)
def shutdown_waits(t: CaseContext) -> None:
    release = threading.Event()
    finished = threading.Event()

    def work() -> None:
        release.wait(20 * t.scale)
        finished.set()

    async def main() -> str:
        loop = asyncio.get_running_loop()
        loop.run_in_executor(None, work)
        t.log("main ends", finished.is_set())
        timer = threading.Timer(0.03, release.set)
        timer.daemon = True
        timer.start()
        return "result"

    t.log("result", t.run(main))
    t.log("finished", finished.is_set())


@case(
    "X.03b-shutdown-default-executor",
    "`shutdown_default_executor` waits without blocking the loop, and refuses calls that come after it.",
    needs="threads",
    rejects="a shutdown that blocks the host",
)
async def shutdown_default_executor(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    release = threading.Event()
    worker = loop.run_in_executor(None, lambda: (release.wait(20 * t.scale), "worker's result")[1])
    shutdown = asyncio.create_task(loop.shutdown_default_executor())
    await asyncio.sleep(0.005)
    t.log("shut down", shutdown.done())
    release.set()
    t.log("worker", await worker)
    await shutdown
    try:
        loop.run_in_executor(None, int)
    except RuntimeError as exc:
        t.log("refused", str(exc))


@case(
    "X.04-default-executor-replaced",
    "`set_default_executor` is obeyed, and only takes thread pools.",
    needs="threads",
    rejects="an executor of the bridge's own, always used",
)
async def default_executor_replaced(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()

    def name() -> str:
        return threading.current_thread().name.rpartition("_")[0]

    pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="replaced")
    loop.set_default_executor(pool)
    t.log("default", await loop.run_in_executor(None, name))
    t.log("to_thread", await asyncio.to_thread(name))
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="own") as own:
        t.log("given", await loop.run_in_executor(own, name))
    try:
        loop.set_default_executor(object())  # type: ignore[arg-type]
    except TypeError as exc:
        t.log("refused", type(exc).__name__)


@case(
    "X.05-wrong-thread-in-debug-mode",
    "In debug mode call_soon, call_later and call_at from another thread are RuntimeErrors, and do nothing.",
    needs="threads",
    rejects="wrappers that skip the loop's own check",
)
def wrong_thread(t: CaseContext) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        def attempt() -> None:
            for name, call in (
                ("call_soon", functools.partial(loop.call_soon, t.log, "never")),
                ("call_later", functools.partial(loop.call_later, 0, t.log, "never")),
                ("call_at", functools.partial(loop.call_at, 0, t.log, "never")),
                ("call_soon_threadsafe", functools.partial(loop.call_soon_threadsafe, t.log, "sent")),
            ):
                try:
                    call()
                except RuntimeError as exc:
                    t.log(name, str(exc), actor="worker")
                else:
                    t.log(name, "taken", actor="worker")

        await asyncio.to_thread(attempt)
        await iterations(3)
        t.log("debug", loop.get_debug())

    t.run(main, debug=True)


def _second_loop(t: CaseContext, actor: str, rounds: int, ticked: threading.Event) -> str:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        with socket_pair() as (a, b):
            for i in range(rounds):
                await asyncio.sleep(0.001)
                sending = asyncio.create_task(loop.sock_sendall(b, b"%d" % i))
                t.log("received", (await loop.sock_recv(a, 10)).decode(), actor=actor)
                await sending
        t.log("worker", await asyncio.to_thread(lambda: "in a thread of a thread"), actor=actor)
        t.log("the first loop went on", await asyncio.to_thread(ticked.wait, 10 * t.scale), actor=actor)
        return actor

    return asyncio.run(main())


@case(
    "X.06a-plain-loop-on-a-second-thread",
    "An ordinary `asyncio.run` on a second thread works beside the loop, and neither sees the other.",
    needs="threads",
    rejects="a running loop, hooks or signals that are the process's instead of the thread's",
)
async def second_thread(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    ticked = threading.Event()
    future = loop.run_in_executor(None, _second_loop, t, "second", 10, ticked)
    ticks = 0
    while not future.done():
        await asyncio.sleep(0.001)
        ticks += 1
        if ticks == 3:
            ticked.set()
    t.log("second loop", await future)
    t.check(ticked.is_set(), "the first loop stood still", ticks=ticks)
    t.log("still mine", asyncio.get_running_loop() is loop)


@case(
    "X.06b-guest-on-a-second-thread",
    "A guest that is started on a second thread lives and ends there, and takes nothing of the main thread's: no running "
    "loop, no signal's handler or wakeup descriptor.",
    needs="start_guest_run threads signals",
    oracle="own",
    rejects="a guest that counts on the main thread; mutant wakeup-fd-taken-on-any-thread",
)
def guest_on_a_second_thread(t: CaseContext) -> None:
    ended: list[tuple[bool, ...]] = []
    waiting, go_on = threading.Event(), threading.Event()

    def second() -> None:
        here = threading.get_ident()
        host = QueueHost(t)

        async def main() -> tuple[bool, ...]:
            loop = asyncio.get_running_loop()
            waiting.set()
            worker = await loop.run_in_executor(None, lambda: go_on.wait(10 * t.scale) and threading.get_ident())
            await asyncio.sleep(0.002)
            return loop is guest.loop, threading.get_ident() == here, worker not in (False, here)

        guest = host.start(main)
        ended.append((*host.result(), guest.loop.is_closed()))

    handler = signal.getsignal(signal.SIGINT)
    thread = from_thread(second)
    t.check(waiting.wait(10 * t.scale), "the guest did not begin")
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        t.check(False, "a loop runs on the main thread")
    t.check(signal.getsignal(signal.SIGINT) is handler, "the main thread's handler of SIGINT is another one")
    fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fd)
    t.check(fd == -1, "the wakeup descriptor was taken")
    go_on.set()
    thread.join(10 * t.scale)
    t.check(ended == [(True, True, True, True)], "loop, thread, worker, closed", ended=ended)


@case(
    "X.07b-guests-that-talk",
    "Two guests on two threads pass a ball to each other, and each stays on its own thread.",
    needs="start_guest_run threads",
    oracle="own",
    rejects="a guest that is the process's instead of the thread's, or a wake that goes to the wrong one; "
    "mutant one-guest-a-process",
)
def guests_that_talk(t: CaseContext) -> None:
    rounds = 50
    ended: dict[int, tuple[int, bool]] = {}
    loops: dict[int, asyncio.AbstractEventLoop] = {}
    balls: list[asyncio.Queue[int]] = [asyncio.Queue(), asyncio.Queue()]
    begun, both = threading.Event(), threading.Barrier(2)

    def play(me: int) -> None:
        here = threading.get_ident()
        host = QueueHost(t)

        async def main() -> tuple[int, bool]:
            ball, at_home = 0, True
            for _ in range(rounds):
                if me == 0:
                    loops[1].call_soon_threadsafe(balls[1].put_nowait, ball)
                ball = await balls[me].get() + 1
                if me == 1:
                    loops[0].call_soon_threadsafe(balls[0].put_nowait, ball)
                at_home = at_home and threading.get_ident() == here and asyncio.get_running_loop() is loops[me]
            return ball, at_home

        if me == 1:
            begun.wait(10 * t.scale)  # one after the other, and both alive
        loops[me] = host.start(main).loop
        begun.set()
        both.wait(10 * t.scale)
        ended[me] = host.result()

    threads = [from_thread(functools.partial(play, me)) for me in range(2)]
    for thread in threads:
        thread.join(15 * t.scale)
    t.check(ended == {0: (2 * rounds, True), 1: (2 * rounds - 1, True)}, "the ball, and each at home", ended=ended)


@case(
    "X.07a-loops-that-talk",
    "Two loops on two threads hand coroutines and results to each other by `run_coroutine_threadsafe`.",
    needs="threads",
    rejects="a wake that goes to the wrong loop",
)
async def loops_that_talk(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    other_is: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()
    stop_is: list[asyncio.Event] = []

    async def other_main() -> None:
        stop_is.append(asyncio.Event())
        other_is.set_result(asyncio.get_running_loop())
        await stop_is[0].wait()

    thread = from_thread(lambda: asyncio.run(other_main()))
    other = await asyncio.wrap_future(other_is)

    async def here(n: int) -> int:
        t.check(asyncio.get_running_loop() is loop, "ran in the wrong loop")
        await asyncio.sleep(0)
        return n + 1

    async def there(n: int) -> int:
        t.check(asyncio.get_running_loop() is other, "ran in the wrong loop")
        if not n:
            return 0
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(here(n), loop))

    for n in range(0, 50, 7):
        t.log("answer", await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(there(n), other)))

    async def fails() -> None:
        raise LookupError("on purpose")

    try:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(fails(), other))
    except LookupError as exc:
        t.log("error", str(exc))
    forever = asyncio.run_coroutine_threadsafe(asyncio.sleep(3600), other)
    forever.cancel()
    t.log("cancelled", forever.cancelled())
    other.call_soon_threadsafe(stop_is[0].set)
    await loop.run_in_executor(None, thread.join)


@case(
    "X.08-nothing-kept-alive",
    "Neither loop nor worker keeps arguments, results or callbacks of calls that are over.",
    needs="threads",
    report="qasync#113",
    rejects="qasync, whose workers keep their last call until the next one comes",
)
async def nothing_kept_alive(t: CaseContext) -> None:
    class Thing:
        pass

    loop = asyncio.get_running_loop()
    refs: list[weakref.ref[Thing]] = []

    def work(thing: Thing) -> Thing:
        result = Thing()
        refs.append(weakref.ref(result))
        return result

    async def use() -> None:
        for schedule in ("executor", "soon", "threadsafe", "later"):
            thing = Thing()
            refs.append(weakref.ref(thing))
            if schedule == "executor":
                await loop.run_in_executor(None, work, thing)
            elif schedule == "soon":
                loop.call_soon(id, thing)
            elif schedule == "threadsafe":
                loop.call_soon_threadsafe(id, thing)
            else:
                loop.call_later(0, id, thing)
            del thing
            await iterations(3)

    await use()
    await settle()
    deadline = time.monotonic() + 5 * t.scale
    while any(ref() is not None for ref in refs) and time.monotonic() < deadline:
        await asyncio.sleep(0.002)  # a worker lets go between its result and its next wait
        gc.collect()
    t.log("kept", sum(ref() is not None for ref in refs))


@case(
    "X.09-many-workers-at-once",
    "More calls than workers are all served, each exactly once, results in the callers' hands.",
    needs="threads",
    rejects="results lost when many futures finish between two looks",
)
async def many_workers(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    lock = threading.Lock()
    ran: list[int] = []

    def work(i: int) -> int:
        with lock:
            ran.append(i)
        return -i

    results: list[Any] = await asyncio.gather(*(loop.run_in_executor(None, work, i) for i in range(500)))
    t.check(results == [-i for i in range(500)], "results were mixed up")
    t.log("ran", [len(ran), len(set(ran))])
