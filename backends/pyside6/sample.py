"""A Qt 6 window whose downloads, clock and dialogs are asyncio tasks: ``python sample.py [--url URL]``."""

from __future__ import annotations

import asyncio
import contextlib

from PySide6.QtCore import QMargins, Signal, Slot
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


class Sample(QWidget):
    """The window, and the guest that runs in the application's main loop.  Tasks speak to the widgets by signals."""

    progressed = Signal(int)
    told = Signal(str)
    busy = Signal(bool)
    ticked = Signal(str)
    measured = Signal(str)

    def __init__(self, url: str | None, strategy: str | None = None) -> None:
        super().__init__(windowTitle="asyncio in Qt 6")
        self.url = url
        self.task: asyncio.Task[None] | None = None
        self._build()
        self.guest = asyncio_guest.start(
            self.main(), host=self, strategy=strategy, done_callback=lambda outcome: QApplication.quit()
        )
        # Closing the window cancels the guest, and the guest's end ends the main loop.
        QApplication.setQuitOnLastWindowClosed(False)
        QApplication.instance().lastWindowClosed.connect(self.guest.cancel)
        # A coroutine started from a button.
        self.download.clicked.connect(lambda: self.guest.start_soon(self.downloading))

    def _build(self) -> None:
        self.setFixedWidth(520)
        page = QVBoxLayout(self, contentsMargins=QMargins(18, 18, 18, 18), spacing=10)
        page.addWidget(QLabel("<b><big>asyncio in Qt's main loop</big></b>"))
        self.bar = QProgressBar(maximum=1000, textVisible=False)
        self.progressed.connect(self.bar.setValue)
        page.addWidget(self.bar)
        row = QHBoxLayout()
        page.addLayout(row)
        self.status = QLabel("Nothing downloaded yet.")
        self.told.connect(self.status.setText)
        row.addWidget(self.status, 1)
        self.download = QPushButton("Download")
        self.busy.connect(self.download.setDisabled)
        row.addWidget(self.download)
        self.cancel = QPushButton("Cancel", enabled=False, clicked=self.stop)
        self.busy.connect(self.cancel.setEnabled)
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
        self.ticked.connect(self.clock.setText)
        row.addWidget(self.clock, 1)
        self.late = QLabel()
        self.measured.connect(self.late.setText)
        row.addWidget(self.late)

    async def main(self) -> None:
        """Runs until the window is closed."""
        async with contextlib.AsyncExitStack() as stack:
            if self.url is None:
                self.url = await stack.enter_async_context(sample_tasks.local_server())
            await asyncio.gather(
                sample_tasks.count(lambda tenths: self.ticked.emit(f"Task running for {tenths / 10:.1f} s")),
                sample_tasks.latency(lambda ms: self.measured.emit(f"wakes at most {ms:.1f} ms late")),
            )

    async def downloading(self) -> None:
        assert self.url is not None
        self.task = asyncio.current_task()
        self.busy.emit(True)
        try:
            size = await sample_tasks.download(self.url, self.show_progress)
            self.told.emit(f"Done: {size / 2**20:.1f} MiB.")
        except asyncio.CancelledError:
            self.told.emit("Cancelled.")
            raise
        except OSError as exc:
            self.told.emit(f"Failed: {exc}")
        finally:
            self.task = None
            self.busy.emit(False)

    def show_progress(self, received: int, total: int | None) -> None:
        self.progressed.emit(int(1000 * received / total) if total else 0)
        of = f" of {total / 2**20:.1f}" if total else ""
        self.told.emit(f"{received / 2**20:.1f}{of} MiB")

    @Slot()
    def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()

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
