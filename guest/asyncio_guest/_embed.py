"""What the C interface (``ag_start``, ``ag_cancel``, ``ag_release``) calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from . import _core
from ._driver import FINISH_TIMEOUT, Driver
from ._hosts import Host
from ._session import session_of
from ._start import start_core

if TYPE_CHECKING:
    from outcome import Outcome


def start(
    coro: Coroutine[Any, Any, Any],
    *,
    ops: Any,
    native: Any,
    done: Callable[[Outcome[Any]], object] | None,
    strategy: str | None,
    budget_ns: int,
    engine: str | None,
) -> _core.Guest:
    """``ag_start``: `coro` as a guest of the calling C program's main loop.  `coro` is closed on failure."""
    if not asyncio.iscoroutine(coro):
        raise TypeError(f"a coroutine was expected, got {coro!r}")
    try:
        driver = start_core(
            coro,
            lambda: Host(ops),
            done,
            native=native,
            strategy=None if ops is None else strategy,
            budget_ns=budget_ns,
            engine=engine,
        )
    except BaseException:
        coro.close()
        raise
    return driver.core


def _driver_of(core: _core.Guest) -> Driver | None:
    session = session_of(core.loop)
    return session if isinstance(session, Driver) else None


def cancel(core: _core.Guest) -> None:
    """``ag_cancel``: cancel the main task."""
    driver = _driver_of(core)
    if driver is not None:
        driver.cancel()


def abandon(core: _core.Guest) -> None:
    """``ag_release`` of a guest that is still running: finish it without its host, and say so."""
    driver = _driver_of(core)
    if driver is not None and not driver.done:
        driver.warn_abandoned("when its program released it")
        driver.finish(FINISH_TIMEOUT)
