"""Programs as a Hypothesis strategy: deterministic by what they are made of, not by luck.

On the real clock a strand has one thing from outside under way at a time (see `scenarios.programs.runtime`), so
each actor's events have one order however slow the machine is; `harness fuzz plain` checks that, against plain
asyncio on a loop that stalls at random.  In virtual time everything is in one order, so there tasks also sleep and run into timeouts beside each other.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Programs = st.SearchStrategy[dict[str, Any]]
VIAS = ("sleep", "soon", "later", "at", "thread", "executor", "host", "host_timer", "reader")
VIRTUAL_VIAS = ("sleep", "soon", "later", "at")
ACTIONS = ("set", "clear", "put", "get", "notify", "cancel", "task", "soon", "later", "raise")
WHENS = ("ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION")
small = st.integers(0, 3)
positive = st.integers(1, 3)


def _one(*kinds: str) -> st.SearchStrategy[list[Any]]:
    return st.sampled_from(kinds).map(lambda kind: [kind])


def _with(kind: str, *parts: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.tuples(st.just(kind), *parts).map(list)


CALM = st.one_of(
    _one("log", "raise_soon"),
    _with("yield", positive),
    _with("variable", st.sampled_from(("a", "b"))),
    _with("soon", positive, st.none() | small),
    _with("future", st.sampled_from(("result", "exception", "cancel"))),
    _with("agen", positive, positive, st.sampled_from(("close", "drop", "throw"))),
)
"""Statements that end by themselves."""

WAITING = st.one_of(
    _one("wait", "set", "clear", "put", "get", "condition", "barrier", "raise", "self_cancel", "uncancel"),
    _with("notify", positive),
    _with("cancel", small),
    _with("join", small),
)
"""Statements of tasks beside each other."""

TIMED = st.one_of(_with("nap", small), _with("later", small))


def _bodies(statement: st.SearchStrategy[Any], least: int = 1) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.lists(statement, max_size=3), min_size=least, max_size=3)


def _inner(virtual: bool) -> st.SearchStrategy[list[Any]]:
    """Statements inside tasks that a `tasks` statement ends if they do not."""
    leaf = st.one_of(WAITING, CALM, TIMED) if virtual else st.one_of(WAITING, CALM)
    limits = st.sampled_from((None, 0, -1, 1, 2) if virtual else (None, 0, -1))

    def around(statement: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
        body = st.lists(statement, min_size=1, max_size=3)
        return st.one_of(
            _with("lock", body),
            _with("sem", body),
            _with("guard", body, st.booleans(), st.integers(0, 2)),
            _with("catch", body),
            _with("timeout", limits, body),
            _with("wait_for", limits, body),
            _with("shield", body),
            _with("group", _bodies(statement)),
            _with("gather", _bodies(statement), st.booleans()),
            _with("waits", _bodies(statement), st.sampled_from(WHENS)),
            _with("completed", _bodies(statement)),
        )

    return st.recursive(leaf, around, max_leaves=6)


def _tasks(virtual: bool) -> st.SearchStrategy[list[Any]]:
    inner = _inner(virtual)
    poke = st.tuples(
        st.sampled_from(VIRTUAL_VIAS if virtual else VIAS), positive, st.sampled_from(ACTIONS), small
    ).map(lambda parts: list(parts))
    return _with(
        "tasks", st.lists(st.lists(inner, max_size=4), min_size=1, max_size=4), st.lists(poke, max_size=3)
    )


SIZES = st.lists(st.sampled_from((1, 7, 4096, 70_000, 300_000)), min_size=1, max_size=3)
DELAYS = st.lists(st.integers(0, 4), min_size=1, max_size=5)
OUTSIDE = st.one_of(
    _with("threadsafe", st.integers(1, 5)),
    _with("executor", st.sampled_from(("thread", "exception", "cancel", "many"))),
    _with("stream", SIZES, st.booleans()),
    _with("server", st.integers(1, 2)),
    _with("sock", st.sampled_from((1, 4096, 300_000))),
    _with("readers", st.integers(1, 5)),
    _with("host_calls", st.integers(1, 5)),
    _with("outside", st.sampled_from(VIAS), positive, st.sampled_from(("soon", "later", "raise", "task")), small),
)
"""Statements of a strand that wait for something outside the loop."""


def _clocked(equal: bool) -> st.SearchStrategy[list[Any]]:
    """Statements of a strand that wait for the clock.  Equal deadlines have an order where nothing else has timers."""
    delays = DELAYS if equal else DELAYS.map(lambda found: list(dict.fromkeys(found)))
    apart = DELAYS.map(lambda found: list(dict.fromkeys(found)))
    close = st.lists(st.sampled_from((1, 2) if equal else (1, 2, 3, 4)), min_size=2, max_size=5, unique=not equal)
    return st.one_of(
        _with("nap", small),
        _with("timers", delays, st.lists(small, max_size=2)),
        _with("timers", close, st.just([])),
        _with("race", apart, st.sampled_from(("gather", "completed", "wait", "first"))),
        _with("expire", positive, st.sampled_from(("wait", "wait_for", "reschedule", "nested", "shield"))),
    )


def _strand(virtual: bool, equal: bool) -> st.SearchStrategy[list[Any]]:
    statement = st.one_of(CALM, _tasks(virtual), _tasks(virtual), _clocked(equal))
    if not virtual:
        statement = st.one_of(statement, OUTSIDE)
    return st.lists(statement, min_size=1, max_size=4)


STRANDS = {(virtual, equal): _strand(virtual, equal) for virtual in (False, True) for equal in (False, True)}
PROCESS = _with("process", small)
LEFT = st.lists(st.sampled_from(("wait", "swallow", "raise", "agen")), max_size=2)


@st.composite
def programs(draw: st.DrawFn, virtual_too: bool = True) -> dict[str, Any]:
    """A program; see `scenarios.programs.source`.  `virtual_too`: some of them in virtual time."""
    virtual = virtual_too and draw(st.integers(0, 3)) == 3
    count = 1 if virtual else draw(st.integers(1, 3))
    strands = [draw(STRANDS[virtual, count == 1]) for _ in range(count)]
    left: list[str] = []
    if not virtual:
        if draw(st.integers(0, 30)) == 30:
            strands[0].append(draw(PROCESS))
        left = draw(LEFT)
        if draw(st.integers(0, 10)) == 10:
            left.append("executor")
    return {
        "virtual": virtual,
        "debug": draw(st.integers(0, 4)) == 4,
        "strands": strands,
        "left": left,
        "end": draw(st.sampled_from(("return", "return", "return", "raise", "exit", "cancel"))),
    }


def size(program: dict[str, Any]) -> int:
    """How many statements a program has."""

    def count(value: Any) -> int:
        if isinstance(value, list):
            return (1 if value and isinstance(value[0], str) else 0) + sum(map(count, value))
        return 0

    others = [program["end"] != "return", program["debug"]]
    return count(program["strands"]) + len(program["left"]) + sum(map(bool, others))
