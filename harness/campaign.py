"""``harness leaks`` and ``harness stress``: each cell many times in one process, and in fresh ones.

leaks   after each repetition the process is measured; what grows and never comes back is a leak. What
        grows as much without the contender (plain asyncio, or the driver alone) is not the contender's.
stress  repetitions in one process and in several, beside a load if asked for; seen both ways is FLAKY.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from . import contenders, expectations, repetitions, report, results, shards, tree, verdicts
from .session import ALONE, IDLE, Interrupted, Session
from .tree import UsageError
from .verdicts import Cell

SCHEMA = "asyncio-guest/campaign@1"
WARMUPS = 8
"""Repetitions before anything counts: imports, caches, the growth of tables."""
DRIVER = frozenset("host loop window modal paint input nested flood timer idle start_api".split())
"""Abilities of cases that may use up their host: the driver is made anew for each repetition."""
VERDICT = {
    "references": "LEAK_REF",
    "objects": "LEAK_REF",
    "blocks": "LEAK_REF",
    "descriptors": "LEAK_FD",
    "threads": "LEAK_THREAD",
    "children": "LEAK_CHILD",
}
EXACT = frozenset({"references", "descriptors", "threads", "children"})
"""Kinds of which as many are made as are asked for: one more than without the contender is one too many.  The others
differ by what the interpreter's tables and caches happen to do."""
SLACK = 1.25
"""The factor on growth without the contender within which growth of the other kinds is the same."""
LEAST = {"references": 0.2, "objects": 0.1, "blocks": 0.2, "descriptors": 0.0, "threads": 0.0, "children": 0.0}
"""Growth a repetition, over all of them, below which it is noise: a table that grows, a cache that fills."""

FEW = 8
"""Growth in all that may be a table's, where `LEAST` is not zero."""

OTHERS = 10
"""So many repetitions that differ from the first are kept in the results: the worst."""

LEAKS_EXAMPLES = """\
examples:
  leaks                                 200 repetitions of the quick cases under every host: hours
  leaks 'guest/poll::T' -n 50           fewer repetitions of one group
  leaks --shard 3/8 --json c.json       a part of it; put together by: merge
  leaks --budget 10                     each cell at most about ten seconds (at least 20 repetitions)
With a debug build of CPython (PYTHON=/usr/bin/python3-dbg) references are counted too.

"""
STRESS_EXAMPLES = """\
examples:
  stress 'guest/tk::N'                  each case 20 times in one process, in 3 processes
  stress -n 500 --processes 1 guest/poll::C.05b
  stress --load 4 'guest/*::H'          beside four processes that burn the CPU
  stress --shuffle --shard 1/2          random order (prints its seed); the first half

"""


def add_arguments(verb: argparse.ArgumentParser, kind: str) -> None:
    """The options of either verb."""
    add = verb.add_argument
    add("selector", nargs="*", metavar="SELECTOR", help="cells (default: quick cases under every host but F and I)")
    add("--tier", choices=("quick", "full"), default="quick", help="quick (default) or full")
    count = 200 if kind == "leaks" else 20
    add("-n", "--repetitions", type=int, default=count, metavar="N", help=f"in one process (default: {count})")
    if kind == "stress":
        add("--processes", type=int, default=3, metavar="N", help="fresh processes a cell (default: 3)")
        add("--load", type=int, default=0, metavar="N", help="processes beside it that burn the CPU")
    add("--budget", type=float, default=0.0, metavar="S", help="end a process's repetitions after S seconds")
    add("-j", "--jobs", type=int, default=0, metavar="N", help="cells at a time (default: one a core)")
    add("--cases", action="append", default=[], metavar="MODULE", help="module or .py file with more cases")
    add("--shuffle", nargs="?", const=-1, type=int, metavar="SEED", help="random order; prints its seed")
    add("--shard", type=shards.parse, metavar="K/N", help="only the K-th of N parts")
    add("--timeout-scale", type=float, default=1.0, metavar="F", help="factor on all watchdogs")
    add("--expect", action="append", default=[], metavar="FILE", help="file of expectations (repeatable)")
    add("--json", type=Path, metavar="FILE", help=f"results file (default: results/latest/{kind}.json)")
    add("-v", "--verbose", action="store_true", help="the deltas, and stacks, of each cell that is not as it should")


# -- what counts as a leak


def grows(deltas: Sequence[int], least: float) -> bool:
    """Does it grow for ever?  `deltas`: what each repetition added.

    Steady growth (each adds something) is a leak, as for CPython's ``-R``; and so is growth now and then that never
    comes back: all of the last quarter lies above all of the first one, by more than `least` a repetition.
    """
    if len(deltas) < 2:
        return False
    if all(delta >= 1 for delta in deltas[len(deltas) // 2 :]) and sum(deltas) > 0:
        return True
    level, levels = 0, []
    for delta in deltas:
        level += delta
        levels.append(level)
    quarter = max(1, len(levels) // 4)
    growth = min(levels[-quarter:]) - max(levels[:quarter])
    # A few repetitions cannot tell a table that grows once from a leak that comes now and then.
    return growth > max(least * len(deltas) * 0.75, FEW if least else 0)


def leaking(deltas: dict[str, list[int]]) -> dict[str, float]:
    """Kind -> growth a repetition, of the kinds that leak; not of the first quarter, in which caches still fill."""
    later = {kind: row[len(row) // 4 :] for kind, row in deltas.items()}
    return {kind: sum(row) / len(row) for kind, row in later.items() if row and grows(deltas[kind], LEAST[kind])}


def beyond(found: dict[str, float], control: dict[str, float]) -> dict[str, float]:
    """Those of the kinds that leak which leak more than without the contender, with their growth a repetition."""
    mine = {}
    for kind, rate in found.items():
        over = rate - control.get(kind, 0.0) * (1.0 if kind in EXACT else SLACK)
        if over > 0 and over >= LEAST[kind]:
            mine[kind] = rate
    return mine


# -- cells


@dataclasses.dataclass
class Seen:
    """The judged repetitions of a process."""

    behaviours: collections.Counter[str]
    reason: str
    """Of the first that is not PASS."""
    teardown: list[str] | None
    """All that any left behind; None where nobody looked."""
    unclean: dict[str, str]
    """Verdict -> the first sentence about it."""


class Campaign:
    """One run of either verb."""

    def __init__(self, kind: str, session: Session, options: argparse.Namespace) -> None:
        self.kind = kind
        self.session = session
        self.options = options

    def plan(self, case: Any, *, empty: bool = False) -> dict[str, Any]:
        """What `repetitions.run` is told."""
        leaks = self.kind == "leaks"
        return {
            "warmups": WARMUPS if leaks else 1,
            "count": self.options.repetitions if leaks else self.options.repetitions - 1,
            "seconds": self.options.budget,
            "meter": leaks,
            "reopen": bool(case.needs & DRIVER),
            "empty": empty,
        }

    def run_cell(self, name: str, id: str) -> Cell:
        """One cell; interruption makes it NOTRUN."""
        try:
            early = self.session.cannot_run(name, id)
            if early is not None:
                return early
            return self._leaks(name, id) if self.kind == "leaks" else self._stress(name, id)
        except Interrupted:
            return self.session.cell(name, id, "NOTRUN", "the run was interrupted", detail={"interrupted": True})

    def _spawn(self, name: str, id: str, *, empty: bool = False) -> dict[str, Any]:
        case = self.session.cases[id]
        return self.session.spawn(self.session.contender(name), case, self.plan(case, empty=empty))

    def _judge(self, raw: dict[str, Any], name: str, id: str) -> Seen:
        """Judge all repetitions of a process; of those that differ from the first the worst stay in `raw`."""
        case = self.session.cases[id]
        plain = self.session.plain(case) if case.oracle == "plain" and name != "plain" else None
        about = raw.get("repetitions") or {"ran": 1, "others": []}
        seen = Seen(collections.Counter(), "", None, {})
        shared = {key: value for key, value in raw.items() if key not in repetitions.SEEN}
        alike = about["ran"] - sum(other["count"] for other in about["others"])
        for one, weight in [(raw, alike), *((other, other["count"]) for other in about["others"])]:
            judged = raw if one is raw else {**shared, **one}
            behaviour, why = verdicts.judge(judged, case, name, plain)
            seen.behaviours[behaviour] += weight
            if behaviour != "PASS" and not seen.reason:
                seen.reason = why if one is raw else f"repetition {one['number'] + 1}: {why}"
            left, unclean = verdicts.teardown_of(judged, None if name == "plain" else self.session.usual(case, judged))
            seen.teardown = verdicts.united([left, seen.teardown])
            seen.unclean = {**unclean, **seen.unclean}
            if one is not raw:
                one.update(behaviour=behaviour, left=left)
        order = list(verdicts.SEVERITY)
        worst = sorted(about["others"], key=lambda o: (-order.index(o["behaviour"]), not o["left"], o["number"]))
        about["others"], about["left_out"] = worst[:OTHERS], len(worst[OTHERS:])
        if raw["status"] in ("timeout", "crash"):
            seen.behaviours = collections.Counter({"TIMEOUT" if raw["status"] == "timeout" else "CRASH": 1})
            seen.reason = str(raw["message"])
        return seen

    def _cell(self, raw: dict[str, Any], name: str, id: str, behaviour: str, reason: str, **fields: Any) -> Cell:
        info = {**self.session.probe(name).get("info", {}), **{k: v for k, v in raw.get("info", {}).items() if v}}
        detail = fields.pop("detail")
        if behaviour != "PASS" or fields["teardown"]:
            for key in ("traceback", "stderr", "last_events"):
                if raw.get(key):
                    detail[key] = raw[key]
        cell = self.session.cell(
            name,
            id,
            behaviour,
            reason,
            python=raw.get("python", self.session.python),
            toolkit_version=info.get("toolkit_version"),
            engine_ran=info.get("engine_ran"),
            detail=detail,
            **fields,
        )
        cell.strategy = info.get("strategy") or cell.strategy
        n = f"-n {self.options.repetitions}"
        cell.rerun = cell.rerun.replace(" run ", f" {self.kind} {n} ", 1)
        return cell

    def _leaks(self, name: str, id: str) -> Cell:
        raw = self._spawn(name, id)
        seen = self._judge(raw, name, id)
        behaviour, reason = verdicts.worst(+seen.behaviours), seen.reason
        deltas: dict[str, list[int]] = raw.get("repetitions", {}).get("deltas", {})
        found = leaking(deltas)
        control: dict[str, float] = {}
        if found and name != "plain":
            control = leaking(self._control(name, id).get("repetitions", {}).get("deltas", {}))
        mine = beyond(found, control)
        names = {VERDICT[kind] for kind in mine}
        if raw.get("strays"):
            names.add("LEAK_CHILD")
            reason = "; ".join(filter(None, [reason, raw["strays"]]))
        teardown = [t for t in verdicts.TEARDOWNS if t in names] if deltas or names else None
        if mine:
            words = ", ".join(f"{rate:+.2f} {kind}" for kind, rate in mine.items())
            reason = "; ".join(filter(None, [reason, f"a repetition adds {words}"]))
        detail: dict[str, Any] = {"repetitions": raw.get("repetitions"), "control": control}
        seconds = round(raw.get("seconds", raw["took"]), 2)
        return self._cell(raw, name, id, behaviour, reason, teardown=teardown, seconds=seconds, detail=detail)

    def _control(self, name: str, id: str) -> dict[str, Any]:
        """The same without the contender: the case under plain asyncio, or where it needs a host, the driver alone."""
        case = self.session.cases[id]
        if not case.needs - contenders.UNIVERSAL:
            return self._spawn("plain", id)
        return self._spawn(name, id, empty=True)

    def _stress(self, name: str, id: str) -> Cell:
        total: collections.Counter[str] = collections.Counter()
        attempts: list[dict[str, Any]] = []
        chosen: dict[str, Any] = {}
        reason, took = "", 0.0
        teardown: list[str] | None = None
        unclean: dict[str, str] = {}
        for _ in range(self.options.processes):
            raw = self._spawn(name, id)
            seen = self._judge(raw, name, id)
            total.update(seen.behaviours)
            took += raw["took"]
            attempts.append(
                {
                    "behaviours": dict(seen.behaviours),
                    "reason": seen.reason,
                    "teardown": seen.teardown,
                    "repetitions": raw.get("repetitions"),
                }
            )
            teardown = verdicts.united([seen.teardown, teardown])
            unclean = {**seen.unclean, **unclean}
            if not chosen or (seen.reason and not reason):
                chosen, reason = raw, seen.reason
        behaviour = verdicts.worst(+total)
        if len(total) > 1 and total["PASS"]:
            wrong = sum(total.values()) - total["PASS"]
            reason = f"{behaviour} in {wrong} of {sum(total.values())} repetitions: {reason}"
            behaviour = "FLAKY"
        if unclean and not reason:
            reason = "; ".join(f"{kind}: {text}" for kind, text in unclean.items())
        detail: dict[str, Any] = {"processes": attempts}
        if unclean:
            detail["unclean"] = unclean
        return self._cell(chosen, name, id, behaviour, reason, teardown=teardown, seconds=round(took, 2), detail=detail)


# -- the verbs


@contextlib.contextmanager
def load(count: int) -> Iterator[None]:
    """`count` processes that burn the CPU, for the length of the block."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def select(kind: str, options: argparse.Namespace, session: Session) -> list[tuple[str, str]]:
    """The cells in canonical order.  Groups about pace run only when a selector names their case or group."""
    cells = contenders.select(options.selector, session.cases, options.tier)
    pace = {*ALONE, IDLE}
    named = any(s.rpartition("::")[2][:1] in pace for s in options.selector)
    if not named:
        cells = [cell for cell in cells if cell[1].partition(".")[0] not in pace]
    if kind == "leaks" and not options.selector:
        cells = [cell for cell in cells if cell[0] != "plain"]
    return sorted(cells, key=lambda cell: (cell[1], cell[0] != "plain"))


def main(options: argparse.Namespace) -> int:
    """Either verb; the exit code."""
    from concurrent.futures import ThreadPoolExecutor, as_completed

    kind: str = options.verb
    if options.repetitions < 2 or options.timeout_scale <= 0 or options.jobs < 0 or options.budget < 0:
        raise UsageError("at least two repetitions; --timeout-scale must be positive, --jobs and --budget not negative")
    if kind == "stress" and (options.processes < 1 or options.load < 0):
        raise UsageError("--processes must be positive, --load not negative")
    expected = expectations.load(options.expect)
    if kind == "leaks":  # counts, and does not look at the rest of what a cell may leave behind
        expected = [one for one in expected if one.behaviour or set(one.teardown) & set(VERDICT.values())]
    out = report.console()
    began = time.monotonic()
    with Session(case_modules=options.cases, timeout_scale=options.timeout_scale) as session:
        cells, others = shards.take(select(kind, options, session), options.shard)
        for name in dict.fromkeys(name for name, _ in cells):
            session.contender(name)
        seed = shards.choose_seed(options.shuffle)
        if seed is not None:
            out.print(f"order shuffled with seed {seed}; --shuffle {seed} repeats it")
            random.Random(seed).shuffle(cells)
        if options.shard is not None:
            out.print(f"shard {options.shard}: {len(cells)} cells of {len(cells) + len(others)}")
        campaign = Campaign(kind, session, options)
        done: dict[tuple[str, str], Cell] = {}
        interrupted = False
        pool = ThreadPoolExecutor(options.jobs or tree.cores())
        try:
            with load(options.load if kind == "stress" else 0):
                futures = {pool.submit(campaign.run_cell, *cell): cell for cell in cells}
                for number, future in enumerate(as_completed(futures), 1):
                    cell = expectations.apply(future.result(), expected)
                    done[futures[future]] = cell
                    say(out, cell, number, len(cells), options.verbose)
        except KeyboardInterrupt:
            interrupted = True
            session.abort()
        except BaseException:
            session.abort()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        why = {"interrupted": True}
        own = [
            done.get(cell) or session.cell(*cell, "NOTRUN", "the run was interrupted", detail=dict(why))
            for cell in cells
        ]
        elsewhere = [session.cell(*cell, **shards.other(options.shard, number)) for cell, number in others.items()]
        scale = session.scale
    code = results.exit_code(own, interrupted=interrupted)
    if options.shard is not None and not own and others and not interrupted:
        code = results.OK  # more shards than cases: this one has none
    about = results.meta(
        cells=own,
        seed=seed,
        shard=None if options.shard is None else str(options.shard),
        interrupted=interrupted,
        exit_code=code,
        tier=options.tier,
        scale=scale,
        seconds=time.monotonic() - began,
    )
    how = {"repetitions": options.repetitions, "budget": options.budget}
    if kind == "stress":
        how.update(processes=options.processes, load=options.load)
    document = {
        "schema": SCHEMA,
        "kind": kind,
        "meta": {**about, "campaign": how},
        "cells": [cell.as_json() for cell in (*own, *elsewhere)],
    }
    path = options.json or tree.root() / "results" / "latest" / f"{kind}.json"
    results.write(path, document, "campaign")
    report.show(own, out, seconds=time.monotonic() - began)
    out.print(f"results: {path} (exit code {code})", markup=False)
    return code


def say(out: Any, cell: Cell, number: int, total: int, verbose: bool) -> None:
    """One line a cell, and what is known about it if it is not as it should be."""
    bad = results.unexpected(cell)
    style = "bold red" if bad else report.STYLES[cell.behaviour]
    reason = f": {cell.reason.splitlines()[0]}" if cell.reason else ""
    line = f"{number:>4}/{total} {report.verdict(cell)} {cell.contender} {cell.case} {cell.seconds:.1f} s{reason}"
    out.print(line, style=style, markup=False)
    if not (bad and verbose):
        return
    about = cell.detail.get("repetitions") or {}
    for kind, deltas in about.get("deltas", {}).items():
        if any(deltas):
            out.print(f"    {kind}: {deltas}", markup=False)
    for key in ("traceback", "stderr", "last_events"):
        if cell.detail.get(key):
            out.print(f"--- {key}\n{str(cell.detail[key]).rstrip()}", markup=False)
