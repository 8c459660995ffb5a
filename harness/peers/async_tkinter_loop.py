"""async-tkinter-loop: asyncio's own loop with a task in it that looks after Tk every 10 ms."""
from __future__ import annotations

import asyncio
from typing import Any

import async_tkinter_loop


class Looked(asyncio.SelectorEventLoop):
    root: Any

    def run_forever(self) -> None:
        after = self.create_task(async_tkinter_loop.main_loop(self.root))
        super().run_forever()
        after.cancel()
        self.call_soon(self.stop)  # and lets it end
        super().run_forever()


class AsyncTkinterLoop:
    new_loop = Looked

    def attach(self, driver: Any) -> None:
        driver.process_events()  # Tcl's own thread starts here, not in the case
        Looked.root = driver.toolkit()


make = AsyncTkinterLoop
