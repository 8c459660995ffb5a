"""The proof that the patched code ran: which of the changed lines were executed, traced while test modules run."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import hashlib
import inspect
import io
import json
import subprocess
import time
import tokenize
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .. import guardian, session
from ..session import Session
from .overlay import Overlay
from .proof_cell import place

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


Line = tuple[str, int]
"""A line of one code object (`place`): code objects share lines, and one that runs does not say that the others did."""


@dataclasses.dataclass
class Function:
    """A function of head in which something was changed."""

    name: str
    lines: frozenset[Line]
    """Its changed lines that can run; for its header its first line, around a deletion the line after it."""


@dataclasses.dataclass
class File:
    """A changed file of asyncio."""

    path: str
    sha256: str
    functions: list[Function]
    loaded: bool = False
    """A process of the proof run imported exactly this text."""
    ran: set[Line] = dataclasses.field(default_factory=set)

    @property
    def lines(self) -> set[Line]:
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
            "ran": sorted({number for _, number in self.lines & self.ran}),
            "did_not_run": sorted({number for _, number in self.lines - self.ran}),
        }


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object and all within it, the innermost last.  Annotations that are made when asked for do nothing."""
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType) and const.co_name != "__annotate__":
            yield from _codes(const)


def _rows(source: bytes) -> list[bytes]:
    """The lines as the compiler counts them (``splitlines`` ends some at a form feed)."""
    return source.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")


class _Shape:
    """What the lines of a source are: code or not, and the headers of functions."""

    def __init__(self, source: bytes, name: str) -> None:
        tree = ast.parse(source, name)
        self.headers: dict[int, int] = {}
        """First line of a function with its decorators -> last one before its body; none where the body is beside."""
        self.code: set[int] = set()
        """Lines with more than blanks, comments and docstrings."""
        self.statements: dict[int, tuple[int, int]] = {}
        """Line -> first and last of the innermost statement that it is in, or of its head."""
        silent = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
        for token in tokenize.tokenize(io.BytesIO(source).readline):
            if token.type not in (*silent, tokenize.ENCODING, tokenize.ENDMARKER):
                self.code |= set(range(token.start[0], token.end[0] + 1))
        for node in ast.walk(tree):  # the inner ones come later
            if isinstance(node, ast.stmt):
                inside = getattr(node, "body", None)
                last = inside[0].lineno - 1 if inside else node.end_lineno or node.lineno
                self.statements.update(dict.fromkeys(range(node.lineno, last + 1), (node.lineno, last)))
            if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) or not node.body:
                continue
            body = node.body[0]
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                begin = min([body.lineno, *(one.lineno for one in getattr(body, "decorator_list", ()))])
                if first < begin:
                    self.headers[first] = begin - 1
            if isinstance(body, ast.Expr) and isinstance(body.value, ast.Constant) and isinstance(body.value.value, str):
                self.code -= set(range(body.lineno, (body.end_lineno or body.lineno) + 1))


def functions(before: bytes, after: bytes, name: str) -> list[Function]:
    """What a change can be seen by: its lines that can run, by the function that they are in.  Raises SyntaxError.

    A header that is changed (its decorators, arguments, defaults) runs where the function is defined; it is seen when
    the function runs.  A line that has no code of its own is seen by its statement (in a constant) or the line that follows
    (``else:``).
    """
    code = compile(after, name, "exec", dont_inherit=True)
    old, new = _Shape(before, name), _Shape(after, name)
    added: set[int] = set()
    gaps: set[int] = set()
    matcher = difflib.SequenceMatcher(None, _rows(before), _rows(after), autojunk=False)
    for tag, gone, gone_end, begin, end in matcher.get_opcodes():
        if tag == "equal":
            continue
        come = set(range(begin + 1, end + 1)) & new.code
        added |= come
        if not come and set(range(gone + 1, gone_end + 1)) & old.code:
            gaps.add(begin + 1)
    found: dict[str, tuple[str, set[Line]]] = {}

    def see(where: types.CodeType, *lines: int) -> None:
        shown = where.co_qualname
        if where.co_name.startswith("<") and where.co_name != "<module>":  # a lambda: one of many
            shown += f" of line {where.co_firstlineno}"
        found.setdefault(place(where), (shown, set()))[1].update((place(where), line) for line in lines)

    places: list[tuple[types.CodeType, int, list[int]]] = []
    seen: set[int] = set()
    for one in _codes(code):
        first, own = one.co_firstlineno, {line for _, _, line in one.co_lines() if line}
        header = 0 if one.co_name.startswith("<") else new.headers.get(first, 0)
        if not one.co_flags & inspect.CO_OPTIMIZED and one.co_name != "<module>":
            header = first  # of a class, whose body runs where it is defined
        rest = sorted(line for line in own if line > header) or [first]
        places.append((one, header, rest))
        if hit := added.intersection(rest):
            see(one, *hit)
            seen |= hit
        if one.co_flags & inspect.CO_OPTIMIZED and (above := added.intersection(range(first, header + 1))):
            see(one, rest[0])
            seen |= above
    for line in added - seen:
        begin, end = new.statements.get(line, (0, 0))
        parts = [(one, [at for at in rest if begin <= at <= end]) for one, _, rest in places]
        around_it = [(one, lines) for one, lines in parts if lines]
        if around_it:
            see(around_it[0][0], around_it[0][1][0])
        else:
            gaps.add(line)
    for gap in gaps:
        # What went at the end of a function was a line of it, but none of a lambda that ends there.
        around = [
            (one, header, rest)
            for one, header, rest in places
            if one.co_firstlineno <= gap <= rest[-1] + (not one.co_name.startswith("<"))
        ] or places[:1]
        one, header, rest = around[-1]
        see(one, next((line for line in rest if line >= gap), rest[-1]))
    return [Function(shown, frozenset(lines)) for shown, lines in found.values()]


def files(base: Overlay, head: Overlay, paths: list[str]) -> list[File]:
    """The changed files of head; deleted ones are left out.  Raises SyntaxError."""
    found = []
    for path in paths:
        own = head.asyncio / path.removeprefix("Lib/asyncio/")
        if not own.is_file():
            continue
        old = base.asyncio / path.removeprefix("Lib/asyncio/")
        data = own.read_bytes()
        before = old.read_bytes() if old.is_file() else b""
        changed = functions(before, data, str(own))
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
        process = guardian.start(
            [head.python, "-P", PROOF_CELL, str(folder / "spec.json")],
            cwd=folder,
            env=own.environment(own.contender("plain"), None),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        session.wait_process(process, seconds)
    finally:
        guardian.end(process)
    if (folder / "loaded").exists():
        said = json.loads((folder / "loaded").read_text())
        if said["early"]:
            raise RuntimeError(f"asyncio was imported before tracing began: {said['early']}")
        for path, digest in said["loaded"].items():
            if path in paths and digest == paths[path].sha256:
                paths[path].loaded = True
    if (folder / "found").exists():
        for line in (folder / "found").read_text().splitlines():
            path, where, number = line.split("\t")
            paths[path].ran.add((where, int(number)))
