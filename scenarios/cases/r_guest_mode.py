"""Group R: what Trio tests of its guest mode, told for asyncio.

The host of most of them is the smallest there is, a queue of functions that somebody calls, because there the case
itself decides what the host does and when.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import queue
import signal
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

from ..api import CaseContext, Outcome, case
from ..hostside import AT_ONCE, QueueHost, default_sigint
from ..support import socket_pair

RESOLUTION = time.get_clock_info("monotonic").resolution


@case(
    "R.01a-trivial",
    "The result and the exception of the main coroutine reach done_callback, once, on the host's thread, when the guest's "
    "loop is closed.",
    needs="start_guest_run",
    oracle="own",
    rejects="a guest that loses its outcome; mutant outcome-swallowed; mutant done-callback-twice; mutant done-callback-early",
)
def trivial(t: CaseContext) -> None:
    here = threading.get_ident()

    async def returns(value: Any) -> Any:
        await asyncio.sleep(0)
        return value

    async def raises(error: BaseException) -> None:
        await asyncio.sleep(0)
        raise error

    def ends(main: Callable[..., Any], *args: Any) -> Any:
        host = QueueHost(t)
        seen: list[tuple[bool, bool]] = []

        def done(outcome: Outcome) -> None:
            host.ended.append(outcome)
            seen.append((threading.get_ident() == here, guest.loop.is_closed()))

        guest = host.start(main, *args, done_callback=done)
        t.check(not host.ended, "done_callback was called inside the start")
        try:
            return host.result()
        finally:
            t.check(seen == [(True, True)], "done_callback: on the host's thread, the loop closed, for each call", seen=seen)

    for value in ("ok", None, 0):
        t.check(ends(returns, value) is value, "another result")
    try:
        ends(raises, KeyError("hi"))
    except KeyError as error:
        t.check(error.args == ("hi",), "another exception")
    else:
        t.check(False, "the exception is lost")


@case(
    "R.01b-trivial-on-the-own-thread",
    "With `run_sync_soon_not_threadsafe` it is used for calls on the host's thread once the guest has started, and for no "
    "others.",
    needs="start_guest_run",
    oracle="own",
    rejects="a guest whose waiter uses what may be used on the host's thread only, or that never uses it; "
    "mutant post-by-the-wrong-function",
)
def not_threadsafe(t: CaseContext) -> None:
    host = QueueHost(t)
    here = threading.get_ident()
    used: list[tuple[str, bool]] = []

    def post(name: str, fn: Callable[[], Any]) -> None:
        used.append((name, threading.get_ident() == here))
        host.post(fn)

    async def main() -> None:
        until = time.monotonic() + 10
        while ("not threadsafe", True) not in used and time.monotonic() < until:
            await _spin(0.05)  # the host's thread posts the next turn
        for _ in range(100):  # a busy machine may have been away when the timer was due: then nobody has to be woken
            await asyncio.sleep(0.01)  # another thread wakes the host
            if ("threadsafe", False) in used:
                break

    host.start(
        main,
        run_sync_soon_threadsafe=functools.partial(post, "threadsafe"),
        run_sync_soon_not_threadsafe=functools.partial(post, "not threadsafe"),
    )
    t.check(("not threadsafe", False) not in used, "it was called on another thread")
    used.clear()
    host.result()
    t.check(("not threadsafe", False) not in used, "it was called on another thread")
    t.check(("not threadsafe", True) in used, "it was not used on the host's thread")
    t.check(("threadsafe", True) not in used, "the other one was used on the host's thread")
    t.check(("threadsafe", False) in used, "no other thread woke the host")


@case(
    "R.02-io",
    "Sockets, timers and a thread's calls arrive under a host that does nothing but call what was posted, and "
    "while the guest waits nothing is posted.",
    needs="start_guest_run",
    oracle="own",
    rejects="a guest that posts to poll; mutant waiter-polls",
)
def io(t: CaseContext) -> None:
    host = QueueHost(t)
    waiting: list[int] = []

    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        with socket_pair() as (a, b):
            server = asyncio.ensure_future(loop.sock_recv(a, 100))
            await asyncio.sleep(0.005)
            await loop.sock_sendall(b, b"over the wire")
            data = await server
        waiting.append(host.posts)
        await asyncio.sleep(0.5)
        waiting.append(host.posts)
        await loop.run_in_executor(None, time.sleep, 0.001)
        return data

    host.start(main)
    t.check(host.result() == b"over the wire", "other bytes")
    t.check(waiting[1] - waiting[0] == 1, "more or less than the one post of the timer", posts=waiting[1] - waiting[0])


@case(
    "R.03-initialised-when-start-returns",
    "When the start returns, the host can use the guest's loop: schedule, create tasks, and cancel; "
    "nothing of main has run.",
    needs="start_guest_run",
    oracle="own",
    rejects="a guest that makes its loop in its first turn",
)
def initialised(t: CaseContext) -> None:
    host = QueueHost(t)
    order: list[str] = []

    async def note(what: str) -> None:
        order.append(what)

    async def main() -> None:
        order.append("main")
        await asyncio.sleep(0.005)
        order.append("main ends")

    guest = host.start(main)
    t.check(not order, "main ran inside the start")
    t.check(asyncio.get_running_loop() is guest.loop, "the guest's loop is not the running one")
    t.check(asyncio.all_tasks(guest.loop) == {guest.task}, "the main task is not there")
    t.check(asyncio.current_task(guest.loop) is None, "there is a current task in the host")
    guest.loop.call_soon(order.append, "call_soon")
    asyncio.create_task(note("task"))
    guest.loop.call_later(0, order.append, "call_later")
    host.run()
    t.check(order == ["main", "call_soon", "task", "call_later", "main ends"], "another order", order=order)

    host = QueueHost(t)
    order.clear()
    guest = host.start(main)
    guest.cancel()
    try:
        host.result()
    except asyncio.CancelledError:
        t.check(not order, "a task cancelled before its first step ran")
    else:
        t.check(False, "cancelled at once, and yet it ended well")


@case(
    "R.04-host-wakes-a-task",
    "What a function of the host's sets wakes the task that waits for it, at once.",
    needs="start_guest_run",
    oracle="own",
    rejects="a guest that looks for work only when something of its own is due; mutant wake-of-queue-host-lost",
)
def host_wakes(t: CaseContext) -> None:
    host = QueueHost(t)
    got: list[str] = []
    event, items = asyncio.Event(), asyncio.Queue[str]()

    async def main(future: asyncio.Future[str]) -> None:
        got.append(await future)
        await event.wait()
        got.append("event")
        got.append(await items.get())

    async def begin() -> None:
        loop = asyncio.get_running_loop()
        made.append(loop.create_future())
        await main(made[0])

    made: list[asyncio.Future[str]] = []
    host.start(begin)
    actions: list[Callable[[], Any]] = [
        lambda: made[0].set_result("future"),
        event.set,
        lambda: items.put_nowait("queue"),
    ]
    for number, action in enumerate(actions):
        host.run(until=lambda: made)
        host.rest()
        t.check(len(got) == number, "it went on by itself", got=got)
        host.post(action)
        posted = time.monotonic()
        host.run(until=lambda number=number: len(got) > number)  # type: ignore[misc]
        late = time.monotonic() - posted
        t.check(late <= AT_ONCE * t.scale, "the task was woken late", seconds=late)
    host.result()
    t.check(got == ["future", "event", "queue"], "another order", got=got)


@case(
    "R.05-host-alters-deadlines",
    "A deadline that a function of the host's brings nearer, puts off or takes away holds as it is then.",
    needs="start_guest_run",
    oracle="own",
    rejects="a guest that sleeps until the deadline it knew; mutant earlier-timer-unnoticed",
)
def host_alters_deadlines(t: CaseContext) -> None:
    def altered(within: float, seconds: float, to: float | None) -> tuple[bool, float] | None:
        """A guest sleeps `seconds` with a deadline in `within` seconds, and a function of the host's moves that to `to`
        seconds from then (None: takes it away).  Whether the deadline ended the sleep, and how long after the function
        that was; None where the old deadline had passed before the function was called."""
        host = QueueHost(t)
        limits: list[asyncio.Timeout] = []
        moved: list[float] = []

        async def main() -> tuple[bool, float]:
            loop = asyncio.get_running_loop()
            try:
                async with asyncio.timeout(within) as limit:
                    limits.append(limit)
                    await asyncio.sleep(seconds)
            except TimeoutError:
                return True, loop.time()
            return False, loop.time()

        def move() -> None:
            now, when = guest.loop.time(), limits[0].when()
            if when is not None and now < when:
                moved.append(now)
                limits[0].reschedule(None if to is None else now + to)

        guest = host.start(main)
        host.run(until=lambda: limits)
        host.rest()
        host.post(move)
        timed_out, ended = host.result()
        return (timed_out, ended - moved[0]) if moved else None

    def check(what: str, seen: tuple[bool, float] | None, timed_out: bool, to: float) -> None:
        assert seen is not None
        t.check(seen[0] is timed_out, f"a deadline that was {what} did not hold", timed_out=seen[0], seconds=seen[1])
        t.check(to - 2 * RESOLUTION <= seen[1] < to + t.scale, f"a deadline that was {what} held late or early", after=seen[1])

    check("brought nearer", altered(3600, 7200, 0.05), True, 0.05)
    for within in (0.1, 0.4, 1.6):  # on a machine that stalls for that long: again, with more time
        if (seen := altered(within, 7200, 3 * within)) is not None:
            check("put off", seen, True, 3 * within)
            break
    else:
        t.check(False, "the machine stalls: no deadline was put off in time")
    for within in (0.1, 0.4, 1.6):
        if (seen := altered(within, 3 * within, None)) is not None:
            t.check(not seen[0], "a deadline that was taken away ended the sleep", seconds=seen[1])
            break
    else:
        t.check(False, "the machine stalls: no deadline was taken away in time")


_place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="nowhere")


@case(
    "R.06-context-of-the-library",
    "Main runs in a copy of the context of the start, or in the context that is given; what it sets the host does not "
    "see, and the other way round.",
    needs="start_guest_run",
    oracle="own",
    rejects="a guest that runs in the host's own context, or in an empty one; mutant context-of-start-lost; "
    "mutant given-context-copied",
)
def library_context(t: CaseContext) -> None:
    def contexts(**options: Any) -> tuple[list[str], list[str]]:
        """What main and the host see of their context in turn."""
        host = QueueHost(t)
        inside: list[str] = []
        outside: list[str] = []

        async def main() -> None:
            inside.append(_place.get())
            _place.set("guest")
            for _ in range(3):
                await asyncio.sleep(0.002)
                inside.append(_place.get())

        _place.set("host")
        host.start(main, **options)
        outside.append(_place.get())
        _place.set("host later")
        while not host.ended:
            t.check(host.step(5 * t.scale), "the guest did not end")
            outside.append(_place.get())
        host.result()
        return inside, outside

    inside, outside = contexts()
    t.check(inside == ["host", "guest", "guest", "guest"], "main's context", seen=inside)
    t.check(outside == ["host"] + (len(outside) - 1) * ["host later"], "the host's context", seen=outside)

    given = contextvars.copy_context()
    given.run(_place.set, "given")
    inside, outside = contexts(context=given)
    t.check(inside == ["given", "guest", "guest", "guest"], "the context that was given", seen=inside)
    t.check(given.run(_place.get) == "guest", "main ran in a copy of the context that was given")
    t.check("guest" not in outside and "given" not in outside, "the host's context", seen=outside)


@case(
    "R.07-who-runs-here",
    "A task, a function of the host's, another thread and the time after the end each see what runs there.",
    needs="start_guest_run",
    oracle="own",
    rejects="a guest that leaves its loop the running one, or hides it in between; mutant running-loop-hidden",
)
def who_runs_here(t: CaseContext) -> None:
    host = QueueHost(t)
    seen: dict[str, Any] = {}

    def look() -> tuple[Any, Any]:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return None, None
        return loop, asyncio.current_task()

    async def main() -> None:
        seen["task"] = look()
        await asyncio.sleep(0.02)
        seen["thread"] = await asyncio.get_running_loop().run_in_executor(None, look)

    guest = host.start(main)
    loop, task = guest.loop, guest.task
    host.run(until=lambda: "task" in seen)
    host.post(lambda: seen.update(host=look()))
    host.result()
    t.check(seen["task"] == (loop, task), "in the task")
    t.check(seen["host"] == (loop, None), "in the host")
    t.check(seen["thread"] == (None, None), "on another thread")
    t.check(look() == (None, None), "after the end")


@case(
    "R.08-wakeup-descriptor",
    "A wakeup descriptor that somebody has set is given back as it was, without a warning; with "
    "`host_uses_signal_set_wakeup_fd` it is never taken, and what needs it is refused.",
    needs="start_guest_run signals",
    oracle="own",
    report="twisted#4658",
    rejects="a guest that leaves its own descriptor behind; mutant host-owned-wakeup-fd-taken",
)
def wakeup_descriptor(t: CaseContext) -> None:
    def look() -> int:
        fd = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
        return fd

    inside: list[int] = []
    refused: list[str] = []
    said: list[Any] = []

    async def main() -> None:
        await asyncio.sleep(0.002)
        inside.append(look())
        try:
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: None)
        except RuntimeError as error:
            refused.append(str(error))
        else:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)

    with socket_pair() as (_, b), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        hook, sys.unraisablehook = sys.unraisablehook, said.append
        before = signal.set_wakeup_fd(b.fileno(), warn_on_full_buffer=False)
        try:
            for owned in (False, True):
                host = QueueHost(t)
                host.start(main, host_uses_signal_set_wakeup_fd=owned)
                host.result()
                t.check(look() == b.fileno(), "the descriptor is another one afterwards", owned=owned)
        finally:
            signal.set_wakeup_fd(before)
            sys.unraisablehook = hook
        t.check(not warned and not said, "a warning", warned=[str(one.message) for one in warned], said=len(said))
        said.clear()
        t.check(inside[0] != b.fileno() and inside[1] == b.fileno(), "who had it meanwhile")
    t.check(len(refused) == 1 and "wakeup" in refused[0], "add_signal_handler", refused=refused)


def abandon(t: CaseContext) -> None:
    """The host's main loop ends while the guest waits; nobody says goodbye."""
    host = QueueHost(t)

    async def main() -> None:
        print("in main", flush=True)
        try:
            await asyncio.sleep(3600)
        finally:
            print("cleaned up", flush=True)

    host.start(main)
    host.rest()
    print("the host has left", flush=True)


def forget(t: CaseContext) -> None:
    """The host forgets the first thing that is posted."""
    host = QueueHost(t)

    async def main() -> None:
        print("in main", flush=True)

    def post(fn: Callable[[], Any]) -> None:
        pass

    host.start(main, run_sync_soon_threadsafe=post)
    print("forgotten", flush=True)


@case(
    "R.09-abandonment",
    "A host that leaves without ending its guest is told so when the interpreter ends; the guest's finally blocks run.",
    needs="start_guest_run child",
    oracle="own",
    timeout=40,
    rejects="a guest that is forgotten without a word, or hangs the interpreter's exit; mutant abandoned-without-a-word",
)
def abandonment(t: CaseContext) -> None:
    ended = t.child(abandon)
    t.check(ended.stdout.split("\n")[:3] == ["in main", "the host has left", "cleaned up"], "order", out=ended.stdout)
    t.check("still running" in ended.stderr and ended.returncode == 0, "no warning", err=ended.stderr[-500:])


@case(
    "R.10-guest-on-asyncio",
    "A guest that is posted to asyncio's own call_soon_threadsafe and its host pass the ball, each in its own loop.",
    needs="start_guest_run",
    oracle="own",
    rejects="a guest that takes the running loop away from an asyncio host; mutant loop-of-the-host-lost",
)
def guest_on_asyncio(t: CaseContext) -> None:
    rounds = 50
    strange: list[str] = []

    async def host() -> tuple[Any, int]:
        outer = asyncio.get_running_loop()
        done: asyncio.Future[Outcome] = outer.create_future()
        to_host: asyncio.Queue[int] = asyncio.Queue()
        to_guest: list[asyncio.Queue[int]] = []
        ready = outer.create_future()

        async def guest() -> str:
            inner = asyncio.get_running_loop()
            if inner is outer:
                strange.append("the guest runs in the host's loop")
            mine: asyncio.Queue[int] = asyncio.Queue()
            to_guest.append(mine)
            outer.call_soon_threadsafe(ready.set_result, inner)
            for _ in range(rounds):
                number = await mine.get()
                outer.call_soon_threadsafe(to_host.put_nowait, number + 1)
                if asyncio.get_running_loop() is not inner:
                    strange.append("the guest's loop changed")
            return "guest ended"

        t.start_guest_run(guest, run_sync_soon_threadsafe=outer.call_soon_threadsafe, done_callback=done.set_result)
        inner = await ready
        number = 0
        for _ in range(rounds):
            inner.call_soon_threadsafe(to_guest[0].put_nowait, number)
            number = await to_host.get()
            if asyncio.get_running_loop() is not outer:
                strange.append("the host's loop changed")
        return (await done).unwrap(), number

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        result, number = runner.run(host())
    t.check((result, number) == ("guest ended", rounds), "the ball is lost", number=number)
    t.check(not strange, "running loops", strange=strange[:3])


class _Broken(asyncio.SelectorEventLoop):
    """A loop that fails at one place when it is told to."""

    where: str | None = None

    def _fail(self, where: str) -> None:
        if self.where == where:
            self.where = None
            raise MemoryError(where)

    def time(self) -> float:
        self._fail("time")
        return super().time()

    def _process_events(self, events: Any) -> None:
        self._fail("process")
        super()._process_events(events)  # type: ignore[misc]

    def _run_once(self) -> None:
        self._fail("run")
        super()._run_once()  # type: ignore[misc]


@case(
    "R.11-internal-errors",
    "An error in the machinery, at each of three places, ends the guest with that error and leaves the host alone.",
    needs="start_guest_run",
    oracle="own",
    rejects="a guest that swallows its own errors, or raises them into the host; mutant own-error-swallowed",
)
def internal_errors(t: CaseContext) -> None:
    async def main(where: str) -> None:
        await asyncio.sleep(0.002)
        cast(_Broken, asyncio.get_running_loop()).where = where
        await asyncio.sleep(0.002)
        await asyncio.sleep(3600)

    for where in ("time", "process", "run"):
        host = QueueHost(t)
        host.start(main, where, loop_factory=_Broken)
        host.run()
        try:
            host.ended[0].unwrap()
        except MemoryError as error:
            t.check(error.args == (where,), "another error", error=repr(error))
        else:
            t.check(False, "the error is lost", where=where)
        lives: list[int] = []
        host.post(lambda lives=lives: lives.append(1))  # type: ignore[misc]
        while not lives:
            t.check(host.step(1), "the host is dead", where=where)


@case(
    "R.12a-keyboard-interrupt",
    "Ctrl-C in the guest and in the host's function cancel main and come out as KeyboardInterrupt; after the guest it is "
    "the host's again.",
    needs="start_guest_run signals",
    oracle="own",
    rejects="an interrupt that is lost, or that kills the host while a guest could take it; mutant interrupt-lost",
)
def keyboard_interrupt(t: CaseContext) -> None:
    cleaned: list[str] = []
    waiting: list[str] = []

    async def main(where: str) -> None:
        try:
            await asyncio.sleep(0.002)
            waiting.append(where)
            if where == "guest":
                signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cleaned.append(where)
            raise

    with default_sigint():
        for where in ("guest", "host"):
            host = QueueHost(t)
            host.start(main, where)
            host.run(until=lambda where=where: where in waiting)  # type: ignore[misc]
            if where == "host":
                host.rest()
                host.post(lambda: signal.raise_signal(signal.SIGINT))
            try:
                host.result()
            except KeyboardInterrupt:
                t.check(cleaned[-1:] == [where], "main was not cancelled", where=where)
            else:
                t.check(False, "the interrupt is lost", where=where)
        mine: list[bool] = []
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            mine.append(True)
        handler = signal.getsignal(signal.SIGINT)
        t.check(mine and handler is signal.default_int_handler, "SIGINT is not the host's again")


@case(
    "R.12b-keyboard-interrupt-after-main",
    "Ctrl-C when main has ended and the other tasks clean up: in a task it comes out of the guest, with main's error as "
    "its context; in a function of the host's it is the host's, and the guest ends as it would have.",
    needs="start_guest_run signals",
    oracle="own",
    rejects="an interrupt that is lost behind the outcome of main; mutant interrupt-of-teardown-lost",
)
def keyboard_interrupt_after_main(t: CaseContext) -> None:
    async def clean_up(where: str, cleaning: list[asyncio.Event]) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(30)
        cleaning.append(asyncio.Event())
        if where == "guest":
            signal.raise_signal(signal.SIGINT)
        await cleaning[0].wait()

    async def main(where: str, cleaning: list[asyncio.Event]) -> None:
        tasks.append(asyncio.create_task(clean_up(where, cleaning)))
        await asyncio.sleep(0.002)
        raise KeyError("main's own")

    tasks: list[asyncio.Task[None]] = []
    with default_sigint():
        host = QueueHost(t)
        host.start(main, "guest", [])
        try:
            host.result()
        except KeyboardInterrupt as error:
            t.check(isinstance(error.__context__, KeyError), "main's error is not its context", context=repr(error.__context__))
        except KeyError:
            t.check(False, "the interrupt is lost behind main's error")
        else:
            t.check(False, "the interrupt and main's error are lost")
        t.check(isinstance(tasks[0].exception(), KeyboardInterrupt), "the task did not end by the interrupt")

        host = QueueHost(t)
        cleaning: list[asyncio.Event] = []
        host.start(main, "host", cleaning)
        host.run(until=lambda: cleaning)
        host.rest()
        host.post(lambda: signal.raise_signal(signal.SIGINT))
        interrupted = 0
        try:
            host.step(5 * t.scale)
        except KeyboardInterrupt:
            interrupted += 1
        t.check(interrupted and not host.ended, "the host's interrupt did not reach the host")
        host.post(cleaning[0].set)
        try:
            host.result()
        except KeyError:
            pass
        else:
            t.check(False, "main's error is lost")


@case(
    "R.13-generators-of-host-and-guest",
    "An asynchronous generator is finalised by the loop in which it began, before or while the other one lives: the "
    "guest's by the guest, the host's by the host, whoever drops it.",
    needs="start_guest_run",
    oracle="own",
    rejects="a guest whose hooks take the host's generators; mutant generators-of-the-host-taken",
)
def generators(t: CaseContext) -> None:
    closed: dict[str, Any] = {}
    kept: dict[str, Any] = {}
    deadline = time.monotonic() + 5 * t.scale

    async def numbers(name: str) -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed[name] = asyncio.get_running_loop()
            await asyncio.sleep(0)

    async def begin(name: str) -> None:
        kept[name] = numbers(name)
        await kept[name].__anext__()

    async def gone(*names: str) -> None:
        while not closed.keys() >= set(names):
            t.check(time.monotonic() < deadline, "a generator that was dropped was not closed", closed=list(closed))
            await asyncio.sleep(0.001)

    async def host() -> dict[str, Any]:
        outer = asyncio.get_running_loop()
        done: asyncio.Future[Outcome] = outer.create_future()
        begun: asyncio.Future[asyncio.Event] = outer.create_future()

        async def guest() -> Any:
            await begin("the guest's")
            await begin("left by the guest")
            go = asyncio.Event()
            outer.call_soon_threadsafe(begun.set_result, go)
            await go.wait()
            for name in ("the host's", "the host's, later"):
                kept.pop(name)
            await gone("the guest's", "the host's", "the host's, later")
            return asyncio.get_running_loop()

        await begin("the host's")
        started = t.start_guest_run(
            guest, run_sync_soon_threadsafe=outer.call_soon_threadsafe, done_callback=done.set_result
        )
        go = await begun
        await begin("the host's, later")
        kept.pop("the guest's")
        started.loop.call_soon_threadsafe(go.set)
        inner = (await done).unwrap()
        return {
            "the host's": outer,
            "the host's, later": outer,
            "the guest's": inner,
            "left by the guest": inner,
        }

    before = sys.get_asyncgen_hooks()
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        expected = runner.run(host())
    wrong = [name for name in expected if closed.get(name) is not expected[name]]
    t.check(not wrong, "the wrong loop closed one", names=wrong)
    t.check(sys.get_asyncgen_hooks() == before, "the hooks are others now")


# -- hosts that do not do as they should


async def _spin(seconds: float) -> None:
    """Keep the loop busy for longer than a turn."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await asyncio.sleep(0)


async def _some_work() -> str:
    loop = asyncio.get_running_loop()
    for _ in range(5):
        await asyncio.sleep(0.002)
    await loop.run_in_executor(None, time.sleep, 0.001)
    await _spin(0.02)
    return "done"


@case(
    "H.09a-host-posts-twice",
    "A host that calls everything twice, or twenty times, or keeps it and calls it after the end, harms nothing.",
    needs="start_guest_run",
    oracle="own",
    rejects="a guest that counts on one call for each post; mutant call-after-the-end-raises",
)
def posts_twice(t: CaseContext) -> None:
    for times in (2, 20):
        host = QueueHost(t)
        kept: list[Callable[[], Any]] = []

        def post(fn: Callable[[], Any], host: QueueHost = host, kept: list[Any] = kept, times: int = times) -> None:
            kept.append(fn)
            for _ in range(times):
                host.functions.put(fn)

        host.start(_some_work, run_sync_soon_threadsafe=post)
        t.check(host.result() == "done", "another result")
        for fn in kept * 3:
            fn()
        t.check(len(host.ended) == 1, "ended more than once", ended=len(host.ended))


@case(
    "H.09b-host-in-its-own-order",
    "A host that calls the latest first, or late, or adds calls that nobody asked for, still serves its guest.",
    needs="start_guest_run",
    oracle="own",
    rejects="a guest that takes a call for work being there",
)
def own_order(t: CaseContext) -> None:
    host = QueueHost(t)
    host.functions = queue.LifoQueue()
    host.start(_some_work)
    t.check(host.result() == "done", "latest first: another result")

    for unasked in (False, True):
        host = QueueHost(t)
        known: set[Callable[[], Any]] = set()
        timers: list[threading.Timer] = []

        def post(
            fn: Callable[[], Any],
            host: QueueHost = host,
            known: set[Callable[[], Any]] = known,
            timers: list[threading.Timer] = timers,
        ) -> None:
            known.add(fn)
            timers.append(threading.Timer(0.01, host.functions.put, (fn,)))
            timers[-1].start()

        host.start(_some_work, run_sync_soon_threadsafe=post)
        while unasked and not host.ended:
            host.step(0.002)
            for fn in list(known):
                fn()  # whether there is something or not
        t.check(host.result() == "done", "late: another result", unasked=unasked)
        for timer in timers:
            timer.join()
        while host.step():
            pass


@case(
    "H.09c-host-forgets",
    "A host that forgets what was posted: the interpreter ends, and says that a guest was still running.",
    needs="start_guest_run child",
    oracle="own",
    timeout=40,
    rejects="a guest that hangs the interpreter's exit; mutant forgotten-guest-hangs-the-exit",
)
def host_forgets(t: CaseContext) -> None:
    ended = t.child(forget)
    t.check(ended.stdout == "forgotten\n", "output", out=ended.stdout)
    t.check("still running" in ended.stderr and ended.returncode == 0, "no warning", err=ended.stderr[-500:])


@contextlib.contextmanager
def _unraisable() -> Iterator[list[BaseException | None]]:
    """What is reported meanwhile because it cannot be raised."""
    reported: list[BaseException | None] = []
    hook, sys.unraisablehook = sys.unraisablehook, lambda args: reported.append(args.exc_value)
    try:
        yield reported
    finally:
        sys.unraisablehook = hook
        reported.clear()


class _Full(OSError):
    """What a host raises that cannot be posted to."""


@case(
    "H.09d-host-cannot-be-posted-to",
    "A post that raises ends the guest by an error that names it: the first out of the start, others by done_callback.",
    needs="start_guest_run",
    oracle="own",
    rejects="a guest that waits for ever for a call that was refused; mutant failed-post-forgotten; "
    "mutant failed-first-post-forgotten",
)
def cannot_post(t: CaseContext) -> None:
    ran: list[str] = []

    async def main() -> None:
        try:
            ran.append("began")
            while True:  # on a busy machine one turn does the work of several, and a third post may be never needed
                await asyncio.sleep(0.001)
        finally:
            ran.append("cleaned")

    def failing(number: int) -> Callable[[Callable[[], Any]], None]:
        def post(fn: Callable[[], Any]) -> None:
            host.posts += 1
            if host.posts == number:
                raise _Full("the queue is full")
            host.functions.put(fn)

        return post

    with _unraisable() as reported:
        host = QueueHost(t)
        refused = False
        try:
            host.start(main, run_sync_soon_threadsafe=failing(1))
        except _Full:
            refused = True
        t.check(refused, "the start accepted a host that cannot be posted to")
        t.check(not reported and not host.ended and not ran, "a start that was refused did more", ran=ran)

        host = QueueHost(t)
        guest = host.start(main, run_sync_soon_threadsafe=failing(3))
        try:
            host.result()
        except RuntimeError as error:
            t.check("post" in str(error), "the error does not name its cause", error=str(error))
        else:
            t.check(False, "the error is lost")
        t.check(any(isinstance(one, _Full) for one in reported), "what the post raised is not shown")
        t.check(ran == ["began", "cleaned"] and guest.loop.is_closed(), "the guest did not end in order", ran=ran)


@case(
    "H.09e-host-on-another-thread",
    "A host that calls what was posted on another thread is told so there; a later call on the right one is served.",
    needs="start_guest_run",
    oracle="own",
    rejects="a guest that runs on two threads, or ignores the call without a word",
)
def another_thread(t: CaseContext) -> None:
    host = QueueHost(t)
    errors: list[BaseException] = []
    threads: list[threading.Thread] = []

    def post(fn: Callable[[], Any]) -> None:
        host.posts += 1

        def call() -> None:
            try:
                fn()
            except Exception as error:
                errors.append(error)
                host.functions.put(fn)

        threads.append(threading.Thread(target=call))
        threads[-1].start()

    host.start(_some_work, run_sync_soon_threadsafe=post)
    t.check(host.result() == "done", "another result")
    for thread in threads:
        thread.join()
    t.check(errors and all(isinstance(e, RuntimeError) for e in errors), "no error", errors=len(errors))
    t.check("thread" in str(errors[0]), "the error does not name its cause", error=str(errors[0]))


@case(
    "H.09f-host-calls-a-modal-call-twice",
    "A host that calls everything three times opens each modal call once.",
    needs="start_guest_run modal_api",
    oracle="own",
    rejects="a dialog that opens again; mutant second-call-of-a-post-runs",
)
def modal_call_twice(t: CaseContext) -> None:
    host = QueueHost(t)
    opened: list[int] = []

    def post(fn: Callable[[], Any]) -> None:
        for _ in range(3):
            host.post(fn)

    def dialog(number: int) -> int:
        opened.append(number)
        return number

    async def main() -> list[int]:
        return [await t.modal(dialog, number) for number in range(5)]

    host.start(main, run_sync_soon_threadsafe=post)
    t.check(host.result() == list(range(5)), "other answers")
    t.check(opened == list(range(5)), "each modal call was to be made once", opened=opened)


@case(
    "H.09g-host-cannot-be-posted-to-on-its-own-thread",
    "A `run_sync_soon_not_threadsafe` that raises is reported, and its guest goes on by the other function.",
    needs="start_guest_run",
    oracle="own",
    rejects="a guest that waits for ever for a turn that was refused; mutant failed-again-forgotten",
)
def cannot_post_here(t: CaseContext) -> None:
    host = QueueHost(t)

    def post(fn: Callable[[], Any]) -> None:
        raise _Full("the queue is full")

    with _unraisable() as reported:
        host.start(_some_work, run_sync_soon_not_threadsafe=post)
        t.check(host.result() == "done", "another result")
        t.check(reported and all(isinstance(one, _Full) for one in reported), "what it raised is not shown")
