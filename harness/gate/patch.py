"""Patches: read as people have them, sorted by what they touch, applied to a copy of the tree."""

from __future__ import annotations

import dataclasses
import email
import email.header
import re
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ..tree import UsageError

JUDGED, WINDOWS, TESTS, IGNORED, NATIVE, LIB = "judged", "windows", "tests", "ignored", "native", "lib"
REASONS = {
    JUDGED: "judged",
    WINDOWS: "applied, but not judged: runs on Windows only",
    TESTS: "goes to head's tests",
    IGNORED: "ignored",
    NATIVE: "not judged: takes an interpreter built from the patch",
    LIB: "not judged and not applied: a part of Lib beside asyncio",
}
"""What happens to a file of each kind."""
APPLIED = frozenset({JUDGED, WINDOWS, TESTS})
UNTRIED = frozenset({NATIVE, LIB})
"""Kinds without which head is not the whole patch."""

ASYNCIO = "Lib/asyncio/"
TEST_ASYNCIO = "Lib/test/test_asyncio/"
_IGNORED_TOPS = frozenset({"Doc", "Misc", ".github", "InternalDocs", "Tools", "README.rst", "LICENSE", ".gitignore"})
_NATIVE_TOPS = frozenset(
    "Modules Python Include Objects Parser Grammar PC PCbuild Programs Mac Android iOS Apple Platforms "
    "configure configure.ac Makefile.pre.in pyconfig.h.in aclocal.m4 config.guess config.sub install-sh".split()
)
_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_COMMIT = re.compile(rb"^From [0-9a-f]{7,64} \S.*$", re.M)
_PLAIN_NAME = re.compile(r"[\w.+\-/]+")
_KEPT = (
    "new file mode ",
    "deleted file mode ",
    "rename from ",
    "rename to ",
    "copy from ",
    "copy to ",
    "similarity index ",
    "old mode ",
    "new mode ",
)
_DEV_NULL = "/dev/null"


@dataclasses.dataclass
class Change:
    """What one commit of the patch does to one file."""

    commit: int
    """1 for the first."""
    path: str
    """In CPython's tree: ``Lib/asyncio/tasks.py``."""
    kind: str
    file: Any
    """``unidiff.PatchedFile``."""
    headers: tuple[str, ...]
    """git's own lines of the file: new, deleted, renamed."""
    source: str | None = None
    """The old path when the file is renamed or copied."""

    @property
    def reason(self) -> str:
        return REASONS[self.kind]


@dataclasses.dataclass
class Patch:
    """A patch that could be read."""

    name: str
    titles: list[str]
    """Subjects of the commits, empty for a bare diff."""
    changes: list[Change]

    def of(self, *kinds: str) -> list[Change]:
        """The changes of these kinds, or all."""
        return [change for change in self.changes if not kinds or change.kind in kinds]

    def paths(self, *kinds: str) -> list[str]:
        """The files of these kinds, or all."""
        return list(dict.fromkeys(change.path for change in self.of(*kinds)))

    @property
    def commits(self) -> int:
        return max(change.commit for change in self.changes)


class DoesNotApply(UsageError):
    """A patch and a tree that do not fit; the message says file, hunk and line."""


def place(name: str, known: Collection[str] = ()) -> str | None:
    """The path in CPython's tree of a name in a diff, however many folders are in front (``-p``), or None.

    `known` are the names of the files of asyncio, for a diff made inside that folder.
    """
    parts = PurePosixPath(name).parts
    if ".." in parts:
        raise UsageError(f"the patch names {name!r}; a path may not go upwards")
    if "Lib" in parts:
        at = len(parts) - 1 - parts[::-1].index("Lib")
        return "/".join(parts[at:])
    for at, part in enumerate(parts):
        if re.fullmatch(r"python3\.\d+t?", part) and at + 1 < len(parts):  # a diff of an installed library
            return "/".join(("Lib", *parts[at + 1 :]))
    for at, part in enumerate(parts):
        if part in _IGNORED_TOPS or part in _NATIVE_TOPS:
            return "/".join(parts[at:])
    for folder in ("test_asyncio", "asyncio"):
        if folder in parts[:-1]:
            at = len(parts) - 1 - parts[::-1].index(folder)
            return (TEST_ASYNCIO if folder == "test_asyncio" else ASYNCIO) + "/".join(parts[at + 1 :])
    if parts and parts[-1] in known and len(parts) <= 2:
        return ASYNCIO + parts[-1]
    return None


def kind_of(path: str) -> str:
    """What the gate does with a file of CPython's tree."""
    top = path.partition("/")[0]
    if path.startswith(ASYNCIO):
        if not path.endswith(".py"):
            return IGNORED
        return WINDOWS if PurePosixPath(path).name.startswith("windows_") else JUDGED
    if path.startswith(TEST_ASYNCIO):
        return TESTS
    if path.startswith("Lib/test/") and not path.startswith("Lib/test/support/"):
        return IGNORED  # tests of something else
    if top == "Lib":
        return LIB
    if top in _IGNORED_TOPS or path.endswith((".rst", ".md", ".txt")):
        return IGNORED
    return NATIVE


def _messages(data: bytes) -> list[tuple[str, str]]:
    """The commits of a patch in mail format as (subject, text); one without a subject for a bare diff."""
    starts = [match.start() for match in _COMMIT.finditer(data)]
    if not starts and not re.match(rb"(?:[\w-]+: .*\r?\n(?:[ \t].*\r?\n)*)*Subject: ", data):
        return [("", data.decode("utf-8", "surrogateescape"))]
    if not starts:
        starts = [0]
    found = []
    for begin, end in zip(starts, [*starts[1:], len(data)]):
        message = email.message_from_bytes(data[begin:end])
        if message.is_multipart():
            raise UsageError("a mail with attachments; give the attached patch itself")
        subject = str(email.header.make_header(email.header.decode_header(message.get("Subject", ""))))
        body = message.get_payload(decode=True)
        text = body.decode("utf-8", "surrogateescape") if isinstance(body, bytes) else str(body)
        found.append((" ".join(subject.split()), text))
    return found


@dataclasses.dataclass
class _Section:
    """The lines of one file in a diff."""

    lines: list[str] = dataclasses.field(default_factory=list)
    headers: list[str] = dataclasses.field(default_factory=list)
    binary: bool = False


class _Scanner:
    """Takes the diff out of the prose around it, and finds what is malformed, by its line.

    unidiff passes over what it does not understand (a broken hunk header is prose to it); here that is an error.
    """

    def __init__(self, text: str, where: str) -> None:
        self.lines = text.split("\n")
        if all(
            line.endswith("\r") for line in self.lines[:-1]
        ):  # came by way of Windows; CPython's own lines end with LF
            self.lines = [line.removesuffix("\r") for line in self.lines]
        if self.lines and not self.lines[-1]:
            self.lines.pop()
        self.where = where
        self.sections: list[_Section] = []
        self._at = 0

    def fail(self, at: int, what: str) -> UsageError:
        return UsageError(
            f"{self.where}, line {at + 1}: {what}: {self.lines[at][:80]!r}"
            if at < len(self.lines)
            else f"{self.where}, at its end: {what}"
        )

    def scan(self) -> list[_Section]:
        section: _Section | None = None
        named = False  # the section has its --- and +++
        while self._at < len(self.lines):
            at, line = self._at, self.lines[self._at]
            self._at += 1
            if line.startswith("@@@") or line.startswith(("diff --cc ", "diff --combined ")):
                raise self.fail(at, "the combined diff of a merge; give the diff against one parent")
            if line.startswith("diff --git "):
                section, named = _Section([line]), False
                self.sections.append(section)
            elif line.startswith("--- ") and self._next().startswith("+++ "):
                if section is None or named:
                    section = _Section()
                    self.sections.append(section)
                section.lines += [line, self.lines[self._at]]
                self._at += 1
                named = True
            elif section is not None and line.startswith(("Binary files ", "GIT binary patch")):
                section.binary = True
            elif section is not None and not named and line.startswith(_KEPT):
                section.headers.append(line)
                section.lines += [line] if line.startswith(("new file", "deleted file")) else []
            elif line.startswith("@@"):
                if not _HUNK.match(line):
                    raise self.fail(at, "a hunk header that cannot be read")
                if section is None or not named:
                    raise self.fail(at, "a hunk that belongs to no file (no --- and +++ lines above it)")
                self._hunk(at, section)
            elif line.startswith("***************") and self._next().startswith("*** "):
                raise self.fail(at, "a context diff; make it with diff -u")
        return self.sections

    def _next(self) -> str:
        return self.lines[self._at] if self._at < len(self.lines) else ""

    def _hunk(self, begin: int, section: _Section) -> None:
        header = _HUNK.match(self.lines[begin])
        assert header is not None
        old, new = (int(header[n]) if header[n] is not None else 1 for n in (2, 4))
        if old == new == 0:
            raise self.fail(begin, "a hunk without lines")
        section.lines.append(self.lines[begin])
        while old > 0 or new > 0:
            if self._at >= len(self.lines):
                raise self.fail(self._at, f"cut off: the hunk of line {begin + 1} lacks {max(old, new)} line(s)")
            line = self.lines[self._at]
            mark = line[:1]
            if mark not in ("", " ", "+", "-", "\\"):
                raise self.fail(
                    self._at, f"not a line of a hunk, but the one of line {begin + 1} lacks {max(old, new)}"
                )
            old -= mark in ("", " ", "-")
            new -= mark in ("", " ", "+")
            if old < 0 or new < 0:
                raise self.fail(self._at, f"the hunk of line {begin + 1} has other lines than its header says")
            section.lines.append(line if mark else " ")
            self._at += 1
        if self._next().startswith("\\"):
            section.lines.append(self._next())
            self._at += 1
        following = self._next()
        header_follows = (
            following.startswith("--- ")
            and self._at + 1 < len(self.lines)
            and self.lines[self._at + 1].startswith("+++ ")
        )
        if following[:1] in ("+", "-", " ") and following.strip() and not header_follows and following.rstrip() != "--":
            raise self.fail(self._at, f"the hunk of line {begin + 1} goes on behind the lines that its header counts")


def read(path: Path, known: Collection[str] = ()) -> Patch:
    """Read a patch: a diff (``git diff``, ``diff -u``, ``diff -ru``) or commits in mail format.  Raises UsageError.

    `known`: the names of the files of asyncio, as for `place`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the patch: {error}") from error
    return parse(data, path.name, known)


def parse(data: bytes, name: str = "the patch", known: Collection[str] = ()) -> Patch:
    """As `read`, from bytes."""
    try:
        import unidiff  # type: ignore[import]
    except ImportError as error:
        raise UsageError("the gate needs unidiff: apt-get install python3-unidiff, or pip install unidiff") from error
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
    if b"\0" in data:
        raise UsageError(f"{name} is no text (it holds null bytes); give a diff, not compressed, in UTF-8")
    changes: list[Change] = []
    titles = []
    messages = _messages(data)
    for number, (subject, text) in enumerate(messages, 1):
        where = name if len(messages) == 1 else f"{name}, commit {number} of {len(messages)} ({subject[:60]})"
        if subject:
            titles.append(subject)
        for section in _Scanner(text, where).scan():
            try:
                files = unidiff.PatchSet("\n".join(section.lines) + "\n")
            except unidiff.UnidiffParseError as error:
                raise UsageError(f"{where}: {error}") from error
            for file in files:
                changes.append(_change(number, file, section, where, known))
    if not changes:
        raise UsageError(f"{name} holds no diff (no --- and +++ lines, no diff --git)")
    if not any(change.file or change.headers for change in changes):
        raise UsageError(f"{name} names files but changes nothing in them")
    return Patch(name, titles, changes)


def _change(number: int, file: Any, section: _Section, where: str, known: Collection[str]) -> Change:
    names = [n for n in (file.target_file, file.source_file) if n and n != _DEV_NULL]
    path = next((p for p in (place(n, known) for n in names) if p is not None), None)
    if path is None:
        raise UsageError(
            f"{where}: {names[0] if names else _DEV_NULL} is no file of CPython's tree that the gate knows; paths "
            "are as in CPython's repository (Lib/asyncio/tasks.py, with anything in front)"
        )
    if not _PLAIN_NAME.fullmatch(path):
        raise UsageError(f"{where}: {path!r} is no name of a file in CPython's tree")
    kind = kind_of(path)
    source = None
    moved = {
        h.partition(" ")[0] + h.split(" ")[1]: h.split(" ", 2)[2]
        for h in section.headers
        if h.startswith(("rename ", "copy "))
    }
    if moved:
        source = place(moved.get("renamefrom") or moved.get("copyfrom") or "", known)
        if source is not None and kind not in APPLIED and kind_of(source) in APPLIED:
            raise UsageError(f"{where}: {source} is moved out of asyncio, to {path}; the gate cannot judge that")
        if source is None or (kind in APPLIED and kind_of(source) not in APPLIED):
            raise UsageError(f"{where}: {path} is moved here from {source}; the gate cannot judge that")
    if kind in APPLIED:
        if section.binary:
            raise UsageError(f"{where}: a binary change of {path}; the gate reads text only")
        if any(h.endswith("mode 120000") for h in section.headers):
            raise UsageError(f"{where}: {path} is a symbolic link; the gate does not follow any")
    return Change(number, path, kind, file, tuple(section.headers), source)


def text_of(change: Change, there: bool) -> str:
    """The change as a diff with CPython's paths; `there`: the file exists in the tree before."""
    old, new = change.source or change.path, change.path
    lines = [f"diff --git a/{old} b/{new}"]
    git_new = any(h.startswith("new file") for h in change.headers)
    added = git_new or change.file.source_file == _DEV_NULL or (change.file.is_added_file and not there)
    removed = change.file.target_file == _DEV_NULL
    if added and not git_new:
        lines.append("new file mode 100644")
    if removed and not any(h.startswith("deleted file") for h in change.headers):
        lines.append("deleted file mode 100644")
    for header in change.headers:
        words = header.split(" ")
        if words[0] in ("rename", "copy"):
            lines.append(f"{words[0]} {words[1]} {old if words[1] == 'from' else new}")
        elif words[0] not in ("old", "new") or words[1] == "file":  # not the mode bits, which a copy need not have
            lines.append(header)
    if change.file:
        lines += [f"--- {_DEV_NULL if added else 'a/' + old}", f"+++ {_DEV_NULL if removed else 'b/' + new}"]
    text = "\n".join(lines) + "\n"
    for hunk in change.file:
        text += f"@@ -{hunk.source_start},{hunk.source_length} +{hunk.target_start},{hunk.target_length} @@\n"
        text += "".join(line.line_type + line.value for line in hunk)
    return text


def apply(patch: Patch, tree: Path) -> list[Change]:
    """Apply the parts that the gate tries to `tree` (which holds ``Lib/asyncio`` and ``Lib/test/test_asyncio``),
    commit by commit; returns what was applied.  Raises DoesNotApply."""
    done: list[Change] = []
    for commit in range(1, patch.commits + 1):
        changes = [c for c in patch.changes if c.commit == commit and c.kind in APPLIED and (c.file or c.headers)]
        changes = [
            c
            for c in changes
            if c.file or any(h.startswith(("rename", "copy", "new file", "deleted")) for h in c.headers)
        ]
        # One by one and in order: a diff may hold a file twice.
        for change in changes:
            text = text_of(change, (tree / change.path).is_file())
            failed = _git_apply(tree, text)
            if failed is not None:
                raise DoesNotApply(
                    _where(patch, change, failed, _git_apply(tree, text, "--reverse", "--check") is None)
                )
            done.append(change)
    return done


def _git_apply(tree: Path, text: str, *options: str) -> str | None:
    """What git says against the diff, or None when it applied.  Context must agree, only its place may differ."""
    # The tree may lie below a repository, whose root git would take for the paths' beginning.
    env = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LC_ALL": "C",
        "GIT_CEILING_DIRECTORIES": str(tree.resolve().parent),
        "GIT_CONFIG_NOSYSTEM": "1",
        "HOME": "/nonexistent",
    }
    try:
        done = subprocess.run(
            ["git", "apply", "-p1", "--whitespace=nowarn", *options, "-"],
            cwd=tree,
            env=env,
            input=text.encode("utf-8", "surrogateescape"),
            capture_output=True,
            timeout=60,
        )
    except FileNotFoundError as error:
        raise UsageError("the gate applies patches with git: apt-get install git") from error
    return None if done.returncode == 0 else done.stderr.decode(errors="replace").strip()


def _where(patch: Patch, change: Change, said: str, reversed_fits: bool) -> str:
    """A sentence that says where a change does not apply."""
    of = f"commit {change.commit} of {patch.commits}, " if patch.commits > 1 else ""
    hint = "; it seems to be there already" if reversed_fits else ""
    found = re.search(r"patch failed: .*?:(\d+)$", said, re.M)
    if found is None:
        what = said.splitlines()[-1].removeprefix("error: ") if said else "git apply failed"
        return f"the patch does not apply: {of}{change.path}: {what}{hint}"
    line = int(found[1])
    starts = [hunk.source_start for hunk in change.file]
    number = starts.index(line) + 1 if line in starts else 1
    hunk = change.file[number - 1]
    title = hunk.section_header.strip()
    return (
        f"the patch does not apply: {of}{change.path}, hunk {number} of {len(starts)}, line {line}"
        f"{' (' + title + ')' if title else ''}: the lines that it is to change are not there{hint}"
    )


def title(change: Change, hunk: Any) -> str:
    """A hunk for people: ``Lib/asyncio/tasks.py @@ -10,7 +10,8 @@``."""
    return f"{change.path} @@ -{hunk.source_start},{hunk.source_length} +{hunk.target_start},{hunk.target_length} @@"


def summary(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """The files of a patch for the results."""
    found: dict[str, dict[str, Any]] = {}
    for change in changes:
        one = found.setdefault(
            change.path,
            {"path": change.path, "kind": change.kind, "why": change.reason, "hunks": 0, "added": 0, "removed": 0},
        )
        one["hunks"] += len(change.file)
        one["added"] += change.file.added
        one["removed"] += change.file.removed
    return list(found.values())
