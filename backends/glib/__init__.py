"""The backend ``glib``: asyncio as a guest in GLib's main loop; and what the backends of GTK share with it.

Importing this module imports no toolkit.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from typing import Any

from asyncio_guest._hosts import Host


def _types(name: str, *attributes: str) -> tuple[type, ...]:
    """The classes of a ``gi.repository`` module that is loaded already; none if it is not."""
    module = sys.modules.get(f"gi.repository.{name}")
    return tuple(getattr(module, attribute) for attribute in attributes) if module is not None else ()


class _MainLoop:
    """What a guest's `run` drives: a GLib.MainLoop, as GLib runs it.

    PyGObject's own ``run()`` brings its own handling of signals, which the guest has, and puts back at its end the wakeup
    descriptor that it found: perhaps that of an event loop that has been closed meanwhile.
    """

    def __init__(self, loop: Any, override: Any) -> None:
        self._loop = loop
        self._run = super(override, loop).run  # type: ignore[misc]
        self.quit = loop.quit

    def run(self) -> None:
        self._run()


class _ApplicationLoop(_MainLoop):
    """A Gio.Application as a main loop: it runs until somebody quits it, not until its last window closes."""

    def run(self) -> None:
        self._loop.hold()
        try:
            self._run(None)
        finally:
            self._loop.release()


class GlibBackend:
    """``BACKEND`` of this package, and the base of GTK's."""

    name = "glib"
    strategies = ("watch", "waiter")
    gtk: int | None = None
    """The major version of the GTK whose program this is for; None: a program without GTK."""

    def missing(self) -> str | None:
        """None, or what to install."""
        if importlib.util.find_spec("gi") is None:
            package = f"gtk-{self.gtk}.0" if self.gtk else "glib-2.0"
            return f"this Python has no PyGObject; on Debian: apt-get install python3-gi gir1.2-{package}"
        try:
            from . import _glib  # noqa: F401
        except ImportError as exc:
            return f"the backend was not built ({exc}); on Debian: apt-get install libglib2.0-dev, and build again"
        return None

    def accepts(self, obj: object) -> bool:
        """A GLib.MainContext or GLib.MainLoop, a Gio.Application, or a widget of this GTK.

        GLib's objects belong to the GTK that the program has loaded, if it has.
        """
        gtk = sys.modules.get("gi.repository.Gtk")
        if (getattr(gtk, "MAJOR_VERSION", 0) if gtk is not None else None) != self.gtk:
            return False
        known = _types("GLib", "MainContext", "MainLoop") + _types("Gio", "Application") + _types("Gtk", "Widget")
        return isinstance(obj, known)

    def open(self, obj: object | None) -> Host:
        """The main context of `obj`; with None, or for an object of Gio or GTK, this thread's.  A guest's `run` drives the
        GLib.MainLoop or Gio.Application that was given.

        Raises TypeError for another object, and RuntimeError on a thread that has no main context: the default one
        belongs to the main thread or to the one that runs it.
        """
        from . import _glib

        context: Any = None
        main_loop: Any = None
        loop: Any = obj
        if isinstance(obj, _types("GLib", "MainLoop")):
            main_loop = _MainLoop(loop, *_types("GLib", "MainLoop"))
            context = loop.get_context()
        elif isinstance(obj, _types("GLib", "MainContext")):
            context = obj
        elif isinstance(obj, _types("Gio", "Application")):
            main_loop = _ApplicationLoop(loop, *_types("Gio", "Application"))
        elif obj is not None and not self.accepts(obj):
            raise TypeError(f"not an object of GLib{f' or GTK {self.gtk}' if self.gtk else ''}: {obj!r}")
        if context is None and threading.current_thread() is not threading.main_thread() and not _glib.owns_context():
            raise RuntimeError(
                "this thread has no GLib main context: push one as its thread default, or give it as the host"
            )
        return Host(getattr(_glib, self.name), (context, main_loop))


BACKEND = GlibBackend()
