"""The host driver of pygame-ce, which is that of pygame."""

from __future__ import annotations

from ..sdl2.driver import make_driver

__all__ = ["make_driver"]
