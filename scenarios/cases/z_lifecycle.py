"""Group Z: lifecycle."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import threading
import time
import traceback
import tracemalloc
from collections.abc import AsyncIterator, Callable
from typing import Any

from ..api import CaseContext, Outcome, case
from ..hostside import drive, from_host, soon
from ..support import other_threads, socket_pair, wait_asleep


@case(
    "Z.01a-result",
    "What the main coroutine returns is what run returns: the same object.",
    rejects="mutant descriptor-leaked; mutant thread-leaked",
)
def result(t: CaseContext) -> None:
    value = object()

    async def main(first: Any, second: Any) -> Any:
        await asyncio.sleep(0)
        t.log("arguments", [first, second])
        return value

    t.log("same", t.run(main, 1, "two") is value)


@case(
    "Z.01b-exception",
    "What the main coroutine raises is what run raises: the same object, its traceback leading into main.",
)
def exception(t: CaseContext) -> None:
    error = LookupError("gone", 42)

    async def main() -> None:
        await asyncio.sleep(0)
        raise error

    try:
        t.run(main)
    except LookupError as exc:
        names = [frame.name for frame in traceback.extract_tb(exc.__traceback__)]
        t.log("raised", [exc is error, "main" in names, repr(exc.__cause__), repr(exc.__context__)])


@case("Z.01c-cancelled", "A main coroutine that ends in cancellation makes run raise CancelledError.")
def cancelled(t: CaseContext) -> None:
    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_soon(task.cancel, "why")
        await asyncio.sleep(60)

    try:
        t.run(main)
    except asyncio.CancelledError as exc:
        t.log("cancelled", list(exc.args))


@case("Z.01d-exits", "SystemExit and KeyboardInterrupt out of the main coroutine come out of run, after the teardown.")
def exits(t: CaseContext) -> None:
    async def background() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            t.log("background ends")

    async def main(exc: BaseException) -> None:
        task = asyncio.create_task(background())
        await asyncio.sleep(0)
        t.log("task", task.done())
        raise exc

    for exc in (SystemExit(3), KeyboardInterrupt("now")):
        try:
            t.run(main, exc)
        except (SystemExit, KeyboardInterrupt) as got:
            t.log("raised", [type(got).__name__, got is exc, list(got.args)])


@case(
    "Z.01e-outcome",
    "`done_callback` gets the outcome: the result itself, or the exception itself.",
    needs="host start_api",
    oracle="own",
    rejects="a done callback that is given text",
)
def outcome(t: CaseContext) -> None:
    value: list[int] = []
    error = LookupError("gone")

    async def main(fail: bool) -> Any:
        await asyncio.sleep(0.01)
        if fail:
            raise error
        return value

    for fail in (False, True):
        ended: list[Outcome] = []

        def done(outcome: Outcome) -> None:
            ended.append(outcome)
            t.driver.quit()

        t.start(main, fail, done=done)
        t.check(not ended, "the guest ran inside its start")
        drive(t, ended)
        if fail:
            try:
                ended[0].unwrap()
                t.check(False, "the exception was lost")
            except LookupError as exc:
                t.check(exc is error, "another exception", exc=exc)
        else:
            t.check(ended[0].unwrap() is value, "another result")


@case("Z.02-falsy-results", "Falsy results are kept as they are.")
def falsy(t: CaseContext) -> None:
    async def main(value: Any) -> Any:
        await asyncio.sleep(0)
        return value

    class Empty:
        def __bool__(self) -> bool:
            return False

    empty = Empty()
    values: list[Any] = [None, 0, False, "", [], {}, 0.0, empty]
    for value in values:
        got = t.run(main, value)
        t.log("result", [type(got).__name__, got is value])


@case(
    "Z.03a-stop",
    "`stop()` ends run_forever after the callbacks that were ready in that iteration; the loop can be run again.",
)
def stop(t: CaseContext) -> None:
    loop = t.new_loop()
    loop.call_soon(t.log, "first")
    loop.call_soon(loop.stop)
    loop.call_soon(t.log, "same iteration")
    loop.call_soon(lambda: loop.call_soon(t.log, "next iteration"))
    loop.run_forever()
    t.log("stopped", loop.is_running())
    loop.stop()
    loop.call_soon(t.log, "after a stop before the run")
    loop.run_forever()
    t.log("stopped again", loop.is_closed())
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    loop.close()
    t.log("closed", loop.is_closed())


@case(
    "Z.03b-stop-before-completion",
    "A loop stopped before its future is done makes run_until_complete say so, and is usable afterwards.",
)
def stop_early(t: CaseContext) -> None:
    loop = t.new_loop()
    future = loop.create_future()
    loop.call_soon(loop.stop)
    try:
        loop.run_until_complete(future)
    except RuntimeError as exc:
        t.log("error", str(exc))
    loop.call_soon(future.set_result, 5)
    t.log("result", loop.run_until_complete(future))
    loop.close()


@case(
    "Z.03c-stop-in-run",
    "`stop()` inside the main coroutine of run is an error of run's; its tasks are cancelled all the same.",
)
def stop_in_run(t: CaseContext) -> None:
    async def main() -> None:
        asyncio.get_running_loop().stop()
        try:
            await asyncio.sleep(60)
        finally:
            t.log("main ends")

    try:
        t.run(main)
    except RuntimeError as exc:
        t.log("error", str(exc))


@case(
    "Z.03d-run-until-complete",
    "run_until_complete takes a coroutine, a task or a future, repeatedly; the loop keeps its state between.",
)
def until_complete(t: CaseContext) -> None:
    loop = t.new_loop()

    async def work(x: int) -> int:
        await asyncio.sleep(0.001)
        return x

    task = loop.create_task(work(1))
    t.log("coroutine", loop.run_until_complete(work(2)))
    t.log("task made before", loop.run_until_complete(task))
    future = loop.create_future()
    loop.call_later(0.001, future.set_result, 3)
    t.log("future", loop.run_until_complete(future))
    try:
        loop.run_until_complete(asyncio.wait_for(loop.create_future(), 0.001))
    except asyncio.TimeoutError:
        t.log("timeout")
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    try:
        coroutine = work(4)
        loop.run_until_complete(coroutine)
    except RuntimeError as exc:
        coroutine.close()
        t.log("closed", str(exc))


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


OBJECTS, MEMORY = 80, 64 * 1024
"""So many objects and bytes a hundred runs may leave: one forgotten object a run would be a hundred; what the interpreter
itself caches is less."""


async def _small_program() -> int:
    loop = asyncio.get_running_loop()
    with socket_pair() as (a, b):
        got = loop.create_future()
        loop.add_reader(a, lambda: None if got.done() else got.set_result(a.recv(10)))
        b.send(b"x")
        await got
        loop.remove_reader(a)
    task = asyncio.create_task(asyncio.sleep(60))
    await asyncio.sleep(0)
    task.cancel()
    return 7


@case("Z.04a-run-twice", "Two runs, one after the other, are independent: another loop, a fresh context each time.")
def run_twice(t: CaseContext) -> None:
    loops: list[Any] = []

    async def main() -> Any:
        loops.append(asyncio.get_running_loop())
        return await _small_program()

    t.log("results", [t.run(main), t.run(main)])
    t.log("loops", [loops[0] is loops[1], loops[0].is_closed(), loops[1].is_closed()])


@case(
    "Z.04b-run-a-hundred-times",
    "A hundred runs leave no descriptor, no thread and no memory behind.",
    timeout=60,
    rejects="a guest that leaves its timer's descriptor open",
)
def run_hundred(t: CaseContext) -> None:
    for _ in range(10):
        t.run(_small_program)
    gc.collect()
    descriptors, threads = _descriptors(), _threads()
    tracemalloc.start()
    try:
        for _ in range(20):
            t.run(_small_program)
        gc.collect()
        for _ in range(2):  # a table of the interpreter's own that is made anew, and larger, is not made again
            before = tracemalloc.get_traced_memory()[0]
            objects = len(gc.get_objects())
            for _ in range(100):
                t.run(_small_program)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
            more = len(gc.get_objects()) - objects
            if grown < MEMORY and more < OBJECTS:
                break
    finally:
        tracemalloc.stop()
    t.measure("memory", grown / 1024, "KiB")
    t.measure("objects", more, "objects")
    t.check(_descriptors() == descriptors, "descriptors were left open", more=_descriptors() - descriptors)
    t.check(_threads() == threads, "threads were left", more=_threads() - threads)
    t.check(more < OBJECTS, "objects were left behind", more=more)
    t.check(grown < MEMORY, "memory was left behind", bytes=grown)
    t.log("balanced")


@case(
    "Z.04c-run-with-executor-twenty-times",
    "Runs that use the default executor leave no thread behind.",
)
def run_executor(t: CaseContext) -> None:
    async def main() -> int:
        return await asyncio.to_thread(lambda: 3) + await asyncio.to_thread(lambda: 4)

    t.run(main)
    threads, descriptors = _threads(), _descriptors()
    t.log("results", [t.run(main) for _ in range(20)])
    # The threads in which asyncio shuts executors down are joined, and yet may be on their way out, several on a busy machine;
    # one that is left behind sleeps.
    wait_asleep(*other_threads(), seconds=2.0 * t.scale)
    t.check(_threads() - threads <= 1, "threads are left", more=_threads() - threads)
    t.log("descriptors", _descriptors() - descriptors)


@case(
    "Z.05a-run-inside",
    "asyncio.run, run_forever and run_until_complete inside a running loop raise RuntimeError; the loop goes on.",
)
def run_inside(t: CaseContext) -> None:
    _run_inside(t, lambda error: "refused")


@case(
    "Z.05c-words-of-the-refusal",
    "Who runs a loop inside a running one is told so in asyncio's words.",
    level="SHOULD",
    rejects="a loop with words of its own",
)
def words_of_the_refusal(t: CaseContext) -> None:
    _run_inside(t, str)


def _run_inside(t: CaseContext, told: Callable[[RuntimeError], str]) -> None:
    async def other() -> None:
        t.log("must not run")

    async def main() -> str:
        loop = asyncio.get_running_loop()
        calls: dict[str, Callable[[Any], Any]] = {
            "run": asyncio.run,
            "run_until_complete": loop.run_until_complete,
            "run_forever": lambda coroutine: loop.run_forever(),
        }
        for name, call in calls.items():
            coroutine = other()
            try:
                call(coroutine)
            except RuntimeError as error:
                t.log(name, told(error))
            coroutine.close()
        another = asyncio.new_event_loop()
        coroutine = other()
        try:
            another.run_until_complete(coroutine)
        except RuntimeError as error:
            t.log("another loop", told(error))
        finally:
            coroutine.close()
            another.close()
        await asyncio.sleep(0.001)
        return "goes on"

    t.log("result", t.run(main))


@case(
    "Z.05b-start-inside",
    "A second guest on the thread is refused by RuntimeError, from inside the first and from a host "
    "callback; the first goes on.",
    needs="host start_api",
    oracle="own",
    rejects="a second guest accepted",
)
def start_inside(t: CaseContext) -> None:
    ended: list[Outcome] = []
    refused: list[str] = []

    async def other() -> None:
        refused.append("ran")

    def attempt() -> None:
        try:
            t.start(other)
        except RuntimeError as exc:
            refused.append("refused" if str(exc) else "without a message")

    async def main() -> str:
        attempt()
        await from_host(t, attempt)
        await asyncio.sleep(0.01)
        return "goes on"

    def done(outcome: Outcome) -> None:
        ended.append(outcome)
        t.driver.quit()

    t.start(main, done=done)
    attempt()
    drive(t, ended)
    t.check(refused == ["refused"] * 3, "a second guest was not refused", got=refused)
    t.check(ended[0].unwrap() == "goes on", "the first guest ended in another way")


@case("Z.06-close-while-running", "`close()` on the running loop raises RuntimeError, and changes nothing.")
def close_running(t: CaseContext) -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        for _ in range(2):
            try:
                loop.close()
            except RuntimeError as exc:
                t.log("refused", str(exc))
            await asyncio.sleep(0.001)
        t.log("closed", loop.is_closed())
        return await asyncio.to_thread(lambda: "still works")

    t.log("result", t.run(main))


@case(
    "Z.07a-teardown-order",
    "Teardown: main ends, tasks are cancelled and awaited, generators closed, the executor shut down, "
    "the loop closed, in this order.",
    rejects="a teardown that closes the loop first, or does not wait for the executor",
)
def teardown_order(t: CaseContext) -> None:
    release, returned = threading.Event(), threading.Event()
    keep: list[Any] = []

    async def background(number: int) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            t.log("cancelled", actor=f"task {number}")
            await asyncio.sleep(0.01 * number)
            await asyncio.sleep(0)
            t.log("ended", actor=f"task {number}")
            counted.append(number)
            raise

    counted: list[int] = []

    async def generator() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            t.log("generator closing", sorted(counted))
            await asyncio.sleep(0.01)
            t.log("generator closed")
            release.set()

    def worker() -> None:
        t.check(release.wait(10), "the executor was shut down before the generators were closed")
        returned.wait(0.3 * t.scale)  # goes on past the end of a run that does not wait for it
        counted.append(99)

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        for number in range(3):
            keep.append(asyncio.create_task(background(number)))
        opened = generator()
        keep.append(opened)
        t.log("first", await opened.__anext__())
        keep.append(loop.run_in_executor(None, worker))
        await asyncio.sleep(0)
        t.log("main ends")
        return loop

    loop = t.run(main)
    ended = sorted(counted)
    returned.set()
    t.log("after run", [ended, loop.is_closed()])


@case(
    "Z.07b-teardown-errors",
    "An exception in a task's clean-up during the teardown goes to the exception handler, once, and the "
    "teardown goes on.",
)
def teardown_errors(t: CaseContext) -> None:
    keep: list[Any] = []

    async def bad() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise LookupError("in the clean-up")

    async def good() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            t.log("good ends")

    def heard(loop: Any, context: dict[str, Any]) -> None:
        t.log("heard", [context["message"], repr(context.get("exception"))], actor="handler")

    async def main() -> str:
        asyncio.get_running_loop().set_exception_handler(heard)
        keep.extend([asyncio.create_task(bad()), asyncio.create_task(good())])
        await asyncio.sleep(0)
        return "result"

    t.log("result", t.run(main))


@case(
    "Z.07c-tasks-born-in-teardown",
    "A task that is created while the others are being cancelled is treated as asyncio.Runner treats it.",
)
def born_in_teardown(t: CaseContext) -> None:
    keep: list[Any] = []

    async def late() -> None:
        try:
            await asyncio.sleep(0.02)
            t.log("late ends by itself", actor="late")
        except asyncio.CancelledError:
            t.log("late cancelled", actor="late")
            raise

    async def parent() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            keep.append(asyncio.create_task(late()))
            await asyncio.sleep(0.05)
            t.log("parent ends", actor="parent")

    async def main() -> None:
        keep.append(asyncio.create_task(parent()))
        await asyncio.sleep(0)

    t.run(main)


@case(
    "Z.08-host-alive-in-teardown",
    "The host's timers go on while the guest tears down: a task that takes its time, a generator, a worker thread.",
    needs="host timer",
    oracle="own",
    rejects="a teardown that blocks the host (run_until_complete in the done callback)",
)
def alive_in_teardown(t: CaseContext) -> None:
    ticks: dict[str, int] = {"run": 0, "task": 0, "generator": 0, "executor": 0}
    phase = "run"
    keep: list[Any] = []
    timer: list[Any] = []

    def tick() -> None:
        ticks[phase] += 1

    def enter(name: str) -> None:
        nonlocal phase
        phase = name

    async def background() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            enter("task")
            await asyncio.sleep(0.3)

    async def generator() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            enter("generator")
            await asyncio.sleep(0.3)
            enter("executor")
            release.set()

    release = threading.Event()

    def worker() -> None:
        release.wait(10)
        time.sleep(0.3)

    async def main() -> None:
        timer.append(t.driver.host_timer(10, tick, repeat=True))
        keep.append(asyncio.create_task(background()))
        opened = generator()
        keep.append(opened)
        await opened.__anext__()
        keep.append(asyncio.get_running_loop().run_in_executor(None, worker))
        await asyncio.sleep(0.05)

    t.run(main)
    timer[0].cancel()
    for name, count in ticks.items():
        t.measure(f"ticks in {name}", count, "ticks")
    for name in ("task", "generator", "executor"):
        # 30 in 0.3 s when nothing is in the way.
        t.check(ticks[name] >= 10 / t.scale, f"the host stood still during the teardown ({name})", **ticks)


def exit_running(t: CaseContext) -> None:
    """Child of Z.09a: the host's loop has been left, the guest runs on, the program ends."""

    async def main() -> None:
        print("began", flush=True)
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.01)
            await asyncio.to_thread(lambda: print("cleaned", flush=True))

    t.start(main)
    t.driver.host_timer(100, t.driver.quit)
    t.driver.run()


def exit_never_run(t: CaseContext) -> None:
    """Child of Z.09b: the guest was started and its host never run."""

    async def main() -> None:
        print("began", flush=True)

    t.start(main)


def exit_stubborn(t: CaseContext) -> None:
    """Child of Z.09c: a task that does not let itself be cancelled."""

    async def main() -> None:
        print("began", flush=True)
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)

    t.start(main)
    t.driver.host_timer(100, t.driver.quit)
    t.driver.run()


def exit_in_callback(t: CaseContext) -> None:
    """Child of Z.09d: sys.exit in the middle of run."""

    async def main() -> None:
        try:
            await asyncio.sleep(0.01)
            sys.exit(7)
        finally:
            print("cleaned", flush=True)

    t.run(main)


@case(
    "Z.09a-exit-with-guest-running",
    "The interpreter ends with a guest running: its finally blocks run to their end, executors included, "
    "and the exit status is the program's.",
    needs="host loop timer start_api child",
    oracle="own",
    rejects="a guest torn down in atexit, when the executors are dead already",
)
def exit_with_guest(t: CaseContext) -> None:
    child = t.child(exit_running)
    t.check(child.returncode == 0, "another exit status", returncode=child.returncode, stderr=child.stderr)
    t.check(child.stdout.split() == ["began", "cleaned"], "no clean-up", stdout=child.stdout, stderr=child.stderr)


@case(
    "Z.09b-exit-before-first-turn",
    "The interpreter ends before a started guest had its first turn: no crash, no hang, exit status 0.",
    needs="start_api child",
    oracle="own",
    rejects="a guest whose host source is dispatched during finalisation",
)
def exit_before_first_turn(t: CaseContext) -> None:
    began = time.monotonic()
    child = t.child(exit_never_run)
    t.check(child.returncode == 0, "another exit status", returncode=child.returncode, stderr=child.stderr)
    t.check(time.monotonic() - began < 8 * t.scale, "the exit took too long")
    t.check("Fatal" not in child.stderr, "a fatal error", stderr=child.stderr)


@case(
    "Z.09c-exit-with-stubborn-task",
    "A task that refuses its cancellation delays the interpreter's exit by a bounded time only.",
    tier="full",
    timeout=40,
    needs="host loop timer start_api child",
    oracle="own",
    rejects="an exit that waits for ever",
)
def exit_stubbornly(t: CaseContext) -> None:
    began = time.monotonic()
    child = t.child(exit_stubborn, timeout=25)
    seconds = time.monotonic() - began
    t.measure("seconds", seconds, "s")
    t.check(child.returncode == 0, "another exit status", returncode=child.returncode, stderr=child.stderr)
    t.check(child.stderr, "the guest was given up without a word")
    t.check(seconds < 10 * t.scale, "the exit took too long", seconds=seconds)


@case(
    "Z.09d-sys-exit-in-main",
    "`sys.exit(7)` in the main coroutine ends the program with status 7, after the teardown.",
    needs="child",
    oracle="own",
    rejects="a SystemExit that stays in the host's callback",
)
def sys_exit(t: CaseContext) -> None:
    child = t.child(exit_in_callback)
    t.check(child.returncode == 7, "another exit status", returncode=child.returncode, stderr=child.stderr)
    t.check(child.stdout.split() == ["cleaned"], "no clean-up", stdout=child.stdout)


async def _forked(child: Any) -> str:
    """Fork; the child calls `child()`, writes what that returns to a pipe and is gone; returns it."""
    loop = asyncio.get_running_loop()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            try:
                text = str(child())
            except BaseException as exc:
                text = "".join(traceback.format_exception_only(type(exc), exc)).strip()
            os.write(write, text.encode())
        finally:
            os._exit(0)
    os.close(write)
    chunks: list[bytes] = []
    over = loop.create_future()

    def readable() -> None:
        chunk = os.read(read, 4096)
        chunks.append(chunk)
        if not chunk and not over.done():
            over.set_result(None)

    loop.add_reader(read, readable)
    try:
        await asyncio.wait_for(over, 10)
    finally:
        loop.remove_reader(read)
        os.close(read)
        await asyncio.to_thread(os.waitpid, pid, 0)
    return b"".join(chunks).decode()


@case(
    "Z.10a-fork",
    "A child forked from inside a coroutine can run a loop of its own; the parent's loop goes on, its "
    "descriptors and timers intact.",
    needs="fork",
    rejects="a child that inherits the running loop, or takes the parent's descriptors along",
)
async def fork(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()

    async def program() -> int:
        await asyncio.sleep(0.01)
        return 41 + await asyncio.to_thread(lambda: 1)

    with socket_pair() as (a, b):
        got: asyncio.Queue[bytes] = asyncio.Queue()
        loop.add_reader(a, lambda: got.put_nowait(a.recv(10)))
        timer = loop.create_future()
        loop.call_later(0.05, timer.set_result, "fired")
        t.log("child", await _forked(lambda: asyncio.run(program())))
        b.send(b"one")
        t.log("reader", (await asyncio.wait_for(got.get(), 5)).decode())
        t.log("timer", await timer)
        loop.remove_reader(a)
    t.log("thread", await asyncio.to_thread(lambda: "works"))


@case(
    "Z.10b-fork-child-closes-its-loop",
    "The child unregisters its readers and closes the loop that it inherited: the parent's readers still fire.",
    needs="host fork start_api",
    oracle="own",
    rejects="an epoll set shared between parent and child",
)
def fork_child_closes(t: CaseContext) -> None:
    ended: list[Outcome] = []

    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        heard: list[str] = []
        with socket_pair() as (a, b):
            got: asyncio.Queue[bytes] = asyncio.Queue()
            loop.add_reader(a, lambda: got.put_nowait(a.recv(10)))

            def child() -> str:
                loop.remove_reader(a)
                loop.close()
                return "closed"

            heard.append(await _forked(child))
            for text in (b"one", b"two"):
                b.send(text)
                heard.append((await asyncio.wait_for(got.get(), 5)).decode())
            loop.remove_reader(a)
        return heard

    def done(outcome: Outcome) -> None:
        ended.append(outcome)
        t.driver.quit()

    t.start(main, done=done)
    drive(t, ended)
    heard = ended[0].unwrap()
    t.check(heard == ["closed", "one", "two"], "the parent lost its readers", heard=heard)


@case(
    "Z.10c-fork-in-host-callback",
    "The same from a host callback between turns; the child runs a loop of its own.",
    needs="host fork start_api",
    oracle="own",
    rejects="a child in which the guest is still alive",
)
def fork_in_host_callback(t: CaseContext) -> None:
    ended: list[Outcome] = []

    async def program() -> str:
        await asyncio.sleep(0.01)
        return "ran"

    async def main() -> str:
        loop = asyncio.get_running_loop()
        read, write = os.pipe()
        over = loop.create_future()

        def callback() -> None:
            pid = os.fork()
            if pid == 0:
                try:
                    try:
                        text = asyncio.run(program())
                    except BaseException as exc:
                        text = "".join(traceback.format_exception_only(type(exc), exc)).strip()
                    os.write(write, text.encode())
                finally:
                    os._exit(0)
            os.close(write)

            def readable() -> None:
                if not over.done():
                    over.set_result((pid, os.read(read, 4096)))

            loop.add_reader(read, readable)

        soon(t, callback)
        try:
            pid, text = await asyncio.wait_for(over, 10)
        finally:
            loop.remove_reader(read)
            os.close(read)
        await asyncio.to_thread(os.waitpid, pid, 0)
        await asyncio.sleep(0.01)
        return str(text.decode())

    def done(outcome: Outcome) -> None:
        ended.append(outcome)
        t.driver.quit()

    t.start(main, done=done)
    drive(t, ended, 15)
    t.check(ended[0].unwrap() == "ran", "the child could not run a loop", got=ended[0])


@case(
    "Z.11-abandoned-guest-warns",
    "A guest that is still running when the interpreter ends is cancelled and finished, with a warning "
    "that is shown by default.",
    needs="host loop timer start_api child",
    oracle="own",
    rejects="a guest that is dropped silently",
)
def abandoned(t: CaseContext) -> None:
    child = t.child(exit_running)
    t.check("cleaned" in child.stdout, "the guest was not finished", stdout=child.stdout, stderr=child.stderr)
    t.check("Warning" in child.stderr, "no warning", stderr=child.stderr)


@case(
    "Z.12a-done-once-and-last",
    "`done_callback` is called exactly once, after everything else of the guest: tasks, generators, "
    "executor and loop are over by then.",
    needs="host start_api",
    oracle="own",
    rejects="a done callback that is called when the main coroutine ends",
)
def done_last(t: CaseContext) -> None:
    events: list[str] = []
    ended: list[Outcome] = []
    keep: list[Any] = []

    async def background() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.02)
            events.append("task")

    async def generator() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0.02)
            events.append("generator")

    def worker() -> None:
        time.sleep(0.1)
        events.append("worker")

    async def main() -> str:
        keep.append(asyncio.create_task(background()))
        opened = generator()
        keep.append(opened)
        await opened.__anext__()
        keep.append(asyncio.get_running_loop().run_in_executor(None, worker))
        await asyncio.sleep(0)
        return "result"

    guest: list[Any] = []

    def done(outcome: Outcome) -> None:
        events.append("done")
        events.append("closed" if guest[0].loop.is_closed() else "open")
        try:
            # A host that is asyncio has a loop of its own, which is running.
            theirs = asyncio.get_running_loop() is not guest[0].loop and "asyncio" in t.driver.abilities
            events.append("not running" if theirs else "running")
        except RuntimeError:
            events.append("not running")
        ended.append(outcome)
        soon(t, t.driver.quit, 50) if "timer" in t.driver.abilities else t.driver.quit()

    guest.append(t.start(main, done=done))
    drive(t, ended)
    t.check(len(ended) == 1 and ended[0].unwrap() == "result", "another outcome", ended=ended)
    t.check(sorted(events[:3]) == ["generator", "task", "worker"], "done came before the rest", events=events)
    t.check(events[3:] == ["done", "closed", "not running"], "not everything was over", events=events)


@case(
    "Z.12b-start-in-done",
    "The next guest may be started from the done callback of the one before.",
    needs="host loop start_api",
    oracle="own",
    rejects="a guest that still counts as running in its done callback",
)
def start_in_done(t: CaseContext) -> None:
    ended: list[int] = []
    numbers: list[int] = []

    async def main(number: int) -> int:
        await asyncio.sleep(0.005)
        return number

    def done(outcome: Outcome) -> None:
        numbers.append(outcome.unwrap())
        if len(numbers) < 5:
            t.start(main, len(numbers), done=done)
        else:
            ended.append(1)
            t.driver.quit()

    t.start(main, 0, done=done)
    drive(t, ended)
    t.check(numbers == [0, 1, 2, 3, 4], "another series", numbers=numbers)


@case(
    "Z.12c-done-raises",
    "An exception out of the done callback is reported once, and the host goes on.",
    needs="host loop timer start_api",
    oracle="own",
    rejects="a done callback whose exception ends the host's loop",
)
def done_raises(t: CaseContext) -> None:
    called: list[Outcome] = []
    later: list[str] = []
    reported: list[str] = []

    async def main() -> None:
        await asyncio.sleep(0.005)

    def done(outcome: Outcome) -> None:
        called.append(outcome)

        def go_on() -> None:
            later.append("host goes on")
            t.driver.quit()

        t.driver.host_timer(30, go_on)
        raise LookupError("out of the done callback")

    before, before_unraisable = sys.excepthook, sys.unraisablehook
    sys.excepthook = lambda kind, exc, tb: reported.append(str(exc))
    sys.unraisablehook = lambda args: reported.append(str(args.exc_value))
    try:
        t.start(main, done=done)
        drive(t, later)
    finally:
        sys.excepthook, sys.unraisablehook = before, before_unraisable
    t.check(len(called) == 1, "the done callback was called more than once")
    t.check(reported == ["out of the done callback"], "reported not once", reported=reported)
