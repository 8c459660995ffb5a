"""uvloop: libuv's loop in Cython, with no host."""

from __future__ import annotations

from typing import Any

import uvloop


class Uvloop:
    def new_loop(self) -> Any:
        return uvloop.new_event_loop()


make = Uvloop
