"""A response: its head, and its body whole or as a stream."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import traceback
import warnings
import weakref
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from http.cookies import SimpleCookie
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Final

from multidict import CIMultiDict, CIMultiDictProxy, MultiDict, MultiDictProxy
from yarl import URL

from whorl import _core

from . import hdrs
from .auth.redaction import redacted_headers, redacted_url
from .body import content_disposition
from .client_request import finished
from .connect.connection import HttpConnection
from .cookies.header import parse_set_cookie_headers
from .exceptions import ClientConnectionError, ClientResponseError, ContentTypeError
from .helpers import (
    HttpVersion,
    is_expected_content_type,
    parse_content_type,
    parse_http_date,
    parse_mimetype,
    text_encoding,
)
from .http_exceptions import HttpProcessingError
from .lazy import lazy, lazy_pattern
from .request_info import RequestInfo
from .streams import EMPTY_PAYLOAD, StreamReader
from .typedefs import DEFAULT_JSON_DECODER
from .urls import host_of, make_url

if TYPE_CHECKING:
    import datetime

    from .body.writer import StreamWriter
    from .connect.acquired import Connection
    from .hooks.tracing import Trace
    from .session import ClientSession
    from .typedefs import JSONDecoder, RawHeaders

__all__ = ["ClientResponse", "ContentDisposition"]

_LINK_PARAMETER = lazy_pattern(r"([^\s=]+)\s*=\s*(?:(['\"])(.*?)\2|(\S*))\Z")


@dataclass(frozen=True, slots=True)
class ContentDisposition:
    """The Content-Disposition field (RFC 6266) in its parts."""

    type: str | None
    parameters: MappingProxyType[str, str]
    filename: str | None


class _Released:
    """What :meth:`ClientResponse.release` returns: nothing has to be awaited, and old programs do."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


_RELEASED = _Released()


def _utf8(response: ClientResponse, body: bytes) -> str:
    return "utf-8"


def sent_request_info(method: str, url: URL, head: bytes) -> RequestInfo:
    """The request, from its head as it was sent."""
    headers: CIMultiDict[str] = CIMultiDict()
    for line in head.decode("utf-8", "surrogateescape").split("\r\n")[1:]:
        name, colon, value = line.partition(": ")
        if colon:
            headers.add(name, value)
    bare = url.with_fragment(None) if url.raw_fragment else url
    return RequestInfo(bare, method, CIMultiDictProxy(headers), url)


def _uploaded(response: weakref.ref[ClientResponse], task: asyncio.Task[None]) -> None:
    if (alive := response()) is not None:
        alive._uploaded(task)


class ClientResponse(_core.ResponseBase):
    """A response. Source of the semantics: ``aiohttp.ClientResponse``.

    Made by the session; the constructor has aiohttp's parameters, for tools that make responses of their own.
    Its attributes are made on first use.
    """

    _closed = False
    # It was pickled or copied: there is no connection behind it.
    _is_record = False
    _history: tuple[ClientResponse, ...] = ()
    _source_traceback: traceback.StackSummary | None = None
    _stream_writer: StreamWriter | None = None
    _upload: asyncio.Task[None] | None = None
    _output_size = 0
    _upload_complete: asyncio.Future[None] | None = None
    _traces: tuple[Trace, ...] | list[Trace] = ()

    def __init__(
        self,
        method: str,
        url: URL,
        *,
        writer: asyncio.Task[None] | None = None,
        continue100: asyncio.Future[bool] | None = None,
        timer: Any = None,
        request_info: RequestInfo | None = None,
        traces: list[Trace] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        session: ClientSession | None = None,
        stream_writer: StreamWriter | None = None,
    ) -> None:
        self.method = method
        self.real_url = url
        self._note(method, url)
        self._loop = loop
        if request_info is not None:
            self.request_info = request_info
        if traces:
            self._traces = traces
        if session is not None:
            self._session = session
            self._resolve_charset = session._resolve_charset
        if stream_writer is not None:
            self._follow_upload(stream_writer, writer)
        if loop is not None and loop.get_debug():
            self._source_traceback = traceback.extract_stack(sys._getframe(1))

    def _follow_upload(self, stream_writer: StreamWriter, task: asyncio.Task[None] | None) -> None:
        """Its request was written by ``stream_writer``, or is being written by ``task``."""
        self._output_size = stream_writer.output_size
        if task is None or task.done():
            return
        self._stream_writer = stream_writer
        self._upload = task
        task.add_done_callback(partial(_uploaded, weakref.ref(self)))
        exchange = self._exchange
        if exchange is not None and exchange.phase != "waiting":
            self._end_upload_with(exchange)

    def _end_upload_with(self, exchange: _core.Exchange) -> None:
        """A server that has responded wants no more of the body."""
        if self._upload is not None and not exchange.upgraded:
            exchange.on_end(self._upload.cancel)

    def _uploaded(self, task: asyncio.Task[None]) -> None:
        self._upload = None
        if self._stream_writer is not None:
            self._output_size = self._stream_writer.output_size
            self._stream_writer = None
        if self._upload_complete is not None and not self._upload_complete.done():
            self._upload_complete.set_result(None)

    # Its request. A session makes a response without `__init__()`, with a record of the request.

    @lazy
    def method(self) -> str:
        """The method of the request."""
        assert self._sent is not None
        return self._sent[0]

    @lazy
    def real_url(self) -> URL:
        """The requested URL."""
        assert self._sent is not None
        return self._sent[1]

    @lazy
    def request_info(self) -> RequestInfo:
        """The request."""
        if self._sent is None:
            raise RuntimeError("The response was made without a request")
        return sent_request_info(*self._sent)

    @lazy
    def _loop(self) -> asyncio.AbstractEventLoop | None:
        return None if self._exchange is None else self._exchange._loop

    @lazy
    def _resolve_charset(self) -> Callable[[ClientResponse, bytes], str]:
        return _utf8 if self._session is None else self._session._resolve_charset

    @lazy
    def _connection(self) -> Connection | None:
        session, exchange = self._session, self._exchange
        if self._sent is None or session is None or exchange is None:
            return None
        connector, protocol = session._connector, exchange.connection
        if connector is None or not isinstance(protocol, HttpConnection):
            return None
        from .connect.acquired import Connection

        return Connection(connector, protocol.key, protocol, connector._loop)

    # Its head.

    @lazy
    def version(self) -> HttpVersion:
        """The version of HTTP that the server speaks."""
        return HttpVersion(*self._head().version)

    @lazy
    def reason(self) -> str | None:
        """The reason phrase."""
        return self._head().reason

    @lazy
    def _headers(self) -> CIMultiDictProxy[str]:
        return self._head().headers()

    @lazy
    def _raw_headers(self) -> RawHeaders:
        return self._head().raw_headers()

    def _field(self, name: str) -> str:
        """The value of a header field, or an empty text: without the mapping of all fields, unless there is
        one or it is a program's own."""
        own = self.__dict__
        exchange = self._exchange
        if exchange is None or "headers" in own or "_headers" in own or not _has_own_headers(type(self)):
            return self.headers.get(name, "")
        return exchange.value(name) or ""

    def _head(self) -> _core.Exchange:
        if self._exchange is None:
            raise RuntimeError("The response has not started: there is no answer to look at yet")
        return self._exchange

    @lazy
    def _url(self) -> URL:
        url = self.real_url
        return url.with_fragment(None) if url.raw_fragment else url

    @lazy
    def url(self) -> URL:
        """The URL of the response, without its fragment."""
        return self._url

    @property
    def host(self) -> str:
        """The host of the URL."""
        host = host_of(self.url)
        assert host is not None
        return host

    @lazy
    def headers(self) -> CIMultiDictProxy[str]:
        """The header fields, with their names as they came."""
        return self._headers

    @lazy
    def raw_headers(self) -> RawHeaders:
        """The header fields as they came: pairs of bytes."""
        return self._raw_headers

    @property
    def _request_info(self) -> RequestInfo:
        return self.request_info

    @lazy
    def _raw_cookie_headers(self) -> tuple[str, ...] | None:
        if self._exchange is not None:
            return tuple(self._exchange.values("set-cookie")) or None
        # A tool that makes a response of its own sets them.
        return None

    @lazy
    def _cookies(self) -> SimpleCookie:
        cookies: SimpleCookie = SimpleCookie()
        if self._raw_cookie_headers:
            cookies.update(dict(parse_set_cookie_headers(self._raw_cookie_headers)))
        return cookies

    @property
    def cookies(self) -> SimpleCookie:
        """The cookies that the response sets."""
        return self._cookies

    @cookies.setter
    def cookies(self, cookies: SimpleCookie) -> None:
        self._cookies = cookies
        self._raw_cookie_headers = tuple(morsel.OutputString() for morsel in cookies.values()) or None

    @property
    def history(self) -> tuple[ClientResponse, ...]:
        """The redirects that led here."""
        return self._history

    @property
    def ok(self) -> bool:
        """Whether the status is below 400."""
        return self.status < 400

    @property
    def content_type(self) -> str:
        """The media type, without its parameters; ``application/octet-stream`` if there is none."""
        return parse_content_type(self._field(hdrs.CONTENT_TYPE))[0]

    @property
    def charset(self) -> str | None:
        """The charset that the Content-Type names."""
        return parse_content_type(self._field(hdrs.CONTENT_TYPE))[1].get("charset")

    @property
    def content_length(self) -> int | None:
        """The value of the Content-Length field, in bytes; None without one that is a number."""
        # Of a response without a body it has not been checked.
        length = self._field(hdrs.CONTENT_LENGTH)
        return int(length) if length.isascii() and length.isdigit() and len(length) < 20 else None

    @property
    def last_modified(self) -> datetime.datetime | None:
        """The date of the Last-Modified field."""
        return parse_http_date(self.headers.get(hdrs.LAST_MODIFIED))

    @lazy
    def content_disposition(self) -> ContentDisposition | None:
        """The Content-Disposition field in its parts, if there is one."""
        raw = self.headers.get(hdrs.CONTENT_DISPOSITION)
        if raw is None:
            return None
        kind, parameters = content_disposition.parse_content_disposition(raw)
        view = MappingProxyType(parameters)
        return ContentDisposition(kind, view, content_disposition.content_disposition_filename(view))

    @property
    def links(self) -> MultiDictProxy[MultiDictProxy[str | URL]]:
        """The Link fields (RFC 8288), by relation: each has its ``url``, joined to the response's, and its
        parameters. Those that lead to no URL are left out."""
        links: MultiDict[MultiDictProxy[str | URL]] = MultiDict()
        for value in re.split(r",(?=\s*<)", ", ".join(self.headers.getall(hdrs.LINK, ()))):
            match = re.match(r"\s*<(.*)>(.*)", value)
            if match is None:
                continue
            target, parameters = match.groups()
            link: MultiDict[str | URL] = MultiDict()
            for parameter in parameters.split(";")[1:]:
                if found := _LINK_PARAMETER.match(parameter.strip()):
                    name, _, quoted, token = found.groups()
                    link.add(name, token if quoted is None else quoted)
            relation = str(link.get("rel", target))
            try:
                link.add("url", self.url.join(make_url(target)))
            except ValueError:
                continue
            links.add(relation, MultiDictProxy(link))
        return MultiDictProxy(links)

    # Start and end.

    async def start(self, connection: Connection) -> ClientResponse:
        """Wait for the head.

        :raises ClientResponseError: if the received bytes are not HTTP/1.1
        :raises ServerDisconnectedError: if the server closes the connection
        """
        self._connection = connection
        exchange = await self._wait_for_head()
        self._end_upload_with(exchange)
        return self

    async def _wait_for_head(self) -> _core.Exchange:
        self._check_head()
        exchange = self._head()
        waiter = exchange.head_waiter()
        if waiter is not None:
            await waiter
            self._check_head()
        return exchange

    def _check_head(self) -> None:
        """Raise the error in the place of the head, if there is one."""
        try:
            self._head().check_head()
        except HttpProcessingError as error:
            raise ClientResponseError(
                self.request_info,
                self.history,
                status=error.code,
                message=error.message,
                headers=None if error.headers is None else CIMultiDict(error.headers),
            ) from error

    @property
    def connection(self) -> Connection | None:
        """The connection, until the body has ended."""
        connection = self._connection
        return None if connection is None or connection.protocol is None else connection

    @property
    def closed(self) -> bool:
        """Whether nothing more will come from the connection."""
        exchange = self._exchange
        return self._closed or exchange is None or exchange.is_over()

    def close(self) -> None:
        """Close the response and its connection."""
        self._end()

    def release(self) -> _Released:
        """Release the response: the connection goes back to its pool if the body has been received, and is
        closed otherwise. Nothing has to be awaited."""
        self._end()
        return _RELEASED

    def _end(self) -> None:
        if self._release_ended():
            return
        if not self._released:
            self._released = True
            if (content := self.__dict__.get("content")) is not None and content.exception() is None:
                content.set_exception(ClientConnectionError("Connection closed"))
        self._closed = True
        if self._loop is not None and self._loop.is_closed():
            return
        self._stop_upload()
        if self._exchange is not None:
            # With bytes still to come the connection is closed.
            self._exchange.abandon()

    def _stop_upload(self) -> None:
        if self._upload is not None:
            self._upload.cancel()
        if self._stream_writer is not None:
            self._output_size = self._stream_writer.output_size
            self._stream_writer = None

    async def wait_for_close(self) -> None:
        """Wait until the request is written, or has been stopped, and release the response."""
        if self._upload is not None:
            await finished(self._upload)
        self._end()

    def raise_for_status(self) -> None:
        """Raise an exception for a status of 400 or more.

        :raises ClientResponseError: with the status and the reason
        """
        if self.ok:
            return
        if not self._in_context:
            self._end()
        raise ClientResponseError(
            self.request_info,
            self.history,
            status=self.status,
            message=self.reason or "",
            headers=self.headers,
        )

    async def __aenter__(self) -> ClientResponse:
        self._in_context = True
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        exc_traceback: TracebackType | None,
    ) -> None:
        self._in_context = False
        _ = self.release()
        if self._upload is not None:
            await self.wait_for_close()

    def __repr__(self) -> str:
        reason = str(self.reason).encode("unicode_escape").decode("ascii")
        headers = redacted_headers(self.headers)
        return f"<ClientResponse({redacted_url(self.url)}) [{self.status} {reason}]>\n{headers}\n"

    # Exceptions have responses, and are pickled on their way out of a worker process.

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle or copy is a record: the head, the request, and the body if it was read whole. It has no
        connection, and a body that was not read cannot be read."""
        head: dict[str, Any] = {}
        with contextlib.suppress(RuntimeError):
            # It has none before its head has come, or a tool has set one.
            head["status"] = self.status
        if head:
            for name in ("reason", "version", "raw_headers", "_raw_cookie_headers"):
                head[name] = getattr(self, name)
            head["headers"] = [(str(name), value) for name, value in self.headers.items()]
        if self._sent is not None or "request_info" in self.__dict__:
            head["request_info"] = self.request_info
        return _restored, (type(self), self.method, self.real_url, head, self._history, self._body)

    # Its body.

    @lazy
    def content(self) -> StreamReader:
        """The body as a stream. The bytes that have arrived go through it first."""
        if self._is_record:
            if self._body is None:
                raise ClientConnectionError("Connection closed")
            return EMPTY_PAYLOAD
        exchange = self._head()
        if not exchange.has_body and exchange.is_over():
            return EMPTY_PAYLOAD
        reader = StreamReader(exchange, exchange.buffer_size, loop=self._loop)
        if self._released:
            reader.set_exception(ClientConnectionError("Connection closed"))
        elif self._body is not None:
            # It was read whole: nothing is left.
            reader.feed_eof()
        else:
            exchange.attach(reader, self)
        return reader

    async def _read(self) -> bytes:
        """The part of :meth:`read` that waits, or that involves other code."""
        if self._body is None:
            try:
                body = await self._receive()
                # Another task may have read it meanwhile.
                if self._body is not None:
                    return self._body
                self._body = body
                for trace in self._traces:
                    await trace.send_response_chunk_received(self.method, self.url, body)
            except asyncio.CancelledError:
                # What has come so far is kept: the program may read again.
                raise
            except BaseException:
                self.close()
                raise
        elif self._released:
            raise ClientConnectionError("Connection closed")
        if self._upload is not None and (self._exchange is None or not self._exchange.upgraded):
            await finished(self._upload)
        return self._body

    async def _receive(self) -> bytes:
        exchange = self._exchange
        if "content" in self.__dict__ or exchange is None:
            return await self.content.read()
        if self._released:
            raise ClientConnectionError("Connection closed")
        body = exchange.body()
        while body is None:
            await exchange.body_waiter()
            if self._body is not None:
                return self._body
            body = exchange.body()
        return body

    def _keep_cookies(self) -> None:
        """Store this response's cookies in the session's jar."""
        if self._session is not None and self._raw_cookie_headers:
            self._session._cookie_jar.update_cookies_from_headers(self._raw_cookie_headers, self.url)

    def get_encoding(self) -> str:
        """The encoding of the body: the one that Content-Type names if Python knows it, UTF-8 for JSON, or
        the one that the session's ``fallback_charset_resolver`` returns.

        :raises RuntimeError: if the body has to be inspected and was not read
        """
        mimetype = parse_mimetype(self._field(hdrs.CONTENT_TYPE).lower())
        if (charset := mimetype.parameters.get("charset")) and (encoding := text_encoding(charset)):
            return encoding
        # RFC 8259, section 8.1; RFC 7483
        if mimetype.type == "application" and mimetype.subtype in ("json", "rdap"):
            return "utf-8"
        if self._body is None:
            raise RuntimeError("Cannot compute fallback encoding of a not yet read body")
        return self._resolve_charset(self, self._body)

    async def text(self, encoding: str | None = None, errors: str = "strict") -> str:
        """Read the whole body as text.

        :param encoding: the encoding; :meth:`get_encoding` by default
        :param errors: the error handler of :meth:`bytes.decode`
        """
        if self._body is None:
            await self.read()
        assert self._body is not None
        return self._body.decode(self.get_encoding() if encoding is None else encoding, errors=errors)

    async def json(
        self,
        *,
        encoding: str | None = None,
        loads: JSONDecoder = DEFAULT_JSON_DECODER,
        content_type: str | None = "application/json",
    ) -> Any:
        """Read the whole body as JSON; None if it is blank.

        :param content_type: the required media type; None: any
        :raises ContentTypeError: if it is another
        """
        if self._body is None:
            await self.read()
        assert self._body is not None
        if content_type:
            actual = self._field(hdrs.CONTENT_TYPE).lower()
            if not is_expected_content_type(actual, content_type):
                raise ContentTypeError(
                    self.request_info,
                    self.history,
                    status=self.status,
                    message=f"Attempt to decode JSON with unexpected mimetype: {actual}",
                    headers=self.headers,
                )
        stripped = self._body.strip()
        if not stripped:
            return None
        return loads(stripped.decode(self.get_encoding() if encoding is None else encoding))

    # Deprecated.

    @property
    def output_size(self) -> int:
        """Bytes of the request that were sent. Deprecated in aiohttp 3.14.4 for ``UploadTracker``."""
        _deprecated("output_size")
        return self._output_size if self._stream_writer is None else self._stream_writer.output_size

    @property
    def upload_complete(self) -> asyncio.Future[None]:
        """A future that is done when the request is sent. Deprecated for ``UploadTracker``."""
        _deprecated("upload_complete")
        if self._upload_complete is None:
            loop = self._loop or asyncio.get_running_loop()
            self._upload_complete = loop.create_future()
            if self._stream_writer is None:
                self._upload_complete.set_result(None)
        return self._upload_complete

    @property
    def url_obj(self) -> URL:
        """The URL. Deprecated for ``url``."""
        warnings.warn("Deprecated, use .url #1654", DeprecationWarning, stacklevel=2)
        return self.url


_HEADERS: Final = vars(ClientResponse)["headers"]


def _has_own_headers(cls: type) -> bool:
    """Whether the mapping of a response's fields is ours: neither a derived class nor a tool replaces it."""
    return cls is ClientResponse and vars(ClientResponse)["headers"] is _HEADERS


def _restored(
    cls: type[ClientResponse],
    method: str,
    url: URL,
    head: dict[str, Any],
    history: tuple[ClientResponse, ...],
    body: bytes | None,
) -> ClientResponse:
    """The record of a response that was pickled or copied."""
    # Without `__init__()`: a derived class may have parameters of its own.
    response = cls.__new__(cls)
    if "headers" in head:
        head["_headers"] = CIMultiDictProxy(CIMultiDict(head.pop("headers")))
    if "status" in head:
        # It is the native half's.
        response.status = head.pop("status")
    response.__dict__.update(head, method=method, real_url=url, _connection=None, _loop=None)
    response._note(method, url)
    response._history = history
    response._closed = response._is_record = True
    response._body = body
    return response


def _deprecated(name: str) -> None:
    text = f"ClientResponse.{name} is deprecated, use aiohttp.UploadTracker instead"
    warnings.warn(text, DeprecationWarning, stacklevel=3)
