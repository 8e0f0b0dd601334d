"""dnspython's asyncio resolver against a name server here: UDP, truncated answers, TCP, TLS, silence."""

# ruff: noqa: E402 - the package is looked for before it is imported

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from tests.programs.support import Harness, Tls, require_package

require_package("dns")

import dns.asyncquery
import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset


def answer(wire: bytes, *, udp: bool) -> bytes | None:
    """The answer to a query, or None for silence. ``big.`` does not fit a datagram and comes truncated."""
    query = dns.message.from_wire(wire)
    name = query.question[0].name.to_text()
    if name.startswith("silent."):
        return None
    response = dns.message.make_response(query)
    if name.startswith("absent."):
        response.set_rcode(dns.rcode.NXDOMAIN)
    elif name.startswith("big.") and udp:
        response.flags |= dns.flags.TC
    else:
        count = 300 if name.startswith("big.") else 1
        addresses = [f"10.0.{number // 256}.{number % 256}" for number in range(count)]
        response.answer.append(dns.rrset.from_text(name, 60, "IN", "A", *addresses))
    return response.to_wire()


class Datagrams(asyncio.DatagramProtocol):
    """The name server by UDP."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if (wire := answer(data, udp=True)) is not None:
            self.transport.sendto(wire, addr)


async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The name server by TCP: each message after its length."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            wire = answer(
                await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big")), udp=False
            )
            if wire is not None:
                writer.write(len(wire).to_bytes(2, "big") + wire)
                await writer.drain()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def on_one_port() -> tuple[asyncio.DatagramTransport, asyncio.Server, int]:
    """The name server by UDP and TCP on one port: the next one if a connection of others has it by TCP."""
    loop = asyncio.get_running_loop()
    for _ in range(50):
        transport, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
        port = transport.get_extra_info("sockname")[1]
        try:
            return transport, await asyncio.start_server(converse, "127.0.0.1", port), port
        except OSError as error:
            transport.close()
            if error.errno != errno.EADDRINUSE:
                raise
    pytest.fail("no port that is free by UDP and TCP in 50 tries")


@asynccontextmanager
async def name_server(tls: Tls) -> AsyncIterator[tuple[int, int]]:
    """A name server by UDP and TCP on one port, and by TLS on another; yields both ports."""
    transport, tcp, port = await on_one_port()
    encrypted = await asyncio.start_server(converse, "127.0.0.1", 0, ssl=tls.server)
    try:
        yield port, encrypted.sockets[0].getsockname()[1]
    finally:
        transport.close()
        for server in (tcp, encrypted):
            server.close()
            await server.wait_closed()
        await asyncio.sleep(0.01)


def test_resolver(run: Harness, tls: Tls) -> None:
    async def main() -> None:
        async with name_server(tls) as (port, _):
            resolver = dns.asyncresolver.Resolver(configure=False)
            resolver.nameservers, resolver.port = ["127.0.0.1"], port
            answers = await asyncio.gather(*(resolver.resolve(f"host{n}.test.", "A") for n in range(100)))
            assert all(str(found[0]) == "10.0.0.0" for found in answers)
            assert len(await resolver.resolve("big.test.", "A")) == 300  # sent again by TCP
            with pytest.raises(dns.resolver.NXDOMAIN):
                await resolver.resolve("absent.test.", "A")
            with pytest.raises(dns.resolver.LifetimeTimeout):
                await resolver.resolve("silent.test.", "A", lifetime=0.2)

    run(main())


def test_queries_by_each_transport(run: Harness, tls: Tls) -> None:
    async def main() -> None:
        async with name_server(tls) as (port, tls_port):
            query = dns.message.make_query("host.test.", "A")
            big = dns.message.make_query("big.test.", "A")
            by_udp = await dns.asyncquery.udp(query, "127.0.0.1", port=port, timeout=20)
            by_tcp = await dns.asyncquery.tcp(big, "127.0.0.1", port=port, timeout=20)
            by_tls = await dns.asyncquery.tls(
                big,
                "127.0.0.1",
                port=tls_port,
                timeout=20,
                ssl_context=tls.client,
                server_hostname="localhost",
            )
            assert [len(found.answer[0]) for found in (by_udp, by_tcp, by_tls)] == [1, 300, 300]
            silent = dns.message.make_query("silent.test.", "A")
            for way in (dns.asyncquery.udp, dns.asyncquery.tcp):
                with pytest.raises(dns.exception.Timeout):
                    await way(silent, "127.0.0.1", port=port, timeout=0.1)

    run(main())


def test_port_without_a_server(run: Harness) -> None:
    """The ICMP refusal reaches the protocol as an error; the loop continues."""

    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
            bound.bind(("127.0.0.1", 0))
            port = bound.getsockname()[1]
        query = dns.message.make_query("host.test.", "A")
        with pytest.raises((ConnectionRefusedError, dns.exception.Timeout)):
            await dns.asyncquery.udp(query, "127.0.0.1", port=port, timeout=0.5)
        with pytest.raises(ConnectionRefusedError):
            await dns.asyncquery.tcp(query, "127.0.0.1", port=port, timeout=20)

    run(main())
