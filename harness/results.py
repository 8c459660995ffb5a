"""Results files: made, checked against their schema, written in one step and read back; and the exit code."""

from __future__ import annotations

import datetime
import fnmatch
import importlib.metadata
import json
import platform
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from . import tree
from .tree import UsageError
from .verdicts import Cell

SCHEMA = "asyncio-guest/conformance@1"

OK = 0
CRASHED = 1
USAGE = 2
UNEXPECTED = 3
REGRESSION = 4
NOTHING_RAN = 5
INCONCLUSIVE = 6
STALE = 7
INTERRUPTED = 130

EXIT_CODES = """\
exit codes (the highest of this order that applies):
    1  the harness itself crashed
    2  usage, or input that cannot be used (unknown name, broken file)
  130  interrupted; the results so far are written and marked so
    5  nothing ran, or a cell that doctor calls runnable or --require names did not
    3  an unexpected FAIL, TIMEOUT, CRASH, FLAKY or unclean teardown
    4  a performance regression
    7  an expectation is stale: what it expects to fail passed
    6  inconclusive
    0  none of these
"""


def schema(name: str = "conformance") -> dict[str, Any]:
    """A schema of ours by the stem of its file."""
    return dict(json.loads((tree.HERE / "schema" / f"{name}.json").read_text()))


def validate(document: Any, name: str = "conformance") -> None:
    """Raises UsageError, naming the place, when a document does not fit its schema."""
    import jsonschema  # type: ignore[import]

    checker = jsonschema.Draft202012Validator(schema(name))
    error = next(iter(sorted(checker.iter_errors(document), key=lambda e: list(map(str, e.absolute_path)))), None)
    if error is not None:
        at = "/".join(map(str, error.absolute_path)) or "the top"
        kind = schema(name)["properties"]["schema"]["const"]
        raise UsageError(f"does not fit {kind} at {at}: {error.message[:300]}")


def read(path: Path, name: str = "conformance") -> dict[str, Any]:
    """A results file.  Raises UsageError with a sentence that says what is wrong with it."""
    try:
        document = json.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"cannot read results: {error}") from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from error
    other = _kind(document)
    if other is not None and other != name:
        raise wrong_kind(path, other, (name,))
    try:
        validate(document, name)
    except UsageError as error:
        raise UsageError(f"{path} {error}") from error
    return dict(document)


KINDS = {
    SCHEMA: "conformance",
    "asyncio-guest/test_asyncio@1": "test_asyncio",
    "asyncio-guest/bench@1": "bench",
    "asyncio-guest/campaign@1": "campaign",
    "asyncio-guest/selftest@1": "selftest",
    "asyncio-guest/fuzz@1": "fuzz",
    "asyncio-guest/gate@1": "gate",
}
"""What a results file calls itself -> the stem of its schema."""


READERS = {
    "conformance": "report, show, merge, compare, expect",
    "campaign": "merge, compare, expect",
    "test_asyncio": "merge, compare, report beside the cells' results",
    "bench": "merge, compare, report beside the cells' results",
    "selftest": "merge, list --coverage",
    "fuzz": "merge; fuzz --replay takes the files of its finds",
    "gate": "no verb: gate.md beside it is for people",
}
"""What a results file is -> what reads it, for people."""


def wrong_kind(path: Path, found: str, wanted: Sequence[str]) -> UsageError:
    """What to say of a results file that a verb cannot use."""
    return UsageError(f"{path} is of kind {found} (read by {READERS[found]}); this takes {' or '.join(wanted)}")


def kind(path: Path) -> str:
    """The kind of a results file, by what it says about itself.  Raises UsageError."""
    try:
        document = json.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"cannot read results: {error}") from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from error
    found = _kind(document)
    if found is None:
        named = document.get("schema") if isinstance(document, dict) else None
        raise UsageError(f"{path} is no results file of ours (schema {named!r}; known: {', '.join(KINDS)})")
    return found


def _kind(document: Any) -> str | None:
    named = document.get("schema") if isinstance(document, dict) else None
    return KINDS.get(named) if isinstance(named, str) else None


CELLS = ("conformance", "campaign")
"""The kinds whose cells are cases under contenders."""


def cells(path: Path, kinds: Sequence[str] = CELLS) -> list[Cell]:
    """The cells of a results file that has some.  Raises UsageError, saying what it is instead."""
    found = kind(path)
    if found not in kinds:
        raise wrong_kind(path, found, kinds)
    return [Cell(**cell) for cell in read(path, found)["cells"]]


def write(path: Path, document: dict[str, Any], name: str = "conformance") -> None:
    """Validate and write, so that a reader sees the old file or the new one and nothing between."""
    validate(document, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(document, indent=1, sort_keys=False) + "\n")
    part.rename(path)


def _git(*args: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *args], cwd=tree.root(), capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu() -> str:
    try:
        found = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()


def machine(cells: Iterable[Cell] = ()) -> dict[str, Any]:
    """What may be said about the machine: CPU model, kernel, cores, versions; nothing else."""
    versions = {"python": platform.python_version(), "libc": " ".join(platform.libc_ver())}
    for name in ("asyncio-guest", "pytest", "rich", "jsonschema"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    for cell in cells:
        if cell.toolkit_version:
            versions[cell.contender.partition("+")[0].partition("@")[0]] = cell.toolkit_version
    return {"cpu": _cpu(), "kernel": platform.release(), "cores": tree.cores(), "versions": versions}


def meta(
    *,
    cells: Sequence[Cell] = (),
    seed: int | None = None,
    shard: str | None = None,
    interrupted: bool = False,
    exit_code: int | None = None,
    tier: str = "quick",
    scale: float = 1.0,
    seconds: float | None = None,
) -> dict[str, Any]:
    """The `meta` of a results file."""
    status = _git("status", "--porcelain", "--untracked-files=no") if tree.IN_TREE else None
    return {
        "commit": _git("rev-parse", "HEAD") if tree.IN_TREE else None,
        "dirty": None if status is None else bool(status),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": machine(cells),
        "seed": seed,
        "shard": shard,
        "interrupted": interrupted,
        "exit_code": exit_code,
        "tier": tier,
        "scale": round(scale, 3),
        "seconds": None if seconds is None else round(seconds, 1),
    }


def document(cells: Sequence[Cell], **about: Any) -> dict[str, Any]:
    """A whole results document; `about` as for `meta`."""
    return {"schema": SCHEMA, "meta": meta(cells=cells, **about), "cells": [cell.as_json() for cell in cells]}


def matches(cell: Cell, selector: str) -> bool:
    """Does ``CONTENDERGLOB[::CASEGLOB]`` mean this cell?"""
    contender, _, case = selector.partition("::")
    return fnmatch.fnmatchcase(cell.contender, contender) and fnmatch.fnmatchcase(cell.case, case or "*")


def unexpected(cell: Cell) -> bool:
    """Bad, and nothing expects it."""
    return cell.bad and (cell.expected is None or cell.expected["stale"])


def not_run_by_fault(cell: Cell) -> bool:
    """Did not run though its contender can run here."""
    return cell.behaviour == "NOTRUN" and bool(
        cell.detail.get("runnable", not cell.detail.get("by_design") and not cell.detail.get("interrupted"))
    )


def unknown(cell: Cell) -> bool:
    """Did not run though it was to: by a fault, or since the run ended before."""
    return not_run_by_fault(cell) or (cell.behaviour == "NOTRUN" and bool(cell.detail.get("interrupted")))


def exit_code(
    cells: Sequence[Cell],
    *,
    interrupted: bool = False,
    require: Sequence[str] = (),
    strict: bool = False,
) -> int:
    """The exit code of a run, by its order of priority.  Peers count with `strict` only."""
    if interrupted:
        return INTERRUPTED
    counted = [cell for cell in cells if strict or not cell.peer]
    ran = [cell for cell in cells if cell.behaviour not in ("NOTRUN", "UNSUPPORTED")]
    if not ran or any(not_run_by_fault(cell) for cell in counted):
        return NOTHING_RAN
    for selector in require:
        wanted = [cell for cell in cells if matches(cell, selector)]
        if all(cell.behaviour in ("NOTRUN", "UNSUPPORTED") for cell in wanted) or any(
            cell.behaviour == "NOTRUN" for cell in wanted
        ):
            return NOTHING_RAN
    if any(unexpected(cell) for cell in counted):
        return UNEXPECTED
    if any(cell.expected is not None and cell.expected["stale"] for cell in counted):
        return STALE
    return OK
