"""Results as one self-contained HTML page: the matrix, every cell behind it, the cases, speed and CPython's own tests.

`render` makes the text; `python3 -m harness report` writes it.  The page asks for nothing from a network, is readable
without JavaScript, and carries a content security policy that lets no script run but its own, so that what a
cell printed stays text.  The template is ``page.html.j2``; what it shows is computed here and in `logs` and `speed`.
"""

from __future__ import annotations

import base64
import collections
import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import report, results, tree
from ..tree import UsageError
from ..verdicts import Cell
from . import logs, speed

HERE = Path(__file__).resolve().parent
TEXT_BUDGET = 4_000_000
"""Characters that all outputs and tracebacks together may take."""
TEXT_LIMITS = (800, 6000)
"""The least and the most that one of them is cut to."""
STATES = {
    "pass": "pass",
    "bad": "unexpected",
    "stale": "stale expectation",
    "known": "known exception",
    "weak": "weak",
    "info": "info",
    "unsupported": "unsupported",
    "notrun": "not run",
}
"""What a cell can be to a reader, most wanted first in `ATTENTION`; the values are shown."""
ATTENTION = ("bad", "stale")


def state(cell: Cell) -> str:
    """One of `STATES`."""
    if cell.expected is not None:
        return "stale" if cell.expected["stale"] else "known"
    if cell.bad:
        return "bad"
    return cell.behaviour.lower()


def kind(contender: str) -> str:
    """The part of the matrix that a contender belongs to."""
    if contender == "plain":
        return "control"
    first, slash, _ = contender.partition("/")
    if slash and first == "guest":
        return "guests"
    return "peers" if slash and first == "peer" else "others"


def group_names() -> dict[str, str]:
    """Groups' names by letter, from the catalogue's headings; nothing where it is not installed."""
    try:
        text = tree.scenarios("catalogue").PATH.read_text(encoding="utf-8")
    except OSError:
        return {}
    return dict(re.findall(r"^## ([A-Z]): (.+)$", text, re.M))


def items() -> dict[str, str]:
    """What holds, by the catalogue's item."""
    try:
        return {id: item.text for id, item in tree.scenarios("catalogue").load().items()}
    except OSError:
        return {}


def cut(text: str, limit: int) -> str:
    """The text's end, which says how it went, within `limit` characters."""
    text = text.rstrip()
    return text if len(text) <= limit else f"[{len(text) - limit} characters left out]\n{text[-limit:]}"


def outputs(cell: Cell, limit: int) -> list[tuple[str, str]]:
    """What the cell's process printed, as (title, text)."""
    found = []
    for key, title in (
        ("traceback", "Traceback"),
        ("stderr", "Standard error, with the stacks where the watchdog asked for them"),
        ("stdout", "Standard output"),
    ):
        text = cell.detail.get(key)
        if text and str(text).strip():
            found.append((title, cut(str(text), limit)))
    return found


def facts(cell: Cell) -> list[tuple[str, str]]:
    """The small things that are known of a cell's run."""
    about = [
        ("engine", cell.engine_ran and " ".join(filter(None, [cell.engine_ran, _because(cell)]))),
        ("strategy", cell.strategy),
        ("toolkit", cell.toolkit_version),
        ("selector", cell.detail.get("selector_class")),
        ("notifier", cell.detail.get("notifier")),
        ("took", f"{cell.seconds:.2f} s" if cell.seconds else None),
    ]
    return [(name, str(value)) for name, value in about if value]


def _because(cell: Cell) -> str:
    reason = cell.detail.get("engine_reason")
    return f"({reason})" if reason else ""


def counters(cell: Cell) -> str:
    """The guest's counters that are not zero, in a line."""
    found = cell.detail.get("counters")
    if not isinstance(found, dict):
        return ""
    return ", ".join(f"{name} {value:,}" for name, value in found.items() if value)


def detailed(cell: Cell) -> bool:
    """Does the cell get a part of its own, not just a place in a list?"""
    return state(cell) not in ("pass", "unsupported", "notrun")


def _row(
    number: int, name: str, python: str | None, cells: list[Cell], letters: list[str], limit: int
) -> dict[str, Any]:
    """A line of the matrix and the part of the page behind it."""
    groups = []
    by_group: dict[str, list[Cell]] = {}
    for cell in cells:
        by_group.setdefault(cell.group, []).append(cell)
    for letter in letters:
        mine = by_group.get(letter, [])
        counts = collections.Counter(map(state, mine))
        lists: dict[tuple[str, str], list[Cell]] = {}
        for cell in mine:
            if not detailed(cell):
                lists.setdefault((state(cell), cell.reason), []).append(cell)
        groups.append(
            {
                "letter": letter,
                "total": len(mine),
                "counts": counts,
                "tone": tone(counts),
                "detailed": [_cell(number, c, limit) for c in mine if detailed(c)],
                "lists": [
                    {
                        "state": what,
                        "behaviour": some[0].behaviour,
                        "reason": why,
                        "cells": [{"case": c.case, "seconds": c.seconds} for c in some],
                    }
                    for (what, why), some in sorted(lists.items(), key=lambda one: (one[0][0] != "pass", one[0]))
                ],
            }
        )
    total = collections.Counter(map(state, cells))
    known = [{getattr(c, field) for c in cells} - {None} for field in ("engine_ran", "strategy", "toolkit_version")]
    return {
        "key": f"k{number}",
        "name": name,
        "python": python,
        "kind": kind(name),
        "groups": groups,
        "counts": total,
        "total": len(cells),
        "tone": tone(total),
        "about": [
            f"{label} {'/'.join(sorted(values))}"
            for label, values in zip(("engine", "strategy", "toolkit"), known)
            if values
        ],
        "seconds": sum(c.seconds for c in cells),
    }


def tone(counts: collections.Counter[str]) -> str:
    """The tint of a field of the matrix."""
    if counts["bad"] or counts["stale"]:
        return "bad"
    if counts["weak"] or counts["known"]:
        return "warn"
    if counts["notrun"]:
        return "hatch"
    if counts["pass"] or counts["info"]:
        return "good"
    return "void"


def _cell(number: int, cell: Cell, limit: int) -> dict[str, Any]:
    """What the page says about one cell that is worth a part of its own."""
    return {
        "id": f"k{number}.{cell.case}",
        "case": cell.case,
        "contender": cell.contender,
        "state": state(cell),
        "behaviour": cell.behaviour,
        "teardown": cell.teardown or [],
        "measured": cell.teardown is not None,
        "reason": cell.reason,
        "expected": cell.expected,
        "level": cell.level,
        "facts": facts(cell),
        "counters": counters(cell),
        "logs": logs.compare(cell),
        "last_events": cut(str(cell.detail.get("last_events") or ""), limit),
        "unclean": cell.detail.get("unclean") if isinstance(cell.detail.get("unclean"), dict) else {},
        "measures": [m for m in cell.detail.get("measures") or [] if {"name", "value", "unit"} <= set(m)],
        "attempts": [a for a in cell.detail.get("attempts") or [] if "behaviour" in a],
        "outputs": outputs(cell, limit),
        "rerun": cell.rerun,
    }


def matrix(cells: Sequence[Cell]) -> tuple[list[str], list[dict[str, Any]]]:
    """The letters of the columns, and the rows: one a contender and interpreter."""
    letters = report.groups(cells)
    several = len({cell.python for cell in cells}) > 1
    wanted = [cell for cell in cells if detailed(cell)]
    low, high = TEXT_LIMITS
    limit = max(low, min(high, TEXT_BUDGET // max(1, 3 * len(wanted))))
    rows: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        rows.setdefault((cell.contender, cell.python if several else ""), []).append(cell)
    order = ["control", "guests", "peers", "others"]
    there = sorted(rows.items(), key=lambda one: order.index(kind(one[0][0])))
    return letters, [
        _row(number, name, python or None, sorted(some, key=lambda c: c.case), letters, limit)
        for number, ((name, python), some) in enumerate(there)
    ]


def cases(cells: Sequence[Cell], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every case that ran, with what is known of it here and how each contender did."""
    known = tree.load_cases()
    texts = items()
    places: dict[tuple[str, str | None], str] = {(row["name"], row["python"]): row["key"] for row in rows}
    several = any(row["python"] for row in rows)
    by_case: dict[str, list[Cell]] = {}
    for cell in cells:
        by_case.setdefault(cell.case, []).append(cell)
    found = []
    order = report.ORDER
    for id, mine in sorted(by_case.items(), key=lambda one: (order.find(one[0][0]) % 100, one[0])):
        case = known.get(id)
        item = re.sub(r"[a-z]+$", "", id.partition("-")[0])
        verdicts: dict[str, list[dict[str, Any]]] = {}
        for cell in mine:
            name = cell.contender + (f" ({cell.python})" if several else "")
            key = places[cell.contender, cell.python if several else None]
            entry = {"name": name, "href": f"{key}.{id}" if detailed(cell) else f"{key}-{cell.group}"}
            verdicts.setdefault(report.verdict(cell), []).append(entry)
        found.append(
            {
                "id": id,
                "group": id[0],
                "what": "" if case is None else case.description,
                "item": item,
                "holds": texts.get(item, ""),
                "level": mine[0].level,
                "tier": "" if case is None else case.tier,
                "needs": "" if case is None else " ".join(sorted(case.needs)),
                "oracle": "" if case is None else case.oracle,
                "report": "" if case is None else case.report,
                "rejects": "" if case is None else case.rejects,
                "verdicts": sorted(verdicts.items(), key=lambda one: (one[0] == "PASS", one[0])),
            }
        )
    return found


def suite(document: dict[str, Any] | None) -> list[dict[str, Any]]:
    """CPython's own tests: a line a contender, with the names of those that differ."""
    if document is None:
        return []
    found = []
    for run in document["runs"]:
        differences = {what: tests for what, tests in (run["differences"] or {}).items() if tests}
        found.append(
            {
                "contender": run["contender"],
                "outcomes": run["outcomes"],
                "seconds": run["seconds"],
                "turns": run["tests_with_turns"]["all"],
                "fast": run["tests_with_fast"],
                "differences": differences,
                "control": run["differences"] is None,
                "count": sum(map(len, differences.values())),
                "flaky": run["flaky"],
                "known": run["known"],
            }
        )
    return found


def about(document: dict[str, Any]) -> dict[str, Any]:
    """A document's `meta` in words."""
    meta = document["meta"]
    machine = meta["machine"]
    return {
        "commit": meta["commit"],
        "short": (meta["commit"] or "unknown")[:12],
        "dirty": meta["dirty"],
        "date": meta["date"].replace("T", " ").removesuffix("Z") + " UTC",
        "iso": meta["date"],
        "interrupted": meta["interrupted"],
        "exit_code": meta.get("exit_code"),
        "machine": f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}",
        "versions": machine["versions"],
        "tier": meta.get("tier"),
        "seed": meta.get("seed"),
        "shard": meta.get("shard"),
        "scale": meta.get("scale"),
        "seconds": meta.get("seconds"),
    }


def _script(name: str) -> tuple[str, str]:
    """One of the page's own scripts, and the hash by which the policy lets it run."""
    text = (HERE / name).read_text(encoding="utf-8")
    return text, base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def fingerprint(document: dict[str, Any]) -> str:
    """A digest of results: equal for equal results, however they are laid out in their file."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def render(document: dict[str, Any], bench: dict[str, Any] | None = None, tests: dict[str, Any] | None = None) -> str:
    """The page.

    `document` is a conformance document that fits its schema; `bench` and `tests` are those of ``harness bench`` and
    ``harness suite``, where there are some.  Raises UsageError when jinja2 is not installed.
    """
    try:
        import jinja2
        import markupsafe
    except ImportError as error:
        raise UsageError(
            "the HTML report needs jinja2: apt-get install python3-jinja2, or pip install jinja2"
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    cells = [Cell(**cell) for cell in document["cells"]]
    letters, rows = matrix(cells)
    head, head_hash = _script("head.js")
    script, script_hash = _script("page.js")
    wanted = [
        cell
        for row in rows
        if row["kind"] != "peers"
        for group in row["groups"]
        for cell in group["detailed"]
        if cell["state"] in ATTENTION
    ]
    text: str = environment.get_template("page.html.j2").render(
        about=about(document),
        fingerprints={
            name: fingerprint(shown)
            for name, shown in (("conformance", document), ("bench", bench), ("test_asyncio", tests))
            if shown is not None
        },
        letters=letters,
        names=group_names(),
        rows=rows,
        parts=[(kind, list(some)) for kind, some in itertools.groupby(rows, key=lambda row: str(row["kind"]))],
        cases=cases(cells, rows),
        counts=collections.Counter(map(state, cells)),
        behaviours=sorted({cell.behaviour for cell in cells}, key=lambda b: list(report.STYLES).index(b)),
        unclean=sum(bool(cell.teardown) for cell in cells),
        states=STATES,
        total=len(cells),
        wanted=wanted,
        peers=any(row["kind"] == "peers" for row in rows),
        speed=speed.table(bench),
        speed_about=None if bench is None else about(bench),
        suite=suite(tests),
        suite_about=None if tests is None else about(tests),
        suite_not_run={} if tests is None else tests["not_run"],
        program=tree.PROGRAM,
        exit_codes=results.EXIT_CODES,
        style=markupsafe.Markup((HERE / "page.css").read_text(encoding="utf-8")),
        head=markupsafe.Markup(head),
        script=markupsafe.Markup(script),
        policy=f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"script-src 'sha256-{head_hash}' 'sha256-{script_hash}'",
    )
    return text
