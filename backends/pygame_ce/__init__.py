"""The backend ``pygame-ce``: the backend ``sdl2``, for programs that ask for pygame-ce by its name.

It brings an SDL of its own; ``sdl2`` uses whichever SDL the pygame has that is installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata

from asyncio_guest.backends.sdl2 import Sdl2Backend


@dataclass(frozen=True)
class PygameCeBackend(Sdl2Backend):
    """``BACKEND`` of this package."""

    name: str = "pygame-ce"

    def missing(self) -> str | None:
        """None, or what to install."""
        try:
            metadata.version("pygame-ce")
        except metadata.PackageNotFoundError:
            return "this Python has no pygame-ce: pip install pygame-ce"
        return super().missing()

    def accepts(self, obj: object) -> bool:
        """Nothing: pygame's objects are known to ``sdl2``."""
        return False


BACKEND = PygameCeBackend()
