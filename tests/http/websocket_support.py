"""A bare HTTP connection for the WebSocket client to stand on, and servers at its other end."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from multidict import CIMultiDict

from whorl.http.websocket.client import ClientWebSocketResponse
from whorl.http.websocket.handshake import check_handshake, prepare_handshake

#: Runs a coroutine test on whorl's loop and on stock asyncio's.
on_both_loops = pytest.mark.usefixtures("both_loops")


class Response:
    """The head of a response, and no more."""

    def __init__(self, status: int = 101, headers: Any = ()) -> None:
        self.status = status
        self.headers: CIMultiDict[str] = CIMultiDict(headers)
        self.request_info = None
        self.history: tuple[Any, ...] = ()
        self.closed = False

    def close(self) -> None:
        self.closed = True


class UpgradedConnection(asyncio.Protocol):
    """What the WebSocket uses of a connection, on a socket of its own."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.sink: Any = None
        self.early = b""
        self.head: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.room = asyncio.Event()
        self.room.set()
        self.pauses = 0
        self.ended = asyncio.get_running_loop().create_future()

    # asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.sink is not None:
            self.sink.data_received(data)
            return
        self.early += data
        if not self.head.done() and b"\r\n\r\n" in self.early:
            head, _, self.early = self.early.partition(b"\r\n\r\n")
            self.head.set_result(head)

    def eof_received(self) -> None:
        if self.sink is not None:
            self.sink.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.room.set()
        self.ended.set_result(None)
        if self.sink is not None:
            self.sink.connection_lost(exc)

    def pause_writing(self) -> None:
        self.room.clear()
        if self.sink is not None:
            self.sink.pause_writing()

    def resume_writing(self) -> None:
        self.room.set()
        if self.sink is not None:
            self.sink.resume_writing()

    # whorl.http.websocket.stream.Connection

    def upgrade(self, sink: Any) -> None:
        self.sink = sink
        early, self.early = self.early, b""
        if early:
            sink.data_received(early)

    def pause_reading(self) -> None:
        self.pauses += 1
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        self.transport.resume_reading()

    async def drain(self) -> None:
        await self.room.wait()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()


@contextlib.asynccontextmanager
async def connected(
    port: int,
    *,
    protocols: tuple[str, ...] = (),
    offer: int = 0,
    **options: Any,
) -> AsyncIterator[ClientWebSocketResponse[Any]]:
    """A WebSocket to a server on this port; ``options`` are those of the constructor."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(UpgradedConnection, "127.0.0.1", port)
    opening = prepare_handshake(protocols=protocols, compress=offer)
    fields = "".join(f"{name}: {value}\r\n" for name, value in opening.headers.items())
    connection.transport.write(f"GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n".encode())
    status, *lines = (await connection.head).decode().split("\r\n")
    headers = [tuple(part.strip() for part in line.split(":", 1)) for line in lines]
    response = Response(int(status.split()[1]), headers)
    agreed = check_handshake(response, opening)
    ws: ClientWebSocketResponse[Any] = ClientWebSocketResponse(
        connection,
        response,
        protocol=agreed.protocol,
        compress=agreed.compress,
        client_notakeover=agreed.client_notakeover,
        server_window_bits=agreed.server_window_bits,
        server_notakeover=agreed.server_notakeover,
        **options,
    )
    try:
        yield ws
    finally:
        await ws.close()
        assert ws.closed
        assert response.closed
        await connection.ended


Handler = Callable[[web.WebSocketResponse], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(handler: Handler, **options: Any) -> AsyncIterator[int]:
    """aiohttp's own server, which calls ``handler`` with each WebSocket; yields its port.

    Whatever the handler raises fails the test.
    """
    failures: list[BaseException] = []

    async def serve(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(**options)
        await ws.prepare(request)
        try:
            await handler(ws)
        except Exception as error:
            failures.append(error)
        return ws

    app = web.Application()
    app.router.add_get("/", serve)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
    assert not failures, failures


class Peer:
    """The server's end of a connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))
        await self.writer.drain()

    async def frame(self) -> tuple[int, bytes]:
        """The first byte and the payload of the client's next frame, which has to be masked."""
        first, second = await self.reader.readexactly(2)
        assert second & 0x80, "a client's frames are masked"
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
        key = await self.reader.readexactly(4)
        masked = await self.reader.readexactly(size)
        clear = int.from_bytes(masked, "big") ^ int.from_bytes((key * (size // 4 + 1))[:size], "big")
        return first, clear.to_bytes(size, "big")

    async def close_code(self) -> int:
        """The code of the client's close frame, which comes next."""
        first, payload = await self.frame()
        assert first == 0x88
        return int.from_bytes(payload[:2], "big")


@contextlib.asynccontextmanager
async def bare_server(
    handler: Callable[[Peer], Awaitable[None]], *, early: bytes = b"", response_fields: str = ""
) -> AsyncIterator[int]:
    """A server that completes the handshake and then leaves every byte to ``handler``.

    :param early: what comes in one piece with the head of the response
    :param response_fields: more header fields of the response
    """
    failures: list[BaseException] = []
    running: set[asyncio.Task[Any] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running.add(asyncio.current_task())
        try:
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            key = next(line.split(": ")[1] for line in request.splitlines() if "WebSocket-Key" in line)
            digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
            accept = base64.b64encode(digest).decode()
            lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
            head = "\r\n".join([*lines, f"Sec-WebSocket-Accept: {accept}", f"{response_fields}\r\n"])
            writer.write(head.encode() + early)
            await handler(Peer(reader, writer))
        except Exception as error:
            failures.append(error)
        finally:
            writer.close()
            running.discard(asyncio.current_task())

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        tasks = [task for task in running if task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=5)
        for task in tasks:
            task.cancel()
        await server.wait_closed()
    assert not failures, failures
