"""Datagrams: errors in the middle of a callback, and what comes before what."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from .conftest import LoopFactory

Loop = asyncio.AbstractEventLoop


class TooMuch(asyncio.DatagramProtocol):
    """Replies with more than a datagram can hold, so that the error comes while it is being called."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.error: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(bytes(70_000), addr)

    def error_received(self, exc: Exception) -> None:
        self.error.set_result(exc)


async def test_an_error_while_replying_reaches_the_protocol(loop: Loop) -> None:
    transport, protocol = await loop.create_datagram_endpoint(TooMuch, local_addr=("127.0.0.1", 0))
    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.sendto(b"ask", transport.get_extra_info("sockname"))
        assert isinstance(await protocol.error, OSError)
    transport.close()


def test_what_was_scheduled_before_the_run_comes_before_what_arrived_before_it(
    loop_factory: LoopFactory,
) -> None:
    """A program that is run step by step gets ready for a datagram before it receives it."""
    loop = loop_factory()
    order: list[str] = []

    class Receiver(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            order.append("datagram")

    async def get_ready() -> None:
        order.append("ready")
        async with asyncio.timeout(10):
            while "datagram" not in order:
                await asyncio.sleep(0)

    async def close() -> None:
        transport.close()
        await asyncio.sleep(0)

    endpoint = loop.create_datagram_endpoint(Receiver, local_addr=("127.0.0.1", 0))
    transport, _ = loop.run_until_complete(endpoint)
    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.sendto(b"x", transport.get_extra_info("sockname"))
        loop.run_until_complete(get_ready())
    assert order == ["ready", "datagram"]
    loop.run_until_complete(close())
    loop.close()
