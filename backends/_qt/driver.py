"""The host driver of Qt, for any of its Python bindings.  It knows no guest."""

from __future__ import annotations

import collections
import contextlib
import importlib
import sys
from collections.abc import Callable
from typing import Any

from .. import _x11

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
        self._witness = _x11.Witness(int(top.winId()), at.x(), at.y())
        driver.witnesses.append(self._witness)
        self._timer = _Timer(driver, _FRAME_MS, self._step, True)

    def _step(self) -> None:
        # Only asks: Qt draws in its paint event.
        self._driver.number += 1
        self._driver.area.update()

    def stop(self) -> int:
        self._timer.cancel()
        return self._witness.stop()


class QtDriver:
    """The driver; see ``scenarios.driver.HostDriver`` for the methods."""

    flood_kinds: tuple[str, ...] = ("timer", "idle", "event")

    def __init__(self, name: str, core: Any, gui: Any, widgets: Any, window: bool) -> None:
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
        self.witnesses: list[_x11.Witness] = []
        self.number = 0
        self._loops: list[Any] = []
        self._modals: list[Any] = []
        self._clicks: list[Callable[[], Any]] = []
        self._calls: collections.deque[Callable[[], Any]] = collections.deque()
        self._receiver = self._make_receiver()
        self._top: Any = None
        abilities = {"host", "loop", "modal", "nested", "flood", "timer", "idle"}
        if window:
            abilities |= {"window", "paint", "input"}
            self._build()
        else:
            # The thread that reads the X server's events makes its descriptors when it runs: one event is one proof.
            first = gui.QWindow()
            first.resize(1, 1)
            first.show()
            self.nested_loop(until=first.isExposed, ms=500)  # behind another window it never is
            first.destroy()
        self.abilities = frozenset(abilities)

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
        self._button.clicked.connect(self._clicked)
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

    def _need(self, ability: str) -> None:
        if ability not in self.abilities:
            raise _x11.unsupported(ability)

    def _clicked(self, *_: Any) -> None:
        for fn in list(self._clicks):
            _call(fn)

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
        timers: list[_Timer] = []
        if until is not None:
            condition = until

            def ask() -> None:
                if condition():
                    loop.quit()

            timers.append(_Timer(self, 5, ask, True))
        if ms is not None:
            timers.append(_Timer(self, ms, loop.quit, False))
        try:
            loop.exec()
        finally:
            self._loops.remove(loop)
            for timer in timers:
                timer.cancel()

    def end_nested(self) -> None:
        self._loops[-1].quit()

    def _when_exposed(self, widget: Any, fn: Callable[[], Any]) -> None:
        def look() -> None:
            if self._exposed(widget):
                timer.cancel()
                fn()

        timer = _Timer(self, 5, look, True)

    def open_modal(self, on_open: Callable[[], Any]) -> str:
        self._need("modal")
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
        self._need("window")
        self._when_exposed(self._menu, on_open)
        self._menu.popup(self._top.mapToGlobal(self.core.QPoint(40, 40)))

    def close_menu(self) -> None:
        self._menu.close()

    def process_events(self) -> None:
        self.app.processEvents()

    # Load and frames

    def flood(self, kind: str) -> Callable[[], int]:
        if kind not in self.flood_kinds:
            raise _x11.unsupported(f"flood of {kind}")
        count = 0
        stopped = False

        def step() -> None:
            nonlocal count
            if not stopped:
                count += 1
                again()

        def again() -> None:
            if kind == "event":
                self.call_from_host(step)
            elif kind == "idle":
                self.host_idle(step)

        def stop() -> int:
            nonlocal stopped
            stopped = True
            if timer is not None:
                timer.cancel()
            return count

        timer = _Timer(self, 0, step, True) if kind == "timer" else None
        again()
        return stop

    def frames(self) -> _Frames:
        self._need("paint")
        return _Frames(self)

    # Input

    def inject_input(self, what: str, arg: Any = None) -> None:
        self._need("input")
        if what == "click":
            at = self._button.mapToGlobal(self._button.rect().center())
            _x11.click(at.x(), at.y())
        elif what == "key":
            # Without a window manager nobody gives the window the keyboard; the server has it when Qt has said so.
            self._entry.setFocus()
            self._top.activateWindow()
            if not self._top.isActiveWindow():
                self.nested_loop(until=self._top.isActiveWindow, ms=2000)
            _x11.key(arg)
        elif what == "move":
            x, y = arg if arg is not None else (5, 5)
            at = self._top.mapToGlobal(self.core.QPoint(x, y))
            _x11.move(at.x(), at.y())
        elif what in ("press", "release"):
            _x11.button(what == "press")
        else:
            raise ValueError(f"unknown input {what!r}")

    def on_click(self, fn: Callable[[], Any]) -> None:
        self._need("window")
        self._clicks.append(fn)

    def entry_text(self) -> str:
        self._need("window")
        return str(self._entry.text())

    # The application's main loop

    def destroy_window(self) -> None:
        self._need("window")
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
        for witness in self.witnesses:
            witness.kill()
        for timer in list(self.timers):
            timer.cancel()
        if self._top is not None:
            self.destroy_window()
            self.process_events()
