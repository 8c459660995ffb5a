"""asyncio-glib: a selector that iterates the default main context."""

from __future__ import annotations

import asyncio

import asyncio_glib


class AsyncioGLib:
    def new_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio_glib.GLibEventLoop()


make = AsyncioGLib
