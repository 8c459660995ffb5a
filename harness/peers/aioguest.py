"""aioguest: asyncio in a greenlet, waiting in a thread; here as a guest in GTK 3."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import aioguest
from gi.repository import GLib


class AioGuest:
    def attach(self, driver: Any) -> None:
        self.host = driver

    def run(self, main: Coroutine[Any, Any, Any], **options: Any) -> Any:
        ended: list[Any] = []

        def done(outcome: Any) -> None:
            ended.append(outcome)
            self.host.quit()

        aioguest.start_guest_run(main, run_sync_soon_threadsafe=GLib.idle_add, done_callback=done, **options)
        if not ended:
            self.host.run()
        return ended[0].unwrap()


make = AioGuest
