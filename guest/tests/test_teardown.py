"""The end of a guest: what asyncio.Runner's own tests ask of its teardown, and the host alive meanwhile."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from typing import Any

import asyncio_guest
import outcome
import pytest
from hosts import QueueHost


def test_order_of_the_phases(queue_host: QueueHost) -> None:
    log: list[str] = []

    class Loop(asyncio.SelectorEventLoop):
        async def shutdown_asyncgens(self) -> None:
            log.append("asyncgens")
            await super().shutdown_asyncgens()

        async def shutdown_default_executor(self, *args: Any) -> None:
            log.append("executor")
            await super().shutdown_default_executor(*args)

        def close(self) -> None:
            if not self.is_closed():
                log.append("close")
            super().close()

    async def background() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            log.append("cancelled")

    async def main() -> None:
        keep.append(asyncio.create_task(background()))
        await asyncio.sleep(0)
        log.append("main")

    keep: list[Any] = []
    queue_host.start(main(), loop_factory=Loop, done_callback=lambda result: (log.append("done"), queue_host.stop()))
    queue_host.main_loop()
    assert log == ["main", "cancelled", "asyncgens", "executor", "close", "done"]


def test_host_is_alive_during_teardown(queue_host: QueueHost) -> None:
    """A task needs the host to end: the teardown must let the host run."""

    async def stubborn() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            answer = asyncio.get_running_loop().create_future()
            queue_host.later(0.02, answer.set_result, None)
            await answer
            ended.append(1)

    async def main() -> None:
        keep.append(asyncio.create_task(stubborn()))
        await asyncio.sleep(0)

    keep: list[Any] = []
    ended: list[int] = []
    queue_host.run(main())
    assert ended == [1]


def test_executor_is_waited_for_while_the_host_runs(queue_host: QueueHost) -> None:
    release = threading.Event()

    async def main() -> None:
        asyncio.get_running_loop().run_in_executor(None, release.wait, 10)

    queue_host.start(main())
    queue_host.later(0.02, release.set)
    queue_host.main_loop()
    assert release.is_set()
    assert queue_host.outcomes == [outcome.Value(None)]


def test_errors_of_cancelled_tasks_go_to_the_exception_handler(queue_host: QueueHost) -> None:
    reported: list[dict[str, Any]] = []

    async def failing() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            raise ZeroDivisionError

    async def main() -> int:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
        keep.append(asyncio.create_task(failing()))
        await asyncio.sleep(0)
        return 7

    keep: list[Any] = []
    assert queue_host.run(main()) == 7
    assert len(reported) == 1
    assert "shutdown" in reported[0]["message"]
    assert isinstance(reported[0]["exception"], ZeroDivisionError)
    assert reported[0]["task"] is keep[0]


def test_error_in_teardown_replaces_the_result(queue_host: QueueHost) -> None:
    class Loop(asyncio.SelectorEventLoop):
        async def shutdown_asyncgens(self) -> None:
            raise BlockingIOError("teardown")

    async def main(fail: bool) -> None:
        if fail:
            raise ValueError("main")

    with pytest.raises(BlockingIOError) as caught:
        queue_host.run(main(False), loop_factory=Loop)
    with pytest.raises(BlockingIOError) as caught:
        queue_host.run(main(True), loop_factory=Loop)
    assert isinstance(caught.value.__context__, ValueError)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupt_in_a_task_tears_down(error: type[BaseException], queue_host: QueueHost) -> None:
    """As out of run_forever: the other tasks are cancelled, the interrupt is the outcome."""
    cancelled: list[str] = []

    async def bystander() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append("bystander")
            raise

    async def culprit() -> None:
        raise error

    async def main() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(bystander())
                await asyncio.sleep(0)
                group.create_task(culprit())
        except BaseException:
            cancelled.append("main")
            raise

    with pytest.raises(error):
        queue_host.run(main())
    assert cancelled == ["bystander", "main"]


def test_cancellation_caught_by_main(queue_host: QueueHost) -> None:
    async def main() -> str:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return "caught"
        return "slept"

    guest = queue_host.start(main())
    queue_host.call(guest.cancel)
    queue_host.main_loop()
    assert queue_host.outcomes == [outcome.Value("caught")]


def test_nothing_is_logged_by_a_clean_end(queue_host: QueueHost, caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise KeyError("seen by the caller")

    for coro in (asyncio.sleep(0), fail()):
        try:
            queue_host.run(coro, debug=False)
        except KeyError:
            pass
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_exception_never_retrieved_is_reported_once(queue_host: QueueHost, caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise KeyError("nobody asks")

    async def main() -> None:
        asyncio.create_task(fail())
        await asyncio.sleep(0.01)

    queue_host.run(main())
    assert [record.getMessage().split("\n")[0] for record in caplog.records] == ["Task exception was never retrieved"]


def test_event_loop_of_the_thread_as_runner_leaves_it(queue_host: QueueHost) -> None:
    async def main() -> None:
        assert asyncio.get_event_loop() is asyncio.get_running_loop()

    guest = queue_host.start(main())
    queue_host.main_loop()
    assert queue_host.outcomes.pop() == outcome.Value(None)
    policy = asyncio.get_event_loop_policy()
    with pytest.raises(RuntimeError):
        policy.get_event_loop()
    mine = asyncio.new_event_loop()
    asyncio.set_event_loop(mine)
    try:
        queue_host.run(main(), loop_factory=asyncio.new_event_loop)
        assert policy.get_event_loop() is mine
    finally:
        asyncio.set_event_loop(None)
        mine.close()
    assert guest.done


def test_host_main_loop_raises_under_the_guest() -> None:
    """run(): a signal handler raises out of the host's main loop."""
    order: list[str] = []

    class Quit(Exception):
        pass

    def handler(*args: object) -> None:
        raise Quit

    async def main() -> None:
        try:
            order.append("running")
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.01)
            order.append("cleaned")

    old = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Quit):
            asyncio_guest.run(main(), host="poll")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert order == ["running", "cleaned"]


def test_finish_is_bounded(queue_host: QueueHost) -> None:
    """A main task that does not end when cancelled: the guest is given up after the time it has."""

    started: list[int] = []

    async def main() -> None:
        while True:
            try:
                started.append(1)
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass

    guest = queue_host.start(main())
    queue_host.main_loop(until=lambda: bool(started))
    guest._driver.finish(0.1)
    assert guest.done
    assert isinstance(queue_host.outcomes.pop().error, asyncio_guest.GuestLost)
    assert guest.loop.is_closed()
    queue_host.drain()
    guest.task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_default_executor_threads_are_gone(queue_host: QueueHost) -> None:
    async def main() -> str:
        return await asyncio.to_thread(lambda: threading.current_thread().name)

    name = queue_host.run(main())
    assert name.startswith("asyncio")
    assert name not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("in_a_turn", [False, True])
def test_host_dies_first(in_a_turn: bool, queue_host: QueueHost) -> None:
    """The guest is cancelled, cleans up without the host, reports once and warns."""
    order: list[str] = []
    started: list[int] = []

    def die() -> None:
        guest._driver.core.host_died()

    async def main() -> None:
        try:
            started.append(1)
            if in_a_turn:
                die()
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.01)
            order.append(await asyncio.to_thread(lambda: "cleaned"))

    def done(result: Any) -> None:
        order.append(f"done {type(result.error).__name__}")

    guest = queue_host.start(main(), done_callback=done)
    with pytest.warns(asyncio_guest.HostDiedWarning, match="main task"):
        queue_host.main_loop(until=lambda: bool(started))
        if not in_a_turn:
            die()
    assert order == ["cleaned", "done CancelledError"]
    assert guest.done
    posted = queue_host.posted_threadsafe + queue_host.posted_here
    die()  # nothing is left to die
    assert queue_host.posted_threadsafe + queue_host.posted_here == posted
    queue_host.drain()


def test_modal_call_that_the_host_never_made(queue_host: QueueHost) -> None:
    """The host dies with a modal call in its queue: the awaiter hears of it instead of waiting for ever."""
    seen: list[str] = []

    async def main() -> None:
        task = asyncio.create_task(asyncio_guest.modal(seen.append, "must not run"))
        await asyncio.sleep(0)
        guest._driver.core.host_died()
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            pass
        try:
            await task
        except RuntimeError as exc:
            seen.append(str(exc))

    guest = queue_host.start(main())
    with pytest.warns(asyncio_guest.HostDiedWarning):
        queue_host.main_loop()
    assert len(seen) == 1 and "has gone" in seen[0]
    queue_host.drain()
