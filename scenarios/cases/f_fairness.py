"""Group F: fairness between the guest and its host.

Each figure of the host with a guest in it is judged as excess over the same host, under the same load of its own,
without a guest: measured in the same process, before each attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import socket
import statistics
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from ..api import CaseContext, Unsupported, case
from ..hostside import Slowness, attempts, host_ticks, quantile, soon
from ..support import socket_pair, want_descriptors

LATE = 0.020
"""Seconds (times the scale) that a host timer may be later, at the 99th percentile, than without a guest."""
FRAMES = 0.8
"""The least share of the bare host's frames."""


@dataclasses.dataclass
class Host:
    """What was measured of the host."""

    p99: float
    """Lateness of a 10 ms timer, seconds."""
    worst: float
    ticks: int
    rate: float | None
    """Frames a second; None without a window."""
    floods: float
    """Runs of the host's flood a second."""
    slow: float
    """`Slowness` meanwhile."""


class Probe:
    """A 10 ms host timer, the frames, and a flood of the host's own: measured from `begin` to `end`, both called
    in a callback of the host or in a turn."""

    def __init__(self, t: CaseContext, flood: str | None = None) -> None:
        self._t = t
        self._flood = flood

    def begin(self) -> None:
        abilities = self._t.driver.abilities
        self._frames = self._t.driver.frames() if "paint" in abilities else None
        self._ticks = host_ticks(self._t)
        self._stop = self._t.driver.flood(self._flood) if self._flood else lambda: 0
        self._slowness = Slowness()
        self._began = time.monotonic()

    def end(self) -> Host:
        seconds = time.monotonic() - self._began
        slow = self._slowness()
        floods = self._stop()
        late = self._ticks.stop()
        frames = self._frames.stop() if self._frames is not None else None
        return Host(
            quantile(late, 0.99),
            quantile(late, 1.0),
            len(late),
            frames / seconds if frames is not None else None,
            floods / seconds,
            slow,
        )


def _bare(t: CaseContext, seconds: float, flood: str | None = None) -> Host:
    """The host on its own."""
    probe = Probe(t, flood)
    result: list[Host] = []

    def first() -> None:
        probe.begin()
        t.driver.host_timer(round(seconds * 1000), last)

    def last() -> None:
        result.append(probe.end())
        t.driver.quit()

    t.driver.host_timer(20, first)
    t.driver.run()
    return result[0]


def _with_guest(t: CaseContext, load: Callable[[], Awaitable[Any]], flood: str | None = None) -> tuple[Host, Any]:
    """The host with a guest that does `load`."""

    async def main() -> tuple[Host, Any]:
        probe = Probe(t, flood)
        probe.begin()
        try:
            value = await load()
        finally:
            host = probe.end()
        return host, value

    return t.run(main)


def _slow(t: CaseContext, host: Host) -> float:
    """What bounds are multiplied with."""
    return max(t.scale, host.slow)


def _judge(t: CaseContext, bare: Host, guest: Host) -> tuple[bool, str, dict[str, float]]:
    figures = {
        "bare timer p99 ms": bare.p99 * 1e3,
        "guest timer p99 ms": guest.p99 * 1e3,
        "guest timer worst ms": guest.worst * 1e3,
    }
    # A guest that is busy all the time is the first to be put off by whatever else the machine does.
    slow = _slow(t, guest)
    figures["guest slowed down by"] = guest.slow
    good, message = True, ""
    if not guest.ticks or guest.p99 > bare.p99 + LATE * slow:
        good, message = False, "the host's timers are late"
    if bare.rate is not None and guest.rate is not None:
        figures |= {"bare frames /s": bare.rate, "guest frames /s": guest.rate}
        if guest.rate < FRAMES * bare.rate / slow:
            good, message = False, "the host's frames are too few"
    return good, message, figures


def _host_survives(t: CaseContext, load: Callable[[], Awaitable[Any]], seconds: float = 1.5) -> None:
    def once() -> tuple[bool, str, dict[str, float]]:
        bare = _bare(t, seconds)
        guest, _ = _with_guest(t, load)
        return _judge(t, bare, guest)

    attempts(t, once)


async def _sleeps(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def _sleeps_for(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        await _sleeps(50)


@case(
    "F.01a-million-sleeps",
    "`sleep(0)` a million times: the host's 10 ms timer is at most 20 ms later (p99), its frames at "
    "least 80 %, of what they are without a guest.",
    needs="host loop window paint timer",
    oracle="own",
    timeout=120,
    rejects="an unbounded ready loop",
)
def million_sleeps(t: CaseContext) -> None:
    _host_survives(t, lambda: _sleeps(1_000_000))


@case(
    "F.01b-thousand-busy-sockets",
    "A thousand sockets that are readable all the time: the same for the host.",
    needs="host loop window paint timer",
    oracle="own",
    timeout=90,
    rejects="an unbounded ready loop",
)
def busy_sockets(t: CaseContext) -> None:
    want_descriptors(1400)
    served = 0

    async def load() -> None:
        nonlocal served
        loop = asyncio.get_running_loop()
        pairs = [socket.socketpair() for _ in range(500)]
        ends = [end for pair in pairs for end in pair]

        def answer(end: socket.socket) -> None:
            nonlocal served
            end.send(end.recv(16))
            served += 1

        try:
            for end in ends:
                end.setblocking(False)
                loop.add_reader(end, answer, end)
                end.send(b"x")
            await asyncio.sleep(1.5)
        finally:
            for end in ends:
                loop.remove_reader(end)
                end.close()

    _host_survives(t, load)
    t.measure("served", served, "messages")
    t.check(served > 2000, "the sockets were not busy", served=served)


@case(
    "F.01c-host-callbacks-under-flood",
    "While tasks flood the loop, each call that the host is asked for comes within the guest's budget and 20 ms.",
    needs="host",
    oracle="own",
    timeout=60,
    rejects="an unbounded ready loop; mutant host-starved",
)
def calls_under_flood(t: CaseContext) -> None:
    def once() -> tuple[bool, str, dict[str, float]]:
        late: list[float] = []
        slowness = Slowness()

        async def main() -> None:
            busy = True

            async def load() -> None:
                while busy:
                    await asyncio.sleep(0)

            tasks = [asyncio.create_task(load()) for _ in range(20)]
            for _ in range(100):
                asked = time.monotonic()
                came = asyncio.get_running_loop().create_future()
                t.driver.call_from_host(lambda: came.set_result(time.monotonic()))
                late.append(await came - asked)
            busy = False
            await asyncio.gather(*tasks)

        t.run(main)
        p95 = quantile(late, 0.95)
        good = p95 <= 0.004 + LATE * max(t.scale, slowness())
        return good, "the host's callbacks are late", {"p95 ms": p95 * 1e3}

    attempts(t, once)


@case(
    "F.01d-many-tasks",
    "Ten thousand tasks that all become ready at once, again and again: the same for the host as for one "
    "that sleeps a million times.",
    tier="full",
    needs="host loop window paint timer",
    oracle="own",
    timeout=90,
    rejects="a budget that is looked at only between turns",
)
def many_tasks(t: CaseContext) -> None:
    # One iteration runs all callbacks that were ready at its start: 2000 short ones take about a budget.
    async def load() -> None:
        await asyncio.gather(*(_sleeps_for(1.5) for _ in range(2000)))

    _host_survives(t, load)


async def _timers(seconds: float) -> list[float]:
    """How late a 10 ms sleep of asyncio's is, again and again (seconds)."""
    late: list[float] = []
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while loop.time() < until:
        when = loop.time() + 0.01
        await asyncio.sleep(0.01)
        late.append(loop.time() - when)
    return late


async def _echoes(seconds: float) -> int:
    """Round trips through a pair of sockets; each waits for the loop twice."""
    loop = asyncio.get_running_loop()
    count = 0

    async def serve(end: socket.socket) -> None:
        while data := await loop.sock_recv(end, 10):
            await loop.sock_sendall(end, data)

    with socket_pair() as (a, b):
        server = asyncio.create_task(serve(b))
        until = loop.time() + seconds
        while loop.time() < until:
            await loop.sock_sendall(a, b"x")
            await loop.sock_recv(a, 10)
            count += 1
        server.cancel()
        await asyncio.wait([server])
    return count


def _guest_survives(t: CaseContext, kind: str) -> None:
    """Under the host's own flood asyncio's timers are as late as the host's own are without a guest, and a bit."""
    if kind not in t.driver.flood_kinds:
        raise Unsupported(f"flood of {kind}")

    def once() -> tuple[bool, str, dict[str, float]]:
        bare = _bare(t, 1.0, kind)
        host, late = _with_guest(t, lambda: _timers(1.5), kind)
        p95 = quantile(late, 0.95)
        good, message, figures = _judge(t, bare, host)
        figures |= {"asyncio timers": len(late), "asyncio p95 ms": p95 * 1e3}
        figures |= {"bare flood /s": bare.floods, "guest flood /s": host.floods}
        if p95 > bare.p99 + 0.03 * _slow(t, host):
            good, message = False, "asyncio's timers are late under the host's flood"
        return good, message, figures

    attempts(t, once)


@case(
    "F.02a-flood-of-host-timers",
    "Under an endless chain of zero-delay host timers asyncio's 10 ms timers stay within 30 ms of the "
    "bare host's own; the host loses nothing by it.",
    needs="host loop window paint timer flood",
    oracle="own",
    timeout=60,
    rejects="a guest fixed at a priority below the host's timers",
)
def flood_of_timers(t: CaseContext) -> None:
    _guest_survives(t, "timer")


@case(
    "F.02b-flood-of-idle-work",
    "The same under endless idle work of the host's.",
    needs="host loop window paint timer flood",
    oracle="own",
    timeout=60,
    rejects="a guest that runs only when the host is idle",
)
def flood_of_idle(t: CaseContext) -> None:
    _guest_survives(t, "idle")


@case(
    "F.02c-flood-of-events",
    "The same under endless events that the host posts to itself.",
    needs="host loop window paint timer flood",
    oracle="own",
    timeout=60,
    rejects="a guest that runs only when the host's queue is empty",
)
def flood_of_events(t: CaseContext) -> None:
    _guest_survives(t, "event")


@case(
    "F.02d-flood-of-host-calls",
    "Under an endless chain of host callbacks, each asking for the next, asyncio's 10 ms timers and its sockets go on.",
    needs="host",
    oracle="own",
    timeout=60,
    rejects="a guest that is served after the host's callbacks only when there are none; mutant asyncio-starved",
)
def flood_of_calls(t: CaseContext) -> None:
    def once() -> tuple[bool, str, dict[str, float]]:
        async def main() -> tuple[list[float], int, int]:
            calls = 0
            busy = True

            def again() -> None:
                nonlocal calls
                calls += 1
                if busy:
                    t.driver.call_from_host(again)

            t.driver.call_from_host(again)
            echoes = asyncio.create_task(_echoes(1.0))
            late = await _timers(1.0)
            result = late, await echoes, calls
            busy = False
            await asyncio.sleep(0.05)
            return result

        slowness = Slowness()
        late, echoes, calls = t.run(main)
        slow = max(t.scale, slowness())
        p95 = quantile(late, 0.95)
        figures = {"p95 ms": p95 * 1e3, "echoes": echoes, "calls": calls}
        good = p95 <= 0.03 * slow and echoes > 50 / slow and calls > 50 / slow
        return good, "one side starves the other", figures

    attempts(t, once)


def _both(t: CaseContext, kind: str) -> None:
    if kind not in t.driver.flood_kinds:
        raise Unsupported(f"flood of {kind}")

    def once() -> tuple[bool, str, dict[str, float]]:
        bare = _bare(t, 1.0, kind)

        async def load() -> tuple[list[float], int]:
            rounds = 0

            async def flood() -> None:
                nonlocal rounds
                while True:
                    await asyncio.sleep(0)
                    rounds += 1

            tasks = [asyncio.create_task(flood()) for _ in range(3)]
            late = await _timers(1.5)
            for task in tasks:
                task.cancel()
            return late, rounds

        host, (late, rounds) = _with_guest(t, load, kind)
        p95 = quantile(late, 0.95)
        good, message, figures = _judge(t, bare, host)
        figures |= {"asyncio p95 ms": p95 * 1e3, "sleeps": rounds}
        figures |= {"bare flood /s": bare.floods, "guest flood /s": host.floods}
        if p95 > bare.p99 + 0.03 * _slow(t, host):
            good, message = False, "asyncio's timers are late under both floods"
        if rounds < 1000 / _slow(t, host) or host.floods < 10 / _slow(t, host):
            good, message = False, "one flood starves the other"
        return good, message, figures

    attempts(t, once)


@case(
    "F.03a-both-floods-timers",
    "Both sides flood, the host with timers: both go on, timers of both within their bounds, frames at "
    "least 80 % of the bare flood's.",
    needs="host loop window paint timer flood",
    oracle="own",
    timeout=60,
    rejects="strict priority of either side",
)
def both_timers(t: CaseContext) -> None:
    _both(t, "timer")


@case(
    "F.03b-both-floods-idle",
    "Both sides flood, the host with idle work: the same.",
    needs="host loop window paint timer flood",
    oracle="own",
    timeout=60,
    rejects="strict priority of either side",
)
def both_idle(t: CaseContext) -> None:
    _both(t, "idle")


@case(
    "F.03c-both-floods-events",
    "Both sides flood, the host with posted events: the same.",
    tier="full",
    needs="host loop window paint timer flood",
    oracle="own",
    timeout=60,
    rejects="strict priority of either side",
)
def both_events(t: CaseContext) -> None:
    _both(t, "event")


@case(
    "F.04-overrun-is-reported",
    "A callback that blocks for 60 ms is seen in the guest's counters: as an overrun, and as the longest turn.",
    needs="counters",
    oracle="own",
    rejects="a budget that hides what it cannot prevent",
)
async def overrun(t: CaseContext) -> None:
    await asyncio.sleep(0.01)
    before = t.counters()
    asyncio.get_running_loop().call_soon(time.sleep, 0.06)
    await asyncio.sleep(0.01)
    await asyncio.sleep(0.01)
    after = t.counters()
    t.check(after["over_budget"] > before["over_budget"], "the overrun was not counted", after=after["over_budget"])
    longest = after["longest_turn_ns"]
    t.check(longest >= 59_000_000, "the longest turn is shorter than it was", ns=longest)
    for _ in range(40):
        await asyncio.sleep(0.002)
    more = t.counters()["over_budget"] - after["over_budget"]
    t.check(more < 20, "overruns are counted where there are none", more=more)


@case(
    "F.05-painted-frames",
    "Frames are changes of the screen: none is counted while the host cannot paint, although its timers "
    "run; with a guest at work at least 80 % of the bare host's.",
    needs="host loop window paint timer",
    oracle="own",
    timeout=60,
    rejects="a frame counter that counts timers",
)
def painted(t: CaseContext) -> None:
    stalled: list[int] = []

    def block() -> None:
        frames = t.driver.frames()
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            pass
        stalled.append(frames.stop())
        t.driver.quit()

    t.driver.host_timer(20, block)
    t.driver.run()
    t.check(stalled[0] <= 1, "frames were counted while nothing could paint", frames=stalled[0])
    _host_survives(t, lambda: _echoes(1.5))


@case(
    "F.06-excess-over-the-bare-flood",
    "Under each of the host's floods, with a guest that is never idle, timers and frames are as under the bare flood, "
    "and the flood itself goes on at least once in two of the guest's budgets.",
    needs="host loop window paint timer flood",
    oracle="own",
    timeout=90,
    rejects="a guest that takes a budget for each of the host's callbacks",
)
def excess(t: CaseContext) -> None:
    for kind in t.driver.flood_kinds:

        def once() -> tuple[bool, str, dict[str, float]]:
            bare = _bare(t, 0.7, kind)
            host, echoes = _with_guest(t, lambda: _echoes(0.7), kind)
            good, message, figures = _judge(t, bare, host)
            figures = {f"{kind}: {name}": value for name, value in figures.items()}
            figures |= {f"{kind}: left of flood": host.floods / bare.floods, f"{kind}: echoes": echoes}
            # A guest that is never idle may spend its budget (4 ms) between two steps of the host's.
            if host.floods < min(bare.floods / 3, 125 / _slow(t, host)):
                good, message = False, "too little is left of the host's flood"
            if echoes < 20 / _slow(t, host):
                good, message = False, "the guest starves"
            return good, message, figures

        attempts(t, once)


@contextlib.asynccontextmanager
async def _forgotten() -> AsyncIterator[None]:
    """A descriptor that the selector's set keeps reporting as readable and of which the loop knows nothing: it was
    closed before it was removed, while a duplicate keeps it alive."""
    loop = asyncio.get_running_loop()
    a, b = os.pipe()
    loop.add_reader(a, lambda: None)
    kept = os.dup(a)
    os.close(a)
    loop.remove_reader(a)
    os.write(b, b"x")
    try:
        yield
    finally:
        os.close(kept)
        os.close(b)


@case(
    "F.07a-forgotten-descriptor",
    "A descriptor that stays readable and that the loop has forgotten does not freeze the host: timers "
    "and frames as without a guest, asyncio goes on.",
    needs="host loop window paint timer",
    oracle="own",
    timeout=60,
    report="gbulb#47",
    rejects="a level-triggered descriptor at a priority above redraws",
)
def forgotten(t: CaseContext) -> None:
    async def load() -> list[float]:
        async with _forgotten():
            return await _timers(1.5)

    def once() -> tuple[bool, str, dict[str, float]]:
        bare = _bare(t, 1.0)
        guest, late = _with_guest(t, load)
        good, message, figures = _judge(t, bare, guest)
        p95 = quantile(late, 0.95)
        figures["asyncio p95 ms"] = p95 * 1e3
        if p95 > 0.03 * _slow(t, guest):
            good, message = False, "asyncio's timers are late"
        return good, message, figures

    attempts(t, once)


@case(
    "F.07b-forgotten-descriptor-and-host-calls",
    "The same, judged by the host's callbacks: each comes within 20 ms; and it is noticed as spurious.",
    needs="host",
    oracle="own",
    report="gbulb#47",
    rejects="a turn that waits for work it was woken for",
)
async def forgotten_calls(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    late: list[float] = []
    slowness = Slowness()
    async with _forgotten():
        for _ in range(30):
            asked = time.monotonic()
            came = loop.create_future()
            t.driver.call_from_host(lambda: came.set_result(time.monotonic()))
            late.append(await came - asked)
            await asyncio.sleep(0.003)
    t.measure("median", statistics.median(late) * 1e3, "ms")
    p80 = quantile(late, 0.8)
    t.check(p80 <= LATE * max(t.scale, slowness()), "the host's callbacks are late", p80=p80)


@case(
    "F.08a-beside-a-busy-thread",
    "Beside a Python thread that burns the CPU: how late the timers of both sides are, and how many frames are left.",
    level="INFO",
    tier="full",
    needs="host loop window paint timer threads",
    oracle="own",
    timeout=60,
)
def busy_thread(t: CaseContext) -> None:
    stop = threading.Event()

    def burn() -> None:
        x = 1
        while not stop.is_set():
            for _ in range(1000):
                x = x * 3 % 1000003

    thread = threading.Thread(target=burn)
    thread.start()
    try:
        bare = _bare(t, 1.5)
        guest, late = _with_guest(t, lambda: _timers(1.5))
    finally:
        stop.set()
        thread.join()
    for name, value in _judge(t, bare, guest)[2].items():
        t.measure(name, value, "")
    t.measure("asyncio p95", quantile(late, 0.95) * 1e3, "ms")
    t.check(len(late) > 5 and guest.ticks > 5, "somebody stood still", asyncio=len(late), host=guest.ticks)


@case(
    "F.08b-beside-a-busy-thread-calls",
    "The same, judged by the host's callbacks.",
    level="INFO",
    tier="full",
    needs="host threads",
    oracle="own",
    timeout=60,
)
async def busy_thread_calls(t: CaseContext) -> None:
    stop = threading.Event()

    def burn() -> None:
        while not stop.is_set():
            sum(range(1000))

    thread = threading.Thread(target=burn)
    thread.start()
    late: list[float] = []
    try:
        for _ in range(50):
            came = asyncio.get_running_loop().create_future()
            asked = time.monotonic()
            soon(t, lambda: came.set_result(time.monotonic()), 1)
            late.append(await came - asked)
    finally:
        stop.set()
        thread.join()
    t.measure("median", statistics.median(late) * 1e3, "ms")
    t.measure("p95", quantile(late, 0.95) * 1e3, "ms")
    t.check(len(late) == 50, "host callbacks were lost", came=len(late))
