"""The sample application, used as a user would: a real pointer, real keys, and the pixels that the X server has."""

from __future__ import annotations

import json
from typing import Any

import pytest

PROGRAM = """
    import sys
    from sample_user import User
    from asyncio_guest.backends.tk.sample import Sample

    strategy, picture = sys.argv[1:]
    sample = Sample(None, strategy)
    root = sample.root
    root.geometry("+40+30")

    def tk(*words):
        return int(root.tk.call(*words))

    class TkUser(User):
        def window(self):
            return root.winfo_id()

        def closed_window(self):
            from Xlib import display
            connection = display.Display()
            try:
                return connection.create_resource_object("window", root.winfo_id()).query_tree().parent.id
            finally:
                connection.close()

        def mapped(self):
            return root.winfo_viewable()

        def at(self, widget, x=0.5):
            left, top, width, height = (tk("winfo", part, widget) for part in ("rootx", "rooty", "width", "height"))
            return left + int(width * x), top + height // 2

        def text(self, widget):
            return widget.get() if widget is sample.entry else widget["text"]

        def fraction(self):
            return float(sample.bar["value"])

        def dialog(self, answer):
            path = ".__tk__messagebox"
            if tk("winfo", "exists", path) and tk("winfo", "viewable", path):
                return self.at(f"{path}.{answer}")

    user = TkUser(sample, picture)
    user.begin()
    root.mainloop()
    user.report()
"""


@pytest.mark.parametrize("strategy", ["watch", "waiter"])
def test_sample(run_program: Any, display: str, strategy: str, tmp_path: Any) -> None:
    picture = tmp_path / "screenshot.png"
    seen = json.loads(run_program(PROGRAM, strategy, str(picture), display=display))
    assert seen["done"] and seen["strategy"] == strategy
    assert tuple(seen["filled"]) == (0x3B, 0x82, 0xC4)
    assert tuple(seen["empty"]) == (0xDF, 0xE3, 0xE8)
    assert (seen["counters"]["posts"] > 0) == (strategy == "waiter")
    assert picture.stat().st_size > 1000
