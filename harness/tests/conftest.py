"""What the framework's tests share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import results, tree
from harness.verdicts import Cell

HERE = Path(__file__).resolve().parent
CASES = HERE / "faulty_cases.py"


class Ran:
    """A ``harness`` command that ended."""

    def __init__(self, done: subprocess.CompletedProcess[str], results: Path) -> None:
        self.code = done.returncode
        self.out = done.stdout
        self.err = done.stderr
        self.results = results

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads((self.results / "conformance.json").read_text()))

    @property
    def cells(self) -> list[dict[str, Any]]:
        return list(self.document["cells"])

    @property
    def cell(self) -> dict[str, Any]:
        (cell,) = self.cells
        return cell


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", tree.PACKAGE, *arguments]


def environment(**more: str) -> dict[str, str]:
    env = dict(os.environ)
    env.pop("PYTEST_CURRENT_TEST", None)
    return {**env, "PYTHONPATH": tree.python_path(), "NO_COLOR": "1", **more}


@pytest.fixture
def harness(tmp_path: Path) -> Callable[..., Ran]:
    """Run a verb of the command line; `run` writes its results to a folder of the test."""

    def call(verb: str, *arguments: str, env: dict[str, str] | None = None) -> Ran:
        results = tmp_path / "results"
        more = ["--results", str(results), "--cases", str(CASES)] if verb == "run" else []
        done = subprocess.run(
            command(verb, *more, *arguments),
            cwd=tree.TOP,
            env=environment(**(env or {})),
            capture_output=True,
            text=True,
            timeout=180,
        )
        return Ran(done, results)

    return call


def make(behaviour: str = "PASS", teardown: list[str] | None = None, **fields: Any) -> Cell:
    """A cell as a run would have made it."""
    values: dict[str, Any] = {
        "contender": "guest/poll",
        "case": "T.01-x",
        "python": "3.11.2",
        "toolkit_version": None,
        "engine_ran": "fast",
        "strategy": "watch",
        "level": "MUST",
        "expected": None,
        "reason": "",
        "seconds": 0.1,
        "detail": {},
        "rerun": "again",
        **fields,
    }
    return Cell(behaviour=behaviour, teardown=teardown, **values)


def cells(path: Path, *made: Cell, **meta: Any) -> str:
    """A conformance results file with these cells; `meta` replaces fields of its meta.  Its name."""
    document = results.document(list(made), exit_code=0)
    document["meta"].update(meta)
    results.write(path, document)
    return str(path)
