"""What a generated program runs with: its log, its strands' primitives, and the ways in from outside the loop.

Imports the standard library only, and knows the host by its driver alone.  A find is written as a script that begins
with the text of this module, so nothing here may need the package.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import logging
import selectors
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

UNIT = 0.001
"""Seconds of a duration of 1 in a program on the real clock; in virtual time it is a second."""
NEVER = 3600.0
QUIET = 12
"""Iterations without an event of a strand after which nothing of it goes on by itself: longer than the longest way of
a result or a cancellation through nested groups, gathers and timeouts."""
ROUNDS = 50

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
rank: contextvars.ContextVar[int] = contextvars.ContextVar("rank", default=0)
"""Which kid of its strand a task is, or descends from."""


class Boom(Exception):
    """What programs raise; its first argument is the actor whose exception it is."""


class VirtualSelector(selectors.SelectSelector):
    """Passes the time that it was to wait, at once, where no descriptor is ready."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0 if timeout is not None else UNIT)
        if not ready and timeout is not None and timeout > 0:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop in virtual time."""

    def __init__(self) -> None:
        self.clock = VirtualSelector()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now


class NumberedTask(asyncio.Task[Any]):
    """A task that a set gives out in the order of their making: a TaskGroup cancels its tasks in a set's order,
    which otherwise depends on their addresses."""

    numbers = 0

    def __init__(self, *args: Any, **options: Any) -> None:
        NumberedTask.numbers += 1
        self._number = NumberedTask.numbers
        super().__init__(*args, **options)

    def __hash__(self) -> int:
        return self._number


def number_tasks() -> None:
    """Make the tasks of the running loop `NumberedTask`s."""
    NumberedTask.numbers = 0
    asyncio.get_running_loop().set_task_factory(lambda loop, coro, **more: NumberedTask(coro, loop=loop, **more))


class Program:
    """One run of a program: its events in the order in which they came, and where it runs.

    `driver` is the host's (`scenarios.driver.HostDriver`), or None: then a thread stands for the host.
    """

    def __init__(self, driver: Any = None, virtual: bool = False) -> None:
        self.driver = driver
        self.abilities: frozenset[str] = getattr(driver, "abilities", frozenset())
        self.virtual = virtual
        self.unit = 1.0 if virtual else UNIT
        self.events: list[tuple[str, str, Any]] = []
        self.kept: list[Any] = []

    def log(self, actor: str, event: str, data: Any = None) -> None:
        self.events.append((actor, event, data))

    def heard(self, loop: Any, context: dict[str, Any]) -> None:
        """The loop's exception handler."""
        error = context.get("exception")
        # Without the names and addresses that follow.
        message = " ".join(str(context.get("message", "")).split()[:3])
        if "never retrieved" in str(context.get("message")) or "destroyed" in str(context.get("message")):
            self.log("garbage", message)  # whenever it is collected: in no order with anything else
        elif isinstance(error, Boom):
            self.log(error.args[0], "heard", [message, repr(error)])
        else:
            self.log("loop", message, type(error).__name__)

    def from_host(self, loop: Any, fn: Callable[[], Any], ms: int | None = None) -> None:
        """Call `fn` from a callback of the host's; `ms`: by its timer, where it has one."""
        if "host" not in self.abilities:
            threading.Thread(target=loop.call_soon_threadsafe, args=(fn,), daemon=True).start()
        elif ms is not None and "timer" in self.abilities:
            self.kept.append(self.driver.host_timer(ms, fn))
        else:
            self.driver.call_from_host(fn)

    def strand(self, actor: str) -> Strand:
        """One of the program's concurrent parts; they share nothing."""
        return Strand(self, actor)


def ended(task: asyncio.Future[Any]) -> str:
    """How a finished task ended."""
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    return f"returned {task.result()!r}" if error is None else f"raised {told(error)}"


def told(error: BaseException) -> str:
    """An exception in words that are the same in every run."""
    if isinstance(error, BaseExceptionGroup):
        return "group of " + ", ".join(sorted(told(e) for e in error.exceptions))
    return repr(error) if isinstance(error, Boom) else f"{type(error).__name__}: {error}"


def pattern(size: int) -> bytes:
    """`size` bytes that no shift leaves the same."""
    return (b"%08d" * (size // 8 + 1) % tuple(range(size // 8 + 1)))[:size]


class Strand:
    """A part of a program: whatever happens in it happens in one order, however slow the machine is.

    At most one thing from outside the loop (a timer, a thread, a descriptor, a host callback) is under way at a time,
    and the tasks of the strand have come to rest before it; several timers at once have deadlines counted from one moment.
    """

    def __init__(self, program: Program, actor: str) -> None:
        self.program = program
        self.actor = actor
        self.loop = asyncio.get_running_loop()
        self.unit = program.unit
        self.count = 0
        self.tasks: list[asyncio.Task[Any]] = []
        self.kids: list[asyncio.Task[Any]] = []
        self.lock = asyncio.Lock()
        self.sem = asyncio.Semaphore(2)
        self.event = asyncio.Event()
        self.queue: asyncio.Queue[Any] = asyncio.Queue(2)
        self.cond = asyncio.Condition()
        self.barrier = asyncio.Barrier(2)

    def log(self, event: str, data: Any = None) -> None:
        self.count += 1
        self.program.log(self.actor, event, data)

    def boom(self, label: str) -> Boom:
        return Boom(self.actor, label)

    async def yields(self, n: int) -> None:
        for _ in range(n):
            await asyncio.sleep(0)

    async def settle(self) -> None:
        """Wait until the strand's tasks do nothing more by themselves."""
        before = -1
        while before != self.count:
            before = self.count
            await self.yields(QUIET)

    # -- tasks

    def spawn(self, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.loop.create_task(coro)
        self.tasks.append(task)
        return task

    def kid(self, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task that its siblings can name by its number."""
        context = contextvars.copy_context()
        context.run(rank.set, len(self.kids))
        task = self.loop.create_task(coro, context=context)
        self.tasks.append(task)
        self.kids.append(task)
        return task

    def cancel(self, number: int, label: str) -> None:
        if self.kids:
            task = self.kids[number % len(self.kids)]
            self.log(label, ["cancel", task.cancel(), task.cancelling()])

    async def join(self, number: int, label: str) -> None:
        """Await an older sibling: tasks that wait for each other in a circle cannot be cancelled (RecursionError)."""
        if not rank.get():
            return
        try:
            self.log(label, await self.kids[number % rank.get()])
        except Boom as error:
            self.log(label, repr(error))

    async def finish(self) -> None:
        """End what is left, and log how each task ended."""
        if self.program.virtual and self.tasks:
            await asyncio.wait(self.tasks, timeout=40)
        for _ in range(ROUNDS):
            await self.settle()
            left = [task for task in self.tasks if not task.done()]
            if not left:
                break
            self.log("left", len(left))
            for task in left:
                task.cancel()
        self.log("ended", [ended(task) if task.done() else "pending" for task in self.tasks])
        self.tasks.clear()
        self.kids.clear()
        self.lock, self.cond = asyncio.Lock(), asyncio.Condition()
        self.sem, self.barrier = asyncio.Semaphore(2), asyncio.Barrier(2)
        self.event, self.queue = asyncio.Event(), asyncio.Queue(2)

    # -- callbacks, futures, generators

    def soon(self, n: int, label: str, cancelled: int | None = None) -> None:
        """`n` callbacks, one of them cancelled, each with a context of its own, each followed by one more."""

        def call(i: int) -> None:
            self.log(label, [i, variable.get(), asyncio.current_task() is None])
            self.loop.call_soon(lambda: self.log(label, [i, "next"]))

        handles = []
        for i in range(n):
            context = contextvars.copy_context()
            context.run(variable.set, f"{label}.{i}")
            handles.append(self.loop.call_soon(call, i, context=context))
        if cancelled is not None and handles:
            handles[cancelled % n].cancel()

    def raise_soon(self, label: str) -> None:
        def call() -> None:
            self.log(label, "raises")
            raise self.boom(label)

        self.loop.call_soon(call)

    async def future(self, how: str, label: str) -> None:
        """Await a future that a callback ends."""
        future = self.loop.create_future()
        future.add_done_callback(lambda f: self.log(label, ["done", variable.get()]))
        ends: dict[str, tuple[Any, ...]] = {
            "result": (future.set_result, label),
            "exception": (future.set_exception, self.boom(label)),
            "cancel": (future.cancel,),
        }
        self.loop.call_soon(*ends[how])
        try:
            self.log(label, await future)
        except Boom as error:
            self.log(label, repr(error))
        except asyncio.CancelledError:
            self.log(label, "cancelled")
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise

    async def agen(self, n: int, stop: int, how: str, label: str) -> None:
        """An asynchronous generator left after `stop` items: closed, dropped, or thrown into."""

        async def numbers() -> AsyncIterator[int]:
            try:
                for i in range(n):
                    await asyncio.sleep(0)
                    yield i
            except Boom:
                self.log(label, "thrown")
            finally:
                self.log(label, "finally")
                await asyncio.sleep(0)
                self.log(label, "closed")

        generator: Any = numbers()
        async for i in generator:
            self.log(label, i)
            if i + 1 >= stop:
                break
        if how == "close":
            await generator.aclose()
        elif how == "throw":
            with contextlib.suppress(StopAsyncIteration, Boom):
                await generator.athrow(self.boom(label))
        del generator
        await self.yields(4)
        self.log(label, "left")

    # -- from outside

    def act(self, action: str, number: int, label: str, *, may_raise: bool) -> None:
        """What something from outside does to the strand's tasks."""
        if action == "set":
            self.event.set()
        elif action == "clear":
            self.event.clear()
        elif action == "put":
            with contextlib.suppress(asyncio.QueueFull):
                self.queue.put_nowait(label)
        elif action == "get":
            with contextlib.suppress(asyncio.QueueEmpty):
                self.log(label, ["got", self.queue.get_nowait()])
        elif action == "notify":
            self.spawn(self.notify(number, label))
        elif action == "cancel":
            self.cancel(number, label)
        elif action == "task":
            self.spawn(self.yields(number))
        elif action == "soon":
            self.loop.call_soon(self.log, label, "soon")
        elif action == "later":
            self.loop.call_later(0, self.log, label, "later")
        elif action == "raise" and may_raise:
            raise self.boom(label)

    async def notify(self, n: int, label: str) -> None:
        async with self.cond:
            self.cond.notify(n)
        self.log(label, "notified")

    async def outside(self, via: str, ms: int, action: str, number: int, label: str) -> None:
        """Have `action` done by something from outside, and wait until all has come to rest."""
        loop, delay = self.loop, ms * self.unit
        done = loop.create_future()
        await self.settle()

        def act(*, keeps_context: bool = True, may_raise: bool = True) -> None:
            self.log(label, [via, variable.get() if keeps_context else None])
            if not done.done():
                done.set_result(None)
            self.act(action, number, label, may_raise=may_raise)

        context = contextvars.copy_context()
        context.run(variable.set, label)
        if via == "sleep":
            await asyncio.sleep(delay)
            act(may_raise=False)
        elif via == "soon":
            loop.call_soon(act, context=context)
        elif via == "later":
            loop.call_later(delay, act, context=context)
        elif via == "at":
            loop.call_at(loop.time() + delay, act, context=context)
        elif via == "thread":
            thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(act, context=context))
            thread.start()
            await done
            thread.join()
        elif via == "executor":
            self.log(label, await loop.run_in_executor(None, lambda: "computed"))
            act(may_raise=False)
        elif via == "host":
            self.program.from_host(loop, lambda: act(keeps_context=False, may_raise=False))
        elif via == "host_timer":
            self.program.from_host(loop, lambda: act(keeps_context=False, may_raise=False), ms)
        elif via == "reader":
            a, b = socket.socketpair()
            with a, b:
                a.setblocking(False)

                def read() -> None:
                    loop.remove_reader(a)
                    self.log(label, len(a.recv(100)))
                    act()

                context.run(loop.add_reader, a, read)
                b.send(b"x" * (ms + 1))
                await done
        else:
            raise ValueError(via)
        await done
        await self.settle()

    async def threadsafe(self, n: int, label: str) -> None:
        """`n` calls from a thread, each with its context."""
        done = self.loop.create_future()

        def call(i: int) -> None:
            self.log(label, [i, variable.get()])
            if i == n - 1:
                done.set_result(None)

        def work() -> None:
            for i in range(n):
                variable.set(f"{label}.{i}")
                self.loop.call_soon_threadsafe(call, i)

        thread = threading.Thread(target=work)
        thread.start()
        await done
        thread.join()

    async def executor(self, how: str, label: str) -> None:
        """A call in the default executor: its result, its exception, or cancelled while it runs."""
        variable.set(label)
        if how == "thread":
            self.log(label, await asyncio.to_thread(variable.get))
        elif how == "exception":
            error = self.boom(label)

            def fail() -> None:
                raise error

            try:
                await self.loop.run_in_executor(None, fail)
            except Boom as caught:
                self.log(label, [repr(caught), caught is error])
        elif how == "cancel":
            go = threading.Event()
            future = self.loop.run_in_executor(None, go.wait)
            self.loop.call_soon(future.cancel)
            try:
                await future
            except asyncio.CancelledError:
                self.log(label, "cancelled")
            finally:
                go.set()
        else:
            results = await asyncio.gather(*(self.loop.run_in_executor(None, pow, i, 2) for i in range(5)))
            self.log(label, results)

    async def stream(self, sizes: list[int], eof: bool, label: str) -> None:
        """Bytes through a pair of sockets by streams, and a line back."""
        a, b = socket.socketpair()
        reader_a, writer_a = await asyncio.open_connection(sock=a)
        reader_b, writer_b = await asyncio.open_connection(sock=b)

        async def send() -> None:
            for size in sizes:
                writer_a.write(pattern(size))
                await writer_a.drain()
            if eof:
                writer_a.write_eof()

        async def receive() -> bool:
            data = await (reader_b.read() if eof else reader_b.readexactly(sum(sizes)))
            writer_b.write(b"%d\n" % len(data))
            return data == b"".join(map(pattern, sizes))

        _, same = await asyncio.gather(send(), receive())
        self.log(label, [same, (await reader_a.readline()).decode()])
        writer_b.close()
        await writer_b.wait_closed()
        self.log(label, len(await reader_a.read()))
        writer_a.close()
        await writer_a.wait_closed()
        self.log(label, "closed")

    async def server(self, n: int, label: str) -> None:
        """A server on this machine and `n` connections to it, one after the other."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.closing(writer):
                while line := await reader.readline():
                    writer.write(line.upper())
                    await writer.drain()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            for i in range(n):
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
                writer.write(b"line %d\n" % i)
                self.log(label, (await reader.readline()).decode())
                writer.write_eof()
                self.log(label, len(await reader.read()))
                writer.close()
                await writer.wait_closed()
        self.log(label, "closed")

    async def sock(self, size: int, label: str) -> None:
        """The sock_* family."""
        a, b = socket.socketpair()
        with a, b:
            a.setblocking(False)
            b.setblocking(False)

            async def receive() -> int:
                left = size
                while left:
                    data = await self.loop.sock_recv(b, left)
                    left -= len(data)
                return size

            _, got = await asyncio.gather(self.loop.sock_sendall(a, pattern(size)), receive())
            self.log(label, got)

    async def readers(self, n: int, label: str) -> None:
        """A reader that takes a byte at a time, replaces itself half-way, and leaves when a writer has seen that."""
        loop, done = self.loop, self.loop.create_future()
        a, b = socket.socketpair()
        with a, b:
            a.setblocking(False)
            left = n

            def read(name: str) -> None:
                nonlocal left
                a.recv(1)
                left -= 1
                self.log(label, [name, left, variable.get()])
                if left == n // 2:
                    loop.add_reader(a, read, "second")
                if left <= 0:
                    loop.remove_reader(a)
                    loop.add_writer(a, write)

            def write() -> None:
                self.log(label, ["writer", loop.remove_writer(a), loop.remove_reader(a)])
                done.set_result(None)

            variable.set(label)
            loop.add_reader(a, read, "first")
            b.send(b"x" * n)
            await done

    async def host_calls(self, n: int, label: str) -> None:
        """`n` callbacks of the host's, each of which schedules something of the loop's."""
        done = self.loop.create_future()
        count = 0

        async def task() -> None:
            nonlocal count
            count += 1
            if count == n:
                done.set_result(None)

        def call(i: int) -> None:
            if not done.done():
                self.spawn(task())

        for i in range(n):
            self.program.from_host(self.loop, lambda i=i: call(i))  # type: ignore[misc]
        await done
        self.log(label, n)

    async def process(self, code: int, label: str) -> None:
        """A child process."""
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", f"cat; exit {code}", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate(label.encode())
        self.log(label, [out.decode(), process.returncode])

    # -- several timers

    async def timers(self, delays: list[int], cancelled: list[int], label: str) -> None:
        """Timers with deadlines counted from one moment, some of them cancelled."""
        base, done = self.loop.time(), self.loop.create_future()
        handles = [
            self.loop.call_at(base + delay * self.unit, self.log, label, [i, delay]) for i, delay in enumerate(delays)
        ]
        for number in cancelled:
            handles[number % len(handles)].cancel()
        self.loop.call_at(base + (max(delays) + 1) * self.unit, done.set_result, None)
        await done
        self.log(label, [handle.cancelled() for handle in handles])

    async def until(self, when: float) -> None:
        future = self.loop.create_future()

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        handle = self.loop.call_at(when, wake)
        try:
            await future
        finally:
            handle.cancel()

    async def race(self, delays: list[int], how: str, label: str) -> None:
        """Tasks that wait until different moments, awaited together."""
        base = self.loop.time() + self.unit

        async def racer(i: int, delay: float) -> int:
            await self.until(base + delay)
            self.log(label, i)
            return i

        tasks = [self.loop.create_task(racer(i, delay * self.unit)) for i, delay in enumerate(delays)]
        if how == "gather":
            self.log(label, await asyncio.gather(*tasks))
        elif how == "completed":
            self.log(label, [await each for each in asyncio.as_completed(tasks)])
        elif how == "wait":
            done, pending = await asyncio.wait(tasks)
            self.log(label, [len(done), len(pending)])
        else:
            never = self.loop.create_task(self.until(base + NEVER))
            both: list[asyncio.Task[Any]] = [never, tasks[0]]
            done, pending = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            first = [len(done), len(pending), never.cancel()]
            await asyncio.wait([never, *tasks])  # the others may be awake already
            self.log(label, [*first, never.cancelled()])

    async def expire(self, ms: int, how: str, label: str) -> None:
        """A limit in time that runs out."""
        delay, never = ms * self.unit, self.loop.create_future()
        try:
            if how == "wait":
                done, pending = await asyncio.wait([never], timeout=delay)
                self.log(label, [len(done), len(pending)])
            elif how == "wait_for":
                await asyncio.wait_for(never, delay)
            elif how == "reschedule":
                async with asyncio.timeout(NEVER) as limit:
                    limit.reschedule(self.loop.time() + delay)
                    await never
            elif how == "nested":
                async with asyncio.timeout(NEVER):
                    async with asyncio.timeout(delay) as limit:
                        try:
                            await never
                        finally:
                            self.log(label, limit.expired())
                            await asyncio.sleep(0)
            else:
                async with asyncio.timeout_at(self.loop.time() + delay):
                    await asyncio.shield(never)
        except TimeoutError:
            self.log(label, ["timeout", never.cancelled()])
        task = asyncio.current_task()
        self.log(label, task.cancelling() if task else None)

    async def left(self, how: str) -> None:
        """What the program leaves for the teardown."""
        if how == "executor":
            self.program.kept.append(self.loop.run_in_executor(None, threading.Event().wait, 3 * UNIT))
            self.log("executor", "left")
            return
        try:
            if how == "agen":
                async for i in self._open():
                    self.log("agen", i)
                    await asyncio.sleep(NEVER)
            await asyncio.sleep(NEVER)
        except asyncio.CancelledError:
            self.log(how, "cancelled")
            if how == "raise":
                raise self.boom(how) from None
            if how != "swallow":
                raise
        finally:
            await asyncio.sleep(0)
            self.log(how, "gone")

    async def _open(self) -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            self.log("agen", "closed")


def play(main: Any, run: Any, driver: Any = None, *, virtual: bool = False, debug: bool = False) -> list[Any]:
    """Run ``main(program)`` by `run` (called as ``asyncio.run`` with a loop factory) and return its events."""
    program = Program(driver, virtual)
    logger = logging.getLogger("asyncio")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    options: dict[str, Any] = {"debug": debug}
    if virtual:
        options["loop_factory"] = VirtualLoop
    try:
        program.log("main", "returned", run(main, program, **options))
    except (Boom, SystemExit, asyncio.CancelledError) as error:
        program.log("main", "raised", told(error))
        error.__traceback__ = error.__context__ = None
    finally:
        gc.collect()
        logger.setLevel(level)
    return program.events


def views(events: list[Any], virtual: bool) -> dict[str, list[Any]]:
    """The parts of a log that are compared, by name: all of it in virtual time, otherwise each actor's own."""
    garbage = sorted(event for actor, event, _ in events if actor == "garbage")
    rest = [[actor, event, data] for actor, event, data in events if actor != "garbage"]
    found: dict[str, list[Any]] = {}
    for actor, event, data in rest:
        found.setdefault("all" if virtual else actor, []).append([actor, event, data] if virtual else [event, data])
    if garbage:
        found["garbage"] = garbage
    return found
