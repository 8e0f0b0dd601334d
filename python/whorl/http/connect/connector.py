"""What all connectors have in common: the connections that they keep for the next request."""

from __future__ import annotations

import asyncio
import sys
import traceback
import warnings
from collections import deque
from collections.abc import Awaitable, Generator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

from whorl import _core

from ..arguments import check_seconds, check_sizes
from ..client_request import Destination
from ..exceptions import (
    ClientConnectionError,
)
from ..helpers import Sentinel, sentinel
from ..request_info import ConnectionKey
from ..timeouts import ceil_timeout
from .acquired import Connection
from .connection import HttpConnection
from .tls import SSLSetting
from .tunnel import proxy_request

if TYPE_CHECKING:
    from ..client_request import ClientRequest
    from ..hooks.tracing import Trace
    from ..timeouts import ClientTimeout

__all__ = ["HIGH_LEVEL_SCHEMES", "HTTP_SCHEMES", "BaseConnector"]

HTTP_SCHEMES = frozenset({"http", "https", ""})
HIGH_LEVEL_SCHEMES = HTTP_SCHEMES | {"ws", "wss"}


class Closing:
    """What :meth:`BaseConnector.close` returns: the connections are being closed, whether it is awaited or
    not."""

    __slots__ = ("_waiters",)

    def __init__(self, waiters: Sequence[Awaitable[object]]) -> None:
        self._waiters = waiters

    def __await__(self) -> Generator[Any, None, None]:
        waiters = self._waiters
        if len(waiters) == 1:
            # As gather() below, which costs more than all else of closing the connector of one request.
            with suppress(Exception):
                yield from waiters[0].__await__()
        elif waiters:
            yield from asyncio.gather(*waiters, return_exceptions=True).__await__()


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
    :raises TypeError: for a ``keepalive_timeout`` that is no number, and a limit that is no integer
    :raises ValueError: for a ``keepalive_timeout`` that is NaN or given with ``force_close``, and a limit
        that is negative
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
        if not isinstance(keepalive_timeout, Sentinel):
            check_seconds(keepalive_timeout=keepalive_timeout)
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
        return Closing(self._close(abort_ssl=abort_ssl))

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
