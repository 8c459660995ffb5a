"""Guests in Tk's main loop: what tkinter and Tcl make particular."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

WAYS = [
    pytest.param(("watch", ""), id="watch"),
    pytest.param(("waiter", ""), id="waiter"),
    pytest.param(("watch", "tcl"), id="watch, Tcl's own notifier"),
    pytest.param(("waiter", "tcl"), id="waiter, Tcl's own notifier"),
]

PRELUDE = """
import asyncio, contextlib, gc, os, signal, sys, threading, time, tkinter, warnings
import asyncio_guest
STRATEGY = sys.argv[1]
SHARE = 0.05 if os.environ.get("AG_SANITIZE") else 0.4     # of what the bare host does; instrumented code is slow

def start(coro, host, **options):
    return asyncio_guest.start(coro, host=host, strategy=STRATEGY, **options)

def run(coro, host="tk", **options):
    return asyncio_guest.run(coro, host=host, strategy=STRATEGY, **options)
"""


@pytest.fixture(params=WAYS)
def program(request: Any, run_program: Any, display: str) -> Any:
    """Run a program below `PRELUDE` in each way."""
    import textwrap

    strategy, notifier = request.param

    def run(source: str, **options: Any) -> list[str]:
        source = PRELUDE + textwrap.dedent(source)
        out: str = run_program(source, strategy, display=display, ASYNCIO_GUEST_TK_NOTIFIER=notifier, **options)
        return out.splitlines()

    return run


def test_by_name_without_a_display(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert program("""
        os.environ.pop("DISPLAY")
        async def main():
            await asyncio.sleep(0.01)
            reader, writer = await asyncio.open_connection(*server)
            writer.write(b"ping"); writer.write_eof()
            return await reader.read()
        import socket
        listener = socket.create_server(("127.0.0.1", 0))
        server = listener.getsockname()
        def serve():
            connection, _ = listener.accept()
            connection.sendall(connection.recv(9)[::-1]); connection.close()
        threading.Thread(target=serve).start()
        print(run(main()))
        print(run(asyncio.sleep(0, "again")))
    """) == ["b'gnip'", "again"]


def test_every_thread_may_have_one(program: Any) -> None:
    assert program("""
        results = []
        async def main(i):
            await asyncio.sleep(0.02)
            return await asyncio.to_thread(lambda: i)
        threads = [threading.Thread(target=lambda i=i: results.append(run(main(i)))) for i in range(6)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(sorted(results))
    """) == ["[0, 1, 2, 3, 4, 5]"]


def test_the_users_profile_is_not_run(program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: the interpreter of each thread, as tkinter makes them, ran ~/.Tk.py, below a coroutine of somebody's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".Tk.py").write_text("print('the profile')")
    assert program("""
        thread = threading.Thread(target=run, args=(asyncio.sleep(0),))
        thread.start(); thread.join()
        print(run(asyncio.sleep(0, "no profile")))
    """) == ["no profile"]


def test_thread_ids_are_given_out_again(program: Any) -> None:
    """Tcl takes a thread for the dead one that had its id, and would queue its events to that one."""
    assert program("""
        idents, results = set(), []
        async def main(i):
            await asyncio.sleep(0.001)
            return await asyncio.to_thread(lambda: i)
        def work(i):
            idents.add(threading.get_ident())
            results.append(run(main(i)))
        for i in range(20):
            thread = threading.Thread(target=work, args=(i,))
            thread.start(); thread.join()
        print(results == list(range(20)), len(idents) < 20)
    """) == ["True True"]


def test_the_interpreter_of_another_thread_is_refused(program: Any) -> None:
    assert program("""
        root = tkinter.Tcl()
        root.tk.willdispatch()
        def other():
            try:
                run(asyncio.sleep(0), root)
            except RuntimeError as exc:
                print(exc)
        thread = threading.Thread(target=other)
        thread.start(); thread.join()
    """) == ["this Tcl interpreter belongs to another thread: start the guest on that thread"]


def test_the_application_runs_its_own_main_loop(program: Any) -> None:
    """The guest's end leaves it running."""
    assert program("""
        root = tkinter.Tk()
        async def main():
            await asyncio.sleep(0.01)
            return 7
        def done(outcome):
            print(outcome.unwrap())
            root.after(50, lambda: (print("the host goes on"), root.destroy()))
        start(main(), root, done_callback=done)
        root.mainloop()
    """) == ["7", "the host goes on"]


def test_host_callbacks_wake_the_guest(program: Any) -> None:
    assert program("""
        root = tkinter.Tk()
        async def main():
            loop = asyncio.get_running_loop()
            for act in (
                lambda future: future.set_result(None),
                lambda future: loop.call_soon(future.set_result, None),
                lambda future: loop.call_later(0.001, future.set_result, None),
                lambda future: loop.create_task(asyncio.sleep(0)).add_done_callback(lambda _: future.set_result(None)),
            ):
                future = loop.create_future()
                root.after(20, act, future)
                await asyncio.wait_for(future, 5)
            print("all seen")
        start(main(), root, done_callback=lambda outcome: (outcome.unwrap(), root.destroy()))
        root.mainloop()
    """) == ["all seen"]


def test_update_inside_a_coroutine_and_tasks_inside_update(program: Any) -> None:
    """tkinter's thread state survives each nesting (an abort of the interpreter otherwise)."""
    assert program("""
        root = tkinter.Tk()
        ticks = []
        def tick():
            ticks.append(1)
            root.update_idletasks()
            root.after(1, tick)
        async def toucher():
            while True:
                root.title(str(time.monotonic()))
                await asyncio.sleep(0.001)
        async def main():
            other = asyncio.create_task(toucher())
            tick()
            end = time.monotonic() + 0.3
            while time.monotonic() < end:
                root.update()               # in a turn: host callbacks run, turns are refused
                await asyncio.sleep(0.001)
            other.cancel()
        guest = start(main(), root, done_callback=lambda outcome: (outcome.unwrap(), root.destroy()))
        def host():                         # outside a turn: turns run inside update()
            end = time.monotonic() + 0.2
            while time.monotonic() < end:
                root.update()
        root.after(10, host)
        root.mainloop()
        print(len(ticks) > 10)
    """) == ["True"]


def test_a_nested_loop_in_a_coroutine_does_not_spin(program: Any) -> None:
    assert program("""
        root = tkinter.Tk()
        async def main():
            loop = asyncio.get_running_loop()
            loop.call_soon(lambda: None)
            r, w = os.pipe()
            loop.add_reader(r, lambda: None)
            os.write(w, b"x")               # readable all the time
            root.after(300, lambda: var.set(1))
            cpu = time.process_time()
            root.wait_variable(var)
            cpu = time.process_time() - cpu
            loop.remove_reader(r)
            print(cpu < 0.15, guest.counters["busy"] < 50)
            await asyncio.sleep(0.01)
        var = tkinter.IntVar(root)
        guest = start(main(), root, done_callback=lambda outcome: (outcome.unwrap(), root.destroy()))
        root.mainloop()
    """) == ["True True"]


def test_modal_dialogs_leave_the_tasks_running(program: Any) -> None:
    assert program("""
        root = tkinter.Tk()
        ticks = 0
        async def ticker():
            global ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)
        def dialog(answer):
            top = tkinter.Toplevel(root)
            top.grab_set()
            before = ticks
            top.after(100, top.destroy)
            root.wait_window(top)
            return answer, ticks - before > 3
        async def main():
            other = asyncio.create_task(ticker())
            print(await asyncio_guest.modal(dialog, "yes"))
            try:
                await asyncio_guest.modal(lambda: 1 / 0)
            except ZeroDivisionError:
                print("raised")
            other.cancel()
        start(main(), root, done_callback=lambda outcome: (outcome.unwrap(), root.destroy()))
        root.mainloop()
    """) == ["('yes', True)", "raised"]


@pytest.mark.parametrize("place", ["host", "task"])
def test_the_window_goes_first(program: Any, place: str) -> None:
    assert program(f"""
        root = tkinter.Tk()
        warnings.simplefilter("always")
        async def main():
            try:
                if {place!r} == "task":
                    root.destroy()
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0.01)
                with contextlib.suppress(tkinter.TclError):
                    root.title("gone")
                print("cleaned up")
        with warnings.catch_warnings(record=True) as caught:
            guest = start(main(), root, done_callback=lambda outcome: print(type(outcome.error).__name__))
            if {place!r} == "host":
                root.after(50, root.destroy)
            root.mainloop()
        print([issubclass(warning.category, asyncio_guest.HostDiedWarning) for warning in caught])
        print(guest.done)
        print(run(asyncio.sleep(0, "and another")))
    """) == ["cleaned up", "CancelledError", "[True]", "True", "and another"]


def test_nothing_stays_behind(program: Any) -> None:
    assert program("""
        app = tkinter.Tcl()
        async def main():
            await asyncio.sleep(0)
        def left():
            commands = app.tk.call("info", "commands", "asyncio_guest*")
            return len(os.listdir("/proc/self/fd")), threading.active_count(), commands
        run(main(), app)
        app.after(1, app.quit)
        app.mainloop(-1)                    # Tcl's own notifier opens a pipe at its first sleep
        gc.collect()
        before, references = left(), sys.getrefcount(app.tk)
        for _ in range(200):
            run(main(), app)
        gc.collect()
        print(left() == before, before[2] == "", sys.getrefcount(app.tk) == references)
        # Abandoned by its own request, from a callback of its own and from outside.
        for inside in (True, False):
            guest = start(asyncio.sleep(3600), app, done_callback=lambda outcome: None)
            end = app.after(30, app.quit)
            guest.cancel()
            app.mainloop(-1)
            print(guest.done)
        print(left() == before)
    """) == ["True True True", "True", "True", "True"]


def test_fairness_both_ways(program: Any) -> None:
    assert program("""
        root = tkinter.Tk()
        canvas = tkinter.Canvas(root); canvas.pack()
        box = canvas.create_rectangle(0, 0, 9, 9)
        root.update()
        counts = dict(timers=0, idles=0, guest=0, flood=0)
        def timer():
            counts["timers"] += 1
            root.after(10, timer)
        def idle():
            counts["idles"] += 1
            root.after(10, root.after_idle, idle)
        async def spin(seconds):
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                counts["guest"] += 1
                await asyncio.sleep(0)
        async def main():
            timer(); idle()
            await asyncio.sleep(1)
            bare = dict(counts)
            counts.update(timers=0, idles=0)
            await spin(1)
            print(*(counts[key] > SHARE * bare[key] for key in ("timers", "idles")), counts["guest"] > 300)
            def flood():
                if counts["flood"] >= 0:
                    counts["flood"] += 1
                    root.after(0, flood)
            flood()
            counts["guest"] = 0
            await spin(1)
            print(counts["flood"] > 30, counts["guest"] > 300)
            counts["flood"] = -1
        start(main(), root, done_callback=lambda outcome: (outcome.unwrap(), root.destroy()))
        root.mainloop()
    """) == ["True True True", "True True"]


def test_ctrl_c(program: Any) -> None:
    assert program("""
        async def main():
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                await asyncio.sleep(3600)
            finally:
                print("cancelled")
        start_time = time.monotonic()
        try:
            run(main())
        except KeyboardInterrupt:
            print("interrupted", time.monotonic() - start_time < 5)
    """) == ["cancelled", "interrupted True"]


def test_an_idle_guest_costs_nothing(program: Any) -> None:
    assert program("""
        root = tkinter.Tk()
        async def main():
            await asyncio.sleep(0.5)
            # From the host's side: the guest's own look would be a turn.
            root.after(100, look)
            await asyncio.get_running_loop().create_future()
        def look():
            before.update(guest.counters)
            root.after(1000, compare)
        def compare():
            print({key: value - before[key] for key, value in guest.counters.items()
                   if key in ("turns", "wakes", "posts", "iterations") and value != before[key]})
            guest.cancel()
        before = {}
        guest = start(main(), root, done_callback=lambda outcome: root.destroy())
        root.mainloop()
    """) == ["{}"]


def test_signals_and_errors_do_not_end_the_main_loop(program: Any) -> None:
    assert program("""
        root = tkinter.Tk()
        async def main():
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda loop, context: print("handled", context["exception"]))
            def fail():
                raise ValueError("in a callback")
            loop.call_soon(fail)
            got = asyncio.Event()
            loop.add_signal_handler(signal.SIGUSR1, got.set)
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.wait_for(got.wait(), 5)
            loop.remove_signal_handler(signal.SIGUSR1)
            await asyncio.sleep(0.01)
            raise KeyError("of the task")
        def done(outcome):
            print(repr(outcome.error))
            root.after(10, lambda: (print("the host goes on"), root.destroy()))
        start(main(), root, done_callback=done)
        root.mainloop()
    """) == ["handled in a callback", "KeyError('of the task')", "the host goes on"]
