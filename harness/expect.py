"""``harness expect``: files of expectations, written from results and looked through.

update  appends a row for each cell that was not as expected, with placeholders that ``lint`` refuses, so that
        nothing is excused without a reason.
lint    finds rows that cannot be right: unknown cases and contenders, two rows about one cell, placeholders, and
        with results those that no longer hold.
"""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import json
import re
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from . import contenders, expectations, report, results, shards, tree
from .expectations import Expectation
from .tree import UsageError
from .verdicts import Cell

PLACEHOLDER = "TODO"
EXAMPLES = """\
examples:
  expect update --into mine.toml        rows for what was not as expected in the last results, to be filled in
  expect update r.json --into mine.toml --prune
                                        ... of a file of yours; and rows of mine.toml that do not hold go
  expect lint                           our own files; what is stale by the last results is told too
  expect lint mine.toml --results r.json

lint ends with 2 for a row that cannot be right, and with 7 when rows are stale and nothing else is wrong.

"""


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    add = verb.add_argument
    add("action", choices=("update", "lint"))
    add("file", nargs="*", type=Path, metavar="FILE", help="update: results (default: the last); lint: expectations")
    add("--into", type=Path, metavar="FILE", help="update: the file of expectations to write to; made if need be")
    add("--prune", action="store_true", help="update: take rows out that the results show to be stale")
    add("--results", type=Path, metavar="FILE", help="lint: results that tell what is stale (default: the last)")
    add("--cases", action="append", default=[], metavar="MODULE", help="module or .py file with more cases")


def last_results() -> Path:
    """The conformance results of the last run."""
    return tree.root() / "results" / "latest" / "conformance.json"


def own_files() -> list[Path]:
    """Our files of expectations of cells."""
    folder = tree.HERE / "expectations"
    own = [p for p in sorted(folder.glob("*.toml")) if p.name != "test_asyncio.toml"]
    return own + sorted(folder.glob("peers/*.toml"))


# -- update


def row(cell: Cell) -> str:
    """An [[expect]] table for a cell, its explanation to be written."""
    behaviour = [] if cell.behaviour in ("PASS", "INFO", "WEAK") else [cell.behaviour]
    first = cell.reason.splitlines()[0][:120] if cell.reason else ""
    lines = [
        "[[expect]]",
        f"contender = {json.dumps(cell.contender)}",
        f"case = {json.dumps(cell.case)}",
    ]
    lines += [f"behaviour = {json.dumps(behaviour[0])}"] if behaviour else []
    lines += [f"teardown = {json.dumps(cell.teardown)}"] if cell.teardown else []
    lines += [
        f"reason = {json.dumps(f'{PLACEHOLDER}: why? It said: {first}', ensure_ascii=False)}",
        f'issue = "{PLACEHOLDER}"',
        f'since = "{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}"',
    ]
    return "\n".join(lines) + "\n"


def blocks(text: str) -> tuple[str, list[str]]:
    """What stands before the first row of a file, and its rows with the comments before each."""
    parts = re.split(r"(?m)^(?=\[\[expect\]\])", text)
    return parts[0], parts[1:]


def update(options: argparse.Namespace, out: Any) -> int:
    """Write rows; 0.  Raises UsageError."""
    if options.into is None:
        raise UsageError("update needs --into FILE")
    path = options.file[0] if options.file else last_results()
    if len(options.file) > 1:
        raise UsageError("update takes one results file; put several together first: merge")
    cells = [cell for cell in results.cells(path) if not shards.elsewhere(cell)]
    text = options.into.read_text() if options.into.exists() else ""
    try:
        there = expectations.parse(tomllib.loads(text), str(options.into))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{options.into}: {error}") from error
    head, rows = blocks(text)
    gone = []
    if options.prune:
        keep = []
        for expectation, block in zip(there, rows):
            if is_stale(expectation, cells):
                gone.append(expectation)
            else:
                keep.append(block)
        rows = keep
    bad = [c for c in cells if c.bad and not any(e.about(c) and e.holds(c) for e in there)]
    bad = [c for c in bad if results.unexpected(c)]
    text = head + "".join(rows)
    if bad and text and not text.endswith("\n\n"):
        text = text.rstrip("\n") + "\n\n"
    text += "\n".join(row(cell) for cell in bad)
    options.into.parent.mkdir(parents=True, exist_ok=True)
    options.into.write_text(text)
    for expectation in gone:
        out.print(f"gone, does not hold: {expectation.contender} {expectation.case}", markup=False)
    for cell in bad:
        out.print(f"new, to be explained: {cell.contender} {cell.case} {report.verdict(cell)}", markup=False)
    said = f"{len(bad)} new, {len(gone)} gone; lint refuses it until each has a reason"
    out.print(f"{options.into}: {said}", markup=False)
    return results.OK


# -- lint


def is_stale(expectation: Expectation, cells: Iterable[Cell]) -> bool:
    """Do the results show that it does not hold any more: it is about cells that ran, and none did as it says?"""
    ran = [c for c in cells if c.behaviour not in ("NOTRUN", "UNSUPPORTED") and expectation.about(c)]
    return bool(ran) and not any(expectation.holds(cell) for cell in ran)


def complaints(rows: Sequence[dict[str, Any]], where: str, cases: dict[str, Any], names: Sequence[str]) -> list[str]:
    """What cannot be right in the rows of a file."""
    found = []
    seen: dict[tuple[str, str, str], int] = {}
    for number, data in enumerate(rows, 1):
        at = f"{where}: [[expect]] number {number}"
        try:
            (one,) = expectations.parse({"expect": [data]}, where)
        except UsageError as error:
            found.append(str(error).replace("number 1", f"number {number}", 1))
            continue
        for key in ("reason", "issue", "since"):
            if PLACEHOLDER in getattr(one, key):
                found.append(f"{at}: {key} is still to be written")
        try:
            if datetime.date.fromisoformat(one.since) > datetime.date.today() + datetime.timedelta(days=1):
                found.append(f"{at}: since {one.since} is in the future")
        except ValueError:
            found.append(f"{at}: since {one.since!r} is no date (2026-01-31)")
        ids = [id for id in cases if fnmatch.fnmatchcase(id, one.case)]
        who = [name for name in names if fnmatch.fnmatchcase(name, one.contender)]
        if not ids:
            found.append(f"{at}: {contenders.unknown('case', one.case, cases)}")
        if not who and ":" not in one.contender and not one.contender.startswith("peer/"):
            found.append(f"{at}: {contenders.unknown('contender', one.contender, names)}")
        others = set()
        for name in who or [one.contender]:
            for id in ids:
                before = seen.setdefault((name, id, one.python), number)
                if before != number:
                    others.add((before, name, id))
        if others:
            before, name, id = sorted(others)[0]
            found.append(f"{at}: overlaps with number {before}: both are about {name} {id}")
    return found


def lint(options: argparse.Namespace, out: Any) -> int:
    """Look through files.  2: something cannot be right, 7: something is stale."""
    cases = tree.load_cases(options.cases)
    names = contenders.everything()
    cells: list[Cell] = []
    path = options.results or (last_results() if last_results().exists() else None)
    if path is not None:
        cells = results.cells(path)
    found: list[str] = []
    stale: list[str] = []
    files = options.file or own_files()
    for file in files:
        try:
            data = tomllib.loads(file.read_text())
        except OSError as error:
            raise UsageError(f"cannot read expectations: {error}") from error
        except tomllib.TOMLDecodeError as error:
            found.append(f"{file}: {error}")
            continue
        if extra := set(data) - {"expect"}:
            found.append(f"{file}: only [[expect]] tables belong here, not {', '.join(sorted(extra))}")
        rows = data.get("expect", [])
        found += complaints(rows, str(file), cases, names)
        for number, one in enumerate(rows, 1):
            try:
                (expectation,) = expectations.parse({"expect": [one]}, str(file))
            except UsageError:
                continue
            if is_stale(expectation, cells):
                stale.append(f"{file}: [[expect]] number {number} is stale: {expectation.contender} {expectation.case}")
    for line in found:
        out.print(line, style="bold red", markup=False)
    for line in stale:
        out.print(line, style="yellow", markup=False)
    by = f", by {path}" if path else "; no results to tell what is stale"
    out.print(f"{len(files)} file(s): {len(found)} wrong, {len(stale)} stale{by}", markup=False)
    return results.USAGE if found else results.STALE if stale else results.OK


def main(options: argparse.Namespace) -> int:
    """The verb; the exit code."""
    out = report.console()
    return update(options, out) if options.action == "update" else lint(options, out)
