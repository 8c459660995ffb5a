"""Uses a sample as a person would: a real pointer, real keys, and the pixels that the X server has.

Imported by the programs that the tests of the samples run.  A toolkit's test derives from `User` and says where things are.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

from asyncio_guest.backends import _x11, sample_tasks


@contextlib.contextmanager
def _server() -> Iterator[Any]:
    from Xlib import display

    connection = display.Display()
    try:
        yield connection
        connection.sync()
    finally:
        connection.close()


def area(x: int, y: int, width: int, height: int) -> bytes:
    """The pixels of a part of the screen, as the server has them."""
    from Xlib import X

    with _server() as connection:
        return bytes(connection.screen().root.get_image(x, y, width, height, X.ZPixmap, 0xFFFFFFFF).data)


def pixel(x: int, y: int) -> tuple[int, ...]:
    """Red, green and blue of a pixel of the screen."""
    return tuple(area(x, y, 1, 1)[2::-1])


async def until(condition: Callable[[], Any], what: str) -> None:
    """Wait, as a task, until the condition is true; AssertionError with `what` after 20 s."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.01)


class User:
    """One who uses `sample`, and notes in `seen` what there was to see."""

    def __init__(self, sample: Any, picture: str) -> None:
        self.sample = sample
        self.picture = picture
        self.seen: dict[str, Any] = {}

    # Where things are: the toolkit's part

    def window(self) -> int:
        """The X id of the window that is drawn in."""
        raise NotImplementedError

    def closed_window(self) -> int:
        """The X id of the window that has the close button."""
        return self.window()

    def mapped(self) -> bool:
        """Is the window on the screen?"""
        raise NotImplementedError

    def at(self, widget: Any, x: float = 0.5) -> tuple[int, int]:
        """Where on the screen a widget is: `x` of its width, half of its height."""
        raise NotImplementedError

    def text(self, widget: Any) -> str:
        """What a label or an entry says."""
        raise NotImplementedError

    def fraction(self) -> float:
        """How far the progress bar is."""
        raise NotImplementedError

    def dialog(self, answer: str) -> tuple[int, int] | None:
        """Where the dialog's button for "yes" or "no" is; None while there is no dialog on the screen."""
        raise NotImplementedError

    # What a person does

    def begin(self) -> None:
        """Go to work; the guest runs, or is about to."""
        self._driving = self.sample.guest.start_soon(self._use)
        self._driving.add_done_callback(self._failed)

    def _failed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception():
            self.sample.guest.cancel()

    def report(self) -> None:
        """After the main loop: print what was seen, as JSON.  Raises what went wrong."""
        self._driving.result()
        self.seen["done"] = self.sample.guest.done
        print(json.dumps(self.seen))

    async def _use(self) -> None:
        await self.use()
        self.seen["counters"] = self.sample.guest.counters
        self.seen["strategy"] = self.sample.guest.info.strategy
        self.close()

    async def use(self) -> None:
        sample = self.sample
        await until(lambda: self.text(sample.clock) and self.mapped(), "the clock")
        await asyncio.sleep(0.3)
        # A download; what the bar shows is what the screen shows.
        _x11.click(*self.at(sample.download))
        await until(lambda: self.fraction() > 0.2, "no download")
        await asyncio.sleep(0.1)
        self.seen["filled"] = pixel(*self.at(sample.bar, 0.1))
        self.seen["empty"] = pixel(*self.at(sample.bar, 0.97))
        # Typing meanwhile.
        before = self.fraction()
        _x11.click(*self.at(sample.entry))
        await self.keyboard()
        self.seen["typing"] = []
        for number, character in enumerate("guest", 1):
            began = time.monotonic()
            _x11.key(character)
            await until(lambda: len(self.text(sample.entry)) == number, "the text field is dead")
            self.seen["typing"].append(time.monotonic() - began)
        assert self.text(sample.entry) == "guest"
        await until(lambda: self.fraction() > before, "the bar stands still while typing")
        await until(lambda: self.fraction() > 0.55, "the bar stands still")
        self.take_picture()
        # Cancel.
        _x11.click(*self.at(sample.cancel))
        await until(lambda: self.text(sample.status) == "Cancelled.", "not cancelled")
        stopped = self.fraction()
        await asyncio.sleep(0.3)
        assert self.fraction() == stopped
        # To the end.
        sample_tasks.RATE *= 16
        _x11.click(*self.at(sample.download))
        await until(lambda: self.text(sample.status) == "Done: 24.0 MiB.", "not done")
        # Dialogs.
        await self.answer(sample.ask_task, "yes")
        await self.answer(sample.ask_button, "no")
        await self.answer(sample.ask_task, "no")

    async def keyboard(self) -> None:
        """See to it that keys reach the window, where a click is not enough without a window manager."""

    def take_picture(self) -> None:
        subprocess.run(["import", "-window", str(self.window()), self.picture], check=True)

    async def answer(self, button: Any, answer: str) -> None:
        """Open a dialog by a button, see the clock go on behind it, and answer it."""
        sample = self.sample
        _x11.click(*self.at(button))
        await until(lambda: self.dialog(answer), "no dialog")
        before = self.text(sample.clock)
        await until(lambda: self.text(sample.clock) != before, "the clock stands still behind the dialog")
        await asyncio.sleep(0.3)  # the dialog is mapped, in the foreground, and has the grab
        place = self.dialog(answer)
        assert place is not None, "the dialog has gone by itself"
        _x11.click(*place)
        await until(lambda: not self.dialog(answer), "the dialog stays")
        await until(lambda: self.text(sample.answer) == answer.title() + ".", "no answer")

    def close(self) -> None:
        """Press the window's close button: what a window manager then sends."""
        from Xlib import X, protocol

        with _server() as connection:
            target = connection.create_resource_object("window", self.closed_window())
            data = (32, [connection.intern_atom("WM_DELETE_WINDOW"), X.CurrentTime, 0, 0, 0])
            target.send_event(
                protocol.event.ClientMessage(window=target, client_type=connection.intern_atom("WM_PROTOCOLS"), data=data)
            )
