"""Seeded faults: what each one changes, and how a program with it is made.

A mutant is a change of one source text, kept in ``mutants.toml``; no source has a hook for it. A changed C file is
compiled and linked by the commands of the build, a changed Python file replaces its copy, in a folder of
links to all that stays: the build and the tree are left as they are.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

from .. import tree
from ..tree import UsageError
from ..verdicts import BEHAVIOURS, TEARDOWNS

FIELDS = {"name", "fault", "file", "old", "new", "detector", "sees"}
RED_TEST = "red"
"""What is seen of a mutant whose detector is a test of the framework."""


class CannotBuild(Exception):
    """The mutant does not apply, or does not compile; the message says why."""


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One seeded fault."""

    name: str
    fault: str
    """What is wrong with it, in a sentence."""
    file: str
    """Path in the tree."""
    old: str
    """A text that is in the file exactly once."""
    new: str
    """What stands there instead."""
    detector: str
    """The cell ``CONTENDER::CASE`` or the test ``harness/tests/FILE.py::TEST`` that has to turn red."""
    sees: tuple[str, ...]
    """Behaviours or teardown verdicts that count as red; for a test: ``red``."""

    @property
    def about(self) -> str:
        """The part of the project that the fault is in: harness, a backend, or the guest."""
        top, _, rest = self.file.partition("/")
        return f"backend {rest.partition('/')[0]}" if top == "backends" else top

    @property
    def change(self) -> tuple[str, ...]:
        """What is changed: mutants with the same are made once, for all their detectors."""
        return self.file, self.old, self.new

    @property
    def green(self) -> str:
        """What has to be green: the detector, without the fault."""
        return self.detector

    @property
    def by_test(self) -> bool:
        """Is its detector a test of the framework?"""
        return self.detector.startswith("harness/tests/")

    @property
    def case(self) -> str | None:
        """The id of the case that detects it."""
        return None if self.by_test else self.detector.partition("::")[2]

    def mutate(self, top: Path) -> str:
        """The changed text of the file.  Raises CannotBuild when the text to change is not there once."""
        try:
            text = (top / self.file).read_text(encoding="utf-8")
        except OSError as error:
            raise CannotBuild(f"{self.file} cannot be read: {error}") from error
        if (count := text.count(self.old)) != 1:
            raise CannotBuild(f"{self.file} has the text to change {count} times; the mutant needs to be written anew")
        return text.replace(self.old, self.new)


def load(path: Path | None = None) -> dict[str, Mutant]:
    """The mutants by name.  Raises UsageError for a table that cannot be used."""
    path = path or Path(__file__).with_name("mutants.toml")
    try:
        with open(path, "rb") as file:
            rows = tomllib.load(file).get("mutant", [])
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: {error}") from error
    found: dict[str, Mutant] = {}
    for row in rows:
        at = f"{path.name}: {row.get('name', row)}"
        if set(row) != FIELDS:
            raise UsageError(f"{at}: needs exactly {', '.join(sorted(FIELDS))}")
        for mutant in _mutants(row):
            if mutant.name in found:
                raise UsageError(f"{at} is there twice")
            _check(mutant, at)
            found[mutant.name] = mutant
    return found


def _mutants(row: dict[str, Any]) -> list[Mutant]:
    """One for each detector of the row: the first has the row's name, the others that of their case behind it."""
    detectors = [row["detector"]] if isinstance(row["detector"], str) else row["detector"]
    made = []
    for detector in detectors:
        number = detector.rpartition("::")[2].partition("-")[0].replace(".", "").lower()
        fields: dict[str, Any] = {**row, "sees": tuple(row["sees"]), "detector": detector}
        made.append(Mutant(**{**fields, "name": f"{row['name']}-{number}" if made else row["name"]}))
    return made


def _check(mutant: Mutant, at: str) -> None:
    """Can it be seen by what it names?  Raises UsageError."""
    known = {RED_TEST} if mutant.by_test else {*BEHAVIOURS, *TEARDOWNS} - {"PASS", "NOTRUN", "UNSUPPORTED"}
    if not mutant.sees or set(mutant.sees) - known:
        raise UsageError(f"{at}: sees {mutant.sees}, which is none of {', '.join(sorted(known))}")
    if not mutant.by_test and "::" not in mutant.detector:
        raise UsageError(f"{at}: the detector {mutant.detector!r} is neither a cell nor a test of harness/tests")


def _links(source: Path, target: Path) -> None:
    """`target` as a copy of the folder `source` whose files are links."""
    for folder, names, files in os.walk(source):
        names[:] = [name for name in names if name != "__pycache__"]
        here = target / Path(folder).relative_to(source)
        here.mkdir(parents=True, exist_ok=True)
        for name in files:
            (here / name).symlink_to(Path(folder, name))


def _put(path: Path, text: str) -> None:
    """Write a file in place of the link."""
    path.unlink(missing_ok=True)
    path.write_text(text, encoding="utf-8")


def make_site(mutant: Mutant, site: Path, folder: Path) -> Path:
    """A package of ours with the fault, in `folder`.  Raises CannotBuild."""
    text = mutant.mutate(tree.TOP)
    target = folder / "site"
    _links(site, target)
    if mutant.file.endswith((".c", ".cpp")):
        for library in _compile(mutant, text, site.parent / "meson", folder):
            there = list(target.rglob(library.name))
            if len(there) != 1:
                raise CannotBuild(f"{library.name} is in {site} {len(there)} times")
            there[0].unlink()
            shutil.copy(library, there[0])
    else:
        top, _, rest = mutant.file.partition("/")
        inside = Path("asyncio_guest") / ("backends/" + rest if top == "backends" else rest.partition("/")[2])
        if not (target / inside).exists():
            raise CannotBuild(f"{mutant.file} is not in {site} as {inside}")
        _put(target / inside, text)
    return target


def make_tree(mutant: Mutant, folder: Path) -> Path:
    """A tree of ours whose harness has the fault, in `folder`.  Raises CannotBuild."""
    text = mutant.mutate(tree.TOP)
    target = folder / "tree"
    for name in ("harness", "scenarios"):
        shutil.copytree(tree.TOP / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("guest", "backends", "ci", "build"):
        if (tree.TOP / name).exists():
            (target / name).symlink_to(tree.TOP / name)
    _put(target / mutant.file, text)
    return target


def _compile(mutant: Mutant, text: str, build: Path, folder: Path) -> list[Path]:
    """The libraries that contain the changed file, made by the build's own commands."""
    try:
        units = json.loads((build / "compile_commands.json").read_text())
    except (OSError, ValueError) as error:
        raise CannotBuild(f"the build has no commands to repeat: {error}") from error
    source = (tree.TOP / mutant.file).resolve()
    changed = folder / source.name
    changed.write_text(text, encoding="utf-8")
    made = []
    for unit in units:
        output = unit["output"]
        if (build / unit["file"]).resolve() != source or ".so.p/" not in output:
            continue
        compile = shlex.split(unit["command"])
        object = folder / Path(output).name
        library = output.partition(".p/")[0]
        link = _commands(build, library)[-1]
        if output not in link:
            raise CannotBuild(f"the command that links {library} does not name {output}")
        for flag in ("-MF", "-MQ"):
            if flag in compile:
                del compile[compile.index(flag) : compile.index(flag) + 2]
        compile = [word for word in compile if word not in ("-MD", "-Werror")]
        compile[compile.index("-o") + 1] = str(object)
        compile[compile.index("-c") + 1] = str(changed)
        compile[1:1] = ["-iquote", str(source.parent), "-w"]
        target = folder / Path(library).name
        link = [str(object) if word == output else str(target) if word == library else word for word in link]
        for command in (compile, link):
            done = subprocess.run(command, cwd=build, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            if done.returncode:
                raise CannotBuild(f"does not compile: {done.stderr[-2000:]}")
        made.append(target)
    if not made:
        raise CannotBuild(f"no library of the build contains {mutant.file}; its toolkit may be missing (make setup)")
    return made


def _commands(build: Path, target: str) -> list[list[str]]:
    done = subprocess.run(
        ["ninja", "-C", str(build), "-t", "commands", target], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise CannotBuild(f"ninja does not know {target}: {done.stderr or done.stdout}")
    lines = [line for line in done.stdout.splitlines() if line and not line.startswith("ninja:")]
    return [shlex.split(line) for line in lines]
