"""TLS: client and server, ``start_tls``, shutdown, and peers that break the rules."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .conftest import LoopErrors
from .support import (
    PATIENCE,
    BufferedRecorder,
    Echo,
    Pair,
    Recorder,
    connected,
    control_xfail,
    gone,
    listener,
    receive_all,
    reset,
    turns,
    until,
)

if TYPE_CHECKING:
    from .certificates import Certificates

Loop = asyncio.AbstractEventLoop


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


def address_of(server: asyncio.Server) -> Any:
    return server.sockets[0].getsockname()


# What works


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("size", [1, 1000, 16384, 16385, 3_000_000])
async def test_echo(loop: Loop, certificates: Certificates, version: ssl.TLSVersion, size: int) -> None:
    context = certificates.client()
    context.minimum_version = context.maximum_version = version
    data = bytes(range(251)) * (size // 251 + 1)
    data = data[:size]
    async with (
        tls_server(certificates) as (server, _),
        tls_client(address_of(server), certificates, ssl=context) as (
            transport,
            protocol,
        ),
    ):
        transport.write(data)
        received = await protocol.received(size)
        assert hashlib.sha1(received).digest() == hashlib.sha1(data).digest()
        assert (
            transport.get_extra_info("ssl_object").version()
            == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
        )


async def test_many_small_messages_back_and_forth(loop: Loop, certificates: Certificates) -> None:
    async with (
        tls_server(certificates) as (server, _),
        tls_client(address_of(server), certificates) as (
            transport,
            protocol,
        ),
    ):
        for number in range(200):
            transport.write(b"%05d" % number)
            await protocol.received(5 * (number + 1))
        assert bytes(protocol.data) == b"".join(b"%05d" % number for number in range(200))


async def test_extra_info(loop: Loop, certificates: Certificates) -> None:
    context = certificates.client()
    async with tls_pair(certificates) as plain:
        assert isinstance(plain.transport, asyncio.Transport)
        ssl_object = plain.transport.get_extra_info("ssl_object")
        assert isinstance(ssl_object, ssl.SSLObject)
        assert plain.transport.get_extra_info("peercert") == ssl_object.getpeercert()
        assert ("DNS", "localhost") in plain.transport.get_extra_info("peercert")["subjectAltName"]
        assert plain.transport.get_extra_info("cipher") == ssl_object.cipher()
        assert plain.transport.get_extra_info("compression") is None
        assert isinstance(plain.transport.get_extra_info("sslcontext"), ssl.SSLContext)
        assert isinstance(plain.transport.get_extra_info("socket"), asyncio.trsock.TransportSocket)
        assert plain.transport.get_extra_info("peername") == plain.peer.getsockname()
    async with (
        tls_server(certificates) as (server, protocols),
        tls_client(address_of(server), certificates, ssl=context) as (transport, _),
    ):
        assert transport.get_extra_info("sslcontext") is context
        await until(lambda: protocols and protocols[0].transport)
        assert isinstance(protocols[0].transport.get_extra_info("ssl_object"), ssl.SSLObject)
        assert protocols[0].transport.get_extra_info("ssl_object").server_side


async def test_alpn_and_server_name(loop: Loop, certificates: Certificates) -> None:
    names: list[str | None] = []
    server_context, client_context = certificates.server(), certificates.client()
    server_context.set_alpn_protocols(["h2", "http/1.1"])
    client_context.set_alpn_protocols(["http/1.1"])
    server_context.sni_callback = lambda ssl_object, name, context: names.append(name)  # type: ignore[assignment]
    async with (
        tls_server(certificates, context=server_context) as (server, _),
        tls_client(address_of(server), certificates, ssl=client_context) as (transport, _),
    ):
        assert transport.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        assert names == ["localhost"]


async def test_the_server_name_callback_may_change_the_context(
    loop: Loop, certificates: Certificates
) -> None:
    other = certificates.server()
    other.set_alpn_protocols(["other"])
    server_context, client_context = certificates.server(), certificates.client()
    client_context.set_alpn_protocols(["other"])

    def choose(ssl_object: ssl.SSLObject, name: str, context: ssl.SSLContext) -> None:
        ssl_object.context = other

    server_context.sni_callback = choose  # type: ignore[assignment]
    async with (
        tls_server(certificates, context=server_context) as (server, _),
        tls_client(address_of(server), certificates, ssl=client_context) as (transport, protocol),
    ):
        assert transport.get_extra_info("ssl_object").selected_alpn_protocol() == "other"
        transport.write(b"x")
        await protocol.received(1)


async def test_client_certificates(loop: Loop, certificates: Certificates) -> None:
    server_context = certificates.server()
    server_context.verify_mode = ssl.CERT_REQUIRED
    server_context.load_verify_locations(certificates.authority)
    client_context = certificates.client()
    client_context.load_cert_chain(certificates.client_pem)
    async with (
        tls_server(certificates, context=server_context) as (server, protocols),
        tls_client(address_of(server), certificates, ssl=client_context) as (transport, protocol),
    ):
        transport.write(b"x")
        await protocol.received(1)
        subject = protocols[0].transport.get_extra_info("peercert")["subject"]
        assert ((("commonName", "a client"),)) in subject


async def test_key_logging(loop: Loop, certificates: Certificates, tmp_path: Path) -> None:
    context = certificates.client()
    context.keylog_filename = str(tmp_path / "keys")
    async with (
        tls_server(certificates) as (server, _),
        tls_client(address_of(server), certificates, ssl=context) as (
            transport,
            protocol,
        ),
    ):
        transport.write(b"x")
        await protocol.received(1)
    assert "TRAFFIC_SECRET" in (tmp_path / "keys").read_text()


@pytest.mark.parametrize("size", [10, 4096, 1 << 20])
async def test_buffered_protocols(loop: Loop, certificates: Certificates, size: int) -> None:
    class Views(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> memoryview:
            return memoryview(self.buffer)

    async with (
        tls_server(certificates) as (server, _),
        tls_client(address_of(server), certificates, lambda: Views(size)) as (transport, protocol),
    ):
        data = bytes(range(256)) * 1000
        transport.write(data)
        assert await protocol.received(len(data)) == data


@control_xfail("cpython reads into a copy of a slice of the bytearray", strict=False)
@pytest.mark.parametrize("size", [10, 4096, 1 << 20])
async def test_buffered_protocols_whose_buffer_is_a_bytearray(
    loop: Loop, certificates: Certificates, size: int
) -> None:
    async with (
        tls_server(certificates) as (server, _),
        tls_client(address_of(server), certificates, lambda: BufferedRecorder(size)) as (transport, protocol),
    ):
        data = bytes(range(256)) * 1000
        transport.write(data)
        assert await protocol.received(len(data)) == data


async def test_writing_every_kind_of_buffer(loop: Loop, certificates: Certificates) -> None:
    async with (
        tls_server(certificates) as (server, _),
        tls_client(address_of(server), certificates) as (
            transport,
            protocol,
        ),
    ):
        data = bytearray(b"abc")
        transport.write(data)
        data[:] = b"xyz"
        transport.write(memoryview(b"def"))
        transport.writelines([b"ghi", bytearray(b"jkl"), memoryview(b"mno")])
        transport.write(b"")
        for bad in ("text", None, 1):
            with pytest.raises(TypeError):
                transport.write(bad)
        assert await protocol.received(15) == b"abcdefghijklmno"


async def test_flow_control(loop: Loop, certificates: Certificates) -> None:
    async with tls_pair(certificates) as pair:
        total = 0
        while not pair.protocol.paused:
            pair.transport.write(b"x" * 100_000)
            total += 100_000
            await asyncio.sleep(0)
        assert pair.transport.get_write_buffer_size() > 0
        assert len(await pair.peer_receives(total)) == total
        await until(lambda: not pair.protocol.paused)
        assert pair.protocol.events.count("pause") == pair.protocol.events.count("resume")


async def test_pausing_holds_back_what_is_decrypted_already(loop: Loop, certificates: Certificates) -> None:
    class PausesAfterOne(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()

    async with tls_pair(certificates, PausesAfterOne) as pair:
        sending = asyncio.ensure_future(pair.peer_sends(b"x" * 1_000_000))
        await until(lambda: pair.protocol.data)
        before = len(pair.protocol.data)
        await asyncio.sleep(0.02)
        # Records already decrypted may follow in the same delivery, not later ones.
        assert len(pair.protocol.data) == before
        assert not pair.transport.is_reading()
        while len(pair.protocol.data) < 1_000_000:
            pair.transport.resume_reading()
            await asyncio.sleep(0)
        await sending


async def test_set_protocol(loop: Loop, certificates: Certificates) -> None:
    async with tls_pair(certificates) as pair:
        await pair.peer_sends(b"first")
        await pair.protocol.received(5)
        second = BufferedRecorder()
        pair.transport.set_protocol(second)
        assert pair.transport.get_protocol() is second
        await pair.peer_sends(b"second")
        assert await second.received(6) == b"second"
        pair.transport.abort()
        await second.lost
        pair.protocol.lost.set_result(None)


async def test_half_close_is_not_offered(loop: Loop, certificates: Certificates) -> None:
    async with tls_pair(certificates) as pair:
        assert not pair.transport.can_write_eof()
        with pytest.raises(NotImplementedError):
            pair.transport.write_eof()


async def test_sendfile_falls_back(loop: Loop, certificates: Certificates, tmp_path: Path) -> None:
    data = bytes(range(256)) * 2000
    (tmp_path / "file").write_bytes(data)
    async with tls_pair(certificates) as pair:
        with open(tmp_path / "file", "rb") as file:
            reading = asyncio.ensure_future(pair.peer_receives(len(data) + 4))
            assert await loop.sendfile(pair.transport, file) == len(data)
            pair.transport.write(b"more")
            assert await reading == data + b"more"
            with pytest.raises((RuntimeError, asyncio.SendfileNotAvailableError)):
                await loop.sendfile(pair.transport, file, fallback=False)


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
        # The server goes on.
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
async def test_time_limits_must_be_positive(
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


async def test_a_server_that_stalls_in_the_handshake(loop: Loop, certificates: Certificates) -> None:
    with listener() as server:
        with pytest.raises(ConnectionAbortedError):
            await loop.create_connection(
                Recorder,
                *server.getsockname(),
                ssl=certificates.client(),
                server_hostname="localhost",
                ssl_handshake_timeout=0.05,
            )
        peer, _ = server.accept()
        peer.settimeout(PATIENCE)
        with peer:
            # Our end is closed, not forgotten.
            assert await asyncio.to_thread(receive_all, peer)


async def test_a_client_that_stalls_in_the_handshake(loop: Loop, certificates: Certificates) -> None:
    async with tls_server(certificates, ssl_handshake_timeout=0.05) as (server, protocols):
        with socket.create_connection(address_of(server), PATIENCE) as client:
            assert await asyncio.to_thread(receive_all, client) == b""
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


# Ends


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


async def test_shutdown_is_bounded_when_the_peer_does_not_answer(
    loop: Loop, certificates: Certificates
) -> None:
    """uvloop #471, #507: half a minute, or for ever."""
    async with tls_pair(certificates, ssl_shutdown_timeout=0.05) as pair:
        pair.transport.close()
        await pair.protocol.lost
        assert pair.protocol.lost_count == 1


async def test_shutdown_is_bounded_when_the_peer_does_not_even_read(
    loop: Loop, certificates: Certificates
) -> None:
    async with tls_pair(certificates, ssl_shutdown_timeout=0.05) as pair:
        while not pair.protocol.paused:
            pair.transport.write(b"x" * 1_000_000)
            await asyncio.sleep(0)
        pair.transport.close()
        await pair.protocol.lost


async def test_shutdown_is_bounded_when_the_peer_keeps_sending(
    loop: Loop, certificates: Certificates
) -> None:
    """Data after our close_notify is neither delivered nor an error."""
    async with tls_pair(certificates, ssl_shutdown_timeout=0.2) as pair:
        await pair.peer_sends(b"before")
        await pair.protocol.received(6)
        stop = threading.Event()

        def keep_sending() -> None:
            with contextlib.suppress(OSError):
                while not stop.is_set():
                    pair.peer.sendall(b"after" * 100)

        sending = asyncio.ensure_future(asyncio.to_thread(keep_sending))
        await asyncio.sleep(0.01)
        pair.transport.close()
        seen = len(pair.protocol.data)
        await pair.protocol.lost
        stop.set()
        await sending
        assert len(pair.protocol.data) == seen
        assert pair.protocol.events[-1] == "lost"


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
    async with tls_pair(certificates, ssl_shutdown_timeout=0.2) as pair:
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

    async with tls_pair(certificates, Closes, ssl_shutdown_timeout=0.2) as pair:
        await pair.peer_sends(b"hello")
        assert await pair.peer_receives_all() == b"bye"
        await asyncio.to_thread(lambda: pair.peer.unwrap().close())  # type: ignore[attr-defined]
        await pair.protocol.lost
        assert pair.protocol.events[:2] == ["made", "data"]
        assert pair.protocol.events[-1] == "lost"


# start_tls


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
            answer: bytes = pump(lambda: tls.read(100))
            return answer

    talking = asyncio.ensure_future(asyncio.to_thread(client))
    try:
        await result
    finally:
        answer = (await asyncio.gather(talking, return_exceptions=True))[0]
        server.close()
        await server.wait_closed()
        await turns(5)
    assert answer == b"secret hello\n"


# Leaks


async def test_connections_leave_nothing_behind(loop: Loop, certificates: Certificates) -> None:
    """uvloop #565."""

    def count() -> int:
        gc.collect()
        return sum(isinstance(thing, (ssl.SSLObject, Recorder)) for thing in gc.get_objects())

    context = certificates.client()
    async with tls_server(certificates) as (server, protocols):

        async def one() -> None:
            async with tls_client(address_of(server), certificates, ssl=context) as (transport, protocol):
                transport.write(b"x")
                await protocol.received(1)
                transport.close()
                await protocol.lost
            await until(lambda: all(protocol.lost.done() for protocol in protocols))
            protocols.clear()

        await one()
        await turns(5)
        before = count()
        for _ in range(20):
            await one()
        await turns(5)
        assert count() <= before


async def test_many_handshakes_at_once(loop: Loop, certificates: Certificates) -> None:
    context = certificates.client()
    async with tls_server(certificates) as (server, _):

        async def one(number: int) -> None:
            async with tls_client(address_of(server), certificates, ssl=context) as (transport, protocol):
                data = b"%d" % number * 1000
                transport.write(data)
                assert await protocol.received(len(data)) == data
                transport.close()
                await protocol.lost

        await asyncio.gather(*(one(number) for number in range(40)))
