"""A Qt 5 window whose downloads, clock and dialogs are asyncio tasks: ``python sample.py [--url URL]``."""

from __future__ import annotations

import asyncio
import contextlib

from PyQt5 import QtWidgets

import asyncio_guest
from asyncio_guest.backends import sample_tasks


class Sample(QtWidgets.QWidget):
    """The window, and the guest that runs in the application's main loop."""

    def __init__(self, url: str | None, strategy: str | None = None) -> None:
        super().__init__()
        self.url = url
        self.task: asyncio.Task[None] | None = None
        self._build()
        app = QtWidgets.QApplication.instance()
        assert isinstance(app, QtWidgets.QApplication)
        self.guest = asyncio_guest.start(
            self.main(), host=self, strategy=strategy, done_callback=lambda outcome: app.quit()
        )
        # Closing the window cancels the guest, and the guest's end ends the main loop.
        app.setQuitOnLastWindowClosed(False)
        app.lastWindowClosed.connect(self.guest.cancel)
        # A coroutine started from a button.
        self.download.clicked.connect(lambda: self.guest.start_soon(self.downloading))

    def _build(self) -> None:
        self.setWindowTitle("asyncio in Qt 5")
        self.setFixedWidth(520)
        page = QtWidgets.QVBoxLayout(self)
        page.setContentsMargins(18, 18, 18, 18)
        page.setSpacing(10)
        page.addWidget(QtWidgets.QLabel("<b><big>asyncio in Qt's main loop</big></b>"))
        self.bar = QtWidgets.QProgressBar()
        self.bar.setMaximum(1000)
        self.bar.setTextVisible(False)
        page.addWidget(self.bar)
        row = QtWidgets.QHBoxLayout()
        page.addLayout(row)
        self.status = QtWidgets.QLabel("Nothing downloaded yet.")
        row.addWidget(self.status, 1)
        self.download = QtWidgets.QPushButton("Download")
        row.addWidget(self.download)
        self.cancel = QtWidgets.QPushButton("Cancel")
        self.cancel.setEnabled(False)
        self.cancel.clicked.connect(lambda: self.task and self.task.cancel())
        row.addWidget(self.cancel)
        page.addWidget(QtWidgets.QLabel("Type here meanwhile:"))
        self.entry = QtWidgets.QLineEdit()
        page.addWidget(self.entry)
        row = QtWidgets.QHBoxLayout()
        page.addLayout(row)
        self.ask_task = QtWidgets.QPushButton("Dialog from a coroutine")
        self.ask_task.clicked.connect(lambda: self.guest.start_soon(self.asking))
        row.addWidget(self.ask_task)
        self.ask_button = QtWidgets.QPushButton("Dialog from a button")
        self.ask_button.clicked.connect(lambda: self.ask())
        row.addWidget(self.ask_button)
        self.answer = QtWidgets.QLabel()
        row.addWidget(self.answer, 1)
        line = QtWidgets.QFrame()
        line.setFrameShape(QtWidgets.QFrame.Shape.HLine)
        page.addWidget(line)
        row = QtWidgets.QHBoxLayout()
        page.addLayout(row)
        self.clock = QtWidgets.QLabel()
        row.addWidget(self.clock, 1)
        self.late = QtWidgets.QLabel()
        row.addWidget(self.late)

    async def main(self) -> None:
        """Runs until the window is closed."""
        async with contextlib.AsyncExitStack() as stack:
            if self.url is None:
                self.url = await stack.enter_async_context(sample_tasks.local_server())
            await asyncio.gather(sample_tasks.count(self.show_clock), sample_tasks.latency(self.show_latency))

    async def downloading(self) -> None:
        assert self.url is not None
        self.task = asyncio.current_task()
        self.download.setEnabled(False)
        self.cancel.setEnabled(True)
        try:
            size = await sample_tasks.download(self.url, self.show_progress)
            self.status.setText(f"Done: {size / 2**20:.1f} MiB.")
        except asyncio.CancelledError:
            self.status.setText("Cancelled.")
            raise
        except OSError as exc:
            self.status.setText(f"Failed: {exc}")
        finally:
            self.task = None
            self.download.setEnabled(True)
            self.cancel.setEnabled(False)

    def show_progress(self, received: int, total: int | None) -> None:
        self.bar.setValue(int(1000 * received / total) if total else 0)
        of = f" of {total / 2**20:.1f}" if total else ""
        self.status.setText(f"{received / 2**20:.1f}{of} MiB")

    def show_clock(self, tenths: int) -> None:
        self.clock.setText(f"Task running for {tenths / 10:.1f} s")

    def show_latency(self, ms: float) -> None:
        self.late.setText(f"wakes at most {ms:.1f} ms late")

    def ask(self) -> None:
        """Blocks in a nested main loop, in which the tasks go on."""
        buttons = QtWidgets.QMessageBox.StandardButton
        self.dialog = QtWidgets.QMessageBox(
            QtWidgets.QMessageBox.Icon.Question,
            "A question",
            "Does the clock go on behind this dialog?",
            buttons.Yes | buttons.No,
            self,
        )
        self.answer.setText("Yes." if self.dialog.exec() == buttons.Yes else "No.")

    async def asking(self) -> None:
        await asyncio_guest.modal(self.ask)


if __name__ == "__main__":
    args = sample_tasks.arguments("Qt 5")
    app = QtWidgets.QApplication([])
    sample = Sample(args.url, args.strategy)
    sample.show()
    app.exec()
