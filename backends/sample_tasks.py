"""The asyncio side of the samples: it knows no toolkit.

A sample is a window that can show things (`Display`); `Tasks` is what happens in it.  The coroutines below can be used apart
as well: they are given functions that show what they find.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ssl
import time
import urllib.parse
from collections.abc import AsyncIterator, Callable
from typing import Protocol

SIZE = 24 * 2**20
"""Bytes that the local server sends."""
CHUNK = 64 * 2**10
RATE = 8 * 2**20
"""Bytes a second, so that there is time to look, to type and to cancel."""


def arguments(toolkit: str) -> argparse.Namespace:
    """The command line of every sample."""
    parser = argparse.ArgumentParser(description=f"asyncio as a guest of {toolkit}")
    parser.add_argument("--url", help="what to download (default: from a server that the sample starts)")
    parser.add_argument("--strategy", choices=("watch", "waiter"), help="how the main loop learns of work")
    return parser.parse_args()


@contextlib.asynccontextmanager
async def local_server() -> AsyncIterator[str]:
    """An HTTP server on this machine that sends `SIZE` bytes at `RATE`; its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
            start = time.monotonic()
            for sent in range(0, SIZE, CHUNK):
                writer.write(bytes(CHUNK))
                await writer.drain()
                await asyncio.sleep(start + sent / RATE - time.monotonic())
        except (OSError, asyncio.IncompleteReadError):
            pass  # the reader went away: its right
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}/file"
    finally:
        server.close()


async def download(url: str, show: Callable[[int, int | None], object]) -> int:
    """Download `url` and forget its bytes; `show(received, total)` after each piece, total None if unknown.

    Returns the number of bytes.  Raises OSError for an answer other than 200 and for a download cut short.
    """
    for _ in range(5):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise OSError(f"not an http URL: {url}")
        secure = ssl.create_default_context() if parts.scheme == "https" else None
        port = parts.port or (443 if secure else 80)
        reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=secure)
        try:
            target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
            writer.write(f"GET {target} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            status = (head[0] + "  ").split(" ", 2)[1]
            if status in ("301", "302", "303", "307", "308") and "location" in fields:
                url = urllib.parse.urljoin(url, fields["location"])
                continue
            if status != "200":
                raise OSError(head[0])
            total = int(fields["content-length"]) if "content-length" in fields else None
            received = 0
            while piece := await reader.read(CHUNK):
                received += len(piece)
                show(received, total)
            if total is not None and received != total:
                raise OSError(f"cut short after {received} of {total} bytes")
            return received
        finally:
            writer.close()
    raise OSError("too many redirections")


async def count(show: Callable[[int], object]) -> None:
    """Count tenths of a second, for ever: whoever stops it is seen at once."""
    tenths = 0
    while True:
        show(tenths)
        tenths += 1
        await asyncio.sleep(0.1)


async def latency(show: Callable[[float], object]) -> None:
    """How late the loop wakes a sleeper: the worst of each second, in milliseconds, for ever."""
    while True:
        worst = 0.0
        end = time.monotonic() + 1
        while (start := time.monotonic()) < end:
            await asyncio.sleep(0.01)
            worst = max(worst, time.monotonic() - start - 0.01)
        show(worst * 1000)


class Display(Protocol):
    """What a sample's window can show.  Called on the window's thread, which is asyncio's."""

    def show_status(self, text: str) -> object:
        """How the download stands."""

    def show_progress(self, fraction: float) -> object:
        """How much of it is there, from 0 to 1."""

    def show_busy(self, busy: bool) -> object:
        """A download runs, and can be cancelled; or none does, and one can be begun."""

    def show_clock(self, text: str) -> object:
        """How long the sample has run."""

    def show_latency(self, text: str) -> object:
        """How late asyncio is."""


class Tasks:
    """The tasks of a sample with the window `display`; `url` is what to download, None for a server of its own."""

    def __init__(self, display: Display, url: str | None) -> None:
        self.display = display
        self.url = url
        self._downloading: asyncio.Task[None] | None = None

    async def main(self) -> None:
        """The guest's main coroutine: counts and measures until it is cancelled."""
        async with contextlib.AsyncExitStack() as stack:
            if self.url is None:
                self.url = await stack.enter_async_context(local_server())
            await asyncio.gather(
                count(lambda tenths: self.display.show_clock(f"Task running for {tenths / 10:.1f} s")),
                latency(lambda ms: self.display.show_latency(f"wakes at most {ms:.1f} ms late")),
            )

    async def download(self) -> None:
        """Download, once at a time, and show how it goes; start it from a button."""
        if self._downloading is not None or self.url is None:
            return
        display = self.display
        self._downloading = asyncio.current_task()
        display.show_busy(True)
        try:
            size = await download(self.url, self._received)
            display.show_status(f"Done: {size / 2**20:.1f} MiB.")
        except asyncio.CancelledError:
            display.show_status("Cancelled.")
            raise
        except (OSError, ValueError, EOFError, asyncio.LimitOverrunError) as exc:  # the URL, or what answers there
            display.show_status(f"Failed: {exc}")
        finally:
            self._downloading = None
            display.show_busy(False)

    def cancel(self) -> None:
        """Cancel the download, if one runs."""
        if self._downloading is not None:
            self._downloading.cancel()

    def _received(self, received: int, total: int | None) -> None:
        self.display.show_progress(received / total if total else 0)
        of = f" of {total / 2**20:.1f}" if total else ""
        self.display.show_status(f"{received / 2**20:.1f}{of} MiB")
