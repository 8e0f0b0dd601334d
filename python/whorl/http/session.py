"""The session: options, cookies and connections that a program's requests share."""

from __future__ import annotations

import asyncio
import sys
import traceback
import warnings
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

from multidict import CIMultiDict
from yarl import URL

from whorl import _core

from . import hdrs
from .arguments import (
    DEPRECATED,
    check_instance,
    check_list,
    check_method,
    check_names,
    check_sizes,
    header_fields,
)
from .client_request import ClientRequest
from .connect.connector import BaseConnector
from .connect.tcp import TCPConnector
from .context import _RequestContextManager, _SessionRequestContextManager, _WSRequestContextManager
from .cookies.jar import CookieJar
from .helpers import (
    DEFAULT_CHUNK_SIZE,
    HttpVersion,
    HttpVersion11,
    Sentinel,
    sentinel,
)
from .response import ClientResponse
from .steps import prepare
from .steps.overrides import configure, note_session_class
from .timeouts import ClientTimeout, request_timeout, session_timeout
from .typedefs import DEFAULT_JSON_ENCODER
from .urls import make_url

if TYPE_CHECKING:
    from .abc import AbstractCookieJar
    from .auth.basic import BasicAuth
    from .hooks.middlewares import ClientMiddlewareType
    from .hooks.tracing import TraceConfig
    from .options import OptionsWithoutData, OptionsWithoutRedirects, RequestOptions, WSConnectOptions
    from .typedefs import JSONBytesEncoder, JSONEncoder, LooseCookies, LooseHeaders, StrOrURL
    from .websocket.client import ClientWebSocketResponse

__all__ = ["ClientSession", "request"]

CharsetResolver = Callable[[ClientResponse, bytes], str]
RaiseForStatus = bool | Callable[[ClientResponse], Awaitable[None]]


def _utf8(response: ClientResponse, body: bytes) -> str:
    return "utf-8"


def _deprecated(text: str, stacklevel: int) -> None:
    warnings.warn(text, DeprecationWarning, stacklevel=stacklevel + 1)


class ClientSession(_core.SessionBase):
    """Sends requests, and keeps their connections and cookies. Source of the semantics:
    ``aiohttp.ClientSession``.

    Make it while the event loop runs, use it for many requests, and close it::

        async with ClientSession() as session:
            async with session.get("https://example.org/") as response:
                print(response.status, await response.text())

    :param auth: the credentials of requests that have none of their own. Without a ``base_url`` every host
        gets them that a request goes to, by a redirect as well. Deprecated in aiohttp, as ``proxy_auth``
    :param base_url: joined with the URLs of requests that are relative; its path has to end with a slash
    :param connector: makes and keeps the connections; a :class:`TCPConnector` by default
    :param cookies: cookies to begin with
    :param headers: header fields of every request
    :param proxy: the proxy of every request that names none
    :param skip_auto_headers: names of fields that are not added by themselves (``User-Agent``,
        ``Content-Type`` …)
    :param json_serialize: makes the text of ``json=``
    :param json_serialize_bytes: makes the bytes of ``json=``, in place of ``json_serialize``
    :param request_class: made for each hop
    :param response_class: made for each response
    :param ws_response_class: made for each WebSocket; :class:`ClientWebSocketResponse` by default
    :param version: the version of HTTP in request lines
    :param cookie_jar: keeps the cookies; a :class:`CookieJar` by default
    :param connector_owner: whether :meth:`close` closes the connector
    :param raise_for_status: whether a status of 400 or more raises, or a coroutine function that decides
    :param timeout: the limits of every request that has none of its own
    :param auto_decompress: whether gzip, deflate, br and zstd are undone
    :param trust_env: whether proxies and passwords are taken from the environment and from netrc
    :param requote_redirect_url: whether everything in the URLs of redirects that RFC 3986 does not allow is
        percent-encoded; otherwise only what no request line can carry
    :param trace_configs: receivers of signals about the steps of requests
    :param read_bufsize: bytes of a body that are kept for a program that does not read it
    :param max_line_size: limit of a status line, in bytes
    :param max_field_size: limit of a header field, in bytes
    :param max_headers: limit of the number of header fields
    :param strict: whether what a server may not send is an error even where it leaves no doubt about where
        the response ends (RFC 9112)
    :param fallback_charset_resolver: names the encoding of a text whose response does not
    :param middlewares: coroutine functions around every hop
    :raises RuntimeError: where no event loop runs, or the connector belongs to another one
    :raises ValueError: for a ``base_url`` without a trailing slash, or a ``timeout`` that is no
        :class:`ClientTimeout`
    """

    _connector: BaseConnector | None = None
    _source_traceback: traceback.StackSummary | None = None

    def __init__(
        self,
        base_url: StrOrURL | None = None,
        *,
        connector: BaseConnector | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        cookies: LooseCookies | None = None,
        headers: LooseHeaders | None = None,
        proxy: StrOrURL | None = None,
        proxy_auth: BasicAuth | None = None,
        skip_auto_headers: Iterable[str] | None = None,
        auth: BasicAuth | None = None,
        json_serialize: JSONEncoder = DEFAULT_JSON_ENCODER,
        json_serialize_bytes: JSONBytesEncoder | None = None,
        request_class: type[ClientRequest] = ClientRequest,
        response_class: type[ClientResponse] = ClientResponse,
        ws_response_class: type[ClientWebSocketResponse[Any]] | None = None,
        version: HttpVersion = HttpVersion11,
        cookie_jar: AbstractCookieJar | None = None,
        connector_owner: bool = True,
        raise_for_status: RaiseForStatus = False,
        read_timeout: float | Sentinel | None = sentinel,
        conn_timeout: float | None = None,
        timeout: ClientTimeout | Sentinel | None = sentinel,
        auto_decompress: bool = True,
        trust_env: bool = False,
        requote_redirect_url: bool = True,
        trace_configs: Sequence[TraceConfig] | None = None,
        read_bufsize: int = DEFAULT_CHUNK_SIZE,
        max_line_size: int = 8190,
        max_field_size: int = 8190,
        max_headers: int = 128,
        strict: bool = False,
        fallback_charset_resolver: CharsetResolver = _utf8,
        middlewares: Sequence[ClientMiddlewareType] = (),
        ssl_shutdown_timeout: float | Sentinel | None = sentinel,
    ) -> None:
        for name, value in (("connector", connector), ("cookie_jar", cookie_jar)):
            check_instance(value, name)
        check_list(middlewares, "middlewares", "coroutine functions")
        if trace_configs is not None:
            check_list(trace_configs, "trace_configs", "TraceConfig objects")
        if skip_auto_headers is not None:
            check_names(skip_auto_headers, "skip_auto_headers")
        check_sizes(
            read_bufsize=read_bufsize,
            max_line_size=max_line_size,
            max_field_size=max_field_size,
            max_headers=max_headers,
        )
        if loop is None:
            loop = connector._loop if connector is not None else asyncio.get_running_loop()
        self._loop = loop
        self._base_url = None if base_url is None else make_url(base_url, "base_url")
        if self._base_url is not None and not self._base_url.absolute:
            raise ValueError(f"base_url must be absolute: {base_url!r} has no scheme or no host")
        self._base_url_origin = None if self._base_url is None else self._base_url.origin()
        if self._base_url is not None and not self._base_url.path.endswith("/"):
            raise ValueError(f"base_url must have a trailing '/': {str(self._base_url)!r} has none")
        self._timeout = session_timeout(timeout, read_timeout, conn_timeout)
        if not isinstance(ssl_shutdown_timeout, Sentinel):
            text = "The ssl_shutdown_timeout parameter is deprecated and will be removed in aiohttp 4.0"
            _deprecated(text, 2)
        if auth is not None:
            _deprecated(DEPRECATED["auth"], 2)
        if proxy_auth is not None:
            _deprecated(DEPRECATED["proxy_auth"], 2)
        if connector is None:
            connector = TCPConnector(loop=loop, ssl_shutdown_timeout=ssl_shutdown_timeout)
        if connector._loop is not loop:
            raise RuntimeError("Session and connector has to use same event loop")
        if loop.get_debug():
            self._source_traceback = traceback.extract_stack(sys._getframe(1))
        self._cookie_jar: AbstractCookieJar = CookieJar(loop=loop) if cookie_jar is None else cookie_jar
        if cookies:
            self._cookie_jar.update_cookies(cookies)
        self._connector_owner = connector_owner
        self._default_auth = auth
        self._default_proxy = proxy
        self._default_proxy_auth = proxy_auth
        self._version = version
        self._json_serialize = json_serialize
        self._json_serialize_bytes = json_serialize_bytes
        self._raise_for_status = raise_for_status
        self._auto_decompress = auto_decompress
        self._trust_env = trust_env
        self._requote_redirect_url = requote_redirect_url
        self._read_bufsize = read_bufsize
        self._max_line_size = max_line_size
        self._max_field_size = max_field_size
        self._max_headers = max_headers
        self._strict = strict
        self._default_headers = header_fields(headers)
        self._skip_auto_headers = frozenset(skip_auto_headers or ())
        self._request_class = request_class
        self._response_class = response_class
        self._ws_response_class = ws_response_class
        self._resolve_charset = fallback_charset_resolver
        self._retry_connection = True
        self._middlewares = middlewares
        self._trace_configs = trace_configs if isinstance(trace_configs, list) else list(trace_configs or ())
        for trace_config in self._trace_configs:
            trace_config.freeze()
        prepare()
        # Last: with a connector, the session is one that has to be closed.
        self._connector = connector
        configure(self)

    def __init_subclass__(cls) -> None:
        text = f"Inheritance class {cls.__name__} from ClientSession is discouraged"
        _deprecated(text, 2)

    def __del__(self, _warnings: Any = warnings) -> None:
        if self.closed:
            return
        _warnings.warn(f"Unclosed client session {self!r}", ResourceWarning, source=self)
        context = {"client_session": self, "message": "Unclosed client session"}
        if self._source_traceback is not None:
            context["source_traceback"] = self._source_traceback
        self._loop.call_exception_handler(context)

    # Requests.

    def request(self, method: str, url: StrOrURL, **kwargs: Unpack[RequestOptions]) -> _RequestContextManager:
        """Send a request; the result is awaited, or entered with ``async with``.

        :param method: any token
        :param url: absolute, or relative to ``base_url``
        :param params: added to the query of the URL
        :param data: the body: bytes, text, a file, a form (:class:`FormData`, or a mapping), an async
            generator, a payload
        :param json: the body, as JSON
        :param cookies: cookies of this request, in addition to those of the session
        :param headers: header fields; of the same name, they replace the session's
        :param skip_auto_headers: names of fields that are not added by themselves
        :param allow_redirects: whether redirects are followed
        :param max_redirects: at most so many; None: any number
        :param compress: compress the body: ``"deflate"``, ``"gzip"``, True
        :param chunked: send the body in chunks
        :param expect100: wait for 100 Continue before the body is sent
        :param raise_for_status: as the session's
        :param read_until_eof: whether a body without a length ends with the connection; otherwise it is
            ignored
        :param proxy: URL of an HTTP proxy
        :param proxy_headers: fields for the proxy
        :param timeout: a :class:`ClientTimeout`, or seconds in all
        :param ssl: True: verify the certificate by authorities; False: do not; an :class:`ssl.SSLContext`; a
            :class:`Fingerprint`
        :param server_hostname: the name that the certificate must have, in place of the host
        :param trace_request_ctx: handed to the signals of ``trace_configs``
        :param read_bufsize: as the session's; so ``auto_decompress``, ``max_line_size``, ``max_field_size``,
            ``max_headers``, ``middlewares``
        :param upload_tracker: an :class:`UploadTracker`
        :raises InvalidURL: for a URL that is none
        :raises ClientConnectorError: if no connection can be made
        :raises ClientConnectionError: if the connection fails
        :raises ClientResponseError: if the response cannot be understood, or its status is raised for
        :raises TooManyRedirects: after ``max_redirects``
        :raises asyncio.TimeoutError: when a limit has passed
        """
        check_method(method)
        return _core.new_request(self, method, url, None, kwargs)

    def get(
        self, url: StrOrURL, *, allow_redirects: bool = True, **kwargs: Unpack[OptionsWithoutRedirects]
    ) -> _RequestContextManager:
        """Send a GET request; see :meth:`request`."""
        return _core.new_request(self, hdrs.METH_GET, url, allow_redirects or False, kwargs)

    def options(
        self, url: StrOrURL, *, allow_redirects: bool = True, **kwargs: Unpack[OptionsWithoutRedirects]
    ) -> _RequestContextManager:
        """Send an OPTIONS request; see :meth:`request`."""
        return _core.new_request(self, hdrs.METH_OPTIONS, url, allow_redirects or False, kwargs)

    def head(
        self, url: StrOrURL, *, allow_redirects: bool = False, **kwargs: Unpack[OptionsWithoutRedirects]
    ) -> _RequestContextManager:
        """Send a HEAD request; redirects are not followed by default. See :meth:`request`."""
        return _core.new_request(self, hdrs.METH_HEAD, url, allow_redirects or False, kwargs)

    def post(
        self, url: StrOrURL, *, data: Any = None, **kwargs: Unpack[OptionsWithoutData]
    ) -> _RequestContextManager:
        """Send a POST request; see :meth:`request`."""
        kwargs["data"] = data  # type: ignore[typeddict-unknown-key]  # a key of RequestOptions
        return _core.new_request(self, hdrs.METH_POST, url, None, kwargs)

    def put(
        self, url: StrOrURL, *, data: Any = None, **kwargs: Unpack[OptionsWithoutData]
    ) -> _RequestContextManager:
        """Send a PUT request; see :meth:`request`."""
        kwargs["data"] = data  # type: ignore[typeddict-unknown-key]  # a key of RequestOptions
        return _core.new_request(self, hdrs.METH_PUT, url, None, kwargs)

    def patch(
        self, url: StrOrURL, *, data: Any = None, **kwargs: Unpack[OptionsWithoutData]
    ) -> _RequestContextManager:
        """Send a PATCH request; see :meth:`request`."""
        kwargs["data"] = data  # type: ignore[typeddict-unknown-key]  # a key of RequestOptions
        return _core.new_request(self, hdrs.METH_PATCH, url, None, kwargs)

    def delete(self, url: StrOrURL, **kwargs: Unpack[RequestOptions]) -> _RequestContextManager:
        """Send a DELETE request; see :meth:`request`."""
        return _core.new_request(self, hdrs.METH_DELETE, url, None, kwargs)

    async def _request(self, method: str, str_or_url: StrOrURL, **options: Any) -> ClientResponse:
        """The override point of every request: tools replace it to respond themselves."""
        check_method(method)
        return await _core.own_request(self, method, str_or_url, options)

    def _build_url(self, str_or_url: StrOrURL) -> URL:
        url = make_url(str_or_url)
        if self._base_url is not None and not url.absolute:
            return self._base_url.join(url)
        return url

    def _prepare_headers(self, headers: LooseHeaders | None) -> CIMultiDict[str]:
        """The session's fields, and the request's: of one name, the request's replace the session's."""
        result = CIMultiDict(self._default_headers)
        if headers:
            own: set[str] = set()
            for name, value in header_fields(headers).items():
                if name in own:
                    result.add(name, value)
                else:
                    result[name] = value
                    own.add(name)
        return result

    def ws_connect(self, url: StrOrURL, **kwargs: Unpack[WSConnectOptions]) -> _WSRequestContextManager:
        """Open a WebSocket (RFC 6455); the result is awaited, or entered with ``async with``.

        See :func:`whorl.http.websocket.connect.connect` for the parameters.

        :raises WSServerHandshakeError: if the server does not agree
        """
        return _WSRequestContextManager(self._ws_connect(url, **kwargs))

    async def _ws_connect(self, url: StrOrURL, **kwargs: Any) -> ClientWebSocketResponse[Any]:
        from .websocket.connect import connect

        return await connect(self, url, **kwargs)

    # Closing.

    async def close(self) -> None:
        """Close the session, and its connector if it is its own: requests that are in flight fail."""
        self._end()
        if not self.closed:
            if self._connector is not None and self._connector_owner:
                await self._connector.close()
            self._connector = None

    @property
    def closed(self) -> bool:
        """Whether the session is closed."""
        return self._connector is None or self._connector.closed

    def detach(self) -> None:
        """Detach the connector without closing it; the session is closed from now on."""
        self._end()
        self._connector = None

    def __enter__(self) -> None:
        raise TypeError("Use async with instead")

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        exc_traceback: TracebackType | None,
    ) -> None:
        """Never called: ``__enter__`` raises."""

    async def __aenter__(self) -> ClientSession:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        exc_traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # The constructor's arguments.

    @property
    def connector(self) -> BaseConnector | None:
        """The connector; None once the session is closed."""
        return self._connector

    @property
    def connector_owner(self) -> bool:
        """Whether :meth:`close` closes the connector."""
        return self._connector_owner

    @property
    def cookie_jar(self) -> AbstractCookieJar:
        """The cookies."""
        return self._cookie_jar

    @property
    def version(self) -> tuple[int, int]:
        """The version of HTTP in request lines."""
        return self._version

    @property
    def requote_redirect_url(self) -> bool:
        """Whether what RFC 3986 does not allow in the URLs of redirects is percent-encoded."""
        return self._requote_redirect_url

    @requote_redirect_url.setter
    def requote_redirect_url(self, value: bool) -> None:
        text = "session.requote_redirect_url modification is deprecated #2778"
        _deprecated(text, 2)
        self._requote_redirect_url = value

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop. Deprecated."""
        _deprecated("client.loop property is deprecated", 2)
        return self._loop

    @property
    def timeout(self) -> ClientTimeout:
        """The limits of requests that have none of their own."""
        return self._timeout

    @property
    def headers(self) -> CIMultiDict[str]:
        """The header fields of every request."""
        return self._default_headers

    @property
    def skip_auto_headers(self) -> frozenset[str]:
        """Names of fields that are not added by themselves."""
        return self._skip_auto_headers

    @property
    def auth(self) -> BasicAuth | None:
        """The credentials of requests that have none of their own: to the origin of ``base_url``, or without
        one to any host, to which a redirect may lead."""
        return self._default_auth

    @property
    def json_serialize(self) -> JSONEncoder:
        """Makes the text of ``json=``."""
        return self._json_serialize

    @property
    def raise_for_status(self) -> RaiseForStatus:
        """Whether a status of 400 or more raises."""
        return self._raise_for_status

    @property
    def auto_decompress(self) -> bool:
        """Whether content codings are undone."""
        return self._auto_decompress

    @property
    def trust_env(self) -> bool:
        """Whether proxies and passwords are taken from the environment."""
        return self._trust_env

    @property
    def trace_configs(self) -> list[TraceConfig]:
        """The receivers of signals about the steps of requests."""
        return self._trace_configs


note_session_class(ClientSession)


def request(
    method: str,
    url: StrOrURL,
    *,
    version: HttpVersion = HttpVersion11,
    connector: BaseConnector | None = None,
    loop: asyncio.AbstractEventLoop | None = None,
    **kwargs: Unpack[RequestOptions],
) -> _SessionRequestContextManager:
    """Send one request with a session of its own; to be entered with ``async with``.

    Takes what :meth:`ClientSession.request` takes. A session for many requests keeps its connections and is
    faster.
    """
    owned = connector is None
    if connector is None:
        connector = TCPConnector(loop=loop, force_close=True)
    timeout = kwargs.pop("timeout", sentinel)
    session = ClientSession(
        loop=loop,
        cookies=kwargs.pop("cookies", None),
        version=version,
        timeout=timeout if isinstance(timeout, Sentinel) else request_timeout(timeout),
        connector=connector,
        connector_owner=owned,
    )
    return _SessionRequestContextManager(session._request(method, url, **kwargs), session)
