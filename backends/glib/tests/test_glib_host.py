"""Guests in GLib's main loop, with no display."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gi") is None, reason="PyGObject is missing; on Debian: apt-get install python3-gi"
)


@pytest.mark.parametrize("strategy", ["watch", "waiter"])
def test_without_gtk(strategy: str, run_program: Any) -> None:
    out = run_program(
        """
        import asyncio, sys
        import asyncio_guest
        from gi.repository import GLib
        async def main():
            await asyncio.sleep(0.01)
            return await asyncio.to_thread(lambda: 7)
        loop = GLib.MainLoop()
        asyncio_guest.start(main(), host="glib", strategy=sys.argv[1],
                            done_callback=lambda outcome: (print(outcome.unwrap()), loop.quit()))
        loop.run()
        print(asyncio_guest.run(main(), host="glib", strategy=sys.argv[1]), "gi.repository.Gtk" in sys.modules)
        """,
        strategy,
    )
    assert out.splitlines() == ["7", "7 False"]


def test_run_drives_what_it_was_given(run_program: Any) -> None:
    """The program's own main loop or application runs, so its quit ends the run: a run of a GMainLoop of the backend's own
    went on for ever."""
    out = run_program("""
        import asyncio
        import asyncio_guest
        from gi.repository import Gio, GLib
        loop = GLib.MainLoop()
        app = Gio.Application(application_id="org.example.Guest", flags=Gio.ApplicationFlags.NON_UNIQUE)
        app.connect("activate", lambda app: print("activated"))
        async def main(owner):
            print(loop.is_running(), app.get_is_registered())
            return await asyncio.sleep(0.01, "result")
        async def endless(owner):
            GLib.idle_add(owner.quit)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await asyncio.sleep(0.01)
                print("cleaned")
        print(asyncio_guest.run(main(loop), host=loop), loop.is_running())
        try:
            asyncio_guest.run(endless(loop), host=loop)
        except BaseException as exc:
            print(type(exc).__name__)
        # In a callback of the loop that runs already: in one nested in it.
        def inside():
            print(asyncio_guest.run(main(loop), host=loop), loop.is_running())
            loop.quit()
        GLib.idle_add(inside)
        loop.run()
        print(asyncio_guest.run(main(app), host=app))
        app = Gio.Application(application_id="org.example.Guest", flags=Gio.ApplicationFlags.NON_UNIQUE)
        app.connect("activate", lambda app: None)
        try:
            asyncio_guest.run(endless(app), host=app)
        except BaseException as exc:
            print(type(exc).__name__)
    """)
    assert out.splitlines() == [
        "True False", "result False", "cleaned", "CancelledError", "True False", "result True", "activated", "False True",
        "result", "cleaned", "CancelledError",
    ]  # fmt: skip


def test_objects_belong_to_the_toolkit_that_is_loaded(run_program: Any) -> None:
    out = run_program("""
        import asyncio_guest
        from asyncio_guest._hosts import backend_of
        from gi.repository import Gio, GLib
        things = GLib.MainLoop(), GLib.MainContext.default(), Gio.Application()
        print([backend_of(thing).name for thing in things])
        for wrong in (object(), GLib.Bytes.new(b""), int):
            try:
                asyncio_guest.resolve(wrong)
            except TypeError as exc:
                print("no backend knows a host of type" in str(exc))
    """)
    assert out.splitlines() == ["['glib', 'glib', 'glib']", "True", "True", "True"]


@pytest.mark.parametrize("strategy", ["watch", "waiter"])
def test_short_turns_leave_the_host_its_time(strategy: str, run_program: Any) -> None:
    """Turns of one iteration follow each other within a dispatch, but not for long: the host's timers and idle work go on."""
    out = run_program(
        """
        import asyncio, sys, time
        import asyncio_guest
        from gi.repository import GLib
        seen = dict(timer=0, idle=0, iterations=0)
        def count(what):
            seen[what] += 1
            return True
        async def spin(seconds):
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                seen["iterations"] += 1
                await asyncio.sleep(0)
        async def main():
            GLib.timeout_add(10, count, "timer")
            GLib.idle_add(count, "idle")
            await asyncio.sleep(1)
            bare = seen["timer"]
            seen.update(timer=0, idle=0)
            await spin(1)
            # A busy machine is as slow for the bare host.
            print(seen["timer"] > 0.4 * bare, seen["idle"] > 0.4 * bare, seen["iterations"] > 300)
        loop = GLib.MainLoop()
        guest = asyncio_guest.start(main(), host=loop, strategy=sys.argv[1], max_iterations=1,
                                    done_callback=lambda outcome: loop.quit())
        loop.run()
        print(guest.counters["turns"] >= guest.counters["iterations"] >= seen["iterations"])
        """,
        strategy,
    )
    assert out.splitlines() == ["True True True", "True"]


def test_a_handler_added_before_the_run(run_program: Any) -> None:
    """PyGObject's run() puts back the wakeup descriptor that it found, here that of an event loop that is closed by then: the
    run ended with OSError."""
    out = run_program("""
        import asyncio, os, signal
        import asyncio_guest
        from gi.repository import GLib
        def factory():
            loop = asyncio.new_event_loop()
            loop.add_signal_handler(signal.SIGUSR1, print, "handled")
            return loop
        async def main():
            os.kill(os.getpid(), signal.SIGUSR1)
            return await asyncio.sleep(0.05, "result")
        print(asyncio_guest.run(main(), host=GLib.MainLoop(), loop_factory=factory))
    """)
    assert out.splitlines() == ["handled", "result"]


def test_short_turns_share_a_dispatch(run_program: Any) -> None:
    """Each turn of one iteration was an iteration of the main context, in which GTK asks the X server for events twice."""
    out = run_program("""
        import asyncio
        import asyncio_guest
        from gi.repository import GLib
        looks = 0
        class Look(GLib.Source):
            def prepare(self):
                global looks
                looks += 1
                return False, -1
            def check(self):
                return False
            def dispatch(self, callback, args):
                return True
        source = Look()
        source.attach(None)
        async def serve(reader, writer):
            while piece := await reader.read(1024):
                writer.write(piece)
            writer.close()
        async def main():
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            before, turns = looks, guest.counters["turns"]
            for _ in range(300):
                writer.write(b"x")
                await reader.readexactly(1)
            print(guest.counters["turns"] - turns > 4 * (looks - before) > 0)
            writer.close()
            server.close()
        loop = GLib.MainLoop()
        guest = asyncio_guest.start(main(), host=loop, max_iterations=1,
                                    done_callback=lambda outcome: (loop.quit(), outcome.unwrap()))
        loop.run()
    """)
    assert out.splitlines() == ["True"]


def test_a_context_that_fails_is_free_again(run_program: Any) -> None:
    """It stayed acquired: no other thread could run it for good. The error is the first one's."""
    out = run_program("""
        import asyncio, threading
        import asyncio_guest
        from gi.repository import GLib
        def failing(name):
            original = getattr(GLib.MainContext, name)
            def method(self):
                original(self) if name != "push_thread_default" else None
                raise LookupError(name)
            return original, method
        for names in (["push_thread_default"], ["pop_thread_default"], ["release"], ["pop_thread_default", "release"]):
            context = GLib.MainContext()
            originals = {}
            for name in names:
                originals[name], method = failing(name)
                setattr(GLib.MainContext, name, method)
            try:
                asyncio_guest.run(asyncio.sleep(0), host=context)
            except LookupError as exc:
                print(exc)
            for name, original in originals.items():
                setattr(GLib.MainContext, name, original)
            thread = threading.Thread(target=lambda: print(context.acquire()))
            thread.start(); thread.join()
        print(asyncio_guest.run(asyncio.sleep(0, "result"), host=GLib.MainContext()))
    """)
    assert out.splitlines() == [
        "push_thread_default", "True", "pop_thread_default", "True", "release", "True", "pop_thread_default", "True", "result",
    ]  # fmt: skip
