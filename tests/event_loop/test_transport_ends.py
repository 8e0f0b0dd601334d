"""Stream transports: half-closed connections, peers that misbehave, and protocols that raise."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile

import pytest

from .conftest import LoopErrors
from .support import (
    Recorder,
    connected,
    reset,
    turns,
)

Loop = asyncio.AbstractEventLoop


# Half-closed connections


@pytest.mark.parametrize("returned", [None, False])
async def test_eof_received_that_returns_false_closes(loop: Loop, returned: bool | None) -> None:
    async with connected() as pair:
        pair.protocol.keep_open_on_eof = returned
        pair.peer.shutdown(socket.SHUT_WR)
        assert await pair.protocol.lost is None
        assert pair.protocol.events == ["made", "eof", "lost"]


async def test_eof_received_that_returns_true_keeps_the_write_half_open(loop: Loop) -> None:
    async with connected() as pair:
        pair.protocol.keep_open_on_eof = True
        pair.peer.shutdown(socket.SHUT_WR)
        await pair.protocol.eof
        await turns()
        assert not pair.transport.is_closing()
        assert pair.protocol.events == ["made", "eof"]
        pair.transport.write(b"still writing")
        assert await pair.peer_receives(13) == b"still writing"
        pair.transport.close()
        await pair.protocol.lost


async def test_write_eof_closes_our_half_alone(loop: Loop) -> None:
    async with connected() as pair:
        pair.transport.write(b"question")
        pair.transport.write_eof()
        assert await pair.peer_receives_all() == b"question"
        await pair.peer_sends(b"answer")
        assert await pair.protocol.received(6) == b"answer"
        assert not pair.transport.is_closing()


async def test_write_eof_waits_for_what_is_buffered(loop: Loop) -> None:
    async with connected() as pair:
        written = await pair.fill()
        pair.transport.write_eof()
        assert len(await pair.peer_receives_all()) == written
        await pair.peer_sends(b"answer")
        await pair.protocol.received(6)


async def test_write_eof_after_close_does_no_harm(loop: Loop) -> None:
    async with connected() as pair:
        pair.transport.close()
        pair.transport.write_eof()
        await pair.protocol.lost
        pair.transport.write_eof()


async def test_end_of_file_while_much_is_buffered(loop: Loop) -> None:
    """The peer ends its half: what we had buffered is still sent before the connection is lost."""
    async with connected() as pair:
        written = await pair.fill()
        pair.peer.shutdown(socket.SHUT_WR)
        await pair.protocol.eof
        assert len(await pair.peer_receives_all()) == written
        assert await pair.protocol.lost is None


# Peers that misbehave


async def test_a_peer_that_resets_in_the_middle_of_a_write(loop: Loop) -> None:
    async with connected() as pair:
        await pair.fill()
        reset(pair.peer)
        error = await pair.protocol.lost
        assert isinstance(error, (ConnectionResetError, BrokenPipeError))
        assert pair.transport.get_write_buffer_size() == 0
        pair.transport.write(b"dropped")


async def test_a_peer_that_resets_while_reading_is_paused(loop: Loop) -> None:
    async with connected() as pair:
        await turns()
        pair.transport.pause_reading()
        reset(pair.peer)
        await turns()
        # One of these notices at the latest.
        pair.transport.write(b"x" * 100_000)
        pair.transport.resume_reading()
        assert isinstance(await pair.protocol.lost, OSError)


async def test_writing_to_a_peer_that_is_gone(loop: Loop) -> None:
    """The error of a write made in a callback is delivered later, never raised by ``write``."""
    async with connected() as pair:
        await turns()
        pair.transport.pause_reading()
        reset(pair.peer)
        for _ in range(20):
            pair.transport.write(b"x" * 1000)
            await asyncio.sleep(0)
        assert isinstance(await pair.protocol.lost, OSError)


async def test_a_peer_that_stalls(loop: Loop) -> None:
    async with connected() as pair:
        await pair.fill()
        assert pair.protocol.paused
        pair.transport.close()
        await turns()
        # Closing waits for the peer, as it must; aborting does not.
        assert not pair.protocol.lost_count
        pair.transport.abort()
        assert await pair.protocol.lost is None


async def test_what_was_written_before_an_abort(loop: Loop) -> None:
    """The socket has it when ``abort()`` comes, as in asyncio, where ``write`` hands it over at once."""
    async with connected() as pair:
        await turns()
        pair.transport.write(b"answer")
        pair.transport.abort()
        assert await pair.protocol.lost is None
        assert await asyncio.to_thread(pair.peer.recv, 100) == b"answer"


async def test_half_closed_peers_that_reset_later(loop: Loop) -> None:
    async with connected() as pair:
        pair.protocol.keep_open_on_eof = True
        pair.peer.shutdown(socket.SHUT_WR)
        await pair.protocol.eof
        reset(pair.peer)
        for _ in range(20):
            pair.transport.write(b"x" * 1000)
            await asyncio.sleep(0.001)
        assert isinstance(await pair.protocol.lost, OSError)


# Protocols that raise


async def test_data_received_that_raises_loses_the_connection_with_that_exception(
    loop: Loop, loop_errors: LoopErrors
) -> None:
    error = ZeroDivisionError("in data_received")

    class Fails(Recorder):
        def data_received(self, data: bytes) -> None:
            raise error

    async with connected(Fails) as pair:
        await pair.peer_sends(b"x")
        assert await pair.protocol.lost is error
        context = loop_errors.take()
        assert context["exception"] is error
        assert context["transport"] is pair.transport
        assert context["protocol"] is pair.protocol
        assert await pair.peer_receives_all() == b""


async def test_eof_received_that_raises_loses_the_connection_with_that_exception(
    loop: Loop, loop_errors: LoopErrors
) -> None:
    error = ZeroDivisionError("in eof_received")

    class Fails(Recorder):
        def eof_received(self) -> bool:
            raise error

    async with connected(Fails) as pair:
        pair.peer.shutdown(socket.SHUT_WR)
        assert await pair.protocol.lost is error
        assert loop_errors.take()["exception"] is error


class PutsAFile(asyncio.DatagramProtocol):
    """Has a regular file in its socket's place when the loop comes to watch it."""

    def __init__(self) -> None:
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        with tempfile.TemporaryFile() as file:
            os.dup2(file.fileno(), transport.get_extra_info("socket").fileno())

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


@pytest.mark.skipif(sys.platform != "linux", reason="kqueue watches regular files")
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
async def test_a_socket_that_the_poller_refuses_is_reported(
    loop: Loop, loop_errors: LoopErrors, kind: socket.SocketKind
) -> None:
    own, peer = socket.socketpair(socket.AF_UNIX, kind)
    with peer:
        own.setblocking(False)
        connect = loop.create_connection if kind == socket.SOCK_STREAM else loop.create_datagram_endpoint
        transport, protocol = await connect(PutsAFile, sock=own)
        assert isinstance(loop_errors.take()["exception"], PermissionError)
        # asyncio's transport stays, and is never read.
        transport.abort()
        await protocol.lost


async def test_connection_made_that_raises_is_reported(loop: Loop, loop_errors: LoopErrors) -> None:
    class Fails(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            raise ZeroDivisionError

    async with connected(Fails):
        assert isinstance(loop_errors.take()["exception"], ZeroDivisionError)


async def test_connection_lost_that_raises_is_reported_and_the_socket_closed(
    loop: Loop, loop_errors: LoopErrors
) -> None:
    class Fails(Recorder):
        def connection_lost(self, exc: BaseException | None) -> None:
            super().connection_lost(exc)
            raise ZeroDivisionError

    async with connected(Fails) as pair:
        pair.transport.close()
        await pair.protocol.lost
        await turns()
        assert isinstance(loop_errors.take()["exception"], ZeroDivisionError)
        assert await pair.peer_receives_all() == b""


async def test_a_protocol_without_the_method_that_is_needed_is_reported(
    loop: Loop, loop_errors: LoopErrors
) -> None:
    class NoProtocol:
        def connection_made(self, transport: asyncio.Transport) -> None:
            self.transport = transport

        def connection_lost(self, exc: BaseException | None) -> None:
            lost.set_result(exc)

    lost: asyncio.Future[BaseException | None] = loop.create_future()
    async with connected(NoProtocol) as pair:
        await pair.peer_sends(b"x")
        assert isinstance(await lost, AttributeError)
        assert isinstance(loop_errors.take()["exception"], AttributeError)
