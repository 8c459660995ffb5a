"""The host driver of tkinter: the host's side of a conformance case, by tkinter's own API.

It knows no guest, so any event loop that runs in Tk can be judged with it.
"""

from __future__ import annotations

import tkinter
from collections.abc import Callable
from tkinter import messagebox
from typing import Any

from .._driver import WindowDriver

_FRAME_MS = 16


class _Timer:
    """A timer of Tk: one `after` script at a time."""

    def __init__(self, driver: TkDriver, ms: int, fn: Callable[[], Any], repeat: bool) -> None:
        self._driver = driver
        self._root = root = driver._root
        self._ms = ms
        self._fn = fn
        self._repeat = repeat
        self._id: str | None = root.after(ms, self._fire)

    def _fire(self) -> None:
        # The next one first: a handler that raises or opens a nested loop does not stop the ticks.
        self._id = self._root.after(self._ms, self._fire) if self._repeat else None
        self._fn()

    def cancel(self) -> None:
        if self._id is not None and self._driver._open:
            self._root.after_cancel(self._id)
        self._id = None


class _Frames:
    """Gives the canvas a new colour 60 times a second and counts those that reached the X server."""

    def __init__(self, driver: TkDriver) -> None:
        self._canvas = driver._canvas
        self._root = driver._root
        self._number = 0
        self._root.update_idletasks()
        self._witness = driver.witness(self._canvas.winfo_id(), 10, 10)
        self._timer = _Timer(driver, _FRAME_MS, self._step, True)

    def _step(self) -> None:
        # Only asks for a redraw: Tk draws the canvas when it is idle, and two steps without an
        # idle moment between them make one frame.
        self._number += 1
        self._canvas.itemconfigure("box", fill=f"#{self._number * 7919 % 0x1000000:06x}")

    def stop(self) -> int:
        self._timer.cancel()
        return self._witness.stop()


class TkDriver(WindowDriver):
    """The driver; see ``scenarios.driver.HostDriver`` for the methods."""

    name = "tk"
    abilities = frozenset({"host", "loop", "modal", "nested", "flood", "timer", "idle"})
    flood_kinds = ("timer", "idle")
    """Not "event": Tcl serves its queue of events before anything else, so a chain of them starves the
    bare host's own timers and descriptors."""

    def __init__(self, window: bool) -> None:
        super().__init__(window)
        self._root = tkinter.Tk(className="Conformance")
        self._vars: list[tkinter.BooleanVar] = []
        self._modals: list[str] = []
        self._open = True
        if window:
            self._build()
        else:
            self._root.withdraw()
            # Tk maps a new window in an idle call that does not return while there are others: a flood of them
            # that begins before it has had its turn, on a busy machine, never ends.
            self._root.update_idletasks()

    def _build(self) -> None:
        root = self._root
        root.title("conformance")
        root.geometry("320x200+20+20")
        self._canvas = tkinter.Canvas(root, width=300, height=80, highlightthickness=0, bd=0)
        self._canvas.create_rectangle(0, 0, 300, 80, fill="#000000", width=0, tags="box")
        self._canvas.pack()
        self._button = tkinter.Button(root, text="test", command=self.clicked, takefocus=0)
        self._button.pack()
        self._entry = tkinter.Entry(root)
        self._entry.pack()
        self._menu = tkinter.Menu(root, tearoff=0)
        self._menu.add_command(label="one")
        self._menu.add_command(label="two")
        root.wait_visibility()
        root.update()

    # Callbacks

    def call_from_host(self, fn: Callable[[], Any]) -> None:
        self._root.after(0, fn)

    def host_timer(self, ms: int, fn: Callable[[], Any], *, repeat: bool = False) -> _Timer:
        return _Timer(self, ms, fn, repeat)

    def host_idle(self, fn: Callable[[], Any]) -> None:
        self._root.after_idle(fn)

    # Nested loops

    def nested_loop(self, *, until: Callable[[], bool] | None = None, ms: int | None = None) -> None:
        var = tkinter.BooleanVar(self._root, False)
        self._vars.append(var)
        try:
            with self.ended_by(lambda: var.set(True), until, ms):
                self._root.wait_variable(var)
        finally:
            self._vars.remove(var)

    def end_nested(self) -> None:
        self._vars[-1].set(True)

    def open_modal(self, on_open: Callable[[], Any]) -> str:
        self.need("modal")
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
        self.need("window")

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

    def flood_on(self, kind: str, step: Callable[[], None]) -> None:
        if kind == "timer":
            self._root.after(0, step)
        else:
            self._root.after_idle(step)

    def count_frames(self) -> _Frames:
        return _Frames(self)

    # Input

    def on_screen(self, x: int, y: int) -> tuple[int, int]:
        return self._root.winfo_rootx() + x, self._root.winfo_rooty() + y

    def button_centre(self) -> tuple[int, int]:
        button = self._button
        return (
            button.winfo_rootx() + button.winfo_width() // 2,
            button.winfo_rooty() + button.winfo_height() // 2,
        )

    def take_keyboard(self) -> None:
        self._entry.focus_force()
        self._root.update_idletasks()

    def typed(self) -> str:
        return self._entry.get()

    # The application's main loop

    def destroy_window(self) -> None:
        self.need("window")
        self._open = False
        self._root.destroy()

    def quit(self) -> None:
        self._root.quit()

    def run(self) -> None:
        self._root.mainloop()

    def toolkit(self) -> tkinter.Tk:
        return self._root

    def close(self) -> None:
        super().close()
        if self._open:
            self._open = False
            try:
                self._root.destroy()
            except tkinter.TclError:
                pass  # destroyed by somebody else


def make_driver(window: bool = False) -> TkDriver:
    """A driver with a Tk of its own; `window`: shown, with a canvas, a button and an entry.

    Tk has one interpreter for one root window: without a window there is a withdrawn one, and a display
    is needed all the same.  Raises tkinter.TclError without a display.
    """
    return TkDriver(window)
