"""``ClientSession.ws_connect()``: the opening handshake, and the WebSocket that comes of it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .. import hdrs
from ..arguments import check_names, check_seconds, check_sizes
from ..connect.tls import SSLSetting, merge_ssl_params
from ..helpers import Sentinel, sentinel
from ..options import unknown_option
from .client import (
    DEFAULT_MAX_MSG_SIZE,
    DEFAULT_WS_CLIENT_TIMEOUT,
    ClientWebSocketResponse,
    ClientWSTimeout,
)
from .handshake import check_handshake, prepare_handshake

if TYPE_CHECKING:
    import ssl as ssl_module

    from ..auth.basic import BasicAuth
    from ..session import ClientSession
    from ..typedefs import LooseHeaders, Query, StrOrURL

__all__ = ["connect"]


async def connect(
    session: ClientSession,
    url: StrOrURL,
    *,
    method: str = hdrs.METH_GET,
    protocols: Iterable[str] = (),
    timeout: ClientWSTimeout | float | Sentinel = sentinel,
    receive_timeout: float | None = None,
    autoclose: bool = True,
    autoping: bool = True,
    heartbeat: float | None = None,
    auth: BasicAuth | None = None,
    origin: str | None = None,
    params: Query = None,
    headers: LooseHeaders | None = None,
    proxy: StrOrURL | None = None,
    proxy_auth: BasicAuth | None = None,
    ssl: SSLSetting | None = True,
    verify_ssl: bool | None = None,
    fingerprint: bytes | None = None,
    ssl_context: ssl_module.SSLContext | None = None,
    server_hostname: str | None = None,
    proxy_headers: LooseHeaders | None = None,
    compress: int = 0,
    max_msg_size: int = DEFAULT_MAX_MSG_SIZE,
    decode_text: bool = True,
    **unknown: object,
) -> ClientWebSocketResponse[Any]:
    """Open a WebSocket to ``url``.

    In addition to the parameters of a request:

    :param protocols: subprotocols, the preferred one first
    :param timeout: limits of receiving and of closing
    :param autoclose: answer the server's close frame at once
    :param autoping: answer pings
    :param heartbeat: seconds without a byte after which the server is pinged; it has half as many to respond
    :param origin: the Origin field
    :param compress: offer compression of messages with a window of so many bits, 9 to 15; 0: do not
    :param max_msg_size: the largest message that is received, in bytes; 0: any
    :param decode_text: text messages are :class:`str`; otherwise :class:`bytes`
    :raises WSServerHandshakeError: if the server does not agree
    """
    for name in unknown:
        raise unknown_option(name, websocket=True)
    check_names(protocols, "protocols")
    check_sizes(compress=compress, max_msg_size=max_msg_size)
    check_seconds(heartbeat=heartbeat, receive_timeout=receive_timeout)
    if heartbeat is not None and heartbeat <= 0:
        raise ValueError(f"heartbeat must be more than 0 seconds, or None for none, not {heartbeat}")
    limits = _limits(timeout, receive_timeout)
    if ssl is None:
        warnings.warn("ssl=None is deprecated, please use ssl=True", DeprecationWarning, stacklevel=3)
    setting = merge_ssl_params(ssl, verify_ssl, ssl_context, fingerprint)
    opening = prepare_handshake(headers, protocols=protocols, origin=origin, compress=compress)
    response = await session.request(
        method,
        url,
        params=params,
        headers=opening.headers,
        read_until_eof=False,
        auth=auth,
        proxy=proxy,
        proxy_auth=proxy_auth,
        ssl=setting,
        server_hostname=server_hostname,
        proxy_headers=proxy_headers,
    )
    try:
        agreement = check_handshake(response, opening)
        connection = response.connection
        assert connection is not None
        assert connection.protocol is not None
        return (session._ws_response_class or ClientWebSocketResponse)(
            connection.protocol,
            response,
            protocol=agreement.protocol,
            timeout=limits,
            autoclose=autoclose,
            autoping=autoping,
            heartbeat=heartbeat,
            compress=agreement.compress,
            client_notakeover=agreement.client_notakeover,
            server_window_bits=agreement.server_window_bits,
            server_notakeover=agreement.server_notakeover,
            max_msg_size=max_msg_size,
            decode_text=decode_text,
            loop=session._loop,
        )
    except BaseException:
        response.close()
        raise


def _limits(timeout: ClientWSTimeout | float | Sentinel, receive_timeout: float | None) -> ClientWSTimeout:
    limits = DEFAULT_WS_CLIENT_TIMEOUT
    if type(timeout).__name__ == "ClientWSTimeout":
        limits = ClientWSTimeout(ws_receive=timeout.ws_receive, ws_close=timeout.ws_close)  # type: ignore[union-attr]
    elif not isinstance(timeout, Sentinel):
        if not hasattr(timeout, "__float__"):
            raise TypeError(f"timeout must be a ClientWSTimeout or a number of seconds, not {timeout!r}")
        text = (
            "parameter 'timeout' of type 'float' is deprecated, "
            "please use 'timeout=ClientWSTimeout(ws_close=...)'"
        )
        warnings.warn(text, DeprecationWarning, stacklevel=4)
        limits = ClientWSTimeout(ws_receive=limits.ws_receive, ws_close=timeout)  # type: ignore[arg-type]
    if receive_timeout is not None:
        text = (
            "float parameter 'receive_timeout' is deprecated, please use parameter "
            "'timeout=ClientWSTimeout(ws_receive=...)'"
        )
        warnings.warn(text, DeprecationWarning, stacklevel=4)
        limits = ClientWSTimeout(ws_receive=receive_timeout, ws_close=limits.ws_close)
    return limits
