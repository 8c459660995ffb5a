"""Guests in GTK 4: what is not as in GTK 3, and that it has a name and main loops of its own."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

PRELUDE = """
import asyncio, gc, os, signal, sys, threading, time
import asyncio_guest
try:
    import gi
    gi.require_version("Gtk", "4.0")
except (ImportError, ValueError) as exc:
    print("SKIP", exc)
    raise SystemExit
from gi.repository import Gio, GLib, Gtk
Gtk.init()
STRATEGY = sys.argv[1]
SHARE = 0.05 if os.environ.get("AG_SANITIZE") else 0.4     # of what the bare host does; instrumented code is slow

def start(coro, host="gtk4", **options):
    return asyncio_guest.start(coro, host=host, strategy=STRATEGY, **options)

def run(coro, host="gtk4", **options):
    return asyncio_guest.run(coro, host=host, strategy=STRATEGY, **options)

def application():
    return Gtk.Application(application_id="org.example.Guest", flags=Gio.ApplicationFlags.NON_UNIQUE)
"""


@pytest.fixture(params=["watch", "waiter"])
def program(request: Any, run_program: Any, display: str) -> Any:
    """Run a program below `PRELUDE` with each strategy."""

    def run(source: str, **options: Any) -> list[str]:
        out: str = run_program(PRELUDE + textwrap.dedent(source), request.param, display=display, **options)
        if out.startswith("SKIP"):
            pytest.skip(f"{out[5:].strip()}; on Debian: apt-get install python3-gi gir1.2-gtk-4.0")
        return out.splitlines()

    return run


def test_the_programs_own_main_loops(program: Any) -> None:
    assert program("""
        async def main():
            await asyncio.sleep(0.01)
            return await asyncio.to_thread(lambda: 7)

        loop = GLib.MainLoop()
        start(main(), loop, done_callback=lambda outcome: (print(outcome.unwrap()), loop.quit()))
        loop.run()

        app = application()
        def activate(app):
            window = Gtk.ApplicationWindow(application=app)
            window.present()
            guest = start(main(), app, done_callback=lambda outcome: (print(outcome.unwrap()), window.destroy()))
            print(guest.info.host)
        app.connect("activate", activate)
        print(app.run())

        window = Gtk.Window()
        window.present()
        def done(outcome):
            print(outcome.unwrap())
            GLib.timeout_add(50, lambda: (print("the host goes on"), loop.quit()) and None)
        start(main(), window, done_callback=done)
        loop.run()
    """) == ["7", "gtk4", "7", "0", "7", "the host goes on"]


def test_run_drives_an_application(program: Any) -> None:
    assert program("""
        shown = []
        async def main():
            window = Gtk.ApplicationWindow(application=app)     # needs an application that runs
            window.connect("map", lambda window: shown.append(1))
            window.present()
            while not shown:
                await asyncio.sleep(0.01)
            window.destroy()                                    # the last window: the guest goes on
            await asyncio.sleep(0.05)
            return "result"
        app = application()
        app.connect("activate", lambda app: print("activated"))
        print(run(main(), app))
        async def endless():
            GLib.timeout_add(20, app.quit)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await asyncio.sleep(0.01)
                print("cleaned")
        app = application()
        app.connect("activate", lambda app: None)
        try:
            run(endless(), app)
        except BaseException as exc:
            print(type(exc).__name__)
    """) == ["activated", "result", "cleaned", "CancelledError"]


def test_a_dialog_is_awaited(program: Any) -> None:
    assert program("""
        async def ask(parent):
            answer = asyncio.get_running_loop().create_future()
            dialog = Gtk.Window(transient_for=parent, modal=True)
            button = Gtk.Button(label="OK")
            button.connect("clicked", lambda button: answer.set_result("ok"))
            dialog.set_child(button)
            dialog.connect("map", lambda dialog: GLib.timeout_add(30, lambda: button.emit("clicked")))
            dialog.present()
            try:
                return await answer
            finally:
                dialog.destroy()
        async def main():
            window = Gtk.Window()
            window.present()
            print(await ask(window))
            loop = GLib.MainLoop()
            ticks = []
            async def tick():
                while len(ticks) < 10:
                    await asyncio.sleep(0.005)
                    ticks.append(loop.is_running())
                loop.quit()
            ticker = asyncio.create_task(tick())
            late = GLib.timeout_add(20_000, loop.quit)
            await asyncio_guest.modal(loop.run)
            print(ticks[-1:] == [True] and ticker.done())
            GLib.source_remove(late)
            ticker.cancel()
            window.destroy()
        run(main())
    """) == ["ok", "True"]


def test_fairness_both_ways(program: Any) -> None:
    assert program("""
        from asyncio_guest.backends.gtk4.driver import make_driver
        host = make_driver(window=True)
        counts = dict(timers=0, guest=0)
        def timer():
            counts["timers"] += 1
        host.host_timer(10, timer, repeat=True)
        async def spin(seconds):
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                counts["guest"] += 1
                await asyncio.sleep(0)
        def waited():
            with open("/proc/thread-self/schedstat") as file:
                return int(file.read().split()[1]) / 1e9
        async def measure(what):
            # The last is the share of the time that this thread had when it wanted to run.
            counts.update(timers=0, guest=0)
            frames = host.frames()
            share, begin = -waited(), time.monotonic()
            await what(1)
            # A thread that is busy all the time is the first that a busy machine puts off.
            share = 1 - (share + waited()) / (time.monotonic() - begin)
            return frames.stop(), counts["timers"], counts["guest"], share
        async def main():
            await asyncio.sleep(0.3)
            bare = await measure(asyncio.sleep)
            frames, timers, spun, share = await measure(spin)
            print(frames > SHARE * share * bare[0], timers > SHARE * share * bare[1], spun > 300 * share)
            for kind in ("timer", "idle", "event"):
                stop = host.flood(kind)
                _, _, spun, share = await measure(spin)
                print(stop() > 10 * share, spun > 100 * share)
        start(main(), host.toolkit(), done_callback=lambda outcome: (host.quit(), outcome.unwrap()))
        host.run()
        host.close()
    """) == ["True True True", "True True", "True True", "True True"]


def test_ctrl_c(program: Any) -> None:
    assert program("""
        async def main():
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            await asyncio.sleep(3600)
        began = time.monotonic()
        for host in ("gtk4", GLib.MainLoop(), application()):
            if isinstance(host, Gtk.Application):
                host.connect("activate", lambda app: None)
            try:
                run(main(), host)
            except KeyboardInterrupt:
                print("interrupted", time.monotonic() - began < 5)
    """) == ["interrupted True"] * 3


def test_objects_belong_to_the_gtk_that_is_loaded(program: Any) -> None:
    assert program("""
        from asyncio_guest._hosts import backend_of
        things = GLib.MainLoop(), GLib.MainContext.default(), application(), Gtk.Label()
        print(*(backend_of(thing).name for thing in things))
        for name in ("gtk3", "glib"):
            try:
                backend_of(name).open(Gtk.Label())
            except TypeError as exc:
                print(str(exc).partition(":")[0])
    """) == ["gtk4 gtk4 gtk4 gtk4", "not an object of GLib or GTK 3", "not an object of GLib"]
