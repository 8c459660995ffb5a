"""The sample application, used as a user would: a real pointer, real keys, and the pixels that the X server has."""

from __future__ import annotations

import json
from typing import Any

import pytest

PROGRAM = """
    import sys
    from sample_user import User
    from asyncio_guest.backends import _x11
    from asyncio_guest.backends.gtk4.sample import Gtk, Sample
    import gi
    gi.require_version("GdkX11", "4.0")
    gi.require_version("Graphene", "1.0")
    from gi.repository import GdkX11, Graphene

    strategy, picture = sys.argv[1:]
    sample = Sample(None, strategy)
    sample.dialog = None
    responses = {"yes": Gtk.ResponseType.YES, "no": Gtk.ResponseType.NO}

    def xid(window):
        return GdkX11.X11Surface.get_xid(window.get_surface())

    class GtkUser(User):
        def window(self):
            return xid(sample.window)

        def mapped(self):
            return sample.window.get_mapped()

        def at(self, widget, x=0.5):
            # Where on the screen: the server knows where the window is, GTK what is in it.
            window = widget.get_root()
            point = Graphene.Point().init(widget.get_width() * x, widget.get_height() / 2)
            _, point = widget.compute_point(window, point)
            left, top = window.get_surface_transform()
            return _x11.origin(xid(window), int(left + point.x), int(top + point.y))

        def text(self, widget):
            return widget.get_text()

        def fraction(self):
            return sample.bar.get_fraction()

        def dialog(self, answer):
            dialog = sample.dialog
            if dialog is not None and dialog.get_mapped():
                return self.at(dialog.get_widget_for_response(responses[answer]))

    user = GtkUser(sample, picture)
    sample.connect_after("activate", lambda app: user.begin())
    sample.run()
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
