"""Seeded faults: the table, how they are made, and that a missed one is told."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import results, selftest, tree
from harness.selftest.mutants import CannotBuild, load, make_site
from harness.tree import UsageError

Harness = Callable[..., Any]
MUTANTS = load()


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


def test_cases_say_what_they_reject() -> None:
    cases = tree.load_cases()
    for mutant in MUTANTS.values():
        if mutant.case is not None:
            assert f"mutant {mutant.name}" in cases[mutant.case].rejects, mutant.name


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

    def detect(self: Any, mutant: Any, where: Path, *, fault: bool) -> selftest.Seen:
        what = next(ends)
        return selftest.Seen(what, "", frozenset([what]))

    monkeypatch.setattr(selftest.Bench, "detect", detect)
    bench = selftest.Bench(tmp_path, tmp_path, 3)
    judged = bench.judge(MUTANTS["timer-early"], selftest.Seen("PASS", ""))
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
