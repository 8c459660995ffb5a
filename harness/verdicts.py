"""From what was seen in a cell's process to its verdict."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Iterable
from typing import Any

BEHAVIOURS = ("PASS", "FAIL", "WEAK", "INFO", "TIMEOUT", "CRASH", "UNSUPPORTED", "NOTRUN", "FLAKY")
TEARDOWNS = ("LEAK_FD", "LEAK_THREAD", "LEAK_CHILD", "LEAK_REF", "WAKEUP_FD_CHANGED", "UNCLEAN")
BAD = frozenset({"FAIL", "TIMEOUT", "CRASH", "FLAKY"})
"""Behaviours that turn the exit code when nothing expects them."""
SEVERITY = {
    "PASS": 0,
    "INFO": 0,
    "WEAK": 1,
    "UNSUPPORTED": 2,
    "NOTRUN": 2,
    "FAIL": 3,
    "FLAKY": 3,
    "TIMEOUT": 3,
    "CRASH": 3,
}
"""Behaviour -> how bad it is, in the order in which one of several counts.  What did not run is worse than a SHOULD
that was missed: nobody knows what it would have done."""


@dataclasses.dataclass
class Cell:
    """The result of contender x case x interpreter; the fields of HARNESS' results file."""

    contender: str
    case: str
    python: str
    toolkit_version: str | None
    engine_ran: str | None
    strategy: str | None
    level: str
    behaviour: str
    teardown: list[str] | None
    expected: dict[str, Any] | None
    reason: str
    seconds: float
    detail: dict[str, Any]
    rerun: str

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @property
    def group(self) -> str:
        return self.case.partition(".")[0]

    @property
    def clean(self) -> bool:
        """Nothing was left behind, as far as one could look."""
        return not self.teardown

    @property
    def bad(self) -> bool:
        """Missed a MUST, hung, died or left something behind."""
        return self.behaviour in BAD or not self.clean

    @property
    def peer(self) -> bool:
        return self.contender.startswith("peer/")


def worst(behaviours: Iterable[str]) -> str:
    """The behaviour that counts, of several.  Raises ValueError for none."""
    order = list(SEVERITY)
    return max(behaviours, key=order.index)


def united(teardowns: Iterable[list[str] | None]) -> list[str] | None:
    """All that any of several runs left behind; None where none was looked at."""
    measured = [set(one) for one in teardowns if one is not None]
    return [name for name in TEARDOWNS if any(name in one for one in measured)] if measured else None


def worse(was: Cell, now: Cell) -> bool:
    """Did `now` end worse than `was`, or leave something behind that `was` did not?"""
    return SEVERITY[now.behaviour] > SEVERITY[was.behaviour] or bool(set(now.teardown or ()) - set(was.teardown or ()))


def first_difference(plain: dict[str, Any], theirs: dict[str, Any], who: str) -> str | None:
    """The first difference of two event logs, actor by actor, as a sentence; None if they agree."""
    for actor in [*plain, *(a for a in theirs if a not in plain)]:
        want, got = plain.get(actor, []), theirs.get(actor, [])
        if want == got:
            continue
        for number, (w, g) in enumerate(zip(want, got), 1):
            if w != g:
                return f"actor {actor!r}, event {number}: plain asyncio has {_event(w)}, {who} has {_event(g)}"
        if len(want) > len(got):
            return f"actor {actor!r}: event {len(got) + 1}, {_event(want[len(got)])}, is missing under {who}"
        return f"actor {actor!r}: {who} has one event more than plain asyncio, {_event(got[len(want)])}"
    return None


def _event(event: Any) -> str:
    if isinstance(event, list) and len(event) == 2:
        name, data = str(event[0]), event[1]
        text: str = name if data is None else f"{name}({data!r})"
    else:  # a program's log in virtual time has other entries
        text = repr(event)
    return text if len(text) <= 200 else text[:200] + "..."


def signal_name(status: int) -> str:
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def complaint(raw: dict[str, Any]) -> str | None:
    """What is wrong with what was seen, without an oracle; None if nothing is."""
    if raw["status"] == "ok":
        return None
    return str(raw.get("message") or raw["status"])


def teardown_of(raw: dict[str, Any], plain: dict[str, Any] | None) -> tuple[list[str] | None, dict[str, str]]:
    """The teardown verdicts and their sentences.  Noise that plain asyncio makes as often in the same case is
    asyncio's, not the contender's."""
    if "teardown" not in raw:
        return None, {}
    found: dict[str, str] = dict(raw["teardown"])
    usual = (plain or {}).get("noise", {})
    noise = {kind: what for kind, what in raw.get("noise", {}).items() if what[0] > usual.get(kind, [0])[0]}
    if noise:
        found["UNCLEAN"] = "; ".join(
            filter(None, [found.get("UNCLEAN"), *(f"{count}x {kind}: {text}" for kind, (count, text) in noise.items())])
        )
    if raw.get("uninstall_error"):
        found["UNCLEAN"] = "; ".join(filter(None, [found.get("UNCLEAN"), raw["uninstall_error"]]))
    if raw.get("strays"):
        found["LEAK_CHILD"] = "; ".join(filter(None, [found.get("LEAK_CHILD"), raw["strays"]]))
    return [name for name in TEARDOWNS if name in found], found


def judge(raw: dict[str, Any], case: Any, contender: str, plain: dict[str, Any] | None) -> tuple[str, str]:
    """Behaviour and reason.  `plain` is what was seen of the same case under plain asyncio, or None when the case
    is its own oracle or the contender is plain."""
    status = raw["status"]
    if status == "timeout":
        return "TIMEOUT", str(raw["message"])
    if status == "crash":
        return "CRASH", str(raw["message"])
    if status == "unsupported":
        declared = raw["message"].startswith("declared: ")
        return "UNSUPPORTED", str(raw["message"]) if declared else f"lacks {raw['message']}"
    if status in ("missing", "notrun"):
        return "NOTRUN", str(raw["message"])
    if plain is not None and plain["status"] != "ok":
        return "NOTRUN", f"no oracle: on plain asyncio the case itself ends with {complaint(plain)}"
    wrong = complaint(raw)
    if wrong is None and plain is not None:
        wrong = first_difference(plain["events"], raw["events"], contender)
    if wrong is None:
        return "PASS", ""
    return {"MUST": "FAIL", "SHOULD": "WEAK", "INFO": "INFO"}[case.level], wrong
