"""The host driver of Qt 6: the host's side of a conformance case, by PyQt6's own API.

It knows no guest, so any event loop that runs in Qt 6 can be judged with it.
"""

from __future__ import annotations

from PyQt6 import QtCore, QtGui, QtWidgets

from .._qt.driver import QtDriver


def make_driver(window: bool = False) -> QtDriver:
    """A driver on the process's QApplication; `window`: with a window that has a drawing area, a button and an entry."""
    return QtDriver("pyqt6", QtCore, QtGui, QtWidgets, window)
