"""CPython's own test_asyncio under every contender, compared test for test with the same run on plain asyncio."""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import dataclasses
import fnmatch
import importlib.util
import json
import os
import random
import select
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from . import contenders, report, results, session, shards, suite_program, suite_pytest, tree
from .contenders import Contender
from .session import Interrupted, Session
from .suite_cell import CLASSES, PACKAGE
from .suite_pytest import CPYTHON, PROGRAM, Absent, Foreign, find
from .suite_test import Test as Test
from .tree import UsageError

SCHEMA = "asyncio-guest/test_asyncio@1"
KINDS = ("lost", "extra", "outcome", "hang", "crash", "turns", "fast")
RETRIES = 2
"""How often a test that differs is run again, alone, on both sides."""
DEAD = ("TIMEOUT", "CRASH")
"""How a test ends that says nothing of itself."""
LONG = ("test_events", "test_tasks", "test_sslproto", "test_ssl", "test_subprocess")
"""The modules that take longest, the longest first."""


def long_first(module: str) -> int:
    """A key that sorts the long modules to the front, so that no job is left alone with one at the end."""
    return LONG.index(module) if module in LONG else len(LONG)


@dataclasses.dataclass(frozen=True)
class Known:
    """A difference that is known and explained."""

    contender: str
    test: str
    kinds: tuple[str, ...]
    reason: str
    issue: str
    since: str


def known_differences(path: Path | None = None) -> list[Known]:
    """The file of known differences, without those of other Pythons.  Raises UsageError."""
    path = path or tree.HERE / "expectations" / "test_asyncio.toml"
    try:
        with open(path, "rb") as file:
            rows = tomllib.load(file).get("expect", [])
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: {error}") from error
    found = []
    for row in rows:
        if set(row) - {"python"} != {"contender", "test", "kinds", "reason", "issue", "since"}:
            raise UsageError(f"{path}: {row} needs contender, test, kinds, reason, issue, since, and may have python")
        if bad := set(row["kinds"]) - set(KINDS):
            raise UsageError(f"{path}: {bad} is none of {', '.join(KINDS)}")
        kinds = tuple(row["kinds"])
        if not fnmatch.fnmatchcase("%d.%d" % sys.version_info[:2], row.get("python", "*")):
            continue
        found.append(
            Known(row["contender"], row["test"], kinds, row["reason"], row["issue"], row["since"])
        )
    return found


def modules() -> list[str]:
    """The test modules of this interpreter's test_asyncio.  Raises UsageError without them."""
    try:
        spec = importlib.util.find_spec(PACKAGE)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(f"{PACKAGE} is not there; on Debian: apt-get install libpython3.11-testsuite")
    folder = Path(next(iter(spec.submodule_search_locations)))
    return sorted(path.stem for path in folder.glob("test_*.py"))


class Runner:
    """Runs modules in processes of their own."""

    def __init__(
        self, own: Session, match: str, timeout: float, package: str = PACKAGE, foreign: Foreign | None = None
    ) -> None:
        self.session = own
        self.foreign = foreign
        self.package = package
        self.match = match
        self.timeout = timeout * own.scale * own.timeout_scale

    def module(self, contender: Contender, module: str, only: Sequence[str] | None = None) -> dict[str, Test]:
        """All tests of a module; after a test that hangs or kills the process the rest goes on in a new one."""
        found: dict[str, Test] = {}
        while True:
            ended = self._process(contender, module, only, found)
            if ended:
                return found

    def _process(
        self, contender: Contender, module: str, only: Sequence[str] | None, found: dict[str, Test]
    ) -> bool:
        if not contender.display:
            return self._watch(contender, module, only, found, None)
        with self.session._pool.display() as display:
            return self._watch(contender, module, only, found, display)

    def _watch(
        self,
        contender: Contender,
        module: str,
        only: Sequence[str] | None,
        found: dict[str, Test],
        display: str | None,
    ) -> bool:
        own = self.session
        folder = own.run_dir / f"s{os.getpid()}-{next(own._count)}"
        folder.mkdir()
        read, write = os.pipe()
        spec = {
            "contender": contender.as_json(),
            "package": self.package,
            "module": module,
            "begun": sorted(found),
            "only": None if only is None else sorted(only),
            "match": self.match,
            "fd": write,
            "pytest": self.foreign and self.foreign.spec(),
        }
        environment = own.environment(contender, display)
        if self.foreign is not None:
            parts = [environment["PYTHONPATH"], *self.foreign.path, *own.beside(contender)]
            environment["PYTHONPATH"] = os.pathsep.join(parts)
            if self.foreign.pinned:
                environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        (folder / "spec.json").write_text(json.dumps(spec))
        try:
            with open(folder / "output", "wb") as output:
                process = own.begin(
                    [str(own.interpreter(contender)), "-m", f"{tree.PACKAGE}.suite_cell", str(folder / "spec.json")],
                    cwd=folder,
                    env=environment,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=[write],
                )
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        current: str | None = None
        began = time.monotonic()
        done = hung = checked = False
        broken = ""
        try:
            for line in self._lines(process, read):
                if line is None:
                    hung = True
                    own._dump(process)
                    break
                kind = line["kind"]
                if kind == "asyncio":
                    own.check_asyncio(line["folder"])
                    checked = True
                elif not checked:
                    own.check_asyncio(None)
                if kind == "begin":
                    current, began = line["test"], time.monotonic()
                elif kind == "end":
                    found[line["test"]] = Test(line["outcome"], line["seconds"], line["detail"], line["counted"])
                    current = None
                elif kind == "broken":
                    broken = line["detail"]
                elif kind == "done":
                    done = True
        finally:
            os.close(read)
            interrupted = own.end(process)
        if interrupted:
            raise Interrupted
        output_text = session.tail(folder / "output", 6000)
        shutil.rmtree(folder, ignore_errors=True)
        if done and not hung:
            return True
        if broken:
            found[f"{module} (does not load)"] = Test("CRASH", detail=f"{output_text}\n{broken}".strip())
            return True
        status = process.returncode
        name = current if current is not None else f"{module} (outside a test, after {len(found)} tests)"
        outcome = "TIMEOUT" if hung else "CRASH"
        why = f"no sign of life for {self.timeout:.0f} s" if hung else f"process ended with status {status}"
        found[name] = Test(outcome, round(time.monotonic() - began, 2), f"{why}\n{output_text}")
        return current is None  # outside a test there is nothing to go on with that would not end the same way

    def _lines(self, process: subprocess.Popen[bytes], read: int) -> Iterable[dict[str, Any] | None]:
        """The child's lines; None when none came in time.  Ends with the process."""
        pidfd = os.pidfd_open(process.pid)
        try:
            poll = select.poll()
            poll.register(read, select.POLLIN)
            poll.register(pidfd, select.POLLIN)
            data = b""
            ended = False
            while True:
                ready = dict(poll.poll(0 if ended else self.timeout * 1000))
                if not ready and not ended:
                    yield None
                    return
                if read in ready:
                    chunk = os.read(read, 65536)
                    data += chunk
                    *lines, data = data.split(b"\n")
                    for line in lines:
                        yield json.loads(line)
                    if not chunk:
                        return
                elif ended:
                    return
                ended = ended or pidfd in ready
        finally:
            os.close(pidfd)


@dataclasses.dataclass
class Comparison:
    """One contender against plain."""

    differences: dict[str, list[str]]
    """Kind -> test ids that differ and are neither flaky nor known."""
    flaky: list[str]
    """Ids that differed and agreed when run again; neither counted as different nor as agreeing."""
    known: dict[str, str]
    """Test id -> the reason why its difference is known."""


def differences(plain: dict[str, Test], theirs: dict[str, Test], engine: str | None) -> dict[str, set[str]]:
    """Kind of difference -> ids.  What hangs, or crashes, on both sides is none: plain says nothing of it."""
    both = plain.keys() & theirs.keys()
    dead = {id for id, test in theirs.items() if test.outcome in DEAD}
    found_out = {id for id in dead if id not in plain or plain[id].outcome != theirs[id].outcome}
    found = {
        "lost": {id for id in plain if id not in theirs},
        "extra": {id for id in theirs if id not in plain},
        "outcome": {
            id
            for id in both
            if id not in dead and (plain[id].outcome, plain[id].said) != (theirs[id].outcome, theirs[id].said)
        },
        "hang": {id for id in found_out if theirs[id].outcome == "TIMEOUT"},
        "crash": {id for id in found_out if theirs[id].outcome == "CRASH"},
    }
    wrong = found["outcome"] | dead
    found["turns"] = {id for id in both - wrong if bool(plain[id].turns) != bool(theirs[id].turns)}
    found["fast"] = {
        id for id in both - wrong if bool(theirs[id].fast) != (engine != "stock" and bool(plain[id].fast))
    }
    return found


def module_of(id: str) -> str:
    """The module of a test's id; ids outside a test have more words behind it."""
    name = id.partition(" (")[0]  # what is outside a test says where in brackets
    return name.partition("::")[0] if "::" in name or name.endswith(".py") else name.partition(".")[0]


def own_part(
    names: Sequence[str], modules: Sequence[str], shard: shards.Shard | None
) -> tuple[list[tuple[str, str]], int]:
    """The pairs (contender, module) of a shard, without plain unless there is nothing else; and how many there are."""
    others = [name for name in names if name != "plain"] or ["plain"]
    units = [(name, module) for module in modules for name in others]
    if shard is None:
        return units, len(units)
    number = shards.split(units, shard.count, lambda unit: unit[1])
    return [unit for unit in units if number[unit] == shard.number], len(units)


def by_module(ids: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for id in sorted(ids):
        found.setdefault(module_of(id), []).append(id)
    return found


def compare(
    runner: Runner | suite_program.Runner, name: str, contender: Contender, plain: dict[str, Test], theirs: dict[str, Test], known: list[Known]
) -> Comparison:
    """Compare; what differs is run again alone, on both sides, and is flaky if it agrees then.

    A hang or a crash is never excused by that: once is once too often.
    """
    found = differences(plain, theirs, contender.engine)
    final = found["hang"] | found["crash"]
    flaky: set[str] = set()
    for _ in range(RETRIES):
        again = set().union(*found.values()) - flaky - final
        again = {id for id in again if " (" not in id}  # not those outside a test
        if not again or len(again) > 25:  # so many are no accident
            break
        for module, ids in by_module(again).items():
            second_plain = runner.module(runner.session.contender("plain"), module, ids)
            second = runner.module(contender, module, ids)
            still = set().union(*differences(second_plain, second, contender.engine).values())
            flaky |= {id for id in ids if id not in still and id in second and id in second_plain}
            # Plain differs from itself, whatever the guest does.
            flaky |= {id for id in ids if id in plain and id in second_plain and plain[id].outcome != second_plain[id].outcome}
    left: dict[str, list[str]] = {}
    explained: dict[str, str] = {}
    for kind, differing in found.items():
        left[kind] = []
        for id in sorted(differing - flaky):
            for one in known:
                if kind in one.kinds and fnmatch.fnmatchcase(name, one.contender) and fnmatch.fnmatchcase(id, one.test):
                    explained[id] = f"{one.reason} ({one.issue})"
                    break
            else:
                left[kind].append(id)
    return Comparison(left, sorted(flaky), explained)


def by_class(tests: dict[str, Test]) -> dict[str, int]:
    """How many tests ran turns on each selector class (on plain: iterated a loop of that class)."""
    return {cls: sum(bool(t.counted.get(f"turns_{cls}")) for t in tests.values()) for cls in CLASSES}


def run(options: argparse.Namespace) -> int:
    """The verb ``suite``; the exit code."""
    program = None
    patterns = options.contender
    if options.name == PROGRAM:
        program = suite_program.find(patterns, shlex.split(options.program_args))
        patterns = patterns[1:]
    names = [name for pattern in patterns for name in contenders.expand(pattern)]
    if not names:
        names = [f"guest/{host}+{engine}" for host in contenders.hosts() for engine in ("stock", "fast")]
    names = list(dict.fromkeys(["plain", *names]))
    several = names != ["plain"]
    if program is not None and (odd := [name for name in names if name != "plain" and not name.startswith("guest/")]):
        raise UsageError(f"{', '.join(odd)}: only guests run a program as it is")
    out = report.console()
    foreign = None
    known: list[Known] = []
    stem = suite_pytest.stem(options.name)
    if options.name == CPYTHON:
        known = known_differences()
    elif program is None:
        try:
            foreign = find(options.name, options.folder, options.files, shlex.split(options.pytest_args))
        except Absent as error:
            out.print(f"NOTRUN {options.name}: {error}", markup=False)
            return results.NOTHING_RAN
        expected = tree.HERE / "expectations" / f"{stem}.toml"
        known = known_differences(expected) if expected.exists() else []
    if options.expect is not None:
        known += known_differences(options.expect)
    if program is not None:
        every = [program.path.name]
    else:
        every = modules() if foreign is None else foreign.modules()
    jobs = options.jobs or tree.cores()
    began = time.monotonic()
    with Session(timeout_scale=options.timeout_scale) as own:
        runner: Runner | suite_program.Runner = (
            Runner(own, options.match, options.timeout, foreign=foreign)
            if program is None
            else suite_program.Runner(own, program, options.timeout)
        )
        wanted = [m for m in every if any(fnmatch.fnmatchcase(f"{m}{s}", options.match) for s in ("", ".", "::"))
                  or options.match.startswith((f"{m}.", f"{m}::")) or options.match == "*"]
        if not wanted:
            raise UsageError(contenders.unknown("test module", options.match, every))
        units, total = own_part(names, wanted, options.shard)
        if options.shard is not None:
            out.print(f"shard {options.shard}: {len(units)} of {total} modules under contenders")
        seed = shards.choose_seed(options.shuffle)
        notrun: dict[str, str] = {}
        faulty = False
        for name in names:
            probe = own.probe(name)
            if probe["status"] != "ok":
                notrun[name] = str(probe.get("message", probe["status"]))
                faulty = faulty or probe["status"] != "missing"
        names = [name for name in names if name not in notrun]
        unrun = contenders.unmet(patterns, names)
        faulty = faulty or bool(unrun) or (several and not set(names) - {"plain"})
        found: dict[str, dict[str, Test]] = {name: {} for name in names}
        interrupted = False
        # Plain runs the modules that it is compared in.
        units = [(n, m) for n, m in units if n in names or not several]
        cells = [("plain", m) for m in dict.fromkeys(m for _, m in units)] if "plain" in names else []
        cells += [unit for unit in units if unit[0] != "plain"]
        cells.sort(key=lambda c: long_first(c[1]))
        if seed is not None:
            out.print(f"order shuffled with seed {seed}; --shuffle {seed} repeats it")
            random.Random(seed).shuffle(cells)
        pool = concurrent.futures.ThreadPoolExecutor(jobs)
        futures = {pool.submit(runner.module, own.contender(n), m): (n, m) for n, m in cells}
        try:
            for number, future in enumerate(concurrent.futures.as_completed(futures), 1):
                name, module = futures[future]
                tests = future.result()
                found[name].update(tests)
                counts = collections.Counter(test.outcome for test in tests.values())
                text = ", ".join(f"{n} {what}" for what, n in counts.most_common())
                out.print(f"{number:>4}/{len(cells)} {name} {module}: {text or 'no test'}", markup=False)
            compared = {}
            for name in names:
                if name != "plain":
                    here = {m for n, m in cells if n == name}
                    plain = {id: test for id, test in found["plain"].items() if module_of(id) in here}
                    compared[name] = compare(runner, name, own.contender(name), plain, found[name], known)
        except (KeyboardInterrupt, Interrupted):
            interrupted = True
            compared = {}
        except BaseException:
            own.abort()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            if interrupted:
                own.abort()
            pool.shutdown(wait=True)
        seconds = time.monotonic() - began
        code = _exit_code(compared, found, notrun, faulty, interrupted, known, names)
        if options.shard is not None and not units and code == results.NOTHING_RAN and not faulty:
            code = results.OK  # more shards than there is work: this one has none
        # Tests that iterate no loop are the same under every host: of a shard's that may be all.
        vacuous = foreign is not None and several and options.shard is None and not any(t.turns for t in found.get("plain", {}).values())
        if vacuous and not interrupted:
            code = results.NOTHING_RAN
        document = {
            "schema": SCHEMA,
            "meta": results.meta(
                interrupted=interrupted,
                exit_code=code,
                tier="full",
                scale=own.scale,
                seconds=seconds,
                seed=seed,
                shard=None if options.shard is None else str(options.shard),
            )
            | {"suite": options.name},
            "not_run": notrun,
            "runs": [_run_json(name, found[name], compared.get(name), found["plain"]) for name in names],
        }
        folder = options.results or tree.root() / "results" / "latest"
        for path in filter(None, (folder / f"{stem}.json", options.json)):
            results.write(path, document, "test_asyncio")
        show(document, found, compared, out, options.verbose)
        for pattern in unrun:
            out.print(f"{pattern} did not run", style="bold red", markup=False)
        apart = sum(not test.turns for test in found.get("plain", {}).values() if test.outcome not in ("skip", *DEAD))
        if foreign is not None and apart and several and not vacuous:
            out.print(f"{apart} tests have no guest: they iterate no loop, or one in another process or of a class with a "
                      "run_forever of its own, as uvloop's", style="bright_black")
        if vacuous:
            out.print("no test iterates an event loop of asyncio's under plain asyncio: nothing was compared", style="bold red")
        out.print(f"results: {folder / f'{stem}.json'} in {seconds:.0f} s (exit code {code})")
        return code


def _exit_code(
    compared: dict[str, Comparison],
    found: dict[str, dict[str, Test]],
    notrun: dict[str, str],
    faulty: bool,
    interrupted: bool,
    known: list[Known],
    names: list[str],
) -> int:
    if interrupted:
        return results.INTERRUPTED
    if faulty or "plain" in notrun or not any(found.values()):
        return results.NOTHING_RAN
    if any(ids for one in compared.values() for ids in one.differences.values()):
        return results.UNEXPECTED
    dead = [test.outcome in DEAD for test in found["plain"].values()]
    if all(dead):
        return results.NOTHING_RAN
    inconclusive = any(one.flaky for one in compared.values()) or any(dead)
    for one in known:
        relevant = [name for name in names if fnmatch.fnmatchcase(name, one.contender) and name != "plain"]
        ran = [n for n in relevant if any(fnmatch.fnmatchcase(id, one.test) for id in found[n])]
        if ran and not any(fnmatch.fnmatchcase(id, one.test) for n in ran for id in compared[n].known):
            return results.STALE
    return results.INCONCLUSIVE if inconclusive else results.OK


def _run_json(
    name: str, tests: dict[str, Test], compared: Comparison | None, plain: dict[str, Test]
) -> dict[str, Any]:
    return {
        "contender": name,
        "outcomes": dict(collections.Counter(test.outcome for test in tests.values())),
        "seconds": round(sum(test.seconds for test in tests.values()), 2),
        "turns": {
            key: sum(test.counted.get(key, 0) for test in tests.values())
            for key in ("turns", *(f"turns_{cls}" for cls in CLASSES), "iterations", "iterations_fast",
                        "turns_fallback", "runs_nested")
        },
        "tests_with_turns": {"all": sum(bool(t.turns) for t in tests.values()), **by_class(tests)},
        "tests_with_fast": sum(bool(t.fast) for t in tests.values()),
        "differences": None if compared is None else compared.differences,
        "flaky": [] if compared is None else compared.flaky,
        "known": {} if compared is None else compared.known,
        "tests": {id: [t.outcome, t.turns, t.fast, t.seconds] for id, t in sorted(tests.items())},
        "details": {id: t.detail for id, t in tests.items() if t.detail and t.outcome not in ("pass", "skip")},
    }


def show(
    document: dict[str, Any],
    found: dict[str, dict[str, Test]],
    compared: dict[str, Comparison],
    out: Any,
    verbose: bool,
) -> None:
    """Print the table and each difference."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD if out.is_terminal else box.ASCII2, pad_edge=False)
    head = ["contender", "tests", "pass", "skip", "other", "with turns", *CLASSES, "with fast"]
    for number, name in enumerate([*head, "lost", "extra", "differ", "hang", "crash", "turns", "fast", "flaky"]):
        table.add_column(name, justify="left" if number == 0 else "right", no_wrap=True)
    for one in document["runs"]:
        outcomes = one["outcomes"]
        total = sum(outcomes.values())
        rest = total - outcomes.get("pass", 0) - outcomes.get("skip", 0)
        row = [one["contender"], total, outcomes.get("pass", 0), outcomes.get("skip", 0), rest]
        row += [one["tests_with_turns"][key] for key in ("all", *CLASSES)] + [one["tests_with_fast"]]
        if one["differences"] is not None:
            row += [len(one["differences"][kind]) for kind in KINDS] + [len(one["flaky"])]
        table.add_row(*map(str, row))
    out.print(table)
    out.print(
        "plain's turns: tests that iterate a loop there, by selector class; plain's fast: tests with iterations that "
        "the engine fast has to execute. lost ... fast: tests that differ from plain.",
        style="bright_black",
    )
    for name, why in document["not_run"].items():
        out.print(f"NOTRUN {name}: {why}", markup=False)
    for id, test in found.get("plain", {}).items():
        if test.outcome in DEAD:
            out.print(f"not judged {id}: plain {_words(test)}", style="bold yellow", markup=False)
            out.print(_indented(test, verbose), markup=False)
    for name, comparison in compared.items():
        plain, theirs = found["plain"], found[name]
        for kind, ids in comparison.differences.items():
            for id in ids:
                text = f"{kind} {name} {id}: plain {_words(plain.get(id))}, here {_words(theirs.get(id))}"
                out.print(text, style="bold red", markup=False)
                if id in theirs and theirs[id].detail:
                    out.print(_indented(theirs[id], verbose), markup=False)
        for id in comparison.flaky:
            text = f"flaky {name} {id}: plain {_words(plain.get(id))}, here {_words(theirs.get(id))}; agreed when run again"
            out.print(text, style="yellow", markup=False)
        for id, why in comparison.known.items():
            out.print(f"known {name} {id}: {why}", style="yellow", markup=False)


def _indented(test: Test, verbose: bool) -> str:
    """What is told of how a test ended: its last line; of a process that died a few, since its last may be of little use."""
    lines = [line for line in test.detail.strip().splitlines() if line.strip()]
    if not verbose and not test.said:
        lines = lines[-5:] if test.outcome == "CRASH" else lines[-1:]
    return "    " + "\n    ".join(lines)


def _words(test: Test | None) -> str:
    if test is None:
        return "has no such test"
    return f"{test.outcome} ({test.turns} turns, {test.fast} fast)"
