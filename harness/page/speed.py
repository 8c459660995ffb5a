"""The figures of ``harness bench`` as rows, with each ratio's place on a common scale."""

from __future__ import annotations

import math
import statistics
from typing import Any

SPAN = 3.0
"""The scale goes from 1/2**SPAN to 2**SPAN times as good as plain asyncio."""


def place(advantage: float) -> float:
    """Percent from the scale's left end, for a ratio of which more is better."""
    return round(50 + 50 * max(-SPAN, min(SPAN, math.log2(advantage))) / SPAN, 1)


def figure(value: float) -> str:
    """A figure with three digits that matter."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def _row(cell: dict[str, Any]) -> dict[str, Any]:
    ratio = cell["ratio_to_plain"] or cell.get("ratio_to_bare")
    row: dict[str, Any] = {
        "contender": cell["contender"],
        "unit": cell["unit"],
        "value": figure(statistics.median(cell["samples"])) if cell["samples"] else None,
        "reason": cell.get("reason", ""),
        "ratio": None,
        "base": "plain" if cell["ratio_to_plain"] else "bare host",
        "met": (cell.get("bar") or {}).get("met"),
        "verdict": "",
    }
    if ratio:
        ends = [ratio["low"], ratio["estimate"], ratio["high"]]
        better = ends if cell["higher_is_better"] else [1 / e for e in reversed(ends)]
        low, middle, high = map(place, better)
        row.update(
            ratio=f"{ratio['estimate']:.2f}×",
            interval=f"{ratio['low']:.2f}–{ratio['high']:.2f}",
            low=low,
            middle=middle,
            width=round(max(0.6, high - low), 1),
            verdict={"IMPROVED": "better", "REGRESSED": "worse", "SAME": "same"}.get(ratio["verdict"], "unclear"),
        )
    return row


def table(bench: dict[str, Any] | None) -> list[dict[str, Any]]:
    """One entry a metric, each with its rows; empty without a benchmark."""
    metrics: dict[str, list[dict[str, Any]]] = {}
    for cell in (bench or {}).get("cells", []):
        metrics.setdefault(cell["metric"], []).append(cell)
    return [
        {
            "metric": metric,
            "unit": cells[0]["unit"],
            "better": "higher" if cells[0]["higher_is_better"] else "lower",
            "rows": [_row(cell) for cell in cells],
        }
        for metric, cells in metrics.items()
    ]
