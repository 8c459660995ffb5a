"""The host driver of GLib: the host's side of a conformance case in a GLib.MainLoop, with no window and no GTK.

It knows no guest.  GTK's drivers build on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gi.repository import GLib

from .. import _x11
from .._driver import Driver


class _Timer:
    """A timeout source of GLib, at its default priority."""

    def __init__(self, ms: int, fn: Callable[[], Any], repeat: bool) -> None:
        self._fn = fn
        self._repeat = repeat
        self._id = GLib.timeout_add(ms, self._fire)

    def _fire(self) -> bool:
        if not self._repeat:
            self._id = 0
        try:
            self._fn()
        except BaseException:
            # PyGObject prints it and takes the answer for False, which removes the source.
            self._id = 0
            raise
        return self._repeat and self._id != 0

    def cancel(self) -> None:
        if self._id:
            source, self._id = self._id, 0
            GLib.source_remove(source)


def _once(fn: Callable[[], Any]) -> bool:
    fn()
    return False


class GlibDriver(Driver):
    """The driver; see ``scenarios.driver.HostDriver`` for the methods."""

    name = "glib"
    abilities = frozenset({"host", "loop", "nested", "flood", "timer", "idle"})
    flood_kinds: tuple[str, ...] = ("timer", "idle")

    def __init__(self) -> None:
        # The default context and its eventfd are made by the first to ask, for the process's whole life.
        self._context = GLib.MainContext.default()
        self._loop = GLib.MainLoop()  # the application's
        self._nested: list[GLib.MainLoop] = []

    def call_from_host(self, fn: Callable[[], Any]) -> None:
        GLib.idle_add(_once, fn, priority=GLib.PRIORITY_DEFAULT)

    def host_timer(self, ms: int, fn: Callable[[], Any], *, repeat: bool = False) -> Any:
        return _Timer(ms, fn, repeat)

    def host_idle(self, fn: Callable[[], Any]) -> None:
        GLib.idle_add(_once, fn)

    def nested_loop(self, *, until: Callable[[], bool] | None = None, ms: int | None = None) -> None:
        loop = GLib.MainLoop()
        self._nested.append(loop)
        try:
            with self.ended_by(loop.quit, until, ms):
                loop.run()
        finally:
            self._nested.remove(loop)

    def end_nested(self) -> None:
        self._nested[-1].quit()

    def process_events(self) -> None:
        while self._context.pending():
            self._context.iteration(False)

    def flood(self, kind: str) -> Callable[[], int]:
        if kind not in self.flood_kinds:
            raise _x11.unsupported(f"flood of {kind}")
        count = 0
        stopped = False

        def step() -> bool:
            nonlocal count
            count += 1
            return not stopped

        def stop() -> int:
            nonlocal stopped
            stopped = True
            return count

        if kind == "timer":
            GLib.timeout_add(0, step)
        else:
            GLib.idle_add(step)
        return stop

    def run(self) -> None:
        self._loop.run()

    def quit(self) -> None:
        if not self._loop.is_running():
            # GLib has no "quit whatever runs": one ends the GLib.MainLoop that one has made.
            raise _x11.unsupported("quit of a loop that is not the application's")
        self._loop.quit()

    def toolkit(self) -> Any:
        return self._loop


def make_driver(window: bool = False) -> GlibDriver:
    """A driver on the default main context; there is no window, asked for or not."""
    return GlibDriver()
