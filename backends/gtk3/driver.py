"""The host driver of GTK 3: the host's side of a conformance case, by PyGObject's own API.

It knows no guest, so any event loop that runs in GTK 3 can be judged with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gi

gi.require_version("Gtk", "3.0")
gi.require_version("Gdk", "3.0")
gi.require_version("GdkX11", "3.0")
from gi.repository import Gdk, GdkPixbuf, GdkX11, GLib, Gtk  # noqa: E402

from .. import _x11  # noqa: E402
from .._driver import WindowDriver  # noqa: E402
from ..glib.driver import GlibDriver  # noqa: E402


class _Frames:
    """Gives an image a new colour at each tick of the frame clock, and counts those that reached the X server.

    A Gtk.Image draws itself: a "draw" handler in Python would need pycairo as well.
    """

    def __init__(self, driver: Gtk3Driver) -> None:
        self._image = driver._image
        self._number = 0
        window = self._image.get_window()
        x, y = self._image.translate_coordinates(self._image.get_toplevel(), 10, 10)
        self._witness = driver.witness(GdkX11.X11Window.get_xid(window.get_effective_toplevel()), x, y)
        self._tick: int | None = self._image.add_tick_callback(self._on_tick)

    def _on_tick(self, image: Gtk.Widget, clock: Gdk.FrameClock) -> bool:
        # Only asks for a redraw: GTK draws in the paint phase of the frame clock.
        self._number += 1
        pixbuf = image.get_pixbuf()
        pixbuf.fill(self._number * 7919 % 0x1000000 << 8 | 0xFF)
        image.set_from_pixbuf(pixbuf)
        return True

    def stop(self) -> int:
        if self._tick is not None:
            self._image.remove_tick_callback(self._tick)
            self._tick = None
        return self._witness.stop()


class Gtk3Driver(WindowDriver, GlibDriver):
    """The driver; see ``scenarios.driver.HostDriver`` for the methods."""

    name = "gtk3"
    abilities = GlibDriver.abilities | {"modal"}

    def __init__(self, window: bool) -> None:
        ok, _ = Gtk.init_check(None)
        if not ok:
            raise RuntimeError("GTK cannot open the display")
        WindowDriver.__init__(self, window)
        GlibDriver.__init__(self)
        self._modals: list[Gtk.Dialog] = []
        self._toplevel: Gtk.Window | None = None
        if window:
            self.flood_kinds = (*self.flood_kinds, "event")
            self._build()

    def _build(self) -> None:
        settings = Gtk.Settings.get_default()
        settings.set_property("gtk-cursor-blink", False)
        settings.set_property("gtk-enable-animations", False)
        window = Gtk.Window(title="conformance")
        window.set_default_size(320, 200)
        box = Gtk.Box(orientation=Gtk.Orientation.VERTICAL)
        pixbuf = GdkPixbuf.Pixbuf.new(GdkPixbuf.Colorspace.RGB, False, 8, 300, 80)
        pixbuf.fill(0xFF)
        self._image = Gtk.Image.new_from_pixbuf(pixbuf)
        self._button = Gtk.Button(label="test")
        self._button.set_can_focus(False)
        self._button.connect("clicked", self.clicked)
        self._entry = Gtk.Entry()
        for widget in (self._image, self._button, self._entry):
            box.pack_start(widget, False, False, 0)
        window.add(box)
        window.connect("destroy", self._destroyed)
        self._menu = Gtk.Menu()
        for label in ("one", "two"):
            self._menu.append(Gtk.MenuItem(label=label))
        self._menu.show_all()
        self._menu.attach_to_widget(window, None)
        mapped = GLib.MainLoop()

        def on_map(*_: Any) -> bool:
            mapped.quit()
            return False

        handler = window.connect("map-event", on_map)
        window.show_all()
        window.move(20, 20)
        mapped.run()
        window.disconnect(handler)
        window.set_focus(None)
        # What has opened the menu, which GTK asks for.
        self._press = Gdk.Event.new(Gdk.EventType.BUTTON_PRESS)
        self._press.button.window = window.get_window()
        self._press.set_device(window.get_display().get_default_seat().get_pointer())
        # Waits for the thread on which Pango reads the fonts; it opens and closes files meanwhile.
        self._entry.create_pango_layout("text").get_pixel_size()
        self._toplevel = window
        self.process_events()

    def _destroyed(self, *_: Any) -> None:
        self._toplevel = None

    # Dialogs and menus

    def open_modal(self, on_open: Callable[[], Any]) -> str:
        self.need("modal")
        dialog = Gtk.MessageDialog(
            transient_for=self._toplevel,
            modal=True,
            message_type=Gtk.MessageType.QUESTION,
            buttons=Gtk.ButtonsType.OK_CANCEL,
            text="A modal dialog.",
        )
        self._modals.append(dialog)

        def mapped(*_: Any) -> bool:
            self.call_from_host(on_open)
            return False

        dialog.connect("map-event", mapped)
        try:
            answer = dialog.run()
        finally:
            self._modals.remove(dialog)
            dialog.destroy()
        return "ok" if answer == Gtk.ResponseType.OK else "cancel"

    def close_modal(self, answer: str = "ok") -> None:
        response = Gtk.ResponseType.OK if answer == "ok" else Gtk.ResponseType.CANCEL
        self._modals[-1].get_widget_for_response(response).clicked()

    def open_menu(self, on_open: Callable[[], Any]) -> None:
        self.need("window")

        def mapped(*_: Any) -> None:
            self._menu.disconnect(handler)
            self.call_from_host(on_open)

        handler = self._menu.connect("map", mapped)
        # Not popup(): each call leaves the closure behind that PyGObject makes for its position function.
        corners = Gdk.Gravity.SOUTH_WEST, Gdk.Gravity.NORTH_WEST
        self._menu.popup_at_widget(self._toplevel, *corners, self._press)

    def close_menu(self) -> None:
        self._menu.popdown()

    def process_events(self) -> None:
        while Gtk.events_pending():
            Gtk.main_iteration_do(False)

    # Load and frames

    def flood(self, kind: str) -> Callable[[], int]:
        if kind != "event" or kind not in self.flood_kinds:
            return super().flood(kind)
        window: Any = self._toplevel
        count = 0
        stopped = False

        def post() -> None:
            # A kind of event that needs no device and that nothing in GTK acts upon.
            event = Gdk.Event.new(Gdk.EventType.PROPERTY_NOTIFY)
            event.property.window = window.get_window()
            event.property.send_event = True
            event.put()

        def received(*_: Any) -> bool:
            nonlocal count
            count += 1
            if not stopped:
                post()
            return True

        handler = window.connect("property-notify-event", received)

        def stop() -> int:
            nonlocal stopped
            if not stopped:
                stopped = True
                window.disconnect(handler)
            return count

        post()
        return stop

    def count_frames(self) -> _Frames:
        return _Frames(self)

    # Input

    def on_screen(self, x: int, y: int) -> tuple[int, int]:
        assert self._toplevel is not None
        _, left, top = self._toplevel.get_window().get_origin()
        return left + x, top + y

    def button_centre(self) -> tuple[int, int]:
        x, y = self._button.translate_coordinates(self._toplevel, 0, 0)
        allocation = self._button.get_allocation()
        return self.on_screen(x + allocation.width // 2, y + allocation.height // 2)

    def take_keyboard(self) -> None:
        assert self._toplevel is not None
        if not self._entry.has_focus():
            self._entry.grab_focus_without_selecting()
            self._entry.set_position(-1)
        self._toplevel.get_window().focus(Gdk.CURRENT_TIME)
        Gdk.Display.get_default().sync()

    def typed(self) -> str:
        return str(self._entry.get_text())

    # The application's main loop

    def destroy_window(self) -> None:
        self.need("window")
        if self._toplevel is not None:
            self._toplevel.destroy()

    def quit(self) -> None:
        if Gtk.main_level() == 0:
            raise _x11.unsupported("quit of a loop that is not the application's")
        Gtk.main_quit()

    def run(self) -> None:
        Gtk.main()

    def toolkit(self) -> Any:
        return self.name

    def close(self) -> None:
        super().close()
        if self._toplevel is not None:
            self._toplevel.destroy()
            self.process_events()


def make_driver(window: bool = False) -> Gtk3Driver:
    """A driver on the default main context; `window`: with a window that has a drawing area, a button
    and an entry.  Raises RuntimeError without a display."""
    return Gtk3Driver(window)
