"""A GTK 4 window whose downloads, clock and dialogs are asyncio tasks: ``python sample.py [--url URL]``."""

from __future__ import annotations

import asyncio

import gi

gi.require_version("Gtk", "4.0")
from gi.repository import Gio, Gtk  # noqa: E402

import asyncio_guest  # noqa: E402
from asyncio_guest.backends import sample_tasks  # noqa: E402


class Sample(Gtk.Application):  # type: ignore[misc]
    """The application; the guest lives in its main loop."""

    def __init__(self, url: str | None, strategy: str | None = None) -> None:
        super().__init__(flags=Gio.ApplicationFlags.NON_UNIQUE)
        self.tasks = sample_tasks.Tasks(self, url)
        self.strategy = strategy

    def do_activate(self) -> None:
        """The application runs: its window is opened, and the guest begins."""
        self._build()
        self.guest = asyncio_guest.start(
            self.tasks.main(), host=self, strategy=self.strategy, done_callback=lambda outcome: self.quit()
        )
        # Closing the window cancels the guest, and the guest's end quits the application.
        self.window.connect("close-request", lambda window: self.guest.cancel() or True)
        self.window.present()

    def _build(self) -> None:
        self.window = Gtk.ApplicationWindow(
            application=self, title="asyncio in GTK 4", default_width=460, resizable=False
        )
        margins = {f"margin_{side}": 18 for side in ("top", "bottom", "start", "end")}
        page = Gtk.Box(orientation=Gtk.Orientation.VERTICAL, spacing=8, **margins)
        self.window.set_child(page)
        title = Gtk.Label(xalign=0)
        title.set_markup("<b><big>asyncio in GTK 4's main loop</big></b>")
        page.append(title)
        thick = Gtk.CssProvider()
        thick.load_from_data(b"progressbar progress, progressbar trough { min-height: 14px; }")
        display = self.window.get_display()
        Gtk.StyleContext.add_provider_for_display(display, thick, Gtk.STYLE_PROVIDER_PRIORITY_APPLICATION)
        self.bar = Gtk.ProgressBar(margin_top=6)
        page.append(self.bar)
        row = Gtk.Box(spacing=6)
        page.append(row)
        self.status = Gtk.Label(label="Nothing downloaded yet.", xalign=0, hexpand=True)
        row.append(self.status)
        self.download = Gtk.Button(label="Download")
        # A coroutine started from a button.
        self.download.connect("clicked", lambda button: self.guest.start_soon(self.tasks.download))
        row.append(self.download)
        self.cancel = Gtk.Button(label="Cancel", sensitive=False)
        self.cancel.connect("clicked", lambda button: self.tasks.cancel())
        row.append(self.cancel)
        page.append(Gtk.Label(label="Type here meanwhile:", xalign=0, margin_top=6))
        self.entry = Gtk.Entry()
        page.append(self.entry)
        row = Gtk.Box(spacing=6, margin_top=6)
        page.append(row)
        self.ask_task = Gtk.Button(label="Dialog from a coroutine")
        self.ask_task.connect("clicked", lambda button: self.guest.start_soon(self.asking))
        row.append(self.ask_task)
        self.ask_button = Gtk.Button(label="Dialog from a button")
        self.ask_button.connect("clicked", lambda button: self.ask().connect("response", self.answered))
        row.append(self.ask_button)
        self.answer = Gtk.Label()
        row.append(self.answer)
        page.append(Gtk.Separator(margin_top=6))
        row = Gtk.Box(spacing=6)
        page.append(row)
        self.clock = Gtk.Label(xalign=0, hexpand=True)
        row.append(self.clock)
        self.late = Gtk.Label(xalign=1)
        row.append(self.late)

    # What the tasks show.

    def show_status(self, text: str) -> None:
        self.status.set_text(text)

    def show_progress(self, fraction: float) -> None:
        self.bar.set_fraction(fraction)

    def show_busy(self, busy: bool) -> None:
        self.download.set_sensitive(not busy)
        self.cancel.set_sensitive(busy)

    def show_clock(self, text: str) -> None:
        self.clock.set_text(text)

    def show_latency(self, text: str) -> None:
        self.late.set_text(text)

    # Dialogs

    def ask(self) -> Gtk.MessageDialog:
        """GTK 4 has no dialogs that block: this one tells its answer by a signal."""
        self.dialog = Gtk.MessageDialog(
            transient_for=self.window,
            modal=True,
            message_type=Gtk.MessageType.QUESTION,
            buttons=Gtk.ButtonsType.YES_NO,
            text="Does the clock go on behind this dialog?",
        )
        self.dialog.present()
        return self.dialog

    def answered(self, dialog: Gtk.MessageDialog, response: int) -> None:
        dialog.destroy()
        self.answer.set_text("Yes." if response == Gtk.ResponseType.YES else "No.")

    async def asking(self) -> None:
        """A coroutine awaits the signal."""
        response: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        dialog = self.ask()
        dialog.connect("response", lambda dialog, answer: response.set_result(answer))
        self.answered(dialog, await response)


if __name__ == "__main__":
    args = sample_tasks.arguments("GTK 4")
    Sample(args.url, args.strategy).run()
