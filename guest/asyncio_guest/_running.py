"""What ``run_forever`` does before its first iteration and after its last one.

CPython 3.13 and later have it as methods of the loop; before, it is inline in ``run_forever``.
"""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import importlib
import sys
import threading
from asyncio import events, tasks
from collections.abc import Iterator
from typing import Any


def _in_main_interpreter() -> bool:
    ask = getattr(_thread, "_is_main_interpreter", None)  # 3.12
    if ask is not None:
        return bool(ask())
    try:
        interpreters = importlib.import_module("_xxsubinterpreters")
        return bool(interpreters.get_current() == interpreters.get_main())
    except ImportError:
        return True


_MAIN_INTERPRETER = _in_main_interpreter()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that runs on this thread, or None."""
    return events._get_running_loop()


def on_main_thread() -> bool:
    """Is this the thread that Python's signal handlers run on?  No thread of a subinterpreter is."""
    return _MAIN_INTERPRETER and threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def suspended(outer: Any) -> Iterator[None]:
    """Leave the running loop `outer` (None: no loop runs) and its current task for the length of the block.

    The order matters from 3.14 on, where both live in the thread state.
    """
    task = tasks.current_task(outer) if outer is not None else None
    if task is not None:
        tasks._leave_task(outer, task)
    events._set_running_loop(None)
    try:
        yield
    finally:
        events._set_running_loop(outer)
        if task is not None:
            tasks._enter_task(outer, task)


@contextlib.contextmanager
def inside(loop: Any) -> Iterator[None]:
    """Make `loop` the running loop of the block (it is already, unless the host is asyncio itself)."""
    outer = running_loop()
    if outer is loop:
        yield
    elif outer is None:
        events._set_running_loop(loop)
        try:
            yield
        finally:
            events._set_running_loop(None)
    else:
        with suspended(outer):
            events._set_running_loop(loop)
            try:
                yield
            finally:
                events._set_running_loop(None)


@contextlib.contextmanager
def between_runs(loop: Any) -> Iterator[None]:
    """Make `loop` look stopped, as it does between two ``run_until_complete`` calls of asyncio.Runner.

    A task made by an eager factory does not start early then.
    """
    thread_id = loop._thread_id
    loop._thread_id = None
    try:
        yield
    finally:
        loop._thread_id = thread_id


class RunForever:
    """The set-up and the clean-up of one run of a loop.

    `enter` raises what ``run_forever`` raises for a loop that is closed or running.  When another
    loop already runs on this thread (the host is asyncio itself) and `hosted` is true, that loop stays the
    running one: the core swaps the two around each turn.  With `apart` the host is asyncio and may not run yet: no
    loop runs then until it does.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop: Any = loop
        self._entered = False
        self._old_hooks: Any = None

    def enter(self, *, hosted: bool = False, apart: bool = False) -> None:
        outer = running_loop()
        if not hosted or outer is None and not apart:
            self._enter()
            return
        hooks = sys.get_asyncgen_hooks()
        depth = sys.get_coroutine_origin_tracking_depth()
        with suspended(outer):
            self._enter()
            sys.set_asyncgen_hooks(*hooks)
            sys.set_coroutine_origin_tracking_depth(depth)

    def leave(self) -> None:
        if not self._entered:
            return
        self._entered = False
        outer = running_loop()
        if outer is None or outer is self._loop:
            self._leave()
            return
        hooks = sys.get_asyncgen_hooks()
        depth = sys.get_coroutine_origin_tracking_depth()
        with suspended(outer):
            self._leave()
            sys.set_asyncgen_hooks(*hooks)
            sys.set_coroutine_origin_tracking_depth(depth)

    def _enter(self) -> None:
        loop = self._loop
        if hasattr(loop, "_run_forever_setup"):
            loop._run_forever_setup()
            self._entered = True
            return
        loop._check_closed()
        loop._check_running()
        loop._set_coroutine_origin_tracking(loop._debug)
        self._old_hooks = sys.get_asyncgen_hooks()
        self._entered = True
        try:
            loop._thread_id = threading.get_ident()
            sys.set_asyncgen_hooks(firstiter=loop._asyncgen_firstiter_hook, finalizer=loop._asyncgen_finalizer_hook)
            events._set_running_loop(loop)
        except BaseException:
            self.leave()
            raise

    def _leave(self) -> None:
        loop = self._loop
        if hasattr(loop, "_run_forever_cleanup"):
            loop._run_forever_cleanup()
            return
        loop._stopping = False
        loop._thread_id = None
        events._set_running_loop(None)
        loop._set_coroutine_origin_tracking(False)
        sys.set_asyncgen_hooks(*self._old_hooks)
        self._old_hooks = None
