"""The process of one benchmark: ``python -m harness.bench.cell SPEC.json`` writes ``result.json`` beside it."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import select
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import adapters, cell, tree
from ..contenders import Contender
from . import stats

TICK_MS = 10
"""The host's own timer, whose lateness is measured."""
SETTLE_MS = 500
"""Before an idle window opens: start-up has to be over."""


class Meter:
    """Counters at the two ends of a window: turns of the guest, waits of the host, switches of the process."""

    def __init__(self) -> None:
        self.delta: dict[str, float] = {}
        self.guest: Any = None
        """The guest that is counted; None: the one of the calling thread, if any."""
        self._begin: dict[str, float] = {}
        library = ctypes.CDLL(None)
        self._waits: Any = getattr(library, "ag_waits_blocking", None)
        if self._waits is not None:
            self._waits.restype = ctypes.c_uint64

    def read(self) -> dict[str, float]:
        """All counters as of now."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        now: dict[str, float] = {
            "switches": usage.ru_nvcsw + usage.ru_nivcsw,
            "cpu_s": usage.ru_utime + usage.ru_stime,
        }
        if self._waits is not None:
            now["host_waits"] = self._waits()
        guest = self.guest or current_guest()
        if guest is not None:
            now.update({k: v for k, v in guest.counters().items() if isinstance(v, int)})
        return now

    def open(self) -> None:
        self._begin = self.read()

    def close(self) -> None:
        end = self.read()
        self.delta = {key: end[key] - self._begin.get(key, 0) for key in end}


def current_guest() -> Any:
    """The core's guest of this thread, or None."""
    core = sys.modules.get("asyncio_guest._core")
    return core.current_guest() if core is not None else None


class Ticks:
    """A host timer of `TICK_MS`; lateness is what an interval was longer than it should be."""

    def __init__(self, driver: Any) -> None:
        self.times: list[int] = []
        self._timer = driver.host_timer(TICK_MS, lambda: self.times.append(time.monotonic_ns()), repeat=True)

    def stop(self) -> list[float]:
        """Lateness of each interval in milliseconds, never below 0."""
        self._timer.cancel()
        return [max(0.0, (b - a) / 1e6 - TICK_MS) for a, b in zip(self.times, self.times[1:])]


def host_side(adapter: adapters.Adapter, seconds: float, frames: bool, end: Callable[[], object]) -> Callable[[], Any]:
    """Start the ticks and the animation; after `seconds` by the host's timer they stop and `end()` is called.
    Returns a function that gives what was seen."""
    driver = adapter.driver
    seen: dict[str, Any] = {}
    begun = time.monotonic_ns()
    ticks = Ticks(driver)
    animation = driver.frames() if frames else None

    def stop() -> None:
        elapsed = (time.monotonic_ns() - begun) / 1e9
        late = ticks.stop()
        seen["lateness_ms"] = [round(ms, 3) for ms in late]
        seen["host_timer.p99"] = stats.percentile(late, 0.99) if late else seconds * 1000
        if animation is not None:
            seen["frames"] = animation.stop() / elapsed
        end()

    driver.host_timer(int(seconds * 1000), stop)
    return lambda: seen


def run_host(adapter: adapters.Adapter, spec: dict[str, Any], bare: bool, window: Any, result: dict[str, Any]) -> None:
    """The host's own timer and frames, bare or while asyncio floods."""
    workloads = tree.scenarios("workloads")
    driver = adapter.driver
    if "timer" not in adapter.abilities():
        raise tree.scenarios("api").Unsupported("timer")
    frames = "paint" in adapter.abilities()
    if bare:
        seen = host_side(adapter, spec["seconds"], frames, driver.quit)
        driver.run()
    else:
        over = threading.Event()
        seen = host_side(adapter, spec["seconds"], frames, over.set)
        adapter.run(workloads.flood, over.is_set, window)
        if not over.is_set():
            raise AssertionError("the flood ended before the host's timer")
    result["values"] = {k: v for k, v in seen().items() if k != "lateness_ms"}
    result["raw"] = {"lateness_ms": seen()["lateness_ms"]}


def run_idle(adapter: adapters.Adapter, spec: dict[str, Any], bare: bool, window: Any, meter: Meter) -> None:
    """Process switches of an idle window, bare or with a guest that has nothing to do.

    The host's own timer opens and closes the window; for a host without timers a thread that sleeps does.
    """
    workloads = tree.scenarios("workloads")
    driver = adapter.driver
    timers = "timer" in adapter.abilities()

    def arrange(end: Callable[[], object]) -> None:
        meter.guest = current_guest()

        def close() -> None:
            window.on_close()
            end()

        def begin() -> None:
            window.on_open()
            if timers:
                driver.host_timer(int(spec["seconds"] * 1000), close)

        def clock() -> None:
            time.sleep(SETTLE_MS / 1000)
            begin()
            time.sleep(spec["seconds"])
            close()

        if timers:
            driver.host_timer(SETTLE_MS, begin)
        else:
            threading.Thread(target=clock).start()

    if not bare:
        adapter.run(workloads.idle, arrange, window)
    elif timers:
        arrange(driver.quit)
        driver.run()
    else:
        # What a thread costs that blocks in poll(2) for nothing.
        read, write = os.pipe()
        arrange(lambda: os.write(write, b"."))
        waiting = select.poll()
        waiting.register(read, select.POLLIN)
        waiting.poll()
        os.close(read)
        os.close(write)


def run_ping(adapter: adapters.Adapter, spec: dict[str, Any], window: Any, result: dict[str, Any]) -> None:
    """Open-loop ping from a process of its own."""
    workloads = tree.scenarios("workloads")
    client = subprocess.Popen(
        [sys.executable, "-E", "-S", str(Path(__file__).with_name("ping.py")), "500", str(spec["seconds"]), "0.5"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert client.stdin is not None and client.stdout is not None
    stdin = client.stdin

    def announce(port: int) -> None:
        stdin.write(f"{port}\n")
        stdin.flush()

    out: list[str] = []
    # The client prints when it is done; the pipe must not fill while the loop still serves it.
    reader = threading.Thread(target=lambda: out.append(client.stdout.read() if client.stdout else ""))
    reader.start()
    try:
        adapter.run(workloads.serve_ping, window, announce)
    except BaseException:
        client.kill()
        raise
    finally:
        client.wait()
        reader.join()
    if client.returncode:
        raise RuntimeError(f"the client of ping ended with status {client.returncode}")
    answers = json.loads(out[0])
    result["raw"] = {"intended_us": answers["intended"], "sent_us": answers["sent"], "sent_late": answers["late"]}
    result["values"] = {f"ping500.{name}": stats.percentile(answers["intended"], q) for name, q in PERCENTILES}
    result["uncorrected"] = {f"ping500.{name}": stats.percentile(answers["sent"], q) for name, q in PERCENTILES}


INFO = ("engine_ran", "engine_reason", "strategy", "selector_class", "notifier", "toolkit_version")
PERCENTILES = (("p50", 0.5), ("p99", 0.99))


def measure(adapter: adapters.Adapter, spec: dict[str, Any], result: dict[str, Any]) -> None:
    """Do the run that `spec` names."""
    workloads = tree.scenarios("workloads")
    tree.scenarios("api")  # drivers raise its Unsupported
    meter = Meter()
    window = workloads.Window(spec["seconds"], on_open=meter.open, on_close=meter.close)
    name, bare = spec["run"], spec["bare"]
    needs = {"host", "window", "paint", "timer"} if spec["window"] else set()
    adapter.open(frozenset(needs))
    if name == "host":
        run_host(adapter, spec, bare, window, result)
    elif name == "idle":
        run_idle(adapter, spec, bare, window, meter)
        result["values"] = {"idle_switches": meter.delta["switches"]}
    elif name == "ping500":
        run_ping(adapter, spec, window, result)
    else:
        options = {"max_iterations": spec["max_iterations"]} if spec["max_iterations"] and not spec["plain"] else {}
        adapter.run(workloads.RATES[spec["workload"]], window, **options)
        result["values"] = {name: window.operations / window.elapsed}
    result["operations"], result["elapsed"] = window.operations, window.elapsed
    result["counters"] = meter.delta
    info = adapter.info()
    result["info"] = {key: info[key] for key in INFO if isinstance(info.get(key), str)}
    adapter.close()


def main(argv: list[str]) -> int:
    """Run what ``argv[0]`` specifies; 0 when a result was written."""
    cell.arm_dumps()
    path = Path(argv[0])
    spec = json.loads(path.read_text())
    result: dict[str, Any] = {"status": "ok", "python": platform.python_version()}
    try:
        measure(adapters.adapter(Contender.from_json(spec["contender"])), spec, result)
    except adapters.Missing as error:
        result.update(status="missing", message=str(error))
    except BaseException as error:
        unsupported = type(error).__name__ == "Unsupported"
        result.update(
            status="unsupported" if unsupported else "error",
            message=str(error) if unsupported else "".join(traceback.format_exception_only(error)).strip(),
            traceback=traceback.format_exc(),
        )
    cell.write(path.with_name("result.json"), result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
