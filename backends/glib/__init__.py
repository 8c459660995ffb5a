"""The backend ``glib``: asyncio as a guest in GLib's main loop, in programs that have no GTK.

The C code is the backend ``gtk3``'s, which links GLib alone.  Importing this module imports no toolkit.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from asyncio_guest._hosts import Host
from asyncio_guest.backends.gtk3 import BACKEND as GTK3


@dataclass(frozen=True)
class GlibBackend:
    """``BACKEND`` of this package."""

    name: str = "glib"
    strategies: tuple[str, ...] = ("watch", "waiter")

    def missing(self) -> str | None:
        """None, or what to install."""
        if importlib.util.find_spec("gi") is None:
            return "this Python has no PyGObject; on Debian: apt-get install python3-gi gir1.2-glib-2.0"
        return GTK3.missing()

    def accepts(self, obj: object) -> bool:
        """Nothing: GLib's objects are the ones of GTK too, and known to its backend."""
        return False

    def open(self, obj: object | None) -> Host:
        """The main context of `obj`, a GLib.MainContext or GLib.MainLoop; with None, this thread's.  Errors as of
        the backend ``gtk3``."""
        return GTK3.open(obj)


BACKEND = GlibBackend()
