"""Seeded faults: the table, how they are made, and that a missed one is told."""

from __future__ import annotations

import concurrent.futures
import fnmatch
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import coverage, results, selftest, tree
from harness.selftest import loops
from harness.selftest.mutants import CannotBuild, load, make_site
from harness.tree import UsageError
from harness.verdicts import Cell

Harness = Callable[..., Any]
MUTANTS = load()
LOOPS = loops.load()


@pytest.mark.parametrize("name", MUTANTS)
def test_every_fault_still_applies(name: str) -> None:
    mutant = MUTANTS[name]
    assert mutant.mutate(tree.TOP) != (tree.TOP / mutant.file).read_text()


def test_there_are_faults_in_loop_backend_and_harness() -> None:
    about = [mutant.about.partition(" ")[0] for mutant in MUTANTS.values()]
    assert len(about) >= 15
    assert about.count("guest") >= 10 and about.count("backend") >= 2 and about.count("harness") >= 5


def test_every_detector_is_there() -> None:
    cases = tree.load_cases()
    for mutant in MUTANTS.values():
        if mutant.by_test:
            assert (tree.TOP / mutant.detector.partition("::")[0]).exists(), mutant.name
        else:
            assert mutant.case in cases, mutant.name


def test_mutants_that_cases_name_are_there_and_name_the_case() -> None:
    # Only a few are named in a case; `list --coverage` has all of them.
    cases = tree.load_cases().values()
    named = [(case, name) for case in cases for name in re.findall(r"mutant ([a-z0-9-]+)", case.rejects)]
    assert named
    for case, name in named:
        assert name in MUTANTS and MUTANTS[name].case == case.id, f"{case.id}: {name}"


def test_broken_loops_name_cases_that_need_no_guest() -> None:
    cases = tree.load_cases()
    for fault in LOOPS.values():
        assert fault.case in cases, fault.name
        assert (tree.TOP / fault.file).exists(), fault.name
    assert not LOOPS.keys() & MUTANTS.keys()


def test_broken_loop_is_declared_with_cases_and_what_they_see() -> None:
    with pytest.raises(ValueError, match="needs cases"):
        loops.broken("no case")
    with pytest.raises(ValueError, match="needs cases"):
        loops.broken("passes", "T.01a-equal-deadlines", sees=("PASS",))


def test_fault_is_put_in_once() -> None:
    class Owner:
        def method(self) -> int:
            return 1

    for _ in range(2):
        loops.patch(Owner, "method", lambda old: lambda self: old(self) + 1)
    assert Owner().method() == 2


def test_broken_loop_is_caught_by_each_case_and_a_sound_one_is_missed(
    tmp_path: Path,
) -> None:
    site = tree.site()
    if site is None:
        pytest.skip("not built")
    early = LOOPS["loop-early-timers-t02a"]
    useless = loops.LoopFault("loop-none-t02a", "none", loops.SOUND, early.case, ("FAIL",))
    bench = selftest.Bench(tmp_path, site, 1)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        futures = selftest.submit(bench, pool, [early, useless])
        done = {one.mutant.name: one.verdict for future in futures for one in future.result()}
    assert done == {early.name: "CAUGHT", useless.name: "MISSED"}


def test_text_that_went_is_told() -> None:
    import dataclasses

    mutant = dataclasses.replace(MUTANTS["descriptor-leaked"], old="no such text")
    with pytest.raises(CannotBuild, match="0 times"):
        mutant.mutate(tree.TOP)


def test_fault_that_does_not_compile_is_told(tmp_path: Path) -> None:
    import dataclasses

    site = tree.site()
    if site is None:
        pytest.skip("not built")
    mutant = dataclasses.replace(MUTANTS["descriptor-leaked"], new="this is no C")
    with pytest.raises(CannotBuild, match="does not compile"):
        make_site(mutant, site, tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[mutant]", "Expected"),
        ('[[mutant]]\nname = "a"\n', "needs exactly"),
        (
            '[[mutant]]\nname="a"\nfault="f"\nfile="x.c"\nold="o"\nnew="n"\n'
            'detector="guest/poll::T.01"\nsees=["PASS"]\n',
            "which is none of",
        ),
        (
            '[[mutant]]\nname="a"\nfault="f"\nfile="x.c"\nold="o"\nnew="n"\ndetector="nothing"\nsees=["FAIL"]\n',
            "neither a cell nor a test",
        ),
    ],
)
def test_broken_table(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "mutants.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=says):
        load(path)


def test_a_fault_with_several_detectors_is_a_mutant_for_each(tmp_path: Path) -> None:
    path = tmp_path / "mutants.toml"
    path.write_text(
        '[[mutant]]\nname="a"\nfault="f"\nfile="x.c"\nold="o"\nnew="n"\n'
        'detector=["guest/poll::T.01a-x", "guest/tk::H.05b-y-z"]\nsees=["FAIL"]\n'
    )
    made = load(path)
    named = {name: mutant.detector for name, mutant in made.items()}
    assert named == {"a": "guest/poll::T.01a-x", "a-h05b": "guest/tk::H.05b-y-z"}
    assert len({m.change for m in made.values()}) == 1


def result(without: str, with_fault: str, words: str = "") -> selftest.Result:
    seen = selftest.Seen(with_fault, "", frozenset(words.split()))
    return selftest.Result(MUTANTS["descriptor-leaked"], selftest.Seen(without, ""), [seen])


def test_verdicts_and_exit_codes() -> None:
    caught = result("PASS", "PASS LEAK_FD", "PASS LEAK_FD")
    missed = result("PASS", "PASS", "PASS")
    other = result("PASS", "FAIL", "FAIL")  # red, but not for the fault
    useless = result("FAIL", "PASS LEAK_FD", "PASS LEAK_FD")
    broken = result("PASS", "error")
    chance = result("PASS", "PASS LEAK_FD", "PASS LEAK_FD")
    chance.times += missed.times
    verdicts = [one.verdict for one in (caught, missed, other, useless, broken, chance)]
    assert verdicts == ["CAUGHT", "MISSED", "MISSED", "INVALID", "INVALID", "SOMETIMES"]
    assert (chance.says, chance.with_fault.what) == ("SOMETIMES (1 of 2)", "PASS")
    assert selftest.exit_code([caught], 1, False) == 0
    for one in (missed, other, useless, broken, chance):
        assert selftest.exit_code([caught, one], 2, False) == 3
    assert selftest.exit_code([caught], 2, False) == 5
    assert selftest.exit_code([caught], 1, True) == 130


@pytest.mark.parametrize(
    ("seen", "verdict", "asked"),
    [
        (["FAIL", "FAIL", "FAIL"], "CAUGHT", 3),
        (["FAIL", "PASS", "FAIL"], "SOMETIMES", 3),
        (["PASS", "PASS", "FAIL"], "SOMETIMES", 3),
        (["PASS", "PASS", "PASS"], "MISSED", 3),
        (["FAIL", "error", "FAIL"], "INVALID", 2),
    ],
)
def test_a_detector_is_asked_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: list[str], verdict: str, asked: int
) -> None:
    ends = iter(seen)

    def detect(self: Any, mutants: Any, where: Path) -> list[selftest.Seen]:
        what = next(ends)
        return [selftest.Seen(what, "", frozenset([what]))]

    monkeypatch.setattr(selftest.Bench, "detect", detect)
    bench = selftest.Bench(tmp_path, tmp_path, 3)
    [judged] = bench.judge([MUTANTS["timer-early"]], [selftest.Seen("PASS", "")])
    assert (judged.verdict, len(judged.times)) == (verdict, asked)
    assert judged.as_json()["caught"] == seen[:asked].count("FAIL")


def test_faults_in_the_core_and_in_the_harness_are_caught(harness: Harness, tmp_path: Path) -> None:
    if tree.site() is None:
        pytest.skip("not built")
    out = tmp_path / "selftest.json"
    ran = harness("selftest", "descriptor-leaked", "harness-fail-is-pass", "generators-not-closed", "--json", str(out))
    assert ran.code == 0, ran.out + ran.err
    document = results.read(out, "selftest")
    assert [f["verdict"] for f in document["faults"]] == ["CAUGHT"] * 3
    assert {f["in"] for f in document["faults"]} == {"guest", "harness"}


def test_unknown_fault_is_2(harness: Harness) -> None:
    ran = harness("selftest", "no-such-fault")
    assert ran.code == 2 and "no fault is called" in ran.err


def test_a_fault_that_only_a_newer_python_shows_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    one, newer = MUTANTS["turn-unknown"], MUTANTS["turn-unknown-n05b"]
    monkeypatch.setattr(sys, "version_info", (3, 11, 2))
    assert selftest.runnable([newer, one]) == [one]
    with pytest.raises(UsageError, match=r"turn-unknown-n05b: .* need Python 3\.12"):
        selftest.runnable([newer])
    monkeypatch.setattr(sys, "version_info", (3, 12, 0))
    assert selftest.runnable([newer, one]) == [newer, one]


def test_list_is_of_the_faults_that_were_named(harness: Harness) -> None:
    ran = harness("selftest", "--list", "timer*")
    listed = [line.partition(" (in ")[0] for line in ran.out.splitlines() if " (in " in line]
    assert listed == [name for name in MUTANTS if fnmatch.fnmatchcase(name, "timer*")] and listed
    assert f"{len(listed)} faults" in ran.out


def test_coverage_maps_items_to_what_is_rejected(harness: Harness) -> None:
    ran = harness("list", "--coverage", "--json")
    assert ran.code == 0, ran.err
    items = {item["item"]: item for item in json.loads(ran.out)["items"]}
    cases = {case["id"]: case for case in items["Z.01"]["cases"]}
    assert cases["Z.01a-result"]["mutants"] == ["descriptor-leaked", "thread-leaked"]
    assert len(items) >= 183
    text = harness("list", "--coverage", "Z.01").out
    assert "Z.01a-result" in text and "descriptor-leaked" in text and "T.01" not in text


def test_coverage_knows_what_peers_are_expected_to_fail_unless_they_ran(tmp_path: Path) -> None:
    cases = ["C.03c-cancel-lets-go", "C.05b-threadsafe-wakes"]
    assert coverage.peers(tmp_path, cases) == {cases[0]: ["peer/qasync (expected)"]}
    cells = [
        Cell("peer/qasync", case, "3.11.2", None, None, None, "MUST", behaviour, [], None, "", 0.1, {}, "again")
        for case, behaviour in zip(cases, ("PASS", "FAIL"))
    ]
    results.write(tmp_path / "conformance.json", results.document(cells, exit_code=3))
    assert coverage.peers(tmp_path, cases) == {cases[1]: ["peer/qasync"]}
