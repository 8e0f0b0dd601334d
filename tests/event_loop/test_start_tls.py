"""``start_tls``: a connection that is upgraded, TLS within TLS, and what had arrived before."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from .support import (
    PATIENCE,
    Echo,
    Recorder,
    connected,
    control_xfail,
    turns,
    until,
    whorl_only,
)
from .tls_support import address_of, tls_server

if TYPE_CHECKING:
    from .certificates import Certificates

Loop = asyncio.AbstractEventLoop


async def test_start_tls_on_the_client(loop: Loop, certificates: Certificates) -> None:
    async with connected() as pair:
        pair.transport.write(b"STARTTLS\n")
        assert await pair.peer_receives(9) == b"STARTTLS\n"
        await pair.peer_sends(b"OK\n")
        await pair.protocol.received(3)

        def upgrade() -> ssl.SSLSocket:
            return certificates.server().wrap_socket(pair.peer, server_side=True)

        upgrading = asyncio.ensure_future(asyncio.to_thread(upgrade))
        protocol = Recorder()
        transport = await loop.start_tls(
            pair.transport, protocol, certificates.client(), server_hostname="localhost"
        )
        assert transport is not None
        with await upgrading as peer:
            assert isinstance(transport.get_extra_info("ssl_object"), ssl.SSLObject)
            transport.write(b"secret")
            assert await asyncio.to_thread(peer.recv, 6) == b"secret"
            await asyncio.to_thread(peer.sendall, b"answer")
            assert await protocol.received(6) == b"answer"
            transport.abort()
            assert await protocol.lost is None
            assert "made" not in protocol.events
        assert not pair.protocol.lost_count
        pair.protocol.lost.set_result(None)


async def test_start_tls_delivers_connection_lost(loop: Loop, certificates: Certificates) -> None:
    """uvloop #639."""
    async with connected() as pair:
        upgrading = asyncio.ensure_future(
            asyncio.to_thread(lambda: certificates.server().wrap_socket(pair.peer, server_side=True))
        )
        protocol = Recorder()
        transport = await loop.start_tls(
            pair.transport, protocol, certificates.client(), server_hostname="localhost"
        )
        assert transport is not None
        peer = await upgrading
        await asyncio.to_thread(peer.sendall, b"x")
        await protocol.received(1)
        peer.shutdown(socket.SHUT_RDWR)
        peer.close()
        await protocol.lost
        assert protocol.lost_count == 1
        pair.protocol.lost.set_result(None)


async def test_start_tls_that_fails_closes_the_connection(loop: Loop, certificates: Certificates) -> None:
    async with connected() as pair:
        await pair.peer_sends(b"")
        starting = asyncio.ensure_future(
            loop.start_tls(pair.transport, Recorder(), certificates.client(), server_hostname="localhost")
        )
        await pair.peer_sends(b"this is not TLS" * 10)
        with pytest.raises(ssl.SSLError):
            await starting
        await turns(5)
        assert pair.transport.is_closing()
        pair.protocol.lost.set_result(None)


async def test_start_tls_refuses_what_is_no_context_or_transport(
    loop: Loop, certificates: Certificates
) -> None:
    async with connected() as pair:
        with pytest.raises(TypeError, match="SSLContext"):
            await loop.start_tls(pair.transport, pair.protocol, None)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="."):
            await loop.start_tls(object(), pair.protocol, certificates.client())  # type: ignore[arg-type]


async def test_tls_within_tls(loop: Loop, certificates: Certificates) -> None:
    inner_protocols: list[Recorder] = []

    class Upgrades(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.write(b"OK")
            self.task = loop.create_task(self.upgrade())

        async def upgrade(self) -> None:
            inner = Echo()
            inner_protocols.append(inner)
            inner.transport = await loop.start_tls(
                self.transport, inner, certificates.server(), server_side=True
            )
            inner.transport.write(b"ready")

    async with tls_server(certificates, Upgrades) as (server, protocols):
        transport, protocol = await loop.create_connection(
            Recorder, *address_of(server), ssl=certificates.client(), server_hostname="localhost"
        )
        transport.write(b"UPGRADE")
        await protocol.received(2)
        inner = Recorder()
        inner_transport = await loop.start_tls(
            transport, inner, certificates.client(), server_hostname="localhost"
        )
        assert inner_transport is not None
        # Before the other end has taken its transport into use it has none to echo on.
        await inner.received(5)
        data = bytes(range(256)) * 500
        inner_transport.write(data)
        assert await inner.received(len(data) + 5) == b"ready" + data
        inner_transport.abort()
        await inner.lost
        await inner_protocols[0].lost
        for outer in protocols:
            outer.transport = None
        protocols.clear()
        await turns(5)


@control_xfail("cpython #142352: what the StreamReader had read of the handshake is lost", strict=False)
async def test_start_tls_hands_over_what_a_stream_reader_had_buffered(
    loop: Loop, certificates: Certificates
) -> None:
    """cpython #142352, uvloop #707: a client that sends its hello together with its STARTTLS line."""
    result: asyncio.Future[bytes] = loop.create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            assert await reader.readline() == b"STARTTLS\n"
            # The hello is in the reader's buffer by now.
            await until(lambda: len(reader._buffer) > 100)  # type: ignore[attr-defined]
            await writer.start_tls(certificates.server(), ssl_handshake_timeout=2)
            writer.write(b"secret " + await reader.readline())
            await writer.drain()
            result.set_result(b"done")
        except Exception as error:
            result.set_exception(error)
        finally:
            writer.close()
            with contextlib.suppress(Exception):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)

    def client() -> bytes:
        """Sends the line and the hello in one segment."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = certificates.client().wrap_bio(incoming, outgoing, server_hostname="localhost")
        with socket.create_connection(address_of(server), PATIENCE) as raw:

            def pump(call: Callable[[], Any]) -> Any:
                first = b"STARTTLS\n" if call == tls.do_handshake else b""
                while True:
                    try:
                        done = call()
                    except ssl.SSLWantReadError:
                        raw.sendall(first + outgoing.read())
                        first = b""
                        data = raw.recv(65536)
                        if not data:
                            raise ConnectionError("hung up") from None
                        incoming.write(data)
                    else:
                        raw.sendall(outgoing.read())
                        return done

            pump(tls.do_handshake)
            tls.write(b"hello\n")
            received: bytes = pump(lambda: tls.read(100))
            return received

    talking = asyncio.ensure_future(asyncio.to_thread(client))
    try:
        await result
    finally:
        received = (await asyncio.gather(talking, return_exceptions=True))[0]
        server.close()
        await server.wait_closed()
        await turns(5)
    assert received == b"secret hello\n"


@whorl_only
async def test_data_that_comes_with_the_handshake_waits_for_the_caller(
    loop: Loop, certificates: Certificates
) -> None:
    """Else the protocol would reply to it on the transport that it has, in clear text (as uvloop does)."""

    class Replies(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.write(data)

    def shake_hands(sock: socket.socket) -> bytes:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = certificates.client().wrap_bio(incoming, outgoing, server_hostname="localhost")
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                incoming.write(sock.recv(65536))
        # In one piece with what ends the handshake.
        tls.write(b"hello")
        sock.sendall(outgoing.read())
        while True:
            try:
                return tls.read(100)
            except ssl.SSLWantReadError:
                incoming.write(sock.recv(65536))

    async with connected(Replies) as pair:
        received = asyncio.ensure_future(asyncio.to_thread(shake_hands, pair.peer))
        pair.protocol.transport = await loop.start_tls(
            pair.transport, pair.protocol, certificates.server(), server_side=True
        )
        assert pair.protocol.events == ["made"]
        assert await received == b"hello"
        pair.protocol.transport.abort()
