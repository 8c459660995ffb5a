"""What the host drivers have in common, whatever their toolkit.

``scenarios.driver.HostDriver`` says what the methods do.  A driver derives from `Driver`, or, where its host can have a
window under X11, from `WindowDriver`, and brings what only its toolkit can do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from . import _x11


class Driver:
    """A host; what a driver does not override its host does not have, and is refused by name."""

    name: str
    abilities: frozenset[str] = frozenset()
    flood_kinds: tuple[str, ...] = ()

    def need(self, ability: str) -> None:
        """Raise Unsupported for an ability that this driver does not have."""
        if ability not in self.abilities:
            raise _x11.unsupported(ability)

    # What every host has

    def call_from_host(self, fn: Callable[[], Any]) -> None:
        raise NotImplementedError

    def run(self) -> None:
        raise NotImplementedError

    def quit(self) -> None:
        raise NotImplementedError

    def toolkit(self) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        """A host that holds nothing has nothing to do here."""

    # What a host may lack

    def host_timer(self, ms: int, fn: Callable[[], Any], *, repeat: bool = False) -> Any:
        raise _x11.unsupported("host_timer")

    def host_idle(self, fn: Callable[[], Any]) -> None:
        raise _x11.unsupported("host_idle")

    def nested_loop(self, *, until: Callable[[], bool] | None = None, ms: int | None = None) -> None:
        raise _x11.unsupported("nested_loop")

    def end_nested(self) -> None:
        raise _x11.unsupported("end_nested")

    def open_modal(self, on_open: Callable[[], Any]) -> str:
        raise _x11.unsupported("open_modal")

    def close_modal(self, answer: str = "ok") -> None:
        raise _x11.unsupported("close_modal")

    def open_menu(self, on_open: Callable[[], Any]) -> None:
        raise _x11.unsupported("open_menu")

    def close_menu(self) -> None:
        raise _x11.unsupported("close_menu")

    def process_events(self) -> None:
        raise _x11.unsupported("process_events")

    def frames(self) -> Any:
        raise _x11.unsupported("frames")

    def inject_input(self, what: str, arg: Any = None) -> None:
        raise _x11.unsupported("inject_input")

    def on_click(self, fn: Callable[[], Any]) -> None:
        raise _x11.unsupported("on_click")

    def entry_text(self) -> str:
        raise _x11.unsupported("entry_text")

    def destroy_window(self) -> None:
        raise _x11.unsupported("destroy_window")

    # What is alike in all of them

    @contextlib.contextmanager
    def ended_by(self, end: Callable[[], Any], until: Callable[[], bool] | None, ms: int | None) -> Iterator[None]:
        """While the block runs a nested loop, call `end` once `until()` is true, and after `ms` milliseconds."""
        timers = []
        if until is not None:
            condition = until

            def ask() -> None:
                if condition():
                    end()

            timers.append(self.host_timer(5, ask, repeat=True))
        if ms is not None:
            timers.append(self.host_timer(ms, end))
        try:
            yield
        finally:
            for timer in timers:
                timer.cancel()

    def flood(self, kind: str) -> Callable[[], int]:
        if kind not in self.flood_kinds:
            raise _x11.unsupported(f"flood of {kind}")
        count = 0
        stopped = False

        def step() -> None:
            nonlocal count
            if not stopped:
                count += 1
                self.flood_on(kind, step)

        def stop() -> int:
            nonlocal stopped
            stopped = True
            return count

        self.flood_on(kind, step)
        return stop

    def flood_on(self, kind: str, step: Callable[[], None]) -> None:
        """Have the host call `step` once, by what is due at once and of this kind."""
        if kind == "timer":
            self.host_timer(0, step)
        elif kind == "idle":
            self.host_idle(step)
        else:
            self.call_from_host(step)


class WindowDriver(Driver):
    """A host that can have a window: a picture to draw, a button, an entry."""

    def __init__(self, window: bool) -> None:
        """`window`: make one.  The abilities without it are those of the class."""
        self._clicks: list[Callable[[], Any]] = []
        self._witnesses: list[_x11.Witness] = []
        if window:
            self.abilities = self.abilities | {"window", "paint", "input"}

    def witness(self, window: int, x: int, y: int) -> _x11.Witness:
        """Begin to count the changes of a pixel of the window with this X id."""
        made = _x11.Witness(window, x, y)
        self._witnesses.append(made)
        return made

    def close(self) -> None:
        for witness in self._witnesses:
            witness.kill()
        # PySide6 keeps each driver for ever, by the classes that it defines: a case is not to be kept with it.
        self._clicks.clear()
        super().close()

    # What its toolkit brings

    def count_frames(self) -> Any:
        """Begin to draw, and to count what reaches the X server; `stop` of the result gives the number."""
        raise NotImplementedError

    def on_screen(self, x: int, y: int) -> tuple[int, int]:
        """Where on the screen (x, y) of the window is."""
        raise NotImplementedError

    def button_centre(self) -> tuple[int, int]:
        """Where on the screen the middle of the button is."""
        raise NotImplementedError

    def take_keyboard(self) -> None:
        """Have keys go to the entry.  Without a window manager nobody gives the window the keyboard."""
        raise NotImplementedError

    def typed(self) -> str:
        """What the entry holds."""
        raise NotImplementedError

    # What is alike in all of them

    def clicked(self, *_: Any) -> None:
        """The toolkit says that the button was clicked."""
        for fn in list(self._clicks):
            fn()

    def on_click(self, fn: Callable[[], Any]) -> None:
        self.need("window")
        self._clicks.append(fn)

    def entry_text(self) -> str:
        self.need("window")
        return self.typed()

    def frames(self) -> Any:
        self.need("paint")
        return self.count_frames()

    def inject_input(self, what: str, arg: Any = None) -> None:
        self.need("input")
        if what == "click":
            _x11.click(*self.button_centre())
        elif what == "key":
            self.take_keyboard()
            _x11.key(arg)
        elif what == "move":
            _x11.move(*self.on_screen(*(arg if arg is not None else (5, 5))))
        elif what in ("press", "release"):
            _x11.button(what == "press")
        else:
            raise ValueError(f"unknown input {what!r}")
