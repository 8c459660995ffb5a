"""uvloop: libuv's loop in Cython, with no host."""

from __future__ import annotations

import asyncio

import uvloop


class Uvloop:
    def new_loop(self) -> asyncio.AbstractEventLoop:
        return uvloop.new_event_loop()


make = Uvloop
