"""Guests in Qt 5's event loop: what Qt makes particular."""

from __future__ import annotations

import importlib.util
import textwrap
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("PyQt5") is None, reason="apt-get install python3-pyqt5")

PRELUDE = """
import asyncio, gc, os, signal, sys, threading, time
import asyncio_guest
STRATEGY = sys.argv[1]

def start(coro, host="qt5", **options):
    return asyncio_guest.start(coro, host=host, strategy=STRATEGY, **options)

def run(coro, host="qt5", **options):
    return asyncio_guest.run(coro, host=host, strategy=STRATEGY, **options)
"""


@pytest.fixture(params=["watch", "waiter"])
def program(request: Any, run_program: Any) -> Any:
    """Run a program below `PRELUDE` with each strategy."""

    def run(source: str, **options: Any) -> list[str]:
        out: str = run_program(PRELUDE + textwrap.dedent(source), request.param, **options)
        return out.splitlines()

    return run


@pytest.fixture(params=["glib", "unix"])
def dispatcher(request: Any) -> dict[str, str]:
    """The environment for either event dispatcher of Qt."""
    return {"QT_NO_GLIB": "1"} if request.param == "unix" else {}


def test_by_name_without_a_display(program: Any) -> None:
    assert program("""
        print(run(asyncio.sleep(0.01, "once")), run(asyncio.sleep(0.01, "again")))
        print("PyQt5.QtWidgets" in sys.modules)
        with open("/proc/self/maps") as maps:
            print(len({line.split()[-1] for line in maps if "libQt5Core" in line}))
    """) == ["once again", "False", "1"]


def test_the_programs_own_main_loop_and_threads(program: Any) -> None:
    assert program("""
        from PyQt5.QtCore import QCoreApplication, QObject, QThread, QTimer
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
        from PyQt5.QtCore import QCoreApplication, QEvent, QObject, QTimer
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
        from PyQt5.QtCore import QCoreApplication, QEventLoop, QTimer
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


def test_nothing_stays_behind(program: Any) -> None:
    assert program("""
        def left():
            return len(os.listdir("/proc/self/fd")), threading.active_count()
        run(asyncio.sleep(0))
        gc.collect()
        before = left()
        for _ in range(200):
            run(asyncio.sleep(0))
        gc.collect()
        print(left() == before)
    """) == ["True"]


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
        from PyQt5.QtCore import QCoreApplication, QTimer
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
        from PyQt5 import sip
        from PyQt5.QtCore import QCoreApplication
        async def main():
            try:
                await asyncio.sleep(3600)
            finally:
                print("cleaned")
        app = QCoreApplication([])
        guest = start(main(), app, done_callback=lambda outcome: print(type(outcome.error).__name__))
        for _ in range(20):
            app.processEvents()
        sip.delete(app)
        print(guest.done)
    """) == ["cleaned", "CancelledError", "True"]
