"""The gate: patches as people have them, malformed ones, and the verdicts.

The three example patches run in part here (the cases that decide, and the proof); ``make gate-examples`` runs them in
full.
"""

from __future__ import annotations

import argparse
import copy
import difflib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import pytest

from harness import results, suite, tree
from harness.gate import overlay, patch, proof, proof_cell, stages, verb, verdict
from harness.gate.patch import DoesNotApply, kind_of, parse, place
from harness.session import Session
from harness.suite import Test
from harness.tests.conftest import command, environment, make
from harness.tree import UsageError
from harness.verdicts import Cell

EXAMPLES = tree.root() / "ci" / "examples"
BEFORE = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\nten\n"
HUNK = "@@ -2,3 +2,3 @@\n two\n-three\n+THREE\n four\n"
FIXTURE = b"def f():\n    return 1\n\n\ndef g():\n    # nothing\n    a = 1\n    b = 2\n    return a + b\n"


def diff(name: str = "Lib/asyncio/tasks.py", hunk: str = HUNK, a: str = "a/", b: str = "b/") -> str:
    return f"--- {a}{name}\n+++ {b}{name}\n{hunk}"


def source(folder: Path, **files: str) -> Path:
    """A tree as the gate copies it: Lib/asyncio with some files."""
    (folder / "Lib" / "asyncio").mkdir(parents=True)
    (folder / "Lib" / "test" / "test_asyncio").mkdir(parents=True)
    for name, text in files.items():
        (folder / "Lib" / "asyncio" / f"{name}.py").write_text(text)
    return folder


# -- where a file is


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("a/Lib/asyncio/tasks.py", "Lib/asyncio/tasks.py"),
        ("Lib/asyncio/tasks.py", "Lib/asyncio/tasks.py"),
        ("cpython-3.13/Lib/asyncio/tasks.py", "Lib/asyncio/tasks.py"),
        ("/home/somebody/src/cpython.orig/Lib/asyncio/tasks.py", "Lib/asyncio/tasks.py"),
        ("/usr/lib/python3.11/asyncio/tasks.py", "Lib/asyncio/tasks.py"),
        ("new/python3.13t/asyncio/tasks.py", "Lib/asyncio/tasks.py"),
        ("asyncio.orig/../tasks.py", UsageError),
        ("asyncio/tasks.py", "Lib/asyncio/tasks.py"),
        ("./tasks.py", "Lib/asyncio/tasks.py"),
        ("tasks.py", "Lib/asyncio/tasks.py"),
        ("b/test_asyncio/test_tasks.py", "Lib/test/test_asyncio/test_tasks.py"),
        ("a/Lib/test/test_asyncio/test_tasks.py", "Lib/test/test_asyncio/test_tasks.py"),
        ("a/Doc/library/asyncio-task.rst", "Doc/library/asyncio-task.rst"),
        ("a/Misc/NEWS.d/next/Library/x.rst", "Misc/NEWS.d/next/Library/x.rst"),
        ("a/Modules/_asynciomodule.c", "Modules/_asynciomodule.c"),
        ("a/setup.py", None),
        ("unknown.py", None),
    ],
)
def test_paths_with_any_number_of_folders_in_front(name: str, there: Any) -> None:
    if there is UsageError:
        with pytest.raises(UsageError, match="upwards"):
            place(name, {"tasks.py"})
    else:
        assert place(name, {"tasks.py"}) == there


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("Lib/asyncio/tasks.py", patch.JUDGED),
        ("Lib/asyncio/sub/new.py", patch.JUDGED),
        ("Lib/asyncio/windows_events.py", patch.WINDOWS),
        ("Lib/asyncio/notes.txt", patch.IGNORED),
        ("Lib/test/test_asyncio/test_tasks.py", patch.TESTS),
        ("Lib/test/test_ssl.py", patch.IGNORED),
        ("Lib/test/support/__init__.py", patch.LIB),
        ("Lib/selectors.py", patch.LIB),
        ("Doc/library/asyncio-task.rst", patch.IGNORED),
        ("Misc/NEWS.d/next/x.rst", patch.IGNORED),
        ("Modules/_asynciomodule.c", patch.NATIVE),
        ("Include/internal/pycore_tstate.h", patch.NATIVE),
        ("configure", patch.NATIVE),
    ],
)
def test_what_is_judged(path: str, kind: str) -> None:
    assert kind_of(path) == kind


# -- what people send


def test_a_diff_of_git() -> None:
    found = parse(b"diff --git a/Lib/asyncio/tasks.py b/Lib/asyncio/tasks.py\nindex 1..2 100644\n" + diff().encode())
    (change,) = found.changes
    assert (change.path, change.kind, found.titles, found.commits) == ("Lib/asyncio/tasks.py", "judged", [], 1)
    assert patch.title(change, change.file[0]) == "Lib/asyncio/tasks.py @@ -2,3 +2,3 @@"


def test_a_diff_with_time_stamps_of_an_original_beside() -> None:
    text = "--- tasks.py.orig\t2026-01-01 10:00:00.000 +0100\n+++ tasks.py\t2026-01-01 11:00:00.000 +0100\n" + HUNK
    assert parse(text.encode(), known={"tasks.py"}).paths() == ["Lib/asyncio/tasks.py"]


def test_lines_that_lost_their_trailing_blank() -> None:
    text = diff(hunk="@@ -1,3 +1,3 @@\n a\n\n-b\n+c\n")
    (change,) = parse(text.encode()).changes
    assert patch.text_of(change, True).endswith(" a\n \n-b\n+c\n")


def test_lines_that_look_like_headers_inside_a_hunk(tmp_path: Path) -> None:
    before = "x\n-- a/Lib/asyncio/queues.py\n@@ -1 +1 @@\ny\n"
    text = diff(
        hunk="@@ -1,4 +1,4 @@\n x\n--- a/Lib/asyncio/queues.py\n+++ b/Lib/asyncio/queues.py\n @@ -1 +1 @@\n y\n"
    )
    top = source(tmp_path, tasks=before)
    patch.apply(parse(text.encode()), top)
    assert (top / "Lib/asyncio/tasks.py").read_text() == before.replace("-- a/", "++ b/")


MAIL = """\
From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001
From: Somebody <somebody@example.org>
Date: Thu, 1 Jan 2026 00:00:00 +0000
Subject: [PATCH 1/2] gh-1: Write three in capitals, and this subject is so
 long that it is folded

A list follows:

- not a removed line
--- nor is this a header
---
 Lib/asyncio/tasks.py | 2 +-
 1 file changed, 1 insertion(+), 1 deletion(-)

diff --git a/Lib/asyncio/tasks.py b/Lib/asyncio/tasks.py
index 1111111..2222222 100644
--- a/Lib/asyncio/tasks.py
+++ b/Lib/asyncio/tasks.py
@@ -2,3 +2,3 @@ def one():
 two
-three
+THREE
 four
-- 
2.39.5

From 1123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001
From: Somebody <somebody@example.org>
Date: Thu, 1 Jan 2026 00:00:01 +0000
Subject: [PATCH 2/2] =?UTF-8?q?Caf=C3=A9?=
MIME-Version: 1.0
Content-Type: text/plain; charset=UTF-8
Content-Transfer-Encoding: quoted-printable

---
diff --git a/Lib/asyncio/tasks.py b/Lib/asyncio/tasks.py
--- a/Lib/asyncio/tasks.py
+++ b/Lib/asyncio/tasks.py
@@ -2,3 +2,3 @@
 two
-THREE
+THREE =3D 3 =C3=A9
 four
diff --git a/Misc/NEWS.d/next/x.rst b/Misc/NEWS.d/next/x.rst
new file mode 100644
index 0000000..e69de29
--=20
2.39.5

"""


def test_a_pull_request_of_two_commits_one_on_the_other(tmp_path: Path) -> None:
    found = parse(MAIL.encode())
    assert found.titles[0].endswith("so long that it is folded") and found.titles[1] == "[PATCH 2/2] Café"
    assert found.commits == 2 and found.paths() == ["Lib/asyncio/tasks.py", "Misc/NEWS.d/next/x.rst"]
    top = source(tmp_path, tasks=BEFORE)
    assert len(patch.apply(found, top)) == 2
    assert (top / "Lib/asyncio/tasks.py").read_text() == BEFORE.replace("three", "THREE = 3 é")


def test_a_patch_that_came_by_way_of_windows(tmp_path: Path) -> None:
    top = source(tmp_path, tasks=BEFORE)
    patch.apply(parse(b"\xef\xbb\xbf" + diff().replace("\n", "\r\n").encode()), top)
    assert (top / "Lib/asyncio/tasks.py").read_text() == BEFORE.replace("three", "THREE")


def test_bytes_that_are_no_utf8_go_through(tmp_path: Path) -> None:
    top = source(tmp_path)
    (top / "Lib/asyncio/tasks.py").write_bytes(BEFORE.encode().replace(b"four", b"f\xffr"))
    patch.apply(parse(diff().encode().replace(b"four", b"f\xffr")), top)
    assert b"THREE\nf\xffr" in (top / "Lib/asyncio/tasks.py").read_bytes()


def test_files_that_come_go_and_move(tmp_path: Path) -> None:
    top = source(tmp_path, tasks=BEFORE, queues="q\n", locks="l\n")
    text = (
        "diff --git a/Lib/asyncio/new.py b/Lib/asyncio/new.py\nnew file mode 100644\n"
        "--- /dev/null\n+++ b/Lib/asyncio/new.py\n"
        "@@ -0,0 +1,2 @@\n+n\n+e\n\\ No newline at end of file\n"
        "--- /dev/null\n+++ b/Lib/asyncio/other.py\n@@ -0,0 +1 @@\n+o\n"
        "--- a/Lib/asyncio/fresh.py\t1970-01-01\n+++ b/Lib/asyncio/fresh.py\t2026-01-01\n@@ -0,0 +1 @@\n+f\n"
        "diff --git a/Lib/asyncio/queues.py b/Lib/asyncio/queues.py\ndeleted file mode 100644\n"
        "--- a/Lib/asyncio/queues.py\n"
        "+++ /dev/null\n@@ -1 +0,0 @@\n-q\n"
        "diff --git a/Lib/asyncio/locks.py b/Lib/asyncio/keys.py\nsimilarity index 100%\n"
        "rename from Lib/asyncio/locks.py\n"
        "rename to Lib/asyncio/keys.py\n\n"
        "diff --git a/Lib/asyncio/tasks.py b/Lib/asyncio/tasks.py\nold mode 100644\nnew mode 100755\n"
    )
    patch.apply(parse(text.encode()), top)
    folder = top / "Lib" / "asyncio"
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "new.py": "n\ne",
        "other.py": "o\n",
        "fresh.py": "f\n",
        "keys.py": "l\n",
        "tasks.py": BEFORE,
    }


def test_hunks_may_have_moved_but_their_lines_must_be_there(tmp_path: Path) -> None:
    top = source(tmp_path, tasks="zero\n" * 5 + BEFORE)
    patch.apply(parse(diff().encode()), top)
    assert "THREE" in (top / "Lib/asyncio/tasks.py").read_text()


# -- what does not apply


def test_the_place_where_a_patch_does_not_apply(tmp_path: Path) -> None:
    top = source(tmp_path, tasks=BEFORE)
    second = "@@ -7,3 +7,3 @@ def seven():\n seven\n-EIGHT\n+8\n nine\n"
    with pytest.raises(DoesNotApply, match=r"Lib/asyncio/tasks\.py, hunk 2 of 2, line 7 \(def seven\(\):\)"):
        patch.apply(parse(diff(hunk=HUNK + second).encode()), top)


def test_the_commit_that_does_not_apply(tmp_path: Path) -> None:
    with pytest.raises(DoesNotApply, match=r"commit 2 of 2, Lib/asyncio/tasks\.py, hunk 1 of 1, line 2"):
        patch.apply(parse(MAIL.replace("-THREE\n", "-ELSE\n").encode()), source(tmp_path, tasks=BEFORE))


def test_a_patch_that_is_there_already(tmp_path: Path) -> None:
    with pytest.raises(DoesNotApply, match="there already"):
        patch.apply(parse(diff().encode()), source(tmp_path, tasks=BEFORE.replace("three", "THREE")))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DoesNotApply, match=r"Lib/asyncio/gone\.py: .*No such file"):
        patch.apply(parse(diff("Lib/asyncio/gone.py").encode()), source(tmp_path, tasks=BEFORE))


# -- what is no patch


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "holds no diff"),
        (b"hello\n", "holds no diff"),
        (b"<!DOCTYPE html>\n<html><body>--- a/Lib/asyncio/tasks.py</body></html>\n", "holds no diff"),
        (b"\x1f\x8b\x08\0\0\0", "is no text"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is no text"),
        (b"Only in b/Lib/asyncio: new.py\n", "holds no diff"),
        (b"2d1\n< three\n", "holds no diff"),
        (b"*** a/tasks.py\n--- b/tasks.py\n***************\n*** 1,3 ****\n", "context diff"),
        (b"diff --cc Lib/asyncio/tasks.py\n", "combined diff"),
        (b"--- a/Lib/asyncio/tasks.py\n+++ b/Lib/asyncio/tasks.py\n@@@ -1 -1 +1 @@@\n", "combined diff"),
        (HUNK.encode(), "line 1: a hunk that belongs to no file"),
        (diff(hunk="@@ -2,3 +2,3\n two\n").encode(), "line 3: a hunk header that cannot be read"),
        (diff(hunk="@@ -2,a +2,3 @@\n two\n").encode(), "line 3: a hunk header"),
        (diff(hunk="@@ -0,0 +0,0 @@\n").encode(), "a hunk without lines"),
        (diff(hunk="@@ -2,3 +2,3 @@\n two\n-three\n").encode(), "at its end: cut off: the hunk of line 3 lacks 2"),
        (diff(hunk="@@ -2,3 +2,3 @@\n two\n>three\n").encode(), "line 5: not a line of a hunk"),
        (
            diff(hunk="@@ -2,3 +2,3 @@\n two\n-three\n+THREE\n four\n five\n").encode(),
            "line 8: the hunk of line 3 goes on",
        ),
        (
            diff(hunk="@@ -2,2 +2,3 @@\n two\n-three\n+THREE\n four\n").encode(),
            "line 7: the hunk of line 3 has other lines",
        ),
        (diff(hunk="").encode(), "changes nothing"),
        (diff("../../etc/passwd").encode(), "may not go upwards"),
        (diff("etc/passwd").encode(), "no file of CPython's tree"),
        (diff('Lib/asyncio/a"; rm -rf x.py').encode(), "no name of a file"),
        (
            b"diff --git a/Lib/asyncio/x.py b/Lib/asyncio/x.py\nnew file mode 120000\n"
            + b"--- /dev/null\n+++ b/Lib/asyncio/x.py\n@@ -0,0 +1 @@\n+/etc/passwd\n",
            "symbolic link",
        ),
        (
            b"diff --git a/Lib/asyncio/x.py b/Lib/asyncio/x.py\nindex 1..2 100644\n"
            b"GIT binary patch\nliteral 3\nKcmZ\n\n",
            "binary",
        ),
        (
            b"diff --git a/Lib/asyncio/x.py b/Lib/asyncio/x.py\n"
            b"Binary files a/Lib/asyncio/x.py and b/Lib/asyncio/x.py differ\n",
            "binary",
        ),
        (
            b"diff --git a/Lib/asyncio/a.py b/Lib/x.py\nrename from Lib/asyncio/a.py\nrename to Lib/x.py\n",
            "moved out of asyncio",
        ),
        (
            b"diff --git a/Lib/x.py b/Lib/asyncio/a.py\nrename from Lib/x.py\nrename to Lib/asyncio/a.py\n",
            "moved here from",
        ),
        (
            b"From: a@b\nSubject: x\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=q\n"
            b"\n--q\n\nhi\n--q--\n",
            "attachments",
        ),
    ],
)
def test_malformed_patches_are_refused_with_the_place(text: bytes, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse(text, "x.diff")


def test_every_cut_of_a_patch_is_read_or_refused() -> None:
    """No prefix of a good patch is a crash, or a hunk that is lost in silence."""
    data = MAIL.encode()
    for end in range(len(data)):
        try:
            found = parse(data[:end])
        except UsageError:
            continue
        assert all(change.file or change.headers for change in found.changes) or found.changes
        for change in found.changes:
            patch.text_of(change, True)


# -- base and head


def test_head_has_its_asyncio_in_every_process_and_what_is_installed_stays(tmp_path: Path) -> None:
    before = overlay.digest(overlay.asyncio_folder())
    lib, applied = overlay.prepare(tmp_path / "sources", parse((EXAMPLES / "neutral.diff").read_bytes()))
    head = overlay.make(tmp_path / "head", lib)
    assert len(applied) == 2 and overlay.check(head) is None
    assert overlay.digest(overlay.asyncio_folder()) == before != overlay.digest(head.asyncio)
    program = (
        "import asyncio, subprocess, sys; print(asyncio.__file__, flush=True); "
        "subprocess.run([sys.executable, '-E', '-S', '-c', 'import asyncio; print(asyncio.__file__)'])"
    )
    done = subprocess.run([head.python, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(head.asyncio / "__init__.py")] * 2


def places(before: bytes, after: bytes) -> dict[str, list[int]]:
    return {f.name: sorted(number for _, number in f.lines) for f in proof.functions(before, after, "x.py")}


def test_what_a_change_can_be_seen_by() -> None:
    changed = FIXTURE.replace(b"return 1", b"return 2").replace(b"    a = 1\n", b"")
    assert places(FIXTURE, changed) == {"f": [2], "g": [7]}
    assert places(FIXTURE, FIXTURE.replace(b"# nothing", b"# something")) == {}
    with pytest.raises(SyntaxError):
        places(FIXTURE, FIXTURE.replace(b"return 1", b"return ("))


SHAPES = b"""\
class A(object):
    y = 1

    @staticmethod
    def m(a=1,
          *, b=None):
        '''Documentation.'''
        if a:
            z = (
                1,
                2,
            )
        else:
            z = [one for one in (3,)]; w = lambda: 4
        return z, w
\x0c
    def one(self): return 5
"""


@pytest.mark.parametrize(
    ("old", "new", "seen"),
    [
        (b"y = 1", b"y = 2", {"A": [2]}),
        (b"    @staticmethod\n", b"    @classmethod\n", {"A": [4], "A.m": [8]}),
        (b"    @staticmethod\n", b"", {"A.m": [7]}),
        (b"a=1", b"a=2", {"A": [5], "A.m": [8]}),
        (b"*, b=None", b"*, c=None", {"A": [6], "A.m": [8]}),
        (b"Documentation", b"Else", {}),
        (b"  2,\n", b"  3,\n", {"A.m": [9]}),
        (b"else:\n            z", b"elif a is None:\n            z", {"A.m": [13]}),
        (b"lambda: 4", b"lambda: 5", {"A.m": [14], "A.m.<locals>.<lambda> of line 14": [14]}),
        (b"return 5", b"return 6", {"A": [17], "A.one": [17]}),
        (b"        return z, w\n", b"        # return z, w\n", {"A.m": [14]}),
        (b"class A", b"\x0cclass A", {"<module>": [1]}),
        (b"y = 1", b"y = '\xe9'", {"A": [2]}),
    ],
)
def test_a_function_that_is_only_defined_does_not_prove_its_change(old: bytes, new: bytes, seen: Any) -> None:
    """Its header and what is beside it in a line run at import, and so does a class's body."""
    assert SHAPES.count(old) == 1
    if b"\xe9" in new:
        cookie = b"# coding: latin-1\n"
        found = places(cookie + SHAPES, cookie + SHAPES.replace(old, new))
        seen = {name: [number + 1 for number in numbers] for name, numbers in seen.items()}
    else:
        found = places(SHAPES, SHAPES.replace(old, new))
    found = {name: numbers for name, numbers in found.items() if not name.endswith("<listcomp> of line 14")}
    assert found == seen


def test_what_is_traced_is_the_code_object_and_not_the_line(tmp_path: Path) -> None:
    before = b"def f():\n    return (lambda: 1), (lambda: 2)\n\ndef g(x=0): return x\n"
    after = before.replace(b"lambda: 2", b"lambda: 3").replace(b"x=0", b"x=1")
    name = str(tmp_path / "traced.py")
    functions = proof.functions(before, after, name)
    assert sorted(f.name for f in functions) == ["<module>", "f", *["f.<locals>.<lambda> of line 2"] * 2, "g"]
    changed = proof.File("Lib/asyncio/traced.py", "0", functions)
    ran = tmp_path / "ran"
    with open(ran, "wb", buffering=0) as file:
        tracer = proof_cell.Tracer({name: changed.lines}, file.fileno())
        space: dict[str, Any] = {}
        traced = sys.gettrace()
        sys.settrace(tracer)
        try:
            exec(compile(after, name, "exec"), space)
            space["f"]()[1]()
        finally:
            sys.settrace(traced)
    changed.ran = {(where, int(number)) for _, where, number in (x.split("\t") for x in ran.read_text().splitlines())}
    assert changed.unproven == ["f.<locals>.<lambda> of line 2", "g"]
    assert [where for where, _ in changed.ran if "lambda" in where] == ["f.<locals>.<lambda>:2:33"]


@pytest.mark.parametrize("text", [b"# \xe4\r\nx = 1\r\ny = 2\r\n", b"x = 1\n\x0cy = 2\n\x85z\n", b"x\n# \xe2\x80\xa8y\nz"])
def test_files_keep_their_bytes(text: bytes, tmp_path: Path) -> None:
    """Line ends, form feeds, other encodings, no end of the last line: head has what the patch makes, byte for byte."""
    top = source(tmp_path)
    (top / "Lib/asyncio/tasks.py").write_bytes(text)
    lines = [line.decode("utf-8", "surrogateescape") for line in text.split(b"\n")]
    body = "".join(f" {line}\n" for line in lines[:-1]) + "".join(
        f" {line}\n\\ No newline at end of file\n" for line in lines[-1:] if line
    )
    count = len(lines) - (not lines[-1])
    made = diff(hunk=f"@@ -1,{count} +1,{count + 1} @@\n+new\n{body}").encode("utf-8", "surrogateescape")
    patch.apply(parse(made), top)
    assert (top / "Lib/asyncio/tasks.py").read_bytes() == b"new\n" + text


# -- verdicts


@pytest.mark.parametrize(
    ("ours", "theirs", "is_worse"),
    [
        (make("PASS"), make("PASS"), False),
        (make("PASS"), make("FAIL"), True),
        (make("PASS"), make("WEAK", level="SHOULD"), True),
        (make("PASS"), make("TIMEOUT"), True),
        (make("PASS"), make("PASS", ["LEAK_FD"]), True),
        (make("PASS", ["LEAK_FD"]), make("PASS", ["LEAK_FD"]), False),
        (make("PASS"), make("UNSUPPORTED"), True),
        (make("WEAK"), make("PASS"), False),
        (make("PASS", level="INFO"), make("INFO", level="INFO"), False),
        (make("PASS", level="INFO"), make("CRASH", level="INFO"), True),
    ],
)
def test_worse(ours: Cell, theirs: Cell, is_worse: bool) -> None:
    assert stages.worse(ours, theirs) is is_worse


@pytest.mark.parametrize(
    ("base", "head", "kind"),
    [
        (Test("pass"), Test("pass"), None),
        (Test("pass"), Test("fail"), "outcome"),
        (Test("pass"), Test("TIMEOUT"), "hang"),
        (Test("pass"), Test("CRASH"), "crash"),
        (Test("pass"), None, "lost"),
        (None, Test("pass"), None),
        (None, Test("error"), "new-test"),
        (Test("TIMEOUT"), Test("TIMEOUT"), None),
        (Test("skip"), Test("pass"), None),
        (Test("skip"), Test("xfail"), None),
        (Test("xfail"), Test("pass"), None),
        (Test("skip"), Test("fail"), "outcome"),
        (Test("pass"), Test("skip"), "outcome"),
        (Test("pass"), Test("xfail"), "outcome"),
    ],
)
def test_differences_of_tests(base: Test | None, head: Test | None, kind: str | None) -> None:
    assert stages.Tests.differ(base, head) == kind


# -- what differs is run again


def weighed(alone: str, shaken: tuple[str, str] = ("", ""), grave: bool = False) -> str:
    """Where a difference belongs: `alone` is base and head in turn, ``.`` for right and ``x`` for odd."""
    again: stages.Again[str] = stages.Again(lambda end: end == "x", str)
    again.alone = list(zip(alone[::2], alone[1::2]))
    again.shaken_base, again.shaken_head = list(shaken[0]), list(shaken[1])
    return again.weigh(grave)


@pytest.mark.parametrize(
    ("alone", "shaken", "grave", "where"),
    [
        (".x.x.x", ("", ""), False, "findings"),
        (".x.x.x", ("", ""), True, "findings"),
        (".x.x..", ("........", "x......."), False, "flaky"),
        (".x.x..", ("xxxxxxxx", "xxxxxxxx"), False, "flaky"),  # with the machine so busy both fail; alone head does
        ("......", ("........", "x......."), False, "flaky"),
        ("......", ("x.......", "xxxxxxxx"), False, "flaky"),  # one odd run of base clears nothing
        ("......", ("xx......", "xxxxx..."), False, "flaky"),
        ("xx....", ("........", "x......."), False, "flaky"),
        ("......", ("xx......", "xxxx...."), False, "both"),
        ("xx..x.", ("........", "........"), False, "both"),
        ("......", ("........", "........"), False, "once"),
        ("......", ("x.......", "........"), False, "once"),
        ("......", ("........", "........"), True, "flaky"),
        ("......", ("xx......", "........"), True, "both"),
    ],
)
def test_whose_a_difference_is(alone: str, shaken: tuple[str, str], grave: bool, where: str) -> None:
    assert weighed(alone, shaken, grave) == where


class Side:
    """A session whose cells end as it is told: those of the first run, then those of the later ones in turn."""

    def __init__(self, *ends: Cell, probes: str = "") -> None:
        self.cases = {"T.01-x": argparse.Namespace(timeout=10.0)}
        self.limits: dict[str, float] = {}
        self.forgotten = 0
        self._ends = list(ends)
        self._probes = list(probes.split())
        self.probe("", again=True)

    def run_cell(self, name: str, id: str) -> Cell:
        return self._ends.pop(0) if len(self._ends) > 1 else self._ends[0]

    def forget_plain(self, id: str, only_bad: bool = False) -> None:
        self.forgotten += 1

    def probe(self, name: str, again: bool = False) -> dict[str, Any]:
        if again:
            self._probe = self._probes.pop(0) if self._probes else "ok"
        return {"status": self._probe, "message": f"it is {self._probe}"}

    def abort(self) -> None:
        raise AssertionError("aborted")


def compared(ours: Cell, theirs: Cell, control: Side, head: Side) -> tuple[stages.Outcome, Side]:
    base = Side(ours)
    sides = stages.Sides(*cast("Any", (base, head, control, None)))
    stage = stages.Cells("guest/poll+stock", sides, 2)
    return stage.compare({"T.01-x": ours}, {"T.01-x": theirs}, lambda text: None), base


GOOD, BAD, HANGS, LOST = make("PASS"), make("FAIL"), make("TIMEOUT"), make("NOTRUN", reason="no display")


@pytest.mark.parametrize(
    ("ours", "theirs", "control", "head", "where"),
    [
        (GOOD, GOOD, Side(BAD), Side(BAD), {"agree"}),
        (GOOD, BAD, Side(GOOD), Side(BAD), {"findings"}),
        (GOOD, HANGS, Side(GOOD), Side(HANGS), {"findings"}),
        (GOOD, BAD, Side(GOOD), Side(GOOD), {"once"}),
        (GOOD, HANGS, Side(GOOD), Side(GOOD), {"flaky"}),
        (GOOD, BAD, Side(BAD, GOOD), Side(BAD), {"flaky"}),  # one odd run of base
        (GOOD, BAD, Side(GOOD, BAD, GOOD, BAD, GOOD), Side(BAD, GOOD, BAD, GOOD), {"both"}),
        (BAD, BAD, Side(BAD), Side(BAD), {"red_base"}),
        (BAD, BAD, Side(GOOD), Side(BAD), {"findings"}),  # base was red once, head is each time
        (BAD, BAD, Side(BAD, GOOD), Side(GOOD), {"once"}),
        (BAD, BAD, Side(BAD, BAD, GOOD), Side(GOOD), {"agree"}),  # with another oracle
        (BAD, BAD, Side(BAD, BAD, GOOD), Side(BAD), {"findings"}),
        (BAD, GOOD, Side(BAD), Side(GOOD), {"better"}),
        (LOST, LOST, Side(LOST), Side(LOST), {"not_run"}),
        (LOST, LOST, Side(GOOD), Side(GOOD), {"agree"}),
        (LOST, LOST, Side(GOOD), Side(BAD), {"findings"}),
        (LOST, BAD, Side(LOST), Side(BAD), {"not_run"}),
        (GOOD, LOST, Side(GOOD), Side(LOST), {"findings"}),
        (make("UNSUPPORTED"), LOST, Side(GOOD), Side(LOST), {"not_run"}),
        (make("WEAK", level="SHOULD"), make("WEAK", level="SHOULD"), Side(GOOD), Side(make("WEAK")), {"findings"}),
        (make("WEAK", level="SHOULD"), make("WEAK", level="SHOULD"), Side(make("WEAK")), Side(GOOD), {"agree"}),
        (make("UNSUPPORTED"), make("UNSUPPORTED"), Side(GOOD), Side(GOOD), set()),
    ],
)
def test_cells_are_run_again_before_they_count(ours: Cell, theirs: Cell, control: Side, head: Side, where: Any) -> None:
    out, _ = compared(ours, theirs, copy.deepcopy(control), copy.deepcopy(head))
    found = {key for key, value in out.as_json().items() if value and key not in ("name", "status", "compared")}
    assert found == where
    assert out.compared == (0 if where in ({"not_run"}, set()) else 1)


def test_which_of_many_differences_are_run_again_is_no_chance() -> None:
    ids = [f"T.{number:02}-x" for number in range(2 * stages.AT_MOST)]
    base, head, control = Side(GOOD), Side(BAD), Side(GOOD)
    stage = stages.Cells("plain", stages.Sides(*cast("Any", (base, head, control, None))), 2)
    out = stage.compare(dict.fromkeys(ids, GOOD), dict.fromkeys(reversed(ids), BAD), lambda text: None)
    assert [one.what for one in out.findings] == ids[: stages.AT_MOST] and out.unrepeated == ids[stages.AT_MOST :]


def test_an_oracle_that_base_itself_never_meets_again_is_made_anew() -> None:
    control = Side(BAD, BAD, BAD, GOOD)
    out, base = compared(GOOD, BAD, control, Side(BAD))
    assert base.forgotten == 1 and [one.what for one in out.findings] == ["T.01-x"]


def test_what_hung_gets_the_same_shorter_time_on_both_sides_and_only_then() -> None:
    control, head = Side(GOOD), Side(HANGS)
    seen = []
    for side in (control, head):
        run = side.run_cell
        side.run_cell = lambda n, i, side=side, run=run: (seen.append(side.limits.get(i)), run(n, i))[1]  # type: ignore
    out, _ = compared(GOOD, HANGS, control, head)
    assert out.findings and len(seen) == 2 * stages.REPEATS and set(seen) == {stages.HANGS_S + 50 * GOOD.seconds}
    assert control.limits == head.limits == {}


@pytest.mark.parametrize(
    ("base", "control", "head", "status", "where"),
    [
        ("ok", "ok", "ok", "done", set()),
        ("missing missing", "ok", "ok", "missing", set()),
        ("error error", "ok", "missing", "notrun", set()),
        ("timeout ok", "ok", "ok", "done", set()),
        ("ok", "ok", "missing missing missing missing", "done", {"findings"}),
        ("ok", "ok", "error error error error", "done", {"findings"}),
        ("ok", "ok", "error ok ok ok", "done", {"once"}),
        ("ok", "ok", "timeout ok ok ok", "done", {"flaky"}),
        ("ok", "ok", "error ok error error", "notrun", {"flaky"}),
    ],
)
def test_a_contender_that_does_not_start(base: str, control: str, head: str, status: str, where: set[str]) -> None:
    """What breaks on base is no host that is missing, and what is missing on head only is head's doing."""
    sides = stages.Sides(*cast("Any", [Side(GOOD, probes=p) for p in (base, head, control)] + [None]))
    out = stages.probed("guest/tk+stock", sides, lambda text: None)
    assert out.status == status
    assert {key for key in ("findings", "flaky", "both", "once") if getattr(out, key)} == where


class Modules:
    """A suite's runner whose test ends as it is told, in turn."""

    def __init__(self, *ends: Test | None) -> None:
        self._ends = list(ends)

    def module(self, contender: Any, module: str, only: Any = None) -> dict[str, Test]:
        end = self._ends.pop(0) if len(self._ends) > 1 else self._ends[0]
        return {} if end is None else {f"{module}.A.test": end}


def stage_of(base: Any, head: Any) -> stages.Tests:
    stage = stages.Tests.__new__(stages.Tests)
    stage.base, stage.head, stage.plain, stage.jobs = base, head, cast("Any", None), 2
    setattr(stage, "abort", lambda: None)
    return stage


P, F = Test("pass"), Test("fail")


@pytest.mark.parametrize(
    ("ours", "theirs", "base", "head", "where"),
    [
        (P, F, Modules(P), Modules(F), {"findings"}),
        (P, F, Modules(F, P), Modules(F), {"flaky"}),
        (P, F, Modules(P), Modules(P), {"once"}),
        (P, Test("TIMEOUT"), Modules(P), Modules(P), {"flaky"}),
        (P, F, Modules(P, F, P, F, P), Modules(F, P, F, P), {"both"}),
        (F, F, Modules(F), Modules(F), {"red_base"}),
        (F, F, Modules(P), Modules(F), {"findings"}),
        (F, P, Modules(F), Modules(P), {"better"}),
        (Test("skip"), P, Modules(F), Modules(F), {"agree"}),
        (P, None, Modules(P), Modules(None), {"findings"}),
    ],
)
def test_tests_are_run_again_before_they_count(ours: Test, theirs: Test | None, base: Any, head: Any, where: Any) -> None:
    stage = stage_of(copy.deepcopy(base), copy.deepcopy(head))
    id = "test_x.A.test"
    out = stage.compare({id: ours}, {} if theirs is None else {id: theirs}, lambda text: None)
    assert {k for k, v in out.as_json().items() if v and k not in ("name", "status", "compared")} == where


def test_a_module_that_ends_outside_a_test_on_base_is_run_again_and_else_has_not_run() -> None:
    outside = {"test_x (outside a test, after 0 tests)": Test("CRASH", detail="status 3")}
    stage = stage_of(Modules(P), Modules(P))
    out = stage.compare(outside, {"test_x.A.test": P}, lambda text: None)
    assert (out.agree, out.not_run) == (1, [])
    ends = Modules(P)
    ends.module = lambda *_: outside  # type: ignore[assignment]
    out = stage_of(ends, Modules(P)).compare(outside, {"test_x.A.test": P}, lambda text: None)
    assert out.not_run == ["test_x (outside a test, after 0 tests) on base: CRASH (status 3)"]


def judged(text: str = diff(), **more: Any) -> verdict.Judged:
    changed = proof.File("Lib/asyncio/tasks.py", "0", [proof.Function("f", frozenset({("f:1:0", 3)}))], True, {("f:1:0", 3)})
    outcomes = more.pop("outcomes", [stages.Outcome("plain", compared=100, agree=100)])
    return verdict.Judged(parse(text.encode()), more.pop("proof", [changed]), outcomes, **more)


def finding(kind: str = "behaviour") -> stages.Finding:
    return stages.Finding(kind, "plain", "T.01-x", "plain", "PASS", "FAIL", "base has one, head two")


def outcome(**more: Any) -> list[stages.Outcome]:
    return [stages.Outcome("plain", compared=100, agree=99, **more)]


@pytest.mark.parametrize(
    ("case", "word", "code", "says"),
    [
        (judged(), "ACCEPT", 0, "nothing worse than base in 100"),
        (judged(outcomes=outcome(findings=[finding()])), "REJECT", 3, "T.01-x under plain"),
        (judged(outcomes=outcome(findings=[finding()]), selected="--quick"), "REJECT", 3, "T.01-x"),
        (judged(outcomes=outcome(flaky=[finding()])), "INCONCLUSIVE", 6, "neither each time nor as often on base"),
        (judged(outcomes=outcome(both=[finding()])), "ACCEPT", 0, "comes and goes on base too: T.01-x under plain"),
        (judged(outcomes=outcome(once=[finding()])), "ACCEPT", 0, "once and never again: T.01-x under plain"),
        (judged(outcomes=outcome(once=[finding()] * 3)), "INCONCLUSIVE", 6, "3 of 100 differed once"),
        (judged(outcomes=outcome(not_run=["T.02: no display"])), "INCONCLUSIVE", 6, "1 did not run: T.02: no display"),
        (
            judged(outcomes=[*outcome(), stages.Outcome("guest/tk+stock", "notrun", "its probe ends with error")]),
            "INCONCLUSIVE",
            6,
            "guest/tk+stock did not run: its probe ends with error",
        ),
        (judged(outcomes=outcome(doubtful=[finding("removed-test")])), "INCONCLUSIVE", 6, "T.01-x"),
        (judged(outcomes=outcome(red_base=["T.01"])), "ACCEPT", 0, "nothing worse"),
        (judged(outcomes=outcome(red_base=[f"T.{n}" for n in range(6)])), "INCONCLUSIVE", 6, "red on base already"),
        (judged(outcomes=outcome(unrepeated=["T.02"])), "INCONCLUSIVE", 6, "not run again"),
        (judged(selected="--quick"), "INCONCLUSIVE", 6, "a part cannot accept"),
        (judged(interrupted=True), "INCONCLUSIVE", 130, "interrupted"),
        (judged(nothing="only C"), "NOT_JUDGED", 5, "only C"),
        (judged(diff() + diff("Modules/_asynciomodule.c")), "INCONCLUSIVE", 6, "not tried: Modules/_asynciomodule.c"),
        (judged(diff() + diff("Lib/selectors.py")), "INCONCLUSIVE", 6, "not tried: Lib/selectors.py"),
        (judged(diff() + diff("Doc/library/asyncio.rst")), "ACCEPT", 0, "nothing worse"),
        (
            judged(proof=[proof.File("Lib/asyncio/tasks.py", "0", [], False)]),
            "INCONCLUSIVE",
            6,
            "no process was seen to load",
        ),
        (
            judged(proof=[proof.File("Lib/asyncio/tasks.py", "0", [proof.Function("f", frozenset({("f:1:0", 3)}))], True)]),
            "INCONCLUSIVE",
            6,
            "nothing ran the changed lines of f",
        ),
        (judged(missing={"guest/gtk3+stock": "no GTK"}), "ACCEPT", 0, "without guest/gtk3"),
        (judged(missing={"guest/poll+stock": "not built"}), "INCONCLUSIVE", 6, "guest/poll"),
    ],
)
def test_verdicts(case: verdict.Judged, word: str, code: int, says: str) -> None:
    found, reasons = case.verdict()
    assert (found, case.code()) == (word, code) and says in " ".join(reasons)


# -- the whole, in part


def gate(folder: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run the verb; the exit code, the results and what was printed."""
    done = subprocess.run(
        command("gate", "--results", str(folder), *arguments),
        env=environment(),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    path = folder / "gate.json"
    return done.returncode, results.read(path, "gate") if path.exists() else {}, done.stdout + done.stderr


@pytest.mark.timeout(900)
def test_example_that_swallows_poll_errors_is_rejected(tmp_path: Path) -> None:
    code, document, said = gate(
        tmp_path,
        "--timeout-scale=0.3",
        "--stages=plain",
        str(EXAMPLES / "swallowed-poll-error.diff"),
        "plain::E.05a-error-in-poll",
        "plain::E.05b-error-in-processing",
    )
    assert (code, document["verdict"]) == (3, "REJECT"), said
    (stage,) = document["stages"]
    (found,) = stage["findings"]
    assert found["what"] == "E.05a-error-in-poll" and found["hunks"] == [
        "Lib/asyncio/base_events.py @@ -1883,3 +1883,6 @@"
    ]
    assert "trace: head" in found["difference"] and len(found["repeated"]) == stages.REPEATS
    assert stage["agree"] == 1
    text = (tmp_path / "gate.md").read_text()
    assert text.startswith("# Gate: REJECT") and "E.05a-error-in-poll" in text


@pytest.mark.timeout(900)
def test_example_with_an_unbounded_ready_loop_is_rejected(tmp_path: Path) -> None:
    code, document, said = gate(
        tmp_path,
        "--timeout-scale=0.3",
        "--stages=plain",
        str(EXAMPLES / "unbounded-ready-loop.diff"),
        "plain::C.02a-next-iteration",
    )
    assert (code, document["verdict"]) == (3, "REJECT"), said
    assert [one["what"] for one in document["stages"][0]["findings"]] == ["C.02a-next-iteration"]


@pytest.mark.timeout(900)
def test_neutral_example_in_part_has_its_lines_run_and_finds_nothing(tmp_path: Path) -> None:
    code, document, said = gate(
        tmp_path, "--stages=proof,test_asyncio", "-m", "test_queues.*", str(EXAMPLES / "neutral.diff")
    )
    assert (code, document["verdict"]) == (6, "INCONCLUSIVE"), said
    assert document["reasons"] == [
        "only a part was run (--stages proof,test_asyncio, --match test_queues.*), and a part cannot accept"
    ]
    (stage,) = document["stages"]
    assert stage["agree"] == stage["compared"] > 10
    assert all(file["loaded"] and file["ran"] for file in document["proof"]["files"])
    assert document["patch"]["files"][-1]["kind"] == "ignored"


@pytest.mark.timeout(900)
def test_tests_that_a_patch_brings_takes_away_and_changes(tmp_path: Path) -> None:
    tests = overlay.tests_folder()
    assert tests is not None
    before, own = (tests / "test_queues.py").read_text(), (overlay.asyncio_folder() / "queues.py").read_text()
    gone = "    async def test_blocking_get(self):"
    changed = "        self.assertEqual(2, q.maxsize)\n"
    assert before.count(gone) == 1 and changed in before
    after = before.replace(gone, "    async def blocking_get(self):").replace(changed, changed.replace("2", "3"), 1)
    after = after.replace(
        "class QueueBasicTests",
        "class Brought(unittest.TestCase):\n    def test_it(self):\n"
        "        self.assertTrue(hasattr(asyncio.Queue, 'brought'))\n\n\nclass QueueBasicTests",
    )
    behaves = own.replace("        return self._maxsize\n", "        return self._maxsize + (self._maxsize == 2)\n")
    text = ""
    for name, old, new in (
        ("Lib/test/test_asyncio/test_queues.py", before, after),
        ("Lib/asyncio/queues.py", own, behaves),
    ):
        assert old != new
        text += "".join(difflib.unified_diff(old.splitlines(True), new.splitlines(True), f"a/{name}", f"b/{name}"))
    (tmp_path / "x.diff").write_text(text)
    code, document, said = gate(tmp_path, "--stages=test_asyncio", "-m", "test_queues.*", str(tmp_path / "x.diff"))
    (stage,) = document["stages"]
    assert (code, document["verdict"]) == (3, "REJECT"), said
    kinds = {one["what"]: one["kind"] for one in stage["findings"]}
    assert kinds == {"test_queues.Brought.test_it": "new-test"}
    doubtful = {one["what"]: one["kind"] for one in stage["doubtful"]}
    assert set(doubtful.values()) == {"removed-test", "changed-test"}
    assert any(what.endswith("test_blocking_get") for what in doubtful)


def test_a_patch_that_does_not_compile_is_rejected(tmp_path: Path) -> None:
    text = (
        (EXAMPLES / "neutral.diff")
        .read_text()
        .replace("+            if waiter.done():", "+            if waiter.done(:")
    )
    (tmp_path / "x.diff").write_text(text)
    code, document, said = gate(tmp_path, str(tmp_path / "x.diff"))
    assert (code, document["verdict"]) == (3, "REJECT"), said
    assert document["stages"][0]["findings"][0]["difference"].startswith("asyncio/queues.py, line 62: ")


def test_a_patch_for_another_version_says_where(tmp_path: Path) -> None:
    text = (EXAMPLES / "neutral.diff").read_text().replace("ntodo", "todo_n")
    (tmp_path / "x.diff").write_text(text)
    code, document, said = gate(tmp_path, str(tmp_path / "x.diff"))
    assert code == 2 and not document and "Lib/asyncio/base_events.py, hunk 1 of 1, line 190" in said


@pytest.mark.parametrize(
    "name", ["Modules/_asynciomodule.c", "Doc/library/asyncio.rst", "Lib/asyncio/windows_events.py"]
)
def test_a_patch_without_anything_to_judge(name: str, tmp_path: Path) -> None:
    (tmp_path / "x.diff").write_text(diff(name))
    code, document, said = gate(tmp_path, str(tmp_path / "x.diff"))
    assert (code, document["verdict"]) == (5, "NOT_JUDGED"), said
    assert name in document["reasons"][0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["no-such.diff"], "there is no patch"),
        (["--stages=proof,nope", str(EXAMPLES / "neutral.diff")], "no stage is called 'nope'"),
        ([str(EXAMPLES / "neutral.diff"), "guest/poll+fast::T"], "only the engine stock"),
        ([str(EXAMPLES / "neutral.diff"), "--stages=test_asyncio", "-m", "test_nope.*"], "no test module is called"),
        ([str(EXAMPLES / "neutral.diff"), "--python=/bin/false"], "does not run"),
        ([str(EXAMPLES / "neutral.diff"), "--timeout=0"], "must be positive"),
    ],
)
def test_usage(arguments: list[str], says: str, tmp_path: Path) -> None:
    code, _, said = gate(tmp_path, *arguments)
    assert code == 2 and says in said


def begun(folder: Path, stage: str) -> subprocess.Popen[str]:
    """A gate that is in the middle of a stage, with processes of its own."""
    process = subprocess.Popen(
        command("gate", "--results", str(folder), f"--stages={stage}", "--fresh", str(EXAMPLES / "neutral.diff")),
        env=environment(TMPDIR=str(folder)),
        stdout=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    deadline = time.monotonic() + 120
    for line in process.stdout:
        if line.split()[-1:] == [stage] or line.split()[-1:] == [f"guest/{stage}+stock"]:
            break
    while not (cells := [pid for pid, what in left(folder, process.pid).items() if "cell" in what]):
        assert time.monotonic() < deadline, "no cell has begun"
        time.sleep(0.01)
    for pid in cells:
        os.kill(pid, signal.SIGSTOP)  # it has to be ended, and does not end before by itself
    return process


def left(folder: Path, but: int = 0) -> dict[int, str]:
    """What runs with `folder` for its temporary files, beside process `but`: that is all that its gate has started, whoever
    its parent has become.  Process -> command line."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            place = Path("/proc") / name
            if f"TMPDIR={folder}".encode() in (place / "environ").read_bytes().split(b"\0") and int(name) != but:
                found[int(name)] = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # has ended
    return found


def none_left(folder: Path) -> bool:
    """What is left has ended, or does so soon; what does not is ended here."""
    deadline = time.monotonic() + 10
    while (found := left(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    return not found


def test_an_interrupted_gate_writes_what_it_has(tmp_path: Path) -> None:
    process = begun(tmp_path, "test_asyncio")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    document = json.loads((tmp_path / "gate.json").read_text())
    assert document["meta"]["interrupted"] and document["verdict"] == "INCONCLUSIVE"
    assert document["stages"][0]["status"] == "interrupted"
    assert none_left(tmp_path)


@pytest.mark.parametrize("stage", ["proof", "test_asyncio", "plain", "tk"])
def test_a_gate_that_is_killed_leaves_no_process(stage: str, tmp_path: Path) -> None:
    process = begun(tmp_path, stage)
    process.kill()
    process.communicate(timeout=60)
    assert none_left(tmp_path)


def test_every_process_says_which_asyncio_it_has(tmp_path: Path) -> None:
    with Session(scale=1.0, asyncio=tmp_path) as own:
        runner = suite.Runner(own, "*", 30.0)
        with pytest.raises(RuntimeError, match=f"asyncio of {re.escape(str(overlay.asyncio_folder()))} and not .*{tmp_path}"):
            runner.module(own.contender("plain"), "test_context")
        with pytest.raises(RuntimeError, match=f"not with that of {tmp_path}"):
            own.run_cell("plain", "T.01a-equal-deadlines")
        with pytest.raises(RuntimeError, match="asyncio of None"):
            own.check_asyncio(None)
    with Session(scale=1.0, asyncio=overlay.asyncio_folder().resolve()) as own:
        (test,) = suite.Runner(own, "*", 30.0).module(own.contender("plain"), "test_context").values()
        assert test.outcome == "pass" and own.run_cell("plain", "T.01a-equal-deadlines").behaviour == "PASS"


def test_what_is_known_of_base_may_not_be_there_but_not_be_broken(tmp_path: Path) -> None:
    cache = stages.Cache(tmp_path / "new", fresh=False)
    assert not cache.used
    for text in ("", "{}", '{"tests": 1, "cells": {}, "plain": {}}'):
        (tmp_path / "new" / "base.json").write_text(text)
        with pytest.raises(UsageError, match="broken; delete .*base.json"):
            stages.Cache(tmp_path / "new", fresh=False)
        stages.Cache(tmp_path / "new", fresh=True)


def test_what_is_known_of_base_depends_on_cases_and_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    options = argparse.Namespace(
        patch=EXAMPLES / "neutral.diff", jobs=1, stages=None, quick=False, selector=[], match="*"
    )
    run = verb.Gate(options)
    before = run.cache_folder()
    assert run.cache_folder() == before
    digest = overlay.digest
    for name in ("scenarios", "backends"):
        monkeypatch.setattr(overlay, "digest", lambda folder, name=name: digest(folder) + "x" * (folder.name == name))
        assert run.cache_folder() != before


def test_the_engine_of_a_contender_is_that_of_every_guest(tmp_path: Path) -> None:
    """A guest that a case starts by `start_guest_run`, too: with the engine fast it would not run the patched code."""
    with Session(scale=1.0) as own:
        for engine in ("stock", "fast"):
            ran = own.run_cell(f"guest/poll+{engine}", "H.01j-host-without-prepare")
            assert (ran.behaviour, ran.engine_ran) == ("PASS", engine)


def test_only_in_the_modules_that_a_patch_changes_its_tests_explain_a_loss() -> None:
    def of(kind: str, what: str, head: str) -> stages.Finding:
        return stages.Finding(kind, "test_asyncio", what, "plain", "pass", head, "it is gone")

    lost, elsewhere = of("lost", "test_a.A.test", "no such test"), of("lost", "test_b.B.test", "no such test")
    skipped, fails = of("outcome", "test_a.A.test_skip", "skip"), of("outcome", "test_a.A.test_fail", "fail (x)")
    out = stages.Outcome("test_asyncio", findings=[lost, elsewhere, skipped, fails])
    verb.set_aside(out, {"test_a"})
    assert out.findings == [elsewhere, fails]
    assert [(one.what, one.kind) for one in out.doubtful] == [(lost.what, "removed-test"), (skipped.what, "changed-test")]


@pytest.mark.parametrize(
    ("files", "touched"),
    [
        (["test_tasks.py"], {"test_tasks"}),
        (["utils.py"], {"test_tasks", "test_locks"}),
        (["test_tasks.py", "functional.py"], {"test_tasks", "test_locks"}),
    ],
)
def test_the_test_modules_that_a_patch_changes(files: list[str], touched: set[str]) -> None:
    run = verb.Gate.__new__(verb.Gate)
    run.patch = parse("".join(diff(f"Lib/test/test_asyncio/{name}") for name in files).encode())
    assert run.touched(["test_locks", "test_tasks"]) == touched


def test_what_is_known_of_base_depends_on_all_that_a_cell_imports() -> None:
    program = (
        f"import sys, {tree.PACKAGE}.cell, {tree.PACKAGE}.suite, {tree.PACKAGE}.suite_cell; "
        f"print(*(name.rpartition('.')[2] for name in sys.modules if name.startswith('{tree.PACKAGE}.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True
    )
    beside = {"report", "results", "shards"}  # how suite shows what it found
    assert {f"{name}.py" for name in done.stdout.split() if name not in beside} <= set(verb.CELL_FILES)
    assert all((tree.HERE / name).is_file() for name in verb.CELL_FILES)
    assert {path.name for path in tree.HERE.glob("*.toml")} - {"suites.toml"} <= set(verb.CELL_FILES)


def test_examples_apply_to_this_interpreter(tmp_path: Path) -> None:
    names = sorted(path.name for path in EXAMPLES.glob("*.diff"))
    assert names == ["neutral.diff", "swallowed-poll-error.diff", "unbounded-ready-loop.diff"]
    for name in names:
        lib, applied = overlay.prepare(tmp_path / name, patch.read(EXAMPLES / name))
        assert applied and overlay.digest(lib / "asyncio") != overlay.digest(overlay.asyncio_folder())
    assert sys.version_info >= (3, 11)
