"""Faults of timers, of the loop's clock, and of timeouts."""

# What asyncio keeps private typeshed does not know, and what a method passes on it takes as it is.
# mypy: disable-error-code="attr-defined, has-type, misc, override"

from __future__ import annotations

import asyncio
import collections
import heapq
from typing import Any

from . import Loop, broken, patch


@broken("a timer fires up to two milliseconds before its deadline", "T.02a-never-early", "T.02b-never-early-under-load")
class EarlyTimers(Loop):
    _early = 2e-3

    def _run_once(self) -> None:
        self._clock_resolution = self._early
        super()._run_once()


@broken(
    "timers are kept by deadline: one that is set takes the place of another with the same deadline",
    "T.01a-equal-deadlines",
    "T.01b-equal-deadlines-order",
    "T.09-one-wake-for-one-deadline",
    sees=("FAIL", "WEAK", "TIMEOUT"),
)
class TimersByDeadline(Loop):
    def __init__(self) -> None:
        super().__init__()
        self._by_deadline: dict[float, asyncio.TimerHandle] = {}

    def call_at(self, when: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
        handle = super().call_at(when, *args, **options)
        if when in self._by_deadline:
            self._by_deadline[when].cancel()
        self._by_deadline[when] = handle
        return handle


@broken(
    "deadlines are rounded up to milliseconds before they are sorted",
    "T.01c-deadlines-closer-than-a-millisecond",
    "T.05b-timers-after-a-purge",
    "T.06-ten-thousand-timers",
    "T.08-handles",
)
class RoundedTimers(Loop):
    def call_at(self, when: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
        return super().call_at(-(-when * 1000 // 1) / 1000, *args, **options)


@broken(
    "a delay becomes an int of milliseconds, which rounds it down and raises for infinity",
    "T.03b-huge-and-infinite",
    "T.03c-only-an-infinite-timer",
    "T.04-no-rounding-down",
)
class DelaysInMilliseconds(Loop):
    def call_later(self, delay: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
        return super().call_later(int(delay * 1000) / 1000, *args, **options)


@broken(
    "a call of another thread does not wake a loop with an infinite timer",
    "T.03c-only-an-infinite-timer",
    sees=("TIMEOUT",),
)
class DeafForInfinity(Loop):
    def _write_to_self(self) -> None:
        if not self._scheduled or self._scheduled[0].when() != float("inf"):
            super()._write_to_self()


@broken(
    "a deadline that has passed is taken for one behind the end of a 32-bit clock",
    "T.03a-zero-and-negative",
    "T.07-moment-in-the-past",
)
class WrappedDelays(Loop):
    def call_at(self, when: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
        return super().call_at(when + 2.0**32 / 1000 if when < self.time() else when, *args, **options)


@broken(
    "when cancelled timers are purged, the first of those that are kept goes with them",
    "T.05b-timers-after-a-purge",
    "T.05c-purge-inside-a-callback-storm",
    sees=("FAIL", "TIMEOUT"),
)
class PurgeTakesOneMore(Loop):
    def _run_once(self) -> None:
        if len(self._scheduled) > 100 and self._timer_cancelled_count > len(self._scheduled) / 2:
            min(handle for handle in self._scheduled if not handle.cancelled()).cancel()
        super()._run_once()


@broken("cancelled timers stay where they are until their time has come", "T.05a-cancelled-timers-are-purged")
class NoPurge(Loop):
    def _run_once(self) -> None:
        self._timer_cancelled_count = 0
        super()._run_once()


@broken("each of the timers that are due takes an iteration of its own", "T.09-one-wake-for-one-deadline")
class OneTimerAtATime(Loop):
    def _run_once(self) -> None:
        rest = self._scheduled
        self._scheduled = [heapq.heappop(rest)] if rest else []
        super()._run_once()
        self._scheduled += rest
        heapq.heapify(self._scheduled)


@broken(
    "a new timer is not moved up the heap: it waits for those that were set before it",
    "T.01c-deadlines-closer-than-a-millisecond",
    "T.06-ten-thousand-timers",
    "T.10b-earlier-timer-from-a-thread",
    "T.10c-earlier-timer-from-a-reader",
    sees=("FAIL", "TIMEOUT"),
)
class NotSiftedUp(Loop):
    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        handle._scheduled = True
        self._scheduled.append(handle)
        return handle


@broken(
    "the deadline is armed once a sleep: an earlier one that is set meanwhile waits for it",
    "T.10b-earlier-timer-from-a-thread",
    "T.10c-earlier-timer-from-a-reader",
)
class ArmedOnceASleep(Loop):
    _armed = 0.0

    def _run_once(self) -> None:
        if self._scheduled and self._armed <= self.time():
            self._armed = self._scheduled[0].when()
        early, self._scheduled = self._scheduled, [t for t in self._scheduled if t.when() >= self._armed]
        heapq.heapify(self._scheduled)
        super()._run_once()
        self._scheduled += [t for t in early if t.when() < self._armed]
        heapq.heapify(self._scheduled)


@broken("the loop's clock counts milliseconds", "T.11-clock")
class ClockOfMilliseconds(Loop):
    def time(self) -> float:
        return super().time() * 1000


@broken("the loop's clock is put back by a millisecond now and then", "T.11-clock")
class ClockPutBack(Loop):
    _looks = 0

    def time(self) -> float:
        self._looks += 1
        return super().time() - self._looks // 1000 * 1e-3


@broken("a delay has to be an int or a float", "T.12-kinds-of-numbers")
class OnlyPlainNumbers(Loop):
    def call_later(self, delay: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
        if not isinstance(delay, (int, float)):
            raise TypeError(f"a delay is an int or a float, not {delay!r}")
        return super().call_later(delay, *args, **options)


@broken(
    "no timer fires in less than 25 milliseconds, and a series of them falls behind",
    "T.13b-drift-of-a-thousand",
    sees=("FAIL", "TIMEOUT"),
)
class SlowTimers(Loop):
    def call_at(self, when: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
        return super().call_at(max(when, self.time() + 25e-3), *args, **options)


@broken(
    "a timer is handed to the host and the handle forgets it: what is cancelled fires, and holds what it was given",
    "T.14b-reschedule",
    "C.03b-cancel-due-timer",
    "C.03c-cancel-lets-go",
)
class TimersForgotten(Loop):
    def call_at(self, when: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
        super().call_at(when, *args, **options)
        return asyncio.TimerHandle(when, args[0], args[1:], self)


class _Requested(asyncio.Task[Any]):
    def uncancel(self) -> int:
        return self.cancelling() - 1


@broken(
    "a request for cancellation is not taken back: it stays with the task when the timeout is over",
    "T.14a-timeout",
)
class RequestsStay(Loop):
    def create_task(self, coro: Any, **options: Any) -> Any:
        return _Requested(coro, loop=self, **options)


@broken("a cancellation that is due to a timeout is any timeout's that meets it", "T.14c-nested-timeouts")
def takes_any_cancellation() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        async def leave(self: Any, kind: Any, exc: Any, traceback: Any) -> Any:
            if kind is asyncio.CancelledError and not self.expired():
                raise TimeoutError from exc
            return await old(self, kind, exc, traceback)

        return leave

    patch(asyncio.Timeout, "__aexit__", change)
    return Loop()


@broken("wait_for gives up, and what it waited for runs on", "T.14d-wait-for")
def wait_for_gives_up() -> asyncio.AbstractEventLoop:
    patch(asyncio, "wait_for", lambda old: lambda aw, timeout: old(asyncio.shield(aw), timeout))
    return Loop()


@broken("of several timers that a busy thread has made late only the last one fires", "T.14e-timeout-while-blocked")
class LateTimersLost(Loop):
    def _run_once(self) -> None:
        timers = self._scheduled
        while len(timers) > 1 and min(timers[1:3]).when() < self.time() - 5e-3:
            heapq.heappop(timers)._scheduled = False
        super()._run_once()


class _Stack(collections.deque[asyncio.Handle]):
    def append(self, handle: asyncio.Handle) -> None:
        if isinstance(handle, asyncio.TimerHandle):
            self.appendleft(handle)
        else:
            super().append(handle)


@broken(
    "timers that are due run before what was ready, the latest first",
    "T.01c-deadlines-closer-than-a-millisecond",
    "T.03a-zero-and-negative",
    "T.14e-timeout-while-blocked",
    "C.02b-due-timers-between",
)
class TimersFirst(Loop):
    def __init__(self) -> None:
        super().__init__()
        self._ready = _Stack(self._ready)
