"""A GTK 3 window whose downloads, clock and dialogs are asyncio tasks: ``python sample.py [--url URL]``."""

from __future__ import annotations

import asyncio
import contextlib

import gi

gi.require_version("Gtk", "3.0")
from gi.repository import Gtk  # noqa: E402

import asyncio_guest  # noqa: E402
from asyncio_guest.backends import sample_tasks  # noqa: E402


class Sample:
    """The window, and the guest that runs in its main loop."""

    def __init__(self, url: str | None, strategy: str | None = None) -> None:
        self.url = url
        self.task: asyncio.Task[None] | None = None
        self._build()
        self.guest = asyncio_guest.start(
            self.main(), host=self.window, strategy=strategy, done_callback=lambda outcome: Gtk.main_quit()
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
        self.download.connect("clicked", lambda button: self.guest.start_soon(self.downloading))
        row.pack_start(self.download, False, False, 0)
        self.cancel = Gtk.Button(label="Cancel", sensitive=False)
        self.cancel.connect("clicked", lambda button: self.task and self.task.cancel())
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

    async def main(self) -> None:
        """Runs until the window is closed."""
        async with contextlib.AsyncExitStack() as stack:
            if self.url is None:
                self.url = await stack.enter_async_context(sample_tasks.local_server())
            await asyncio.gather(sample_tasks.count(self.show_clock), sample_tasks.latency(self.show_latency))

    async def downloading(self) -> None:
        assert self.url is not None
        self.task = asyncio.current_task()
        self.download.set_sensitive(False)
        self.cancel.set_sensitive(True)
        try:
            size = await sample_tasks.download(self.url, self.show_progress)
            self.status.set_text(f"Done: {size / 2**20:.1f} MiB.")
        except asyncio.CancelledError:
            self.status.set_text("Cancelled.")
            raise
        except OSError as exc:
            self.status.set_text(f"Failed: {exc}")
        finally:
            self.task = None
            self.download.set_sensitive(True)
            self.cancel.set_sensitive(False)

    def show_progress(self, received: int, total: int | None) -> None:
        self.bar.set_fraction(received / total if total else 0)
        of = f" of {total / 2**20:.1f}" if total else ""
        self.status.set_text(f"{received / 2**20:.1f}{of} MiB")

    def show_clock(self, tenths: int) -> None:
        self.clock.set_text(f"Task running for {tenths / 10:.1f} s")

    def show_latency(self, ms: float) -> None:
        self.late.set_text(f"wakes at most {ms:.1f} ms late")

    def ask(self) -> bool:
        """Blocks in a nested main loop, in which the tasks go on."""
        self.dialog = Gtk.MessageDialog(
            transient_for=self.window,
            modal=True,
            message_type=Gtk.MessageType.QUESTION,
            buttons=Gtk.ButtonsType.YES_NO,
            text="Does the clock go on behind this dialog?",
        )
        yes = self.dialog.run() == Gtk.ResponseType.YES
        self.dialog.destroy()
        self.answer.set_text("Yes." if yes else "No.")
        return yes

    async def asking(self) -> None:
        await asyncio_guest.modal(self.ask)


if __name__ == "__main__":
    args = sample_tasks.arguments("GTK 3")
    Sample(args.url, args.strategy)
    Gtk.main()
