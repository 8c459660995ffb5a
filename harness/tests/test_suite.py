"""The suite: hangs and crashes are survived, differences are found, and nothing is vacuous."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import results, suite, tree
from harness.session import Session
from harness.suite import Test
from harness.tree import UsageError

NAME = "sample.Sample.test_"


def test_a_module_goes_on_behind_a_hang_and_a_crash() -> None:
    with Session(scale=1.0) as session:
        runner = suite.Runner(session, "*", 3.0, "harness.tests.sample_suite")
        found = runner.module(session.contender("plain"), "sample")
    outcomes = {id.removeprefix(NAME): test.outcome for id, test in found.items()}
    assert outcomes == {
        "a_pass": "pass",
        "b_hangs": "TIMEOUT",
        "c_between": "pass",
        "d_crashes": "CRASH",
        "e_fails": "fail",
        "f_no_loop": "pass",
        "g_skipped": "skip",
        "h_subtests": "fail",
        "i_ctrl_c": "pass",
    }
    assert "in test_b_hangs" in found[NAME + "b_hangs"].detail
    assert "in test_d_crashes" in found[NAME + "d_crashes"].detail
    assert "1 != 2" in found[NAME + "e_fails"].detail
    # Who iterates a loop on plain, and what fast could execute of it.
    assert found[NAME + "a_pass"].turns > 0 and found[NAME + "a_pass"].fast > 0
    assert found[NAME + "c_between"].turns > 0 and found[NAME + "c_between"].fast == 0
    assert found[NAME + "f_no_loop"].turns == 0


def test_ctrl_c_works_in_a_background_job() -> None:
    """A shell starts those with SIGINT ignored: a test of CPython's that sends it then spun for ever and ate memory."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Session(scale=1.0) as session:
            runner = suite.Runner(session, "*ctrl_c", 3.0, "harness.tests.sample_suite")
            found = runner.module(session.contender("plain"), "sample")
    finally:
        signal.signal(signal.SIGINT, before)
    assert {id: test.outcome for id, test in found.items()} == {NAME + "i_ctrl_c": "pass"}


def test_differences() -> None:
    ran = {"turns": 1, "iterations_fast": 1}
    plain = {
        "same": Test("pass", counted=ran),
        "lost": Test("pass"),
        "other": Test("pass"),
        "hung": Test("pass", counted=ran),
        "crashed": Test("pass"),
        "vacuous": Test("pass", counted=ran),
        "stock": Test("pass", counted=ran),
        "idle": Test("pass"),
    }
    theirs = {
        "same": Test("pass", counted=ran),
        "extra": Test("pass"),
        "other": Test("fail"),
        "hung": Test("TIMEOUT"),
        "crashed": Test("CRASH"),
        "vacuous": Test("pass"),
        "stock": Test("pass", counted={"turns": 3}),
        "idle": Test("pass", counted={"turns": 3}),
    }
    assert suite.differences(plain, theirs, "fast") == {
        "lost": {"lost"},
        "extra": {"extra"},
        "outcome": {"other"},
        "hang": {"hung"},
        "crash": {"crashed"},
        "turns": {"vacuous", "idle"},
        "fast": {"vacuous", "stock"},
    }
    assert suite.differences(plain, theirs, "stock")["fast"] == {"same"}


def test_known_differences_are_checked(tmp_path: Path) -> None:
    suite.known_differences()
    path = tmp_path / "known.toml"
    path.write_text('[[expect]]\ncontender = "*"\n')
    with pytest.raises(UsageError, match="needs contender, test"):
        suite.known_differences(path)


def test_a_module_of_cpythons_as_guests(harness: Callable[..., Any], tmp_path: Path) -> None:
    """By both engines, on the host that every build has."""
    arguments = ["guest/poll+stock", "guest/poll+fast", "-m", "test_server.*", "--results", str(tmp_path)]
    ran = harness("suite", "test_asyncio", *arguments)
    assert ran.code == 0, ran.out + ran.err
    document = results.read(tmp_path / "test_asyncio.json", "test_asyncio")
    plain, stock, fast = document["runs"]
    assert plain["tests_with_turns"]["all"] == stock["tests_with_turns"]["all"] == fast["tests_with_turns"]["all"] > 1
    assert stock["turns"]["iterations_fast"] == 0 < fast["turns"]["iterations_fast"]
    assert plain["tests_with_fast"] == fast["tests_with_fast"] > 1
    assert set(plain["tests"]) == set(stock["tests"]) == set(fast["tests"])


@pytest.mark.parametrize("beside", [[], ["guest/poll"]])
def test_a_contender_that_is_not_there_is_no_pass(harness: Callable[..., Any], tmp_path: Path, beside: list[str]) -> None:
    """Regression: plain asyncio, or another contender, ran, and that was enough."""
    absent = "no_such_module_of_ours:factory"
    ran = harness("suite", "test_asyncio", absent, *beside, "-m", "test_protocols.*", "--results", str(tmp_path))
    assert ran.code == results.NOTHING_RAN and f"{absent} did not run" in ran.out, ran.out + ran.err
    document = results.read(tmp_path / "test_asyncio.json", "test_asyncio")
    assert document["meta"]["exit_code"] == results.NOTHING_RAN and absent in document["not_run"]


def test_unknown_module_is_2(harness: Callable[..., Any], tmp_path: Path) -> None:
    ran = harness("suite", "test_asyncio", "plain", "-m", "test_nothing.*", "--results", str(tmp_path))
    assert ran.code == 2 and "no test module is called" in ran.err


def test_guests_run_cells(harness: Callable[..., Any]) -> None:
    """The core's own host, forced both ways: what was forced is what ran."""
    names = ["guest/poll+waiter+stock", "guest/poll+watch+fast"]
    ran = harness("run", *(f"{name}::X.9[0167]*" for name in names), *(f"--require={name}" for name in names))
    assert ran.code == 0, ran.out + ran.err
    seen = {(c["contender"], c["strategy"], c["engine_ran"]) for c in ran.cells if c["case"] == "X.90-order"}
    assert seen == {("guest/poll+waiter+stock", "waiter", "stock"), ("guest/poll+watch+fast", "watch", "fast")}


def test_hosts_are_found() -> None:
    listed = {path.name.replace("_", "-") for path in (tree.TOP / "backends").iterdir() if (path / "__init__.py").is_file()
              and not path.name.startswith("_")}
    from harness import contenders

    assert listed <= set(contenders.hosts()), json.dumps(sorted(listed))


def test_a_known_difference_of_another_python_does_not_count(tmp_path: Path) -> None:
    row = (
        '[[expect]]\ncontender = "guest/*"\ntest = "test_events.*"\nkinds = ["outcome"]\nreason = "r"\nissue = "i"\n'
        'since = "s"\npython = "{}"\n'
    )
    path = tmp_path / "known.toml"
    for python, counts in (("3.0", 0), ("%d.%d" % sys.version_info[:2], 1), ("3.*", 1)):
        path.write_text(row.format(python))
        assert len(suite.known_differences(path)) == counts
