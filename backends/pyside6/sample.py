"""A Qt 6 window whose downloads, clock and dialogs are asyncio tasks: ``python sample.py [--url URL]``."""

from __future__ import annotations

from PySide6.QtCore import QMargins, QObject, Signal, Slot
from PySide6.QtWidgets import (
    QApplication,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMessageBox,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

import asyncio_guest
from asyncio_guest.backends import sample_tasks


class Shown(QObject):
    """What the tasks show: each a signal that widgets listen to."""

    status = Signal(str)
    progress = Signal(float)
    busy = Signal(bool)
    clock = Signal(str)
    latency = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.show_status = self.status.emit
        self.show_progress = self.progress.emit
        self.show_busy = self.busy.emit
        self.show_clock = self.clock.emit
        self.show_latency = self.latency.emit


class Sample(QWidget):
    """The window, and the guest that runs in the application's main loop."""

    def __init__(self, url: str | None, strategy: str | None = None) -> None:
        super().__init__(windowTitle="asyncio in Qt 6")
        self.shown = Shown()
        self.tasks = sample_tasks.Tasks(self.shown, url)
        self._build()
        self.guest = asyncio_guest.start(
            self.tasks.main(), host=self, strategy=strategy, done_callback=lambda outcome: QApplication.quit()
        )
        # Closing the window cancels the guest, and the guest's end ends the main loop.
        QApplication.setQuitOnLastWindowClosed(False)
        QApplication.instance().lastWindowClosed.connect(self.guest.cancel)
        # A coroutine started from a button.
        self.download.clicked.connect(lambda: self.guest.start_soon(self.tasks.download))

    def _build(self) -> None:
        self.setFixedWidth(520)
        page = QVBoxLayout(self, contentsMargins=QMargins(18, 18, 18, 18), spacing=10)
        page.addWidget(QLabel("<b><big>asyncio in Qt's main loop</big></b>"))
        self.bar = QProgressBar(maximum=1000, textVisible=False)
        self.shown.progress.connect(lambda fraction: self.bar.setValue(int(1000 * fraction)))
        page.addWidget(self.bar)
        row = QHBoxLayout()
        page.addLayout(row)
        self.status = QLabel("Nothing downloaded yet.")
        self.shown.status.connect(self.status.setText)
        row.addWidget(self.status, 1)
        self.download = QPushButton("Download")
        self.shown.busy.connect(self.download.setDisabled)
        row.addWidget(self.download)
        self.cancel = QPushButton("Cancel", enabled=False, clicked=self.tasks.cancel)
        self.shown.busy.connect(self.cancel.setEnabled)
        row.addWidget(self.cancel)
        page.addWidget(QLabel("Type here meanwhile:"))
        self.entry = QLineEdit()
        page.addWidget(self.entry)
        row = QHBoxLayout()
        page.addLayout(row)
        self.ask_task = QPushButton("Dialog from a coroutine")
        self.ask_task.clicked.connect(lambda: self.guest.start_soon(asyncio_guest.modal, self.ask))
        row.addWidget(self.ask_task)
        self.ask_button = QPushButton("Dialog from a button", clicked=self.ask)
        row.addWidget(self.ask_button)
        self.answer = QLabel()
        row.addWidget(self.answer, 1)
        page.addWidget(QFrame(frameShape=QFrame.Shape.HLine))
        row = QHBoxLayout()
        page.addLayout(row)
        self.clock = QLabel()
        self.shown.clock.connect(self.clock.setText)
        row.addWidget(self.clock, 1)
        self.late = QLabel()
        self.shown.latency.connect(self.late.setText)
        row.addWidget(self.late)

    @Slot()
    def ask(self) -> None:
        """Blocks in a nested main loop, in which the tasks go on."""
        buttons = QMessageBox.StandardButton
        self.dialog = QMessageBox(
            QMessageBox.Icon.Question,
            "A question",
            "Does the clock go on behind this dialog?",
            buttons.Yes | buttons.No,
            self,
        )
        self.answer.setText("Yes." if self.dialog.exec() == buttons.Yes else "No.")


if __name__ == "__main__":
    args = sample_tasks.arguments("Qt 6")
    app = QApplication([])
    sample = Sample(args.url, args.strategy)
    sample.show()
    app.exec()
