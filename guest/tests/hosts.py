"""A main loop made of a queue, for tests that need a host of their own making."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

import asyncio_guest
from asyncio_guest import _core


class QueueHost:
    """Calls what is posted to it, in order, on the thread that runs `main_loop`."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._stopped = False
        self.thread = threading.get_ident()
        self.posted_threadsafe = 0
        self.posted_here = 0
        self.errors: list[BaseException] = []
        self.outcomes: list[Any] = []

    def soon_threadsafe(self, fn: Callable[[], object]) -> None:
        self.posted_threadsafe += 1
        self._queue.put(fn)

    def soon(self, fn: Callable[[], object]) -> None:
        assert threading.get_ident() == self.thread
        self.posted_here += 1
        self._queue.put(fn)

    def call(self, fn: Callable[..., object], *args: Any) -> None:
        """Have the host call ``fn(*args)`` from a callback of its own."""
        self._queue.put(lambda: fn(*args))

    def later(self, seconds: float, fn: Callable[..., object], *args: Any) -> None:
        timer = threading.Timer(seconds, self.call, (fn, *args))
        timer.daemon = True
        timer.start()

    def main_loop(self, *, until: Callable[[], bool] | None = None, timeout: float = 20.0) -> None:
        """Run until `stop`, or until `until` holds after a callback."""
        self._stopped = False
        while not self._stopped and not (until is not None and until()):
            self._queue.get(timeout=timeout)()

    def stop(self) -> None:
        self._stopped = True

    def drain(self) -> None:
        """Forget everything that is posted."""
        while not self._queue.empty():
            self._queue.get()

    def done(self, result: Any) -> None:
        """A `done_callback` that ends the main loop."""
        self.outcomes.append(result)
        self.stop()

    @property
    def host(self) -> asyncio_guest.Host:
        return asyncio_guest.Host(_core.callables_ops, (self.soon_threadsafe, self.soon))

    def start(self, coro: Any, **options: Any) -> asyncio_guest.Guest:
        return asyncio_guest.start(coro, host=self.host, done_callback=options.pop("done_callback", self.done), **options)

    def run(self, coro: Any, **options: Any) -> Any:
        """Start `coro`, run the main loop until the guest is over, and unwrap its outcome."""
        self.start(coro, **options)
        self.main_loop()
        assert len(self.outcomes) == 1
        return self.outcomes.pop().unwrap()
