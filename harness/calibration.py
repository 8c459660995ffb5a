"""How slow is this machine?  From a short computation, never from sleeping."""

from __future__ import annotations

import time

REFERENCE_S = 0.0065
"""What `_work` takes on the machine whose bounds the cases are written for."""
ROUNDS = 7
LIMIT = 20.0


def _work() -> int:
    total = 0
    for i in range(200_000):
        total += i & 7
    return total


def scale() -> float:
    """>= 1: the factor for liveness bounds.  The median of several rounds, so that work of other
    processes on the same processors counts, but one pause does not."""
    samples = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        _work()
        samples.append(time.perf_counter() - begin)
    return min(LIMIT, max(1.0, sorted(samples)[ROUNDS // 2] / REFERENCE_S))
