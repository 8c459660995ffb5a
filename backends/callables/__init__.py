"""The backend ``callables``: any object that can be given a function to call and has a main loop."""

from __future__ import annotations

from typing import Any

from asyncio_guest._hosts import Host

METHODS = ("run_sync_soon_threadsafe", "run_sync_soon_not_threadsafe", "run", "quit")


class _OwnRun:
    """A loop whose runs can be nested, as one guest drives it: `quit` ends the run that `run` began, and no other.  Host
    thread only."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._depth = 0
        self.run_sync_soon_threadsafe = loop.run_sync_soon_threadsafe
        self.run_sync_soon_not_threadsafe = loop.run_sync_soon_not_threadsafe

    def run(self) -> None:
        self._depth = self._loop.depth + 1
        self._loop.run()

    def quit(self) -> None:
        self._loop.quit(self._depth)


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
        """The host of `obj`; with None, a queue loop that `run` of a guest drives.  Raises TypeError for another object.

        Of a loop that has a ``depth``, the number of its runs on the stack, the end of a guest ends the run that the guest
        drives, by ``quit(depth)``; of another one whichever ``quit()`` ends.
        """
        from ._callables import ops

        if obj is None:
            from .queue_loop import QueueLoop

            obj = QueueLoop()
        if not self.accepts(obj):
            raise TypeError(f"the host needs the methods {', '.join(METHODS)}: {obj!r}")
        return Host(ops, _OwnRun(obj) if hasattr(obj, "depth") else obj)


BACKEND = CallablesBackend()
