"""Statistics of the benchmark.  The unit is the process, never the sample in it."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from typing import Any

RESAMPLES = 2000
MARGIN = 0.05
"""Ratios within it are called the same."""


def percentile(values: Sequence[float], q: float) -> float:
    """The smallest value that at least the fraction `q` of `values` does not exceed (no interpolation)."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


def paired(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> list[float]:
    """The log-ratio of each block: the mean of the logarithms of its processes, ours less theirs.

    Blocks that lack either side, or hold a value without a logarithm, are left out.
    """
    ratios = []
    for a, b in zip(ours, theirs):
        if a and b and min(*a, *b) > 0:
            ratios.append(statistics.fmean(map(math.log, a)) - statistics.fmean(map(math.log, b)))
    return ratios


def ratio(
    ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]], *, higher: bool, seed: int
) -> dict[str, Any] | None:
    """The paired median ratio with a bootstrap interval over blocks, or None without a pair.

    `higher`: more is better.  ``verdict`` is IMPROVED, REGRESSED or SAME where the interval is on one side of the
    margin or within it, else INCONCLUSIVE; with fewer than three blocks it is INCONCLUSIVE.
    """
    logs = paired(ours, theirs)
    if not logs:
        return None
    rng = random.Random(seed)
    medians = sorted(statistics.median(rng.choices(logs, k=len(logs))) for _ in range(RESAMPLES))
    estimate = math.exp(statistics.median(logs))
    low, high = (math.exp(percentile(medians, q)) for q in (0.025, 0.975))
    better, worse = (low, high) if higher else (1 / high, 1 / low)
    if len(logs) < 3:
        verdict = "INCONCLUSIVE"
    elif better > 1 + MARGIN:
        verdict = "IMPROVED"
    elif worse < 1 - MARGIN:
        verdict = "REGRESSED"
    elif low >= 1 - MARGIN and high <= 1 + MARGIN:
        verdict = "SAME"
    else:
        verdict = "INCONCLUSIVE"
    return {"estimate": estimate, "low": low, "high": high, "verdict": verdict, "blocks": len(logs)}


def bar_met(found: dict[str, Any] | None, bar: float, *, higher: bool) -> bool | None:
    """Is the whole interval on the good side of the bar, give or take five per cent?  None: not known."""
    if found is None:
        return None
    return bool(found["low"] > bar * (1 - MARGIN) if higher else found["high"] < bar * (1 + MARGIN))
