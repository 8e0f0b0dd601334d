"""Bodies as they come in: what ``response.content`` is, with the interface of ``aiohttp.streams``.

A :class:`StreamReader` keeps the pieces that the connection feeds it as they are, in a queue, and hands them
out without a copy wherever a caller takes a whole piece. All of it runs on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from .helpers import DEFAULT_CHUNK_SIZE, BaseTimerContext
from .http_exceptions import LineTooLong
from .log import internal_logger
from .websocket.data_queue import (
    AsyncStreamIterator,
    DataQueue,
    EofStream,
    FlowControlDataQueue,
    StreamSource,
    fail,
    wake,
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

# More bytes than any body has: a read of so many waits for the end.
_EVERYTHING: Final = sys.maxsize

# After so many reads at the end of the stream a warning is logged: the program may be in an endless loop.
_READS_AT_EOF: Final = 5


class ChunkTupleAsyncStreamIterator:
    """The pairs that :meth:`StreamReader.readchunk` returns, up to the end of the body."""

    __slots__ = ("_stream",)

    def __init__(self, stream: StreamReader) -> None:
        self._stream = stream

    def __aiter__(self) -> ChunkTupleAsyncStreamIterator:
        return self

    async def __anext__(self) -> tuple[bytes, bool]:
        data, end_of_chunk = await self._stream.readchunk()
        if not data and not end_of_chunk:
            raise StopAsyncIteration
        return data, end_of_chunk


class StreamReader:
    """The body of a message, as it comes in.

    Read it whole with :meth:`read`, in pieces with :meth:`iter_chunked` and :meth:`iter_any`, or by lines::

        async for line in response.content: ...

    One task at a time may wait for data. Reading raises the exception of :meth:`set_exception` as soon as it
    is set, whatever is still buffered.

    The source is paused while more than ``2 * limit`` bytes are buffered, or more than ``limit // 16`` ends
    of HTTP chunks, and resumed below half of either. ``limit`` is a session's ``read_bufsize``, in bytes;
    ``timer`` limits the time that each wait may take; without a ``loop`` it is the current one.
    """

    __slots__ = (
        "_buffer",
        "_buffer_offset",
        "_cursor",
        "_eof",
        "_eof_callbacks",
        "_eof_counter",
        "_eof_waiter",
        "_exception",
        "_high_water",
        "_high_water_chunks",
        "_http_chunk_splits",
        "_loop",
        "_low_water",
        "_low_water_chunks",
        "_protocol",
        "_size",
        "_timer",
        "_waiter",
        "_wanted",
        "total_bytes",
        "total_compressed_bytes",
    )

    def __init__(
        self,
        protocol: StreamSource,
        limit: int,
        *,
        timer: BaseTimerContext | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._protocol = protocol
        self._loop = asyncio.get_event_loop() if loop is None else loop
        self._timer = timer
        self._low_water = limit
        self._high_water = 2 * limit
        # Tiny chunks cost more than their bytes, as a reader has to go past the end of each. The chunk that
        # is being read has one too: a mark below 2 would never be reached on the way down.
        self._high_water_chunks = max(4, limit // 16)
        self._low_water_chunks = self._high_water_chunks // 2
        # Pieces, and how much of the first has been read.
        self._buffer: deque[bytes] = deque()
        self._buffer_offset = 0
        # Bytes buffered; bytes read since the beginning, without those that were put back.
        self._size = 0
        self._cursor = 0
        # Where HTTP chunks end, counted as _cursor is, and none before it. None while the body is not known
        # to be chunked.
        self._http_chunk_splits: deque[int] | None = None
        self._eof = False
        self._exception: BaseException | None = None
        # The waiter for data, and how many bytes have to be buffered before it is woken.
        self._waiter: asyncio.Future[None] | None = None
        self._wanted = 1
        self._eof_waiter: asyncio.Future[None] | None = None
        self._eof_callbacks: list[Callable[[], None]] = []
        self._eof_counter = 0
        self.total_bytes = 0
        """Bytes of the body so far, decompressed."""
        self.total_compressed_bytes: int | None = None
        """Bytes of the body so far as they were sent, if they were compressed."""

    def __repr__(self) -> str:
        parts = [type(self).__name__]
        if self._size:
            parts.append(f"{self._size} bytes")
        if self._eof:
            parts.append("eof")
        if self._low_water != DEFAULT_CHUNK_SIZE:
            parts.append(f"low={self._low_water} high={self._high_water}")
        if self._waiter is not None:
            parts.append(f"w={self._waiter!r}")
        if self._exception is not None:
            parts.append(f"e={self._exception!r}")
        return f"<{' '.join(parts)}>"

    # For the reader: the stream's state.

    @property
    def total_raw_bytes(self) -> int:
        """Bytes of the body so far, as they were sent."""
        return self.total_bytes if self.total_compressed_bytes is None else self.total_compressed_bytes

    def get_read_buffer_limits(self) -> tuple[int, int]:
        """Returns the marks in bytes below which the source is resumed, and above which it is paused."""
        return self._low_water, self._high_water

    def set_read_chunk_size(self, n: int) -> None:
        """Raises the marks so that a caller that reads ``n`` bytes at a time gets as many."""
        if n > self._low_water:
            self._low_water = n
            self._high_water = 2 * n

    def exception(self) -> BaseException | None:
        """Returns what reading raises, if it does."""
        return self._exception

    def is_eof(self) -> bool:
        """Whether all of the body has come."""
        return self._eof

    def at_eof(self) -> bool:
        """Whether all of the body has been read."""
        return self._eof and not self._buffer

    def on_eof(self, callback: Callable[[], None]) -> None:
        """Calls ``callback`` when all of the body has come, or at once if it has.

        It is not called if the body breaks off. Its exceptions are logged.
        """
        if self._eof:
            _call_at_eof(callback)
        else:
            self._eof_callbacks.append(callback)

    async def wait_eof(self) -> None:
        """Waits until all of the body has come, read or not. One task at a time may do so."""
        if self._eof:
            return
        if self._exception is not None:
            raise self._exception
        if self._eof_waiter is not None:
            raise RuntimeError("wait_eof() called while another coroutine is already waiting for the end")
        waiter = self._eof_waiter = self._loop.create_future()
        try:
            await waiter
        finally:
            self._eof_waiter = None

    # For the connection: feeding.

    def feed_data(self, data: bytes, size: int = 0) -> bool:
        """Adds a piece of the body. ``size`` is there for aiohttp's sake, and the result is always False."""
        if self._eof:
            raise RuntimeError(f"feed_data() after feed_eof(): {len(data)} bytes too many")
        length = len(data)
        if not length:
            return False
        self._buffer.append(data)
        self._size = buffered = self._size + length
        self.total_bytes += length
        if (waiter := self._waiter) is not None and buffered >= self._wanted:
            self._waiter = None
            wake(waiter)
        if buffered > self._high_water:
            self._protocol.pause_reading()
        return False

    def feed_eof(self) -> None:
        """Ends the body."""
        self._eof = True
        self._wake_all()
        # The connection may serve another message now, whose reader does not know that it is paused. If it
        # does not, it may be feeding from within its resume_reading(), and is not called a second time.
        if self._protocol._reading_paused:
            self._protocol.resume_reading()
        callbacks, self._eof_callbacks = self._eof_callbacks, []
        for callback in callbacks:
            _call_at_eof(callback)

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """Breaks the body off: the waiter, and every read from now on, gets ``exc``.

        ``exc_cause`` becomes its cause.
        """
        if exc_cause is not None and exc_cause is not exc:
            exc.__cause__ = exc_cause
        self._exception = exc
        self._eof_callbacks.clear()
        self._wake_all(exc)

    def _wake_all(self, error: BaseException | None = None) -> None:
        waiters = self._waiter, self._eof_waiter
        self._waiter = self._eof_waiter = None
        for waiter in waiters:
            if waiter is None:
                continue
            if error is None:
                wake(waiter)
            else:
                fail(waiter, error)

    def begin_http_chunk_receiving(self) -> None:
        """An HTTP chunk begins: the body is chunked, which has to be known before any of it comes."""
        if self._http_chunk_splits is None:
            if self.total_bytes:
                raise RuntimeError("Called begin_http_chunk_receiving when some data was already fed")
            self._http_chunk_splits = deque()

    def end_http_chunk_receiving(self) -> None:
        """An HTTP chunk ends here.

        One that has added nothing does not count: a compressed one may be too little to decompress.
        """
        splits = self._http_chunk_splits
        if splits is None:
            raise RuntimeError("Called end_chunk_receiving without calling begin_chunk_receiving first")
        end = self.total_bytes
        if end == (splits[-1] if splits else 0):
            return
        if self._wanted > 1:
            # A read of many bytes does not need the chunks that they come in.
            splits.clear()
        splits.append(end)
        if len(splits) > self._high_water_chunks:
            self._protocol.pause_reading()
        # It may be readchunk() that waits, for this and not for data.
        if (waiter := self._waiter) is not None and self._wanted == 1:
            self._waiter = None
            wake(waiter)

    # Reading.

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

    async def read(self, n: int = -1) -> bytes:
        """Reads at most ``n`` bytes, and waits only if there are none; everything if ``n`` is negative.

        Returns ``b""`` at the end of the body.
        """
        if self._exception is not None:
            raise self._exception
        if self._eof and not self._buffer:
            self._note_read_at_eof()
            return b""
        if not n:
            return b""
        if n < 0:
            return await self._read_everything()
        self.set_read_chunk_size(n)
        while not self._buffer and not self._eof:
            await self._wait("read")
        return self._read_nowait(n)

    async def readany(self) -> bytes:
        """Reads all buffered bytes; waits only if there are none. ``b""`` at the end of the body."""
        if self._exception is not None:
            raise self._exception
        while not self._buffer and not self._eof:
            await self._wait("readany")
        return self._read_nowait(-1)

    async def readexactly(self, n: int) -> bytes:
        """Reads ``n`` bytes.

        Raises :exc:`asyncio.IncompleteReadError`, with the bytes so far, if the body ends before.
        """
        if self._exception is not None:
            raise self._exception
        if n <= 0:
            return b""
        self.set_read_chunk_size(n)
        await self._fill(n, "readexactly")
        data = self._read_nowait(n)
        if len(data) < n:
            raise asyncio.IncompleteReadError(data, n)
        return data

    async def readline(self, *, max_line_length: int | None = None) -> bytes:
        """Reads a line with its ``\\n``, or the rest of the body if that has none.

        Raises :exc:`LineTooLong` if it is longer than ``max_line_length`` bytes, which is by default the
        limit that the stream buffers.
        """
        return await self.readuntil(max_size=max_line_length)

    async def readuntil(self, separator: bytes = b"\n", *, max_size: int | None = None) -> bytes:
        """Reads up to ``separator`` and with it, or the rest of the body if it does not come.

        Raises :exc:`LineTooLong` if that is longer than ``max_size`` bytes; the bytes that were read are gone
        then.
        :exc:`ValueError` if the separator is empty.
        """
        width = len(separator)
        if not width:
            raise ValueError("Separator should be at least one-byte string")
        if self._exception is not None:
            raise self._exception
        limit = max_size or self._high_water
        if self._buffer:
            start = self._buffer_offset
            found = self._buffer[0].find(separator, start)
            if found >= 0:
                line = self._read_nowait(found + width - start)
                if len(line) > limit:
                    raise LineTooLong(line[:100] + b"...", limit)
                return line
        return await self._read_long_line(separator, limit)

    async def _read_long_line(self, separator: bytes, limit: int) -> bytes:
        """:meth:`readuntil` if the first piece does not have the separator."""
        line = bytearray()
        overlap = len(separator) - 1
        while True:
            while self._buffer:
                before = len(line)
                line += memoryview(self._buffer[0])[self._buffer_offset :]
                found = line.find(separator, max(0, before - overlap))
                if found >= 0:
                    del line[found + overlap + 1 :]
                self._read_nowait(len(line) - before)
                if len(line) > limit:
                    raise LineTooLong(bytes(line[:100]) + b"...", limit)
                if found >= 0:
                    return bytes(line)
            if self._eof:
                return bytes(line)
            try:
                await self._wait("readuntil")
            except BaseException:
                # Cancelled, most likely: the next read gets the bytes that this one has not returned.
                self._put_back(bytes(line))
                raise

    async def readchunk(self) -> tuple[bytes, bool]:
        """Reads a piece of the body, and returns whether an HTTP chunk ends with it.

        The piece may be empty if the end came later than all of the chunk. ``(b"", False)`` is the end of the
        body.
        """
        while True:
            if self._exception is not None:
                raise self._exception
            if self._http_chunk_splits:
                count = self._http_chunk_splits.popleft() - self._cursor
                return (self._read_nowait(count) if count else b""), True
            if self._buffer:
                return self._read_nowait(len(self._buffer[0]) - self._buffer_offset), False
            if self._eof:
                return b"", False
            await self._wait("readchunk")

    def read_nowait(self, n: int = -1) -> bytes:
        """Reads all buffered bytes, or at most ``n`` of them; ``b""`` if there are none.

        Raises :exc:`RuntimeError` while a task waits for data.
        """
        if self._exception is not None:
            raise self._exception
        if self._waiter is not None and not self._waiter.done():
            raise RuntimeError("Called while some coroutine is waiting for incoming data.")
        return self._read_nowait(n)

    def unread_data(self, data: bytes) -> None:
        """Puts ``data`` back, to be read again before everything else. Deprecated, as in aiohttp."""
        warnings.warn(
            "unread_data() is deprecated and will be removed in future releases (#3260)",
            DeprecationWarning,
            stacklevel=2,
        )
        self._put_back(data)

    # What reading is made of.

    async def _wait(self, func_name: str) -> None:
        """Waits until ``_wanted`` bytes are buffered, a chunk or the body ends, or the body breaks off."""
        if not self._protocol.connected:
            raise RuntimeError("Connection closed.")
        # A second reader would get the bytes that the first has not: surely a mistake.
        if self._waiter is not None:
            raise RuntimeError(
                f"{func_name}() called while another coroutine is already waiting for incoming data"
            )
        waiter = self._waiter = self._loop.create_future()
        try:
            if self._timer is None:
                await waiter
            else:
                with self._timer:
                    await waiter
        finally:
            self._waiter = None

    async def _fill(self, count: int, func_name: str) -> None:
        """Waits until ``count`` bytes are buffered, or the body has ended.

        Nothing is taken out meanwhile, so nothing is lost if the wait is cancelled. The marks have to allow
        for ``count``.
        """
        while self._size < count and not self._eof:
            if self._http_chunk_splits:
                # As many chunks as there are, and no reader takes them: the last end stands for all.
                last = self._http_chunk_splits[-1]
                self._http_chunk_splits.clear()
                self._http_chunk_splits.append(last)
            # It may rest because of the marks before.
            self._protocol.resume_reading()
            if self._size >= count or self._eof:
                return
            self._wanted = count
            try:
                await self._wait(func_name)
            finally:
                self._wanted = 1

    async def _read_everything(self) -> bytes:
        marks = self._low_water, self._high_water
        self.set_read_chunk_size(_EVERYTHING)
        try:
            await self._fill(_EVERYTHING, "read")
        finally:
            self._low_water, self._high_water = marks
        return self._read_nowait(-1)

    def _read_nowait(self, n: int) -> bytes:
        """Takes at most ``n`` bytes out of the buffer, or all of it if ``n`` is negative."""
        if self._timer is not None:
            self._timer.assert_timeout()
        buffer = self._buffer
        if not buffer:
            return b""
        first = buffer[0]
        start = self._buffer_offset
        left = len(first) - start
        if 0 <= n < left:
            self._buffer_offset = end = start + n
            data = first[start:end]
        elif n == left or len(buffer) == 1:
            buffer.popleft()
            self._buffer_offset = 0
            data = first[start:]
        else:
            data = self._join(n)
        self._taken(len(data))
        return data

    def _join(self, n: int) -> bytes:
        """Takes at most ``n`` bytes, or all, out of several pieces: the first is not enough."""
        buffer = self._buffer
        start = self._buffer_offset
        parts = []
        if n < 0 or n >= self._size:
            parts.append(buffer.popleft()[start:])
            parts += buffer
            buffer.clear()
            self._buffer_offset = 0
        else:
            while n >= (left := len(buffer[0]) - start):
                parts.append(buffer.popleft()[start:])
                n -= left
                start = 0
            if n:
                parts.append(buffer[0][:n])
            self._buffer_offset = n
        return b"".join(parts)

    def _taken(self, count: int) -> None:
        """Notes that ``count`` bytes have left the buffer."""
        self._size -= count
        self._cursor += count
        splits = self._http_chunk_splits
        if splits:
            cursor = self._cursor
            while splits and splits[0] < cursor:
                splits.popleft()
        # After the end the connection may be another message's, which has flow control of its own.
        if (
            self._size < self._low_water
            and not self._eof
            and (splits is None or len(splits) < self._low_water_chunks)
        ):
            self._protocol.resume_reading()

    def _put_back(self, data: bytes) -> None:
        """Puts ``data`` back, to be read again before everything else."""
        if not data:
            return
        if self._buffer_offset:
            self._buffer[0] = self._buffer[0][self._buffer_offset :]
            self._buffer_offset = 0
        self._buffer.appendleft(data)
        self._size += len(data)
        self._cursor -= len(data)
        self._eof_counter = 0

    def _note_read_at_eof(self) -> None:
        self._eof_counter += 1
        if self._eof_counter > _READS_AT_EOF:
            internal_logger.warning(
                "Multiple access to StreamReader in eof state, might be infinite loop.", stack_info=True
            )


def _call_at_eof(callback: Callable[[], None]) -> None:
    try:
        callback()
    except Exception:
        internal_logger.exception("Exception in eof callback")


class EmptyStreamReader(StreamReader):
    """The body of a message that has none. It may be that of many messages, and of any loop."""

    __slots__ = ("_end_returned",)

    def __init__(self) -> None:
        self._end_returned = False
        self._eof = True
        self._exception = None
        self._buffer = deque()
        self._low_water = self._high_water = 0
        self.total_bytes = 0
        self.total_compressed_bytes = None

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
