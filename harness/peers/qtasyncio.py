"""PySide6's own QtAsyncio: futures, tasks and handles written again on QTimer."""

from __future__ import annotations

from typing import Any

from PySide6 import QtAsyncio
from PySide6.QtWidgets import QApplication


class QtAsyncioLoop:
    def attach(self, driver: Any) -> None:
        self.app = QApplication.instance() or QApplication([])

    def new_loop(self) -> Any:
        return QtAsyncio.QAsyncioEventLoopPolicy().new_event_loop()


make = QtAsyncioLoop
