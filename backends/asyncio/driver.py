"""The host driver of asyncio: the host's side of a conformance case, in a plain asyncio loop.

It knows no guest.  A loop of asyncio's has calls and timers; it has no idle work, no window, and cannot be nested.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn

from .. import _x11


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


class AsyncioDriver:
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


def _refusal(method: str) -> Callable[..., NoReturn]:
    def refuse(self: AsyncioDriver, *args: Any, **kwargs: Any) -> NoReturn:
        raise _x11.unsupported(method)

    refuse.__name__ = method
    refuse.__doc__ = "Not something that this host has."
    return refuse


for _name in (
    "host_idle nested_loop end_nested open_modal close_modal open_menu close_menu process_events frames "
    "inject_input on_click entry_text destroy_window"
).split():
    setattr(AsyncioDriver, _name, _refusal(_name))


def make_driver(window: bool = False) -> AsyncioDriver:
    """A driver with a loop of its own; there is no window, asked for or not."""
    return AsyncioDriver()
