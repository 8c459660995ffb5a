"""The catalogue of items and the cases that cover them.

``python3 -m scenarios.catalogue`` lists items without a case; ``--write`` puts the cases into CATALOGUE.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import re
import sys

from .api import CASES, Case

PATH = pathlib.Path(__file__).with_name("CATALOGUE.md")
_ROW = re.compile(r"^\| ([A-Z]\.\d\d) \| (.*) \| (.*) \| (.*) \|$")


@dataclasses.dataclass(frozen=True)
class Item:
    """One line of the catalogue."""

    id: str
    text: str
    reports: str
    cases: tuple[str, ...]


def load(text: str | None = None) -> dict[str, Item]:
    """The items by id, from `text` or CATALOGUE.md.  Raises ValueError for an id that is there twice."""
    items: dict[str, Item] = {}
    for line in (PATH.read_text(encoding="utf-8") if text is None else text).splitlines():
        if match := _ROW.match(line):
            id, what, reports, cases = match.groups()
            if id in items:
                raise ValueError(f"item {id} is in the catalogue twice")
            items[id] = Item(id, what.strip(), reports.strip(), tuple(re.findall(r"`([^`]+)`", cases)))
    return items


def by_item(cases: dict[str, Case]) -> dict[str, tuple[str, ...]]:
    """The ids of `cases`, sorted, by the item that they belong to."""
    found: dict[str, list[str]] = {}
    for id in sorted(cases):
        found.setdefault(cases[id].item, []).append(id)
    return {item: tuple(ids) for item, ids in found.items()}


def render(text: str, cases: dict[str, Case]) -> str:
    """`text`, a catalogue, with its column of cases replaced by what `cases` says."""
    covered = by_item(cases)

    def row(line: str) -> str:
        match = _ROW.match(line)
        if match is None:
            return line
        id, what, reports, _ = match.groups()
        ids = " ".join(f"`{case}`" for case in covered.get(id, ()))
        return f"| {id} | {what} | {reports} | {ids} |"

    return "".join(row(line) + "\n" for line in text.splitlines())


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code (1: CATALOGUE.md is out of date)."""
    parser = argparse.ArgumentParser(prog="python3 -m scenarios.catalogue", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the cases into CATALOGUE.md")
    options = parser.parse_args(argv)
    from . import cases

    cases.load()

    text = PATH.read_text(encoding="utf-8")
    new = render(text, CASES)
    if options.write:
        PATH.write_text(new, encoding="utf-8")
    covered = by_item(CASES)
    items = load(new)
    for item in items.values():
        if item.id not in covered:
            print(f"{item.id}  no case  {item.text}")
    print(f"{len(CASES)} cases, {sum(i in covered for i in items)} of {len(items)} items have one")
    if new != text and not options.write:
        print("CATALOGUE.md is out of date: run python3 -m scenarios.catalogue --write", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
