"""Connectors: they make connections and keep them for the next request."""

from __future__ import annotations

import asyncio
import socket
import ssl as ssl_module
import sys
import traceback
import warnings
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

from whorl import _core

from ..arguments import check_sizes
from ..client_request import Destination
from ..exceptions import (
    ClientConnectionError,
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientConnectorSSLError,
    ClientProxyConnectionError,
    ServerFingerprintMismatch,
    UnixClientConnectorError,
)
from ..helpers import Sentinel, sentinel
from ..request_info import ConnectionKey
from ..timeouts import ceil_timeout, is_timeout
from ..urls import without_zone
from .connection import HttpConnection
from .dns_cache import DNSCache
from .happy_eyeballs import AddrInfoType, SocketFactoryType, addr_infos, dial
from .resolver import DefaultResolver, ThreadedResolver
from .tls import SSLSetting, context_for, fingerprint_of, is_ssl_setting, merge_ssl_params
from .tunnel import open_tunnel, proxy_request, start_tls

if TYPE_CHECKING:
    from ..abc import AbstractResolver, ResolveResult
    from ..client_request import ClientRequest
    from ..hooks.tracing import Trace
    from ..timeouts import ClientTimeout

__all__ = [
    "AddrInfoType",
    "BaseConnector",
    "Connection",
    "NamedPipeConnector",
    "SocketFactoryType",
    "TCPConnector",
    "UnixConnector",
]

HTTP_SCHEMES = frozenset({"http", "https", ""})
HIGH_LEVEL_SCHEMES = HTTP_SCHEMES | {"ws", "wss"}

_CERTIFICATE_ERRORS = (ssl_module.CertificateError,)
_SSL_ERRORS = (ssl_module.SSLError,)


class Connection:
    """A connection while a request has it. Source of the semantics: ``aiohttp.connector.Connection``."""

    _source_traceback: traceback.StackSummary | None = None

    def __init__(
        self,
        connector: BaseConnector,
        key: ConnectionKey,
        protocol: HttpConnection,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._connector = connector
        self._key = key
        self._loop = loop
        self._protocol: HttpConnection | None = protocol
        # The connection returns to the pool by itself when a response has ended, and may serve another
        # request then.
        self._served = protocol.served
        self.options: dict[str, Any] = {}
        if loop.get_debug():
            self._source_traceback = traceback.extract_stack(sys._getframe(1))

    def __repr__(self) -> str:
        return f"Connection<{self._key}>"

    def __bool__(self) -> Literal[True]:
        return True

    def __del__(self, _warnings: Any = warnings) -> None:
        _core.finish_on(self._loop, self._finish, _warnings)

    def _finish(self, _warnings: Any) -> None:
        protocol = self.protocol
        # With a request on it, it is its response that has to be released.
        if protocol is None or protocol.exchange is not None or protocol.upgraded:
            return
        _warnings.warn(f"Unclosed connection {self!r}", ResourceWarning, source=self)
        if self._loop.is_closed():
            return
        protocol.close()
        context = {"client_connection": self, "message": "Unclosed connection"}
        if self._source_traceback is not None:
            context["source_traceback"] = self._source_traceback
        self._loop.call_exception_handler(context)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop. Deprecated."""
        warnings.warn("connector.loop property is deprecated", DeprecationWarning, stacklevel=2)
        return self._loop

    @property
    def protocol(self) -> HttpConnection | None:
        """The protocol, until the connection is released or closed."""
        protocol = self._protocol
        if protocol is not None and not protocol.has_permit(self._served):
            self._protocol = protocol = None
        return protocol

    @property
    def transport(self) -> asyncio.Transport | None:
        """The transport, until the connection is released or closed."""
        protocol = self.protocol
        return None if protocol is None else protocol.transport

    @property
    def closed(self) -> bool:
        """Whether it is released or closed."""
        protocol = self.protocol
        return protocol is None or not protocol.is_connected()

    def add_callback(self, callback: Callable[[], None] | None) -> None:
        """Call ``callback`` when the connection is released or closed."""
        protocol = self.protocol
        if callback is not None and protocol is not None:
            protocol.on_release(callback)

    def release(self) -> None:
        """Give the connection back; it is closed if a response on it has not ended."""
        protocol = self.protocol
        if protocol is not None:
            protocol.release()
        self._protocol = None

    def close(self) -> None:
        """Close the connection."""
        protocol = self.protocol
        if protocol is not None:
            protocol.close()
        self._protocol = None


class _Closing:
    """What :meth:`BaseConnector.close` returns: the connections are being closed, whether it is awaited or
    not."""

    __slots__ = ("_waiters",)

    def __init__(self, waiters: Sequence[Awaitable[object]]) -> None:
        self._waiters = waiters

    def __await__(self) -> Generator[Any, None, None]:
        return self._wait().__await__()

    async def _wait(self) -> None:
        if self._waiters:
            await asyncio.gather(*self._waiters, return_exceptions=True)


class BaseConnector:
    """The pool of connections. Source of the semantics: ``aiohttp.BaseConnector``.

    :param keepalive_timeout: seconds for which an idle connection is kept; None: as long as the server
        keeps it
    :param force_close: close every connection after its request
    :param limit: how many connections at a time; 0: any number
    :param limit_per_host: how many to the same host and port; 0: any number
    :param enable_cleanup_closed: accepted for aiohttp's sake; transports of this runtime need no second close
    :param loop: the event loop; the running one by default
    :param timeout_ceil_threshold: as :class:`ClientTimeout`'s ``ceil_threshold``
    :raises ValueError: if ``keepalive_timeout`` is given with ``force_close``
    """

    allowed_protocol_schema_set: ClassVar[frozenset[str]] = HIGH_LEVEL_SCHEMES

    _closed = True
    _proxy_ssl: SSLSetting | None = None
    _source_traceback: traceback.StackSummary | None = None

    def __init__(
        self,
        *,
        keepalive_timeout: float | Sentinel | None = sentinel,
        force_close: bool = False,
        limit: int = 100,
        limit_per_host: int = 0,
        enable_cleanup_closed: bool = False,
        loop: asyncio.AbstractEventLoop | None = None,
        timeout_ceil_threshold: float = 5,
    ) -> None:
        if force_close and keepalive_timeout is not None and not isinstance(keepalive_timeout, Sentinel):
            raise ValueError("keepalive_timeout cannot be set if force_close is True")
        check_sizes(limit=limit, limit_per_host=limit_per_host)
        self._loop = asyncio.get_running_loop() if loop is None else loop
        self._force_close = force_close
        self._limit = limit
        self._limit_per_host = limit_per_host
        self._timeout_ceil_threshold = timeout_ceil_threshold
        keepalive = 15.0 if isinstance(keepalive_timeout, Sentinel) else keepalive_timeout
        self._keepalive_timeout = None if force_close else keepalive
        self._pool = _core.ConnectionPool(
            self._loop,
            # None is no limit, as in aiohttp.
            limit=limit or 0,
            limit_per_host=limit_per_host or 0,
            keepalive_timeout=self._keepalive_timeout,
            force_close=force_close,
        )
        if self._loop.get_debug():
            self._source_traceback = traceback.extract_stack(sys._getframe(1))
        self._closed = False

    def __del__(self, _warnings: Any = warnings) -> None:
        if not self._closed:
            _core.finish_on(self._loop, self._finish, _warnings)

    def _finish(self, _warnings: Any) -> None:
        idle = self._pool.idle()
        self._close()
        if not idle:
            return
        _warnings.warn(f"Unclosed connector {self!r}", ResourceWarning, source=self)
        context = {
            "connector": self,
            "connections": [repr(connections) for connections in idle.values()],
            "message": "Unclosed connector",
        }
        if self._source_traceback is not None:
            context["source_traceback"] = self._source_traceback
        self._loop.call_exception_handler(context)

    def __enter__(self) -> BaseConnector:
        text = '"with Connector():" is deprecated, use "async with Connector():" instead'
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()

    async def __aenter__(self) -> BaseConnector:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        exc_traceback: TracebackType | None = None,
    ) -> None:
        await self.close()

    @property
    def force_close(self) -> bool:
        """Whether every connection is closed after its request."""
        return self._force_close

    @property
    def limit(self) -> int:
        """How many connections at a time; 0: any number."""
        return self._limit

    @property
    def limit_per_host(self) -> int:
        """How many to the same host and port; 0: any number."""
        return self._limit_per_host

    @property
    def closed(self) -> bool:
        """Whether the connector is closed."""
        return self._closed

    @property
    def _conns(self) -> Mapping[ConnectionKey, deque[tuple[_core.HttpConnection, float]]]:
        """The idle connections: a copy."""
        return {key: deque(connections) for key, connections in self._pool.idle().items()}

    @property
    def _acquired(self) -> set[_core.HttpConnection]:
        """The connections that requests have: a copy."""
        return set(self._pool.acquired())

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:
        """Get a connection for ``req``: an idle one, or a new one.

        :raises ClientConnectorError: if none can be made
        :raises asyncio.TimeoutError: when ``timeout.connect`` or ``timeout.sock_connect`` has passed
        """
        protocol = await self._acquire(req, traces, timeout)
        return Connection(self, req.connection_key, protocol, self._loop)

    async def _acquire(
        self,
        req: ClientRequest | Destination,
        traces: Sequence[Trace],
        timeout: ClientTimeout,
        grant: _core.HttpConnection | _core.PoolSlot | _core.PoolWaiter | None = None,
    ) -> HttpConnection:
        """As :meth:`connect`, for callers that return the connection themselves.

        :param grant: the pool's permit, if there is one already: then the caller keeps ``timeout.connect``
        """
        # First the checks that may fail: a permit that was granted has to be given back.
        limit = ceil_timeout(timeout.connect if grant is None else None, timeout.ceil_threshold)
        if grant is None:
            if self._closed:
                raise ClientConnectionError("Connector is closed.")
            grant = self._pool.checkout(req.connection_key)
        if isinstance(grant, _core.HttpConnection):
            return await self._reuse(req, grant, traces)
        async with limit:
            if isinstance(grant, _core.PoolWaiter):
                grant = await self._wait_for_place(grant, traces)
                if isinstance(grant, _core.HttpConnection):
                    return await self._reuse(req, grant, traces)
            protocol: HttpConnection | None = None
            try:
                for trace in traces:
                    await trace.send_connection_create_start()
                protocol = await self._create_connection(req, traces, timeout)
                for trace in traces:
                    await trace.send_connection_create_end()
                if self._closed:
                    raise ClientConnectionError("Connector is closed.")
            except BaseException:
                if protocol is not None:
                    protocol.close()
                grant.give_back()
                raise
            _core.fill_slot(grant, protocol)
        return protocol

    async def _reuse(
        self, req: ClientRequest | Destination, protocol: _core.HttpConnection, traces: Sequence[Trace]
    ) -> HttpConnection:
        assert isinstance(protocol, HttpConnection)
        try:
            if not isinstance(req, Destination) and req.proxy is not None:
                # Every request has the field; for a new connection the tunnel's request has it.
                self._update_proxy_auth_header_and_build_proxy_req(req)
            for trace in traces:
                await trace.send_connection_reuseconn()
        except BaseException:
            protocol.release()
            raise
        return protocol

    async def _wait_for_place(
        self, place: _core.PoolWaiter, traces: Sequence[Trace]
    ) -> _core.HttpConnection | _core.PoolSlot:
        try:
            for trace in traces:
                await trace.send_connection_queued_start()
            await place.future
            for trace in traces:
                await trace.send_connection_queued_end()
        except BaseException:
            place.give_back()
            raise
        return place.claim()

    async def _create_connection(
        self, req: ClientRequest | Destination, traces: Sequence[Trace], timeout: ClientTimeout
    ) -> HttpConnection:
        raise NotImplementedError

    def _update_proxy_auth_header_and_build_proxy_req(self, req: ClientRequest) -> ClientRequest:
        """The request that is meant for ``req``'s proxy itself; aiohttp's name, for classes that override
        it."""
        return proxy_request(req, req.ssl if self._proxy_ssl is None else self._proxy_ssl)

    def close(self, *, abort_ssl: bool = False) -> Awaitable[None]:
        """Close all connections; requests that are in flight fail. The result may be awaited, for the last to
        be closed.

        :param abort_ssl: close those under TLS without close_notify
        """
        return _Closing(self._close(abort_ssl=abort_ssl))

    def _close(self, *, abort_ssl: bool = False) -> list[Awaitable[object]]:
        if self._closed:
            return []
        connections = self._pool.close()
        self._closed = True
        if self._loop.is_closed():
            return []
        waiters: list[Awaitable[object]] = []
        for connection in connections:
            closed = connection.closed
            transport = connection.transport
            if abort_ssl and transport is not None and transport.get_extra_info("sslcontext") is not None:
                connection.abort()
            else:
                connection.close()
            if closed is not None:
                waiters.append(closed)
        return waiters

    def _factory(self) -> HttpConnection:
        return HttpConnection(self._loop)


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
        return _Closing(waiters)

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
                # Another address may do better, unless it is the certificate.
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


class UnixConnector(BaseConnector):
    """Connects to a Unix-domain socket, whatever the host. Source of the semantics:
    ``aiohttp.UnixConnector``.

    :param path: the socket's path; the others are :class:`BaseConnector`'s
    """

    allowed_protocol_schema_set = HIGH_LEVEL_SCHEMES | {"unix"}

    def __init__(
        self,
        path: str,
        force_close: bool = False,
        keepalive_timeout: float | Sentinel | None = sentinel,
        limit: int = 100,
        limit_per_host: int = 0,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(
            force_close=force_close,
            keepalive_timeout=keepalive_timeout,
            limit=limit,
            limit_per_host=limit_per_host,
            loop=loop,
        )
        self._path = path

    @property
    def path(self) -> str:
        """The socket's path."""
        return self._path

    async def _create_connection(
        self, req: ClientRequest | Destination, traces: Sequence[Trace], timeout: ClientTimeout
    ) -> HttpConnection:
        try:
            async with ceil_timeout(timeout.sock_connect, timeout.ceil_threshold):
                _, protocol = await self._loop.create_unix_connection(self._factory, self._path)
        except OSError as error:
            if is_timeout(error):
                raise
            raise UnixClientConnectorError(self._path, req.connection_key, error) from error
        return protocol


class NamedPipeConnector(BaseConnector):
    """Windows only, where whorl does not run: there so that programs which name it can be imported.

    :raises RuntimeError: always
    """

    allowed_protocol_schema_set = HIGH_LEVEL_SCHEMES | {"npipe"}

    def __init__(self, path: str, **kwargs: Any) -> NoReturn:
        raise RuntimeError("Named Pipes are only available on Windows: use UnixConnector")
