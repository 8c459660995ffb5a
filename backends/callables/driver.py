"""The host driver of the queue loop: the host's side of a conformance case on a main loop that is a queue of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._driver import Driver
from .queue_loop import QueueLoop


class _Timer:
    def __init__(self, loop: QueueLoop, ms: int, fn: Callable[[], Any], repeat: bool) -> None:
        self._loop = loop
        self._seconds = ms / 1000
        self._fn = fn
        self._repeat = repeat
        self._timer = loop.call_later(self._seconds, self._fire)

    def _fire(self) -> None:
        if self._repeat:
            self._timer = self._loop.call_later(self._seconds, self._fire)
        self._fn()

    def cancel(self) -> None:
        self._loop.cancel(self._timer)


class CallablesDriver(Driver):
    """The driver; see ``scenarios.driver.HostDriver`` for the methods."""

    name = "callables"
    abilities = frozenset({"host", "loop", "nested", "flood", "timer", "idle"})
    flood_kinds: tuple[str, ...] = ("timer", "idle", "event")

    def __init__(self) -> None:
        self._loop = QueueLoop()

    def call_from_host(self, fn: Callable[[], Any]) -> None:
        self._loop.run_sync_soon_not_threadsafe(fn)

    def host_timer(self, ms: int, fn: Callable[[], Any], *, repeat: bool = False) -> Any:
        return _Timer(self._loop, ms, fn, repeat)

    def host_idle(self, fn: Callable[[], Any]) -> None:
        self._loop.call_idle(fn)

    def nested_loop(self, *, until: Callable[[], bool] | None = None, ms: int | None = None) -> None:
        depth = self._loop.depth + 1
        with self.ended_by(lambda: self._loop.quit(depth), until, ms):
            self._loop.run()

    def end_nested(self) -> None:
        self._loop.quit()

    def process_events(self) -> None:
        while self._loop.step(False):
            pass

    def run(self) -> None:
        self._loop.run()

    def quit(self) -> None:
        # The application's loop is the outermost one.
        if self._loop.depth:
            self._loop.quit(1)

    def toolkit(self) -> Any:
        return self._loop


def make_driver(window: bool = False) -> CallablesDriver:
    """A driver with a queue loop of its own; there is no window, asked for or not."""
    return CallablesDriver()
