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
from .verdicts import Cell, worse

COMPARED = (*results.CELLS, "test_asyncio", "bench")
"""The kinds of which a later run can be better or worse."""
RESAMPLES = 10_000
LEVEL = 0.05

EXAMPLES = """\
examples:
  compare old.json new.json             two conformance runs: every cell whose verdict has changed
  compare base/bench.json head/bench.json
                                        two benchmarks: ratios head/base with their intervals
  compare a.json b.json --margin 0.1    only differences of more than ten per cent count

For verdicts the exit code is 3 when a cell or test got worse, or is new and wrong; for figures 4 when one has
regressed. It is 6 when that cannot be told: a figure is too uncertain, something of A is not in B, or either run was
interrupted.

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
    if kind not in COMPARED:
        raise results.wrong_kind(options.base, kind, COMPARED)
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
        code = figures(base, head, options, out)
    elif kind == "test_asyncio":
        code = tests(base, head, out)
    else:
        code = verdicts(base, head, out)
    if base["meta"]["interrupted"] or head["meta"]["interrupted"]:
        # What the run did not reach cannot have got worse.
        code = shards.worst([code, results.INCONCLUSIVE])
    return code


# -- verdicts


def reached(document: dict[str, Any]) -> dict[tuple[str, str], Cell]:
    """The cells that are this run's: not another shard's, and not left over when it was interrupted."""
    cells = (Cell(**cell) for cell in document["cells"])
    return {(c.contender, c.case): c for c in cells if not shards.elsewhere(c) and not c.detail.get("interrupted")}


def verdicts(base: dict[str, Any], head: dict[str, Any], out: Any) -> int:
    """Compare cells.  3 when one got worse or is new and not as expected, 6 when one is gone."""
    before, after = reached(base), reached(head)
    counted = {"worse": 0, "better": 0, "other": 0}
    for key, now in after.items():
        was = before.get(key)
        if was is None or report.verdict(was) == report.verdict(now):
            continue
        word = "worse" if worse(was, now) else "better" if worse(now, was) else "other"
        counted[word] += 1
        style = {"worse": "bold red", "better": "green", "other": "yellow"}[word]
        text = f"{word} {key[0]} {key[1]}: {report.verdict(was)} -> {report.verdict(now)}"
        said = was.reason if word == "better" else now.reason
        out.print(text + (f": {said.splitlines()[0]}" if said else ""), style=style, markup=False)
        if word == "worse":
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
    same = len(after) - sum(counted.values()) - len(new)
    counts = f"{counted['worse']} worse, {counted['better']} better, {counted['other']} changed, "
    counts += f"{len(new)} new, {len(gone)} gone"
    out.print(f"{same} cells as before, {counts}")
    if not before.keys() & after.keys():
        return results.NOTHING_RAN
    if counted["worse"] or new_bad:
        return results.UNEXPECTED
    return results.INCONCLUSIVE if gone else results.OK


def tests(base: dict[str, Any], head: dict[str, Any], out: Any) -> int:
    """Compare suites test for test.  3 when a test that passed does not or a new one went wrong, 6 when one is gone."""
    before, after = ({run["contender"]: run["tests"] for run in document["runs"]} for document in (base, head))
    known = {(run["contender"], id) for run in head["runs"] for id in run["known"]}
    right = ("pass", "skip", "xfail")
    lost = changed = new = 0
    for name in after:
        for id, (outcome, *_rest) in after[name].items():
            was = before.get(name, {}).get(id, [None])[0]
            if was is None:
                if outcome not in right and (name, id) not in known:
                    new += 1
                    out.print(f"{name} {id}: new, {outcome}", style="bold red", markup=False)
            elif was != outcome:
                changed += 1
                lost += was in right
                style = "bold red" if was in right else "yellow"
                out.print(f"{name} {id}: {was} -> {outcome}", style=style, markup=False)
    gone = 0
    for name in before:
        if missing := sorted(before[name].keys() - after.get(name, {}).keys()):
            gone += len(missing)
            out.print(f"{name}: {len(missing)} gone: {', '.join(missing[:3])}", style="yellow", markup=False)
    out.print(f"{changed} tests changed, {lost} of them for the worse; {new} new and wrong; {gone} gone")
    if not after.keys() & before.keys():
        return results.NOTHING_RAN
    if lost or new:
        return results.UNEXPECTED
    return results.INCONCLUSIVE if gone else results.OK


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
