"""The host driver of ``poll``: the little that a host has which is nothing but ``poll(2)`` on a guest's descriptor.

It has host callbacks, those of its guest's own host (`_core.Guest.call`), and a main loop that ends with the
guest.  It has no timers, no idle work, no window and no nested loops of its own.  Unlike the other drivers it
knows the guest: without one there is no host.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from .._driver import Driver


class PollDriver(Driver):
    """The driver; see ``scenarios.driver.HostDriver`` for the methods."""

    name = "poll"
    abilities = frozenset({"host"})

    @staticmethod
    def _guest() -> Any:
        from asyncio_guest import _core

        guest = _core.current_guest()
        if guest is None:
            raise RuntimeError("the host `poll` exists only while a guest runs on this thread")
        return guest

    def call_from_host(self, fn: Callable[[], Any]) -> None:
        def call() -> None:
            # The way an exception of this host's callbacks takes is the application's, as in every toolkit.
            try:
                fn()
            except Exception:
                sys.excepthook(*sys.exc_info())

        self._guest().call(call)

    def run(self) -> None:
        """Run the main loop until the guest is over."""
        self._guest().run()

    def quit(self) -> None:
        """Nothing: the main loop ends with its guest."""

    def toolkit(self) -> str:
        return "poll"


def make_driver(window: bool = False) -> PollDriver:
    """A driver; there is no window, asked for or not."""
    return PollDriver()
