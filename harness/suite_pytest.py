"""Any pytest suite as a suite of the harness: where its files are, and what runs in the cell."""

from __future__ import annotations

import dataclasses
import fnmatch
import os
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import contenders, tree
from .tree import UsageError

CPYTHON = "test_asyncio"
"""The name of CPython's own suite, which unittest runs."""
ANY = "pytest"
"""The name of a suite that the command line describes: a folder, files, arguments."""
PROGRAM = "program"
"""The name of the suite of one program (`suite_program`), which follows it on the command line."""


USUAL = ("**/test_*.py", "**/*_test.py")
"""Where pytest itself looks for tests."""


class Absent(Exception):
    """The suite cannot run here; the message says the remedy."""


@dataclasses.dataclass(frozen=True)
class Foreign:
    """A pytest suite of somebody else's."""

    name: str
    folder: Path
    files: tuple[str, ...]
    """Globs below the folder; without any pytest's own."""
    args: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    """Folders for ``PYTHONPATH``: what the suite needs beyond the contender's own packages."""
    pinned: bool = False
    """Pytest loads the plugins that `args` name and no others that happen to be installed."""

    def modules(self) -> list[str]:
        """The test files, relative to the folder.  Raises UsageError for a glob that no file fits, and without any file."""
        globs = self.files or USUAL
        found = {glob: {str(path.relative_to(self.folder)) for path in self.folder.glob(glob)} for glob in globs}
        every = set().union(*found.values())
        unfit = [glob for glob in self.files if not found[glob]] or ([] if every else globs)
        if unfit:
            raise UsageError(f"suite {self.name}: no file below {self.folder} fits {', '.join(unfit)}")
        return sorted(every)

    def spec(self) -> dict[str, Any]:
        """For the cell's process."""
        return {"folder": str(self.folder), "args": list(self.args)}


def table() -> dict[str, dict[str, Any]]:
    """The suites that are known by name.  Raises UsageError for a row that means nothing."""
    with open(tree.HERE / "suites.toml", "rb") as file:
        rows = tomllib.load(file)
    for name, row in rows.items():
        if set(row) != {"environment", "folder", "files", "args"}:
            raise UsageError(f"suites.toml: [{name}] needs exactly environment, folder, files and args")
    return rows


def names() -> list[str]:
    """The suites that have a name."""
    return [CPYTHON, *table()]


def stem(name: str) -> str:
    """What the files of a suite's results are called, without their extension."""
    return CPYTHON if name == CPYTHON else f"suite-{name}"


def find(name: str, folder: Path | None, files: Sequence[str], args: Sequence[str]) -> Foreign:
    """The suite of a name.  Raises UsageError for one that is not known, Absent for one that is not there."""
    if name == ANY:
        if folder is None or not folder.is_dir():
            raise UsageError("suite pytest: --folder names the folder in which pytest would be started")
        return Foreign(name, folder.resolve(), tuple(files), tuple(args))
    rows = table()
    if name not in rows:
        raise UsageError(contenders.unknown("suite", name, (CPYTHON, ANY, PROGRAM, *rows)))
    row = rows[name]
    python = tree.interpreter(row["environment"])
    if python is None:
        raise Absent(f"{tree.no_environment(row['environment'])} (or: ci/environments.py {row['environment']})")
    top = python.parent.parent
    packages = sorted(str(path) for path in top.glob("lib/python*/site-packages"))
    return Foreign(
        name, top / "suite" / row["folder"], tuple(row["files"]), (*row["args"], *args), tuple(packages), True
    )


class Reporter:
    """A plugin of pytest that reports each test as it begins and as it ends."""

    def __init__(
        self, spec: dict[str, Any], say: Callable[[dict[str, Any]], None], totals: Callable[[], dict[str, int]]
    ) -> None:
        self._begun = set(spec["begun"])
        self._only = spec["only"]
        self._match = spec["match"]
        self._say = say
        self._totals = totals
        self._before: dict[str, int] = {}
        self._began = 0.0
        self._outcome = "pass"
        self._detail = ""
        self.broken = ""
        self.left: int | None = None
        """Tests that have not ended; None until they are collected."""

    @staticmethod
    def pytest_configure(config: Any) -> None:
        """pytest-xdist, where it is told to (`-n` in a suite's own options): its workers are processes without a guest."""
        if getattr(config.option, "dist", "no") != "no":
            config.option.numprocesses = None
            config.option.dist, config.option.tx = "no", []

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [
            item
            for item in items
            if item.nodeid not in self._begun
            and (self._only is None or item.nodeid in self._only)
            # The brackets of parameters are a glob's, too.
            and (item.nodeid == self._match or fnmatch.fnmatchcase(item.nodeid, self._match))
        ]

    def pytest_collection_finish(self, session: Any) -> None:
        # Options of pytest's own may have left out more.
        self.left = len(session.items)
        self._say({"kind": "load", "tests": self.left})

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.broken = str(report.longrepr)[-4000:]

    def pytest_runtest_logstart(self, nodeid: str, location: Any) -> None:
        self._outcome, self._detail = "pass", ""
        self._before, self._began = self._totals(), time.monotonic()
        self._say({"kind": "begin", "test": nodeid})

    def pytest_runtest_logreport(self, report: Any) -> None:
        expected = hasattr(report, "wasxfail")
        if report.failed:
            self._outcome = "fail" if report.when == "call" else "error"
            self._detail += report.longreprtext
        elif report.skipped and self._outcome == "pass":
            self._outcome = "xfail" if expected else "skip"
            self._detail = str(report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr)
        elif expected and report.when == "call":
            self._outcome = "xpass"

    def pytest_runtest_logfinish(self, nodeid: str, location: Any) -> None:
        assert self.left is not None
        self.left -= 1
        now = self._totals()
        counted = {k: v - self._before.get(k, 0) for k, v in now.items() if v != self._before.get(k, 0)}
        self._say(
            {
                "kind": "end",
                "test": nodeid,
                "outcome": self._outcome,
                "detail": self._detail[-4000:],
                "seconds": round(time.monotonic() - self._began, 4),
                "counted": counted,
            }
        )


def run(spec: dict[str, Any], say: Callable[[dict[str, Any]], None], totals: Callable[[], dict[str, int]]) -> None:
    """In the cell: run a test file of a copy of the suite, reporting to `say`."""
    import shutil
    import sys

    import pytest
    import pytest.__main__

    copy = Path.cwd() / "suite"
    shutil.copytree(spec["pytest"]["folder"], copy, symlinks=True)
    os.chdir(copy)
    # As under `python -m pytest`: a process that a test starts may load the main module again, by the path of its file.
    own_main, sys.modules["__main__"] = sys.modules["__main__"], pytest.__main__
    reporter = Reporter(spec, say, totals)
    options = ["-q", "--rootdir", str(copy), *spec["pytest"]["args"]]
    try:
        code: object = int(pytest.main([spec["module"], *options], plugins=[reporter]))
    except SystemExit as error:
        code = f"SystemExit({error.code!r})"
    sys.modules["__main__"] = own_main
    # A module or a test may end pytest with a status that looks like a pass.
    if code not in (0, 1, 5) or reporter.left is None or (code != 1 and reporter.left):
        left = "before it had collected the tests" if reporter.left is None else f"with {reporter.left} tests left"
        reporter.broken = reporter.broken or f"pytest ended {left}, status {code}"
    say({"kind": "broken", "detail": reporter.broken} if reporter.broken else {"kind": "done"})
