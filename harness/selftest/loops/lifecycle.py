"""Faults of a loop's life: its run, its stop, its teardown, its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Coroutine
from typing import Any

from . import Loop, Runs, broken


@broken(
    "a run closes its loop without a teardown",
    "A.02a-closed-at-teardown",
    "K.10a-cancellation-at-teardown",
    "K.10b-tasks-made-at-teardown",
    "X.03a-shutdown-waits",
    "Z.07a-teardown-order",
    "Z.07b-teardown-errors",
    "Z.07c-tasks-born-in-teardown",
)
class NoTeardown(Runs):
    def run(self, main: Coroutine[Any, Any, Any], **options: Any) -> Any:
        loop = Loop()
        try:
            return loop.run_until_complete(main)
        finally:
            loop.close()


@broken(
    "the teardown is left out when the main task fails",
    "A.02b-closed-when-main-fails",
    "G.03c-ctrl-c-and-clean-up",
    "K.08b-main-raises-base-exceptions",
    "Z.01d-exits",
    "Z.03c-stop-in-run",
)
class NoTeardownAfterErrors(Runs):
    def run(self, main: Coroutine[Any, Any, Any], **options: Any) -> Any:
        runner = asyncio.Runner(loop_factory=Loop)
        try:
            result = runner.run(main)
        except BaseException:
            runner.get_loop().close()
            raise
        runner.close()
        return result


class _Before(Runs):
    """Does something before asyncio's own teardown."""

    def before(self, loop: asyncio.AbstractEventLoop) -> None:
        raise NotImplementedError

    def run(self, main: Coroutine[Any, Any, Any], **options: Any) -> Any:
        with asyncio.Runner(loop_factory=Loop) as runner:
            try:
                return runner.run(main)
            finally:
                self.before(runner.get_loop())


@broken(
    "the teardown closes the generators before it ends the tasks",
    "A.02b-closed-when-main-fails",
    "Z.07a-teardown-order",
)
class GeneratorsBeforeTasks(_Before):
    def before(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.run_until_complete(loop.shutdown_asyncgens())


@broken(
    "the teardown cancels a task in each iteration until it ends",
    "K.10a-cancellation-at-teardown",
    "Z.07c-tasks-born-in-teardown",
)
class CancelledAgainAndAgain(_Before):
    def before(self, loop: asyncio.AbstractEventLoop) -> None:
        while tasks := asyncio.all_tasks(loop):
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))


@broken(
    "what the main task raises comes out of the run wrapped, or without its arguments",
    "Z.01b-exception",
    "Z.01c-cancelled",
)
class ErrorsMadeAnew(Runs):
    def run(self, main: Coroutine[Any, Any, Any], **options: Any) -> Any:
        try:
            return super().run(main, **options)
        except (Exception, asyncio.CancelledError) as error:
            raise type(error) from error


@broken("a SystemExit of the main task stays inside the run", "Z.01d-exits", "Z.09d-sys-exit-in-main")
class ExitStaysInside(Runs):
    def run(self, main: Coroutine[Any, Any, Any], **options: Any) -> Any:
        try:
            return super().run(main, **options)
        except SystemExit:
            return None


@broken("a result that is false is taken for none", "Z.02-falsy-results")
class FalsyIsNone(Runs):
    def run(self, main: Coroutine[Any, Any, Any], **options: Any) -> Any:
        return super().run(main, **options) or None


class _StopNow(KeyboardInterrupt):
    """Passes through a handle, as asyncio's own did in Python 3.4."""


@broken("stop() ends the iteration at once, by an exception", "E.03c-stop-and-error", "Z.03a-stop")
class StopsAtOnce(Loop):
    def stop(self) -> None:
        super().stop()
        if self.is_running():
            raise _StopNow

    def run_forever(self) -> None:
        with contextlib.suppress(_StopNow):
            super().run_forever()


@broken(
    "a loop that is stopped before its future is done returns None",
    "Z.03b-stop-before-completion",
    "Z.03c-stop-in-run",
)
class StoppedIsNone(Loop):
    def run_until_complete(self, future: Any) -> Any:
        future = asyncio.ensure_future(future, loop=self)
        future.add_done_callback(lambda _: self.stop())
        self.run_forever()
        return future.result() if future.done() else None


@broken("run_until_complete returns what tasks return, and None for any other future", "Z.03d-run-until-complete")
class OnlyTasksReturn(Loop):
    def run_until_complete(self, future: Any) -> Any:
        result = super().run_until_complete(future)
        return result if asyncio.iscoroutine(future) or isinstance(future, asyncio.Task) else None


@broken("every run has the same loop, which is never closed", "Z.04a-run-twice")
class OneLoopForAll(Runs):
    def __init__(self) -> None:
        self._loop = Loop()

    def run(self, main: Coroutine[Any, Any, Any], **options: Any) -> Any:
        return self._loop.run_until_complete(main)

    def close(self) -> None:
        self._loop.close()


_forgotten: list[Any] = []


@broken("a loop forgets its default executor at the end, whose threads go on waiting for work", "Z.04c-run-with-executor-twenty-times")
class ExecutorForgotten(Loop):
    async def shutdown_default_executor(self, *args: Any) -> None:
        _forgotten.append(self._default_executor)
        self._default_executor = None


@broken(
    "a loop leaves a descriptor open when it is closed",
    "Z.04b-run-a-hundred-times",
    "Z.04c-run-with-executor-twenty-times",
)
class DescriptorLeft(Loop):
    def close(self) -> None:
        if not self.is_closed() and not self.is_running():
            os.dup(self._selector.fileno())
        super().close()


@broken("run_until_complete inside the running loop makes a task instead of refusing", "Z.05a-run-inside")
class NestedRunTaken(Loop):
    def run_until_complete(self, future: Any) -> Any:
        return asyncio.ensure_future(future) if self.is_running() else super().run_until_complete(future)


@broken("a second run is refused in words of the loop's own", "Z.05c-words-of-the-refusal", sees=("WEAK",))
class RefusedInOwnWords(Loop):
    def _check_running(self) -> None:
        try:
            super()._check_running()
        except RuntimeError:
            raise RuntimeError("busy") from None


@broken("close() on the running loop is passed over without a word", "Z.06-close-while-running")
class CloseWithoutAWord(Loop):
    def close(self) -> None:
        if not self.is_running():
            super().close()
