"""Programs as they are: the same under a host as by themselves, and what is not the same is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import results, suite_program
from harness.suite_program import Program

from .conftest import Ran

PROGRAMS = Path(__file__).resolve().parent / "sample_programs"
ENGINES = ("guest/poll+stock", "guest/poll+fast")


def suite(harness: Callable[..., Ran], folder: Path, path: Path, *arguments: str) -> tuple[Ran, dict[str, Any]]:
    ran = harness("suite", "program", str(path), *(arguments or ENGINES), "--results", str(folder))
    written = folder / "suite-program.json"
    return ran, results.read(written, "test_asyncio") if written.exists() else {}


def program(folder: Path, text: str) -> Path:
    path = folder / "program.py"
    path.write_text("import asyncio, os, sys\n" + text)
    return path


@pytest.mark.parametrize("name", ["server_and_clients.py", "processes.py"])
def test_a_program_does_the_same_in_a_host(harness: Callable[..., Ran], tmp_path: Path, name: str) -> None:
    ran, document = suite(harness, tmp_path, PROGRAMS / name)
    assert ran.code == results.OK, ran.out + ran.err
    plain, *guests = document["runs"]
    assert [run["contender"] for run in guests] == [*ENGINES]
    for run in guests:
        assert run["tests"][name][1] > 1, "turns in the host"
        assert not any(run["differences"].values())


def test_arguments_are_the_programs(harness: Callable[..., Ran], tmp_path: Path) -> None:
    path = PROGRAMS / "server_and_clients.py"
    ran, _ = suite(harness, tmp_path, path, "guest/poll", "--program-args", "x")
    assert ran.code == results.OK, ran.out + ran.err
    told = program(tmp_path, "async def main(): sys.exit(len(sys.argv) + ('asyncio_guest' in sys.modules))\nasyncio.run(main())")
    ran, _ = suite(harness, tmp_path, told, "guest/poll", "--program-args", "'one two' three")
    assert ran.code == results.UNEXPECTED and "-exit status 3" in ran.out and "+exit status 4" in ran.out, ran.out


GUEST = "guest = 'asyncio_guest' in sys.modules\n"


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("async def main(): print('in a host' if guest else 'alone')\n", "outcome", "+in a host"),
        ("async def main(): print('warned' * guest, file=sys.stderr)\n", "outcome", "+warned"),
        ("async def main(): sys.exit(7 * guest)\n", "outcome", "+exit status 7"),
        ("async def main():\n    if guest: raise ValueError('here only')\n", "outcome", "+ValueError: here only"),
        ("async def main():\n    if guest: os.abort()\n", "crash", "+died of SIGABRT"),
        ("async def main(): await asyncio.sleep(1000 * guest)\n", "hang", "no end within"),
        ("async def main(): pass\nif guest: asyncio.run = lambda main: main.close()\n", "turns", "no loop of the program ran in the host"),
    ],
)
def test_what_differs_is_told(harness: Callable[..., Ran], tmp_path: Path, text: str, kind: str, says: str) -> None:
    path = program(tmp_path, GUEST + text + "asyncio.run(main())\n")
    ran, document = suite(harness, tmp_path, path, "guest/poll", "--timeout", "6", "-v")
    assert ran.code == results.UNEXPECTED, ran.out + ran.err
    differences = document["runs"][1]["differences"]
    assert {k for k, ids in differences.items() if ids} == {kind} and differences[kind] == ["program.py"]
    assert says in ran.out, ran.out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("print(os.urandom(8))", "differs from itself under plain asyncio"),
        ("asyncio.run(asyncio.sleep(1000))", "under plain asyncio: no end within"),
    ],
)
def test_a_program_that_cannot_be_judged(harness: Callable[..., Ran], tmp_path: Path, text: str, says: str) -> None:
    ran, document = suite(harness, tmp_path, program(tmp_path, text), "guest/poll", "--timeout", "2")
    assert ran.code == results.USAGE and says in ran.err and "Traceback" not in ran.err, ran.out + ran.err
    assert not document


def test_what_cannot_be_used(harness: Callable[..., Ran], tmp_path: Path) -> None:
    path = program(tmp_path, "")
    wrong: list[tuple[list[str], str]] = [
        ([], "which program"),
        ([str(tmp_path / "none.py")], "is no file"),
        ([str(path), "harness.tests.faulty:good"], "only guests"),
        ([str(path), "guest/nothing"], "no host is called"),
    ]
    for arguments, says in wrong:
        ran = harness("suite", "program", *arguments)
        assert ran.code == results.USAGE and says in ran.err and "Traceback" not in ran.err, (arguments, ran.err)


def test_what_is_compared_of_an_output(tmp_path: Path) -> None:
    path = tmp_path / "own" / "program.py"
    text = f"""<object at 0x7f00aa00>
{tmp_path}/work/file
Traceback (most recent call last):
  File "{path}", line 3, in main
    await other()
    ^^^^^^^^^^^^^
  File "/usr/lib/python3.11/asyncio/runners.py", line 190, in run
    return runner.run(main)
           ^^^^^^^^^^^^^^^^
  File "<frozen runpy>", line 88, in _run_code
LookupError: the end
    an indented line of its own"""
    assert suite_program.normal(text, tmp_path / "work", path).splitlines() == [
        "<object at 0x...>",
        "./file",
        "Traceback (most recent call last):",
        f'  File "{path}", line 3, in main',
        "    await other()",
        "    ^^^^^^^^^^^^^",
        "LookupError: the end",
        "    an indented line of its own",
    ]
    assert suite_program.find([str(PROGRAMS / "processes.py")], ["a"]) == Program(PROGRAMS / "processes.py", ("a",))
