"""Group R: what Trio tests of its guest mode, told for asyncio.

The host of most of them is the smallest there is, a queue of functions that somebody calls, because there the case
itself decides what the host does and when.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import queue
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

from ..api import CaseContext, Outcome, Started, case
from ..hostside import default_sigint
from ..support import socket_pair


class QueueHost:
    """A main loop that is a queue of functions."""

    def __init__(self, t: CaseContext) -> None:
        self.t = t
        self.functions: queue.Queue[Callable[[], Any]] = queue.Queue()
        self.posts = 0
        self.ended: list[Outcome] = []

    def post(self, fn: Callable[[], Any]) -> None:
        """The host's ``run_sync_soon_threadsafe``."""
        self.posts += 1
        self.functions.put(fn)

    def start(self, main: Callable[..., Any], *args: Any, **options: Any) -> Started:
        options = {"run_sync_soon_threadsafe": self.post, "done_callback": self.ended.append, **options}
        return self.t.start_guest_run(main, *args, **options)

    def step(self, seconds: float) -> bool:
        """Wait for one function and call it; False when none came."""
        try:
            fn = self.functions.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return False
        fn()
        return True

    def run(self, seconds: float = 5.0, until: Callable[[], Any] | None = None) -> None:
        """Call functions until the guest has ended, or `until` holds; then see that it has."""
        deadline = time.monotonic() + seconds * self.t.scale
        while not (self.ended if until is None else until()) and time.monotonic() < deadline:
            self.step(min(0.05, deadline - time.monotonic()) if until else deadline - time.monotonic())
        if until is None:
            self.t.check(self.ended, "the guest did not end")
        else:
            self.t.check(until(), "what was waited for did not come")

    def result(self) -> Any:
        self.run()
        self.t.check(len(self.ended) == 1, "done_callback was called more than once", calls=len(self.ended))
        return self.ended[0].unwrap()


@case(
    "R.01a-trivial",
    "The result and the exception of the main coroutine reach done_callback, once.",
    needs="start_guest_run",
    oracle="own",
    rejects="a guest that loses its outcome",
)
def trivial(t: CaseContext) -> None:
    async def returns(value: Any) -> Any:
        await asyncio.sleep(0)
        return value

    async def raises(error: BaseException) -> None:
        await asyncio.sleep(0)
        raise error

    for value in ("ok", None, 0):
        host = QueueHost(t)
        host.start(returns, value)
        t.check(host.result() is value, "another result")
    host = QueueHost(t)
    host.start(raises, KeyError("hi"))
    try:
        host.result()
    except KeyError as error:
        t.check(error.args == ("hi",), "another exception")
    else:
        t.check(False, "the exception is lost")


@case(
    "R.01b-trivial-on-the-own-thread",
    "With `run_sync_soon_not_threadsafe` it is used for calls on the host's thread, and for no others.",
    needs="start_guest_run",
    oracle="own",
    rejects="a guest whose waiter uses what may be used on the host's thread only",
)
def not_threadsafe(t: CaseContext) -> None:
    host = QueueHost(t)
    here = threading.get_ident()
    threads: list[bool] = []

    def post_here(fn: Callable[[], Any]) -> None:
        threads.append(threading.get_ident() == here)
        host.functions.put(fn)

    async def main() -> int:
        for _ in range(2000):
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        asyncio.get_running_loop().call_soon_threadsafe(lambda: None)
        return len(threads)

    host.start(main, run_sync_soon_not_threadsafe=post_here)
    host.result()
    t.check(all(threads), "it was called on another thread")


@case(
    "R.02-io",
    "Sockets, timers and a thread's calls arrive under a host that does nothing but call what was posted, and "
    "while the guest waits nothing is posted.",
    needs="start_guest_run",
    oracle="own",
    rejects="a guest that posts to poll",
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
        await asyncio.sleep(0.2)
        waiting.append(host.posts)
        await loop.run_in_executor(None, time.sleep, 0.001)
        return data

    host.start(main)
    t.check(host.result() == b"over the wire", "other bytes")
    t.check(waiting[1] - waiting[0] <= 4, "posts while nothing was due", posts=waiting[1] - waiting[0])


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
    rejects="a guest that looks for work only when something of its own is due",
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
        while host.step(0.02):  # until the guest is at rest
            pass
        t.check(len(got) == number, "it went on by itself", got=got)
        host.post(action)
        host.run(2, until=lambda number=number: len(got) > number)  # type: ignore[misc]
    host.result()
    t.check(got == ["future", "event", "queue"], "another order", got=got)


@case(
    "R.05-host-alters-deadlines",
    "A deadline that a function of the host's moves, in either direction, holds as moved.",
    needs="start_guest_run",
    oracle="own",
    rejects="a guest that sleeps until the deadline it knew",
)
def host_alters_deadlines(t: CaseContext) -> None:
    host = QueueHost(t)
    limits: list[asyncio.Timeout] = []
    took: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3600) as limit:
                limits.append(limit)
                await asyncio.sleep(7200)
        took.append(loop.time() - began)
        began = loop.time()
        async with asyncio.timeout(0.15) as limit:
            limits.append(limit)
            await asyncio.sleep(0.3)
        took.append(loop.time() - began)

    guest = host.start(main)
    host.run(until=lambda: len(limits) == 1)
    while host.step(0.02):
        pass
    host.post(lambda: limits[0].reschedule(guest.loop.time() + 0.02))
    host.run(until=lambda: len(limits) == 2)
    host.post(lambda: limits[1].reschedule(None))
    host.result()
    t.check(0.02 <= took[0] < 2 * t.scale, "the deadline that came nearer", seconds=took[0])
    t.check(took[1] >= 0.3, "the deadline that was taken away", seconds=took[1])


_place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="nowhere")


@case(
    "R.06-context-of-the-library",
    "Main runs in a copy of the context of the start; what it sets the host does not see, and the other way round.",
    needs="start_guest_run",
    oracle="own",
    rejects="a guest that runs in the host's own context",
)
def library_context(t: CaseContext) -> None:
    host = QueueHost(t)
    seen: list[str] = []

    async def main() -> None:
        seen.append(_place.get())
        _place.set("guest")
        for _ in range(3):
            await asyncio.sleep(0.002)
            seen.append(_place.get())

    _place.set("host")
    host.start(main)
    _place.set("host later")
    while not host.ended:
        host.step(1)
        seen.append(_place.get())
    host.result()
    t.check(seen[0] in ("host", "host later") and "guest" in seen, "main's context", seen=seen)
    t.check([s for s in seen if s == "host later"], "the host's context", seen=seen)
    t.check(_place.get() == "host later", "the guest changed the host's context", place=_place.get())

    given = contextvars.copy_context()
    given.run(_place.set, "given")
    seen.clear()
    host = QueueHost(t)
    host.start(main, context=given)
    host.result()
    t.check(seen == ["given", "guest", "guest", "guest"], "the context that was given", seen=seen)


@case(
    "R.07-who-runs-here",
    "A task, a function of the host's, another thread and the time after the end each see what runs there.",
    needs="start_guest_run",
    oracle="own",
    rejects="a guest that leaves its loop the running one, or hides it in between",
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
    rejects="a guest that leaves its own descriptor behind",
)
def wakeup_descriptor(t: CaseContext) -> None:
    def look() -> int:
        fd = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
        return fd

    inside: list[int] = []
    refused: list[str] = []

    async def main() -> None:
        await asyncio.sleep(0.002)
        inside.append(look())
        try:
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: None)
        except RuntimeError as error:
            refused.append(str(error))
        else:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)

    with socket_pair() as (_, b):
        before = signal.set_wakeup_fd(b.fileno(), warn_on_full_buffer=False)
        try:
            for owned in (False, True):
                host = QueueHost(t)
                host.start(main, host_uses_signal_set_wakeup_fd=owned)
                host.result()
                t.check(look() == b.fileno(), "the descriptor is another one afterwards", owned=owned)
        finally:
            signal.set_wakeup_fd(before)
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
    while host.step(0.1):
        pass
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
    rejects="a guest that is forgotten without a word, or hangs the interpreter's exit",
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
    rejects="a guest that takes the running loop away from an asyncio host",
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
    rejects="a guest that swallows its own errors, or raises them into the host",
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
    "R.12-keyboard-interrupt",
    "Ctrl-C in the guest and in the host's function cancel main and come out as KeyboardInterrupt; after main it is "
    "the host's again.",
    needs="start_guest_run signals",
    oracle="own",
    rejects="an interrupt that is lost, or that kills the host while a guest could take it",
)
def keyboard_interrupt(t: CaseContext) -> None:
    cleaned: list[str] = []

    async def main(where: str) -> None:
        try:
            await asyncio.sleep(0.002)
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
            if where == "host":
                while host.step(0.05):
                    pass
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
    "R.13-generators-of-host-and-guest",
    "An asynchronous generator is finalised by the loop in which it began: the guest's by the guest, the host's by the "
    "host, whoever drops it.",
    needs="start_guest_run",
    oracle="own",
    rejects="a guest whose hooks take the host's generators",
)
def generators(t: CaseContext) -> None:
    closed: dict[str, Any] = {}

    async def numbers(name: str) -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed[name] = asyncio.get_running_loop()
            await asyncio.sleep(0)

    async def host() -> dict[str, Any]:
        outer = asyncio.get_running_loop()
        done: asyncio.Future[Outcome] = outer.create_future()
        kept: dict[str, Any] = {"host": numbers("host")}
        await kept["host"].__anext__()

        async def guest() -> Any:
            kept["guest"] = numbers("guest")
            await kept["guest"].__anext__()
            kept.pop("host")  # dropped inside the guest
            gc.collect()
            outer.call_soon_threadsafe(lambda: kept.pop("guest"))  # and this one in the host
            while "guest" not in closed:
                await asyncio.sleep(0.001)
            kept["left"] = numbers("left")
            await kept["left"].__anext__()
            return asyncio.get_running_loop()

        t.start_guest_run(guest, run_sync_soon_threadsafe=outer.call_soon_threadsafe, done_callback=done.set_result)
        inner = (await done).unwrap()
        while "host" not in closed:
            await asyncio.sleep(0.001)
        return {"host": outer, "guest": inner, "left": inner}

    before = sys.get_asyncgen_hooks()
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        expected = runner.run(host())
    wrong = [name for name in expected if closed.get(name) != expected[name]]
    t.check(closed == expected, "the wrong loop closed one", names=wrong)
    t.check(sys.get_asyncgen_hooks() == before, "the hooks are others now")


# -- hosts that do not do as they should


async def _some_work() -> str:
    loop = asyncio.get_running_loop()
    for _ in range(5):
        await asyncio.sleep(0.002)
    await loop.run_in_executor(None, time.sleep, 0.001)
    for _ in range(50):
        await asyncio.sleep(0)
    return "done"


@case(
    "H.09a-host-posts-twice",
    "A host that calls everything twice, or twenty times, or keeps it and calls it after the end, harms nothing.",
    needs="start_guest_run",
    oracle="own",
    rejects="a guest that counts on one call for each post",
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
        while host.step(0.01):
            pass
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

    host = QueueHost(t)
    known: list[Callable[[], Any]] = []

    def post(fn: Callable[[], Any]) -> None:
        if fn not in known:
            known.append(fn)
        timer = threading.Timer(0.01, host.functions.put, (fn,))
        timer.daemon = True
        timer.start()

    host.start(_some_work, run_sync_soon_threadsafe=post)
    while not host.ended and known:
        host.step(0.002)
        for fn in list(known):
            fn()  # whether there is something or not
    t.check(host.result() == "done", "late: another result")
    while host.step(0.05):
        pass


@case(
    "H.09c-host-forgets",
    "A host that forgets what was posted: the interpreter ends, and says that a guest was still running.",
    needs="start_guest_run child",
    oracle="own",
    timeout=40,
    rejects="a guest that hangs the interpreter's exit",
)
def host_forgets(t: CaseContext) -> None:
    ended = t.child(forget)
    t.check(ended.stdout.startswith("forgotten\n"), "output", out=ended.stdout)
    t.check("still running" in ended.stderr and ended.returncode == 0, "no warning", err=ended.stderr[-500:])


@case(
    "H.09d-host-cannot-be-posted-to",
    "A post that raises ends the guest by an error that names it: the first out of the start, others by done_callback.",
    needs="start_guest_run",
    oracle="own",
    rejects="a guest that waits for ever for a call that was refused",
)
def cannot_post(t: CaseContext) -> None:
    for failing in (1, 3):
        host = QueueHost(t)

        def post(fn: Callable[[], Any], host: QueueHost = host, failing: int = failing) -> None:
            host.posts += 1
            if host.posts == failing:
                raise OSError("the queue is full")
            host.functions.put(fn)

        reported: list[Any] = []
        hook, sys.unraisablehook = sys.unraisablehook, reported.append
        try:
            host.start(_some_work, run_sync_soon_threadsafe=post)
            host.result()
        except OSError:
            t.check(failing == 1, "the error of a later post came raw")
        except RuntimeError as error:
            t.check(failing > 1 and "post" in str(error), "the error does not name its cause", error=str(error))
            t.check(any(isinstance(one.exc_value, OSError) for one in reported), "what the post raised is not shown")
        else:
            t.check(False, "the error is lost", failing=failing)
        finally:
            sys.unraisablehook = hook
            reported.clear()


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
