"""The notifier is a complete one: programs that use every part of it, each in a process of its own."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

CLICKS = """
    import sys
    def notifier():
        from asyncio_guest.backends.tk import use_notifier
        print(use_notifier())

    order = sys.argv[1]
    if order == "before-import":
        notifier()
    import tkinter
    if order == "after-import":
        notifier()
    if order == "after-destroyed":
        gone = tkinter.Tk()
        gone.update()
        gone.destroy()
        notifier()
    root = tkinter.Tk()
    root.geometry("200x100+10+10")
    clicks = []
    button = tkinter.Button(root, text="x")
    button.bind("<ButtonRelease-1>", lambda event: clicks.append(1))
    button.pack(fill="both", expand=True)
    root.wait_visibility()
    root.update()
    if order == "while-open":
        notifier()

    from asyncio_guest.backends import _x11
    def click(left):
        _x11.click(button.winfo_rootx() + 20, button.winfo_rooty() + 20)
        if left > 1:
            root.after(50, click, left - 1)
        else:
            end()
    def end(tries=100):
        if len(clicks) >= 3 or not tries:
            root.quit()
        else:
            root.after(20, end, tries - 1)
    root.after(50, click, 3)
    root.mainloop()
    print(len(clicks))
"""


@pytest.mark.parametrize(
    ("order", "state"),
    [
        ("before-import", "in-thread"),
        ("after-import", "in-thread"),
        ("while-open", "in-thread, handlers handed over"),
        ("after-destroyed", "in-thread, handlers handed over"),
    ],
)
def test_a_real_pointer_arrives_in_every_order(run_program: Any, display: str, order: str, state: str) -> None:
    assert run_program(CLICKS, order, display=display).splitlines() == [state, "3"]


def test_stays_away_when_another_thread_runs_tcl(run_program: Any) -> None:
    out = run_program("""
        import os, sys, threading, tkinter
        from asyncio_guest.backends.tk import use_notifier
        ready = threading.Event()
        def other():
            tcl = tkinter.Tcl()
            tcl.after(0, ready.set)
            while not stop:
                tcl.tk.dooneevent(0)
        stop = []
        thread = threading.Thread(target=other)
        tcl = tkinter.Tcl()
        thread.start()
        ready.wait()
        print(use_notifier())
        # It goes on as before.
        r, w = os.pipe()
        seen = []
        tcl.tk.createfilehandler(r, tkinter.READABLE, lambda *_: (seen.append(os.read(r, 9)), seen.append(1)))
        os.write(w, b"x")
        while not seen:
            tcl.tk.dooneevent(0)
        print(seen)
        stop.append(1)
        sys.stdout.flush()
        os._exit(0)                          # the other thread is asleep in Tcl for good
    """)
    assert out.splitlines() == ["Tcl's own: another thread already runs Tcl", "[b'x', 1]"]


def test_the_environment_can_forbid_it(run_program: Any) -> None:
    out = run_program("import asyncio_guest.tk as tk; print(tk.notifier)", ASYNCIO_GUEST_TK_NOTIFIER="tcl")
    assert out == "Tcl's own: ASYNCIO_GUEST_TK_NOTIFIER=tcl\n"


def test_every_thread_has_its_own_set_and_gives_it_back(run_program: Any) -> None:
    out = run_program("""
        import asyncio_guest.tk, os, threading, time, tkinter

        def fds():
            return len(os.listdir("/proc/self/fd"))

        def work(results):
            tcl = tkinter.Tcl()
            r, w = os.pipe()
            got = []
            tcl.tk.createfilehandler(r, tkinter.READABLE, lambda *_: got.append(os.read(r, 9)))
            tcl.after(20, lambda: os.write(w, b"x"))
            while not got:
                tcl.tk.dooneevent(0)
            tcl.tk.deletefilehandler(r)
            os.close(r), os.close(w)
            results.append(got)
            del tcl

        before = fds()
        # Several rounds: the system gives a thread's id out again, and Tcl then knows the new thread by its old handle.
        for _ in range(5):
            results = []
            threads = [threading.Thread(target=work, args=(results,)) for _ in range(8)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            assert results == [[b"x"]] * 8, results
        deadline = time.monotonic() + 5      # a thread is joined a moment before it is quite gone
        while fds() > before and time.monotonic() < deadline:
            time.sleep(0.01)
        print(fds() - before)
    """)
    assert out == "0\n"


def test_calls_from_another_thread_wake_the_sleeping_one(run_program: Any) -> None:
    out = run_program("""
        import asyncio_guest.tk, threading, time, tkinter
        for round in range(3):
            def other():
                for i in range(2000):
                    root.setvar("n", i)      # tkinter: a Tcl event for the interpreter's thread, an alert, and a wait
                root.call("set", "done", 1)
            root = tkinter.Tcl().tk
            root.willdispatch()
            thread = threading.Thread(target=other)
            thread.start()
            root.call("vwait", "done")
            thread.join()
            print(root.getvar("n"))
    """)
    assert out == "1999\n" * 3


def test_a_forked_child_has_a_set_of_its_own(run_program: Any) -> None:
    out = run_program("""
        import asyncio_guest.tk, os, tkinter
        tcl = tkinter.Tcl().tk
        r, w = os.pipe()
        got = []
        tcl.createfilehandler(r, tkinter.READABLE, lambda *_: got.append(os.read(r, 1)))
        if (pid := os.fork()) == 0:
            os.write(w, b"c")
            while not got:
                tcl.dooneevent(0)
            tcl.deletefilehandler(r)     # of a shared set this would silence the parent
            os._exit(got != [b"c"])
        assert os.waitpid(pid, 0)[1] == 0
        os.write(w, b"p")
        while not got:
            tcl.dooneevent(0)
        print(got)
    """)
    assert out == "[b'p']\n"


def test_regular_files_are_always_ready(run_program: Any, tmp_path: Any) -> None:
    (tmp_path / "file").write_text("line\n")
    out = run_program(
        """
        import asyncio_guest.tk, os, sys, tkinter
        tcl = tkinter.Tcl().tk
        fd = os.open(sys.argv[1], os.O_RDONLY)
        got = []
        def ready(file, mask):
            got.append(os.read(fd, 99))
            if not got[-1]:
                tcl.deletefilehandler(fd)
        tcl.createfilehandler(fd, tkinter.READABLE, ready)
        while len(got) < 2:
            tcl.dooneevent(0)
        print(got, tcl.dooneevent(tkinter._tkinter.DONT_WAIT))
        """,
        str(tmp_path / "file"),
    )
    assert out == "[b'line\\n', b''] 0\n"


def test_a_descriptor_closed_without_a_word_does_not_spin(run_program: Any) -> None:
    out = run_program("""
        import asyncio_guest.tk, os, time, tkinter
        tcl = tkinter.Tcl()
        r, w = os.pipe()
        os.write(w, b"x")
        twin = os.dup(r)
        tcl.tk.createfilehandler(r, tkinter.READABLE, lambda *_: None)
        os.close(r)                          # the epoll set goes on reporting it for the sake of its twin
        tcl.tk.deletefilehandler(r)
        tcl.after(300, lambda: tcl.setvar("done", 1))
        cpu = time.process_time()
        tcl.tk.call("vwait", "done")
        print(time.process_time() - cpu < 0.1)
    """)
    assert out == "True\n"


def test_a_handler_switched_off_and_on(run_program: Any) -> None:
    out = run_program("""
        import asyncio_guest.tk, os, time, tkinter
        tcl = tkinter.Tcl()
        tk = tcl.tk
        r, w = os.pipe()
        os.write(w, b"x")
        got = []
        take = lambda *_: got.append(os.read(r, 1))
        tk.createfilehandler(r, tkinter.READABLE, take)
        tk.createfilehandler(r, 0, take)     # off, and readable
        tcl.after(200, lambda: tcl.setvar("done", 1))
        cpu = time.process_time()
        tk.call("vwait", "done")
        print(got, time.process_time() - cpu < 0.1)
        tk.createfilehandler(r, tkinter.READABLE, take)
        tk.dooneevent(0)
        print(got)
    """)
    assert out == "[] True\n[b'x']\n"


def test_ctrl_c_ends_a_sleeping_main_loop_at_once(run_program: Any, display: str) -> None:
    out = run_program(
        """
        import asyncio_guest.tk, os, signal, threading, time, tkinter
        root = tkinter.Tk()
        root.update()
        def interrupt():
            global sent
            sent = time.monotonic()
            os.kill(os.getpid(), signal.SIGINT)
        timer = threading.Timer(0.3, interrupt)
        root.after(50, timer.start)
        try:
            root.mainloop()
        except KeyboardInterrupt:
            print(time.monotonic() - sent < 2)
        """,
        display=display,
    )
    assert out == "True\n"


def test_timers_keep_their_time(run_program: Any) -> None:
    out = run_program("""
        import asyncio_guest.tk, time, tkinter
        tcl = tkinter.Tcl()
        late = []
        for ms in (1, 2, 5, 10, 20, 30):
            start = time.monotonic()
            tcl.after(ms, lambda: tcl.setvar("done", 1))
            tcl.tk.call("vwait", "done")
            late.append(time.monotonic() - start - ms / 1000)
        print(min(late) > -0.0011, min(late) < 0.005)
    """)
    assert out == "True True\n"


def test_more_descriptors_than_select_knows(run_program: Any) -> None:
    """Tcl's own notifier stops at 1024."""
    out = run_program("""
        import asyncio_guest.tk, os, resource, tkinter
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        want = 2100 if hard == resource.RLIM_INFINITY else min(2100, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, want), hard))
        tcl = tkinter.Tcl().tk
        spare = [os.dup(0) for _ in range(1100)]
        r, w = os.pipe()
        assert r > 1024
        got = []
        tcl.createfilehandler(r, tkinter.READABLE, lambda *_: got.append(os.read(r, 1)))
        os.write(w, b"x")
        while not got:
            tcl.dooneevent(0)
        print(got)
    """)
    assert out == "[b'x']\n"


@pytest.mark.skipif(importlib.util.find_spec("test.test_tcl") is None, reason="needs libpython3-testsuite")
def test_cpythons_own_tkinter_tests_pass_under_it(run_program: Any, display: str) -> None:
    out = run_program(
        """
        import asyncio_guest.tk, sys
        from test.libregrtest.main import main  # a module of that name, from 3.13 on
        assert asyncio_guest.tk.notifier == "in-thread"
        sys.argv[1:] = ["-u", "gui", "test_tcl", "test_tk", "test_ttk_textonly", "test_ttk_guionly"]
        main()
        """,
        display=display,
        timeout=240,
    )
    assert "4 tests OK" in out, out
