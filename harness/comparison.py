"""``harness compare A B``: what has changed between two results files of one kind.

Verdicts: cells that got worse, better, came or went. Figures: the ratio B/A, each side first divided by plain asyncio
(or the bare host) of its own run where that was measured, so that a slower machine is no slower guest; a
bootstrap interval over blocks, and Holm's correction over all figures before one is called regressed.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import report, results, shards
from .bench import stats
from .tree import UsageError
from .verdicts import BAD, Cell

RESAMPLES = 10_000
LEVEL = 0.05

EXAMPLES = """\
examples:
  compare old.json new.json             two conformance runs: every cell whose verdict has changed
  compare base/bench.json head/bench.json
                                        two benchmarks: ratios head/base with their intervals
  compare a.json b.json --margin 0.1    only differences of more than ten per cent count

For verdicts the exit code is 3 when a cell got worse; for figures 4 when one has regressed, and 6 when that cannot
be told.

"""


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    add = verb.add_argument
    add("base", type=Path, metavar="A", help="results before")
    add("head", type=Path, metavar="B", help="results after")
    add("--margin", type=float, default=stats.MARGIN, metavar="F", help="ratios within it are the same (0.05)")
    add("--seed", type=int, default=1, help="of the bootstrap (default: %(default)s)")


def main(options: argparse.Namespace) -> int:
    """The verb; the exit code.  Raises UsageError for files that cannot be compared."""
    kind = results.kind(options.base)
    if (other := results.kind(options.head)) != kind:
        raise UsageError(f"{options.base} is of kind {kind}, {options.head} of kind {other}")
    if not 0 < options.margin < 1:
        raise UsageError("--margin is a fraction between 0 and 1")
    base, head = results.read(options.base, kind), results.read(options.head, kind)
    out = report.console()
    for name, document in (("A", base), ("B", head)):
        about = document["meta"]
        changes = " and changes" if about["dirty"] else ""
        commit = (about["commit"] or "unknown")[:12] + changes
        marked = ", interrupted" if about["interrupted"] else ""
        out.print(f"{name}: {about['date']}, commit {commit}, {about['machine']['cpu']}{marked}", markup=False)
    if base["meta"]["machine"]["cpu"] != head["meta"]["machine"]["cpu"] and kind == "bench":
        out.print("warning: two machines; only figures relative to plain can be compared", style="yellow")
    if kind == "bench":
        return figures(base, head, options, out)
    if kind == "test_asyncio":
        return tests(base, head, out)
    return verdicts(base, head, out)


# -- verdicts


def rank(cell: Cell) -> int:
    """The higher, the worse."""
    if cell.behaviour in BAD:
        return 3
    return 2 if cell.teardown else 1 if cell.behaviour in ("WEAK", "NOTRUN") else 0


def verdicts(base: dict[str, Any], head: dict[str, Any], out: Any) -> int:
    """Compare cells.  3 when one got worse."""
    before, after = (
        {(c.contender, c.case): c for c in (Cell(**cell) for cell in document["cells"]) if not shards.elsewhere(c)}
        for document in (base, head)
    )
    worse = better = other = 0
    for key, now in after.items():
        was = before.get(key)
        if was is None or report.verdict(was) == report.verdict(now):
            continue
        change = rank(now) - rank(was)
        worse, better, other = worse + (change > 0), better + (change < 0), other + (change == 0)
        word = "worse" if change > 0 else "better" if change < 0 else "other"
        style = {"worse": "bold red", "better": "green", "other": "yellow"}[word]
        text = f"{word} {key[0]} {key[1]}: {report.verdict(was)} -> {report.verdict(now)}"
        said = now.reason if change >= 0 else was.reason
        out.print(text + (f": {said.splitlines()[0]}" if said else ""), style=style, markup=False)
        if change > 0:
            out.print(f"    again: {now.rerun}", markup=False)
    gone = [key for key in before if key not in after]
    new = [key for key in after if key not in before]
    for what, keys in (("gone", gone), ("new", new)):
        by: dict[str, int] = {}
        for contender, _ in keys:
            by[contender] = by.get(contender, 0) + 1
        if by:
            out.print(f"{what}: " + ", ".join(f"{name} {count} cell(s)" for name, count in by.items()), markup=False)
    new_bad = [key for key in new if results.unexpected(after[key])]
    for contender, case in new_bad:
        out.print(f"new and not as expected: {contender} {case}", style="bold red", markup=False)
    same = len(after) - worse - better - other - len(new)
    counts = f"{worse} worse, {better} better, {other} changed, {len(new)} new, {len(gone)} gone"
    out.print(f"{same} cells as before, {counts}")
    if not before.keys() & after.keys():
        return results.NOTHING_RAN
    return results.UNEXPECTED if worse or new_bad else results.OK


def tests(base: dict[str, Any], head: dict[str, Any], out: Any) -> int:
    """Compare suites test for test.  3 when a test that passed does not."""
    before, after = ({run["contender"]: run["tests"] for run in document["runs"]} for document in (base, head))
    worse = changed = gone = 0
    for name in after.keys() & before.keys():
        for id, (outcome, *_rest) in after[name].items():
            was = before[name].get(id, [None])[0]
            if was is not None and was != outcome:
                changed += 1
                worse += was in ("pass", "skip", "xfail")
                style = "bold red" if was in ("pass", "skip", "xfail") else "yellow"
                out.print(f"{name} {id}: {was} -> {outcome}", style=style, markup=False)
        gone += len(before[name].keys() - after[name].keys())
    out.print(f"{changed} tests changed, {worse} of them for the worse; {gone} gone")
    if not after.keys() & before.keys():
        return results.NOTHING_RAN
    return results.UNEXPECTED if worse else results.OK


# -- figures


def blocks_of(cell: dict[str, Any]) -> list[list[float]]:
    """The samples of a figure, block by block."""
    found: list[list[float]] = []
    for value, number in zip(cell["samples"], cell["blocks"]):
        while len(found) <= number:
            found.append([])
        found[number].append(value)
    return found


def logs(cell: dict[str, Any], reference: dict[str, Any] | None) -> list[float]:
    """The logarithm of each block's figure, less the reference's of the same block if there is one."""
    own = blocks_of(cell)
    if reference is not None:
        return stats.paired(own, blocks_of(reference))
    return [statistics.fmean(map(math.log, block)) for block in own if block and min(block) > 0]


def bootstrap(base: Sequence[float], head: Sequence[float], seed: int) -> list[float]:
    """Sorted resampled log-ratios head/base; the two are independent."""
    rng = random.Random(seed)
    return sorted(
        statistics.median(rng.choices(head, k=len(head))) - statistics.median(rng.choices(base, k=len(base)))
        for _ in range(RESAMPLES)
    )


def holm(values: Sequence[float]) -> list[float]:
    """p-values, corrected for their number by Holm's method."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    adjusted = [0.0] * len(values)
    highest = 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, values[i] * (len(values) - place)))
        adjusted[i] = highest
    return adjusted


def figures(base: dict[str, Any], head: dict[str, Any], options: argparse.Namespace, out: Any) -> int:
    """Compare benchmarks.  4 when a figure has regressed, 6 when one cannot be told."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    tables = [{(c["contender"], c["metric"]): c for c in document["cells"]} for document in (base, head)]
    rows: list[dict[str, Any]] = []
    missing = []
    for key, was in tables[0].items():
        now = tables[1].get(key)
        if not was["samples"] or was["unit"] == "count":
            continue
        if now is None or not now["samples"]:
            missing.append(key)
            continue
        if was["unit"] != now["unit"]:
            raise UsageError(f"{key[0]} {key[1]} is in {was['unit']} and in {now['unit']}")
        contender, metric = key
        names = ["plain"] if was.get("ratio_to_plain") else [c for c, m in tables[0] if m == metric and "bare/" in c]
        names = [n for n in names if contender not in (n, "plain") and (n == "plain" or n[5:] in contender)]
        reference = next((n for n in names if all((n, metric) in t for t in tables)), None)
        sides = [
            logs(cell, None if reference is None else table[reference, metric])
            for cell, table in zip((was, now), tables)
        ]
        if not all(sides):
            missing.append(key)
            continue
        drawn = bootstrap(sides[0], sides[1], options.seed)
        margin = math.log(1 + options.margin)
        sign = 1 if was["higher_is_better"] else -1
        worse = sum(sign * value >= -margin for value in drawn) / len(drawn)
        better = sum(sign * value <= margin for value in drawn) / len(drawn)
        least = 1 / len(drawn)
        rows.append(
            {
                "key": key,
                "to": reference or "",
                "ratio": math.exp(statistics.median(sides[1]) - statistics.median(sides[0])),
                "low": math.exp(stats.percentile(drawn, 0.025)),
                "high": math.exp(stats.percentile(drawn, 0.975)),
                "worse": max(worse, least),
                "better": max(better, least),
                "blocks": min(map(len, sides)),
            }
        )
    for row, worse, better in zip(rows, holm([r["worse"] for r in rows]), holm([r["better"] for r in rows])):
        inside = row["low"] >= 1 / (1 + options.margin) and row["high"] <= 1 + options.margin
        enough = row["blocks"] >= 3
        row["verdict"] = (
            "INCONCLUSIVE" if not enough
            else "REGRESSED" if worse < LEVEL
            else "IMPROVED" if better < LEVEL
            else "SAME" if inside
            else "INCONCLUSIVE"
        )
    table = Table(box=box.SIMPLE_HEAD if out.is_terminal else box.ASCII2, pad_edge=False)
    for name in ("metric", "contender", "B/A", "95 %", "relative to", "verdict"):
        table.add_column(name, no_wrap=True)
    styles = {"REGRESSED": "bold red", "IMPROVED": "green", "SAME": "", "INCONCLUSIVE": "yellow"}
    for row in sorted(rows, key=lambda r: (r["key"][1], r["key"][0])):
        style = styles[row["verdict"]]
        verdict = f"[{style}]{row['verdict']}[/]" if style else row["verdict"]
        interval = f"{row['low']:.3f}…{row['high']:.3f}"
        table.add_row(row["key"][1], escape(row["key"][0]), f"{row['ratio']:.3f}", interval, row["to"], verdict)
    if rows:
        out.print(table)
    for contender, metric in missing:
        out.print(f"no figure in B: {contender} {metric}", style="yellow", markup=False)
    found = [row["verdict"] for row in rows]
    out.print(", ".join(f"{found.count(v)} {v}" for v in styles if v in found) or "nothing to compare")
    if not rows:
        return results.NOTHING_RAN
    if "REGRESSED" in found:
        return results.REGRESSION
    return results.INCONCLUSIVE if "INCONCLUSIVE" in found or missing else results.OK
