"""The steps of a call that are Python.

A call is native (``crates/python/src/http/client``). It calls these functions, by name, where a step needs a
class of this package, or code of the program's: what is not there costs nothing. A function that returns an
awaitable is a step that is awaited.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
import warnings
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from whorl import _core

from . import hdrs, redirects
from .arguments import check_list as check_list
from .arguments import check_loop
from .arguments import check_names as check_names
from .arguments import check_sizes as check_sizes
from .arguments import header_fields as header_fields
from .arguments import params_error as params_error
from .auth.basic import BasicAuth, is_basic_auth, strip_auth_from_url
from .auth.netrc_file import netrc_auth, netrc_is_read, read_netrc
from .auth.redaction import redacted_url
from .body import payload as payloads
from .body.formdata import FormData, is_form
from .client_request import ClientRequest, Destination, automatic_headers, parsed_version
from .connect.connector import BaseConnector, Connection
from .connect.native import connect_failed, connection_timeout, connector_error, dial_plan
from .connect.proxies import checked_proxy, proxy_from_env
from .connect.tls import SSLSetting, keep_tls_session, merge_ssl_params
from .connect.tunnel import begin_tunnel, check_tunnel
from .context import _RequestContextManager
from .cookies.header import build_cookie_header
from .cookies.jar import CookieJar, DummyCookieJar, filter_request_cookies
from .exceptions import (
    ClientConnectorCertificateError,
    ClientConnectorError,
    ClientConnectorSSLError,
    ClientOSError,
    ClientResponseError,
    ConnectionTimeoutError,
    InvalidUrlClientError,
    InvalidUrlRedirectClientError,
    NonHttpUrlClientError,
    ServerDisconnectedError,
    TooManyRedirects,
)
from .helpers import Sentinel
from .hooks.middlewares import build_client_middlewares
from .hooks.tracing import Trace
from .http_exceptions import HttpProcessingError
from .options import unknown_option as unknown_option
from .request_info import ConnectionKey, connection_key
from .response import ClientResponse, sent_request_info
from .timeouts import ClientTimeout, is_timeout, request_timeout
from .urls import host_fault, host_of
from .urls import host_field as host_field

if TYPE_CHECKING:
    from http.cookies import BaseCookie

    from .abc import AbstractCookieJar
    from .body.upload import UploadTracker
    from .connect.connection import HttpConnection
    from .session import ClientSession
    from .typedefs import LooseCookies, LooseHeaders, Query, StrOrURL


# The session's options.

_OVERRIDE_POINTS: Final[dict[type, dict[str, object]]] = {}


def _note_override_points(owner: type, *names: str) -> None:
    """Note methods of ``owner`` that a call does not call while they are as they are here.

    Tools replace them, in the class or in one derived from it, to see requests or to change them.
    """
    _OVERRIDE_POINTS[owner] = {name: getattr(owner, name) for name in names}


_note_override_points(
    ClientResponse, "__init__", "start", "raise_for_status", "ok", "__aenter__", "__aexit__", "release"
)


def _is_replaced(cls: object, *names: str) -> bool:
    if not isinstance(cls, type):
        # A function that makes instances.
        return True
    originals = next((_OVERRIDE_POINTS[base] for base in cls.__mro__ if base in _OVERRIDE_POINTS), None)
    return originals is None or any(getattr(cls, name) is not originals[name] for name in names)


def note_session_class(cls: type) -> None:
    """Note the override points of a session."""
    _note_override_points(cls, "_build_url", "_prepare_headers", "_request")


_note_override_points(BaseConnector, "connect")
_note_override_points(CookieJar, "filter_cookies")
_note_override_points(DummyCookieJar, "filter_cookies")
_note_override_points(
    ClientRequest,
    "__init__",
    "is_ssl",
    "send",
    "update_auth",
    "update_cookies",
    "update_headers",
    "write_bytes",
)


def _overrides(session: ClientSession) -> frozenset[str]:
    """Which steps of the session's calls are a program's own: see ``Overrides`` in the native half."""
    connector, jar = session._connector, session._cookie_jar
    of_classes = _overrides_of(_classes(session), session._request_class)
    of_objects = set()
    if "connect" in vars(connector):
        of_objects.add("connect")
    if type(jar) not in _JARS or "filter_cookies" in vars(jar):
        of_objects.add("cookies")
    return of_classes | of_objects if of_objects else of_classes


_JARS: Final = frozenset({CookieJar, DummyCookieJar})
# By the classes and their versions, which change with the classes.
_known_overrides: Final[dict[tuple[object, ...], frozenset[str]]] = {}
_MOST_KNOWN: Final = 256


def _classes(session: ClientSession) -> tuple[type, type, object, type]:
    """The classes whose methods the session's calls may call: of a jar that is not ours all are."""
    jar_class = type(session._cookie_jar)
    return (
        type(session),
        type(session._connector),
        session._response_class,
        jar_class if jar_class in _JARS else CookieJar,
    )


def _watched(classes: tuple[object, ...]) -> list[type]:
    """The classes whose changes may change what is overridden."""
    return [cls for cls in (*classes, ClientRequest) if isinstance(cls, type)]


def _overrides_of(classes: tuple[type, type, object, type], request_class: object) -> frozenset[str]:
    session_class, connector_class, response_class, jar_class = classes
    versions = _core.class_versions(_watched(classes))
    key = (*classes, request_class, versions)
    if versions is not None and (known := _known_overrides.get(key)) is not None:
        return known
    replaced = {
        "request": request_class is not ClientRequest
        or _is_replaced(ClientRequest, *_OVERRIDE_POINTS[ClientRequest]),
        "connect": not issubclass(connector_class, BaseConnector) or _is_replaced(connector_class, "connect"),
        "response": _is_replaced(response_class, "__init__", "start"),
        "enter": _is_replaced(response_class, "__aenter__"),
        "release": _is_replaced(response_class, "__aexit__", "release"),
        "status": _is_replaced(response_class, "raise_for_status", "ok"),
        "headers": _is_replaced(session_class, "_build_url", "_prepare_headers"),
        "call": _is_replaced(session_class, "_request"),
        "cookies": _is_replaced(jar_class, "filter_cookies"),
    }
    found = frozenset(name for name, is_replaced in replaced.items() if is_replaced)
    if versions is not None:
        if len(_known_overrides) >= _MOST_KNOWN:
            _known_overrides.clear()
        _known_overrides[key] = found
    return found


# The signals of a Trace, in the order of ``Signal`` in the native half.
_SIGNALS: Final = (
    ("request_start",),
    ("request_headers_sent",),
    ("request_chunk_sent",),
    ("request_redirect",),
    ("request_end",),
    ("request_exception",),
    ("response_chunk_received",),
    (
        "connection_queued_start",
        "connection_queued_end",
        "connection_create_start",
        "connection_create_end",
        "connection_reuseconn",
        "dns_resolvehost_start",
        "dns_resolvehost_end",
        "dns_cache_hit",
        "dns_cache_miss",
    ),
)


def _signals(configs: Sequence[object]) -> int:
    """A bit for each group of signals that has a receiver."""
    if not configs:
        return 0
    return sum(
        1 << bit
        for bit, names in enumerate(_SIGNALS)
        if any(getattr(config, f"on_{name}", True) for config in configs for name in names)
    )


def configure(session: ClientSession) -> None:
    """Give the native half the options that the session's calls share.

    :raises RuntimeError: if the session is closed
    """
    connector, jar, headers = session._connector, session._cookie_jar, session._default_headers
    if connector is None:
        raise RuntimeError("Session is closed")
    is_ours = isinstance(connector, BaseConnector)
    response_class = session._response_class
    session._configure(
        event_loop=session._loop,
        connector=connector,
        pool=connector._pool if is_ours else None,
        force_close=is_ours and connector.force_close,
        request_class=session._request_class,
        response_class=response_class,
        read_bufsize=session._read_bufsize,
        auto_decompress=session._auto_decompress,
        max_line_size=session._max_line_size,
        max_field_size=session._max_field_size,
        max_headers=session._max_headers,
        strict=session._strict,
        timeout=session._timeout,
        raise_for_status=session._raise_for_status,
        overrides=_overrides(session),
        version=parsed_version(session._version),
        headers=headers,
        automatic=automatic_headers(ClientRequest),
        skip_auto_headers=session._skip_auto_headers,
        auth=session._default_auth,
        base_origin=session._base_url_origin,
        json_serialize=session._json_serialize_bytes or session._json_serialize,
        cookie_jar=jar,
        cookies=jar._records if type(jar) is CookieJar else {},
        proxy=session._default_proxy,
        proxy_auth=session._default_proxy_auth,
        trust_env=session._trust_env,
        middlewares=session._middlewares or None,
        trace_configs=session._trace_configs,
        signals=_signals(session._trace_configs),
        debug=session._loop.get_debug(),
        classes=_watched(_classes(session)),
    )


def is_request_replaced(session: ClientSession) -> bool:
    """Whether a tool responds to requests itself, by a ``_request()`` of its own."""
    return "_request" in vars(session) or _is_replaced(type(session), "_request")


def replaced_request(
    session: ClientSession, method: str, url: StrOrURL, allow_redirects: bool | None, options: dict[str, Any]
) -> _RequestContextManager:
    """A request to which a tool responds itself."""
    if allow_redirects is not None:
        options = {"allow_redirects": allow_redirects, **options}
    return _RequestContextManager(session._request(method, url, **options))


def check_session(session: ClientSession) -> None:
    """Check that a session is used on the loop that runs.

    :raises RuntimeError: if it is not its own
    """
    check_loop(session._loop)


# The call's options.

#: The warnings for options that aiohttp has deprecated.
DEPRECATED: Final = {
    "auth": (
        "The 'auth' parameter is deprecated and will be removed in v4; pass headers={'Authorization': "
        "aiohttp.encode_basic_auth(login, password)} instead"
    ),
    "proxy_auth": (
        "The 'proxy_auth' parameter is deprecated and will be removed in v4; pass "
        "proxy_headers={'Proxy-Authorization': aiohttp.encode_basic_auth(login, password)} instead"
    ),
    "chunked": "Chunk size is deprecated #1615",
}


def deprecated(name: str) -> None:
    """Warn of an option that aiohttp has deprecated; the caller is native, the next frame the program."""
    warnings.warn(DEPRECATED[name], DeprecationWarning, stacklevel=2)


def timeout(session: ClientSession, value: object) -> ClientTimeout:
    """The limits of a call whose ``timeout`` is neither a :class:`ClientTimeout` nor a number.

    :raises ValueError: for a value of another type
    """
    return session._timeout if isinstance(value, Sentinel) else request_timeout(value)


def tls_setting(
    ssl: SSLSetting | None, verify_ssl: bool | None, ssl_context: Any, fingerprint: bytes | None
) -> SSLSetting:
    """The TLS setting of a call.

    :raises TypeError: for a setting of another type
    :raises ValueError: if more than one form of it is given
    """
    return merge_ssl_params(ssl, verify_ssl, ssl_context, fingerprint, stacklevel=4)


def proxy_url(proxy: StrOrURL) -> URL:
    """The URL of a proxy that a program names.

    :raises TypeError: for one that is neither a text nor a URL
    :raises InvalidURL: for one that is no URL, or has a scheme by which no proxy is spoken to
    """
    return checked_proxy(proxy)


def check_proxy(proxy: URL, auth: object) -> None:
    """Check the credentials for a proxy.

    :raises ValueError: for credentials of another type
    """
    if auth and not is_basic_auth(auth):
        raise ValueError(f"proxy_auth must be None or BasicAuth() tuple, not a {type(auth).__name__}")


def check_auth(auth: object) -> None:
    """Check the credentials of a request.

    :raises TypeError: for credentials of another type
    """
    if not is_basic_auth(auth):
        raise TypeError(f"BasicAuth() tuple is required instead of a {type(auth).__name__}")


def headers_for_proxy(session: ClientSession, headers: LooseHeaders | None) -> CIMultiDict[str]:
    """The session's fields and the call's own ones for the proxy; the session's credentials are for the
    servers, and no proxy's business."""
    result = session._prepare_headers(headers)
    given = CIMultiDict(headers or ())
    for name in (hdrs.AUTHORIZATION, hdrs.COOKIE):
        if name not in given:
            result.popall(name, None)
    return result


# The target of a request.


def target(
    session: ClientSession, str_or_url: StrOrURL, ssl: SSLSetting | None, redirected: bool
) -> _core.RequestTarget:
    """What a URL comes to.

    :raises InvalidURL: for a URL that is none
    """
    if redirected:
        url = URL(str_or_url)
    else:
        try:
            url = session._build_url(str_or_url)
        except ValueError as error:
            raise InvalidUrlClientError(str_or_url) from error
        connector = session._connector
        if connector is not None and url.scheme not in connector.allowed_protocol_schema_set:
            raise NonHttpUrlClientError(url)
    url, auth = strip_auth_from_url(url)
    if fault := host_fault(url):
        raise (InvalidUrlRedirectClientError if redirected else InvalidUrlClientError)(url, fault)
    bare = url.with_fragment(None) if url.raw_fragment else url
    subcomponent = host_field(url)
    assert subcomponent is not None
    key = connection_key(url, True if ssl is None else ssl)
    return _core.RequestTarget(key, url, bare, auth, url.raw_path_qs, subcomponent)


def environment(
    url: URL, wants_proxy: bool
) -> tuple[BasicAuth | None, URL | None, BasicAuth | None] | Awaitable[object]:
    """The credentials for a URL's host in the user's netrc, and its proxy of the environment with the
    credentials for that; or an awaitable for them, where a file has to be read first.

    :raises InvalidURL: if the proxy is one that is not spoken to
    """
    return _look_up(url, wants_proxy) if netrc_is_read() else _look_up_in_file(url, wants_proxy)


async def _look_up_in_file(
    url: URL, wants_proxy: bool
) -> tuple[BasicAuth | None, URL | None, BasicAuth | None]:
    await read_netrc()
    return _look_up(url, wants_proxy)


def _look_up(url: URL, wants_proxy: bool) -> tuple[BasicAuth | None, URL | None, BasicAuth | None]:
    host = host_of(url)
    auth = None if host is None else netrc_auth(host)
    proxy = proxy_from_env(url) if wants_proxy else None
    return (auth, None, None) if proxy is None else (auth, *proxy)


# A request.


def payload(data: Any) -> tuple[payloads.Payload, bytes | None]:
    """The payload for ``data``, and its bytes if they are here already.

    :raises LookupError: for a value that is no body
    """
    body = data() if is_form(data) else data
    made = payloads.PAYLOAD_REGISTRY.find(body, disposition=None)
    if made is None:
        fields: Any = body
        made = FormData(fields)()
    if type(made) in _OF_BYTES and isinstance(made._value, bytes):
        return made, made._value
    return made, None


# Payloads that are their bytes, with header fields.
_OF_BYTES: Final = frozenset(
    {payloads.BytesPayload, payloads.StringPayload, payloads.JsonPayload, payloads.JsonBytesPayload}
)


def bytes_payload(data: bytes, media_type: str) -> payloads.Payload:
    """A payload for bytes, for a program that looks at the body."""
    return payloads.BytesPayload(data, content_type=media_type)


def cookies_for(jar: AbstractCookieJar, url: URL, cookies: LooseCookies | None) -> BaseCookie[str] | None:
    """The jar's cookies for ``url``, and the call's own, which win."""
    found = jar.filter_cookies(url)
    if cookies is not None:
        own = filter_request_cookies(
            cookies,
            url,
            quote_cookie=jar.quote_cookie,
            treat_as_secure_origin=jar.treat_as_secure_origin,
        )
        if found is None:
            return own
        found.load(own)
    return found


def cookie_field(
    jar: AbstractCookieJar, url: URL, cookies: LooseCookies | None, present: str | None
) -> str | None:
    """The value of the Cookie field of a request that has ``present`` already; None: as it is."""
    found = cookies_for(jar, url, cookies)
    return build_cookie_header(found, present) if found else None


def construct(
    what: tuple[ClientSession, type[ClientRequest], str, URL, Query],
    content: tuple[CIMultiDict[str], list[str], Iterable[str] | None, Any, BaseCookie[str] | None, Any],
    body: tuple[str | bool | None, bool | None, bool],
    proxies: tuple[URL | None, BasicAuth | None, CIMultiDict[str] | None],
    rest: tuple[SSLSetting | None, str | None, list[Trace], bool],
) -> ClientRequest:
    """A request of a class that a program has changed, by its constructor."""
    session, request_class, method, url, params = what
    headers, skipped, own_skipped, data, cookies, auth = content
    compress, chunked, expect100 = body
    proxy, proxy_auth, proxy_headers = proxies
    ssl, server_hostname, traces, trust_env = rest
    return request_class(
        method,
        url,
        params=params,
        headers=headers,
        skip_auto_headers=frozenset((*skipped, *(own_skipped or ()))) or None,
        data=data,
        cookies=cookies,
        auth=auth,
        version=session._version,
        compress=compress,
        chunked=chunked,
        expect100=expect100,
        loop=session._loop,
        response_class=session._response_class,
        proxy=proxy,
        proxy_auth=proxy_auth,
        session=session,
        ssl=True if ssl is None else ssl,
        server_hostname=server_hostname,
        proxy_headers=proxy_headers,
        traces=traces,
        trust_env=trust_env,
        timer=ClientRequest._timer,
    )


def through_middlewares(
    handler: Callable[[ClientRequest], Awaitable[ClientResponse]],
    middlewares: Sequence[Any],
    request: ClientRequest,
) -> Awaitable[ClientResponse]:
    """Send ``request`` by ``handler``, through the middlewares."""
    return build_client_middlewares(handler, middlewares)(request)


def begin_upload(request: ClientRequest, tracker: UploadTracker) -> None:
    """The tracker follows a new attempt to send the request's body."""
    request._attempt = tracker._begin()


# Its connection.


async def connect(
    session: ClientSession,
    connector: BaseConnector,
    request: ClientRequest,
    traces: list[Trace],
    timeout: object,
) -> Connection:
    """A connection of a connector that is a program's own.

    :raises ConnectionTimeoutError: when a limit of connecting has passed
    """
    limits = session._timeout if timeout is None else request_timeout(timeout)
    try:
        return await connector.connect(request, traces=traces, timeout=limits)
    except TimeoutError as error:
        raise connection_timeout(request.url) from error


async def acquire(
    session: ClientSession,
    connector: BaseConnector,
    destination: ClientRequest | _core.RequestTarget,
    traces: list[Trace],
    timeout: object,
    grant: _core.PoolSlot | None,
) -> HttpConnection:
    """A connection for a request that finds none idle, or whose connection has receivers of signals.

    :param grant: the pool's permit, whose request is limited natively
    :raises ClientConnectorError: if none can be made
    :raises ConnectionTimeoutError: when a limit of connecting has passed
    """
    try:
        limits = session._timeout if timeout is None else request_timeout(timeout)
        if isinstance(destination, _core.RequestTarget):
            key = destination.connection_key
            assert isinstance(key, ConnectionKey)
            request: ClientRequest | Destination = Destination(destination.url, key)
        else:
            request = destination
        try:
            return await connector._acquire(request, traces, limits, grant)
        except TimeoutError as error:
            raise connection_timeout(request.url) from error
    except BaseException:
        # Nothing happens if it was used.
        if grant is not None:
            grant.give_back()
        raise


def connection(connector: BaseConnector, protocol: HttpConnection) -> Connection:
    """The connection that a request has, for its class."""
    key = protocol.key
    return Connection(connector, key, protocol, connector._loop)


def proxy_request(connector: BaseConnector, request: ClientRequest) -> ClientRequest:
    """The request that is meant for the proxy of ``request``, which gets the credentials if it is to carry
    them itself."""
    return connector._update_proxy_auth_header_and_build_proxy_req(request)


# Its response.


async def start(response: ClientResponse, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
    """Await the head of a response, by its class."""
    try:
        await response.start(connection)
    except BaseException:
        # The collector closes a coroutine on any thread.
        _core.finish_on(loop, response.close)
        raise


def note_origin(response: ClientResponse) -> None:
    """In debug mode: where the response was made."""
    response._source_traceback = traceback.extract_stack(sys._getframe(1))


def response_error(error: BaseException, method: str, url: URL, head: bytes) -> BaseException:
    """The error of a request whose response's head will not come."""
    if not isinstance(error, HttpProcessingError):
        return error
    failed = ClientResponseError(
        sent_request_info(method, url, head),
        (),
        status=error.code,
        message=error.message,
        headers=None if error.headers is None else CIMultiDictProxy(CIMultiDict(error.headers)),
    )
    failed.__cause__ = error
    return failed


def failure(session: ClientSession, error: BaseException) -> tuple[BaseException, bool]:
    """The error that a failed request is raised for, and whether its connection was lost, so that the request
    may be sent again (RFC 9112, section 9.3.1)."""
    if isinstance(
        error,
        ConnectionTimeoutError
        | ClientConnectorError
        | ClientConnectorCertificateError
        | ClientConnectorSSLError,
    ):
        return error, False
    if isinstance(error, ClientOSError | ServerDisconnectedError):
        return error, session._retry_connection and not session.closed
    if isinstance(error, OSError) and not is_timeout(error):
        failed = ClientOSError(*error.args)
        failed.__cause__ = error
        return failed, False
    return error, False


_CANNOT_CONNECT: Final = (
    ConnectionTimeoutError,
    ClientConnectorError,
    ClientConnectorCertificateError,
    ClientConnectorSSLError,
)


async def close_before_retry(request: ClientRequest, error: BaseException) -> None:
    """Wait until the task that writes a failed request's body is over.

    :raises BaseException: ``error``, if the body has been read off its source
    """
    await request.close()
    body = request._body
    if body is not None and body.consumed:
        raise error


def answer_of(response: ClientResponse) -> tuple[int, str | None, bool]:
    """Status and redirect of a response that was not received by a request of the session, and whether it
    sets cookies."""
    location = None
    if response.status // 100 == 3:
        location = response.headers.get(hdrs.LOCATION) or response.headers.get(hdrs.URI)
    return response.status, location, hasattr(response, "_keep_cookies")


# Redirects (RFC 9110, section 15.4).


def redirect_target(session: ClientSession, base: URL, location: str) -> tuple[URL, bool]:
    """Where a redirect leads, and whether that is the same origin.

    :raises InvalidUrlRedirectClientError: for a Location that is no URL
    :raises NonHttpUrlRedirectClientError: for one of another scheme
    """
    url = redirects.target(location, base, requote=session._requote_redirect_url)
    return url, base.origin() == url.origin()


def too_many_redirects(history: tuple[ClientResponse, ...]) -> TooManyRedirects:
    """The error of a call that has followed too many."""
    return TooManyRedirects(history[0].request_info, history)


def let_go(response: ClientResponse) -> None:
    """Release a response that is not read."""
    _ = response.release()


# Signals, and the end.


def make_traces(session: ClientSession, context: object) -> list[Trace]:
    """A Trace for each of the session's trace configs."""
    return [
        Trace(session, config, config.trace_config_ctx(trace_request_ctx=context))
        for config in session._trace_configs
    ]


async def start_traces(traces: list[Trace], args: tuple[Any, ...]) -> None:
    """Send the first signal by each Trace; one that is not reached has no part in the call, and is taken
    out."""
    waiting, traces[:] = traces.copy(), ()
    for trace in waiting:
        await trace.send_request_start(*args)
        traces.append(trace)


async def send_signal(traces: list[Trace], name: str, args: tuple[Any, ...]) -> None:
    """Send a signal by the method ``name`` of each Trace."""
    for trace in traces:
        await getattr(trace, name)(*args)


async def clean_up(
    body: payloads.Payload | None, signal: Awaitable[None] | None, tracker: UploadTracker | None
) -> None:
    """The end of a call that has failed."""
    try:
        if body is not None:
            await body.close()
        if signal is not None:
            await signal
    finally:
        if tracker is not None:
            tracker._finish()


def warn_unclosed(loop: asyncio.AbstractEventLoop, method: str, url: URL) -> None:
    """In debug mode: a response that was not released."""
    text = f"Unclosed response <ClientResponse({redacted_url(url)})> to {method}"
    warnings.warn(text, ResourceWarning, stacklevel=2)
    loop.call_exception_handler({"message": text})


# Of other modules.
__all__ = [
    "begin_tunnel",
    "check_tunnel",
    "connect_failed",
    "connection_timeout",
    "connector_error",
    "dial_plan",
    "keep_tls_session",
]

_core.give_steps(sys.modules[__name__])
