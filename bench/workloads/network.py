"""Echo servers over every kind of transport, servers of short connections, and one of idle connections."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.workloads import Setting

_LOOPBACK = "127.0.0.1"
_BACKLOG = 1024
#: One read of a buffered protocol: as much as asyncio's own transports read.
_READ_SIZE = 256 * 1024


class Echo(asyncio.Protocol):
    """Writes back what it reads."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    """Reads into one buffer of its own, and writes back a copy of what is in it."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(_READ_SIZE))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        # A copy, as not every transport takes one of a buffer that the next read will overwrite.
        self.transport.write(bytes(self.buffer[:nbytes]))


class DatagramEcho(asyncio.DatagramProtocol):
    """Sends datagrams back."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self.transport.sendto(data, addr)


class ReplyAndClose(asyncio.Protocol):
    """Writes back the first message and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        self.transport.close()


class PipeEcho(asyncio.Protocol):
    """Writes what it reads from one pipe to another."""

    def __init__(self, output: asyncio.WriteTransport) -> None:
        self.output = output

    def data_received(self, data: bytes) -> None:
        self.output.write(data)


#: Servers and transports are kept here for as long as the process lives.
_KEPT: list[Any] = []


def tls_context(setting: Setting) -> ssl.SSLContext:
    """A server context with the run's own certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(setting.directory / "certificate.pem", setting.directory / "key.pem")
    return context


async def _tcp(
    setting: Setting, protocol: type[asyncio.BaseProtocol], context: ssl.SSLContext | None = None
) -> str:
    server = await setting.loop.create_server(protocol, _LOOPBACK, 0, ssl=context, backlog=_BACKLOG)
    _KEPT.append(server)
    return _address(server.sockets[0])


def _address(listener: Any) -> str:
    host, port = listener.getsockname()[:2]
    return f"{host}:{port}"


async def echo_protocol(setting: Setting) -> str:
    """TCP, protocol."""
    return await _tcp(setting, Echo)


async def echo_buffered(setting: Setting) -> str:
    """TCP, buffered protocol."""
    return await _tcp(setting, BufferedEcho)


async def echo_tls(setting: Setting) -> str:
    """TLS, protocol."""
    return await _tcp(setting, Echo, tls_context(setting))


async def reply_and_close(setting: Setting) -> str:
    """TCP connections of one message."""
    return await _tcp(setting, ReplyAndClose)


async def reply_and_close_tls(setting: Setting) -> str:
    """TLS connections of one message."""
    return await _tcp(setting, ReplyAndClose, tls_context(setting))


async def echo_streams(setting: Setting) -> str:
    """TCP, streams."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(64 * 1024):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, _LOOPBACK, 0, backlog=_BACKLOG)
    _KEPT.append(server)
    return _address(server.sockets[0])


async def echo_sock(setting: Setting) -> str:
    """TCP by sock_accept, sock_recv and sock_sendall, one task a connection."""
    loop, size = setting.loop, setting.size
    listener = socket.create_server((_LOOPBACK, 0), backlog=_BACKLOG)
    listener.setblocking(False)

    async def serve(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            while data := await loop.sock_recv(connection, size):
                await loop.sock_sendall(connection, data)

    async def accept() -> None:
        while True:
            connection, _ = await loop.sock_accept(listener)
            _KEPT.append(loop.create_task(serve(connection)))

    _KEPT.append(loop.create_task(accept()))
    return _address(listener)


async def echo_udp(setting: Setting) -> str:
    """Datagrams."""
    transport, _ = await setting.loop.create_datagram_endpoint(DatagramEcho, local_addr=(_LOOPBACK, 0))
    _KEPT.append(transport)
    return _address(transport.get_extra_info("socket"))


async def echo_unix(setting: Setting) -> str:
    """Unix-domain stream, protocol."""
    path = str(setting.directory / "echo.sock")
    _KEPT.append(await setting.loop.create_unix_server(Echo, path, backlog=_BACKLOG))
    return path


async def echo_fifo(setting: Setting) -> str:
    """Pairs of FIFOs: `request-N` is read, `answer-N` written."""
    for index in range(setting.connections):
        request, answer = (str(setting.directory / f"{name}-{index}") for name in ("request", "answer"))
        os.mkfifo(request)
        os.mkfifo(answer)
        # While the client has not opened its ends, our own second ends keep the pipes open.
        holds_answer = os.open(answer, os.O_RDONLY | os.O_NONBLOCK)
        reads = os.open(request, os.O_RDONLY | os.O_NONBLOCK)
        holds_request = os.open(request, os.O_WRONLY | os.O_NONBLOCK)
        writes = os.open(answer, os.O_WRONLY | os.O_NONBLOCK)
        output, _ = await setting.loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(writes, "wb", 0))
        connected = await setting.loop.connect_read_pipe(
            lambda output=output: PipeEcho(output),  # type: ignore[misc]
            os.fdopen(reads, "rb", 0),
        )
        _KEPT.append((holds_answer, holds_request, output, connected))
    return str(setting.directory)
