"""What the benchmark times.  Imports asyncio and the standard library only, and knows no host.

A workload is an async function of `Window`, the time in which it counts.  It warms up, opens the window, does its
operation again and again until the window's time is over, closes it, and checks what it did: a figure of a
workload that did something else is worth nothing.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from collections.abc import Awaitable, Callable

CHUNK = 20
"""Operations between two looks at the clock."""


@dataclasses.dataclass
class Window:
    """The time in which operations count."""

    seconds: float
    warmup: float = 0.2
    """Seconds of the same work before it."""
    on_open: Callable[[], object] = lambda: None
    on_close: Callable[[], object] = lambda: None
    """Called at the ends of the window: for counters."""
    operations: int = 0
    elapsed: float = 0.0

    async def measure(self, operation: Callable[[], Awaitable[object]], each: int = 1) -> None:
        """Await `operation` (which does `each` operations) through warm-up and window."""
        clock = time.perf_counter
        end = clock() + self.warmup
        while clock() < end:
            for _ in range(CHUNK):
                await operation()
        self.on_open()
        count = 0
        begin = clock()
        end = begin + self.seconds
        while clock() < end:
            for _ in range(CHUNK):
                await operation()
            count += CHUNK
        self.elapsed = clock() - begin
        self.on_close()
        self.operations = count * each


async def echo(window: Window) -> None:
    """One round trip of 1 KiB between two streams of this loop is one operation."""
    size = 1024
    payload = os.urandom(size)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(await reader.readexactly(size))
                await writer.drain()
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])

        async def trip() -> None:
            writer.write(payload)
            await writer.drain()
            if await reader.readexactly(size) != payload:
                raise AssertionError("the echo is not what was sent")

        await window.measure(trip)
        writer.close()
        await writer.wait_closed()


async def sleep0(window: Window) -> None:
    """One ``await asyncio.sleep(0)`` is one operation: a pass through the loop."""
    await window.measure(lambda: asyncio.sleep(0))


async def call_soon(window: Window) -> None:
    """One callback by `call_soon`, of a hundred that are scheduled together, is one operation."""
    loop = asyncio.get_running_loop()
    each = 100
    called = 0

    def callback() -> None:
        nonlocal called
        called += 1

    async def batch() -> None:
        done = loop.create_future()
        for _ in range(each):
            loop.call_soon(callback)
        loop.call_soon(done.set_result, None)
        await done

    await window.measure(batch, each)
    if called < window.operations:
        raise AssertionError(f"{called} callbacks ran of {window.operations} that were scheduled")


async def serve_ping(window: Window, announce: Callable[[int], object]) -> None:
    """Echo what one client in another process sends, until it closes.  The window is the client's.

    `announce` gets the port.
    """
    over = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        window.on_open()
        begin = time.perf_counter()
        try:
            while data := await reader.read(65536):
                writer.write(data)
                window.operations += 1
        finally:
            window.elapsed = time.perf_counter() - begin
            window.on_close()
            writer.close()
            if not over.done():
                over.set_result(None)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        announce(server.sockets[0].getsockname()[1])
        await over


async def flood(stop: Callable[[], bool], window: Window) -> None:
    """``sleep(0)`` without end, while somebody else looks at what else goes on; until `stop()`."""
    window.on_open()
    begin = time.perf_counter()
    while not stop():
        for _ in range(CHUNK):
            await asyncio.sleep(0)
        window.operations += CHUNK
    window.elapsed = time.perf_counter() - begin
    window.on_close()


async def idle(over: Callable[[Callable[[], object]], object], window: Window) -> None:
    """Nothing at all, until what `over` is given is called, on any thread."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    over(lambda: loop.call_soon_threadsafe(done.set))
    await done.wait()


RATES: dict[str, Callable[[Window], Awaitable[None]]] = {"echo": echo, "sleep0": sleep0, "call_soon": call_soon}
