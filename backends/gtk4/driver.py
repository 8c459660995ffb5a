"""The host driver of GTK 4: the host's side of a conformance case, by PyGObject's own API.

It knows no guest, so any event loop that runs in GTK 4 can be judged with it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import gi

gi.require_version("Gtk", "4.0")
gi.require_version("Gdk", "4.0")
gi.require_version("GdkX11", "4.0")
gi.require_version("Graphene", "1.0")
from gi.repository import Gdk, GdkX11, Gio, GLib, Graphene, Gtk  # noqa: E402

from .._driver import WindowDriver  # noqa: E402
from ..glib.driver import GlibDriver  # noqa: E402

WIDTH, HEIGHT = 300, 80
"""Of the picture that frames are drawn in."""


def _picture(number: int) -> Gdk.Texture:
    """A picture of one colour, another for each number."""
    colour = (number * 7919 % 0x1000000 << 8 | 0xFF).to_bytes(4, "big")
    return Gdk.MemoryTexture.new(
        WIDTH, HEIGHT, Gdk.MemoryFormat.R8G8B8A8, GLib.Bytes.new(colour * (WIDTH * HEIGHT)), WIDTH * 4
    )


class _Frames:
    """Shows a picture of a new colour at each tick of the frame clock, and counts those that reached the X server."""

    def __init__(self, driver: Gtk4Driver) -> None:
        self._widget = driver._picture
        self._number = 0
        x, y = driver._place(self._widget, 10, 10)
        self._witness = driver.witness(driver._xid(), x, y)
        self._tick: int | None = self._widget.add_tick_callback(self._on_tick)

    def _on_tick(self, widget: Gtk.Widget, clock: Gdk.FrameClock) -> bool:
        # Only asks for a redraw: GTK draws in the paint phase of the frame clock.
        self._number += 1
        self._widget.set_paintable(_picture(self._number))
        return True

    def stop(self) -> int:
        if self._tick is not None:
            self._widget.remove_tick_callback(self._tick)
            self._tick = None
        return self._witness.stop()


class Gtk4Driver(WindowDriver, GlibDriver):
    """The driver; see ``scenarios.driver.HostDriver`` for the methods."""

    name = "gtk4"
    abilities = GlibDriver.abilities | {"modal"}

    def __init__(self, window: bool) -> None:
        if not Gtk.init_check():
            raise RuntimeError("GTK cannot open the display")
        WindowDriver.__init__(self, window)
        GlibDriver.__init__(self)
        self._modals: list[_Dialog] = []
        self._toplevel: Gtk.Window | None = None
        if window:
            self.flood_kinds = (*self.flood_kinds, "event")
            self._build()

    def _build(self) -> None:
        settings = Gtk.Settings.get_default()
        settings.set_property("gtk-cursor-blink", False)
        settings.set_property("gtk-enable-animations", False)
        # Without a title bar of GTK's own the window's corner is the surface's.
        window = Gtk.Window(title="conformance", decorated=False)
        window.set_default_size(320, 200)
        box = Gtk.Box(orientation=Gtk.Orientation.VERTICAL)
        self._picture = Gtk.Picture.new_for_paintable(_picture(0))
        self._picture.set_size_request(WIDTH, HEIGHT)
        self._button = Gtk.Button(label="test", can_focus=False)
        self._button.connect("clicked", self.clicked)
        self._entry = Gtk.Entry()
        for widget in (self._picture, self._button, self._entry):
            box.append(widget)
        window.set_child(box)
        window.connect("destroy", self._destroyed)
        menu = Gio.Menu()
        for label in ("one", "two"):
            menu.append(label, None)
        self._menu = Gtk.PopoverMenu.new_from_model(menu)
        self._menu.set_parent(box)
        painted = GLib.MainLoop()
        window.realize()
        clock = window.get_frame_clock()
        handler = clock.connect("after-paint", lambda *_: painted.quit())
        window.set_visible(True)
        painted.run()
        clock.disconnect(handler)
        window.set_focus(None)
        self._toplevel = window
        self.process_events()

    def _destroyed(self, *_: Any) -> None:
        self._toplevel = None

    def _xid(self) -> int:
        assert self._toplevel is not None
        return int(GdkX11.X11Surface.get_xid(self._toplevel.get_surface()))

    def _place(self, widget: Gtk.Widget, x: float, y: float) -> tuple[int, int]:
        """Where the point (x, y) of a widget is on its window's surface."""
        _, point = widget.compute_point(self._toplevel, Graphene.Point().init(x, y))
        left, top = self._toplevel.get_surface_transform()  # type: ignore[union-attr]
        return int(point.x + left), int(point.y + top)

    # Dialogs and menus

    def open_modal(self, on_open: Callable[[], Any]) -> str:
        self.need("modal")
        dialog = _Dialog(self._toplevel, lambda: self.call_from_host(on_open))
        self._modals.append(dialog)
        try:
            return dialog.run()
        finally:
            self._modals.remove(dialog)

    def close_modal(self, answer: str = "ok") -> None:
        self._modals[-1].buttons["ok" if answer == "ok" else "cancel"].emit("clicked")

    def open_menu(self, on_open: Callable[[], Any]) -> None:
        self.need("window")

        def mapped(*_: Any) -> None:
            self._menu.disconnect(handler)
            self.call_from_host(on_open)

        handler = self._menu.connect("map", mapped)
        self._menu.popup()

    def close_menu(self) -> None:
        self._menu.popdown()

    # Load and frames

    def flood(self, kind: str) -> Callable[[], int]:
        if kind != "event" or kind not in self.flood_kinds:
            return super().flood(kind)
        # GTK 4 posts no events to itself: these go by the X server, some of them on their way at any time. A
        # property that nobody reads changes, and the server tells.
        assert self._toplevel is not None
        surface = self._toplevel.get_surface()
        display = surface.get_display()
        count = 0
        stopped = False

        def post() -> None:
            GdkX11.X11Surface.set_utf8_property(surface, "_CONFORMANCE", str(count))

        def received(display: Gdk.Display, event: int) -> bool:
            nonlocal count
            if ctypes.cast(event, ctypes.POINTER(ctypes.c_int))[0] == PROPERTY_NOTIFY:
                count += 1
                if not stopped and count % BATCH:
                    post()
                elif not stopped:
                    GLib.timeout_add(0, again)
            return False

        def again() -> bool:
            if not stopped:
                post()
            return GLib.SOURCE_REMOVE

        handler = display.connect("xevent", received)

        def stop() -> int:
            nonlocal stopped
            if not stopped:
                stopped = True
                display.disconnect(handler)
            return count

        for _ in range(8):
            post()
        return stop

    def count_frames(self) -> _Frames:
        return _Frames(self)

    # Input

    def on_screen(self, x: int, y: int) -> tuple[int, int]:
        # Without a window manager the window is in the screen's corner.
        return x, y

    def button_centre(self) -> tuple[int, int]:
        return self._place(self._button, self._button.get_width() / 2, self._button.get_height() / 2)

    def take_keyboard(self) -> None:
        assert self._toplevel is not None
        surface = self._toplevel.get_surface()
        if self._toplevel.get_focus() is None:
            self._entry.grab_focus_without_selecting()
            self._entry.set_position(-1)
        surface.focus(Gdk.CURRENT_TIME)
        surface.get_display().sync()

    def typed(self) -> str:
        return str(self._entry.get_text())

    # The application's main loop

    def destroy_window(self) -> None:
        self.need("window")
        if self._toplevel is not None:
            self._menu.unparent()
            self._toplevel.destroy()

    def close(self) -> None:
        super().close()
        if self._toplevel is not None:
            self.destroy_window()
            self.process_events()


PROPERTY_NOTIFY = 28
"""The type of the X event."""
BATCH = 100
"""Every so many events of a flood the next one waits for the main loop: GDK stays in its queue while anything is there,
and a flood answered from there alone holds the host itself up for as long as it happens to."""


class _Dialog:
    """A modal window that asks, and a main loop until it is answered: GTK 4 has dialogs that block no longer."""

    def __init__(self, parent: Gtk.Window | None, on_map: Callable[[], Any]) -> None:
        self._loop = GLib.MainLoop()
        self._answer = "cancel"
        self._window = Gtk.Window(title="A modal dialog.", modal=True, transient_for=parent)
        self.buttons = {answer: Gtk.Button(label=answer) for answer in ("ok", "cancel")}
        self._handlers = [(self._window.connect("map", lambda window: on_map()), self._window)]
        box = Gtk.Box()
        for answer, button in self.buttons.items():
            self._handlers.append((button.connect("clicked", self._clicked, answer), button))
            box.append(button)
        self._window.set_child(box)

    def _clicked(self, button: Gtk.Button, answer: str) -> None:
        self._answer = answer
        self._loop.quit()

    def run(self) -> str:
        self._window.set_visible(True)
        try:
            self._loop.run()
        finally:
            self._window.destroy()
            # PyGObject's collector does not see into handlers of widgets that GTK still holds: what they hold stays.
            for handler, widget in self._handlers:
                widget.disconnect(handler)
        return self._answer


def make_driver(window: bool = False) -> Gtk4Driver:
    """A driver on the default main context; `window`: with a window that has a picture, a button
    and an entry.  Raises RuntimeError without a display."""
    return Gtk4Driver(window)
