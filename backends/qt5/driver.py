"""The host driver of Qt 5: the host's side of a conformance case, by PyQt5's own API.

It knows no guest, so any event loop that runs in Qt 5 can be judged with it.
"""

from __future__ import annotations

from PyQt5 import QtCore, QtGui, QtWidgets

from .._qt.driver import QtDriver


def make_driver(window: bool = False) -> QtDriver:
    """A driver on the process's QApplication; `window`: with a window that has a drawing area, a button and an entry."""
    return QtDriver("qt5", QtCore, QtGui, QtWidgets, window)
