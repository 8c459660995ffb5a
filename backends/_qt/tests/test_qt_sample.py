"""The sample application, used as a user would: a real pointer, real keys, and the pixels that the X server has."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

PROGRAM = """
    import asyncio, importlib, json, subprocess, sys, time
    from asyncio_guest.backends import _x11, sample_tasks
    from BINDING.QtCore import QPoint
    from BINDING.QtWidgets import QApplication, QMessageBox

    host, strategy, picture = sys.argv[1:]
    app = QApplication([])
    app.setStyle("fusion")
    window = sample = importlib.import_module(f"asyncio_guest.backends.{host}.sample").Sample(None, strategy)
    window.show()
    window.move(40, 30)
    buttons = QMessageBox.StandardButton
    seen = {}

    async def until(condition, what):
        end = time.monotonic() + 15
        while not condition():
            assert time.monotonic() < end, what
            await asyncio.sleep(0.01)

    def at(widget, x=0.5):
        point = widget.mapToGlobal(QPoint(int(widget.width() * x), widget.height() // 2))
        return point.x(), point.y()

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
        sample.answer.setText("")
        _x11.click(*at(button))
        await until(lambda: sample.dialog is not None and sample.dialog.isVisible(), "no dialog")
        before = sample.clock.text()
        await until(lambda: sample.clock.text() != before, "the clock stands still behind the dialog")
        response = {"yes": buttons.Yes, "no": buttons.No}[answer]
        await asyncio.sleep(0.3)                # the dialog is mapped, and in the foreground
        _x11.click(*at(sample.dialog.button(response)))
        await until(lambda: sample.answer.text() == answer.title() + ".", "no answer")

    async def drive():
        await until(lambda: sample.clock.text() and window.isVisible(), "the clock")
        await asyncio.sleep(0.3)
        # A download; what the bar shows is what the screen shows.
        _x11.click(*at(sample.download))
        await until(lambda: sample.bar.value() / 1000 > 0.2, "no download")
        await asyncio.sleep(0.1)
        seen["filled"] = pixel(*at(sample.bar, 0.1))
        seen["empty"] = pixel(*at(sample.bar, 0.97))
        # Typing meanwhile.
        before = sample.bar.value() / 1000
        _x11.click(*at(sample.entry))
        window.activateWindow()
        await until(window.isActiveWindow, "no focus")
        seen["typing"] = []
        for number, character in enumerate("guest", 1):
            began = time.monotonic()
            _x11.key(character)
            await until(lambda: len(sample.entry.text()) == number, "the text field is dead")
            seen["typing"].append(time.monotonic() - began)
        assert sample.entry.text() == "guest"
        await until(lambda: sample.bar.value() / 1000 > before, "the bar stands still while typing")
        await until(lambda: sample.bar.value() / 1000 > 0.55, "the bar stands still")
        if picture:
            subprocess.run(["import", "-window", str(int(window.winId())), picture], check=True)
        # Cancel.
        _x11.click(*at(sample.cancel))
        await until(lambda: sample.status.text() == "Cancelled.", "not cancelled")
        stopped = sample.bar.value() / 1000
        await asyncio.sleep(0.3)
        assert sample.bar.value() / 1000 == stopped
        # To the end.
        sample_tasks.RATE *= 16
        _x11.click(*at(sample.download))
        await until(lambda: sample.status.text() == "Done: 24.0 MiB.", "not done")
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
        target = connection.create_resource_object("window", int(window.winId()))
        data = (32, [connection.intern_atom("WM_DELETE_WINDOW"), X.CurrentTime, 0, 0, 0])
        atom = connection.intern_atom("WM_PROTOCOLS")
        event = protocol.event.ClientMessage(window=target, client_type=atom, data=data)
        target.send_event(event)
        connection.sync()
        connection.close()

    driving = sample.guest.start_soon(drive)

    def failed(task):
        if not task.cancelled() and task.exception():
            sample.guest.cancel()
    driving.add_done_callback(failed)
    app.exec()
    driving.result()
    seen["done"] = sample.guest.done
    print(json.dumps(seen))
"""


@pytest.mark.parametrize("strategy", ["watch", "waiter"])
@pytest.mark.parametrize(("host", "package"), [("qt5", "PyQt5"), ("pyside6", "PySide6")])
def test_sample(
    run_program: Any, environment_python: Any, display: str, host: str, package: str, strategy: str, tmp_path: Any
) -> None:
    picture = tmp_path / "screenshot.png"
    program = PROGRAM.replace("BINDING", package)
    if package == "PySide6":
        python = environment_python("pyside6")
    else:
        pytest.importorskip(package, reason=f"on Debian: apt-get install python3-{package.lower()}")
        python = sys.executable
    seen = json.loads(run_program(program, host, strategy, str(picture), display=display, python=python))
    assert seen["done"] and seen["strategy"] == strategy
    red, _, blue = seen["filled"]           # the style's highlight is a blue, its trough is grey
    assert blue - red > 60
    assert max(seen["empty"]) - min(seen["empty"]) < 20
    assert (seen["counters"]["posts"] > 0) == (strategy == "waiter")
    assert sorted(seen["typing"])[2] < 0.25, "typing is not smooth while a download runs"
    assert picture.stat().st_size > 1000
