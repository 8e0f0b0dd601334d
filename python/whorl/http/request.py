"""A request as it goes out: one for each hop of redirects."""

from __future__ import annotations

import asyncio
import functools
import re
import sys
import traceback
import warnings
import weakref
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from multidict import CIMultiDict, CIMultiDictProxy, MultiDict, MultiDictProxy
from yarl import URL

from whorl import __version__

from . import hdrs
from .auth.basic import BasicAuth, is_basic_auth
from .body import payload
from .body.formdata import FormData, is_form
from .body.writer import StreamWriter
from .connect.tls import SSL_SCHEMES, SSLSetting
from .cookies.header import build_cookie_header
from .exceptions import ClientConnectionError, ClientOSError, InvalidURL
from .helpers import HttpVersion, HttpVersion10, HttpVersion11, Sentinel, TimerNoop, sentinel
from .timeouts import is_timeout

if TYPE_CHECKING:
    from .body.upload import UploadTracker
    from .connect.connector import Connection
    from .hooks.tracing import Trace
    from .response import ClientResponse
    from .session import ClientSession
    from .typedefs import Byteish, LooseCookies, LooseHeaders, Query

__all__ = ["ClientRequest", "ConnectionKey", "RequestInfo"]

# Servers that search the client's name for aiohttp find it: this client behaves like aiohttp's.
SERVER_SOFTWARE: Final = (
    f"Python/{sys.version_info[0]}.{sys.version_info[1]} whorl/{__version__} (compatible; aiohttp/3.14)"
)

_NOT_TOKEN = re.compile(r"[^-!#$%&'*+.^_`|~0-9a-zA-Z]")
_DIGITS = re.compile(r"[0-9]+")


class _RequestInfo(NamedTuple):
    url: URL
    method: str
    headers: CIMultiDictProxy[str]
    real_url: URL


class RequestInfo(_RequestInfo):
    """The request of a response, and of an exception about one.

    ``url`` has no fragment, ``real_url`` is the requested one.
    """

    def __new__(
        cls, url: URL, method: str, headers: CIMultiDictProxy[str], real_url: URL | Sentinel = sentinel
    ) -> RequestInfo:
        """``real_url`` is ``url`` unless it is given."""
        return super().__new__(cls, url, method, headers, url if isinstance(real_url, Sentinel) else real_url)


class ConnectionKey(NamedTuple):
    """What requests must have in common to share a connection."""

    host: str
    port: int | None
    is_ssl: bool
    ssl: SSLSetting
    proxy: URL | None
    proxy_auth: BasicAuth | None
    proxy_headers_hash: int | None
    server_hostname: str | None = None


def connection_key(url: URL, ssl: SSLSetting = True) -> ConnectionKey:
    """The key of a request without a proxy."""
    return ConnectionKey(url.raw_host or "", url.port, url.scheme in SSL_SCHEMES, ssl, None, None, None)


class Destination:
    """Where a request on the fast path goes: the part of :class:`ClientRequest` that a connector reads."""

    __slots__ = ("connection_key", "url")

    server_hostname = None

    def __init__(self, url: URL, connection_key: ConnectionKey) -> None:
        self.url = url
        self.connection_key = connection_key

    @property
    def host(self) -> str:
        """As a request's."""
        return self.connection_key.host

    @property
    def port(self) -> int | None:
        """As a request's."""
        return self.connection_key.port

    @property
    def ssl(self) -> SSLSetting:
        """As a request's."""
        return self.connection_key.ssl

    def is_ssl(self) -> bool:
        """As a request's."""
        return self.connection_key.is_ssl


def automatic_headers() -> Iterable[tuple[str, str]]:
    """The fields that every request has by default."""
    return (*ClientRequest.DEFAULT_HEADERS.items(), (hdrs.USER_AGENT, SERVER_SOFTWARE))


class ClientRequest:
    """A request, as middlewares see it. Source of the semantics: ``aiohttp.ClientRequest``.

    Made by the session. ``method``, ``url``, ``headers`` (mutable), ``body``, ``session``, ``proxy`` and
    ``ssl`` may be read; :meth:`update_body` replaces the body.
    """

    GET_METHODS = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS, hdrs.METH_TRACE})
    POST_METHODS = frozenset({hdrs.METH_PATCH, hdrs.METH_POST, hdrs.METH_PUT})
    ALL_METHODS = GET_METHODS | POST_METHODS | {hdrs.METH_DELETE}

    DEFAULT_HEADERS: Mapping[str, str] = {
        hdrs.ACCEPT: "*/*",
        hdrs.ACCEPT_ENCODING: "gzip, deflate, br, zstd",
    }

    # For `create_autospec()`, which inspects the class.
    url = URL()
    method = hdrs.METH_GET
    auth: BasicAuth | None = None
    # A task that writes the body has the request: that must not keep a response that is dropped.
    _response: weakref.ref[ClientResponse] | None = None

    _body: payload.Payload | None = None
    _skip_auto_headers: frozenset[str] = frozenset()
    _upload_tracker: UploadTracker | None = None
    _attempt = 0
    _writing: asyncio.Task[None] | None = None
    _source_traceback: traceback.StackSummary | None = None

    def __init__(
        self,
        method: str,
        url: URL,
        *,
        params: Query = None,
        headers: LooseHeaders | None = None,
        skip_auto_headers: Iterable[str] | None = None,
        data: Any = None,
        cookies: LooseCookies | None = None,
        auth: BasicAuth | None = None,
        version: HttpVersion | str = HttpVersion11,
        compress: str | bool | None = None,
        chunked: bool | None = None,
        expect100: bool = False,
        loop: asyncio.AbstractEventLoop | None = None,
        response_class: type[ClientResponse] | None = None,
        proxy: URL | None = None,
        proxy_auth: BasicAuth | None = None,
        timer: Any = None,
        session: ClientSession | None = None,
        ssl: SSLSetting | None = True,
        proxy_headers: LooseHeaders | None = None,
        traces: list[Trace] | None = None,
        trust_env: bool = False,
        server_hostname: str | None = None,
    ) -> None:
        if match := _NOT_TOKEN.search(method):
            raise ValueError(
                f"Method cannot contain non-token characters {method!r} (found at least {match.group()!r})"
            )
        if not url.raw_host:
            raise InvalidURL(url)
        if params:
            url = url.extend_query(params)
        self.loop = asyncio.get_running_loop() if loop is None else loop
        if self.loop.get_debug():
            self._source_traceback = traceback.extract_stack(sys._getframe(1))
        self.original_url = url
        self.url = url.with_fragment(None) if url.raw_fragment else url
        self.method = method.upper()
        self.version = _version(version)
        self.chunked = chunked
        self.compress = compress
        self.length: int | None = None
        self.server_hostname = server_hostname
        self.response_class = response_class
        self._session = session
        self._ssl: SSLSetting = True if ssl is None else ssl
        self._timer = TimerNoop() if timer is None else timer
        self._traces: list[Trace] = [] if traces is None else traces
        self._continues = False

        self.update_headers(headers)
        self._set_automatic_headers(skip_auto_headers)
        if cookies:
            self.update_cookies(cookies)
        self._set_content_encoding(data)
        self.update_auth(auth)
        self._set_proxy(proxy, proxy_auth, proxy_headers)
        self._set_body(data)
        if data is not None or self.method not in self.GET_METHODS:
            self._set_transfer_encoding()
        self._set_expect(expect100)

    # Properties.

    @property
    def skip_auto_headers(self) -> CIMultiDict[None]:
        """The names of header fields that are not added by themselves."""
        return CIMultiDict((name, None) for name in sorted(self._skip_auto_headers))

    def is_ssl(self) -> bool:
        """Whether the URL's scheme requires TLS."""
        return self.url.scheme in SSL_SCHEMES

    @property
    def ssl(self) -> SSLSetting:
        """The TLS setting of the request."""
        return self._ssl

    @property
    def host(self) -> str:
        """The host, as it is encoded in the URL."""
        return self.url.raw_host or ""

    @property
    def port(self) -> int | None:
        """The port, the scheme's own where the URL has none."""
        return self.url.port

    @property
    def session(self) -> ClientSession:
        """The session, with which a middleware may send other requests."""
        assert self._session is not None
        return self._session

    @property
    def connection_key(self) -> ConnectionKey:
        """What requests must have in common to share a connection."""
        key = connection_key(self.url, self._ssl)
        if self.is_ssl() != key.is_ssl:
            # As a tool requires it: a connection in clear text is not for requests that require TLS.
            key = key._replace(is_ssl=not key.is_ssl)
        if self.proxy is None and self.server_hostname is None:
            return key
        proxied = self.proxy_headers
        return key._replace(
            proxy=self.proxy,
            proxy_auth=self.proxy_auth,
            proxy_headers_hash=hash(tuple(proxied.items())) if proxied else None,
            server_hostname=self.server_hostname,
        )

    @property
    def request_info(self) -> RequestInfo:
        """This request, as the response has it."""
        return RequestInfo(self.url, self.method, CIMultiDictProxy(self.headers), self.original_url)

    @property
    def response(self) -> ClientResponse | None:
        """The response, once the request is sent, for as long as it is referenced."""
        return None if self._response is None else self._response()

    # Its header fields.

    def update_headers(self, headers: LooseHeaders | None) -> None:
        """Replace the header fields by ``headers``, after a Host field for the URL."""
        host = self.url.host_port_subcomponent
        assert host is not None
        self.headers: CIMultiDict[str] = CIMultiDict([(hdrs.HOST, host)])
        if not headers:
            return
        for name, value in headers.items() if isinstance(headers, Mapping) else headers:
            if name.lower() == "host":
                self.headers[name] = value
            else:
                self.headers.add(name, value)

    def _set_automatic_headers(self, skip: Iterable[str] | None) -> None:
        headers = self.headers
        if skip:
            self._skip_auto_headers = frozenset(name.lower() for name in skip)
        for name, value in automatic_headers():
            if name not in headers and not self._skips(name):
                headers[name] = value

    def _skips(self, name: str) -> bool:
        return bool(self._skip_auto_headers) and name.lower() in self._skip_auto_headers

    def update_cookies(self, cookies: LooseCookies | None) -> None:
        """Add ``cookies`` to those of the Cookie field; of the same name, these win."""
        if not cookies:
            return
        present = self.headers.pop(hdrs.COOKIE, None)
        self.headers[hdrs.COOKIE] = build_cookie_header(cookies, present)

    def update_auth(self, auth: BasicAuth | None, trust_env: bool = False) -> None:
        """Set the Authorization field for ``auth``, or for the user that the URL names."""
        url = self.url
        if auth is None and (url.raw_user or url.raw_password):
            auth = BasicAuth.from_url(url)
        if auth is None:
            return
        if not is_basic_auth(auth):
            raise TypeError(f"BasicAuth() tuple is required instead of {auth!r}")
        self.auth = auth
        self.headers[hdrs.AUTHORIZATION] = auth.encode()

    def _set_proxy(self, proxy: URL | None, auth: BasicAuth | None, headers: LooseHeaders | None) -> None:
        self.proxy = proxy
        self.proxy_auth: BasicAuth | None = None
        self.proxy_headers: MultiDict[str] | MultiDictProxy[str] | None = None
        if proxy is None:
            return
        if auth and not is_basic_auth(auth):
            raise ValueError(f"proxy_auth must be None or BasicAuth() tuple, not {auth!r}")
        self.proxy_auth = auth
        if headers is not None and not isinstance(headers, MultiDict | MultiDictProxy):
            headers = CIMultiDict(headers)
        self.proxy_headers = headers

    def _set_expect(self, expect: bool) -> None:
        if expect:
            self.headers[hdrs.EXPECT] = "100-continue"
        self._continues = expect or self.headers.get(hdrs.EXPECT, "").lower() == "100-continue"

    # Its body.

    @property
    def body(self) -> payload.Payload | Literal[b""]:
        """The body; empty bytes if there is none."""
        return b"" if self._body is None else self._body

    @body.setter
    def body(self, value: Any) -> None:
        if self._body is not None:
            _warn_of_unclosed(self._body, 3)
            self._body._close()
        self._replace_body(value)

    async def update_body(self, body: Any) -> None:
        """Replace the body with anything that ``data=`` takes, and close the previous one.

        The fields that depend on it (Content-Length, Transfer-Encoding, Content-Type if there is none)
        follow.
        """
        if self._body is not None:
            await self._body.close()
        self._replace_body(body)

    def _replace_body(self, body: Any) -> None:
        self.headers.popall(hdrs.CONTENT_LENGTH, None)
        if self.chunked:
            self.headers.popall(hdrs.TRANSFER_ENCODING, None)
        if self._body is not None and not self._body.autoclose and not self._body.consumed:
            _warn_of_unclosed(self._body, 4)
        self._set_body(body)
        if body is not None or self.method not in self.GET_METHODS:
            self._set_transfer_encoding()

    def _set_content_encoding(self, data: Any) -> None:
        if not data:
            # An empty body is not compressed.
            self.compress = None
        elif self.headers.get(hdrs.CONTENT_ENCODING):
            if self.compress:
                raise ValueError("compress can not be set if Content-Encoding header is set")
        elif self.compress:
            self.compress = self.compress if isinstance(self.compress, str) else "deflate"
            self.headers[hdrs.CONTENT_ENCODING] = self.compress
            # Its length is not known before it is compressed.
            self.chunked = True

    def _set_transfer_encoding(self) -> None:
        if "chunked" in self.headers.get(hdrs.TRANSFER_ENCODING, "").lower():
            if self.chunked:
                raise ValueError('chunked can not be set if "Transfer-Encoding: chunked" header is set')
            self.chunked = True
        elif self.chunked:
            if hdrs.CONTENT_LENGTH in self.headers:
                raise ValueError("chunked can not be set if Content-Length header is set")
            self.headers[hdrs.TRANSFER_ENCODING] = "chunked"

    def _set_body(self, data: Any) -> None:
        if data is None:
            self._body = None
            if (
                self.method not in self.GET_METHODS
                and not self.chunked
                and hdrs.CONTENT_LENGTH not in self.headers
            ):
                self.headers[hdrs.CONTENT_LENGTH] = "0"
            return
        self._body = body = _payload_of(data)
        chunked = self.chunked or "chunked" in self.headers.get(hdrs.TRANSFER_ENCODING, "").lower()
        if not chunked and hdrs.CONTENT_LENGTH not in self.headers:
            if body.size is not None:
                self.headers[hdrs.CONTENT_LENGTH] = str(body.size)
            else:
                self.chunked = True
        for name, value in body.headers.items():
            if name not in self.headers and not self._skips(name):
                self.headers[name] = value

    def _content_length(self) -> int | None:
        value = self.headers.get(hdrs.CONTENT_LENGTH)
        if value is None:
            return None
        if not _DIGITS.fullmatch(value):
            raise ValueError(f"Invalid Content-Length header: {value!r}")
        return int(value)

    # Sending it.

    def _target(self) -> str:
        """The request target (RFC 9112, section 3.2)."""
        if self.method == hdrs.METH_CONNECT:
            return f"{self.url.host_subcomponent}:{self.url.port}"
        if self.proxy and not self.is_ssl():
            return str(self.url)
        return self.url.raw_path_qs

    def _set_last_headers(self, force_close: bool) -> None:
        headers = self.headers
        if (
            self.method in self.POST_METHODS
            and hdrs.CONTENT_TYPE not in headers
            and not self._skips(hdrs.CONTENT_TYPE)
        ):
            headers[hdrs.CONTENT_TYPE] = "application/octet-stream"
        if hdrs.CONNECTION not in headers:
            if force_close:
                if self.version == HttpVersion11:
                    headers[hdrs.CONNECTION] = "close"
            elif self.version == HttpVersion10:
                headers[hdrs.CONNECTION] = "keep-alive"

    async def send(self, conn: Connection) -> ClientResponse:
        """Send the request; the response has not started when this returns, and the body may still be on its
        way out."""
        protocol = conn.protocol
        assert protocol is not None
        assert self.response_class is not None
        self._set_last_headers(conn._connector.force_close)
        options = conn.options
        exchange = protocol.begin(self.method, **options)
        writer = StreamWriter(
            protocol,
            self.loop,
            functools.partial(self._chunk_sent, self.method, self.url) if self._traces else None,
            functools.partial(self._headers_sent, self.method, self.url) if self._traces else None,
        )
        if self.compress:
            assert isinstance(self.compress, str)
            writer.enable_compression(self.compress)
        if self.chunked:
            writer.enable_chunking()
        await writer.write_headers(
            f"{self.method} {self._target()} HTTP/{self.version.major}.{self.version.minor}", self.headers
        )
        task = self._start_body(writer, conn)
        response = self.response_class(
            self.method,
            self.original_url,
            writer=task,
            continue100=None,
            timer=self._timer,
            request_info=self.request_info,
            traces=self._traces,
            loop=self.loop,
            session=self._session,
            stream_writer=writer,
        )
        response._exchange = exchange
        self._response = weakref.ref(response)
        return response

    def _start_body(self, writer: StreamWriter, conn: Connection) -> asyncio.Task[None] | None:
        """Send the body; by a task of its own where it may have to wait."""
        protocol, tracker = conn.protocol, self._upload_tracker
        assert protocol is not None
        default_writer = type(self).write_bytes is ClientRequest.write_bytes
        if default_writer and not self._continues and not protocol.writing_paused:
            if not self._body:
                writer.set_eof()
                protocol.sent()
                if tracker is not None:
                    tracker._sent(self._attempt)
                return None
            if type(self._body) is payload.BytesPayload and tracker is None and not self._traces:
                # Bytes that are here already need no task to send them.
                data: Byteish = self._body._value
                length = self._content_length()
                writer.end(data if length is None else data[:length])
                protocol.sent()
                return None
        coroutine = self.write_bytes(writer, conn, self._content_length())
        if sys.version_info >= (3, 12):
            task = asyncio.Task(coroutine, loop=self.loop, eager_start=True)
        else:
            task = self.loop.create_task(coroutine)
        if task.done():
            return None
        self._writing = task
        return task

    async def write_bytes(
        self, writer: StreamWriter, conn: Connection, content_length: int | None = None
    ) -> None:
        """Write the body; the response fails with the error of the writing.

        :param content_length: at most so many bytes are written; None: all
        """
        tracker, attempt = self._upload_tracker, self._attempt
        if tracker is not None:
            writer.on_body_write = functools.partial(tracker._add, attempt)
            tracker._sending(attempt, writer)
        protocol = conn.protocol
        assert protocol is not None
        try:
            if self._continues and (exchange := protocol.exchange) is not None:
                writer.send_headers()
                await writer.drain()
                await exchange.continue_waiter()
            try:
                if self._body is not None:
                    await self._body.write_with_length(writer, content_length)
            except Exception as cause:
                error = self._sending_error(cause, conn)
                protocol.set_exception(error, cause if error is not cause else None)
                if tracker is not None:
                    tracker._failed(attempt, error)
                conn.close()
            else:
                await writer.write_eof()
                if tracker is not None:
                    tracker._sent(attempt)
                protocol.sent()
        except BaseException as error:
            if tracker is not None:
                tracker._failed(attempt, None if isinstance(error, asyncio.CancelledError) else error)
            # Half a request is on the wire.
            conn.close()
            raise

    def _sending_error(self, cause: Exception, conn: Connection) -> Exception:
        if isinstance(cause, OSError):
            if is_timeout(cause):
                return cause
            return ClientOSError(cause.errno, f"Can not write request body for {self.url}")
        return ClientConnectionError(f"Failed to send bytes into the underlying connection {conn}: {cause!r}")

    async def close(self) -> None:
        """Wait until the body is written."""
        if (task := self._writing) is not None:
            await finished(task)

    def terminate(self) -> None:
        """Stop writing the body."""
        if (task := self._writing) is not None and not self.loop.is_closed():
            task.cancel()
        self._writing = None

    async def _chunk_sent(self, method: str, url: URL, chunk: Byteish) -> None:
        for trace in self._traces:
            await trace.send_request_chunk_sent(method, url, bytes(chunk))

    async def _headers_sent(self, method: str, url: URL, headers: CIMultiDict[str]) -> None:
        for trace in self._traces:
            await trace.send_request_headers(method, url, headers)


async def finished(task: asyncio.Task[None]) -> None:
    """Wait for ``task`` to end; its being cancelled is none of the caller's concern, the caller's own is."""
    try:
        await task
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            raise


def _payload_of(data: Any) -> payload.Payload:
    body = data() if is_form(data) else data
    try:
        return payload.PAYLOAD_REGISTRY.get(body, disposition=None)
    except payload.LookupError:
        fields: Any = body
        form = FormData(fields)()
        assert isinstance(form, payload.Payload)
        return form


def _version(version: HttpVersion | str) -> HttpVersion:
    if not isinstance(version, str):
        return version
    major, _, minor = (part.strip() for part in version.partition("."))
    try:
        return HttpVersion(int(major), int(minor))
    except ValueError:
        raise ValueError(
            f"Can not parse http version number: {version!r}, which should be like '1.1'"
        ) from None


def _warn_of_unclosed(body: payload.Payload, stacklevel: int) -> None:
    if not body.autoclose and not body.consumed:
        warnings.warn(
            "The previous request body contains unclosed resources. Use await request.update_body() instead"
            " of setting request.body directly to properly close resources and avoid leaks.",
            ResourceWarning,
            stacklevel=stacklevel + 1,
        )
