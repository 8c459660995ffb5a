"""The process of one cell: runs one case under one contender and writes down what happened.

``python -m harness.cell SPEC.json``: reads the specification, writes ``result.json`` beside it.
The verdict is given elsewhere (`verdicts`): here is only what was seen.
"""

from __future__ import annotations

import faulthandler
import fnmatch
import importlib.metadata
import json
import os
import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from . import adapters, teardown, tree
from .contenders import Contender

T = TypeVar("T")
SIGNAL_STACKS = signal.SIGRTMAX - 1
"""C-level dump of all threads' stacks (works while the process is stuck in C)."""
SIGNAL_TASKS = signal.SIGRTMAX - 2
"""Python-level dump of the tasks' stacks (needs the main thread to run bytecode)."""


class Context:
    """The `CaseContext` of a cell."""

    def __init__(self, adapter: adapters.Adapter, spec: dict[str, Any], folder: Path) -> None:
        self._adapter = adapter
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._file = os.open(folder / "events.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.events: dict[str, list[list[Any]]] = {}
        self.measures: list[dict[str, Any]] = []
        self.scale: float = spec["scale"]
        self.tmp: str = str(folder / "tmp")
        os.mkdir(self.tmp)

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
            raise tree.scenarios("api").CheckFailed(f"{message} ({shown})" if shown else message)

    def measure(self, name: str, value: float, unit: str) -> None:
        with self._lock:
            self.measures.append({"name": name, "value": value, "unit": unit})

    def run(self, main: Callable[..., Coroutine[Any, Any, T]], *args: Any, **options: Any) -> T:
        return self._adapter.run(main, *args, **options)

    def new_loop(self) -> Any:
        return self._adapter.new_loop()


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
    """Stacks on fatal signals and on the watchdog's."""
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
    adapter.open(frozenset())
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
    api = tree.scenarios("api")
    contender = Contender.from_json(spec["contender"])
    noise = teardown.Noise()
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
    context = Context(adapter, spec, folder)
    before = teardown.snapshot()
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
            text = "".join(traceback.format_exception_only(error)).strip()
            result.update(status="error", message=text, traceback=traceback.format_exc())
        error.__traceback__ = None
        del error
    result["seconds"] = time.perf_counter() - started
    result["events"] = context.events
    result["measures"] = context.measures
    try:
        adapter.uninstall()
    except Exception as error:
        result["uninstall_error"] = repr(error)
    result["info"] = adapter.info()
    result["noise"] = noise.collect()
    result["teardown"] = teardown.compare(before, dict(contender.process_fds))
    adapter.close()
    result["closed"] = True


def main(argv: list[str]) -> int:
    """Run the cell that ``argv[0]`` specifies.  0 when a result was written."""
    arm_dumps()
    spec_path = Path(argv[0])
    spec = json.loads(spec_path.read_text())
    folder = spec_path.parent
    result: dict[str, Any] = {"status": "error", "python": platform.python_version()}
    try:
        contender = Contender.from_json(spec["contender"])
        try:
            adapter = adapters.adapter(contender)
            if spec["case"] is None:
                probe(adapter, result)
                result["status"] = "ok"
            else:
                cases = tree.load_cases(spec["case_modules"])
                run_case(adapter, cases[spec["case"]], spec, folder, result)
        except adapters.Missing as error:
            result.update(status="missing", message=str(error))
    except BaseException as error:
        result.update(
            status="error",
            message="".join(traceback.format_exception_only(error)).strip(),
            traceback=traceback.format_exc(),
        )
    try:
        result["package_version"] = importlib.metadata.version("asyncio-guest")
    except importlib.metadata.PackageNotFoundError:
        result["package_version"] = None
    write(folder / "result.json", result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
