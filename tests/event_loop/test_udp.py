"""Datagrams: errors are reported and never fatal, buffers are snapshotted, flow control works."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import LoopErrors
from .support import DatagramRecorder, control_xfail, turns, until

Loop = asyncio.AbstractEventLoop


@contextlib.asynccontextmanager
async def endpoint(
    factory: Callable[[], Any] = DatagramRecorder, **options: Any
) -> AsyncIterator[tuple[Any, Any]]:
    if not options:
        options = {"local_addr": ("127.0.0.1", 0)}
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(factory, **options)
    try:
        yield transport, protocol
    finally:
        if not protocol.lost.done():
            transport.abort()
            await protocol.lost
        await turns()


async def test_datagrams_go_both_ways(loop: Loop) -> None:
    async with endpoint() as (one, first), endpoint() as (two, second):
        one.sendto(b"hello", two.get_extra_info("sockname"))
        await until(lambda: second.datagrams)
        assert second.datagrams == [(b"hello", one.get_extra_info("sockname"))]
        two.sendto(b"answer", second.datagrams[0][1])
        await until(lambda: first.datagrams)
        assert first.datagrams == [(b"answer", two.get_extra_info("sockname"))]
        assert isinstance(one.get_extra_info("socket"), asyncio.trsock.TransportSocket)
        assert one.get_extra_info("peername") is None


async def test_connected_endpoints(loop: Loop) -> None:
    async with endpoint() as (server, served):
        address = server.get_extra_info("sockname")
        async with endpoint(remote_addr=address) as (client, _protocol):
            assert client.get_extra_info("peername") == address
            client.sendto(b"without an address")
            client.sendto(b"with it", address)
            with pytest.raises(ValueError, match="."):
                client.sendto(b"x", ("127.0.0.1", 1))
            await until(lambda: len(served.datagrams) == 2)
            assert [data for data, _ in served.datagrams] == [b"without an address", b"with it"]


@control_xfail("asyncio's transport is one in name only before Python 3.12", below=(3, 12), strict=False)
async def test_transports_are_asyncio_transports(loop: Loop) -> None:
    async with endpoint() as (transport, _):
        assert isinstance(transport, asyncio.DatagramTransport)


@control_xfail("empty datagrams are sent from Python 3.13 on", strict=False)
async def test_empty_datagrams(loop: Loop) -> None:
    async with endpoint() as (server, served), endpoint() as (client, _):
        client.sendto(b"", server.get_extra_info("sockname"))
        client.sendto(b"end", server.get_extra_info("sockname"))
        await until(lambda: any(data == b"end" for data, _ in served.datagrams))
        assert [data for data, _ in served.datagrams] == [b"", b"end"]


@pytest.mark.parametrize("size", [1, 1500, 9000, 65507])
async def test_datagrams_of_every_size(loop: Loop, size: int) -> None:
    data = bytes(range(256)) * 256
    async with endpoint() as (server, served), endpoint() as (client, _):
        client.sendto(data[:size], server.get_extra_info("sockname"))
        await until(lambda: served.datagrams)
        assert served.datagrams[0][0] == data[:size]


async def test_a_burst_arrives_in_order(loop: Loop) -> None:
    async with endpoint() as (server, served), endpoint() as (client, _):
        for number in range(100):
            client.sendto(b"%d" % number, server.get_extra_info("sockname"))
        await until(lambda: len(served.datagrams) == 100)
        assert [int(data) for data, _ in served.datagrams] == list(range(100))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_every_kind_of_buffer(loop: Loop, kind: Any) -> None:
    async with endpoint() as (server, served), endpoint() as (client, _):
        client.sendto(kind(b"data"), server.get_extra_info("sockname"))
        await until(lambda: served.datagrams)
        assert served.datagrams[0][0] == b"data"


@pytest.mark.parametrize("bad", ["text", None, 1])
async def test_what_is_not_bytes_is_refused(loop: Loop, bad: Any) -> None:
    async with endpoint() as (server, served), endpoint() as (client, _):
        with pytest.raises(TypeError):
            client.sendto(bad, server.get_extra_info("sockname"))
        client.sendto(b"fine", server.get_extra_info("sockname"))
        await until(lambda: served.datagrams)


# Errors


async def test_a_refused_datagram_is_reported_and_not_fatal(loop: Loop) -> None:
    """uvloop #601."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        address = taken.getsockname()
    async with endpoint(remote_addr=address) as (client, protocol):
        client.sendto(b"no peer is there")
        await until(lambda: protocol.errors)
        assert isinstance(protocol.errors[0], ConnectionRefusedError)
        assert not client.is_closing()
        # And now there is a peer.
        async with endpoint(local_addr=address) as (_, served):
            client.sendto(b"one")
            client.sendto(b"two")
            await until(lambda: any(data == b"two" for data, _ in served.datagrams))


async def test_a_datagram_that_is_too_long_is_reported_and_not_fatal(loop: Loop) -> None:
    async with endpoint() as (server, served), endpoint() as (client, protocol):
        client.sendto(b"x" * 70_000, server.get_extra_info("sockname"))
        await until(lambda: protocol.errors)
        assert protocol.errors[0].errno == errno.EMSGSIZE
        client.sendto(b"short", server.get_extra_info("sockname"))
        await until(lambda: served.datagrams)


async def test_a_forbidden_address_is_reported_and_not_fatal(loop: Loop) -> None:
    """Broadcast without permission: the error of one datagram (uvloop #601)."""
    async with endpoint() as (server, served), endpoint() as (client, protocol):
        client.sendto(b"x", ("255.255.255.255", 9))
        await until(lambda: protocol.errors)
        assert isinstance(protocol.errors[0], OSError)
        client.sendto(b"fine", server.get_extra_info("sockname"))
        await until(lambda: served.datagrams)


async def test_allow_broadcast(loop: Loop) -> None:
    async with endpoint(local_addr=("127.0.0.1", 0), allow_broadcast=True) as (transport, _):
        assert transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)


@control_xfail("asyncio makes it fatal, and then fails on what it has forgotten", strict=False)
async def test_an_address_of_the_wrong_form_does_not_break_the_loop(
    loop: Loop, loop_errors: LoopErrors
) -> None:
    async with endpoint() as (client, _protocol):
        for bad in (("127.0.0.1",), "127.0.0.1", 1, ("127.0.0.1", -1)):
            with contextlib.suppress(TypeError, ValueError, OverflowError, OSError):
                client.sendto(b"x", bad)
            await turns()
    # Raised at once or reported: asyncio makes it fatal for the transport.
    loop_errors.clear()
    assert await asyncio.sleep(0, "alive") == "alive"


async def test_datagram_received_that_raises_is_reported_and_not_fatal(
    loop: Loop, loop_errors: LoopErrors
) -> None:
    class Fails(DatagramRecorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            if data == b"bad":
                raise ZeroDivisionError
            super().datagram_received(data, addr)

    async with endpoint(Fails) as (server, served), endpoint() as (client, _):
        client.sendto(b"bad", server.get_extra_info("sockname"))
        client.sendto(b"good", server.get_extra_info("sockname"))
        await until(lambda: served.datagrams)
        assert served.datagrams[0][0] == b"good"
        assert isinstance(loop_errors.take()["exception"], ZeroDivisionError)


# Closing


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_connection_lost_comes_later_and_once(loop: Loop, how: str) -> None:
    async with endpoint() as (transport, protocol):
        getattr(transport, how)()
        getattr(transport, how)()
        assert transport.is_closing()
        assert not protocol.lost.done()
        assert await protocol.lost is None
        transport.close()
        transport.abort()
        await turns(5)
        assert protocol.events == ["made", "lost"]


async def test_no_datagram_after_close(loop: Loop) -> None:
    async with endpoint() as (transport, protocol):
        address = transport.get_extra_info("sockname")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(10):
                sock.sendto(b"x", address)
        transport.close()
        await protocol.lost
        assert protocol.events == ["made", "lost"]


async def test_sending_after_close_is_dropped(loop: Loop) -> None:
    async with endpoint() as (server, served), endpoint() as (client, protocol):
        client.close()
        await protocol.lost
        with contextlib.suppress(RuntimeError, OSError, AttributeError, TypeError):
            client.sendto(b"x", server.get_extra_info("sockname"))
        await turns(5)
        assert served.datagrams == []


async def test_closing_inside_datagram_received(loop: Loop) -> None:
    class Closes(DatagramRecorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.transport.close()

    async with endpoint(Closes) as (server, served):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(10):
                sock.sendto(b"x", server.get_extra_info("sockname"))
        await served.lost
        assert served.events == ["made", "data", "lost"]


# Flow control, over Unix sockets, whose receivers push back


@contextlib.asynccontextmanager
async def blocked(tmp_path: Path) -> AsyncIterator[tuple[Any, Any, socket.socket, int]]:
    """A transport to a receiver that does not read, filled until it buffers; and how many the kernel has
    taken."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "receiver"))
        receiver.settimeout(10)
        ours = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.connect(str(tmp_path / "receiver"))
        transport, protocol = await loop.create_datagram_endpoint(DatagramRecorder, sock=ours)
        sent = 0
        while not transport.get_write_buffer_size():
            transport.sendto(b"f" * 1000)
            sent += 1
        try:
            yield transport, protocol, receiver, sent
        finally:
            if not protocol.lost.done():
                transport.abort()
                await protocol.lost
            await turns()


async def test_what_cannot_be_sent_at_once_is_snapshotted_and_sent_later(loop: Loop, tmp_path: Path) -> None:
    async with blocked(tmp_path) as (transport, _protocol, receiver, sent):
        data = bytearray(b"original")
        transport.sendto(data)
        data[:] = b"mutated!"
        received = await asyncio.to_thread(lambda: [receiver.recv(2000) for _ in range(sent + 1)])
        assert received == [b"f" * 1000] * sent + [b"original"]


async def test_water_marks(loop: Loop, tmp_path: Path) -> None:
    async with blocked(tmp_path) as (transport, protocol, receiver, sent):
        for _ in range(100):
            transport.sendto(b"x" * 1000)
        assert protocol.events == ["made", "pause"]
        await asyncio.to_thread(lambda: [receiver.recv(2000) for _ in range(sent + 100)])
        await until(lambda: "resume" in protocol.events)
        assert protocol.events == ["made", "pause", "resume"]


async def test_close_flushes(loop: Loop, tmp_path: Path) -> None:
    async with blocked(tmp_path) as (transport, protocol, receiver, sent):
        transport.sendto(b"last")
        transport.close()
        received = await asyncio.to_thread(lambda: [receiver.recv(2000) for _ in range(sent + 1)])
        assert received[-1] == b"last"
        assert await protocol.lost is None


async def test_abort_drops(loop: Loop, tmp_path: Path) -> None:
    async with blocked(tmp_path) as (transport, protocol, receiver, sent):
        transport.sendto(b"last")
        transport.abort()
        assert await protocol.lost is None
        received = [receiver.recv(2000) for _ in range(sent - 1)]
        receiver.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            received.append(receiver.recv(2000))
        assert b"last" not in received


# Making endpoints


async def test_reuse_port(loop: Loop) -> None:
    async with endpoint(local_addr=("127.0.0.1", 0), reuse_port=True) as (one, _):
        async with endpoint(local_addr=one.get_extra_info("sockname"), reuse_port=True):
            pass


async def test_an_adopted_socket_and_a_unix_path(loop: Loop, tmp_path: Path) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    async with endpoint(sock=sock) as (transport, _):
        assert transport.get_extra_info("sockname")[0] == "127.0.0.1"
    path = str(tmp_path / "socket")
    async with endpoint(local_addr=path, family=socket.AF_UNIX) as (_, served):
        async with endpoint(remote_addr=path, family=socket.AF_UNIX) as (client, _):
            client.sendto(b"hello")
            await until(lambda: served.datagrams)
            assert served.datagrams[0][0] == b"hello"


async def test_endpoints_that_cannot_be_made(loop: Loop) -> None:
    with pytest.raises(ValueError, match="."):
        await loop.create_datagram_endpoint(DatagramRecorder)
    with socket.socket() as stream, pytest.raises(ValueError, match="."):
        await loop.create_datagram_endpoint(DatagramRecorder, sock=stream)
    with pytest.raises(OSError, match="."):
        await loop.create_datagram_endpoint(DatagramRecorder, local_addr=("192.0.2.1", 0))
    with pytest.raises(TypeError):
        await loop.create_datagram_endpoint(DatagramRecorder, local_addr="text")  # type: ignore[arg-type]
    await turns()


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
async def test_ipv6_addresses_have_four_parts(loop: Loop) -> None:
    try:
        transport, served = await loop.create_datagram_endpoint(DatagramRecorder, local_addr=("::1", 0))
    except OSError as error:
        pytest.skip(f"no IPv6 on loopback: {error}")
    async with endpoint(remote_addr=transport.get_extra_info("sockname")[:2]) as (client, _):
        client.sendto(b"six")
        await until(lambda: served.datagrams)
        assert len(served.datagrams[0][1]) == 4
    transport.close()
    await served.lost
