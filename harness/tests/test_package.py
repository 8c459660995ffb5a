"""asyncio-guest-conformance, as an author of another loop has it: a wheel in a clean environment, without a toolkit."""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from harness import results, tree

BUILD = tree.TOP / "ci" / "conformance" / "build.py"
NEEDS = """
pytest _pytest pluggy iniconfig packaging py exceptiongroup tomli xdist execnet rich pygments markdown_it mdurl
commonmark jsonschema jsonschema_specifications referencing rpds attr attrs pyrsistent importlib_resources jinja2
markupsafe typing_extensions
""".split()  # fmt: skip
"""Modules of what the distribution depends on; linked one by one, so that nothing else of this machine is seen."""
CONTENDERS = """
import asyncio


class Good:
    new_loop = staticmethod(asyncio.new_event_loop)


class Deaf(asyncio.SelectorEventLoop):
    def call_soon_threadsafe(self, callback, *args, context=None):
        super().call_soon_threadsafe(callback, *args, context=context)  # and says nothing


class Bad:
    new_loop = Deaf


good, bad = Good, Bad
"""
CASES = "T.01a or C.05a or C.05b"

pytestmark = [
    pytest.mark.skipif(not BUILD.exists(), reason="not in the source tree"),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("pip", "wheel", "setuptools", "xdist")),
        reason="needs pip, setuptools, wheel and pytest-xdist (Debian: python3-pip python3-pytest-xdist)",
    ),
    pytest.mark.skipif(bool(os.environ.get("AG_SANITIZE")), reason="pure Python"),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run([sys.executable, str(BUILD), str(target)], check=True, timeout=240, env=environment)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a clean environment with the wheel in it."""
    top = tmp_path_factory.mktemp("clean") / "env"
    venv.create(top, symlinks=True, with_pip=False)
    site = top / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    for name in NEEDS:
        found = importlib.util.find_spec(name)
        if found is not None and found.origin is not None:
            path = Path(found.origin)
            path = path.parent if path.name == "__init__.py" else path
            (site / path.name).symlink_to(path)
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", site, wheel],
        check=True, timeout=120,
    )  # fmt: skip
    return top / "bin"


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """An author's folder."""
    (tmp_path / "my_contender.py").write_text(CONTENDERS, encoding="utf-8")
    return tmp_path


def run(programs: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command line of the environment's interpreter, with nothing of ours on its path."""
    hidden = ("PYTHONPATH", "ASYNCIO_GUEST_SITE", "DISPLAY")
    return subprocess.run(
        [str(programs / "python"), *arguments], cwd=folder, capture_output=True, text=True, timeout=300,
        env={k: v for k, v in os.environ.items() if k not in hidden}, stdin=subprocess.DEVNULL,
    )  # fmt: skip


PYTEST = ("-m", "pytest", "-p", "xdist.plugin", "-p", "no:cacheprovider")
"""Our own plugin comes by its entry point, as with pip; xdist is linked without its own."""
COMMAND = "import sys, asyncio_guest_conformance as a; sys.argv[0] = 'asyncio-guest-conformance'; sys.exit(a.main())"


def test_the_wheel_is_the_harness_and_its_cases_alone(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert wheel.name.endswith("-py3-none-any.whl")
    top = "asyncio_guest_conformance"
    assert {f"{top}/{path}" for path in (
        "__init__.py", "pytest_plugin.py", "harness/plugin.py", "harness/contenders.toml",
        "harness/schema/conformance.json",
        "harness/page/page.js", "harness/peers/qasync.py", "scenarios/CATALOGUE.md", "scenarios/cases/t_timers.py",
        "backends/tk/driver.py", "backends/_driver.py", "backends/_x11.py",
    )} <= names  # fmt: skip
    assert not [n for n in names if "/tests/" in n or n.endswith((".so", ".c")) or n.startswith("asyncio_guest/")]
    assert not [n for n in names if n.startswith(f"{top}/backends/") and not n.endswith(("/driver.py", "/_driver.py", "/_x11.py"))]


def test_no_toolkit_is_there_and_none_is_imported(programs: Path, theirs: Path) -> None:
    code = (
        "import importlib.util, sys; import asyncio_guest_conformance.harness.cli;"
        "names = ('gi', 'PyQt5', 'PySide6', 'asyncio_guest');"
        "print([n for n in names if importlib.util.find_spec(n)], 'tkinter' in sys.modules)"
    )
    done = run(programs, theirs, "-c", code)
    assert done.stdout.strip() == "[] False", done.stderr


def test_an_author_runs_it(programs: Path, theirs: Path) -> None:
    """Side by side by xdist; a failure prints the command that repeats its cell alone, and that command does."""
    both = ("--contender", "my_contender:good", "--contender", "my_contender:bad")
    out = theirs / "cells.json"
    done = run(
        programs, theirs, *PYTEST, "--pyargs", "asyncio_guest_conformance", *both, "-n2", "-q", "-k", CASES,
        "--cell-json", str(out),
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 5 passed" in done.stdout, done.stdout
    again = "asyncio-guest-conformance run my_contender:bad::C.05a-threadsafe-handle"
    assert f"again: {again}" in done.stdout
    cells = results.read(out)["cells"]
    assert sum(cell["behaviour"] == "FAIL" for cell in cells) == 1 and len(cells) == 6
    assert all(cell["rerun"].startswith("asyncio-guest-conformance run ") for cell in cells)
    repeated = run(programs, theirs, "-c", COMMAND, *shlex.split(again)[1:])
    assert repeated.returncode == 3, repeated.stdout + repeated.stderr
    assert "1 cells: 1 FAIL" in repeated.stdout


def test_what_is_expected(programs: Path, theirs: Path) -> None:
    row = 'contender = "{}"\ncase = "C.05a-*"\nbehaviour = "FAIL"\n'
    row += 'reason = "no handle"\nissue = "mine#1"\nsince = "2026-01-01"\n'
    known = theirs / "known.toml"
    known.write_text("[[expect]]\n" + row.format("my_contender:bad"), encoding="utf-8")
    arguments = (*PYTEST, "--pyargs", "asyncio_guest_conformance", "--expect", str(known), "-q", "-k", "C.05a")
    done = run(programs, theirs, *arguments, "--contender", "my_contender:bad")
    assert done.returncode == 0 and "1 xfailed" in done.stdout, done.stdout + done.stderr
    known.write_text("[[expect]]\n" + row.format("my_contender:good"), encoding="utf-8")
    done = run(programs, theirs, *arguments, "--contender", "my_contender:good")
    assert done.returncode == 1 and "stale expectation" in done.stdout, done.stdout + done.stderr


def test_without_a_contender_it_says_so_and_keeps_out_of_other_runs(programs: Path, theirs: Path) -> None:
    done = run(programs, theirs, *PYTEST, "--pyargs", "asyncio_guest_conformance")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "say which loop, by --contender module:factory" in done.stderr
    (theirs / "test_mine.py").write_text("def test_mine():\n    pass\n", encoding="utf-8")
    done = run(programs, theirs, *PYTEST, "-q", "test_mine.py")
    assert done.returncode == 0 and "1 passed" in done.stdout


def test_entry_points(wheel: Path) -> None:
    """What pip makes of them: the command, and the plugin that pytest loads by itself."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith("entry_points.txt")]
        text = archive.read(name).decode()
    assert "asyncio-guest-conformance = asyncio_guest_conformance:main" in text
    assert "asyncio_guest_conformance = asyncio_guest_conformance.pytest_plugin" in text
