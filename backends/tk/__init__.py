"""The backend ``tk``: asyncio as a guest in Tcl's event loop, below tkinter.

Importing this module imports no toolkit and changes nothing; ``import asyncio_guest.tk`` installs the notifier.
"""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass
from typing import Any

from asyncio_guest._hosts import Host

ENV_NOTIFIER = "ASYNCIO_GUEST_TK_NOTIFIER"
"""Set it to ``tcl`` to leave Tcl's own notifier in place: slower, but nothing process-wide changes."""

_threads = threading.local()


def use_notifier() -> str:
    """Make Tcl wait in the thread that runs it, instead of in a second thread; once per process.

    Call it on the thread that runs the Tk main loop; guests do it by themselves when they start.  A display
    that is open already is handed over, unless another thread has used Tcl by then.

    Returns which notifier runs now, and why it is Tcl's own if it is.  Raises ImportError without tkinter.
    """
    import _tkinter  # noqa: F401  (initialises Tcl)

    from . import _tk

    if os.environ.get(ENV_NOTIFIER) == "tcl":
        return f"Tcl's own: {ENV_NOTIFIER}=tcl"
    me = threading.get_ident()
    _, state = _tk.install_notifier([ident for ident in sys._current_frames() if ident != me])
    return state


class _Own:
    """Holds a thread's interpreter until the thread ends."""

    def __init__(self) -> None:
        import _tkinter

        # As tkinter.Tcl() does, but for the user's ~/.Tk.py and ~/.Tcl.tcl, which that runs, once a thread here.
        self.app: Any = None
        self.ident = threading.get_ident()
        self.app = _tkinter.create(None, "asyncio-guest", "Tk", False, True, False, False, None)

    def __del__(self) -> None:
        # Tcl aborts when an interpreter is deleted on a thread that is not its own: the end of a daemon thread.
        if self.app is not None and self.ident != threading.get_ident():
            from . import _tk

            _tk.immortalize(self.app)


def _interpreter() -> Any:
    """This thread's Tcl interpreter without a window, for hosts given by name."""
    own = getattr(_threads, "own", None)
    if own is None:
        own = _threads.own = _Own()
    return own.app


@dataclass(frozen=True)
class TkBackend:
    """``BACKEND`` of this package."""

    name: str = "tk"
    strategies: tuple[str, ...] = ("watch", "waiter")

    def missing(self) -> str | None:
        """None, or what to install."""
        try:
            import _tkinter  # noqa: F401
        except ImportError:
            return "this Python has no tkinter; on Debian: apt-get install python3-tk"
        try:
            from . import _tk  # noqa: F401
        except ImportError as exc:
            return f"the backend was not built ({exc}); on Debian: apt-get install tcl-dev, and build again"
        return None

    def accepts(self, obj: object) -> bool:
        """A tkinter root or any other widget, or a ``_tkinter.tkapp``."""
        low, tkinter = sys.modules.get("_tkinter"), sys.modules.get("tkinter")
        if low is not None and isinstance(obj, low.TkappType):
            return True
        return tkinter is not None and isinstance(obj, tkinter.Misc)

    def open(self, obj: object | None) -> Host:
        """The Tcl interpreter of `obj`; with None an interpreter without a window, which the thread keeps.

        Raises TypeError for another object; starting a guest raises RuntimeError on any thread but the interpreter's.
        """
        from . import _tk

        state = use_notifier()
        if obj is not None and not self.accepts(obj):
            raise TypeError(f"not an object of tkinter: {obj!r}")
        return Host(_tk.ops, getattr(obj, "tk", obj), {"notifier": state})


BACKEND = TkBackend()
