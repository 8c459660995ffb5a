"""asyncio-glib: a selector that iterates the default main context."""

from __future__ import annotations

from typing import Any

import asyncio_glib


class AsyncioGLib:
    def new_loop(self) -> Any:
        return asyncio_glib.GLibEventLoop()


make = AsyncioGLib
