"""The backend ``gtk3``: asyncio as a guest in GLib's main loop, which is GTK 3's.

The C code is the backend ``glib``'s.  Importing this module imports no toolkit.
"""

from __future__ import annotations

from asyncio_guest.backends.glib import GlibBackend


class Gtk3Backend(GlibBackend):
    """``BACKEND`` of this package."""

    name = "gtk3"
    gtk = 3


BACKEND = Gtk3Backend()
