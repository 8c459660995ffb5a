"""Programs made at random, run under plain asyncio and under contenders; what differs is made small."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .. import tree
from ..session import Session
from ..shards import Shard
from ..verdicts import first_difference
from .workers import Broken, Reply, Unavailable, Worker

ROUND = 100
"""Programs of one seed; a campaign is many rounds, so that it can be divided, and ends in time."""
AGAIN = 2
"""How often a program whose log differs is run again, on both sides; while a find is made small, half as often."""
SHRINK_HANG_S = 2.0
PLAIN = "plain"


@dataclasses.dataclass
class Find:
    """A program that does something else under a contender than under plain asyncio."""

    contender: str
    kind: str
    """differs, hang, crash, error; flaky: differed, and not when it was run again; unstable: plain differs
    from itself, which is a fault of the program."""
    program: dict[str, Any]
    difference: str
    size: int
    seed: int
    detail: str = ""
    files: list[str] = dataclasses.field(default_factory=list)

    @property
    def name(self) -> str:
        digest = hashlib.sha256(json.dumps(self.program, sort_keys=True).encode()).hexdigest()[:8]
        return f"{self.kind}-{self.contender.replace('/', '-').replace(':', '-').replace('+', '-')}-{digest}"


class Found(Exception):
    """Tells Hypothesis that a program is a find."""


class Enough(BaseException):
    """Ends a round from inside, whatever Hypothesis would still do."""


class Campaign:
    """One run of the fuzzer."""

    def __init__(
        self,
        own: Session,
        names: Sequence[str],
        *,
        seed: int,
        seconds: float,
        folder: Path,
        limit: float = 8.0,
        shrink: float = 120.0,
        finds: int = 3,
    ) -> None:
        self.seed = seed
        self.shrink = shrink
        self.most_finds = finds
        self._found = dict.fromkeys(names, 0)
        self.folder = folder
        self.finds: list[Find] = []
        self.doubts: list[Find] = []
        self.notrun: dict[str, str] = {}
        self.broken: list[str] = []
        """Those of `notrun` that are there and do not start."""
        self.rounds = 0
        self.programs = 0
        self.plain = Worker(own, own.contender(PLAIN), stall=False, seconds=limit)
        self.workers = {
            name: Worker(own, own.contender(name), stall=name == PLAIN, seconds=limit) for name in names
        }
        self.all = dict(self.workers)
        self.wanted = seconds
        self._deadline = time.monotonic() + seconds
        self._most = 1 << 60
        self._began = time.monotonic()
        self.seconds = 0.0
        self._hunted: str | None = None
        self._hunt_ends = 0.0
        self._best: Find | None = None
        self._round_seed = seed

    def start(self) -> None:
        """Start the processes; contenders that cannot run are dropped and noted."""
        self.plain.start()
        for name, worker in list(self.workers.items()):
            try:
                worker.start()
            except Unavailable as error:
                self.notrun[name] = str(error)
                if isinstance(error, Broken):
                    self.broken.append(name)
                del self.workers[name]
        self.all = dict(self.workers)
        self._began = time.monotonic()
        self._deadline = self._began + self.wanted

    def close(self) -> None:
        for worker in (self.plain, *self.workers.values()):
            worker.stop()
        self.seconds = time.monotonic() - self._began

    def takes_virtual(self, name: str) -> bool:
        """Can the contender run a loop that the program brings along?  A loop of somebody's own is that loop."""
        return self.all[name].contender.kind != "factory"

    def takes(self, name: str, program: dict[str, Any]) -> bool:
        """Can the contender run the program?"""
        return not program["virtual"] or self.takes_virtual(name)

    # -- one program

    def compare(self, program: dict[str, Any], name: str, plain: Reply | None = None) -> Find | None:
        """Run a program on both sides; what is to be said about it, if anything."""
        worker = self.workers[name]
        if not self.takes(name, program):
            return None
        if plain is None:
            plain = self.plain.run(program)
        if plain.trouble:
            return self._find(PLAIN, "unstable", program, f"{plain.trouble} under plain asyncio", plain.detail)
        theirs = worker.run(program)
        if theirs.trouble:
            return self._find(name, theirs.trouble, program, theirs.detail.partition("\n")[0], theirs.detail)
        assert plain.views is not None and theirs.views is not None
        if plain.views == theirs.views:
            return None
        first = first_difference(plain.views, theirs.views, name) or ""
        differed = 1
        times = AGAIN if self._hunted is None else AGAIN // 2
        for _ in range(times):
            again, second = self.plain.run(program), worker.run(program)
            if again.views != plain.views:
                where = first_difference(plain.views, again.views or {}, "its second run")
                return self._find(PLAIN, "unstable", program, f"plain asyncio differs from itself: {where}")
            if second.trouble:
                return self._find(name, second.trouble, program, second.detail.partition("\n")[0], second.detail)
            differed += second.views != plain.views
        if differed <= 1:
            return self._find(name, "flaky", program, f"{first} (once in {times + 1} runs)")
        return self._find(name, "differs", program, first)

    def _find(self, name: str, kind: str, program: dict[str, Any], difference: str, detail: str = "") -> Find:
        from . import strategy

        return Find(name, kind, program, difference, strategy.size(program), self._round_seed, detail)

    def examine(self, program: dict[str, Any]) -> None:
        """What Hypothesis calls: raises Found for a find."""
        if self._hunted is None:
            found = self._seek(program)
        else:
            found = self._hunt(program, self._hunted)
        if found:
            raise Found(self._hunted)  # from one line: to Hypothesis another line is another error

    def _seek(self, program: dict[str, Any]) -> bool:
        """Is this program a find under any contender?"""
        if time.monotonic() > self._deadline or self.programs >= self._most or not self.workers:
            raise Enough
        self.programs += 1
        plain = self.plain.run(program)
        for name in list(self.workers):
            found = self.compare(program, name, plain)
            if found is None:
                continue
            if found.kind in ("flaky", "unstable"):
                self.doubts.append(found)
                if found.kind == "unstable":
                    return False
                continue
            self._hunted, self._best = name, found
            self._hunt_ends = time.monotonic() + self.shrink
            return True
        return False

    def _hunt(self, program: dict[str, Any], name: str) -> bool:
        """Is this program, smaller than the one that was found, a find too?"""
        if time.monotonic() > self._hunt_ends:
            raise Enough
        assert self._best is not None
        worker = self.workers[name]
        seconds, worker.seconds = worker.seconds, min(worker.seconds, SHRINK_HANG_S * worker.session.scale)
        try:
            found = self.compare(program, name)
        finally:
            worker.seconds = seconds
        if found is None or found.kind in ("flaky", "unstable"):
            return False
        if found.size <= self._best.size:
            self._best = found
        return True

    # -- many

    def round(self, seed: int) -> None:
        """One round: at most `ROUND` programs, and the shrinking of the first find among them."""
        from hypothesis import HealthCheck, Phase, Verbosity, given, settings
        from hypothesis import seed as seeded
        from hypothesis.errors import HypothesisException

        from . import strategy

        self._round_seed = seed
        self._hunted = self._best = None

        @seeded(seed)
        @settings(
            max_examples=ROUND,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            print_blob=False,
            verbosity=Verbosity.quiet,
        )
        @given(strategy.programs(any(map(self.takes_virtual, self.workers))))
        def test(program: dict[str, Any]) -> None:
            self.examine(program)

        try:
            test()
        except (Found, Enough):
            pass
        except HypothesisException:
            if self._best is None:
                raise
        except BaseExceptionGroup as group:  # a find that is flaky is told with its exceptions
            if self._best is None or group.subgroup(Found) is None:
                raise
        if self._best is not None:
            self._keep(self._best)
        self.rounds += 1

    def _keep(self, found: Find) -> None:
        """A find is made small: see that a fresh process shows it too."""
        worker = self.workers[found.contender]
        worker.stop()
        self.plain.stop()
        self._hunted = None
        alone = self.compare(found.program, found.contender)
        if alone is None or alone.kind in ("flaky", "unstable"):
            found.detail += "\nA fresh process does not show it: it takes programs before this one."
        if found.name not in {known.name for known in self.finds}:
            self.finds.append(found)
        self._found[found.contender] += 1
        if self._found[found.contender] >= self.most_finds:
            self.workers.pop(found.contender).stop()

    def seeds(self, shard: Shard) -> Iterator[int]:
        """The seeds of this shard's rounds, without end."""
        number = shard.number - 1
        while True:
            yield random.Random(f"{self.seed} {number}").randrange(1 << 62)
            number += shard.count

    def run(self, shard: Shard = Shard(1, 1), most: int | None = None) -> Iterator[int]:
        """Rounds until the time is over, or `most` programs have run; yields after each how many there were."""
        if most is not None:
            self._most = most
        for seed in self.seeds(shard):
            if time.monotonic() > self._deadline or self.programs >= self._most or not self.workers:
                return
            self.round(seed)
            yield self.programs

    def replay(self, program: dict[str, Any]) -> list[Find]:
        """Run one program under each contender; what is to be said about it."""
        return [found for name in self.workers if (found := self.compare(program, name)) is not None]

    # -- what remains

    def write(self) -> None:
        """The files of the finds: a script that can be run, and the program as data."""
        for found in (*self.finds, *self.doubts):
            self.folder.mkdir(parents=True, exist_ok=True)
            data = self.folder / f"{found.name}.json"
            code = self.folder / f"{found.name}.py"
            about = f"{found.contender}, {found.kind}: {found.difference}"
            data.write_text(json.dumps({"about": about, "program": found.program}, indent=1) + "\n")
            programs = tree.scenarios("programs.source")
            text = f"{about}\n\nRun it by itself for plain asyncio, with --host HOST inside a host."
            code.write_text(programs.script(found.program, text))
            found.files = [str(code), str(data)]
