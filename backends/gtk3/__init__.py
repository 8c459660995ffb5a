"""The backend ``gtk3``: asyncio as a guest in GLib's main loop, which is GTK 3's.

Importing this module imports no toolkit.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from dataclasses import dataclass
from typing import Any

from asyncio_guest._hosts import Host


def _types(name: str, *attributes: str) -> tuple[type, ...]:
    """The classes of a ``gi.repository`` module that is loaded already; none if it is not."""
    module = sys.modules.get(f"gi.repository.{name}")
    return tuple(getattr(module, attribute) for attribute in attributes) if module is not None else ()


@dataclass(frozen=True)
class Gtk3Backend:
    """``BACKEND`` of this package."""

    name: str = "gtk3"
    strategies: tuple[str, ...] = ("watch", "waiter")

    def missing(self) -> str | None:
        """None, or what to install."""
        if importlib.util.find_spec("gi") is None:
            return "this Python has no PyGObject; on Debian: apt-get install python3-gi gir1.2-gtk-3.0"
        try:
            from . import _gtk3  # noqa: F401
        except ImportError as exc:
            return f"the backend was not built ({exc}); on Debian: apt-get install libglib2.0-dev, and build again"
        return None

    def accepts(self, obj: object) -> bool:
        """A GLib.MainContext or GLib.MainLoop, a Gio.Application, or any widget of GTK 3."""
        gtk = sys.modules.get("gi.repository.Gtk")
        known = _types("GLib", "MainContext", "MainLoop") + _types("Gio", "Application")
        if gtk is not None and getattr(gtk, "MAJOR_VERSION", None) == 3:
            known += _types("Gtk", "Widget")
        return isinstance(obj, known)

    def open(self, obj: object | None) -> Host:
        """The main context of `obj`; with None, or for an object of GTK, this thread's.

        Raises TypeError for another object, and RuntimeError on a thread that has no main context: GTK's own belongs to
        the main thread or to the one that runs it.
        """
        from . import _gtk3

        context: Any = None
        if isinstance(obj, _types("GLib", "MainLoop")):
            context = obj.get_context()  # type: ignore[attr-defined]
        elif isinstance(obj, _types("GLib", "MainContext")):
            context = obj
        elif obj is not None and not self.accepts(obj):
            raise TypeError(f"not an object of GLib or GTK 3: {obj!r}")
        if context is None and threading.current_thread() is not threading.main_thread() and not _gtk3.owns_context():
            raise RuntimeError(
                "this thread has no GLib main context: push one as its thread default, or give it as the host"
            )
        return Host(_gtk3.ops, context)


BACKEND = Gtk3Backend()
