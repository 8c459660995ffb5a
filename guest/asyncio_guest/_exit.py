"""Interpreter exit and fork: what happens to guests that are still running."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from asyncio import events
from typing import Any

# First: callbacks of threading's shutdown run last in, first out, and executors must outlive guests.
import concurrent.futures.thread  # noqa: F401  # isort: skip

from . import _install, _session, _totals
from ._driver import FINISH_TIMEOUT
from ._mirror import mirror_of


def _at_exit() -> None:
    """Finish the main thread's guests on poll(2); let go of those whose threads are over.

    Guests on threads that still run are left to them: the interpreter waits for those threads, or ends them.
    """
    for session in _session.live():
        if session.core.done:
            continue
        if session.thread is threading.main_thread():
            session.at_exit(FINISH_TIMEOUT)
        elif not session.thread.is_alive():
            with contextlib.suppress(Exception):
                session.core.detach()
            session.forget()


def _after_fork_in_child() -> None:
    """The guests of the parent are dead here; nothing that the parent shares is touched."""
    for session in _session.live():
        loop = session.loop
        session.after_fork_child()
        _fresh_selector(loop)
        if session.thread is threading.current_thread():
            loop._thread_id = None
    if events._get_running_loop() is not None:
        events._set_running_loop(None)
    _totals.reset_after_fork()
    _install.after_fork_child()


def _fresh_selector(loop: Any) -> None:
    """Give the loop's selector a kernel set of its own.

    The epoll set is shared with the parent: one ``remove_reader`` in the child would silence the
    parent's reader.  The selector's map stays, so that the child can unregister and close as usual.
    """
    selector = getattr(loop, "_selector", None)
    mirror = mirror_of(selector)
    if mirror is not None:
        mirror.close()
    inner = getattr(selector, "_selector", None)
    epoll = getattr(select, "epoll", None)
    if epoll is not None and isinstance(inner, epoll):
        selector._selector = epoll()  # type: ignore[union-attr]
        inner.close()
        return
    kqueue = getattr(select, "kqueue", None)
    if kqueue is not None and isinstance(inner, kqueue):
        # A kqueue is not inherited by fork.
        selector._selector = kqueue()  # type: ignore[union-attr]


def register() -> None:
    """Hook into interpreter exit and fork.  Called once, when the package is imported."""
    with contextlib.suppress(RuntimeError):  # imported while the interpreter ends
        threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork_in_child)


__all__ = ["register"]
