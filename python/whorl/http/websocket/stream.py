"""The two directions of an open WebSocket and its heartbeat: between a connection and its user.

Of a connection they need a transport, ``upgrade(sink)``, flow control and ``close()``. Reading pauses above
256 KiB of messages that were not received yet, each counted with 128 bytes more; the bytes read by then are
parsed as the user catches up, also when the connection is gone. The heartbeat is one timer and a time stamp;
silence while we do not read ourselves proves nothing and puts it off (aiohttp gives up then).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from math import ceil
from typing import Any, Final, Protocol, TypeAlias

from whorl import _core

from ..exceptions import ClientConnectionResetError, ServerTimeoutError
from ..typedefs import Byteish
from . import messages
from .messages import WSMessage, WSMessageTextBytes

__all__ = [
    "Connection",
    "ConnectionEnded",
    "FrameWriter",
    "Heartbeat",
    "Message",
    "MessageQueue",
    "Opcode",
    "Sink",
]

Message: TypeAlias = WSMessage | WSMessageTextBytes
#: As the native half takes it: our window in bits, whether it begins anew with each message; the server's.
Compression: TypeAlias = tuple[int, bool, int, bool] | None


class Opcode:
    """The numbers of RFC 6455, section 5.2.

    They are integers: independent of the messages' classes, and cheap.
    """

    TEXT: Final = 0x1
    BINARY: Final = 0x2
    CLOSE: Final = 0x8
    PING: Final = 0x9
    PONG: Final = 0xA


#: Bytes of messages that wait for their user: above the first the connection is no longer read from, at the
#: second it is again.
_HIGH: Final = 256 * 1024
_LOW: Final = _HIGH // 2
#: Times that are longer than this many seconds end at whole ones, so that timers fall together.
_ROUND_ABOVE: Final = 5.0


class Sink(Protocol):
    """The interface that is called with the bytes after the handshake."""

    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> None: ...
    def connection_lost(self, exc: BaseException | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class Connection(Protocol):
    """An HTTP connection that was upgraded."""

    @property
    def transport(self) -> asyncio.Transport | None: ...

    def upgrade(self, sink: Sink) -> None:
        """From now on pass bytes to ``sink``, beginning with those after the head of the response."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def close(self) -> None: ...
    async def drain(self) -> None: ...


class ConnectionEnded(ClientConnectionResetError):
    """The server closed the connection without a close frame."""


class MessageQueue:
    """Messages that have come and were not received yet.

    The queue is bounded: when it is full, parsing stops in the middle of a read, and the
    connection is not read from until the user has caught up.

    :param reader: the native parser
    """

    def __init__(
        self, connection: Connection, reader: _core.WebSocketReader, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._loop = loop
        self._messages: deque[tuple[Message, int]] = deque()
        self._cost = 0
        self._waiter: asyncio.Future[None] | None = None
        self._end: ConnectionEnded | None = None
        self.reading_paused = False
        self.writing_paused = False
        #: When something last came, by the loop's clock.
        self.last_received = loop.time()

    # Called by the connection.

    def data_received(self, data: bytes) -> None:
        self.last_received = self._loop.time()
        self._parse(data)

    def eof_received(self) -> None:
        self.connection_lost(None)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.writing_paused = False
        if self._end is None:
            self._end = ConnectionEnded("The server closed the connection without a close frame")
            self._end.__cause__ = exc
            self.wake()

    def pause_writing(self) -> None:
        self.writing_paused = True

    def resume_writing(self) -> None:
        self.writing_paused = False

    # Called by the user.

    def take(self) -> Message | None:
        """The next message, if it is here.

        :raises WebSocketError: the peer has broken the protocol; all messages before that were taken
        :raises ConnectionEnded: the connection has ended; all messages before that were taken
        """
        if not self._messages:
            if self._reader.failure is not None:
                raise messages.WebSocketError(*self._reader.failure)
            if self._end is not None:
                raise self._end
            return None
        message, cost = self._messages.popleft()
        self._cost -= cost
        if self.reading_paused and self._cost <= _LOW:
            self._parse(b"")
            if not self._reader.pending and self._cost <= _LOW:
                self.reading_paused = False
                if self._end is None:
                    self._connection.resume_reading()
        return message

    async def read(self) -> Message:
        """The next message, which is waited for; raises what :meth:`take` does."""
        while (message := self.take()) is None:
            await self.wait()
        return message

    async def wait(self) -> None:
        """Wait for a message, an end, or :meth:`wake`."""
        self._waiter = waiter = self._loop.create_future()
        try:
            await waiter
        finally:
            # Another task may have begun to wait since this one was woken.
            if self._waiter is waiter:
                self._waiter = None

    def wake(self) -> None:
        """Wake the waiter, so that it checks again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _parse(self, data: bytes) -> None:
        parsed, cost = self._reader.feed(data, max(_HIGH - self._cost, 0))
        if parsed:
            self._messages.extend(parsed)
            self._cost += cost
        if parsed or self._reader.failure is not None:
            self.wake()
        if not self.reading_paused and (self._cost > _HIGH or self._reader.pending):
            self.reading_paused = True
            if self._end is None:
                self._connection.pause_reading()


class FrameWriter:
    """Sends frames.

    :param queue: knows whether the transport has paused writing
    """

    def __init__(self, connection: Connection, compression: Compression, queue: MessageQueue) -> None:
        self._connection = connection
        self._encode = _core.WebSocketWriter(True, compression).encode
        self._queue = queue
        self._closing = False

    async def send_frame(self, message: Byteish, opcode: int, compress: int | None = None) -> None:
        """Send a frame, and wait if the transport has enough to write.

        :raises ClientConnectionResetError: the connection is closed, or a close frame was sent
        :raises ValueError: for a frame that must not be sent
        """
        transport = self._connection.transport
        if self._closing or transport is None or transport.is_closing():
            raise ClientConnectionResetError("Cannot write to closing transport")
        transport.write(self._encode(opcode, message, compress))
        if self._queue.writing_paused:
            await self._connection.drain()

    async def close(self, payload: bytes) -> None:
        """Send a close frame, the last one."""
        try:
            await self.send_frame(payload, Opcode.CLOSE)
        finally:
            self._closing = True


class Heartbeat:
    """Sends a ping when nothing was received for an interval, and gives up if nothing comes in half of it.

    One timer: received bytes only move a time stamp, which the timer checks when it is due. While we do not
    read from the connection, silence is our own and proves nothing: then it waits longer.

    :param interval: in seconds
    :param ping: sends a ping
    :param give_up: called once, with the reason
    """

    def __init__(
        self,
        interval: float,
        queue: MessageQueue,
        ping: Callable[[], Coroutine[Any, Any, None]],
        give_up: Callable[[BaseException], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._interval = interval
        self._patience = interval / 2
        self._queue = queue
        self._ping = ping
        self._give_up = give_up
        self._loop = loop
        self._pinged = 0.0
        self._ping_task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._call_at(loop.time(), interval, self._beat)

    def stop(self) -> None:
        """No more pings; one that is being sent is cancelled."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ping_task is not None:
            self._ping_task.cancel()
            self._ping_task = None

    def _call_at(self, begin: float, delay: float, callback: Callable[[], None]) -> None:
        when = begin + delay
        self._timer = self._loop.call_at(ceil(when) if delay > _ROUND_ABOVE else when, callback)

    def _beat(self) -> None:
        now = self._loop.time()
        if self._queue.reading_paused:
            self._call_at(now, self._interval, self._beat)
        elif now < self._queue.last_received + self._interval:
            self._call_at(self._queue.last_received, self._interval, self._beat)
        else:
            self._pinged = now
            self._call_at(now, self._patience, self._check)
            self._ping_task = self._loop.create_task(self._ping())
            self._ping_task.add_done_callback(self._ping_sent)

    def _check(self) -> None:
        if self._queue.last_received >= self._pinged:
            self._call_at(self._queue.last_received, self._interval, self._beat)
        elif self._queue.reading_paused:
            self._call_at(self._loop.time(), self._patience, self._check)
        else:
            self._give_up(ServerTimeoutError(f"No PONG received after {self._patience} seconds"))

    def _ping_sent(self, task: asyncio.Task[None]) -> None:
        if task is self._ping_task:
            self._ping_task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._give_up(error)
