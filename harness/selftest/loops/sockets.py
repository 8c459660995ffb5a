"""Faults of descriptors, sockets, streams and pipes."""

# What asyncio keeps private typeshed does not know, and what a method passes on it takes as it is.
# mypy: disable-error-code="arg-type, attr-defined, call-overload, index, misc, override"

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import selectors
import socket
from asyncio import base_events, selector_events, unix_events
from typing import Any

from . import Loop, broken, patch


@broken(
    "a connection whose peer has ended is closed without a word of that end",
    "S.01a-tcp-protocols",
    "S.01b-unix-protocols",
    "S.01d-serve-forever",
    "S.02b-half-close",
    "S.07d-buffered-protocol",
)
def end_is_close() -> asyncio.AbstractEventLoop:
    patch(selector_events._SelectorSocketTransport, "_read_ready__on_eof", lambda old: lambda self: self.close())
    return Loop()


@broken("a datagram is cut off behind 4096 bytes", "S.01c-udp")
class ShortDatagrams(Loop):
    def _make_datagram_transport(self, *args: Any, **options: Any) -> Any:
        transport = super()._make_datagram_transport(*args, **options)
        transport.max_size = 4096
        return transport


@broken("a server whose serve_forever is cancelled serves on", "S.01d-serve-forever")
def serves_on() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        async def serve_forever(self: Any) -> None:
            await asyncio.shield(old(self))

        return serve_forever

    patch(base_events.Server, "serve_forever", change)
    return Loop()


@broken("a separator that was read is read again", "S.02a-stream-reading")
def separator_stays() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        async def readuntil(self: Any, separator: bytes = b"\n") -> bytes:
            data: bytes = await old(self, separator)
            self._buffer[:0] = separator
            return data

        return readuntil

    patch(asyncio.StreamReader, "readuntil", change)
    return Loop()


@broken("a transport never tells its protocol to pause: it buffers without end", "S.02c-backpressure")
class NeverPauses(Loop):
    def _make_socket_transport(self, *args: Any, **options: Any) -> Any:
        transport = super()._make_socket_transport(*args, **options)
        transport.set_write_buffer_limits(high=1 << 40)
        return transport


@broken(
    "when a socket has taken a part of what is written, the first byte of the rest is lost",
    "S.02d-transfer",
    "S.02e-transfer-of-a-gibibyte",
)
def byte_lost_on_a_socket() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        def write(self: Any, data: Any) -> None:
            old(self, data)
            del self._buffer[:1]

        return write

    patch(selector_events._SelectorSocketTransport, "write", change)
    return Loop()


@broken("abort is told to the protocol as an error", "S.02f-abort", "S.04d-closed-transports-while-ready")
def abort_is_an_error() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        return lambda self: self._force_close(ConnectionAbortedError(errno.ECONNABORTED, "aborted"))

    patch(selector_events._SelectorTransport, "abort", change)
    return Loop()


@broken("abort is close: what is not sent yet is sent", "S.02f-abort")
def abort_is_close() -> asyncio.AbstractEventLoop:
    patch(selector_events._SelectorTransport, "abort", lambda old: lambda self: self.close())
    return Loop()


@broken("a reader that is replaced is called once more", "S.03a-replace-reader-inside-itself")
class ReplacedReaderCalled(Loop):
    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:
        key = self._selector.get_map().get(fd)
        if key is not None and key.data[0] is not None:
            self.call_soon(key.data[0]._callback, *key.data[0]._args)
        super().add_reader(fd, callback, *args)


@broken(
    "a reader or writer is removed an iteration later: what was ready is called",
    "S.03a-replace-reader-inside-itself",
    "S.03b-remove-another-in-the-same-iteration",
    "S.03d-writer-turns-reader",
    "S.09b-unread-socket-starves-nobody",
)
class RemovedLater(Loop):
    def remove_reader(self, fd: Any) -> bool:
        self.call_soon(self.call_soon, super().remove_reader, fd)
        return True

    def remove_writer(self, fd: Any) -> bool:
        self.call_soon(self.call_soon, super().remove_writer, fd)
        return True


@broken("a descriptor is watched in one direction: its reader takes the place of its writer", "S.03c-both-directions")
class OneDirection(Loop):
    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:
        self.remove_writer(fd)
        super().add_reader(fd, callback, *args)


@broken(
    "readiness is an edge: a descriptor that is ready still is not told of again",
    "S.03e-reader-returns-one-at-a-time",
    "S.09b-unread-socket-starves-nobody",
    "S.14-one-descriptor-timer-and-wake",
    sees=("FAIL", "TIMEOUT"),
)
class EdgeTriggered(Loop):
    _before: frozenset[tuple[int, int]] = frozenset()

    def _process_events(self, events: Any) -> None:
        new = [(key, mask) for key, mask in events if (key.fd, mask) not in self._before]
        self._before = frozenset((key.fd, mask) for key, mask in events)
        super()._process_events(new)


@broken(
    "readiness is noted by number ahead of the callbacks, and told to whoever has that number then",
    "S.04a-number-reused",
    "S.04b-number-reused-while-the-thread-is-busy",
)
class EventsByNumber(Loop):
    def _process_events(self, events: Any) -> None:
        for key, mask in events:
            self.call_soon(self._tell, key.fd, mask)

    def _tell(self, fd: int, mask: int) -> None:
        key = self._selector.get_map().get(fd)
        if key is not None:
            super()._process_events([(key, mask & key.events)])

    def remove_reader(self, fd: Any) -> bool:
        self._process_events(self._selector.select(0))
        return super().remove_reader(fd)


@broken(
    "the loop polls with select(), which knows neither numbers above 1023 nor closed descriptors",
    "S.04c-closed-while-registered",
    "S.12-high-numbers",
    sees=("FAIL", "WEAK"),
)
def polls_with_select() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


@broken("a pipe's reader is told of its end twice", "S.05b-pipe-transports", "S.05c-fifo")
def end_told_twice() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        def lost(self: Any, exc: Any) -> None:
            self._protocol.eof_received()
            old(self, exc)

        return lost

    patch(unix_events._UnixReadPipeTransport, "_call_connection_lost", change)
    return Loop()


@broken("a pipe's writer does not notice that its reader has gone", "S.05b-pipe-transports", sees=("TIMEOUT",))
def deserted_unnoticed() -> asyncio.AbstractEventLoop:
    patch(unix_events._UnixWritePipeTransport, "_read_ready", lambda old: lambda self: None)
    return Loop()


@broken(
    "a refused connection is taken for one that is made",
    "S.01a-tcp-protocols",
    "S.06a-refused",
    "S.06c-several-addresses",
)
class RefusalIsSuccess(Loop):
    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        with contextlib.suppress(ConnectionRefusedError):  # the fault
            await super().sock_connect(sock, address)


@broken(
    "a socket stays registered when the wait for it is cancelled",
    "S.06b-connect-times-out",
    "S.07e-cancelled-sock-recv",
)
class StaysRegistered(Loop):
    def _sock_read_done(self, fd: int, future: Any, handle: Any = None) -> None:
        if not future.cancelled():
            super()._sock_read_done(fd, future, handle)

    def _sock_write_done(self, fd: int, future: Any, handle: Any = None) -> None:
        if not future.cancelled():
            super()._sock_write_done(fd, future, handle)


@broken("sock_recv_into says how large the buffer is and not how much it has received", "S.07a-sock-family")
class SizeOfTheBuffer(Loop):
    async def sock_recv_into(self, sock: socket.socket, buf: Any) -> int:
        return len(buf) if await super().sock_recv_into(sock, buf) else 0


@broken(
    "sock_sendall sends what the socket takes at once, and no more",
    "S.07a-sock-family",
    "S.07d-buffered-protocol",
)
class SendsOnce(Loop):
    async def sock_sendall(self, sock: socket.socket, data: Any) -> None:
        sock.send(data)


@broken("sock_recvfrom_into does not say who has sent", "S.07b-sock-datagrams")
class SenderLost(Loop):
    async def sock_recvfrom_into(self, *args: Any) -> Any:
        return (await super().sock_recvfrom_into(*args))[0]


@broken("sendfile sends one buffer of 64 KiB", "S.07c-sendfile")
class SendfileStops(Loop):
    async def sock_sendfile(self, sock: Any, file: Any, offset: int = 0, count: Any = None, **options: Any) -> int:
        return await super().sock_sendfile(sock, file, offset, min(count or 1 << 16, 1 << 16), **options)


@broken(
    "the loop has room for 64 sockets, and says of more that there are no descriptors left",
    "S.08a-hundred-connections",
    "S.08b-thousand-connections",
)
class SixtyFourSockets(Loop):
    def _make_socket_transport(self, *args: Any, **options: Any) -> Any:
        if len(self._transports) >= 64:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super()._make_socket_transport(*args, **options)


@broken(
    "a turn looks again and again at a paused connection that has data, before it looks at the timers",
    "S.09a-forgotten-socket-does-not-spin",
)
class PausedSocketSpins(Loop):
    def _run_once(self) -> None:
        paused = [t for t in self._transports.values() if not t.is_closing() and not t.is_reading()]
        for transport in paused if not self._ready else ():
            for _ in range(2_000_000):
                if not select.select([transport._sock_fd], [], [], 0)[0]:
                    break
        super()._run_once()


@broken("a loop with a paused connection does not sleep", "S.09a-forgotten-socket-does-not-spin")
class NoSleepWhilePaused(Loop):
    def _run_once(self) -> None:
        if any(not t.is_closing() and not t.is_reading() for t in self._transports.values()):
            self.call_soon(lambda: None)
        super()._run_once()


@broken("names are resolved on the loop's thread", "S.10-name-resolution", sees=("FAIL", "TIMEOUT"))
class ResolvesHere(Loop):
    async def getaddrinfo(self, *args: Any, **options: Any) -> Any:
        return socket.getaddrinfo(*args, **options)


@broken("getaddrinfo forgets which type of socket it was asked for", "S.10-name-resolution")
class AnyType(Loop):
    async def getaddrinfo(self, *args: Any, **options: Any) -> Any:
        return await super().getaddrinfo(*args, **{**options, "type": 0})


@broken("create_server ignores reuse_port", "S.11a-reuse-port")
class PortNotShared(Loop):
    async def create_server(self, *args: Any, **options: Any) -> Any:
        return await super().create_server(*args, **{**options, "reuse_port": None})


@broken(
    "the error of a datagram that is too long is raised by sendto and not told to the protocol",
    "S.11b-datagram-errors",
)
class SendtoRaises(Loop):
    def _make_datagram_transport(self, sock: Any, protocol: Any, *args: Any, **options: Any) -> Any:
        transport = super()._make_datagram_transport(sock, protocol, *args, **options)
        told = protocol.error_received

        def error_received(exc: OSError) -> None:
            if exc.errno == errno.EMSGSIZE:
                raise exc
            told(exc)

        protocol.error_received = error_received
        return transport


@broken("an error is told to the exception handler twice", "S.15-handler-errors-stay-local")
class ErrorsToldTwice(Loop):
    def call_exception_handler(self, context: Any) -> None:
        super().call_exception_handler(context)
        super().call_exception_handler(context)


@broken("an error that is told to the exception handler closes the server", "S.15-handler-errors-stay-local")
class ServerDies(Loop):
    async def create_server(self, *args: Any, **options: Any) -> Any:
        self._server = await super().create_server(*args, **options)
        return self._server

    def call_exception_handler(self, context: Any) -> None:
        super().call_exception_handler(context)
        self._server.close()
