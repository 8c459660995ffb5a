"""Group L: TLS."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import Any

from .. import tls
from ..api import CaseContext, case
from ..support import digest, listen, pattern, settle


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        await writer.wait_closed()
    except OSError:
        pass


def _narrow_listener() -> socket.socket:
    """A listening socket whose connections the kernel takes little from at a time: what is sent waits in the loop."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 15)
    return listener


async def _shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
    except OSError:
        pass
    finally:
        await _close(writer)


@case(
    "L.01-handshake",
    "Client and server shake hands, know each other's names and ciphers, and exchange lines.",
    needs="tls",
    rejects="QtAsyncio, which has no TLS",
)
async def handshake(t: CaseContext) -> None:
    server = await asyncio.start_server(_shout, "127.0.0.1", 0, ssl=tls.server_context(t.tmp))
    async with server:
        for i in range(3):
            reader, writer = await asyncio.open_connection(
                *server.sockets[0].getsockname(), ssl=tls.client_context(), server_hostname="localhost"
            )
            writer.write(b"line %d\n" % i)
            t.log("answer", (await reader.readline()).decode())
            t.log("peer", writer.get_extra_info("peercert")["subject"][0][0][1])
            t.log(
                "objects", [writer.get_extra_info(name) is not None for name in ("cipher", "ssl_object", "sslcontext")]
            )
            await _close(writer)
    await settle()


@case(
    "L.02-start-tls",
    "A plain connection becomes a TLS one in the middle, on both sides.",
    needs="tls",
    rejects="gbulb, which has no start_tls",
)
async def start_tls(t: CaseContext) -> None:
    context = tls.server_context(t.tmp)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        t.log("plain", (await reader.readline()).decode(), actor="server")
        writer.write(b"go ahead\n")
        await writer.drain()
        await writer.start_tls(context)
        t.log("encrypted", (await reader.readline()).decode(), actor="server")
        t.log("cipher", writer.get_extra_info("cipher") is not None, actor="server")
        writer.write(b"secret answer\n")
        await _close(writer)

    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"starttls\n")
        t.log("plain", (await reader.readline()).decode())
        await writer.start_tls(tls.client_context(), server_hostname="localhost")
        writer.write(b"secret\n")
        t.log("encrypted", (await reader.readline()).decode())
        await _close(writer)
    await settle()


@case(
    "L.03-alpn",
    "The protocol both sides know is chosen, in the server's order.",
    needs="tls",
    rejects="a context copied without its settings",
)
async def alpn(t: CaseContext) -> None:
    context = tls.server_context(t.tmp)
    context.set_alpn_protocols(["h2", "http/1.1"])
    server = await asyncio.start_server(_shout, "127.0.0.1", 0, ssl=context)
    async with server:
        for protocols in (["http/1.1", "h2"], ["http/1.1"], ["other"]):
            client = tls.client_context()
            client.set_alpn_protocols(protocols)
            reader, writer = await asyncio.open_connection(
                *server.sockets[0].getsockname(), ssl=client, server_hostname="localhost"
            )
            t.log("chosen", writer.get_extra_info("ssl_object").selected_alpn_protocol())
            await _close(writer)
    await settle()


@case(
    "L.04-bad-certificate",
    "A certificate that is not trusted, or for another name, is refused, and the server serves on.",
    needs="tls",
    rejects="a failed handshake that leaks its transport or kills the server",
)
async def bad_certificate(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    listen(loop)
    server = await asyncio.start_server(_shout, "127.0.0.1", 0, ssl=tls.server_context(t.tmp))
    address = server.sockets[0].getsockname()
    async with server:
        for name, context, hostname in (
            ("not trusted", ssl.create_default_context(), "localhost"),
            ("another name", tls.client_context(), "elsewhere.test"),
        ):
            try:
                await asyncio.open_connection(*address, ssl=context, server_hostname=hostname)
            except ssl.SSLCertVerificationError as exc:
                t.log(name, exc.verify_code)
        reader, writer = await asyncio.open_connection(*address, ssl=tls.client_context(), server_hostname="localhost")
        writer.write(b"still there?\n")
        t.log("answer", (await reader.readline()).decode())
        await _close(writer)
    await settle()
    loop.set_exception_handler(None)


@case(
    "L.05-end-of-the-stream",
    "TLS has no half-close: write_eof is refused, a closing side sends all it has, the other reads it to the end.",
    needs="tls",
    rejects="the last records lost at close",
)
async def end_of_stream(t: CaseContext) -> None:
    data = pattern(2_000_000)  # more than the kernel takes for a reader that does not read
    closing = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        writer.close()
        closing.set()
        await _close(writer)

    server = await asyncio.start_server(handler, sock=_narrow_listener(), ssl=tls.server_context(t.tmp))
    async with server:
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=tls.client_context(), server_hostname="localhost"
        )
        t.log("can write eof", writer.can_write_eof())
        try:
            writer.write_eof()
        except NotImplementedError:
            t.log("refused")
        await closing.wait()
        received = await reader.read()
        t.check(received == data, "the data differ", length=len(received))
        t.log("at end", [len(received), reader.at_eof()])
        await _close(writer)
    await settle()


async def _both_ways(t: CaseContext, size: int) -> None:
    data = pattern(size)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await pump(reader, writer)
        await _close(writer)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        async def send() -> None:
            for start in range(0, size, 100_000):
                writer.write(data[start : start + 100_000])
                await writer.drain()

        sending = asyncio.create_task(send())
        received = await reader.readexactly(size)
        await sending
        return received

    server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=tls.server_context(t.tmp))
    async with server:
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=tls.client_context(), server_hostname="localhost"
        )
        received = await pump(reader, writer)
        t.check(received == data, "the data differ")
        t.log("received", [len(received), digest(received)])
        await _close(writer)
    await settle()


@case(
    "L.06a-large-both-ways",
    "4 MiB each way at once arrive unchanged.",
    needs="tls",
    rejects="a side that stops reading while it writes",
)
async def large_both_ways(t: CaseContext) -> None:
    await _both_ways(t, 4 << 20)


@case(
    "L.06b-larger-both-ways",
    "64 MiB each way at once arrive unchanged.",
    needs="tls",
    tier="full",
    timeout=60,
    rejects="a side that stops reading while it writes",
)
async def larger_both_ways(t: CaseContext) -> None:
    await _both_ways(t, 64 << 20)


@case(
    "L.07-over-a-unix-socket",
    "TLS works over a Unix socket.",
    needs="tls",
    rejects="a TLS that asks the socket for its host",
)
async def over_unix_socket(t: CaseContext) -> None:
    path = os.path.join(t.tmp, "s")
    server = await asyncio.start_unix_server(_shout, path, ssl=tls.server_context(t.tmp))
    async with server:
        reader, writer = await asyncio.open_unix_connection(path, ssl=tls.client_context(), server_hostname="localhost")
        writer.write(b"through a path\n")
        t.log("answer", (await reader.readline()).decode())
        await _close(writer)
    await settle()


@case(
    "L.08-paused-and-resumed",
    "Reading paused and resumed again and again during a transfer loses nothing.",
    needs="tls",
    rejects="data that OpenSSL holds already and no descriptor announces",
)
async def paused_and_resumed(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    data = pattern(1_000_000)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await _close(writer)

    class Sleepy(asyncio.Protocol):
        def __init__(self) -> None:
            self.received = bytearray()
            self.pauses = 0
            self.closed = loop.create_future()

        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.received += data
            self.pauses += 1
            self.transport.pause_reading()
            loop.call_soon(loop.call_soon, self.transport.resume_reading)

        def connection_lost(self, exc: Exception | None) -> None:
            self.closed.set_result(exc)

    # Once all is there before the reader is, so that the rest waits in OpenSSL; once most of it still waits in the loop
    # of the writer when that closes.
    for listener in (socket.create_server(("127.0.0.1", 0)), _narrow_listener()):
        server = await asyncio.start_server(handler, sock=listener, ssl=tls.server_context(t.tmp))
        async with server:
            _, protocol = await loop.create_connection(
                Sleepy, *server.sockets[0].getsockname(), ssl=tls.client_context(), server_hostname="localhost"
            )
            t.log("closed", repr(await protocol.closed))
            t.check(bytes(protocol.received) == data, "the data differ", length=len(protocol.received))
            t.check(protocol.pauses > 3, "reading was hardly paused", pauses=protocol.pauses)
        await settle()


@case(
    "L.09a-disconnect-during-handshake",
    "A peer that hangs up during the handshake is an error for the one who waits, and the server serves on.",
    needs="tls",
    report="quamash#64",
    rejects="quamash: a crash, or a wait without end",
)
async def disconnect_during_handshake(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    listen(loop)

    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        await _close(writer)

    server = await asyncio.start_server(rude, "127.0.0.1", 0)
    async with server:
        try:
            await asyncio.open_connection(
                *server.sockets[0].getsockname(), ssl=tls.client_context(), server_hostname="localhost"
            )
        except OSError as exc:
            t.log("client", isinstance(exc, (ConnectionError, ssl.SSLError)))
    server = await asyncio.start_server(_shout, "127.0.0.1", 0, ssl=tls.server_context(t.tmp))
    address = server.sockets[0].getsockname()
    async with server:
        for greeting in (b"", b"\x16\x03\x01", b"GET / HTTP/1.0\r\n\r\n"):
            with socket.socket() as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, address)
                await loop.sock_sendall(sock, greeting)
        reader, writer = await asyncio.open_connection(*address, ssl=tls.client_context(), server_hostname="localhost")
        writer.write(b"still there?\n")
        t.log("answer", (await reader.readline()).decode())
        await _close(writer)
    await settle()
    loop.set_exception_handler(None)


@case(
    "L.09b-handshake-timeout",
    "A handshake with a silent peer ends after `ssl_handshake_timeout`.",
    needs="tls",
    rejects="a timer of the handshake that is never set",
)
async def handshake_timeout(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    listen(loop)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        try:
            await asyncio.open_connection(
                *silent.getsockname(), ssl=tls.client_context(), server_hostname="localhost", ssl_handshake_timeout=0.02
            )
        except OSError as exc:
            t.log("client", type(exc).__name__)
    await settle()
    loop.set_exception_handler(None)
