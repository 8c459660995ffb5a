"""``harness selftest``: is the suite able to reject?

Faults are seeded into the guest's core, the backends and the harness itself (``mutants.toml``), and into asyncio's own
loop (``loops``). For each the case or the test that is named for it runs without the fault, where it must be green, and
with it, where it must be red, each time that it is asked. A fault that nobody sees, or that is seen by chance, is a hole
in the suite.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import dataclasses
import fnmatch
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import report, results, shards, tree
from ..contenders import unknown
from ..tree import UsageError
from . import loops
from .mutants import CannotBuild, Mutant, load, make_site, make_tree

Fault = Mutant | loops.LoopFault

SCHEMA = "asyncio-guest/selftest@1"
CELL_S, TEST_S = 600.0, 75.0
"""How long a detector may take.  A test that takes longer hangs, which is red."""
SLOW_S = 60.0
"""What is given more than that needs it: a minute of idleness, asked three times."""
TOGETHER = 8
"""Cells without a fault in one harness: a part of the detectors, so that it is not the last thing that runs."""
ATTEMPTS = 2
"""How often a detector is asked with a fault, unless told otherwise: it has to see it each time."""
GREEN_ATTEMPTS = 3
"""How often a detector that is not green without a fault is asked: cells about pace are noisy."""

EXAMPLES = """\
examples:
  selftest                              every fault; about an hour on two cores
  selftest --list                       the faults and what has to see them
  selftest 'timer*' 'harness-*'         some of them, by name
  selftest --attempts 10 'timer*'       their detectors have to see them ten times of ten
  selftest --shard 1/4 --json a.json    a quarter of them

"""


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    add = verb.add_argument
    add("name", nargs="*", metavar="NAME", help="globs of faults (default: all)")
    add("--list", action="store_true", help="only list the faults")
    add("--attempts", type=int, default=ATTEMPTS, metavar="N", help=f"times that a fault has to be seen (default: {ATTEMPTS})")
    add("-j", "--jobs", type=int, default=0, metavar="N", help="detectors at a time (default: one a core)")
    add("--shard", type=shards.parse, metavar="K/N", help="only the K-th of N parts of the faults")
    add("--json", type=Path, metavar="FILE", help="results file (default: results/latest/selftest.json)")
    add("--keep", action="store_true", help="keep the folders of the mutants, and say where")


@dataclasses.dataclass
class Seen:
    """How a detector ended."""

    what: str
    """``PASS``, ``FAIL``, ``PASS LEAK_FD``; ``green``, ``red`` of a test; ``error``."""
    reason: str
    words: frozenset[str] = frozenset()

    @property
    def green(self) -> bool:
        return self.what in ("PASS", "green")


@dataclasses.dataclass
class Result:
    """One fault, judged."""

    mutant: Fault
    without: Seen
    times: list[Seen]
    """How the detector ended with the fault, each time that it was asked."""
    seconds: float = 0.0

    @property
    def caught(self) -> int:
        """How often the fault was seen."""
        return sum(bool(seen.words & set(self.mutant.sees)) for seen in self.times)

    @property
    def with_fault(self) -> Seen:
        """How the detector ended with the fault: the time that tells most, a failure to run before one that missed it."""
        return min(self.times, key=lambda seen: (seen.what != "error", bool(seen.words & set(self.mutant.sees))))

    @property
    def verdict(self) -> str:
        """CAUGHT: each time; SOMETIMES; MISSED; INVALID: not green without the fault, or it could not be made."""
        if not self.without.green or self.with_fault.what == "error":
            return "INVALID"
        return "CAUGHT" if self.caught == len(self.times) else "SOMETIMES" if self.caught else "MISSED"

    @property
    def says(self) -> str:
        """The verdict, and how many of how many times where that is the news."""
        return f"SOMETIMES ({self.caught} of {len(self.times)})" if self.verdict == "SOMETIMES" else self.verdict

    def as_json(self) -> dict[str, Any]:
        m = self.mutant
        return {
            "name": m.name,
            "fault": m.fault,
            "in": m.about,
            "file": m.file,
            "detector": m.detector,
            "case": m.case,
            "sees": list(m.sees),
            "without": {"what": self.without.what, "reason": self.without.reason},
            "with": {"what": self.with_fault.what, "reason": self.with_fault.reason},
            "caught": self.caught,
            "asked": len(self.times),
            "verdict": self.verdict,
            "seconds": round(self.seconds, 1),
        }


class Bench:
    """Makes mutants and runs their detectors, each in a folder of its own."""

    def __init__(self, folder: Path, site: Path, attempts: int = ATTEMPTS) -> None:
        self.folder = folder
        self.site = site
        self.attempts = attempts
        self.ended = False
        self._live: set[subprocess.Popen[bytes]] = set()

    def abort(self) -> None:
        """Start no more, and end what runs: a harness ends its own cells."""
        self.ended = True
        for process in list(self._live):
            process.terminate()

    def run(self, command: Sequence[str], where: Path, env: dict[str, str], seconds: float) -> tuple[int | None, str]:
        """Status (None: it had to be killed) and output of a command; nothing that it started is left."""
        where.mkdir(parents=True, exist_ok=True)
        if self.ended:
            raise KeyboardInterrupt
        full = {**os.environ, **env, "TMPDIR": str(where), "NO_COLOR": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        full.pop("PYTEST_CURRENT_TEST", None)
        with open(where / "output", "wb") as out:
            process = subprocess.Popen(
                command,
                cwd=env.get("AG_TOP", str(tree.TOP)),
                env=full,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._live.add(process)
            try:
                status: int | None = process.wait(seconds)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                self._live.discard(process)
                end_below(where)
        return status, (where / "output").read_text(errors="replace")

    def cells(self, detectors: Sequence[str], where: Path, site: Path) -> dict[str, Seen]:
        """Run cells against the package in `site`."""
        out = where / "cell.json"
        command = [sys.executable, "-m", tree.PACKAGE, "run", *detectors, "-q", "-j1", "--json", str(out)]
        # The same for the green run and the red one; a case ends long before its time, but for one that is given much.
        cases = tree.load_cases()
        slow = any(cases[one.rpartition("::")[2]].timeout > SLOW_S for one in detectors)
        command += ["--results", str(where / "results"), "--timeout-scale", "1" if slow else "0.5"]
        env = {"ASYNCIO_GUEST_SITE": str(site), "PYTHONPATH": f"{site}{os.pathsep}{tree.python_path()}"}
        status, text = self.run(command, where, env, CELL_S + 30.0 * len(detectors))
        try:
            ran = {f"{cell['contender']}::{cell['case']}": cell for cell in json.loads(out.read_text())["cells"]}
        except (OSError, ValueError):
            return dict.fromkeys(detectors, Seen("error", f"no results (status {status}): {text[-1500:]}"))
        return {
            one: _seen(ran[one]) if one in ran else Seen("error", f"the results lack the cell: {text[-1500:]}")
            for one in detectors
        }

    def test(self, detector: str, where: Path, top: Path) -> Seen:
        """Run a test of the framework in the tree `top`."""
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--tb=line", detector]
        path = os.pathsep.join([str(self.site), str(top), os.environ.get("PYTHONPATH", "")])
        env = {"ASYNCIO_GUEST_SITE": str(self.site), "PYTHONPATH": path, "AG_TOP": str(top)}
        status, text = self.run(command, where, env, TEST_S)
        if status == 0:
            return Seen("green", "")
        if status is None:
            return Seen("red", f"no end within {TEST_S:.0f} s", frozenset({"red"}))
        said = [line for line in text.splitlines() if line.strip()]
        if status == 1:
            line = next((line for line in said if "rror" in line or "assert" in line), said[-1] if said else "")
            return Seen("red", line[:500], frozenset({"red"}))
        return Seen("error", f"pytest ended with {status}: {' '.join(said[-5:])[:1500]}")

    def detect(self, faults: Sequence[Fault], where: Path) -> list[Seen]:
        """Run the detectors of faults that are one change, with it."""
        first = faults[0]
        try:
            if isinstance(first, Mutant) and first.by_test:
                top = make_tree(first, where)
                return [self.test(fault.detector, where, top) for fault in faults]
            site = make_site(first, self.site, where) if isinstance(first, Mutant) else self.site
            seen = self.cells([fault.detector for fault in faults], where, site)
            return [seen[fault.detector] for fault in faults]
        except CannotBuild as error:
            return [Seen("error", str(error))] * len(faults)

    def judge(self, faults: Sequence[Fault], green: Sequence[Seen]) -> list[Result]:
        """Run the detectors of one change with it; `green` is how each ended without."""
        began = time.monotonic()
        done = [Result(fault, seen, []) for fault, seen in zip(faults, green, strict=True)]
        for attempt in range(self.attempts):
            where = self.folder / f"{faults[0].name}-{attempt}"
            for result, seen in zip(done, self.detect(faults, where), strict=True):
                result.times.append(seen)
            shutil.rmtree(where / "site", ignore_errors=True)
            if all(result.verdict == "INVALID" for result in done):
                break
        for result in done:
            result.seconds = (time.monotonic() - began) / len(done)
        return done

    def without(self, cells: Sequence[str], name: str) -> dict[str, Seen]:
        """These cells without a fault, in one harness: each again that is not green, for the machine may be busy."""
        left = list(cells)
        seen: dict[str, Seen] = {}
        for attempt in range(GREEN_ATTEMPTS):
            seen |= self.cells(left, self.folder / f"{name}-green-{attempt}", self.site)
            left = [one for one in left if not seen[one].green]
            if not left:
                break
        return seen

    def judge_after(
        self, faults: Sequence[Fault], green: Sequence[concurrent.futures.Future[dict[str, Seen]]]
    ) -> list[Result]:
        """`judge`, once the runs without the fault are over."""
        seen = [one.result() for one in green]
        return self.judge(faults, [one[fault.green] for one, fault in zip(seen, faults, strict=True)])

    def without_test(self, test: str, name: str) -> dict[str, Seen]:
        """A test of the framework, without a fault."""
        seen = Seen("error", "did not run")
        for attempt in range(GREEN_ATTEMPTS):
            seen = self.test(test, self.folder / f"{name}-green-{attempt}", tree.TOP)
            if seen.green:
                break
        return {test: seen}


def _seen(cell: dict[str, Any]) -> Seen:
    """What a cell of the results says."""
    if cell["behaviour"] == "NOTRUN":
        return Seen("error", f"NOTRUN: {cell['reason'][:1500]}")
    words = [cell["behaviour"], *(cell["teardown"] or ())]
    return Seen(" ".join(words), cell["reason"][:500], frozenset(words))


def end_below(folder: Path) -> None:
    """End the processes that work in `folder`: cells of a harness that was killed, or that does not end them."""
    for path in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError, ValueError):
            if Path(os.readlink(path)).is_relative_to(folder):
                os.kill(int(path.parent.name), signal.SIGKILL)


def choose(names: Sequence[str], shard: shards.Shard | None) -> list[Fault]:
    """The faults that the globs mean.  Raises UsageError."""
    table: dict[str, Fault] = {**load(), **loops.load()}
    chosen: dict[str, Fault] = {}
    for pattern in names or ["*"]:
        found = [name for name in table if fnmatch.fnmatchcase(name, pattern)]
        if not found:
            raise UsageError(unknown("fault", pattern, table))
        chosen.update((name, table[name]) for name in found)
    if shard is not None:
        number = shards.split(chosen, shard.count, lambda name: name)
        chosen = {name: mutant for name, mutant in chosen.items() if number[name] == shard.number}
    return list(chosen.values())


def runnable(faults: Sequence[Fault]) -> list[Fault]:
    """Those whose cases this Python is new enough for.  Raises UsageError for none."""
    cases = tree.load_cases()
    needs = {fault.name: cases[fault.case].min_python if fault.case in cases else () for fault in faults}
    found = [fault for fault in faults if sys.version_info >= needs[fault.name]]
    if faults and not found:
        needed = ".".join(map(str, max(needs.values())))
        raise UsageError(f"{', '.join(needs)}: seen by cases that need Python {needed} (make selftest PYTHON=...)")
    return found


def submit(
    bench: Bench, pool: concurrent.futures.Executor, faults: Sequence[Fault]
) -> list[concurrent.futures.Future[list[Result]]]:
    """Start all of it, what must be green first: nothing in the pool waits for what comes after it."""
    changes: dict[tuple[str, ...], list[Fault]] = {}
    for fault in faults:
        changes.setdefault(fault.change, []).append(fault)
    # What has to be green runs once, whatever has to see what, and several in one harness: it takes as long to start.
    green: dict[str, concurrent.futures.Future[dict[str, Seen]]] = {}
    for fault in faults:
        if fault.by_test and fault.green not in green:
            green[fault.green] = pool.submit(bench.without_test, fault.green, fault.name)
    cells = sorted({fault.green for fault in faults if not fault.by_test})
    for start in range(0, len(cells), TOGETHER):
        some = cells[start : start + TOGETHER]
        green |= dict.fromkeys(some, pool.submit(bench.without, some, f"cells-{start}"))
    return [pool.submit(bench.judge_after, these, [green[one.green] for one in these]) for these in changes.values()]


def main(options: argparse.Namespace) -> int:
    """The verb; the exit code (3: a fault was missed or seen by chance, or its detector is no use)."""
    if options.attempts < 1 or options.jobs < 0:
        raise UsageError("--attempts must be positive, --jobs not negative")
    mutants = choose(options.name, options.shard)
    out = report.console()
    if options.list:
        for mutant in mutants:
            out.print(f"{mutant.name} (in {mutant.about}): {mutant.fault}", markup=False)
            out.print(f"    {mutant.detector} -> {' or '.join(mutant.sees)}", markup=False, style="bright_black")
        out.print(f"{len(mutants)} faults")
        return results.OK
    mutants = runnable(mutants)
    site = tree.site()
    if not tree.IN_TREE or site is None:
        raise UsageError("selftest changes sources and builds them: it needs the source tree, and make build")
    folder = Path(tempfile.mkdtemp(prefix="ag-selftest-"))
    bench = Bench(folder, site, options.attempts)
    jobs = options.jobs or tree.cores()
    began = time.monotonic()
    done: list[Result] = []
    interrupted = False
    pool = concurrent.futures.ThreadPoolExecutor(jobs)
    try:
        for future in concurrent.futures.as_completed(submit(bench, pool, mutants)):
            for result in future.result():
                done.append(result)
                style = "green" if result.verdict == "CAUGHT" else "bold red"
                out.print(
                    f"{len(done):>3}/{len(mutants)} {result.says} {result.mutant.name}: {result.mutant.detector} is "
                    f"{result.with_fault.what} ({result.seconds:.0f} s)",
                    style=style,
                    markup=False,
                )
    except KeyboardInterrupt:
        interrupted = True
        bench.abort()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        if options.keep:
            out.print(f"the mutants' folders stay in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    done.sort(key=lambda result: [m.name for m in mutants].index(result.mutant.name))
    code = exit_code(done, len(mutants), interrupted)
    document = {
        "schema": SCHEMA,
        "meta": results.meta(
            exit_code=code,
            interrupted=interrupted,
            tier="full",
            seconds=time.monotonic() - began,
            shard=None if options.shard is None else str(options.shard),
        ),
        "faults": [result.as_json() for result in done],
    }
    path = options.json or tree.root() / "results" / "latest" / "selftest.json"
    results.write(path, document, "selftest")
    show(done, out)
    out.print(f"results: {path} (exit code {code})", markup=False)
    return code


def exit_code(done: Sequence[Result], wanted: int, interrupted: bool) -> int:
    """3 unless every fault was made, and caught each time by a detector that is green without it."""
    if interrupted:
        return results.INTERRUPTED
    if not done or len(done) < wanted:
        return results.NOTHING_RAN
    return results.OK if all(result.verdict == "CAUGHT" for result in done) else results.UNEXPECTED


def show(done: Sequence[Result], out: Any) -> None:
    """The table, and what is wrong below it."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD if out.is_terminal else box.ASCII2, pad_edge=False)
    for name in ("fault", "in", "seen by", "without", "with", "verdict"):
        table.add_column(name, no_wrap=True)
    for result in done:
        style = "green" if result.verdict == "CAUGHT" else "bold red"
        detector = result.mutant.detector.removeprefix("harness/tests/")
        row = [result.mutant.name, result.mutant.about, detector, result.without.what, result.with_fault.what]
        table.add_row(*map(escape, row), f"[{style}]{result.says}[/]")
    out.print(table)
    for result in done:
        if result.verdict == "CAUGHT":
            continue
        out.print(f"{result.says} {result.mutant.name}: {result.mutant.fault}", style="bold red", markup=False)
        out.print(f"    expected {' or '.join(result.mutant.sees)} of {result.mutant.detector}", markup=False)
        for when, seen in (("without", result.without), ("with", result.with_fault)):
            out.print(f"    {when} the fault: {seen.what}: {seen.reason}", markup=False)
    caught = sum(result.verdict == "CAUGHT" for result in done)
    out.print(f"{caught} of {len(done)} seeded faults were caught")
