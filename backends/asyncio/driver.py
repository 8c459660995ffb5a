"""The host driver of asyncio: the host's side of a conformance case, in a plain asyncio loop.

It knows no guest.  A loop of asyncio's has calls and timers; it has no idle work, no window, and cannot be nested.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from .._driver import Driver


class _Timer:
    """A timer of the host's, perhaps over and over."""

    def __init__(self, later: Callable[[float, Callable[[], None]], Callable[[], Any]], ms: int,
                 fn: Callable[[], Any], repeat: bool) -> None:
        self._later = later
        self._seconds = ms / 1000
        self._fn = fn
        self._repeat = repeat
        self._cancel = later(self._seconds, self._fire)

    def _fire(self) -> None:
        if self._repeat:
            self._cancel = self._later(self._seconds, self._fire)
        self._fn()

    def cancel(self) -> None:
        self._cancel()


class AsyncioDriver(Driver):
    """The driver; see ``scenarios.driver.HostDriver`` for the methods.

    For a host that puts an API of its own before an asyncio loop, a subclass gives that loop and overrides
    `call_from_host`, `later` and `toolkit`.
    """

    name = "asyncio"
    abilities = frozenset({"host", "loop", "flood", "timer", "asyncio"})
    flood_kinds: tuple[str, ...] = ("timer", "event")

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = asyncio.new_event_loop() if loop is None else loop

    def call_from_host(self, fn: Callable[[], Any]) -> None:
        self._loop.call_soon(fn)

    def later(self, seconds: float, fn: Callable[[], None]) -> Callable[[], Any]:
        """Call `fn` once after `seconds`; the result takes that back."""
        return self._loop.call_later(seconds, fn).cancel

    def host_timer(self, ms: int, fn: Callable[[], Any], *, repeat: bool = False) -> Any:
        return _Timer(self.later, ms, fn, repeat)

    def run(self) -> None:
        self._loop.run_forever()

    def quit(self) -> None:
        # Else the next run would end at once.
        if self._loop.is_running():
            self._loop.stop()

    def toolkit(self) -> Any:
        return self._loop

    def close(self) -> None:
        if not self._loop.is_running():
            self._loop.close()


def make_driver(window: bool = False) -> AsyncioDriver:
    """A driver with a loop of its own; there is no window, asked for or not."""
    return AsyncioDriver()
