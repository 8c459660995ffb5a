"""PyGObject's own gi.events: a source in the main context around asyncio's iteration."""

from __future__ import annotations

from typing import Any

import gi

if gi.version_info < (3, 50):
    raise ImportError(f"gi.events comes with PyGObject 3.50, this is {gi.__version__}")
import gi.events


class GiEvents:
    policy = gi.events.GLibEventLoopPolicy()

    def new_loop(self) -> Any:
        # Its new_event_loop() is of a main context of its own, in which no host runs.
        return self.policy.get_event_loop()


make = GiEvents
