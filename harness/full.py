"""``harness full``: everything that the quick tier leaves out, in parts that can run on several machines, and what is
left of it.

The parts are: the conformance cases of the full tier under every strategy and engine, CPython's test_asyncio and the
suites of other projects (``suites.toml``) under every host with both engines, and if asked for the leaks. Each shard of each part leaves a file in one folder; the
folder says what is still to do, and is merged when nothing is.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from . import report, results, shards, suite_pytest, tree
from .tree import UsageError

EXAMPLES = """\
examples:
  full                                  everything here, one part after the other
  full --shard 1/16                     a sixteenth, here; other machines take 2/16 and so on
  full --shard 2/16 --leaks             with a sixteenth of the leaks
  full --left --of 16                   run nothing: say what is left in results/full, and merge what is there

Files of the shards go to results/full (--folder); copied together from several machines they are merged into
results/full/conformance.json and so on. Files of another commit, or of sources with changes beside
their commit, are left alone, and said to be.

"""


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    add = verb.add_argument
    add("--shard", type=shards.parse, default=shards.Shard(1, 1), metavar="K/N", help="only the K-th of N parts")
    add("--of", type=int, default=0, metavar="N", help="with --left: of how many shards")
    add("--left", action="store_true", help="run nothing; say what is left, and merge what is there")
    add("--leaks", action="store_true", help="the leaks too")
    add("--suites", action=argparse.BooleanOptionalAction, default=True, help="CPython's test_asyncio, and those of other projects")
    add("--budget", type=float, default=20.0, metavar="S", help="of leaks: seconds a cell (default: 20)")
    add("-j", "--jobs", type=int, default=0, metavar="N", help="cells at a time (default: one a core)")
    add("--again", action="store_true", help="run a part although its file is there")
    add("--folder", type=Path, metavar="DIR", help="where the files of the shards are (default: results/full)")
    add("-q", "--quiet", action="store_true", help="no line for a cell that passed")


def parts(options: argparse.Namespace) -> dict[str, list[str]]:
    """Part -> the command line that runs it, without shard and file."""
    jobs = ["-j", str(options.jobs)] if options.jobs else []
    quiet = ["-q"] if options.quiet else []
    found = {"conformance": ["run", "--tier", "full", *jobs, *quiet]}
    if options.suites:
        for name in suite_pytest.names():
            found[suite_pytest.stem(name)] = ["suite", name, *jobs]
    if options.leaks:
        found["leaks"] = ["leaks", "--budget", str(options.budget), *jobs]
    return found


def file_of(folder: Path, part: str, shard: shards.Shard) -> Path:
    """Where the results of a shard go."""
    return folder / f"{part}-{shard.number}-of-{shard.count}.json"


def complete(path: Path, commit: str | None) -> bool:
    """Is there a whole result of this commit?"""
    if not path.exists():
        return False
    about = results.read(path, results.kind(path))["meta"]
    return about["commit"] == commit and not about["interrupted"] and not about["dirty"]


def left(folder: Path, names: list[str], count: int, out: Any, fresh: Collection[Path] = ()) -> list[int]:
    """Say for each part what is left, and merge what is there.  The exit codes.

    `fresh`: files of this very run, which are of the tree as it is, changes included."""
    commit = results.meta()["commit"]
    codes = []
    for part in names:
        paths, other = [], []
        for number in range(1, count + 1):
            path = file_of(folder, part, shards.Shard(number, count))
            if complete(path, commit) or path in fresh:
                paths.append(path)
            elif path.exists():
                other.append(path.name)
        if other:
            said = f"{part}: left alone, of another commit, changed sources or interrupted: {', '.join(other)}"
            out.print(said, markup=False)
        if not paths:
            out.print(f"{part}: left: all {count} shard(s)", style="yellow", markup=False)
            codes.append(results.NOTHING_RAN)
            continue
        out.print(f"== {part}: {len(paths)} of {count} shard(s)", markup=False)
        merged = folder / f"{part}.json"
        options = argparse.Namespace(
            file=paths, json=merged, markdown=None, partial=False, require=[], strict=False
        )
        codes.append(shards.merge(options))
    return codes


def main(options: argparse.Namespace, run: Callable[[list[str]], int]) -> int:
    """The verb; `run` runs another verb by its command line.  The exit code is the worst of all parts."""
    shard: shards.Shard = options.shard
    if options.of < 0 or options.jobs < 0 or options.budget < 0:
        raise UsageError("--of, --jobs and --budget must not be negative")
    if options.of and not options.left:
        raise UsageError("--of belongs to --left; a shard to run is named by --shard K/N")
    count = options.of or shard.count
    folder = options.folder or tree.root() / "results" / "full"
    out = report.console()
    chosen = parts(options)
    codes: list[int] = []
    fresh: set[Path] = set()
    if not options.left:
        commit = results.meta()["commit"]
        for number, (part, command) in enumerate(chosen.items(), 1):
            path = file_of(folder, part, shard)
            if not options.again and complete(path, commit):
                code = int(results.read(path, results.kind(path))["meta"]["exit_code"])
                codes.append(code)
                said = f"part {number}/{len(chosen)}: {part} {shard} is there: {path} (exit code {code})"
                out.print(said, markup=False)
                continue
            out.print(f"part {number}/{len(chosen)}: {part}, shard {shard}", style="bold", markup=False)
            began = time.monotonic()
            more = ["--shard", str(shard), "--json", str(path)]
            if part != "leaks":
                more += ["--results", str(folder / "last")]
            path.unlink(missing_ok=True)  # a verb that finds nothing to run writes none
            code = run([*command, *more])
            codes.append(code)
            out.print(f"part {number}/{len(chosen)}: {part} took {time.monotonic() - began:.0f} s (exit code {code})")
            if code == results.INTERRUPTED:
                break
            if path.exists():
                fresh.add(path)
    merged = left(folder, list(chosen), count, out, fresh)
    # What is left of other shards is theirs, and turns only the code of the whole.
    if options.left or count == 1:
        codes += merged
    return shards.worst(codes)
