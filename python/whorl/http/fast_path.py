"""The fast path of a session: requests whose way is native, and the options they share.

A request is on it if its body, if any, is bytes, text or JSON, and if its session does nothing for each
request but send its header fields and cookies. The native half calls these functions as methods of
:class:`ClientSession`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container
from ssl import SSLContext
from typing import TYPE_CHECKING, Final

from multidict import CIMultiDict

from whorl import _core

from . import hdrs
from .auth.basic import is_basic_auth
from .connect.connector import BaseConnector, TCPConnector, UnixConnector
from .cookies.jar import CookieJar, DummyCookieJar
from .exceptions import (
    ClientOSError,
    ClientResponseError,
    ConnectionTimeoutError,
    InvalidURL,
    NonHttpUrlClientError,
    ServerDisconnectedError,
)
from .helpers import HttpVersion11, Sentinel, is_canonical_ipv4_address, is_ip_address
from .http_exceptions import HttpProcessingError
from .request import ClientRequest, ConnectionKey, Destination, automatic_headers, connection_key
from .response import ClientResponse, sent_request_info
from .timeouts import deadline, request_timeout

if TYPE_CHECKING:
    from .connect.connection import HttpConnection
    from .session import ClientSession
    from .typedefs import StrOrURL

__all__ = ["connect", "prepare", "raise_unless_retried", "set_fast_path", "set_override_points"]

# Fields that describe the message or the connection: a session that sends them has no fast path.
_SPECIAL_HEADERS: Final = frozenset(
    name.lower()
    for name in (
        hdrs.HOST,
        hdrs.CONNECTION,
        hdrs.CONTENT_ENCODING,
        hdrs.CONTENT_LENGTH,
        hdrs.COOKIE,
        hdrs.EXPECT,
        hdrs.TRANSFER_ENCODING,
        hdrs.UPGRADE,
    )
)

_OVERRIDE_POINTS: Final[dict[type, dict[str, object]]] = {}


def set_override_points(owner: type, *names: str) -> None:
    """Note methods of ``owner`` that the fast path does not call.

    Tools replace them, in the class, in one derived from it or in a connector, to see requests or to change
    them: then there is no fast path.
    """
    _OVERRIDE_POINTS[owner] = {name: getattr(owner, name) for name in names}


set_override_points(TCPConnector, "connect", "_create_connection", "_wrap_create_connection")
set_override_points(UnixConnector, "connect", "_create_connection")
set_override_points(
    ClientRequest,
    "__init__",
    "is_ssl",
    "send",
    "update_auth",
    "update_cookies",
    "update_headers",
    "write_bytes",
)
set_override_points(ClientResponse, "__init__", "__aexit__", "release", "start")


def _is_replaced(cls: type, attributes: Container[str] = ()) -> bool:
    originals = next((_OVERRIDE_POINTS[base] for base in cls.__mro__ if base in _OVERRIDE_POINTS), None)
    return originals is None or any(
        name in attributes or getattr(cls, name) is not original for name, original in originals.items()
    )


def set_fast_path(session: ClientSession) -> None:
    """Give the native half the options that the fast path's requests share, or close the fast path."""
    connector, jar, headers = session._connector, session._cookie_jar, session._default_headers
    auth = session._default_auth
    response_class = session._response_class
    eligible = (
        isinstance(connector, BaseConnector)
        and type(connector) in (TCPConnector, UnixConnector)
        and not _is_replaced(type(connector), vars(connector))
        and not connector.force_close
        and type(jar) in (CookieJar, DummyCookieJar)
        and "filter_cookies" not in vars(jar)
        and session._request_class is ClientRequest
        and not any(map(_is_replaced, (type(session), ClientRequest, response_class)))
        and session._version == HttpVersion11
        and isinstance(session._raise_for_status, bool)
        and not session._loop.get_debug()
        and not _SPECIAL_HEADERS & {name.lower() for name in headers}
        # A request off the fast path raises the error.
        and (auth is None or (is_basic_auth(auth) and hdrs.AUTHORIZATION not in headers))
        and not any(
            (
                session._default_proxy,
                session._trust_env,
                session._trace_configs,
                session._middlewares,
                session._skip_auto_headers,
            )
        )
    )
    if not eligible:
        session._forbid_fast_path()
        return
    assert connector is not None
    try:
        session._allow_fast_path(
            event_loop=session._loop,
            pool=connector._pool,
            connector=connector,
            classes=[type(session), type(connector), ClientRequest, response_class],
            headers=headers,
            given=list(headers.items()),
            automatic=[(name, value) for name, value in automatic_headers() if name not in headers],
            auth=None if auth is None else auth.encode(),
            json_serialize=session._json_serialize_bytes or session._json_serialize,
            cookie_jar=jar,
            cookies=jar._records if isinstance(jar, CookieJar) else {},
            response_class=response_class,
            decompress=session._auto_decompress,
            buffer_size=session._read_bufsize,
            timeout=session._timeout,
            raise_for_status=session._raise_for_status is True,
            max_line_size=session._max_line_size,
            max_field_size=session._max_field_size,
            max_headers=session._max_headers,
        )
    except (TypeError, ValueError):
        # A request off the fast path raises the error about such fields or limits.
        session._forbid_fast_path()


def prepare(session: ClientSession, str_or_url: StrOrURL, ssl: object = True) -> _core.CachedTarget | None:
    """The cached target of a URL, or None if its requests are not on the fast path."""
    try:
        url = session._checked_url(str_or_url)
    except (InvalidURL, NonHttpUrlClientError, TypeError):
        return None
    host = url.raw_host
    if not host or url.raw_user is not None or url.raw_password is not None:
        return None
    if not isinstance(ssl, bool | SSLContext):
        return None
    base = session._base_url_origin
    if session._default_auth is not None and base is not None and base != url.origin():
        return None
    if is_ip_address(host) and ":" not in host and not is_canonical_ipv4_address(host):
        return None
    subcomponent = url.host_port_subcomponent
    if subcomponent is None:
        return None
    return _core.CachedTarget(connection_key(url, ssl), url, url.raw_path_qs, subcomponent)


async def connect(
    session: ClientSession,
    connector: BaseConnector,
    cached: _core.CachedTarget,
    grant: _core.PoolSlot | _core.PoolWaiter | None,
    elapsed: float,
    timeout: object,
) -> HttpConnection:
    """A connection for a request on the fast path that finds none idle.

    :param grant: the pool's permit or waiter for it
    :param elapsed: seconds since the request began
    :raises RuntimeError: if the session is closed
    :raises ClientConnectorError: if none can be made
    :raises asyncio.TimeoutError: when a limit has passed
    """
    if grant is None and connector.closed:
        raise RuntimeError("Session is closed")
    limits = session._timeout if isinstance(timeout, Sentinel) else request_timeout(timeout)
    key = cached.connection_key
    assert isinstance(key, ConnectionKey)
    try:
        when = None
        if limits.total is not None and limits.total > 0:
            when = deadline(session._loop, limits.total, limits.ceil_threshold) - elapsed
        async with asyncio.timeout_at(when):
            try:
                return await connector._acquire(Destination(cached.url, key), (), limits, grant)
            except TimeoutError as error:
                raise ConnectionTimeoutError(f"Connection timeout to host {cached.url}") from error
    except BaseException:
        # Nothing happens if it was used.
        if grant is not None:
            grant.give_back()
        raise


def raise_unless_retried(
    session: ClientSession, error: BaseException, method: str, cached: _core.CachedTarget, head: bytes
) -> None:
    """Raise the error of a request on the fast path, unless it may be sent again."""
    if (
        isinstance(error, ClientOSError | ServerDisconnectedError)
        and session._retry_connection
        and not session.closed
        and _core.is_idempotent(method)
    ):
        return
    if isinstance(error, HttpProcessingError):
        raise ClientResponseError(
            sent_request_info(method, cached.url, head),
            (),
            status=error.code,
            message=error.message,
            headers=None if error.headers is None else CIMultiDict(error.headers),
        ) from error
    raise error
