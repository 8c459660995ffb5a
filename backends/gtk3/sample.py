"""A GTK 3 window whose downloads, clock and dialogs are asyncio tasks: ``python sample.py [--url URL]``."""

from __future__ import annotations

import gi

gi.require_version("Gtk", "3.0")
from gi.repository import Gtk  # noqa: E402

import asyncio_guest  # noqa: E402
from asyncio_guest.backends import sample_tasks  # noqa: E402


class Sample:
    """The window, and the guest that runs in its main loop."""

    def __init__(self, url: str | None, strategy: str | None = None) -> None:
        self.tasks = sample_tasks.Tasks(self, url)
        self._build()
        self.guest = asyncio_guest.start(
            self.tasks.main(), host=self.window, strategy=strategy, done_callback=lambda outcome: Gtk.main_quit()
        )
        # Closing the window cancels the guest, and the guest's end ends the main loop.
        self.window.connect("delete-event", lambda *event: self.guest.cancel())
        self.window.show_all()

    def _build(self) -> None:
        self.window = Gtk.Window(title="asyncio in GTK", default_width=460, resizable=False)
        thick = Gtk.CssProvider()
        thick.load_from_data(b"progress, trough { min-height: 14px; }")
        self.bar = Gtk.ProgressBar(margin_top=6)
        self.bar.get_style_context().add_provider(thick, Gtk.STYLE_PROVIDER_PRIORITY_APPLICATION)
        page = Gtk.Box(orientation=Gtk.Orientation.VERTICAL, spacing=8, border_width=18)
        self.window.add(page)
        title = Gtk.Label(xalign=0)
        title.set_markup("<b><big>asyncio in GTK's main loop</big></b>")
        page.pack_start(title, False, False, 0)
        page.pack_start(self.bar, False, False, 0)
        row = Gtk.Box(spacing=6)
        page.pack_start(row, False, False, 0)
        self.status = Gtk.Label(label="Nothing downloaded yet.", xalign=0)
        row.pack_start(self.status, True, True, 0)
        self.download = Gtk.Button(label="Download")
        # A coroutine started from a button.
        self.download.connect("clicked", lambda button: self.guest.start_soon(self.tasks.download))
        row.pack_start(self.download, False, False, 0)
        self.cancel = Gtk.Button(label="Cancel", sensitive=False)
        self.cancel.connect("clicked", lambda button: self.tasks.cancel())
        row.pack_start(self.cancel, False, False, 0)
        page.pack_start(Gtk.Label(label="Type here meanwhile:", xalign=0, margin_top=6), False, False, 0)
        self.entry = Gtk.Entry()
        page.pack_start(self.entry, False, False, 0)
        row = Gtk.Box(spacing=6, margin_top=6)
        page.pack_start(row, False, False, 0)
        self.ask_task = Gtk.Button(label="Dialog from a coroutine")
        self.ask_task.connect("clicked", lambda button: self.guest.start_soon(self.asking))
        row.pack_start(self.ask_task, False, False, 0)
        self.ask_button = Gtk.Button(label="Dialog from a button")
        self.ask_button.connect("clicked", lambda button: self.ask())
        row.pack_start(self.ask_button, False, False, 0)
        self.answer = Gtk.Label()
        row.pack_start(self.answer, False, False, 0)
        page.pack_start(Gtk.Separator(margin_top=6), False, False, 0)
        row = Gtk.Box(spacing=6)
        page.pack_start(row, False, False, 0)
        self.clock = Gtk.Label(xalign=0)
        row.pack_start(self.clock, True, True, 0)
        self.late = Gtk.Label(xalign=1)
        row.pack_start(self.late, False, False, 0)

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

    def ask(self) -> bool:
        """Blocks in a nested main loop, in which the tasks go on."""
        self.dialog = Gtk.MessageDialog(
            transient_for=self.window,
            modal=True,
            message_type=Gtk.MessageType.QUESTION,
            buttons=Gtk.ButtonsType.YES_NO,
            text="Does the clock go on behind this dialog?",
        )
        yes: bool = self.dialog.run() == Gtk.ResponseType.YES
        self.dialog.destroy()
        self.answer.set_text("Yes." if yes else "No.")
        return yes

    async def asking(self) -> None:
        await asyncio_guest.modal(self.ask)


if __name__ == "__main__":
    args = sample_tasks.arguments("GTK 3")
    Sample(args.url, args.strategy)
    Gtk.main()
