"""A Qt 5 window whose downloads, clock and dialogs are asyncio tasks: ``python sample.py [--url URL]``."""

from __future__ import annotations

from PyQt5 import QtWidgets

import asyncio_guest
from asyncio_guest.backends import sample_tasks


class Sample(QtWidgets.QWidget):
    """The window, and the guest that runs in the application's main loop."""

    def __init__(self, url: str | None, strategy: str | None = None) -> None:
        super().__init__()
        self.tasks = sample_tasks.Tasks(self, url)
        self._build()
        app = QtWidgets.QApplication.instance()
        assert isinstance(app, QtWidgets.QApplication)
        self.guest = asyncio_guest.start(
            self.tasks.main(), host=self, strategy=strategy, done_callback=lambda outcome: app.quit()
        )
        # Closing the window cancels the guest, and the guest's end ends the main loop.
        app.setQuitOnLastWindowClosed(False)
        app.lastWindowClosed.connect(self.guest.cancel)
        # A coroutine started from a button.
        self.download.clicked.connect(lambda: self.guest.start_soon(self.tasks.download))

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
        self.cancel.clicked.connect(self.tasks.cancel)
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

    # What the tasks show.

    def show_status(self, text: str) -> None:
        self.status.setText(text)

    def show_progress(self, fraction: float) -> None:
        self.bar.setValue(int(1000 * fraction))

    def show_busy(self, busy: bool) -> None:
        self.download.setEnabled(not busy)
        self.cancel.setEnabled(busy)

    def show_clock(self, text: str) -> None:
        self.clock.setText(text)

    def show_latency(self, text: str) -> None:
        self.late.setText(text)

    # Dialogs

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
