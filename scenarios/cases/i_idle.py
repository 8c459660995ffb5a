"""Group I: idle."""

from __future__ import annotations

import asyncio
from ..api import CaseContext, Unsupported, case
from ..hostside import attempts, host_only, switches

SECONDS = 10.0
COUNTED = ("turns", "wakes", "posts")


def _idle(t: CaseContext, pending: float | None, seconds: float = SECONDS) -> None:
    """The guest has nothing to do for `seconds`, except a timer that is `pending` seconds away."""
    host_timer = "timer" in t.driver.abilities

    def once() -> tuple[bool, str, dict[str, float]]:
        bare: list[int] = []
        host_only(t, seconds, lambda: bare.append(switches()), lambda: bare.append(switches()))
        seen: list[tuple[int, dict[str, int]]] = []

        def look() -> None:
            seen.append((switches(), _counters(t)))

        async def main() -> None:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(pending, print) if pending is not None else None
            over = asyncio.Event()
            if host_timer:

                def last() -> None:
                    look()
                    over.set()

                t.driver.host_timer(500, look)
                t.driver.host_timer(500 + round(seconds * 1000), last)
                await over.wait()
            else:
                await asyncio.sleep(0.5)
                look()
                await asyncio.sleep(seconds)
                look()
            if timer is not None:
                timer.cancel()

        t.run(main)
        (first, before), (last, after) = seen
        more = {name: after[name] - before[name] for name in before}
        figures: dict[str, float] = {"bare switches": bare[1] - bare[0], "guest switches": last - first, **more}
        # Without host timers the measurement itself takes the one turn in which its sleep ends, and one more when the first
        # look took so long, on a busy machine, that its turn gave way to the host.
        allowed = 0 if host_timer else 1 + min(1, more["over_budget"])
        if any(more[name] > allowed for name in COUNTED):
            return False, "the guest did something while it was idle", figures
        return last - first <= bare[1] - bare[0] + 2, "the idle guest makes the process switch", figures

    attempts(t, once)


def _counters(t: CaseContext) -> dict[str, int]:
    try:
        counters = t.counters()
    except Unsupported:
        # A contender without counters is judged by the process's switches alone.
        counters = {}
    return {name: counters.get(name, 0) for name in (*COUNTED, "over_budget")}


@case(
    "I.01a-idle",
    "In 10 idle seconds no wake, turn or post of the guest, and at most 2 process switches more than the "
    "same host without a guest.",
    needs="host",
    oracle="own",
    timeout=90,
    rejects="a loop that polls",
)
def idle(t: CaseContext) -> None:
    _idle(t, None)


@case(
    "I.01b-idle-with-window",
    "The same with a window open.",
    tier="full",
    needs="host window",
    oracle="own",
    timeout=90,
    rejects="a loop that polls",
)
def idle_with_window(t: CaseContext) -> None:
    _idle(t, None)


@case(
    "I.02-idle-with-timer",
    "The same with a timer of the guest's an hour away.",
    needs="host",
    oracle="own",
    timeout=90,
    rejects="a wait that is cut into pieces",
)
def idle_with_timer(t: CaseContext) -> None:
    _idle(t, 3600.0)
