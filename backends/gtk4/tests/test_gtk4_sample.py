"""The sample application, used as a user would: a real pointer, real keys, and the pixels that the X server has."""

from __future__ import annotations

import json
from typing import Any

import pytest

PROGRAM = """
    import asyncio, json, subprocess, sys, time
    from asyncio_guest.backends import _x11, sample_tasks
    from asyncio_guest.backends.gtk4.sample import Gtk, Sample
    import gi
    gi.require_version("GdkX11", "4.0")
    gi.require_version("Graphene", "1.0")
    from gi.repository import GdkX11, Graphene

    strategy, picture = sys.argv[1:]
    sample = Sample(None, strategy)
    seen = {}

    def xid(window):
        return GdkX11.X11Surface.get_xid(window.get_surface())

    async def until(condition, what):
        end = time.monotonic() + 15
        while not condition():
            assert time.monotonic() < end, what
            await asyncio.sleep(0.01)

    def at(widget, x=0.5):
        # Where on the screen: the server knows where the window is, GTK what is in it.
        from Xlib import display
        window = widget.get_root()
        point = Graphene.Point().init(widget.get_width() * x, widget.get_height() / 2)
        _, point = widget.compute_point(window, point)
        left, top = window.get_surface_transform()
        connection = display.Display()
        try:
            there = connection.screen().root.translate_coords(connection.create_resource_object(
                "window", xid(window)), int(left + point.x), int(top + point.y))
            return there.x, there.y
        finally:
            connection.close()

    def pixel(x, y):
        from Xlib import X, display
        connection = display.Display()
        try:
            image = connection.screen().root.get_image(x, y, 1, 1, X.ZPixmap, 0xFFFFFFFF)
            return tuple(image.data[2::-1])
        finally:
            connection.close()

    async def dialog(button, answer):
        sample.dialog = None
        sample.answer.set_text("")
        _x11.click(*at(button))
        await until(lambda: sample.dialog is not None and sample.dialog.get_visible(), "no dialog")
        before = sample.clock.get_text()
        await until(lambda: sample.clock.get_text() != before, "the clock stands still behind the dialog")
        response = {"yes": Gtk.ResponseType.YES, "no": Gtk.ResponseType.NO}[answer]
        await asyncio.sleep(0.3)                # the dialog is mapped, and in the foreground
        _x11.click(*at(sample.dialog.get_widget_for_response(response)))
        await until(lambda: sample.answer.get_text() == answer.title() + ".", "no answer")

    async def drive():
        await until(lambda: sample.clock.get_text() and sample.window.get_mapped(), "the clock")
        await asyncio.sleep(0.3)
        # A download; what the bar shows is what the screen shows.
        _x11.click(*at(sample.download))
        await until(lambda: sample.bar.get_fraction() > 0.2, "no download")
        await asyncio.sleep(0.1)
        seen["filled"] = pixel(*at(sample.bar, 0.1))
        seen["empty"] = pixel(*at(sample.bar, 0.97))
        # Typing meanwhile.
        before = sample.bar.get_fraction()
        _x11.click(*at(sample.entry))
        for character in "guest":
            _x11.key(character)
        await until(lambda: sample.entry.get_text() == "guest", "the text field is dead")
        await until(lambda: sample.bar.get_fraction() > before, "the bar stands still while typing")
        await until(lambda: sample.bar.get_fraction() > 0.55, "the bar stands still")
        if picture:
            subprocess.run(["import", "-window", str(xid(sample.window)), picture], check=True)
        # Cancel.
        _x11.click(*at(sample.cancel))
        await until(lambda: sample.status.get_text() == "Cancelled.", "not cancelled")
        stopped = sample.bar.get_fraction()
        await asyncio.sleep(0.3)
        assert sample.bar.get_fraction() == stopped
        # To the end.
        sample_tasks.RATE *= 16
        _x11.click(*at(sample.download))
        await until(lambda: sample.status.get_text() == "Done: 24.0 MiB.", "not done")
        # Dialogs.
        await dialog(sample.ask_task, "yes")
        await dialog(sample.ask_button, "no")
        await dialog(sample.ask_task, "no")
        seen["counters"] = sample.guest.counters
        seen["strategy"] = sample.guest.info.strategy
        close()

    def close():
        from Xlib import X, display, protocol
        connection = display.Display()
        target = connection.create_resource_object("window", xid(sample.window))
        data = (32, [connection.intern_atom("WM_DELETE_WINDOW"), X.CurrentTime, 0, 0, 0])
        atom = connection.intern_atom("WM_PROTOCOLS")
        event = protocol.event.ClientMessage(window=target, client_type=atom, data=data)
        target.send_event(event)
        connection.sync()
        connection.close()

    def activated(app):
        global driving
        driving = sample.guest.start_soon(drive)
        driving.add_done_callback(failed)

    def failed(task):
        if not task.cancelled() and task.exception():
            sample.guest.cancel()
    sample.connect_after("activate", activated)
    sample.run()
    driving.result()
    seen["done"] = sample.guest.done
    print(json.dumps(seen))
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
