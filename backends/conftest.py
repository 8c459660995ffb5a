"""Fixtures of the backends' tests: an X server of the session's own, and programs in processes of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

BACKENDS = Path(__file__).resolve().parent

Run = Callable[..., str]


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    """The name of a fresh X display."""
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is missing; on Debian: apt-get install xvfb")
    receive, send = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(send), "-screen", "0", "1024x768x24", "-nolisten", "tcp", "-noreset"],
        pass_fds=[send],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(send)
    with os.fdopen(receive) as answer:
        number = answer.readline().strip()
    assert number, "Xvfb did not start"
    yield f":{number}"
    server.terminate()
    server.wait()


def environment(display: str | None = None, **extra: str) -> dict[str, str]:
    """The environment of a program under test."""
    env = dict(os.environ, PYTHONFAULTHANDLER="1", NO_AT_BRIDGE="1", GTK_A11Y="none", GSETTINGS_BACKEND="memory",
               GSK_RENDERER="cairo")
    env.pop("DISPLAY", None)
    env.pop("WAYLAND_DISPLAY", None)
    # The programs share modules that lie beside the tests: sample_user.
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [env.get("PYTHONPATH"), str(BACKENDS / "tests")]))
    if display is not None:
        env["DISPLAY"] = display
        env["GDK_BACKEND"] = "x11"
    return env | extra


@pytest.fixture
def run_program() -> Run:
    """Run a program text in a fresh interpreter (this one, or `python`) and return what it printed; fails if the program
    does."""

    def run(
        source: str,
        *args: str,
        display: str | None = None,
        timeout: float = 60,
        python: str | Path = sys.executable,
        **extra: str,
    ) -> str:
        done = subprocess.run(
            [str(python), "-c", textwrap.dedent(source), *args],
            env=environment(display, **extra),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def environment_python() -> Callable[[str], Path]:
    """The interpreter of an environment of ci/environments.toml by name; skips the test where there is none."""

    def find(name: str) -> Path:
        folder = BACKENDS.parent / "build" / str(sysconfig.get_config_var("SOABI")) / "env" / name
        if not (folder / "complete").is_file():
            pytest.skip(f"the environment {name} is not there: make setup builds it (it needs PyPI)")
        return folder / "bin" / "python"

    return find
