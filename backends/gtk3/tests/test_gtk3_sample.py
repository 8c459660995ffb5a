"""The sample application, used as a user would: a real pointer, real keys, and the pixels that the X server has."""

from __future__ import annotations

import json
from typing import Any

import pytest

PROGRAM = """
    import sys
    from sample_user import User
    from asyncio_guest.backends.gtk3.sample import Gtk, Sample

    strategy, picture = sys.argv[1:]
    sample = Sample(None, strategy)
    sample.dialog = None
    sample.window.move(40, 30)
    responses = {"yes": Gtk.ResponseType.YES, "no": Gtk.ResponseType.NO}

    class GtkUser(User):
        def window(self):
            return sample.window.get_window().get_xid()

        def mapped(self):
            return sample.window.get_mapped()

        def at(self, widget, x=0.5):
            _, left, top = widget.get_window().get_origin()
            box = widget.get_allocation()
            return left + box.x + int(box.width * x), top + box.y + box.height // 2

        def text(self, widget):
            return widget.get_text()

        def fraction(self):
            return sample.bar.get_fraction()

        def dialog(self, answer):
            dialog = sample.dialog
            if dialog is not None and dialog.get_mapped():
                return self.at(dialog.get_widget_for_response(responses[answer]))

    user = GtkUser(sample, picture)
    user.begin()
    Gtk.main()
    user.report()
"""


@pytest.mark.parametrize("strategy", ["watch", "waiter"])
def test_sample(run_program: Any, display: str, strategy: str, tmp_path: Any) -> None:
    picture = tmp_path / "screenshot.png"
    seen = json.loads(run_program(PROGRAM, strategy, str(picture), display=display))
    assert seen["done"] and seen["strategy"] == strategy
    red, _, blue = seen["filled"]           # the theme's highlight is a blue, its trough is grey
    assert blue - red > 60
    assert max(seen["empty"]) - min(seen["empty"]) < 20
    assert (seen["counters"]["posts"] > 0) == (strategy == "waiter")
    assert picture.stat().st_size > 1000
