"""The process of one cell: runs one case under one contender and writes down what happened.

``python -m harness.cell SPEC.json``: reads the specification, writes ``result.json`` beside it.
The verdict is given elsewhere (`verdicts`): here is only what was seen.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fnmatch
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from . import adapters, repetitions, teardown, tree
from .contenders import Contender

T = TypeVar("T")
SIGNAL_STACKS = signal.SIGRTMAX - 1
"""C-level dump of all threads' stacks (works while the process is stuck in C)."""
SIGNAL_TASKS = signal.SIGRTMAX - 2
"""Python-level dump of the tasks' stacks (needs the main thread to run bytecode)."""


_kept: list[Any] = []
"""What lives until the interpreter ends."""


class Context:
    """The `CaseContext` of a cell."""

    def __init__(self, adapter: adapters.Adapter, spec: dict[str, Any], folder: Path) -> None:
        self._adapter = adapter
        self._spec = spec
        self._folder = folder
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._file = os.open(folder / "events.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.events: dict[str, list[list[Any]]] = {}
        self.measures: list[dict[str, Any]] = []
        self.lacks: str | None = None
        """The ability whose lack ended a call of the case's, which may have caught that."""
        self.failed: str | None = None
        """The first check that did not hold while nothing was lacking; what failed before a lack is not excused by it."""
        self.scale: float = spec["scale"]
        self.tmp: str = str(folder / "tmp")
        os.mkdir(self.tmp)

    def close(self) -> None:
        """The case is over; what still logs, logs nowhere."""
        with self._lock:
            os.close(self._file)
            self._pid = -1

    @property
    def driver(self) -> Any:
        return self._adapter.driver

    def log(self, event: str, data: Any = None, *, actor: str = "main") -> None:
        line = json.dumps({"actor": str(actor), "event": str(event), "data": data})
        entry = json.loads(line)
        with self._lock:
            self.events.setdefault(entry["actor"], []).append([entry["event"], entry["data"]])
            if os.getpid() == self._pid:
                os.write(self._file, line.encode() + b"\n")

    def check(self, condition: object, message: str, **values: Any) -> None:
        if not condition:
            shown = ", ".join(f"{name}={value!r}" for name, value in values.items())
            said = f"{message} ({shown})" if shown else message
            if self.failed is None and self.lacks is None:
                self.failed = said
            raise tree.scenarios("api").CheckFailed(said)

    def measure(self, name: str, value: float, unit: str) -> None:
        with self._lock:
            self.measures.append({"name": name, "value": value, "unit": unit})

    def run(self, main: Callable[..., Coroutine[Any, Any, T]], *args: Any, **options: Any) -> T:
        with self._noticed():
            return self._adapter.run(main, *args, **options)

    def new_loop(self) -> Any:
        with self._noticed():
            return self._adapter.new_loop()

    @contextlib.contextmanager
    def _noticed(self) -> Iterator[None]:
        """Notes the ability that is lacking: cases about errors catch everything."""
        try:
            yield
        except tree.scenarios("api").Unsupported as error:
            self.lacks = str(error)
            raise

    def start(
        self,
        main: Callable[..., Coroutine[Any, Any, Any]],
        *args: Any,
        done: Callable[[Any], Any] | None = None,
        **options: Any,
    ) -> Any:
        return self._adapter.start(main, *args, done=done, **options)

    def start_guest_run(self, main: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **options: Any) -> Any:
        return self._adapter.start_guest_run(main, *args, **options)

    async def modal(self, fn: Callable[..., T], *args: Any) -> T:
        return await self._adapter.modal(fn, *args)

    def counters(self) -> dict[str, int]:
        return self._adapter.counters()

    def child(self, func: Callable[[Any], Any], *, timeout: float = 20.0) -> Any:
        api = tree.scenarios("api")
        folder = Path(tempfile.mkdtemp(prefix="child-", dir=self._folder))
        spec = {**self._spec, "case": None, "child": [func.__module__, func.__qualname__]}
        (folder / "spec.json").write_text(json.dumps(spec))
        process = subprocess.Popen(
            [sys.executable, "-m", f"{tree.PACKAGE}.cell", str(folder / "spec.json")],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            out, err = process.communicate(timeout=timeout * self.scale)
        except subprocess.TimeoutExpired:
            for number in (SIGNAL_STACKS, signal.SIGKILL):
                process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.5)
            out, err = process.communicate()
            printed = (out + err).decode(errors="replace")[-4000:]
            raise api.CheckFailed(f"the child did not end within {timeout * self.scale:.1f} s: {printed}") from None
        return api.ChildResult(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))


def dump_tasks(*_: Any) -> None:
    """Print the stack of every task of every loop to stderr."""
    import asyncio

    try:
        tasks = list(getattr(asyncio.tasks, "_all_tasks", ()) or getattr(asyncio.tasks, "_scheduled_tasks", ()))
    except RuntimeError:
        tasks = []
    print(f"{len(tasks)} asyncio task(s):", file=sys.stderr)
    for task in tasks:
        try:
            task.print_stack(file=sys.stderr)
        except Exception as error:
            print(f"{error!r} for {task!r}", file=sys.stderr)
    sys.stderr.flush()


def arm_dumps() -> None:
    """Stacks on fatal signals and on the watchdog's; Ctrl-C as in a terminal."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts its background jobs so, and programs inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    faulthandler.enable(sys.stderr, all_threads=True)
    faulthandler.register(SIGNAL_STACKS, sys.stderr, all_threads=True, chain=False)
    signal.signal(SIGNAL_TASKS, dump_tasks)


def write(path: Path, result: dict[str, Any]) -> None:
    """Write `result` to `path` in one step."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(result))
    part.rename(path)


def probe(adapter: adapters.Adapter, result: dict[str, Any]) -> None:
    """Can the contender run here, and what does it say about itself?"""
    adapter.open(adapters.WINDOW)
    result["abilities"] = sorted(adapter.abilities())
    result["declares"] = adapter.declares
    trips = 0

    async def trivial() -> str:
        import asyncio

        nonlocal trips
        await asyncio.sleep(0.001)
        trips += 1
        return "ran"

    if adapter.run(trivial) != "ran" or trips != 1:
        raise RuntimeError("the trivial coroutine did not run to its end")
    result["info"] = adapter.info()
    adapter.close()


def run_case(adapter: adapters.Adapter, case: Any, spec: dict[str, Any], folder: Path, result: dict[str, Any]) -> None:
    """Run the case, then look at what it left behind."""
    noise = teardown.Noise(frozenset({case.func.__code__.co_filename}))
    noise.install()
    adapter.open(case.needs)
    for name, reason in adapter.declares.items():
        if fnmatch.fnmatchcase(case.id, name):
            result.update(status="unsupported", message=f"declared: {reason}")
            return
    lacking = sorted(case.needs - adapter.abilities())
    if lacking:
        result.update(status="unsupported", message=", ".join(lacking))
        return
    os.write(spec["started_fd"], b"started")
    if spec.get("repeat"):
        repetitions.run(adapter, case, spec, folder, result, noise)
        return
    os.close(spec["started_fd"])
    measured(adapter, case, spec, folder, result, noise)
    adapter.close()
    result["closed"] = True


def measured(
    adapter: adapters.Adapter, case: Any, spec: dict[str, Any], folder: Path, result: dict[str, Any], noise: teardown.Noise
) -> None:
    """`attempt`, and write into `result` what is left behind once nothing of the contender is installed."""
    contender = Contender.from_json(spec["contender"])
    before = teardown.snapshot()
    attempt(adapter, case, spec, folder, result)
    try:
        adapter.uninstall()
    except Exception as error:
        result["uninstall_error"] = repr(error)
    result["noise"] = noise.collect()
    for fd in getattr(adapter.driver, "closed_fds", ()):
        before.fds.pop(fd, None)
    result["teardown"] = teardown.compare(
        before, dict(contender.process_fds), frozenset(contender.process_threads)
    )


def attempt(adapter: adapters.Adapter, case: Any, spec: dict[str, Any], folder: Path, result: dict[str, Any]) -> None:
    """Run the case once, and write into `result` how it ended."""
    api = tree.scenarios("api")
    context = Context(adapter, {**spec, "needs": sorted(case.needs)}, folder)
    started = time.perf_counter()
    try:
        if case.is_async:
            adapter.run(case.func, context)
        else:
            case.func(context)
        result["status"] = "ok"
    except BaseException as error:
        if isinstance(error, api.Unsupported) or type(error).__name__ == "Unsupported":
            result.update(status="unsupported", message=str(error))
        elif isinstance(error, api.CheckFailed):
            result.update(status="check", message=str(error), traceback=traceback.format_exc())
        else:
            text = "".join(traceback.format_exception_only(type(error), error)).strip()
            result.update(status="error", message=text, traceback=traceback.format_exc())
        error.__traceback__ = None
        del error
    if context.lacks is not None:
        result.update(status="unsupported", message=context.lacks)
    # What a check in a callback raises a toolkit, or the case itself, may have caught.
    if result["status"] in ("ok", "unsupported") and context.failed is not None:
        result.update(status="check", message=context.failed)
    result["seconds"] = time.perf_counter() - started
    result["events"] = context.events
    result["measures"] = context.measures
    result["info"] = adapter.info()
    context.close()


def child(spec: dict[str, Any], folder: Path) -> Any:
    """What `Context.child` starts: call the function; the interpreter then ends as any program's does."""
    faulthandler.enable(sys.stderr, all_threads=True)
    faulthandler.register(SIGNAL_STACKS, sys.stderr, all_threads=True, chain=False)
    module, name = spec["child"]
    tree.load_cases_of(module, spec["case_modules"])
    func = sys.modules[module]
    for part in name.split("."):
        func = getattr(func, part)
    adapter = adapters.adapter(Contender.from_json(spec["contender"]))
    adapter.open(frozenset(spec["needs"]))
    func(Context(adapter, spec, folder))  # type: ignore[operator]
    return adapter


def main(argv: list[str]) -> int:
    """Run the cell that ``argv[0]`` specifies.  0 when a result was written."""
    spec_path = Path(argv[0])
    spec = json.loads(spec_path.read_text())
    folder = spec_path.parent
    if spec.get("child"):
        _kept.append(child(spec, folder))
        return 0
    arm_dumps()
    result: dict[str, Any] = {"status": "error", "python": platform.python_version()}
    try:
        contender = Contender.from_json(spec["contender"])
        try:
            adapter = adapters.adapter(contender)
            if spec["case"] is None:
                os.write(spec["started_fd"], b"started")
                probe(adapter, result)
                result["status"] = "ok"
            else:
                cases = tree.load_cases_of(spec["module"], spec["case_modules"])
                run_case(adapter, cases[spec["case"]], spec, folder, result)
        except adapters.Missing as error:
            result.update(status="missing", message=str(error))
    except BaseException as error:
        result.update(
            status="error",
            message="".join(traceback.format_exception_only(type(error), error)).strip(),
            traceback=traceback.format_exc(),
        )
    if "asyncio" in sys.modules:
        result["asyncio"] = os.path.realpath(sys.modules["asyncio"].__path__[0])
    write(folder / "result.json", result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
