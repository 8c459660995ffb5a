"""A Tk window whose downloads, clock and dialogs are asyncio tasks: ``python sample.py [--url URL]``."""

from __future__ import annotations

import asyncio_guest.tk  # isort: skip  (first: Tcl then waits in this thread)

import tkinter
from tkinter import messagebox, ttk

import asyncio_guest
from asyncio_guest.backends import sample_tasks


class Sample:
    """The window, and the guest that runs in its main loop."""

    def __init__(self, url: str | None, strategy: str | None = None) -> None:
        self.tasks = sample_tasks.Tasks(self, url)
        self.root = root = tkinter.Tk(className="AsyncioGuest")
        self._build()
        self.guest = asyncio_guest.start(
            self.tasks.main(), host=root, strategy=strategy, done_callback=lambda outcome: root.destroy()
        )
        # Closing the window cancels the guest, and the guest's end closes the window.
        root.protocol("WM_DELETE_WINDOW", self.guest.cancel)

    def _build(self) -> None:
        root = self.root
        root.title("asyncio in Tk")
        root.minsize(460, 0)
        root.resizable(True, False)
        style = ttk.Style(root)
        style.theme_use("clam")
        style.configure("Title.TLabel", font=("TkDefaultFont", 14, "bold"))
        style.configure("Bar.Horizontal.TProgressbar", thickness=18, background="#3b82c4", troughcolor="#dfe3e8")
        page = ttk.Frame(root, padding=16)
        page.pack(fill="both", expand=True)
        page.columnconfigure(0, weight=1)
        ttk.Label(page, text="asyncio in Tk's main loop", style="Title.TLabel").grid(columnspan=3, sticky="w")
        self.bar = ttk.Progressbar(page, maximum=1.0, style="Bar.Horizontal.TProgressbar")
        self.bar.grid(row=1, columnspan=3, sticky="ew", pady=(14, 4))
        self.status = ttk.Label(page, text="Nothing downloaded yet.")
        self.status.grid(row=2, column=0, sticky="w")
        # A coroutine started from a button.
        self.download = ttk.Button(page, text="Download", command=lambda: self.guest.start_soon(self.tasks.download))
        self.download.grid(row=2, column=1, padx=6)
        self.cancel = ttk.Button(page, text="Cancel", state="disabled", command=self.tasks.cancel)
        self.cancel.grid(row=2, column=2)
        ttk.Label(page, text="Type here meanwhile:").grid(row=3, column=0, sticky="w", pady=(14, 2))
        self.entry = ttk.Entry(page)
        self.entry.grid(row=4, columnspan=3, sticky="ew")
        dialogs = ttk.Frame(page)
        dialogs.grid(row=5, columnspan=3, sticky="w", pady=(14, 0))
        self.ask_task = ttk.Button(
            dialogs, text="Dialog from a coroutine", command=lambda: self.guest.start_soon(self.asking)
        )
        self.ask_task.pack(side="left")
        self.ask_button = ttk.Button(dialogs, text="Dialog from a button", command=self.ask)
        self.ask_button.pack(side="left", padx=6)
        self.answer = ttk.Label(dialogs)
        self.answer.pack(side="left", padx=6)
        ttk.Separator(page).grid(row=6, columnspan=3, sticky="ew", pady=(14, 6))
        self.clock = ttk.Label(page)
        self.clock.grid(row=7, column=0, sticky="w")
        self.late = ttk.Label(page)
        self.late.grid(row=7, column=1, columnspan=2, sticky="e")

    # What the tasks show.

    def show_status(self, text: str) -> None:
        self.status["text"] = text

    def show_progress(self, fraction: float) -> None:
        self.bar["value"] = fraction

    def show_busy(self, busy: bool) -> None:
        self.download.state(["disabled" if busy else "!disabled"])
        self.cancel.state(["!disabled" if busy else "disabled"])

    def show_clock(self, text: str) -> None:
        self.clock["text"] = text

    def show_latency(self, text: str) -> None:
        self.late["text"] = text

    # Dialogs

    def ask(self) -> bool:
        """Blocks in a nested main loop, in which the tasks go on."""
        yes = messagebox.askyesno("A question", "Does the clock go on behind this dialog?", parent=self.root)
        self.answer["text"] = "Yes." if yes else "No."
        return yes

    async def asking(self) -> None:
        await asyncio_guest.modal(self.ask)


if __name__ == "__main__":
    args = sample_tasks.arguments("Tk")
    Sample(args.url, args.strategy).root.mainloop()
