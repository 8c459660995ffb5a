"""The backend ``gtk4``: asyncio as a guest in GLib's main loop, which is GTK 4's.

The C code is the backend ``glib``'s.  Importing this module imports no toolkit.
"""

from __future__ import annotations

from asyncio_guest.backends.glib import GlibBackend


class Gtk4Backend(GlibBackend):
    """``BACKEND`` of this package."""

    name = "gtk4"
    gtk = 4


BACKEND = Gtk4Backend()
