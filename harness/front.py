"""The friendly front of the cells: pytest in this process, with a live table in place of pytest's own reporter."""

from __future__ import annotations

import argparse
import collections
import os
import time
from typing import Any

import pytest

from . import expectations, plugin, report, results, shards, tree
from .session import Session
from .verdicts import Cell


class Live:
    """Progress while cells run.  All methods run on the thread that prints."""

    def __init__(self, out: Any, total: int, quiet: bool) -> None:
        self.out = out
        self.total = total
        self.quiet = quiet
        self.done = 0
        self.counts: dict[str, collections.Counter[str]] = {}
        self._live: Any = None
        self._began = time.monotonic()
        if out.is_terminal:
            from rich.live import Live as RichLive

            self._live = RichLive(console=out, refresh_per_second=8, transient=True, get_renderable=self._render)
            self._live.start()

    def _render(self) -> Any:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
        for name, counts in self.counts.items():
            words = [f"[{report.STYLES[b]}]{n} {b}[/]" for b, n in counts.most_common() if b in report.STYLES]
            if counts["unclean"]:
                words.append(f"[bold red]{counts['unclean']} unclean[/]")
            table.add_row(name, " ".join(words))
        table.add_row(f"{self.done}/{self.total}", f"{time.monotonic() - self._began:.0f} s")
        return table

    def add(self, cell: Cell) -> None:
        """A cell has its verdict."""
        from rich.markup import escape

        self.done += 1
        counts = self.counts.setdefault(cell.contender, collections.Counter())
        counts[cell.behaviour] += 1
        counts["unclean"] += bool(cell.teardown)
        wrong = results.unexpected(cell) or (cell.expected is not None and cell.expected["stale"])
        passed = cell.behaviour in ("PASS", "UNSUPPORTED") and not cell.teardown
        if (self._live is not None or self.quiet) and not wrong:
            return
        reason = "" if passed and cell.behaviour == "PASS" else ": " + cell.reason + report.note(cell)
        style = "bold red" if wrong else report.STYLES[cell.behaviour]
        number = f"[bright_black]{self.done:>4}/{self.total}[/]"
        self.out.print(
            f"{number} [{style}]{report.verdict(cell)}[/] {escape(cell.contender)} {cell.case} "
            f"[bright_black]{cell.seconds:.2f} s[/]{escape(reason.splitlines()[0] if reason else '')}"
        )

    def stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


class Front:
    """One ``harness run``."""

    def __init__(
        self,
        session: Session,
        cells: list[tuple[str, str]],
        expected: list[expectations.Expectation],
        options: argparse.Namespace,
        seed: int | None,
        others: dict[tuple[str, str], int] | None = None,
    ) -> None:
        """`others`: the cells of other shards, with the numbers of these."""
        self.session = session
        self.cells = cells
        self.expected = expected
        self.options = options
        self.seed = seed
        self.others = others or {}
        # A cell waits for a quarter of its time.
        self.jobs = options.jobs or tree.cores() + 1
        self.out = report.console()
        self.live: Live | None = None
        self.seen: dict[tuple[str, str], Cell] = {}
        self.errors: list[str] = []
        self._plugin: plugin.Plugin | None = None

    def plugin(self, config: pytest.Config) -> plugin.Plugin:
        """The cells' plugin for this session; asked for by `plugin.pytest_configure`."""
        self._plugin = plugin.Plugin(config, self.session, self.cells, self.jobs, self.expected)
        return self._plugin

    # -- hooks

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        order = {cell: number for number, cell in enumerate(self.cells)}
        items[:] = [item for item in items if isinstance(item, plugin.CellItem)]
        items.sort(key=lambda item: order[item.contender, item.case.id])  # type: ignore[attr-defined]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = getattr(report, plugin.CELL, None)
        if data is not None:
            cell = Cell(**data)
            if not cell.detail.get("interrupted"):
                self.seen[cell.contender, cell.case] = cell
                if self.live is not None:
                    self.live.add(cell)
        elif report.failed:
            self.errors.append(f"{report.nodeid}: {report.longreprtext}")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.errors.append(f"{report.nodeid}: {report.longreprtext}")

    def pytest_internalerror(self, excrepr: Any) -> None:
        self.errors.append(str(excrepr))

    # -- the run

    def run(self) -> int:
        """Run the cells, show and write the results; the exit code."""
        options = self.options
        if self.seed is not None:
            self.out.print(f"order shuffled with seed {self.seed}; --shuffle {self.seed} repeats it")
        if self.session.keep:
            self.out.print(f"the cells' folders stay in {self.session.run_dir}")
        began = time.monotonic()
        files = sorted({str(tree.case_file(self.session.cases[id])) for _, id in self.cells})
        arguments = ["-c", str(tree.HERE / "cells.ini"), "--rootdir", str(tree.TOP), "-s", "-p", "no:cacheprovider"]
        arguments += ["-p", f"{tree.PACKAGE}.plugin", "-p", "no:python", "-p", "no:doctest"]
        if options.junit:
            arguments += [f"--junitxml={options.junit}", "-o", "junit_suite_name=asyncio-guest"]
        if options.exitfirst:
            arguments.append("-x")
        before = os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        interrupted = False
        status: int = pytest.ExitCode.NO_TESTS_COLLECTED
        self.live = Live(self.out, len(self.cells), options.quiet)
        try:
            if files:
                status = pytest.main([*arguments, *files], plugins=[_Registrar(self), _Silencer()])
        except KeyboardInterrupt:
            interrupted = True
        finally:
            self.live.stop()
            if before is None:
                del os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"]
            else:
                os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = before
        interrupted = interrupted or (status == pytest.ExitCode.INTERRUPTED and not self.errors)
        return self.finish(interrupted, status, time.monotonic() - began)

    def complete(self, interrupted: bool) -> list[Cell]:
        """All selected cells, those without a verdict as NOTRUN."""
        if self._plugin is not None and self._plugin.ahead is not None:
            for cell in self._plugin.ahead.finished():
                key = (cell.contender, cell.case)
                if key not in self.seen and not cell.detail.get("interrupted"):
                    self.seen[key] = expectations.apply(cell, self.expected)
        why = "the run was interrupted" if interrupted else "the run was stopped before"
        return [
            self.seen.get(cell) or self.session.cell(*cell, "NOTRUN", why, detail={"interrupted": True})
            for cell in self.cells
        ]

    def finish(self, interrupted: bool, status: int, seconds: float) -> int:
        """Write and show; the exit code."""
        options = self.options
        cells = self.complete(interrupted)
        code = results.exit_code(cells, interrupted=interrupted, require=options.require, strict=options.strict)
        if self.errors or status in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
            code = results.CRASHED
        shard = options.shard
        if shard is not None and not cells and code == results.NOTHING_RAN:
            code = results.OK  # more shards than cases: this one has none
        if shard is not None:
            elsewhere = [self.session.cell(*cell, **shards.other(shard, n)) for cell, n in self.others.items()]
            self.out.print(f"shard {shard}: {len(cells)} cells of {len(cells) + len(elsewhere)}")
        else:
            elsewhere = []
        document = results.document(
            [*cells, *elsewhere],
            seed=self.seed,
            shard=None if shard is None else str(shard),
            interrupted=interrupted,
            exit_code=code,
            tier=options.tier,
            scale=self.session.scale,
            seconds=seconds,
        )
        folder = options.results or tree.root() / "results" / "latest"
        text = report.markdown(document)
        for path in filter(None, (folder / "conformance.json", options.json)):
            results.write(path, document)
        for path in filter(None, (folder / "conformance.md", options.markdown)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        report.show(cells, self.out, seconds=seconds)
        if options.verbose:
            self._details(cells)
        for error in self.errors:
            self.out.print(error, style="bold red", markup=False)
        if interrupted:
            self.out.print("interrupted: what ran is in the results, the rest is NOTRUN")
        self.out.print(f"results: {folder / 'conformance.json'} (exit code {code})")
        return code

    def _details(self, cells: list[Cell]) -> None:
        for cell in cells:
            if cell.behaviour in ("PASS", "UNSUPPORTED") and not cell.teardown:
                continue
            for key in ("unclean", "traceback", "stderr", "stdout", "last_events", "events", "plain_events"):
                if cell.detail.get(key):
                    self.out.print(f"--- {cell.contender} {cell.case}: {key}", markup=False)
                    self.out.print(str(cell.detail[key]).rstrip(), markup=False)


class _Registrar:
    """Registers the front under its name, by which `plugin` finds it, before other plugins are configured."""

    def __init__(self, front: Front) -> None:
        self.front = front

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        config.pluginmanager.register(self.front, "harness-front")


class _Silencer:
    """Takes pytest's own reporter away, but leaves its options, which other plugins read."""

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            config.pluginmanager.unregister(reporter)
