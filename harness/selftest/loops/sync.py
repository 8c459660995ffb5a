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


@broken("an item wakes two getters", "Q.02-queues")
def item_wakes_two() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        def put_nowait(self: Any, item: Any) -> None:
            old(self, item)
            self._wakeup_next(self._getters)

        return put_nowait

    patch(asyncio.Queue, "put_nowait", change)
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


@broken("a notification goes to a waiter that is cancelled already, and is lost", "Q.05-conditions")
def notification_lost() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        def notify(self: Any, n: int = 1) -> None:
            old(self, n - sum(waiter.cancelled() for waiter in [*self._waiters][:n]))

        return notify

    patch(asyncio.Condition, "notify", change)
    return Loop()


@broken("a semaphore lets in one more than its number", "Q.06-semaphores")
def semaphore_lets_in_one_more() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        def init(self: Any, value: int = 1) -> None:
            old(self, value if isinstance(self, asyncio.BoundedSemaphore) else value + 1)

        return init

    patch(asyncio.Semaphore, "__init__", change)
    return Loop()


@broken("a newcomer gets what a semaphore's waiter is woken for (bpo-45997)", "Q.06-semaphores")
def newcomer_comes_first() -> asyncio.AbstractEventLoop:
    async def acquire(self: Any) -> bool:
        while self._value <= 0:
            self._waiters = [] if self._waiters is None else self._waiters
            self._waiters.append(asyncio.get_running_loop().create_future())
            await self._waiters[-1]
        self._value -= 1
        return True

    def release(self: Any) -> None:
        self._value += 1
        while self._waiters and (waiter := self._waiters.pop(0)):
            if not waiter.done():
                waiter.set_result(None)
                return

    patch(asyncio.Semaphore, "acquire", lambda old: acquire)
    patch(asyncio.Semaphore, "release", lambda old: release)
    return Loop()


@broken("locks and the like belong to no loop", "Q.07-bound-to-one-loop")
def bound_to_no_loop() -> asyncio.AbstractEventLoop:
    patch(asyncio.mixins._LoopBoundMixin, "_get_loop", lambda old: lambda self: asyncio.get_running_loop())
    return Loop()
