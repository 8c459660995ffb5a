"""Faults of timers."""

from __future__ import annotations

from . import Loop, broken


@broken("a timer fires up to two milliseconds before its deadline", "T.02a-never-early")
class EarlyTimers(Loop):
    _early = 2e-3

    def _run_once(self) -> None:
        self._clock_resolution = self._early
        super()._run_once()
