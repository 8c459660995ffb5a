"""Faults of signals and of Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, cast

from . import Loop, Runs, broken

WATCHED = {signal.SIGINT, signal.SIGUSR1}


@broken(
    "signals are looked for at times only, and neither wake the loop nor interrupt what it does",
    "G.01b-signal-while-idle",
    "G.03a-ctrl-c-while-idle",
    "G.03b-ctrl-c-while-busy",
    "G.04a-second-ctrl-c",
    "G.10-last-handler-removed",
)
class SignalsAtTimes(Loop):
    def __init__(self) -> None:
        super().__init__()
        signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        self.call_later(1.4, self._look)

    def _look(self) -> None:
        self.call_later(1.4, self._look)
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)

    def close(self) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        super().close()


@broken(
    "a handler is called for the first signal only, as by a signal() that forgets it",
    "G.01a-add-signal-handler",
    "G.08-storm",
)
class HandlerOnce(Loop):
    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> None:
        left = [True]
        super().add_signal_handler(sig, lambda: callback(*args) if left and left.pop() else None)


@broken("a second handler for a signal is called beside the first", "G.01c-replace-handler")
class HandlersPileUp(Loop):
    def __init__(self) -> None:
        super().__init__()
        self._all: dict[int, list[Any]] = {}

    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> None:
        handlers = self._all.setdefault(sig, [])
        handlers.append(lambda: callback(*args))
        super().add_signal_handler(sig, lambda: [each() for each in handlers])


@broken(
    "a signal whose handler is removed is ignored from then on",
    "G.02-remove-signal-handler",
    "G.06c-handlers-removed-at-close",
)
class RemovedIsIgnored(Loop):
    def remove_signal_handler(self, sig: int) -> bool:
        removed = super().remove_signal_handler(sig)
        if removed:
            signal.signal(sig, signal.SIG_IGN)
        return removed


@broken("Ctrl-C ends the main task, and the others are dropped without their clean-up", "G.03c-ctrl-c-and-clean-up")
class InterruptDropsTasks(Runs):
    def run(self, main: Coroutine[Any, Any, Any], **options: Any) -> Any:
        runner = asyncio.Runner(loop_factory=self.new_loop)
        try:
            result = runner.run(main)
        except KeyboardInterrupt:
            runner.get_loop().close()
            raise
        runner.close()
        return result


@broken("a main task that has dealt with its cancellation by Ctrl-C counts as interrupted", "G.03d-ctrl-c-swallowed")
class InterruptedAllTheSame(Loop):
    def run_until_complete(self, future: Any) -> Any:
        result = super().run_until_complete(future)
        if isinstance(future, asyncio.Task) and future.cancelling():
            raise KeyboardInterrupt
        return result


@broken(
    "each Ctrl-C cancels the main task, the second one too, and takes the place of the program's own handler",
    "G.04a-second-ctrl-c",
    "G.04b-second-ctrl-c-in-coroutine",
    "G.06b-own-handler-kept",
)
class InterruptsOnlyCancel(Runs):
    def run(self, main: Coroutine[Any, Any, Any], **options: Any) -> Any:
        async def cancellable() -> Any:
            loop, task = asyncio.get_running_loop(), cast("asyncio.Task[Any]", asyncio.current_task())
            signal.signal(signal.SIGINT, lambda *_: loop.call_soon_threadsafe(task.cancel))
            try:
                return await main
            except asyncio.CancelledError:
                raise KeyboardInterrupt from None
            finally:
                signal.signal(signal.SIGINT, signal.default_int_handler)

        return super().run(cancellable(), **options)
