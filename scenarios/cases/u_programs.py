"""U: whole programs.  Those of the corpus of ``harness fuzz``; test suites are `harness suite`'s."""

from __future__ import annotations

from .. import programs
from ..api import CaseContext, case


def _replay(t: CaseContext, virtual: bool) -> None:
    played = 0
    for name, found in programs.corpus().items():
        if found["program"]["virtual"] != virtual:
            continue
        for actor, events in programs.play(found["program"], t.run, t.driver).items():
            for event in events:
                t.log("event", event, actor=f"{name}/{actor}")
        played += 1
    t.check(played, "the corpus has no such program")


@case(
    "U.04a-corpus",
    "Programs that showed a difference once do what they do under asyncio.",
    needs="threads subprocess",
    timeout=30,
    rejects="loops that lose a context, a cancellation or a timer's place; each program says what it found",
)
def corpus(t: CaseContext) -> None:
    _replay(t, virtual=False)


@case(
    "U.04b-corpus-in-virtual-time",
    "Programs that showed a difference once, on a loop in virtual time, have all their events in asyncio's order.",
    level="SHOULD",
    timeout=30,
    rejects="loops that lose a cancellation; a guest that gives a loop's own selector another timeout",
)
def corpus_in_virtual_time(t: CaseContext) -> None:
    _replay(t, virtual=True)
