"""qtinter: asyncio's own loop, interrupted where it would wait; QtCore runs meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import PyQt6.QtWidgets  # the binding that qtinter takes is the one that is imported
import qtinter


class QtInter:
    def attach(self, driver: Any) -> None:
        self.app = PyQt6.QtWidgets.QApplication.instance() or PyQt6.QtWidgets.QApplication([])

    def new_loop(self) -> Any:
        return qtinter.new_event_loop()

    async def modal(self, fn: Callable[..., Any], *args: Any) -> Any:
        return await qtinter.modal(fn)(*args)


make = QtInter
