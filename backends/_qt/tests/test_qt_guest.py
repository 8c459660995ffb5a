"""Guests in Qt's event loop: what Qt makes particular, with each binding and each strategy."""

from __future__ import annotations

import importlib.util
import sys
import textwrap
from dataclasses import dataclass
from typing import Any

import pytest

PRELUDE = """
import asyncio, gc, os, signal, sys, threading, time, warnings
import asyncio_guest
HOST, STRATEGY = sys.argv[1:]

def start(coro, host=HOST, **options):
    return asyncio_guest.start(coro, host=host, strategy=STRATEGY, **options)

def run(coro, host=HOST, **options):
    return asyncio_guest.run(coro, host=host, strategy=STRATEGY, **options)

def mapped():
    "The files of QtCore that this process has mapped."
    with open("/proc/self/maps") as maps:
        return sorted({line.split()[-1] for line in maps if "/libQt5Core" in line or "/libQt6Core" in line})
"""


@dataclass(frozen=True)
class Binding:
    """One binding of Qt, and where it comes from."""

    host: str
    package: str
    environment: str | None = None
    """Of ci/environments.toml; None: the system's."""
    strategy: str = "watch"

    def __str__(self) -> str:
        return f"{self.host}{'-pypi' if self.environment else ''}-{self.strategy}"


QT5, PYQT6 = Binding("qt5", "PyQt5"), Binding("pyqt6", "PyQt6")
PYSIDE6, PYPI = Binding("pyside6", "PySide6", "pyside6"), Binding("pyqt6", "PyQt6", "pyqt6")
EVERY = [QT5, PYQT6, PYSIDE6, PYPI]
"""With the default strategy."""
ALL = [
    Binding(binding.host, binding.package, binding.environment, strategy)
    for binding in (QT5, PYQT6, PYSIDE6)
    for strategy in ("watch", "waiter")
] + [PYPI]


@pytest.fixture(params=ALL, ids=str)
def binding(request: Any) -> Binding:
    """What the program of this test uses."""
    found: Binding = request.param
    return found


@pytest.fixture
def program(binding: Binding, run_program: Any, environment_python: Any) -> Any:
    """Run a program below `PRELUDE`; BINDING in it is the binding's name."""
    if binding.environment is not None:
        python = environment_python(binding.environment)
    elif importlib.util.find_spec(binding.package) is None:
        pytest.skip(f"no {binding.package}; on Debian: apt-get install python3-{binding.package.lower()}")
    else:
        python = sys.executable

    def run(source: str, **options: Any) -> list[str]:
        source = PRELUDE + textwrap.dedent(source).replace("BINDING", binding.package)
        out: str = run_program(source, binding.host, binding.strategy, python=python, **options)
        return out.splitlines()

    return run


@pytest.fixture(params=["glib", "unix"])
def dispatcher(request: Any) -> dict[str, str]:
    """The environment for either event dispatcher of Qt."""
    return {"QT_NO_GLIB": "1"} if request.param == "unix" else {}


def test_by_name_without_a_display(program: Any) -> None:
    assert program("""
        print(run(asyncio.sleep(0.01, "once")), run(asyncio.sleep(0.01, "again")))
        print("BINDING.QtWidgets" in sys.modules, len(mapped()))
    """) == ["once again", "False 1"]


def test_a_refused_start_makes_no_application(program: Any) -> None:
    """Qt has one application for the process's life: the program's own could not be made any more."""
    assert program("""
        from BINDING.QtCore import QCoreApplication
        async def main():
            refused("a second guest")
        def refused(what, **options):
            coro = asyncio.sleep(0)
            try:
                asyncio_guest.run(coro, host=HOST, **options)
            except (RuntimeError, TypeError, ValueError) as error:
                print(what, type(error).__name__, QCoreApplication.instance())
            coro.close()
        refused("engine", engine="turbo")
        refused("strategy", strategy="hope")
        refused("budget", budget=0)
        refused("loop", loop_factory=object)
        asyncio_guest.run(main(), host="poll")
        thread = threading.Thread(target=refused, args=("another thread",))
        thread.start(); thread.join()
        print(run(asyncio.sleep(0, "result")), type(QCoreApplication.instance()).__name__)
    """) == [
        "engine ValueError None", "strategy ValueError None", "budget ValueError None", "loop TypeError None",
        "a second guest RuntimeError None", "another thread RuntimeError None", "result QCoreApplication",
    ]  # fmt: skip


def test_the_programs_own_main_loop_and_threads(program: Any) -> None:
    assert program("""
        from BINDING.QtCore import QCoreApplication, QObject, QThread, QTimer
        async def main():
            await asyncio.sleep(0.01)
            return await asyncio.to_thread(lambda: 7)
        app = QCoreApplication([])
        def done(outcome):
            print(outcome.unwrap())
            QTimer.singleShot(50, lambda: (print("the host goes on"), app.quit()))
        start(main(), app, done_callback=done)
        app.exec()

        elsewhere = QObject()
        class Thread(QThread):
            def run(self):
                print(run(main()))
                try:
                    run(main(), elsewhere)
                except RuntimeError as exc:
                    print(exc)
        thread = Thread()
        thread.start(); thread.wait()
        plain = threading.Thread(target=lambda: print(run(main())))
        plain.start(); plain.join()
        print(run(main()))
    """) == [
        "7",
        "the host goes on",
        "7",
        "this Qt object lives in another thread: start the guest on that thread",
        "7",
        "7",
    ]


def test_host_callbacks_wake_the_guest(program: Any, dispatcher: dict[str, str]) -> None:
    """Also while the host floods itself with posted events: Qt does not say then that it is about to block."""
    assert program("""
        from BINDING.QtCore import QCoreApplication, QEvent, QObject, QTimer
        class Flood(QObject):
            on = False
            def event(self, event):
                if self.on:
                    QCoreApplication.postEvent(self, QEvent(QEvent.Type.User))
                return True
        async def main():
            loop = asyncio.get_running_loop()
            flood = Flood()
            for flood.on in (False, True):
                flood.event(None)
                for act in (
                    lambda future: future.set_result(None),
                    lambda future: loop.call_soon(future.set_result, None),
                    lambda future: loop.call_later(0.001, future.set_result, None),
                ):
                    for ms in (0, 20):
                        future = loop.create_future()
                        QTimer.singleShot(ms, lambda: act(future))
                        await asyncio.wait_for(future, 5)
            flood.on = False
            print("all seen")
        run(main())
    """, **dispatcher) == ["all seen"]


def test_nested_loops(program: Any, dispatcher: dict[str, str]) -> None:
    """In a coroutine: turns are refused, nothing spins. In a host callback and in modal(): turns go on."""
    assert program("""
        from BINDING.QtCore import QCoreApplication, QEventLoop, QTimer
        ticks = 0
        async def ticker():
            global ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)
        def nested():
            before, cpu = ticks, time.process_time()
            loop = QEventLoop()
            QTimer.singleShot(300, loop.quit)
            loop.exec()
            return ticks - before, time.process_time() - cpu
        async def main():
            loop = asyncio.get_running_loop()
            other = asyncio.create_task(ticker())
            await asyncio.sleep(0.05)
            moved, cpu = nested()
            print(moved, cpu < 0.1)
            print((await asyncio_guest.modal(nested))[0] > 10)
            future = loop.create_future()
            QTimer.singleShot(0, lambda: future.set_result(nested()))
            print((await future)[0] > 10)
            other.cancel()
        app = QCoreApplication([])
        guest = start(main(), app, done_callback=lambda outcome: (app.quit(), outcome.unwrap()))
        app.exec()
        # A guest that is run inside a loop of the application ends its own loop only.
        print(run(asyncio.sleep(0.01, "run")))
        QTimer.singleShot(0, lambda: print(run(asyncio.sleep(0.01, "inside"))))
        QTimer.singleShot(200, lambda: (print("outside"), app.quit()))
        app.exec()
    """, **dispatcher) == ["0 True", "True", "True", "run", "inside", "outside"]


def test_nothing_stays_behind(program: Any, dispatcher: dict[str, str]) -> None:
    """No descriptor, no thread (of C's too), no reference to the application, and no object of the guest's in Qt: each is
    some hundred bytes of memory."""
    assert program("""
        import ctypes
        from BINDING.QtCore import QCoreApplication
        class Memory(ctypes.Structure):
            _fields_ = [(name, ctypes.c_size_t) for name in
                        "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
        memory = ctypes.CDLL(None).mallinfo2
        memory.restype = Memory
        app = QCoreApplication([])
        def left():
            gc.collect()
            return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), sys.getrefcount(app)
        def lives(count):
            for _ in range(count):
                run(asyncio.sleep(0))
                # Ended in a handler of its own.
                start(asyncio.sleep(0), app, done_callback=lambda outcome: app.quit())
                app.exec()
        lives(100)
        before, used = left(), memory().uordblks
        lives(1000)
        after, grown = left(), memory().uordblks - used
        print(after == before or (before, after), grown < 200_000 or grown)
    """, **dispatcher) == ["True True"]


def test_ctrl_c(program: Any) -> None:
    assert program("""
        async def main():
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                await asyncio.sleep(3600)
            finally:
                print("cancelled")
        began = time.monotonic()
        try:
            run(main())
        except KeyboardInterrupt:
            print("interrupted", time.monotonic() - began < 5)
    """) == ["cancelled", "interrupted True"]


def test_an_idle_guest_costs_nothing(program: Any, dispatcher: dict[str, str]) -> None:
    assert program("""
        from BINDING.QtCore import QCoreApplication, QTimer
        async def main():
            await asyncio.sleep(0.3)
            # From the host's side: the guest's own look would be a turn.
            QTimer.singleShot(100, look)
            await asyncio.get_running_loop().create_future()
        def look():
            before.update(guest.counters)
            QTimer.singleShot(1000, compare)
        def compare():
            print({key: value - before[key] for key, value in guest.counters.items()
                   if key in ("turns", "wakes", "posts", "iterations") and value != before[key]})
            guest.cancel()
        before = {}
        app = QCoreApplication([])
        guest = start(main(), app, done_callback=lambda outcome: app.quit())
        app.exec()
    """, **dispatcher) == ["{}"]


def test_the_application_goes_first(program: Any) -> None:
    """Its dispatcher dies with it; the guest is cancelled and ends within a bounded time."""
    assert program("""
        from BINDING.QtCore import QCoreApplication
        async def main():
            try:
                await asyncio.sleep(3600)
            finally:
                print("cleaned")
        app = QCoreApplication([])
        guest = start(main(), app, done_callback=lambda outcome: print(type(outcome.error).__name__))
        for _ in range(20):
            app.processEvents()
        if "BINDING" == "PySide6":
            import shiboken6 as sip
        else:
            from BINDING import sip
        sip.delete(app)
        print(guest.done)
    """) == ["cleaned", "CancelledError", "True"]


@pytest.mark.parametrize("kind", ["QtCore.QCoreApplication", "QtGui.QGuiApplication", "QtWidgets.QApplication"])
def test_kinds_of_applications(program: Any, binding: Binding, kind: str) -> None:
    """Each is taken as it is, by object and by name, with its own loop and without."""
    module, _, name = kind.partition(".")
    assert program(f"""
        from BINDING.{module} import {name}
        async def main():
            await asyncio.sleep(0.01)
            return type(app).__name__
        app = {name}(["test"])
        guest = start(main(), app, done_callback=lambda outcome: (print(outcome.unwrap()), app.quit()))
        app.exec()
        print(run(main()), len(mapped()))
    """, QT_QPA_PLATFORM="offscreen") == [name, f"{name} 1"]


def test_windows(program: Any, display: str) -> None:
    """The last window's end ends the main loop that `run` runs, and the task with it; a window's close button can
    cancel a guest in a loop of the program's own, and a button starts coroutines."""
    assert program("""
        from BINDING.QtCore import QTimer
        from BINDING.QtWidgets import QApplication, QPushButton
        app = QApplication(["test"])
        async def main():
            button = QPushButton("here")
            button.show()
            QTimer.singleShot(50, button.close)
            try:
                await asyncio.sleep(3600)
            finally:
                print("cleaned")
        try:
            run(main())
        except BaseException as error:
            print(type(error).__name__)

        async def other():
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0.05)
                print("cleaned again")
        async def clicked():
            await asyncio.sleep(0.01)
            print("clicked")
            button.close()
        button = QPushButton("here")
        guest = start(other(), button, done_callback=lambda outcome: app.quit())
        app.setQuitOnLastWindowClosed(False)
        app.lastWindowClosed.connect(guest.cancel)
        button.clicked.connect(lambda: guest.start_soon(clicked))
        button.show()
        QTimer.singleShot(0, button.click)
        app.exec()
        print(guest.done, len(mapped()))
    """, display=display) == ["cleaned", "CancelledError", "clicked", "cleaned again", "True 1"]


@pytest.mark.parametrize("binding", EVERY, ids=str)
def test_another_binding_is_refused(program: Any, binding: Binding) -> None:
    """By name there is no second Qt in a process that has one, and no object of a Qt that is not there."""
    assert program("""
        from BINDING.QtCore import QCoreApplication
        before = mapped()
        for name in ("qt5", "pyqt6", "pyside6"):
            if name == HOST:
                continue
            coro = asyncio.sleep(0)
            try:
                run(coro, name)
            except asyncio_guest.HostUnavailable:
                print(name, "is not installed")
            except RuntimeError as error:
                said = str(error)
                print(name, said.startswith("this process has imported BINDING, and two Qt"), f"host={HOST!r}" in said)
            coro.close()
        print(mapped() == before, QCoreApplication.instance())
        app = QCoreApplication([])
        print(run(asyncio.sleep(0, "here"), app), mapped() == before)
    """) == [
        *(f"{name} True True" if name != "pyside6" or binding is PYSIDE6 else "pyside6 is not installed"
          for name in ("qt5", "pyqt6", "pyside6") if name != binding.host),
        "True None",
        "here True",
    ]


@pytest.mark.parametrize("binding", EVERY, ids=str)
def test_a_qt_without_a_binding(program: Any, binding: Binding) -> None:
    """Something else loaded a Qt: importing a binding might map a second one, and is the program's decision."""
    assert program("""
        import ctypes, ctypes.util
        ctypes.CDLL("libQt5Core.so.5")
        coro = asyncio.sleep(0)
        try:
            run(coro)
        except RuntimeError as error:
            print(error)
        coro.close()
        print(len(mapped()))
    """) == ["this process has loaded a Qt without a Python binding: import your Qt binding first", "1"]


@pytest.mark.parametrize(("binding", "other"), [(QT5, "PyQt6"), (PYQT6, "PyQt5"), (PYSIDE6, "PyQt5")], ids=str)
def test_both_major_versions(program: Any, binding: Binding, other: str) -> None:
    """A process that has imported both: the guest lives in the Qt whose application there is."""
    assert program(f"""
        import {other}.QtCore
        from BINDING.QtCore import QCoreApplication, QTimer
        both = mapped()
        app = QCoreApplication([])
        async def main():
            future = asyncio.get_running_loop().create_future()
            QTimer.singleShot(10, lambda: future.set_result("from a timer of BINDING"))
            return await future
        print(run(main(), app))
        print(run(main()), len(both), mapped() == both)
    """) == ["from a timer of " + binding.package, f"from a timer of {binding.package} 2 True"]


@pytest.mark.parametrize("binding", [PYSIDE6], ids=str)
def test_two_bindings_of_one_qt(program: Any, binding: Binding) -> None:
    """Debian's PyQt6 after PySide6: the loader gives it the QtCore that is there, and a guest runs with either."""
    if importlib.util.find_spec("PyQt6") is None:
        pytest.skip("no PyQt6; on Debian: apt-get install python3-pyqt6")
    assert program("""
        from PySide6.QtCore import QCoreApplication
        import PyQt6.QtCore
        app = QCoreApplication([])
        print(run(asyncio.sleep(0.01, "pyside6"), app), run(asyncio.sleep(0.01, "pyqt6"), "pyqt6"))
        print(len(mapped()))
    """) == ["pyside6 pyqt6", "1"]


def test_pyside6_that_breaks_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """PySide6 6.12 drops references to None on Python before 3.12: the process dies after some thousand calls."""
    from asyncio_guest.backends._qt import face

    for version, python, warns in (
        ((6, 12, 0), (3, 11), True),
        ((6, 11, 3), (3, 11), False),
        ((6, 12, 0), (3, 12), False),
    ):
        module = type(sys)("PySide6")
        module.__version_info__ = version  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "PySide6", module)
        assert (face.known_fault("PySide6", python) is not None) == warns


@pytest.mark.parametrize("binding, python, repaired", [
    ("PySide6", (3, 15), True), ("PySide6", (3, 14), False), ("PyQt6", (3, 15), False),
])
def test_pyside6_that_breaks_lazy_imports(
    monkeypatch: pytest.MonkeyPatch, binding: str, python: tuple[int, int], repaired: bool
) -> None:
    """PySide6 6.11.2 on 3.15: asyncio.to_thread found a lazy import where the class of its executor should be."""
    import concurrent.futures.thread

    from asyncio_guest.backends._qt import face

    lazy = object()
    monkeypatch.setattr(concurrent.futures, "ThreadPoolExecutor", lazy)
    face.repair_executor(binding, python)
    found: Any = concurrent.futures.ThreadPoolExecutor
    assert found is (concurrent.futures.thread.ThreadPoolExecutor if repaired else lazy)


def test_threads_of_asyncio(program: Any) -> None:
    """What the binding does to imports must not reach asyncio's own (PySide6 6.11.2 on 3.15)."""
    assert program("print(run(asyncio.to_thread(lambda: 'thread')))") == ["thread"]
