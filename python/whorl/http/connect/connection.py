"""The protocol of a connection to a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from whorl import _core

from .. import exceptions, http_exceptions

if TYPE_CHECKING:
    import asyncio

__all__ = ["HttpConnection", "ResponseHandler"]


class HttpConnection(_core.HttpConnection):
    """A connection to a server, as a transport's protocol. Its methods are native.

    A class derived from it may have further parameters.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """``__new__()`` has seen to it."""

    async def drain(self) -> None:
        """Wait until the transport's buffer is below its high-water mark.

        :raises ClientConnectionResetError: if the connection is lost meanwhile
        """
        waiter = self.drain_waiter()
        if waiter is not None:
            await waiter

    # aiohttp's private name for it.
    _drain_helper = drain

    def set_parser(
        self,
        parser: PayloadParser,
        payload: object,
        data_received_cb: Callable[[], None] | None = None,
    ) -> None:
        """Hand ``parser`` all that comes after the head of a response with 101.

        Not public in aiohttp either: programs that speak another protocol from then on use it, as aiodocker
        does.

        :param payload: what the parser fills; it gets the error with which the connection is lost
        :param data_received_cb: called before the parser is
        """
        sink = _ParserSink(parser, payload, data_received_cb)
        self.upgrade(sink)
        if not self.is_connected():
            # It was lost before, which the sink is not called for.
            sink.connection_lost(None)


class PayloadParser(Protocol):
    """A parser of what comes after the head of a response with 101."""

    def feed_data(self, data: bytes, /) -> tuple[bool, bytes]:
        """Take bytes; the first result says whether it takes no more."""

    def feed_eof(self) -> None: ...


class _ParserSink:
    """Hands the bytes of an upgraded connection to a parser."""

    def __init__(
        self, parser: PayloadParser, payload: object, data_received_cb: Callable[[], None] | None
    ) -> None:
        self._parser: PayloadParser | None = parser
        self._payload = payload
        self._data_received = data_received_cb

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            return
        if self._data_received is not None:
            self._data_received()
        has_ended, _ = self._parser.feed_data(data)
        if has_ended:
            self._parser = None

    def eof_received(self) -> None:
        self.connection_lost(None)

    def connection_lost(self, exc: BaseException | None) -> None:
        parser, self._parser = self._parser, None
        if parser is None:
            return
        set_exception = getattr(self._payload, "set_exception", None)
        if exc is None or set_exception is None:
            parser.feed_eof()
        else:
            set_exception(exceptions.ClientOSError(*exc.args) if isinstance(exc, OSError) else exc)

    def pause_writing(self) -> None:
        """The connection has a waiter for it."""

    def resume_writing(self) -> None:
        """As :meth:`pause_writing`."""


#: aiohttp's name for it, by which connectors that come with a transport of their own make one.
ResponseHandler = HttpConnection


# The extension imports nothing of this package: it is given what it uses.
_core.give_exceptions(exceptions, http_exceptions)
