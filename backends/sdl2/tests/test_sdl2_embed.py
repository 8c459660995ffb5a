"""A program in C that links SDL itself and gives its main loop a guest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent


def test_embedding_program(tmp_path: Any, display: str) -> None:
    compiler, config = shutil.which("cc"), shutil.which("pkg-config")
    if compiler is None or config is None or subprocess.run([config, "--exists", "sdl2"], check=False).returncode:
        pytest.skip("a C compiler or SDL is missing; on Debian: apt-get install gcc pkg-config libsdl2-dev")
    version = sysconfig.get_config_var("LDVERSION")
    folder = sysconfig.get_config_var("LIBDIR")
    flags = subprocess.check_output([config, "--cflags", "--libs", "sdl2"], text=True).split()
    program = tmp_path / "embed"
    built = subprocess.run(
        [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", "-I", HERE.parents[2] / "guest" / "include",
         "-I", sysconfig.get_path("include"), HERE / "embed.c", "-o", program, *flags,
         f"-L{folder}", f"-Wl,-rpath,{folder}", f"-lpython{version}"],
        capture_output=True, text=True, check=False)
    if built.returncode and f"cannot find -lpython{version}" in built.stderr:
        pytest.skip(f"{sys.executable} has no library to embed")
    assert built.returncode == 0, built.stderr
    # A program that embeds Python takes the first python3 of PATH for its own.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"DISPLAY": display, "SDL_VIDEODRIVER": "x11", "PATH": path}
    done = subprocess.run([program], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    lines = done.stdout.splitlines()
    assert lines[::2] == ["Value('42')"] * 2
    assert all(int(ticks) > 5 for ticks in lines[1::2])
