"""The command line: ``python3 -m harness VERB`` in the tree, ``asyncio-guest VERB`` when installed."""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import (
    campaign,
    comparison,
    contenders,
    coverage,
    expect,
    expectations,
    full,
    publish,
    report,
    results,
    selftest,
    shards,
    show,
    tree,
)
from .session import Session, phase
from .tree import UsageError

PROGRAM = tree.PROGRAM

DESCRIPTION = f"""\
Runs asyncio's conformance cases under plain asyncio and under guests in real main loops,
each cell in a process of its own, and compares what they do.

  {PROGRAM} list                        contenders and cases
  {PROGRAM} doctor                      what can run here, and what is missing
  {PROGRAM} run                         the quick tier under every host
  {PROGRAM} run 'guest/tk::T*'          one host, group T and its like
  {PROGRAM} run guest/gtk3::Z.01-result one cell
  {PROGRAM} run mypackage:make_loop     the whole quick tier under a loop of your own
  {PROGRAM} suite test_asyncio          CPython's own tests under every host
  {PROGRAM} report                      the last results as one HTML page
  {PROGRAM} gate fix.diff               is this patch to Lib/asyncio good enough?
"""

SELECTORS = """\
a SELECTOR is CONTENDERGLOB::CASEGLOB; either side may be left out.
  contenders   plain, guest/HOST[@late][+watch|+waiter][+stock|+fast], module:factory
               (a glob without + or @ means names without them: 'guest/*' is one contender a host)
  cases        an id (T.01-equal-deadlines), an item (T.01), a group (T) or a glob over ids ('Z.*fork*')

examples:
  run                                   quick tier, every host
  run --tier full -j2                   strategies, engines and large cases too
  run 'guest/*+waiter::S'               sockets, with the waiter thread, under every host
  run --shuffle 'guest/poll::*'         in a random order; prints the seed, --shuffle SEED repeats it
  run --repeat 20 guest/tk::F.01        twenty times; both seen is FLAKY
  run --require 'guest/*' --json r.json fail (5) unless every host ran; results to a file of yours
  run --suite test_asyncio              the same as: suite test_asyncio
  run --shard 2/5                       the second of five parts; put together by: merge
  run --rerun-failed                    only what was not as expected in the last results; 5 when that is nothing
  run --rerun-failed=r.json guest/tk    ... of a file of yours, and of these cells only

"""


SUITE_EXAMPLES = """\
examples:
  suite test_asyncio                    every host, both engines
  suite test_asyncio guest/tk+fast -m 'test_tasks.*'
  suite test_asyncio --shard 1/4 --json a.json
                                        a quarter of the modules; put together by: merge
  suite janus                           another project's tests (suites.toml has the list)
  suite pytest guest/tk --folder DIR --files 'tests/test_*.py'
                                        any pytest suite, as it is; run the harness with the python of the virtual
                                        environment (with system packages) that has what the suite needs
  suite pytest guest/tk --folder DIR -m 'tests/test_a.py::*' --pytest-args '-o addopts= -k asyncio'
                                        a part of it, and without the options that it sets for itself
  suite program FILE.py guest/tk --program-args '--port 0'
                                        any program, as it is: exit status and output

"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=DESCRIPTION, epilog=results.EXIT_CODES, formatter_class=raw
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    verb = verbs.add_parser("list", help="contenders and cases", formatter_class=raw, epilog=SELECTORS)
    verb.add_argument("selector", nargs="*", metavar="SELECTOR")
    verb.add_argument("--tier", choices=("quick", "full"), default="full")
    verb.add_argument("--cases", action="append", default=[], metavar="MODULE", help="module or file with more cases")
    verb.add_argument("--coverage", action="store_true", help="items of the catalogue, their cases, what they reject")
    verb.add_argument("--json", action="store_true", help="as JSON")

    verb = verbs.add_parser("doctor", help="what can run here, and what is missing", formatter_class=raw)
    verb.add_argument("contender", nargs="*", help="globs (default: every default contender and strategy)")
    verb.add_argument("--json", action="store_true", help="as JSON")

    verb = verbs.add_parser(
        "run", help="run conformance cases", formatter_class=raw, epilog=SELECTORS + results.EXIT_CODES
    )
    add_run_arguments(verb)

    verb = verbs.add_parser(
        "suite",
        help="run CPython's own tests, or another project's, under the contenders",
        formatter_class=raw,
        epilog=SUITE_EXAMPLES + results.EXIT_CODES,
    )
    verb.add_argument("name", metavar="NAME", help="test_asyncio, pytest (with --folder), program (FILE follows), or a row of suites.toml")
    add_suite_arguments(verb)
    add_foreign_arguments(verb)

    verb = verbs.add_parser(
        "merge", help="put results of shards together", formatter_class=raw, epilog=shards.EXAMPLES + results.EXIT_CODES
    )
    shards.add_arguments(verb)
    for name, module, words in (
        ("compare", comparison, "what has changed between two results files"),
        ("expect", expect, "write and check files of expectations"),
        ("full", full, "everything that the quick tier leaves out, in shards, and what is left of it"),
    ):
        verb = verbs.add_parser(
            name, help=words, formatter_class=raw, epilog=module.EXAMPLES + results.EXIT_CODES
        )
        module.add_arguments(verb)
    for kind, words, examples in (
        ("leaks", "repeat cases in one process and see what grows", campaign.LEAKS_EXAMPLES),
        ("stress", "repeat cases until they fail, or do not", campaign.STRESS_EXAMPLES),
    ):
        verb = verbs.add_parser(kind, help=words, formatter_class=raw, epilog=examples + results.EXIT_CODES)
        campaign.add_arguments(verb, kind)
    verb = verbs.add_parser(
        "selftest",
        help="seed faults and see that the suite catches each",
        formatter_class=raw,
        epilog=selftest.EXAMPLES + results.EXIT_CODES,
    )
    selftest.add_arguments(verb)

    verb = verbs.add_parser(
        "report",
        help="results as HTML, JUnit and Markdown; publish them",
        formatter_class=raw,
        epilog=publish.EPILOG + results.EXIT_CODES,
    )
    publish.add_arguments(verb)

    verb = verbs.add_parser(
        "show", help="results files as one table", formatter_class=raw, epilog=show.EXAMPLES + results.EXIT_CODES
    )
    show.add_arguments(verb)

    from . import fuzz

    verb = verbs.add_parser(
        "fuzz",
        help="run programs made at random, compare them with plain asyncio",
        formatter_class=raw,
        epilog=fuzz.EPILOG + results.EXIT_CODES,
    )
    fuzz.add_arguments(verb)

    from .gate import verb as gate

    verb = verbs.add_parser(
        "gate",
        help="is this patch to Lib/asyncio good enough?",
        formatter_class=raw,
        epilog=gate.EPILOG + results.EXIT_CODES,
    )
    gate.add_arguments(verb)

    try:
        from . import bench
    except ImportError:
        pass
    else:
        if not hasattr(bench, "add_arguments"):  # a folder without the code
            return parser
        verb = verbs.add_parser("bench", help="measure speed and latency", formatter_class=raw)
        bench.add_arguments(verb)
    return parser


LAST = "results/latest/conformance.json"


def add_run_arguments(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    add("selector", nargs="*", metavar="SELECTOR", help="cells to run (default: '*::*')")
    add("--tier", choices=("quick", "full"), default="quick", help="quick (default) or full")
    add("-j", "--jobs", type=int, default=0, metavar="N", help="cells at a time (default: one a core and one more; F alone)")
    add("--cases", action="append", default=[], metavar="MODULE", help="module or .py file with more cases")
    add("--shuffle", nargs="?", const=-1, type=int, metavar="SEED", help="random order; prints its seed")
    add("--shard", type=shards.parse, metavar="K/N", help="only the K-th of N parts; results name the others' cells")
    add(
        "--rerun-failed",
        nargs="?",
        const=LAST,
        metavar="FILE",
        help="only the cells that were not as expected in FILE (=FILE; default: the last results)",
    )
    add("--repeat", type=int, default=1, metavar="N", help="run each cell N times; PASS and not is FLAKY")
    add("-x", "--exitfirst", action="store_true", help="stop at the first unexpected verdict")
    add("--timeout-scale", type=float, default=1.0, metavar="F", help="factor on all watchdogs")
    add("--json", type=Path, metavar="FILE", help="also write the results here")
    add("--junit", type=Path, metavar="FILE", help="write JUnit XML here")
    add("--markdown", type=Path, metavar="FILE", help="also write the Markdown report here")
    add("--results", type=Path, default=None, metavar="DIR", help="folder of results (default: results/latest)")
    add("--require", action="append", default=[], metavar="SELECTOR", help="exit with 5 unless these cells ran")
    add("--strict", action="store_true", help="peers count for the exit code")
    add("--expect", action="append", default=[], metavar="FILE", help="file of expectations (repeatable)")
    add("--keep", action="store_true", help="keep the cells' folders, and say where")
    add("-q", "--quiet", action="store_true", help="no line for a cell that passed")
    add("-v", "--verbose", action="store_true", help="stacks, output and events of each cell that is not as it should")
    add("--suite", choices=("test_asyncio",), help="run this suite of CPython's instead of the cases")


def add_suite_arguments(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    add("contender", nargs="*", help="default: plain and guest/HOST+stock and +fast of every host")
    add("-j", "--jobs", type=int, default=0, metavar="N", help="test modules at a time")
    add("-m", "--match", default="*", metavar="GLOB", help="tests: test_events.SelectEventLoopTests.* (default: all)")
    add("--shard", type=shards.parse, metavar="K/N", help="only the K-th of N parts of the test modules")
    add("--shuffle", nargs="?", const=-1, type=int, metavar="SEED", help="modules in random order; prints its seed")
    add("--timeout", type=float, default=60.0, metavar="S", help="seconds a test may take without a sign of life")
    add("--timeout-scale", type=float, default=1.0, metavar="F", help="factor on all watchdogs")
    add("--results", type=Path, default=None, metavar="DIR", help="folder of results (default: results/latest)")
    add("--json", type=Path, metavar="FILE", help="also write the results here")
    add("--expect", type=Path, metavar="FILE", help="known differences, beside those of harness/expectations")
    add("-v", "--verbose", action="store_true", help="every difference with its traceback")


def add_foreign_arguments(verb: argparse.ArgumentParser) -> None:
    """What only suites of other projects take."""
    add = verb.add_argument
    add("--folder", type=Path, metavar="DIR", help="suite pytest: the folder in which pytest would be started")
    add("--files", action="append", default=[], metavar="GLOB", help="suite pytest: test files below it (repeatable)")
    add("--program-args", default="", metavar="ARGS", help="suite program: its arguments, in one string")
    add("--pytest-args", default="", metavar="ARGS", help="more arguments for pytest, in one string (PYTEST_DISABLE_PLUGIN_AUTOLOAD "
        "in the environment holds too)")


# -- verbs


def verb_list(options: argparse.Namespace) -> int:
    """``list``."""
    cases = tree.load_cases(options.cases)
    contenders.check_declared(cases)
    if options.coverage:
        return coverage.show(coverage.coverage(cases, options.selector), options.json)
    cells = contenders.select(options.selector, cases, options.tier) if options.selector else None
    ids = list(cases) if cells is None else list(dict.fromkeys(id for _, id in cells))
    names = contenders.everything() if cells is None else list(dict.fromkeys(name for name, _ in cells))
    if options.json:
        listed = [
            {
                "id": c.id,
                "description": c.description,
                "level": c.level,
                "tier": c.tier,
                "needs": sorted(c.needs),
                "oracle": c.oracle,
                "report": c.report,
                "rejects": c.rejects,
            }
            for c in (cases[id] for id in ids)
        ]
        print(json.dumps({"contenders": names, "cases": listed}, indent=1))
        return results.OK
    print("contenders:")
    chosen = set(contenders.defaults())
    for name in names:
        print(f"  {'*' if name in chosen else ' '} {name}")
    print("    module:factory (a loop of your own)\ncases:")
    for id in ids:
        case = cases[id]
        notes = [case.level] if case.level != "MUST" else []
        notes += [case.tier] if case.tier != "quick" else []
        notes += [f"needs {' '.join(sorted(case.needs))}"] if case.needs else []
        notes += [case.report] if case.report else []
        print(f"    {id}: {case.description}" + (f" [{'; '.join(notes)}]" if notes else ""))
    print(f"{len(ids)} cases; * runs by default")
    return results.OK


def diagnose(session: Session, name: str) -> dict[str, Any]:
    """What `doctor` says about one contender."""
    probe = session.probe(name)
    info = probe.get("info", {})
    runnable = probe["status"] == "ok"
    problem = None if runnable else probe.get("message", probe["status"])
    if not runnable and probe["status"] != "missing":
        problem = f"broken ({probe['status']}): {problem}"
    return {
        "contender": name,
        "runnable": runnable,
        "problem": problem,
        "stderr": "" if runnable else probe.get("stderr", ""),
        "abilities": probe.get("abilities", []),
        **{key: info.get(key) for key in ("toolkit_version", "engine_ran", "engine_reason", "strategy", "notifier")},
    }


def verb_doctor(options: argparse.Namespace) -> int:
    """``doctor``."""
    import platform
    import shutil

    with Session() as session:
        if options.contender:
            names = list(dict.fromkeys(n for pattern in options.contender for n in contenders.expand(pattern)))
        else:
            names = [n for n in contenders.everything() if n.count("+") < 2]
        found = [diagnose(session, name) for name in names]
        built = tree.site()
        about = {
            "python": f"{platform.python_version()} ({sys.executable})",
            "package": str(built) if built else "installed, or not built (make build)",
            "xvfb": shutil.which("Xvfb") or "missing: apt-get install xvfb",
            "cases": len(session.cases),
            "scale": round(session.scale, 2),
            **{key: value for key, value in results.machine().items() if key != "versions"},
        }
    if options.json:
        print(json.dumps({"about": about, "contenders": found}, indent=1))
    else:
        for key, value in about.items():
            print(f"{key:9} {value}")
        for one in found:
            words = [str(one["toolkit_version"] or "")]
            words += [f"{k} {one[v]}" for k, v in (("engine", "engine_ran"), ("strategy", "strategy")) if one[v]]
            words += [one["engine_reason"] or "", f"notifier {one['notifier']}" if one["notifier"] else ""]
            words += ["can: " + " ".join(one["abilities"])] if one["abilities"] else []
            state = "ok" if one["runnable"] else "no"
            print(f"{state}  {one['contender']}: " + (one["problem"] or ", ".join(filter(None, words))))
            if one["stderr"]:
                print("      " + one["stderr"].strip().replace("\n", "\n      "))
    return results.OK if any(one["runnable"] for one in found) else results.NOTHING_RAN


def verb_run(options: argparse.Namespace) -> int:
    """``run``."""
    if options.suite:
        return verb_suite(suite_options(options))
    if options.repeat < 1 or options.timeout_scale <= 0 or options.jobs < 0:
        raise UsageError("--repeat and --timeout-scale must be positive, --jobs not negative")
    from .front import Front

    expected = expectations.load(options.expect)
    with Session(
        case_modules=options.cases,
        timeout_scale=options.timeout_scale,
        repeat=options.repeat,
        keep=options.keep,
    ) as session:
        cells = contenders.select(options.selector, session.cases, options.tier)
        if options.rerun_failed:
            cells = failed_before(options, cells, session.cases)
            if not cells:
                print(f"nothing to run (exit code {results.NOTHING_RAN})")
                return results.NOTHING_RAN
        cells, others = shards.take(cells, options.shard)
        for selector in options.require:
            left, _, right = selector.partition("::")
            contenders.expand(left or "*", options.tier)
            contenders.match_cases(right or "*", session.cases)
        for name in dict.fromkeys(name for name, _ in cells):
            session.contender(name)
        seed = shards.choose_seed(options.shuffle)
        if seed is not None:
            random.Random(seed).shuffle(cells)
        else:
            # Plain and the guests meet in one case, so that its log is there.
            cells.sort(key=lambda cell: (phase(cell[1]), cell[1]))
        front = Front(session, cells, expected, options, seed, others)
        return front.run()


def failed_before(
    options: argparse.Namespace, cells: list[tuple[str, str]], cases: dict[str, Any]
) -> list[tuple[str, str]]:
    """For ``--rerun-failed``: the cells of the file that were not as expected, of those selected if there are
    selectors.  Raises UsageError."""
    if options.rerun_failed != LAST:
        path = Path(options.rerun_failed)
    else:
        path = (options.results or tree.root() / "results" / "latest") / "conformance.json"
    if "::" in str(path) and not path.exists():
        raise UsageError(f"{path} is no file; put selectors before --rerun-failed, or a file behind it by '='")
    found = shards.rerun(cells if options.selector else [], path, cases)
    print(f"{len(found)} cell(s) of {path} were not as expected")
    return found


def verb_merge(options: argparse.Namespace) -> int:
    """``merge``."""
    return shards.merge(options)


def verb_full(options: argparse.Namespace) -> int:
    """``full``."""

    def run(command: list[str]) -> int:
        parsed = build_parser().parse_args(command)
        return VERBS[parsed.verb](parsed)

    return full.main(options, run)


def suite_options(options: argparse.Namespace) -> argparse.Namespace:
    """``run --suite NAME [CONTENDER...]`` as ``suite NAME``."""
    return argparse.Namespace(
        name=options.suite,
        contender=[s.partition("::")[0] for s in options.selector],
        jobs=options.jobs,
        match="*",
        shard=options.shard,
        shuffle=options.shuffle,
        timeout=60.0,
        timeout_scale=options.timeout_scale,
        results=options.results,
        json=options.json,
        expect=None,
        verbose=options.verbose,
        folder=None,
        files=[],
        pytest_args="",
        program_args="",
    )


def verb_suite(options: argparse.Namespace) -> int:
    """``suite``."""
    from . import suite

    return suite.run(options)


def verb_gate(options: argparse.Namespace) -> int:
    """``gate``."""
    from .gate import verb

    return verb.run(options)


def verb_bench(options: argparse.Namespace) -> int:
    """``bench``."""
    from . import bench

    return int(bench.main(options))


def verb_report(options: argparse.Namespace) -> int:
    """``report``."""
    return publish.main(options)


def verb_fuzz(options: argparse.Namespace) -> int:
    """``fuzz``."""
    from . import fuzz

    return fuzz.main(options)


VERBS = {
    "list": verb_list,
    "doctor": verb_doctor,
    "run": verb_run,
    "suite": verb_suite,
    "merge": verb_merge,
    "show": show.show,
    "fuzz": verb_fuzz,
    "report": verb_report,
    "compare": comparison.main,
    "expect": expect.main,
    "leaks": campaign.main,
    "stress": campaign.main,
    "selftest": selftest.main,
    "full": verb_full,
    "gate": verb_gate,
    "bench": verb_bench,
}


def _terminate(*_: Any) -> None:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    options = build_parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return VERBS[options.verb](options)
    except UsageError as error:
        print(f"{PROGRAM} {options.verb}: {error}", file=sys.stderr)
        return results.USAGE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return results.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return results.CRASHED
    except Exception:
        traceback.print_exc()
        print(f"{PROGRAM} {options.verb}: this is a fault of the harness", file=sys.stderr)
        return results.CRASHED


