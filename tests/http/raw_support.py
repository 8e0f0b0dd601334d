"""A server that says whatever bytes a test wants, when it wants, and counts its connections."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

Script = Callable[["Peer"], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def raw_response(body: bytes, *fields: str, status: str = "200 OK") -> bytes:
    """A whole response."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(lines).encode() + body


class Peer:
    """The server's end of one connection."""

    def __init__(
        self, server: RawServer, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server = server
        #: Which connection it is, from 0.
        self.number = number
        self.reader = reader
        self.writer = writer

    async def request(self) -> tuple[bytes, bytes]:
        """Reads one request: its head, and its body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.server.heads.append(head)
        body = b""
        if match := re.search(rb"(?i)^content-length: *(\d+)", head, re.MULTILINE):
            body = await self.reader.readexactly(int(match[1]))
        elif b"chunked" in head.lower():
            while size := int(await self.reader.readuntil(b"\n"), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readline()
        return head, body

    async def send(self, *pieces: bytes) -> None:
        """Sends each piece by itself."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            if len(pieces) > 1:
                await asyncio.sleep(0.002)

    def reset(self) -> None:
        """Ends the connection with RST."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Waits until the client has closed its end."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


class RawServer:
    """Runs a script for each connection on 127.0.0.1, and closes the connection when it returns.

    ``open`` and ``most_open`` count connections, ``accepted`` counts all of them; ``heads`` are the heads of
    requests.
    """

    def __init__(self, script: Script, **options: Any) -> None:
        self._script = script
        self._options = options
        self._tasks: set[asyncio.Task[Any]] = set()
        self.open = self.most_open = self.accepted = 0
        self.heads: list[bytes] = []
        self.errors: list[BaseException] = []

    async def __aenter__(self) -> RawServer:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, **self._options)
        self.port: int = self._server.sockets[0].getsockname()[1]
        scheme = "https" if "ssl" in self._options else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port}/"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if error is None:
            assert not self.errors, self.errors

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of asyncio's streams is an error of the loop's if it is cancelled before it begins, as where
        # a client closes at the end of the handshake.
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)

        def over(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            writer.close()

        task.add_done_callback(over)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(self, self.accepted, reader, writer)
        self.accepted += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await self._script(peer)
        except (asyncio.IncompleteReadError, ConnectionError):
            # The client has had enough.
            pass
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            self.errors.append(error)
        finally:
            self.open -= 1
            writer.close()
            with contextlib.suppress(BaseException):
                await writer.wait_closed()


def once(*pieces: bytes, then: str = "close") -> Script:
    """A script that reads a request and sends ``pieces``; ``then``: ``close``, ``reset``, or ``stall``."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*pieces)
        if then == "reset":
            # After the bytes have arrived: a reset may overtake them.
            await asyncio.sleep(0.02)
            peer.reset()
        elif then == "stall":
            await peer.gone()

    return script


def keeping_alive(response: bytes = OK) -> Script:
    """A script that answers every request alike."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(response)

    return script


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Sends what comes from one side on to the other, and closes that at the end, whatever that is."""
    try:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
    finally:
        sink.close()


async def until(condition: Callable[[], object], patience: float = 5.0) -> None:
    """Waits until ``condition()`` holds; fails if it does not in ``patience`` seconds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + patience
    while not condition():
        assert loop.time() < end, "what was waited for did not happen"
        await asyncio.sleep(0.001)


async def assert_nothing_acquired(connector: Any) -> None:
    """Fails unless every connection of ``connector`` that a request had was given back or closed."""
    await until(lambda: not connector._acquired, 2)
    for connections in connector._conns.values():
        for connection, _ in connections:
            assert connection.is_connected()
            assert not connection.should_close
