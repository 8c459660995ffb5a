"""Runs the C unit tests (guest/tests/c), one pytest item a TEST()."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

BUILD = Path(os.environ.get("AG_BUILD", "")) / "guest" / "tests" / "c"
PROGRAMS = ("test_waitset", "test_waitset_kqueue", "test_waiter", "test_embed")
NOT_UNDER_VALGRIND = ("wake_is_lost", "forked_child_forgets")
"""Too many rounds; and descriptors of valgrind's own that a fork closes are counted."""
SANITIZED = bool(os.environ.get("AG_SANITIZE"))


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


def built_tests() -> list[object]:
    """Each test of each program that was built."""
    found: list[object] = []
    for name in PROGRAMS:
        program = BUILD / name
        if program.exists():
            found += [pytest.param(program, test, id=f"{name}::{test}") for test in run(program, "--list").stdout.split()]
    return found


@pytest.mark.skipif("AG_BUILD" not in os.environ, reason="the C unit tests are built and run by `make test`")
def test_were_built() -> None:
    """Nothing below is vacuous: the programs are there, with the tests they had when this was written or more."""
    names = [param.id for param in built_tests()]  # type: ignore[attr-defined]
    assert len([name for name in names if name.startswith("test_waitset::")]) >= 21
    assert len([name for name in names if name.startswith("test_waiter::")]) >= 12
    assert len([name for name in names if name.startswith("test_embed::")]) >= 8
    if shutil.which("pkg-config") and run("pkg-config", "--exists", "libkqueue").returncode == 0:
        assert len([name for name in names if name.startswith("test_waitset_kqueue::")]) >= 17


@pytest.mark.parametrize(("program", "test"), built_tests())
def test_unit(program: Path, test: str) -> None:
    done = run(program, test)
    assert done.returncode == 0, done.stderr
    assert f"ok {test}" in done.stdout


@pytest.mark.skipif("AG_BUILD" not in os.environ, reason="the C unit tests are built and run by `make test`")
@pytest.mark.skipif(not shutil.which("valgrind"), reason="valgrind is not installed")
@pytest.mark.skipif(SANITIZED, reason="valgrind and the sanitizers exclude each other")
@pytest.mark.parametrize("name", ["test_waitset", "test_waiter"])
def test_memory_under_valgrind(name: str) -> None:
    done = run(
        "valgrind", "-q", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite",
        BUILD / name, *[param.values[1] for param in built_tests()  # type: ignore[attr-defined]
                        if param.values[0].name == name and not any(part in param.values[1] for part in NOT_UNDER_VALGRIND)],  # type: ignore[attr-defined]
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok "), done.stdout
