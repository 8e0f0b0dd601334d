"""Stream transports over TCP and Unix sockets: the life of a connection, as a protocol sees it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import warnings
from pathlib import Path

import pytest

from .conftest import LoopFactory
from .support import (
    Echo,
    Recorder,
    connected,
    listener,
    open_fds,
    receive_all,
    reset,
    turns,
    until,
    whorl_only,
)

Loop = asyncio.AbstractEventLoop


# What a transport is


async def test_transports_are_asyncio_transports(loop: Loop) -> None:
    async with connected() as pair:
        assert isinstance(pair.transport, asyncio.Transport)
        assert isinstance(pair.transport, asyncio.ReadTransport)
        assert isinstance(pair.transport, asyncio.WriteTransport)


async def test_extra_info(loop: Loop) -> None:
    async with connected() as pair:
        sock = pair.transport.get_extra_info("socket")
        assert isinstance(sock, asyncio.trsock.TransportSocket)
        assert sock.type == socket.SOCK_STREAM
        assert sock.family == socket.AF_INET
        assert sock.gettimeout() == 0
        assert pair.transport.get_extra_info("peername") == pair.peer.getsockname()
        assert pair.transport.get_extra_info("sockname") == pair.peer.getpeername()
        assert pair.transport.get_extra_info("nothing") is None
        assert pair.transport.get_extra_info("nothing", "default") == "default"


async def test_extra_info_is_still_there_after_close(loop: Loop) -> None:
    async with connected() as pair:
        peername = pair.transport.get_extra_info("peername")
        pair.transport.abort()
        await pair.protocol.lost
        assert pair.transport.get_extra_info("peername") == peername
        # It has not been read before.
        assert pair.transport.get_extra_info("socket").fileno() == -1


@whorl_only
async def test_tcp_nodelay_is_on_for_a_socket_of_ones_own(loop: Loop) -> None:
    """asyncio checks the protocol number, which is 0 unless it was named."""
    with listener() as server:
        sock = socket.create_connection(server.getsockname())
        transport, protocol = await loop.create_connection(Recorder, sock=sock)
        assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        transport.close()
        await protocol.lost


async def test_tcp_nodelay_is_on_at_both_ends(loop: Loop) -> None:
    served: list[Recorder] = []

    def factory() -> Recorder:
        served.append(Recorder())
        return served[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
    await until(lambda: served and served[0].transport)
    for end in (transport, served[0].transport):
        assert end.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    transport.close()
    await protocol.lost
    await served[0].lost
    server.close()
    await server.wait_closed()


async def test_repr_works_in_every_state(loop: Loop) -> None:
    async with connected() as pair:
        shown = [repr(pair.transport)]
        await pair.fill()
        shown.append(repr(pair.transport))
        pair.transport.pause_reading()
        shown.append(repr(pair.transport))
        pair.transport.abort()
        shown.append(repr(pair.transport))
        await pair.protocol.lost
        shown.append(repr(pair.transport))
    assert all(isinstance(text, str) and text for text in shown)


async def test_callbacks_come_in_order(loop: Loop) -> None:
    async with connected() as pair:
        await pair.peer_sends(b"x")
        await pair.protocol.received(1)
        pair.peer.close()
        await pair.protocol.lost
        assert pair.protocol.events == ["made", "data", "eof", "lost"]


async def test_connection_made_comes_before_create_connection_returns(loop: Loop) -> None:
    async with connected() as pair:
        assert pair.protocol.transport is pair.transport


# connection_lost


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_connection_lost_is_never_called_from_within_close_or_abort(loop: Loop, how: str) -> None:
    async with connected() as pair:
        getattr(pair.transport, how)()
        assert pair.transport.is_closing()
        assert not pair.protocol.lost_count
        assert await pair.protocol.lost is None


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_connection_lost_from_inside_data_received_comes_later(loop: Loop, how: str) -> None:
    class Closes(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            getattr(self.transport, how)()
            self.events.append("returned")

    async with connected(Closes) as pair:
        await pair.peer_sends(b"x")
        await pair.protocol.lost
        assert pair.protocol.events == ["made", "data", "returned", "lost"]


async def test_connection_lost_comes_exactly_once(loop: Loop) -> None:
    async with connected() as pair:
        pair.transport.close()
        pair.transport.close()
        pair.transport.abort()
        pair.transport.abort()
        pair.peer.close()
        await pair.protocol.lost
        pair.transport.close()
        pair.transport.abort()
        await turns()
        assert pair.protocol.lost_count == 1


async def test_connection_lost_gets_the_original_exception(loop: Loop) -> None:
    async with connected() as pair:
        reset(pair.peer)
        assert isinstance(await pair.protocol.lost, ConnectionResetError)


async def test_connection_lost_gets_none_after_end_of_file(loop: Loop) -> None:
    async with connected() as pair:
        pair.peer.close()
        assert await pair.protocol.lost is None


async def test_no_data_after_close(loop: Loop) -> None:
    """What has arrived when close() is called is not delivered any more."""
    async with connected() as pair:
        await turns()
        pair.peer.send(b"x" * 1000)
        pair.transport.close()
        await pair.protocol.lost
        assert pair.protocol.events == ["made", "lost"]


async def test_no_data_after_close_within_a_batch_of_reads(loop: Loop) -> None:
    class ClosesAfterOne(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.close()

    async with connected(ClosesAfterOne) as pair:
        with contextlib.suppress(OSError):
            await pair.peer_sends(b"x" * 3_000_000)
        await pair.protocol.lost
        assert pair.protocol.events == ["made", "data", "lost"]


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_closing_in_connection_made(loop: Loop, how: str) -> None:
    class ClosesAtOnce(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            getattr(transport, how)()

    async with connected(ClosesAtOnce) as pair:
        await pair.protocol.lost
        assert pair.protocol.events == ["made", "lost"]


async def test_closing_in_eof_received(loop: Loop) -> None:
    class ClosesOnEof(Recorder):
        def eof_received(self) -> bool:
            super().eof_received()
            self.transport.close()
            return True

    async with connected(ClosesOnEof) as pair:
        pair.peer.shutdown(socket.SHUT_WR)
        assert await pair.protocol.lost is None
        assert pair.protocol.events == ["made", "eof", "lost"]


async def test_close_flushes_what_is_buffered(loop: Loop) -> None:
    async with connected() as pair:
        written = await pair.fill()
        pair.transport.close()
        assert pair.transport.get_write_buffer_size() > 0
        await turns()
        assert not pair.protocol.lost_count
        assert len(await pair.peer_receives_all()) == written
        assert await pair.protocol.lost is None


async def test_abort_drops_what_is_buffered(loop: Loop) -> None:
    async with connected() as pair:
        written = await pair.fill()
        pair.transport.abort()
        assert await pair.protocol.lost is None
        assert pair.transport.get_write_buffer_size() == 0
        assert len(await pair.peer_receives_all()) < written


def test_a_transport_dropped_with_its_loop_warns_and_closes_its_socket(loop_factory: LoopFactory) -> None:
    before = set(open_fds().items())
    with listener() as server:
        loop = loop_factory()
        transport, protocol = loop.run_until_complete(
            loop.create_connection(asyncio.Protocol, *server.getsockname())
        )
        peer, _ = server.accept()
        loop.close()
        # A list of its own: the socket inside may say, too, that no one closed it.
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del transport, protocol
            gc.collect()
        assert any("unclosed transport" in str(warning.message) for warning in caught)
        peer.close()
    del loop
    gc.collect()
    assert not set(open_fds().items()) - before


# Descriptors


async def test_no_answer_reaches_the_wrong_connection_when_descriptors_are_reused(loop: Loop) -> None:
    """uvloop #645: connections close with writes outstanding, and new ones get their numbers at once."""
    for number in range(1, 60):
        async with connected() as old:
            await old.fill()
            descriptor = old.transport.get_extra_info("socket").fileno()
            old.transport.abort()
            await old.protocol.lost
            # The number is free: another connection takes it while the old transport is still referred to.
            async with connected() as new:
                reused = new.transport.get_extra_info("socket").fileno() == descriptor
                new.transport.write(b"%d" % number)
                old.transport.write(b"wrong")
                old.transport.close()
                old.transport.abort()
                new.transport.close()
                assert await new.peer_receives_all() == b"%d" % number
                assert await new.protocol.lost is None
    assert reused


async def test_a_socket_given_to_create_connection_belongs_to_the_transport(loop: Loop) -> None:
    """Neither collecting nor forgetting the original socket closes the connection, and its end is closed
    once."""
    with listener() as server:
        sock = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
        peer.settimeout(10)
        sock.setblocking(False)
        transport, protocol = await loop.create_connection(Recorder, sock=sock)
        del sock
        gc.collect()
        transport.write(b"alive")
        with peer:
            assert await asyncio.to_thread(peer.recv, 5) == b"alive"
            transport.close()
            await protocol.lost
            assert await asyncio.to_thread(receive_all, peer) == b""


async def test_a_socket_given_to_create_connection_does_not_close_what_took_its_number(loop: Loop) -> None:
    with listener() as server:
        sock = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
        number = sock.fileno()
        transport, protocol = await loop.create_connection(Recorder, sock=sock)
        assert transport.get_extra_info("socket").fileno() == number
        transport.close()
        await protocol.lost
        await turns()
        assert sock.fileno() == -1
        with socket.socket() as other:
            assert other.fileno() == number
            sock.close()
            del sock
            other.getsockname()
        peer.close()


# Unix sockets


async def test_unix_connections(loop: Loop, tmp_path: Path) -> None:
    for path in (str(tmp_path / "a"), tmp_path / "b", f"\0whorl-test-{tmp_path.name}"):
        server = await loop.create_unix_server(Echo, path)
        transport, protocol = await loop.create_unix_connection(Recorder, str(path))
        transport.write(b"hello")
        assert await protocol.received(5) == b"hello"
        sock = transport.get_extra_info("socket")
        assert sock.family == socket.AF_UNIX
        assert isinstance(transport, asyncio.Transport)
        transport.close()
        await protocol.lost
        server.close()
        await server.wait_closed()


async def test_unix_connections_of_adopted_sockets(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    transport, protocol = await loop.create_unix_connection(Recorder, sock=ours)
    transport.write(b"x")
    assert await asyncio.to_thread(theirs.recv, 1) == b"x"
    theirs.close()
    assert await protocol.lost is None


async def test_unix_connection_failures(loop: Loop, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await loop.create_unix_connection(Recorder, str(tmp_path / "nothing"))
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "bound"))
        with pytest.raises(ConnectionRefusedError):
            await loop.create_unix_connection(Recorder, str(tmp_path / "bound"))
    with pytest.raises(ValueError, match="path"):
        await loop.create_unix_connection(Recorder)
    with socket.socket() as inet, pytest.raises(ValueError, match="."):
        await loop.create_unix_connection(Recorder, sock=inet)
