"""``harness bench``: how fast is a guest, and what does its host pay for it?

Each figure comes from processes that run one after another in ABBA blocks: every contender once in order, then
once in reverse.  Before anything is timed, each contender does the run once under a counter of waits, and
passes the run's conformance case; one that does it wrong is not timed.
"""

from __future__ import annotations

import argparse
import fnmatch
import itertools
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import contenders, results, shards, tree, xvfb
from ..contenders import Contender
from ..session import SIGNAL_STACKS, Session, kill_group, tail, wait_process
from ..tree import UsageError
from . import stats, table
from .plan import BARS, DIFFERENCES, METRICS, RUNS, Metric, Run

SCHEMA = "asyncio-guest/bench@1"
START_S = 20.0
"""For the interpreter and the window of one process, beside its measured time."""
COUNT_S = 0.3
"""Length of the window in which waits are counted."""
HYPERFINE_RUNS = 15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``harness bench``."""
    parser.add_argument(
        "selectors", nargs="*", metavar="SELECTOR", help="CONTENDERGLOB::METRICGLOB, or either alone (default: all)"
    )
    parser.add_argument("--blocks", type=int, default=5, metavar="N", help="ABBA blocks (default: %(default)s)")
    parser.add_argument(
        "--time", type=float, default=1.0, metavar="FACTOR", help="stretch the measured time of each process"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the bootstrap (default: %(default)s)")
    parser.add_argument(
        "--shard", type=shards.parse, metavar="K/N", help="only the K-th of N parts; each measures its own plain asyncio"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="results file (default: results/latest/bench.json)")
    parser.add_argument("--bars", action="store_true", help="exit with 4 when a bar is missed")


def choose(selectors: Sequence[str]) -> dict[str, list[str]]:
    """Run -> contenders, as the selectors say.  Raises UsageError."""
    pairs: list[tuple[str, str]] = []
    for selector in selectors or ["*::*"]:
        left, colons, right = selector.partition("::")
        if not colons and (left in METRICS or any(fnmatch.fnmatchcase(m, left) for m in METRICS)) and left != "*":
            left, right = "*", left
        names = _default_contenders() if left in ("", "*") else contenders.expand(left)
        metrics = [m for m in METRICS if fnmatch.fnmatchcase(m, right or "*")]
        if not metrics:
            raise UsageError(contenders.unknown("metric", right, METRICS))
        pairs += [(METRICS[m][0].name, name) for m in metrics for name in names]
    chosen: dict[str, list[str]] = {}
    for name in RUNS:
        wanted = list(dict.fromkeys(c for r, c in pairs if r == name and (c != "plain" or RUNS[r].against == "plain")))
        if not wanted:
            continue
        if RUNS[name].against == "plain":
            wanted = ["plain", *(c for c in wanted if c != "plain")]
        else:
            hosts = dict.fromkeys(bare_of(contenders.parse(c)) for c in wanted)
            wanted = [*(h for h in hosts if h), *wanted]
        chosen[name] = wanted
    return chosen


def _default_contenders() -> list[str]:
    lates = [n for n in contenders.everything() if n.endswith("@late")]
    return [*contenders.defaults("quick"), *lates]


def bare_of(contender: Contender) -> str | None:
    """The pseudo-contender "this host without a guest"."""
    if contender.host is None:
        return None
    return f"bare/{contender.host}{'@late' if contender.late else ''}"


class Failed(Exception):
    """A process gave no figure; the message says why."""


class Bench:
    """One campaign: what has been measured so far."""

    def __init__(self, args: argparse.Namespace, chosen: dict[str, list[str]]) -> None:
        self.args = args
        self.chosen = chosen
        self.session = Session(scale=1.0)
        self.progress = table.Progress()
        self.interrupted = False
        self.begun = time.time()
        self.samples: dict[tuple[str, str], list[list[float]]] = {}
        """(contender, metric) -> for each block the values of its processes."""
        self.extra: dict[tuple[str, str], dict[str, Any]] = {}
        """(contender, metric) -> what goes beside the samples."""
        self.raw: dict[tuple[str, str], list[Any]] = {}
        self.failed: dict[tuple[str, str], str] = {}
        """(contender, run) -> why there is no figure, or fewer."""
        self._server: xvfb.Server | None = None
        self._count = itertools.count(1)

    # -- processes

    def display(self) -> str:
        """One X server serves all processes of the campaign: windows come and go in it."""
        if self._server is None or self._server.process.poll() is not None:
            self._server = xvfb.Server()
        return self._server.display

    def spawn(self, name: str, run: Run, seconds: float, *, counted: bool) -> dict[str, Any]:
        """Run one process to its end; its result.  Raises Failed."""
        bare = name.startswith("bare/")
        contender = contenders.parse(name.replace("bare/", "guest/", 1))
        folder = self.session.run_dir / f"b{next(self._count)}"
        folder.mkdir()
        spec = {
            "contender": contender.as_json(),
            "run": run.name,
            "workload": run.name.rstrip("1"),
            "seconds": seconds,
            "max_iterations": run.max_iterations,
            "plain": name == "plain",
            "bare": bare,
            "window": contender.display,
        }
        (folder / "spec.json").write_text(json.dumps(spec))
        python = tree.interpreter(contender.environment)
        if python is None:
            raise Failed(tree.no_environment(str(contender.environment)))
        try:
            env = self.session.environment(contender, self.display() if contender.display else None)
            # glibc moves its thresholds for mmap and for giving memory back by what a process happens to have freed
            # before: a recv buffer of 256 KiB then costs system calls and 64 page faults, or nothing. The same, and
            # nothing, for all contenders.
            env["MALLOC_MMAP_THRESHOLD_"] = str(4 << 20)
            env["MALLOC_TRIM_THRESHOLD_"] = str(64 << 20)
        except xvfb.NoDisplay as error:
            raise Failed(str(error)) from None
        library = waits_library()
        if counted and library is not None:
            env["LD_PRELOAD"] = " ".join(filter(None, [str(library), env.get("LD_PRELOAD")]))
        with open(folder / "stderr", "wb") as err:
            process = subprocess.Popen(
                [str(python), "-m", f"{tree.PACKAGE}.bench.cell", str(folder / "spec.json")],
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=err,
                stderr=err,
                start_new_session=True,
            )
            try:
                ended = wait_process(process, 2 * seconds + START_S)
                if not ended:
                    os.kill(process.pid, SIGNAL_STACKS)
                    wait_process(process, 1.0)
            finally:
                kill_group(process.pid)
                process.wait()
        noise = tail(folder / "stderr", 4000).strip()
        result = self.session._read(folder)
        shutil.rmtree(folder, ignore_errors=True)
        if not ended:
            raise Failed(f"no end within {2 * seconds + START_S:.0f} s\n{noise}")
        if result["status"] == "none" or process.returncode:
            raise Failed(f"the process ended with status {process.returncode}\n{noise}")
        if result["status"] in ("missing", "unsupported"):
            raise Failed(("UNSUPPORTED: " if result["status"] == "unsupported" else "") + str(result["message"]))
        if result["status"] != "ok":
            raise Failed(f"{result.get('message', '')}" + ("\n" + noise if noise else ""))
        return result

    # -- measuring

    def conform(self) -> None:
        """Each contender passes the conformance case of each run; what it fails is not timed."""
        cells = [(c, r) for r, cs in self.chosen.items() for c in cs if RUNS[r].case and c.startswith("guest/")]
        verdicts: dict[tuple[str, str], Any] = {}
        for i, (name, run_name) in enumerate(cells):
            case = RUNS[run_name].case
            assert case is not None
            self.progress.show(f"checking {name} {case}", i, len(cells))
            if (name, case) not in verdicts:
                verdicts[name, case] = self.session.run_cell(name, case)
            found = verdicts[name, case]
            if found.behaviour == "NOTRUN":
                self.failed[name, run_name] = found.reason
            elif found.behaviour != "PASS":
                self.failed[name, run_name] = f"{case} is {found.behaviour}: {found.reason}"

    def check(self) -> None:
        """Each contender does each run once, counted; what fails is not timed."""
        self.conform()
        cells = [(c, r) for r, cs in self.chosen.items() for c in cs if r not in ("start",)]
        for i, (name, run_name) in enumerate(cells):
            run = RUNS[run_name]
            if (name, run_name) in self.failed:
                continue
            self.progress.show(f"checking {name} {run_name}", i, len(cells))
            try:
                result = self.spawn(name, run, max(0.5, COUNT_S) if run_name in ("host", "idle") else COUNT_S,
                                    counted=True)
            except Failed as error:
                self.failed[name, run_name] = str(error)
                continue
            counters, operations = result["counters"], result["operations"]
            for metric in run.metrics:
                cell = self.extra.setdefault((name, metric.name), {})
                cell["python"] = result["python"]
                cell["info"] = {k: v for k, v in result["info"].items() if k != "counters"}
                if operations:
                    for field, counter in (("turns_per_op", "turns"), ("host_waits_per_op", "host_waits")):
                        if counter in counters:
                            cell[field] = round(counters[counter] / operations, 4)

    def block(self, number: int) -> None:
        """One block: all contenders in order, then in reverse, run by run."""
        for run_name, names in self.chosen.items():
            run = RUNS[run_name]
            if run_name == "start" or number >= min(run.blocks or self.args.blocks, self.args.blocks):
                continue
            names = [name for name in names if (name, run_name) not in self.failed]
            if not any(not name.startswith("bare/") and name != "plain" for name in names) and names != ["plain"]:
                continue
            for name in [*names, *reversed(names)]:
                if (name, run_name) in self.failed:
                    continue
                self.progress.show(f"block {number + 1}/{self.args.blocks} {name} {run_name}")
                try:
                    result = self.spawn(name, run, run.seconds * self.args.time, counted=False)
                except Failed as error:
                    self.failed[name, run_name] = str(error)
                    continue
                self.record(name, run, number, result)

    def record(self, name: str, run: Run, number: int, result: dict[str, Any]) -> None:
        """Keep what one process measured."""
        for metric in run.metrics:
            value = result["values"].get(metric.name)
            if value is None:
                continue
            blocks = self.samples.setdefault((name, metric.name), [])
            while len(blocks) <= number:
                blocks.append([])
            blocks[number].append(value)
            cell = self.extra.setdefault((name, metric.name), {})
            if "uncorrected" in result:
                cell.setdefault("uncorrected", []).append(result["uncorrected"][metric.name])
            if run.name == "idle":
                watched = ("turns", "wakes", "posts", "iterations", "cpu_s")
                cell["idle"] = {k: round(result["counters"][k], 4) for k in watched if k in result["counters"]}
        if "raw" in result:
            self.raw.setdefault((name, run.metrics[0].name), []).append({"block": number, **result["raw"]})

    def start_up(self) -> None:
        """Start-up time by hyperfine: interpreter, import, an empty coroutine, exit."""
        names = [name for name in self.chosen.get("start", ()) if "@late" not in name]
        if not names:
            return
        program = shutil.which("hyperfine")
        if program is None:
            self.failed.update({(name, "start"): "hyperfine is not installed: apt-get install hyperfine"
                                for name in names})
            return
        commands, kept = [], []
        for name in names:
            contender = contenders.parse(name)
            reasons = [self.failed[name, run] for run in self.chosen if (name, run) in self.failed]
            if any(not reason.startswith("UNSUPPORTED") for reason in reasons):
                continue
            body = "import asyncio; asyncio.run(asyncio.sleep(0))"
            if contender.kind == "guest":
                imports = "".join(f"import {module}; " for module in contender.before)
                gi = "".join(f"import gi; gi.require_version({n!r}, {v!r}); " for n, v in contender.gi)
                body = (f"{gi}{imports}import asyncio, asyncio_guest; "
                        f"asyncio_guest.run(asyncio.sleep(0), host={contender.host!r})")
            elif contender.kind != "plain":
                continue
            pairs = [f"{k}={v}" for k, v in contender.env]
            commands.append(shlex.join(["env", *pairs, str(tree.interpreter(contender.environment)), "-c", body]))
            kept.append(name)
        out = self.session.run_dir / "hyperfine.json"
        self.progress.show("start-up by hyperfine")
        env = self.session.environment(contenders.parse("plain"), self.display())
        done = subprocess.run(
            [program, "-N", "--warmup", "2", "--runs", str(HYPERFINE_RUNS), "--style", "none", "--export-json", out,
             *commands],
            env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )
        if done.returncode:
            self.failed.update({(name, "start"): done.stderr.strip()[-2000:] for name in kept})
            return
        for name, found in zip(kept, json.loads(out.read_text())["results"]):
            self.samples[name, "start"] = [[t] for t in found["times"]]
            self.extra[name, "start"] = {"python": platform.python_version()}

    def run(self) -> None:
        """Everything, until it is done or interrupted."""
        try:
            self.check()
            for number in range(self.args.blocks):
                self.block(number)
            self.start_up()
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            self.progress.end()

    def close(self) -> None:
        """End the X server and remove the folder of the run."""
        if self._server is not None:
            self._server.stop()
        self.session.close()

    # -- results

    def cells(self) -> list[dict[str, Any]]:
        """The figures, as they go to the results file."""
        cells = []
        for run_name, names in self.chosen.items():
            for metric in RUNS[run_name].metrics:
                for name in names:
                    cells.append(self.cell(name, RUNS[run_name], metric))
        return cells

    def cell(self, name: str, run: Run, metric: Metric) -> dict[str, Any]:
        """One figure."""
        blocks = self.samples.get((name, metric.name), [])
        extra = dict(self.extra.get((name, metric.name), {}))
        reason = self.failed.get((name, run.name))
        cell: dict[str, Any] = {
            "contender": name,
            "metric": metric.name,
            "unit": metric.unit,
            "higher_is_better": metric.higher,
            "python": extra.pop("python", platform.python_version()),
            "samples": [value for block in blocks for value in block],
            "blocks": [number for number, block in enumerate(blocks) for _ in block],
            "turns_per_op": extra.pop("turns_per_op", None),
            "host_waits_per_op": extra.pop("host_waits_per_op", None),
            "ratio_to_plain": None,
            **extra,
        }
        if reason is not None:
            cell["reason"] = reason
        raw = self.raw.get((name, metric.name))
        if raw:
            cell["raw"] = raw
        base = "plain" if metric.against == "plain" else None
        if base is None and not name.startswith("bare/"):
            base = bare_of(contenders.parse(name))
        theirs = self.samples.get((base, metric.name), []) if base and base != name else []
        if blocks and theirs:
            found = stats.ratio(blocks, theirs, higher=metric.higher, seed=self.args.seed)
            cell["ratio_to_plain" if base == "plain" else "ratio_to_bare"] = found
            bar = BARS.get((metric.name, name))
            if bar is not None:
                cell["bar"] = {"ratio": bar, "met": stats.bar_met(found, bar, higher=metric.higher)}
            limit = DIFFERENCES.get(metric.name)
            if limit is not None:
                ours, bare = (stats.percentile([v for b in bs for v in b], 0.5) for bs in (blocks, theirs))
                cell["bar"] = {"difference": limit, "measured": round(ours - bare, 3), "met": ours - bare <= limit}
        return cell

    def document(self) -> dict[str, Any]:
        """The results file."""
        return {"schema": SCHEMA, "meta": meta(self), "cells": self.cells()}


def meta(bench: Bench) -> dict[str, Any]:
    """What the figures belong to."""
    about = results.meta(
        seed=bench.args.seed, interrupted=bench.interrupted, seconds=time.time() - bench.begun, tier="bench"
    )
    kept = {key: about[key] for key in ("commit", "dirty", "date", "seconds", "machine", "seed", "interrupted")}
    kept["machine"]["load_at_end"] = round(os.getloadavg()[0], 2)
    kept["shard"] = None if bench.args.shard is None else str(bench.args.shard)
    return {**kept, "blocks": bench.args.blocks, "time_factor": bench.args.time}


def waits_library() -> Path | None:
    """The library that counts waits, where the benchmarks of the core were built."""
    built = tree.site()
    if built is None:
        return None
    found = built.parent / "meson" / "guest" / "bench" / "libagwaits.so"
    return found if found.exists() else None


def main(args: argparse.Namespace) -> int:
    """Measure, write the results file, print the table; the exit code of ``harness bench``."""
    if args.blocks < 1 or args.time <= 0:
        raise UsageError("--blocks and --time must be positive")
    chosen = choose(args.selectors)
    if args.shard is not None:
        # By run and not by contender: a ratio is made of processes of one machine, interleaved.
        number = shards.split(chosen, args.shard.count, lambda run: run)
        chosen = {run: names for run, names in chosen.items() if number[run] == args.shard.number}
        print(f"shard {args.shard}: {', '.join(chosen) or 'nothing'}")
    bench = Bench(args, chosen)
    try:
        bench.run()
        document = bench.document()
        code = document["meta"]["exit_code"] = exit_code(document, bars=args.bars)
        path = args.json or tree.root() / "results" / "latest" / "bench.json"
        results.write(path, document, "bench")
        table.show(document)
        print(f"results: {path}")
    finally:
        bench.close()
    return code


def exit_code(document: dict[str, Any], *, bars: bool) -> int:
    """The exit code of a run with these results; `bars`: whether a bar that was missed counts."""
    if document["meta"]["interrupted"]:
        return results.INTERRUPTED
    if not any(cell["samples"] for cell in document["cells"]):
        return results.NOTHING_RAN
    missed = any(cell.get("bar", {}).get("met") is False for cell in document["cells"])
    return results.REGRESSION if bars and missed else results.OK
