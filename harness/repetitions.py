"""One case many times in one process: what happened each time, and what the process has more of after each.

Imported in cells only; `campaign` starts them and judges what they saw.
"""

from __future__ import annotations

import array
import gc
import json
import linecache
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from . import teardown

KINDS = ("references", "objects", "blocks", "descriptors", "threads", "children")
"""What is counted; references in a debug build of CPython only."""
FIRST, SECOND, THIRD = "descriptors", "threads", "children"


class Meter:
    """What the process has, after each repetition, in arrays that were made beforehand."""

    def __init__(self, count: int) -> None:
        self.kinds = KINDS if hasattr(sys, "gettotalrefcount") else KINDS[1:]
        self.taken = 0
        self.values = {kind: array.array("q", bytes(8 * count)) for kind in self.kinds}

    def take(self) -> None:
        """Count, after a collection of garbage; what is just ending gets a second for it."""
        tidy()
        system = self._system()
        if self.taken:
            deadline = time.monotonic() + teardown.SETTLE_S
            while any(n > self.values[k][self.taken - 1] for k, n in system.items()) and time.monotonic() < deadline:
                time.sleep(0.01)
                system = self._system()
        tidy()
        at = self.taken
        for kind, number in system.items():
            self.values[kind][at] = number
        self.values["objects"][at] = len(gc.get_objects())
        self.values["blocks"][at] = sys.getallocatedblocks()
        if "references" in self.values:
            self.values["references"][at] = sys.gettotalrefcount()
        self.taken += 1

    @staticmethod
    def _system() -> dict[str, int]:
        now = teardown.snapshot()
        return {FIRST: len(now.fds), SECOND: len(now.threads), THIRD: len(now.children)}

    def deltas(self) -> dict[str, list[int]]:
        """Kind -> what each repetition added; the first that was taken is the base."""
        return {
            kind: [values[n] - values[n - 1] for n in range(1, self.taken)] for kind, values in self.values.items()
        }


SEEN = ("status", "message", "events", "traceback", "teardown", "noise", "uninstall_error")
"""What is seen of a repetition and judged."""


def signature(one: dict[str, Any]) -> str:
    """Equal for repetitions that did the same and left the same kinds of things behind."""
    noise = sorted((kind, count) for kind, (count, _) in one.get("noise", {}).items())
    about = [one["status"], one.get("message"), one.get("events"), sorted(one.get("teardown", ())), noise]
    return json.dumps([*about, one.get("uninstall_error")], sort_keys=True)


class Others:
    """Repetitions that differ from the first: all of them, for one that is left out may be the one that failed.  In a file,
    for what the process kept of each would be counted as its leak."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, number: int, one: dict[str, Any]) -> None:
        """Keep what is `SEEN` of the repetition of this number."""
        with open(self.path, "a") as file:
            file.write(json.dumps({"number": number, **{key: one[key] for key in SEEN if key in one}}) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """The first of each signature, and as ``count`` how many had that."""
        found: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            with open(self.path) as file:
                for one in map(json.loads, file):
                    found.setdefault(signature(one), {**one, "count": 0})["count"] += 1
        return list(found.values())


def tidy() -> None:
    """Empty the caches that are no leaks, and collect garbage."""
    for module in list(sys.modules.values()):
        registry = getattr(module, "__dict__", {}).get("__warningregistry__")
        if registry:
            registry.clear()
    re.purge()
    linecache.clearcache()
    getattr(sys, "_clear_internal_caches", sys._clear_type_cache)()
    while gc.collect():
        pass


def run(adapter: Any, case: Any, spec: dict[str, Any], folder: Path, result: dict[str, Any], noise: Any) -> None:
    """Run the case as often as ``spec["repeat"]`` says: ``warmups`` and then ``count`` times, at most ``seconds``.

    ``meter``: count what the process has after each; without, see after each what it left behind, as in a cell that runs
    once.  ``reopen``: close the driver after each and make a new one, for cases that use up their host.  ``empty``: do all
    of that but the case itself, as a control.
    """
    from .cell import attempt, measured

    plan = spec["repeat"]
    meter = Meter(plan["count"] + 1) if plan["meter"] else None
    others = Others(folder / "others")
    counts: dict[str, int] = {}
    began = time.monotonic()
    opened = True
    for number in range(plan["warmups"] + plan["count"]):
        own = folder / f"r{number}"
        own.mkdir()
        one: dict[str, Any] = {"status": "ok"}
        if not opened:
            adapter.open(case.needs)
            opened = True
        if meter is None:
            measured(adapter, case, spec, own, one, noise)
        else:
            if not plan["empty"]:
                attempt(adapter, case, spec, own, one)
            try:
                adapter.uninstall()
            except Exception as error:
                one.update(status="error", message=f"uninstall: {error!r}")
        one.pop("info", None)
        if plan["reopen"]:
            adapter.close()
            opened = False
        shutil.rmtree(own, ignore_errors=True)
        os.write(spec["started_fd"], b".")
        counts[one["status"]] = counts.get(one["status"], 0) + 1
        if number == 0:
            result.update({key: one[key] for key in ("measures", *SEEN) if key in one})
            first = one["status"], signature(one)
        elif signature(one) != first[1]:
            others.add(number, one)
        failed = one["status"] != "ok"
        del one
        noise.forget()
        if meter is not None:
            if failed:
                break
            if number >= plan["warmups"] - 1:
                if not meter.taken:
                    # What lives now is of no interest to the collections to come, which it would slow down.
                    tidy()
                    gc.freeze()
                meter.take()
            else:
                tidy()
        if plan["seconds"] and number >= plan["warmups"] + 20 and time.monotonic() - began > plan["seconds"]:
            break
    result["status"] = first[0]
    result["repetitions"] = {"ran": number + 1, "warmups": plan["warmups"], "statuses": counts, "others": others.read()}
    if meter is not None:
        result["repetitions"]["deltas"] = meter.deltas()
    result["seconds"] = time.monotonic() - began
    result["info"] = adapter.info() if opened else {}
    if opened:
        adapter.close()
