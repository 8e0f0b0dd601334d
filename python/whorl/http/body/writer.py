"""Writes a request: its head, then its body, with a length or in chunks, compressed or not."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from whorl import _core

from ..abc import AbstractStreamWriter
from ..exceptions import ClientConnectionResetError

if TYPE_CHECKING:
    from multidict import CIMultiDict

    from ..typedefs import Byteish

__all__ = ["StreamWriter"]

# Draining costs a check; it is done once for this many bytes.
_DRAIN_AFTER = 64 * 1024
# A body that is about to follow is not appended to its head if it is larger than this.
_JOIN_BELOW = 4096


class StreamWriter(AbstractStreamWriter):
    """The writer of a :class:`Payload`. Source of the semantics:
    ``aiohttp.http_writer.StreamWriter``.

    :param protocol: the connection
    :param loop: the event loop
    :param on_chunk_sent: awaited with each piece of the body, before it is encoded
    :param on_headers_sent: awaited with the header fields
    :param head: the head, as it is sent
    """

    def __init__(
        self,
        protocol: _core.HttpConnection,
        loop: asyncio.AbstractEventLoop,
        on_chunk_sent: Callable[[Byteish], Awaitable[None]] | None = None,
        on_headers_sent: Callable[[CIMultiDict[str]], Awaitable[None]] | None = None,
        *,
        head: bytes | None = None,
    ) -> None:
        self.protocol = protocol
        self.loop = loop
        self.buffer_size = 0
        self.output_size = 0
        self.length: int | None = None
        self.chunked = False
        self.on_body_write: Callable[[int, int], None] | None = None
        self._on_chunk_sent = on_chunk_sent
        self._on_headers_sent = on_headers_sent
        # The head waits for the first piece of the body, so that both go out in one.
        self._head = head
        self._ended = False
        self._compressor: zlib._Compress | None = None

    @property
    def transport(self) -> asyncio.Transport | None:
        """The connection's transport; None once it is closed."""
        return self.protocol.transport

    @property
    def is_silent(self) -> bool:
        """Whether nothing is called for the pieces of the body."""
        return self._on_chunk_sent is None

    def enable_chunking(self) -> None:
        """Send the body in chunks (RFC 9112, section 7.1)."""
        self.chunked = True

    def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None:
        """Compress the body: ``deflate`` (the zlib format) or ``gzip``.

        :raises ValueError: for another coding
        """
        if encoding not in ("deflate", "gzip"):
            raise ValueError(f"a request body cannot be compressed as {encoding!r}: use 'deflate' or 'gzip'")
        wbits = zlib.MAX_WBITS + 16 if encoding == "gzip" else zlib.MAX_WBITS
        level, memory = zlib.Z_DEFAULT_COMPRESSION, zlib.DEF_MEM_LEVEL
        chosen = zlib.Z_DEFAULT_STRATEGY if strategy is None else strategy
        self._compressor = zlib.compressobj(level, zlib.DEFLATED, wbits, memory, chosen)

    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None:
        """Write the head: ``status_line`` is the request line without its line end.

        :raises ValueError: for a field name that is no token, or a value with control characters
        """
        if self._on_headers_sent is not None:
            await self._on_headers_sent(headers)
        self._head = _core.encode_head(status_line, headers)

    def send_headers(self) -> None:
        """Send the head now, without a piece of the body."""
        if self._head is not None:
            self._send([])

    async def write(self, chunk: Byteish, *, drain: bool = True, LIMIT: int = _DRAIN_AFTER) -> None:  # noqa: N803
        """Write a piece of the body, and drain unless ``drain`` is false.

        :raises ClientConnectionResetError: if the connection is closed
        """
        if self._on_chunk_sent is not None:
            await self._on_chunk_sent(chunk)
        if isinstance(chunk, memoryview) and chunk.nbytes != len(chunk):
            chunk = chunk.cast("B")
        size = len(chunk)
        self.put(chunk)
        if self.on_body_write is not None and size:
            self.on_body_write(size, self.output_size)
        if drain and self.buffer_size > LIMIT:
            self.buffer_size = 0
            await self.drain()

    def put(self, chunk: Byteish) -> None:
        """Write a piece of the body without draining."""
        if self._compressor is not None:
            chunk = self._compressor.compress(chunk)
        if self.length is not None:
            chunk = chunk[: self.length]
            self.length -= len(chunk)
        if chunk:
            self._send_piece(chunk)

    def _send_piece(self, chunk: Byteish) -> None:
        if self.chunked:
            self._send([b"%x\r\n" % len(chunk), chunk, b"\r\n"])
        else:
            self._send([chunk])

    def _send(self, pieces: list[Byteish]) -> None:
        if self._head is not None:
            pieces.insert(0, self._head)
            self._head = None
        size = sum(map(len, pieces))
        self.buffer_size += size
        self.output_size += size
        if size < _JOIN_BELOW and len(pieces) > 1:
            self.protocol.write(b"".join(pieces))
        else:
            self.protocol.write(pieces)

    async def write_eof(self, chunk: bytes = b"") -> None:
        """Write the last piece, and the end of the body.

        :raises ClientConnectionResetError: if the connection is closed
        """
        if self._ended:
            return
        if chunk and self._on_chunk_sent is not None:
            await self._on_chunk_sent(chunk)
        self.end(chunk)
        if chunk and self.on_body_write is not None:
            self.on_body_write(len(chunk), self.output_size)
        await self.drain()

    def end(self, chunk: Byteish = b"") -> None:
        """Write the last piece and the end of the body, without draining."""
        if self._ended:
            return
        self._ended = True
        if self._compressor is not None:
            chunk = (self._compressor.compress(chunk) if chunk else b"") + self._compressor.flush()
        if self.length is not None:
            chunk = chunk[: self.length]
            self.length -= len(chunk)
        if self.chunked:
            last: list[Byteish] = [b"0\r\n\r\n"]
            self._send([b"%x\r\n" % len(chunk), chunk, b"\r\n", *last] if chunk else last)
        elif chunk or self._head is not None:
            self._send([chunk] if chunk else [])

    def set_eof(self) -> None:
        """There is no body: send the head."""
        if not self._ended:
            self._ended = True
            self.send_headers()

    async def drain(self) -> None:
        """Wait until the transport's buffer is below its high-water mark.

        :raises ClientConnectionResetError: if the connection is lost meanwhile
        """
        if self.protocol.transport is None and not self._ended:
            raise ClientConnectionResetError("Connection lost")
        waiter = self.protocol.drain_waiter()
        if waiter is not None:
            await waiter
