"""Base against head: CPython's test_asyncio test by test, and the conformance cases cell by cell."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import fcntl
import functools
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from .. import suite, verdicts
from ..session import IDLE_JOBS, Interrupted, Session, phase
from ..suite import Test
from ..verdicts import Cell

T = TypeVar("T")
REPEATS = 2
"""How often what differs is run again, alone, on both sides, before it counts."""
AT_MOST = 10
"""Differences of a stage that are run again; where there are more, the others are listed as not repeated."""
SHAKEN = 8
"""How often, on each side, what differed and then agreed is run in parallel, to see whether base does it too."""
HANGS_S = 5.0
"""What hung is given this, and fifty times what base takes, when it is run again."""


@dataclasses.dataclass
class Finding:
    """One thing that head does worse than base."""

    kind: str
    """outcome, lost, hang, crash, new-test, changed-test, behaviour, teardown, import, syntax."""
    stage: str
    what: str
    """The test's or the case's id."""
    contender: str
    base: str
    head: str
    difference: str
    detail: str = ""
    repeated: list[str] = dataclasses.field(default_factory=list)
    hunks: list[str] = dataclasses.field(default_factory=list)
    rerun: str = ""

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclasses.dataclass
class Outcome:
    """What a stage found."""

    name: str
    status: str = "done"
    """done, skipped, notrun or interrupted."""
    why: str = ""
    seconds: float = 0.0
    compared: int = 0
    agree: int = 0
    findings: list[Finding] = dataclasses.field(default_factory=list)
    flaky: list[Finding] = dataclasses.field(default_factory=list)
    doubtful: list[Finding] = dataclasses.field(default_factory=list)
    """What a person has to look at: tests that the patch itself changes or removes."""
    red_base: list[str] = dataclasses.field(default_factory=list)
    """Red on base already, so nothing is said about head."""
    better: list[str] = dataclasses.field(default_factory=list)
    """Red on base, green on head."""
    unrepeated: list[str] = dataclasses.field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self)}


class Cache:
    """Base's results from earlier runs on the same interpreter, tree and suite."""

    def __init__(self, folder: Path, fresh: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._file = folder / "base.json"
        self._fresh = fresh
        self.tests: dict[str, dict[str, Any]] = {}
        self.cells: dict[str, dict[str, Any]] = {}
        self.plain: dict[str, dict[str, Any]] = {}
        """What was seen of each case under plain asyncio: the oracle."""
        self.look()
        self.used = bool(self.tests or self.cells)

    def look(self) -> None:
        """Learn what is there, from another run too."""
        if self._fresh:
            return
        with contextlib.suppress(OSError, ValueError, KeyError):  # not there yet
            known = json.loads(self._file.read_text())
            self.tests = {**known["tests"], **self.tests}
            self.cells = {**known["cells"], **self.cells}
            self.plain = {**known["plain"], **self.plain}

    def seed(self, base: Session) -> None:
        """Let a session know the oracle."""
        for id, raw in self.plain.items():
            base.known_plain(id).write_text(json.dumps(raw))

    def save(self, base: Session) -> None:
        """Write what is known, with what another run has found out meanwhile.

        What went wrong is left out, and looked at again next time.
        """
        for path in base.known_plain("x").parent.glob("*.json"):
            raw = json.loads(path.read_text())
            if raw["status"] in ("ok", "unsupported"):
                self.plain[path.stem] = raw
        with open(self._folder / "base.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.look()
            part = self._file.with_suffix(".part")
            part.write_text(json.dumps({"tests": self.tests, "cells": self.cells, "plain": self.plain}))
            part.rename(self._file)


@dataclasses.dataclass(frozen=True)
class Sides:
    """The sessions of a run."""

    base: Session
    """Its plain runs are the oracle of all."""
    head: Session
    control: Session
    """Base again, compared as head is: what is run again of base is run here."""
    cache: Cache

    def abort(self) -> None:
        for session in (self.base, self.head, self.control):
            session.abort()


def in_parallel(jobs: int, tasks: Sequence[Callable[[], Any]], abort: Callable[[], None]) -> None:
    """Call the tasks on some threads; the first exception ends all and is raised here."""
    pool = concurrent.futures.ThreadPoolExecutor(jobs)
    futures = [pool.submit(task) for task in tasks]
    try:
        for future in concurrent.futures.as_completed(futures):
            future.result()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        abort()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def shaken(
    base: Callable[[], T], head: Callable[[], T], jobs: int, abort: Callable[[], None]
) -> tuple[list[T], list[T]]:
    """Call both sides in turn `SHAKEN` times, more at a time than there are processors; what each returned."""
    found: tuple[list[T], list[T]] = ([], [])
    tasks = [functools.partial(lambda to, call: to.append(call()), to, call) for to, call in zip(found, (base, head))]
    in_parallel(2 * jobs, tasks * SHAKEN, abort)
    return found


def shown(base: Sequence[str], head: Sequence[str]) -> str:
    """What `shaken` saw, for people."""
    of = f"{SHAKEN} times each side in parallel: "
    return of + "; ".join(
        f"{side} {', '.join(odd) or 'always right'}" for side, odd in (("base", base), ("head", head))
    )


# -- test_asyncio


class Tests:
    """CPython's test_asyncio on both sides."""

    name = "test_asyncio"

    def __init__(self, base: Session, head: Session, cache: Cache, match: str, timeout: float, jobs: int) -> None:
        self.base = suite.Runner(base, match, timeout)
        self.head = suite.Runner(head, match, timeout)
        self.cache = cache
        self.plain = base.contender("plain")
        self.jobs = jobs

    def run(
        self, base_modules: list[str], head_modules: list[str], say: Callable[[str], None]
    ) -> tuple[dict[str, Test], dict[str, Test]]:
        """All tests of the modules on both sides."""
        base: dict[str, Test] = {}
        head: dict[str, Test] = {}
        tasks: list[Callable[[], None]] = []

        def one(side: str, module: str) -> None:
            if side == "head":
                found = self.head.module(self.plain, module)
                head.update(found)
            else:
                found = self.base.module(self.plain, module)
                base.update(found)
                if not any(t.outcome in ("TIMEOUT", "CRASH", "fail", "error") for t in found.values()):
                    self.cache.tests[f"{self.base.match} {module}"] = {
                        k: dataclasses.asdict(t) for k, t in found.items()
                    }
            bad = [id for id, t in found.items() if t.outcome not in ("pass", "skip", "xfail")]
            say(f"{side} {module}: {len(found)} tests" + (f", not passed: {', '.join(bad[:5])}" if bad else ""))

        for module in sorted(set(base_modules) | set(head_modules), key=suite.long_first):
            known = self.cache.tests.get(f"{self.base.match} {module}")
            if module in base_modules and known is not None:
                base.update({id: Test(**fields) for id, fields in known.items()})
            elif module in base_modules:
                tasks.append(functools.partial(one, "base", module))
            if module in head_modules:
                tasks.append(functools.partial(one, "head", module))

        in_parallel(self.jobs, tasks, self.abort)
        self.cache.save(self.base.session)
        return base, head

    @staticmethod
    def differ(base: Test | None, head: Test | None) -> str | None:
        """The kind of difference; None when head is no worse."""
        if base is None:
            return "new-test" if head is not None and head.outcome not in ("pass", "skip", "xfail") else None
        if head is None:
            return "lost"
        if head.outcome == "TIMEOUT":
            return None if base.outcome == "TIMEOUT" else "hang"
        if head.outcome == "CRASH":
            return None if base.outcome == "CRASH" else "crash"
        return None if base.outcome == head.outcome else "outcome"

    def compare(self, base: dict[str, Test], head: dict[str, Test], say: Callable[[str], None]) -> Outcome:
        """Every difference, repeated."""
        out = Outcome(self.name, compared=len(base.keys() | head.keys()))
        differing: list[str] = []
        for id in sorted(base.keys() | head.keys()):
            one = base.get(id)
            if self.differ(one, head.get(id)) is None:
                out.agree += 1
                if one is not None and red(one):
                    out.red_base.append(id)
            elif one is not None and red(one):
                (out.better if id in head and not red(head[id]) else out.red_base).append(id)
            else:
                differing.append(id)
        for number, id in enumerate(differing):
            if len(out.findings) >= AT_MOST or number >= 3 * AT_MOST:
                out.unrepeated = differing[number:]
                break
            self._repeat(id, base.get(id), head.get(id), out, say)
        return out

    def _repeat(self, id: str, base: Test | None, head: Test | None, out: Outcome, say: Callable[[str], None]) -> None:
        kind = self.differ(base, head)
        assert kind is not None
        module = id.partition(".")[0]
        finding = Finding(
            kind,
            self.name,
            id,
            "plain",
            words(base),
            words(head),
            f"base: {words(base)}; head: {words(head)}",
            head.detail if head is not None else "",
        )
        if " " in id:  # outside a test: the module as a whole
            again_base = [self.base.module(self.plain, module).get(id) for _ in range(1)]
            again_head = [self.head.module(self.plain, module).get(id) for _ in range(1)]
        else:
            again_base, again_head = [], []
            for _ in range(REPEATS):
                again_head.append(self.head.module(self.plain, module, [id]).get(id))
                again_base.append(self.base.module(self.plain, module, [id]).get(id))
        finding.repeated = [f"base {words(b)}, head {words(h)}" for b, h in zip(again_base, again_head)]
        if all(
            self.differ(b, h) is not None and not (b is not None and red(b)) for b, h in zip(again_base, again_head)
        ):
            out.findings.append(finding)
            say(f"confirmed: {id}: {finding.difference}")
            return
        more_base: list[Test | None] = []
        more_head: list[Test | None] = []
        if " " not in id:
            more_base, more_head = shaken(
                lambda: self.base.module(self.plain, module, [id]).get(id),
                lambda: self.head.module(self.plain, module, [id]).get(id),
                self.jobs,
                self.abort,
            )
        odd_base = [words(b) for b in [*more_base, *again_base] if self.differ(base, b) is not None]
        odd_head = [words(h) for h in more_head if self.differ(base, h) is not None]
        finding.repeated.append(shown(odd_base, odd_head))
        if odd_base:
            out.red_base.append(id)
            say(f"flaky on base too: {id}: {', '.join(odd_base)}")
        else:
            out.flaky.append(finding)
            say(f"flaky: {id}: {finding.difference}; again: {'; '.join(finding.repeated)}")

    def abort(self) -> None:
        self.base.session.abort()
        self.head.session.abort()


def red(test: Test) -> bool:
    """Did the test go wrong?"""
    return test.outcome not in ("pass", "skip", "xfail")


def words(test: Test | None) -> str:
    """A test's end, with the last line of what it said."""
    if test is None:
        return "no such test"
    lines = [line for line in test.detail.strip().splitlines() if line.strip()]
    if test.outcome in ("TIMEOUT", "CRASH"):
        lines = lines[:1]
    return test.outcome + (f" ({lines[-1].strip()[:200]})" if lines and red(test) else "")


# -- conformance


class Cells:
    """The cases under one contender on both sides."""

    def __init__(self, name: str, sides: Sides, jobs: int) -> None:
        self.name = name
        self.base = sides.base
        self.head = sides.head
        self.control = sides.control
        self.cache = sides.cache
        self.abort = sides.abort
        self.jobs = jobs

    def run(self, ids: Sequence[str], say: Callable[[str], None]) -> tuple[dict[str, Cell], dict[str, Cell]]:
        """All cells on both sides; those that are known of base are not run again."""
        base: dict[str, Cell] = {}
        head: dict[str, Cell] = {}

        def one(side: str, id: str) -> None:
            own, found = (self.base, base) if side == "base" else (self.head, head)
            cell = own.run_cell(self.name, id)
            if cell.detail.get("interrupted"):
                raise Interrupted
            if cell.engine_ran not in (None, "stock"):
                raise RuntimeError(
                    f"{self.name} {id} ran on the engine {cell.engine_ran}, which does not execute asyncio's own code"
                )
            found[id] = cell
            if side == "base" and not (cell.bad or cell.behaviour in ("NOTRUN", "WEAK")):
                self.cache.cells[f"{self.name}::{id}"] = cell.as_json()
            if cell.bad or cell.behaviour == "WEAK":
                say(f"{side} {self.name} {id}: {state(cell)}: {cell.reason.partition(chr(10))[0][:160]}")
            done = len(head) if side == "head" else 0
            if done and done % 50 == 0:
                say(f"head {self.name}: {done} of {len(ids)} cases")

        tasks: list[tuple[str, str]] = []
        self.cache.look()
        for id in ids:
            known = self.cache.cells.get(f"{self.name}::{id}")
            if known is not None:
                base[id] = Cell(**known)
            else:
                tasks.append(("base", id))
            tasks.append(("head", id))

        for number, threads in enumerate((self.jobs, IDLE_JOBS, 1)):
            now = [functools.partial(one, *task) for task in tasks if phase(task[1]) == number]
            in_parallel(threads, now, self.abort)
        self.cache.save(self.base)
        return base, head

    def compare(self, base: dict[str, Cell], head: dict[str, Cell], say: Callable[[str], None]) -> Outcome:
        """Every difference, repeated."""
        out = Outcome(self.name, compared=len(head))
        differing = []
        for id, theirs in head.items():
            ours = base[id]
            if ours.behaviour in ("UNSUPPORTED", "NOTRUN") and theirs.behaviour == ours.behaviour:
                out.compared -= 1
            elif ours.bad or ours.behaviour == "NOTRUN":
                (out.red_base if theirs.bad or theirs.behaviour == "NOTRUN" else out.better).append(id)
            elif worse(ours, theirs):
                differing.append(id)
            else:
                out.agree += 1
        for number, id in enumerate(differing):
            if len(out.findings) >= AT_MOST or number >= 3 * AT_MOST:
                out.unrepeated = differing[number:]
                break
            self._repeat(id, base[id], head[id], out, say)
        return out

    def _repeat(self, id: str, ours: Cell, theirs: Cell, out: Outcome, say: Callable[[str], None]) -> None:
        pairs = []
        if theirs.behaviour == "TIMEOUT":
            # It has had its whole time once; that it hangs again is seen sooner, by what base takes.
            own = self.head.cases[id].timeout
            self.head.limits[id] = min(own, HANGS_S + 50 * ours.seconds)
        for _ in range(REPEATS):
            again_head = self.head.run_cell(self.name, id)
            again_base = self.control.run_cell(self.name, id)
            if again_base.detail.get("interrupted") or again_head.detail.get("interrupted"):
                raise Interrupted
            pairs.append((again_base, again_head))
        kind = "behaviour" if theirs.behaviour != ours.behaviour else "teardown"
        finding = Finding(
            kind,
            out.name,
            id,
            self.name,
            state(ours),
            state(theirs),
            trace(ours, theirs),
            _detail(theirs),
            [f"base {state(b)}, head {state(h)}" for b, h in pairs],
        )
        if all(not b.bad and worse(b, h) for b, h in pairs):
            out.findings.append(finding)
            say(f"confirmed: {self.name} {id}: {finding.difference.splitlines()[0]}")
            return
        more_base, more_head = shaken(
            lambda: self.control.run_cell(self.name, id),
            lambda: self.head.run_cell(self.name, id),
            self.jobs,
            self.abort,
        )
        if any(cell.detail.get("interrupted") for cell in more_base + more_head):
            raise Interrupted
        odd_base = [state(b) for b in [*more_base, *(b for b, _ in pairs)] if worse(ours, b)]
        odd_head = [state(h) for h in more_head if worse(ours, h)]
        finding.repeated.append(shown(odd_base, odd_head))
        if odd_base:
            out.red_base.append(id)
            say(f"flaky on base too: {self.name} {id}: {', '.join(odd_base)}")
        else:
            out.flaky.append(finding)
            say(f"flaky: {self.name} {id}: {finding.difference.splitlines()[0]}; again: {'; '.join(finding.repeated)}")


def worse(ours: Cell, theirs: Cell) -> bool:
    """Did head end worse than base?  One that is for information only never counts."""
    if theirs.level == "INFO":
        return theirs.behaviour in verdicts.BAD - {"FAIL"} and ours.behaviour not in verdicts.BAD
    return verdicts.worse(ours, theirs)


def state(cell: Cell) -> str:
    return " ".join([cell.behaviour, *(cell.teardown or [])])


def trace(ours: Cell, theirs: Cell) -> str:
    """How the two event logs differ first, and what the case says about head."""
    parts = []

    def named(text: str) -> str:
        return text.replace("plain asyncio", "base").replace(f"head's {theirs.contender}", "head")

    if theirs.reason:
        parts.append(named(theirs.reason.splitlines()[0]))
    want, got = ours.detail.get("events"), theirs.detail.get("events")
    if want is not None and got is not None:
        first = verdicts.first_difference(want, got, "head")
        if first is not None and named(first) not in parts:
            parts.append("trace: " + named(first))
    elif want is not None and theirs.detail.get("last_events"):
        last = theirs.detail["last_events"].strip().splitlines()[-1:]
        parts.append(f"trace: head ends after {''.join(last)[:200]}")
    elif want:
        parts.append(f"trace: head logged nothing, base {sum(map(len, want.values()))} event(s)")
    return "\n".join(parts) or f"base {state(ours)}, head {state(theirs)}"


def _detail(cell: Cell) -> str:
    parts = [str(cell.detail[key])[-4000:] for key in ("traceback", "stderr", "last_events") if cell.detail.get(key)]
    return "\n".join(parts)


def point(finding: Finding, hunks: Sequence[tuple[str, int, int, str]]) -> None:
    """Say which hunks a finding points to: those whose lines its stacks pass through; the only one there is."""
    if len(hunks) == 1:
        finding.hunks = [hunks[0][3]]
        return
    seen = {(name, int(line)) for name, line in re.findall(r'asyncio/(\w+\.py)", line (\d+)', finding.detail)}
    finding.hunks = [
        text for name, begin, end, text in hunks if any(n == name and begin <= line <= end for n, line in seen)
    ]
