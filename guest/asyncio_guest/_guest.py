"""The guest as its program sees it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from ._driver import Driver
from ._running import inside

if TYPE_CHECKING:
    from outcome import Outcome

T = TypeVar("T")


@dataclass(frozen=True)
class GuestInfo:
    """How a guest runs."""

    host: str
    """The host's name."""
    engine: str
    """What executes an iteration: ``stock`` or ``fast``."""
    engine_reason: str
    """Why that engine."""
    strategy: str
    """How the host learns of work: ``watch`` or ``waiter``."""
    selector: str
    """``descriptor``, ``mirrored`` or ``always-due``."""
    details: dict[str, str] = field(default_factory=dict)
    """What the backend says about itself (Tk: ``notifier``)."""


class Guest:
    """A running guest, as `start` returns it.

    All members belong to the host's thread, except `wake` and `cancel`, which any thread may call.
    Dropping the object does not end the guest.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The guest's event loop."""
        loop: asyncio.AbstractEventLoop = self._driver.loop
        return loop

    @property
    def task(self) -> asyncio.Task[Any]:
        """The main task."""
        return self._driver.task

    @property
    def done(self) -> bool:
        """True once the guest is over: its loop is closed and the host is free of it."""
        return self._driver.done

    @property
    def outcome(self) -> Outcome[Any] | None:
        """What `done_callback` gets; None while the guest runs."""
        return self._driver.outcome if self._driver.done else None

    def cancel(self, msg: object = None) -> bool:
        """Cancel the main task, and with that the guest.  Any thread.

        Returns False if there is nothing to cancel any more.  An end by this cancellation is not
        reported as an error to ``sys.excepthook``.
        """
        driver = self._driver
        if driver.done or driver.task.done():
            return False
        if threading.get_ident() == driver.thread.ident:
            return driver.cancel(msg)
        try:
            driver.loop.call_soon_threadsafe(driver.cancel, msg)
        except RuntimeError:  # the loop was closed a moment ago
            return False
        return True

    def wake(self) -> None:
        """Make the host give the guest a turn soon.  Any thread.

        Never needed after asyncio's own calls; for code that changes what the loop waits for behind its back.
        """
        if not self._driver.done:
            self._driver.core.wake()

    def start_soon(self, fn: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> asyncio.Task[T]:
        """Start ``fn(*args)`` as a task of the guest: one line in a button's handler.

        The task is referenced until it is done; it is cancelled with the guest.  Its exception, if nobody
        retrieves it, goes to the loop's exception handler.  Host thread; raises RuntimeError on another one and
        once the guest's main task is over.
        """
        driver = self._driver
        if threading.get_ident() != driver.thread.ident:
            raise RuntimeError("start_soon() belongs to the host's thread; use asyncio.run_coroutine_threadsafe()")
        if driver.done or driver.task.done():
            raise RuntimeError("the guest is over")
        coro = fn(*args)
        with inside(driver.loop):
            task: asyncio.Task[T] = driver.loop.create_task(coro)
        driver.tasks.add(task)
        task.add_done_callback(driver.tasks.discard)
        return task

    @property
    def info(self) -> GuestInfo:
        """Engine and why, strategy, selector class and the backend's own facts."""
        core = self._driver.core
        return GuestInfo(
            core.host_name, core.engine, core.engine_reason, core.strategy, core.selector_class, self._driver.host.details()
        )

    @property
    def counters(self) -> dict[str, int]:
        """The counters of the core since the start (``ag_counters`` in ``asyncio_guest.h``)."""
        return self._driver.core.counters()

    def __repr__(self) -> str:
        core = self._driver.core
        state = "done" if self._driver.done else str(core.state)
        return f"<Guest host={core.host_name!r} engine={core.engine!r} strategy={core.strategy!r} {state}>"
