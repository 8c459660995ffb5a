"""Which interpreters there are, newest first, and which of them the gate can use."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

OLDEST = (3, 11)
_ASK = """\
import importlib.util, json, os, sys, sysconfig
try:
    tests = importlib.util.find_spec("test.test_asyncio") is not None
except ModuleNotFoundError:
    tests = False
print(json.dumps({
    "version": list(sys.version_info[:3]), "words": sys.version.split()[0], "implementation": sys.implementation.name,
    "tests": tests, "headers": os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")),
    "debug": hasattr(sys, "gettotalrefcount"),
}))
"""


@dataclasses.dataclass
class Interpreter:
    """One that is there."""

    path: str
    version: tuple[int, int, int]
    words: str
    """The version as it says it: ``3.14.0rc1``."""
    problem: str | None
    """Why the gate cannot use it, as far as can be seen without building for it."""


def _places() -> Iterator[Path]:
    folders = [Path(p) for p in os.environ.get("PATH", "").split(os.pathsep) if p]
    folders += [Path("/usr/bin"), Path("/usr/local/bin")]
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    folders += sorted(root.glob("versions/*/bin"))
    for folder in folders:
        if root / "shims" == folder or not folder.is_dir():
            continue  # a shim is one of the versions
        for path in sorted(folder.iterdir()):
            if re.fullmatch(r"python3(\.\d+)?", path.name) and os.access(path, os.X_OK):
                yield path


def ask(path: Path) -> Interpreter | str:
    """What an interpreter says about itself, or why it could not be asked."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    try:
        done = subprocess.run(
            [path, "-I", "-c", _ASK],
            capture_output=True,
            text=True,
            timeout=60,
            env=env,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        said = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return "does not run"
    major, minor, micro = said["version"]
    version = (int(major), int(minor), int(micro))
    problem = None
    if said["implementation"] != "cpython":
        problem = f"is {said['implementation']}, not CPython"
    elif version[:2] < OLDEST:
        problem = f"is older than {'.'.join(map(str, OLDEST))}"
    elif not said["tests"]:
        problem = "has no test.test_asyncio (Debian: libpython3.N-testsuite)"
    elif not said["headers"]:
        problem = "has no Python.h, so nothing can be built for it"
    elif said["debug"]:
        problem = "is a debug build; name it by PYTHON= if you mean it"
    return Interpreter(str(path), version, said["words"], problem)


def present() -> list[Interpreter]:
    """All that are there, newest first, each once."""
    seen: dict[str, Path] = {}
    for path in _places():
        seen.setdefault(os.path.realpath(path), path)
    found = [one for one in map(ask, seen.values()) if isinstance(one, Interpreter)]
    return sorted(found, key=lambda one: one.version, reverse=True)
