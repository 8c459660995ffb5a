"""A part of a run on each of several machines, the parts put together again, and what a run left over.

``--shard K/N`` takes the K-th of N parts. The division depends on nothing but the selected cells, so that machines
that are given the same selectors agree on it; all cells of a case stay together, because each part runs the
case once under plain asyncio. A part's results name the other parts' cells too, as NOTRUN with their shard:
so the parts know, put together, what is missing.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import random
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from . import results
from .tree import UsageError
from .verdicts import Cell

T = TypeVar("T")
PRIORITY = (
    results.CRASHED,
    results.USAGE,
    results.INTERRUPTED,
    results.NOTHING_RAN,
    results.UNEXPECTED,
    results.REGRESSION,
    results.STALE,
    results.INCONCLUSIVE,
    results.OK,
)
"""Exit codes, the one that wins first."""
SHARD = "shard"
"""Key of a cell's detail: the shard that it belongs to, when that is another one."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """One of `count` parts; the first has the number 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def parse(text: str) -> Shard:
    """``K/N`` with 1 <= K <= N.  Raises ValueError, which argparse turns into a usage error."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError(text)
    return Shard(int(found[1]), int(found[2]))


parse.__name__ = "shard (K/N, the first is 1)"  # argparse names the type by it


def split(items: Iterable[T], count: int, key: Callable[[T], Any]) -> dict[T, int]:
    """Item -> number of its shard.  Items of one key stay together, unless there are fewer keys than shards."""
    items = list(items)
    keys = sorted({key(item) for item in items})
    if len(keys) >= count:
        number = {k: n % count + 1 for n, k in enumerate(keys)}
        return {item: number[key(item)] for item in items}
    return {item: n % count + 1 for n, item in enumerate(sorted(items))}  # type: ignore[type-var]


def take(cells: Sequence[tuple[str, str]], shard: Shard | None) -> tuple[list[tuple[str, str]], dict[Any, int]]:
    """The cells (contender, case) of a shard, in order, and the others with the number of theirs."""
    if shard is None:
        return list(cells), {}
    number = split(cells, shard.count, lambda cell: cell[1])
    own = [cell for cell in cells if number[cell] == shard.number]
    return own, {cell: number[cell] for cell in cells if number[cell] != shard.number}


def choose_seed(wanted: int | None) -> int | None:
    """The seed of a shuffle: the given one, or a new one for -1."""
    if wanted is None:
        return None
    return random.SystemRandom().randrange(1, 2**31) if wanted == -1 else wanted


def other(shard: Shard, number: int) -> dict[str, Any]:
    """Reason and detail of a cell that belongs to another shard; for `Session.cell`."""
    return {
        "behaviour": "NOTRUN",
        "reason": f"not in shard {shard}",
        "detail": {SHARD: f"{number}/{shard.count}", "by_design": True},
    }


def elsewhere(cell: Cell) -> bool:
    """Is it in the results only because it belongs to another shard?"""
    return SHARD in cell.detail


def worst(codes: Iterable[int]) -> int:
    """The exit code that wins; one that means nothing is a crash."""
    return min(codes, key=lambda code: PRIORITY.index(code) if code in PRIORITY else 0, default=results.OK)


# -- what the last run left


def failed(cells: Iterable[Cell]) -> list[tuple[str, str]]:
    """The cells that were not as expected: wrong, stale, or not run though they could have been."""
    return [
        (cell.contender, cell.case)
        for cell in cells
        if results.unexpected(cell)
        or (cell.expected is not None and cell.expected["stale"])
        or results.unknown(cell)
    ]


def rerun(cells: Sequence[tuple[str, str]], path: Path, known: Iterable[str]) -> list[tuple[str, str]]:
    """Those of `cells` that `failed` finds in a results file.  Raises UsageError for a file that cannot be used and
    for cells in it whose case is not `known` any more."""
    wanted = failed(results.cells(path, ("conformance",)))
    if gone := {case for _, case in wanted} - set(known):
        raise UsageError(f"{path} has cases that do not exist: {', '.join(sorted(gone))} (--cases MODULE?)")
    return [cell for cell in wanted if not cells or cell in set(cells)]


# -- merging


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """The options of ``harness merge``."""
    add = verb.add_argument
    add("file", nargs="+", type=Path, metavar="FILE", help="results of shards, or of runs of other cells; one kind")
    add("--json", type=Path, required=True, metavar="FILE", help="where the merged results go")
    add("--markdown", type=Path, metavar="FILE", help="write the Markdown report here (conformance)")
    add("--partial", action="store_true", help="cells that no file has do not turn the exit code")
    add("--require", action="append", default=[], metavar="SELECTOR", help="exit with 5 unless these cells ran")
    add("--strict", action="store_true", help="peers count for the exit code")


EXAMPLES = """\
examples:
  run --shard 1/3 --json one.json          a third of the cells, here; 2/3 and 3/3 on other machines
  merge one.json two.json three.json --json all.json
                                           the table and the exit code of all of them
  merge one.json --json all.json           says which shards are missing, and ends with 5
  merge tk.json gtk.json --json both.json  runs of different cells, without shards
  merge fuzz-1.json fuzz-2.json --json fuzz.json
                                           campaigns: programs add up, finds join

Refused (2): files of different kinds, commits, interpreters or selections; a shard, a cell or a seeded fault that is there twice;
shards of campaigns of different seeds;
--require, --strict and --markdown for results that are no cells of cases.

"""


def numbers(about: dict[str, Any]) -> tuple[set[int], int] | None:
    """The shards of a file by its meta (``3/5``, or ``1,3/5`` when merged from several), and their count."""
    if not about.get("shard"):
        return None
    left, _, right = about["shard"].partition("/")
    return {int(n) for n in left.split(",")}, int(right)


SUMMED = ("test_asyncio", "fuzz", "selftest")
"""Kinds whose parts end as their runs did: the worst of their exit codes is that of the whole."""
MERGED = (*results.CELLS, "bench", *SUMMED)
"""The kinds that have parts."""


class Parts:
    """Several files of one kind that belong together."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Reads and checks.  Raises UsageError naming the file that does not fit."""
        self.paths = list(paths)
        self.kinds = [results.kind(path) for path in paths]
        self.kind = self.kinds[0]
        for path, kind in zip(paths, self.kinds):
            if kind not in MERGED:
                raise results.wrong_kind(path, kind, MERGED)
            if kind != self.kind:
                raise UsageError(f"{path} is of kind {kind}, {paths[0]} of kind {self.kind}")
        self.documents = [results.read(path, self.kind) for path in paths]
        self.warnings: list[str] = []
        first = self.documents[0]
        for path, document in zip(paths, self.documents):
            for what, value, base in (
                (what, _about(document, what), _about(first, what)) for what in ("commit", "python", "tier", "kind", "suite")
            ):
                if value != base:
                    raise UsageError(f"{path} is of another {what}: {value}; {paths[0]} is of {base}")
            if document["meta"]["dirty"]:
                self.warnings.append(f"{path} comes from a tree with changes that are not in its commit")
        self.count, self.there = self._shards()
        self.missing = sorted(set(range(1, self.count + 1)) - self.there)

    def _shards(self) -> tuple[int, set[int]]:
        there: dict[int, Path] = {}
        found = [numbers(document["meta"]) for document in self.documents]
        count = found[0][1] if found[0] else 0
        for path, one in zip(self.paths, found):
            if (one[1] if one else 0) != count:
                words = [f"{p} of {o[1] if o else 'none'}" for p, o in ((self.paths[0], found[0]), (path, one))]
                raise UsageError(f"another number of shards: {words[0]}, {words[1]}")
            for number in one[0] if one else ():
                if number in there:
                    raise UsageError(f"shard {number}/{count} is there twice: {there[number]} and {path}")
                there[number] = path
        return count, set(there)

    def meta(self) -> dict[str, Any]:
        """The meta of all of them together."""
        metas = [document["meta"] for document in self.documents]
        last = max(metas, key=lambda m: str(m["date"]))
        versions: dict[str, str] = {}
        for meta in metas:
            versions.update(meta["machine"]["versions"])
        seeds = {meta.get("seed") for meta in metas}
        merged = {
            **last,
            "dirty": None if last["dirty"] is None else any(meta["dirty"] for meta in metas),
            "machine": {**last["machine"], "versions": versions},
            "interrupted": any(meta["interrupted"] for meta in metas),
            "shard": f"{','.join(map(str, sorted(self.there)))}/{self.count}" if self.missing else None,
        }
        if None not in seeds or len(seeds) == 1:  # a bench's seed is no order, and stays
            merged["seed"] = seeds.pop() if len(seeds) == 1 else metas[0]["seed"]
        else:
            merged["seed"] = None
        for key, together in (("seconds", sum), ("scale", max)):
            values = [meta[key] for meta in metas if meta.get(key) is not None]
            if values:
                merged[key] = together(values)  # type: ignore[operator]
        return merged

    def cells(self) -> list[dict[str, Any]]:
        """The cells of all files, each once; a cell of another shard's only where no file has it.

        Raises UsageError for a cell that ran in two files, and for shards of different selections.
        """
        found: dict[tuple[str, ...], dict[str, Any]] = {}
        owner: dict[tuple[str, ...], Path] = {}
        whole: set[tuple[str, ...]] | None = None
        for path, document in zip(self.paths, self.documents):
            keys: set[tuple[str, ...]] = set()
            for cell in document["cells"]:
                key = (str(cell["contender"]), str(cell.get("case") or cell["metric"]))
                keys.add(key)
                if SHARD in cell.get("detail", {}):
                    found.setdefault(key, cell)
                elif key in owner:
                    raise UsageError(f"{key[0]} {key[1]} is in both {owner[key]} and {path}")
                else:
                    found[key], owner[key] = cell, path
            if self.count and self.kind != "bench":
                if whole is not None and keys != whole:
                    odd = sorted(keys ^ whole)[0]
                    raise UsageError(f"{path} is of another selection: {odd[0]} {odd[1]} is not in all files")
                whole = keys
        return list(found.values())

    def programs(self) -> dict[str, Any]:
        """What campaigns of ``fuzz`` have, counted together.  Raises UsageError for shards of different seeds."""
        if self.count:
            for path, document in zip(self.paths, self.documents):
                if (seed := document["meta"]["seed"]) != (first := self.documents[0]["meta"]["seed"]):
                    raise UsageError(f"{path} is a shard of seed {seed}, {self.paths[0]} of seed {first}: give both one --seed")
        ran: collections.Counter[str] = collections.Counter()
        notrun: dict[str, str] = {}
        for document in self.documents:
            ran.update(document["contenders"])
            notrun.update(document["not_run"])
        return {
            "programs": sum(document["programs"] for document in self.documents),
            "contenders": dict(ran),
            "not_run": notrun,
            "finds": [find for document in self.documents for find in document["finds"]],
        }

    def faults(self) -> list[dict[str, Any]]:
        """The seeded faults of ``selftest``, each once.  Raises UsageError for one that is there twice."""
        found: dict[str, dict[str, Any]] = {}
        for path, document in zip(self.paths, self.documents):
            for fault in document["faults"]:
                if fault["name"] in found:
                    raise UsageError(f"the fault {fault['name']} is there twice, the second time in {path}")
                found[fault["name"]] = fault
        return list(found.values())

    def runs(self) -> tuple[dict[str, str], list[dict[str, Any]]]:
        """``not_run`` and ``runs`` of a suite's results."""
        merged: dict[str, dict[str, Any]] = {}
        notrun: dict[str, str] = {}
        for path, document in zip(self.paths, self.documents):
            notrun.update(document["not_run"])
            for run in document["runs"]:
                base = merged.setdefault(run["contender"], run)
                if base is run:
                    continue
                if twice := base["tests"].keys() & run["tests"].keys():
                    if run["contender"] != "plain":
                        raise UsageError(f"{run['contender']} {sorted(twice)[0]} is there twice, the second in {path}")
                    # Each part runs plain for itself, module by module.
                    run = {**run, "tests": {k: v for k, v in run["tests"].items() if k not in twice}}
                    if not run["tests"]:
                        continue
                joined = merged[run["contender"]] = _together(base, run)
                joined["outcomes"] = dict(collections.Counter(test[0] for test in joined["tests"].values()))
        return notrun, list(merged.values())


def _about(document: dict[str, Any], what: str) -> Any:
    if what == "python":
        return document["meta"]["machine"]["versions"].get("python")
    return document.get("kind") if what == "kind" else document["meta"].get(what)


def _together(a: Any, b: Any) -> Any:
    """Two values of one field of a suite's run: numbers add up, lists and tables join."""
    if isinstance(a, dict) and isinstance(b, dict):
        both = {key: _together(a[key], b[key]) for key in a if key in b}
        return {**a, **b, **both}
    if isinstance(a, list) and isinstance(b, list):
        return a if a == b else [*a, *(x for x in b if x not in a)]
    if isinstance(a, bool) or a is None or isinstance(a, str):
        return a if a is not None else b
    return round(a + b, 2) if isinstance(a, float) else a + b


def merge(options: argparse.Namespace) -> int:
    """The verb ``merge``; the exit code follows the merged cells."""
    from . import report

    parts = Parts(options.file)
    ignored = [name for name in ("require", "strict", "markdown") if getattr(options, name)]
    if ignored and parts.kind not in results.CELLS:
        raise UsageError(f"--{ignored[0]} is about cells of cases; {parts.paths[0]} is of kind {parts.kind}")
    out = report.console()
    for warning in parts.warnings:
        out.print(f"warning: {warning}", style="yellow", markup=False)
    document: dict[str, Any] = {"schema": parts.documents[0]["schema"]}
    if "kind" in parts.documents[0]:
        document["kind"] = parts.documents[0]["kind"]
    document["meta"] = parts.meta()
    interrupted = bool(document["meta"]["interrupted"])
    codes: list[int] = []
    left: list[tuple[str, str]] = []
    if parts.kind == "test_asyncio":
        document["not_run"], document["runs"] = parts.runs()
    elif parts.kind == "fuzz":
        document |= parts.programs()
        runs = ", ".join(f"{name} {count}" for name, count in document["contenders"].items())
        out.print(f"{document['programs']} programs ({runs} runs): {len(document['finds'])} finds", markup=False)
    elif parts.kind == "selftest":
        document["faults"] = parts.faults()
        caught = sum(fault["verdict"] == "CAUGHT" for fault in document["faults"])
        out.print(f"{caught} of {len(document['faults'])} seeded faults were caught")
    else:
        document["cells"] = parts.cells()
    if parts.kind in SUMMED:
        for path, part in zip(parts.paths, parts.documents):
            if part["meta"]["exit_code"] is None:
                raise UsageError(f"{path} does not say how it ended")
            codes.append(int(part["meta"]["exit_code"]))
    if parts.kind == "bench":
        from . import bench

        bars = any(part["meta"].get("exit_code") == results.REGRESSION for part in parts.documents)
        codes = [bench.exit_code(document, bars=bars)]
    if parts.kind in results.CELLS:
        cells = [Cell(**cell) for cell in document["cells"]]
        own = [cell for cell in cells if not elsewhere(cell)]
        left = [(c.contender, c.case) for c in cells if elsewhere(c) or c.detail.get("interrupted")]
        codes = [results.exit_code(own, interrupted=interrupted, require=options.require, strict=options.strict)]
        report.show(own, out, seconds=document["meta"]["seconds"])
        if options.markdown:
            text = report.markdown({**document, "meta": {**document["meta"], "exit_code": codes[0]}})
            options.markdown.write_text(text)
    if interrupted:
        codes.append(results.INTERRUPTED)
    if (left or parts.missing) and not options.partial:
        codes.append(results.NOTHING_RAN)
    code = worst(codes)
    document["meta"]["exit_code"] = code
    results.write(options.json, document, parts.kind)
    _say_left(out, parts, left)
    out.print(f"merged {len(parts.paths)} file(s): {options.json} (exit code {code})", markup=False)
    return code


def ranges(numbers: Sequence[int]) -> str:
    """Sorted numbers as people write them: ``1-3,7``."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][-1] == number - 1:
            found[-1][1:] = [number]
        else:
            found.append([number])
    return ",".join("-".join(map(str, pair)) for pair in found)


def _say_left(out: Any, parts: Parts, left: list[tuple[str, str]]) -> None:
    if parts.missing:
        names = ranges(parts.missing)
        said = f"left: shard {names}/{parts.count}; run the same command with --shard for each"
        out.print(said, style="yellow", markup=False)
    if left:
        by: dict[str, int] = {}
        for contender, _ in left:
            by[contender] = by.get(contender, 0) + 1
        words = ", ".join(f"{name} {count}" for name, count in by.items())
        out.print(f"left: {len(left)} cell(s) that no file has: {words}", style="yellow", markup=False)
    if not left and not parts.missing:
        out.print("left: nothing")
