"""``harness show``: results files of any number of interpreters as one table."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from . import report, results
from .verdicts import Cell

EXAMPLES = """\
examples:
  show                                          the last run's table again
  show results/latest/sid-*/conformance.json    the interpreters of a suite side by side

"""


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """The options of ``harness show``."""
    verb.add_argument("file", nargs="*", type=Path, metavar="FILE", help="default: results/latest/conformance.json")
    verb.add_argument("--strict", action="store_true", help="peers count for the exit code")


def by_interpreter(cells: list[Cell]) -> list[Cell]:
    """The cells, each contender's of one interpreter under a name of its own where there are several interpreters, and
    in the order of contenders, then interpreters."""
    if len({cell.python for cell in cells}) < 2:
        return cells
    contenders = list(dict.fromkeys(cell.contender for cell in cells))
    pythons = sorted({cell.python for cell in cells}, key=lambda p: [int(part) for part in p.split(".") if part.isdigit()])
    cells = sorted(cells, key=lambda cell: (contenders.index(cell.contender), pythons.index(cell.python)))
    return [dataclasses.replace(cell, contender=f"{cell.contender} {cell.python}") for cell in cells]


def show(options: argparse.Namespace) -> int:
    """The verb; the exit code is that of a run with these cells."""
    from . import tree

    files = options.file or [tree.root() / "results" / "latest" / "conformance.json"]
    cells = [cell for file in files for cell in results.cells(file, ("conformance",))]
    interrupted = any(results.read(file)["meta"]["interrupted"] for file in files)
    code = results.exit_code(cells, interrupted=interrupted, strict=options.strict)
    report.show(by_interpreter(cells), report.console())
    return code
