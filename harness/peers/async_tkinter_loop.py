"""async-tkinter-loop: asyncio's own loop with a task in it that looks after Tk every 10 ms."""
import asyncio
from typing import Any
from async_tkinter_loop import main_loop


class Looked(asyncio.SelectorEventLoop):
    looking: Any = None

    def run_forever(self) -> None:
        if not (self.is_closed() or self.looking and not self.looking.done()):
            self.looking = self.create_task(main_loop(Attached.root))
        super().run_forever()

    def close(self) -> None:
        if not self.is_running() and self.looking and self.looking.cancel():
            self.run_until_complete(asyncio.wait([self.looking]))
        super().close()


class Attached:
    new_loop, root = Looked, None

    def attach(self, driver: Any) -> None:
        driver.process_events()  # Tcl's own thread starts here, not in the case
        Attached.root = driver.toolkit()


make = Attached
