"""``make SUITE=...``: what can be tested of it without making a root directory."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness import report, results, show, tree

from .conftest import Ran, cells, make

SCRIPT = tree.TOP / "ci" / "suite.py"
ROW: dict[str, Any] = {"pythons": ["/usr/bin/python3.14", "/usr/bin/python3.15"], "packages": ["libkqueue-dev"]}


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module `ci/suite.py`."""
    spec = importlib.util.spec_from_file_location("ci_suite", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "ci_suite", module)
    spec.loader.exec_module(module)
    return module


def call(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], env={**os.environ, **env}, capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def sandbox(suite: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A suite of a repository that is an empty folder, and the commands that it would run."""
    monkeypatch.setattr(suite, "ROOT", tmp_path)
    monkeypatch.setattr(suite, "mirror", lambda: "mirror:/debian")
    commands: list[list[str]] = []
    made = suite.Suite("sid")

    def run(command: list[Any], log: Path | None = None, **options: Any) -> int:
        words = [str(word) for word in command]
        commands.append(words)
        if "debootstrap" in " ".join(words):
            for folder in ("etc/apt/apt.conf.d", "etc/dpkg/dpkg.cfg.d", "bin"):
                (made.root / folder).mkdir(parents=True)
            (made.root / "bin/sh").write_text("")
            (made.root / "etc/apt/sources.list").write_text("deb mirror:/debian sid main\n")
        elif "apt-get install" in " ".join(words):
            (made.root / "absent").write_text("not-in-sid\n")
        return 0

    monkeypatch.setattr(suite, "run", run)
    made.commands = commands
    return made


def test_every_release_has_interpreters_and_packages(suite: ModuleType) -> None:
    for name, row in suite.table().items():
        assert row["pythons"] and all(re.fullmatch(r"/usr/bin/python3\.\d+", path) for path in row["pythons"]), name
        assert set(row) <= {"pythons", "packages", "also", "expired"}, name


def test_packages_of_a_release(suite: ModuleType) -> None:
    lines = ["# a comment core", "gcc core", "debootstrap suite", "old test bookworm", "new test_asyncio sid x", ""]
    environments = {"qt": {"packages": ["Qt==1"], "debian": ["python3-qt"]}, "x": {"packages": ["x==1"]}}
    found = suite.packages("sid", ROW, lines, environments)
    assert found == sorted({"gcc", "new", "libkqueue-dev", "python3-qt", *suite.NEEDED})


def test_our_list_has_nothing_of_another_release(suite: ModuleType) -> None:
    found = suite.Suite("trixie").packages()
    assert "libpython3.13-testsuite" in found and "libpython3.11-testsuite" not in found
    assert "gcc" in found and "debootstrap" not in found


def test_the_stamp_changes_with_what_goes_in(suite: ModuleType) -> None:
    one = suite.stamp("sid", ROW, ["a", "b"])
    assert one == suite.stamp("sid", dict(ROW), ["a", "b"])
    others = {suite.stamp("trixie", ROW, ["a", "b"]), suite.stamp("sid", ROW, ["a"]),
              suite.stamp("sid", {**ROW, "also": "experimental"}, ["a", "b"])}
    assert len(others) == 3 and one not in others


@pytest.mark.parametrize("wanted, chosen", [
    ("", ["/usr/bin/python3.14", "/usr/bin/python3.15"]),
    ("3.15", ["/usr/bin/python3.15"]),
    ("python3.15", ["/usr/bin/python3.15"]),
    ("/usr/bin/python3.15 3.14 3.15", ["/usr/bin/python3.15", "/usr/bin/python3.14"]),
    ("/usr/bin/python3", ["/usr/bin/python3.14"]),
])
def test_choosing_interpreters(suite: ModuleType, wanted: str, chosen: list[str]) -> None:
    assert suite.interpreters(ROW, wanted) == chosen


def test_an_interpreter_that_is_not_there(suite: ModuleType) -> None:
    with pytest.raises(suite.Problem, match="PYTHON=3.11 is not in this suite; it has python3.14, python3.15"):
        suite.interpreters(ROW, "3.14 3.11")


@pytest.mark.parametrize("arguments, says", [
    (("potato", "test"), "invalid choice: 'potato'"),
    (("sid", "dance"), "invalid choice: 'dance'"),
    (("sid", "test", "TESTS"), "TESTS is not NAME=VALUE"),
])
def test_usage_errors(arguments: tuple[str, ...], says: str) -> None:
    done = call(*arguments)
    assert done.returncode == 2 and says in done.stderr


def test_an_unknown_interpreter_is_one_sentence() -> None:
    done = call("sid", "test", "--python", "2.7")
    assert done.returncode == 1 and done.stderr.startswith("suite: PYTHON=2.7 is not in this suite; it has python3.14")
    assert len(done.stderr.splitlines()) == 1


def test_without_root_it_says_what_to_do(
    suite: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], sandbox: Any
) -> None:
    monkeypatch.setattr(suite.os, "geteuid", lambda: 1000)
    assert suite.main(["sid", "test"]) == 1
    said = capsys.readouterr().err
    assert said == "suite: needs root on Linux, for debootstrap and mounts: sudo make SUITE=sid test\n"
    assert not sandbox.commands and not sandbox.root.exists()


def test_made_once_and_brought_up_to_date(suite: ModuleType, sandbox: Any, monkeypatch: pytest.MonkeyPatch,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ["gcc"]
    monkeypatch.setattr(suite.Suite, "packages", lambda self: list(wanted))
    monkeypatch.setattr(suite.shutil, "which", lambda name: f"/usr/sbin/{name}")
    sandbox.ensure()
    first, second = sandbox.commands
    assert first[0] == second[0] == "unshare" and first[-3:] == ["sid", str(sandbox.root), "mirror:/debian"]
    assert "sid has no not-in-sid" in capsys.readouterr().out
    assert (sandbox.root / "etc/dpkg/dpkg.cfg.d/suite").read_text() == suite.DPKG
    assert "deb mirror:/debian experimental main" in (sandbox.root / "etc/apt/sources.list").read_text()
    sandbox.ensure()
    assert len(sandbox.commands) == 2, "it is current"
    wanted.append("g++")
    sandbox.ensure()
    assert len(sandbox.commands) == 3 and "debootstrap" not in " ".join(sandbox.commands[2]), "only packages are added"
    (sandbox.root / "etc/dpkg/dpkg.cfg.d/suite").unlink()
    sandbox.stamp.unlink()
    sandbox.ensure()
    assert "debootstrap" in " ".join(sandbox.commands[3]), "what debootstrap did not end is begun anew"


def test_a_failure_leaves_no_stamp_and_quotes_the_log(
    suite: ModuleType, sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(command: list[Any], log: Path | None = None, **options: Any) -> int:
        assert log is not None
        log.write_text("I: fine\nE: Failed getting release file\n")
        return 1

    monkeypatch.setattr(suite, "run", fails)
    monkeypatch.setattr(suite.shutil, "which", lambda name: f"/usr/sbin/{name}")
    with pytest.raises(suite.Problem, match=r"needs the network and a mirror[^$]*\n  E: Failed getting release file\n"):
        sandbox.ensure()
    assert not sandbox.current() and not sandbox.root.exists()


def test_inside_sees_little_of_the_environment(
    suite: ModuleType, sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, str]] = []

    def run(command: list[Any], log: Path | None = None, *, env: dict[str, str]) -> int:
        seen.append(env)
        return 0

    monkeypatch.setattr(suite, "run", run)
    monkeypatch.setenv("ARGS", "guest/tk::T*")
    monkeypatch.setenv("MAKEFLAGS", " -- SUITE=sid")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    sandbox.inside(["make", "test"])
    assert seen[0]["ARGS"] == "guest/tk::T*" and seen[0]["AG_SUITE"] == "sid"
    assert not {"MAKEFLAGS", "PYTHONPATH", "DISPLAY"} & set(seen[0])


def test_no_right_to_mount_is_one_sentence(suite: ModuleType, sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "run", lambda *_, **__: 70)
    with pytest.raises(suite.Problem, match="CAP_SYS_ADMIN"):
        sandbox.inside(["true"])


def test_every_interpreter_runs_and_the_worst_counts(
    suite: ModuleType, sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []

    def inside(command: list[str], *, results: Path | None = None, log: Path | None = None) -> int:
        ran.append(command)
        return 2 if "PYTHON=/usr/bin/python3.15" in command else 0

    monkeypatch.setattr(sandbox, "inside", inside)
    assert sandbox.make("test", ["/usr/bin/python3.15", "/usr/bin/python3.14"], ["TESTS=x"]) == 2
    assert ran == [["make", "test", f"PYTHON=/usr/bin/python3.{minor}", "TESTS=x"] for minor in (15, 14)]


def test_results_of_an_earlier_run_are_not_shown(
    suite: ModuleType, sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = sandbox.results("/usr/bin/python3.14") / "conformance.json"
    stale.parent.mkdir(parents=True)
    stale.write_text("{}")
    ran: list[list[str]] = []

    def inside(command: list[str], **_: Any) -> int:
        ran.append(command)
        return 0

    monkeypatch.setattr(sandbox, "inside", inside)
    sandbox.make("conformance", ["/usr/bin/python3.14", "/usr/bin/python3.15"], [])
    assert not stale.exists() and len(ran) == 2, "no table of what did not run"


def test_clean_crosses_no_mount(suite: ModuleType, sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    precious = sandbox.root / "repository" / "precious"
    precious.parent.mkdir(parents=True)
    precious.write_text("")
    monkeypatch.setattr(suite, "mounts_below", lambda folder: [str(precious.parent)])
    with pytest.raises(suite.Problem, match=f"umount {re.escape(str(precious.parent))}"):
        sandbox.clean()
    assert precious.exists()
    monkeypatch.setattr(suite, "mounts_below", lambda folder: [])
    sandbox.clean()
    assert not sandbox.top.exists()


def test_clean_waits_for_nobody_and_takes_nothing_from_anybody(suite: ModuleType, sandbox: Any) -> None:
    sandbox.root.mkdir(parents=True)
    with sandbox.locked(suite.fcntl.LOCK_SH), sandbox.locked(suite.fcntl.LOCK_SH):  # two run in it
        with pytest.raises(suite.Problem, match="another make SUITE=sid is at work"):
            sandbox.clean()
        assert sandbox.root.exists()
    sandbox.clean()
    assert not sandbox.top.exists()


def test_what_runs_in_it_holds_it(suite: ModuleType, sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[bool] = []

    def make_(self: Any, *_: Any) -> int:
        with pytest.raises(suite.Problem), self.locked(suite.fcntl.LOCK_EX | suite.fcntl.LOCK_NB):
            pass
        refused.append(True)
        return 0

    monkeypatch.setattr(suite.os, "geteuid", lambda: 0)
    monkeypatch.setattr(suite.Suite, "ensure", lambda self: None)
    monkeypatch.setattr(suite.Suite, "make", make_)
    assert suite.main(["sid", "test"]) == 0 and refused


def test_every_target_runs_in_a_release(suite: ModuleType) -> None:
    """`make SUITE=sid fuzz` did nothing but say that there is no rule."""
    names = re.search(r"^TARGETS = (.*)$", (tree.TOP / "Makefile").read_text(), re.MULTILINE)
    assert names is not None and {*names[1].split()} - {"help"} == {*suite.TARGETS}
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    for target in suite.TARGETS:
        command = ["make", "-n", "SUITE=sid", target, "PYTHON=3.15", "PATCH=a b.diff", "SECONDS=7"]
        said = subprocess.run(command, cwd=tree.TOP, env=env, capture_output=True, text=True, check=True).stdout
        words = shlex.split(said.replace("\\\n", " "))
        assert words[words.index("sid") + 1:] == [target, "--python", "3.15", "PATCH=a b.diff", "SECONDS=7"]


def test_mounts_are_seen(suite: ModuleType) -> None:
    assert "/proc" in suite.mounts_below(Path("/proc"))
    assert not suite.mounts_below(Path("/pro"))


@pytest.mark.skipif(os.geteuid() != 0, reason="name spaces of one's own need root")
def test_its_shell_is_process_1_and_outlives_the_command(suite: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = suite.unshared('mount -t proc proc /proc; sh -c \'echo $PPID $$ >"$0"\' "$1"; exit $?', out)
    probe = ["unshare", "--mount", "--pid", "--fork", "true"]
    probed = subprocess.run(probe, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    if "not permitted" in probed.stderr:
        pytest.skip("no right to make name spaces here")
    assert probed.returncode == 0, probed.stderr
    assert suite.run(command) == 0
    parent, own = out.read_text().split()
    assert parent == "1" and own != "1"


def test_interpreters_side_by_side(harness: Callable[..., Ran], tmp_path: Path) -> None:
    files = []
    for python, behaviour in (("3.9.1", "FAIL"), ("3.14.2", "PASS")):
        files.append(tmp_path / f"{python}.json")
        cells(files[-1], make(python=python, contender="plain"), make(behaviour, python=python, contender="guest/tk"))
    ran = harness("show", *map(str, files))
    assert ran.code == results.UNEXPECTED, ran.err
    rows = [line.split("|")[1].strip() for line in ran.out.splitlines() if "(fast)" in line]
    expected = ["plain 3.9.1 (fast)", "plain 3.14.2 (fast)", "guest/tk 3.9.1 (fast)", "guest/tk 3.14.2 (fast)"]
    assert rows == expected, ran.out
    assert "FAIL guest/tk 3.9.1 T.01-x" in ran.out


def test_one_interpreter_is_not_named(tmp_path: Path) -> None:
    made = [make(python="3.14.2", contender=name) for name in ("plain", "guest/tk")]
    assert [row[0][0] for row in report.rows(show.by_interpreter(made))[1]] == ["plain (fast)", "guest/tk (fast)"]


def test_showing_what_is_not_there(harness: Callable[..., Ran], tmp_path: Path) -> None:
    ran = harness("show", str(tmp_path / "none.json"))
    assert ran.code == results.USAGE and "cannot read results" in ran.err
