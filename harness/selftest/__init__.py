"""``harness selftest``: is the suite able to reject?

Faults are seeded into the guest's core, the backends and the harness itself (``mutants.toml``). For each the case or
the test that is named for it runs without the fault, where it must be green, and with it, where it must be red, each
time that it is asked. A fault that nobody sees, or that is seen by chance, is a hole in the suite.
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
from .mutants import CannotBuild, Mutant, load, make_site, make_tree

SCHEMA = "asyncio-guest/selftest@1"
CELL_S, TEST_S = 600.0, 75.0
"""How long a detector may take.  A test that takes longer hangs, which is red."""
ATTEMPTS = 2
"""How often a detector is asked with a fault, unless told otherwise: it has to see it each time."""
GREEN_ATTEMPTS = 3
"""How often a detector that is not green without a fault is asked: cells about pace are noisy."""

EXAMPLES = """\
examples:
  selftest                              every fault; about twenty minutes
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

    mutant: Mutant
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

    def cell(self, detector: str, where: Path, site: Path) -> Seen:
        """Run a cell against the package in `site`."""
        contender, _, case = detector.partition("::")
        out = where / "cell.json"
        command = [sys.executable, "-m", tree.PACKAGE, "run", detector, "-q", "-j1", "--json", str(out)]
        # The same for the green run and the red one; a case ends long before its time.
        command += ["--results", str(where / "results"), "--timeout-scale", "0.5"]
        env = {"ASYNCIO_GUEST_SITE": str(site), "PYTHONPATH": f"{site}{os.pathsep}{tree.python_path()}"}
        status, text = self.run(command, where, env, CELL_S)
        try:
            document = json.loads(out.read_text())
        except (OSError, ValueError):
            return Seen("error", f"no results (status {status}): {text[-1500:]}")
        for cell in document["cells"]:
            if (cell["contender"], cell["case"]) == (contender, case):
                words = frozenset([cell["behaviour"], *(cell["teardown"] or ())])
                if cell["behaviour"] == "NOTRUN":
                    return Seen("error", f"NOTRUN: {cell['reason'][:1500]}")
                return Seen(" ".join([cell["behaviour"], *(cell["teardown"] or ())]), cell["reason"][:500], words)
        return Seen("error", f"the results lack the cell: {text[-1500:]}")

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

    def detect(self, mutant: Mutant, where: Path, *, fault: bool) -> Seen:
        """Run the detector of a mutant, with or without the fault."""
        try:
            if mutant.by_test:
                return self.test(mutant.detector, where, make_tree(mutant, where) if fault else tree.TOP)
            return self.cell(mutant.detector, where, make_site(mutant, self.site, where) if fault else self.site)
        except CannotBuild as error:
            return Seen("error", str(error))

    def judge(self, mutant: Mutant, green: Seen) -> Result:
        """Run the detector with the fault; `green` is how it ended without."""
        began = time.monotonic()
        result = Result(mutant, green, [])
        for attempt in range(self.attempts):
            where = self.folder / f"{mutant.name}-{attempt}"
            result.times.append(self.detect(mutant, where, fault=True))
            shutil.rmtree(where / "site", ignore_errors=True)
            if result.verdict == "INVALID":
                break
        result.seconds = time.monotonic() - began
        return result

    def judge_after(self, mutant: Mutant, green: concurrent.futures.Future[Seen]) -> Result:
        """`judge`, once the run without the fault is over."""
        return self.judge(mutant, green.result())

    def without(self, mutant: Mutant) -> Seen:
        """The detector without the fault."""
        seen = Seen("error", "did not run")
        for attempt in range(GREEN_ATTEMPTS):
            seen = self.detect(mutant, self.folder / f"{mutant.name}-green-{attempt}", fault=False)
            if seen.green:
                break
        return seen


def end_below(folder: Path) -> None:
    """End the processes that work in `folder`: cells of a harness that was killed, or that does not end them."""
    for path in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError, ValueError):
            if Path(os.readlink(path)).is_relative_to(folder):
                os.kill(int(path.parent.name), signal.SIGKILL)


def choose(names: Sequence[str], shard: shards.Shard | None) -> list[Mutant]:
    """The mutants that the globs mean.  Raises UsageError."""
    table = load()
    chosen: dict[str, Mutant] = {}
    for pattern in names or ["*"]:
        found = [name for name in table if fnmatch.fnmatchcase(name, pattern)]
        if not found:
            raise UsageError(unknown("fault", pattern, table))
        chosen.update((name, table[name]) for name in found)
    if shard is not None:
        number = shards.split(chosen, shard.count, lambda name: name)
        chosen = {name: mutant for name, mutant in chosen.items() if number[name] == shard.number}
    return list(chosen.values())


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
    site = tree.site()
    if not tree.IN_TREE or site is None:
        raise UsageError("selftest changes sources and builds them: it needs the source tree, and make build")
    folder = Path(tempfile.mkdtemp(prefix="ag-selftest-"))
    bench = Bench(folder, site, options.attempts)
    jobs = options.jobs or len(os.sched_getaffinity(0))
    began = time.monotonic()
    done: list[Result] = []
    interrupted = False
    pool = concurrent.futures.ThreadPoolExecutor(jobs)
    try:
        # One green run for all mutants of one detector.
        green = {m.detector: pool.submit(bench.without, m) for m in {m.detector: m for m in mutants}.values()}
        futures = [pool.submit(bench.judge_after, m, green[m.detector]) for m in mutants]
        for number, future in enumerate(concurrent.futures.as_completed(futures), 1):
            result = future.result()
            done.append(result)
            style = "green" if result.verdict == "CAUGHT" else "bold red"
            out.print(
                f"{number:>3}/{len(mutants)} {result.says} {result.mutant.name}: {result.mutant.detector} is "
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
