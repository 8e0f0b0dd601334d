"""The addresses that a connector has looked up, for as long as they are valid.

Requests for the same host that come while it is being looked up wait for the one lookup. It belongs to none
of them: cancelling one leaves it, and the others, alone.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..abc import AbstractResolver, ResolveResult
from ..exceptions import ClientConnectionError, InvalidURL, InvalidUrlClientError
from ..helpers import is_canonical_ipv4_address, is_ip_address

if TYPE_CHECKING:
    from ..hooks.tracing import Trace

__all__ = ["DNSCache"]

_Key = tuple[str, int]


class _Entry:
    """The addresses of a host, and until when they hold."""

    __slots__ = ("_addresses", "_expires_at", "_next")

    def __init__(self, addresses: list[ResolveResult], expires_at: float | None) -> None:
        self._addresses = addresses
        self._next = 0
        #: On the clock of the loop.
        self._expires_at = expires_at

    def is_over(self) -> bool:
        """Whether they hold no more, by the clock of the running loop."""
        return self._expires_at is not None and self._expires_at <= asyncio.get_running_loop().time()

    def rotated(self) -> list[ResolveResult]:
        """The addresses, beginning with another one each time: connections spread over them."""
        start = self._next
        self._next = (start + 1) % len(self._addresses)
        return self._addresses[start:] + self._addresses[:start]


class _Lookup:
    """A lookup that is under way, and its waiters."""

    __slots__ = ("task", "waiters")

    def __init__(self, task: asyncio.Task[list[ResolveResult]]) -> None:
        self.task = task
        self.waiters: set[asyncio.Future[list[ResolveResult]]] = set()


class DNSCache:
    """Looks hosts up with a resolver, and caches the results.

    :param resolver: performs the lookups.
    :param family: the address family to look up; :data:`socket.AF_UNSPEC` for all.
    :param use_cache: whether results are cached, and lookups are shared.
    :param ttl: how long a result is valid, in seconds; None: without limit.
    :param max_size: for how many hosts and ports; the least recently used one is evicted first.

    One belongs to one event loop.
    """

    def __init__(
        self,
        resolver: AbstractResolver,
        *,
        family: socket.AddressFamily = socket.AF_UNSPEC,
        use_cache: bool = True,
        ttl: float | None = 10,
        max_size: int = 1000,
    ) -> None:
        self._resolver = resolver
        self._family = family
        self._use_cache = use_cache
        self._ttl = ttl
        self._max_size = max_size
        # In the order of use.
        self._entries: dict[_Key, _Entry] = {}
        self._lookups: dict[_Key, _Lookup] = {}
        self._closed = False

    def get(self, host: str, port: int) -> list[ResolveResult] | None:
        """Returns the cached addresses of the host, or None. A host that is an address is always known.

        Raises :exc:`InvalidUrlClientError` for an IPv4 address that is not four decimal numbers, such as
        ``127.1``: a filter of addresses would not recognise it.
        """
        if is_ip_address(host):
            return [_literal(host, port)]
        key = (host, port)
        entry = self._entries.pop(key, None)
        if entry is None or entry.is_over():
            return None
        self._entries[key] = entry
        return entry.rotated()

    async def resolve(self, host: str, port: int, traces: Sequence[Trace] = ()) -> list[ResolveResult]:
        """Returns the addresses of the host, in the order to try them.

        Raises what the resolver raises (:exc:`OSError`), :exc:`InvalidUrlClientError` as :meth:`get` does,
        and :exc:`ClientConnectionError` if the cache is closed, now or meanwhile.
        """
        if is_ip_address(host):
            return [_literal(host, port)]
        if self._closed:
            raise ClientConnectionError("Connector is closed")
        if not self._use_cache:
            for trace in traces:
                await trace.send_dns_resolvehost_start(host)
            addresses = await self._look_up(host, port)
            for trace in traces:
                await trace.send_dns_resolvehost_end(host)
            return addresses

        # The cached result is taken before anything is awaited, or it could be gone by then.
        known = self.get(host, port)
        if known is not None:
            for trace in traces:
                await trace.send_dns_cache_hit(host)
            return known
        lookup = self._lookups.get((host, port))
        is_first = lookup is None
        if lookup is None:
            lookup = self._start_lookup(host, port)
        waiter: asyncio.Future[list[ResolveResult]] = asyncio.get_running_loop().create_future()
        lookup.waiters.add(waiter)
        # The signals are the request's own and sent by it: a receiver affects no other request.
        try:
            for trace in traces:
                if is_first:
                    await trace.send_dns_cache_miss(host)
                else:
                    await trace.send_dns_cache_hit(host)
            if is_first:
                for trace in traces:
                    await trace.send_dns_resolvehost_start(host)
            addresses = await waiter
        finally:
            lookup.waiters.discard(waiter)
            if waiter.done() and not waiter.cancelled():
                # Seen, even if a receiver's exception or a cancellation came first.
                waiter.exception()
        if is_first:
            for trace in traces:
                await trace.send_dns_resolvehost_end(host)
        return addresses

    def clear(self, host: str | None = None, port: int | None = None) -> None:
        """Forgets a host and port, or all of them. Raises :exc:`ValueError` if only one of the two is
        given."""
        if host is not None and port is not None:
            self._entries.pop((host, port), None)
        elif host is not None or port is not None:
            raise ValueError(
                f"either both host and port or none of them are allowed, got host={host!r} and port={port!r}"
            )
        else:
            self._entries.clear()

    def close(self) -> None:
        """Ends the lookups: their waiters get :exc:`ClientConnectionError`. The resolver stays open."""
        self._closed = True
        self._entries.clear()
        for lookup in self._lookups.values():
            lookup.task.cancel()

    async def _look_up(self, host: str, port: int) -> list[ResolveResult]:
        try:
            addresses = await self._resolver.resolve(host, port, family=self._family)
        except InvalidURL:
            raise
        except ValueError as error:
            # A UnicodeError, mostly: names are encoded for DNS.
            raise OSError(None, f"{host} cannot be looked up: {error}") from error
        if not addresses:
            raise OSError(None, f"{type(self._resolver).__name__} has no address for {host!r}")
        return addresses

    def _start_lookup(self, host: str, port: int) -> _Lookup:
        key = (host, port)
        task = asyncio.get_running_loop().create_task(self._look_up(host, port))
        lookup = self._lookups[key] = _Lookup(task)
        task.add_done_callback(lambda _: self._end_lookup(key))
        return lookup

    def _end_lookup(self, key: _Key) -> None:
        lookup = self._lookups.pop(key)
        task = lookup.task
        waiters = [waiter for waiter in lookup.waiters if not waiter.done()]
        error = ClientConnectionError("Connector is closed") if task.cancelled() else task.exception()
        if error is not None:
            for waiter in waiters:
                waiter.set_exception(error)
            return
        expires_at = None if self._ttl is None else task.get_loop().time() + self._ttl
        entry = _Entry(task.result(), expires_at)
        if not self._closed:
            self._entries.pop(key, None)
            self._entries[key] = entry
            if len(self._entries) > self._max_size:
                del self._entries[next(iter(self._entries))]
        for waiter in waiters:
            waiter.set_result(entry.rotated())


def _literal(host: str, port: int) -> ResolveResult:
    if ":" not in host and not is_canonical_ipv4_address(host):
        raise InvalidUrlClientError(host, "is not a canonical IPv4 address: four decimal numbers up to 255")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return ResolveResult(
        hostname=host, host=host, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST
    )
