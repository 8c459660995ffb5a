"""Processes that end with the run that started them, however it ends.

What a run starts has a mark in its environment.  A process beside the run waits for the end of a pipe of which only the run
has the other end, and then kills what has that mark: a run that is killed can do nothing for it itself.  (PR_SET_PDEATHSIG
follows the thread that started a process, and does not reach what that process has started.)
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

MARK = "ASYNCIO_GUEST_RUN"
AGAIN_S = 0.1
"""What was on its way to its own environment when the run died has it by then."""


class Guardian:
    """The run's end of the pipe."""

    def __init__(self) -> None:
        self.mark = f"{os.getpid()}-{secrets.token_hex(8)}"
        read, self._write = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, self.mark],
                # Not that of a run which this one is a part of: where that dies too, this one's are still to be ended.
                env={name: value for name, value in os.environ.items() if name != MARK},
                stdin=read,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            os.close(read)
        atexit.register(self._close)

    def _close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._write, b".")
        os.close(self._write)
        self._process.wait()


@functools.cache
def guardian() -> Guardian:
    """This process' own, started when it is first needed.  Raises OSError."""
    return Guardian()


def start(
    command: Sequence[str | Path], env: Mapping[str, str] | None = None, **options: Any
) -> subprocess.Popen[Any]:
    """Start a command in a session and process group of its own that does not outlive this process.

    `env` and `options` are those of ``subprocess.Popen``, whose errors are raised.  May be called on any thread.
    """
    env = {**(os.environ if env is None else env), MARK: guardian().mark}
    return subprocess.Popen(command, env=env, start_new_session=True, **options)


def end(process: subprocess.Popen[Any]) -> None:
    """Kill what is left of the group that `start` began, and wait for its first process."""
    kill_group(process.pid)
    process.wait()


def kill_group(pgid: int) -> None:
    """SIGKILL to a process group of ours; quiet when there is none left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, signal.SIGKILL)


def marked(mark: str) -> Iterator[int]:
    """The processes that have the mark."""
    wanted = f"{MARK}={mark}".encode()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # has ended, or is another user's
            with open(f"/proc/{name}/environ", "rb") as file:
                if wanted in file.read().split(b"\0"):
                    yield int(name)


def main(argv: list[str]) -> int:
    """Wait for the end of the run with the mark ``argv[0]``; if it did not come to that itself, kill what is left."""
    if sys.stdin.read():
        return 0
    quiet = 0
    while quiet < 2:
        quiet += 1
        for pid in marked(argv[0]):
            quiet = 0
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill_group(os.getpgid(pid))  # with those that have cleared their environment
                os.kill(pid, signal.SIGKILL)
        time.sleep(AGAIN_S)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
