"""install(): unchanged programs, test suites' habits included."""

from __future__ import annotations

import asyncio
import signal
import os
import selectors
import sys
import threading
import unittest
from collections.abc import Iterator
from typing import Any

import asyncio_guest
import pytest
from asyncio_guest import _core, _install
from hosts import QueueHost


@pytest.fixture(params=["watch", "waiter"])
def poll(request: Any) -> Iterator[asyncio_guest.Installation]:
    with asyncio_guest.install("poll", strategy=request.param) as installation:
        yield installation


class Grown:
    """How the totals have grown."""

    def __init__(self) -> None:
        self._before = asyncio_guest.totals()

    def __getitem__(self, name: str) -> int:
        return asyncio_guest.totals().get(name, 0) - self._before.get(name, 0)


async def _answer(value: Any = 42) -> Any:
    await asyncio.sleep(0.001)
    assert _core.current_guest() is not None
    assert _core.current_guest().loop is asyncio.get_running_loop()  # type: ignore[union-attr]
    return value


def test_uninstalled_again() -> None:
    stock = asyncio.BaseEventLoop.run_forever
    installation = asyncio_guest.install("poll")
    assert asyncio.BaseEventLoop.run_forever is not stock
    assert asyncio_guest.install("poll") is installation
    with pytest.raises(RuntimeError, match="already installed"):
        asyncio_guest.install("poll", engine="stock")
    with pytest.raises(ValueError, match="unknown host"):
        installation()
        asyncio_guest.install("no such host")
    assert asyncio.BaseEventLoop.run_forever is stock
    installation()
    assert _install.installed() is None

    async def main() -> None:
        assert _core.current_guest() is None

    asyncio.run(main())


def test_second_host_is_refused(poll: asyncio_guest.Installation, queue_host: QueueHost) -> None:
    with pytest.raises(RuntimeError, match="already installed with the host 'poll'"):
        asyncio_guest.install(queue_host.host)


@pytest.mark.parametrize("options", [{"engine": "warp"}, {"threads": "maybe"}])
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, RuntimeError)):
        asyncio_guest.install("poll", **options)
    assert _install.installed() is None


def test_every_way_to_run(poll: asyncio_guest.Installation) -> None:
    grown = Grown()
    assert asyncio.run(_answer()) == 42
    with asyncio.Runner() as runner:
        assert runner.run(_answer(1)) == 1
        assert runner.run(_answer(2)) == 2
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(_answer(3)) == 3
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert not loop.is_running()
    loop.stop()
    loop.run_forever()  # one iteration
    loop.close()

    class Case(unittest.IsolatedAsyncioTestCase):
        async def asyncSetUp(self) -> None:
            self.value = await _answer(4)

        async def test(self) -> None:
            self.assertEqual(await _answer(5), 5)
            self.assertEqual(self.value, 4)

    result = unittest.TestResult()
    Case("test").run(result)
    assert result.wasSuccessful(), result.errors
    # asyncio.run: main and three phases at most; each run_forever is a guest of its own.
    assert grown["guests"] >= 10
    assert grown["turns"] == grown["turns_host_poll"] >= grown["guests"]
    assert grown["guests_fallback"] == 0


def test_run_a_hundred_times(poll: asyncio_guest.Installation) -> None:
    assert [asyncio.run(_answer(i)) for i in range(100)] == list(range(100))


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(3)])
def test_errors(error: BaseException, poll: asyncio_guest.Installation) -> None:
    async def main() -> None:
        await asyncio.sleep(0)
        raise error

    with pytest.raises(type(error)) as caught:
        asyncio.run(main())
    assert caught.value is error


def test_run_forever_as_stock(poll: asyncio_guest.Installation) -> None:
    loop = asyncio.new_event_loop()
    with pytest.raises(RuntimeError, match="Event loop stopped before Future completed"):
        loop.call_soon(loop.stop)
        loop.run_until_complete(loop.create_future())

    def nested() -> None:
        with pytest.raises(RuntimeError, match="already running"):
            loop.run_forever()
        other = asyncio.new_event_loop()
        with pytest.raises(RuntimeError, match="another loop is running"):
            other.run_until_complete(other.create_future())
        other.close()
        with pytest.raises(RuntimeError, match="running event loop"):
            coro = _answer()
            try:
                asyncio.run(coro)
            finally:
                coro.close()
        with pytest.raises(RuntimeError, match="running"):
            loop.close()
        loop.stop()

    loop.call_soon(nested)
    loop.run_forever()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.run_forever()

    # What raises out of an iteration leaves the loop usable, and what was ready still runs.
    loop = asyncio.new_event_loop()
    ran: list[int] = []

    def interrupt() -> None:
        loop.call_soon(ran.append, 1)
        raise KeyboardInterrupt

    loop.call_soon(interrupt)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert not loop.is_running()
    loop.run_until_complete(_answer())
    assert ran == [1]
    loop.close()


def test_another_loop_inside_a_turn(poll: asyncio_guest.Installation) -> None:
    """A program that unsets the running loop to run another one gets that loop's own run_forever."""
    grown = Grown()

    async def main() -> str:
        outer = asyncio.get_running_loop()
        task = asyncio.current_task()
        asyncio.tasks._leave_task(outer, task)  # type: ignore[arg-type]
        asyncio._set_running_loop(None)
        inner = asyncio.new_event_loop()
        try:
            return inner.run_until_complete(asyncio.sleep(0.001, "inner"))
        finally:
            inner.close()
            asyncio._set_running_loop(outer)
            asyncio.tasks._enter_task(outer, task)  # type: ignore[arg-type]

    assert asyncio.run(main()) == "inner"
    assert grown["runs_nested"] == 1


def test_loop_factories_and_classes_are_kept(poll: asyncio_guest.Installation) -> None:
    class Loop(asyncio.SelectorEventLoop):
        pass

    class Own(asyncio.SelectorEventLoop):
        forever = 0

        def run_forever(self) -> None:
            Own.forever += 1
            while not self._stopping:  # type: ignore[attr-defined]
                self._stopping = True
            self._stopping = False

    loop = Loop()
    assert loop.run_until_complete(_answer()) == 42
    loop.close()
    own = Own()
    own.run_forever()
    assert Own.forever == 1
    own.close()


@pytest.mark.parametrize("name", ["PollSelector", "SelectSelector"])
def test_selectors_without_a_descriptor(name: str, poll: asyncio_guest.Installation) -> None:
    import socket

    async def main() -> bytes:
        a, b = socket.socketpair()
        with a, b:
            reader, writer = await asyncio.open_connection(sock=a)
            threading.Timer(0.01, b.sendall, (b"ping\n",)).start()
            line = await asyncio.wait_for(reader.readline(), 10)
            writer.close()
            return line

    grown = Grown()
    selector = getattr(selectors, name)()
    loop = asyncio.SelectorEventLoop(selector)
    try:
        assert loop.run_until_complete(main()) == b"ping\n"
    finally:
        loop.close()
    assert grown["turns_mirrored"] == grown["turns"] > 0
    assert not {"register", "unregister", "modify"} & set(vars(selector))


def test_loop_with_a_clock_of_its_own(poll: asyncio_guest.Installation) -> None:
    """Virtual time: nothing to watch, so the loop is always due and runs by its own _run_once."""

    class Clock(asyncio.SelectorEventLoop):
        now = 0.0

        def time(self) -> float:
            return self.now

        def _run_once(self) -> None:
            if not self._ready and self._scheduled:  # type: ignore[attr-defined]
                self.now = max(self.now, self._scheduled[0]._when)  # type: ignore[attr-defined]
            super()._run_once()  # type: ignore[misc]

    grown = Grown()
    loop = Clock()
    loop.run_until_complete(asyncio.sleep(3600))
    loop.close()
    assert grown["iterations_fast"] == 0
    assert grown["turns_always_due"] > 0


def test_threads(poll: asyncio_guest.Installation) -> None:
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(asyncio.run(_answer()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [42] * 4


class _MainThreadOnly:
    """A backend that accepts the main thread only."""

    name = "main-only"
    strategies = ("watch",)

    def missing(self) -> None:
        return None

    def accepts(self, obj: object) -> bool:
        return False

    def open(self, obj: object) -> asyncio_guest.Host:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("main-only accepts the main thread only")
        return asyncio_guest.Host(_core.poll_ops)


@pytest.fixture
def main_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from asyncio_guest import _hosts

    known = {**_hosts.hosts(), "main-only": _MainThreadOnly()}
    monkeypatch.setattr(_hosts, "hosts", lambda: known)


def test_refused_threads_run_on_poll(main_only: None) -> None:
    grown = Grown()
    results: list[Any] = []
    with asyncio_guest.install("main-only"):
        thread = threading.Thread(target=lambda: results.extend([asyncio.run(_answer()), asyncio.run(_answer())]))
        thread.start()
        thread.join()
        assert results == [42, 42]
        assert grown["guests_fallback"] == grown["guests"] > 0
        assert grown["turns_fallback"] == grown["turns"]
        asyncio.run(_answer())
        assert grown["guests_fallback"] < grown["guests"]


def test_refused_threads_may_be_errors(main_only: None) -> None:
    errors: list[BaseException] = []

    def work() -> None:
        loop = asyncio.new_event_loop()
        try:
            loop.call_soon(loop.stop)
            loop.run_forever()
        except RuntimeError as exc:
            errors.append(exc)
        finally:
            loop.close()

    with asyncio_guest.install("main-only", threads="error"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert [str(error) for error in errors] == ["main-only accepts the main thread only"]


@pytest.mark.parametrize("engine", ["stock", "fast"])
def test_forced_engine(engine: str) -> None:
    grown = Grown()
    try:
        installation = asyncio_guest.install("poll", engine=engine)
    except RuntimeError:
        assert engine == "fast"
        pytest.skip("the engine does not know this interpreter")
    with installation:
        asyncio.run(_answer())

        class Odd(asyncio.SelectorEventLoop):
            def _run_once(self) -> None:
                super()._run_once()  # type: ignore[misc]

        loop = Odd()
        loop.run_until_complete(_answer())
        loop.close()
    assert (grown["iterations_fast"] > 0) == (engine == "fast")
    assert grown["iterations"] > grown["iterations_fast"]


def test_start_is_refused_in_an_installed_run_and_modal_works(poll: asyncio_guest.Installation) -> None:
    async def main() -> str:
        coro = asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already running"):
            asyncio_guest.start(coro, host="poll")
        return await asyncio_guest.modal(lambda: "modal")

    assert asyncio.run(main()) == "modal"


def test_subprocess_and_signals(poll: asyncio_guest.Installation) -> None:
    import signal

    async def main() -> tuple[int, bytes]:
        loop = asyncio.get_running_loop()
        got = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, got.set_result, None)
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.wait_for(got, 5)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print('child')", stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        return await process.wait(), out

    assert asyncio.run(main()) == (0, b"child\n")


def test_interrupt_from_the_keyboard(poll: asyncio_guest.Installation) -> None:
    import signal

    cancelled: list[int] = []

    async def main() -> None:
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert cancelled == [1]


def test_running_loop_by_the_python_implementation(
    poll: asyncio_guest.Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """test_asyncio swaps asyncio.events' functions for the ones in Python; nothing may be left in those in C."""
    from asyncio import events

    if not hasattr(events, "_c__get_running_loop"):
        pytest.skip("asyncio has no implementation in C here")
    with monkeypatch.context() as patch:
        for name in ("_get_running_loop", "_set_running_loop", "get_running_loop", "get_event_loop"):
            implementation = getattr(events, f"_py_{name}")
            patch.setattr(events, name, implementation)
            patch.setattr(asyncio, name, implementation)
        loop = asyncio.new_event_loop()
        seen: list[Any] = []
        loop.call_soon(lambda: seen.append(events._get_running_loop()))
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
    left = events._c__get_running_loop()
    asyncio._set_running_loop(None)
    assert seen == [loop]
    assert left is None


def test_overridden_run_once_does_not_spin(poll: asyncio_guest.Installation) -> None:
    """A program that counts iterations (as test_asyncio does): the host sleeps until something is due."""
    loop = asyncio.new_event_loop()
    original = loop._run_once  # type: ignore[attr-defined]
    iterations = 0

    def counting() -> None:
        nonlocal iterations
        iterations += 1
        original()

    loop._run_once = counting  # type: ignore[attr-defined]
    loop.run_until_complete(asyncio.sleep(0.05))
    loop.close()
    assert 2 <= iterations <= 20


def test_signal_between_two_runs(poll: asyncio_guest.Installation) -> None:
    """A handler of the loop's hears of a signal that comes while the loop does not run (SafeChildWatcher's SIGCHLD)."""
    loop = asyncio.new_event_loop()
    try:
        heard = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, heard.set_result, "heard")
        loop.run_until_complete(asyncio.sleep(0))
        os.kill(os.getpid(), signal.SIGUSR1)
        assert loop.run_until_complete(asyncio.wait_for(heard, 5)) == "heard"
    finally:
        loop.close()
    assert signal.set_wakeup_fd(-1) == -1
