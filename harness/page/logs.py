"""Two event logs side by side, with the first difference marked."""

from __future__ import annotations

import difflib
import json
from typing import Any

from ..verdicts import Cell

BEFORE, AFTER = 6, 14
"""Events shown before and after the first difference."""
WIDTH = 300
"""Characters of an event that are shown."""


def event(entry: Any) -> str:
    """One event as text."""
    name, data = entry[0], entry[1]
    text = str(name) if data is None else f"{name}  {json.dumps(data, ensure_ascii=False)}"
    return text if len(text) <= WIDTH else text[:WIDTH] + "…"


def first_difference(want: list[Any], got: list[Any]) -> int | None:
    """The index of the first event in which they differ, or None."""
    for index, (left, right) in enumerate(zip(want, got)):
        if left != right:
            return index
    return None if len(want) == len(got) else min(len(want), len(got))


def _actor(name: str, want: list[Any] | None, got: list[Any]) -> dict[str, Any]:
    """One actor's part: rows of (number, plain's event, the contender's event, mark)."""
    if want is None:
        shown = got[: BEFORE + AFTER]
        rows = [{"number": n, "left": None, "right": event(e), "mark": ""} for n, e in enumerate(shown, 1)]
        return {"actor": name, "rows": rows, "differs": False, "skipped": 0, "more": len(got) - len(shown)}
    first = first_difference(want, got)
    middle = min(len(want), len(got)) if first is None else first
    begin = max(0, middle - BEFORE)
    if begin <= 3 or (first is None and len(want) <= BEFORE + AFTER):
        begin = 0
    rows = [{"number": n + 1, "left": event(want[n]), "right": event(got[n]), "mark": ""} for n in range(begin, middle)]
    left, right = want[middle : middle + AFTER], got[middle : middle + AFTER]
    pairs: list[tuple[Any, Any]] = []
    # What follows the first difference is lined up again where it can be.
    matcher = difflib.SequenceMatcher(None, list(map(event, left)), list(map(event, right)), autojunk=False)
    for _, i, j, k, m in matcher.get_opcodes():
        width = max(j - i, m - k)
        pairs += zip(left[i:j] + [None] * (width - (j - i)), right[k:m] + [None] * (width - (m - k)))
    for index, (one, other) in enumerate(pairs):
        mark = "first" if index == 0 else "other" if one != other else ""
        rows.append(
            {
                "number": middle + index + 1,
                "left": "" if one is None else event(one),
                "right": "" if other is None else event(other),
                "mark": mark,
            }
        )
    more = max(len(want), len(got)) - middle - max(len(left), len(right))
    return {"actor": name, "rows": rows, "differs": first is not None, "skipped": begin, "more": max(0, more)}


def _events(value: Any) -> dict[str, list[Any]] | None:
    """A log by actor, or None when it is none."""
    if not isinstance(value, dict):
        return None
    right = all(
        isinstance(log, list) and all(isinstance(e, list) and len(e) == 2 for e in log) for log in value.values()
    )
    return {str(actor): log for actor, log in value.items()} if right else None


def compare(cell: Cell) -> dict[str, Any] | None:
    """The cell's log beside plain asyncio's, actor by actor, those that differ first; None when it wrote none."""
    got = _events(cell.detail.get("events"))
    want = _events(cell.detail.get("plain_events"))
    if got is None and cell.detail.get("last_events"):
        got = _tail(str(cell.detail["last_events"]))
        if got is not None and want is not None and "…" in got:
            want = None
    if not got and not want:
        return None
    got = got or {}
    names = [*(want or {}), *(name for name in got if want is None or name not in want)]
    actors = [_actor(name, None if want is None else want.get(name, []), got.get(name, [])) for name in names]
    actors.sort(key=lambda actor: not actor["differs"])
    marked = [actor for actor in actors if actor["differs"]]
    # Only one difference is the first: the one that the verdict names.
    for actor in marked[1:]:
        for row in actor["rows"]:
            row["mark"] = "other" if row["mark"] == "first" else row["mark"]
    same = [actor for actor in actors if not actor["differs"]]
    shown = marked + (same if not marked else [])
    return {
        "actors": shown[:12],
        "two": want is not None,
        "same": [actor["actor"] for actor in same] if marked else [],
        "left_out": max(0, len(shown) - 12),
    }


def _tail(text: str) -> dict[str, list[Any]] | None:
    """The events of a cell that was killed: whole JSON lines, by actor; ``…`` is among the actors when the beginning
    was lost, for then nothing can be compared."""
    found: dict[str, list[Any]] = {}
    if text.startswith("[...]"):
        found["…"] = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            found.setdefault(str(entry["actor"]), []).append([entry["event"], entry["data"]])
        except (ValueError, KeyError, TypeError):
            continue
    return found or None
