"""A request as it goes out: one for each hop of redirects."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
import traceback
import warnings
from collections.abc import Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from multidict import CIMultiDict, CIMultiDictProxy, MultiDict, MultiDictProxy
from yarl import URL

from whorl import __version__, _core

from . import hdrs
from .arguments import with_params
from .auth.basic import BasicAuth, is_basic_auth
from .body.writer import StreamWriter
from .connect.tls import SSL_SCHEMES, SSLSetting
from .cookies.header import build_cookie_header
from .exceptions import ClientConnectionError, ClientOSError, InvalidURL
from .helpers import HttpVersion, HttpVersion11, TimerNoop
from .lazy import lazy, lazy_pattern
from .request_info import ConnectionKey, RequestInfo, connection_key
from .timeouts import is_timeout
from .urls import dialled_host

if TYPE_CHECKING:
    from .body import payload
    from .connect.acquired import Connection
    from .hooks.tracing import Trace
    from .response import ClientResponse
    from .session import ClientSession
    from .typedefs import Byteish, LooseCookies, LooseHeaders, Query

__all__ = ["ClientRequest", "ConnectionKey", "RequestInfo"]

# Servers that search the client's name for aiohttp find it: this client behaves like aiohttp's.
SERVER_SOFTWARE: Final = (
    f"Python/{sys.version_info[0]}.{sys.version_info[1]} whorl/{__version__} (compatible; aiohttp/3.14)"
)

_NOT_TOKEN = lazy_pattern(r"[^-!#$%&'*+.^_`|~0-9a-zA-Z]")

# Seconds for which 100 Continue is awaited, as in curl.
_CONTINUE_AFTER: Final = 1.0


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


def automatic_headers(request_class: type[ClientRequest]) -> Iterable[tuple[str, str]]:
    """The fields that every request of a class has by default."""
    return (*request_class.DEFAULT_HEADERS.items(), (hdrs.USER_AGENT, SERVER_SOFTWARE))


class ClientRequest(_core.RequestBase):
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

    length: int | None = None
    _timer: Any = TimerNoop()
    _given_session: ClientSession | None = None
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
            url = with_params(url, params)
        self.loop = asyncio.get_running_loop() if loop is None else loop
        if self.loop.get_debug():
            self._source_traceback = traceback.extract_stack(sys._getframe(1))
        if response_class is not None:
            self.response_class = response_class
        if session is not None:
            self._given_session = session
        if timer is not None:
            self._timer = timer
        if proxy is not None and proxy_auth and not is_basic_auth(proxy_auth):
            raise ValueError(
                f"proxy_auth must be None or BasicAuth() tuple, not a {type(proxy_auth).__name__}"
            )
        if proxy_headers is not None and not isinstance(proxy_headers, MultiDict | MultiDictProxy):
            proxy_headers = CIMultiDict(proxy_headers)
        self._build(
            method.upper(),
            url,
            url.with_fragment(None) if url.raw_fragment else url,
            automatic=automatic_headers(type(self)),
            headers=headers,
            skip_auto_headers=skip_auto_headers,
            data=data,
            cookies=cookies,
            auth=auth,
            version=parsed_version(version),
            compress=compress,
            chunked=None if chunked is None else bool(chunked),
            expect100=expect100,
            proxy=proxy,
            proxy_auth=proxy_auth,
            proxy_headers=proxy_headers,
            ssl=True if ssl is None else ssl,
            server_hostname=server_hostname,
        )

    # Properties.

    @lazy
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop."""
        return self.session._loop

    @lazy
    def response_class(self) -> type[ClientResponse]:
        """Made for the response."""
        return self.session._response_class

    @property
    def version(self) -> HttpVersion:
        """The version of HTTP in the request line."""
        return HttpVersion(*self._version)

    @version.setter
    def version(self, version: HttpVersion) -> None:
        self._version = version

    @property
    def skip_auto_headers(self) -> CIMultiDict[None]:
        """The names of header fields that are not added by themselves."""
        return CIMultiDict((name, None) for name in sorted(self._skipped))

    def is_ssl(self) -> bool:
        """Whether the URL's scheme requires TLS."""
        return self.url.scheme in SSL_SCHEMES

    @property
    def ssl(self) -> SSLSetting:
        """The TLS setting of the request."""
        setting: SSLSetting = self._ssl
        return setting

    @property
    def host(self) -> str:
        """The host, as it is encoded in the URL."""
        return dialled_host(self.url)

    @property
    def port(self) -> int | None:
        """The port, the scheme's own where the URL has none."""
        return self.url.port

    @property
    def session(self) -> ClientSession:
        """The session, with which a middleware may send other requests."""
        session = self._session or self._given_session
        assert session is not None
        return session

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

    # Its header fields.

    def update_headers(self, headers: LooseHeaders | None) -> None:
        """Replace the header fields by ``headers``, after a Host field for the URL."""
        self._set_headers(headers or None)
        if type(self).headers is not ClientRequest.headers:
            # A class attribute of that name hides the native one: it has the fields, or the instance.
            self.headers = super().headers

    def update_cookies(self, cookies: LooseCookies | None) -> None:
        """Add ``cookies`` to those of the Cookie field; of the same name, these win."""
        if not cookies:
            return
        present = self.headers.pop(hdrs.COOKIE, None)
        self.headers[hdrs.COOKIE] = build_cookie_header(cookies, present)

    def update_auth(self, auth: BasicAuth | None, trust_env: bool = False) -> None:
        """Set the Authorization field for ``auth``, or for the user that the URL names.

        :raises TypeError: for credentials of another type
        :raises ValueError: for a login with a colon, and for what cannot be encoded
        """
        url = self.url
        if auth is None and (url.raw_user or url.raw_password):
            auth = BasicAuth.from_url(url)
        if auth is None:
            return
        if not is_basic_auth(auth):
            raise TypeError(f"BasicAuth() tuple is required instead of a {type(auth).__name__}")
        self._set_auth(auth)

    # Its body.

    @property
    def body(self) -> payload.Payload | Literal[b""]:
        """The body; empty bytes if there is none."""
        return self._body or b""

    @body.setter
    def body(self, value: Any) -> None:
        body = self._body
        if body is not None:
            _warn_of_unclosed(body, 3)
            body._close()
        self._replace_body(value)

    async def update_body(self, body: Any) -> None:
        """Replace the body with anything that ``data=`` takes, and close the previous one.

        The fields that depend on it (Content-Length, Transfer-Encoding, Content-Type if there is none)
        follow.
        """
        previous = self._body
        if previous is not None:
            await previous.close()
        self._replace_body(body)

    # Sending it.

    def _target(self) -> str:
        """The request target (RFC 9112, section 3.2)."""
        if self.method == hdrs.METH_CONNECT:
            return f"{self.url.host_subcomponent}:{self.url.port}"
        if self.proxy and not self.is_ssl():
            return str(self.url)
        return self.url.raw_path_qs

    async def send(self, conn: Connection) -> ClientResponse:
        """Send the request; the response has not started when this returns, and the body may still be on its
        way out."""
        if type(self).headers is not ClientRequest.headers:
            self._take_headers(self.headers)
        response: ClientResponse = await self._send(conn)
        return response

    def _start_upload(self, conn: Connection, head: bytes) -> tuple[StreamWriter, asyncio.Task[None] | None]:
        """Send ``head``, and the body; by a task of its own where that may have to wait."""
        protocol = conn.protocol
        assert protocol is not None
        listens = any(trace.listens_to_chunks for trace in self._traces)
        writer = StreamWriter(
            protocol,
            self.loop,
            functools.partial(self._chunk_sent, self.method, self.url) if listens else None,
            head=head,
        )
        if self.compress:
            writer.enable_compression(self.compress)
        if self._is_chunked:
            writer.enable_chunking()
        elif not self.compress:
            writer.length = self._content_length()
        return writer, self._start_body(writer, conn)

    def _start_body(self, writer: StreamWriter, conn: Connection) -> asyncio.Task[None] | None:
        protocol, tracker = conn.protocol, self._upload_tracker
        assert protocol is not None
        default_writer = type(self).write_bytes is ClientRequest.write_bytes
        if not self._continues and not protocol.writing_paused:
            data = self._bytes
            if data is None and self._body is None:
                writer.end()
                self._sent_whole(writer, protocol)
                if tracker is not None:
                    tracker._sent(self._attempt)
                return None
            if default_writer and data is not None and tracker is None and writer.is_silent:
                # Bytes that are here already need no task to send them.
                writer.end(data)
                self._sent_whole(writer, protocol)
                return None
        coroutine = self.write_bytes(writer, conn, self._content_length())
        if not default_writer:
            coroutine = self._failing_with_it(coroutine, conn)
        if sys.version_info >= (3, 12):
            task = asyncio.Task(coroutine, loop=self.loop, eager_start=True)
        else:
            task = self.loop.create_task(coroutine)
        if task.done():
            return None
        self._writing = task
        return task

    async def _failing_with_it(self, writing: Coroutine[Any, Any, None], conn: Connection) -> None:
        """Await a class's own :meth:`write_bytes`: the response fails with the error of it."""
        try:
            await writing
        except Exception as error:
            if (protocol := conn.protocol) is not None:
                protocol.set_exception(error)
            conn.close()

    def _sent_whole(self, writer: StreamWriter, protocol: _core.HttpConnection) -> None:
        """All of the request is written."""
        if writer.length:
            # Less than Content-Length says: what follows would be taken for the rest (RFC 9112, section 9.3).
            protocol.force_close()
        protocol.sent()

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
            if self._continues and not await self._is_continued(writer, protocol):
                # The server has refused the body. It may expect one all the same: the connection ends.
                if tracker is not None:
                    tracker._failed(attempt, None)
                protocol.force_close()
                protocol.sent()
                return
            try:
                if (body := self._body) is not None:
                    await body.write_with_length(writer, content_length)
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
                self._sent_whole(writer, protocol)
        except BaseException as error:
            if tracker is not None:
                tracker._failed(attempt, None if isinstance(error, asyncio.CancelledError) else error)
            # Half a request is on the wire.
            conn.close()
            raise

    async def _is_continued(self, writer: StreamWriter, protocol: _core.HttpConnection) -> bool:
        """Whether the body is to be sent: after 100 Continue, or when the server has not answered for a while
        (RFC 9110, section 10.1.1); a response that comes instead refuses it."""
        exchange = protocol.exchange
        # Before the head is sent: the answer may come while its last bytes wait for the peer.
        answered = None if exchange is None else exchange.continue_waiter()
        writer.send_headers()
        await writer.drain()
        if exchange is None or answered is None:
            return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CONTINUE_AFTER):
                await answered
        return exchange.phase == "waiting"

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


async def finished(task: asyncio.Task[None]) -> None:
    """Wait for ``task`` to end; its being cancelled is none of the caller's concern, the caller's own is."""
    try:
        await task
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            raise


def parsed_version(version: HttpVersion | str) -> HttpVersion:
    """The version of HTTP, which may be text such as ``"1.1"``.

    :raises ValueError: for text that is none
    """
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
