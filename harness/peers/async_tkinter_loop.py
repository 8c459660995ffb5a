"""async-tkinter-loop: asyncio's own loop with a task in it that looks after Tk every 10 ms."""

from __future__ import annotations

import asyncio
from typing import Any

from async_tkinter_loop import main_loop


class Looked(asyncio.SelectorEventLoop):
    root: Any

    def run_forever(self) -> None:
        after = self.create_task(main_loop(self.root))
        try:
            super().run_forever()
        finally:
            after.cancel()


class AsyncTkinterLoop:
    def attach(self, driver: Any) -> None:
        Looked.root = driver.toolkit()

    new_loop = Looked


make = AsyncTkinterLoop
