"""A loop that is a guest now: what all of them have in common, and the list of those alive."""

from __future__ import annotations

import asyncio
import functools
import threading
import weakref
from collections.abc import Callable
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
        self._signal_methods: list[tuple[str, Callable[..., Any]]] = []

    def opened(self, core: _core.Guest) -> None:
        """`core` is about to attach."""
        self.core = core
        _live.add(self)
        _by_loop[self.loop] = self
        self._signal_methods = [
            (name, _reasserting(core, method))
            for name in ("add_signal_handler", "remove_signal_handler")
            if self.thread is threading.main_thread() and (method := getattr(self.loop, name, None)) is not None
        ]
        for name, method in self._signal_methods:
            setattr(self.loop, name, method)

    def closed(self, *extra: str) -> None:
        """The guest is over: count it, once, under the names `extra` too."""
        if self.counted:
            return
        _totals.ended(self.core, extra)
        self.counted = True
        self.forget()

    def forget(self) -> None:
        """Take the guest off the lists, and its methods off the loop."""
        attributes = getattr(self.loop, "__dict__", {})
        for name, method in self._signal_methods:
            if attributes.get(name) is method:
                del attributes[name]
        self._signal_methods = []
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


def _reasserting(core: _core.Guest, method: Callable[..., Any]) -> Callable[..., Any]:
    """`method` of the loop sets the signal wakeup descriptor to the loop's self-pipe, or unsets it.

    Whoever took the setting over from there would put back, at its end, a descriptor that is closed by then
    (PyGObject's MainLoop.run does, and raises OSError).  The guest's own is valid for good.
    """

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        finally:
            core.assert_wakeup_fd()

    return call


# Weak: a guest lives as long as its host can call it, or as its program holds it.
_live: weakref.WeakSet[Session] = weakref.WeakSet()
_by_loop: weakref.WeakKeyDictionary[Any, Session] = weakref.WeakKeyDictionary()


def live() -> list[Session]:
    """The guests of all threads that are not over."""
    return list(_live)


def session_of(loop: object) -> Session | None:
    """The guest that `loop` is, or None."""
    return _by_loop.get(loop)
