"""Counters summed over all guests of the process."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable

from . import _core

_lock = threading.Lock()
_ended: Counter[str] = Counter()
_MAXIMA = frozenset({"longest_turn_ns"})


def _merge(into: Counter[str], counters: dict[str, int]) -> None:
    for name, value in counters.items():
        into[name] = max(into[name], value) if name in _MAXIMA else into[name] + value


def of_guest(core: _core.Guest) -> dict[str, int]:
    """What one guest adds to the totals."""
    counters = dict(core.counters())
    turns = counters.get("turns", 0)
    counters["guests"] = 1
    counters[f"guests_engine_{core.engine}"] = 1
    counters[f"guests_selector_{core.selector_class}"] = 1
    counters[f"guests_host_{core.host_name}"] = 1
    counters[f"turns_engine_{core.engine}"] = turns
    counters[f"turns_host_{core.host_name}"] = turns
    return counters


def count(name: str) -> None:
    """Add one to a counter that belongs to no guest."""
    with _lock:
        _ended[name] += 1


def ended(core: _core.Guest, extra: Iterable[str] = ()) -> None:
    """Add the counters of a guest that is over, and of each name in `extra` its turns and one guest."""
    counters = of_guest(core)
    for name in extra:
        counters[f"guests_{name}"] = 1
        counters[f"turns_{name}"] = counters.get("turns", 0)
    with _lock:
        _merge(_ended, counters)


def totals() -> dict[str, int]:
    """The counters of `Guest.counters` summed over all guests that this process ever had.

    The running ones are included (``longest_turn_ns`` is the maximum).  Beside them:

    ``guests``
        how many there were; ``guests_engine_NAME``, ``guests_selector_CLASS`` and ``guests_host_NAME`` by
        engine, selector class and host; ``turns_engine_NAME`` and ``turns_host_NAME`` their turns;
    ``guests_fallback``, ``turns_fallback``
        runs that `install` put on ``poll`` because the backend refuses the thread, or in a forked child;
    ``runs_nested``
        runs inside another guest's turn, left to the loop's own ``run_forever``.

    Any thread.
    """
    from . import _session

    with _lock:
        sums = Counter(_ended)
    for session in _session.live():
        if not session.counted:
            _merge(sums, of_guest(session.core))
    return dict(sums)


def reset_after_fork() -> None:
    """A forked child counts its own guests only."""
    global _lock
    _lock = threading.Lock()
    _ended.clear()
