"""TLS servers, clients and pairs of connections for the tests, over the loop under test."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sysconfig
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from .support import (
    PATIENCE,
    Echo,
    Pair,
    Recorder,
    gone,
    listener,
    turns,
    until,
)

if TYPE_CHECKING:
    from .certificates import Certificates

Loop = asyncio.AbstractEventLoop

#: The engines that there are: on free-threaded builds the one that calls the ssl module, for its locks.
ENGINES = ["object"] if sysconfig.get_config_var("Py_GIL_DISABLED") else ["native", "object"]


@contextlib.asynccontextmanager
async def tls_server(
    certificates: Certificates,
    factory: Callable[[], Any] = Echo,
    context: ssl.SSLContext | None = None,
    **options: Any,
) -> AsyncIterator[tuple[asyncio.Server, list[Any]]]:
    """A server of the loop under test, and the protocols it has made; their connections are ended on the
    way out."""
    loop = asyncio.get_running_loop()
    protocols: list[Any] = []

    def make() -> Any:
        protocols.append(factory())
        return protocols[-1]

    server = await loop.create_server(make, "127.0.0.1", 0, ssl=context or certificates.server(), **options)
    try:
        yield server, protocols
    finally:
        server.close()
        for protocol in protocols:
            if protocol.transport is not None:
                protocol.transport.abort()
                await gone(protocol)
        await asyncio.wait_for(server.wait_closed(), PATIENCE)
        await turns()


@contextlib.asynccontextmanager
async def tls_client(
    address: Any, certificates: Certificates, factory: Callable[[], Any] = Recorder, **options: Any
) -> AsyncIterator[tuple[Any, Any]]:
    """A connection of the loop under test to a TLS server."""
    loop = asyncio.get_running_loop()
    options.setdefault("ssl", certificates.client())
    options.setdefault("server_hostname", "localhost")
    transport, protocol = await loop.create_connection(factory, *address, **options)
    try:
        yield transport, protocol
    finally:
        if not protocol.lost.done():
            transport.abort()
            await gone(protocol)
        await turns()


@contextlib.asynccontextmanager
async def tls_pair(
    certificates: Certificates, factory: Callable[[], Any] = Recorder, **options: Any
) -> AsyncIterator[Pair]:
    """Our client against a blocking ``ssl`` socket in another thread."""
    loop = asyncio.get_running_loop()
    with listener() as server:

        def accept() -> ssl.SSLSocket:
            raw, _ = server.accept()
            raw.settimeout(PATIENCE)
            return certificates.server().wrap_socket(raw, server_side=True, suppress_ragged_eofs=False)

        accepting = asyncio.ensure_future(asyncio.to_thread(accept))
        transport, protocol = await loop.create_connection(
            factory, *server.getsockname(), ssl=certificates.client(), server_hostname="localhost", **options
        )
        peer = await accepting
    try:
        yield Pair(transport, protocol, peer)
    finally:
        peer.close()
        if not protocol.lost.done():
            transport.abort()
            await gone(protocol)
        await turns()


class Paused(Recorder):
    """Reads nothing but the handshake."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.pause_reading()


@contextlib.asynccontextmanager
async def paused_peer(certificates: Certificates, **options: Any) -> AsyncIterator[tuple[Any, Any, Any]]:
    """A connection of the loop under test, its protocol, and the transport of a peer that has paused reading.

    The peer is of the same loop, for tests on a clock that jumps: what is tested is a limit of time.
    """
    async with (
        tls_server(certificates, Paused) as (server, protocols),
        tls_client(address_of(server), certificates, **options) as (transport, protocol),
    ):
        await until(lambda: protocols and protocols[0].transport, "the end of the peer's handshake")
        yield transport, protocol, protocols[0].transport


def address_of(server: asyncio.Server) -> Any:
    return server.sockets[0].getsockname()
