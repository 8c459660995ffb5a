"""Everything, in shards: what is run, what is left, and what is merged."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from harness import cli, full, results, shards, suite_pytest
from harness.tests.conftest import make
from harness.tree import UsageError


class Runner:
    """Stands for the verbs: writes the results that they would."""

    def __init__(self, behaviour: str = "PASS", code: int = 0) -> None:
        self.commands: list[list[str]] = []
        self.behaviour = behaviour
        self.code = code
        self.dirty = False
        """Were there changes beside the commit?"""

    def __call__(self, command: list[str]) -> int:
        self.commands.append(command)
        parsed = cli.build_parser().parse_args(command)  # raises SystemExit for what the verb would not take
        number = parsed.shard.number
        cells = [
            make(self.behaviour if n == number else "NOTRUN", case=f"T.0{n}-x", contender="guest/poll")
            for n in range(1, parsed.shard.count + 1)
        ]
        for n, cell in enumerate(cells, 1):
            if n != number:
                cell.detail = {shards.SHARD: f"{n}/{parsed.shard.count}", "by_design": True}
        document = results.document(cells, shard=str(parsed.shard), exit_code=self.code)
        document["meta"]["dirty"] = self.dirty
        results.write(parsed.json, document)
        return self.code


def options(folder: Path, *arguments: str) -> argparse.Namespace:
    return cli.build_parser().parse_args(["full", "--no-suites", "--folder", str(folder), *arguments])


def test_shards_add_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Runner()
    assert full.main(options(tmp_path, "--shard", "1/2"), run) == 0
    assert "left: shard 2/2" in capsys.readouterr().out
    assert full.main(options(tmp_path, "--left", "--of", "2"), run) == 5
    assert full.main(options(tmp_path, "--shard", "2/2"), run) == 0
    assert len(run.commands) == 2 and "--tier" in run.commands[0]
    assert full.main(options(tmp_path, "--left", "--of", "2"), run) == 0
    assert "left: nothing" in capsys.readouterr().out
    assert [c["behaviour"] for c in results.read(tmp_path / "conformance.json")["cells"]] == ["PASS", "PASS"]


def test_what_is_there_is_not_run_again(tmp_path: Path) -> None:
    run = Runner()
    full.main(options(tmp_path), run)
    full.main(options(tmp_path), run)
    assert len(run.commands) == 1
    full.main(options(tmp_path, "--again"), run)
    assert len(run.commands) == 2


def test_worst_code_wins(tmp_path: Path) -> None:
    assert full.main(options(tmp_path), Runner("FAIL", 3)) == 3
    assert full.main(options(tmp_path, "--left"), Runner()) == 3


def test_code_of_what_is_there_counts(tmp_path: Path) -> None:
    """Regression: a shard that had failed, asked for again, ended with 0."""
    assert full.main(options(tmp_path, "--shard", "1/2"), Runner("FAIL", 3)) == 3
    again = Runner()
    assert full.main(options(tmp_path, "--shard", "1/2"), again) == 3 and not again.commands


def test_results_of_changed_sources_are_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Regression: what was left by a tree with changes stood for the tree with other changes."""
    run = Runner()
    run.dirty = True
    assert full.main(options(tmp_path), run) == 0, "what this run made is merged"
    assert full.main(options(tmp_path), run) == 0 and len(run.commands) == 2
    assert full.main(options(tmp_path, "--left"), run) == 5
    assert "changed sources" in capsys.readouterr().out


def test_other_commits_are_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    full.main(options(tmp_path), Runner())
    path = tmp_path / "conformance-1-of-1.json"
    document = results.read(path)
    document["meta"]["commit"] = "b" * 40
    results.write(path, document)
    assert full.main(options(tmp_path, "--left"), Runner()) == 5
    assert "another commit" in capsys.readouterr().out


def test_a_suite_that_cannot_run_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What an earlier run left of it does not stand for it."""
    run = Runner()

    def without_suites(command: list[str]) -> int:
        return results.NOTHING_RAN if command[0] == "suite" else run(command)

    wanted = cli.build_parser().parse_args(["full", "--folder", str(tmp_path)])
    old = full.file_of(tmp_path, f"suite-{next(iter(suite_pytest.table()))}", wanted.shard)
    document = results.document([make()], exit_code=0)
    document["meta"]["commit"] = "b" * 40
    results.write(old, document)
    assert full.main(wanted, without_suites) == results.NOTHING_RAN
    said = capsys.readouterr().out
    for part in ("test_asyncio", *(f"suite-{name}" for name in suite_pytest.table())):
        assert f"{part}: left: all 1 shard(s)" in said, said


def test_every_part_is_a_command_of_ours(tmp_path: Path) -> None:
    chosen = full.parts(cli.build_parser().parse_args(["full", "--leaks", "-j2", "-q"]))
    suites = [f"suite-{name}" for name in suite_pytest.table()]
    assert len(suites) >= 2 and list(chosen) == ["conformance", "test_asyncio", *suites, "leaks"]
    for command in chosen.values():
        cli.build_parser().parse_args([*command, "--shard", "1/2", "--json", str(tmp_path / "x")])


@pytest.mark.parametrize("arguments", [["--of", "3"], ["--of=-1", "--left"]])
def test_usage(tmp_path: Path, arguments: list[str]) -> None:
    def never(command: list[str]) -> Any:
        raise AssertionError(command)

    with pytest.raises(UsageError):
        full.main(options(tmp_path, *arguments), never)
