"""Shards, their merging, and what a run left over."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import results, shards, suite
from harness.tests.conftest import cells, make
from harness.verdicts import Cell

Harness = Callable[..., Any]
F = "harness.tests.faulty:"
ALL = [(name, f"T.{n:02}-x") for name in ("plain", "guest/poll", "guest/tk") for n in range(1, 8)]


def test_shards_are_a_partition_and_keep_a_case_together() -> None:
    seen = []
    for k in (1, 2, 3):
        own, others = shards.take(ALL, shards.parse(f"{k}/3"))
        assert not set(own) & set(others) and set(own) | set(others) == set(ALL)
        assert {id for _, id in own}.isdisjoint(id for _, id in others)
        assert set(others.values()) == {1, 2, 3} - {k}
        seen += own
    assert sorted(seen) == sorted(ALL)


def test_shards_do_not_depend_on_order() -> None:
    first, _ = shards.take(ALL, shards.parse("2/3"))
    second, _ = shards.take(ALL[::-1], shards.parse("2/3"))
    assert set(first) == set(second)


def test_one_case_is_divided_by_contender() -> None:
    cells = [(name, "T.01-x") for name in ("a", "b", "c")]
    assert [len(shards.take(cells, shards.parse(f"{k}/3"))[0]) for k in (1, 2, 3)] == [1, 1, 1]


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "a/b", "-1/2", "1/3x"])
def test_bad_shards_are_2(harness: Harness, text: str) -> None:
    ran = harness("run", "plain::X.90*", f"--shard={text}")
    assert ran.code == 2 and "K/N" in ran.err


def run_shards(harness: Harness, tmp_path: Path, *selectors: str, count: int = 3) -> list[Path]:
    paths = [tmp_path / f"{k}.json" for k in range(1, count + 1)]
    for k, path in enumerate(paths, 1):
        harness("run", *selectors, "--shard", f"{k}/{count}", "--json", str(path), "-q")
    return paths


def test_merged_shards_are_the_whole_run(harness: Harness, tmp_path: Path) -> None:
    selectors = [f"{F}leaks_fd::X.9[067]*", "plain::X.9[067]*"]
    paths = run_shards(harness, tmp_path, *selectors)
    for k, path in enumerate(paths, 1):
        document = results.read(path)
        assert document["meta"]["shard"] == f"{k}/3"
        assert len(document["cells"]) == 6
        assert sum("shard" in c["detail"] for c in document["cells"]) == 4
    out = tmp_path / "all.json"
    names = [str(p) for p in paths]
    ran = harness("merge", *names[:2], "--json", str(out))
    assert ran.code == 5 and "left: shard 3/3" in ran.out and "2 cell(s)" in ran.out, ran.out
    assert harness("merge", *names[:2], "--json", str(tmp_path / "p.json"), "--partial").code == 3
    ran = harness("merge", str(out), names[2], "--json", str(tmp_path / "whole.json"))
    assert ran.code == 3 and "left: nothing" in ran.out, ran.out + ran.err
    whole = results.read(tmp_path / "whole.json")
    assert whole["meta"]["shard"] is None and whole["meta"]["exit_code"] == 3
    assert {c["behaviour"] for c in whole["cells"]} == {"PASS"}
    assert len(whole["cells"]) == 6


def document(path: Path, *made: Cell, **meta: Any) -> str:
    return cells(path, *made, **{"commit": "a" * 40, "dirty": False, **meta})


def test_merge_refuses_what_does_not_belong_together(harness: Harness, tmp_path: Path) -> None:
    one = document(tmp_path / "one.json", make())
    other = make(case="T.02-y")
    commit = document(tmp_path / "commit.json", other, commit="b" * 40)
    machine = json.loads(Path(one).read_text())["meta"]["machine"]
    python = document(
        tmp_path / "python.json", other, machine={**machine, "versions": {**machine["versions"], "python": "3.99.0"}}
    )
    tier = document(tmp_path / "tier.json", other, tier="full")
    again = document(tmp_path / "again.json", make("FAIL"))
    part = document(tmp_path / "part.json", other, shard="1/2")
    broken = tmp_path / "broken.json"
    broken.write_text('{"schema": "something@1"}')
    missing_field = tmp_path / "field.json"
    missing_field.write_text(json.dumps({"schema": results.SCHEMA, "meta": {}, "cells": []}))
    for path, says in (
        (commit, "another commit"),
        (python, "another python"),
        (tier, "another tier"),
        (again, "is in both"),
        (part, "another number of shards"),
        (str(broken), "no results file of ours"),
        (str(missing_field), "does not fit"),
        (str(tmp_path / "none.json"), "cannot read"),
    ):
        ran = harness("merge", one, path, "--json", str(tmp_path / "out.json"))
        assert ran.code == 2 and says in ran.err and "Traceback" not in ran.err, (path, ran.out, ran.err)
        assert not (tmp_path / "out.json").exists()


def test_merge_refuses_shards_of_different_selections(harness: Harness, tmp_path: Path) -> None:
    one = document(tmp_path / "one.json", make(), shard="1/2")
    two = document(tmp_path / "two.json", make(case="T.02-y"), shard="2/2")
    ran = harness("merge", one, two, "--json", str(tmp_path / "out.json"))
    assert ran.code == 2 and "another selection" in ran.err


def test_merge_of_two_runs_follows_the_cells(harness: Harness, tmp_path: Path) -> None:
    good = document(tmp_path / "good.json", make())
    bad = document(tmp_path / "bad.json", make("FAIL", contender="guest/tk"))
    ran = harness("merge", good, bad, "--json", str(tmp_path / "out.json"))
    assert ran.code == 3 and "FAIL guest/tk" in ran.out


def test_suites_are_merged_test_for_test(harness: Harness, tmp_path: Path) -> None:
    def suite(path: Path, shard: str, test: str, code: int, name: str = "test_asyncio") -> str:
        run = {
            "contender": "guest/poll+fast",
            "outcomes": {"pass": 1},
            "seconds": 0.5,
            "turns": {"turns": 3},
            "tests_with_turns": {"all": 1, "descriptor": 1, "mirrored": 0, "always_due": 0},
            "tests_with_fast": 1,
            "differences": {k: [] for k in ("lost", "extra", "outcome", "hang", "crash", "turns", "fast")},
            "flaky": [],
            "known": {},
            "tests": {test: ["pass", 3, 1, 0.5]},
            "details": {},
        }
        meta = {**results.meta(shard=shard, exit_code=code, tier="full"), "commit": "a" * 40, "dirty": False}
        meta["suite"] = name
        results.write(
            path, {"schema": "asyncio-guest/test_asyncio@1", "meta": meta, "not_run": {}, "runs": [run]}, "test_asyncio"
        )
        return str(path)

    one = suite(tmp_path / "1.json", "1/2", "test_a.A.test_one", 6)
    two = suite(tmp_path / "2.json", "2/2", "test_b.B.test_two", 3)
    out = tmp_path / "out.json"
    ran = harness("merge", one, two, "--json", str(out), "--strict")
    assert ran.code == 2 and "--strict is about cells" in ran.err and not out.exists()
    other = suite(tmp_path / "3.json", "2/2", "tests/test_c.py::test_three", 0, "janus")
    ran = harness("merge", one, other, "--json", str(out))
    assert ran.code == 2 and "another suite: janus" in ran.err and not out.exists()
    assert harness("merge", one, two, "--json", str(out)).code == 3
    (run,) = results.read(out, "test_asyncio")["runs"]
    assert run["outcomes"] == {"pass": 2} and len(run["tests"]) == 2 and run["turns"] == {"turns": 6}


def bench(path: Path, shard: str, samples: list[float], **more: Any) -> str:
    cell = {
        "contender": "plain",
        "metric": f"metric-{shard[0]}",
        "unit": "op/s",
        "higher_is_better": True,
        "python": "3.11.2",
        "samples": samples,
        "blocks": [0 for _ in samples],
        "turns_per_op": None,
        "host_waits_per_op": None,
        "ratio_to_plain": None,
    }
    about = results.meta(seed=1, seconds=1.0)
    meta = {k: about[k] for k in ("date", "seconds", "machine", "seed", "interrupted")}
    meta.update({"commit": "a" * 40, "dirty": False, "blocks": 1, "time_factor": 1.0, "shard": shard, **more})
    results.write(path, {"schema": "asyncio-guest/bench@1", "meta": meta, "cells": [cell]}, "bench")
    return str(path)


def test_campaigns_of_programs_are_added_up(harness: Harness, tmp_path: Path) -> None:
    paths = [tmp_path / f"{k}.json" for k in (1, 2)]
    for k, path in enumerate(paths, 1):
        command = ["fuzz", "plain", "--seed", "7", "--programs", "5", "--shard", f"{k}/2", "-q"]
        assert harness(*command, "--results", str(tmp_path), "--json", str(path)).code == 0
    whole = tmp_path / "whole.json"
    ran = harness("merge", *map(str, paths), "--json", str(whole))
    assert ran.code == 0 and "10 programs (plain 10 runs): 0 finds" in ran.out, ran.out + ran.err
    document = results.read(whole, "fuzz")
    assert (document["programs"], document["contenders"], document["meta"]["shard"]) == (10, {"plain": 10}, None)
    ran = harness("merge", str(paths[0]), "--json", str(whole))
    assert ran.code == 5 and "left: shard 2/2" in ran.out, ran.out
    other = json.loads(paths[1].read_text())
    other["meta"]["seed"] = 8
    paths[1].write_text(json.dumps(other))
    ran = harness("merge", *map(str, paths), "--json", str(whole))
    assert ran.code == 2 and "shard of seed 8" in ran.err


def test_finds_and_exit_codes_of_campaigns_are_kept(harness: Harness, tmp_path: Path) -> None:
    find = dict(contender="plain", kind="differs", program={}, difference="d", size=1, seed=1, detail="", files=[])
    paths = [tmp_path / f"{k}.json" for k in (1, 2)]
    for code, finds, path in zip((0, 3), ([], [find]), paths):
        meta = {**results.meta(exit_code=code, seed=code), "seconds": 1.0}
        parts = {"programs": 2, "contenders": {"plain": 2}, "not_run": {}, "finds": finds}
        path.write_text(json.dumps({"schema": "asyncio-guest/fuzz@1", "meta": meta, **parts}))
    ran = harness("merge", *map(str, paths), "--json", str(tmp_path / "whole.json"))
    assert ran.code == 3, ran.out + ran.err
    assert results.read(tmp_path / "whole.json", "fuzz")["finds"] == [find]


def test_seeded_faults_are_merged_and_none_is_there_twice(harness: Harness, tmp_path: Path) -> None:
    seen = {"what": "PASS", "reason": ""}
    about = {"fault": "f", "in": "loop", "file": "x.py", "detector": "a::b", "case": "b", "sees": ["FAIL"]}
    counts = {"without": seen, "with": seen, "caught": 1, "asked": 1, "verdict": "CAUGHT", "seconds": 1.0}
    paths = [tmp_path / f"{name}.json" for name in ("one", "two")]
    for path in paths:
        faults = [{"name": path.stem, **about, **counts}]
        document = {"schema": "asyncio-guest/selftest@1", "meta": results.meta(exit_code=0), "faults": faults}
        path.write_text(json.dumps(document))
    whole = tmp_path / "whole.json"
    ran = harness("merge", *map(str, paths), "--json", str(whole))
    assert ran.code == 0 and "2 of 2 seeded faults were caught" in ran.out, ran.out + ran.err
    assert [fault["name"] for fault in results.read(whole, "selftest")["faults"]] == ["one", "two"]
    ran = harness("merge", str(paths[0]), str(paths[0]), "--json", str(whole))
    assert ran.code == 2 and "one is there twice" in ran.err


@pytest.mark.parametrize(
    ("samples", "more", "code"),
    [([1.0], {}, 0), ([], {}, 5), ([1.0], {"interrupted": True}, 130)],
)
def test_merged_benches_end_as_the_parts_did(
    harness: Harness, tmp_path: Path, samples: list[float], more: dict[str, Any], code: int
) -> None:
    """Regression: interrupted or empty benches, merged, ended with 0."""
    parts = [bench(tmp_path / f"{k}.json", f"{k}/2", samples, **more) for k in (1, 2)]
    out = tmp_path / "out.json"
    ran = harness("merge", *parts, "--json", str(out))
    assert ran.code == code, ran.out + ran.err
    assert results.read(out, "bench")["meta"]["exit_code"] == code
    ran = harness("merge", *parts, "--json", str(out), "--require", "plain")
    assert ran.code == 2 and "--require is about cells" in ran.err


def test_rerun_of_what_failed(harness: Harness, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    ran = harness("run", f"{F}leaks_fd::X.9[067]*", "plain::X.90*", "--json", str(kept))
    assert ran.code == 3 and len(ran.cells) == 4
    ran = harness("run", "--rerun-failed")  # of the folder that --results names
    bad = [c["case"] for c in ran.cells]
    assert ran.code == 3 and bad == ["X.90-order"] and ran.cell["contender"] == f"{F}leaks_fd"
    ran = harness("run", "plain::*", f"--rerun-failed={kept}")
    assert ran.code == results.NOTHING_RAN and "0 cell(s)" in ran.out and "nothing to run" in ran.out
    good = document(tmp_path / "good.json", make())
    assert harness("run", f"--rerun-failed={good}").code == results.NOTHING_RAN
    gone = document(tmp_path / "gone.json", make("FAIL", case="T.99-gone"))
    ran = harness("run", f"--rerun-failed={gone}")
    assert ran.code == 2 and "T.99-gone" in ran.err
    ran = harness("run", "--rerun-failed", "plain::X.90*")
    assert ran.code == 2 and "is no file" in ran.err


def test_what_counts_as_failed() -> None:
    cells = [
        make("FAIL", case="T.01-a"),
        make(case="T.02-a"),
        make("FAIL", case="T.03-a", expected={"stale": False}),
        make(case="T.04-a", expected={"stale": True}),
        make("NOTRUN", case="T.05-a", detail={"interrupted": True}),
        make("NOTRUN", case="T.06-a", detail={"runnable": False}),
        make("NOTRUN", case="T.07-a", detail={"runnable": True}),
        make("NOTRUN", case="T.08-a", detail={"shard": "1/2", "by_design": True}),
        make(case="T.09-a", teardown=["LEAK_FD"]),
    ]
    assert [id for _, id in shards.failed(cells)] == [f"T.{n:02}-a" for n in (1, 4, 5, 7, 9)]


def test_the_worst_exit_code_wins() -> None:
    assert shards.worst([0, 6, 3]) == 3
    assert shards.worst([7, 4]) == 4
    assert shards.worst([130, 5]) == 130
    assert shards.worst([]) == 0


def test_suite_is_divided_by_module_and_then_by_contender() -> None:
    names, modules = ["plain", "guest/poll+fast", "guest/tk+fast"], [f"test_{n}" for n in "abcd"]
    for count in (2, 4, 7, 8, 11):
        units = []
        for k in range(1, count + 1):
            part, total = suite.own_part(names, modules, shards.Shard(k, count))
            assert total == 8
            units += part
            if count <= 4:
                assert len({m for _, m in part}) == 4 // count and len(part) == 8 // count
        assert sorted(units) == sorted((n, m) for n in names[1:] for m in modules)


def test_shard_without_a_case_is_no_failure(harness: Harness, tmp_path: Path) -> None:
    paths = run_shards(harness, tmp_path, "plain::X.90*", count=2)
    assert [results.read(p)["meta"]["exit_code"] for p in paths] == [0, 0]
    assert harness("merge", *map(str, paths), "--json", str(tmp_path / "all.json")).code == 0


def test_ranges() -> None:
    assert shards.ranges([1, 2, 3, 5, 7, 8]) == "1-3,5,7-8"
    assert shards.ranges([4]) == "4" and shards.ranges([]) == ""
