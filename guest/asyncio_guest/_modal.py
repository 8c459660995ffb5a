"""Calls that block in a nested loop of the host: dialogs, menus, drags."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ._ended import Ended, capture
from ._running import running_loop

if TYPE_CHECKING:
    from ._session import Session

T = TypeVar("T")


class Modal:
    """One call of `modal`: queued, then open until it returns."""

    def __init__(self, session: Session, fn: Callable[[], Any]) -> None:
        self._session = session
        self._fn = fn
        self._context = contextvars.copy_context()
        self._future: asyncio.Future[Ended] = session.loop.create_future()
        self._open = False

    async def result(self) -> Any:
        """Queue the call and wait for its outcome."""
        session = self._session
        session.modals.add(self)
        try:
            session.core.call(self)
        except RuntimeError as exc:
            session.modals.discard(self)
            raise RuntimeError(f"the host {session.core.host_name!r} cannot open a modal call: {exc}") from exc
        except BaseException:
            session.modals.discard(self)
            raise
        return (await self._future).unwrap()

    def __call__(self) -> None:
        """Called by the host, outside any turn."""
        if self not in self._session.modals:
            return
        if self._future.done():  # cancelled before the host came to it: nobody waits for the answer
            self._closed()
            return
        self._open = True
        self._settle(capture(self._context.run, self._fn))

    def drop(self) -> None:
        """The host has gone: a call that has not been made will never be."""
        if not self._open:
            self._settle(Ended(error=RuntimeError("the host has gone before it could open the modal call")))

    def _settle(self, result: Ended) -> None:
        loop = self._session.loop
        if not loop.is_closed():
            if not self._future.done():
                self._future.set_result(result)
            elif result.error is not None:
                self._nobody_waits(loop, result.error)
        self._closed()

    def _nobody_waits(self, loop: Any, error: BaseException) -> None:
        """The awaiting task was cancelled while the dialog was open, and then the dialog failed."""
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            loop.call_soon(_throw, error)
        else:
            loop.call_exception_handler(
                {"message": "a modal call failed after the task that awaited it was cancelled", "exception": error}
            )

    def _closed(self) -> None:
        session = self._session
        session.modals.discard(self)
        session.modal_closed()


def _throw(error: BaseException) -> None:
    raise error


async def modal(fn: Callable[..., T], *args: Any) -> T:
    """Call ``fn(*args)`` from a callback of the host, and wait for what it returns or raises.

    For functions that block in a nested main loop of the host, such as a modal dialog: the guest's
    other tasks go on meanwhile, which they cannot when a coroutine calls `fn` itself.  `fn` runs on
    the host's thread in a copy of the current context, with no current task.

    Modal calls end as the host's nested loops end: last in, first out.  Cancelling the awaiting
    task drops the result and does not interrupt `fn` (a call that has not begun is not made); the end of
    the guest waits for open ones.

    Raises RuntimeError if the running loop is no guest, or the guest's host has no way to be called back.
    """
    from ._session import session_of

    loop = running_loop()
    session = session_of(loop) if loop is not None else None
    if session is None:
        raise RuntimeError("no guest: modal() needs an event loop that runs as a guest of a host")
    result: T = await Modal(session, lambda: fn(*args)).result()
    return result
