"""Base against head: CPython's test_asyncio test by test, and the conformance cases cell by cell."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import fcntl
import functools
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from .. import suite, verdicts
from ..session import IDLE_JOBS, Interrupted, Session, phase
from ..suite import Test
from ..tree import UsageError
from ..verdicts import Cell

T = TypeVar("T")
REPEATS = 3
"""How often what differs, or is red on base, is run again alone, on both sides, before it counts."""
AT_MOST = 10
"""Differences of a stage that are run again; where there are more, the others are listed as not repeated."""
SHAKEN = 8
"""How often, on each side, what differed and then agreed is run in parallel, to see whether base does it too."""
ROUNDS = 3
"""How often that is done at most, as long as it leaves open whose it is."""
ENOUGH = 2
"""Base has to show what head does at least so often before it is base's own, and head at most so many times as often."""
HANGS_S = 5.0
"""What hung is given this, and fifty times what base takes, when it is run again."""


@dataclasses.dataclass
class Finding:
    """One thing that head does worse than base."""

    kind: str
    """outcome, lost, hang, crash, new-test, removed-test, changed-test, behaviour, teardown, probe, import, syntax."""
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

    @property
    def grave(self) -> bool:
        """Did head hang or die?"""
        return self.head.startswith(("TIMEOUT", "CRASH"))

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
    """Differed, and then neither each time nor as often on base: nobody knows."""
    both: list[Finding] = dataclasses.field(default_factory=list)
    """Comes and goes on base as on head: no finding."""
    once: list[Finding] = dataclasses.field(default_factory=list)
    """Differed in the first run and never again: no finding, as long as there are few."""
    doubtful: list[Finding] = dataclasses.field(default_factory=list)
    """What a person has to look at: tests that the patch itself changes or removes."""
    red_base: list[str] = dataclasses.field(default_factory=list)
    """Red on base each time, so nothing is said about head."""
    not_run: list[str] = dataclasses.field(default_factory=list)
    """What was to run and did not, on either side or both, with the reason."""
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
        """Learn what is there, from another run too.  Raises UsageError for a file that is broken."""
        if self._fresh:
            return
        try:
            text = self._file.read_text()
        except FileNotFoundError:  # not there yet
            return
        try:
            known = json.loads(text)
            self.tests = {**known["tests"], **self.tests}
            self.cells = {**known["cells"], **self.cells}
            self.plain = {**known["plain"], **self.plain}
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"what is known of base is broken; delete {self._file} ({error!r})") from error

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


@dataclasses.dataclass
class Again(Generic[T]):
    """What was seen of a difference when it was run again."""

    odd: Callable[[T], bool]
    """Is it worse than base was?"""
    words: Callable[[T], str]
    alone: list[tuple[T, T]] = dataclasses.field(default_factory=list)
    """Base and head in turn, with nothing beside."""
    shaken_base: list[T] = dataclasses.field(default_factory=list)
    """Many at a time, beside head's."""
    shaken_head: list[T] = dataclasses.field(default_factory=list)

    def alone_odd(self, side: int) -> int:
        return sum(self.odd(pair[side]) for pair in self.alone)

    @property
    def confirmed(self) -> bool:
        """Head each time, base never."""
        return bool(self.alone) and self.alone_odd(0) == 0 and self.alone_odd(1) == len(self.alone)

    def shake(
        self, base: Callable[[], T], head: Callable[[], T], threads: int, abort: Callable[[], None], grave: bool
    ) -> None:
        """Call both sides in turn on so many threads, `SHAKEN` times, and again while it is open whose it is."""
        tasks = [
            functools.partial(lambda to, call: to.append(call()), to, call)
            for to, call in ((self.shaken_base, base), (self.shaken_head, head))
        ]
        for _ in range(ROUNDS):
            in_parallel(threads, tasks * SHAKEN, abort)
            if self.weigh(grave) != "flaky":
                break

    def weigh(self, grave: bool) -> str:
        """The list of `Outcome` that it belongs to.

        A difference is base's own only when base shows it repeatedly, and head neither much oftener nor, alone, where
        base does not: under load everything may fail on both sides, which excuses nothing that fails without.
        What never came again was as likely the machine's as head's; a hang or a crash (`grave`) is not excused so.
        """
        if self.confirmed:
            return "findings"
        base = self.alone_odd(0) + sum(map(self.odd, self.shaken_base))
        head = self.alone_odd(1) + sum(map(self.odd, self.shaken_head))
        if ENOUGH <= base and head <= ENOUGH * base and self.alone_odd(1) < self.alone_odd(0) + ENOUGH:
            return "both"
        return "once" if not head and not grave else "flaky"

    def shown(self) -> list[str]:
        """For people."""
        lines = [f"base {self.words(b)}, head {self.words(h)}" for b, h in self.alone]
        if self.shaken_base:
            sides = []
            for side, ends in (("base", self.shaken_base), ("head", self.shaken_head)):
                bad = [self.words(end) for end in ends if self.odd(end)]
                sides.append(f"{side} {', '.join(bad) or 'always right'}")
            lines.append(f"{len(self.shaken_base)} times each side in parallel: {'; '.join(sides)}")
        return lines


def settle(finding: Finding, again: Again[T], out: Outcome, say: Callable[[str], None]) -> None:
    """Put a difference that was run again where it belongs."""
    finding.repeated = again.shown()
    where = again.weigh(finding.grave)
    getattr(out, where).append(finding)
    first = finding.difference.splitlines()[0]
    text = {
        "findings": "confirmed",
        "both": "comes and goes on base too",
        "once": "never again",
        "flaky": "flaky",
    }[where]
    say(f"{text}: {finding.contender} {finding.what}: {first}; again: {'; '.join(finding.repeated)}")


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
        if head.outcome == "pass" or (base.outcome == "skip" and not red(head)):
            return None  # a test that runs again, or has begun to, is no loss
        return None if base.outcome == head.outcome else "outcome"

    def compare(self, base: dict[str, Test], head: dict[str, Test], say: Callable[[str], None]) -> Outcome:
        """Every difference, repeated."""
        out = Outcome(self.name)
        base = self._whole(base, out)
        out.compared = len(base.keys() | head.keys())
        differing: list[str] = []
        for id in sorted(base.keys() | head.keys()):
            one = base.get(id)
            if one is not None and red(one) and " " not in id:
                if id in head and not red(head[id]):
                    out.better.append(id)
                    continue
                one = base[id] = self._steady(id, one, out)
                if red(one):
                    out.red_base.append(id)
                    continue
            if self.differ(one, head.get(id)) is None:
                out.agree += 1
            else:
                differing.append(id)
        for number, id in enumerate(differing):
            if len(out.findings) >= AT_MOST or number >= 3 * AT_MOST:
                out.unrepeated = differing[number:]
                break
            self._repeat(id, base.get(id), head.get(id), out, say)
        return out

    def _whole(self, base: dict[str, Test], out: Outcome) -> dict[str, Test]:
        """Base's results, where a module ended outside a test those of a second run.  Where that ends so too, the tests
        behind it are not compared, and head's end there is not blamed on it."""
        for id in [id for id in base if " " in id]:
            module = id.partition(" ")[0]
            again = self.base.module(self.plain, module)
            base = {i: t for i, t in base.items() if suite.module_of(i) != module} | again
            for ended in [i for i in again if " " in i]:
                out.not_run.append(f"{ended} on base: {words(base.pop(ended))}")
        return base

    def _steady(self, id: str, one: Test, out: Outcome) -> Test:
        """What base does when the test that was red on it is run again alone: the first end that is not red."""
        if len(out.red_base) >= 3 * AT_MOST:
            return one  # more than a verdict can rest on
        for _ in range(REPEATS):
            again = self.base.module(self.plain, suite.module_of(id), [id]).get(id)
            if again is not None and not red(again):
                return again
        return one

    def _repeat(self, id: str, base: Test | None, head: Test | None, out: Outcome, say: Callable[[str], None]) -> None:
        kind = self.differ(base, head)
        assert kind is not None
        module = suite.module_of(id)
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
        outside = " " in id  # outside a test: the module as a whole
        only = None if outside else [id]

        def ours() -> Test | None:
            return self.base.module(self.plain, module, only).get(id)

        def theirs() -> Test | None:
            return self.head.module(self.plain, module, only).get(id)

        again: Again[Test | None] = Again(lambda test: self.differ(base, test) is not None, words)
        for _ in range(1 if outside else REPEATS):
            end = theirs()
            again.alone.append((ours(), end))
        if not again.confirmed and not outside:
            again.shake(ours, theirs, 2 * self.jobs, self.abort, finding.grave)
        settle(finding, again, out, say)

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
        for id in sorted(head):  # as they ended, which ones are run again would be chance
            ours, theirs = base[id], head[id]
            if ours.behaviour == theirs.behaviour == "UNSUPPORTED":
                out.compared -= 1
                continue
            if poor(ours):
                if not poor(theirs):
                    out.better.append(id)
                    continue
                ours, anew = self._steady(id, ours, out)
                base[id] = ours
                if anew or theirs.behaviour == "NOTRUN":  # it had another oracle or none, or what it needs did not start
                    theirs = head[id] = self._on(self.head, id)
            if ours.behaviour == "NOTRUN" or (theirs.behaviour == "NOTRUN" and not worse(ours, theirs)):
                out.compared -= 1
                which = ours if ours.behaviour == "NOTRUN" else theirs
                out.not_run.append(f"{id}: {which.reason.partition(chr(10))[0]}")
            elif ours.bad:
                out.red_base.append(id)
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

    def _on(self, side: Session, id: str) -> Cell:
        """The cell, run now on one side."""
        if side.probe(self.name)["status"] != "ok":
            side.probe(self.name, again=True)
        cell = side.run_cell(self.name, id)
        if cell.detail.get("interrupted"):
            raise Interrupted
        return cell

    def _steady(self, id: str, ours: Cell, out: Outcome) -> tuple[Cell, bool]:
        """What base does when the cell that was not right on it is run again alone: the first that is right, or the last;
        and whether that took another oracle."""
        anew = False
        if len(out.red_base) + len(out.not_run) >= 3 * AT_MOST:
            return ours, anew  # more than a verdict can rest on
        for number in range(REPEATS):
            # What is wrong each time may be so because that is odd which it is compared with.
            anew = number == REPEATS - 1
            self.base.forget_plain(id, only_bad=not anew)
            ours = self._on(self.control, id)
            if not poor(ours):
                break
        return ours, anew

    def _repeat(self, id: str, ours: Cell, theirs: Cell, out: Outcome, say: Callable[[str], None]) -> None:
        kind = "behaviour" if theirs.behaviour != ours.behaviour else "teardown"
        finding = Finding(
            kind, out.name, id, self.name, state(ours), state(theirs), trace(ours, theirs), _detail(theirs)
        )
        if theirs.behaviour == "TIMEOUT":
            # It has had its whole time once; that it hangs again is seen sooner, by what base takes.
            limit = min(self.head.cases[id].timeout, HANGS_S + 50 * ours.seconds)
            self.head.limits[id] = self.control.limits[id] = limit
        try:
            again = self._again(id, ours)
            if again.alone_odd(0) == len(again.alone):
                # Base itself never does again what it did once: that once was odd, and all are compared with it.
                self.base.forget_plain(id)
                again = self._again(id, ours)
            if not again.confirmed:
                again.shake(
                    functools.partial(self._on, self.control, id),
                    functools.partial(self._on, self.head, id),
                    1 if phase(id) == 2 else 2 * self.jobs,
                    self.abort,
                    finding.grave,
                )
        finally:
            self.head.limits.pop(id, None)
            self.control.limits.pop(id, None)
        settle(finding, again, out, say)

    def _again(self, id: str, ours: Cell) -> Again[Cell]:
        """Both sides in turn, alone."""
        again: Again[Cell] = Again(lambda cell: worse(ours, cell), state)
        for _ in range(REPEATS):
            head = self._on(self.head, id)
            again.alone.append((self._on(self.control, id), head))
        return again


def probed(name: str, sides: Sides, say: Callable[[str], None]) -> Outcome:
    """Does the contender run on both sides?  `missing` (a status of this alone) says that what it needs is not there.

    What is not right is asked again.  A probe that goes wrong on base says nothing of head, nor does one on head then.
    """
    base = sides.base.probe(name)
    if base["status"] != "ok":
        base = sides.base.probe(name, again=True)
    message = str(base.get("message", ""))
    if base["status"] == "missing":
        return Outcome(name, "missing", message)
    if base["status"] != "ok":
        return Outcome(name, "notrun", f"its probe ends with {base['status']} on base already: {message}")
    out = Outcome(name, compared=1)
    head = sides.head.probe(name)
    if head["status"] == "ok":
        return out
    again: Again[dict[str, Any]] = Again(lambda probe: bool(probe["status"] != "ok"), lambda probe: str(probe["status"]))
    for _ in range(REPEATS):
        last = sides.head.probe(name, again=True)
        again.alone.append((sides.control.probe(name, again=True), last))
    finding = Finding(
        "probe",
        name,
        "probe",
        name,
        "ok",
        str(head["status"]).upper(),
        f"the contender does not run on head: its probe ends with {head['status']}: {head.get('message', '')}",
        "\n".join(str(head[key])[-4000:] for key in ("traceback", "stderr") if head.get(key)),
    )
    settle(finding, again, out, say)
    if last["status"] != "ok" and not out.findings:
        out.status, out.why = "notrun", f"its probe ends with {last['status']} on head, not each time"
    return out


def poor(cell: Cell) -> bool:
    """Is it less than right, in a way that may be the machine's?"""
    return cell.bad or cell.behaviour in ("WEAK", "NOTRUN")


def worse(ours: Cell, theirs: Cell) -> bool:
    """Did head end worse than base?  One that is for information only counts when it hangs or dies, or does not run."""
    if theirs.level == "INFO":
        bad = verdicts.BAD - {"FAIL"} | {"NOTRUN", "UNSUPPORTED"}
        return theirs.behaviour in bad and ours.behaviour not in bad
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
