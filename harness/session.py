"""One run: starts the cells' processes, watches them, and turns what was seen into verdicts."""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import itertools
import json
import os
import platform
import select
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from . import calibration, contenders, guardian, tree, verdicts, xvfb
from .cell import SIGNAL_STACKS as SIGNAL_STACKS
from .cell import SIGNAL_TASKS as SIGNAL_TASKS
from .contenders import Contender
from .guardian import kill_group as kill_group
from .verdicts import Cell

START_ALLOWANCE_S = 15.0
"""For the interpreter, the toolkit's import and the window, beside the case's own time."""
EXIT_ALLOWANCE_S = 10.0
DUMP_S = 1.5
TAIL = 12_000


class Interrupted(Exception):
    """The run was ended while this cell ran or before it."""


def wait_process(process: subprocess.Popen[Any], seconds: float) -> bool:
    """Wait for the process to end, without reaping it early and without polling; False on timeout."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(max(0.0, seconds) * 1000):
            return False
    finally:
        os.close(descriptor)
    process.wait()
    return True


def wait_start(process: subprocess.Popen[Any], descriptor: int, seconds: float) -> bool:
    """Wait until the process has written to the pipe whose end `descriptor` is, or has closed it (by its
    end, too); False on timeout."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def wait_progress(process: subprocess.Popen[Any], descriptor: int, seconds: float) -> bool:
    """Wait for the process to end, as long as it writes to the pipe at least every so many seconds; False on
    timeout."""
    ended = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        poll.register(descriptor, select.POLLIN)
        while True:
            ready = dict(poll.poll(max(0.0, seconds) * 1000))
            if ended in ready:
                process.wait()
                return True
            if not ready:
                return False
            if not os.read(descriptor, 4096):
                poll.unregister(descriptor)  # closed: no more progress to come
    finally:
        os.close(ended)


def group_members(pgid: int) -> dict[int, str]:
    """Living processes of a process group: pid -> name."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path(f"/proc/{name}/stat").read_text()
            except OSError:
                continue
            comm = stat[stat.index("(") + 1 : stat.rindex(")")]
            fields = stat[stat.rindex(")") + 2 :].split()
            if int(fields[2]) == pgid and fields[0] not in "ZX":
                found[int(name)] = comm
    return found


def tail(path: Path, limit: int = TAIL) -> str:
    """The end of a text file."""
    try:
        data = path.read_bytes()
    except OSError:
        return ""
    text = data[-limit:].decode(errors="replace")
    return text if len(data) <= limit else "[...]\n" + text


class Session:
    """What a run knows and owns.  `run_cell` may be called on any thread."""

    def __init__(
        self,
        *,
        case_modules: Sequence[str] = (),
        timeout_scale: float = 1.0,
        scale: float | None = None,
        repeat: int = 1,
        run_dir: Path | None = None,
        keep: bool = False,
        python: Path | None = None,
        asyncio: Path | None = None,
        oracle: Session | None = None,
        whole: bool = False,
    ) -> None:
        """`python` is another interpreter for the cells that need no environment, and `asyncio` the folder that they must have
        got asyncio from.  `oracle` is the session whose plain runs are compared with; then plain is a contender as any other.
        With `whole` the events of cells that passed stay in the results too."""
        self.case_modules = [str(Path(m).resolve()) if m.endswith(".py") else m for m in case_modules]
        self.cases = tree.load_cases(self.case_modules)
        contenders.check_declared(self.cases)
        self.scale = calibration.scale() if scale is None else scale
        self.timeout_scale = timeout_scale
        self.repeat = repeat
        self.keep = keep
        self._python = python
        self._asyncio = asyncio
        self._oracle = oracle
        self._whole = whole
        self.limits: dict[str, float] = {}
        """Seconds until the watchdog, for cases that are not to have their own, before they are scaled."""
        self.owns_dir = run_dir is None
        self.run_dir = Path(tempfile.mkdtemp(prefix="ag-run-")) if run_dir is None else run_dir
        (self.run_dir / "plain").mkdir(parents=True, exist_ok=True)
        (self.run_dir / "probe").mkdir(exist_ok=True)
        self.python = platform.python_version()
        self._pool = xvfb.Pool()
        self._lock = threading.Lock()
        self._live: set[int] = set()
        self._ended = False
        self._count = itertools.count(1)
        self._probes: dict[str, dict[str, Any]] = {}
        self._parsed: dict[str, Contender] = {}

    # -- life

    def close(self) -> None:
        """End what is left and remove the run's folder."""
        self.abort()
        self._pool.close()
        if self.owns_dir and not self.keep:
            shutil.rmtree(self.run_dir, ignore_errors=True)

    def abort(self) -> None:
        """Kill all cells that run now and start no others."""
        with self._lock:
            self._ended = True
            live = set(self._live)
        for pid in live:
            kill_group(pid)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- processes

    def begin(self, command: Sequence[str | Path], **options: Any) -> subprocess.Popen[Any]:
        """Start a process that `abort` kills and that does not outlive this one (`guardian.start`), with nothing on its stdin.

        Give it to `end`.  Raises Interrupted after `abort`.
        """
        with self._lock:
            if self._ended:
                raise Interrupted
            process = guardian.start(command, stdin=subprocess.DEVNULL, **options)
            self._live.add(process.pid)
        return process

    def end(self, process: subprocess.Popen[Any]) -> bool:
        """Kill what is left of what `begin` started.  True after `abort`: what it said then counts for nothing."""
        with self._lock:
            self._live.discard(process.pid)
            interrupted = self._ended
        guardian.end(process)
        return interrupted

    def contender(self, name: str) -> Contender:
        """The parsed contender.  Raises UsageError."""
        if name not in self._parsed:
            self._parsed[name] = contenders.parse(name)
        return self._parsed[name]

    def interpreter(self, contender: Contender) -> Path | None:
        """What the contender's cells run with; None when its environment is not built."""
        if self._python is not None and contender.environment is None:
            return self._python
        return tree.interpreter(contender.environment)

    def beside(self, contender: Contender) -> list[str]:
        """Where the virtual environment that runs the harness has its packages, for a contender with an interpreter of its own:
        what somebody's suite or program needs is installed there."""
        if sys.prefix == sys.base_prefix or self.interpreter(contender) == Path(sys.executable):
            return []
        return list(dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib")))

    def environment(self, contender: Contender, display: str | None) -> dict[str, str]:
        """The environment of a cell's process."""
        env = dict(os.environ)
        for name in ("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "PYTHONASYNCIODEBUG", "DBUS_SESSION_BUS_ADDRESS",
                     "PYTHONDONTWRITEBYTECODE"):  # compiling harness and cases is half of what starting a cell costs
            env.pop(name, None)
        env.update(
            PYTHONPATH=tree.python_path([os.getcwd()] if contender.kind == "factory" else []),
            PYTHONHASHSEED=env.get("PYTHONHASHSEED", "0"),
            PYTHONUNBUFFERED="1",
            **dict(contender.env),
        )
        if display is not None:
            env["DISPLAY"] = display
        return env

    def check_asyncio(self, said: str | None) -> None:
        """Raises RuntimeError when a process says that its asyncio is another than the one that it must have, or says none."""
        if self._asyncio is not None and said != str(self._asyncio):
            raise RuntimeError(f"a process ran with the asyncio of {said} and not with that of {self._asyncio}")

    def spawn(self, contender: Contender, case: Any | None, repeat: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run one case (None: the probe) in a process of its own; what was seen.  Raises Interrupted.

        `repeat`: many times, as `repetitions.run` is told; the watchdog then starts anew with each.
        """
        folder = self.run_dir / f"c{os.getpid()}-{next(self._count)}"
        python = self.interpreter(contender)
        if python is None:
            return {"status": "missing", "message": tree.no_environment(str(contender.environment))}
        folder.mkdir()
        try:
            if not contender.display:
                return self._spawn(python, contender, case, folder, None, repeat)
            try:
                with self._pool.display() as display:
                    return self._spawn(python, contender, case, folder, display, repeat)
            except xvfb.NoDisplay as error:
                return {"status": "missing", "message": str(error)}
        finally:
            if not self.keep:
                shutil.rmtree(folder, ignore_errors=True)

    def _spawn(
        self,
        python: Path,
        contender: Contender,
        case: Any | None,
        folder: Path,
        display: str | None,
        repeat: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        spec = {
            "contender": contender.as_json(),
            "case": None if case is None else case.id,
            "module": None if case is None else case.func.__module__,
            "case_modules": self.case_modules,
            "scale": self.scale,
            "repeat": repeat,
        }
        command = [str(python), "-m", f"{tree.PACKAGE}.cell", str(folder / "spec.json")]
        began = time.monotonic()
        read, started = os.pipe()
        try:
            spec["started_fd"] = started
            (folder / "spec.json").write_text(json.dumps(spec))
            with open(folder / "stdout", "wb") as out, open(folder / "stderr", "wb") as err:
                process = self.begin(
                    command,
                    cwd=folder,
                    env=self.environment(contender, display),
                    stdout=out,
                    stderr=err,
                    pass_fds=[started],
                )
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(started)
        limit = (self.limits.get(case.id, case.timeout) if case is not None else 20.0) * self.scale * self.timeout_scale
        strays: dict[int, str] = {}
        try:
            late = not wait_start(process, read, START_ALLOWANCE_S * self.scale * self.timeout_scale)
            ended = not late and (wait_progress(process, read, limit) if repeat else wait_process(process, limit))
            if not ended and not late and (folder / "result.json").exists():
                ended = wait_process(process, EXIT_ALLOWANCE_S * self.scale)
            in_case = not (folder / "result.json").exists()
            if not ended:
                self._dump(process)
        finally:
            os.close(read)
            if process.poll() is not None and not self._ended:
                deadline = time.monotonic() + 0.5
                while (strays := group_members(process.pid)) and time.monotonic() < deadline:
                    time.sleep(0.02)
            interrupted = self.end(process)
        if interrupted:
            raise Interrupted
        raw = self._read(folder)
        if raw["status"] != "none":
            self.check_asyncio(raw.get("asyncio"))
        raw["took"] = time.monotonic() - began
        stderr = tail(folder / "stderr")
        status = process.returncode
        if raw["status"] == "none":
            after = ""
        elif in_case:
            # The signal that asks for the stacks may end a wait that nothing else would have ended.
            after = ", and ended when it was asked for its stacks: it was late, or that woke it and nothing else had"
        else:
            after = " at the interpreter's exit, after the case had ended"
        if not ended:
            what = "the case did not even begin" if late else f"no end within {limit:.1f} s{after}"
            raw.update(status="timeout", message=what)
        elif status < 0:
            raw.update(status="crash", message=f"died of {verdicts.signal_name(status)}{after}")
        elif status > 0 or raw["status"] == "none":
            raw.update(status="crash", message=f"the process ended with status {status}{after or ' before the case'}")
        if raw["status"] in ("timeout", "crash"):
            raw["last_events"] = tail(folder / "events.jsonl", 2000)
            if in_case:
                raw.pop("teardown", None)
        if strays:
            raw["strays"] = "outlived the cell: " + ", ".join(strays.values())
        raw["stderr"], raw["stdout"] = stderr, tail(folder / "stdout", 4000)
        return raw

    @staticmethod
    def _read(folder: Path) -> dict[str, Any]:
        try:
            return dict(json.loads((folder / "result.json").read_text()))
        except (OSError, ValueError):
            return {"status": "none"}

    @staticmethod
    def _dump(process: subprocess.Popen[Any]) -> None:
        """Ask a stuck process for its threads' and tasks' stacks; they go to its stderr."""
        for number in (SIGNAL_STACKS, SIGNAL_TASKS):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)
            if wait_process(process, DUMP_S / 2):
                return

    # -- what is known once a run

    def _known(self, kind: str, key: str) -> Path:
        return self.run_dir / kind / (key.replace("/", "_").replace(":", "_") + ".json")

    @contextlib.contextmanager
    def _once(self, kind: str, key: str) -> Iterator[Path]:
        """A file of this run that only one thread or process of the run writes."""
        path = self._known(kind, key)
        with open(path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield path

    def _cached(self, kind: str, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        with self._once(kind, key) as path:
            if path.exists():
                return dict(json.loads(path.read_text()))
            made = make()
            part = path.with_suffix(".part")
            part.write_text(json.dumps(made))
            part.rename(path)
            return made

    def known_plain(self, id: str) -> Path:
        """The file with what the case did under plain asyncio, once it has run."""
        return self._known("plain", id)

    def forget_plain(self, id: str, only_bad: bool = False) -> None:
        """Let the case run under plain asyncio again when it is next asked for (`only_bad`: if it went wrong there)."""
        path = self.known_plain(id)
        if path.exists() and not (only_bad and json.loads(path.read_text())["status"] in ("ok", "unsupported")):
            path.unlink()

    def plain(self, case: Any) -> dict[str, Any]:
        """What the case does under plain asyncio, run once in a run."""
        lacking = sorted(case.needs - contenders.UNIVERSAL)
        if lacking:
            return {"status": "unsupported", "message": ", ".join(lacking)}
        return self._cached("plain", case.id, lambda: self.spawn(self.contender("plain"), case))

    def usual(self, case: Any, raw: dict[str, Any]) -> dict[str, Any] | None:
        """What plain asyncio does in a case, where that is needed to say which noise of `raw` is its own; else None."""
        needed = raw.get("noise") and not case.needs - contenders.UNIVERSAL
        return self.plain(case) if needed else None

    def probe(self, name: str, again: bool = False) -> dict[str, Any]:
        """Can the contender run here?  ``status`` is ok, missing, error, timeout or crash; run once in a run, and when
        asked for `again`."""
        if again:
            self._probes.pop(name, None)
            self._known("probe", name).unlink(missing_ok=True)
        if name not in self._probes:
            contender = self.contender(name)
            if contender.kind == "plain":
                made: dict[str, Any] = {
                    "status": "ok",
                    "abilities": sorted(contenders.UNIVERSAL),
                    "declares": {},
                    "info": {"engine_ran": None, "strategy": None, "toolkit_version": None},
                }
            else:
                made = self._cached("probe", name, lambda: self.spawn(contender, None))
            self._probes[name] = made
        return self._probes[name]

    # -- cells

    def rerun(self, name: str, id: str) -> str:
        """The command that repeats one cell alone."""
        modules = [f"--cases {shlex.quote(module)}" for module in self.case_modules]
        return " ".join([tree.PROGRAM, "run", *modules, shlex.quote(f"{name}::{id}")])

    def cell(self, name: str, id: str, behaviour: str, reason: str, **fields: Any) -> Cell:
        """A cell's result with what needs no process."""
        values: dict[str, Any] = {
            "python": self.python,
            "toolkit_version": None,
            "engine_ran": None,
            "strategy": self.contender(name).strategy,
            "level": self.cases[id].level,
            "teardown": None,
            "expected": None,
            "seconds": 0.0,
            "detail": {},
            "rerun": self.rerun(name, id),
            **fields,
        }
        return Cell(contender=name, case=id, behaviour=behaviour, reason=reason, **values)

    def run_cell(self, name: str, id: str) -> Cell:
        """Run one cell (`repeat` times) and judge it.  Interruption makes it NOTRUN."""
        try:
            cells = [self._run_once(name, id)]
            while len(cells) < self.repeat and cells[-1].behaviour not in ("UNSUPPORTED", "NOTRUN"):
                cells.append(self._run_once(name, id))
        except Interrupted:
            return self.cell(name, id, "NOTRUN", "the run was interrupted", detail={"interrupted": True})
        if len(cells) == 1:
            return cells[0]
        return self._merge(cells)

    @staticmethod
    def _merge(cells: list[Cell]) -> Cell:
        worst = max(cells, key=lambda cell: (cell.bad, cell.behaviour != "PASS"))
        attempts = [
            {"behaviour": c.behaviour, "teardown": c.teardown, "reason": c.reason, "seconds": c.seconds} for c in cells
        ]
        worst.detail["attempts"] = attempts
        worst.teardown = verdicts.united(cell.teardown for cell in cells)
        worst.seconds = sum(cell.seconds for cell in cells)
        seen = {cell.behaviour for cell in cells}
        if len(seen) > 1 and "PASS" in seen:
            passed = sum(cell.behaviour == "PASS" for cell in cells)
            worst.reason = f"{worst.behaviour} in {len(cells) - passed} of {len(cells)} repetitions: {worst.reason}"
            worst.behaviour = "FLAKY"
        return worst

    def cannot_run(self, name: str, id: str) -> Cell | None:
        """The result of a cell that needs no process of its own, or None."""
        case, contender = self.cases[id], self.contender(name)
        if sys.version_info[:2] < tuple(case.min_python):
            needed = ".".join(map(str, case.min_python))
            return self.cell(name, id, "NOTRUN", f"needs CPython {needed}", detail={"by_design": True})
        if contender.kind == "guest":
            declared = contenders.declared_unsupported(name, id)
            if declared:
                return self.cell(name, id, "UNSUPPORTED", f"declared: {declared}")
        probe = self.probe(name)
        if probe["status"] != "ok":
            runnable = probe["status"] != "missing"
            reason = str(probe.get("message", probe["status"]))
            if runnable:
                reason = f"the contender's probe ended with {probe['status']}: {reason}"
            about = {"stderr": probe.get("stderr", ""), "runnable": runnable}
            return self.cell(name, id, "NOTRUN", reason, detail=about)
        lacking = sorted(case.needs - frozenset(probe["abilities"]))
        if lacking:
            version = probe.get("info", {}).get("toolkit_version")
            return self.cell(name, id, "UNSUPPORTED", f"lacks {', '.join(lacking)}", toolkit_version=version)
        return None

    def _run_once(self, name: str, id: str) -> Cell:
        early = self.cannot_run(name, id)
        if early is not None:
            return early
        case, contender = self.cases[id], self.contender(name)
        info = self.probe(name).get("info", {})
        control = self if self._oracle is None else self._oracle
        is_control = name == "plain" and control is self
        if is_control:
            raw, oracle = self.plain(case), None
        else:
            oracle = control.plain(case) if case.oracle == "plain" else None
            raw = self.spawn(contender, case)
        behaviour, reason = verdicts.judge(raw, case, name if control is self else f"head's {name}", oracle)
        teardown, why = verdicts.teardown_of(raw, None if is_control else control.usual(case, raw))
        info = {**info, **raw.get("info", {})}
        detail = {k: v for k, v in (("measures", raw.get("measures")), ("unclean", why)) if v}
        for key in ("engine_reason", "selector_class", "notifier", "counters"):
            if info.get(key):
                detail[key] = info[key]
        if behaviour != "PASS" or teardown:
            for key in ("traceback", "stderr", "stdout", "last_events", "events"):
                if raw.get(key):
                    detail[key] = raw[key]
            if oracle is not None:
                detail["plain_events"] = oracle.get("events")
        elif self._whole:
            detail["events"] = raw.get("events")
        if why and not reason:
            reason = "; ".join(f"{kind}: {text}" for kind, text in why.items())
        return self.cell(
            name,
            id,
            behaviour,
            reason,
            teardown=teardown,
            python=raw.get("python", self.python),
            toolkit_version=info.get("toolkit_version"),
            engine_ran=info.get("engine_ran"),
            strategy=info.get("strategy") or contender.strategy,
            seconds=round(raw.get("seconds", raw.get("took", 0.0)), 4),
            detail=detail,
        )


IDLE = "I"
"""The group whose cells do nothing for ten seconds, twice, and count what happens: many at a time disturb none, work would."""
IDLE_JOBS = 16
ALONE = "F"
"""The group whose cells compare the host's pace with and without a guest: each runs while no other cell does."""


def phase(id: str) -> int:
    """When a case's cells run: 0 side by side, 1 the idle ones together, 2 one after the other."""
    return {IDLE: 1, ALONE: 2}.get(id.partition(".")[0], 0)


class Ahead:
    """Runs cells ahead on threads, phase after phase (`phase`), each in the order given, `jobs` at a time in the first; whoever
    wants a result waits for it."""

    def __init__(self, session: Session, cells: Sequence[tuple[str, str]], jobs: int) -> None:
        self._session = session
        self._futures: dict[tuple[str, str], concurrent.futures.Future[Cell]] = {}
        self._executors: list[concurrent.futures.ThreadPoolExecutor] = []
        self._gates: list[threading.Event] = []
        for number, threads in enumerate((jobs, IDLE_JOBS, 1)):
            executor = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix=f"cell-{number}")
            self._executors.append(executor)
            # Each thread of a phase waits for all earlier cells before it takes its first.
            gate = self._gate(list(self._futures.values()))
            for _ in range(threads if self._futures else 0):
                executor.submit(gate.wait)
            now = [cell for cell in cells if phase(cell[1]) == number]
            self._futures |= {cell: executor.submit(session.run_cell, *cell) for cell in now}

    def _gate(self, futures: Sequence[concurrent.futures.Future[Cell]]) -> threading.Event:
        """An event that is set when all have ended, by being cancelled too (`concurrent.futures.wait` would not see that)."""
        gate = threading.Event()
        self._gates.append(gate)
        left = itertools.count(len(futures) - 1, -1)  # next() is atomic

        def ended(_: object) -> None:
            if next(left) == 0:
                gate.set()

        for future in futures:
            future.add_done_callback(ended)
        return gate

    def result(self, name: str, id: str) -> Cell:
        """The cell's result; runs it now if it was not among those given."""
        future = self._futures.get((name, id))
        return self._session.run_cell(name, id) if future is None else future.result()

    def watch(self, done: Callable[[Cell], Any]) -> None:
        """Call ``done(cell)``, on any thread, as each cell ends."""

        def ended(future: concurrent.futures.Future[Cell]) -> None:
            if not future.cancelled() and future.exception() is None:
                done(future.result())

        for future in self._futures.values():
            future.add_done_callback(ended)

    def finished(self) -> list[Cell]:
        """The results that are there."""
        return [
            f.result() for f in self._futures.values() if f.done() and not f.cancelled() and f.exception() is None
        ]

    def close(self) -> None:
        """Cancel what has not begun, kill what runs, wait for the threads."""
        for executor in self._executors:
            executor.shutdown(wait=False, cancel_futures=True)
        for gate in self._gates:
            gate.set()
        if any(not future.done() for future in self._futures.values()):
            self._session.abort()
        for executor in self._executors:
            executor.shutdown(wait=True)
