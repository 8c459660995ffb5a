"""The terminal's side of the benchmark: progress, and the table."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from . import stats


class Progress:
    """One line that is rewritten on a terminal; in a log, one line a block."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._live = self._console.is_terminal
        self._last = ""

    def show(self, text: str, done: int | None = None, total: int | None = None) -> None:
        """Say what is done now."""
        if total is not None and done is not None:
            text = f"{text} ({done + 1}/{total})"
        if self._live:
            sys.stderr.write(f"\r\x1b[K{text[: self._console.width - 1]}")
            sys.stderr.flush()
        else:
            head = " ".join(text.split()[: 2 if text.startswith("block") else 1])
            if head != self._last:
                print(head if text.startswith(("block", "checking")) else text, file=sys.stderr, flush=True)
            text = head
        self._last = text

    def end(self) -> None:
        """Clear the line."""
        if self._live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def number(value: float) -> str:
    """A figure with three or four digits that matter."""
    if value >= 10000:
        return f"{value / 1000:.1f}k"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def show(document: dict[str, Any]) -> None:
    """Print the figures, metric by metric."""
    wide = Console()
    if not wide.is_terminal:
        wide = Console(width=160)
    view = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in (
        ("metric", "left"), ("contender", "left"), ("median", "right"), ("unit", "left"), ("ratio", "right"),
        ("95 %", "left"), ("to", "left"), ("bar", "right"), ("turns/op", "right"), ("waits/op", "right"), ("", "left"),
    ):
        view.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    last = None
    reasons: dict[str, list[str]] = {}  # below the table: a sentence in a column leaves no room for the figures
    for cell in document["cells"]:
        if last is not None and cell["metric"] != last:
            view.add_row()
        against = "plain" if cell.get("ratio_to_plain") else "bare"
        found = cell.get("ratio_to_plain") or cell.get("ratio_to_bare")
        bar = cell.get("bar", {})
        goal = ""
        if "ratio" in bar:
            goal = f"{'≥' if cell['higher_is_better'] else '≤'} {bar['ratio']:g}"
        elif "difference" in bar:
            goal = f"+{bar['measured']:g} ≤ +{bar['difference']:g}"
        verdict = {True: "[green]met[/]", False: "[red]missed[/]", None: ""}[bar.get("met")]
        note = verdict or (found or {}).get("verdict", "")
        if cell.get("reason"):
            reason = cell["reason"].splitlines()[0]
            unsupported = reason.startswith("UNSUPPORTED")
            note = "[dim]UNSUPPORTED[/]" if unsupported else "[yellow]NOTRUN[/]"
            reasons.setdefault(reason if unsupported else f"NOTRUN: {reason}", []).append(
                f"{cell['contender']}::{cell['metric']}"
            )
        view.add_row(
            cell["metric"] if cell["metric"] != last else "",
            cell["contender"],
            number(stats.percentile(cell["samples"], 0.5)) if cell["samples"] else "",
            cell["unit"],
            f"{found['estimate']:.2f}" if found else "",
            f"{found['low']:.2f}…{found['high']:.2f}" if found else "",
            against if found else "",
            goal,
            *("" if cell[key] is None else f"{cell[key]:.3g}" for key in ("turns_per_op", "host_waits_per_op")),
            note,
        )
        last = cell["metric"]
    wide.print(view)
    for reason, selectors in reasons.items():
        wide.print(f"{' '.join(selectors)}: {reason}", markup=False, highlight=False, soft_wrap=True)
    if document["meta"]["interrupted"]:
        wide.print("[yellow]interrupted: what is there is valid, and not all[/]")
