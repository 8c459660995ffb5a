"""aiotkinter: a selector that waits in Tcl's ``dooneevent``."""

from __future__ import annotations

from typing import Any

import aiotkinter


class AioTkinter:
    def attach(self, driver: Any) -> None:
        driver.process_events()  # Tcl's own thread starts here, not in the case

    def new_loop(self) -> Any:
        return aiotkinter.TkinterEventLoopPolicy().new_event_loop()


make = AioTkinter
