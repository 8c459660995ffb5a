"""The fuzzer: finds seeded faults and makes them small, calls no right loop wrong, and tells its own faults apart."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import results, verdicts
from harness.fuzz import campaign, strategy
from harness.fuzz.workers import Reply
from harness.session import Session
from harness.shards import Shard
from scenarios import programs
from scenarios.programs import source

from .conftest import Ran, environment

FAULTS = "harness.tests.fuzz_faults:"
PROGRAM: dict[str, Any] = {"virtual": False, "debug": False, "strands": [[["log"]]], "left": [], "end": "return"}


def found(tmp_path: Path, harness: Callable[..., Ran], fault: str, *arguments: str) -> dict[str, Any]:
    """Run the fuzzer until its first find; that find."""
    ran = harness(
        "fuzz", FAULTS + fault, "--seed", "4", "--seconds", "60", "--programs", "600", "--finds", "1",
        "--results", str(tmp_path), *arguments,
    )  # fmt: skip
    assert ran.code == results.UNEXPECTED, ran.out + ran.err
    document = results.read(tmp_path / "fuzz.json", "fuzz")
    (find,) = document["finds"]
    assert find["contender"] == FAULTS + fault
    assert find["difference"] in ran.out and "async def main(program):" in ran.out
    return dict(find)


@pytest.mark.parametrize(
    ("fault", "kind", "statement", "size"),
    [
        ("LosesContext", "differs", "thread", 2),
        ("ReordersEqualTimers", "differs", "timers", 2),
        ("DropsCancellation", "differs", "cancel", 12),
        ("Dies", "crash", "", 2),
    ],
)
def test_a_seeded_fault_is_found_and_made_small(
    fault: str, kind: str, statement: str, size: int, tmp_path: Path, harness: Callable[..., Ran]
) -> None:
    find = found(tmp_path, harness, fault, "--shrink", "90")
    assert find["kind"] == kind
    assert find["size"] <= size, json.dumps(find["program"])
    assert statement in json.dumps(find["program"])
    code, data = find["files"]
    alone = subprocess.run(
        [sys.executable, code], env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert alone.returncode == 0 and "main returned" in alone.stdout, alone.stderr
    again = harness("fuzz", "--replay", data, FAULTS + fault, "--results", str(tmp_path / "again"))
    assert again.code == results.UNEXPECTED, again.out + again.err
    assert harness("fuzz", "--replay", data, "guest/poll", "--results", str(tmp_path / "poll")).code == results.OK


def test_a_hang_is_a_find_with_stacks(tmp_path: Path, harness: Callable[..., Ran]) -> None:
    find = found(tmp_path, harness, "LosesWake", "--shrink", "3", "--timeout", "1")
    assert find["kind"] == "hang"
    assert "no end within" in find["difference"] and "asyncio task(s)" in find["detail"]


def test_programs_are_deterministic(tmp_path: Path, harness: Callable[..., Ran]) -> None:
    """On a loop that stalls at random they do the same: what differs elsewhere is the loop's doing."""
    ran = harness("fuzz", "plain", "--seed", "5", "--programs", "150", "--seconds", "60", "--results", str(tmp_path))
    assert ran.code == results.OK, ran.out + ran.err
    document = results.read(tmp_path / "fuzz.json", "fuzz")
    assert document["programs"] > 20 and document["finds"] == []


def test_a_seed_makes_the_same_programs() -> None:
    from hypothesis import HealthCheck, Phase, given, seed, settings

    def made(number: int) -> list[str]:
        kept = []

        @seed(number)
        @settings(max_examples=20, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(strategy.programs())
        def keep(program: dict[str, Any]) -> None:
            kept.append(json.dumps(program))

        keep()
        return kept

    assert made(1) == made(1) != made(2)


def test_shards_divide_the_seeds(tmp_path: Path) -> None:
    with Session(scale=1.0) as session:
        whole = campaign.Campaign(session, [], seed=3, seconds=1, folder=tmp_path)
        of_all, first, second = (whole.seeds(Shard(*part)) for part in ((1, 1), (1, 2), (2, 2)))
        expected = [next(of_all) for _ in range(6)]
        assert [next(part) for _ in range(3) for part in (first, second)] == expected


def test_what_is_no_program_is_refused(tmp_path: Path, harness: Callable[..., Ran]) -> None:
    bad = tmp_path / "bad.json"
    for text in ("{", "[]", '{"program": {}}', json.dumps({"program": {**PROGRAM, "strands": [[["fly"]]]}})):
        bad.write_text(text)
        with pytest.raises(ValueError, match=r"bad\.json"):
            programs.load(bad)
    ran = harness("fuzz", "--replay", str(bad), "--results", str(tmp_path))
    assert ran.code == results.USAGE and "bad.json" in ran.err
    assert harness("fuzz", "guest/nothing", "--results", str(tmp_path)).code == results.USAGE
    assert harness("fuzz", "no.such.module:loop", "--results", str(tmp_path)).code == results.NOTHING_RAN
    for shard in ("0/4", "5/4", "1", "a/b", "1/0"):
        assert harness("fuzz", "--shard", shard).code == results.USAGE


@pytest.mark.parametrize(("absent", "says"), [("no.such.module:loop", "no.such"), (FAULTS + "CannotStart", "no start")])
def test_a_named_contender_that_does_not_run_is_told(
    absent: str, says: str, tmp_path: Path, harness: Callable[..., Ran]
) -> None:
    """Regression: with another contender beside it the campaign ended with 0."""
    ran = harness("fuzz", "guest/poll", absent, "--programs", "20", "--results", str(tmp_path))
    assert ran.code == results.NOTHING_RAN and f"{absent} ran no program" in ran.out, ran.out + ran.err
    document = results.read(tmp_path / "fuzz.json", "fuzz")
    assert document["contenders"]["guest/poll"] and says in document["not_run"][absent]
    assert document["meta"]["exit_code"] == results.NOTHING_RAN


def test_a_program_that_a_contender_cannot_take_is_no_pass(tmp_path: Path, harness: Callable[..., Ran]) -> None:
    """Regression: replayed alone, it was told to be as plain."""
    path = tmp_path / "virtual.json"
    path.write_text(json.dumps({"about": "", "program": {**PROGRAM, "virtual": True}}))
    ran = harness("fuzz", "--replay", str(path), "harness.tests.faulty:good", "--results", str(tmp_path))
    assert ran.code == results.NOTHING_RAN and "as plain" not in ran.out, ran.out + ran.err


class Once:
    """A worker whose log differs the first time, or every time."""

    def __init__(self, differing: int) -> None:
        self.left = differing

    def run(self, program: dict[str, Any]) -> Reply:
        self.left -= 1
        return Reply({"main": [["other" if self.left >= 0 else "same", None]]})


@pytest.mark.parametrize(
    ("plain", "theirs", "kind"), [(0, 0, None), (0, 1, "flaky"), (0, 9, "differs"), (1, 0, "unstable")]
)
def test_a_difference_is_asked_for_again(plain: int, theirs: int, kind: str | None, tmp_path: Path) -> None:
    with Session(scale=1.0) as session:
        one = campaign.Campaign(session, ["guest/poll"], seed=1, seconds=1, folder=tmp_path)
        one.plain = Once(plain)  # type: ignore[assignment]
        one.workers["guest/poll"] = Once(theirs)  # type: ignore[assignment]
        find = one.compare(PROGRAM, "guest/poll")
    assert (find and find.kind) == kind


def test_where_logs_differ() -> None:
    """Logs in virtual time have other entries than those of cases."""
    first = verdicts.first_difference
    same = {"a": [["x", 1]], "b": [["y", 2]]}
    assert first(same, same, "it") is None
    assert first(same, {"a": [["x", 1]]}, "it") == "actor 'b': event 1, y(2), is missing under it"
    assert first({"a": []}, {"a": [["z", None]]}, "it") == "actor 'a': it has one event more than plain asyncio, z"
    plain, theirs = {"all": [["s0", "x", 1]], "garbage": ["gone"]}, {"all": [["s0", "x", 2]], "garbage": ["gone"]}
    said = "actor 'all', event 1: plain asyncio has ['s0', 'x', 1], it has ['s0', 'x', 2]"
    assert first(plain, theirs, "it") == said
    assert "plain asyncio has 'gone', it has 'left'" in str(first(plain, {**plain, "garbage": ["left"]}, "it"))


def test_every_statement_has_a_meaning() -> None:
    """What the strategy makes is what `source` writes, over many programs."""
    from hypothesis import HealthCheck, Phase, given, settings

    @settings(max_examples=200, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(strategy.programs())
    def check(program: dict[str, Any]) -> None:
        assert json.loads(json.dumps(program)) == program
        compile(source.source(program), "<program>", "exec")

    check()


def test_the_corpus_is_real() -> None:
    assert len(programs.corpus()) >= 4
    for name, one in programs.corpus().items():
        assert one["about"], name
