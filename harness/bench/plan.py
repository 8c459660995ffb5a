"""What is measured: the runs, the metrics they give, and the bars."""

from __future__ import annotations

import dataclasses
from typing import Literal

Against = Literal["plain", "bare"]


@dataclasses.dataclass(frozen=True)
class Metric:
    """One figure."""

    name: str
    unit: str
    higher: bool
    """More is better."""
    against: Against = "plain"
    """What it is divided by: plain asyncio, or the same host without a guest."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One kind of process: what it does, and which metrics it gives."""

    name: str
    metrics: tuple[Metric, ...]
    seconds: float
    """Length of the measured window."""
    max_iterations: int = 0
    blocks: int | None = None
    """Blocks, where the run is too long for the usual number."""
    case: str | None = None
    """The conformance case that a contender has to pass before it is timed."""

    @property
    def against(self) -> Against:
        return self.metrics[0].against


def _rate(name: str) -> tuple[Metric, ...]:
    return (Metric(name, "op/s", True),)


RUNS: dict[str, Run] = {
    run.name: run
    for run in (
        Run("echo", _rate("echo"), 1.0, case="S.02d-transfer"),
        Run("echo1", _rate("echo1"), 1.0, max_iterations=1, case="S.02d-transfer"),
        Run("sleep0", _rate("sleep0"), 0.7, case="C.01b-round-robin-of-chains"),
        Run("call_soon", _rate("call_soon"), 0.7, case="C.01a-fifo-of-ten-thousand"),
        Run(
            "ping500",
            (Metric("ping500.p50", "us", False), Metric("ping500.p99", "us", False)),
            3.0,
            case="S.15-handler-errors-stay-local",
        ),
        Run(
            "host",
            (Metric("host_timer.p99", "ms", False, "bare"), Metric("frames", "1/s", True, "bare")),
            3.0,
            blocks=3,
        ),
        Run("idle", (Metric("idle_switches", "count", False, "bare"),), 10.0, blocks=1),
        Run("start", (Metric("start", "s", False),), 0.0, blocks=1),
    )
}
METRICS: dict[str, tuple[Run, Metric]] = {m.name: (run, m) for run in RUNS.values() for m in run.metrics}

GUI = ("gtk3", "gtk4", "qt5", "pyside6", "pyqt6")
"""Hosts with a window that meet the same bars."""
BARS: dict[tuple[str, str], float] = {
    **{("echo", f"guest/{host}"): 1.0 for host in ("poll", "glib", "tk", *GUI)},
    **{("sleep0", f"guest/{host}"): 1.5 for host in ("poll", "glib", "tk", *GUI)},
    ("echo1", "guest/poll"): 0.9,
    **{("echo1", f"guest/{host}"): 0.8 for host in ("glib", "tk", *GUI)},
    # Each of the guest's turns is an iteration of the host's own, in Python.
    **{("echo1", f"guest/{host}"): 0.6 for host in ("tornado", "asyncio")},
    ("echo1", "guest/tk@late"): 0.4,
    **{("ping500.p50", f"guest/{host}"): 1.3 for host in ("poll", "glib", "tk", *GUI)},
    # SDL can only be posted to.
    **{("ping500.p50", f"guest/{host}"): 2.0 for host in ("sdl2", "pygame-ce")},
    **{("frames", f"guest/{host}"): 0.8 for host in ("tk", *GUI)},
}
"""Ratios to aim at, by metric and contender."""
DIFFERENCES: dict[str, float] = {"host_timer.p99": 20.0, "idle_switches": 2.0}
"""Where the bar is a difference to the bare host: at most so much more."""
