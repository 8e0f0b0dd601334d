"""Connections that are made natively: what they are made of, and the errors for there being none.

A connection is made natively on whorl's own loop, unless something of it is the program's own: a method of
the connector, a resolver, a maker of sockets. Then the connector's coroutine makes it.
"""

from __future__ import annotations

import os
import socket
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from whorl import _core
from whorl.event_loop import EventLoop

from ..exceptions import (
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientConnectorSSLError,
    ClientProxyConnectionError,
    ConnectionTimeoutError,
    UnixClientConnectorError,
)
from ..helpers import is_ip_address
from ..timeouts import is_timeout
from ..urls import without_zone
from .connector import BaseConnector
from .fingerprint import Fingerprint
from .happy_eyeballs import AddrInfoType, addr_infos, interleaved, is_numeric, numeric, summary
from .tcp import TCPConnector
from .tls import Resumption, SSLSetting, context_for, fingerprint_of, resumption
from .unix import UnixConnector

if TYPE_CHECKING:
    from yarl import URL

    from ..client_request import ClientRequest, ConnectionKey
    from .connection import HttpConnection

__all__ = ["DialPlan", "connect_failed", "connection_timeout", "connector_error", "dial_plan"]


class _Methods:
    """Methods that make a connection, as they are here: a program may replace them."""

    __slots__ = ("_known", "_originals")

    def __init__(self, owner: type, *names: str) -> None:
        self._originals = {name: getattr(owner, name) for name in names}
        # By classes with their versions, which change with the classes.
        self._known: dict[tuple[type, tuple[int, ...]], bool] = {}

    def are_of(self, instance: BaseConnector | EventLoop) -> bool:
        """Whether an instance has them all, none of them replaced."""
        return vars(instance).keys().isdisjoint(self._originals) and self._are_of_class(type(instance))

    def _are_of_class(self, cls: type) -> bool:
        versions = _core.class_versions([cls])
        if versions is not None and (known := self._known.get((cls, versions))) is not None:
            return known
        found = all(getattr(cls, name) is method for name, method in self._originals.items())
        if versions is not None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[cls, versions] = found
        return found


_MOST_KNOWN: Final = 64

_TCP: Final = _Methods(
    TCPConnector,
    "_connect_by_proxy",
    "_connect_directly",
    "_create_connection",
    "_dial",
    "_factory",
    "_resolve_host",
    "_wrap_create_connection",
)
_UNIX: Final = _Methods(UnixConnector, "_create_connection", "_factory")
_LOOP: Final = _Methods(
    EventLoop, "create_connection", "create_unix_connection", "getaddrinfo", "sock_connect"
)
# A tool that forbids sockets puts another class there.
_SOCKET: Final = socket.socket


class Where(NamedTuple):
    """What a connection leads to: a host by its key, the proxy of one, or a Unix-domain socket. Errors show
    it."""

    url: URL
    key: ConnectionKey
    path: str | None = None
    is_proxy: bool = False


Addresses = list[tuple[Any, ...]] | list[bytes]


class TlsPlan(NamedTuple):
    """TLS of a connection. The native half (``hop/plan.rs``) reads plans by position."""

    context: ssl_module.SSLContext
    #: That the certificate must have.
    name: str
    resumption: Resumption | None
    #: Seconds.
    shutdown_timeout: float | None
    fingerprint: Fingerprint | None


class DialPlan(NamedTuple):
    """What a connection is made of."""

    where: Where
    addresses: Addresses | Awaitable[Addresses]
    #: Makes the protocol.
    factory: Callable[[], HttpConnection]
    #: Seconds between attempts; None: one after the other.
    delay: float | None = None
    #: Addresses to connect from.
    local: Sequence[tuple[str, int]] = ()
    tls: TlsPlan | None = None
    tunnel: TunnelPlan | None = None


class TunnelPlan(NamedTuple):
    """A tunnel through the proxy that a connection leads to."""

    request: ClientRequest
    to_proxy: ClientRequest
    #: What goes through it.
    plan: DialPlan


def dial_plan(connector: BaseConnector, destination: ClientRequest | _core.RequestTarget) -> DialPlan | None:
    """What a connection to ``destination`` is made of; None if the connector's coroutine is to make it.

    :raises ClientConnectorDNSError: if the host has no address of the connector's family
    """
    if isinstance(destination, _core.RequestTarget):
        key: Any = destination.connection_key
        server_hostname = None
    else:
        key, server_hostname = destination.connection_key, destination.server_hostname
    if not isinstance(connector._loop, EventLoop) or not _LOOP.are_of(connector._loop):
        return None
    if socket.socket is not _SOCKET:
        return None
    if isinstance(connector, UnixConnector) and _UNIX.are_of(connector):
        where = Where(destination.url, key, connector.path)
        return DialPlan(where, [os.fsencode(connector.path)], connector._factory)
    if not isinstance(connector, TCPConnector) or not _TCP.are_of(connector):
        return None
    if not isinstance(destination, _core.RequestTarget) and destination.proxy is not None:
        return _proxied_plan(connector, destination)
    return _tcp_plan(connector, Where(destination.url, key), server_hostname)


def _proxied_plan(connector: TCPConnector, req: ClientRequest) -> DialPlan | None:
    assert req.proxy is not None
    if req.is_ssl() and req.proxy.scheme == "https":
        # TLS within TLS is asyncio's.
        return None
    tls: TlsPlan | None = None
    if req.is_ssl():
        assert req.port is not None
        tls = _tls_plan(connector, req.ssl, req.host, req.port, req.server_hostname)
    to_proxy = connector._update_proxy_auth_header_and_build_proxy_req(req)
    to_the_proxy = Where(req.url, to_proxy.connection_key, is_proxy=True)
    plan = _tcp_plan(connector, to_the_proxy, to_proxy.server_hostname)
    if plan is None or tls is None:
        return plan
    through = DialPlan(Where(req.url, req.connection_key), [], connector._factory, tls=tls)
    return plan._replace(tunnel=TunnelPlan(req, to_proxy, through))


def _tcp_plan(connector: TCPConnector, where: Where, server_hostname: str | None) -> DialPlan | None:
    if connector._socket_factory is not None:
        return None
    key = where.key
    local = []
    for info in connector._local_infos or ():
        if not is_ip_address(info[4][0]):
            return None
        local.append(info[4][:2])
    host, port = key.host, key.port
    assert port is not None
    # One dot at the end makes a name absolute; more are a slip.
    if host.endswith(".."):
        host = host.rstrip(".") + "."
    tls: TlsPlan | None = None
    if key.is_ssl:
        tls = _tls_plan(connector, key.ssl, host, port, server_hostname)
    addresses: Addresses | Awaitable[Addresses]
    known = connector._dns_cache.get(host, port)
    if known is not None:
        addresses = _addresses(connector, where, host, known)
    else:
        addresses = _resolve(connector, where, host, port)
    return DialPlan(where, addresses, connector._factory, connector._happy_eyeballs_delay, local, tls)


def _tls_plan(
    connector: TCPConnector, setting: SSLSetting, host: str, port: int, server_hostname: str | None
) -> TlsPlan:
    context = context_for(setting, connector._ssl)
    # Certificates have names without the dot.
    name = (server_hostname or without_zone(host)).rstrip(".")
    shutdown_timeout = connector._ssl_shutdown_timeout or None
    fingerprint = fingerprint_of(setting, connector._ssl)
    if fingerprint is not None:
        # Each connection shows the certificate itself.
        return TlsPlan(context, name, None, shutdown_timeout, fingerprint)
    return TlsPlan(context, name, resumption(context, host, port, name), shutdown_timeout, None)


async def _resolve(connector: TCPConnector, where: Where, host: str, port: int) -> Addresses:
    try:
        results = await connector._resolve_host(host, port, traces=None)
    except OSError as error:
        if is_timeout(error):
            raise connection_timeout(where.url) from error
        raise ClientConnectorDNSError(where.key, error) from error
    addresses = _addresses(connector, where, host, results)
    return addresses if isinstance(addresses, list) else await addresses


def _addresses(
    connector: TCPConnector, where: Where, host: str, results: Any
) -> Addresses | Awaitable[Addresses]:
    try:
        infos = addr_infos(results, connector._family)
    except OSError as error:
        raise ClientConnectorDNSError(where.key, error) from error
    if not infos:
        nothing = OSError(f"{host} has no address of the family {connector._family!r}")
        raise ClientConnectorDNSError(where.key, nothing)
    if all(map(is_numeric, infos)):
        return _ordered(connector, infos)
    return _look_up_names(connector, where, infos)


async def _look_up_names(connector: TCPConnector, where: Where, infos: list[AddrInfoType]) -> Addresses:
    """The addresses for those of a resolver that returns names."""
    try:
        infos = await numeric(infos, connector._loop, connector._family)
    except OSError as error:
        raise ClientConnectorDNSError(where.key, error) from error
    return _ordered(connector, infos)


def _ordered(connector: TCPConnector, infos: list[AddrInfoType]) -> Addresses:
    if len(infos) > 1:
        first = connector._interleave or (1 if connector._happy_eyeballs_delay is not None else None)
        if first:
            infos = interleaved(infos, first)
    return [info[4] for info in infos]


def connection_timeout(url: URL) -> ConnectionTimeoutError:
    """The error for a limit of connecting that has passed."""
    return ConnectionTimeoutError(f"Connection timeout to host {url}")


def connector_error(where: Where, error: BaseException) -> BaseException:
    """The client's exception for an error of the operating system or of TLS."""
    failed: BaseException
    if isinstance(error, ssl_module.CertificateError):
        failed = ClientConnectorCertificateError(where.key, error)
    elif isinstance(error, ssl_module.SSLError):
        failed = ClientConnectorSSLError(where.key, error)
    elif isinstance(error, OSError) and not is_timeout(error):
        if where.path is not None:
            failed = UnixClientConnectorError(where.path, where.key, error)
        elif where.is_proxy:
            failed = ClientProxyConnectionError(where.key, error)
        else:
            failed = ClientConnectorError(where.key, error)
    else:
        return error
    failed.__cause__ = error
    return failed


def connect_failed(where: Where, errors: list[tuple[int, str]]) -> BaseException:
    """The client's exception for attempts that have failed, each with a number and a text."""
    return connector_error(where, summary([OSError(number, text) for number, text in errors]))
