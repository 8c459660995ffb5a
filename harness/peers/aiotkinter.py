"""aiotkinter: a selector that waits in Tcl's ``dooneevent``."""

from __future__ import annotations

import asyncio

import aiotkinter


class AioTkinter:
    def new_loop(self) -> asyncio.AbstractEventLoop:
        return aiotkinter.TkinterEventLoopPolicy().new_event_loop()


make = AioTkinter
