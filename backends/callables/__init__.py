"""The backend ``callables``: any object that can be given a function to call and has a main loop."""

from __future__ import annotations

from asyncio_guest._hosts import Host

METHODS = ("run_sync_soon_threadsafe", "run_sync_soon_not_threadsafe", "run", "quit")


class CallablesBackend:
    """``BACKEND`` of this package."""

    name = "callables"
    strategies = ("waiter",)

    def missing(self) -> str | None:
        """None, or what to do."""
        try:
            from . import _callables  # noqa: F401
        except ImportError as exc:
            return f"the backend was not built ({exc}): build it again"
        return None

    def accepts(self, obj: object) -> bool:
        """An object with the four methods."""
        return all(callable(getattr(obj, method, None)) for method in METHODS)

    def open(self, obj: object | None) -> Host:
        """The host of `obj`; with None, a queue loop that `run` of a guest drives.  Raises TypeError for another object."""
        from ._callables import ops

        if obj is None:
            from .queue_loop import QueueLoop

            obj = QueueLoop()
        if not self.accepts(obj):
            raise TypeError(f"the host needs the methods {', '.join(METHODS)}: {obj!r}")
        return Host(ops, obj)


BACKEND = CallablesBackend()
