"""The process that runs tests of one module of CPython's test_asyncio under one contender.

``python -m harness.suite_cell SPEC.json``: writes one JSON line for each beginning and each end of a test
to the descriptor that the specification names.
"""

from __future__ import annotations

import asyncio
import collections
import fnmatch
import json
import os
import selectors
import sys
import threading
import time
import traceback
import types
import unittest
from asyncio import base_events, events, selector_events
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import adapters, cell, suite_pytest
from .contenders import Contender

PACKAGE = "test.test_asyncio"
CLASSES = ("descriptor", "mirrored", "always_due")


class PlainCounter:
    """Counts, on plain asyncio, who iterates a loop and which iterations ``fast`` could have executed."""

    STOOD_FOR = ("_run_once", "_process_events", "_add_callback", "time")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: collections.Counter[str] = collections.Counter()
        self._inside = threading.local()
        self._stock: dict[str, Any] = {}

    def install(self) -> None:
        """Wrap ``run_forever`` (who iterates) and ``_run_once`` (what each iteration is like) of the base class."""
        base = base_events.BaseEventLoop
        run_forever, run_once = base.run_forever, base._run_once  # type: ignore[attr-defined]
        counter = self

        def counted_run_forever(loop: Any) -> None:
            begins = not (loop.is_closed() or loop.is_running() or events._get_running_loop() is not None)
            if begins:
                counter.add(f"turns_{counter.selector_class(loop)}")
                counter.add("turns")
            depth = getattr(counter._inside, "depth", 0)
            counter._inside.depth = depth + 1
            try:
                run_forever(loop)
            finally:
                counter._inside.depth = depth

        def counted_run_once(loop: Any) -> None:
            if getattr(counter._inside, "depth", 0):
                counter.add("iterations")
                if counter.eligible(loop):
                    counter.add("iterations_fast")
            run_once(loop)

        for wrapper, function in ((counted_run_forever, run_forever), (counted_run_once, run_once)):
            wrapper.__name__, wrapper.__qualname__ = function.__name__, function.__qualname__
            wrapper.__doc__ = function.__doc__
        setattr(base, "run_forever", counted_run_forever)
        setattr(base, "_run_once", counted_run_once)
        self._stock = self.stood_for(asyncio.SelectorEventLoop)

    @classmethod
    def stood_for(cls, loop_type: type) -> dict[str, Any]:
        """The functions that an iteration of ``fast`` stands for."""
        return {
            **{name: getattr(loop_type, name, None) for name in cls.STOOD_FOR},
            "Handle._run": events.Handle._run,
            "TimerHandle._run": events.TimerHandle._run,
            "select": selectors.EpollSelector.select,
            "monotonic": time.monotonic,
        }

    def selector_class(self, loop: Any) -> str:
        """As the core classifies: by the exact class of the selector."""
        selector = type(getattr(loop, "_selector", None))
        if selector is selectors.EpollSelector:
            return "descriptor"
        return "mirrored" if selector in (selectors.PollSelector, selectors.SelectSelector) else "always_due"

    def eligible(self, loop: Any) -> bool:
        """Could ``fast`` execute this iteration?"""
        return (
            isinstance(loop, selector_events.BaseSelectorEventLoop)
            and type(getattr(loop, "_selector", None)) is selectors.EpollSelector
            and not getattr(loop, "_debug", True)
            and not any(name in vars(loop) for name in self.STOOD_FOR)
            and self.stood_for(type(loop)) == self._stock
            and getattr(base_events, "_MIN_SCHEDULED_TIMER_HANDLES", None) == 100
            and getattr(base_events, "_MIN_CANCELLED_TIMER_HANDLES_FRACTION", None) == 0.5
        )

    def add(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1

    def totals(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)


class Result(unittest.TestResult):
    """Reports each test as it begins and as it ends, with what was counted in between."""

    def __init__(
        self, package: str, say: Callable[[dict[str, Any]], None], totals: Callable[[], dict[str, int]]
    ) -> None:
        super().__init__()
        self._package = package
        self._say = say
        self._totals = totals
        self._before: dict[str, int] = {}
        self._outcome = "pass"
        self._detail = ""
        self._began = 0.0
        self._current: str | None = None

    def name(self, test: Any) -> str:
        """The test's id without the package."""
        return str(test.id()).removeprefix(self._package + ".")

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._current = self.name(test)
        self._outcome, self._detail = "pass", ""
        self._before = self._totals()
        self._began = time.monotonic()
        self._say({"kind": "begin", "test": self._current})

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        self.end(self.name(test))
        self._current = None

    def end(self, name: str) -> None:
        """Report a test's end."""
        now = self._totals()
        counted = {k: v - self._before.get(k, 0) for k, v in now.items() if v != self._before.get(k, 0)}
        self._say(
            {
                "kind": "end",
                "test": name,
                "outcome": self._outcome,
                "detail": self._detail[-4000:],
                "seconds": round(time.monotonic() - self._began, 4),
                "counted": counted,
            }
        )

    def _note(self, test: Any, outcome: str, err: Any = None) -> None:
        if self._outcome in ("pass", "skip"):
            self._outcome = outcome
        if err is not None:
            self._detail += "".join(traceback.format_exception(*err))
        if self._current is None:  # a fixture of a class or module
            self.end(self.name(test))
            self._outcome, self._detail = "pass", ""

    def addError(self, test: Any, err: Any) -> None:
        self._note(test, "error", err)

    def addFailure(self, test: Any, err: Any) -> None:
        self._note(test, "fail", err)

    def addSkip(self, test: Any, reason: str) -> None:
        self._detail = self._detail or reason
        self._note(test, "skip")

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        self._note(test, "xfail")

    def addUnexpectedSuccess(self, test: Any) -> None:
        self._note(test, "xpass")

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        if err is not None:
            self._note(test, "fail" if issubclass(err[0], test.failureException) else "error", err)


def flatten(suite: Any) -> Iterator[Any]:
    """The tests of a suite."""
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flatten(test)
        else:
            yield test


def host_counter(adapter: adapters.Adapter) -> Callable[[], dict[str, int]]:
    """The totals of the guests of this process."""
    package: types.ModuleType = sys.modules["asyncio_guest"]
    totals = package.totals

    def counted() -> dict[str, int]:
        return {k: v for k, v in totals().items() if isinstance(v, int) and not k.endswith("_ns")}

    return counted


def main(argv: list[str]) -> int:
    """Run what ``argv[0]`` specifies."""
    spec = json.loads(Path(argv[0]).read_text())
    descriptor, pid = spec["fd"], os.getpid()
    os.set_inheritable(descriptor, False)
    cell.arm_dumps()

    def say(line: dict[str, Any]) -> None:
        if os.getpid() == pid:
            data = json.dumps(line).encode() + b"\n"
            while data:
                data = data[os.write(descriptor, data) :]

    contender = Contender.from_json(spec["contender"])
    say({"kind": "asyncio", "folder": os.path.realpath(asyncio.__path__[0])})
    try:
        foreign = spec.get("pytest")
        loaded = None
        if not foreign:
            loaded = unittest.defaultTestLoader.loadTestsFromName(f"{spec['package']}.{spec['module']}")
        totals: Callable[[], dict[str, int]]
        if contender.kind == "plain":
            counter = PlainCounter()
            counter.install()
            totals = counter.totals
        else:
            adapter = adapters.adapter(contender)
            adapter.install_for_process()  # type: ignore[attr-defined]
            totals = host_counter(adapter)
    except unittest.SkipTest as why:
        line = {"test": spec["module"], "outcome": "skip", "detail": str(why), "seconds": 0.0, "counted": {}}
        say({"kind": "end", **line})
        say({"kind": "done"})
        return 0
    except BaseException:
        say({"kind": "broken", "detail": traceback.format_exc()[-4000:]})
        return 1
    if foreign:
        suite_pytest.run(spec, say, totals)
        return 0
    result = Result(spec["package"], say, totals)
    begun, only = set(spec["begun"]), spec["only"]
    tests = [
        test
        for test in flatten(loaded)
        if result.name(test) not in begun
        and (only is None or result.name(test) in only)
        and fnmatch.fnmatchcase(result.name(test), spec["match"])
    ]
    say({"kind": "load", "tests": len(tests)})
    unittest.TestSuite(tests).run(result)
    say({"kind": "done"})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
