"""Repetitions: what counts as a leak, and what is flaky."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import campaign, results
from harness.tests.conftest import CASES

Harness = Callable[..., Any]
F = "harness.tests.faulty:"


@pytest.mark.parametrize(
    ("deltas", "leaks"),
    [
        ([0] * 200, False),
        ([1] * 200, True),
        ([7, 3, 1, *[0] * 97, 4, *[0] * 99], False),  # a table that has grown twice
        ([0, 1, 0, 0, 0] * 40, True),  # one in five
        ([5, -5] * 100, False),
        ([1, 0, 1, -1] * 50, True),
        ([40] + [0] * 199, False),
        ([1], False),
        ([0, 3, 0, 0, 1, 0, 0, 0] * 2 + [0] * 8, False),  # few repetitions
        ([1, 0, 1, 1] * 6, True),
    ],
)
def test_what_grows_for_ever(deltas: list[int], leaks: bool) -> None:
    assert campaign.grows(deltas, 0.1) is leaks


def test_any_descriptor_that_stays_is_a_leak() -> None:
    once = [0] * 90 + [1] + [0] * 109
    assert campaign.leaking({"descriptors": once, "blocks": once}) == {"descriptors": 1 / 150}
    assert campaign.leaking({"threads": [1, -1] * 100}) == {}


def test_what_a_toolkit_makes_once_is_no_rate() -> None:
    """Regression: PyQt6 keeps an object of each driver, with a case and without one (its control); what the first click
    made was spread over all repetitions, and the case was told to leak more than its control (H.01i, LEAK_REF)."""
    found = campaign.leaking({"objects": [128] + [1] * 199})
    assert found == {"objects": 1.0}
    assert campaign.beyond(found, campaign.leaking({"objects": [37] + [1] * 199})) == {}
    assert campaign.beyond(campaign.leaking({"objects": [0] + [2] * 199}), found) == {"objects": 2.0}


def leaks(harness: Harness, tmp_path: Path, *arguments: str) -> Any:
    out = tmp_path / "leaks.json"
    ran = harness("leaks", "--cases", str(CASES), "--json", str(out), *arguments)
    return ran, results.read(out, "campaign") if out.exists() else None


@pytest.mark.parametrize(
    ("fault", "teardown"), [("leaks_fd", ["LEAK_FD", "LEAK_REF"]), ("leaks_objects", ["LEAK_REF"]), ("good", [])]
)
def test_leak_is_seen(harness: Harness, tmp_path: Path, fault: str, teardown: list[str]) -> None:
    ran, document = leaks(harness, tmp_path, f"{F}{fault}::X.90-order", "-n", "12")
    (cell,) = document["cells"]
    assert (cell["behaviour"], cell["teardown"]) == ("PASS", teardown), cell
    assert ran.code == (3 if teardown else 0)
    assert document["kind"] == "leaks" and document["meta"]["campaign"]["repetitions"] == 12
    assert all(len(d) == 12 for d in cell["detail"]["repetitions"]["deltas"].values())
    assert " leaks -n 12 " in cell["rerun"]


def test_failing_case_is_no_leak(harness: Harness, tmp_path: Path) -> None:
    ran, document = leaks(harness, tmp_path, f"{F}swallows_event::X.90-order", "-n", "5")
    assert document["cells"][0]["behaviour"] == "FAIL" and ran.code == 3


def stress(harness: Harness, tmp_path: Path, *arguments: str, **env: str) -> Any:
    out = tmp_path / "stress.json"
    ran = harness("stress", "--cases", str(CASES), "--json", str(out), *arguments, env=env)
    return ran, results.read(out, "campaign")["cells"]


def test_flaky_is_a_verdict(harness: Harness, tmp_path: Path) -> None:
    mark = str(tmp_path / "mark")
    arguments = (f"{F}good::X.93-alternates", "-n", "6", "--processes", "2", "--load", "1")
    ran, (cell,) = stress(harness, tmp_path, *arguments, ALTERNATES=mark)
    assert cell["behaviour"] == "FLAKY" and ran.code == 3
    assert "FAIL in 6 of 12 repetitions" in cell["reason"], cell["reason"]
    assert len(cell["detail"]["processes"]) == 2


def test_hang_under_stress_is_a_timeout(harness: Harness, tmp_path: Path) -> None:
    ran, (cell,) = stress(harness, tmp_path, f"{F}loses_wake::X.91-threadsafe", "-n", "3", "--processes", "1")
    assert cell["behaviour"] == "TIMEOUT" and ran.code == 3


def test_what_always_passes_passes(harness: Harness, tmp_path: Path) -> None:
    selectors = [f"{F}good::X.9[067]*", "plain::X.90-order", "--shuffle", "7"]
    ran, cells = stress(harness, tmp_path, *selectors, "-n", "4", "--processes", "1")
    assert {c["behaviour"] for c in cells} == {"PASS"} and len(cells) == 4 and ran.code == 0, ran.out
    assert "seed 7" in ran.out


@pytest.mark.parametrize(
    ("fault", "case", "teardown"),
    [
        ("leaks_fd", "X.90-order", ["LEAK_FD"]),
        ("unclean", "X.90-order", ["UNCLEAN"]),
        ("good", "X.86-stray", ["LEAK_CHILD"]),
        ("good", "X.90-order", []),
    ],
)
def test_stress_sees_what_is_left_behind(
    harness: Harness, tmp_path: Path, fault: str, case: str, teardown: list[str]
) -> None:
    """Regression: every cell was said to be clean, and nobody had looked."""
    ran, (cell,) = stress(harness, tmp_path, f"{F}{fault}::{case}", "-n", "3", "--processes", "1")
    assert (cell["behaviour"], cell["teardown"]) == ("PASS", teardown), cell
    assert ran.code == (3 if teardown else 0)
    assert bool(cell["reason"]) == bool(teardown)


def test_leaks_see_what_outlives_the_cell(harness: Harness, tmp_path: Path) -> None:
    ran, document = leaks(harness, tmp_path, f"{F}good::X.86-stray", "-n", "3")
    (cell,) = document["cells"]
    assert cell["teardown"] == ["LEAK_CHILD"] and "outlived" in cell["reason"] and ran.code == 3, cell


def test_a_failure_behind_many_differing_repetitions_is_kept(harness: Harness, tmp_path: Path) -> None:
    """Regression: ten that differed were judged and kept, the others counted as the first."""
    ran, (cell,) = stress(harness, tmp_path, f"{F}good::X.85-late-failure", "-n", "20", "--processes", "1")
    assert cell["behaviour"] == "FLAKY" and "FAIL in 1 of 20 repetitions" in cell["reason"], cell["reason"]
    about = cell["detail"]["processes"][0]["repetitions"]
    assert about["others"][0]["message"] == "the fifteenth time" and about["others"][0]["number"] == 14
    assert len(about["others"]) == campaign.OTHERS and about["left_out"] == 9
    assert ran.code == 3


def test_what_counts_exactly_is_compared_exactly() -> None:
    """Regression: a leak beside a larger one that plain asyncio has too was lost in a factor."""
    assert campaign.beyond({"references": 11.0, "descriptors": 3.0}, {"references": 10.0, "descriptors": 2.5}) == {
        "references": 11.0,
        "descriptors": 3.0,
    }
    assert campaign.beyond({"references": 10.0, "descriptors": 2.5}, {"references": 10.0, "descriptors": 2.5}) == {}
    assert campaign.beyond({"objects": 11.0, "blocks": 11.0}, {"objects": 10.0, "blocks": 10.0}) == {}
    assert campaign.beyond({"references": 0.2}, {}) == {"references": 0.2}, "one in five"


@pytest.mark.parametrize(
    "arguments", [["leaks", "-n", "1"], ["stress", "--processes", "0"], ["leaks", "--budget=-1"], ["stress", "nothing"]]
)
def test_usage_is_2(harness: Harness, arguments: list[str]) -> None:
    ran = harness(*arguments)
    assert ran.code == 2 and "Traceback" not in ran.err


def test_campaigns_merge(harness: Harness, tmp_path: Path) -> None:
    paths = []
    for k in (1, 2):
        path = tmp_path / f"{k}.json"
        harness(
            "leaks", "--cases", str(CASES), f"{F}good::X.9[06]*", "-n", "4", "--shard", f"{k}/2", "--json", str(path)
        )
        paths.append(str(path))
    ran = harness("merge", *paths, "--json", str(tmp_path / "all.json"))
    assert ran.code == 0, ran.out + ran.err
    whole = json.loads((tmp_path / "all.json").read_text())
    assert whole["kind"] == "leaks" and [c["behaviour"] for c in whole["cells"]] == ["PASS", "PASS"]
