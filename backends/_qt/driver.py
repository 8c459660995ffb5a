"""The host driver of Qt, for any of its Python bindings.  It knows no guest."""

from __future__ import annotations

import collections
import contextlib
import importlib
import sys
from collections.abc import Callable
from typing import Any

from .._driver import WindowDriver

_FRAME_MS = 16

_apps: list[Any] = []
"""Qt has one application a process, and no second after it."""


def _call(fn: Callable[[], Any]) -> None:
    """Call `fn`; an exception goes where Qt applications have theirs: PyQt aborts the process for one that
    reaches it, and PySide prints it."""
    try:
        fn()
    except Exception:
        sys.excepthook(*sys.exc_info())


class _Timer:
    """A QTimer."""

    def __init__(self, driver: QtDriver, ms: int, fn: Callable[[], Any], repeat: bool) -> None:
        core = driver.core
        self._driver = driver
        self._fn = fn
        self._repeat = repeat
        self._timer = timer = core.QTimer()
        driver.timers.add(self)
        timer.setTimerType(core.Qt.TimerType.PreciseTimer)
        timer.setSingleShot(not repeat)
        timer.timeout.connect(self._fire)
        timer.start(ms)

    def _fire(self) -> None:
        if not self._repeat:
            self._driver.timers.discard(self)
        _call(self._fn)

    def cancel(self) -> None:
        self._timer.stop()
        self._driver.timers.discard(self)


class _Frames:
    """Asks for a redraw in a new colour 60 times a second and counts those that reached the X server."""

    def __init__(self, driver: QtDriver) -> None:
        self._driver = driver
        area = driver.area
        top = area.window()
        at = area.mapTo(top, driver.core.QPoint(10, 10))
        self._witness = driver.witness(int(top.winId()), at.x(), at.y())
        self._timer = _Timer(driver, _FRAME_MS, self._step, True)

    def _step(self) -> None:
        # Only asks: Qt draws in its paint event.
        self._driver.number += 1
        self._driver.area.update()

    def stop(self) -> int:
        self._timer.cancel()
        return self._witness.stop()


class QtDriver(WindowDriver):
    """The driver; see ``scenarios.driver.HostDriver`` for the methods."""

    abilities = frozenset({"host", "loop", "modal", "nested", "flood", "timer", "idle"})
    flood_kinds = ("timer", "idle", "event")

    def __init__(self, name: str, core: Any, gui: Any, widgets: Any, window: bool) -> None:
        super().__init__(window)
        self.name = name
        self.core = core
        self.gui = gui
        self.widgets = widgets
        self.app = widgets.QApplication.instance()
        if self.app is None:
            self.app = widgets.QApplication(["conformance"])
            self.app.setStyle("fusion")
            # The cases say themselves when the main loop ends.
            self.app.setQuitOnLastWindowClosed(False)
            self.app.setCursorFlashTime(0)
            _apps.append(self.app)
            # Caches of icons stay open for good: opened here, and not by the first dialog.
            gui.QIcon.fromTheme("dialog-question").pixmap(16, 16)
            # Qt's accessibility and themes ask D-Bus on a thread that starts by itself: not in the middle of a case.
            with contextlib.suppress(ImportError):
                dbus = importlib.import_module(f"{core.__name__.partition('.')[0]}.QtDBus")
                dbus.QDBusConnection.sessionBus().isConnected()
        self.timers: set[_Timer] = set()
        self.number = 0
        self._loops: list[Any] = []
        self._modals: list[Any] = []
        self._calls: collections.deque[Callable[[], Any]] = collections.deque()
        self._receiver = self._make_receiver()
        self._top: Any = None
        if window:
            self._build()
        else:
            # The thread that reads the X server's events makes its descriptors when it runs: one event is one proof.
            first = gui.QWindow()
            first.resize(1, 1)
            first.show()
            self.nested_loop(until=first.isExposed, ms=500)  # behind another window it never is
            first.destroy()

    def _make_receiver(self) -> Any:
        driver, core = self, self.core
        self._type = core.QEvent.Type(core.QEvent.registerEventType())

        base: Any = core.QObject

        class Receiver(base):  # type: ignore[misc]
            """Gets the events that are posted for `call_from_host`."""

            def event(self, event: Any) -> bool:
                if event.type() != driver._type:
                    return bool(super().event(event))
                _call(driver._calls.popleft())
                return True

        return Receiver()

    def _build(self) -> None:
        driver, gui, widgets = self, self.gui, self.widgets
        base: Any = widgets.QWidget

        class Area(base):  # type: ignore[misc]
            """One colour, a new one for each step."""

            def paintEvent(self, event: Any) -> None:
                painter = gui.QPainter(self)
                painter.fillRect(self.rect(), gui.QColor.fromRgb(driver.number * 7919 % 0x1000000))
                painter.end()

        top = widgets.QWidget()
        top.setWindowTitle("conformance")
        self.area = Area()
        self.area.setFixedSize(300, 80)
        self._button = widgets.QPushButton("test")
        self._button.setFocusPolicy(self.core.Qt.FocusPolicy.NoFocus)
        self._button.clicked.connect(self.clicked)
        self._entry = widgets.QLineEdit()
        box = widgets.QVBoxLayout(top)
        for widget in (self.area, self._button, self._entry):
            box.addWidget(widget)
        self._menu = widgets.QMenu(top)
        for label in ("one", "two"):
            self._menu.addAction(label)
        top.setGeometry(20, 20, 320, 200)
        top.show()
        self._top = top
        self.nested_loop(until=lambda: self._exposed(top))
        self.process_events()

    @staticmethod
    def _exposed(widget: Any) -> bool:
        handle = widget.windowHandle()
        return bool(widget.isVisible() and handle is not None and handle.isExposed())

    def clicked(self, *_: Any) -> None:
        _call(super().clicked)

    # Callbacks

    def call_from_host(self, fn: Callable[[], Any]) -> None:
        self._calls.append(fn)
        self.core.QCoreApplication.postEvent(self._receiver, self.core.QEvent(self._type))

    def host_timer(self, ms: int, fn: Callable[[], Any], *, repeat: bool = False) -> _Timer:
        return _Timer(self, ms, fn, repeat)

    def host_idle(self, fn: Callable[[], Any]) -> None:
        # What Qt has for idle work: a timer of zero.
        _Timer(self, 0, fn, False)

    # Nested loops

    def nested_loop(self, *, until: Callable[[], bool] | None = None, ms: int | None = None) -> None:
        loop = self.core.QEventLoop()
        self._loops.append(loop)
        try:
            with self.ended_by(loop.quit, until, ms):
                loop.exec()
        finally:
            self._loops.remove(loop)

    def end_nested(self) -> None:
        self._loops[-1].quit()

    def _when_exposed(self, widget: Any, fn: Callable[[], Any]) -> None:
        def look() -> None:
            if self._exposed(widget):
                timer.cancel()
                fn()

        timer = _Timer(self, 5, look, True)

    def open_modal(self, on_open: Callable[[], Any]) -> str:
        self.need("modal")
        message = self.widgets.QMessageBox
        buttons = message.StandardButton.Ok | message.StandardButton.Cancel
        box = message(message.Icon.Question, "conformance", "A modal dialog.", buttons, self._top)
        self._modals.append(box)
        self._when_exposed(box, on_open)
        try:
            box.exec()
            answer = box.standardButton(box.clickedButton())
        finally:
            self._modals.remove(box)
            box.deleteLater()
        return "ok" if answer == message.StandardButton.Ok else "cancel"

    def close_modal(self, answer: str = "ok") -> None:
        kind = self.widgets.QMessageBox.StandardButton
        self._modals[-1].button(kind.Ok if answer == "ok" else kind.Cancel).click()

    def open_menu(self, on_open: Callable[[], Any]) -> None:
        self.need("window")
        self._when_exposed(self._menu, on_open)
        self._menu.popup(self._top.mapToGlobal(self.core.QPoint(40, 40)))

    def close_menu(self) -> None:
        self._menu.close()

    def process_events(self) -> None:
        self.app.processEvents()

    # Load and frames

    def flood(self, kind: str) -> Callable[[], int]:
        if kind != "timer":
            return super().flood(kind)
        # One timer that never rests: a chain of them is what Qt has for idle work.
        count = 0

        def step() -> None:
            nonlocal count
            count += 1

        timer = _Timer(self, 0, step, True)

        def stop() -> int:
            timer.cancel()
            return count

        return stop

    def count_frames(self) -> _Frames:
        return _Frames(self)

    # Input

    def on_screen(self, x: int, y: int) -> tuple[int, int]:
        at = self._top.mapToGlobal(self.core.QPoint(x, y))
        return at.x(), at.y()

    def button_centre(self) -> tuple[int, int]:
        at = self._button.mapToGlobal(self._button.rect().center())
        return at.x(), at.y()

    def take_keyboard(self) -> None:
        # The server has it when Qt has said so.
        self._entry.setFocus()
        self._top.activateWindow()
        if not self._top.isActiveWindow():
            self.nested_loop(until=self._top.isActiveWindow, ms=2000)

    def typed(self) -> str:
        return str(self._entry.text())

    # The application's main loop

    def destroy_window(self) -> None:
        self.need("window")
        if self._top is not None:
            top, self._top = self._top, None
            top.close()
            top.deleteLater()

    def quit(self) -> None:
        # Not quit(): from Qt 6 on it closes the windows first, and a case goes on with its own.
        self.app.exit()

    def run(self) -> None:
        self.app.exec()

    def toolkit(self) -> Any:
        return self.app

    def close(self) -> None:
        super().close()
        for timer in list(self.timers):
            timer.cancel()
        if self._top is not None:
            self.destroy_window()
            self.process_events()
