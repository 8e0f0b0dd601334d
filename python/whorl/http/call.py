"""One call of the user's: its hops along redirects, from the first request to the response that remains."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from http.cookies import BaseCookie
from typing import TYPE_CHECKING, Any, Final

from yarl import URL

from whorl import _core

from . import hdrs
from .auth.basic import BasicAuth, strip_auth_from_url
from .connect.proxies import get_env_proxy_for_url
from .cookies.jar import CookieJar, filter_request_cookies
from .exceptions import (
    ClientConnectionError,
    ClientConnectorCertificateError,
    ClientConnectorError,
    ClientConnectorSSLError,
    ClientOSError,
    ClientPayloadError,
    ConnectionTimeoutError,
    InvalidUrlClientError,
    InvalidUrlRedirectClientError,
    NonHttpUrlRedirectClientError,
    ServerDisconnectedError,
    TooManyRedirects,
)
from .helpers import is_canonical_ipv4_address, is_ip_address
from .hooks.middlewares import build_client_middlewares
from .hooks.tracing import Trace
from .timeouts import ClientTimeout, deadline, is_timeout

if TYPE_CHECKING:
    from multidict import CIMultiDict

    from .body.upload import UploadTracker
    from .connect.tls import SSLSetting
    from .hooks.middlewares import ClientMiddlewareType
    from .request import ClientRequest
    from .response import ClientResponse
    from .session import ClientSession
    from .typedefs import LooseCookies, Query

_REDIRECT_SCHEMES: Final = frozenset({"http", "https", ""})
# URL parsers drop these before they parse a URL.
_DROPPED: Final = str.maketrans("", "", "\t\n\r")


@dataclass(slots=True)
class Options:
    """The user's arguments, with the session's defaults filled in."""

    cookies: LooseCookies | None
    skip_auto_headers: Iterable[str] | None
    allow_redirects: bool
    max_redirects: int | None
    compress: str | bool | None
    chunked: bool | None
    expect100: bool
    raise_for_status: bool | Callable[[ClientResponse], Awaitable[None]] | None
    read_until_eof: bool
    proxy: URL | None
    proxy_auth: BasicAuth | None
    proxy_headers: CIMultiDict[str] | None
    timeout: ClientTimeout
    ssl: SSLSetting
    server_hostname: str | None
    trace_request_ctx: object
    read_bufsize: int
    auto_decompress: bool
    max_line_size: int
    max_field_size: int
    max_headers: int
    middlewares: Sequence[ClientMiddlewareType]
    upload_tracker: UploadTracker | None


class Call:
    """One call of ``ClientSession.request()``."""

    def __init__(
        self,
        session: ClientSession,
        method: str,
        url: URL,
        *,
        params: Query,
        headers: CIMultiDict[str],
        data: Any,
        auth: BasicAuth | None,
        options: Options,
        retries: bool = True,
        elapsed: float = 0,
    ) -> None:
        self._session = session
        self._method = method
        self._url = url
        self._params = params
        self._headers = headers
        self._data = data
        # From the user; a redirect to another origin removes it.
        self._auth = auth
        self._cookies = options.cookies
        self._options = options
        self._elapsed = elapsed
        self._history: list[ClientResponse] = []
        self._traces: list[Trace] = []
        self._retries = retries and session._retry_connection and _core.is_idempotent(method)
        self._request: ClientRequest | None = None
        self._response: ClientResponse | None = None

    async def run(self, first: ClientResponse | None = None) -> ClientResponse:
        """Returns the response that is left when every redirect has been followed.

        :param first: a response that has come already

        Raises what ``ClientSession.request()`` raises; nothing is left open then.
        """
        session, options = self._session, self._options
        loop, timeout = session._loop, options.timeout
        self._response = first
        when = None
        if timeout.total is not None and timeout.total > 0:
            when = deadline(loop, timeout.total, timeout.ceil_threshold) - self._elapsed
        try:
            await self._start_traces()
            async with asyncio.timeout_at(when):
                response = await self._hops(first)
            if self._request is not None and self._request._body is not None:
                await self._request._body.close()
            await self._check_status(response)
            exchange = response._exchange
            # An upgraded protocol has limits of its own.
            if when is not None and exchange is not None and not exchange.is_over() and not exchange.upgraded:
                timer = loop.call_at(when, _time_out, exchange)
                exchange.on_end(timer.cancel)
            response._history = tuple(self._history)
            for trace in self._traces:
                await trace.send_request_end(self._method, self._traced_url, self._headers, response)
            return response
        except BaseException as error:
            if self._response is not None:
                _core.finish_on(loop, self._response.close)
            if self._request is not None and self._request._body is not None:
                await self._request._body.close()
            for trace in self._traces:
                await trace.send_request_exception(self._method, self._traced_url, self._headers, error)
            raise
        finally:
            if options.upload_tracker is not None:
                options.upload_tracker._finish()

    @property
    def _traced_url(self) -> URL:
        return self._url.update_query(self._params) if self._params else self._url

    async def _start_traces(self) -> None:
        for config in self._session._trace_configs:
            context = config.trace_config_ctx(trace_request_ctx=self._options.trace_request_ctx)
            trace = Trace(self._session, config, context)
            await trace.send_request_start(self._method, self._traced_url, self._headers)
            self._traces.append(trace)

    async def _check_status(self, response: ClientResponse) -> None:
        check = self._options.raise_for_status
        if callable(check):
            await check(response)
        elif check:
            response.raise_for_status()

    async def _hops(self, first: ClientResponse | None) -> ClientResponse:
        while True:
            request = self._request = await self._make_request()
            response = await self._send(request) if first is None else first
            if response is None:
                continue
            self._response = response
            if first is None:
                response._keep_cookies()
            first = None
            if not self._options.allow_redirects or not await self._follow(request, response):
                return response

    # One hop.

    async def _make_request(self) -> ClientRequest:
        session, options = self._session, self._options
        self._url, url_auth = strip_auth_from_url(self._url)
        url = self._url
        host = url.raw_host
        if not host or (is_ip_address(host) and ":" not in host and not is_canonical_ipv4_address(host)):
            raise (InvalidUrlRedirectClientError if self._history else InvalidUrlClientError)(url)
        auth = await self._auth_for(url, url_auth)
        if auth is not None and hdrs.AUTHORIZATION in self._headers:
            raise ValueError(
                "Cannot combine AUTHORIZATION header with AUTH argument or credentials encoded in URL"
            )
        proxy, proxy_auth = options.proxy, options.proxy_auth
        if proxy is None and session._trust_env:
            with contextlib.suppress(LookupError):
                # The environment, and a file: not on the loop's thread.
                proxy, proxy_auth = await asyncio.to_thread(get_env_proxy_for_url, url)
        request = session._request_class(
            self._method,
            url,
            params=self._params,
            headers=self._headers,
            skip_auto_headers=options.skip_auto_headers,
            data=self._data,
            cookies=self._cookies_for(url),
            auth=auth,
            version=session._version,
            compress=options.compress,
            chunked=options.chunked,
            expect100=options.expect100,
            loop=session._loop,
            response_class=session._response_class,
            proxy=proxy,
            proxy_auth=proxy_auth,
            session=session,
            ssl=options.ssl,
            server_hostname=options.server_hostname,
            proxy_headers=options.proxy_headers,
            traces=self._traces,
            trust_env=session._trust_env,
        )
        request._upload_tracker = options.upload_tracker
        return request

    def _cookies_for(self, url: URL) -> BaseCookie[str] | None:
        """The session's cookies for ``url``, and the call's own, which win."""
        jar = self._session._cookie_jar
        # Only our own jar is known to be cheap to check for cookies; another's length may mean anything.
        cookies = None if isinstance(jar, CookieJar) and not jar else jar.filter_cookies(url)
        if self._cookies is not None:
            own = filter_request_cookies(
                self._cookies,
                url,
                quote_cookie=jar.quote_cookie,
                treat_as_secure_origin=jar.treat_as_secure_origin,
            )
            if cookies is None:
                return own
            cookies.load(own)
        return cookies

    async def _auth_for(self, url: URL, url_auth: BasicAuth | None) -> BasicAuth | None:
        session = self._session
        if self._auth is not None and url_auth is not None and not self._history:
            raise ValueError("Cannot combine AUTH argument with credentials encoded in URL")
        if self._auth is None or (self._history and url_auth is not None):
            self._auth = url_auth
        if self._auth is None and session._default_auth is not None:
            base = session._base_url_origin
            if base is None or base == url.origin():
                self._auth = session._default_auth
        if self._auth is None and session._trust_env and url.host is not None:
            self._auth = await session._loop.run_in_executor(None, session._get_netrc_auth, url.host)
        return self._auth

    async def _send(self, request: ClientRequest) -> ClientResponse | None:
        """Sends the request through the middlewares; None if it is to be sent again."""
        handler = build_client_middlewares(self._exchange, self._options.middlewares)
        try:
            response: ClientResponse = await handler(request)
            return response
        except (
            ConnectionTimeoutError,
            ClientConnectorError,
            ClientConnectorCertificateError,
            ClientConnectorSSLError,
        ):
            raise
        except (ClientOSError, ServerDisconnectedError):
            # A connection that was kept alive may have been closed just then (RFC 9112, section 9.3.1).
            if not self._retries:
                raise
            self._retries = False
            if self._data is not None:
                await request.close()
                if request._body is not None and request._body.consumed:
                    raise
                self._data = request._body
            return None
        except OSError as error:
            if is_timeout(error):
                raise
            raise ClientOSError(*error.args) from error

    async def _exchange(self, request: ClientRequest) -> ClientResponse:
        """The innermost handler: a connection, the request on it, the head of its response."""
        connector, options = self._session._connector, self._options
        if connector is None:
            # Closed, or detached, since the call began.
            raise ClientConnectionError("Connector is closed.")
        if options.upload_tracker is not None:
            request._attempt = options.upload_tracker._begin()
        try:
            connection = await connector.connect(request, traces=self._traces, timeout=options.timeout)
        except TimeoutError as error:
            raise ConnectionTimeoutError(f"Connection timeout to host {request.url}") from error
        connection.options = {
            "read_until_eof": bool(options.read_until_eof),
            "decompress": bool(options.auto_decompress),
            "buffer_size": options.read_bufsize,
            "read_timeout": options.timeout.sock_read,
            "max_line_size": options.max_line_size,
            "max_field_size": options.max_field_size,
            "max_headers": options.max_headers,
        }
        try:
            response = await request.send(connection)
            try:
                return await response.start(connection)
            except BaseException:
                # The collector closes a coroutine on any thread.
                _core.finish_on(self._session._loop, response.close)
                raise
        except BaseException:
            _core.finish_on(self._session._loop, connection.close)
            raise

    # Redirects (RFC 9110, section 15.4).

    async def _follow(self, request: ClientRequest, response: ClientResponse) -> bool:
        """Prepares the next hop; false if ``response`` leads nowhere and is the user's."""
        if response.status // 100 != 3:
            # Its header fields are not parsed.
            return False
        body = request._body
        location = response.headers.get(hdrs.LOCATION) or response.headers.get(hdrs.URI)
        step = _core.redirect(
            response.status,
            response.method,
            has_location=location is not None,
            consumed=body is not None and body.consumed,
            followed=len(self._history),
            max_redirects=sys.maxsize if self._options.max_redirects is None else self._options.max_redirects,
        )
        if step == "no" or location is None:
            return False
        for trace in self._traces:
            await trace.send_request_redirect(self._method, self._traced_url, self._headers, response)
        self._history.append(response)
        if step == "too many":
            response.close()
            raise TooManyRedirects(self._history[0].request_info, tuple(self._history))
        if step == "consumed":
            response.close()
            raise ClientPayloadError(
                "Cannot follow redirect with a consumed request body. Use bytes, a seekable file-like object,"
                " or set allow_redirects=False."
            )
        if step == "get":
            self._method = hdrs.METH_GET
            self._data = None
            self._drop_headers(_core.CONTENT_FIELDS)
        else:
            self._data = body
        # A redirect that is followed is not read.
        response._let_go()
        target = self._target(location)
        origin = _origin(target)
        if self._url.origin() != origin:
            self._auth = self._cookies = None
            self._drop_headers(_core.CREDENTIAL_FIELDS)
        self._url = target
        self._params = None
        return True

    def _drop_headers(self, names: Iterable[str]) -> None:
        for name in names:
            self._headers.popall(name, None)

    def _target(self, location: str) -> URL:
        try:
            target = URL(location, encoded=not self._session._requote_redirect_url)
        except ValueError as error:
            raise InvalidUrlRedirectClientError(
                location, "Server attempted redirecting to a location that does not look like a URL"
            ) from error
        if target.scheme not in _REDIRECT_SCHEMES:
            raise NonHttpUrlRedirectClientError(location)
        if not target.scheme or (
            target.scheme == self._url.scheme and not _has_authority(location, target.scheme)
        ):
            return self._url.join(target)
        return target


def _has_authority(location: str, scheme: str) -> bool:
    """Whether "//" follows the scheme; browsers take backslashes for slashes there, and "http:path" as
    relative."""
    text = location.strip("".join(map(chr, range(0x21)))).translate(_DROPPED)
    return text[len(scheme) + 1 : len(scheme) + 3].replace("\\", "/") == "//"


def _origin(target: URL) -> URL:
    try:
        return target.origin()
    except ValueError as error:
        raise InvalidUrlRedirectClientError(target, "Invalid redirect URL origin") from error


def _time_out(exchange: _core.Exchange) -> None:
    """The total limit has passed while the body was on its way."""
    exchange.fail(TimeoutError())
