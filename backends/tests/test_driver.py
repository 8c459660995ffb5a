"""The host drivers on bare hosts: each ability does what it says with no guest anywhere.

Each test is a program of its own, under an X server of its own.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PRELUDE = """
import importlib, json, sys, time
driver = importlib.import_module(f"asyncio_guest.backends.{sys.argv[1]}.driver").make_driver(window=True)
def report(value):
    print(json.dumps(value))
"""


def has_gtk4() -> bool:
    """Is there PyGObject, and GTK 4's part for it?"""
    try:
        import gi.repository
    except ImportError:
        return False
    return "4.0" in gi.Repository.get_default().enumerate_versions("Gtk")


needs_toolkit: dict[str, Any] = {
    "tk": pytest.mark.skipif(importlib.util.find_spec("_tkinter") is None, reason="apt-get install python3-tk"),
    "gtk3": pytest.mark.skipif(importlib.util.find_spec("gi") is None, reason="apt-get install python3-gi"),
    "gtk4": pytest.mark.skipif(not has_gtk4(), reason="apt-get install python3-gi gir1.2-gtk-4.0"),
    "qt5": pytest.mark.skipif(importlib.util.find_spec("PyQt5") is None, reason="apt-get install python3-pyqt5"),
    "pyqt6": pytest.mark.skipif(importlib.util.find_spec("PyQt6") is None, reason="apt-get install python3-pyqt6"),
    "pyside6": (),  # its environment is asked for
}
environments = {"pyside6": "pyside6"}
"""Of ci/environments.toml, for those that do not run with this interpreter."""


@pytest.fixture(params=[pytest.param(name, marks=mark) for name, mark in needs_toolkit.items()])
def bare(
    request: pytest.FixtureRequest,
    display: str,
    run_program: Callable[..., str],
    environment_python: Callable[[str], Path],
) -> Callable[[str], Any]:
    """Run a program with a `driver` and return what it reported."""
    if importlib.util.find_spec("Xlib") is None:
        pytest.skip("python-xlib is missing; on Debian: apt-get install python3-xlib")

    name = request.param
    python = environment_python(environments[name]) if name in environments else sys.executable

    def run(source: str) -> Any:
        return json.loads(run_program(PRELUDE + source, name, display=display, python=python).splitlines()[-1])

    return run


def test_callbacks(bare: Callable[[str], Any]) -> None:
    seen = bare("""
log = []
for i in range(3):
    driver.call_from_host(lambda i=i: log.append(f"call {i}"))
    driver.host_idle(lambda i=i: log.append(f"idle {i}"))
driver.host_timer(400, lambda: log.append("late"))  # far: two that are due at once GLib calls in the order they were made
driver.host_timer(20, lambda: log.append("early"))
gone = driver.host_timer(30, lambda: log.append("cancelled"))
gone.cancel()
def tick():
    log.append("tick")
    if log.count("tick") >= 10 and "late" in log:
        ticks.cancel()
        log.append("end")
        driver.host_timer(60, driver.quit)
ticks = driver.host_timer(10, tick, repeat=True)
inside = []
driver.call_from_host(lambda: inside.append(1))
before = len(inside)
began = time.monotonic()
driver.run()
report([log, before, time.monotonic() - began])
""")
    log, before, seconds = seen
    assert before == 0
    assert [e for e in log if e.startswith("call")] == ["call 0", "call 1", "call 2"]
    assert [e for e in log if e.startswith("idle")] == ["idle 0", "idle 1", "idle 2"]
    assert [e for e in log if e in ("early", "late", "cancelled")] == ["early", "late"]
    assert log.count("tick") >= 10
    assert "tick" not in log[log.index("end") :], "a timer that was cancelled goes on"
    assert seconds >= 0.45


def test_run_quit_run(bare: Callable[[str], Any]) -> None:
    assert bare("""
log = []
for i in range(3):
    driver.host_timer(10, driver.quit)
    driver.run()
    log.append(i)
report(log)
""") == [0, 1, 2]


def test_nested_loops(bare: Callable[[str], Any]) -> None:
    log, seconds = bare("""
log = []
left = set()
def enter(depth):
    log.append(f"in {depth}")
    if depth < 3:
        driver.call_from_host(lambda: enter(depth + 1))
    else:
        for i, other in enumerate((1, 2, 3)):
            driver.host_timer(20 + 20 * i, lambda other=other: left.add(other))
    driver.nested_loop(until=lambda: depth in left)
    log.append(f"out {depth}")
enter(1)
driver.host_timer(10, driver.end_nested)
driver.nested_loop()
began = time.monotonic()
driver.nested_loop(ms=50)
report([log, time.monotonic() - began])
""")
    assert log == ["in 1", "in 2", "in 3", "out 3", "out 2", "out 1"]
    assert 0.049 <= seconds < 2


def test_modal_dialogs(bare: Callable[[str], Any]) -> None:
    assert bare("""
log = []
def opened():
    log.append("open")
    driver.host_timer(20, lambda: driver.close_modal("cancel"))
log.append(driver.open_modal(opened))
log.append(driver.open_modal(driver.close_modal))
def nested():
    log.append("inner " + driver.open_modal(driver.close_modal))
    driver.close_modal("cancel")
log.append("outer " + driver.open_modal(nested))
report(log)
""") == ["open", "cancel", "ok", "inner ok", "outer cancel"]


def test_input_and_menu(bare: Callable[[str], Any]) -> None:
    clicks, text, menus = bare("""
clicks, menus = [], []
driver.on_click(lambda: clicks.append(1))
for i in range(3):
    driver.inject_input("click")
    driver.nested_loop(until=lambda: len(clicks) > i)
for character in "hello":
    driver.inject_input("key", character)
driver.nested_loop(until=lambda: len(driver.entry_text()) == 5)
for i in range(2):
    driver.open_menu(lambda: menus.append("open"))
    driver.nested_loop(until=lambda: len(menus) > i)
    driver.close_menu()
    driver.nested_loop(ms=30)
driver.inject_input("move", (10, 10))
driver.inject_input("press")
driver.inject_input("move", (40, 30))
driver.inject_input("release")
driver.inject_input("click")
driver.nested_loop(until=lambda: len(clicks) > 3)
report([len(clicks), driver.entry_text(), menus])
""")
    assert (clicks, text, menus) == (4, "hello", ["open", "open"])


def test_frames_are_seen_at_the_server(bare: Callable[[str], Any]) -> None:
    moving, blocked = bare("""
frames = driver.frames()
driver.nested_loop(ms=1000)
moving = frames.stop()
frames = driver.frames()
until = time.monotonic() + 0.5
while time.monotonic() < until:
    pass
blocked = frames.stop()
report([moving, blocked])
""")
    assert 30 <= moving <= 70
    assert blocked <= 1


def test_floods(bare: Callable[[str], Any]) -> None:
    """Beside a flood the host's timers go on, in a third of the ticks that they have alone in the same run at the least.
    A thread that is busy all the time is the first that a busy machine puts off: that share does not count."""
    for kind, (alone, count, after, ticks, share) in bare("""
seen = {}
def waited():
    with open("/proc/thread-self/schedstat") as file:
        return int(file.read().split()[1]) / 1e9
def timers():
    ticks = []
    timer = driver.host_timer(10, lambda: ticks.append(1), repeat=True)
    driver.nested_loop(ms=300)
    timer.cancel()
    return len(ticks)
for kind in driver.flood_kinds:
    alone = timers()
    stop = driver.flood(kind)
    share, begin = -waited(), time.monotonic()
    ticks = timers()
    share = 1 - (share + waited()) / (time.monotonic() - begin)
    count = stop()
    driver.nested_loop(ms=50)
    seen[kind] = [alone, count, stop() - count, ticks, share]
report(seen)
""").items():
        assert alone > 0, kind
        assert count > 3 * ticks, (kind, count, ticks)
        assert after <= 1, kind
        assert ticks >= alone * share / 3, (kind, ticks, alone, share)


def test_destroy_and_close(bare: Callable[[str], Any]) -> None:
    assert bare("""
driver.host_timer(20, driver.destroy_window)
if sys.argv[1] != "tk":
    driver.host_timer(60, driver.quit)
driver.run()
driver.close()
driver.close()
report("closed")
""") == "closed"


@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="apt-get install xvfb")
def test_without_a_window(bare: Callable[[str], Any]) -> None:
    assert bare("""
driver.close()
module = importlib.import_module(f"asyncio_guest.backends.{sys.argv[1]}.driver")
driver = module.make_driver()
refused = []
for name in ("frames", "destroy_window", "entry_text"):
    try:
        getattr(driver, name)()
    except NotImplementedError:
        refused.append(name)
driver.host_timer(10, driver.quit)
driver.run()
report([refused, sorted(driver.abilities & {"window", "paint", "input"})])
""") == [["frames", "destroy_window", "entry_text"], []]
