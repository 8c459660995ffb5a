"""The host ``pyside6``: asyncio as a guest in Qt 6's event loop, with PySide6.

Importing this module imports no toolkit.
"""

from __future__ import annotations

from asyncio_guest.backends._qt.face import QtBackend

BACKEND = QtBackend(
    name="pyside6",
    major=6,
    bindings=("PySide6",),
    install="pip install 'PySide6-Essentials<6.12', and on Debian: apt-get install qt6-base-dev g++",
)
