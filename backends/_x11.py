"""What the host drivers share on X11: real input through XTEST, and a witness of frames.

The witness is a process of its own, so that nothing that happens to the host's thread or
to its GIL slows it down.  It asks the X server to report damage on a window, and on each report
reads one pixel back from the server: a frame is a pixel that changed, not a timer that ran.

Needs python-xlib.  Run as a program it is the witness: ``_x11.py WINDOW X Y``.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from typing import Any


class Witness:
    """Counts the changes of one pixel of a window, as the X server has it.

    `window` is the X id of the window, `x` and `y` are coordinates within it.  Counting has begun
    when the constructor returns.  Raises RuntimeError if the witness cannot start.
    """

    def __init__(self, window: int, x: int, y: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-E", os.path.abspath(__file__), str(window), str(x), str(y)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            self._end()
            raise RuntimeError("the frame witness did not start (python-xlib missing, or no display?)")

    def stop(self) -> int:
        """End the witness; the number of changes that it saw."""
        return int(self._end() or "0")

    def kill(self) -> None:
        """End the witness without asking it.  Idempotent."""
        if self._process.poll() is None:
            self._process.kill()
        self._end()

    def _end(self) -> str:
        if self._process.stdout is None or self._process.stdout.closed:
            return ""
        return self._process.communicate()[0]


def _witness(window: int, x: int, y: int) -> int:
    """The body of the witness: count until standard input ends."""
    from Xlib import X, display
    from Xlib.ext import damage

    connection = display.Display()
    connection.damage_query_version()
    drawable = connection.create_resource_object("window", window)
    drawable.damage_create(damage.DamageReportRawRectangles)

    def pixel() -> bytes:
        return bytes(drawable.get_image(x, y, 1, 1, X.ZPixmap, 0xFFFFFFFF).data)

    last = pixel()
    changes = 0
    print("ready", flush=True)
    while True:
        while connection.pending_events():
            connection.next_event()
            now = pixel()
            if now != last:
                last = now
                changes += 1
        readable, _, _ = select.select([connection, sys.stdin], [], [])
        if sys.stdin in readable:
            print(changes, flush=True)
            return 0


@contextlib.contextmanager
def _connection() -> Iterator[Any]:
    """A connection to the X server for one injection: none of its descriptors stays open."""
    from Xlib import display

    connection = display.Display()
    try:
        yield connection
        connection.sync()
    finally:
        connection.close()


def move(x: int, y: int) -> None:
    """Move the pointer to (x, y) of the screen."""
    from Xlib import X
    from Xlib.ext import xtest

    with _connection() as connection:
        xtest.fake_input(connection, X.MotionNotify, x=x, y=y)


def button(press: bool, number: int = 1) -> None:
    """Press or release a button of the pointer."""
    from Xlib import X
    from Xlib.ext import xtest

    with _connection() as connection:
        xtest.fake_input(connection, X.ButtonPress if press else X.ButtonRelease, number)


def click(x: int, y: int) -> None:
    """Move the pointer to (x, y) of the screen and click its first button."""
    from Xlib import X
    from Xlib.ext import xtest

    with _connection() as connection:
        xtest.fake_input(connection, X.MotionNotify, x=x, y=y)
        xtest.fake_input(connection, X.ButtonPress, 1)
        xtest.fake_input(connection, X.ButtonRelease, 1)


def key(character: str) -> None:
    """Press and release the key of `character` (one that needs no modifier).

    Raises ValueError for a character that the keyboard does not have.
    """
    from Xlib import XK, X
    from Xlib.ext import xtest

    with _connection() as connection:
        keysym = XK.string_to_keysym({" ": "space", "\n": "Return", "\x1b": "Escape"}.get(character, character))
        code = connection.keysym_to_keycode(keysym)
        if not code:
            raise ValueError(f"no key for {character!r}")
        xtest.fake_input(connection, X.KeyPress, code)
        xtest.fake_input(connection, X.KeyRelease, code)


def window_of(pid: int) -> int:
    """The X id of the visible top-level window of a process, for a server without a window manager.

    Raises RuntimeError if there is not exactly one, or the toolkit does not set _NET_WM_PID.
    """
    from Xlib import X, Xatom

    with _connection() as connection:
        atom = connection.intern_atom("_NET_WM_PID")
        found = []
        for window in connection.screen().root.query_tree().children:
            owner = window.get_full_property(atom, Xatom.CARDINAL)
            if owner is not None and list(owner.value) == [pid] and window.get_attributes().map_state == X.IsViewable:
                found.append(int(window.id))
    if len(found) != 1:
        raise RuntimeError(f"process {pid} has {len(found)} windows on the screen")
    return found[0]


def origin(window: int, x: int, y: int) -> tuple[int, int]:
    """Where on the screen (x, y) of the window with the X id `window` is."""
    with _connection() as connection:
        place = connection.create_resource_object("window", window).translate_coords(connection.screen().root, -x, -y)
        return -int(place.x), -int(place.y)


def focus(window: int) -> None:
    """Give the keyboard to the window with the X id `window`, as a window manager would."""
    from Xlib import X

    with _connection() as connection:
        connection.create_resource_object("window", window).set_input_focus(X.RevertToParent, X.CurrentTime)


def unsupported(ability: str) -> Exception:
    """The exception ``scenarios.api.Unsupported`` of whichever copy of `scenarios` is loaded, naming
    `ability`; NotImplementedError where none is."""
    for name in ("scenarios.api", "asyncio_guest._conformance.scenarios.api"):
        module = sys.modules.get(name)
        if module is not None:
            return module.Unsupported(ability)  # type: ignore[no-any-return]
    return NotImplementedError(ability)


if __name__ == "__main__":
    sys.exit(_witness(*(int(argument) for argument in sys.argv[1:4])))
