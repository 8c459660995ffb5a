"""Programs of the first asyncio-guest: their host and display objects and their task functions run with only the import
changed.

What is held here is the shape: a task function gets a display with set_title, set_max, set_value and set_cancel, and a host
object has run_sync_soon_threadsafe, perhaps run_sync_soon_not_threadsafe, and done_callback.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from typing import Any

import pytest

TASKS = """
import asyncio, gc, json, math, sys, time
from asyncio_guest import asyncio_guest_run

async def count(display, period=0.02, limit=10):
    display.set_title("counting")
    display.set_max(limit)
    display.set_cancel(asyncio.current_task().cancel)
    for number in range(1, limit + 1):
        await asyncio.sleep(period)
        display.set_value(number)
    return number

async def get(display, size=3 * 2**20):
    async def serve(reader, writer):
        await reader.readuntil(b"\\r\\n\\r\\n")
        writer.write(b"HTTP/1.0 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % size)
        for _ in range(48):
            writer.write(bytes(size // 48))
            await writer.drain()
            await asyncio.sleep(0.002)
        writer.close()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    display.set_title(f"fetching from {host}")
    display.set_cancel(asyncio.current_task().cancel)
    try:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET / HTTP/1.0\\r\\n\\r\\n")
        head = (await reader.readuntil(b"\\r\\n\\r\\n")).decode()
        display.set_max(int(head.partition("Content-Length: ")[2].split()[0]))
        received = 0
        while piece := await reader.read(100_000):
            received += len(piece)
            display.set_value(received)
        writer.close()
        return received
    finally:
        server.close()

async def check_latency(display=None, period=0.02, duration=math.inf):
    if display is not None:
        display.set_cancel(asyncio.current_task().cancel)
    loop = asyncio.get_event_loop()
    worst, end = 0.0, loop.time() + duration
    while loop.time() < end:
        target = loop.time() + period
        await asyncio.sleep(period)
        worst = max(worst, loop.time() - target)
    return worst
"""

HOSTS = {
    "tk": """
import collections, tkinter
from tkinter import ttk

class Host:
    def __init__(self):
        self.root = tkinter.Tk()
        self.root.geometry("300x120+40+40")
        self.queue = collections.deque()
        self.command = self.root.register(lambda: self.queue.popleft()())
    def run_sync_soon_threadsafe(self, fn):
        self.queue.append(fn)
        self.root.call("after", "idle", self.command)
    def run_sync_soon_not_threadsafe(self, fn):
        self.queue.append(fn)
        self.root.call("after", "idle", "after", 0, self.command)
    def done_callback(self, outcome):
        outcomes.append(outcome)
        self.root.destroy()
    def mainloop(self):
        self.root.mainloop()

class Display:
    def __init__(self, host):
        self.root = host.root
        self.bar = ttk.Progressbar(self.root)
        self.bar.pack(fill="both", expand=True)
        self.button = tkinter.Button(self.root, text="Cancel")
        self.button.pack()
    def set_title(self, title):
        self.root.wm_title(title)
    def set_max(self, limit):
        self.bar.configure(maximum=limit)
    def set_value(self, value):
        self.bar["value"] = value
        assert float(self.bar["value"]) == value
        values.append(value)
    def set_cancel(self, fn):
        self.button.configure(command=fn)
        self.root.protocol("WM_DELETE_WINDOW", fn)
    def where(self):
        b = self.button
        return b.winfo_rootx() + b.winfo_width() // 2, b.winfo_rooty() + b.winfo_height() // 2
""",
    "gtk3": """
import gi
gi.require_version("Gtk", "3.0")
from gi.repository import GLib, Gtk

class Host:
    def run_sync_soon_threadsafe(self, fn):
        GLib.idle_add(fn)           # called again and again unless it answers with something false
    def done_callback(self, outcome):
        outcomes.append(outcome)
        Gtk.main_quit()
    def mainloop(self):
        Gtk.main()

class Display:
    def __init__(self, host):
        self.window = Gtk.Window(default_width=300)
        box = Gtk.Box(orientation=Gtk.Orientation.VERTICAL)
        self.window.add(box)
        self.bar, self.button, self.limit = Gtk.ProgressBar(), Gtk.Button(label="Cancel"), 1
        box.pack_start(self.bar, True, True, 0)
        box.pack_start(self.button, True, True, 0)
        self.window.show_all()
        self.window.move(40, 40)
    def set_title(self, title):
        self.window.set_title(title)
    def set_max(self, limit):
        self.limit = limit
    def set_value(self, value):
        self.bar.set_fraction(value / self.limit)
        assert abs(self.bar.get_fraction() - value / self.limit) < 1e-6
        values.append(value)
    def set_cancel(self, fn):
        for widget, signal in (self.button, "clicked"), (self.window, "destroy"):
            widget.connect(signal, lambda *args: fn() and None)
    def where(self):
        _, left, top = self.button.get_window().get_origin()
        box = self.button.get_allocation()
        return left + box.x + box.width // 2, top + box.y + box.height // 2
""",
    "callables": """
from asyncio_guest.backends.callables.queue_loop import QueueLoop

class Host(QueueLoop):
    def done_callback(self, outcome):
        outcomes.append(outcome)
        self.quit()
    def mainloop(self):
        self.run()

class Display:
    def __init__(self, host):
        self.host = host
    def set_title(self, title):
        pass
    def set_max(self, limit):
        pass
    def set_value(self, value):
        values.append(value)
    def set_cancel(self, fn):
        self.cancel = fn
""",
}

MAIN = """
def run(task, *args):
    global outcomes, values
    outcomes, values = [], []
    host = Host()
    display = Display(host)
    extra = {"run_sync_soon_not_threadsafe": host.run_sync_soon_not_threadsafe} if hasattr(
        host, "run_sync_soon_not_threadsafe") else {}
    asyncio_guest_run(task, display, *args, run_sync_soon_threadsafe=host.run_sync_soon_threadsafe,
                      done_callback=host.done_callback, **extra)
    assert not values and not outcomes      # nothing runs before the main loop does
    host.mainloop()
    outcome, = outcomes
    del host, display, extra
    gc.collect()    # a Tk that another thread's collection finds ends the process
    return outcome

async def cancelled(display):
    # The user's click, or, without a window, a call of the host's: in the middle of a count without end.
    async def click():
        while not values:
            await asyncio.sleep(0.01)
        if hasattr(display, "where"):
            from asyncio_guest.backends import _x11
            await asyncio.sleep(0.2)        # the window has been placed
            _x11.click(*display.where())
        else:
            display.host.run_sync_soon_threadsafe(display.cancel)
    clicking = asyncio.create_task(click())
    try:
        await count(display, 0.01, 3000)
    finally:
        await clicking

seen = {"count": [run(count).unwrap(), values], "get": run(get).unwrap(), "last": values[-1]}
seen["latency"] = run(check_latency, 0.02, 0.3).unwrap()
outcome = run(cancelled)
seen["cancelled"] = [type(outcome).__name__, type(outcome.error).__name__, 0 < len(values) < 3000]
print(json.dumps(seen))
"""

needs = {"tk": "_tkinter", "gtk3": "gi", "callables": "asyncio"}


@pytest.mark.parametrize("host", HOSTS)
def test_tasks_with_a_display(host: str, run_program: Callable[..., str], request: pytest.FixtureRequest) -> None:
    if importlib.util.find_spec(needs[host]) is None:
        pytest.skip(f"{needs[host]} is missing")
    display = None if host == "callables" else request.getfixturevalue("display")
    seen: dict[str, Any] = json.loads(run_program(TASKS + HOSTS[host] + MAIN, display=display))
    assert seen["count"] == [10, list(range(1, 11))]
    assert seen["get"] == seen["last"] == 3 * 2**20
    assert 0 <= seen["latency"] < 1
    assert seen["cancelled"] == ["Error", "CancelledError", True]


def test_a_callback_that_schedules(run_program: Callable[..., str]) -> None:
    """`schedule_on_asyncio` gives a function of no arguments: a button's callback."""
    out = run_program("""
        import asyncio
        from asyncio_guest import asyncio_guest_run, schedule_on_asyncio
        from asyncio_guest.backends.callables.queue_loop import QueueLoop
        loop = QueueLoop()
        async def started(future):
            await asyncio.sleep(0.01)
            future.set_result("started")
        async def main():
            future = asyncio.get_running_loop().create_future()
            loop.run_sync_soon_threadsafe(schedule_on_asyncio(started(future)))
            return await future
        asyncio_guest_run(main, run_sync_soon_threadsafe=loop.run_sync_soon_threadsafe,
                          done_callback=lambda outcome: (print(outcome.unwrap()), loop.quit()))
        loop.run()
        coro = started(None)
        try:
            schedule_on_asyncio(coro)()
        except RuntimeError:
            print("no guest")
        coro.close()
    """)
    assert out.splitlines() == ["started", "no guest"]
