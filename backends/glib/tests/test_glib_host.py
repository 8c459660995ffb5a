"""Guests in GLib's main loop, with no display."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gi") is None, reason="PyGObject is missing; on Debian: apt-get install python3-gi"
)


@pytest.mark.parametrize("strategy", ["watch", "waiter"])
def test_without_gtk(strategy: str, run_program: Any) -> None:
    out = run_program(
        """
        import asyncio, sys
        import asyncio_guest
        from gi.repository import GLib
        async def main():
            await asyncio.sleep(0.01)
            return await asyncio.to_thread(lambda: 7)
        loop = GLib.MainLoop()
        asyncio_guest.start(main(), host="glib", strategy=sys.argv[1],
                            done_callback=lambda outcome: (print(outcome.unwrap()), loop.quit()))
        loop.run()
        print(asyncio_guest.run(main(), host="glib", strategy=sys.argv[1]), "gi.repository.Gtk" in sys.modules)
        """,
        strategy,
    )
    assert out.splitlines() == ["7", "7 False"]
