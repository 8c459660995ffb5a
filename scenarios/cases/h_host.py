"""Group H: the host's side."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from ..api import CaseContext, Outcome, case
from ..hostside import AT_ONCE, QueueHost, drive, from_host, soon
from ..support import from_thread, socket_pair

Act = Callable[[asyncio.AbstractEventLoop, "asyncio.Future[float]"], Any]


def _lost(t: CaseContext) -> float:
    """Seconds after which a loop's own timer serves what a host callback asked for and nobody noticed.  Beyond what
    counts as at once on the slowest machine, or a lost wake-up would pass there."""
    return max(3.0, 3 * AT_ONCE * t.scale)


@contextlib.contextmanager
def _rescued(t: CaseContext, fn: Callable[..., object], *args: Any) -> Iterator[None]:
    """Call `fn` after those seconds, unless the block is over by then: it can wait for what a host callback asks for, and
    be late instead of endless."""
    lost = asyncio.get_running_loop().call_later(_lost(t), fn, *args)
    try:
        yield
    finally:
        lost.cancel()


def _now(served: asyncio.Future[float]) -> None:
    if not served.done():
        served.set_result(time.monotonic())


async def _at_once(t: CaseContext, act: Act, rounds: int = 8) -> None:
    """`act`, called in a host callback while the loop has nothing but a far timer, is served at once."""
    loop = asyncio.get_running_loop()
    worst = 0.0
    for _ in range(rounds):
        served: asyncio.Future[float] = loop.create_future()
        acted: list[float] = []

        def call() -> None:
            acted.append(time.monotonic())
            act(loop, served)

        with _rescued(t, _now, served):
            soon(t, call)
            moment = await served
        t.check(acted, "the host's callback never came")
        worst = max(worst, moment - acted[0])
        t.check(
            worst <= AT_ONCE * t.scale,
            "what a host callback asked for was served late: its wake-up was lost",
            seconds=worst,
        )
    t.measure("served after", worst * 1e3, "ms")


@case(
    "H.01a-create-task",
    "A task created in a host callback starts at once.",
    needs="host",
    oracle="own",
    report="asyncio-glib#3",
    rejects="a selector proxy that is woken by its own timers and descriptors only; mutant wake-only-once",
)
async def create_task(t: CaseContext) -> None:
    tasks: list[asyncio.Task[None]] = []

    async def work(served: asyncio.Future[float]) -> None:
        _now(served)

    await _at_once(t, lambda loop, served: tasks.append(loop.create_task(work(served))))
    await asyncio.gather(*tasks)


@case(
    "H.01b-set-result",
    "A future's result set in a host callback wakes the task that awaits it, at once.",
    needs="host",
    oracle="own",
    report="asyncio-glib#3",
    rejects="a selector proxy that is woken by its own timers and descriptors only",
)
async def set_result(t: CaseContext) -> None:
    async def wait(future: asyncio.Future[None], served: asyncio.Future[float]) -> None:
        await future
        _now(served)

    loop = asyncio.get_running_loop()
    for _ in range(8):
        future: asyncio.Future[None] = loop.create_future()
        waiter: list[asyncio.Task[None]] = []
        served: asyncio.Future[float] = loop.create_future()
        waiter.append(loop.create_task(wait(future, served)))
        await asyncio.sleep(0)
        acted: list[float] = []

        def act() -> None:
            acted.append(time.monotonic())
            future.set_result(None)

        with _rescued(t, _now, served):
            soon(t, act)
            late = await served - acted[0]
        t.check(late <= AT_ONCE * t.scale, "the task was woken late", seconds=late)
        await waiter[0]


@case(
    "H.01c-event-set",
    "An Event set in a host callback wakes all its waiters, at once.",
    needs="host",
    oracle="own",
    report="asyncio-glib#3",
    rejects="a selector proxy that is woken by its own timers and descriptors only",
)
async def event_set(t: CaseContext) -> None:
    event = asyncio.Event()
    woken: list[float] = []

    async def wait() -> None:
        await event.wait()
        woken.append(time.monotonic())

    for _ in range(5):
        event.clear()
        woken.clear()
        tasks = [asyncio.create_task(wait()) for _ in range(10)]
        acted: list[float] = []

        def act() -> None:
            acted.append(time.monotonic())
            event.set()

        with _rescued(t, event.set):
            soon(t, act)
            await asyncio.wait(tasks)
        late = max(woken) - acted[0]
        t.check(late <= AT_ONCE * t.scale, "a waiter was woken late", seconds=late)


@case(
    "H.01d-call-soon",
    "A callback scheduled by `call_soon` in a host callback runs at once, and not inside that callback.",
    needs="host",
    oracle="own",
    report="asyncio-glib#3",
    rejects="a selector proxy that is woken by its own timers and descriptors only; "
    "mutant lost-wake-host-callback; mutant tk-wake-forgotten",
)
async def call_soon(t: CaseContext) -> None:
    inside = False

    def serve(served: asyncio.Future[float]) -> None:
        t.check(not inside, "the callback ran inside the host's")
        _now(served)

    def act(loop: asyncio.AbstractEventLoop, served: asyncio.Future[float]) -> None:
        nonlocal inside
        inside = True
        loop.call_soon(serve, served)
        inside = False

    await _at_once(t, act)


@case(
    "H.01e-call-later",
    "A timer set in a host callback, earlier than the one that the loop waits for, is in time.",
    needs="host",
    oracle="own",
    report="asyncio-glib#3",
    rejects="a deadline that is computed at the end of a turn and never again",
)
async def call_later(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    early = 0.0

    def serve(served: asyncio.Future[float], when: float) -> None:
        nonlocal early
        early = max(early, when - loop.time())
        _now(served)

    def act(loop: asyncio.AbstractEventLoop, served: asyncio.Future[float]) -> None:
        when = loop.time() + 0.02
        loop.call_at(when, serve, served, when)

    await _at_once(t, act)
    t.check(early <= time.get_clock_info("monotonic").resolution, "the timer fired early", seconds=early)


@case(
    "H.01f-cancel",
    "A task cancelled in a host callback gets its CancelledError at once.",
    needs="host",
    oracle="own",
    report="asyncio-glib#3",
    rejects="a selector proxy that is woken by its own timers and descriptors only",
)
async def cancel(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()

    async def sleeper(cancelled: asyncio.Future[float]) -> None:
        try:
            await asyncio.sleep(_lost(t))
        finally:
            _now(cancelled)

    for _ in range(8):
        served: asyncio.Future[float] = loop.create_future()
        task = asyncio.create_task(sleeper(served))
        await asyncio.sleep(0)
        acted: list[float] = []

        def act() -> None:
            acted.append(time.monotonic())
            t.check(task.cancel(), "cancel() said that there was nothing to cancel")

        soon(t, act)
        late = await served - acted[0]
        t.check(late <= AT_ONCE * t.scale, "the cancellation arrived late", seconds=late)
        await asyncio.wait([task])
        t.check(task.cancelled(), "the task was not cancelled")


@case(
    "H.01g-add-reader",
    "A descriptor that is readable already, and one that becomes readable later, added in a host "
    "callback, are served at once.",
    needs="host",
    oracle="own",
    report="asyncio-glib#3",
    rejects="a set of descriptors that is handed to the host at the end of a turn only",
)
async def add_reader(t: CaseContext) -> None:
    with socket_pair() as (a, b):

        def ready(loop: asyncio.AbstractEventLoop, served: asyncio.Future[float]) -> None:
            a.recv(100)
            loop.remove_reader(a)
            _now(served)

        def readable_already(loop: asyncio.AbstractEventLoop, served: asyncio.Future[float]) -> None:
            b.send(b"x")
            loop.add_reader(a, ready, loop, served)

        def readable_later(loop: asyncio.AbstractEventLoop, served: asyncio.Future[float]) -> None:
            loop.add_reader(a, ready, loop, served)
            b.send(b"x")

        await _at_once(t, readable_already)
        await _at_once(t, readable_later)


@case(
    "H.01h-set-exception-and-queue",
    "A queue filled and an exception set in a host callback wake their waiters at once, in order.",
    needs="host",
    oracle="own",
    report="asyncio-glib#3",
    rejects="a selector proxy that is woken by its own timers and descriptors only",
)
async def queue(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    items: asyncio.Queue[int] = asyncio.Queue()
    failing: asyncio.Future[None] = loop.create_future()
    got: list[int] = []
    acted: list[float] = []

    def act() -> None:
        acted.append(time.monotonic())
        for i in range(5):
            items.put_nowait(i)
        failing.set_exception(LookupError("from the host"))

    with _rescued(t, items.put_nowait, -1):
        soon(t, act)
        for _ in range(5):
            got.append(await items.get())
        try:
            await failing
            t.check(False, "the exception was lost")
        except LookupError:
            pass
        late = time.monotonic() - acted[0]
    t.check(got == [0, 1, 2, 3, 4], "the items came in another order", got=got)
    t.check(late <= AT_ONCE * t.scale, "the waiters were woken late", seconds=late)


@case(
    "H.01i-click",
    "A real click on a button whose handler creates a task starts it at once.",
    needs="host window input",
    oracle="own",
    report="asyncio-glib#3",
    rejects="a selector proxy that is woken by its own timers and descriptors only",
)
async def click(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    clicked: list[float] = []
    started: asyncio.Queue[float] = asyncio.Queue()
    tasks: list[asyncio.Task[None]] = []

    async def work() -> None:
        started.put_nowait(time.monotonic())

    def handler() -> None:
        clicked.append(time.monotonic())
        tasks.append(loop.create_task(work()))

    t.driver.on_click(handler)
    for i in range(3):
        with _rescued(t, lambda: started.put_nowait(time.monotonic())):
            await from_host(t, lambda: t.driver.inject_input("click"))
            late = await started.get() - (clicked[i] if len(clicked) > i else 0.0)
        t.check(len(clicked) == i + 1, "the click did not arrive", clicks=len(clicked))
        t.check(late <= AT_ONCE * t.scale, "the task started late", seconds=late)
    await asyncio.gather(*tasks)


@case(
    "H.01j-host-without-prepare",
    "Under a host that is only a queue of calls, what its callbacks do (set_result, call_later, cancel) is served at once.",
    needs="start_guest_run",
    oracle="own",
    report="asyncio-glib#3",
    rejects="a core that does not make its descriptor readable for work of a host callback",
)
def host_without_prepare(t: CaseContext) -> None:
    host = QueueHost(t)
    parts: dict[str, Any] = {}
    seen: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        sleeper = asyncio.create_task(asyncio.sleep(3600))
        parts.update(loop=loop, sleeper=sleeper, result=loop.create_future())
        seen.append(await parts["result"])
        timed = loop.create_future()
        parts["timed"] = timed
        seen.append(await timed)
        try:
            await sleeper
        except asyncio.CancelledError:
            seen.append("cancelled")

    def served(act: Callable[[], Any], until: Callable[[], Any], what: str) -> None:
        """What `act` does while the guest sleeps is served at once."""
        host.rest()
        acted = time.monotonic()
        act()
        host.run(until=until)
        late = time.monotonic() - acted
        t.check(late <= AT_ONCE * t.scale, f"the guest heard late of {what}", seconds=late)

    host.start(main)
    host.run(until=lambda: "result" in parts)
    served(lambda: parts["result"].set_result("set_result"), lambda: "timed" in parts, "set_result")
    served(
        lambda: parts["loop"].call_later(0.01, parts["timed"].set_result, "call_later"),
        lambda: len(seen) == 2,
        "call_later",
    )
    served(lambda: parts["sleeper"].cancel(), lambda: host.ended, "cancel")
    host.result()
    t.check(seen == ["set_result", "call_later", "cancelled"], "not all was served", seen=seen)


@case(
    "H.02-running-loop",
    "In a host callback between turns `get_running_loop()` is the guest's loop and no task is current; "
    "afterwards there is none. On a host that is itself asyncio it is the host's, all the time.",
    needs="host",
    oracle="own",
    rejects="a guest that sets the running loop for the length of a turn",
)
def running_loop(t: CaseContext) -> None:
    apart = "asyncio" in t.driver.abilities
    hosts: list[Any] = [t.driver.toolkit() if apart else None]
    hosts[0] = getattr(hosts[0], "asyncio_loop", hosts[0])  # an IOLoop's

    async def main() -> None:
        def look() -> tuple[asyncio.AbstractEventLoop, Any]:
            return asyncio.get_running_loop(), asyncio.current_task()

        for _ in range(2):
            loop, task = await from_host(t, look)
            expected = hosts[0] if apart else asyncio.get_running_loop()
            t.check(loop is expected, "another loop is running in the host's callback")
            t.check(task is None, "a task is current in the host's callback")

        def create() -> asyncio.Task[int]:
            async def seven() -> int:
                return 7

            return guest.create_task(seven()) if apart else asyncio.create_task(seven())

        guest = asyncio.get_running_loop()
        task = await from_host(t, create)
        t.check(await task == 7, "the task of the host's callback returned something else")

    def hidden(where: str) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        t.check(False, f"a loop is still running {where}")

    hidden("before the guest")
    t.run(main)
    hidden("after the guest")
    if {"loop", "timer"} <= t.driver.abilities:
        seen: list[Any] = []

        def late() -> None:
            try:
                seen.append(asyncio.get_running_loop())
            except RuntimeError:
                seen.append(None)
            t.driver.quit()

        t.driver.host_timer(20, late)
        t.driver.run()
        t.check(seen == hosts, "a loop is still running in the host's callbacks after the guest")


@case(
    "H.03a-order-of-host-callbacks",
    "While the guest is busy, the host's calls, timers and idle work keep their order among themselves.",
    needs="host timer idle",
    oracle="own",
    rejects="a guest that runs the host's callbacks from its own queue",
)
async def host_order(t: CaseContext) -> None:
    calls: list[int] = []
    timers: list[int] = []
    idles: list[int] = []
    busy = True

    async def load() -> None:
        while busy:
            await asyncio.sleep(0)

    task = asyncio.create_task(load())
    for i in range(20):
        t.driver.call_from_host(lambda i=i: calls.append(i))  # type: ignore[misc]
        t.driver.host_idle(lambda i=i: idles.append(i))  # type: ignore[misc]
    for i in (4, 1, 3, 0, 2):
        # Far apart: two that are due at once GLib calls in the order in which they were made.
        t.driver.host_timer(20 + 150 * i, lambda i=i: timers.append(i))  # type: ignore[misc]
    deadline = time.monotonic() + 5 * t.scale
    while (len(calls), len(timers), len(idles)) != (20, 5, 20) and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    busy = False
    await task
    t.check(calls == list(range(20)), "the host's calls came in another order", got=calls)
    t.check(timers == list(range(5)), "the host's timers came in another order", got=timers)
    t.check(idles == list(range(20)), "the host's idle work came in another order", got=idles)


@case(
    "H.03b-order-of-input",
    "Keys typed while the guest is busy all arrive, in their order.",
    needs="host window input",
    oracle="own",
    rejects="a guest that drops or reorders the host's events; mutant tk-turn-in-idle-call",
)
async def input_order(t: CaseContext) -> None:
    busy = True

    async def load() -> None:
        while busy:
            await asyncio.sleep(0)

    task = asyncio.create_task(load())
    text = "thequickbrownfox"
    for character in text:
        await from_host(t, lambda character=character: t.driver.inject_input("key", character))  # type: ignore[misc]
    deadline = time.monotonic() + 5 * t.scale
    while len(await from_host(t, t.driver.entry_text)) < len(text) and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    busy = False
    await task
    t.check(t.driver.entry_text() == text, "what was typed is not what arrived", got=t.driver.entry_text())


@case(
    "H.04a-host-quits-under-run",
    "The application's Quit ends the host's main loop under `run`: the guest is cancelled and finished, "
    "and run ends, soon.",
    needs="host loop",
    oracle="own",
    rejects="a run that waits for a main loop that is over",
)
def quits_under_run(t: CaseContext) -> None:
    ended: list[str] = []
    out_of_reach: list[str] = []

    async def main() -> None:
        task: Any = asyncio.current_task()

        def application_quits() -> None:
            try:
                t.driver.quit()
            except Exception as exc:
                out_of_reach.append(str(exc))
                task.cancel()

        soon(t, application_quits, 50)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            ended.append("cancelled")
            raise

    began = time.monotonic()
    try:
        t.run(main)
        ended.append("returned")
    except (asyncio.CancelledError, RuntimeError) as exc:
        t.measure("seconds", time.monotonic() - began, "s")
        ended.append("raised")
        t.check(not isinstance(exc, RuntimeError) or str(exc), "an error without a message")
    t.check(not out_of_reach, "the toolkit's own Quit does not reach the main loop that run drives", why=out_of_reach)
    t.check(ended == ["cancelled", "raised"], "the guest was not cancelled and finished", got=ended)
    t.check(time.monotonic() - began < 6 * t.scale, "it took too long", seconds=time.monotonic() - began)


@case(
    "H.04b-quit-and-cancel",
    "Quit first, then cancel the guest and run the host once more: it ends as cancelled, its clean-up complete.",
    needs="host loop timer start_api",
    oracle="own",
    rejects="a guest that is lost when its host's loop returns",
)
def quit_and_cancel(t: CaseContext) -> None:
    events: list[str] = []
    ended: list[Outcome] = []

    async def main() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.01)
            events.append("cleaned")

    def done(outcome: Outcome) -> None:
        ended.append(outcome)
        t.driver.quit()

    guest = t.start(main, done=done)
    t.driver.host_timer(50, t.driver.quit)
    t.driver.run()
    t.check(not ended and not events, "the guest ended with the host's loop", events=events)
    guest.cancel()
    drive(t, ended)
    t.check(events == ["cleaned"], "the clean-up did not complete", events=events)
    try:
        ended[0].unwrap()
        t.check(False, "the outcome is not the cancellation")
    except asyncio.CancelledError:
        pass


def _slow_server() -> tuple[socket.socket, Callable[[float], None]]:
    """A server that accepts, and answers only when told to (so many seconds later), from a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    accepted: list[socket.socket] = []

    def serve() -> None:
        accepted.append(listener.accept()[0])
        accepted[0].recv(100)

    thread = from_thread(serve)

    def answer(seconds: float) -> None:
        time.sleep(seconds)
        thread.join(5)
        if accepted:
            accepted[0].sendall(b"answer\n")
            accepted[0].close()
        listener.close()

    return listener, answer


@case(
    "H.05a-window-destroyed",
    "The window is destroyed in the middle of a request: the main coroutine ends once, cancelled or with "
    "its answer; run ends soon.",
    needs="host window",
    oracle="own",
    rejects="a guest whose finally blocks never run when the window goes first; "
    "mutant not-cancelled-when-the-host-goes",
)
def window_destroyed(t: CaseContext) -> None:
    listener, answer = _slow_server()
    ended: list[str] = []
    helper: list[Any] = []

    async def main() -> str:
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        try:
            writer.write(b"question\n")

            def destroy() -> None:
                t.driver.destroy_window()
                # Late enough for a host that has died with its window, soon for one that has not.
                helper.append(from_thread(lambda: answer(0.3)))

            t.driver.host_timer(50, destroy)
            got = (await reader.readline()).decode()
            ended.append("answered")
            return got
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        finally:
            writer.close()
            ended.append("cleaned")

    began = time.monotonic()
    try:
        got = t.run(main)
        t.check(got == "answer\n", "another answer", got=got)
        ended.append("returned")
    except (asyncio.CancelledError, RuntimeError):
        ended.append("raised")
    seconds = time.monotonic() - began
    for thread in helper:
        thread.join(5)
    t.check(helper, "the window was never destroyed")
    t.check(
        ended in (["cancelled", "cleaned", "raised"], ["answered", "cleaned", "returned"]),
        "the main coroutine did not end in an orderly way",
        got=ended,
    )
    t.check(seconds < 6 * t.scale, "it took too long", seconds=seconds)


@case(
    "H.05b-window-destroyed-under-start",
    "The same for a guest that the application started in its own main loop: the done callback comes once.",
    needs="host loop window timer start_api",
    oracle="own",
    rejects="a done callback that is never called when the window goes first",
)
def window_destroyed_under_start(t: CaseContext) -> None:
    events: list[str] = []
    ended: list[Outcome] = []

    async def main() -> None:
        t.driver.host_timer(50, t.driver.destroy_window)
        try:
            await asyncio.sleep(1)
        finally:
            events.append("cleaned")

    def done(outcome: Outcome) -> None:
        ended.append(outcome)
        events.append("done")
        t.driver.quit()

    t.start(main, done=done)
    t.driver.run()
    t.check(events == ["cleaned", "done"], "the guest did not end in an orderly way", events=events)


@case(
    "H.06-host-callback-raises",
    "An exception out of a host callback goes the host's own way; guest and host go on.",
    needs="host",
    oracle="own",
    rejects="a guest that ends with an exception that is not its own",
)
async def host_callback_raises(t: CaseContext) -> None:
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.005)
            beats += 1

    task = asyncio.create_task(beat())
    raised = 0

    def bad() -> None:
        nonlocal raised
        raised += 1
        raise LookupError("a host callback that raises")

    def expected(args: Any) -> None:
        t.check(isinstance(args.exc_value, LookupError), "another exception was reported", exc=args.exc_value)

    hook, sys.unraisablehook = sys.unraisablehook, expected
    try:
        for _ in range(3):
            soon(t, bad)
            await asyncio.sleep(0.03)
    finally:
        sys.unraisablehook = hook
    before = beats
    t.check(await from_host(t, lambda: 42) == 42, "the host's callbacks no longer come")
    await asyncio.sleep(0.05)
    t.check(raised == 3, "the callbacks did not come", raised=raised)
    t.check(beats > before, "the guest no longer goes on")
    t.check(not task.done(), "the exception reached a task of the guest")
    task.cancel()


@case(
    "H.07-host-loop-restarted",
    "The host's loop is run, stopped and run again under one guest: it goes on each time, and loses nothing meanwhile.",
    needs="host loop timer start_api",
    oracle="own",
    rejects="a guest that is bound to one call of the host's main function",
)
def host_loop_restarted(t: CaseContext) -> None:
    ended: list[Outcome] = []
    got: list[bytes] = []
    beats = 0
    enough = math.inf

    with socket_pair() as (a, b):

        async def main() -> str:
            nonlocal beats
            loop = asyncio.get_running_loop()
            loop.add_reader(a, lambda: got.append(a.recv(100)))
            try:
                while len(got) < 4:
                    await asyncio.sleep(0.005)
                    beats += 1
                    if beats >= enough and len(got) == i:
                        t.driver.quit()
            finally:
                loop.remove_reader(a)
            return "all"

        def done(outcome: Outcome) -> None:
            ended.append(outcome)
            t.driver.quit()

        t.start(main, done=done)
        for i in range(3):
            enough = beats + 4
            # The guest ends the run: timers of the host's before that one would wake a guest that was left asleep.
            guard = t.driver.host_timer(int(2000 * t.scale), t.driver.quit)
            t.driver.run()
            guard.cancel()
            t.check(not ended, f"the guest ended with the host's loop, in run {i + 1}")
            t.check(beats >= enough, f"the guest did not go on in run {i + 1}", beats=beats)
            t.check(len(got) == i, "a message was lost while the host was stopped", got=got)
            b.send(b"message")
        before, enough = beats, math.inf
        time.sleep(0.05)
        t.check(beats == before, "the guest ran while its host did not")
        t.driver.host_timer(30, lambda: b.send(b"message"))
        drive(t, ended)
        t.check(ended[0].unwrap() == "all", "another result")


@case(
    "H.08a-synchronous-post",
    "A `run_sync_soon_threadsafe` that calls the function at once, from the first time on or from a later one, is detected "
    "and refused, by an error that says so.",
    needs="start_guest_run",
    oracle="own",
    rejects="a guest that recurses until the stack is used up; mutant synchronous-post-runs-a-turn",
)
def synchronous_post(t: CaseContext) -> None:
    for first in (1, 2, 4):
        _synchronous(t, first, "run_sync_soon_threadsafe")


@case(
    "H.08b-synchronous-post-on-the-own-thread",
    "A `run_sync_soon_not_threadsafe` that calls the function at once is detected and refused, by an error that says so.",
    needs="start_guest_run",
    oracle="own",
    rejects="a guest that recurses, or waits for ever for the turn that was refused; mutant synchronous-again-unnoticed",
)
def synchronous_post_here(t: CaseContext) -> None:
    for first in (1, 2, 4):
        _synchronous(t, first, "run_sync_soon_not_threadsafe")


def _synchronous(t: CaseContext, first: int, name: str) -> None:
    """The host's function `name` calls what it is given at once, from its `first` call on."""
    host = QueueHost(t)
    depth = deepest = calls = 0
    ran: list[str] = []
    reported: list[BaseException | None] = []

    def post(fn: Callable[[], Any]) -> None:
        nonlocal calls, depth, deepest
        calls += 1
        if calls < first:
            host.post(fn)
            return
        depth += 1
        deepest = max(deepest, depth)
        try:
            fn()
        finally:
            depth -= 1

    async def main() -> None:
        ran.append("main")
        while True:  # the host's thread posts turn after turn
            await asyncio.sleep(0)

    hook, sys.unraisablehook = sys.unraisablehook, lambda args: reported.append(args.exc_value)
    error: BaseException | None = None
    guest = None
    try:
        guest = host.start(main, **{name: post})
        t.check(not ran, "the main coroutine ran inside the start")
        host.result()
    except RuntimeError as exc:
        error = exc
    finally:
        sys.unraisablehook = hook
        t.check(guest is None or guest.loop.is_closed(), "a synchronous post was neither refused nor reported", first=first)
    t.check(error is not None, "a synchronous post was accepted", first=first)
    text = str(error)
    t.check("post" in text or "run_sync_soon" in text, "the error does not name its cause", error=text)
    t.check(all(isinstance(one, RuntimeError) for one in reported), "another error was reported")
    t.check(deepest <= 2, "the post was called from within itself", deepest=deepest)
    reported.clear()
