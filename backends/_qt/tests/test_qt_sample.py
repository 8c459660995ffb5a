"""The sample application, used as a user would: a real pointer, real keys, and the pixels that the X server has."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

PROGRAM = """
    import importlib, sys
    from sample_user import User, until
    from BINDING.QtCore import QPoint
    from BINDING.QtWidgets import QApplication, QMessageBox

    host, strategy, picture = sys.argv[1:]
    app = QApplication([])
    app.setStyle("fusion")
    sample = importlib.import_module(f"asyncio_guest.backends.{host}.sample").Sample(None, strategy)
    sample.dialog = None
    sample.show()
    sample.move(40, 30)
    buttons = QMessageBox.StandardButton
    responses = {"yes": buttons.Yes, "no": buttons.No}

    class QtUser(User):
        def window(self):
            return int(sample.winId())

        def mapped(self):
            return sample.isVisible()

        def at(self, widget, x=0.5):
            point = widget.mapToGlobal(QPoint(int(widget.width() * x), widget.height() // 2))
            return point.x(), point.y()

        def text(self, widget):
            return widget.text()

        def fraction(self):
            return sample.bar.value() / 1000

        async def keyboard(self):
            sample.activateWindow()
            await until(sample.isActiveWindow, "no focus")

        def dialog(self, answer):
            dialog = sample.dialog
            if dialog is not None and dialog.isVisible():
                return self.at(dialog.button(responses[answer]))

    user = QtUser(sample, picture)
    user.begin()
    app.exec()
    user.report()
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
