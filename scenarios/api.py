"""What a conformance case is made of.  Imports the standard library only.

A case is an ``async`` function that runs as the main coroutine of the contender's
loop, or a plain function for what happens before and after a loop.  Either takes one
argument, the `CaseContext`.

    @case("T.01-equal-deadlines", "Callbacks with equal deadlines run in the order in which they were set.")
    async def equal_deadlines(t):
        loop = asyncio.get_running_loop()
        when = loop.time() + 0.01
        done = loop.create_future()
        for i in range(5):
            loop.call_at(when, t.log, "fired", i)
        loop.call_at(when, done.set_result, None)
        await done

The verdict of a case with ``oracle="plain"`` is the comparison of its log with the log
of the same case under plain asyncio in the same run, and no failed `check`.  With
``oracle="own"`` it is its checks and, where ``expect`` is given, its log.

Cases about what only a guest has (a start without a run, a modal call, counters) go through members
of `CaseContext` too, each with an ability of its own that the contender declares and the case names
in ``needs``: ``start_api``, ``start_guest_run``, ``modal_api``, ``counters``, ``child``.  So no case
imports the thing under test.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    from .driver import HostDriver

Level = Literal["MUST", "SHOULD", "INFO"]
Tier = Literal["quick", "full"]
T = TypeVar("T")


class CheckFailed(AssertionError):
    """An expectation of a case was missed (raised by `CaseContext.check`)."""


class Unsupported(Exception):
    """Raised by a case or a driver: the contender lacks the ability named by the argument."""


class Outcome(Protocol):
    """How a guest ended; ``outcome.Outcome`` is one."""

    def unwrap(self) -> Any:
        """Return the result, or raise the exception, that the main coroutine ended with."""


class Started(Protocol):
    """A guest that `CaseContext.start` began: the contender's own object, with at least these."""

    loop: Any
    task: Any

    def cancel(self) -> Any:
        """Cancel the main task (host's thread)."""

    def wake(self) -> Any:
        """Make the guest look for work (any thread)."""

    def start_soon(self, fn: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
        """Start ``fn(*args)`` as a task of the guest (host's thread)."""


@dataclasses.dataclass(frozen=True)
class ChildResult:
    """How an interpreter started by `CaseContext.child` ended."""

    returncode: int
    """As ``subprocess``'s: the exit status, or minus the signal's number."""
    stdout: str
    stderr: str


class CaseContext(Protocol):
    """What a case gets."""

    driver: HostDriver
    """The host's side; raises `Unsupported` on use where the contender has no host."""
    scale: float
    """>= 1 on slow machines; multiply liveness bounds by it."""
    tmp: str
    """A fresh directory of this case's own."""

    def log(self, event: str, data: Any = None, *, actor: str = "main") -> None:
        """Append to the event log: JSON-able `data`; no times, descriptors or addresses.

        Events of one actor are compared in order; actors are compared independently of
        each other.  Use one actor where the order across tasks is part of the case.
        """

    def check(self, condition: object, message: str, **values: Any) -> None:
        """Raise `CheckFailed` with `message` and the values when `condition` is false.  The case has failed then, whoever
        catches that: a callback of the host's, a hook, a task that nobody awaits."""

    def measure(self, name: str, value: float, unit: str) -> None:
        """Record a figure in the result's detail (never compared)."""

    def run(self, main: Callable[..., Coroutine[Any, Any, T]], *args: Any, **options: Any) -> T:
        """Plain-function cases: run ``main(*args)`` under the contender from start to end,
        teardown included, as asyncio.run would; returns its result or raises its exception.
        ``options``: ``debug``, ``loop_factory``."""

    def new_loop(self) -> Any:
        """Plain-function cases: a new event loop of the contender, whose ``run_forever`` and
        ``run_until_complete`` run in the contender's host."""

    def start(
        self,
        main: Callable[..., Coroutine[Any, Any, Any]],
        *args: Any,
        done: Callable[[Outcome], Any] | None = None,
        **options: Any,
    ) -> Started:
        """Ability ``start_api`` (plain-function cases): begin ``main(*args)`` as a guest in the
        driver's host (``host=self.driver.toolkit()``) and return at once; the case drives the
        host itself, by ``self.driver.run()``.  `done` is the contender's ``done_callback``, given
        unchanged (none: None is given).  ``options`` go to the contender's own start as they are
        (``debug``, ``loop_factory``, ``host_uses_signal_set_wakeup_fd``).  What that raises is raised."""

    def start_guest_run(self, main: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **options: Any) -> Started:
        """Ability ``start_guest_run`` (plain-function cases): the contender's function of Trio's
        shape, with ``run_sync_soon_threadsafe=``, ``done_callback=`` and so on in `options`."""

    async def modal(self, fn: Callable[..., T], *args: Any) -> T:
        """Ability ``modal_api``: the contender's way to call ``fn(*args)``, which blocks in a nested
        loop of the host, from a coroutine while the other tasks go on; returns or raises what `fn` does."""
        raise NotImplementedError

    def counters(self) -> dict[str, int]:
        """Ability ``counters``: the counters of this thread's guest (of the one that ended last when
        none runs), at least turns, iterations, wakes, posts, over_budget, spurious, demoted."""

    def child(self, func: Callable[[CaseContext], Any], *, timeout: float = 20.0) -> ChildResult:
        """Ability ``child``: call ``func(context)`` in a fresh interpreter, under the same contender
        (same environment, display, host, engine and strategy), with a context of its own, as for a
        plain-function case.  `func` is a function at the top level of a case's module.  When it
        returns, the interpreter ends as any program does (no ``os._exit``), and an exception out of
        it is printed as any program's is; nothing of the context's is printed, nor closed
        beforehand: what `func` leaves running is still running when the interpreter ends.  Waits for
        the end; after `timeout` seconds (times `scale`) the child is killed and `CheckFailed` raised,
        with what it printed."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One case and its metadata."""

    id: str
    """``T.01-equal-deadlines``: group, item of CASES.md, letter where one item has several, name."""
    description: str
    """The expectation, in one sentence."""
    func: Callable[[CaseContext], Any]
    level: Level = "MUST"
    tier: Tier = "quick"
    needs: frozenset[str] = frozenset()
    """Abilities, the driver's and the contender's together.  The driver's: host loop window modal paint input
    nested flood timer idle.  The contender's: start_api start_guest_run modal_api counters child, and subprocess
    tls signals threads fork where the platform has them."""
    oracle: Literal["plain", "own"] = "plain"
    report: str = ""
    """The public report of the same defect: ``qasync#84``."""
    rejects: str = ""
    """The mutant (harness selftest) or peer that this case is shown to reject."""
    timeout: float = 20.0
    """Seconds until the watchdog dumps all stacks and kills; scaled by calibration."""
    min_python: tuple[int, int] = (3, 11)

    @property
    def group(self) -> str:
        return self.id.partition(".")[0]

    @property
    def item(self) -> str:
        """``T.01`` of ``T.01a-name``."""
        head = self.id.partition("-")[0]
        return head.rstrip("abcdefghijklmnopqrstuvwxyz")

    @property
    def is_async(self) -> bool:
        import inspect

        return inspect.iscoroutinefunction(self.func)


CASES: dict[str, Case] = {}
"""All cases by id, filled by the `case` decorator when the modules of `scenarios` are imported."""


def case(
    id: str,
    description: str,
    *,
    level: Level = "MUST",
    tier: Tier = "quick",
    needs: str = "",
    oracle: Literal["plain", "own"] = "plain",
    report: str = "",
    rejects: str = "",
    timeout: float = 20.0,
    min_python: tuple[int, int] = (3, 11),
) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """Register a case.  `needs` is a space-separated list of abilities.

    Raises ValueError for a second case of the same id.
    """

    def register(func: Callable[[Any], Any]) -> Callable[[Any], Any]:
        if id in CASES:
            raise ValueError(f"two cases are called {id}")
        CASES[id] = Case(
            id, description, func, level, tier, frozenset(needs.split()), oracle, report, rejects, timeout, min_python
        )
        return func

    return register
