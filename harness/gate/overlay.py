"""Base and head: the chosen interpreter twice, with a library of links in which only asyncio and its tests are files.

An interpreter finds its library beside its executable, also when it ignores the environment (``-I``, ``-E``, ``-S``).
So a copy of the executable in a folder of its own, with a library folder that links to the real one entry by entry, is
the same interpreter with another asyncio, for every process that is started by ``sys.executable``; nothing is put on a
path and nothing is imported first.  The installed package is only read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from ..tree import UsageError
from .patch import Change, Patch, apply

_SAY = """\
import asyncio, json, os, ssl, sys
print(json.dumps({"asyncio": os.path.realpath(asyncio.__path__[0]), "version": sys.version}))
"""


@dataclasses.dataclass(frozen=True)
class Overlay:
    """One of the two interpreters."""

    python: Path
    """Its executable."""
    library: Path
    """The folder of its standard library."""

    @property
    def asyncio(self) -> Path:
        return self.library / "asyncio"

    @property
    def tests(self) -> Path:
        return self.library / "test" / "test_asyncio"

    def modules(self) -> list[str]:
        """The test modules of test_asyncio."""
        return sorted(path.stem for path in self.tests.glob("test_*.py"))


def executable() -> Path:
    """This interpreter's own executable, also where a virtual environment's stands for it."""
    return Path(os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable))


def tests_folder() -> Path | None:
    """Where test.test_asyncio of this interpreter is, or None."""
    try:
        spec = importlib.util.find_spec("test.test_asyncio")
    except ModuleNotFoundError:
        return None
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(places[0]) if places else None


def asyncio_folder() -> Path:
    """Where asyncio of this interpreter is; found, not imported."""
    spec = importlib.util.find_spec("asyncio")
    assert spec is not None and spec.submodule_search_locations is not None
    return Path(list(spec.submodule_search_locations)[0])


def digest(folder: Path) -> str:
    """A digest of a folder's sources, by name and content."""
    made = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".pyc", ".so"):
            made.update(str(path.relative_to(folder)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return made.hexdigest()


def prepare(folder: Path, patch: Patch | None, tests: bool = True) -> tuple[Path, list[Change]]:
    """Copy asyncio and test_asyncio to `folder` as ``Lib/...`` and apply the patch; the copy and what was applied.

    With ``tests=False`` the patch's tests are left out.  Raises DoesNotApply.
    """
    lib = folder / "Lib"
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(asyncio_folder(), lib / "asyncio", ignore=without)
    source = tests_folder()
    if source is None:
        raise UsageError(
            "this interpreter has no test.test_asyncio; on Debian: apt-get install libpython3.11-testsuite"
        )
    shutil.copytree(source, lib / "test" / "test_asyncio", ignore=without)
    applied: list[Change] = []
    if patch is not None:
        applied = apply(patch, folder)
        if not tests:
            shutil.rmtree(lib / "test" / "test_asyncio")
            shutil.copytree(source, lib / "test" / "test_asyncio", ignore=without)
    return lib, applied


def make(folder: Path, lib: Path) -> Overlay:
    """The interpreter in `folder` whose asyncio and test_asyncio are those of `lib`."""
    real = Path(sysconfig.get_path("stdlib"))
    folder = folder.resolve()
    library = folder / sys.platlibdir / real.name
    library.mkdir(parents=True)
    _link(real, library, {"asyncio", "test", "__pycache__"})
    tests = tests_folder()
    assert tests is not None
    (library / "test").mkdir()
    _link(tests.parent, library / "test", {"test_asyncio", "__pycache__"})
    shutil.copytree(lib / "asyncio", library / "asyncio")
    shutil.copytree(lib / "test" / "test_asyncio", library / "test" / "test_asyncio")
    # Debian keeps the packages of all its interpreters in a folder beside.
    for beside in ("python3",):
        if (real.parent / beside).is_dir():
            (library.parent / beside).symlink_to(real.parent / beside)
    source = executable()
    python = folder / "bin" / source.name
    python.parent.mkdir()
    shutil.copy2(source, python)
    overlay = Overlay(python, library)
    # Compiled once, not in each of the thousand processes that come (they write no bytecode); errors show at import.
    subprocess.run(
        [python, "-I", "-m", "compileall", "-q", overlay.asyncio, overlay.tests],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return overlay


def check(overlay: Overlay) -> str | None:
    """What is wrong with importing asyncio in an overlay, as the interpreter says it; None if nothing is.

    Raises UsageError when it is another asyncio that is imported.
    """
    done = subprocess.run(
        [overlay.python, "-I", "-c", _SAY],
        capture_output=True,
        encoding="utf-8",
        errors="replace",  # a traceback quotes the source as it is
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )
    if done.returncode:
        return done.stderr.strip() or f"status {done.returncode}"
    said = json.loads(done.stdout.splitlines()[-1])
    if Path(said["asyncio"]) != overlay.asyncio or said["version"] != sys.version:
        raise UsageError(f"{executable()} cannot be had with another asyncio: its copy imports {said['asyncio']}")
    return None


def _link(source: Path, target: Path, without: set[str]) -> None:
    for entry in source.iterdir():
        if entry.name not in without:
            (target / entry.name).symlink_to(entry)
