"""Guests in GLib's main loop: what GLib and GTK make particular."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

PRELUDE = """
import asyncio, contextlib, gc, os, signal, sys, threading, time, warnings
import asyncio_guest
import gi
gi.require_version("Gtk", "3.0")
from gi.repository import Gio, GLib
STRATEGY = sys.argv[1]
SHARE = 0.05 if os.environ.get("AG_SANITIZE") else 0.4     # of what the bare host does; instrumented code is slow

def start(coro, host="gtk3", **options):
    return asyncio_guest.start(coro, host=host, strategy=STRATEGY, **options)

def run(coro, host="gtk3", **options):
    return asyncio_guest.run(coro, host=host, strategy=STRATEGY, **options)
"""


@pytest.fixture(params=["watch", "waiter"])
def program(request: Any, run_program: Any, display: str) -> Any:
    """Run a program below `PRELUDE` with each strategy."""

    def run(source: str, **options: Any) -> list[str]:
        out: str = run_program(PRELUDE + textwrap.dedent(source), request.param, display=display, **options)
        return out.splitlines()

    return run


def test_by_name_and_without_gtk(program: Any) -> None:
    assert program("""
        print(run(asyncio.sleep(0.01, "once")), run(asyncio.sleep(0.01, "again")))
        print("gi.repository.Gtk" in sys.modules)
    """) == ["once again", "False"]


def test_the_programs_own_main_loops(program: Any) -> None:
    assert program("""
        from gi.repository import Gtk
        async def main():
            await asyncio.sleep(0.01)
            return await asyncio.to_thread(lambda: 7)

        loop = GLib.MainLoop()
        start(main(), loop, done_callback=lambda outcome: (print(outcome.unwrap()), loop.quit()))
        loop.run()

        app = Gtk.Application(application_id="org.example.Guest", flags=Gio.ApplicationFlags.NON_UNIQUE)
        def activate(app):
            app.hold()
            start(main(), app, done_callback=lambda outcome: (print(outcome.unwrap()), app.release()))
        app.connect("activate", activate)
        print(app.run())

        window = Gtk.Window()
        def done(outcome):
            print(outcome.unwrap())
            GLib.timeout_add(50, lambda: (print("the host goes on"), Gtk.main_quit()) and None)
        start(main(), window, done_callback=done)
        Gtk.main()
    """) == ["7", "7", "0", "7", "the host goes on"]


def test_contexts_and_threads(program: Any) -> None:
    assert program("""
        async def main():
            await asyncio.sleep(0.01)
            return threading.current_thread().name
        def refused():
            try:
                run(main())
            except RuntimeError as exc:
                print(exc)
        def by_default():
            context = GLib.MainContext()
            context.push_thread_default()
            print(run(main()))
            context.pop_thread_default()
        def by_object():
            print(run(main(), GLib.MainContext()))
        for fn in (refused, by_default, by_object):
            thread = threading.Thread(target=fn, name=fn.__name__)
            thread.start(); thread.join()

        # A context that another thread runs at the moment.
        context, ready, done = GLib.MainContext(), threading.Event(), threading.Event()
        def owner():
            context.acquire(); ready.set(); done.wait(); context.release()
        thread = threading.Thread(target=owner)
        thread.start(); ready.wait()
        try:
            run(main(), context)
        except RuntimeError as exc:
            print(exc)
        done.set(); thread.join()
    """) == [
        "this thread has no GLib main context: push one as its thread default, or give it as the host",
        "by_default",
        "by_object",
        "another thread runs this GLib main context: start the guest on that thread",
    ]


def test_host_callbacks_wake_the_guest(program: Any) -> None:
    assert program("""
        async def main():
            loop = asyncio.get_running_loop()
            for act in (
                lambda future: future.set_result(None),
                lambda future: (loop.call_soon(future.set_result, None), None)[1],
                lambda future: (loop.call_later(0.001, future.set_result, None), None)[1],
                lambda future: loop.create_task(asyncio.sleep(0)).add_done_callback(lambda _: future.set_result(None)),
            ):
                for add in (lambda *args: GLib.timeout_add(20, *args), GLib.idle_add):
                    future = loop.create_future()
                    add(act, future)
                    await asyncio.wait_for(future, 5)
            print("all seen")
        run(main())
    """) == ["all seen"]


def test_nested_loops(program: Any) -> None:
    """In a coroutine: turns are refused, nothing spins. In a host callback and in modal(): turns go on."""
    assert program("""
        ticks = 0
        async def ticker():
            global ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)
        def nested(seconds=0.3):
            before, cpu = ticks, time.process_time()
            loop = GLib.MainLoop()
            GLib.timeout_add(int(seconds * 1000), loop.quit)
            loop.run()
            return ticks - before, time.process_time() - cpu
        async def main():
            loop = asyncio.get_running_loop()
            other = asyncio.create_task(ticker())
            await asyncio.sleep(0.05)
            r, w = os.pipe()
            os.write(w, b"x")
            loop.add_reader(r, lambda: None)     # readable all the time
            moved, cpu = nested()
            loop.remove_reader(r)
            print(moved, cpu < 0.1, guest.counters["busy"] < 50)
            moved, cpu = await asyncio_guest.modal(nested)
            print(moved > 10)
            future = loop.create_future()
            GLib.idle_add(lambda: future.set_result(nested()))
            moved, cpu = await future
            print(moved > 10)
            other.cancel()
        app = GLib.MainLoop()
        guest = start(main(), app, done_callback=lambda outcome: (app.quit(), outcome.unwrap()))
        app.run()
    """) == ["0 True True", "True", "True"]


def test_fairness_both_ways(program: Any) -> None:
    assert program("""
        from asyncio_guest.backends.gtk3.driver import make_driver
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
            for kind in ("timer", "idle"):
                stop = host.flood(kind)
                _, _, spun, share = await measure(spin)
                print(stop() > 10 * share, spun > 100 * share)
        start(main(), host.toolkit(), done_callback=lambda outcome: (host.quit(), outcome.unwrap()))
        host.run()
        host.close()
    """) == ["True True True", "True True", "True True"]


def test_nothing_stays_behind(program: Any) -> None:
    assert program("""
        context = GLib.MainContext.default()
        def left():
            return len(os.listdir("/proc/self/fd")), threading.active_count()
        run(asyncio.sleep(0))
        gc.collect()
        before, references = left(), sys.getrefcount(context)
        for _ in range(200):
            run(asyncio.sleep(0), context)
        gc.collect()
        print(left() == before, sys.getrefcount(context) == references)
        guest = start(asyncio.sleep(3600), done_callback=lambda outcome: None)
        guest.cancel()
        while not guest.done:
            context.iteration(True)
        print(left() == before, context.iteration(False))
    """) == ["True True", "True False"]


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


def test_ctrl_c_in_the_programs_own_main_loop(program: Any) -> None:
    assert program("""
        from gi.repository import Gtk
        async def main():
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            await asyncio.sleep(3600)
        began = time.monotonic()
        outcomes = []
        start(main(), done_callback=lambda outcome: (outcomes.append(outcome), Gtk.main_quit()))
        Gtk.main()
        print(repr(outcomes[0].error), time.monotonic() - began < 5)
    """) == ["KeyboardInterrupt() True"]


def test_an_idle_guest_costs_nothing(program: Any) -> None:
    assert program("""
        async def main():
            await asyncio.sleep(0.3)
            # From the host's side: the guest's own look would be a turn.
            GLib.timeout_add(100, look)
            await asyncio.get_running_loop().create_future()
        def look():
            before.update(guest.counters)
            GLib.timeout_add(1000, compare)
        def compare():
            print({key: value - before[key] for key, value in guest.counters.items()
                   if key in ("turns", "wakes", "posts", "iterations") and value != before[key]})
            guest.cancel()
        before = {}
        loop = GLib.MainLoop()
        guest = start(main(), loop, done_callback=lambda outcome: loop.quit())
        loop.run()
    """) == ["{}"]
