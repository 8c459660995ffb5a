"""The benchmark: its statistics, its client, and a campaign from start to results file."""

from __future__ import annotations

import json
import math
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from harness import bench, contenders, tree
from harness.bench import ping, plan, stats, table


def blocks(values: list[list[float]], factor: float = 1.0) -> list[list[float]]:
    return [[value * factor for value in block] for block in values]


@pytest.fixture
def noisy() -> list[list[float]]:
    """Eight blocks of two processes, with a drift that pairing has to take out."""
    rng = random.Random(7)
    return [[1000 * (1 + block / 4) * rng.uniform(0.98, 1.02) for _ in range(2)] for block in range(8)]


def test_percentile_is_a_sample() -> None:
    assert stats.percentile([5, 1, 4, 2, 3], 0.5) == 3
    assert stats.percentile(range(1, 101), 0.99) == 99
    assert stats.percentile([7], 0.99) == 7
    with pytest.raises(ValueError, match="no values"):
        stats.percentile([], 0.5)


@pytest.mark.parametrize(
    ("factor", "higher", "verdict"),
    [(1.0, True, "SAME"), (1.3, True, "IMPROVED"), (0.7, True, "REGRESSED"), (1.3, False, "REGRESSED"),
     (0.7, False, "IMPROVED"), (1.05, True, "INCONCLUSIVE")],
)
def test_ratio_says_which_way(noisy: list[list[float]], factor: float, higher: bool, verdict: str) -> None:
    rng = random.Random(8)
    ours = [[value * factor * rng.uniform(0.97, 1.03) for value in block] for block in noisy]
    found = stats.ratio(ours, noisy, higher=higher, seed=1)
    assert found is not None
    assert found["verdict"] == verdict, found
    assert found["low"] <= found["estimate"] <= found["high"]
    assert math.isclose(found["estimate"], factor, rel_tol=0.03)


def test_ratio_pairs_blocks(noisy: list[list[float]]) -> None:
    """A block that lacks one side does not count; its neighbours keep their partners."""
    ours = blocks(noisy, 2.0)
    ours[3] = []
    found = stats.ratio(ours, noisy, higher=True, seed=1)
    assert found is not None
    assert found["blocks"] == 7
    assert math.isclose(found["estimate"], 2.0)
    assert stats.ratio([[], []], noisy, higher=True, seed=1) is None


def test_ratio_of_few_blocks_decides_nothing(noisy: list[list[float]]) -> None:
    found = stats.ratio(blocks(noisy[:2], 3.0), noisy[:2], higher=True, seed=1)
    assert found is not None and found["verdict"] == "INCONCLUSIVE"


def test_ratio_is_reproducible(noisy: list[list[float]]) -> None:
    ours = [[value * random.Random(i).uniform(0.8, 1.2) for i, value in enumerate(block)] for block in noisy]
    assert stats.ratio(ours, noisy, higher=True, seed=5) == stats.ratio(ours, noisy, higher=True, seed=5)


def test_bar_looks_at_the_bad_end_of_the_interval() -> None:
    found = {"low": 0.96, "high": 1.2}
    assert stats.bar_met(found, 1.0, higher=True) is True
    assert stats.bar_met({**found, "low": 0.94}, 1.0, higher=True) is False
    assert stats.bar_met(found, 1.0, higher=False) is False
    assert stats.bar_met({**found, "high": 1.04}, 1.0, higher=False) is True
    assert stats.bar_met(None, 1.0, higher=True) is None


def test_ping_charges_a_stall_to_all_that_waited() -> None:
    """A server that sleeps once for 200 ms: a fifth of the messages of a second are late from their intended times."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        stalled = False
        with connection:
            begin = time.monotonic()
            while data := connection.recv(65536):
                if not stalled and time.monotonic() - begin > 0.5:
                    stalled = True
                    time.sleep(0.2)
                connection.sendall(data)

    server = threading.Thread(target=serve)
    server.start()
    try:
        answers: dict[str, Any] = ping.ping(listener.getsockname()[1], 200, 1.0, 0.1)
    finally:
        server.join()
        listener.close()
    assert len(answers["intended"]) == len(answers["sent"]) == 200
    assert sum(us > 20_000 for us in answers["intended"]) >= 30
    assert min(answers["intended"]) < 20_000


def test_ping_notices_a_lost_answer() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(10)

    server = threading.Thread(target=serve)
    server.start()
    with pytest.raises(OSError):
        ping.ping(listener.getsockname()[1], 100, 0.2, 0.0)
    server.join()
    listener.close()


def test_selectors() -> None:
    chosen = bench.choose(["guest/poll::echo*", "sleep0"])
    assert chosen["echo"] == ["plain", "guest/poll"]
    assert chosen["echo1"] == ["plain", "guest/poll"]
    assert chosen["sleep0"][0] == "plain"
    assert {"guest/poll", "guest/tk", "guest/gtk3", "guest/tk@late"} <= set(chosen["sleep0"])
    assert "ping500" not in chosen
    assert bench.choose(["guest/tk@late::frames"]) == {"host": ["bare/tk@late", "guest/tk@late"]}
    with pytest.raises(tree.UsageError, match="did you mean echo"):
        bench.choose(["plain::ecko"])


def test_every_bar_is_of_a_metric_and_a_contender() -> None:
    for metric, contender in plan.BARS:
        assert metric in plan.METRICS
        assert contenders.parse(contender).name == contender
    assert set(plan.DIFFERENCES) <= set(plan.METRICS)


def test_every_run_names_a_case_that_exists() -> None:
    cases = tree.load_cases()
    for run in plan.RUNS.values():
        assert run.case is None or run.case in cases
    assert {name for name, run in plan.RUNS.items() if run.case is None} == {"host", "idle", "start"}


def schema() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((tree.HERE / "schema" / "bench.json").read_text())
    jsonschema.Draft202012Validator.check_schema(loaded)
    return loaded


def campaign(tmp_path: Path, *arguments: str) -> tuple[subprocess.Popen[str], Path]:
    out = tmp_path / "bench.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "bench", "--json", str(out), *arguments],
        cwd=tree.TOP,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    return process, out


def test_campaign(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two blocks of two metrics on the poll host: figures, ratios, counts, a valid file, a table."""
    process, out = campaign(tmp_path, "--blocks", "2", "--time", "0.2", "guest/poll::sleep0", "guest/poll::ping500.p50")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    document = json.loads(out.read_text())
    jsonschema.validate(document, schema())
    assert document["meta"]["interrupted"] is False
    cells = {(cell["contender"], cell["metric"]): cell for cell in document["cells"]}
    assert set(cells) == {(c, m) for c in ("plain", "guest/poll") for m in ("sleep0", "ping500.p50", "ping500.p99")}
    for cell in cells.values():
        assert len(cell["samples"]) == 4, cell
        assert cell["blocks"] == [0, 0, 1, 1]
        assert min(cell["samples"]) > 0
    ours = cells["guest/poll", "sleep0"]
    assert ours["ratio_to_plain"]["blocks"] == 2
    assert 0 < ours["turns_per_op"] < 1
    assert cells["plain", "sleep0"]["turns_per_op"] is None
    assert len(cells["guest/poll", "ping500.p50"]["raw"]) == 4
    assert len(cells["guest/poll", "ping500.p50"]["raw"][0]["intended_us"]) == 300
    for figure in ("sleep0", "ping500.p50", "guest/poll", "plain", str(out)):
        assert figure in output.replace("\n", "")
    table.show(document)
    assert "turns/op" in capsys.readouterr().out


def test_interrupt_leaves_a_valid_partial_result(tmp_path: Path) -> None:
    process, out = campaign(tmp_path, "--blocks", "1000", "--time", "0.1", "plain::sleep0")
    assert process.stdout is not None
    # The first block has begun when it says so.
    while select.select([process.stdout], [], [], 60)[0]:
        if process.stdout.readline().startswith("block 2/"):
            break
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    document = json.loads(out.read_text())
    jsonschema.validate(document, schema())
    assert document["meta"]["interrupted"] is True
    assert document["cells"][0]["samples"]


def test_a_contender_that_cannot_run_is_not_timed(tmp_path: Path) -> None:
    """Without an X server program there is no window, and a line that says what to install."""
    (tmp_path / "bin").mkdir()
    process = subprocess.run(
        [sys.executable, "-m", "harness", "bench", "--json", str(tmp_path / "out.json"), "--blocks", "1", "--time", "0.1",
         "guest/tk::sleep0"],
        cwd=tree.TOP, env={**os.environ, "PATH": str(tmp_path / "bin")}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False,
    )
    assert process.returncode == 0, process.stderr
    cells = {cell["contender"]: cell for cell in json.loads((tmp_path / "out.json").read_text())["cells"]}
    assert cells["guest/tk"]["samples"] == []
    assert "Xvfb" in cells["guest/tk"]["reason"]
    assert cells["plain"]["samples"]
