"""TLS: how connections end, in order and out of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from .conftest import LoopErrors
from .support import (
    BufferedRecorder,
    Recorder,
    listener,
    reset,
    turns,
)
from .tls_support import paused_peer, tls_pair

if TYPE_CHECKING:
    from .certificates import Certificates

Loop = asyncio.AbstractEventLoop


async def test_an_orderly_end_by_the_peer(loop: Loop, certificates: Certificates) -> None:
    async with tls_pair(certificates) as pair:
        await pair.peer_sends(b"last")
        await asyncio.to_thread(lambda: pair.peer.unwrap().close())  # type: ignore[attr-defined]
        assert await pair.protocol.lost is None
        assert bytes(pair.protocol.data) == b"last"
        assert pair.protocol.events == ["made", "data", "eof", "lost"]


async def test_an_orderly_end_by_us(loop: Loop, certificates: Certificates) -> None:
    async with tls_pair(certificates) as pair:
        pair.transport.write(b"last")
        pair.transport.close()
        assert pair.transport.is_closing()
        # suppress_ragged_eofs is off: without our close_notify this raises.
        assert await pair.peer_receives_all() == b"last"
        await asyncio.to_thread(lambda: pair.peer.unwrap().close())  # type: ignore[attr-defined]
        assert await pair.protocol.lost is None


async def test_a_peer_that_closes_without_close_notify(loop: Loop, certificates: Certificates) -> None:
    """What came before is delivered, and then the loss (uvloop #639)."""
    async with tls_pair(certificates) as pair:
        await pair.peer_sends(b"last")
        pair.peer.shutdown(socket.SHUT_RDWR)
        pair.peer.close()
        await pair.protocol.lost
        assert bytes(pair.protocol.data) == b"last"
        assert pair.protocol.lost_count == 1


async def test_a_peer_that_resets(loop: Loop, certificates: Certificates) -> None:
    async with tls_pair(certificates) as pair:
        reset(pair.peer)
        assert isinstance(await pair.protocol.lost, (ConnectionResetError, type(None)))


async def test_a_peer_that_sends_garbage_after_the_handshake(loop: Loop, certificates: Certificates) -> None:
    async with tls_pair(certificates) as pair:
        with socket.socket(fileno=pair.peer.detach()) as raw:
            raw.sendall(b"this is not TLS" * 100)
            assert isinstance(await pair.protocol.lost, ssl.SSLError)
    # An error of the peer's making is the connection's, not the loop's: its handler is not called.


#: Seconds of a clock that jumps. A test that took them in real time would be seen to.
LIMIT = 7.0


@pytest.mark.jumping_clock
async def test_shutdown_is_bounded_when_the_peer_does_not_answer(
    loop: Loop, certificates: Certificates
) -> None:
    """uvloop #471, #507: half a minute, or without end."""
    async with paused_peer(certificates, ssl_shutdown_timeout=LIMIT) as (transport, protocol, _):
        began = loop.time()
        transport.close()
        await protocol.lost
        assert loop.time() - began == pytest.approx(LIMIT)
        assert protocol.lost_count == 1


@pytest.mark.jumping_clock
async def test_shutdown_is_bounded_when_the_peer_does_not_even_read(
    loop: Loop, certificates: Certificates
) -> None:
    async with paused_peer(certificates, ssl_shutdown_timeout=LIMIT) as (transport, protocol, _):
        while not protocol.paused:
            transport.write(b"x" * 1_000_000)
            await asyncio.sleep(0)
        began = loop.time()
        transport.close()
        await protocol.lost
        assert loop.time() - began == pytest.approx(LIMIT)


@pytest.mark.jumping_clock
async def test_shutdown_is_bounded_when_the_peer_keeps_sending(
    loop: Loop, certificates: Certificates
) -> None:
    """Data after our close_notify is neither delivered nor an error."""
    async with paused_peer(certificates, ssl_shutdown_timeout=LIMIT) as (transport, protocol, peer):
        peer.write(b"before")
        await protocol.received(6)

        async def keep_sending() -> None:
            while True:
                await asyncio.sleep(LIMIT / 20)
                peer.write(b"after" * 100)

        began = loop.time()
        sending = asyncio.ensure_future(keep_sending())
        transport.close()
        await protocol.lost
        # Stock asyncio takes such data for the end.
        assert loop.time() - began <= LIMIT + 1e-6
        sending.cancel()
        assert bytes(protocol.data) == b"before"
        assert protocol.events[-1] == "lost"


async def test_abort_is_immediate(loop: Loop, certificates: Certificates) -> None:
    async with tls_pair(certificates) as pair:
        while not pair.protocol.paused:
            pair.transport.write(b"x" * 1_000_000)
            await asyncio.sleep(0)
        pair.transport.abort()
        assert not pair.protocol.lost_count
        await turns(5)
        assert pair.protocol.lost_count == 1
        assert pair.protocol.lost.result() is None


async def test_abort_while_closing(loop: Loop, certificates: Certificates) -> None:
    async with tls_pair(certificates) as pair:
        pair.transport.close()
        await turns()
        pair.transport.abort()
        await turns(5)
        assert pair.protocol.lost_count == 1


async def test_closing_twice_loses_the_connection_once(loop: Loop, certificates: Certificates) -> None:
    async with tls_pair(certificates) as pair:
        pair.transport.close()
        pair.transport.close()
        await asyncio.to_thread(lambda: pair.peer.unwrap().close())  # type: ignore[attr-defined]
        await pair.protocol.lost
        pair.transport.close()
        pair.transport.abort()
        await turns(5)
        assert pair.protocol.lost_count == 1


async def test_writing_after_close_does_not_raise(loop: Loop, certificates: Certificates) -> None:
    """uvloop #506."""
    async with tls_pair(certificates) as pair:
        pair.transport.write(b"before")
        pair.transport.close()
        pair.transport.write(b"after")
        pair.transport.writelines([b"after"])
        assert await pair.peer_receives_all() == b"before"
        pair.peer.close()
        await pair.protocol.lost
        for _ in range(10):
            pair.transport.write(b"long after")


async def test_data_received_that_raises_loses_the_connection(
    loop: Loop, loop_errors: LoopErrors, certificates: Certificates
) -> None:
    error = ZeroDivisionError()

    class Fails(Recorder):
        def data_received(self, data: bytes) -> None:
            raise error

    async with tls_pair(certificates, Fails) as pair:
        await pair.peer_sends(b"x")
        assert await pair.protocol.lost is error
        assert loop_errors.take()["exception"] is error


async def test_closing_inside_data_received(loop: Loop, certificates: Certificates) -> None:
    class Closes(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.write(b"bye")
            self.transport.close()

    async with tls_pair(certificates, Closes) as pair:
        await pair.peer_sends(b"hello")
        assert await pair.peer_receives_all() == b"bye"
        await asyncio.to_thread(lambda: pair.peer.unwrap().close())  # type: ignore[attr-defined]
        await pair.protocol.lost
        assert pair.protocol.events[:2] == ["made", "data"]
        assert pair.protocol.events[-1] == "lost"


# start_tls


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
@pytest.mark.parametrize("method", ["data_received", "get_buffer", "buffer_updated"])
async def test_what_a_protocol_raises_is_reported(
    loop: Loop,
    loop_errors: LoopErrors,
    certificates: Certificates,
    method: str,
    error: type[BaseException],
) -> None:
    """A CancelledError too, which is no Exception: plain connections report it."""
    raised = error("in the protocol")

    base: Any = Recorder if method == "data_received" else BufferedRecorder

    def call(self: Any, *args: Any) -> Any:
        if self.raises:
            raise raised
        return getattr(base, method)(self, *args)

    async with tls_pair(certificates, type("Raises", (base,), {method: call, "raises": False})) as pair:
        pair.protocol.raises = True
        await pair.peer_sends(b"x")
        assert await pair.protocol.lost is raised
    assert loop_errors.take()["exception"] is raised


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
async def test_connection_made_that_raises_is_reported(
    loop: Loop, loop_errors: LoopErrors, certificates: Certificates, error: type[BaseException]
) -> None:
    raised = error("in connection_made")

    class Fails(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            raise raised

    with listener() as server:

        def serve() -> None:
            with server.accept()[0] as peer, contextlib.suppress(OSError):
                certificates.server().wrap_socket(peer, server_side=True).close()

        serving = asyncio.ensure_future(asyncio.to_thread(serve))
        with pytest.raises(error):
            await loop.create_connection(
                Fails, *server.getsockname(), ssl=certificates.client(), server_hostname="localhost"
            )
        await serving
    await turns()
    assert loop_errors.take()["exception"] is raised
