"""The verb ``fuzz``: programs made at random, compared with plain asyncio."""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import contenders, report, results, shards, tree
from ..tree import UsageError

SCHEMA = "asyncio-guest/fuzz@1"

EPILOG = """\
examples:
  fuzz --seconds 60                        every host for a minute, a seed of its own (printed)
  fuzz --seed 7 --programs 500 guest/tk    the same 500 programs each time
  fuzz --seed 7 --seconds 3600 --shard 2/4 --json 2.json
                                           the second of four machines; put together by: merge
  fuzz --replay FILE.json guest/gtk3       one program again, from a find's file or from the corpus
  fuzz plain                               the programs themselves: plain asyncio against a loop that stalls
  fuzz mypackage:make_loop                 a loop of your own

"""


def add_arguments(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    add("contender", nargs="*", help="globs, or module:factory (default: every host)")
    add("--seconds", type=float, default=60.0, metavar="S", help="how long to go on (default: 60)")
    add("--programs", type=int, default=None, metavar="N", help="stop after N programs")
    add("--seed", type=int, default=None, metavar="N", help="where the programs begin (default: a new one, printed)")
    shard = shards.Shard(1, 1)
    add("--shard", type=shards.parse, default=shard, metavar="K/N", help="this part of N of the seed's programs")
    add("--replay", action="append", default=[], type=Path, metavar="FILE", help="run these programs and no others")
    add("--timeout", type=float, default=8.0, metavar="S", help="seconds a program may take")
    add("--shrink", type=float, default=120.0, metavar="S", help="seconds for making a find small")
    add("--finds", type=int, default=3, metavar="N", help="go on without a contender after N finds")
    add("--timeout-scale", type=float, default=1.0, metavar="F", help="factor on all watchdogs")
    add("--results", type=Path, default=None, metavar="DIR", help="folder of results (default: results/latest)")
    add("--json", type=Path, metavar="FILE", help="also write the results here")
    add("-q", "--quiet", action="store_true", help="no line a round")


def main(options: argparse.Namespace) -> int:
    """The verb; the exit code."""
    try:
        import hypothesis  # noqa: F401
    except ImportError:
        if not options.replay:
            raise UsageError("hypothesis is missing: apt-get install python3-hypothesis") from None
    from ..session import Session
    from .campaign import Campaign

    if options.seconds <= 0 or options.timeout <= 0 or options.timeout_scale <= 0:
        raise UsageError("--seconds, --timeout and --timeout-scale must be positive")
    if options.finds < 1 or (options.programs is not None and options.programs < 1):
        raise UsageError("--programs and --finds must be positive")
    names = list(dict.fromkeys(n for pattern in options.contender for n in contenders.expand(pattern)))
    names = names or [name for name in contenders.defaults() if name != "plain"]
    programs = tree.scenarios("programs")
    try:
        replayed = {str(path): programs.load(path)["program"] for path in options.replay}
    except ValueError as error:
        raise UsageError(str(error)) from error
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1, 2**31)
    folder = options.results or tree.root() / "results" / "latest"
    out = report.console()
    interrupted = False
    with Session(timeout_scale=options.timeout_scale) as own:
        campaign = Campaign(
            own,
            names,
            seed=seed,
            seconds=options.seconds,
            folder=folder / "fuzz",
            limit=options.timeout,
            shrink=options.shrink,
            finds=options.finds,
        )
        try:
            campaign.start()
            for name, why in campaign.notrun.items():
                out.print(f"NOTRUN {name}: {why}", markup=False)
            if replayed:
                for path, program in replayed.items():
                    if not any(campaign.takes(name, program) for name in campaign.workers):
                        out.print(f"{path}: no contender here can run it", markup=False)
                        continue
                    found = campaign.replay(program)
                    campaign.programs += 1
                    for find in found:
                        (campaign.doubts if find.kind in ("flaky", "unstable") else campaign.finds).append(find)
                    out.print(f"{path}: {'; '.join(f.kind for f in found) or 'as plain'}", markup=False)
            elif campaign.workers:
                out.print(f"seed {seed}, shard {options.shard}: {', '.join(campaign.workers)}", markup=False)
                said = 0.0
                for count in campaign.run(options.shard, options.programs):
                    if not options.quiet and time.monotonic() - said > 10:
                        said = time.monotonic()
                        told = f"{len(campaign.finds)} finds, {len(campaign.doubts)} doubtful"
                        out.print(f"{count} programs, {told}", markup=False)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            campaign.close()
        campaign.write()
        unrun = [] if interrupted else not_run(campaign, options.contender)
        code = exit_code(campaign, interrupted, unrun)
        document = as_json(campaign, options, seed, interrupted, code)
        results.write(folder / "fuzz.json", document, "fuzz")
        if options.json:
            results.write(options.json, document, "fuzz")
        say(campaign, out, document)
        for what in unrun:
            out.print(f"{what} ran no program", style="bold red", markup=False)
    return code


def not_run(campaign: Any, wanted: Sequence[str]) -> list[str]:
    """What should have run programs and ran none: what the command line names, and contenders that are there but break.
    A toolkit that is absent is no fault where nobody asks for it."""
    ran = {name for name, worker in campaign.all.items() if worker.programs}
    found = contenders.unmet(wanted, ran)
    return found + [name for name in campaign.broken if name not in found]


def exit_code(campaign: Any, interrupted: bool, unrun: Sequence[str] = ()) -> int:
    """As the run of cases; `unrun`: what should have run and did not."""
    if interrupted:
        return results.INTERRUPTED
    if unrun or not campaign.programs:
        return results.NOTHING_RAN
    if campaign.finds:
        return results.UNEXPECTED
    return results.INCONCLUSIVE if campaign.doubts else results.OK


def as_json(campaign: Any, options: argparse.Namespace, seed: int, interrupted: bool, code: int) -> dict[str, Any]:
    """The results as they are written."""
    return {
        "schema": SCHEMA,
        "meta": results.meta(
            interrupted=interrupted,
            exit_code=code,
            seed=seed,
            shard=str(options.shard) if options.shard.count > 1 else None,
            seconds=round(campaign.seconds, 1),
        ),
        "programs": campaign.programs,
        "contenders": {name: worker.programs for name, worker in campaign.all.items()},
        "not_run": campaign.notrun,
        "finds": [dataclasses.asdict(find) for find in (*campaign.finds, *campaign.doubts)],
    }


def say(campaign: Any, out: Any, document: dict[str, Any]) -> None:
    """The end of the run, in words."""
    for find in (*campaign.finds, *campaign.doubts):
        out.print(f"\n{find.contender}: {find.kind}: {find.difference}", markup=False)
        if find.detail and find.kind != "differs":
            out.print(find.detail, markup=False)
        source = tree.scenarios("programs.source").source(find.program)
        out.print(source, markup=False, highlight=False)
        for path in find.files:
            if path.endswith(".py"):
                out.print(f"  as a script:  {sys.executable} {shlex.quote(path)}", markup=False)
            else:
                again = f"{tree.PROGRAM} fuzz --replay {shlex.quote(path)} {shlex.quote(find.contender)}"
                out.print(f"  again:        {again}", markup=False)
    runs = ", ".join(f"{name} {count}" for name, count in document["contenders"].items())
    out.print(
        f"{campaign.programs} programs in {campaign.seconds:.0f} s ({runs} runs): "
        f"{len(campaign.finds)} finds, {len(campaign.doubts)} doubtful",
        markup=False,
    )
