"""A loop that is a guest now: what all of them have in common, and the list of those alive."""

from __future__ import annotations

import asyncio
import threading
import weakref
from typing import TYPE_CHECKING, Any

from . import _core, _totals

if TYPE_CHECKING:
    from ._modal import Modal


class Session:
    """One attached guest: its core object, its thread and its open modal calls.

    Subclasses decide what happens when the loop stops.
    """

    core: _core.Guest

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: Any = loop
        self.thread = threading.current_thread()
        self.modals: set[Modal] = set()
        self.counted = False

    def opened(self, core: _core.Guest) -> None:
        """`core` is about to attach."""
        self.core = core
        _live.add(self)
        _by_loop[self.loop] = self

    def closed(self, *extra: str) -> None:
        """The guest is over: count it, once, under the names `extra` too."""
        if self.counted:
            return
        _totals.ended(self.core, extra)
        self.counted = True
        self.forget()

    def forget(self) -> None:
        """Take the guest off the lists."""
        _live.discard(self)
        if _by_loop.get(self.loop) is self:
            del _by_loop[self.loop]

    def modal_closed(self) -> None:
        """A modal call has returned, or will never be made."""

    def at_exit(self, timeout: float) -> None:
        """The interpreter is about to end.  Main thread."""

    def after_fork_child(self) -> None:
        """In a forked child: the guest is dead there."""
        self.counted = True
        self.modals.clear()
        self.forget()
        self.core.after_fork_child()


# Weak: a guest lives as long as its host can call it, or as its program holds it.
_live: weakref.WeakSet[Session] = weakref.WeakSet()
_by_loop: weakref.WeakKeyDictionary[Any, Session] = weakref.WeakKeyDictionary()


def live() -> list[Session]:
    """The guests of all threads that are not over."""
    return list(_live)


def session_of(loop: object) -> Session | None:
    """The guest that `loop` is, or None."""
    return _by_loop.get(loop)
