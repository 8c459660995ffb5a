"""Where things are, in the source tree and when installed."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGE = __package__ or "harness"
"""``harness`` or ``asyncio_guest._conformance.harness``."""
HERE = Path(__file__).resolve().parent
_PARENT = PACKAGE.rpartition(".")[0]
IN_TREE = not _PARENT
TOP = HERE.parents[PACKAGE.count(".")]
"""The folder that has to be on ``sys.path`` for this package: the repository's root, or site-packages."""


_PROGRAMS = {"": "python3 -m harness", "asyncio_guest._conformance": "asyncio-guest"}
PROGRAM = _PROGRAMS.get(_PARENT, _PARENT.replace("_", "-"))
"""The command of this copy of the harness."""


class UsageError(Exception):
    """Input that cannot be used: an unknown name, a broken file.  The command line answers 2."""


def scenarios_name(sub: str = "") -> str:
    """The full name of the package ``scenarios`` or of a module in it."""
    base = f"{_PARENT}.scenarios" if _PARENT else "scenarios"
    return f"{base}.{sub}" if sub else base


def scenarios(sub: str = "") -> Any:
    """Import ``scenarios`` or a module in it, under either parent."""
    return importlib.import_module(scenarios_name(sub))


def drivers() -> list[str]:
    """The packages beside this one with drivers of hosts: the tree's backends, or those of a copy that
    has drivers alone."""
    name = f"{_PARENT}.backends" if _PARENT else "backends"
    return [name] if IN_TREE or importlib.util.find_spec(name) is not None else []


def root() -> Path:
    """The repository's root, or the current directory when installed."""
    return TOP if IN_TREE else Path.cwd()


def site() -> Path | None:
    """The folder of the built package: ``ASYNCIO_GUEST_SITE``, or this interpreter's build in the tree, or None
    when the package is installed (or not there)."""
    named = os.environ.get("ASYNCIO_GUEST_SITE")
    if named:
        return Path(named).resolve()
    if not IN_TREE:
        return None
    tag = sysconfig.get_config_var("SOABI")
    suffix = os.environ.get("SANITIZE", "")
    found = TOP / "build" / (f"{tag}-{suffix}" if suffix else str(tag)) / "site"
    return found if found.is_dir() else None


def cores() -> int:
    """The processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # no Linux
        return os.cpu_count() or 1


def interpreter(environment: str | None) -> Path | None:
    """The interpreter that a contender's cells run with: this one, or that of an environment of ``ci/environments.toml``; None
    when that is not built.  Installed there are no environments: whoever runs the harness has chosen the interpreter."""
    if environment is None or not IN_TREE:
        return Path(sys.executable)
    folder = TOP / "build" / str(sysconfig.get_config_var("SOABI")) / "env" / environment
    return folder / "bin" / "python" if (folder / "complete").is_file() else None


def no_environment(environment: str) -> str:
    """What to say, and the remedy, when `interpreter` is None."""
    return f"its environment {environment} is not there: make setup (one of the full tier: make full) builds it, from PyPI"


def python_path(extra: Iterable[str] = ()) -> str:
    """``PYTHONPATH`` for a cell: the built package, this tree, `extra`, and what the user has set."""
    built = site()
    parts = [str(built)] if built else []
    parts.append(str(TOP))
    parts += extra
    parts += os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join(dict.fromkeys(p for p in parts if p))


def _load_file(path: Path) -> ModuleType:
    name = f"_cases_{path.stem}_{abs(hash(str(path))):x}"
    for module in list(sys.modules.values()):
        if getattr(module, "__cases_file__", None) == str(path):
            return module
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"cannot load cases from {path}")
    module = importlib.util.module_from_spec(spec)
    module.__cases_file__ = str(path)  # type: ignore[attr-defined]
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def load_cases(extra: Iterable[str] = ()) -> dict[str, Any]:
    """Import every module of ``scenarios.cases`` and of `extra` (module names or paths of .py files).

    Returns all cases by id, in the order of their ids.  Raises UsageError for one of `extra` that
    cannot be imported; an error in one of our own modules is raised as it is.
    """
    api = scenarios("api")
    scenarios("cases").load()
    for name in extra:
        try:
            if name.endswith(".py"):
                _load_file(Path(name).resolve())
            else:
                importlib.import_module(name)
        except (ImportError, OSError, ValueError, SyntaxError) as error:
            raise UsageError(f"cannot load cases from {name}: {error}") from error
    return dict(sorted(api.CASES.items()))


def load_cases_of(module: str, extra: Iterable[str] = ()) -> dict[str, Any]:
    """The cases of one module, without the time that importing all others takes.  `module` is a name that a run
    knows from `load_cases` (its `extra` files have no name that could be imported: they are loaded by their paths)."""
    if module.startswith("_cases_"):
        return load_cases(extra)
    importlib.import_module(module)
    return dict(scenarios("api").CASES)


def case_file(case: Any) -> Path:
    """The source file of a case."""
    return Path(sys.modules[case.func.__module__].__file__ or "").resolve()
