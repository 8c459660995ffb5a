"""qasync: asyncio's loop interface written again on Qt's timers and notifiers."""

from __future__ import annotations

from typing import Any

import qasync


class QAsync:
    def attach(self, driver: Any) -> None:
        self.app = qasync.QApplication.instance() or qasync.QApplication([])

    def new_loop(self) -> Any:
        return qasync.QEventLoop(self.app)


make = QAsync
