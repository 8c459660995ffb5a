"""What the cases about the host's side share.  Imports the standard library only."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import queue
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from .api import CaseContext, Outcome, Started
from .support import other_threads, wait_asleep

AT_ONCE = 0.25
"""Seconds (times the scale) that count as at once: a liveness bound, speed is measured elsewhere."""


def soon(t: CaseContext, fn: Callable[[], Any], ms: int = 5) -> None:
    """Call `fn` from a host callback when the host has had time to go to sleep, where it has timers;
    otherwise from its next callback."""
    if "timer" in t.driver.abilities:
        t.driver.host_timer(ms, fn)
    else:
        t.driver.call_from_host(fn)


async def from_host(t: CaseContext, fn: Callable[[], Any], ms: int = 5) -> Any:
    """Await what `fn` returns in a host callback; an exception out of it is raised here."""
    future = asyncio.get_running_loop().create_future()

    def call() -> None:
        try:
            result = fn()
        except BaseException as exc:
            if not future.done():
                future.set_exception(exc)
        else:
            if not future.done():
                future.set_result(result)

    soon(t, call, ms)
    return await future


def drive(t: CaseContext, ended: list[Any], seconds: float = 10.0) -> None:
    """Run the host's main loop until something is in `ended` (whoever puts it there calls
    ``t.driver.quit()``); after `seconds` the case fails."""
    guard = None
    if "timer" in t.driver.abilities:
        guard = t.driver.host_timer(int(seconds * t.scale * 1000), t.driver.quit)
    if not ended:
        t.driver.run()
    if guard is not None and ended:
        with contextlib.suppress(Exception):  # the host may have died with the guest
            guard.cancel()
    t.check(ended, "the guest did not end")


def quantile(values: list[float], q: float) -> float:
    """The `q` quantile of `values` (the largest for q=1); infinite where there are none."""
    if not values:
        return float("inf")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def attempts(t: CaseContext, once: Callable[[], tuple[bool, str, dict[str, float]]], count: int = 3) -> None:
    """Call `once` until it answers True, at most `count` times; all its figures are recorded.

    `once` returns whether the bound was kept, what was missed otherwise, and the figures.  For
    liveness bounds on machines that are busy with something else as well."""
    for number in range(1, count + 1):
        good, message, figures = once()
        for name, value in figures.items():
            t.measure(f"{name} #{number}", value, name.rpartition(" ")[2])
        if good:
            return
    t.check(False, f"{message} ({count} attempts)", **figures)


def switches() -> int:
    """The context switches of this process so far, all its threads together, voluntary and not."""
    total = 0
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/status", encoding="ascii") as status:
            for line in status:
                if "ctxt_switches" in line:
                    total += int(line.split()[1])
    return total


class Slowness:
    """How much slower than alone this thread has been since the object was made: 1 on a quiet machine, 2 where it
    waited for a processor half of the time.  What the thread waits for itself does not count."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._waited = self._wait()

    @staticmethod
    def _wait() -> float:
        try:
            with open("/proc/thread-self/schedstat", encoding="ascii") as file:
                return int(file.read().split()[1]) / 1e9
        except OSError:
            return 0.0  # not that kind of Linux: the scale alone has to do

    def __call__(self) -> float:
        wall = time.monotonic() - self._began
        share = 1.0 - (self._wait() - self._waited) / wall if wall > 0 else 1.0
        return 1.0 / min(1.0, max(share, 0.1))


def host_only(t: CaseContext, seconds: float, begin: Callable[[], Any], end: Callable[[], Any]) -> None:
    """Run the host with no guest in it for `seconds`: `begin` and `end` are called from its callbacks
    (for a host without timers: around a poll(2) that waits for nothing)."""
    if "timer" in t.driver.abilities:

        def first() -> None:
            begin()
            t.driver.host_timer(round(seconds * 1000), last)

        def last() -> None:
            end()
            t.driver.quit()

        t.driver.host_timer(50, first)
        t.driver.run()
    else:
        begin()
        select.poll().poll(round(seconds * 1000))
        end()


@dataclasses.dataclass
class Ticks:
    """How late the ticks of a host timer were (seconds)."""

    late: list[float]
    timer: Any

    def stop(self) -> list[float]:
        self.timer.cancel()
        return self.late


def host_ticks(t: CaseContext, ms: int = 10) -> Ticks:
    """Start a repeating host timer of `ms` milliseconds that notes how late each tick is."""
    last = time.monotonic()

    def tick() -> None:
        nonlocal last
        now = time.monotonic()
        ticks.late.append(now - last - ms / 1000)
        last = now

    ticks = Ticks([], None)
    ticks.timer = t.driver.host_timer(ms, tick, repeat=True)
    return ticks


@contextlib.contextmanager
def default_sigint() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, as in an interpreter started from a terminal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_KILLER = """
import os, sys, time
pid, number, count, gap = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
print("ready", flush=True)
for line in sys.stdin:
    time.sleep(float(line))
    for i in range(count):
        before = time.monotonic()
        os.kill(pid, number)
        if gap:
            time.sleep(gap)
    print(repr(before), flush=True)
"""


class Killer:
    """Another process that sends a signal to this one, so that nothing in this one has to run for it.

    `send` asks for `count` signals, `gap` seconds apart, after a delay; `sent` is the moment
    (``time.monotonic``) of the last one.  A context manager."""

    def __init__(self, number: int = signal.SIGINT, *, count: int = 1, gap: float = 0.0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _KILLER, str(os.getpid()), str(int(number)), str(count), str(gap)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Of its own group: what a terminal's Ctrl-C does to the group must not end it.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError("the process that sends signals did not start")

    def send(self, delay: float = 0.0) -> None:
        """Ask for the signals, `delay` seconds from now."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{delay}\n")
        self._process.stdin.flush()

    def sent(self) -> float:
        """When the last signal of one `send` was sent; waits for it."""
        assert self._process.stdout is not None
        return float(self._process.stdout.readline())

    def __enter__(self) -> Killer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


class QueueHost:
    """A main loop that is a queue of functions; the case itself decides when they are called, and which."""

    def __init__(self, t: CaseContext) -> None:
        self.t = t
        self.functions: queue.Queue[Callable[[], Any]] = queue.Queue()
        self.posts = 0
        self.ended: list[Outcome] = []

    def post(self, fn: Callable[[], Any]) -> None:
        """The host's ``run_sync_soon_threadsafe``."""
        self.posts += 1
        self.functions.put(fn)

    def start(self, main: Callable[..., Any], *args: Any, **options: Any) -> Started:
        options = {"run_sync_soon_threadsafe": self.post, "done_callback": self.ended.append, **options}
        return self.t.start_guest_run(main, *args, **options)

    def step(self, seconds: float = 0.0) -> bool:
        """Wait for one function and call it; False when none came."""
        try:
            fn = self.functions.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return False
        fn()
        return True

    def run(self, seconds: float = 5.0, until: Callable[[], Any] | None = None) -> None:
        """Call functions until the guest has ended, or `until` holds; then see that it has."""
        deadline = time.monotonic() + seconds * self.t.scale
        while not (self.ended if until is None else until()) and time.monotonic() < deadline:
            self.step(min(0.05, deadline - time.monotonic()) if until else deadline - time.monotonic())
        if until is None:
            self.t.check(self.ended, "the guest did not end")
        else:
            self.t.check(until(), "what was waited for did not come")

    def rest(self, seconds: float = 5.0) -> None:
        """Call functions until none is left and all other threads sleep: the guest waits, and goes on only for what
        comes after this, or for a timer."""
        deadline = time.monotonic() + seconds * self.t.scale
        asleep = False
        while not asleep or not self.functions.empty():
            self.t.check(time.monotonic() < deadline, "the guest does not come to rest", posts=self.posts)
            while self.step():
                pass
            asleep = wait_asleep(*other_threads())

    def result(self) -> Any:
        """Run to the end of the guest, and what is left in the queue too; what the guest returned or raised."""
        self.run()
        while self.step():
            pass
        self.t.check(len(self.ended) == 1, "done_callback was called more than once", calls=len(self.ended))
        return self.ended[0].unwrap()
