"""How one test of a suite ended."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class Test:
    """How one test ended."""

    __test__ = False  # for pytest
    outcome: str
    """pass fail error skip xfail xpass, TIMEOUT or CRASH."""
    seconds: float = 0.0
    detail: str = ""
    counted: dict[str, int] = dataclasses.field(default_factory=dict)
    said: str = ""
    """What else has to be the same under a guest: of a program its exit status and what it printed."""

    @property
    def turns(self) -> int:
        return self.counted.get("turns", 0)

    @property
    def fast(self) -> int:
        return self.counted.get("iterations_fast", 0)
