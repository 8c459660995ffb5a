"""Environments: made once, from pinned packages; without an index everything else still runs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import contenders, tree
from harness.session import Session

from .conftest import environment

BUILDER = tree.TOP / "ci" / "environments.py"


def wheel(folder: Path) -> None:
    """A wheel with one module, as pip wants it."""
    info = "ag_probe-1.0.dist-info"
    with zipfile.ZipFile(folder / "ag_probe-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("ag_probe.py", "ANSWER = 42\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: ag-probe\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def builder(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`ci/environments.py` of a tree of its own, which has no index but a folder of wheels."""
    ci = tmp_path / "tree" / "ci"
    ci.mkdir(parents=True)
    for name in ("environments.py", "build.py", "sources.py"):
        (ci / name).write_bytes((BUILDER.parent / name).read_bytes())
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel(wheels)

    def call(table: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        (ci / "environments.toml").write_text(table)
        return subprocess.run(
            [sys.executable, str(ci / "environments.py"), *arguments],
            env=environment(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels)),
            capture_output=True, text=True, timeout=180,
        )

    return call


def test_made_once_and_again_when_its_pins_change(builder: Callable[..., subprocess.CompletedProcess[str]],
                                                  tmp_path: Path) -> None:
    good = '[probe]\npackages = ["ag-probe==1.0"]\n'
    done = builder(good)
    assert done.returncode == 0 and "environment probe: ag-probe==1.0" in done.stdout, done.stderr
    (python,) = (tmp_path / "tree" / "build").glob("*/env/probe/bin/python")
    answer = subprocess.run([python, "-c", "import ag_probe, sys; print(ag_probe.ANSWER, sys.prefix)"],
                            capture_output=True, text=True)
    assert answer.stdout.split() == ["42", str(python.parents[1])], answer.stderr
    assert builder(good).stdout == ""
    assert "environment probe" in builder(good + "sdist = true\n").stdout


def test_without_its_packages_it_is_not_there_and_says_so(builder: Callable[..., subprocess.CompletedProcess[str]],
                                                          tmp_path: Path) -> None:
    done = builder('[other]\npackages = ["ag-not-there==9.9"]\n')
    assert done.returncode == 0
    assert "environment other could not be made, what needs it will be NOTRUN" in done.stderr
    assert "ag-not-there==9.9" in done.stderr
    assert not list((tmp_path / "tree" / "build").glob("*/env/other/complete"))


@pytest.mark.parametrize("table, said", [
    ('[probe]\npackages = ["ag-probe"]\n', "not pinned"),
    ("[probe]\npackages = []\n", "needs packages"),
    ('[probe]\npackages = ["ag-probe==1.0"]\npython = "3"\n', "needs packages"),
])
def test_a_row_that_means_nothing_is_refused(builder: Callable[..., subprocess.CompletedProcess[str]],
                                             table: str, said: str) -> None:
    done = builder(table)
    assert done.returncode == 1 and said in done.stderr


def test_an_unknown_name_is_refused(builder: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = builder('[probe]\npackages = ["ag-probe==1.0"]\n', "prob")
    assert done.returncode == 2 and "there are: probe" in done.stderr


def test_cells_without_their_environment_do_not_run_and_say_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {**contenders.table(), "poll": {"display": False, "environment": "never-made"}}
    monkeypatch.setattr(contenders, "table", lambda: rows)
    with Session(scale=1.0) as session:
        cell = session.run_cell("guest/poll", "T.01a-equal-deadlines")
    assert cell.behaviour == "NOTRUN" and not cell.detail["runnable"]
    assert "environment never-made" in cell.reason and "make setup" in cell.reason


def test_every_environment_named_in_the_table_exists() -> None:
    known = tomllib.loads((tree.TOP / "ci" / "environments.toml").read_text())
    for host, row in contenders.table().items():
        assert row.get("environment") is None or row["environment"] in known, host


def test_an_environment_is_for_interpreters_without_the_module() -> None:
    assert contenders.environment_of({}) is None
    assert contenders.environment_of({"environment": "e"}) == "e"
    assert contenders.environment_of({"environment": "e", "unless": "asyncio"}) is None
    assert contenders.environment_of({"environment": "e", "unless": "ag_not_there"}) == "e"
