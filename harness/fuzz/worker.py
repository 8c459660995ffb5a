"""A process that runs one program after the other under one contender.

``python -m harness.fuzz.worker SPEC.json``: reads programs from standard input, a line of JSON
each, and writes a line with the log of each to a descriptor of its own.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from .. import adapters, cell, tree
from ..contenders import Contender

T = TypeVar("T")
STALL_MS = 6
"""The longest of the pauses of a loop that stalls; a few times the durations in programs."""


class Stalling(asyncio.SelectorEventLoop):
    """Plain asyncio on a machine that is always busy with something else, at random moments."""

    random = random.Random(0)

    def _stall(self) -> None:
        if self.random.random() < 0.1:
            time.sleep(self.random.random() * STALL_MS / 1000)

    def _process_events(self, events: Any) -> None:
        self._stall()
        super()._process_events(events)  # type: ignore[misc]

    def call_at(self, *args: Any, **options: Any) -> asyncio.TimerHandle:
        self._stall()
        return super().call_at(*args, **options)


class Stalled(adapters.Plain):
    """``plain`` as a contender: what differs from plain asyncio here is no program to judge a loop by."""

    def run(self, main: Callable[..., Coroutine[Any, Any, T]], *args: Any, **options: Any) -> T:
        if options.get("loop_factory") is None:
            options["loop_factory"] = Stalling
        return super().run(main, *args, **options)


def descriptors() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


def serve(adapter: Any, lines: Any, reply: Callable[[dict[str, Any]], None]) -> None:
    """Run what comes, line by line."""
    programs = tree.scenarios("programs")
    driver = adapter.driver if "host" in adapter.abilities() else None
    gc.collect()
    gc.freeze()  # so that the collections between programs are short
    for line in lines:
        program = json.loads(line)
        began = time.perf_counter()
        answer: dict[str, Any] = {}
        try:
            answer["views"] = programs.play(program, adapter.run, driver)
        except Exception as error:
            answer["error"] = "".join(traceback.format_exception_only(type(error), error)).strip()
            answer["traceback"] = traceback.format_exc()[-4000:]
        answer["seconds"] = time.perf_counter() - began
        answer["descriptors"] = descriptors()
        reply(answer)


def main(argv: list[str]) -> int:
    """Serve until standard input ends."""
    spec = json.loads(Path(argv[0]).read_text())
    descriptor = spec["reply_fd"]
    os.set_inheritable(descriptor, False)
    cell.arm_dumps()

    def reply(answer: dict[str, Any]) -> None:
        data = json.dumps(answer).encode() + b"\n"
        while data:
            data = data[os.write(descriptor, data) :]

    try:
        adapter: Any = Stalled() if spec["stall"] else adapters.adapter(Contender.from_json(spec["contender"]))
        adapter.open(frozenset())
    except adapters.Missing as error:
        reply({"missing": str(error)})
        return 0
    reply({"abilities": sorted(adapter.abilities())})
    serve(adapter, sys.stdin, reply)
    adapter.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
