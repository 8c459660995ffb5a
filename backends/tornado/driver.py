"""The host driver of Tornado: the host's side of a conformance case, by the API of its IOLoop.

It knows no guest.  An IOLoop has calls and timers; it has no idle work, no window, and cannot be nested.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tornado.ioloop import IOLoop

from ..asyncio.driver import AsyncioDriver


class TornadoDriver(AsyncioDriver):
    """The driver; see ``scenarios.driver.HostDriver`` for the methods.

    It runs the asyncio loop below the IOLoop: ``IOLoop.start()`` has the policy make a loop as well, which nobody
    closes.
    """

    name = "tornado"

    def __init__(self) -> None:
        self._io_loop = IOLoop(make_current=False)
        super().__init__(self._io_loop.asyncio_loop)

    def call_from_host(self, fn: Callable[[], Any]) -> None:
        self._io_loop.add_callback(fn)

    def later(self, seconds: float, fn: Callable[[], None]) -> Callable[[], Any]:
        return functools.partial(self._io_loop.remove_timeout, self._io_loop.call_later(seconds, fn))

    def toolkit(self) -> Any:
        return self._io_loop

    def close(self) -> None:
        if not self._loop.is_running():
            self._io_loop.close()


def make_driver(window: bool = False) -> TornadoDriver:
    """A driver with a loop of its own; there is no window, asked for or not."""
    return TornadoDriver()
