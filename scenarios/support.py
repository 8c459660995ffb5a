"""Small things that several cases need.  Imports the standard library only."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import logging
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from .api import Unsupported

PYTHON = (sys.executable, "-I", "-S", "-c")
"""The start of a command line that runs a Python program given as the next argument, quickly."""


async def iterations(n: int) -> None:
    """Let the loop go through `n` more iterations."""
    for _ in range(n):
        await asyncio.sleep(0)


async def settle(rounds: int = 3) -> None:
    """Collect garbage, and let the loop do what that has asked of it."""
    for _ in range(rounds):
        gc.collect()
        await iterations(2)


def spin_until(loop: asyncio.AbstractEventLoop, when: float) -> None:
    """Keep the thread busy until the loop's clock has reached `when` (seconds of `loop.time()`)."""
    while loop.time() < when:
        pass


def listen(loop: asyncio.AbstractEventLoop) -> list[dict[str, Any]]:
    """Set an exception handler that only collects; returns its collection."""
    heard: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: heard.append(context))
    return heard


@contextlib.contextmanager
def asyncio_log() -> Iterator[list[logging.LogRecord]]:
    """The records that the logger ``asyncio`` gets meanwhile; they go nowhere else."""
    records: list[logging.LogRecord] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    logger = logging.getLogger("asyncio")
    handlers, propagate, level = logger.handlers[:], logger.propagate, logger.level
    logger.handlers[:] = [Collector()]
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    try:
        yield records
    finally:
        logger.handlers[:] = handlers
        logger.propagate = propagate
        logger.setLevel(level)


@contextlib.contextmanager
def socket_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected non-blocking stream sockets, closed at the end."""
    a, b = socket.socketpair()
    a.setblocking(False)
    b.setblocking(False)
    with a, b:
        yield a, b


def _asleep(thread: int) -> str | None:
    """How often the sleeping thread with the native id `thread` has gone to sleep so far; None while it runs."""
    try:
        with open(f"/proc/self/task/{thread}/status", encoding="ascii", errors="replace") as file:
            status = dict(line.partition(":")[::2] for line in file)
    except OSError:
        return "ended"
    return status["voluntary_ctxt_switches"] if status["State"].split()[0] == "S" else None


def other_threads() -> list[int]:
    """The native ids of this process's threads but the calling one, those that Python did not start too."""
    return [int(task) for task in os.listdir("/proc/self/task") if int(task) != threading.get_native_id()]


def wait_asleep(*threads: int, seconds: float = 2.0) -> bool:
    """Wait until the threads with these native ids sleep: several looks in a row find each of them asleep, and none
    has been awake between them, as a thread is that waits for its turn at the interpreter.  One that has ended counts
    as asleep.  False when that was not so within `seconds`."""
    deadline = time.monotonic() + seconds
    before: list[str | None] = []
    same = 0
    while same < 3:
        now = [_asleep(thread) for thread in threads]
        same = same + 1 if now == before and None not in now else 0
        before = now
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def from_thread(fn: Callable[[], Any], *, once_asleep: bool = False) -> threading.Thread:
    """Start a thread that calls `fn`, with `once_asleep` as soon as the calling thread sleeps (one that polls never
    does, and is waited for in vain for two seconds); the caller joins it."""
    caller = threading.get_native_id()

    def call() -> None:
        if once_asleep:
            wait_asleep(caller)
        fn()

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def digest(data: bytes | str) -> str:
    """A short checksum, for logs."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:16]


def pattern(size: int) -> bytes:
    """`size` bytes that no shift, loss or repetition leaves the same."""
    return hashlib.shake_128(b"pattern").digest(size)


def outcome(future: asyncio.Future[Any]) -> str:
    """How a finished future ended, as a word for logs."""
    if future.cancelled():
        return "cancelled"
    exc = future.exception()
    return f"result {future.result()!r}" if exc is None else f"{type(exc).__name__}: {exc}"


def want_descriptors(n: int) -> None:
    """Raise the soft limit of descriptors to at least `n`; `Unsupported` where the hard one is lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= n:
        return
    if hard != resource.RLIM_INFINITY and hard < n:
        raise Unsupported(f"{n} descriptors (the hard limit is {hard})")
    resource.setrlimit(resource.RLIMIT_NOFILE, (n, hard))
