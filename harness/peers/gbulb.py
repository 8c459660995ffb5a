"""gbulb: asyncio's loop and transports written again on GLib."""

from __future__ import annotations

import asyncio
from typing import Any

import gbulb


class Gbulb:
    def __init__(self) -> None:
        gbulb.install(gtk=True)

    def new_loop(self) -> Any:
        return asyncio.new_event_loop()


make = Gbulb
