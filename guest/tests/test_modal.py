"""modal(): calls that block in a nested loop of the host."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import asyncio_guest
import pytest
from asyncio_guest import _core
from hosts import QueueHost


def test_without_a_guest() -> None:
    async def main() -> None:
        await asyncio_guest.modal(print)

    with pytest.raises(RuntimeError, match="no guest"):
        asyncio.run(main())


def test_result_exception_and_context() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    def dialog(a: int, b: int) -> tuple[int, str, Any]:
        return a + b, variable.get(), asyncio.current_task()

    def fails() -> None:
        raise LookupError("from the dialog")

    async def main() -> tuple[int, str, Any]:
        variable.set("of the task")
        with pytest.raises(LookupError, match="from the dialog"):
            await asyncio_guest.modal(fails)
        return await asyncio_guest.modal(dialog, 1, 2)

    assert asyncio_guest.run(main(), host="poll") == (3, "of the task", None)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupts_go_to_the_awaiter(error: type[BaseException]) -> None:
    def dialog() -> None:
        raise error

    async def main() -> str:
        try:
            await asyncio_guest.modal(dialog)
        except error:
            return "awaiter"
        return "nowhere"

    assert asyncio_guest.run(main(), host="poll") == "awaiter"


def _nested(queue_host: QueueHost, until: Any) -> None:
    """A nested main loop of the queue host: what a dialog's exec() is."""
    queue_host.main_loop(until=until)


def test_guest_goes_on_inside(queue_host: QueueHost) -> None:
    """The nested loop of the host gives turns to the guest: another task closes the dialog."""
    log: list[str] = []
    closed = False

    def dialog() -> str:
        log.append("open")
        _nested(queue_host, lambda: closed)
        log.append("closed")
        return "answer"

    async def closer() -> None:
        nonlocal closed
        for _ in range(3):
            await asyncio.sleep(0.005)
        log.append("closing")
        closed = True

    async def main() -> str:
        task = asyncio.create_task(closer())
        answer = await asyncio_guest.modal(dialog)
        await task
        return answer

    assert queue_host.run(main()) == "answer"
    assert log == ["open", "closing", "closed"]


def test_cancelled_awaiter_drops_the_result(queue_host: QueueHost) -> None:
    """The dialog is not interrupted, and the guest's end waits for it."""
    log: list[str] = []
    opened = False
    closed = False

    def dialog() -> None:
        nonlocal opened
        opened = True
        _nested(queue_host, lambda: closed)
        log.append("dialog closed")

    def close() -> None:
        nonlocal closed
        closed = True

    async def asks() -> None:
        try:
            await asyncio_guest.modal(dialog)
        except asyncio.CancelledError:
            log.append("cancelled")
            queue_host.later(0.02, close)
            raise

    async def main() -> None:
        task = asyncio.create_task(asks())
        while not opened:
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait([task])
        log.append("main over")

    queue_host.start(main(), done_callback=lambda result: (log.append("done"), queue_host.stop()))
    queue_host.main_loop()
    assert log == ["cancelled", "main over", "dialog closed", "done"]


def test_cancelled_before_it_opens(queue_host: QueueHost) -> None:
    calls: list[int] = []

    async def main() -> None:
        task = asyncio.create_task(asyncio_guest.modal(calls.append, 1))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    queue_host.run(main())
    assert calls == []


def test_failure_that_nobody_awaits_is_reported(queue_host: QueueHost) -> None:
    reported: list[dict[str, Any]] = []
    opened = False
    closed = False

    def dialog() -> None:
        nonlocal opened
        opened = True
        _nested(queue_host, lambda: closed)
        raise ZeroDivisionError

    async def main() -> None:
        nonlocal closed
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
        task = asyncio.create_task(asyncio_guest.modal(dialog))
        while not opened:
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait([task])
        closed = True
        await asyncio.sleep(0.01)

    queue_host.run(main())
    assert [type(context["exception"]) for context in reported] == [ZeroDivisionError]


def test_last_in_first_out(queue_host: QueueHost) -> None:
    log: list[str] = []
    open_now: list[str] = []
    release: set[str] = set()

    def dialog(name: str) -> str:
        open_now.append(name)
        _nested(queue_host, lambda: name in release and open_now[-1] == name)
        open_now.remove(name)
        log.append(name)
        return name

    async def main() -> list[str]:
        first = asyncio.create_task(asyncio_guest.modal(dialog, "first"))
        while open_now != ["first"]:
            await asyncio.sleep(0.001)
        second = asyncio.create_task(asyncio_guest.modal(dialog, "second"))
        while open_now != ["first", "second"]:
            await asyncio.sleep(0.001)
        release.add("first")
        await asyncio.sleep(0.01)
        assert log == []
        release.add("second")
        return list(await asyncio.gather(first, second))

    assert queue_host.run(main()) == ["first", "second"]
    assert log == ["second", "first"]


def test_nested_loop_inside_a_coroutine_pauses_the_guest(queue_host: QueueHost) -> None:
    """Without modal(): turns are refused while the coroutine blocks, and go on after."""
    log: list[str] = []

    async def other() -> None:
        for _ in range(3):
            await asyncio.sleep(0)
            log.append("other")

    async def main() -> None:
        task = asyncio.create_task(other())
        ticks: list[int] = []
        queue_host.later(0.01, ticks.append, 1)
        queue_host.main_loop(until=lambda: bool(ticks))
        log.append("main")
        await task

    queue_host.run(main())
    assert log == ["main", "other", "other", "other"]


def test_a_task_that_a_host_callback_steps_does_not_kill_those_of_the_guest(queue_host: QueueHost) -> None:
    """The eager first step of a task that a callback of the host's has made opens a nested loop: the tasks of the turns in
    there were killed by "Cannot enter into task ... while another task is being executed".

    Eager tasks came with 3.12; what their first step does to the loop is done by hand here.
    """
    seen: list[Any] = []
    log: list[str] = []

    async def other(go: asyncio.Event) -> None:
        await go.wait()
        for _ in range(3):
            await asyncio.sleep(0)
            log.append("other")

    async def eager() -> None:
        pass

    async def main() -> None:
        loop = asyncio.get_running_loop()
        go, returned = asyncio.Event(), asyncio.Event()
        task, stepping = asyncio.create_task(other(go)), asyncio.create_task(eager())
        await stepping

        def from_host() -> None:
            loop.call_soon_threadsafe(go.set)
            asyncio.tasks._enter_task(loop, stepping)
            _nested(queue_host, lambda: len(log) == 3)
            seen.append(asyncio.current_task(loop))
            asyncio.tasks._leave_task(loop, stepping)
            loop.call_soon_threadsafe(returned.set)

        queue_host.call(from_host)
        await returned.wait()
        await task
        seen[0] = seen[0] is stepping

    queue_host.run(main())
    assert log == ["other"] * 3 and seen == [True]


def test_an_error_while_the_task_is_put_aside_ends_the_main_task(
    queue_host: QueueHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal's exception in there took the guest away from under its main task: GuestLost."""
    cleaned: list[str] = []

    def interrupted(*_: Any) -> None:
        monkeypatch.undo()
        raise LookupError("from a signal")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        stepping = asyncio.create_task(asyncio.sleep(0))
        await stepping

        def from_host() -> None:
            loop.call_soon_threadsafe(lambda: None)
            asyncio.tasks._enter_task(loop, stepping)
            monkeypatch.setattr(asyncio.tasks, "_leave_task", interrupted)
            _nested(queue_host, lambda: bool(cleaned))
            asyncio.tasks._leave_task(loop, stepping)

        queue_host.call(from_host)
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append("main")

    with pytest.raises(LookupError, match="from a signal"):
        queue_host.run(main())
    assert cleaned == ["main"]


def test_host_without_callbacks() -> None:
    """A bare guest cannot be called back."""
    loop = asyncio.new_event_loop()
    core = _core.Guest(loop, on_stop=lambda exc: False, on_done=lambda: None, on_host_died=lambda: None)
    with pytest.raises(RuntimeError):
        core.call(print)
    core.detach()
    loop.close()
