"""The backend ``tornado``: a guest inside Tornado's IOLoop, through the IOLoop's own API.

Importing this module does not import Tornado.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

from asyncio_guest._hosts import Host
from asyncio_guest._running import running_loop
from asyncio_guest.backends.asyncio import check_loop, no_running_loop, own_loop


class _Attached:
    """A guest's host in an IOLoop; ``asyncio_guest.backends.asyncio.Attached`` says what its methods do."""

    def __init__(self, loop: Any, own: bool, dispatch: Callable[[], None]) -> None:
        self._loop = loop
        self._own = own
        self._dispatch = dispatch
        self._watched: int | None = None
        self._again: asyncio.Handle | None = None
        self._running = False

    def _readable(self, fd: int, events: int) -> None:
        self._dispatch()

    def watch(self, fd: int, on: bool) -> None:
        if on:
            self._loop.add_handler(fd, self._readable, self._loop.READ)
            self._watched = fd
        else:
            self._watched = None
            self._loop.remove_handler(fd)

    def again(self) -> None:
        # Not add_callback: what that puts around the call (a partial, and a look at what it returned) costs each turn.
        self._again = self._loop.asyncio_loop.call_soon(self._dispatch)

    def post(self) -> None:
        self._loop.add_callback(self._dispatch)

    def call(self, fn: Callable[[], object]) -> None:
        self._loop.add_callback(fn)

    def run(self) -> None:
        self._running = True
        try:
            with no_running_loop():
                # What IOLoop.start() does beside this is not for a loop that is not the program's own: it sets up
                # logging, and has the policy make a loop and hand the child watcher over to the IOLoop.
                self._loop.asyncio_loop.run_forever()
        finally:
            self._running = False

    def quit(self) -> None:
        if self._running:
            self._loop.stop()

    def close(self) -> None:
        if self._again is not None:
            self._again.cancel()
        if self._watched is not None and not self._loop.asyncio_loop.is_closed():
            self._loop.remove_handler(self._watched)
        if self._own:
            self._loop.close()


class TornadoBackend:
    """``BACKEND`` of this package."""

    name = "tornado"
    strategies = ("watch", "waiter")

    def missing(self) -> str | None:
        """None, or what to install."""
        if importlib.util.find_spec("tornado") is None:
            return "this Python has no Tornado; on Debian: apt-get install python3-tornado"
        try:
            from asyncio_guest.backends.asyncio import _pyhost  # noqa: F401
        except ImportError as exc:
            return f"the backend was not built ({exc}): build it again"
        return None

    def accepts(self, obj: object) -> bool:
        """An IOLoop."""
        module = sys.modules.get("tornado.ioloop")
        return module is not None and isinstance(obj, module.IOLoop)

    def open(self, obj: object | None) -> Host:
        """The IOLoop `obj`; with None, the one that runs on this thread, or else a new one for each guest.

        Raises TypeError for another object, and RuntimeError for a loop that is closed or runs on another thread.
        """
        from asyncio_guest.backends.asyncio._pyhost import tornado_ops
        from tornado.ioloop import IOLoop

        if obj is None and running_loop() is not None:
            obj = IOLoop.current()
        if obj is None:
            return Host(
                tornado_ops,
                lambda dispatch: _Attached(IOLoop(make_current=False, asyncio_loop=own_loop()), True, dispatch),
                apart=True,
            )
        if not self.accepts(obj):
            raise TypeError(f"not an IOLoop: {obj!r}")
        loop: Any = obj
        check_loop(loop.asyncio_loop)
        return Host(tornado_ops, lambda dispatch: _Attached(loop, False, dispatch), apart=True)


BACKEND = TornadoBackend()
