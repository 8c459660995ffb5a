"""A program as a suite of one test: unchanged, under plain asyncio and by ``python -m asyncio_guest`` under each host.

What is compared is what a user of the program sees: its exit status and what it printed.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from . import session, verdicts
from .contenders import Contender
from .session import Interrupted, Session
from .suite_test import Test
from .tree import UsageError

ADDRESS = re.compile(r"\b0x[0-9a-f]{4,}\b")
FRAME = re.compile(r'^  File "([^"]*)", line \d+(?:, in .*)?$')
NO_TURN = """no loop of the program ran in the host: it made none, its class has a run_forever of its own as uvloop's has, or it
ran in another process"""


@dataclasses.dataclass(frozen=True)
class Program:
    """A script and its arguments."""

    path: Path
    args: tuple[str, ...] = ()

    def command(self, contender: Contender, python: Path, totals: Path) -> list[str]:
        """The command line under a contender; under a guest its counters go to the file `totals`."""
        if contender.kind == "plain":
            return [str(python), str(self.path), *self.args]
        forced = [("--host", contender.host), ("--engine", contender.engine), ("--strategy", contender.strategy)]
        options = [word for name, value in forced if value is not None for word in (name, value)]
        return [str(python), "-m", "asyncio_guest", *options, "--totals", str(totals), str(self.path), *self.args]


def find(words: Sequence[str], args: Sequence[str]) -> Program:
    """The program that the first of the command line's words names.  Raises UsageError."""
    if not words:
        raise UsageError("suite program FILE [CONTENDER...]: which program?")
    path = Path(words[0])
    if not path.is_file() or path.suffix != ".py":
        raise UsageError(f"suite program FILE [CONTENDER...]: {path} is no file that ends in .py")
    return Program(path.resolve(), tuple(args))


def normal(text: str, folder: Path, program: Path) -> str:
    """What a program printed, without what differs from run to run: addresses, the folder in which it ran, and of
    tracebacks the frames outside the program's own folder, which are asyncio's or the host's."""
    lines: list[str] = []
    outside = False
    for line in ADDRESS.sub("0x...", text).replace(str(folder), ".").splitlines():
        if match := FRAME.match(line):
            outside = not Path(match[1]).is_relative_to(program.parent)
        elif not line.startswith("    "):  # the line of source below a frame, and the marks below that
            outside = False
        if not outside:
            lines.append(line)
    return "\n".join(lines)


def difference(plain: str, theirs: str) -> str:
    """The lines of two outcomes that differ."""
    lines = difflib.unified_diff(plain.splitlines(), theirs.splitlines(), "plain", "here", lineterm="", n=1)
    return "\n".join(lines)


class Runner:
    """Runs a program in processes of its own, as `suite.Runner` does a module.  Any thread."""

    def __init__(self, own: Session, program: Program, timeout: float) -> None:
        """`timeout`: seconds that the program may take, before they are scaled."""
        self.session = own
        self.program = program
        self.timeout = timeout * own.scale * own.timeout_scale
        self._control: Test | None = None
        self._lock = threading.Lock()

    def module(self, contender: Contender, module: str, only: Sequence[str] | None = None) -> dict[str, Test]:
        """The program's only test, whose name `module` is.  Raises UsageError where plain asyncio alone does not end or
        does something else each time."""
        control = self.control()
        if contender.kind == "plain":
            return {module: control if only is None else self.run(contender)}
        test = self.run(contender)
        if test.outcome == "pass" and test.said != control.said:
            test.detail = difference(control.said, test.said)
            status = test.said.partition("\n")[0]
            if "died of" in status and status != control.said.partition("\n")[0]:
                test.outcome = "CRASH"
        elif test.outcome == "pass" and not test.turns:
            test.detail = NO_TURN
        return {module: test}

    def control(self) -> Test:
        """What the program does under plain asyncio, twice alike."""
        with self._lock:
            if self._control is None:
                first, second = (self.run(self.session.contender("plain")) for _ in range(2))
                for one in (first, second):
                    if one.outcome == "TIMEOUT":
                        raise UsageError(f"{self.program.path} under plain asyncio: {one.detail}")
                if first.said != second.said:
                    where = difference(first.said, second.said)
                    raise UsageError(f"{self.program.path} differs from itself under plain asyncio:\n{where}")
                self._control = first
            return self._control

    def run(self, contender: Contender) -> Test:
        """Run it once."""
        if not contender.display:
            return self._run(contender, None)
        with self.session._pool.display() as display:
            return self._run(contender, display)

    def _run(self, contender: Contender, display: str | None) -> Test:
        own = self.session
        python = own.interpreter(contender)
        assert python is not None, "its probe ran"
        folder = own.run_dir / f"p{os.getpid()}-{next(own._count)}"
        work = folder / "work"
        work.mkdir(parents=True)
        # A program that hangs shows where, when it is told to abort.
        environment = {**own.environment(contender, display), "PYTHONFAULTHANDLER": "1"}
        environment["PYTHONPATH"] = os.pathsep.join([environment["PYTHONPATH"], *own.beside(contender)])
        if "XDG_RUNTIME_DIR" not in environment:  # toolkits complain of that
            runtime = folder / "runtime"
            runtime.mkdir(0o700)
            environment["XDG_RUNTIME_DIR"] = str(runtime)
        began = time.monotonic()
        with open(folder / "stdout", "wb") as out, open(folder / "stderr", "wb") as err:
            command = self.program.command(contender, python, folder / "totals")
            process = own.begin(command, cwd=work, env=environment, stdout=out, stderr=err)
        try:
            ended = session.wait_process(process, self.timeout)
            if not ended:
                process.send_signal(signal.SIGABRT)
                session.wait_process(process, session.DUMP_S)
        finally:
            interrupted = own.end(process)
        if interrupted:
            raise Interrupted
        seconds = round(time.monotonic() - began, 2)
        # Plain's loops are iterated by itself; a guest's have to be by turns in the host.
        counted = {"turns": 1} if contender.kind == "plain" else self._turns(folder / "totals")
        printed = {name: (folder / name).read_bytes().decode(errors="replace") for name in ("stdout", "stderr")}
        shutil.rmtree(folder, ignore_errors=True)
        if not ended:
            why = f"no end within {self.timeout:.0f} s\n{printed['stderr'][-6000:]}"
            return Test("TIMEOUT", seconds, why, counted)
        status = process.returncode
        parts = [f"died of {verdicts.signal_name(status)}" if status < 0 else f"exit status {status}"]
        for name, text in printed.items():
            parts += [f"--- {name}", normal(text, work, self.program.path)]
        return Test("pass", seconds, "", counted, "\n".join(parts))

    @staticmethod
    def _turns(path: Path) -> dict[str, int]:
        try:
            return {"turns": int(json.loads(path.read_text()).get("turns", 0))}
        except FileNotFoundError:  # it died, or replaced itself by another program
            return {}
