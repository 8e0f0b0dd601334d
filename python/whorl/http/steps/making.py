"""What a request is made of: its target and its cookies; and requests of a class of the program's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from yarl import URL

from whorl import _core

from ..auth.basic import strip_auth_from_url
from ..client_request import ClientRequest
from ..connect.tls import SSLSetting
from ..cookies.header import build_cookie_header
from ..cookies.jar import filter_request_cookies
from ..exceptions import (
    InvalidUrlClientError,
    InvalidUrlRedirectClientError,
    NonHttpUrlClientError,
)
from ..hooks.middlewares import build_client_middlewares
from ..request_info import connection_key
from ..urls import host_fault, host_field

if TYPE_CHECKING:
    from http.cookies import BaseCookie

    from ..abc import AbstractCookieJar
    from ..response import ClientResponse
    from ..session import ClientSession
    from ..typedefs import LooseCookies, StrOrURL


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
    invalid = InvalidUrlRedirectClientError if redirected else InvalidUrlClientError
    try:
        # A context is not kept beyond its session.
        found = _usual_target(url) if ssl is None else _target(url, ssl)
    except ValueError as error:
        raise invalid(url, "has a user or a password that cannot be sent") from error
    if isinstance(found, str):
        raise invalid(strip_auth_from_url(url)[0], found)
    return found


def _target(url: URL, ssl: SSLSetting) -> _core.RequestTarget | str:
    """What a URL comes to, or the fault of its host."""
    url, auth = strip_auth_from_url(url)
    if fault := host_fault(url):
        return fault
    bare = url.with_fragment(None) if url.raw_fragment else url
    subcomponent = host_field(url)
    assert subcomponent is not None
    return _core.RequestTarget(connection_key(url, ssl), url, bare, auth, url.raw_path_qs, subcomponent)


@lru_cache(maxsize=256)
def _usual_target(url: URL) -> _core.RequestTarget | str:
    """As :func:`_target`, kept beyond a session: a program may make one for each request."""
    return _target(url, True)


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
    session: ClientSession,
    request_class: type[ClientRequest],
    method: str,
    url: URL,
    *,
    skipped: list[str],
    own_skipped: Iterable[str] | None,
    ssl: SSLSetting | None,
    **options: Any,
) -> ClientRequest:
    """A request of a class that a program has changed, by its constructor.

    :param skipped: names of automatic fields that no request of the session has
    :param own_skipped: those that this one does not have either
    :param options: others of the constructor's, by their names there
    """
    return request_class(
        method,
        url,
        skip_auto_headers=frozenset((*skipped, *(own_skipped or ()))) or None,
        version=session._version,
        loop=session._loop,
        response_class=session._response_class,
        session=session,
        ssl=True if ssl is None else ssl,
        timer=ClientRequest._timer,
        **options,
    )


def through_middlewares(
    handler: Callable[[ClientRequest], Awaitable[ClientResponse]],
    middlewares: Sequence[Any],
    request: ClientRequest,
) -> Awaitable[ClientResponse]:
    """Send ``request`` by ``handler``, through the middlewares."""
    return build_client_middlewares(handler, middlewares)(request)
