"""Loops with one fault each: plain asyncio, but for what the sentence beside it says.

Most cases ask for something that any loop has to do, and need no guest to be shown able to reject. A module here has the
faults of some groups; each is a contender (``harness.selftest.loops.timers:EarlyTimers``, which `harness run` takes as
well) and names the cases that have to turn red for it. Faults of the guest and of its hosts are in ``mutants.toml``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import importlib
import pkgutil
import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ... import tree
from ...verdicts import BEHAVIOURS, TEARDOWNS

Made = TypeVar("Made", bound=Callable[[], Any])

SOUND = f"{__name__}:sound"
"""The contender without a fault, for the run that has to be green."""


class Loop(asyncio.SelectorEventLoop):
    """Asyncio's own loop, to inherit from, and what of it faults touch that typeshed does not know."""

    _asyncgens: Any
    _default_executor: Any
    _selector: Any
    _thread_id: int | None

    if TYPE_CHECKING:

        def _run_once(self) -> None: ...


class Runs:
    """A contender whose run, from a coroutine to the closed loop, is its own, as of most bridges; to inherit from."""

    def new_loop(self) -> asyncio.AbstractEventLoop:
        return Loop()

    def run(self, main: Coroutine[Any, Any, Any], *, debug: bool | None = None, loop_factory: Any = None) -> Any:
        with asyncio.Runner(debug=debug, loop_factory=loop_factory or self.new_loop) as runner:
            asyncio.set_event_loop(runner.get_loop())  # as in asyncio.run: this attaches the child watcher
            try:
                return runner.run(main)
            finally:
                runner.close()
                asyncio.set_event_loop(None)


def sound() -> Runs:
    """A contender without a fault."""
    return Runs()


@dataclasses.dataclass(frozen=True)
class LoopFault:
    """A loop with a fault, and one case that has to turn red for it."""

    name: str
    fault: str
    contender: str
    case: str
    sees: tuple[str, ...]
    by_test = False
    about = "loop"

    @property
    def file(self) -> str:
        """Path in the tree."""
        return self.contender.partition(":")[0].replace(".", "/") + ".py"

    @property
    def detector(self) -> str:
        return f"{self.contender}::{self.case}"

    @property
    def change(self) -> tuple[str, ...]:
        """What is wrong: all cases that have to see one loop's fault run in one harness."""
        return (self.contender,)

    @property
    def green(self) -> str:
        """The cell that has to be green: the same case under the loop without a fault."""
        return f"{SOUND}::{self.case}"


_known: dict[str, LoopFault] = {}


def broken(fault: str, *cases: str, sees: tuple[str, ...] = ("FAIL",)) -> Callable[[Made], Made]:
    """Declare what is decorated, a class of loops or of contenders or a function that makes one, as one with this fault.

    `cases` are the ids of those that have to see it, as one of `sees` (behaviours and teardown verdicts).
    """
    if not cases or not sees or set(sees) - ({*BEHAVIOURS, *TEARDOWNS} - {"PASS", "NOTRUN", "UNSUPPORTED"}):
        raise ValueError(f"{fault!r}: needs cases, and what they see")

    def declare(make: Made) -> Made:
        name = getattr(make, "__name__")  # noqa: B009 - a class or a function, which mypy cannot know
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", "-", name).lower()
        for case in cases:
            number = case.partition("-")[0].replace(".", "").lower()
            one = LoopFault(f"loop-{words}-{number}", fault, f"{make.__module__}:{name}", case, sees)
            if one.name in _known:
                raise ValueError(f"{one.name} is there twice")
            _known[one.name] = one
        return make

    return declare


def patch(owner: Any, name: str, change: Callable[[Any], Any]) -> None:
    """Put ``change(what is there)`` in place of an attribute, once in a process, which is a cell's own."""
    old = getattr(owner, name)
    if not getattr(old, "_is_fault", False):
        new = change(old)
        if callable(old) and not isinstance(old, type):
            new = functools.wraps(old)(new)
        new._is_fault = True
        setattr(owner, name, new)


def load() -> dict[str, LoopFault]:
    """All of them by name."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"{__name__}.{module.name}")
    return dict(_known)


assert __name__.startswith(f"{tree.PACKAGE}."), "contenders are named after the package"
