"""TLS: which peers are verified, and handshakes that fail."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from .support import (
    PATIENCE,
    Recorder,
    control_xfail,
    gone,
    listener,
    receive_all,
    reset,
    turns,
)
from .tls_support import address_of, tls_client, tls_server

if TYPE_CHECKING:
    from .certificates import Certificates

Loop = asyncio.AbstractEventLoop

# Verification


@pytest.mark.parametrize("which", ["expired", "unknown authority", "wrong name"])
async def test_a_server_that_cannot_be_verified(loop: Loop, certificates: Certificates, which: str) -> None:
    server_context = certificates.expired() if which == "expired" else certificates.server()
    client_context = ssl.create_default_context() if which == "unknown authority" else certificates.client()
    name = "other.example" if which == "wrong name" else "localhost"

    async with tls_server(certificates, context=server_context) as (server, protocols):
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            await loop.create_connection(
                Recorder, *address_of(server), ssl=client_context, server_hostname=name
            )
        assert {"expired": "expired", "wrong name": "mismatch"}.get(which, "verify failed") in str(
            caught.value
        )
        await turns()
        assert [protocol.events for protocol in protocols] in ([], [[]])
        protocols.clear()
        # The server keeps running.
        if which != "expired":
            async with tls_client(address_of(server), certificates) as (transport, protocol):
                transport.write(b"x")
                await protocol.received(1)


async def test_a_client_without_the_certificate_that_is_required(
    loop: Loop, certificates: Certificates
) -> None:
    server_context = certificates.server()
    server_context.verify_mode = ssl.CERT_REQUIRED
    server_context.load_verify_locations(certificates.authority)
    server_context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with tls_server(certificates, context=server_context) as (server, protocols):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await loop.create_connection(
                Recorder, *address_of(server), ssl=certificates.client(), server_hostname="localhost"
            )
        await turns()
        assert all(not protocol.events for protocol in protocols)


@control_xfail("cpython fails on the missing attribute, and leaves the socket open", strict=False)
@pytest.mark.parametrize("bad", ["text", 1, object()])
async def test_what_is_no_context_is_refused(loop: Loop, bad: Any) -> None:
    with listener() as server, pytest.raises(TypeError):
        await loop.create_connection(Recorder, *server.getsockname(), ssl=bad, server_hostname="localhost")


async def test_a_server_needs_a_context_not_a_truth_value(loop: Loop) -> None:
    with pytest.raises(TypeError):
        await loop.create_server(Recorder, "127.0.0.1", 0, ssl=True)  # type: ignore[arg-type]


async def test_arguments_that_need_tls_are_refused_without_it(loop: Loop) -> None:
    for options in ({"server_hostname": "x"}, {"ssl_handshake_timeout": 1}, {"ssl_shutdown_timeout": 1}):
        with pytest.raises(ValueError, match="ssl"):
            await loop.create_connection(Recorder, "127.0.0.1", 1, **options)  # type: ignore[arg-type]
    for options in ({"ssl_handshake_timeout": 1}, {"ssl_shutdown_timeout": 1}):
        with pytest.raises(ValueError, match="ssl"):
            await loop.create_server(Recorder, "127.0.0.1", 0, **options)  # type: ignore[arg-type]


@control_xfail("cpython leaves the socket open", strict=False)
@pytest.mark.parametrize("option", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
@pytest.mark.parametrize("value", [0, -1])
async def test_timeouts_must_be_positive(
    loop: Loop, certificates: Certificates, option: str, value: float
) -> None:
    options: dict[str, Any] = {"ssl": certificates.client(), "server_hostname": "localhost", option: value}
    with listener() as server, pytest.raises(ValueError, match="positive"):
        await loop.create_connection(Recorder, *server.getsockname(), **options)


# Handshakes that fail


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, b"\x16\x03\x01\xff\xff" + b"x" * 70_000]
)
async def test_a_client_that_sends_garbage(loop: Loop, certificates: Certificates, garbage: bytes) -> None:
    async with tls_server(certificates) as (server, protocols):
        with socket.create_connection(address_of(server), PATIENCE) as client:

            def send_and_wait() -> None:
                # ENOTCONN is no ConnectionError: shutdown() says so of a socket that was reset.
                with contextlib.suppress(OSError):
                    client.sendall(garbage)
                    client.shutdown(socket.SHUT_WR)
                    receive_all(client)

            await asyncio.to_thread(send_and_wait)
        await turns()
        assert all(not protocol.events for protocol in protocols)
        protocols.clear()
        async with tls_client(address_of(server), certificates) as (transport, protocol):
            transport.write(b"x")
            await protocol.received(1)


async def test_a_server_that_sends_garbage(loop: Loop, certificates: Certificates) -> None:
    with listener() as server:

        def garbage() -> None:
            raw, _ = server.accept()
            with raw, contextlib.suppress(ConnectionError):
                raw.sendall(b"220 ready\r\n" * 100)
                raw.settimeout(PATIENCE)
                receive_all(raw)

        thread = asyncio.ensure_future(asyncio.to_thread(garbage))
        with pytest.raises(ssl.SSLError):
            await loop.create_connection(
                Recorder, *server.getsockname(), ssl=certificates.client(), server_hostname="localhost"
            )
        await thread


@pytest.mark.parametrize("how", ["closes", "resets"])
async def test_a_server_that_hangs_up_in_the_handshake(
    loop: Loop, certificates: Certificates, how: str
) -> None:
    with listener() as server:

        def hang_up() -> None:
            raw, _ = server.accept()
            raw.settimeout(PATIENCE)
            raw.recv(10)
            reset(raw) if how == "resets" else (receive_some(raw), raw.close())

        def receive_some(raw: socket.socket) -> None:
            raw.recv(65536)

        thread = asyncio.ensure_future(asyncio.to_thread(hang_up))
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await loop.create_connection(
                Recorder, *server.getsockname(), ssl=certificates.client(), server_hostname="localhost"
            )
        await thread


#: Seconds of a clock that jumps. A test that took them in real time would be seen to.
LIMIT = 7.0


@pytest.mark.jumping_clock
async def test_a_server_that_stalls_in_the_handshake(loop: Loop, certificates: Certificates) -> None:
    peers: list[Recorder] = []
    server = await loop.create_server(lambda: peers.append(Recorder()) or peers[-1], "127.0.0.1", 0)
    began = loop.time()
    with pytest.raises(ConnectionAbortedError):
        await loop.create_connection(
            Recorder,
            *address_of(server),
            ssl=certificates.client(),
            server_hostname="localhost",
            ssl_handshake_timeout=LIMIT,
        )
    assert loop.time() - began == pytest.approx(LIMIT)
    # Our end is closed, not forgotten.
    await gone(peers[0])
    assert peers[0].data
    server.close()
    await server.wait_closed()
    await turns()


@pytest.mark.jumping_clock
async def test_a_client_that_stalls_in_the_handshake(loop: Loop, certificates: Certificates) -> None:
    async with tls_server(certificates, ssl_handshake_timeout=LIMIT) as (server, protocols):
        began = loop.time()
        _, client = await loop.create_connection(Recorder, *address_of(server))
        await client.lost
        assert loop.time() - began == pytest.approx(LIMIT)
        assert not client.data
        assert all(not protocol.events for protocol in protocols)
        protocols.clear()


async def test_cancelling_a_connection_in_its_handshake_closes_it(
    loop: Loop, certificates: Certificates
) -> None:
    with listener() as server:
        task = asyncio.ensure_future(
            loop.create_connection(
                Recorder, *server.getsockname(), ssl=certificates.client(), server_hostname="localhost"
            )
        )
        peer, _ = await asyncio.to_thread(server.accept)
        peer.settimeout(PATIENCE)
        with peer:
            await asyncio.to_thread(peer.recv, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(receive_all, peer)
