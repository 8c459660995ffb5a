"""nest_asyncio: asyncio's own loop, patched to be entered again while it runs."""

from __future__ import annotations

import asyncio
from typing import Any

import nest_asyncio


class Nested:
    def new_loop(self) -> Any:
        loop = asyncio.new_event_loop()
        nest_asyncio.apply(loop)
        return loop


make = Nested
