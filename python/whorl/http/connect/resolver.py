"""Resolvers: from the names of hosts to addresses."""

from __future__ import annotations

import asyncio
import socket
from importlib import import_module
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakSet

from ..abc import AbstractResolver, ResolveResult

__all__ = ["AsyncResolver", "DefaultResolver", "ThreadedResolver"]

# A result is numeric already: connecting to it needs no lookup.
_NUMERIC_SOCKET_FLAGS: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
_NAME_SOCKET_FLAGS: Final = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
# No IPv6 addresses for a machine without one, and the other way round.
_AI_ADDRCONFIG: Final = socket.AI_ADDRCONFIG


def _result(hostname: str, host: str, port: int, family: int, proto: int) -> ResolveResult:
    return ResolveResult(
        hostname=hostname, host=host, port=port, family=family, proto=proto, flags=_NUMERIC_SOCKET_FLAGS
    )


class ThreadedResolver(AbstractResolver):
    """The system's resolver (``getaddrinfo``), in a thread of the loop's executor: as ``/etc/hosts`` and
    ``/etc/nsswitch.conf`` say."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = asyncio.get_running_loop() if loop is None else loop

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Returns the addresses of ``host`` in the system's order; raises :exc:`socket.gaierror` if it has
        none."""
        loop = self._loop
        found = await loop.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, family=family, flags=_AI_ADDRCONFIG
        )
        results = []
        for family, _, proto, _, address in found:
            numeric: Any
            numeric_port: Any
            numeric, numeric_port = address[:2]
            if family == socket.AF_INET6:
                if len(address) < 4:
                    # Of a Python that was built without IPv6.
                    continue
                if address[3]:
                    # A link-local address is of no use without its scope, which only getnameinfo writes.
                    numeric, numeric_port = await loop.getnameinfo(address, _NAME_SOCKET_FLAGS)
            elif family != socket.AF_INET:
                continue
            results.append(_result(host, str(numeric), int(numeric_port), family, proto))
        return results

    async def close(self) -> None:
        """Does nothing: a lookup in a thread cannot be stopped."""


class AsyncResolver(AbstractResolver):
    """A resolver of its own on the event loop, by the package ``aiodns`` (3.2 or newer).

    Arguments other than ``loop`` go to ``aiodns.DNSResolver``, as ``nameservers=["192.0.2.53"]``; resolvers
    without any share one. Raises :exc:`RuntimeError` if the package is missing or too old.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None, *args: Any, **kwargs: Any) -> None:
        # Not imported above: it takes long, and few programs need it.
        try:
            aiodns = import_module("aiodns")
        except ImportError as error:
            raise RuntimeError(
                "AsyncResolver requires aiodns library: pip install aiodns, or use ThreadedResolver"
            ) from error
        if not hasattr(aiodns.DNSResolver, "getaddrinfo"):
            raise RuntimeError("AsyncResolver requires aiodns 3.2 or newer: pip install --upgrade aiodns")
        self._loop = asyncio.get_running_loop() if loop is None else loop
        self._error: type[Exception] = aiodns.error.DNSError
        self._resolver: Any
        self._is_shared = not args and not kwargs
        if not self._is_shared:
            self._resolver = aiodns.DNSResolver(*args, **kwargs)
        else:
            if self._loop not in _shared:
                _shared[self._loop] = (aiodns.DNSResolver(loop=self._loop), WeakSet())
            self._resolver, users = _shared[self._loop]
            users.add(self)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Returns the addresses of ``host``; raises :exc:`OSError` if it has none."""
        if self._resolver is None:
            raise RuntimeError("The resolver is closed")
        try:
            found = await self._resolver.getaddrinfo(
                host, port=port, type=socket.SOCK_STREAM, family=family, flags=_AI_ADDRCONFIG
            )
        except self._error as error:
            message = error.args[1] if len(error.args) > 1 else "DNS lookup failed"
            raise OSError(None, message) from error
        results = []
        for node in found.nodes:
            numeric, numeric_port = node.addr[0].decode("ascii"), node.addr[1]
            if node.family == socket.AF_INET6 and len(node.addr) > 3 and node.addr[3]:
                named = await self._resolver.getnameinfo((numeric, *node.addr[1:]), _NAME_SOCKET_FLAGS)
                numeric = named.node
            results.append(_result(host, numeric, numeric_port, node.family, 0))
        if not results:
            raise OSError(None, "DNS lookup failed")
        return results

    async def close(self) -> None:
        """Cancels the lookups, unless they are a shared resolver's that is still in use."""
        resolver, self._resolver = self._resolver, None
        if resolver is None:
            return
        if self._is_shared:
            users = _shared[self._loop][1]
            users.discard(self)
            if users:
                return
            del _shared[self._loop]
        resolver.cancel()


# The resolver of each loop that its AsyncResolvers share, and those of them that are not closed.
_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[Any, WeakSet[AsyncResolver]]] = (
    WeakKeyDictionary()
)

DefaultResolver = ThreadedResolver
