"""Peers of the bodies under test: a source that feeds a stream and can be paused, a writer into memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from multidict import CIMultiDict

from whorl.http.abc import AbstractStreamWriter
from whorl.http.streams import StreamReader
from whorl.http.typedefs import Byteish


class Source:
    """What a connection is to a stream."""

    def __init__(self) -> None:
        self.connected = True
        self._reading_paused = False
        self.resumed = 0

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self, resume_parser: bool = True) -> None:
        self._reading_paused = False
        self.resumed += 1


def stream_of(*pieces: bytes, limit: int = 2**16, end: bool = True) -> StreamReader:
    """A stream that has been fed with ``pieces``, and ended."""
    stream = StreamReader(Source(), limit)
    for piece in pieces:
        stream.feed_data(piece)
    if end:
        stream.feed_eof()
    return stream


async def feed(stream: StreamReader, pieces: Iterable[bytes], *, chunked: bool = False) -> int:
    """Feeds a stream as a connection does that stops while it is paused; returns the most that was buffered.

    Every piece comes in a turn of its own; with ``chunked`` it is an HTTP chunk as well.
    """
    most = 0
    for piece in pieces:
        await asyncio.sleep(0)
        while stream._protocol._reading_paused:
            await asyncio.sleep(0)
        if chunked:
            stream.begin_http_chunk_receiving()
        stream.feed_data(piece)
        if chunked:
            stream.end_http_chunk_receiving()
        most = max(most, stream._size)
    stream.feed_eof()
    return most


def cut(data: bytes, *sizes: int) -> list[bytes]:
    """``data`` in pieces of these sizes, over and over."""
    pieces = []
    start = 0
    while start < len(data):
        for size in sizes:
            if piece := data[start : start + size]:
                pieces.append(piece)
            start += size
    return pieces


class MemoryWriter(AbstractStreamWriter):
    """Keeps what is written, piece by piece."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    async def write(self, chunk: Byteish) -> None:
        self.pieces.append(bytes(chunk))

    async def write_eof(self, chunk: bytes = b"") -> None:
        raise AssertionError("a payload does not end the message")

    async def drain(self) -> None:
        pass

    def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None:
        raise AssertionError("a payload does not choose the coding of the message")

    def enable_chunking(self) -> None:
        raise AssertionError("a payload does not choose the framing of the message")

    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None:
        raise AssertionError("a payload does not write the head of the message")
