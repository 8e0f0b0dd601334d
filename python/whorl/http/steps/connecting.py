"""The connection of a request, where a connector's coroutine makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whorl import _core

from ..client_request import ClientRequest, Destination
from ..connect.acquired import Connection
from ..connect.connector import BaseConnector
from ..connect.native import connection_timeout
from ..request_info import ConnectionKey
from ..timeouts import request_timeout

if TYPE_CHECKING:
    from ..connect.connection import HttpConnection
    from ..hooks.tracing import Trace
    from ..session import ClientSession


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
