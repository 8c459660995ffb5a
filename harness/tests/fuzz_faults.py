"""Event loops with one fault each that only some programs show: ``harness fuzz`` has to find them."""

from __future__ import annotations

import asyncio
import contextvars
import math
import os
from collections.abc import Coroutine
from typing import Any

from .faulty import Good


class _LosesContext(asyncio.SelectorEventLoop):
    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:
        return super().call_soon_threadsafe(callback, *args, context=contextvars.Context())


class LosesContext(Good):
    """Callbacks from threads run in an empty context."""

    loop_class = _LosesContext


class _Reorders(asyncio.SelectorEventLoop):
    last = -math.inf

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        if when == self.last:
            when = math.nextafter(when, -math.inf)
        else:
            self.last = when
        return super().call_at(when, callback, *args, context=context)


class ReordersEqualTimers(Good):
    """The later of two timers with one deadline is the first to fire."""

    loop_class = _Reorders


class _Lossy(asyncio.Task):  # type: ignore[type-arg]
    def cancel(self, msg: Any = None) -> bool:
        waiter = getattr(self, "_fut_waiter", None)
        if not self.done() and waiter is not None and waiter.done():
            return True  # forgotten: the task was about to go on anyway
        return super().cancel(msg)


class DropsCancellation(Good):
    """A task that is about to go on is not cancelled."""

    def run(self, main: Coroutine[Any, Any, Any], **options: Any) -> Any:
        async def wrapped() -> Any:
            loop = asyncio.get_running_loop()
            loop.set_task_factory(lambda loop, coro, **kw: _Lossy(coro, loop=loop, **kw))
            return await loop.create_task(main)

        return super().run(wrapped(), **options)


class _Deaf(asyncio.SelectorEventLoop):
    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:
        # The wake is lost where nothing else is due soon.
        self._check_closed()  # type: ignore[attr-defined]
        return self._call_soon(callback, args, context)  # type: ignore[attr-defined]


class LosesWake(Good):
    """A call from a thread does not wake the loop."""

    loop_class = _Deaf


class CannotStart(Good):
    """It is there, and breaks before its first program."""

    def __init__(self) -> None:
        raise RuntimeError("no start")


class _Dies(asyncio.SelectorEventLoop):
    def remove_writer(self, fd: Any) -> bool:
        os.abort()


class Dies(Good):
    """The process dies when a writer is removed."""

    loop_class = _Dies
