"""Results for people: the table in the terminal, the lines below it, and Markdown."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

from . import results
from .verdicts import Cell

ORDER = "TCSLPGXKAQDEZHNFIRWU"
STYLES = {
    "PASS": "green",
    "FAIL": "bold red",
    "TIMEOUT": "bold red",
    "CRASH": "bold red",
    "FLAKY": "bold red",
    "WEAK": "yellow",
    "INFO": "cyan",
    "UNSUPPORTED": "bright_black",
    "NOTRUN": "yellow",
}
LETTERS = {"UNSUPPORTED": "u", "NOTRUN": "n", "WEAK": "w", "INFO": "i"}


def groups(cells: Sequence[Cell]) -> list[str]:
    """Groups that occur, in the catalogue's order."""
    there = {cell.group for cell in cells}
    return sorted(there, key=lambda g: ORDER.find(g) % 100)


def summary(cells: Sequence[Cell]) -> tuple[str, str]:
    """A table's field for some cells: text and style.  ``5`` passed; ``5 1w 2u``; ``4 2!`` two unexpected."""
    if not cells:
        return "", ""
    passed = sum(c.behaviour == "PASS" and not c.teardown for c in cells)
    bad = sum(results.unexpected(c) for c in cells)
    expected = sum(c.expected is not None and not c.expected["stale"] for c in cells)
    stale = sum(c.expected is not None and c.expected["stale"] for c in cells)
    parts = [str(passed)]
    counts = collections.Counter(c.behaviour for c in cells if c.expected is None and not results.unexpected(c))
    parts += [f"{counts[b]}{letter}" for b, letter in LETTERS.items() if counts[b]]
    if expected:
        parts.append(f"{expected}x")
    if stale:
        parts.append(f"{stale}s")
    if bad:
        parts.append(f"{bad}!")
    if bad or stale:
        style = "bold red"
    elif passed == len(cells):
        style = "green"
    elif passed:
        style = "yellow" if counts["NOTRUN"] or counts["WEAK"] else "green"
    else:
        style = "bright_black" if counts["UNSUPPORTED"] == len(cells) else "yellow"
    return " ".join(parts), style


LEGEND = (
    "number = PASS and clean, ! unexpected, x expected exception, s stale expectation, "
    "w WEAK, i INFO, u UNSUPPORTED, n NOTRUN"
)


def rows(cells: Sequence[Cell]) -> tuple[list[str], list[list[tuple[str, str]]]]:
    """The matrix contender x group: header and rows of (text, style)."""
    letters = groups(cells)
    by: dict[str, dict[str, list[Cell]]] = {}
    for cell in cells:
        by.setdefault(cell.contender, collections.defaultdict(list))[cell.group].append(cell)
    body = []
    for contender, of in by.items():
        everything = [cell for group in of.values() for cell in group]
        engines = sorted({c.engine_ran for c in everything if c.engine_ran})
        line = [(contender + (f" ({'/'.join(engines)})" if engines else ""), "bold")]
        line += [summary(of.get(letter, [])) for letter in letters]
        line.append(summary(everything))
        body.append(line)
    return ["contender (engine)", *letters, "all"], body


def verdict(cell: Cell) -> str:
    """``FAIL``, ``PASS LEAK_FD``, ..."""
    return " ".join([cell.behaviour, *(cell.teardown or [])])


def notable(cells: Sequence[Cell]) -> list[Cell]:
    """Cells that a reader has to see one by one: all but clean PASS and UNSUPPORTED."""
    return [c for c in cells if (c.behaviour not in ("PASS", "UNSUPPORTED") or c.teardown or c.expected)]


def note(cell: Cell) -> str:
    """What was expected, in brackets."""
    if cell.expected is None:
        return ""
    if cell.expected["stale"]:
        return f" [stale expectation {cell.expected['issue']}: {cell.expected['reason']}]"
    return f" [expected, {cell.expected['issue']}: {cell.expected['reason']}]"


def gaps(cells: Sequence[Cell]) -> list[str]:
    """NOTRUN and UNSUPPORTED, summed up by contender: what is lacking, and how often."""
    lacking: dict[str, collections.Counter[str]] = {}
    others: collections.Counter[tuple[str, str, str]] = collections.Counter()
    for cell in cells:
        if cell.behaviour == "UNSUPPORTED" and cell.reason.startswith("lacks "):
            words = cell.reason.removeprefix("lacks ").split(", ")
            lacking.setdefault(cell.contender, collections.Counter()).update(words)
        elif cell.behaviour in ("NOTRUN", "UNSUPPORTED"):
            others[cell.contender, cell.behaviour, cell.reason] += 1
    lines = [
        f"UNSUPPORTED {who}: lacks " + ", ".join(f"{word} ({count})" for word, count in words.most_common())
        for who, words in lacking.items()
    ]
    return lines + [f"{what} {who}: {count} case(s): {reason}" for (who, what, reason), count in others.items()]


def markdown(document: dict[str, Any]) -> str:
    """The whole document as Markdown."""
    cells = [Cell(**cell) for cell in document["cells"] if "shard" not in cell["detail"]]
    about = document["meta"]
    header, body = rows(cells)
    commit = (about["commit"] or "unknown")[:12] + (" and changes" if about["dirty"] else "")
    lines = [
        "# Conformance",
        "",
        f"{about['date']}, commit {commit}, {about['machine']['cpu']}, {about['machine']['cores']} cores, "
        f"Linux {about['machine']['kernel']}, "
        + ", ".join(f"{name} {version}" for name, version in about["machine"]["versions"].items())
        + f"; tier {about['tier']}"
        + (f", seed {about['seed']}" if about["seed"] is not None else "")
        + (f", shard {about['shard']}" if about.get("shard") else "")
        + (", **interrupted**" if about["interrupted"] else "")
        + f"; exit code {about['exit_code']}.",
        "",
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
    ]
    for row in body:
        lines.append("| " + " | ".join(text for text, _ in row) + " |")
    lines += ["", LEGEND + ".", ""]
    shown = [c for c in notable(cells) if c.behaviour != "NOTRUN"]
    if shown:
        lines += ["| contender | case | verdict | reason | again |", "|---|---|---|---|---|"]
        for cell in shown:
            reason = (cell.reason + note(cell)).replace("|", "\\|").replace("\n", " ")
            lines.append(f"| {cell.contender} | {cell.case} | {verdict(cell)} | {reason} | `{cell.rerun}` |")
        lines.append("")
    lines += [f"- {line}" for line in gaps(cells)]
    return "\n".join(lines).rstrip() + "\n"


def console(**options: Any) -> Any:
    """rich's console on stdout; plain and wide where stdout is no terminal."""
    import sys

    from rich.console import Console

    if not sys.stdout.isatty():
        options.setdefault("width", 200)
    return Console(highlight=False, soft_wrap=True, emoji=False, **options)  # module:factory is a name


def show(cells: Sequence[Cell], out: Any, *, seconds: float | None = None) -> None:
    """Print the table and the lines below it."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    header, body = rows(cells)
    table = Table(box=box.SIMPLE_HEAD if out.is_terminal else box.ASCII2, pad_edge=False, padding=(0, 1))
    for number, name in enumerate(header):
        table.add_column(name, justify="left" if number == 0 else "right", no_wrap=True)
    for row in body:
        table.add_row(*(f"[{style}]{escape(text)}[/]" if style and text else escape(text) for text, style in row))
    if body:
        out.print(table)
        out.print(f"[bright_black]{escape(LEGEND)}[/]")
    for cell in notable(cells):
        if cell.behaviour == "NOTRUN":
            continue
        style = STYLES[cell.behaviour] if cell.behaviour != "PASS" else "bold red"
        if cell.expected is not None and not cell.expected["stale"]:
            style = "yellow"
        said = escape(cell.reason + note(cell))
        out.print(f"[{style}]{verdict(cell)}[/] {escape(cell.contender)} {cell.case}: {said}")
        out.print(f"    again: {escape(cell.rerun)}")
    for line in gaps(cells):
        out.print(f"[bright_black]{escape(line)}[/]")
    counts = collections.Counter(cell.behaviour for cell in cells)
    unclean = sum(bool(cell.teardown) for cell in cells)
    text = ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"
    text += f", {unclean} unclean" if unclean else ""
    out.print(f"{len(cells)} cells: {text}" + (f" in {seconds:.0f} s" if seconds is not None else ""))
