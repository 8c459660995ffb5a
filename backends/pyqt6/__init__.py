"""The host ``pyqt6``: asyncio as a guest in Qt 6's event loop, with PyQt6.

Importing this module imports no toolkit.
"""

from __future__ import annotations

from asyncio_guest.backends._qt.face import QtBackend

BACKEND = QtBackend(
    name="pyqt6",
    major=6,
    bindings=("PyQt6",),
    install="on Debian: apt-get install python3-pyqt6 qt6-base-dev g++",
)
