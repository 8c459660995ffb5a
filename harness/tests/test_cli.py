"""The command line: selection, exit codes, files, interruption."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import xml.etree.ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import contenders, expectations, report, results, tree
from harness.tests.conftest import CASES, command, environment, make
from harness.tree import UsageError
from harness.verdicts import Cell

Harness = Callable[..., Any]
F = "harness.tests.faulty:"
BUDGET_S = 900.0
"""For the quick tier under every host, packages aside."""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["guest/tkk::T*"], "no host is called 'tkk'; did you mean tk"),
        (["plane::T*"], "no contender is called 'plane'; did you mean plain"),
        (["plain::T.77-nothing"], "no case is called 'T.77-nothing'"),
        (["guest/poll+quick::*"], "+quick is neither a strategy"),
        (["nonsense"], "neither a contender nor a case"),
        (["plain::*", "--cases", "no/such/file.py"], "cannot load cases"),
        (["plain::*", "--expect", "no-such-file.toml"], "cannot read expectations"),
        (["plain::*", "--require", "guest/nope"], "no host is called 'nope'"),
        (["plain::*", "--repeat", "0"], "must be positive"),
    ],
)
def test_usage_errors_are_2(harness: Harness, arguments: list[str], says: str) -> None:
    ran = harness("run", *arguments)
    assert ran.code == 2, ran.out + ran.err
    assert says in ran.err
    assert "Traceback" not in ran.err


def test_unknown_option_is_2(harness: Harness) -> None:
    assert harness("run", "--nope").code == 2


def test_help_teaches(harness: Harness) -> None:
    text = harness("run", "--help").out
    for word in ("examples:", "exit codes", "130", "CONTENDERGLOB::CASEGLOB", "--shuffle"):
        assert word in text


def test_list_names_contenders_and_cases(harness: Harness) -> None:
    listed = json.loads(harness("list", "--json").out)
    assert "plain" in listed["contenders"] and "guest/poll" in listed["contenders"]
    assert {"T.01a-equal-deadlines"} <= {case["id"] for case in listed["cases"]}
    assert harness("list", "plain::T").code == 0


def test_files(harness: Harness, tmp_path: Path) -> None:
    paths = {name: tmp_path / f"out.{name}" for name in ("json", "junit", "markdown")}
    ran = harness(
        "run", "plain::X.9[0124]*", *(f"--{name}={path}" for name, path in paths.items()), "--tier", "full"
    )
    assert ran.code == 0, ran.out + ran.err
    assert json.loads(paths["json"].read_text()) == ran.document
    results.read(paths["json"])
    assert "| plain |" in paths["markdown"].read_text()
    suite = xml.etree.ElementTree.parse(paths["junit"]).getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "0", "1")


def test_shuffle_prints_its_seed_and_repeats(harness: Harness) -> None:
    def order(ran: Any) -> list[str]:
        return [line.split()[3] for line in ran.out.splitlines() if " plain X." in line and "/" in line.split()[0]]

    first = harness("run", "plain::X.9[0-7]*", "--shuffle", "12345", env={"ALTERNATES": "/nonexistent/x"})
    again = harness("run", "plain::X.9[0-7]*", "--shuffle", "12345", env={"ALTERNATES": "/nonexistent/x"})
    assert "seed 12345" in first.out
    assert order(first) == order(again) and len(order(first)) == 8
    assert order(first) != sorted(order(first))
    assert first.document["meta"]["seed"] == 12345


def test_exitfirst_stops_and_says_so(harness: Harness) -> None:
    ran = harness("run", f"{F}leaks_fd::X.9[067]*", "-x", "-j1")
    assert [c["behaviour"] for c in ran.cells] == ["PASS", "NOTRUN", "NOTRUN"]
    assert ran.code == 3


def test_interrupt_leaves_a_valid_partial_file(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    selectors = ["plain::X.90-order", "plain::X.98-slow", f"{F}good::X.98-slow"]
    process = subprocess.Popen(
        command("run", "--cases", str(CASES), "--results", str(folder), "-j1", *selectors),
        cwd=tree.TOP,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "X.90-order" in line:
            break
    time.sleep(0.5)  # into the slow cell
    process.send_signal(signal.SIGINT)
    out = process.stdout.read()
    assert process.wait(30) == 130, out
    document = results.read(folder / "conformance.json")
    assert document["meta"]["interrupted"] is True
    assert document["meta"]["exit_code"] == 130
    assert [c["behaviour"] for c in document["cells"]] == ["PASS", "NOTRUN", "NOTRUN"]
    assert not _left_over(str(folder))


def _left_over(word: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().decode().replace("\0", " ")
        except OSError:
            continue
        if word in text:
            found.append(text)
    return found


def test_results_of_the_last_run_are_valid() -> None:
    latest = tree.root() / "results" / "latest"
    for name in ("conformance", "test_asyncio"):
        if (latest / f"{name}.json").exists():
            results.read(latest / f"{name}.json", name)


def test_budget_of_the_quick_tier() -> None:
    """Whenever the last run was the whole quick tier: it stays within its time on two cores."""
    path = tree.root() / "results" / "latest" / "conformance.json"
    if not path.exists():
        pytest.skip("there is no run yet: make conformance")
    document = results.read(path)
    about = document["meta"]
    ran = {cell["contender"] for cell in document["cells"] if cell["behaviour"] != "NOTRUN"}
    whole = set(contenders.defaults()) <= ran and len(document["cells"]) >= 70 * len(ran)
    if about["tier"] != "quick" or about["interrupted"] or not whole or about["machine"]["cores"] < 2:
        pytest.skip("the last run was another one")
    assert about["seconds"] <= BUDGET_S * about["scale"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not JSON"),
        ("{}", "'schema' is a required property"),
        (json.dumps({"schema": "asyncio-guest/conformance@2", "meta": {}, "cells": []}), "does not fit"),
    ],
)
def test_broken_results_file(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=says):
        results.read(path)


def test_missing_results_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read results"):
        results.read(tmp_path / "none.json")


def test_order_of_exit_codes() -> None:
    good, bad = make(), make("FAIL")
    stale = make(expected={"stale": True})
    expected = make("FAIL", expected={"stale": False})
    unrun = make("NOTRUN", detail={"runnable": True})
    absent = make("NOTRUN", detail={"runnable": False})
    assert results.exit_code([good, expected, absent]) == 0
    assert results.exit_code([good, make(teardown=["LEAK_FD"])]) == 3
    for behaviour in ("FAIL", "TIMEOUT", "CRASH", "FLAKY"):
        assert results.exit_code([good, make(behaviour)]) == 3
    assert results.exit_code([good, stale]) == 7
    assert results.exit_code([good, stale, bad]) == 3
    assert results.exit_code([good, bad, unrun]) == 5
    assert results.exit_code([absent]) == 5
    assert results.exit_code([good, absent], require=["guest/poll"]) == 5
    assert results.exit_code([good], require=["guest/tk"]) == 5
    assert results.exit_code([good, bad, unrun], interrupted=True) == 130
    peer = make("FAIL", contender="peer/qasync")
    assert results.exit_code([good, peer]) == 0
    assert results.exit_code([good, peer], strict=True) == 3


def test_expectations(harness: Harness, tmp_path: Path) -> None:
    path = tmp_path / "expect.toml"
    row = 'case = "X.90-*"\nteardown = ["LEAK_FD"]\nreason = "known"\nissue = "#1"\nsince = "2026-01-01"\n'
    path.write_text(f'[[expect]]\ncontender = "{F}*"\n{row}')
    ran = harness("run", f"{F}leaks_fd::X.90-order", "--expect", str(path))
    assert ran.code == 0, ran.out
    assert ran.cell["expected"]["stale"] is False
    ran = harness("run", f"{F}good::X.90-order", "--expect", str(path))
    assert ran.code == 7, ran.out
    assert ran.cell["expected"]["stale"] is True and "stale" in ran.out
    ran = harness("run", f"{F}crashes::X.90-order", "--expect", str(path))
    assert ran.code == 3, "another fault than the expected one is unexpected"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[expect]", "Expected"),
        ('[[expect]]\ncontender = "*"\n', "case is missing"),
        ('[[other]]\nx = 1\n', "only \\[\\[expect\\]\\]"),
        (
            '[[expect]]\ncontender="*"\ncase="*"\nbehaviour="WRONG"\nreason="r"\nissue="i"\nsince="s"\n',
            "'WRONG' is none of",
        ),
        ('[[expect]]\ncontender="*"\ncase="*"\nreason="r"\nissue="i"\nsince="s"\n', "neither behaviour nor teardown"),
    ],
)
def test_broken_expectations(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=says):
        expectations.load([str(path)])


def test_ours_can_be_loaded() -> None:
    expectations.load()


def test_markdown_names_every_bad_cell() -> None:
    cells = [make(), make("FAIL", [], case="T.02-y", reason="one | two")]
    text = report.markdown(results.document(cells, exit_code=3))
    assert "| guest/poll | T.02-y | FAIL | one \\| two | `again` |" in text


def test_pytest_front_with_xdist(tmp_path: Path) -> None:
    out = tmp_path / "cells.json"
    plugin = f"{tree.PACKAGE}.plugin"
    arguments = ["-p", plugin, "-p", "no:cacheprovider", "-q", "-rs", "-n2", "--cell-cases", str(CASES)]
    arguments += ["--contender", f"{F}leaks_fd", "--contender", "plain", "--cell-json", str(out)]
    arguments += ["-k", "90 or 94 or 96", str(CASES)]
    done = subprocess.run(
        [command()[0], "-m", "pytest", *arguments],
        cwd=tree.TOP,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 3 passed, 2 skipped" in done.stdout, done.stdout
    assert "LEAK_FD" in done.stdout
    cells = results.read(out)["cells"]
    assert len(cells) == 6 and sum("LEAK_FD" in (c["teardown"] or []) for c in cells) == 1
