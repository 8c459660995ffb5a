"""Ctrl-C while a guest's main task runs, as asyncio.Runner treats it."""

from __future__ import annotations

import asyncio
import signal
import threading
from types import FrameType
from typing import Any


class Interrupts:
    """The first SIGINT cancels the main task, the second raises KeyboardInterrupt.

    Installed only on the main thread and only where Python's default handler is installed;
    removed by `restore` only if it is still ours.
    """

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self._installed = False
        self.count = 0

    def install(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            return
        try:
            signal.signal(signal.SIGINT, self)
        except ValueError:  # an embedded interpreter without signals, or a subinterpreter
            return
        self._installed = True

    def restore(self) -> None:
        handler: object = self
        if self._installed and signal.getsignal(signal.SIGINT) is handler:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self._installed = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count == 1 and not self._task.done():
            self._task.cancel()
            # The host may block in C: its next turn must come now.
            self._task.get_loop().call_soon_threadsafe(lambda: None)
            return
        raise KeyboardInterrupt
