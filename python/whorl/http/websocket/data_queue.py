"""Queues of objects with one reader, and the parts they share with streams of bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

from whorl import _core

from ..exception_type import ExceptionType

__all__ = [
    "AsyncStreamIterator",
    "DataQueue",
    "EofStream",
    "FlowControlDataQueue",
    "StreamSource",
    "fail",
    "wake",
]

_T = TypeVar("_T")


class EofStream(Exception, metaclass=ExceptionType):
    """The queue is at its end."""


class StreamSource(Protocol):
    """The source of a stream, which can be paused: a connection."""

    @property
    def _reading_paused(self) -> bool: ...

    @property
    def connected(self) -> bool:
        """Whether more may come. If not, waiting for it is an error."""

    def pause_reading(self) -> None:
        """Feeds nothing more except bytes that were read already. May be called when it is paused."""

    def resume_reading(self) -> None:
        """Continues to feed. May be called when it was never paused, and may feed before it returns."""


def wake(waiter: asyncio.Future[None]) -> None:
    """Wakes the waiter, unless it is done or was cancelled."""
    if not waiter.done():
        waiter.set_result(None)


def fail(waiter: asyncio.Future[None], error: BaseException) -> None:
    """Raises ``error`` where it is waited, unless the wait is over."""
    if not waiter.done():
        waiter.set_exception(error)


class AsyncStreamIterator(_core.StreamIteratorBase, Generic[_T]):
    """Calls ``read_func`` for every item, until it returns ``b""`` or raises :exc:`EofStream`."""

    __slots__ = ()

    read_func: Callable[[], Awaitable[_T]]

    def __init__(self, read_func: Callable[[], Awaitable[_T]]) -> None:
        self.read_func = read_func

    def __aiter__(self) -> AsyncStreamIterator[_T]:
        return self

    async def _checked(self, item: Awaitable[_T]) -> _T:
        """What ``item`` returns, unless that is the end. A read of a native reader knows its end itself."""
        try:
            result = await item
        except EofStream:
            raise StopAsyncIteration from None
        if result == b"":
            raise StopAsyncIteration
        return result


class DataQueue(Generic[_T]):
    """A queue of objects with one reader, which waits when it is empty."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._eof = False
        self._waiter: asyncio.Future[None] | None = None
        self._exception: BaseException | type[BaseException] | None = None
        self._buffer: deque[tuple[_T, int]] = deque()

    def __len__(self) -> int:
        return len(self._buffer)

    def __aiter__(self) -> AsyncStreamIterator[_T]:
        return AsyncStreamIterator(self.read)

    def is_eof(self) -> bool:
        """Whether no more objects will come."""
        return self._eof

    def at_eof(self) -> bool:
        """Whether no more objects can be read."""
        return self._eof and not self._buffer

    def exception(self) -> Any:
        """Returns the exception that the reader gets after the last object, if it was set."""
        return self._exception

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """Ends the queue with ``exc``, which ``exc_cause`` has caused if it is given.

        Queued objects can still be read.
        """
        if exc_cause is not None and exc_cause is not exc:
            exc.__cause__ = exc_cause
        self._eof = True
        self._exception = exc
        if (waiter := self._waiter) is not None:
            self._waiter = None
            fail(waiter, exc)

    def feed_data(self, data: _T, size: int = 0) -> None:
        """Adds an object, which stands for ``size`` bytes."""
        self._buffer.append((data, size))
        self._wake_reader()

    def feed_eof(self) -> None:
        """Ends the queue."""
        self._eof = True
        self._wake_reader()

    def _wake_reader(self) -> None:
        if (waiter := self._waiter) is not None:
            self._waiter = None
            wake(waiter)

    async def read(self) -> _T:
        """Takes the next object out, and waits for it if there is none.

        Raises the exception the queue has ended with: :exc:`EofStream`, or that given to
        :meth:`set_exception`.
        """
        data, _ = await self._next()
        return data

    async def _next(self) -> tuple[_T, int]:
        if not self._buffer and not self._eof:
            if self._waiter is not None:
                raise RuntimeError("read() called while another coroutine is already waiting for data")
            waiter = self._waiter = self._loop.create_future()
            try:
                await waiter
            finally:
                self._waiter = None
        if self._buffer:
            return self._buffer.popleft()
        if self._exception is not None:
            raise self._exception
        raise EofStream


class FlowControlDataQueue(DataQueue[_T]):
    """A :class:`DataQueue` whose source is paused while objects of more than ``2 * limit`` bytes are queued.

    Deprecated, as in aiohttp.
    """

    def __init__(self, protocol: StreamSource, limit: int, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._protocol = protocol
        self._limit = 2 * limit
        self._size = 0

    def feed_data(self, data: _T, size: int = 0) -> None:
        """Adds an object, which stands for ``size`` bytes."""
        super().feed_data(data, size)
        self._size += size
        if self._size > self._limit and not self._protocol._reading_paused:
            self._protocol.pause_reading()

    async def read(self) -> _T:
        """As :meth:`DataQueue.read`."""
        data, size = await self._next()
        self._size -= size
        if self._size < self._limit and self._protocol._reading_paused:
            self._protocol.resume_reading()
        return data
