"""Running a program as python itself would: ``__main__``, ``sys.argv``, ``sys.path``, exit status."""

from __future__ import annotations

import importlib.util
import io
import os
import sys
import types
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from typing import Any, NoReturn


def _fail(message: str, status: int = 1) -> NoReturn:
    print(f"{sys.executable}: {message}", file=sys.stderr)
    sys.exit(status)


def _new_main(*, spec: ModuleSpec | None, file: str | None, package: str | None, loader: Any) -> dict[str, Any]:
    """A fresh ``__main__``, left in ``sys.modules`` for good: threads and exit functions of the program see it."""
    module = types.ModuleType("__main__")
    module.__dict__.update(
        __spec__=spec, __package__=package, __loader__=loader, __builtins__=sys.modules["builtins"], __annotations__={}
    )
    if file is not None:
        module.__dict__.update(__file__=file, __cached__=None if spec is None else spec.cached)
    sys.modules["__main__"] = module
    return module.__dict__


def _spec_of_module(name: str) -> ModuleSpec:
    spec: ModuleSpec | None
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
            if spec is None:
                _fail(f"No module named {name}.__main__; {name!r} is a package and cannot be directly executed")
    except (ImportError, AttributeError, TypeError, ValueError) as exc:
        _fail(f"Error while finding module specification for {name!r} ({type(exc).__name__}: {exc})")
    if spec is None or spec.loader is None:
        _fail(f"No module named {name}")
    return spec


def _run_spec(spec: ModuleSpec, package: str | None) -> None:
    loader: Any = spec.loader
    code = loader.get_code(spec.name)
    if code is None:
        _fail(f"No code object available for {spec.name}")
    exec(code, _new_main(spec=spec, file=spec.origin, package=package, loader=loader))


def run_module(name: str) -> None:
    """``python -m name``."""
    spec = _spec_of_module(name)
    sys.argv[0] = spec.origin or spec.name
    _run_spec(spec, spec.parent)


def run_command(source: str) -> None:
    """``python -c source``."""
    if not sys.flags.safe_path:
        sys.path[0] = ""
    exec(compile(source, "<string>", "exec", dont_inherit=True), _new_main(
        spec=None, file=None, package=None, loader=sys.modules["builtins"].__spec__.loader  # type: ignore[union-attr]
    ))


def run_path(path: str) -> None:
    """``python path``: a file, or a directory or archive that holds a ``__main__``."""
    spec = None if _is_source(path) else PathFinder.find_spec("__main__", [path])
    if spec is not None:
        if sys.flags.safe_path:
            sys.path.insert(0, path)
        else:
            sys.path[0] = path
        _run_spec(spec, "")
        return
    if os.path.isdir(path):
        _fail(f"can't find '__main__' module in {os.path.abspath(path)!r}")
    try:
        with io.open_code(str(Path(path).absolute())) as file:
            source = file.read()
    except OSError as exc:
        _fail(f"can't open file {os.path.abspath(path)!r}: [Errno {exc.errno}] {exc.strerror}", 2)
    if not sys.flags.safe_path:
        # python put the current directory there, for our own -m.
        sys.path[0] = os.path.dirname(os.path.realpath(path))
    full = os.path.abspath(path)
    code = compile(source, full, "exec", dont_inherit=True)
    exec(code, _new_main(spec=None, file=full, package=None, loader=SourceFileLoader("__main__", full)))


def _is_source(path: str) -> bool:
    return os.path.isfile(path) and path.endswith((".py", ".pyw"))


def strip_own_frames(exc: BaseException) -> None:
    """Take the frames of this module and of its caller off the top of the traceback, as python shows none."""
    own = {__file__, str(Path(__file__).with_name("__main__.py"))}
    traceback = exc.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename in own:
        traceback = traceback.tb_next
    exc.__traceback__ = traceback
