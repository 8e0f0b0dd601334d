"""The options of a call that are checked or converted in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multidict import CIMultiDict
from yarl import URL

from .. import hdrs
from ..arguments import header_fields
from ..auth.basic import is_basic_auth
from ..connect.proxies import checked_proxy
from ..connect.tls import SSLSetting, merge_ssl_params
from ..helpers import Sentinel
from ..timeouts import ClientTimeout, request_timeout

if TYPE_CHECKING:
    from ..session import ClientSession
    from ..typedefs import LooseHeaders, StrOrURL


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
    """The call's own fields for the proxy, and the User-Agent field of the session: its other fields are for
    the servers."""
    result = header_fields(headers, "proxy_headers")
    agent = session._default_headers.get(hdrs.USER_AGENT)
    if agent is not None:
        result.setdefault(hdrs.USER_AGENT, agent)
    return result
