"""Group T: timers."""

from __future__ import annotations

import asyncio
import gc
import math
import random
import sys
import time
import weakref
from fractions import Fraction
from typing import Any

from ..api import CaseContext, case
from ..support import from_thread, iterations, outcome, spin_until

RESOLUTION = time.get_clock_info("monotonic").resolution


def _check_not_early(t: CaseContext, loop: asyncio.AbstractEventLoop, when: float) -> None:
    now = loop.time()
    t.check(now >= when - RESOLUTION, "a timer fired early", early_by=when - now)


@case(
    "T.01a-equal-deadlines",
    "Callbacks that share one deadline all run, each exactly once.",
    rejects="timers kept in a dictionary by deadline",
)
async def equal_deadlines(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    when = loop.time() + 0.01
    done = asyncio.Event()
    left = 40

    def fired(i: int) -> None:
        nonlocal left
        _check_not_early(t, loop, when)
        t.log("fired", i, actor=f"timer {i}")
        left -= 1
        if not left:
            done.set()

    for i in range(40):
        loop.call_at(when, fired, i)
    await done.wait()
    await iterations(3)


@case(
    "T.01b-equal-deadlines-order",
    "Callbacks that share one deadline run in the order that plain asyncio's heap gives them.",
    level="SHOULD",
    rejects="one native timer for each callback",
)
async def equal_deadlines_order(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    when = loop.time() + 0.01
    done = loop.create_future()
    for i in range(20):
        loop.call_at(when, t.log, "fired", i)
    loop.call_at(when + 0.005, done.set_result, None)
    await done


@case(
    "T.01c-deadlines-closer-than-a-millisecond",
    "Callbacks whose deadlines lie 50 microseconds apart run in the order of their deadlines, however they were set.",
    rejects="deadlines rounded to milliseconds before they are sorted",
)
async def close_deadlines(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    base = loop.time() + 0.02
    order = list(range(60))
    random.Random(7).shuffle(order)
    done = loop.create_future()
    for i in order:
        loop.call_at(base + i * 50e-6, t.log, "fired", i)
    loop.call_at(base + 60 * 50e-6, done.set_result, None)
    await done


@case(
    "T.02a-never-early",
    "No timer fires before its deadline, less one resolution of the clock.",
    report="uvloop#739",
    rejects="deadlines rounded down to the host's milliseconds",
)
async def never_early(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    rng = random.Random(11)
    waiting = []
    for _ in range(150):
        delay = rng.uniform(0.0001, 0.15)
        future = loop.create_future()

        def fire(future: asyncio.Future[None], when: float) -> None:
            late = loop.time() - when
            if late < -RESOLUTION:
                future.set_exception(AssertionError(f"early by {-late} s"))
            else:
                future.set_result(None)

        when = loop.time() + delay
        loop.call_at(when, fire, future, when)
        waiting.append(future)
    await asyncio.gather(*waiting)
    t.log("all in time", len(waiting))


@case(
    "T.02b-never-early-under-load",
    "No timer fires early while the loop never sleeps.",
    rejects="timers fired by a budgeted turn that reads its clock ahead; mutant timer-early",
)
async def never_early_under_load(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    fired = 0
    finished = loop.create_future()

    def fire(when: float) -> None:
        nonlocal fired
        if loop.time() < when - RESOLUTION:
            finished.set_exception(AssertionError("early"))
        fired += 1
        if fired == 80 and not finished.done():
            finished.set_result(None)

    for i in range(80):
        when = loop.time() + 0.0007 * (i + 1)
        loop.call_at(when, fire, when)
    while not finished.done():
        await asyncio.sleep(0)
    finished.result()
    t.log("fired", fired)


@case(
    "T.03a-zero-and-negative",
    "Delays of zero and less run in the next iteration, after what was ready before, earliest deadline first.",
    rejects="a negative delay handed to the host as an unsigned one; mutant timers-reversed",
)
async def zero_and_negative(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_later(0, t.log, "zero")
    loop.call_later(-5, t.log, "minus five")
    loop.call_later(-1e300, t.log, "minus 1e300")
    loop.call_at(-math.inf, t.log, "minus infinity")
    loop.call_soon(t.log, "soon")
    loop.call_soon(loop.call_soon, done.set_result, None)
    await done
    for delay in (0, 0.0, -1, -math.inf):
        await asyncio.sleep(delay)
        t.log("slept", repr(delay))


@case(
    "T.03b-huge-and-infinite",
    "Infinite and huge delays wait without harm: other timers fire, and the waits can be cancelled.",
    report="qasync#84",
    rejects="a delay converted to an int of milliseconds",
)
async def huge_and_infinite(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    handles = [
        loop.call_later(1e300, t.log, "never 1e300"),
        loop.call_later(sys.float_info.max, t.log, "never max"),
        loop.call_later(math.inf, t.log, "never inf"),
        loop.call_at(math.inf, t.log, "never at inf"),
        loop.call_later(2.0**31 / 1000, t.log, "never 2^31 ms"),
        loop.call_later(2.0**32 / 1000 + 0.001, t.log, "never 2^32 ms"),
        loop.call_later(2.0**63 / 1e9, t.log, "never 2^63 ns"),
        loop.call_later(2.0**64 / 1e9 + 1, t.log, "never 2^64 ns"),
    ]
    forever = asyncio.create_task(asyncio.sleep(math.inf))
    for i in range(3):
        await asyncio.sleep(0.005)
        t.log("short sleep ended", i)
    t.log("forever done", forever.done())
    forever.cancel()
    await asyncio.wait([forever])
    t.log("forever", outcome(forever))
    for handle in handles:
        handle.cancel()
    await asyncio.sleep(0.002)


@case(
    "T.03c-only-an-infinite-timer",
    "A loop that has nothing but an infinite timer can still be woken by another thread.",
    needs="threads",
    rejects="an infinite deadline that wraps and never sleeps, or sleeps deaf",
)
async def only_infinite(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    woken = loop.create_future()
    handle = loop.call_later(math.inf, t.log, "never")
    thread = from_thread(lambda: loop.call_soon_threadsafe(woken.set_result, "from a thread"), once_asleep=True)
    t.log("woken", await woken)
    thread.join()
    handle.cancel()


@case(
    "T.04-no-rounding-down",
    "Sleeps of fractions of a millisecond take at least as long as they say.",
    report="PYSIDE-2644",
    rejects="a delay truncated to whole milliseconds",
)
async def no_rounding_down(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    for delay in (0.0001, 0.0005, 0.0009, 0.00101, 0.00149, 0.0015, 0.00199, 0.0029):
        for _ in range(4):
            start = loop.time()
            await asyncio.sleep(delay)
            took = loop.time() - start
            t.check(took >= delay - RESOLUTION, "a sleep was cut short", delay=delay, took=took)
        t.log("slept", delay)


@case(
    "T.05a-cancelled-timers-are-purged",
    "Cancelled timers are let go of, though their deadlines are an hour away, once they are many and the most.",
    rejects="the reference bridge, where cancelled timers pile up; mutant timers-not-purged",
)
async def purged(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    # Behind timers that are kept: those at the head of the heap go one by one, without a purge.
    kept = [loop.call_later(1800 + i, t.log, "never") for i in range(60)]
    doomed = [loop.call_later(3600 + i, t.log, "never") for i in range(300)]
    refs = [weakref.ref(handle) for handle in doomed]
    for handle in doomed:
        handle.cancel()
    del doomed, handle
    await asyncio.sleep(0.002)
    await iterations(2)
    gc.collect()
    t.check(
        not any(ref() for ref in refs), "cancelled timers are still held", held=sum(ref() is not None for ref in refs)
    )
    t.log("kept", sum(not handle.cancelled() for handle in kept))
    for handle in kept:
        handle.cancel()


@case(
    "T.05b-timers-after-a-purge",
    "Timers that survive a purge, and timers set after it, fire in order and in time.",
    rejects="an engine that holds the list of timers from before the purge",
)
async def after_a_purge(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    base = loop.time() + 0.08
    survivors = list(range(50))
    random.Random(3).shuffle(survivors)
    doomed = []
    done = loop.create_future()
    for i in survivors:
        loop.call_at(base + i * 1e-4, t.log, "survivor", i)
        doomed += [loop.call_later(60 + i + k, t.log, "never") for k in range(4)]
    for handle in doomed:
        handle.cancel()
    await iterations(2)
    loop.call_at(base + 1.0, t.log, "never")
    loop.call_at(base - 0.03, t.log, "set after the purge, first")
    loop.call_at(base + 60e-4, t.log, "set after the purge, last")
    loop.call_at(base + 65e-4, done.set_result, None)
    await done


@case(
    "T.05c-purge-inside-a-callback-storm",
    "A program that sets and cancels timers all the time, as timeouts do, loses none of those it keeps.",
    rejects="a cached number of timers",
)
async def set_and_cancel(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    kept = []
    for round_ in range(40):
        handles = [loop.call_later(30, t.log, "never") for _ in range(20)]
        kept.append(asyncio.create_task(asyncio.sleep(0.004, round_)))
        await asyncio.sleep(0)
        for handle in handles:
            handle.cancel()
    t.log("results", await asyncio.gather(*kept))


@case(
    "T.06-ten-thousand-timers",
    "Ten thousand timers set in random order all fire, in the order of their deadlines.",
    rejects="one native timer for each callback",
)
async def ten_thousand(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    base = loop.time() + 0.03
    order = list(range(10_000))
    random.Random(5).shuffle(order)
    fired: list[int] = []
    for i in order:
        loop.call_at(base + i * 2e-6, fired.append, i)
    done = loop.create_future()
    loop.call_at(base + 10_000 * 2e-6, done.set_result, None)
    await done
    t.check(fired == sorted(fired), "timers fired out of order")
    t.log("fired", len(fired))


@case(
    "T.07-moment-in-the-past",
    "`call_at` with a moment in the past runs in the next iteration, and never synchronously.",
    rejects="a host timer armed with a wrapped-around delay",
)
async def in_the_past(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    now = loop.time()
    loop.call_at(now - 1, t.log, "a second ago")
    loop.call_at(0, t.log, "at zero")
    loop.call_at(-3600, t.log, "an hour before")  # than zero, however long the machine has been on
    t.log("nothing ran yet")
    loop.call_soon(t.log, "soon")
    loop.call_soon(loop.call_soon, done.set_result, None)
    await done


@case(
    "T.08-handles",
    "`when()` is the deadline and `cancelled()` the truth: before, after firing, after cancelling.",
    rejects="qasync, whose handles have no when()",
)
async def handles(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    when = loop.time() + 0.005
    at = loop.call_at(when, t.log, "fired")
    before = loop.time()
    later = loop.call_later(0.5, t.log, "never")
    after = loop.time()
    t.check(at.when() == when, "call_at's handle has another deadline", difference=at.when() - when)
    t.check(before + 0.5 <= later.when() <= after + 0.5, "call_later's handle has another deadline")
    t.log("types", [isinstance(h, asyncio.TimerHandle) for h in (at, later)])
    t.log("cancelled", [at.cancelled(), later.cancelled()])
    t.log("ordered", [at < later, later > at, at == later, at <= later])
    later.cancel()
    later.cancel()
    t.log("cancelled", [at.cancelled(), later.cancelled()])
    await asyncio.sleep(0.01)
    t.log("cancelled after firing", at.cancelled())
    t.check(at.when() == when, "a fired handle has lost its deadline")
    at.cancel()
    t.log("cancelled after all", at.cancelled())


@case(
    "T.09-one-wake-for-one-deadline",
    "A thousand timers with one deadline all run in one iteration.",
    report="toga#4532",
    rejects="one host timer, and one wake, for each callback",
)
async def one_wake(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    when = loop.time() + 0.02
    trace: list[str] = []
    done = loop.create_future()

    def fire() -> None:
        trace.append("timer")
        loop.call_soon(trace.append, "next iteration")

    for _ in range(1000):
        loop.call_at(when, fire)
    loop.call_at(when + 0.01, done.set_result, None)
    await done
    await iterations(2)
    t.check(trace == ["timer"] * 1000 + ["next iteration"] * 1000, "the timers took more than one iteration")
    t.log("trace", len(trace))


@case(
    "T.10a-earlier-timer-from-a-host-callback",
    "A timer set by a host callback, earlier than the one the loop waits for, fires in time.",
    needs="host",
    oracle="own",
    report="asyncio-glib#3",
    rejects="a loop that looks at its timers only when it is woken",
)
async def earlier_from_host(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    far = loop.call_later(3600, t.log, "never")
    for i in range(3):
        fired = loop.create_future()
        t.driver.call_from_host(lambda fired=fired: loop.call_later(0.01, fired.set_result, loop.time()))
        started = await fired
        took = loop.time() - started
        t.check(0.01 - RESOLUTION <= took < 1.0 * t.scale, "a timer set by the host was not in time", took=took)
        t.log("fired", i)
    far.cancel()


@case(
    "T.10b-earlier-timer-from-a-thread",
    "A timer set by a callback that another thread sent, earlier than the one the loop waits for, fires in time.",
    needs="threads",
    rejects="a deadline that is armed once a sleep",
)
async def earlier_from_thread(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    for i in range(3):
        # The loop sleeps until then when the thread calls; one that sleeps on wakes for it, and is late.
        far = loop.call_later(5 * t.scale, lambda: None)
        fired = loop.create_future()
        thread = from_thread(
            lambda fired=fired: loop.call_soon_threadsafe(lambda: loop.call_later(0.01, fired.set_result, loop.time())),
            once_asleep=True,
        )
        started = await fired
        took = loop.time() - started
        thread.join()
        t.check(took < 1.0 * t.scale, "the timer was late", took=took)
        t.log("fired", i)
        far.cancel()


@case(
    "T.10c-earlier-timer-from-a-reader",
    "A timer set by a reader's callback, earlier than all others, fires before them.",
    rejects="a deadline that is armed once a sleep",
)
async def earlier_from_reader(t: CaseContext) -> None:
    from ..support import socket_pair

    loop = asyncio.get_running_loop()
    with socket_pair() as (a, b):
        done = loop.create_future()
        due = loop.time() + 3 * t.scale
        late = loop.call_at(due, lambda: (t.log("the late one"), done.set_result(None)))

        def early() -> None:
            t.log("the early one")
            # A loop that sleeps on until the late one is due runs both then, this one first.
            t.check(loop.time() < due, "the early timer fired no sooner than the late one")
            late.cancel()
            done.set_result(None)

        def readable() -> None:
            t.log("readable", a.recv(1).decode())
            loop.remove_reader(a)
            loop.call_later(0.004, early)

        loop.add_reader(a, readable)
        loop.call_later(0.004, b.send, b"x")
        await done


@case(
    "T.11-clock",
    "The loop's clock never goes back, keeps the pace of the monotonic clock, and ignores the wall clock.",
    rejects="QtAsyncio's wall clock",
)
async def clock(t: CaseContext) -> None:
    from unittest import mock  # slow to import

    loop = asyncio.get_running_loop()
    last = loop.time()
    for _ in range(5000):
        now = loop.time()
        t.check(now >= last, "the clock went back", by=last - now)
        last = now
    mono, mine = time.monotonic(), loop.time()
    wall = time.time()
    with mock.patch("time.time", lambda: wall - 3600):
        for i in range(5):
            await asyncio.sleep(0.004)
            now = loop.time()
            t.check(now >= last, "the clock went back", by=last - now)
            last = now
            t.log("slept", i)
    skew = abs((loop.time() - mine) - (time.monotonic() - mono))
    t.check(skew < 0.05 * t.scale, "the loop's clock runs at another pace", skew=skew)


class _Float(float):
    pass


@case(
    "T.12-kinds-of-numbers",
    "Integers, floats, their subclasses and fractions are delays; strings and None are TypeErrors.",
    report="apscheduler#687",
    rejects="a loop that asks for int milliseconds",
)
async def kinds_of_numbers(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    for delay in (0, False, 0.0021, _Float(0.0021), Fraction(1, 500)):
        fired = loop.create_future()
        start = loop.time()
        loop.call_later(delay, fired.set_result, None)  # type: ignore[arg-type]
        await fired
        t.check(loop.time() - start >= float(delay) - RESOLUTION, "early", delay=delay)
        t.log("call_later", repr(delay))
        await asyncio.sleep(delay)  # type: ignore[arg-type]
        t.log("sleep", repr(delay))
    for bad in ("1", None, [1]):
        try:
            loop.call_later(bad, t.log, "never")  # type: ignore[arg-type]
        except Exception as exc:
            t.log("refused", [repr(bad), type(exc).__name__])
        else:
            t.log("taken", repr(bad))
    t.log("wait_for", await asyncio.wait_for(asyncio.sleep(0, "result"), _Float(20.5)))


async def _ticks(t: CaseContext, n: int) -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    ticks = 0
    done = loop.create_future()

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        when = start + ticks * 0.001
        if loop.time() < when - RESOLUTION:
            done.set_exception(AssertionError(f"tick {ticks} was early"))
        elif ticks == n:
            done.set_result(None)
        else:
            loop.call_at(start + (ticks + 1) * 0.001, tick)

    loop.call_at(start + 0.001, tick)
    await done
    late = loop.time() - (start + n * 0.001)
    t.measure("lateness of the last tick", late, "s")
    t.check(late < 0.5 * t.scale, "the ticks drifted away from their schedule", late=late)
    t.log("ticks", ticks)


@case(
    "T.13a-drift",
    "A hundred ticks at 1 ms keep to their schedule.",
    rejects="lateness that adds up, timer by timer; mutant waiter-not-told",
)
async def drift(t: CaseContext) -> None:
    await _ticks(t, 100)


@case(
    "T.13c-not-late-by-a-tick",
    "Of thirty timers, each set while nothing else is to do, the best is at most 12 ms late: what is late every time "
    "has a cause.",
    rejects="a host that rounds deadlines up to ticks of a clock of its own; mutant timers-late",
)
async def not_late(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    late = []
    for i in range(30):
        fired = loop.create_future()
        when = loop.time() + 0.0013 * (i % 7 + 1)
        loop.call_at(when, lambda fired=fired: fired.set_result(loop.time()))
        late.append(await fired - when)
    t.measure("least lateness", min(late), "s")
    # Not scaled: a slow machine makes some of them late, and not all.
    t.check(min(late) < 0.012, "every timer was late", least=min(late))
    t.log("timers", len(late))


@case(
    "T.13b-drift-of-a-thousand",
    "A thousand ticks at 1 ms keep to their schedule.",
    tier="full",
    rejects="lateness that adds up, timer by timer",
)
async def drift_thousand(t: CaseContext) -> None:
    await _ticks(t, 1000)


@case(
    "T.14a-timeout",
    "`asyncio.timeout` and `timeout_at` raise TimeoutError on expiry, and only then.",
    rejects="a timeout whose cancellation leaks out",
)
async def timeouts(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()

    async def attempt(name: str, cm: Any, awaitable: Any) -> None:
        try:
            async with cm:
                t.log(name, await awaitable)
        except BaseException as exc:
            t.log(name, type(exc).__name__)
        t.log(name + " expired", cm.expired())
        task = asyncio.current_task()
        assert task is not None
        t.log(name + " cancelling", task.cancelling())

    await attempt("in time", asyncio.timeout(60), asyncio.sleep(0.001, "result"))
    await attempt("expires", asyncio.timeout(0.004), asyncio.sleep(60))
    await attempt("zero", asyncio.timeout(0), asyncio.sleep(60))
    await attempt("negative", asyncio.timeout(-1), asyncio.sleep(60))
    await attempt("none", asyncio.timeout(None), asyncio.sleep(0.001, "result"))
    await attempt("infinite", asyncio.timeout(math.inf), asyncio.sleep(0.001, "result"))
    await attempt("at past", asyncio.timeout_at(loop.time() - 10), asyncio.sleep(60))
    await attempt("at soon", asyncio.timeout_at(loop.time() + 0.004), asyncio.sleep(60))


@case(
    "T.14b-reschedule",
    "A timeout moved later does not expire before, moved earlier expires then, moved to None never.",
    rejects="a timer that is not cancelled when it is set anew",
)
async def reschedule(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(0.004) as cm:
        cm.reschedule(loop.time() + 60)
        await asyncio.sleep(0.01)
        t.log("moved later", cm.expired())
    try:
        async with asyncio.timeout(60) as cm:
            cm.reschedule(loop.time() + 0.004)
            await asyncio.sleep(60)
    except TimeoutError:
        t.log("moved earlier", cm.expired())
    async with asyncio.timeout(0.004) as cm:
        cm.reschedule(None)
        await asyncio.sleep(0.01)
        t.log("moved to never", [cm.when(), cm.expired()])
    try:
        cm.reschedule(loop.time())
    except RuntimeError as exc:
        t.log("after its end", str(exc))


@case(
    "T.14c-nested-timeouts",
    "Of two nested timeouts the one that expires is the one that raises, be it the inner or the outer.",
    rejects="a cancellation that the wrong timeout takes for its own",
)
async def nested_timeouts(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    for name, outer_s, inner_s in (("inner", 60, 0.004), ("outer", 0.004, 60), ("both", 0.004, 0.004)):
        now = loop.time()
        try:
            async with asyncio.timeout_at(now + outer_s) as outer:
                try:
                    async with asyncio.timeout_at(now + inner_s) as inner:
                        await asyncio.sleep(3600)
                except TimeoutError:
                    t.log("inner raised", name)
                await asyncio.sleep(0)
        except TimeoutError:
            t.log("outer raised", name)
        t.log("expired", [name, outer.expired(), inner.expired()])


@case(
    "T.14d-wait-for",
    "`wait_for` returns, raises and cancels as asyncio's, at its edges too.",
    rejects="a wait_for that leaves its inner task running",
)
async def wait_for(t: CaseContext) -> None:
    async def slow(name: str) -> str:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            t.log("inner cancelled", name)
            raise
        return name

    async def fails() -> None:
        raise LookupError("on purpose")

    async def stubborn() -> str:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await asyncio.sleep(0.002)
        return "too late, but done"

    for name, aw, timeout in (
        ("result", asyncio.sleep(0, 1), 60),
        ("error", fails(), 60),
        ("expires", slow("expires"), 0.004),
        ("no limit", asyncio.sleep(0.001, 2), None),
        ("already done", asyncio.ensure_future(asyncio.sleep(0, 3)), 60),
        ("stubborn", stubborn(), 0.004),
    ):
        try:
            t.log(name, await asyncio.wait_for(aw, timeout))
        except Exception as exc:
            t.log(name, type(exc).__name__)
    task = asyncio.create_task(asyncio.wait_for(slow("outer"), 60))
    await iterations(2)
    task.cancel()
    await asyncio.wait([task])
    t.log("cancelled from outside", outcome(task))


@case(
    "T.14e-timeout-while-blocked",
    "A timeout that expires while the thread is busy is raised as soon as the loop is back, and the timers that are due"
    " by then run in the order of their deadlines.",
    rejects="an expiry that a late turn forgets",
)
async def timeout_while_blocked(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    loop.call_soon(spin_until, loop, start + 0.02)
    for ms in (7, 3, 5):
        loop.call_at(start + ms * 1e-3, lambda ms=ms: t.log("due", ms, actor="timers"))
    try:
        async with asyncio.timeout(0.005):
            await asyncio.sleep(0.01)
            t.log("woke first")
    except TimeoutError:
        t.log("timed out")
    await iterations(2)  # on a machine that stood still in between the last timer is due a turn later
