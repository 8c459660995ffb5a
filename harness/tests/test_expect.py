"""Expectations: written from results, and looked through."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import expectations, results
from harness.tests.conftest import cells, make

Harness = Callable[..., Any]
ID = "T.01a-equal-deadlines"


BARE = {"contender": "guest/poll", "case": ID, "reason": "somebody else", "issue": "#1", "since": "2026-01-01"}


def row(**fields: Any) -> str:
    values = {
        "contender": '"guest/poll"',
        "case": f'"{ID}"',
        "behaviour": '"FAIL"',
        "reason": '"somebody else"',
        "issue": '"#1"',
        "since": '"2026-01-01"',
        **fields,
    }
    return "[[expect]]\n" + "".join(f"{k} = {v}\n" for k, v in values.items() if v)


def test_ours_are_in_order(harness: Harness, tmp_path: Path) -> None:
    ran = harness("expect", "lint", "--results", cells(tmp_path / "r.json", make(case=ID)))
    assert ran.code == 0, ran.out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (row(case='"T.77-*"'), "no case is called 'T.77-*'"),
        (row(contender='"guest/tkk"'), "no contender is called"),
        (row(reason=None), "reason is missing"),
        (row(issue='""'), "issue is missing"),
        (row(since=None), "since is missing"),
        (row(since='"last week"'), "is no date"),
        (row(since='"2999-01-01"'), "is in the future"),
        (row(reason='"TODO: why?"'), "reason is still to be written"),
        (row() + row(case='"T.01*"', behaviour='"TIMEOUT"'), "overlaps with number 1"),
        (row(behaviour='"WRONG"'), "is none of"),
        ("[[expect]", "Expected"),
        ("[[other]]\n", "only [[expect]]"),
    ],
)
def test_lint_refuses(harness: Harness, tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "expect.toml"
    path.write_text(text)
    ran = harness("expect", "lint", str(path), "--results", cells(tmp_path / "r.json", make("FAIL", case=ID)))
    assert ran.code == 2 and says in ran.out, ran.out + ran.err


def test_two_interpreters_do_not_overlap(harness: Harness, tmp_path: Path) -> None:
    path = tmp_path / "expect.toml"
    path.write_text(row(python='"3.11.*"') + row(python='"3.12.*"'))
    ran = harness("expect", "lint", str(path), "--results", cells(tmp_path / "r.json", make("FAIL", case=ID)))
    assert ran.code == 0, ran.out


def test_stale_is_7(harness: Harness, tmp_path: Path) -> None:
    path = tmp_path / "expect.toml"
    path.write_text(row())
    ran = harness("expect", "lint", str(path), "--results", cells(tmp_path / "r.json", make(case=ID)))
    assert ran.code == 7 and "is stale" in ran.out
    unrun = cells(tmp_path / "u.json", make("NOTRUN", case=ID))
    assert harness("expect", "lint", str(path), "--results", unrun).code == 0


def test_what_passes_now_and_then_is_never_stale(harness: Harness, tmp_path: Path) -> None:
    """Without FLAKY in its row a cell that fails one time in two makes every second run end with 7."""
    path = tmp_path / "expect.toml"
    for listed, behaviour, code in (
        ('["FAIL", "FLAKY"]', "PASS", 0),
        ('["FAIL", "FLAKY"]', "FAIL", 0),
        ('["FAIL", "FLAKY"]', "FLAKY", 0),
        ('["FAIL", "FLAKY"]', "TIMEOUT", 7),
        ('["FAIL", "TIMEOUT"]', "PASS", 7),
    ):
        path.write_text(row(behaviour=listed))
        ran = harness("expect", "lint", str(path), "--results", cells(tmp_path / "r.json", make(behaviour, case=ID)))
        assert ran.code == code, (listed, behaviour, ran.out)
    (flaky,) = expectations.parse({"expect": [{**BARE, "behaviour": ["FAIL", "FLAKY"]}]}, "here")
    for cell, stale in ((make("PASS", case=ID), False), (make("PASS", case=ID, teardown=["LEAK_FD"]), None)):
        expectations.apply(cell, [flaky])
        assert (cell.expected and cell.expected["stale"]) is stale, cell
        assert results.unexpected(cell) is (stale is None)


def test_update_writes_rows_that_lint_refuses(harness: Harness, tmp_path: Path) -> None:
    into = tmp_path / "mine.toml"
    into.write_text("# ours\n\n" + row(case='"T.02*"'))
    made = cells(
        tmp_path / "r.json",
        make("FAIL", case=ID, reason='it said "no"\nand more'),
        make(case="T.02a-never-early"),
        make(case="T.02b-never-early-under-load", teardown=["LEAK_FD"]),
    )
    ran = harness("expect", "update", made, "--into", str(into))
    assert ran.code == 0 and "2 new, 0 gone" in ran.out, ran.out + ran.err
    found = expectations.load([str(into)], folder=tmp_path / "none")
    assert [(e.case, e.behaviour, e.teardown) for e in found[1:]] == [
        (ID, ("FAIL",), ()),
        ("T.02b-never-early-under-load", (), ("LEAK_FD",)),
    ]
    assert into.read_text().startswith("# ours\n")
    ran = harness("expect", "lint", str(into), "--results", made)
    assert ran.code == 2 and "still to be written" in ran.out
    ran = harness("expect", "update", made, "--into", str(into), "--prune")
    assert "0 new, 1 gone" in ran.out, ran.out
    assert len(expectations.load([str(into)], folder=tmp_path / "none")) == 2


def test_update_needs_results_with_cells(harness: Harness, tmp_path: Path) -> None:
    assert harness("expect", "update", str(tmp_path / "none.json"), "--into", str(tmp_path / "x.toml")).code == 2
    assert harness("expect", "update", cells(tmp_path / "r.json", make())).code == 2
