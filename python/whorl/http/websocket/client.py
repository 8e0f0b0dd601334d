"""The WebSocket client: the result of ``ClientSession.ws_connect()``.

Methods and their semantics are aiohttp's; frames, messages and compression are native (RFC 6455, RFC 7692).

The stage of closing is one enum; a ``receive()`` that waits is woken and checks it, so no message is lost
to a cancellation. The timeout of ``close()`` is one for all of it, not a new one for each message; a close
frame without a code counts as one.
"""

from __future__ import annotations

import asyncio
import enum
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Generic, Literal, Protocol, Self, TypeVar, overload

from whorl import _core

from ..arguments import check_seconds
from ..exceptions import ClientConnectionResetError, WSMessageTypeError
from ..typedefs import (
    DEFAULT_JSON_DECODER,
    DEFAULT_JSON_ENCODER,
    Byteish,
    JSONBytesEncoder,
    JSONEncoder,
)
from . import messages
from .messages import WebSocketError, WSCloseCode, WSMessage, WSMsgType
from .stream import (
    Connection,
    ConnectionEnded,
    FrameWriter,
    Heartbeat,
    Message,
    MessageQueue,
    Opcode,
)

__all__ = [
    "DEFAULT_MAX_MSG_SIZE",
    "DEFAULT_WS_CLIENT_TIMEOUT",
    "ClientWSTimeout",
    "ClientWebSocketResponse",
]

if sys.version_info >= (3, 13):
    _DecodeText = TypeVar("_DecodeText", bound=bool, covariant=True, default=Literal[True])
else:
    _DecodeText = TypeVar("_DecodeText", bound=bool, covariant=True)

#: The largest message that is received by default, in bytes.
DEFAULT_MAX_MSG_SIZE: Final = 4 * 1024 * 1024

# How much of a message an error shows, in characters.
SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class ClientWSTimeout:
    """Timeouts of a WebSocket, in seconds; None for none.

    ``ws_receive`` is for each ``receive()``, ``ws_close`` for the server's response to our close frame.
    """

    ws_receive: float | None = None
    ws_close: float | None = None

    def __post_init__(self) -> None:
        check_seconds(" of a ClientWSTimeout", ws_receive=self.ws_receive, ws_close=self.ws_close)


DEFAULT_WS_CLIENT_TIMEOUT: Final = ClientWSTimeout(ws_receive=None, ws_close=10.0)


class Response(Protocol):
    """The used part of the handshake's response."""

    def close(self) -> None: ...


class _Stage(enum.Enum):
    """How far the closing has come."""

    OPEN = enum.auto()
    #: It has begun: by a close frame of the server's, or by ``close()`` while ``receive()`` waited.
    CLOSING = enum.auto()
    CLOSED = enum.auto()


class ClientWebSocketResponse(Generic[_DecodeText]):
    """An open WebSocket. ``ws_connect()`` makes it::

        async with session.ws_connect(url) as ws:
            await ws.send_str("hello")
            async for message in ws:
                print(message.data)

    :param connection: the upgraded connection, owned by this object from now on
    :param response: the server's response to the handshake, closed along with this object
    :param protocol: the subprotocol that was negotiated
    :param autoclose: answer a close frame of the server's at once
    :param autoping: answer pings, and keep pings and pongs from ``receive()``
    :param heartbeat: after so many seconds without a byte from the server send a ping, and give it half as
        many to send anything; None for never
    :param compress: the window of our messages in bits (9 to 15) if they are compressed, or 0
    :param client_notakeover: our messages are each compressed by themselves
    :param server_window_bits: the window that the server compresses with, in bits
    :param server_notakeover: the server's messages are each compressed by themselves
    :param max_msg_size: the largest message that is received in bytes, before and after it is inflated; 0 for
        any. A larger one is refused before it has come (close code 1009)
    :param decode_text: ``data`` of text messages is :class:`str`; otherwise it stays :class:`bytes`, known
        to be UTF-8
    """

    def __init__(
        self,
        connection: Connection,
        response: Response,
        *,
        protocol: str | None = None,
        timeout: ClientWSTimeout = DEFAULT_WS_CLIENT_TIMEOUT,
        autoclose: bool = True,
        autoping: bool = True,
        heartbeat: float | None = None,
        compress: int = 0,
        client_notakeover: bool = False,
        server_window_bits: int = 15,
        server_notakeover: bool = False,
        max_msg_size: int = DEFAULT_MAX_MSG_SIZE,
        decode_text: bool = True,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._loop = loop = loop or asyncio.get_running_loop()
        self._conn = connection
        self._response = response
        self._protocol = protocol
        self._timeout = timeout
        self._autoclose = autoclose
        self._autoping = autoping
        self._compress = compress
        self._client_notakeover = client_notakeover
        self._stage = _Stage.OPEN
        self._close_code: int | None = None
        self._exception: BaseException | None = None
        self._receiving = False
        #: Done when the ``receive()`` that ``close()`` has interrupted is out of the way.
        self._released: asyncio.Future[None] | None = None
        #: The result of the ``receive()`` that waits when the connection is given up.
        self._last_words: Message | None = None
        self._disconnected = False

        compression = (
            (compress, client_notakeover, server_window_bits, server_notakeover) if compress else None
        )
        reader = _core.WebSocketReader(
            True,
            max_msg_size,
            compression,
            decode_text,
            (
                messages.WSMsgType,
                messages.WSMessage,
                messages.WSMessage if decode_text else messages.WSMessageTextBytes,
            ),
        )
        self._reader = queue = MessageQueue(connection, reader, loop)
        self._writer = FrameWriter(connection, compression, queue)
        self._heartbeat = (
            Heartbeat(heartbeat, queue, self._send_ping, self._give_up, loop)
            if heartbeat is not None
            else None
        )
        connection.upgrade(queue)

    # Properties.

    @property
    def closed(self) -> bool:
        """Whether it is closed, or being closed: nothing can be sent any more."""
        return self._stage is _Stage.CLOSED

    @property
    def close_code(self) -> int | None:
        """Why it was closed, or None so far.

        The server's code (0 if its close frame had none), the code of the server's protocol error, or
        :attr:`WSCloseCode.ABNORMAL_CLOSURE` if there was no close frame or a ``receive()`` was cut short.
        """
        return self._close_code

    @property
    def protocol(self) -> str | None:
        """The subprotocol that was agreed on, None without one."""
        return self._protocol

    @property
    def compress(self) -> int:
        """The window that our messages are compressed with in bits, 0 if they are not."""
        return self._compress

    @property
    def client_notakeover(self) -> bool:
        """Whether our messages are each compressed by themselves."""
        return self._client_notakeover

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """The transport's information under ``name``: see :meth:`asyncio.BaseTransport.get_extra_info`."""
        transport = None if self._disconnected else self._conn.transport
        return default if transport is None else transport.get_extra_info(name, default)

    def exception(self) -> BaseException | None:
        """The exception it ended with, if that was not a close frame or an error of the server's."""
        return self._exception

    # Sending.

    async def ping(self, message: Byteish | str = b"") -> None:
        """Send a ping with a payload of at most 125 bytes; a :class:`str` is sent as UTF-8.

        :raises ClientConnectionResetError: it is closed
        :raises ValueError: for a longer payload
        """
        await self._writer.send_frame(_as_bytes(message), Opcode.PING)

    async def pong(self, message: Byteish | str = b"") -> None:
        """Send a pong: as :meth:`ping`."""
        await self._writer.send_frame(_as_bytes(message), Opcode.PONG)

    async def send_frame(self, message: Byteish, opcode: WSMsgType, compress: int | None = None) -> None:
        """Send ``message``, which must fit the type ``opcode``.

        :param compress: for this message, where compression was negotiated: None for as negotiated, 0 for
            none, 9 to 15 for a window of so many bits (or the negotiated one, if that is smaller)
        :raises ClientConnectionResetError: it is closed
        :raises ValueError: for another ``opcode`` or ``compress``
        """
        await self._writer.send_frame(message, opcode, compress)

    async def send_str(self, data: str, compress: int | None = None) -> None:
        """Send a text message; for ``compress`` and exceptions see :meth:`send_frame`.

        :raises TypeError: if ``data`` is no :class:`str`
        """
        if not isinstance(data, str):
            raise TypeError(f"data argument must be str, not {type(data)!r}: use send_bytes() for bytes")
        await self._writer.send_frame(data.encode(), Opcode.TEXT, compress)

    async def send_bytes(self, data: Byteish, compress: int | None = None) -> None:
        """Send a binary message; for ``compress`` and exceptions see :meth:`send_frame`.

        :raises TypeError: if ``data`` is not :class:`bytes`, :class:`bytearray` or :class:`memoryview`
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be byte-ish, not {type(data)!r}: use send_str() for text")
        await self._writer.send_frame(data, Opcode.BINARY, compress)

    async def send_json(
        self, data: Any, compress: int | None = None, *, dumps: JSONEncoder = DEFAULT_JSON_ENCODER
    ) -> None:
        """Send ``dumps(data)`` as a text message: see :meth:`send_str`."""
        await self.send_str(dumps(data), compress)

    async def send_json_bytes(
        self, data: Any, compress: int | None = None, *, dumps: JSONBytesEncoder
    ) -> None:
        """Send ``dumps(data)`` as a binary message, for encoders that give bytes: see :meth:`send_bytes`."""
        await self.send_bytes(dumps(data), compress)

    # Receiving.

    @overload
    async def receive(
        self: ClientWebSocketResponse[Literal[True]], timeout: float | None = None
    ) -> WSMessage: ...
    @overload
    async def receive(self, timeout: float | None = None) -> Message: ...
    async def receive(self, timeout: float | None = None) -> Message:
        """The next message. With ``autoping`` pings are answered, and neither they nor pongs are returned.

        At the end there is a message of type CLOSE (the server's close frame), CLOSING (``close()`` was
        called meanwhile) or ERROR (its ``data`` is the exception), and from then on CLOSED. A message that
        comes while the call is cancelled or times out is kept for the next.

        :param timeout: in seconds; None for the ``ws_receive`` of the connection
        :raises TimeoutError: nothing came in time
        :raises RuntimeError: another task is receiving
        """
        while True:
            if self._receiving:
                raise RuntimeError("Concurrent call to receive() is not allowed")
            if self._stage is not _Stage.OPEN:
                await self.close()
                return _closed()
            try:
                message = self._reader.take()
                if message is None:
                    message = await self._wait_for_message(timeout or self._timeout.ws_receive)
            except ConnectionEnded as error:
                self._abandon(error)
                return _closed()
            except messages.WebSocketError as error:
                return await self._fail(error)
            kind = message.type
            if kind < Opcode.CLOSE:
                return message
            if kind == Opcode.CLOSE:
                self._begin_closing()
                self._close_code = message.data
                if self._autoclose:
                    await self.close()
            elif self._autoping and kind == Opcode.PING:
                try:
                    await self.pong(message.data)
                except ClientConnectionResetError:
                    # The connection's end comes next, in its turn.
                    pass
                continue
            elif self._autoping and kind == Opcode.PONG:
                continue
            return message

    async def _wait_for_message(self, limit: float | None) -> Message:
        """The next message, or why there will be none: close() or the heartbeat have come in between."""
        self._receiving = True
        try:
            while True:
                # A timeout costs as much as all the rest.
                if limit:
                    async with asyncio.timeout(limit):
                        await self._reader.wait()
                else:
                    await self._reader.wait()
                if self._stage is _Stage.CLOSED:
                    return self._last_words or _closed()
                if (message := self._reader.take()) is not None:
                    return message
                if self._stage is _Stage.CLOSING:
                    return messages.WS_CLOSING_MESSAGE
        except (TimeoutError, asyncio.CancelledError):
            self._close_code = messages.WSCloseCode.ABNORMAL_CLOSURE
            raise
        finally:
            self._receiving = False
            if self._released is not None and not self._released.done():
                self._released.set_result(None)

    async def _fail(self, error: WebSocketError) -> Message:
        """Send the server a close frame for its protocol error."""
        self._close_code = error.code
        await self.close(code=error.code)
        return messages.WSMessage(messages.WSMsgType.ERROR, error, None)

    @overload
    async def receive_str(
        self: ClientWebSocketResponse[Literal[True]], *, timeout: float | None = None
    ) -> str: ...
    @overload
    async def receive_str(
        self: ClientWebSocketResponse[Literal[False]], *, timeout: float | None = None
    ) -> bytes: ...
    @overload
    async def receive_str(self, *, timeout: float | None = None) -> str | bytes: ...
    async def receive_str(self, *, timeout: float | None = None) -> str | bytes:
        """The ``data`` of the next message, which has to be a text; bytes without ``decode_text``.

        :raises WSMessageTypeError: it is something else; see :meth:`receive` for more
        """
        data: str | bytes = await self._receive_data(messages.WSMsgType.TEXT, timeout)
        return data

    async def receive_bytes(self, *, timeout: float | None = None) -> bytes:
        """The ``data`` of the next message, which has to be binary.

        :raises WSMessageTypeError: it is something else; see :meth:`receive` for more
        """
        data: bytes = await self._receive_data(messages.WSMsgType.BINARY, timeout)
        return data

    async def receive_json(
        self, *, loads: Callable[[Any], Any] = DEFAULT_JSON_DECODER, timeout: float | None = None
    ) -> Any:
        """``loads`` of the next message, which has to be a text: see :meth:`receive_str`."""
        return loads(await self.receive_str(timeout=timeout))

    async def _receive_data(self, kind: WSMsgType, timeout: float | None) -> Any:
        message = await self.receive(timeout)
        if message.type != kind:
            shown = repr(message.data)
            if len(shown) > SHOWN:
                shown = f"{shown[:SHOWN]}…"
            raise WSMessageTypeError(f"Received message {message.type}:{shown} is not WSMsgType.{kind.name}")
        return message.data

    def __aiter__(self) -> Self:
        return self

    @overload
    async def __anext__(self: ClientWebSocketResponse[Literal[True]]) -> WSMessage: ...
    @overload
    async def __anext__(self) -> Message: ...
    async def __anext__(self) -> Message:
        """The next message; the iteration ends with the connection."""
        message = await self.receive()
        kind = messages.WSMsgType
        if message.type in (kind.CLOSE, kind.CLOSING, kind.CLOSED):
            raise StopAsyncIteration
        return message

    # Closing.

    async def close(self, *, code: int = WSCloseCode.OK, message: Byteish | str = b"") -> bool:
        """Send a close frame, wait for the server's no longer than ``ws_close``, and close the connection.

        A ``receive()`` that waits in another task returns a message of type CLOSING. Errors on the way are
        not raised, but are in :meth:`exception`.

        :param code: 1000 to 1003, 1007 to 1014 or 3000 to 4999; 0 for none
        :param message: the reason, of at most 123 bytes; a :class:`str` is sent as UTF-8
        :returns: False if it was closed already
        :raises ValueError: for another code or a longer reason
        """
        payload = _close_payload(code, _as_bytes(message))
        if self._receiving and self._stage is _Stage.OPEN:
            self._released = self._loop.create_future()
            self._begin_closing()
            self._reader.wake()
            await self._released
        if self._stage is _Stage.CLOSED:
            return False
        self._set_closed()
        try:
            await self._writer.close(payload)
            if self._close_code is None:
                async with asyncio.timeout(self._timeout.ws_close):
                    self._close_code = await self._close_frame()
        except asyncio.CancelledError:
            self._close_code = messages.WSCloseCode.ABNORMAL_CLOSURE
            raise
        except Exception as error:
            self._close_code = messages.WSCloseCode.ABNORMAL_CLOSURE
            self._exception = error
        finally:
            self._disconnect()
        return True

    async def _close_frame(self) -> int:
        """The code of the server's close frame. Messages before it are dropped."""
        while (message := await self._reader.read()).type != Opcode.CLOSE:
            pass
        code: int = message.data
        return code

    def _begin_closing(self) -> None:
        self._stage = _Stage.CLOSING
        if self._heartbeat is not None:
            self._heartbeat.stop()

    def _set_closed(self) -> None:
        self._stage = _Stage.CLOSED
        if self._heartbeat is not None:
            self._heartbeat.stop()

    def _abandon(self, error: BaseException) -> None:
        """It is over without a close frame."""
        self._set_closed()
        self._close_code = messages.WSCloseCode.ABNORMAL_CLOSURE
        self._exception = error
        self._disconnect()

    async def _send_ping(self) -> None:
        await self._writer.send_frame(b"", Opcode.PING)

    def _give_up(self, error: BaseException) -> None:
        """The heartbeat has stopped."""
        if self._stage is not _Stage.CLOSED:
            self._last_words = messages.WSMessage(messages.WSMsgType.ERROR, error, None)
            self._abandon(error)
            self._reader.wake()

    def _disconnect(self) -> None:
        if not self._disconnected:
            self._disconnected = True
            self._response.close()
            self._conn.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()


def _closed() -> Message:
    return messages.WS_CLOSED_MESSAGE


def _as_bytes(payload: Byteish | str) -> Byteish:
    if isinstance(payload, str):
        return payload.encode()
    if not isinstance(payload, bytes | bytearray | memoryview):
        # bytes(5) would be five of them.
        raise TypeError(f"data argument must be a bytes-like object, not {type(payload).__name__!r}")
    return payload


def _close_payload(code: int, reason: Byteish) -> bytes:
    """The payload of a close frame (RFC 6455, section 5.5.1).

    :raises ValueError: it must not be sent
    """
    if not isinstance(code, int):
        raise TypeError(f"code must be an int, one of WSCloseCode or 3000 to 4999, not {code!r}")
    reason = bytes(reason)
    if len(reason) > 123:
        raise ValueError(
            f"the reason of a close frame takes at most 123 bytes, not {len(reason)}: {reason!r}"
        )
    if code == 0 and not reason:
        return b""
    if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        raise ValueError(
            f"close code {int(code)} must not be sent: take one of WSCloseCode, 3000 to 4999, or 0 for none"
        )
    return int(code).to_bytes(2, "big") + reason
