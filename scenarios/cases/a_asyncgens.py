"""Group A: asynchronous generators."""

from __future__ import annotations

import asyncio
import sys
import threading
import warnings
from collections.abc import AsyncGenerator
from typing import Any

from ..api import CaseContext, case
from ..support import from_thread, iterations, listen, settle, socket_pair


async def _numbers(t: CaseContext, name: str) -> AsyncGenerator[int, None]:
    n = 0
    try:
        while True:
            yield n
            n += 1
    finally:
        await asyncio.sleep(0)
        t.log("closed", n, actor=name)


@case(
    "A.01-hooks-installed",
    "The hooks for asynchronous generators are set in tasks, callbacks, timers and readers.",
    rejects="a loop that never sets them (qasync); mutant asyncgen-hooks-missing",
)
async def hooks_installed(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()

    def hooks() -> list[bool]:
        return [hook is not None for hook in sys.get_asyncgen_hooks()]

    t.log("task", hooks())
    loop.call_soon(lambda: t.log("callback", hooks()))
    await iterations(2)
    loop.call_later(0, lambda: t.log("timer", hooks()))
    await iterations(3)
    with socket_pair() as (a, b):
        done = loop.create_future()
        loop.add_reader(a, lambda: (t.log("reader", hooks()), loop.remove_reader(a), done.set_result(None)))
        b.send(b"x")
        await done


@case(
    "A.02a-closed-at-teardown",
    "Generators left half-way and still referenced are closed at the end of the run, and may await then.",
    rejects="a teardown without shutdown_asyncgens; mutant generators-not-closed",
)
def closed_at_teardown(t: CaseContext) -> None:
    kept: list[Any] = []

    async def main() -> int:
        for i in range(3):
            generator = _numbers(t, f"generator {i}")
            kept.append(generator)
            for _ in range(i + 1):
                await anext(generator)
        untouched = _numbers(t, "never: not started")
        kept.append(untouched)
        return len(kept)

    t.log("result", t.run(main))
    t.log("frames left", [generator.ag_frame is not None for generator in kept])
    kept.clear()


@case(
    "A.02b-closed-when-main-fails",
    "The same when the main task fails or is cancelled: tasks end first, then the generators.",
    rejects="a teardown skipped on errors",
)
def closed_when_main_fails(t: CaseContext) -> None:
    async def other() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            t.log("task cancelled", actor="order")

    async def generator() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            t.log("generator closed", actor="order")

    kept: list[Any] = []

    async def main(exc: BaseException) -> None:
        each = generator()
        kept.append((each, asyncio.create_task(other())))
        await anext(each)
        await iterations(2)
        raise exc

    for exc in (LookupError("on purpose"), asyncio.CancelledError()):
        try:
            t.run(main, exc)
        except BaseException as caught:
            t.log("out", type(caught).__name__)
        kept.clear()


@case(
    "A.02c-shutdown-asyncgens",
    "`shutdown_asyncgens` in mid-run closes what is open, and is harmless when it is called again.",
    rejects="generators closed twice",
)
async def shutdown_asyncgens(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    generators = [_numbers(t, f"generator {i}") for i in range(3)]
    for generator in generators:
        await anext(generator)
    await generators[0].aclose()
    t.log("closing")
    await loop.shutdown_asyncgens()
    t.log("closed")
    for generator in generators:
        t.log("next", await anext(generator, "finished"))
    await loop.shutdown_asyncgens()


@case(
    "A.03a-already-running",
    "A second `anext`, and an `aclose`, while one is under way are RuntimeErrors; afterwards all goes on.",
    report="draggable#13",
    rejects="a bridge that queues or drops what a generator is asked for while it is busy",
)
async def already_running(t: CaseContext) -> None:
    go = asyncio.Event()

    async def waits() -> AsyncGenerator[str, None]:
        await go.wait()
        yield "first"
        yield "second"

    generator = waits()
    task = asyncio.create_task(anext(generator))  # type: ignore[arg-type]
    await iterations(2)
    for name, attempt in (
        ("anext", lambda: anext(generator)),
        ("aclose", generator.aclose),
        ("asend", lambda: generator.asend(None)),
    ):
        try:
            await attempt()  # type: ignore[operator]
        except RuntimeError as exc:
            t.log(name, str(exc))
    go.set()
    t.log("first", await task)
    t.log("second", await anext(generator))
    t.log("end", await anext(generator, "end"))


@case(
    "A.03b-running-in-a-nested-loop",
    "Who asks a generator for more while its body is blocked in a nested host loop is served afterwards, and not "
    "told that it is already running.",
    needs="host nested timer",
    oracle="own",
    report="draggable#13",
    rejects="a bridge that re-enters a running generator from a nested loop",
)
async def running_in_a_nested_loop(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    events: list[str] = []
    called: asyncio.Future[None] = loop.create_future()

    async def blocks() -> AsyncGenerator[int, None]:
        for n in range(3):
            events.append(f"{n} begins")
            t.driver.nested_loop(ms=80)
            events.append(f"{n} ends")
            yield n

    generator = blocks()

    def callback() -> None:
        step: Any = generator.asend(None)
        try:
            step.send(None)
        except StopIteration as yielded:
            events.append(f"callback has {yielded.value}")
        except (RuntimeError, ValueError) as exc:
            events.append(f"callback: {exc}")
        called.set_result(None)

    def from_host() -> None:
        events.append("host callback")
        loop.call_soon(callback)

    t.driver.host_timer(20, from_host)
    events.append(f"main has {await anext(generator)}")
    await called
    events.append(f"main has {await anext(generator)}")
    expected = ["0 begins", "host callback", "0 ends", "main has 0"]
    expected += ["1 begins", "1 ends", "callback has 1", "2 begins", "2 ends", "main has 2"]
    t.check(events == expected, "another order of events", events=events)
    await generator.aclose()


@case(
    "A.04-own-loop",
    "A generator first run by another thread's loop, and dropped in this one, is closed by that loop.",
    needs="threads",
    rejects="hooks that are the process's, or a finaliser that uses the current loop",
)
async def own_loop(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    box: list[Any] = []
    closed: asyncio.Future[list[bool]] = loop.create_future()
    stop = threading.Event()

    async def generator(home: asyncio.AbstractEventLoop) -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            where = [asyncio.get_running_loop() is home, asyncio.get_running_loop() is loop]
            loop.call_soon_threadsafe(closed.set_result, where)

    async def other() -> None:
        box.append(generator(asyncio.get_running_loop()))
        await anext(box[0])
        loop.call_soon_threadsafe(ready.set_result, None)
        while not stop.is_set():
            await asyncio.sleep(0.001)

    thread = from_thread(lambda: asyncio.run(other()))
    await ready
    box.clear()
    await settle()
    t.log("closed in [its own, this]", await closed)
    stop.set()
    await loop.run_in_executor(None, thread.join)


@case(
    "A.05-hooks-restored",
    "Hooks that were set before the run do not hear of the run's generators and are there again afterwards.",
    rejects="hooks left behind, or set to None",
)
def hooks_restored(t: CaseContext) -> None:
    def first(generator: Any) -> None:
        t.log("host's first", generator.__name__)

    def last(generator: Any) -> None:
        t.log("host's last", generator.__name__)

    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(first, last)
    try:

        async def main() -> None:
            async for _ in _numbers(t, "inside"):
                break
            t.log("in the run", [hook in (first, last) for hook in sys.get_asyncgen_hooks()])
            await settle()

        for _ in range(2):
            t.run(main)
            t.log(
                "after the run",
                [sys.get_asyncgen_hooks().firstiter is first, sys.get_asyncgen_hooks().finalizer is last],
            )
        loop = t.new_loop()
        loop.run_until_complete(main())
        t.log("after run_until_complete", sys.get_asyncgen_hooks().firstiter is first)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
    finally:
        sys.set_asyncgen_hooks(*before)


@case(
    "A.06a-dropped-half-way",
    "A generator dropped half-way is closed by the loop, in a task, soon, while the program goes on.",
    rejects="clean-up left to the end of the run, or to the collector outside any task",
)
async def dropped_half_way(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()

    async def generator() -> AsyncGenerator[int, None]:
        try:
            yield 1
            yield 2
        finally:
            t.log("closing", [asyncio.current_task() is not None, asyncio.get_running_loop() is loop])
            await asyncio.sleep(0.001)
            t.log("closed")
            closed.set()

    closed = asyncio.Event()
    async for n in generator():
        t.log("left at", n)
        break
    await settle()
    await closed.wait()


@case(
    "A.06b-dropped-by-a-thread",
    "A generator whose last reference goes in another thread is closed by the loop, which was asleep.",
    needs="threads",
    rejects="a finaliser that does not wake the loop",
)
async def dropped_by_a_thread(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    closed = asyncio.Event()
    main_thread = threading.get_ident()

    async def generator() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            t.log("closing on the loop's thread", threading.get_ident() == main_thread)
            closed.set()

    box = [generator()]
    await anext(box[0])
    release = threading.Event()

    def drop() -> None:
        release.wait(20 * t.scale)
        box.clear()

    thread = from_thread(drop)
    loop.call_later(0.005, release.set)
    await closed.wait()
    thread.join()


@case(
    "A.07a-errors-in-clean-up",
    "An error in one generator's clean-up at teardown is reported once, and the others are closed all the same.",
    rejects="a teardown that stops at the first error",
)
def errors_in_clean_up(t: CaseContext) -> None:
    heard: list[dict[str, Any]] = []
    kept: list[Any] = []

    async def sour() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            raise LookupError("in clean-up")

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
        for generator in (_numbers(t, "before"), sour(), _numbers(t, "after")):
            kept.append(generator)
            await anext(generator)

    t.run(main)
    kept.clear()
    t.log(
        "heard",
        [[context["message"].partition(":")[0].partition("<")[0], str(context["exception"])] for context in heard],
    )


@case(
    "A.07b-error-of-a-dropped-one",
    "An error in the clean-up of a generator that was dropped goes to the exception handler, once.",
    rejects="an error swallowed with its task",
)
async def error_of_a_dropped_one(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    heard = listen(loop)

    async def sour() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            raise LookupError("in clean-up")

    async for _ in sour():
        break
    await settle(5)
    loop.set_exception_handler(None)
    t.log("heard", [[context["message"], str(context["exception"])] for context in heard])


@case(
    "A.08-after-the-shutdown",
    "A generator first run after `shutdown_asyncgens` gives a ResourceWarning, and runs.",
    rejects="hooks of the bridge's own",
)
async def after_the_shutdown(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    await loop.shutdown_asyncgens()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        generator = _numbers(t, "late")
        t.log("next", await anext(generator))
        await generator.aclose()
    t.log("warned", [warning.category.__name__ for warning in caught])
