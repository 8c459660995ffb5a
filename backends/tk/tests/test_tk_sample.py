"""The sample application, used as a user would: a real pointer, real keys, and the pixels that the X server has."""

from __future__ import annotations

import json
from typing import Any

import pytest

PROGRAM = """
    import asyncio, json, subprocess, sys, time
    from asyncio_guest.backends import _x11, sample_tasks
    from asyncio_guest.backends.tk.sample import Sample

    strategy, picture = sys.argv[1:]
    sample = Sample(None, strategy)
    root = sample.root
    root.geometry("+40+30")
    seen = {}

    async def until(condition, what):
        end = time.monotonic() + 15
        while not condition():
            assert time.monotonic() < end, what
            await asyncio.sleep(0.01)

    def at(path, x=0.5):
        call = root.tk.call
        left, top, width, height = (int(call("winfo", part, path)) for part in ("rootx", "rooty", "width", "height"))
        return left + int(width * x), top + height // 2

    def pixel(x, y):
        from Xlib import X, display
        connection = display.Display()
        try:
            image = connection.screen().root.get_image(x, y, 1, 1, X.ZPixmap, 0xFFFFFFFF)
            return tuple(image.data[2::-1])
        finally:
            connection.close()

    async def dialog(button, answer):
        path = ".__tk__messagebox"
        exists = lambda: int(root.tk.call("winfo", "exists", path)) and int(root.tk.call("winfo", "viewable", path))
        _x11.click(*at(button))
        await until(exists, "no dialog")
        before = sample.clock["text"]
        await until(lambda: sample.clock["text"] != before, "the clock stands still behind the dialog")
        await asyncio.sleep(0.2)                # the grab and the focus
        _x11.click(*at(f"{path}.{answer}"))
        await until(lambda: not exists(), "the dialog stays")
        await until(lambda: sample.answer["text"] == answer.title() + ".", "no answer")

    async def drive():
        await until(lambda: sample.clock["text"] and root.winfo_viewable(), "the clock")
        await asyncio.sleep(0.1)
        # A download; what the bar shows is what the screen shows.
        _x11.click(*at(sample.download))
        await until(lambda: float(sample.bar["value"]) > 0.2, "no download")
        root.update_idletasks()
        seen["filled"] = pixel(*at(sample.bar, 0.1))
        seen["empty"] = pixel(*at(sample.bar, 0.97))
        # Typing meanwhile.
        before = float(sample.bar["value"])
        _x11.click(*at(sample.entry))
        for character in "guest":
            _x11.key(character)
        await until(lambda: sample.entry.get() == "guest", "the text field is dead")
        await until(lambda: float(sample.bar["value"]) > before, "the bar stands still while typing")
        await until(lambda: float(sample.bar["value"]) > 0.55, "the bar stands still")
        if picture:
            subprocess.run(["import", "-window", str(root.winfo_id()), picture], check=True)
        # Cancel.
        _x11.click(*at(sample.cancel))
        await until(lambda: sample.status["text"] == "Cancelled.", "not cancelled")
        stopped = float(sample.bar["value"])
        await asyncio.sleep(0.3)
        assert float(sample.bar["value"]) == stopped
        # To the end.
        sample_tasks.RATE *= 16
        _x11.click(*at(sample.download))
        await until(lambda: sample.status["text"] == "Done: 24.0 MiB.", "not done")
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
        window = connection.create_resource_object("window", root.winfo_id()).query_tree().parent
        data = (32, [connection.intern_atom("WM_DELETE_WINDOW"), X.CurrentTime, 0, 0, 0])
        atom = connection.intern_atom("WM_PROTOCOLS")
        event = protocol.event.ClientMessage(window=window, client_type=atom, data=data)
        window.send_event(event)
        connection.sync()
        connection.close()

    driving = sample.guest.start_soon(drive)

    def failed(task):
        if not task.cancelled() and task.exception():
            sample.guest.cancel()
    driving.add_done_callback(failed)
    root.mainloop()
    driving.result()
    seen["done"] = sample.guest.done
    print(json.dumps(seen))
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
