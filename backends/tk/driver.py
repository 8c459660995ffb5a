"""The host driver of tkinter: the host's side of a conformance case, by tkinter's own API.

It knows no guest, so any event loop that runs in Tk can be judged with it.
"""

from __future__ import annotations

import tkinter
from collections.abc import Callable
from tkinter import messagebox
from typing import Any

from .. import _x11

_FRAME_MS = 16


class _Timer:
    """A timer of Tk: one `after` script at a time."""

    def __init__(self, root: tkinter.Tk, ms: int, fn: Callable[[], Any], repeat: bool) -> None:
        self._root = root
        self._ms = ms
        self._fn = fn
        self._repeat = repeat
        self._id: str | None = root.after(ms, self._fire)

    def _fire(self) -> None:
        # The next one first: a handler that raises or opens a nested loop does not stop the ticks.
        self._id = self._root.after(self._ms, self._fire) if self._repeat else None
        self._fn()

    def cancel(self) -> None:
        if self._id is not None:
            self._root.after_cancel(self._id)
            self._id = None


class _Frames:
    """Gives the canvas a new colour 60 times a second and counts those that reached the X server."""

    def __init__(self, driver: TkDriver) -> None:
        self._canvas = driver._canvas
        self._root = driver._root
        self._number = 0
        self._root.update_idletasks()
        self._witness = _x11.Witness(self._canvas.winfo_id(), 10, 10)
        driver._witnesses.append(self._witness)
        self._timer = _Timer(self._root, _FRAME_MS, self._step, True)

    def _step(self) -> None:
        # Only asks for a redraw: Tk draws the canvas when it is idle, and two steps without an
        # idle moment between them make one frame.
        self._number += 1
        self._canvas.itemconfigure("box", fill=f"#{self._number * 7919 % 0x1000000:06x}")

    def stop(self) -> int:
        self._timer.cancel()
        return self._witness.stop()


class TkDriver:
    """The driver; see ``scenarios.driver.HostDriver`` for the methods."""

    name = "tk"
    flood_kinds: tuple[str, ...] = ("timer", "idle")
    """Not "event": Tcl serves its queue of events before anything else, so a chain of them starves the
    bare host's own timers and descriptors."""

    def __init__(self, window: bool) -> None:
        self._root = tkinter.Tk(className="Conformance")
        self._window = window
        self._vars: list[tkinter.BooleanVar] = []
        self._modals: list[str] = []
        self._witnesses: list[_x11.Witness] = []
        self._clicks: list[Callable[[], Any]] = []
        self._open = True
        abilities = {"host", "loop", "modal", "nested", "flood", "timer", "idle"}
        if window:
            abilities |= {"window", "paint", "input"}
            self._build()
        else:
            self._root.withdraw()
        self.abilities = frozenset(abilities)

    def _build(self) -> None:
        root = self._root
        root.title("conformance")
        root.geometry("320x200+20+20")
        self._canvas = tkinter.Canvas(root, width=300, height=80, highlightthickness=0, bd=0)
        self._canvas.create_rectangle(0, 0, 300, 80, fill="#000000", width=0, tags="box")
        self._canvas.pack()
        self._button = tkinter.Button(root, text="test", command=self._clicked, takefocus=0)
        self._button.pack()
        self._entry = tkinter.Entry(root)
        self._entry.pack()
        self._menu = tkinter.Menu(root, tearoff=0)
        self._menu.add_command(label="one")
        self._menu.add_command(label="two")
        root.wait_visibility()
        root.update()

    def _need(self, ability: str) -> None:
        if ability not in self.abilities:
            raise _x11.unsupported(ability)

    def _clicked(self) -> None:
        for fn in list(self._clicks):
            fn()

    # Callbacks

    def call_from_host(self, fn: Callable[[], Any]) -> None:
        self._root.after(0, fn)

    def host_timer(self, ms: int, fn: Callable[[], Any], *, repeat: bool = False) -> _Timer:
        return _Timer(self._root, ms, fn, repeat)

    def host_idle(self, fn: Callable[[], Any]) -> None:
        self._root.after_idle(fn)

    # Nested loops

    def nested_loop(self, *, until: Callable[[], bool] | None = None, ms: int | None = None) -> None:
        var = tkinter.BooleanVar(self._root, False)
        self._vars.append(var)
        timers: list[_Timer] = []
        if until is not None:
            condition = until

            def ask() -> None:
                if condition():
                    var.set(True)

            timers.append(_Timer(self._root, 5, ask, True))
        if ms is not None:
            timers.append(_Timer(self._root, ms, lambda: var.set(True), False))
        try:
            self._root.wait_variable(var)
        finally:
            self._vars.remove(var)
            if self._open:
                for timer in timers:
                    timer.cancel()

    def end_nested(self) -> None:
        self._vars[-1].set(True)

    def open_modal(self, on_open: Callable[[], Any]) -> str:
        self._need("modal")
        # Tk names its message box after its parent: each nested one gets a parent of its own.
        parent: tkinter.Misc = self._root
        if self._modals:
            parent = tkinter.Toplevel(self._root)
        path = f"{'' if parent is self._root else str(parent)}.__tk__messagebox"
        self._modals.append(path)

        def look() -> None:
            if int(self._root.tk.call("winfo", "exists", path)) and int(self._root.tk.call("winfo", "viewable", path)):
                on_open()
            elif path in self._modals:
                self._root.after(5, look)

        self._root.after(1, look)
        try:
            answer = messagebox.askokcancel("conformance", "A modal dialog.", parent=parent)
        finally:
            self._modals.remove(path)
            if parent is not self._root and self._open:
                parent.destroy()
        return "ok" if answer else "cancel"

    def close_modal(self, answer: str = "ok") -> None:
        self._root.tk.call(f"{self._modals[-1]}.{answer}", "invoke")

    def open_menu(self, on_open: Callable[[], Any]) -> None:
        self._need("window")

        def look() -> None:
            if self._menu.winfo_viewable():
                on_open()
            else:
                self._root.after(5, look)

        self._root.after(1, look)
        self._menu.tk_popup(self._root.winfo_rootx() + 40, self._root.winfo_rooty() + 40)

    def close_menu(self) -> None:
        self._menu.unpost()
        self._menu.grab_release()

    def process_events(self) -> None:
        self._root.update()

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
            if kind == "timer":
                self._root.after(0, step)
            else:
                self._root.after_idle(step)

        def stop() -> int:
            nonlocal stopped
            stopped = True
            return count

        again()
        return stop

    def frames(self) -> _Frames:
        self._need("paint")
        return _Frames(self)

    # Input

    def inject_input(self, what: str, arg: Any = None) -> None:
        self._need("input")
        if what == "click":
            _x11.click(*_centre(self._button))
        elif what == "key":
            self._entry.focus_force()
            self._root.update_idletasks()
            _x11.key(arg)
        elif what == "move":
            x, y = arg if arg is not None else (5, 5)
            _x11.move(self._root.winfo_rootx() + x, self._root.winfo_rooty() + y)
        elif what in ("press", "release"):
            _x11.button(what == "press")
        else:
            raise ValueError(f"unknown input {what!r}")

    def on_click(self, fn: Callable[[], Any]) -> None:
        self._need("window")
        self._clicks.append(fn)

    def entry_text(self) -> str:
        self._need("window")
        return self._entry.get()

    # The application's main loop

    def destroy_window(self) -> None:
        self._need("window")
        self._open = False
        self._root.destroy()

    def quit(self) -> None:
        self._root.quit()

    def run(self) -> None:
        self._root.mainloop()

    def toolkit(self) -> tkinter.Tk:
        return self._root

    def close(self) -> None:
        for witness in self._witnesses:
            witness.kill()
        if self._open:
            self._open = False
            try:
                self._root.destroy()
            except tkinter.TclError:
                pass  # destroyed by somebody else


def _centre(widget: tkinter.Widget) -> tuple[int, int]:
    return (
        widget.winfo_rootx() + widget.winfo_width() // 2,
        widget.winfo_rooty() + widget.winfo_height() // 2,
    )


def make_driver(window: bool = False) -> TkDriver:
    """A driver with a Tk of its own; `window`: shown, with a canvas, a button and an entry.

    Tk has one interpreter for one root window: without a window there is a withdrawn one, and a display
    is needed all the same.  Raises tkinter.TclError without a display.
    """
    return TkDriver(window)
