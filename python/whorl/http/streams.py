"""Bodies as they come in: what ``response.content`` is, with the interface of ``aiohttp.streams``.

A :class:`StreamReader` keeps the pieces that it is fed as they are, and hands them out without a copy
wherever a caller takes a whole piece. What it does for each piece is native; this module has what is rare.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final

from whorl import _core

from .helpers import DEFAULT_CHUNK_SIZE, BaseTimerContext
from .http_exceptions import LineTooLong
from .log import internal_logger
from .websocket.data_queue import (
    AsyncStreamIterator,
    DataQueue,
    EofStream,
    FlowControlDataQueue,
    StreamSource,
)

__all__ = [
    "EMPTY_PAYLOAD",
    "AsyncStreamIterator",
    "ChunkTupleAsyncStreamIterator",
    "DataQueue",
    "EmptyStreamReader",
    "EofStream",
    "FlowControlDataQueue",
    "StreamReader",
    "StreamSource",
]


class ChunkTupleAsyncStreamIterator(_core.StreamIteratorBase):
    """The pairs that :meth:`StreamReader.readchunk` returns, up to the end of the body."""

    __slots__ = ()

    read_func: Callable[[], Awaitable[tuple[bytes, bool]]]

    def __init__(self, stream: StreamReader) -> None:
        self.read_func = stream.readchunk

    def __aiter__(self) -> ChunkTupleAsyncStreamIterator:
        return self

    async def _checked(self, item: Awaitable[tuple[bytes, bool]]) -> tuple[bytes, bool]:
        data, end_of_chunk = await item
        if not data and not end_of_chunk:
            raise StopAsyncIteration
        return data, end_of_chunk


def _shown(future: object) -> str:
    try:
        return repr(future)
    except TypeError:
        # Its own thread has taken the callbacks away meanwhile.
        return object.__repr__(future)


class StreamReader(_core.StreamReaderBase):
    """The body of a message, as it comes in.

    Read it whole with :meth:`read`, in pieces with :meth:`iter_chunked` and :meth:`iter_any`, or by lines::

        async for line in response.content: ...

    One task at a time may wait for data. Reading raises the exception of :meth:`set_exception` as soon as it
    is set, whatever is still buffered.

    The source is paused while more than ``2 * limit`` bytes are buffered, or more than ``limit // 16`` ends
    of HTTP chunks, and resumed below half of either. ``limit`` is a session's ``read_bufsize``, in bytes;
    ``timer`` limits the time that each wait may take; without a ``loop`` it is the current one.

    Source of the semantics: ``aiohttp.StreamReader``.
    """

    __slots__ = ()

    def __init__(
        self,
        protocol: StreamSource,
        limit: int,
        *,
        timer: BaseTimerContext | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._begin(protocol, limit, timer, asyncio.get_event_loop() if loop is None else loop)

    def __repr__(self) -> str:
        parts = [type(self).__name__]
        if self._size:
            parts.append(f"{self._size} bytes")
        if self._eof:
            parts.append("eof")
        low, high = self.get_read_buffer_limits()
        if low != DEFAULT_CHUNK_SIZE:
            parts.append(f"low={low} high={high}")
        if self._waiter is not None:
            parts.append(f"w={_shown(self._waiter)}")
        if (exception := self.exception()) is not None:
            parts.append(f"e={exception!r}")
        return f"<{' '.join(parts)}>"

    def __aiter__(self) -> AsyncStreamIterator[bytes]:
        return AsyncStreamIterator(self.readline)

    def iter_chunked(self, n: int) -> AsyncStreamIterator[bytes]:
        """Iterates over pieces of the body of at most ``n`` bytes."""
        self.set_read_chunk_size(n)
        return AsyncStreamIterator(partial(self.read, n))

    def iter_any(self) -> AsyncStreamIterator[bytes]:
        """Iterates over the body as it comes, without waiting for more than there is."""
        return AsyncStreamIterator(self.readany)

    def iter_chunks(self) -> ChunkTupleAsyncStreamIterator:
        """Iterates over what :meth:`readchunk` returns: pieces, and whether an HTTP chunk ends with them."""
        return ChunkTupleAsyncStreamIterator(self)

    def readline(self, *, max_line_length: int | None = None) -> Coroutine[Any, Any, bytes]:
        """Reads a line with its ``\\n``, or the rest of the body if that has none.

        Raises :exc:`LineTooLong` if it is longer than ``max_line_length`` bytes, which is by default the
        limit that the stream buffers.
        """
        return self.readuntil(max_size=max_line_length)

    def unread_data(self, data: bytes) -> None:
        """Puts ``data`` back, to be read again before everything else. Deprecated, as in aiohttp."""
        warnings.warn(
            "unread_data() is deprecated and will be removed in future releases (#3260)",
            DeprecationWarning,
            stacklevel=2,
        )
        self._put_back(data)

    def _call_at_end(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:
            internal_logger.exception("Exception in eof callback")

    def _line_too_long(self, line: bytes, limit: int) -> LineTooLong:
        return LineTooLong(line, limit)

    def _warn_at_end(self) -> None:
        internal_logger.warning(
            "Multiple access to StreamReader in eof state, might be infinite loop.", stack_info=True
        )


class EmptyStreamReader(StreamReader):
    """The body of a message that has none. It may be that of many messages, and of any loop."""

    __slots__ = ("_end_returned",)

    def __init__(self) -> None:
        self._end_returned = False
        self._set_ended()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def set_read_chunk_size(self, n: int) -> None:
        """Does nothing: there are no marks."""

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """Does nothing: all of the body is here already."""

    def feed_data(self, data: bytes, size: int = 0) -> bool:
        """Drops the data."""
        return False

    def feed_eof(self) -> None:
        """Does nothing: the body has ended already."""

    def begin_http_chunk_receiving(self) -> None:
        """Does nothing: there are no chunks."""

    def end_http_chunk_receiving(self) -> None:
        """Does nothing: there are no chunks."""

    def iter_chunks(self) -> ChunkTupleAsyncStreamIterator:
        """Iterates over nothing."""
        return ChunkTupleAsyncStreamIterator(EmptyStreamReader())

    async def read(self, n: int = -1) -> bytes:
        return b""

    async def readany(self) -> bytes:
        return b""

    async def readuntil(self, separator: bytes = b"\n", *, max_size: int | None = None) -> bytes:
        return b""

    async def readchunk(self) -> tuple[bytes, bool]:
        """Returns ``(b"", False)`` and ``(b"", True)`` in turn: the first is the end."""
        self._end_returned = not self._end_returned
        return b"", not self._end_returned

    async def readexactly(self, n: int) -> bytes:
        raise asyncio.IncompleteReadError(b"", n)

    def read_nowait(self, n: int = -1) -> bytes:
        return b""

    def _put_back(self, data: bytes) -> None:
        if data:
            raise RuntimeError(f"the empty body cannot take {len(data)} bytes back")


EMPTY_PAYLOAD: Final[StreamReader] = EmptyStreamReader()
