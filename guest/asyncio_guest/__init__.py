"""asyncio as a guest in any GUI main loop.

    import tkinter
    import asyncio_guest

    root = tkinter.Tk()
    guest = asyncio_guest.start(main(), host=root, done_callback=lambda outcome: root.destroy())
    root.protocol("WM_DELETE_WINDOW", guest.cancel)
    root.mainloop()

`start` makes a coroutine a guest of a main loop that the application runs; `run` drives the main loop too;
`start_guest_run` needs nothing but a function that posts a call to the main loop.  `modal` opens a dialog from a
coroutine.  `install`, and ``python -m asyncio_guest --host HOST program.py``, put the event loops of an
unchanged program into a host.
"""

from __future__ import annotations

from . import _exit
from ._driver import GuestLost
from ._guest import Guest, GuestInfo
from ._hosts import Backend, Host, HostUnavailable, hosts, resolve
from ._install import Installation, install
from ._modal import modal
from ._start import asyncio_guest_run, run, schedule_on_asyncio, start, start_guest_run
from ._totals import totals
from ._warnings import AbandonedGuestWarning, HostDiedWarning

__all__ = [
    "AbandonedGuestWarning",
    "Backend",
    "Guest",
    "GuestInfo",
    "GuestLost",
    "Host",
    "HostDiedWarning",
    "HostUnavailable",
    "Installation",
    "asyncio_guest_run",
    "hosts",
    "install",
    "modal",
    "resolve",
    "run",
    "schedule_on_asyncio",
    "start",
    "start_guest_run",
    "totals",
]

_exit.register()
