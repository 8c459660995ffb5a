"""The host ``qt5``: asyncio as a guest in Qt 5's event loop, with PyQt5 or PySide2.

Importing this module imports no toolkit.
"""

from __future__ import annotations

from asyncio_guest.backends._qt.face import QtBackend

BACKEND = QtBackend(
    name="qt5",
    major=5,
    bindings=("PyQt5", "PySide2"),
    install="on Debian: apt-get install python3-pyqt5 qtbase5-dev g++",
)
