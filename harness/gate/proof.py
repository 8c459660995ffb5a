"""The proof that the patched code ran: which of the changed lines were executed, traced while test modules run."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import subprocess
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .. import session
from ..session import Session
from .overlay import Overlay

PROOF_CELL = Path(__file__).with_name("proof_cell.py")
"""Run as a file: as a module of the installed package it would import asyncio before it can trace."""
RELATED = {
    "base_events": ("test_base_events", "test_events"),
    "events": ("test_events", "test_base_events"),
    "selector_events": ("test_selector_events", "test_sock_lowlevel", "test_sendfile", "test_events"),
    "unix_events": ("test_unix_events", "test_subprocess", "test_events"),
    "base_subprocess": ("test_subprocess",),
    "base_futures": ("test_futures",),
    "base_tasks": ("test_tasks",),
    "coroutines": ("test_pep492", "test_tasks"),
    "format_helpers": ("test_base_events", "test_tasks"),
    "sslproto": ("test_sslproto", "test_ssl"),
    "proactor_events": ("test_proactor_events",),
    "trsock": ("test_events", "test_server"),
    "mixins": ("test_locks",),
}
"""Where a module's lines are likely to run; beside ``test_<module>``, and before all other modules."""


@dataclasses.dataclass
class Function:
    """A function of head in which something was changed."""

    name: str
    lines: frozenset[int]
    """Its changed lines that can run; around a deletion the line after it."""


@dataclasses.dataclass
class File:
    """A changed file of asyncio."""

    path: str
    sha256: str
    functions: list[Function]
    loaded: bool = False
    """A process of the proof run imported exactly this text."""
    ran: set[int] = dataclasses.field(default_factory=set)

    @property
    def lines(self) -> set[int]:
        return {line for function in self.functions for line in function.lines}

    @property
    def unproven(self) -> list[str]:
        """Changed functions none of whose changed lines ran."""
        return [f.name for f in self.functions if not f.lines & self.ran]

    def as_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "sha256": self.sha256,
            "loaded": self.loaded,
            "functions": [f.name for f in self.functions],
            "ran": sorted(self.lines & self.ran),
            "did_not_run": sorted(self.lines - self.ran),
        }


def codes(code: types.CodeType, inside: str = "") -> Iterator[tuple[str, types.CodeType]]:
    """A code object and all within it, with their qualified names; the innermost last."""
    yield inside or "<module>", code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from codes(const, getattr(const, "co_qualname", const.co_name))


def functions(before: str, after: str, name: str) -> list[Function]:
    """What a change can be seen by: its lines that can run, by the function that they are in.  Raises SyntaxError."""
    old, new = before.splitlines(), after.splitlines()
    added: set[int] = set()
    gaps: set[int] = set()
    for tag, _, _, begin, end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag in ("insert", "replace"):
            added |= set(range(begin + 1, end + 1))
        elif tag == "delete" and any(line.strip() and not line.strip().startswith("#") for line in old):
            gaps.add(begin + 1)
    found: dict[str, set[int]] = {}
    places: list[tuple[str, list[int]]] = []
    for where, code in codes(compile(after, name, "exec", dont_inherit=True)):
        own = sorted({line for _, _, line in code.co_lines() if line})
        places.append((where, own))
        # A function's first line belongs to the code around it too, which runs it by defining the function.
        hit = {line for line in own if line in added and not (where != "<module>" and line == code.co_firstlineno)}
        if hit:
            found.setdefault(where, set()).update(hit)
    for gap in gaps:
        around = [(where, own) for where, own in places if own and own[0] <= gap <= own[-1] + 1]
        if around:
            where, own = around[-1]
            nearest = next((line for line in own if line >= gap), own[-1])
            found.setdefault(where, set()).add(nearest)
    return [Function(where, frozenset(lines)) for where, lines in found.items()]


def files(base: Overlay, head: Overlay, paths: list[str]) -> list[File]:
    """The changed files of head; deleted ones are left out.  Raises SyntaxError."""
    found = []
    for path in paths:
        own = head.asyncio / path.removeprefix("Lib/asyncio/")
        if not own.is_file():
            continue
        old = base.asyncio / path.removeprefix("Lib/asyncio/")
        data = own.read_bytes()
        before = old.read_bytes().decode("utf-8", "replace") if old.is_file() else ""
        changed = functions(before, data.decode("utf-8", "replace"), str(own))
        found.append(File(path, hashlib.sha256(data).hexdigest(), changed))
    return found


def related(paths: list[str], modules: list[str]) -> list[str]:
    """The test modules that are about the changed files."""
    first: list[str] = []
    for path in paths:
        stem = Path(path).stem
        first += [f"test_{stem}", *RELATED.get(stem, ())]
    return [name for name in dict.fromkeys(first) if name in modules]


def run(own: Session, head: Overlay, changed: list[File], seconds: float, say: Callable[[str], None]) -> list[str]:
    """Run the related test modules until every changed line has run, then the others until every changed function has
    one that ran; the modules that were run.  Fills the files in.  Ends after `seconds` in any case."""
    paths = {str(head.asyncio / file.path.removeprefix("Lib/asyncio/")): file for file in changed}
    deadline = time.monotonic() + seconds
    done: list[str] = []
    near = related([file.path for file in changed], head.modules())
    for module in [None, *near, *(name for name in head.modules() if name not in near)]:
        left = any(file.lines - file.ran if module in near else file.unproven for file in changed)
        if module is not None and (not left or time.monotonic() > deadline):
            break
        if module is not None:
            done.append(module)
        _one(own, head, paths, module, min(120.0, max(10.0, deadline - time.monotonic())))
        ran = sum(len(file.lines & file.ran) for file in changed)
        total = sum(len(file.lines) for file in changed)
        say(f"{module or 'import'}: {ran} of {total} changed lines have run")
    return done


def _one(own: Session, head: Overlay, paths: dict[str, File], module: str | None, seconds: float) -> None:
    folder = own.run_dir / f"proof-{module or 'import'}"
    folder.mkdir()
    dotted = {
        path: "asyncio." + file.path.removeprefix("Lib/asyncio/").removesuffix(".py").replace("/", ".")
        for path, file in paths.items()
    }
    spec = {
        "found": str(folder / "found"),
        "loaded": str(folder / "loaded"),
        "wanted": {path: sorted(file.lines - file.ran) for path, file in paths.items()},
        # __main__ is the REPL: importing it would start it.
        "imports": [
            "asyncio",
            *(name.removesuffix(".__init__") for name in dotted.values() if not name.endswith("__main__")),
        ],
        "module": f"test.test_asyncio.{module}" if module else None,
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    with open(folder / "output", "wb") as output:
        process = subprocess.Popen(
            [head.python, "-P", PROOF_CELL, str(folder / "spec.json")],
            cwd=folder,
            env=own.environment(own.contender("plain"), None),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        session.wait_process(process, seconds)
    finally:
        session.kill_group(process.pid)
        process.wait()
    if (folder / "loaded").exists():
        said = json.loads((folder / "loaded").read_text())
        if said["early"]:
            raise RuntimeError(f"asyncio was imported before tracing began: {said['early']}")
        for path, digest in said["loaded"].items():
            if path in paths and digest == paths[path].sha256:
                paths[path].loaded = True
    if (folder / "found").exists():
        for line in (folder / "found").read_text().splitlines():
            path, _, number = line.partition("\t")
            paths[path].ran.add(int(number))
