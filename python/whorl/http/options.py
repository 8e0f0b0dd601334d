"""The options of requests: their types, for type checkers and editors, and the error about unknown ones.

Type checkers read the classes here from the ``**kwargs`` of :class:`ClientSession`'s methods. Source of the
options' meaning: ``aiohttp.ClientSession.request()``; see :meth:`ClientSession.request`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypedDict

if TYPE_CHECKING:
    import ssl as ssl_module

    from .auth.basic import BasicAuth
    from .body.upload import UploadTracker
    from .connect.tls import SSLSetting
    from .helpers import Sentinel
    from .hooks.middlewares import ClientMiddlewareType
    from .response import ClientResponse
    from .timeouts import ClientTimeout
    from .typedefs import LooseCookies, LooseHeaders, Query, StrOrURL
    from .websocket.client import ClientWSTimeout

__all__ = [
    "OptionsWithoutData",
    "OptionsWithoutRedirects",
    "RequestOptions",
    "WSConnectOptions",
    "unknown_option",
]


class _TargetOptions(TypedDict, total=False):
    """Where a request goes, and on which way."""

    params: Query
    headers: LooseHeaders | None
    auth: BasicAuth | None
    proxy: StrOrURL | None
    proxy_auth: BasicAuth | None
    proxy_headers: LooseHeaders | None
    ssl: SSLSetting | None
    server_hostname: str | None
    # Deprecated: `ssl` takes their place.
    verify_ssl: bool | None
    fingerprint: bytes | None
    ssl_context: ssl_module.SSLContext | None


class _MessageOptions(_TargetOptions, total=False):
    json: Any
    cookies: LooseCookies | None
    skip_auto_headers: Iterable[str] | None
    max_redirects: int | None
    compress: str | bool | None
    chunked: bool | None
    expect100: bool
    raise_for_status: bool | Callable[[ClientResponse], Awaitable[None]] | None
    read_until_eof: bool
    timeout: ClientTimeout | float | Sentinel | None
    trace_request_ctx: object
    read_bufsize: int | None
    auto_decompress: bool | None
    max_line_size: int | None
    max_field_size: int | None
    max_headers: int | None
    middlewares: Sequence[ClientMiddlewareType] | None
    upload_tracker: UploadTracker | None


class OptionsWithoutRedirects(_MessageOptions, total=False):
    """The options of a method that has a parameter ``allow_redirects``."""

    data: Any


class OptionsWithoutData(_MessageOptions, total=False):
    """The options of a method that has a parameter ``data``."""

    allow_redirects: bool


class RequestOptions(OptionsWithoutRedirects, OptionsWithoutData, total=False):
    """The options of :meth:`ClientSession.request`, which describes them."""


class WSConnectOptions(_TargetOptions, total=False):
    """The options of :meth:`ClientSession.ws_connect`; :func:`whorl.http.websocket.connect.connect` describes
    them."""

    method: str
    protocols: Iterable[str]
    timeout: ClientWSTimeout | float | Sentinel
    receive_timeout: float | None
    autoclose: bool
    autoping: bool
    heartbeat: float | None
    origin: str | None
    compress: int
    max_msg_size: int
    decode_text: bool


# aiohttp's name, which its test utilities import.
_RequestOptions = RequestOptions

_OF_REQUESTS: Final = {
    "allow_redirect": "use allow_redirects=",
    "body": "use data=, or json=",
    "cert": "use ssl=, an ssl.SSLContext with the certificate loaded (load_cert_chain())",
    "content": "use data=, or json=",
    "decode_content": "use auto_decompress=",
    "event_hooks": "use middlewares=, or the session's trace_configs=",
    "fields": "use data=, which takes a mapping, pairs, or a FormData",
    "files": 'use data=, which takes files: {"name": open(path, "rb")}, or a FormData',
    "follow_redirects": "use allow_redirects=",
    "form": "use data=, which takes a mapping, pairs, or a FormData",
    "hooks": "use middlewares=, or the session's trace_configs=",
    "preload_content": "nothing takes its place: a body is read when response.read() or response.content is",
    "proxies": "use proxy=, one URL, or trust_env=True of the session",
    "query": "use params=",
    "querystring": "use params=",
    "redirect": "use allow_redirects=",
    "retries": "use middlewares=: one can send the request again",
    "stream": "nothing takes its place: a body is read when response.read() or response.content is",
    "user_agent": 'use headers={"User-Agent": ...}',
    "verify": "use ssl=: False, or an ssl.SSLContext that has the authorities",
}
"""The words of other clients (requests, httpx, urllib3) for options of requests."""

_OF_WEBSOCKETS: Final = {
    "additional_headers": "use headers=",
    "cert": _OF_REQUESTS["cert"],
    "close_timeout": "use timeout=ClientWSTimeout(ws_close=...)",
    "compression": "use compress=15",
    "cookies": "use the session's cookies, or headers=",
    "extra_headers": "use headers=",
    "max_size": "use max_msg_size=",
    "ping_interval": "use heartbeat=",
    "ping_timeout": "use heartbeat=, of which it is the half",
    "subprotocols": "use protocols=",
    "verify": _OF_REQUESTS["verify"],
}
"""The words of other clients (websockets, websocket-client) for options of WebSockets."""


def unknown_option(name: str, *, websocket: bool = False) -> TypeError:
    """Returns the error about a keyword that requests do not take, with the way out where one is known: the
    option for another client's word, the session or connector whose option it is, or the nearest spelling.

    :param name: the keyword
    :param websocket: whether it was given to :meth:`ClientSession.ws_connect`
    """
    known = WSConnectOptions if websocket else RequestOptions
    way_out = (_OF_WEBSOCKETS if websocket else _OF_REQUESTS).get(name) or _owner_of(name)
    if way_out is None:
        # Imported for an error only.
        from difflib import get_close_matches

        nearest = get_close_matches(name, known.__annotations__, n=1)
        way_out = f"did you mean {nearest[0]}=?" if nearest else "there is none like it"
    call = "ClientSession.ws_connect()" if websocket else "a request"
    return TypeError(f"{call} got an unexpected keyword argument {name!r}: {way_out}")


def _owner_of(name: str) -> str | None:
    """The way out for an option that is not a request's."""
    from inspect import signature

    from .connect.tcp import TCPConnector
    from .session import ClientSession

    if name in signature(ClientSession.__init__).parameters:
        return f"it is an option of ClientSession({name}=...)"
    if name in signature(TCPConnector.__init__).parameters:
        return f"it is an option of TCPConnector({name}=...), which is the session's connector="
    return None
