"""What a request is made of: its target and its cookies; and requests of a class of the program's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from multidict import CIMultiDict
from yarl import URL

from whorl import _core

from ..auth.basic import BasicAuth, strip_auth_from_url
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
    from ..hooks.tracing import Trace
    from ..response import ClientResponse
    from ..session import ClientSession
    from ..typedefs import LooseCookies, Query, StrOrURL


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
        url, auth = strip_auth_from_url(url)
    except ValueError as error:
        raise invalid(url, "has a user or a password that cannot be sent") from error
    if fault := host_fault(url):
        raise invalid(url, fault)
    bare = url.with_fragment(None) if url.raw_fragment else url
    subcomponent = host_field(url)
    assert subcomponent is not None
    key = connection_key(url, True if ssl is None else ssl)
    return _core.RequestTarget(key, url, bare, auth, url.raw_path_qs, subcomponent)


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
