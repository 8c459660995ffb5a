"""X servers of our own: one per cell, started ahead of their use."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator

from . import guardian

START_S = 20.0
ARGUMENTS = ("-screen", "0", "1024x768x24", "-nolisten", "tcp", "-noreset", "-dpi", "96")


class NoDisplay(Exception):
    """There is no Xvfb, or it does not start; the message says the remedy."""


class Server:
    """One Xvfb."""

    def __init__(self) -> None:
        binary = shutil.which("Xvfb")
        if binary is None:
            raise NoDisplay("Xvfb is not installed: apt-get install xvfb")
        self._stopped = False
        read, write = os.pipe()
        try:
            self.process = guardian.start(
                [binary, "-displayfd", str(write), *ARGUMENTS],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[write],
            )
        finally:
            os.close(write)
        number = b""
        deadline = time.monotonic() + START_S
        try:
            while not number.endswith(b"\n"):
                ready, _, _ = select.select([read], [], [], max(0.0, deadline - time.monotonic()))
                chunk = os.read(read, 64) if ready else b""
                if not chunk:
                    self.stop()
                    raise NoDisplay(f"Xvfb did not start (status {self.process.returncode})")
                number += chunk
        finally:
            os.close(read)
        self.display = f":{int(number)}"

    def stop(self) -> None:
        """End the server.  Idempotent."""
        if self._stopped:
            return
        self._stopped = True
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        guardian.end(self.process)


class Pool:
    """Keeps `ahead` servers ready; each is used by one cell and then ended."""

    def __init__(self, ahead: int = 1) -> None:
        self._ahead = ahead
        self._ready: queue.SimpleQueue[Server | NoDisplay] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._coming = 0
        self._closed = False
        self._threads: list[threading.Thread] = []

    def _start_one(self) -> None:
        try:
            server: Server | NoDisplay = Server()
        except NoDisplay as error:
            server = error
        with self._lock:
            if self._closed:
                if isinstance(server, Server):
                    server.stop()
            else:
                self._ready.put(server)

    def _order(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            thread = threading.Thread(target=self._start_one, name="xvfb-start")
            self._threads.append(thread)
        thread.start()

    @contextlib.contextmanager
    def display(self) -> Iterator[str]:
        """The ``DISPLAY`` of a fresh server.  Raises NoDisplay."""
        self._order()
        while self._coming < self._ahead:
            self._coming += 1
            self._order()
        server = self._ready.get()
        if isinstance(server, NoDisplay):
            raise server
        try:
            yield server.display
        finally:
            server.stop()

    def close(self) -> None:
        """End all servers that were not used."""
        with self._lock:
            self._closed = True
            threads = list(self._threads)
        for thread in threads:
            thread.join()
        while not self._ready.empty():
            server = self._ready.get()
            if isinstance(server, Server):
                server.stop()
