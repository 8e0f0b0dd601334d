"""Proxies: the request that goes to one, and tunnels through it (RFC 9110, section 9.3.6)."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from whorl import _core

from .. import hdrs
from ..auth.redaction import redacted_url
from ..client_request import ClientRequest
from ..exceptions import ClientConnectionError, ClientConnectorError, ClientHttpProxyError
from ..response import ClientResponse
from ..timeouts import ceil_timeout
from ..urls import without_zone
from .tls import SSLSetting, context_for, fingerprint_of

if TYPE_CHECKING:
    from ..timeouts import ClientTimeout
    from .connection import HttpConnection
    from .tcp import TCPConnector

__all__ = ["begin_tunnel", "check_tunnel", "open_tunnel", "proxy_request", "start_tls"]


def proxy_request(req: ClientRequest, setting: SSLSetting) -> ClientRequest:
    """The request that is meant for ``req``'s proxy itself, by TLS with ``setting`` if it is spoken to so.
    Its credentials go where the proxy sees them."""
    assert req.proxy is not None
    headers = {} if req.proxy_headers is None else req.proxy_headers.copy()
    headers[hdrs.HOST] = req.headers[hdrs.HOST]
    to_proxy = ClientRequest(
        hdrs.METH_GET, req.proxy, headers=headers, auth=req.proxy_auth, loop=req.loop, ssl=setting
    )
    credentials = to_proxy.headers.pop(hdrs.AUTHORIZATION, None)
    if credentials is None:
        return to_proxy
    if req.is_ssl():
        to_proxy.headers[hdrs.PROXY_AUTHORIZATION] = credentials
    else:
        req.headers[hdrs.PROXY_AUTHORIZATION] = credentials
    return to_proxy


def begin_tunnel(
    req: ClientRequest, to_proxy: ClientRequest, protocol: _core.HttpConnection
) -> ClientResponse:
    """Send the request for a tunnel to ``req``'s host to the proxy at the other end of ``protocol``. What is
    returned is its response, whose head is to come."""
    to_proxy.method = hdrs.METH_CONNECT
    to_proxy.url = req.url
    strict = req._session is not None and req._session._strict
    exchange = protocol.begin(hdrs.METH_CONNECT, decompress=False, strict=strict)
    target = to_proxy._target()
    version = f"HTTP/{to_proxy.version.major}.{to_proxy.version.minor}"
    protocol.write(_core.encode_head(f"{hdrs.METH_CONNECT} {target} {version}", to_proxy.headers))
    protocol.sent()
    response = ClientResponse(
        hdrs.METH_CONNECT, to_proxy.original_url, request_info=to_proxy.request_info, loop=req.loop
    )
    response._exchange = exchange
    # The connection is not the response's to close.
    response._released = True
    return response


def check_tunnel(response: ClientResponse) -> None:
    """Check that the proxy, whose response has a head or has failed, has opened the tunnel.

    :raises ClientHttpProxyError: if it has not
    """
    response._check_head()
    if response.status != 200:
        reason = response.reason or _phrase(response.status)
        raise ClientHttpProxyError(
            response.request_info,
            response.history,
            status=response.status,
            message=reason,
            headers=response.headers,
        )


def _phrase(status: int) -> str:
    """The reason phrase of a status code, or nothing for a code that is the proxy's own."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


async def open_tunnel(req: ClientRequest, to_proxy: ClientRequest, protocol: HttpConnection) -> None:
    """Request a tunnel to ``req``'s host from the proxy at the other end of ``protocol``.

    :raises ClientHttpProxyError: if it does not give one
    """
    try:
        response = begin_tunnel(req, to_proxy, protocol)
        await response._wait_for_head()
        check_tunnel(response)
    except BaseException:
        protocol.close()
        raise


async def start_tls(
    connector: TCPConnector, req: ClientRequest, transport: asyncio.Transport, timeout: ClientTimeout
) -> HttpConnection:
    """Begin TLS with ``req``'s host through the tunnel that ``transport`` is.

    :raises ClientConnectorError: if it fails
    """
    protocol = connector._factory()
    options: dict[str, Any] = {}
    if connector._ssl_shutdown_timeout:
        options["ssl_shutdown_timeout"] = connector._ssl_shutdown_timeout
    with connector._client_errors(req, ClientConnectorError):
        try:
            async with ceil_timeout(timeout.sock_connect, timeout.ceil_threshold):
                tls_transport = await connector._loop.start_tls(
                    transport,
                    protocol,
                    context_for(req.ssl, connector._ssl),
                    server_hostname=(req.server_hostname or without_zone(req.host)).rstrip("."),
                    **options,
                )
            if tls_transport is None:
                raise OSError("Failed to start TLS (possibly caused by closing transport)")
        except TypeError as error:
            transport.close()
            proxy = None if req.proxy is None else redacted_url(req.proxy)
            raise ClientConnectionError(
                f"Cannot initialize a TLS-in-TLS connection to host {req.host}:{req.port} through an"
                f" underlying connection to an HTTPS proxy {proxy} ssl:{req.ssl} [{error}]"
            ) from error
        except BaseException:
            # It may have failed before it took the transport over.
            transport.close()
            raise
        fingerprint = fingerprint_of(req.ssl, connector._ssl)
        if fingerprint is not None:
            try:
                fingerprint.check(tls_transport)
            except BaseException:
                tls_transport.close()
                raise
    protocol.connection_made(tls_transport)
    return protocol
