"""Faults of debug mode."""

# What asyncio keeps private typeshed does not know, and what a method passes on it takes as it is.
# mypy: disable-error-code="attr-defined, misc, override"

from __future__ import annotations

import socket
import warnings
from typing import Any

from . import Loop, broken


@broken("callbacks are not timed in debug mode", "D.01-slow-callback", "C.07b-debug-switched-in-mid-run")
class NothingTimed(Loop):
    @property
    def slow_callback_duration(self) -> float:
        return float("inf")

    @slow_callback_duration.setter
    def slow_callback_duration(self, seconds: float) -> None:
        pass


@broken("callbacks are not looked at in debug mode: a coroutine is taken for one", "D.02-checks-of-arguments")
class ArgumentsUnchecked(Loop):
    def _check_callback(self, callback: Any, method: str) -> None:
        pass


@broken("a blocking socket is taken in debug mode as in any other", "D.02-checks-of-arguments")
class BlockingSocketsTaken(Loop):
    async def sock_recv(self, sock: socket.socket, n: int) -> bytes:
        sock.setblocking(False)
        return await super().sock_recv(sock, n)


@broken("the loop silences warnings, of coroutines that were never awaited too", "D.03-never-awaited")
class WarningsSilenced(Loop):
    def __init__(self) -> None:
        super().__init__()
        warnings.simplefilter("ignore", RuntimeWarning)


@broken("coroutines' origins are tracked on when the loop has stopped", "D.04-origin-tracking")
class TracksOn(Loop):
    def _set_coroutine_origin_tracking(self, enabled: bool) -> None:
        if enabled:
            super()._set_coroutine_origin_tracking(enabled)


@broken("set_debug does not reach the tracking of a loop that runs", "D.04-origin-tracking")
class TrackingOfTheStart(Loop):
    def set_debug(self, enabled: bool) -> None:
        self._debug = enabled


@broken("the loop sets its debug flag itself, whatever the environment says", "D.05-environment")
class OwnFlag(Loop):
    def __init__(self) -> None:
        super().__init__()
        self.set_debug(False)


@broken(
    "debug mode takes each socket with a timeout for a blocking one, though that is zero",
    "D.06-everything-in-debug-mode",
)
class EverySocketBlocks(Loop):
    async def sock_recv(self, sock: socket.socket, n: int) -> bytes:
        if self.get_debug() and sock.gettimeout() is not None:
            raise ValueError("the socket must be non-blocking")
        return await super().sock_recv(sock, n)
