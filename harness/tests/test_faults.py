"""A fault turns the table red: contenders with one fault each, seen from outside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.session import Session
from harness.tests.conftest import make

Harness = Callable[..., Any]
F = "harness.tests.faulty:"
FAULTS: list[tuple[str, str, str, list[str] | None, str]] = [
    ("loses_wake", "X.91-threadsafe", "TIMEOUT", None, "no end within"),
    ("wakes_by_signal", "X.91-threadsafe", "TIMEOUT", None, "that woke it"),
    ("swallows_event", "X.90-order", "FAIL", [], "event 2: plain asyncio has fired(1)"),
    ("reorders", "X.90-order", "FAIL", [], "event 2: plain asyncio has fired(1)"),
    ("hangs", "X.90-order", "TIMEOUT", None, "no end within"),
    ("crashes", "X.90-order", "CRASH", None, "SIGSEGV"),
    ("crashes_at_exit", "X.90-order", "CRASH", [], "interpreter's exit"),
    ("leaks_fd", "X.90-order", "PASS", ["LEAK_FD"], "pipe:"),
    ("leaks_thread", "X.90-order", "PASS", ["LEAK_THREAD"], "left-behind"),
    ("leaks_child", "X.90-order", "PASS", ["LEAK_CHILD"], "python3"),
    ("changes_wakeup_fd", "X.90-order", "PASS", ["LEAK_FD", "WAKEUP_FD_CHANGED"], "is another descriptor"),
    ("unclean", "X.90-order", "PASS", ["UNCLEAN"], "pending task destroyed"),
]
"""Contender, case, and what has to be seen of it: behaviour, teardown, a part of the reason."""


def test_good_contender_passes_and_is_clean(harness: Harness) -> None:
    ran = harness("run", f"{F}good::X.9[0167]*", "plain::X.9[0167]*", "--require", f"{F}good")
    assert ran.code == 0, ran.out + ran.err
    assert len(ran.cells) == 8
    assert {(c["behaviour"], tuple(c["teardown"])) for c in ran.cells} == {("PASS", ())}


@pytest.mark.parametrize(("fault", "case", "behaviour", "teardown", "says"), FAULTS, ids=[row[0] for row in FAULTS])
def test_fault_is_seen(
    harness: Harness, fault: str, case: str, behaviour: str, teardown: list[str] | None, says: str
) -> None:
    ran = harness("run", f"{F}{fault}::{case}")
    cell = ran.cell
    assert (cell["behaviour"], cell["teardown"]) == (behaviour, teardown), cell
    assert says in cell["reason"], cell["reason"]
    assert ran.code == 3
    assert f"again: {cell['rerun']}" in ran.out


def test_hang_shows_the_stacks_of_threads_and_tasks(harness: Harness) -> None:
    stderr = harness("run", f"{F}hangs::X.90-order").cell["detail"]["stderr"]
    assert "most recent call first" in stderr and "in stuck" in stderr


def test_timeout_shows_the_tasks_where_the_loop_still_runs(harness: Harness) -> None:
    stderr = harness("run", f"{F}loses_wake::X.91-threadsafe").cell["detail"]["stderr"]
    assert "asyncio task(s)" in stderr and "in threadsafe" in stderr


def test_crash_shows_the_stack(harness: Harness) -> None:
    stderr = harness("run", f"{F}crashes::X.90-order").cell["detail"]["stderr"]
    assert "in crash_here" in stderr


def test_levels(harness: Harness) -> None:
    ran = harness("run", "plain::X.92", "plain::X.95")
    assert [c["behaviour"] for c in ran.cells] == ["WEAK", "INFO"]
    assert ran.cells[0]["reason"] == "one is not two (one=1, two=2)"
    assert ran.code == 0


def test_lacking_ability_is_unsupported(harness: Harness) -> None:
    ran = harness("run", "plain::X.94*", "plain::X.90*")
    assert [c["behaviour"] for c in ran.cells] == ["PASS", "UNSUPPORTED"]
    assert ran.cells[1]["reason"] == "lacks host, window"
    assert ran.code == 0


def test_check_that_somebody_caught_fails(harness: Harness) -> None:
    ran = harness("run", "plain::X.84*")
    assert ran.code == 3
    assert (ran.cells[0]["behaviour"], ran.cells[0]["reason"]) == ("FAIL", "seen by nobody (number=8)")


def test_what_failed_before_an_ability_was_lacking_fails(harness: Harness) -> None:
    """Regression: the ability made it UNSUPPORTED."""
    ran = harness("run", f"{F}declares::X.8[78]*", "plain::X.87*")
    of = {(c["contender"], c["case"][:4]): c for c in ran.cells}
    failed = of[f"{F}declares", "X.88"]
    assert failed["behaviour"] == "FAIL" and failed["reason"] == "wrong before anything was lacking (number=7)"
    assert of[f"{F}declares", "X.87"]["behaviour"] == "UNSUPPORTED", "for want of the ability it failed"
    assert of["plain", "X.87"]["behaviour"] == "PASS"
    assert ran.code == 3


def test_declared_is_unsupported(harness: Harness) -> None:
    ran = harness("run", f"{F}declares::X.9[01]*", "plain::X.90-order")
    of = {(c["contender"], c["case"]): c for c in ran.cells}
    assert of[f"{F}declares", "X.90-order"]["behaviour"] == "UNSUPPORTED"
    assert of[f"{F}declares", "X.90-order"]["reason"] == "declared: it has no order"
    assert of["plain", "X.90-order"]["behaviour"] == "PASS"
    assert ran.code == 0


def test_repetitions_make_flaky(harness: Harness, tmp_path: Path) -> None:
    ran = harness("run", "plain::X.93-alternates", "--repeat", "2", "-j1", env={"ALTERNATES": str(tmp_path / "mark")})
    cell = ran.cell
    # Plain's own result is looked up once a run: it is a contender of its own that repeats.
    assert cell["behaviour"] in ("PASS", "FLAKY")
    ran = harness(
        "run", f"{F}good::X.93-alternates", "--repeat", "4", "-j1", env={"ALTERNATES": str(tmp_path / "mark2")}
    )
    assert ran.cell["behaviour"] == "FLAKY"
    assert "FAIL in 2 of 4 repetitions" in ran.cell["reason"]
    assert len(ran.cell["detail"]["attempts"]) == 4
    assert ran.code == 3


def test_what_any_repetition_left_behind_is_told() -> None:
    """Regression: beside one that failed, what another one had left behind was lost."""
    merged = Session._merge([make("FAIL", [], reason="no"), make("PASS", ["LEAK_FD"]), make("PASS", None)])
    assert (merged.behaviour, merged.teardown) == ("FLAKY", ["LEAK_FD"])
    assert Session._merge([make("TIMEOUT", None), make("TIMEOUT", None)]).teardown is None


def test_contender_that_cannot_start_is_notrun_and_counts(harness: Harness) -> None:
    ran = harness("run", f"{F}fails::X.90-order", "plain::X.90-order")
    of = {c["contender"]: c for c in ran.cells}
    assert of[f"{F}fails"]["behaviour"] == "NOTRUN"
    assert "it does not start" in of[f"{F}fails"]["reason"]
    assert ran.code == 5


def test_what_makes_a_loop_is_a_contender(harness: Harness) -> None:
    ran = harness("run", "asyncio:SelectorEventLoop::X.90-order")
    assert ran.code == 0, ran.out + ran.err


def test_factory_of_something_else_is_told_what_to_return(harness: Harness) -> None:
    ran = harness("run", "asyncio:Future::X.90-order")
    assert ran.code != 0 and "a contender, or a loop" in ran.out + ran.err, ran.out + ran.err


def test_missing_contender_is_notrun_with_its_remedy(harness: Harness) -> None:
    ran = harness("run", "no_such_module_of_ours:factory::X.90-order", "plain::X.90-order")
    of = {c["contender"]: c for c in ran.cells}
    assert of["no_such_module_of_ours:factory"]["behaviour"] == "NOTRUN"
    assert "No module named" in of["no_such_module_of_ours:factory"]["reason"]
    assert ran.code == 0
    ran = harness(
        "run", "no_such_module_of_ours:factory::X.90-order", "plain::X.90-order", "--require", "no_such_module*"
    )
    assert ran.code == 5 or ran.code == 2
