"""The host's side as a case sees it: a driver is written once per toolkit and knows no guest.

It uses the toolkit's own Python API (tkinter, PyGObject, ...), so that it serves any loop
that runs in that toolkit: our guests and other projects' loops alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Frames(Protocol):
    """Counts frames that reached the screen."""

    def stop(self) -> int:
        """Stop the animation; the number of frames drawn since `HostDriver.frames`."""


class HostTimer(Protocol):
    def cancel(self) -> None: ...


class HostDriver(Protocol):
    """All methods run on the host's thread.

    A method whose ability the host lacks raises `scenarios.api.Unsupported` naming it;
    `abilities` says it beforehand.  `None` of the callbacks given to a driver may raise, unless
    a case is about that.
    """

    name: str
    abilities: frozenset[str]
    """Subset of: host (callbacks of its own) loop (`run` and `quit`: the application can own the main loop)
    window modal paint input nested flood timer idle; asyncio (the host is itself asyncio: a loop of
    its own is the running one in its callbacks, and the guest's only in turns)."""

    def call_from_host(self, fn: Callable[[], Any]) -> None:
        """Call `fn` once, soon, from a callback of the host's own (not from asyncio)."""

    def host_timer(self, ms: int, fn: Callable[[], Any], *, repeat: bool = False) -> HostTimer:
        """Call `fn` after (repeat: every) `ms` milliseconds by the host's own timer."""

    def host_idle(self, fn: Callable[[], Any]) -> None:
        """Call `fn` once when the host is idle."""

    def nested_loop(self, *, until: Callable[[], bool] | None = None, ms: int | None = None) -> None:
        """Run a nested main loop of the host here and now, until `end_nested`, until `until()`
        (asked by a host timer each 5 ms) or for `ms` milliseconds."""

    def end_nested(self) -> None:
        """End the innermost `nested_loop`."""

    def open_modal(self, on_open: Callable[[], Any]) -> str:
        """Open a real modal dialog of the toolkit and block until it closes; `on_open` is called
        from inside its loop, when it is on the screen.  Returns the answer ("ok", "cancel")."""

    def close_modal(self, answer: str = "ok") -> None:
        """Close the innermost open modal dialog as a user's click would."""

    def open_menu(self, on_open: Callable[[], Any]) -> None:
        """Pop up a real menu of the toolkit; returns when its own call does (at once, or when the menu
        has closed).  `on_open` is called from a host callback when the menu is on the screen."""

    def close_menu(self) -> None:
        """Close the menu."""

    def process_events(self) -> None:
        """One non-blocking pass over the host's pending events (``update()``, ``processEvents()``)."""

    def flood(self, kind: str) -> Callable[[], int]:
        """Keep the host busy with an endless chain of its own: kind is "timer" (zero-delay timers),
        "idle" (idle work) or "event" (posted events); `flood_kinds` lists those it has.
        Returns a function that stops the flood and says how often it ran."""

    flood_kinds: tuple[str, ...]

    def frames(self) -> Frames:
        """Animate the window (which asks for 60 redraws a second) and count the frames that its
        own drawing path put on the screen."""

    def inject_input(self, what: str, arg: Any = None) -> None:
        """Real input through the X server: "click" (the window's test button), "key" (a character
        into the test entry), "move" (of the pointer to `arg`, (x, y) in the window), "press" and "release"
        (of the pointer's first button, where it is)."""

    def on_click(self, fn: Callable[[], Any]) -> None:
        """Call `fn` whenever the window's test button is clicked."""

    def entry_text(self) -> str:
        """The text of the window's test entry."""

    def destroy_window(self) -> None:
        """Destroy the window, as its close button would without a handler.  A driver that closes the toolkit's connection
        by that lists its descriptors in an attribute `closed_fds`, so that nobody misses them."""

    def quit(self) -> None:
        """Make the host's main loop return, as the application's Quit would."""

    def run(self) -> None:
        """Run the host's main loop, as the application would, until `quit` (for bare-host
        controls and for cases that own the loop: started, stopped and started again)."""

    def toolkit(self) -> Any:
        """The object that ``asyncio_guest.start(host=...)`` takes (a Tk root, a GMainContext, ...), or
        the host's name."""

    def close(self) -> None:
        """Release everything the driver opened.  Idempotent."""
