"""Two results files, compared."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import comparison, results
from harness.tests.test_cli import make
from harness.verdicts import Cell

Harness = Callable[..., Any]


def cells(path: Path, *made: Cell) -> str:
    results.write(path, results.document(list(made), exit_code=0))
    return str(path)


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
    assert ran.code == 0 and "gone: guest/poll 1" in ran.out and "new: guest/poll 1" in ran.out
    b = cells(tmp_path / "b.json", make(), make("CRASH", case="T.03-z"))
    assert harness("compare", a, b).code == 3
    other = cells(tmp_path / "o.json", make(case="T.09-q"))
    assert harness("compare", a, other).code == 5


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


def test_what_cannot_be_compared_is_2(harness: Harness, tmp_path: Path) -> None:
    a = cells(tmp_path / "a.json", make())
    b = bench(tmp_path / "b.json", 1, 1.0)
    ran = harness("compare", a, b)
    assert ran.code == 2 and "of kind" in ran.err
    assert harness("compare", a, str(tmp_path / "none.json")).code == 2
    assert harness("compare", a, a, "--margin", "2").code == 2
