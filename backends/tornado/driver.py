"""The host driver of Tornado: the host's side of a conformance case, by the API of its IOLoop.

It knows no guest.  An IOLoop has calls and timers; it has no idle work, no window, and cannot be nested.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from tornado.ioloop import IOLoop

from .. import _x11


class _Timer:
    """``IOLoop.call_later``, perhaps over and over."""

    def __init__(self, loop: IOLoop, ms: int, fn: Callable[[], Any], repeat: bool) -> None:
        self._loop = loop
        self._seconds = ms / 1000
        self._fn = fn
        self._repeat = repeat
        self._handle = loop.call_later(self._seconds, self._fire)

    def _fire(self) -> None:
        if self._repeat:
            self._handle = self._loop.call_later(self._seconds, self._fire)
        self._fn()

    def cancel(self) -> None:
        self._loop.remove_timeout(self._handle)


class TornadoDriver:
    """The driver; see ``scenarios.driver.HostDriver`` for the methods."""

    name = "tornado"
    abilities = frozenset({"host", "loop", "flood", "timer", "asyncio"})
    flood_kinds: tuple[str, ...] = ("timer", "event")

    def __init__(self) -> None:
        self._loop = IOLoop(make_current=False)

    def call_from_host(self, fn: Callable[[], Any]) -> None:
        self._loop.add_callback(fn)

    def host_timer(self, ms: int, fn: Callable[[], Any], *, repeat: bool = False) -> Any:
        return _Timer(self._loop, ms, fn, repeat)

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
            else:
                self.call_from_host(step)

        def stop() -> int:
            nonlocal stopped
            stopped = True
            return count

        schedule()
        return stop

    def run(self) -> None:
        # IOLoop.start() has the policy make a loop as well, which nobody closes.
        self._loop.asyncio_loop.run_forever()

    def quit(self) -> None:
        # Else the next run would end at once.
        if self._loop.asyncio_loop.is_running():
            self._loop.stop()

    def toolkit(self) -> Any:
        return self._loop

    def close(self) -> None:
        if not self._loop.asyncio_loop.is_running():
            self._loop.close()


def _refusal(method: str) -> Callable[..., NoReturn]:
    def refuse(self: TornadoDriver, *args: Any, **kwargs: Any) -> NoReturn:
        raise _x11.unsupported(method)

    refuse.__name__ = method
    refuse.__doc__ = "Not something that this host has."
    return refuse


for _name in (
    "host_idle nested_loop end_nested open_modal close_modal open_menu close_menu process_events frames "
    "inject_input on_click entry_text destroy_window"
).split():
    setattr(TornadoDriver, _name, _refusal(_name))


def make_driver(window: bool = False) -> TornadoDriver:
    """A driver with a loop of its own; there is no window, asked for or not."""
    return TornadoDriver()
