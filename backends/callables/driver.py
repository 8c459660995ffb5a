"""The host driver of the queue loop: the host's side of a conformance case on a main loop that is a queue of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from .. import _x11
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


class CallablesDriver:
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
        timers: list[_Timer] = []
        if until is not None:
            condition = until

            def ask() -> None:
                if condition():
                    self._loop.quit(depth)

            timers.append(_Timer(self._loop, 5, ask, True))
        if ms is not None:
            timers.append(_Timer(self._loop, ms, lambda: self._loop.quit(depth), False))
        try:
            self._loop.run()
        finally:
            for timer in timers:
                timer.cancel()

    def end_nested(self) -> None:
        self._loop.quit()

    def process_events(self) -> None:
        while self._loop.step(False):
            pass

    def flood(self, kind: str) -> Callable[[], int]:
        if kind not in self.flood_kinds:
            raise _x11.unsupported(f"flood of {kind}")
        count = 0
        stopped = False

        def step() -> None:
            nonlocal count
            if not stopped:
                count += 1
                schedule()

        def schedule() -> None:
            if kind == "timer":
                self.host_timer(0, step)
            elif kind == "idle":
                self.host_idle(step)
            else:
                self.call_from_host(step)

        def stop() -> int:
            nonlocal stopped
            stopped = True
            return count

        schedule()
        return stop

    def run(self) -> None:
        self._loop.run()

    def quit(self) -> None:
        # The application's loop is the outermost one.
        if self._loop.depth:
            self._loop.quit(1)

    def toolkit(self) -> Any:
        return self._loop

    def close(self) -> None:
        pass


def _refusal(method: str) -> Callable[..., NoReturn]:
    def refuse(self: CallablesDriver, *args: Any, **kwargs: Any) -> NoReturn:
        raise _x11.unsupported(method)

    refuse.__name__ = method
    refuse.__doc__ = "Not something that this host has."
    return refuse


for _name in (
    "open_modal close_modal open_menu close_menu frames inject_input on_click entry_text destroy_window"
).split():
    setattr(CallablesDriver, _name, _refusal(_name))


def make_driver(window: bool = False) -> CallablesDriver:
    """A driver with a queue loop of its own; there is no window, asked for or not."""
    return CallablesDriver()
