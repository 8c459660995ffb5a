"""Two results files, compared."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import cli, comparison, results, tree
from harness.tests.conftest import cells, make
from harness.tree import UsageError
from harness.verdicts import Cell

Harness = Callable[..., Any]


def test_changed_verdicts(harness: Harness, tmp_path: Path) -> None:
    a = cells(tmp_path / "a.json", make(), make("FAIL", case="T.02-y"), make(case="T.03-z", teardown=[]))
    worse = cells(tmp_path / "b.json", make("FAIL", reason="it broke"), make(case="T.02-y"), make(case="T.03-z"))
    ran = harness("compare", a, worse)
    assert ran.code == 3, ran.out + ran.err
    assert "worse guest/poll T.01-x: PASS -> FAIL: it broke" in ran.out
    assert "better guest/poll T.02-y: FAIL -> PASS" in ran.out
    assert harness("compare", worse, worse).code == 0
    leak = cells(tmp_path / "c.json", make(teardown=["LEAK_FD"]))
    ran = harness("compare", cells(tmp_path / "d.json", make()), leak)
    assert ran.code == 3 and "PASS -> PASS LEAK_FD" in ran.out


def test_cells_that_come_and_go(harness: Harness, tmp_path: Path) -> None:
    a = cells(tmp_path / "a.json", make(), make(case="T.02-y"))
    b = cells(tmp_path / "b.json", make(), make(case="T.03-z"))
    ran = harness("compare", a, b)
    assert ran.code == 6 and "gone: guest/poll 1" in ran.out and "new: guest/poll 1" in ran.out
    assert harness("compare", cells(tmp_path / "one.json", make()), a).code == 0, "what is new and passes is no doubt"
    b = cells(tmp_path / "b.json", make(), make("CRASH", case="T.03-z"))
    assert harness("compare", a, b).code == 3
    other = cells(tmp_path / "o.json", make(case="T.09-q"))
    assert harness("compare", a, other).code == 5


@pytest.mark.parametrize(
    ("was", "now", "code"),
    [
        (make(), make("UNSUPPORTED"), 3),
        (make("WEAK"), make("NOTRUN"), 3),
        (make(teardown=["LEAK_FD"]), make("UNSUPPORTED"), 3),
        (make(teardown=["LEAK_FD"]), make(teardown=["LEAK_THREAD"]), 3),
        (make("UNSUPPORTED"), make("WEAK"), 0),
        (make(), make("INFO", level="INFO"), 0),
    ],
)
def test_what_is_worse(harness: Harness, tmp_path: Path, was: Cell, now: Cell, code: int) -> None:
    """Regression: PASS -> UNSUPPORTED ended with 0, and one leak in place of another was no worse."""
    ran = harness("compare", cells(tmp_path / "a.json", was), cells(tmp_path / "b.json", now))
    assert ran.code == code, ran.out


@pytest.mark.parametrize("side", ["a", "b"])
def test_interrupted_run_is_inconclusive(harness: Harness, tmp_path: Path, side: str) -> None:
    """Regression: that a side was interrupted was only printed."""
    unreached = make("NOTRUN", case="T.02-y", detail={"interrupted": True})
    files = {"a": cells(tmp_path / "a.json", make()), "b": cells(tmp_path / "b.json", make())}
    files[side] = cells(tmp_path / f"{side}.json", make(), unreached, interrupted=True)
    assert harness("compare", files["a"], files["b"]).code == 6
    worse = cells(tmp_path / "c.json", make("FAIL"), unreached, interrupted=True)
    assert harness("compare", files["a"], worse).code == 3


def suite(path: Path, runs: dict[str, dict[str, str]], *, interrupted: bool = False, known: bool = False) -> str:
    """Results of CPython's tests: contender -> test -> outcome."""

    def run(name: str, tests: dict[str, str]) -> dict[str, Any]:
        return {
            "contender": name,
            "outcomes": {},
            "seconds": 0.5,
            "turns": {},
            "tests_with_turns": {"all": 1, "descriptor": 1, "mirrored": 0, "always_due": 0},
            "tests_with_fast": 1,
            "differences": {k: [] for k in ("lost", "extra", "outcome", "hang", "crash", "turns", "fast")},
            "flaky": [],
            "known": dict.fromkeys(tests, "a reason") if known else {},
            "tests": {id: [outcome, 1, 1, 0.1] for id, outcome in tests.items()},
            "details": {},
        }

    meta = results.meta(exit_code=0, tier="full", interrupted=interrupted)
    made = [run(name, tests) for name, tests in runs.items()]
    document = {"schema": "asyncio-guest/test_asyncio@1", "meta": meta, "not_run": {}, "runs": made}
    results.write(path, document, "test_asyncio")
    return str(path)


@pytest.mark.parametrize(
    ("after", "code", "says"),
    [
        ({"plain": {"one": "pass"}, "tk": {"one": "pass", "two": "pass"}}, 0, "0 gone"),
        ({"plain": {"one": "pass"}, "tk": {"one": "fail", "two": "pass"}}, 3, "one: pass -> fail"),
        ({"plain": {"one": "pass"}, "tk": {"one": "pass"}}, 6, "tk: 1 gone: two"),
        ({"plain": {"one": "pass"}}, 6, "tk: 2 gone"),
        ({"plain": {"one": "pass"}, "tk": {"one": "pass", "two": "pass", "n": "CRASH"}}, 3, "n: new, CRASH"),
        ({"plain": {"one": "pass"}, "tk": {"one": "pass", "two": "pass"}, "x": {"n": "fail"}}, 3, "x n: new"),
        ({"x": {"one": "pass"}}, 5, "gone"),
    ],
)
def test_suites(harness: Harness, tmp_path: Path, after: dict[str, dict[str, str]], code: int, says: str) -> None:
    """Regression: contenders and tests that went, and new tests that fail, ended with 0."""
    a = suite(tmp_path / "a.json", {"plain": {"one": "pass"}, "tk": {"one": "pass", "two": "pass"}})
    ran = harness("compare", a, suite(tmp_path / "b.json", after))
    assert ran.code == code and says in ran.out, ran.out + ran.err


def test_suite_that_was_interrupted_or_is_known(harness: Harness, tmp_path: Path) -> None:
    a = suite(tmp_path / "a.json", {"plain": {"one": "pass"}})
    b = suite(tmp_path / "b.json", {"plain": {"one": "pass"}}, interrupted=True)
    assert harness("compare", a, b).code == 6
    c = suite(tmp_path / "c.json", {"plain": {"one": "pass", "new": "fail"}}, known=True)
    assert harness("compare", a, c).code == 0


def bench(path: Path, seed: int, speed: float, *, machine: float = 1.0, noise: float = 0.01, blocks: int = 5) -> str:
    """Figures of plain and of a guest that is `speed` times as fast, on a machine `machine` times as fast."""
    rng = random.Random(seed)

    def cell(contender: str, rate: float) -> dict[str, Any]:
        numbers = [n for n in range(blocks) for _ in range(2)]
        return {
            "contender": contender,
            "metric": "echo",
            "unit": "op/s",
            "higher_is_better": True,
            "python": "3.11.2",
            "samples": [rate * machine * (1 + rng.uniform(-noise, noise)) for _ in numbers],
            "blocks": numbers,
            "turns_per_op": None,
            "host_waits_per_op": None,
            "ratio_to_plain": None
            if contender == "plain"
            else {"estimate": speed, "low": speed, "high": speed, "verdict": "SAME", "blocks": blocks},
        }

    about = results.meta(seed=1, seconds=1.0)
    meta = {k: about[k] for k in ("commit", "dirty", "date", "seconds", "machine", "seed", "interrupted")}
    document = {
        "schema": "asyncio-guest/bench@1",
        "meta": {**meta, "blocks": blocks, "time_factor": 1.0},
        "cells": [cell("plain", 1000.0), cell("guest/poll", 1000.0 * speed)],
    }
    results.write(path, document, "bench")
    return str(path)


@pytest.mark.parametrize(
    ("speed", "machine", "noise", "blocks", "code", "word"),
    [
        (1.0, 1.0, 0.01, 5, 0, "SAME"),
        (0.8, 1.0, 0.01, 5, 4, "REGRESSED"),
        (1.3, 1.0, 0.01, 5, 0, "IMPROVED"),
        (1.0, 1.0, 0.6, 5, 6, "INCONCLUSIVE"),
        (0.8, 1.0, 0.01, 2, 6, "INCONCLUSIVE"),
    ],
)
def test_figures(
    harness: Harness, tmp_path: Path, speed: float, machine: float, noise: float, blocks: int, code: int, word: str
) -> None:
    a = bench(tmp_path / "a.json", 1, 1.0, noise=noise, blocks=blocks)
    b = bench(tmp_path / "b.json", 2, speed, machine=machine, noise=noise, blocks=blocks)
    ran = harness("compare", a, b)
    assert ran.code == code, ran.out + ran.err
    (line,) = [line for line in ran.out.splitlines() if "guest/poll" in line]
    assert word in line and "plain" in line


def test_slower_machine_is_no_slower_guest(harness: Harness, tmp_path: Path) -> None:
    a = bench(tmp_path / "a.json", 1, 1.0)
    b = bench(tmp_path / "b.json", 2, 1.0, machine=0.5)
    ran = harness("compare", a, b)
    (line,) = [line for line in ran.out.splitlines() if "guest/poll" in line]
    assert "SAME" in line, ran.out


def test_holm() -> None:
    assert comparison.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert comparison.holm([]) == []


def selftest(path: Path) -> str:
    document = {"schema": "asyncio-guest/selftest@1", "meta": results.meta(exit_code=0), "faults": []}
    results.write(path, document, "selftest")
    return str(path)


@pytest.mark.parametrize("name", sorted(path.stem for path in (tree.HERE / "schema").glob("*.json")))
def test_what_does_not_fit_is_told_of_every_kind(name: str) -> None:
    """Regression: kinds that the table lacked ended with StopIteration."""
    with pytest.raises(UsageError, match="does not fit asyncio-guest/"):
        results.validate({}, name)
    assert name in results.KINDS.values()


@pytest.mark.parametrize(
    ("verb", "name"),
    [
        ("merge", "gate"),
        *itertools.product(
            ("compare", "show", "report", "expect lint --results", "run --rerun-failed"), ("selftest", "fuzz", "gate")
        ),
    ],
)
def test_a_verb_says_what_a_file_is_that_is_none_of_its(tmp_path: Path, name: str, verb: str) -> None:
    (schema,) = (schema for schema, kind in results.KINDS.items() if kind == name)
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"schema": schema}))
    more = {"merge": ["--json", str(tmp_path / "out.json")], "compare": [str(path)]}.get(verb, [])
    command = f"{verb}={path}" if verb.startswith("run") else f"{verb} {path}"
    options = cli.build_parser().parse_args([*command.split(), *more])
    said = re.escape(f"{path} is of kind {name} (read by {results.READERS[name]}); this takes conformance")
    with pytest.raises(UsageError, match=said):
        cli.VERBS[options.verb](options)
    assert results.READERS.keys() == set(results.KINDS.values())


@pytest.mark.parametrize("text", ['{"schema": []}', "[]", '"x"'])
def test_what_is_no_results_file_is_told(tmp_path: Path, text: str) -> None:
    """Regression: a schema that is no text was a fault of the harness."""
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UsageError, match="no results file of ours"):
        results.kind(tmp_path / "x.json")


def test_what_cannot_be_compared_is_2(harness: Harness, tmp_path: Path) -> None:
    a = cells(tmp_path / "a.json", make())
    b = bench(tmp_path / "b.json", 1, 1.0)
    ran = harness("compare", a, b)
    assert ran.code == 2 and "of kind" in ran.err
    assert harness("compare", a, str(tmp_path / "none.json")).code == 2
    faults = selftest(tmp_path / "s.json")
    for command in (("compare", faults, faults), ("show", faults)):
        ran = harness(*command)
        assert ran.code == 2 and "of kind selftest" in ran.err, ran.err
    for command in (("show", b), ("expect", "lint", "--results", b)):
        ran = harness(*command)
        assert ran.code == 2 and "of kind bench" in ran.err and "Traceback" not in ran.err, ran.err
    assert harness("compare", a, a, "--margin", "2").code == 2
