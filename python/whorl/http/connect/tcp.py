"""Connections to hosts by TCP, and by TLS over it."""

from __future__ import annotations

import asyncio
import socket
import ssl as ssl_module
import warnings
from collections.abc import Awaitable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..arguments import check_seconds
from ..client_request import Destination
from ..exceptions import (
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientConnectorSSLError,
    ClientProxyConnectionError,
    ServerFingerprintMismatch,
)
from ..helpers import Sentinel, sentinel
from ..request_info import ConnectionKey
from ..timeouts import ceil_timeout, is_timeout
from ..urls import without_zone
from .connection import HttpConnection
from .connector import HIGH_LEVEL_SCHEMES, BaseConnector, Closing
from .dns_cache import DNSCache
from .happy_eyeballs import AddrInfoType, SocketFactoryType, addr_infos, dial
from .resolver import DefaultResolver, ThreadedResolver
from .tls import SSLSetting, context_for, fingerprint_of, is_ssl_setting, merge_ssl_params
from .tunnel import open_tunnel, start_tls

if TYPE_CHECKING:
    from ..abc import AbstractResolver, ResolveResult
    from ..client_request import ClientRequest
    from ..hooks.tracing import Trace
    from ..timeouts import ClientTimeout

__all__ = ["TCPConnector"]

_CERTIFICATE_ERRORS = (ssl_module.CertificateError,)
_SSL_ERRORS = (ssl_module.SSLError,)


class TCPConnector(BaseConnector):
    """Connects to hosts by TCP, with TLS for https. Source of the semantics: ``aiohttp.TCPConnector``.

    Parameters that are not here are :class:`BaseConnector`'s, or the deprecated forms of ``ssl``.

    :param ssl: the TLS setting of requests that have none: True, False, a context or a :class:`Fingerprint`
    :param proxy_ssl: that of connections to proxies whose URL begins with ``https``: a context, a
        :class:`Fingerprint` or False; None: the request's, as in aiohttp, and with it the client certificate
        of its context
    :param use_dns_cache: keep the addresses of hosts
    :param ttl_dns_cache: for so many seconds; None: without limit
    :param family: 0, :data:`socket.AF_INET` or :data:`socket.AF_INET6`
    :param local_addr: (host, port) to connect from
    :param resolver: looks hosts up; :class:`DefaultResolver` by default
    :param happy_eyeballs_delay: seconds before the next address is tried along with the first (RFC 8305);
        None: only after it has failed
    :param interleave: how many addresses of the first family come first; 1 with happy eyeballs by default
    :param socket_factory: makes the socket for an address
    :param ssl_shutdown_timeout: seconds to wait for the peer's close_notify. Deprecated in aiohttp
    :raises TypeError: for a length of time that is no number, and a setting of TLS that is none
    :raises ValueError: for a length of time that is NaN, and more than one setting of TLS
    """

    allowed_protocol_schema_set = HIGH_LEVEL_SCHEMES | {"tcp"}

    def __init__(
        self,
        *,
        verify_ssl: bool = True,
        fingerprint: bytes | None = None,
        use_dns_cache: bool = True,
        ttl_dns_cache: int | None = 10,
        dns_cache_max_size: int = 1000,
        family: socket.AddressFamily = socket.AddressFamily.AF_UNSPEC,
        ssl_context: ssl_module.SSLContext | None = None,
        ssl: SSLSetting = True,
        local_addr: tuple[str, int] | None = None,
        resolver: AbstractResolver | None = None,
        keepalive_timeout: float | Sentinel | None = sentinel,
        force_close: bool = False,
        limit: int = 100,
        limit_per_host: int = 0,
        enable_cleanup_closed: bool = False,
        loop: asyncio.AbstractEventLoop | None = None,
        timeout_ceil_threshold: float = 5,
        happy_eyeballs_delay: float | None = 0.25,
        interleave: int | None = None,
        socket_factory: SocketFactoryType | None = None,
        ssl_shutdown_timeout: float | Sentinel | None = sentinel,
        proxy_ssl: SSLSetting | None = None,
    ) -> None:
        # First what may be refused: a connector that is half made has nothing to close.
        self._ssl = merge_ssl_params(ssl, verify_ssl, ssl_context, fingerprint)
        if proxy_ssl is True or not (proxy_ssl is None or is_ssl_setting(proxy_ssl)):
            raise TypeError(
                f"proxy_ssl should be an SSLContext, Fingerprint, False or None, got {proxy_ssl!r}"
            )
        self._proxy_ssl = proxy_ssl
        check_seconds(happy_eyeballs_delay=happy_eyeballs_delay, ttl_dns_cache=ttl_dns_cache)
        if isinstance(ssl_shutdown_timeout, Sentinel):
            self._ssl_shutdown_timeout: float | None = 0
        else:
            text = "The ssl_shutdown_timeout parameter is deprecated and will be removed in aiohttp 4.0"
            warnings.warn(text, DeprecationWarning, stacklevel=2)
            self._ssl_shutdown_timeout = ssl_shutdown_timeout
        self._local_infos: list[AddrInfoType] | None = None
        if local_addr is not None:
            local_family = socket.AF_INET6 if ":" in local_addr[0] else socket.AF_INET
            self._local_infos = [(local_family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", local_addr)]
        super().__init__(
            keepalive_timeout=keepalive_timeout,
            force_close=force_close,
            limit=limit,
            limit_per_host=limit_per_host,
            enable_cleanup_closed=enable_cleanup_closed,
            loop=loop,
            timeout_ceil_threshold=timeout_ceil_threshold,
        )
        self._resolver_owner = resolver is None
        self._resolver: AbstractResolver = DefaultResolver(loop=self._loop) if resolver is None else resolver
        self._use_dns_cache = use_dns_cache
        self._family = family
        self._dns_cache = DNSCache(
            self._resolver,
            family=family,
            use_cache=use_dns_cache,
            ttl=ttl_dns_cache,
            max_size=dns_cache_max_size,
        )
        self._happy_eyeballs_delay = happy_eyeballs_delay
        self._interleave = interleave
        self._socket_factory = socket_factory

    @property
    def family(self) -> int:
        """The address family that is connected to; 0: any."""
        return self._family

    @property
    def use_dns_cache(self) -> bool:
        """Whether the addresses of hosts are kept."""
        return self._use_dns_cache

    def clear_dns_cache(self, host: str | None = None, port: int | None = None) -> None:
        """Forget the addresses of ``host`` and ``port``, or all.

        :raises ValueError: if only one of the two is given
        """
        if (host is None) != (port is None):
            raise ValueError("either both host and port or none of them are allowed")
        self._dns_cache.clear(host, port)

    def close(self, *, abort_ssl: bool = False) -> Awaitable[None]:
        """Close all connections and stop lookups; the resolver too if it is the connector's own."""
        waiters = list(self._close(abort_ssl=abort_ssl))
        return Closing(waiters)

    def _close(self, *, abort_ssl: bool = False) -> list[Awaitable[object]]:
        if self._closed:
            return []
        waiters = super()._close(abort_ssl=abort_ssl or self._ssl_shutdown_timeout == 0)
        if self._loop.is_closed():
            return waiters
        self._dns_cache.close()
        # The usual one has nothing to close.
        if self._resolver_owner and type(self._resolver) is not ThreadedResolver:
            waiters.append(self._loop.create_task(self._resolver.close()))
        return waiters

    # `_create_connection()`, `_resolve_host()` and `_wrap_create_connection()` have aiohttp's names and
    # parameters: classes that decide which hosts are connected to, and on which way, override them.

    async def _create_connection(
        self, req: ClientRequest | Destination, traces: Sequence[Trace], timeout: ClientTimeout
    ) -> HttpConnection:
        if isinstance(req, Destination) or req.proxy is None:
            return await self._connect_directly(req, traces, timeout)
        return await self._connect_by_proxy(req, timeout)

    async def _resolve_host(
        self, host: str, port: int, traces: Sequence[Trace] | None = None
    ) -> list[ResolveResult]:
        return await self._dns_cache.resolve(host, port, traces or ())

    async def _connect_by_proxy(self, req: ClientRequest, timeout: ClientTimeout) -> HttpConnection:
        to_proxy = self._update_proxy_auth_header_and_build_proxy_req(req)
        protocol = await self._connect_directly(
            to_proxy, [], timeout, client_error=ClientProxyConnectionError
        )
        if not req.is_ssl():
            return protocol
        transport = protocol.transport
        assert transport is not None
        await open_tunnel(req, to_proxy, protocol)
        return await start_tls(self, req, transport, timeout)

    async def _connect_directly(
        self,
        req: ClientRequest | Destination,
        traces: Sequence[Trace],
        timeout: ClientTimeout,
        *,
        client_error: type[ClientConnectorError] = ClientConnectorError,
    ) -> HttpConnection:
        host, port = req.host, req.port
        assert port is not None
        # One dot at the end makes a name absolute; more are a slip.
        if host.endswith(".."):
            host = host.rstrip(".") + "."
        try:
            results = await self._resolve_host(host, port, traces=traces)
            infos = addr_infos(results, self._family)
        except OSError as error:
            if is_timeout(error):
                raise
            raise ClientConnectorDNSError(req.connection_key, error) from error
        if not infos:
            nothing = OSError(f"{host} has no address of the family {self._family!r}")
            raise ClientConnectorDNSError(req.connection_key, nothing)
        context = context_for(req.ssl, self._ssl) if req.is_ssl() else None
        fingerprint = fingerprint_of(req.ssl, self._ssl) if req.is_ssl() else None
        # Certificates have names without the dot.
        server_hostname = None if context is None else (req.server_hostname or without_zone(host)).rstrip(".")
        while True:
            transport, protocol = await self._wrap_create_connection(
                self._factory,
                addr_infos=infos,
                req=req,
                timeout=timeout,
                client_error=client_error,
                ssl=context,
                server_hostname=server_hostname,
            )
            if fingerprint is None:
                return protocol
            try:
                fingerprint.check(transport)
                return protocol
            except ServerFingerprintMismatch:
                peer = transport.get_extra_info("peername")
                transport.close()
                infos = [info for info in infos if info[4][:2] != tuple(peer)[:2]]
                if not infos:
                    raise

    async def _wrap_create_connection(
        self,
        *args: Any,
        addr_infos: list[AddrInfoType],
        req: ClientRequest | Destination,
        timeout: ClientTimeout,
        client_error: type[ClientConnectorError] = ClientConnectorError,
        **kwargs: Any,
    ) -> tuple[asyncio.Transport, HttpConnection]:
        """Dial ``addr_infos``; the rest is for the loop's ``create_connection()``."""
        if kwargs.get("ssl") and self._ssl_shutdown_timeout:
            kwargs["ssl_shutdown_timeout"] = self._ssl_shutdown_timeout
        with self._client_errors(req, client_error):
            async with ceil_timeout(timeout.sock_connect, timeout.ceil_threshold):
                return await self._dial(addr_infos, args, kwargs)

    async def _dial(
        self, infos: Sequence[AddrInfoType], args: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[asyncio.Transport, HttpConnection]:
        remaining = list(infos)
        while True:
            sock = await dial(
                remaining,
                loop=self._loop,
                local_infos=self._local_infos,
                delay=self._happy_eyeballs_delay,
                interleave=self._interleave or (1 if self._happy_eyeballs_delay is not None else None),
                socket_factory=self._socket_factory,
            )
            try:
                peer = sock.getpeername()
            except OSError:
                # It has hung up already.
                sock.close()
                raise
            try:
                return await self._loop.create_connection(*args, sock=sock, **options)
            except OSError:
                # Another address may do better, by its certificate as well.
                remaining = [info for info in remaining if info[4][:2] != tuple(peer)[:2]]
                if not remaining:
                    raise

    def _client_errors(
        self, req: ClientRequest | Destination, client_error: type[ClientConnectorError]
    ) -> _ClientErrors:
        return _ClientErrors(req.connection_key, client_error)


class _ClientErrors:
    """Raises errors of the operating system and of TLS as the client's exceptions."""

    __slots__ = ("_class", "_key")

    def __init__(self, key: ConnectionKey, client_error: type[ClientConnectorError]) -> None:
        self._key = key
        self._class = client_error

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        exc_traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, _CERTIFICATE_ERRORS):
            raise ClientConnectorCertificateError(self._key, error) from error
        if isinstance(error, _SSL_ERRORS):
            raise ClientConnectorSSLError(self._key, error) from error
        if isinstance(error, OSError) and not is_timeout(error):
            raise self._class(self._key, error) from error
        if isinstance(error, UnicodeError):
            # A resolver has returned a name, which the loop looks up.
            raise ClientConnectorDNSError(self._key, OSError(None, str(error))) from error
