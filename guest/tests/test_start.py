"""Start, results, errors: what Trio's guest-mode tests ask, of asyncio."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import socket
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncio_guest
import outcome
import pytest
from asyncio_guest import _core
from asyncio_guest.backends.callables.queue_loop import QueueLoop
from hosts import QueueHost

STRATEGIES = ("watch", "waiter")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_trivial(strategy: str) -> None:
    async def main() -> str:
        await asyncio.sleep(0)
        return "ok"

    assert asyncio_guest.run(main(), host="poll", strategy=strategy) == "ok"


@pytest.mark.parametrize("result", [None, 0, "", [], False, StopIteration, ValueError("a result")])
def test_falsy_and_odd_results_are_kept(result: object, queue_host: QueueHost) -> None:
    async def main() -> object:
        return result

    assert queue_host.run(main()) is result
    assert asyncio_guest.run(main(), host="poll") is result


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_io(strategy: str) -> None:
    async def main() -> bytes:
        a, b = socket.socketpair()
        with a, b:
            reader, writer = await asyncio.open_connection(sock=a)
            threading.Timer(0.01, b.sendall, (b"hello\n",)).start()
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return line

    assert asyncio_guest.run(main(), host="poll", strategy=strategy) == b"hello\n"


def test_initialised_when_start_returns(queue_host: QueueHost) -> None:
    ran: list[str] = []

    async def main() -> None:
        ran.append("main")

    guest = queue_host.start(main())
    assert ran == []
    assert not guest.done
    assert guest.outcome is None
    assert asyncio.get_running_loop() is guest.loop
    assert asyncio.current_task() is None
    assert asyncio.all_tasks() == {guest.task}
    queue_host.main_loop()
    assert ran == ["main"]
    assert guest.done
    assert guest.outcome == outcome.Value(None)
    assert guest.loop.is_closed()
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_eager_task_factory_runs_nothing_early(queue_host: QueueHost) -> None:
    ran: list[str] = []

    async def child() -> None:
        ran.append("child")

    async def main() -> None:
        ran.append("main")
        asyncio.create_task(child())
        ran.append("after")

    def factory() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        return loop

    queue_host.start(main(), loop_factory=factory)
    assert ran == []
    queue_host.main_loop()
    assert ran == ["main", "child", "after"]


def test_host_wakes_a_task(queue_host: QueueHost) -> None:
    async def main() -> str:
        future = asyncio.get_running_loop().create_future()
        queue_host.later(0.02, future.set_result, "from the host")
        return await asyncio.wait_for(future, 10)  # type: ignore[no-any-return]

    assert queue_host.run(main()) == "from the host"


def test_host_makes_everything(queue_host: QueueHost) -> None:
    """A callback of the host schedules, sets timers and starts tasks; it is served at once."""
    seen: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        event = asyncio.Event()

        async def task() -> None:
            seen.append("task")
            loop.call_later(0.01, timer)

        def timer() -> None:
            seen.append("timer")
            queue_host.later(0.01, event.set)

        queue_host.later(0.01, lambda: loop.call_soon(lambda: keep.append(asyncio.create_task(task()))))
        keep: list[Any] = []
        await asyncio.wait_for(event.wait(), 10)

    queue_host.run(main())
    assert seen == ["task", "timer"]


def test_start_soon(queue_host: QueueHost) -> None:
    async def work(value: int) -> int:
        await asyncio.sleep(0)
        return value

    async def main() -> int:
        done = asyncio.get_running_loop().create_future()

        def button() -> None:
            task = guest.start_soon(work, 41)
            task.add_done_callback(lambda task: done.set_result(task.result()))

        queue_host.call(button)
        return await done + 1  # type: ignore[no-any-return]

    guest = queue_host.start(main())
    queue_host.main_loop()
    assert queue_host.outcomes == [outcome.Value(42)]
    with pytest.raises(RuntimeError, match="over"):
        guest.start_soon(work, 1)


def test_cancel_from_a_host_callback_and_from_another_thread(queue_host: QueueHost) -> None:
    async def main() -> None:
        await asyncio.sleep(3600)

    guest = queue_host.start(main())
    queue_host.call(guest.cancel)
    queue_host.main_loop()
    assert isinstance(queue_host.outcomes.pop().error, asyncio.CancelledError)
    assert not guest.cancel()

    guest = queue_host.start(main())
    threading.Timer(0.02, guest.cancel).start()
    queue_host.main_loop()
    assert isinstance(queue_host.outcomes.pop().error, asyncio.CancelledError)


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(3), asyncio.CancelledError("c")])
def test_errors_of_main_reach_done_callback(error: BaseException, queue_host: QueueHost) -> None:
    async def main() -> None:
        await asyncio.sleep(0)
        raise error

    with pytest.raises(type(error)) as caught:
        queue_host.run(main())
    assert caught.value is error or isinstance(error, asyncio.CancelledError)
    with pytest.raises(type(error)) as caught:
        asyncio_guest.run(main(), host="poll")
    if isinstance(error, SystemExit):
        assert caught.value.code == 3  # type: ignore[attr-defined]


def test_host_lives_on_after_an_error(queue_host: QueueHost) -> None:
    async def main() -> None:
        raise SystemExit(5)

    after: list[int] = []

    def done(result: Any) -> None:
        queue_host.outcomes.append(result)
        queue_host.call(after.append, 1)
        queue_host.call(queue_host.stop)

    queue_host.start(main(), done_callback=done)
    queue_host.main_loop()
    assert after == [1]
    assert queue_host.outcomes[0].error.code == 5


def test_internal_error_ends_the_guest(queue_host: QueueHost) -> None:
    """An error of the machinery: the loop's own _run_once fails."""

    class Broken(asyncio.SelectorEventLoop):
        broken = False

        def _run_once(self) -> None:
            if self.broken:
                type(self).broken = False
                raise OSError("poll failed")
            super()._run_once()  # type: ignore[misc]

    cleaned: list[int] = []

    async def main() -> None:
        try:
            Broken.broken = True
            await asyncio.sleep(3600)
        finally:
            cleaned.append(1)

    with pytest.raises(OSError, match="poll failed"):
        queue_host.run(main(), loop_factory=Broken)
    assert cleaned == [1]


def test_stop_before_main_is_done(queue_host: QueueHost) -> None:
    async def main() -> None:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(3600)

    with pytest.raises(RuntimeError, match="Event loop stopped before Future completed"):
        queue_host.run(main())


def test_errors_without_done_callback_go_to_excepthook(
    queue_host: QueueHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[BaseException] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, exc, tb: reported.append(exc))

    async def fail() -> None:
        raise LookupError("nobody listens")

    async def forever() -> None:
        await asyncio.sleep(3600)

    guest = asyncio_guest.start(fail(), host=queue_host.host)
    queue_host.main_loop(until=lambda: guest.done)
    assert [str(exc) for exc in reported] == ["nobody listens"]
    guest = asyncio_guest.start(forever(), host=queue_host.host)
    guest.cancel()
    queue_host.main_loop(until=lambda: guest.done)
    assert len(reported) == 1  # the program asked for that cancellation


def test_exception_in_done_callback(queue_host: QueueHost, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[BaseException] = []
    calls: list[Any] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, exc, tb: reported.append(exc))

    def done(result: Any) -> None:
        calls.append(result)
        queue_host.call(queue_host.stop)
        raise ZeroDivisionError

    async def main() -> int:
        return 1

    guest = queue_host.start(main(), done_callback=done)
    queue_host.main_loop()
    assert calls == [outcome.Value(1)]
    assert [type(exc) for exc in reported] == [ZeroDivisionError]
    assert guest.done


def test_done_callback_comes_last(queue_host: QueueHost) -> None:
    """The loop is closed, no loop runs, and another guest can be started in it."""
    states: list[Any] = []

    async def second() -> str:
        return "second"

    async def first() -> str:
        return "first"

    def done(result: Any) -> None:
        states.append((result.unwrap(), guest.done, guest.loop.is_closed(), asyncio._get_running_loop()))
        queue_host.start(second())

    guest = queue_host.start(first(), done_callback=done)
    queue_host.main_loop()
    assert states == [("first", True, True, None)]
    assert queue_host.outcomes == [outcome.Value("second")]


def test_second_guest_on_a_thread_is_refused(queue_host: QueueHost) -> None:
    async def main() -> None:
        pass

    guest = queue_host.start(main())
    for _ in range(2):
        coro = main()
        with pytest.raises(RuntimeError, match="already running"):
            asyncio_guest.start(coro, host="poll")
        assert coro.cr_frame is None  # closed: no "never awaited"
    queue_host.main_loop()
    assert guest.done


class Observer(asyncio.SelectorEventLoop):
    """A loop that the engine ``fast`` does not stand for."""

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]


def test_guests_on_two_threads() -> None:
    results: list[Any] = []

    async def main(value: int) -> int:
        await asyncio.sleep(0.02)
        return value

    threads = [
        threading.Thread(target=lambda i=i: results.append(asyncio_guest.run(main(i), host="poll"))) for i in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [0, 1]


def test_failed_starts_leave_nothing(queue_host: QueueHost) -> None:
    async def main() -> None:
        raise AssertionError("must not run")

    def bad_factory() -> Any:
        raise OSError("no loop")

    for options, error in (
        ({"host": "no such host"}, ValueError),
        ({"host": object()}, TypeError),
        ({"host": "poll", "engine": "warp"}, (RuntimeError, ValueError)),
        ({"host": "poll", "strategy": "pray"}, (RuntimeError, ValueError)),
        ({"host": "poll", "budget": 0}, ValueError),
        ({"host": "poll", "loop_factory": bad_factory}, OSError),
        ({"host": "poll", "loop_factory": lambda: object()}, TypeError),
    ):
        coro = main()
        with pytest.raises(error):
            asyncio_guest.start(coro, **options)  # type: ignore[arg-type]
        assert coro.cr_frame is None
        assert asyncio._get_running_loop() is None
        assert _core.current_guest() is None
    with pytest.raises(TypeError, match="coroutine was expected"):
        asyncio_guest.start(main, host="poll")  # type: ignore[arg-type]


@pytest.mark.parametrize("options, reason", [
    ({"debug": True}, "debug mode is on"),
    ({"loop_factory": Observer}, "_run_once"),
])
def test_a_refused_engine_says_why(options: dict[str, Any], reason: str) -> None:
    """The end of the half-made guest has not swallowed the exception (a SystemError came instead)."""
    with pytest.raises(RuntimeError, match=f"engine 'fast' cannot run this loop: .*{reason}"):
        asyncio_guest.run(asyncio.sleep(0), host="poll", engine="fast", **options)


def test_unknown_host_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown host 'gkt3'; known hosts: .*poll"):
        asyncio_guest.resolve("gkt3")


def test_what_lies_beside_the_backends_is_no_host(python: Any, tmp_path: Path) -> None:
    """A folder that a cache has left, a module, a package that is something else; one whose import fails says so."""
    backends = tmp_path / "beside" / "backends"
    for name, text in (
        ("left/__pycache__/__init__.cpython-311.pyc", ""),
        ("module.py", "BACKEND = 1"),
        ("other/__init__.py", "print('imported')"),
        ("failing/__init__.py", "1 / 0"),
        ("odd_shape/__init__.py", "BACKEND = 1"),
    ):
        (backends / name).parent.mkdir(parents=True, exist_ok=True)
        (backends / name).write_text(text)
    done = python(
        """
        import sys
        import asyncio_guest
        from asyncio_guest import _hosts
        asyncio_guest.__path__.append(sys.argv[1])
        for name in ("left", "module", "other", "failing", "odd_shape", "odd-shape"):
            try:
                asyncio_guest.resolve(name)
            except (ValueError, RuntimeError) as exc:
                print(str(exc).partition(";")[0])
        print(sorted({"left", "module", "other", "failing", "odd-shape", "poll"} & set(_hosts.usable())))
        """,
        str(backends.parent),
    )
    assert done.returncode == 0, done.stderr
    cannot = "the host {0!r} cannot be used: the backend {0!r} cannot be imported: {1}"
    shape = cannot.format("odd-shape", "TypeError: it has no BACKEND with name, strategies, missing, accepts and open")
    assert [line for line in done.stdout.splitlines() if line != "imported"] == [
        "unknown host 'left'", "unknown host 'module'", "unknown host 'other'",
        cannot.format("failing", "ZeroDivisionError: division by zero"), shape, shape, "['failing', 'odd-shape', 'poll']",
    ]  # fmt: skip


def test_synchronous_post_is_refused() -> None:
    async def main() -> None:
        raise AssertionError("must not run")

    with pytest.raises(RuntimeError, match="post"):
        asyncio_guest.start_guest_run(
            main, run_sync_soon_threadsafe=lambda fn: fn(), done_callback=lambda result: None
        )


def test_start_guest_run_and_its_older_name(queue_host: QueueHost) -> None:
    async def add(a: int, b: int) -> int:
        await asyncio.sleep(0.01)
        return a + b

    for function in (asyncio_guest.start_guest_run, asyncio_guest.asyncio_guest_run):
        function(
            add,
            2,
            3,
            run_sync_soon_threadsafe=queue_host.soon_threadsafe,
            run_sync_soon_not_threadsafe=queue_host.soon,
            done_callback=queue_host.done,
        )
        queue_host.main_loop()
        assert queue_host.outcomes.pop() == outcome.Value(5)
    function(add, 1, 1, run_sync_soon_threadsafe=queue_host.soon_threadsafe, done_callback=queue_host.done)
    queue_host.main_loop()
    assert queue_host.outcomes.pop() == outcome.Value(2)


def test_context(queue_host: QueueHost) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def main() -> str:
        value = variable.get()
        variable.set("changed")
        return value

    variable.set("outer")
    assert queue_host.run(main()) == "outer"
    context = contextvars.copy_context()
    context.run(variable.set, "given")
    assert queue_host.run(main(), context=context) == "given"
    assert context[variable] == "changed"
    assert variable.get() == "outer"


def test_debug_and_loop_factory(queue_host: QueueHost) -> None:
    made: list[asyncio.AbstractEventLoop] = []

    def factory() -> asyncio.AbstractEventLoop:
        made.append(asyncio.SelectorEventLoop())
        return made[-1]

    async def main() -> bool:
        assert asyncio.get_running_loop() is made[0]
        return asyncio.get_running_loop().get_debug()

    assert queue_host.run(main(), loop_factory=factory, debug=True) is True


def test_asyncgen_is_finalised_by_its_own_loop(queue_host: QueueHost) -> None:
    """A generator that a task forgets is closed by the guest's loop; one that the host made is not its business."""
    closed: list[Any] = []

    async def generator() -> Any:
        try:
            yield 1
            yield 2
        finally:
            closed.append(asyncio.get_running_loop())
            await asyncio.sleep(0)
            closed.append("closed")

    async def main() -> None:
        async for _ in generator():
            break
        await asyncio.sleep(0.01)
        assert closed == [asyncio.get_running_loop(), "closed"]
        global _kept
        _kept = generator()
        await _kept.__anext__()

    queue_host.run(main())
    assert len(closed) == 4  # the second one by shutdown_asyncgens()


_kept: Any = None


def test_wakeup_fd_is_left_to_the_host(queue_host: QueueHost) -> None:
    import signal

    a, b = socket.socketpair()
    a.setblocking(False)
    with a, b:
        signal.set_wakeup_fd(a.fileno())
        try:

            async def main() -> None:
                loop = asyncio.get_running_loop()
                await asyncio.sleep(0.01)
                with pytest.raises(RuntimeError, match=r"signal\.signal"):
                    loop.add_signal_handler(signal.SIGUSR1, print)
                assert signal.set_wakeup_fd(a.fileno()) == a.fileno()

            queue_host.run(main(), host_uses_signal_set_wakeup_fd=True)
        finally:
            assert signal.set_wakeup_fd(-1) == a.fileno()


def test_wakeup_fd_of_the_host_is_restored(queue_host: QueueHost) -> None:
    import signal

    a, b = socket.socketpair()
    a.setblocking(False)
    with a, b:
        for handler in (False, True):
            signal.set_wakeup_fd(a.fileno())
            try:

                async def main() -> None:
                    await asyncio.sleep(0)
                    if handler:
                        loop = asyncio.get_running_loop()
                        loop.add_signal_handler(signal.SIGUSR1, print)

                queue_host.run(main())
            finally:
                assert signal.set_wakeup_fd(-1) == a.fileno()


def test_guest_of_a_host_that_is_asyncio() -> None:
    """Both loops run on the thread; each has its own tasks, generators and running loop."""
    seen: list[Any] = []

    async def guest_main(host_loop: asyncio.AbstractEventLoop) -> str:
        assert asyncio.get_running_loop() is not host_loop
        async with asyncio.timeout(5):
            await asyncio.sleep(0.01)

        async def numbers() -> Any:
            try:
                yield 1
            finally:
                await asyncio.sleep(0)
                seen.append(asyncio.get_running_loop())

        async for _ in numbers():
            break
        await asyncio.sleep(0.01)
        assert seen == [asyncio.get_running_loop()]
        return "guest"

    async def host_main() -> str:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        guest = asyncio_guest.start_guest_run(
            guest_main,
            loop,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            run_sync_soon_not_threadsafe=loop.call_soon,
            done_callback=done.set_result,
        )
        assert asyncio.get_running_loop() is loop
        task = asyncio.current_task()
        while not done.done():
            await asyncio.sleep(0.001)
            assert asyncio.get_running_loop() is loop
            assert asyncio.current_task() is task
        assert guest.done
        return (await done).unwrap()  # type: ignore[no-any-return]

    assert asyncio.run(host_main()) == "guest"


def test_info_and_counters(queue_host: QueueHost) -> None:
    async def main() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    guest = queue_host.start(main(), engine="stock")
    assert guest.info.host == "callables"
    assert guest.info.engine == "stock"
    assert guest.info.engine_reason
    assert guest.info.strategy == "waiter"
    assert guest.info.selector == "descriptor"
    queue_host.main_loop()
    assert guest.counters["iterations"] >= 4
    assert guest.counters["turns"] == guest.counters["turns_descriptor"] > 0
    assert guest.counters["iterations_fast"] == 0


def test_totals_grow_by_a_guest() -> None:
    async def main() -> None:
        await asyncio.sleep(0)

    before = asyncio_guest.totals()
    asyncio_guest.run(main(), host="poll", engine="stock")
    after = asyncio_guest.totals()
    grown = {name: after[name] - before.get(name, 0) for name in after}
    assert grown["guests"] == grown["guests_host_poll"] == grown["guests_engine_stock"] == 1
    assert grown["turns"] == grown["turns_host_poll"] == grown["turns_descriptor"] > 0
    assert grown["iterations"] >= 2


def test_many_runs_in_a_row() -> None:
    async def main(i: int) -> int:
        await asyncio.sleep(0)
        return i

    assert [asyncio_guest.run(main(i), host="poll") for i in range(100)] == list(range(100))


def test_host_loop_stopped_and_started_again(queue_host: QueueHost) -> None:
    async def main() -> str:
        await asyncio.sleep(0.01)
        queue_host.stop()
        await asyncio.sleep(0.01)
        return "ok"

    guest = queue_host.start(main())
    queue_host.main_loop()
    assert not guest.done
    queue_host.main_loop()
    assert queue_host.outcomes == [outcome.Value("ok")]


class _Kept:
    """What a test looks at by a weak reference."""


@pytest.mark.parametrize("how", ["result", "error", "interrupt", "interrupted host", "failing host", "failing end"])
def test_only_the_exception_keeps_a_run(how: str) -> None:
    """Nothing waits for the garbage collector: neither the guest nor what its coroutine and its error refer to."""
    seen: dict[str, weakref.ref[Any]] = {}
    queue_loop = QueueLoop()  # lets the exceptions of its callbacks out that are no Exception

    class Loop(asyncio.SelectorEventLoop):
        async def shutdown_asyncgens(self) -> None:
            if how == "failing end":
                raise LookupError("at the end")

    def note(**things: Any) -> None:
        seen.update((name, weakref.ref(thing)) for name, thing in things.items())

    async def main() -> str:
        local = _Kept()
        note(loop=asyncio.get_running_loop(), task=asyncio.current_task(), guest=_core.current_guest(), local=local)
        await asyncio.sleep(0)
        if how == "error":
            raise LookupError("an error")
        if how == "interrupt":
            raise KeyboardInterrupt
        if how.endswith("host"):
            queue_loop.run_sync_soon_threadsafe(raiser(KeyboardInterrupt if how == "interrupted host" else GeneratorExit))
            await asyncio.sleep(3600)
        return "result"

    host: Any = queue_loop if how.endswith("host") else "poll"
    gc.collect()
    gc.disable()
    try:
        raised = None
        try:
            asyncio_guest.run(main(), host=host, loop_factory=Loop)
        except (LookupError, KeyboardInterrupt, GeneratorExit) as exc:
            raised = type(exc)
        # What was posted when the host failed is still in its queue, and lives until the host goes on.
        queue_loop.run_sync_soon_threadsafe(queue_loop.quit)
        queue_loop.run()
        left = [name for name, reference in seen.items() if reference() is not None]
    finally:
        gc.enable()
    assert left == []
    assert raised == {"result": None, "error": LookupError, "failing end": LookupError, "failing host": GeneratorExit}.get(
        how, KeyboardInterrupt
    )


def raiser(error: type[BaseException]) -> Callable[[], None]:
    """A callback that raises."""

    def fail() -> None:
        raise error

    return fail
