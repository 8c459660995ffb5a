"""The backend ``asyncio``: a guest inside an asyncio loop that somebody else runs.

Two loops then live on one thread: the host's, which sleeps, and the guest's, whose iterations are callbacks of the
host's.  The core swaps the running loop, its hooks and its current task around each turn.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Protocol

from asyncio_guest._hosts import Host
from asyncio_guest._running import running_loop, suspended


class Attached(Protocol):
    """The host of one guest, as ``pyhost.c`` calls it: on the host's thread but for `post`."""

    def watch(self, fd: int, on: bool) -> None:
        """Call the guest's ``dispatch`` whenever `fd` is readable, or no longer."""

    def again(self) -> None:
        """Call ``dispatch`` once, behind what the host has to do."""

    def post(self) -> None:
        """Call ``dispatch`` once, soon.  Any thread."""

    def call(self, fn: Callable[[], object]) -> None:
        """Call `fn` once from a callback of the host's."""

    def run(self) -> None:
        """Run the host's main loop until `quit`."""

    def quit(self) -> None:
        """End `run`, and no main loop that somebody else runs."""

    def close(self) -> None:
        """Take everything out of the host."""


@contextlib.contextmanager
def no_running_loop() -> Any:
    """Leave the guest's loop, where that counts as running, so that the host's loop can be run."""
    outer = running_loop()
    if outer is None:
        yield
        return
    with suspended(outer):
        yield


class _Attached:
    """A guest's host in an asyncio loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, own: bool, dispatch: Callable[[], None]) -> None:
        self._loop = loop
        self._own = own
        self._dispatch = dispatch
        self._watched: int | None = None
        self._again: asyncio.Handle | None = None
        self._running = False

    def watch(self, fd: int, on: bool) -> None:
        if on:
            self._loop.add_reader(fd, self._dispatch)
            self._watched = fd
        else:
            self._watched = None
            self._loop.remove_reader(fd)

    def again(self) -> None:
        self._again = self._loop.call_soon(self._dispatch)

    def post(self) -> None:
        self._loop.call_soon_threadsafe(self._dispatch)

    def call(self, fn: Callable[[], object]) -> None:
        self._loop.call_soon(fn)

    def run(self) -> None:
        self._running = True
        try:
            with no_running_loop():
                self._loop.run_forever()
        finally:
            self._running = False

    def quit(self) -> None:
        if self._running:
            self._loop.stop()

    def close(self) -> None:
        if self._again is not None:
            self._again.cancel()
        if self._watched is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._watched)
        if self._own:
            self._loop.close()


class AsyncioBackend:
    """``BACKEND`` of this package."""

    name = "asyncio"
    strategies = ("watch", "waiter")

    def missing(self) -> str | None:
        """None, or what to do."""
        try:
            from . import _pyhost  # noqa: F401
        except ImportError as exc:
            return f"the backend was not built ({exc}): build it again"
        return None

    def accepts(self, obj: object) -> bool:
        """A loop of asyncio's, running or not."""
        return isinstance(obj, asyncio.AbstractEventLoop)

    def open(self, obj: object | None) -> Host:
        """The loop `obj`; with None, the one that runs on this thread, or else a new one for each guest.

        Raises TypeError for another object, and RuntimeError for a loop that is closed or runs on another thread.
        """
        from ._pyhost import asyncio_ops

        if obj is None:
            obj = running_loop()
        if obj is None:
            return Host(asyncio_ops, lambda dispatch: _Attached(own_loop(), True, dispatch), apart=True)
        if not isinstance(obj, asyncio.AbstractEventLoop):
            raise TypeError(f"not an event loop of asyncio: {obj!r}")
        loop = obj
        check_loop(loop)
        return Host(asyncio_ops, lambda dispatch: _Attached(loop, False, dispatch), apart=True)


def own_loop() -> asyncio.AbstractEventLoop:
    """A loop for a host of the guest's own.  Not by the policy, which is the program's: it may hand out the very loop that
    is to be the guest, or count."""
    return asyncio.SelectorEventLoop()


def check_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Raise RuntimeError if no guest can live in `loop` on this thread."""
    if loop.is_closed():
        raise RuntimeError(f"the host's event loop is closed: {loop!r}")
    if loop.is_running() and running_loop() is not loop:
        raise RuntimeError("the host's event loop runs on another thread: start the guest on that thread")


BACKEND = AsyncioBackend()
