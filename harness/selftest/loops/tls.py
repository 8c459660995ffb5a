"""Faults of TLS."""

# What asyncio keeps private typeshed does not know, and what a method passes on it takes as it is.
# mypy: disable-error-code="attr-defined, misc, override"

from __future__ import annotations

import asyncio
import ssl
from asyncio import sslproto
from typing import Any

from . import Loop, broken, patch


@broken("a TLS transport knows only what its socket knows", "L.01-handshake", "L.02-start-tls", "L.03-alpn")
def only_the_sockets_names() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        return lambda self, name, default=None: self._transport.get_extra_info(name, default)

    patch(sslproto.SSLProtocol, "_get_extra_info", change)
    return Loop()


@broken("the loop has no start_tls", "L.02-start-tls")
class NoStartTls(Loop):
    async def start_tls(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError


@broken("a server's context gets protocols of the loop's own", "L.03-alpn")
class OwnAlpn(Loop):
    def _make_ssl_transport(self, sock: Any, protocol: Any, context: Any, *args: Any, **options: Any) -> Any:
        if options.get("server_side"):
            context.set_alpn_protocols(["http/1.1"])
        return super()._make_ssl_transport(sock, protocol, context, *args, **options)


@broken("a client looks at no certificate", "L.04-bad-certificate")
class CertificatesUnseen(Loop):
    def _make_ssl_transport(self, sock: Any, protocol: Any, context: Any, *args: Any, **options: Any) -> Any:
        if not options.get("server_side"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return super()._make_ssl_transport(sock, protocol, context, *args, **options)


@broken(
    "of a large write the last record waits for the next write, and is lost when the connection is closed",
    "L.05-end-of-the-stream",
    "L.08-paused-and-resumed",
)
def last_record_kept_back() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        def write_appdata(self: Any, parts: Any) -> None:
            data = self.__dict__.pop("_kept", b"") + b"".join(parts)
            whole = len(data) - len(data) % 16384 if len(data) > 65536 else len(data)
            self._kept = data[whole:]
            old(self, [data[:whole]])

        return write_appdata

    patch(sslproto.SSLProtocol, "_write_appdata", change)
    return Loop()


@broken(
    "a TLS transport that is closed aborts: what the kernel has not taken is lost",
    "L.05-end-of-the-stream",
    "L.08-paused-and-resumed",
)
def close_aborts() -> asyncio.AbstractEventLoop:
    patch(sslproto._SSLProtocolTransport, "close", lambda old: lambda self: self.abort())
    return Loop()


@broken(
    "a large write is cut into pieces that overlap by a byte",
    "L.05-end-of-the-stream",
    "L.06a-large-both-ways",
    "L.06b-larger-both-ways",
)
def pieces_overlap() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        def write_appdata(self: Any, parts: Any) -> None:
            data = b"".join(parts)
            old(self, [data[:65536], data[65535:]] if len(data) > 65536 else [data])

        return write_appdata

    patch(sslproto.SSLProtocol, "_write_appdata", change)
    return Loop()


@broken("TLS asks the socket for the host and port of its peer", "L.07-over-a-unix-socket")
class AsksForAHost(Loop):
    def _make_ssl_transport(self, sock: Any, *args: Any, **options: Any) -> Any:
        host, port = sock.getpeername()
        return super()._make_ssl_transport(sock, *args, **options)


@broken(
    "reading that is resumed waits for the socket, although OpenSSL has data already",
    "L.08-paused-and-resumed",
    sees=("FAIL", "TIMEOUT"),
)
def resumed_without_a_look() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        def resume_reading(self: Any) -> None:
            self._app_reading_paused = False

        return resume_reading

    patch(sslproto.SSLProtocol, "_resume_reading", change)
    return Loop()


@broken("a hang-up during the handshake ends it without an error", "L.09a-disconnect-during-handshake")
def hang_up_is_the_end() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        return lambda self: None if self._state is sslproto.SSLProtocolState.DO_HANDSHAKE else old(self)

    patch(sslproto.SSLProtocol, "eof_received", change)
    return Loop()


@broken("the timer of a handshake is set, and what it calls does nothing", "L.09b-handshake-timeout", sees=("TIMEOUT",))
def handshake_without_end() -> asyncio.AbstractEventLoop:
    patch(sslproto.SSLProtocol, "_check_handshake_timeout", lambda old: lambda self: None)
    return Loop()
