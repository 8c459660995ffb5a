"""What is expected not to pass: only exceptions, each with its reason, the issue about it and since when."""

from __future__ import annotations

import dataclasses
import fnmatch
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import tree
from .tree import UsageError
from .verdicts import BEHAVIOURS, TEARDOWNS, Cell

FIELDS = {"contender", "case", "behaviour", "teardown", "python", "reason", "issue", "since"}


@dataclasses.dataclass(frozen=True)
class Expectation:
    """One exception."""

    contender: str
    case: str
    behaviour: tuple[str, ...]
    """Behaviours that are expected instead of PASS; empty when only the teardown is.  With FLAKY among them PASS is
    expected too: what goes wrong now and then is FLAKY in repetitions, and either in a single run."""
    teardown: tuple[str, ...]
    python: str
    reason: str
    issue: str
    since: str

    def about(self, cell: Cell) -> bool:
        """Is it about this cell?"""
        return (
            fnmatch.fnmatchcase(cell.contender, self.contender)
            and fnmatch.fnmatchcase(cell.case, self.case)
            and fnmatch.fnmatchcase(cell.python, self.python)
        )

    def holds(self, cell: Cell) -> bool:
        """Did the cell do what is expected of it?"""
        if self.behaviour:
            if cell.behaviour not in self.behaviour and not ("FLAKY" in self.behaviour and cell.behaviour == "PASS"):
                return False
        elif cell.behaviour not in ("PASS", "INFO", "WEAK"):
            return False
        return set(cell.teardown or ()) <= set(self.teardown) and (bool(self.behaviour) or bool(cell.teardown))


def parse(data: dict[str, Any], where: str) -> list[Expectation]:
    """Expectations of one parsed file.  Raises UsageError."""
    if set(data) - {"expect"}:
        raise UsageError(f"{where}: only [[expect]] tables belong here, not {', '.join(set(data) - {'expect'})}")
    found = []
    for number, row in enumerate(data.get("expect", []), 1):
        at = f"{where}: [[expect]] number {number}"
        if unknown := set(row) - FIELDS:
            raise UsageError(f"{at}: unknown key {', '.join(sorted(unknown))}")
        for key in ("contender", "case", "reason", "issue", "since"):
            if not isinstance(row.get(key), str) or not row[key].strip():
                raise UsageError(f"{at}: {key} is missing")
        behaviour, teardown = row.get("behaviour", []), row.get("teardown", [])
        behaviour = [behaviour] if isinstance(behaviour, str) else behaviour
        teardown = [teardown] if isinstance(teardown, str) else teardown
        for value, known in ((behaviour, BEHAVIOURS[1:]), (teardown, TEARDOWNS)):
            if bad := [v for v in value if v not in known]:
                raise UsageError(f"{at}: {bad[0]!r} is none of {', '.join(known)}")
        if not behaviour and not teardown:
            raise UsageError(f"{at}: says neither behaviour nor teardown")
        found.append(
            Expectation(
                row["contender"],
                row["case"],
                tuple(behaviour),
                tuple(teardown),
                row.get("python", "*"),
                row["reason"],
                row["issue"],
                row["since"],
            )
        )
    return found


def load(extra: Iterable[str] = (), folder: Path | None = None) -> list[Expectation]:
    """Ours and those of the files in `extra`.  Raises UsageError for a file that cannot be used."""
    folder = tree.HERE / "expectations" if folder is None else folder
    found = []
    files = [p for p in sorted(folder.glob("*.toml")) if p.name != "test_asyncio.toml"]
    files += sorted(folder.glob("peers/*.toml"))
    for path in [*files, *map(Path, extra)]:
        try:
            with open(path, "rb") as file:
                data = tomllib.load(file)
        except OSError as error:
            raise UsageError(f"cannot read expectations: {error}") from error
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{path}: {error}") from error
        found += parse(data, str(path))
    return found


def apply(cell: Cell, expected: Iterable[Expectation]) -> Cell:
    """Note on the cell what was expected of it.  What could not run tells nothing about an expectation."""
    if cell.behaviour == "NOTRUN":
        return cell
    about = [e for e in expected if e.about(cell)]
    if not about:
        return cell
    chosen = next((e for e in about if e.holds(cell)), about[-1])
    good = cell.behaviour in ("PASS", "INFO", "WEAK", "UNSUPPORTED") and not cell.teardown
    if not chosen.holds(cell) and not good:
        return cell  # wrong in another way than expected: that is unexpected
    cell.expected = {
        "behaviour": list(chosen.behaviour),
        "teardown": list(chosen.teardown),
        "reason": chosen.reason,
        "issue": chosen.issue,
        "since": chosen.since,
        "stale": not chosen.holds(cell),
    }
    return cell
