"""Group N: nested host loops."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from ..api import CaseContext, case
from ..hostside import attempts, from_host, soon
from ..support import socket_pair


def _same(value: Any) -> Any:
    return value


class Beat:
    """A task of the guest that counts; the sign that the guest goes on."""

    def __init__(self) -> None:
        self.count = 0
        self.task: asyncio.Task[None]

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(0.005)
            self.count += 1

    async def more(self, n: int = 5) -> None:
        """Wait until the count has grown by `n`."""
        goal = self.count + n
        while self.count < goal:
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def beating() -> AsyncIterator[Beat]:
    beat = Beat()
    beat.task = asyncio.create_task(beat._beat())
    try:
        yield beat
    finally:
        beat.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beat.task


@contextlib.asynccontextmanager
async def always_ready(t: CaseContext) -> AsyncIterator[None]:
    """The guest has something ready at every moment."""

    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    task = asyncio.create_task(spin())
    try:
        yield
        t.check(not task.done(), "a task was killed")
    finally:
        task.cancel()


@contextlib.asynccontextmanager
async def standing_still(t: CaseContext, beat: Beat) -> AsyncIterator[None]:
    """The block runs a loop of the host's in a turn of the guest's: there the guest does nothing, not even what the host's
    callbacks give it, which it does afterwards."""
    loop = asyncio.get_running_loop()
    given: list[str] = []
    before = beat.count
    for ms in (5, 20):  # twice: a turn that was refused must not make way for the next
        t.driver.host_timer(ms, lambda: loop.call_soon_threadsafe(given.append, "given"))
    yield
    t.check(beat.count == before and not given, "the guest ran inside its own turn", given=len(given))
    async with asyncio.timeout(10):
        while len(given) < 2:
            await asyncio.sleep(0.001)


async def _goes_on_during(t: CaseContext, opener: Callable[[Callable[[], Any]], Any], closer: Callable[[], Any]) -> Any:
    """`opener(on_open)` blocks in a host callback; the guest beats, serves a socket, and then has `closer` called
    from the host.  Returns what `opener` returned."""
    loop = asyncio.get_running_loop()
    with socket_pair() as (a, b):
        got: asyncio.Queue[bytes] = asyncio.Queue()
        loop.add_reader(a, lambda: got.put_nowait(a.recv(10)))
        opened = asyncio.Event()
        returned: asyncio.Future[Any] = loop.create_future()
        during: list[int] = []
        async with beating() as beat:

            def callback() -> None:
                result = opener(opened.set)
                during.append(beat.count)
                returned.set_result(result)

            soon(t, callback)
            await asyncio.wait_for(opened.wait(), 10)
            t.check(not returned.done(), "the nested loop did not block its callback")
            before = beat.count
            await beat.more(10)
            b.send(b"x")
            t.check(await asyncio.wait_for(got.get(), 5) == b"x", "the socket was not served")
            t.check(await asyncio.to_thread(lambda: 3) == 3, "no answer from a thread")
            t.check(not returned.done(), "the nested loop ended by itself")
            t.driver.call_from_host(closer)
            result = await asyncio.wait_for(returned, 10)
            t.check(during[0] >= before + 10, "the guest stood still during the nested loop", beats=during[0] - before)
            await beat.more(3)
        loop.remove_reader(a)
    return result


@case(
    "N.01a-modal-from-host",
    "A modal dialog opened in a host callback: the guest's timers, sockets and threads go on while it is "
    "open, and after.",
    needs="host modal",
    oracle="own",
    report="async-tkinter-loop",
    rejects="a guest driven from the application's own loop only",
)
async def modal_from_host(t: CaseContext) -> None:
    answer = await _goes_on_during(t, t.driver.open_modal, lambda: t.driver.close_modal("cancel"))
    t.check(answer == "cancel", "the dialog was answered otherwise", answer=answer)
    answer = await _goes_on_during(t, t.driver.open_modal, lambda: t.driver.close_modal("ok"))
    t.check(answer == "ok", "the dialog was answered otherwise", answer=answer)


@case(
    "N.01b-nested-loop-from-host",
    "The same for a nested main loop opened in a host callback.",
    needs="host nested",
    oracle="own",
    rejects="a host source that may not recurse",
)
async def nested_from_host(t: CaseContext) -> None:
    def opener(on_open: Callable[[], Any]) -> None:
        t.driver.call_from_host(on_open)
        t.driver.nested_loop()

    await _goes_on_during(t, opener, t.driver.end_nested)


@case(
    "N.01c-nested-loop-beside-a-busy-guest",
    "The same while the guest always has something ready: the turn that was due when the nested loop opened "
    "happens in it.",
    needs="host nested",
    oracle="own",
    rejects="a host whose main loop alone knows of the turn that it was about to give",
)
async def nested_beside_busy(t: CaseContext) -> None:
    async with always_ready(t):
        await nested_from_host(t)


async def _paused_by(t: CaseContext, block: Callable[[], Any], opens: int = 1) -> None:
    """`block()`, called from a coroutine, runs a nested host loop: the guest pauses, and goes on afterwards."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    other_log: list[str] = []

    async def other() -> str:
        # The task that another bridge killed: it becomes ready while the dialog is open.
        await asyncio.sleep(0.03)
        other_log.append("woken")
        await asyncio.sleep(0.03)
        return "finished"

    with socket_pair() as (a, b):
        heard: list[bytes] = []
        loop.add_reader(a, lambda: heard.append(a.recv(10)))
        async with beating() as beat:
            others = [asyncio.create_task(other()) for _ in range(3)]
            await beat.more(2)
            for _ in range(opens):
                b.send(b"x")  # ready all the while: nothing must spin on it
                cpu, began = time.process_time(), time.monotonic()
                block()
                t.measure("CPU share while paused", (time.process_time() - cpu) / (time.monotonic() - began), "")
                t.check(asyncio.current_task() is task, "another task is current after the nested loop")
                t.check(asyncio.get_running_loop() is loop, "another loop is running after the nested loop")
                await beat.more(3)
            results = await asyncio.wait_for(asyncio.gather(*others), 10)
            t.check(results == ["finished"] * 3, "the other tasks ended in another way", results=results)
            t.check(b"".join(heard) == b"x" * opens, "the socket was not served", heard=len(heard))
            t.check(not beat.task.done(), "a task was killed")
        loop.remove_reader(a)


@case(
    "N.02a-modal-inside-coroutine",
    "A modal dialog opened from inside a coroutine: the guest pauses, no task is killed or lost, and it "
    "goes on afterwards.",
    needs="host modal timer",
    oracle="own",
    report="qasync#59",
    rejects="a bridge that enters the next task on top of the one that is paused",
)
async def modal_inside(t: CaseContext) -> None:
    def block() -> None:
        answer = t.driver.open_modal(lambda: t.driver.host_timer(100, t.driver.close_modal))
        t.check(answer == "ok", "the dialog was answered otherwise", answer=answer)

    await _paused_by(t, block, 2)


@case(
    "N.02b-nested-inside-coroutine",
    "The same for a nested main loop of the host.",
    needs="host nested",
    oracle="own",
    report="qasync#59",
    rejects="a bridge that enters the next task on top of the one that is paused; mutant nested-turn",
)
async def nested_inside(t: CaseContext) -> None:
    await _paused_by(t, lambda: t.driver.nested_loop(ms=100), 2)


@case(
    "N.02c-paused-guest-does-not-spin",
    "While a coroutine is blocked in a nested host loop and the guest has work waiting, the host sleeps: "
    "it uses no more CPU than without a guest.",
    needs="host loop nested timer",
    oracle="own",
    rejects="a level-triggered descriptor that is left watched while re-entry is refused; mutant paused-guest-spins",
)
def no_spin(t: CaseContext) -> None:
    def cpu_of(block: Callable[[], Any]) -> float:
        began, cpu = time.monotonic(), time.process_time()
        block()
        return (time.process_time() - cpu) / (time.monotonic() - began)

    def nested() -> None:
        t.driver.nested_loop(ms=400)

    def once() -> tuple[bool, str, dict[str, float]]:
        bare: list[float] = []

        def in_bare_host() -> None:
            bare.append(cpu_of(nested))
            t.driver.quit()

        t.driver.host_timer(20, in_bare_host)
        t.driver.run()

        async def main() -> float:
            loop = asyncio.get_running_loop()
            with socket_pair() as (a, b):
                loop.add_reader(a, lambda: a.recv(10))
                loop.call_later(0.05, lambda: None)
                keep = [asyncio.create_task(asyncio.sleep(0)) for _ in range(3)]
                b.send(b"x")
                share = cpu_of(nested)
                await asyncio.gather(*keep)
                loop.remove_reader(a)
            return share

        guest = t.run(main)
        figures = {"CPU share, bare": bare[0], "CPU share, guest paused": guest}
        # Of the wall clock, and a host that spins on a busy machine gets little of it.
        return guest <= bare[0] + 0.06, "the host spins while the guest is paused", figures

    attempts(t, once)


@case(
    "N.02d-host-callbacks-while-paused",
    "While a coroutine is blocked in a nested host loop, host callbacks come and may give the guest "
    "work; it is done afterwards.",
    needs="host nested timer",
    oracle="own",
    report="qasync#59",
    rejects="a guest that runs tasks inside a paused one, or forgets what it was given meanwhile",
)
async def work_while_paused(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    events: list[str] = []
    tasks: list[asyncio.Task[None]] = []

    async def work() -> None:
        events.append("task")

    def callback() -> None:
        events.append("host callback")
        tasks.append(loop.create_task(work()))
        loop.call_soon(events.append, "call_soon")
        loop.call_later(0.001, events.append, "call_later")

    t.driver.host_timer(20, callback)
    t.driver.nested_loop(ms=120)
    events.append("nested loop returned")
    await asyncio.sleep(0.05)
    t.check(events[:2] == ["host callback", "nested loop returned"], "the guest did not pause", events=events)
    t.check(sorted(events[2:]) == ["call_later", "call_soon", "task"], "not everything was done", events=events)


@case(
    "N.02e-nested-inside-callback",
    "A nested host loop opened in a plain callback of the guest's (call_soon): the same.",
    needs="host nested timer",
    oracle="own",
    rejects="a guest that starts an iteration inside a callback of another",
)
async def nested_inside_callback(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    events: list[str] = []
    done = loop.create_future()

    def block() -> None:
        events.append("in")
        t.driver.nested_loop(ms=80)
        events.append("out")

    loop.call_soon(block)
    loop.call_soon(events.append, "next in line")
    loop.call_later(0.02, events.append, "timer")
    loop.call_later(0.03, done.set_result, None)
    await done
    t.check(events == ["in", "out", "next in line", "timer"], "another order of events", events=events)


@case(
    "N.03a-modal-call",
    "`modal()` of a dialog, awaited in a coroutine: the other tasks go on while it is open; it returns "
    "the dialog's answer.",
    needs="host modal modal_api",
    oracle="own",
    report="trio#1578",
    rejects="a modal call that is the plain call",
)
async def modal_call(t: CaseContext) -> None:
    async with beating() as beat:
        for answer in ("ok", "cancel"):
            opened = asyncio.Event()
            waiting = asyncio.create_task(t.modal(t.driver.open_modal, opened.set))
            await asyncio.wait_for(opened.wait(), 10)
            await beat.more(10)
            t.check(not waiting.done(), "the dialog closed by itself")
            t.driver.call_from_host(lambda: t.driver.close_modal(answer))
            got = await asyncio.wait_for(waiting, 10)
            t.check(got == answer, "another answer", got=got)


@case(
    "N.03b-modal-call-results",
    "`modal()` returns what the function returns, falsy values too, raises what it raises, and calls it "
    "outside any task.",
    needs="host modal_api",
    oracle="own",
    rejects="a modal call that runs the function in a task",
)
async def modal_results(t: CaseContext) -> None:
    values: list[Any] = [None, 0, "", (1, 2)]
    for value in values:
        got: Any = await t.modal(_same, value)
        t.check(got == value and type(got) is type(value), "another result", got=got)
    t.check(await t.modal(max, 3, 9, 4) == 9, "another result")

    def fail() -> None:
        raise LookupError("inside")

    try:
        await t.modal(fail)
        t.check(False, "the exception was lost")
    except LookupError as exc:
        t.check(str(exc) == "inside", "another exception")
    seen = await t.modal(lambda: (asyncio.current_task(), asyncio.get_running_loop()))
    t.check(seen[0] is None, "a task is current inside the modal call")
    own = seen[1] is asyncio.get_running_loop()
    t.check(own != ("asyncio" in t.driver.abilities), "another loop is running inside the modal call")


@case(
    "N.03c-modal-call-cancelled",
    "Cancelling the task that awaits `modal()` drops the result and does not interrupt the dialog.",
    needs="host nested timer modal_api",
    oracle="own",
    rejects="a cancellation that is delivered into the dialog's loop, or a result set on a cancelled future",
)
async def modal_cancelled(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    heard: list[Any] = []
    loop.set_exception_handler(lambda _loop, context: heard.append(context))
    events: list[str] = []
    opened, closed = asyncio.Event(), asyncio.Event()

    def dialog() -> str:
        t.driver.call_from_host(opened.set)
        t.driver.nested_loop()
        events.append("dialog returned")
        closed.set()
        return "dropped"

    async def waiter() -> None:
        try:
            await t.modal(dialog)
            events.append("result")
        except asyncio.CancelledError:
            events.append("cancelled")
            raise

    async with beating() as beat:
        task = asyncio.create_task(waiter())
        await asyncio.wait_for(opened.wait(), 10)
        task.cancel()
        await asyncio.wait([task], timeout=5)
        t.check(events == ["cancelled"], "the cancellation did not come first", events=events)
        await beat.more(3)
        t.driver.call_from_host(t.driver.end_nested)
        await asyncio.wait_for(closed.wait(), 10)
        await beat.more(3)
    t.check(events == ["cancelled", "dialog returned"], "another order of events", events=events)
    t.check(not heard, "the exception handler was called", heard=heard)


@case(
    "N.03d-teardown-waits-for-modal",
    "The teardown waits for a modal call that is still open; host callbacks go on meanwhile.",
    needs="host nested timer modal_api",
    oracle="own",
    rejects="a loop closed under an open dialog; mutant teardown-before-modal",
)
def teardown_waits(t: CaseContext) -> None:
    events: list[str] = []
    keep: list[Any] = []

    async def main() -> str:
        opened = asyncio.Event()

        def dialog() -> None:
            t.driver.call_from_host(opened.set)
            t.driver.host_timer(200, lambda: events.append("host callback"))
            t.driver.nested_loop(ms=300)
            events.append("dialog returned to a closed loop" if loop.is_closed() else "dialog returned")

        loop = asyncio.get_running_loop()
        keep.append(asyncio.create_task(t.modal(dialog)))
        await asyncio.wait_for(opened.wait(), 10)
        events.append("main ends")
        return "result"

    t.check(t.run(main) == "result", "another result")
    events.append("run ended")
    expected = ["main ends", "host callback", "dialog returned", "run ended"]
    t.check(events == expected, "another order of events", events=events)


@case(
    "N.03e-modal-call-beside-a-busy-guest",
    "`modal()` while the guest always has something ready: the turn that was due when the dialog's loop opened happens in it.",
    needs="host nested modal_api",
    oracle="own",
    rejects="a host that makes the call and keeps the turn that is due for afterwards",
)
async def modal_beside_busy(t: CaseContext) -> None:
    opened = asyncio.Event()

    def dialog() -> None:
        t.driver.call_from_host(opened.set)
        t.driver.nested_loop()

    async with always_ready(t):
        waiting = asyncio.create_task(t.modal(dialog))
        await asyncio.wait_for(opened.wait(), 10)
        t.check(not waiting.done(), "the dialog ended by itself")
        t.driver.call_from_host(t.driver.end_nested)
        await asyncio.wait_for(waiting, 10)


@case(
    "N.04a-three-deep",
    "Three nested loops opened from host callbacks, left in another order than they were entered: the "
    "guest goes on all the time, at each depth.",
    needs="host nested",
    oracle="own",
    rejects="a guest that remembers one level of nesting",
)
async def three_deep(t: CaseContext) -> None:
    left: set[int] = set()
    returned: list[int] = []
    entered: asyncio.Queue[int] = asyncio.Queue()

    def enter(depth: int) -> None:
        t.driver.call_from_host(lambda: entered.put_nowait(depth))
        t.driver.nested_loop(until=lambda: depth in left)
        returned.append(depth)

    async with beating() as beat:
        for depth in (1, 2, 3):
            soon(t, lambda depth=depth: enter(depth))  # type: ignore[misc]
            t.check(await asyncio.wait_for(entered.get(), 10) == depth, "another loop was entered")
            await beat.more(5)
        for depth in (1, 2):
            left.add(depth)
            await beat.more(10)
            t.check(not returned, "an outer loop returned before the inner one", returned=returned)
        left.add(3)
        deadline = time.monotonic() + 5 * t.scale
        while len(returned) < 3 and time.monotonic() < deadline:
            await beat.more(1)
        t.check(returned == [3, 2, 1], "the loops were left in an impossible order", returned=returned)
        await beat.more(5)


@case(
    "N.04b-three-modal-calls",
    "Three `modal()` calls open at once return last in, first out, each to its own task, whatever order "
    "they are told to end in.",
    needs="host nested modal_api",
    oracle="own",
    rejects="results handed to the wrong task",
)
async def three_modal_calls(t: CaseContext) -> None:
    left: set[int] = set()
    order: list[int] = []
    entered: asyncio.Queue[int] = asyncio.Queue()

    def dialog(depth: int) -> int:
        t.driver.call_from_host(lambda: entered.put_nowait(depth))
        t.driver.nested_loop(until=lambda: depth in left)
        return depth * 10

    async def waiter(depth: int) -> int:
        result = await t.modal(dialog, depth)
        order.append(depth)
        return result

    async with beating() as beat:
        tasks = []
        for depth in (1, 2, 3):
            tasks.append(asyncio.create_task(waiter(depth)))
            t.check(await asyncio.wait_for(entered.get(), 10) == depth, "another dialog was opened")
            await beat.more(3)
        for depth in (1, 2, 3):
            t.check(not order, "an outer dialog returned first", order=order)
            left.add(depth)
            await beat.more(5)
        results = await asyncio.wait_for(asyncio.gather(*tasks), 10)
        t.check(results == [10, 20, 30], "results in the wrong tasks", results=results)
        t.check(order == [3, 2, 1], "another order", order=order)


@case(
    "N.04c-nested-in-coroutine-in-nested",
    "A coroutine that runs inside a host callback's nested loop opens one of its own: there the guest stands still; both "
    "end, everything goes on.",
    needs="host nested timer",
    oracle="own",
    rejects="a guest whose `turning` flag is cleared by the inner loop",
)
async def coroutine_in_nested(t: CaseContext) -> None:
    returned: list[str] = []
    opened = asyncio.Event()
    ended = asyncio.Event()
    enough: list[bool] = []

    def outer() -> None:
        t.driver.call_from_host(opened.set)
        # Not for a time: it has to be open when the coroutine's own ends, on a machine that stalls too.
        t.driver.nested_loop(until=lambda: bool(enough), ms=20_000)
        returned.append("outer")
        ended.set()

    async with beating() as beat:
        soon(t, outer)
        await asyncio.wait_for(opened.wait(), 10)
        async with standing_still(t, beat):
            t.driver.nested_loop(ms=50)
            returned.append("inner")
        await beat.more(5)
        t.check(returned == ["inner"], "another order", returned=returned)
        enough.append(True)
        await asyncio.wait_for(ended.wait(), 10)
        await beat.more(5)


@case(
    "N.05a-first-step",
    "The very first step of the main coroutine opens a nested host loop: the guest pauses, then goes on.",
    needs="host nested timer",
    oracle="own",
    report="qtinter#18",
    rejects="a guest that takes its first turn for over, or a turn of its own inside it",
)
def first_step(t: CaseContext) -> None:
    async def main() -> str:
        ticks: list[int] = []
        timer = t.driver.host_timer(10, lambda: ticks.append(1), repeat=True)
        async with beating() as beat:
            async with standing_still(t, beat):
                t.driver.nested_loop(ms=100)
                timer.cancel()
                t.check(len(ticks) >= 3, "the host stood still", ticks=len(ticks))
            await beat.more(5)
        return "result"

    t.check(t.run(main) == "result", "another result")


@case(
    "N.05b-eager-first-step",
    "The eager first step of a task opens a nested host loop, from a coroutine and from a host callback: "
    "everybody goes on.",
    needs="host nested timer",
    oracle="own",
    report="qtinter#18",
    rejects="a guest that takes an eager step for a task of its own turn",
    min_python=(3, 12),
)
async def eager_first_step(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]

    async def paused() -> str:
        async with standing_still(t, beat):
            t.driver.nested_loop(ms=50)
        return "coroutine"

    async def eager() -> str:
        t.driver.nested_loop(ms=50)
        await asyncio.sleep(0.001)
        return "host callback"

    async with beating() as beat:
        t.check(await asyncio.create_task(paused()) == "coroutine", "another result")
        await beat.more(3)
        task = await from_host(t, lambda: loop.create_task(eager()))
        t.check(await task == "host callback", "another result")
        await beat.more(3)


@case(
    "N.06a-menu",
    "While a menu is open the guest goes on, and after it is closed.",
    needs="host window input",
    oracle="own",
    rejects="a guest driven from the application's own loop only",
)
async def menu(t: CaseContext) -> None:
    opened = asyncio.Event()
    async with beating() as beat:
        soon(t, lambda: t.driver.open_menu(opened.set))
        await asyncio.wait_for(opened.wait(), 10)
        before = beat.count
        await asyncio.wait_for(beat.more(10), 10)
        t.check(beat.count >= before + 10, "the guest stood still while the menu was open")
        await from_host(t, t.driver.close_menu)
        await beat.more(5)


@case(
    "N.06b-drag",
    "While the pointer's button is held down and moved across the window, the guest goes on.",
    needs="host window input",
    oracle="own",
    rejects="a guest that stops while the toolkit has a grab",
)
async def drag(t: CaseContext) -> None:
    async with beating() as beat:
        await from_host(t, lambda: t.driver.inject_input("move", (20, 20)))
        await from_host(t, lambda: t.driver.inject_input("press"))
        before = beat.count
        try:
            for step in range(10):
                place = 20 + 10 * step, 20 + 5 * step
                await from_host(t, functools.partial(t.driver.inject_input, "move", place))
                await beat.more(1)
        finally:
            await from_host(t, lambda: t.driver.inject_input("release"))
        t.check(beat.count >= before + 10, "the guest stood still during the drag", beats=beat.count - before)
        await beat.more(5)


@case(
    "N.07a-process-events-inside-coroutine",
    "`update()`, `processEvents()` or the like inside a coroutine serves the host's events, never the "
    "guest's, and returns.",
    needs="host timer",
    oracle="own",
    rejects="a guest that is re-entered by the host's own pump, or keeps it from ending",
)
async def process_events(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    order: list[str] = []
    inside = False

    def guest_callback() -> None:
        t.check(not inside, "the guest ran inside the pump")
        order.append("guest")

    for _ in range(20):
        loop.call_soon(guest_callback)
        t.driver.call_from_host(lambda: order.append("host"))
        inside = True
        began = time.monotonic()
        try:
            while "host" not in order and time.monotonic() < began + 2 * t.scale:
                t.driver.process_events()
        finally:
            inside = False
        t.check(order == ["host"], "the pump did not serve the host alone", order=order)
        await asyncio.sleep(0)
        t.check(order == ["host", "guest"], "the guest's callback was lost", order=order)
        order.clear()
    async with beating() as beat:
        for _ in range(50):
            t.driver.process_events()
            await asyncio.sleep(0)
        await beat.more(3)


@case(
    "N.07b-process-events-in-host-callback",
    "The same in a host callback while the guest is never idle: it takes no longer than while the host's own idle work "
    "never ends.",
    needs="host loop nested timer idle flood",
    oracle="own",
    rejects="a guest that is always ready in the eyes of the host's pump, on a host whose own idle work is not",
)
def process_events_busy(t: CaseContext) -> None:
    busy = 0.4

    def pump() -> float:
        began = time.monotonic()
        t.driver.process_events()
        return time.monotonic() - began

    def once() -> tuple[bool, str, dict[str, float]]:
        bare: list[float] = []

        def in_bare_host() -> None:
            stop = t.driver.flood("idle")
            t.driver.host_timer(round(busy * 1000), stop)
            bare.append(pump())
            stop()
            t.driver.quit()

        t.driver.host_timer(20, in_bare_host)
        t.driver.run()

        async def main() -> float:
            async def load() -> None:
                until = time.monotonic() + busy + 0.05
                while time.monotonic() < until:
                    await asyncio.sleep(0)

            task = asyncio.create_task(load())
            seconds: float = await from_host(t, pump, 50)
            await task
            return seconds

        guest = t.run(main)
        figures = {"bare pump s": bare[0], "guest pump s": guest}
        return guest <= bare[0] + 0.1 * t.scale, "the host's pump did not return while the guest was busy", figures

    attempts(t, once)
