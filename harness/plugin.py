"""The cells as pytest items.

    pytest -p harness.plugin scenarios/cases --contender guest/tk
    pytest -p asyncio_guest._conformance.harness.plugin --pyargs asyncio_guest._conformance.scenarios.cases \
        --contender my_module:my_factory

Each item runs one cell in a process of its own.  Selection, ``-x``, ``--lf``, ``--junitxml`` and pytest-xdist
are pytest's.  PASS, INFO and WEAK pass; UNSUPPORTED skips, and so does NOTRUN where the cell cannot run here: a
contender that is there and breaks fails.  An expected failure is an xfail; an expectation that no longer holds fails.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from . import contenders, expectations, results, tree
from .session import Ahead, Session
from .verdicts import Cell

CELL = "harness_cell"


class CellFailed(Exception):
    """A cell's verdict that fails its item."""

    def __init__(self, cell: Cell) -> None:
        super().__init__(cell.reason)
        self.cell = cell


class Weak(UserWarning):
    """A SHOULD was missed."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("asyncio-guest", "cells of the conformance harness")
    add = group.addoption
    add("--contender", action="append", default=[], metavar="GLOB", help="contender or module:factory (repeatable)")
    add("--cell-tier", choices=("quick", "full"), default="quick", help="tier of the cases (default: quick)")
    add("--cell-cases", action="append", default=[], metavar="MODULE", help="module or file with further cases")
    add("--cell-jobs", type=int, default=1, metavar="N", help="cells at a time (without xdist)")
    add("--cell-repeat", type=int, default=1, metavar="N", help="run each cell N times")
    add("--cell-timeout-scale", type=float, default=1.0, metavar="F", help="factor on all watchdogs")
    add("--cell-expect", "--expect", action="append", default=[], metavar="FILE", help="file of expectations (repeatable)")
    add("--cell-json", default=None, metavar="FILE", help="write the results file here")


class Plugin:
    """The state of a pytest session with cells; `front` may bring its own session and selection."""

    def __init__(
        self,
        config: pytest.Config,
        session: Session | None = None,
        cells: list[tuple[str, str]] | None = None,
        jobs: int = 1,
        expected: list[expectations.Expectation] | None = None,
    ) -> None:
        self.config = config
        self.worker = hasattr(config, "workerinput")
        self.owned = session is None
        option = config.option
        if session is None:
            run_dir = Path(config.workerinput["harness_run_dir"]) if self.worker else None  # type: ignore[attr-defined]
            session = Session(
                case_modules=option.cell_cases,
                timeout_scale=option.cell_timeout_scale,
                repeat=option.cell_repeat,
                run_dir=run_dir,
                scale=config.workerinput["harness_scale"] if self.worker else None,  # type: ignore[attr-defined]
            )
            jobs = option.cell_jobs
            expected = expectations.load(option.cell_expect)
        self.session = session
        self.jobs = jobs
        self.expected = expected or []
        self.cells = cells
        self.names = [] if cells is not None else self._names(option.contender)
        self.files: dict[Path, list[Any]] = {}
        for case in session.cases.values():
            self.files.setdefault(tree.case_file(case), []).append(case)
        self.ahead: Ahead | None = None
        self.seen: list[Cell] = []

    def _names(self, wanted: list[str]) -> list[str]:
        tier = self.config.option.cell_tier
        names: dict[str, None] = {}
        for pattern in wanted or ["*"]:
            names.update(dict.fromkeys(contenders.expand(pattern, tier)))
        return list(names)

    def of_file(self, path: Path) -> list[tuple[str, Any]]:
        """The cells whose cases are in a file."""
        cases = self.files.get(path.resolve(), [])
        if self.cells is not None:
            ids = {case.id: case for case in cases}
            return [(name, ids[id]) for name, id in self.cells if id in ids]
        tier = self.config.option.cell_tier
        return [(name, c) for name in self.names for c in cases if tier == "full" or c.tier == "quick"]

    # -- hooks

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        if file_path.suffix == ".py" and self.of_file(file_path):
            found: pytest.Collector = CaseFile.from_parent(parent, path=file_path, plugin=self)
            return found
        return None

    def pytest_pycollect_makemodule(self, module_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        """A file of cases that is named on the command line is no module of tests beside."""
        if module_path.resolve() not in self.files:
            return None
        nothing: pytest.Collector = Nothing.from_parent(parent, path=module_path)
        return nothing

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Iterator[None]:
        # xdist's controller collects nothing itself.
        cells = [(item.contender, item.case.id) for item in getattr(session, "items", []) if isinstance(item, CellItem)]
        if cells and self.jobs > 1 and not self.worker and not session.config.option.collectonly:
            self.ahead = Ahead(self.session, cells, self.jobs)
        try:
            yield
        finally:
            if self.ahead is not None:
                self.ahead.close()

    def run(self, name: str, id: str) -> Cell:
        """The judged result of a cell."""
        cell = self.session.run_cell(name, id) if self.ahead is None else self.ahead.result(name, id)
        return expectations.apply(cell, self.expected)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
        outcome = yield
        if isinstance(item, CellItem) and item.cell is not None and call.when == "call":
            setattr(outcome.get_result(), CELL, item.cell.as_json())  # type: ignore[attr-defined]

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["harness_run_dir"] = str(self.session.run_dir)
        node.workerinput["harness_scale"] = self.session.scale

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = getattr(report, CELL, None)
        if data is not None and not self.worker:
            self.seen.append(Cell(**data))

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        path = self.config.option.cell_json if self.owned and not self.worker else None
        if path:
            results.write(
                Path(path),
                results.document(
                    self.seen,
                    scale=self.session.scale,
                    tier=self.config.option.cell_tier,
                    interrupted=exitstatus == pytest.ExitCode.INTERRUPTED,
                    exit_code=int(exitstatus),
                ),
            )

    def pytest_unconfigure(self) -> None:
        if self.owned:
            self.session.close()


class Nothing(pytest.File):
    """A file without tests."""

    def collect(self) -> Iterable[pytest.Item]:
        return ()


class CaseFile(pytest.File):
    """A file of cases."""

    def __init__(self, *, plugin: Plugin, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plugin = plugin

    def collect(self) -> Iterable[CellItem]:
        for name, case in self.plugin.of_file(self.path):
            yield CellItem.from_parent(self, name=f"{case.id}[{name}]", contender=name, case=case)


class CellItem(pytest.Item):
    """One cell."""

    def __init__(self, *, contender: str, case: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.contender = contender
        self.case = case
        self.cell: Cell | None = None
        self.add_marker(case.group)
        self.add_marker(case.tier)

    def runtest(self) -> None:
        parent = self.parent
        assert isinstance(parent, CaseFile)
        self.cell = cell = parent.plugin.run(self.contender, self.case.id)
        if results.unknown(cell):
            raise CellFailed(cell)
        if cell.behaviour in ("UNSUPPORTED", "NOTRUN"):
            if cell.expected is None or not cell.expected["stale"]:
                pytest.skip(f"{cell.behaviour}: {cell.reason}")
        if cell.expected is not None:
            if cell.expected["stale"]:
                raise CellFailed(cell)
            pytest.xfail(f"{cell.expected['reason']} ({cell.expected['issue']}): {cell.reason}")
        if cell.bad:
            raise CellFailed(cell)
        if cell.behaviour == "WEAK":
            warnings.warn(Weak(f"{cell.contender} {cell.case}: {cell.reason}"), stacklevel=1)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if not isinstance(excinfo.value, CellFailed):
            return super().repr_failure(excinfo, style)
        cell = excinfo.value.cell
        verdict = " ".join([cell.behaviour, *(cell.teardown or [])])
        lines = [f"{verdict}: {cell.contender} {cell.case}: {cell.reason}"]
        if cell.expected is not None and cell.expected["stale"]:
            lines.insert(0, f"stale expectation: {cell.expected}")
        for key in ("traceback", "stderr"):
            if cell.detail.get(key):
                lines.append(f"--- {key}\n{cell.detail[key]}")
        lines.append(f"again: {cell.rerun}")
        return "\n".join(lines)

    def reportinfo(self) -> tuple[os.PathLike[str] | str, int | None, str]:
        line = self.case.func.__code__.co_firstlineno - 1
        return self.path, line, f"{self.contender} {self.case.id}"


def pytest_configure(config: pytest.Config) -> None:
    for marker in [*"TCSLPXKAQDEZGHNFIRWU", "quick", "full"]:
        config.addinivalue_line("markers", f"{marker}: group or tier of conformance cases")
    front = config.pluginmanager.get_plugin("harness-front")
    try:
        plugin = Plugin(config) if front is None else front.plugin(config)
    except tree.UsageError as error:
        raise pytest.UsageError(str(error)) from error
    config.pluginmanager.register(plugin, "harness-cells")
