"""A main loop that is a queue of functions and a heap of timers: the least that `start_guest_run` needs of a host."""

from __future__ import annotations

import heapq
import itertools
import queue
import sys
import time
from collections.abc import Callable
from typing import Any

Timer = list[Any]
"""Deadline, number, function; the function is None once cancelled."""


class QueueLoop:
    """Runs functions on the thread that calls `run`.  Runs may be nested."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._timers: list[Timer] = []
        self._numbers = itertools.count()
        self._idle: list[Callable[[], object]] = []
        self._depth = 0
        self._quit: set[int] = set()

    def run_sync_soon_threadsafe(self, fn: Callable[[], object]) -> None:
        """Call `fn` soon on the loop's thread.  Any thread."""
        self._queue.put(fn)

    run_sync_soon_not_threadsafe = run_sync_soon_threadsafe

    def call_later(self, seconds: float, fn: Callable[[], object]) -> Timer:
        """Call `fn` after `seconds`; `cancel` takes what this returns."""
        timer = [time.monotonic() + seconds, next(self._numbers), fn]
        heapq.heappush(self._timers, timer)
        return timer

    def cancel(self, timer: Timer) -> None:
        """Do not call the timer's function.  Idempotent."""
        timer[2] = None

    def call_idle(self, fn: Callable[[], object]) -> None:
        """Call `fn` once, behind what is queued."""
        self._idle.append(fn)

    @property
    def depth(self) -> int:
        """The number of runs on the stack."""
        return self._depth

    def run(self) -> None:
        """Call what is queued, and sleep, until `quit`."""
        self._depth += 1
        depth = self._depth
        try:
            while depth not in self._quit:
                self.step(True)
        finally:
            self._quit.discard(depth)
            self._depth -= 1

    def quit(self, depth: int | None = None) -> None:
        """Make the innermost run return, or the one that has `depth` runs below and with it, when those inside it have."""
        self._quit.add(self._depth if depth is None else depth)

    def step(self, block: bool) -> bool:
        """Call one timer that is due, what was queued when this began, and then one function that waits for idleness; with
        nothing to call, sleep (`block`).

        Returns whether anything was called.  Idle work comes behind what is queued, and is not starved by functions that
        queue themselves again.
        """
        called = False
        while self._timers and (self._timers[0][2] is None or self._timers[0][0] <= time.monotonic()):
            fn = heapq.heappop(self._timers)[2]
            if fn is not None:
                self._call(fn)
                called = True
                break
        for _ in range(self._queue.qsize()):
            try:
                fn = self._queue.get_nowait()
            except queue.Empty:  # a nested run has taken it
                break
            self._call(fn)
            called = True
        if self._idle:
            self._call(self._idle.pop(0))
            called = True
        if called or not block:
            return called
        timeout = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
        try:
            fn = self._queue.get(timeout=timeout)
        except queue.Empty:
            return False
        self._call(fn)
        return True

    @staticmethod
    def _call(fn: Callable[[], object]) -> None:
        try:
            fn()
        except Exception:
            sys.excepthook(*sys.exc_info())
