"""``import asyncio_guest.tk`` before the first ``tkinter.Tk()``: Tcl then waits in the thread that runs it.

A guest started later does the same by itself, and hands an open display over; importing this first keeps it simple,
and helps programs in which several threads use Tcl.
"""

from __future__ import annotations

from asyncio_guest.backends.tk import use_notifier

__all__ = ["notifier", "use_notifier"]

notifier: str = use_notifier()
"""Which notifier Tcl uses, and why it is Tcl's own if it is."""
