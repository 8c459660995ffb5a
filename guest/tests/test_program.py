"""``python -m asyncio_guest --host HOST program.py`` and the pytest plugin."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asyncio_guest.__main__ import split

Python = Callable[..., "subprocess.CompletedProcess[str]"]
GUEST = ("-m", "asyncio_guest", "--host", "poll")

SHOW = """
    import asyncio, sys

    async def main():
        from asyncio_guest import _core
        guest = _core.current_guest() if "asyncio_guest" in sys.modules else None
        return guest.host_name if guest else "plain"

    if __name__ == "__main__":
        import __main__
        print(sys.argv[0].rpartition("/")[2], sys.argv[1:], file=sys.stderr)
        print(sys.path[0], __file__, __spec__ and __spec__.name, repr(__package__), __main__.main is main,
              type(__loader__).__name__, file=sys.stderr)
        print(asyncio.run(main()))
        sys.exit(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
"""


def test_runs_in_the_host_as_python_runs_it(python: Python) -> None:
    guest = python(SHOW, "3", "--host", "x", "-m", before=GUEST)
    plain = python(SHOW, "3", "--host", "x", "-m")
    assert (guest.stdout, plain.stdout) == ("poll\n", "plain\n")
    assert guest.stderr == plain.stderr
    assert guest.returncode == plain.returncode == 3


def test_module(python: Python, tmp_path: Path) -> None:
    import os

    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    import textwrap

    for name in ("__main__.py", "tool.py"):
        (package / name).write_text(textwrap.dedent(SHOW))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for module in ("package", "package.tool"):
        runs = [
            subprocess.run(
                [sys.executable, *before, "-m", module, "0", "arg"],
                cwd=tmp_path, env=env, capture_output=True, text=True, timeout=30,
            )
            for before in (GUEST, ())
        ]
        assert [run.stdout for run in runs] == ["poll\n", "plain\n"], runs[0].stderr
        assert runs[0].stderr == runs[1].stderr


def test_directory_and_command(python: Python, tmp_path: Path) -> None:
    import textwrap

    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "__main__.py").write_text(textwrap.dedent(SHOW))
    for path in (str(folder),):
        runs = [
            subprocess.run([sys.executable, *before, path, "0"], capture_output=True, text=True, timeout=30)
            for before in (GUEST, ())
        ]
        assert [run.stdout for run in runs] == ["poll\n", "plain\n"], runs[0].stderr
        assert runs[0].stderr == runs[1].stderr
    command = "import asyncio, sys; print(sys.argv, __name__, sys.path[0]); asyncio.run(asyncio.sleep(0))"
    runs = [
        subprocess.run([sys.executable, *before, "-c", command, "x"], capture_output=True, text=True, timeout=30)
        for before in (GUEST, ())
    ]
    assert runs[0].stdout == runs[1].stdout != ""


def test_traceback_and_status_of_an_error(python: Python) -> None:
    source = """
        import asyncio

        async def main():
            raise LookupError("from main")

        asyncio.run(main())
    """
    guest = python(source, before=GUEST)
    assert guest.returncode == 1
    lines = guest.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].strip().startswith('File "') and "program.py" in lines[1]
    assert lines[-1] == "LookupError: from main"
    missing = subprocess.run([sys.executable, *GUEST, "/nonexistent.py"], capture_output=True, text=True, timeout=30)
    assert missing.returncode == 2
    assert "can't open file '/nonexistent.py'" in missing.stderr
    syntax = python("x = (", before=GUEST)
    assert syntax.returncode == 1
    assert "SyntaxError" in syntax.stderr
    interrupted = python("raise KeyboardInterrupt", before=GUEST)
    assert interrupted.returncode == python("raise KeyboardInterrupt").returncode


def test_functions_of_main_live_on_at_exit(python: Python) -> None:
    process = python(
        """
        import atexit, pickle, threading, time

        class Thing:
            pass

        def late():
            print("late", pickle.loads(pickle.dumps(Thing())).__class__.__module__)

        atexit.register(late)
        threading.Thread(target=lambda: (time.sleep(0.05), late())).start()
        """,
        before=GUEST,
    )
    assert process.stdout == "late __main__\nlate __main__\n", process.stderr


def test_totals_file(python: Python, tmp_path: Path) -> None:
    path = tmp_path / "totals.json"
    process = python(
        "import asyncio; asyncio.run(asyncio.sleep(0))", before=(*GUEST, "--engine", "stock", "--totals", str(path))
    )
    assert process.returncode == 0, process.stderr
    totals = json.loads(path.read_text())
    assert totals["turns"] > 0
    assert totals["guests"] == totals["guests_engine_stock"] == totals["guests_host_poll"]


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["--help"], 0, "poll"),
        ([], 2, "--host"),
        (["--host", "poll"], 2, "nothing to run"),
        (["--host", "nowhere", "x.py"], 2, "known hosts"),
        (["--host", "poll", "--engine", "warp", "x.py"], 2, "warp"),
        (["--host", "poll", "-m", "no.such.module"], 1, "no.such"),
    ],
)
def test_usage(arguments: list[str], status: int, text: str) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "asyncio_guest", *arguments], capture_output=True, text=True, timeout=30
    )
    assert process.returncode == status, process.stderr
    assert text in process.stdout + process.stderr


@pytest.mark.parametrize(
    ("line", "own", "arguments"),
    [
        ("--host tk p.py --host x", "--host tk p.py", "--host x"),
        ("--host=tk -m mod -c", "--host=tk -m mod", "-c"),
        ("--host tk -mmod x", "--host tk -mmod", "x"),
        ("--engine fast --host tk -c code -h", "--engine fast --host tk -c code", "-h"),
        ("--help", "--help", ""),
    ],
)
def test_split(line: str, own: str, arguments: str) -> None:
    assert split(line.split()) == (own.split(), arguments.split())


TESTS = """
    import asyncio
    from asyncio_guest import _core

    def test_in_the_host():
        async def main():
            return _core.current_guest().host_name
        assert asyncio.run(main()) == "poll"
"""


def test_pytest_plugin(pytester: pytest.Pytester, pytestconfig: pytest.Config) -> None:
    pytester.makepyfile(TESTS)
    plugin = [] if pytestconfig.pluginmanager.hasplugin("asyncio_guest") else ["-p", "asyncio_guest.pytest_plugin"]
    result = pytester.runpytest_subprocess(*plugin, "--guest-host=poll", "--guest-engine=stock")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["asyncio-guest: host poll, engine stock, *", "*loops ran as guests: * turns*"])
    result = pytester.runpytest_subprocess(*plugin, "--guest-host=nowhere")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unknown host 'nowhere'; known hosts: *poll*"])
    result = pytester.runpytest_subprocess(*plugin)
    result.assert_outcomes(failed=1)


def test_pytest_plugin_with_xdist(pytester: pytest.Pytester, pytestconfig: pytest.Config) -> None:
    pytest.importorskip("xdist")
    pytester.makepyfile(TESTS + "\n    test_again = test_in_the_host\n")
    plugin = [] if pytestconfig.pluginmanager.hasplugin("asyncio_guest") else ["-p", "asyncio_guest.pytest_plugin"]
    result = pytester.runpytest_subprocess(*plugin, "--guest-host=poll", "-n2", "-pxdist")
    result.assert_outcomes(passed=2)
    line: Any = [line for line in result.outlines if "loops ran as guests" in line]
    assert len(line) == 1 and not line[0].startswith("0 ")
