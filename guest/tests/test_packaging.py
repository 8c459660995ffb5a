"""The wheel: what is in it, and that importing it needs no toolkit.  Built without the network."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("guest", "backends", "harness", "scenarios", "ci", "meson.build", "meson_options.txt", "pyproject.toml",
           "README.md")

pytestmark = [
    pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="not in the source tree"),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("mesonpy", "pip")),
        reason="needs pip and meson-python (Debian: python3-pip python3-mesonpy)",
    ),
    pytest.mark.skipif(bool(os.environ.get("AG_SANITIZE")), reason="the wheel is not instrumented"),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of a copy of the tree: the build backend writes beside the sources."""
    top = tmp_path_factory.mktemp("wheel")
    source = top / "source"
    source.mkdir()
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
        else:
            shutil.copy(path, source / name)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "--no-index", "-w", top, source],
        check=True, env=environment, stdin=subprocess.DEVNULL, timeout=240,
    )
    (built,) = top.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(site: Path, code: str) -> str:
    """Run a program that finds the unpacked wheel first; its output."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=site, env={**os.environ, "PYTHONPATH": str(site), "ASYNCIO_GUEST_SITE": ""},
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_contents(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "asyncio_guest/py.typed" in names
    assert "asyncio_guest/include/asyncio_guest.h" in names
    assert [name for name in names if name.startswith("asyncio_guest/_core.") and name.endswith(".so")]
    assert {"asyncio_guest/backends/poll/__init__.py", "asyncio_guest/_conformance/harness/__main__.py",
            "asyncio_guest/_conformance/harness/schema/conformance.json",
            "asyncio_guest/_conformance/scenarios/api.py"} <= names
    top = {name.partition("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"asyncio_guest"}
    assert not [name for name in names if Path(name).name.startswith("test_") and "test_asyncio" not in name]


def test_imports_no_toolkit(site: Path) -> None:
    code = """
import asyncio, sys, asyncio_guest

async def main():
    await asyncio.sleep(0.001)
    return asyncio_guest.__file__

print(asyncio_guest.run(main(), host="poll"))
print(sorted({name.partition(".")[0] for name in sys.modules} & {"gi", "tkinter", "_tkinter", "harness", "scenarios"}))
"""
    where, toolkits = run(site, code).splitlines()
    assert where.startswith(str(site))
    assert toolkits == "[]"


def test_console_script(site: Path) -> None:
    """`asyncio-guest list` finds the cases under their installed names."""
    code = """
import sys
from importlib import metadata
(script,) = [e for e in metadata.distribution("asyncio-guest").entry_points if e.group == "console_scripts"]
assert script.name == "asyncio-guest", script
sys.argv = ["asyncio-guest", "list"]
sys.exit(script.load()())
"""
    listed = run(site, code)
    assert "guest/poll" in listed
    assert "T.01" in listed


def test_console_script_without_its_extra(site: Path) -> None:
    code = """
import contextlib, io, sys
sys.modules["rich"] = sys.modules["pytest"] = None
from asyncio_guest import _conformance
said = io.StringIO()
sys.argv = ["asyncio-guest", "run", "guest/poll::T.01*", "--quiet", "--results", "results"]
with contextlib.redirect_stderr(said):
    assert _conformance.main() == 2
print(said.getvalue())
"""
    said = run(site, code)
    assert "pytest, rich" in said and "asyncio-guest[conformance]" in said
