"""Faults of locks, queues, events, barriers, conditions and semaphores."""

from __future__ import annotations

import asyncio
from typing import Any

from . import Loop, broken, patch


@broken("a lock goes to the one who has waited for the shortest time", "Q.01-locks")
def lock_to_the_last() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        def release(self: Any) -> None:
            if self._waiters:
                self._waiters.reverse()
            old(self)

        return release

    patch(asyncio.Lock, "release", change)
    return Loop()


@broken("a bounded queue takes one more", "Q.02-queues")
def queue_takes_one_more() -> asyncio.AbstractEventLoop:
    patch(asyncio.Queue, "full", lambda old: lambda self: 0 < self.maxsize < self.qsize())
    return Loop()


@broken("a waiter that comes when the event is cleared again goes too", "Q.03-events")
def event_lets_late_ones_go() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        async def wait(self: Any) -> bool:
            await (asyncio.sleep(0) if hasattr(self, "was_set") else old(self))
            self.was_set = True
            return True

        return wait

    patch(asyncio.Event, "wait", change)
    return Loop()


@broken("a barrier gives the same number to all its parties", "Q.04-barriers")
def barrier_without_positions() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        async def wait(self: Any) -> int:
            await old(self)
            return 0

        return wait

    patch(asyncio.Barrier, "wait", change)
    return Loop()


@broken("notify wakes all who wait", "Q.05-conditions")
def notify_wakes_all() -> asyncio.AbstractEventLoop:
    patch(asyncio.Condition, "notify", lambda old: lambda self, n=1: old(self, 1000))
    return Loop()


@broken("a semaphore lets in one more than its number", "Q.06-semaphores")
def semaphore_lets_in_one_more() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        def init(self: Any, value: int = 1) -> None:
            old(self, value if isinstance(self, asyncio.BoundedSemaphore) else value + 1)

        return init

    patch(asyncio.Semaphore, "__init__", change)
    return Loop()


@broken("locks and the like belong to no loop", "Q.07-bound-to-one-loop")
def bound_to_no_loop() -> asyncio.AbstractEventLoop:
    patch(asyncio.mixins._LoopBoundMixin, "_get_loop", lambda old: lambda self: asyncio.get_running_loop())
    return Loop()
