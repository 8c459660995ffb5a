"""The workers as their parent sees them: one process a contender, replaced when it hangs or dies."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import select
import subprocess
import time
from typing import Any

from .. import session, tree, xvfb
from ..contenders import Contender

START_S = 40.0
RECYCLE = 2000
"""Programs that a process runs before a fresh one takes over."""
_numbers = itertools.count(1)


class Unavailable(Exception):
    """The contender cannot run here; the message says the remedy."""


class Broken(Unavailable):
    """The contender is there and does not start."""


@dataclasses.dataclass
class Reply:
    """What a program did: `views` where it ended, otherwise `trouble`."""

    views: dict[str, list[Any]] | None
    trouble: str = ""
    """hang, crash or error, empty where the program ended."""
    detail: str = ""
    descriptors: int = 0


class Worker:
    """One contender's process.  `send` a program, then `receive` its reply."""

    def __init__(self, own: session.Session, contender: Contender, *, stall: bool, seconds: float) -> None:
        self.session = own
        self.contender = contender
        self.stall = stall
        self.seconds = seconds * own.scale * own.timeout_scale
        self.programs = 0
        """Programs that it has run, in all its processes."""
        self.started = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._read = -1
        self._data = b""
        self._ran = 0
        self._display: contextlib.ExitStack | None = None
        self._folder = own.run_dir / f"w{next(_numbers)}"
        self._folder.mkdir()

    # -- the process

    def start(self) -> None:
        """Start the process where none runs.  Raises Unavailable, NoDisplay."""
        if self._process is not None:
            return
        python = self.session.interpreter(self.contender)
        if python is None:
            raise Unavailable(tree.no_environment(str(self.contender.environment)))
        self._display = contextlib.ExitStack()
        display = None
        if self.contender.display:
            try:
                display = self._display.enter_context(self.session._pool.display())
            except xvfb.NoDisplay as error:
                raise Unavailable(str(error)) from error
        self._read, write = os.pipe()
        spec = {"contender": self.contender.as_json(), "stall": self.stall, "reply_fd": write}
        path = self._folder / "spec.json"
        path.write_text(json.dumps(spec))
        self._data = b""
        self._ran = 0
        try:
            with open(self._folder / "output", "wb") as output:
                self._process = subprocess.Popen(
                    [str(python), "-m", f"{tree.PACKAGE}.fuzz.worker", str(path)],
                    cwd=self._folder,
                    env=self.session.environment(self.contender, display),
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=[write],
                    start_new_session=True,
                )
        finally:
            os.close(write)
        self.started += 1
        first = self._line(START_S * self.session.scale)
        if first is None or "missing" in first:
            printed = session.tail(self._folder / "output", 2000)
            self.stop()
            raise Unavailable(first["missing"]) if first else Broken(f"did not start: {printed}")

    def stop(self) -> None:
        """End the process, and whatever it started.  Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        os.close(self._read)
        session.kill_group(process.pid)
        process.wait()
        if self._display is not None:
            self._display.close()

    def _line(self, seconds: float) -> dict[str, Any] | None:
        """The next line of the process; None when it ended or none came in time."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        deadline = time.monotonic() + seconds
        while b"\n" not in self._data:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                return None
            chunk = os.read(self._read, 1 << 16)
            if not chunk:
                return None
            self._data += chunk
        line, _, self._data = self._data.partition(b"\n")
        return dict(json.loads(line))

    # -- programs

    def send(self, program: dict[str, Any]) -> None:
        """Have the process run a program.  Raises Unavailable."""
        if self._ran >= RECYCLE:
            self.stop()
        self.start()
        assert self._process is not None and self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died meanwhile: `receive` says so
            self._process.stdin.write(json.dumps(program).encode() + b"\n")
            self._process.stdin.flush()

    def receive(self) -> Reply:
        """What the program that was sent did."""
        process = self._process
        assert process is not None
        answer = self._line(self.seconds)
        self.programs += 1
        self._ran += 1
        if answer is not None:
            if "error" in answer:
                return Reply(None, "error", f"{answer['error']}\n{answer['traceback']}")
            return Reply(answer["views"], descriptors=answer["descriptors"])
        ended = session.wait_process(process, 0.5)
        if not ended:
            self.session._dump(process)
        output = session.tail(self._folder / "output", 6000)
        if ended:
            detail = f"the process ended with status {process.returncode}\n{output}"
        else:
            detail = f"no end within {self.seconds:.1f} s\n{output}"
        self.stop()
        return Reply(None, "crash" if ended else "hang", detail)

    def run(self, program: dict[str, Any], *, fresh: bool = False) -> Reply:
        """`send` and `receive`; `fresh`: in a process that has run nothing yet."""
        if fresh:
            self.stop()
        self.send(program)
        return self.receive()
