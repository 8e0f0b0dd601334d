"""Both TLS engines: every test of TLS over the fallback, and what only shows when the two are compared."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import socket
import ssl
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from . import test_start_tls, test_tls, test_tls_ends, test_tls_handshakes
from .certificates import Certificates
from .conftest import LoopErrors
from .support import (
    PATIENCE,
    BufferedRecorder,
    Recorder,
    connected,
    gone,
    listener,
    receive_all,
    turns,
    until,
    whorl_only,
)
from .tls_support import ENGINES, address_of, tls_client, tls_pair, tls_server

Loop = asyncio.AbstractEventLoop

pytestmark = [whorl_only, pytest.mark.usefixtures("engine")]


#: The same tests once more. The modules themselves run over the engine that users get.
for module in (test_tls, test_tls_handshakes, test_tls_ends, test_start_tls):
    globals().update({name: test for name, test in vars(module).items() if name.startswith("test_")})

both = pytest.mark.parametrize("engine", ENGINES, indirect=True)


def engine_of(transport: Any) -> str:
    name: str = transport._ssl_protocol._engine
    return name


@both
async def test_the_chosen_engine_is_used(loop: Loop, certificates: Certificates, engine: str) -> None:
    async with tls_pair(certificates) as pair:
        assert engine_of(pair.transport) == engine


@pytest.mark.parametrize("engine", ENGINES[:1], indirect=True)
async def test_a_class_of_the_users_own_is_called_for_the_data(
    loop: Loop, certificates: Certificates, engine: str
) -> None:
    reads: list[int] = []

    class Counting(ssl.SSLObject):
        def read(self, *args: Any) -> Any:
            reads.append(args[0])
            return super().read(*args)

    context = certificates.client()
    context.sslobject_class = Counting
    async with (
        tls_server(certificates) as (server, _),
        tls_client(address_of(server), certificates, ssl=context) as (
            transport,
            protocol,
        ),
    ):
        transport.write(b"x")
        await protocol.received(1)
        assert engine_of(transport) == "object"
        assert isinstance(transport.get_extra_info("ssl_object"), Counting)
        assert reads


@both
async def test_an_error_is_the_ssl_modules_own(loop: Loop, certificates: Certificates, engine: str) -> None:
    async with tls_pair(certificates) as pair:
        with socket.socket(fileno=pair.peer.detach()) as raw:
            raw.sendall(b"this is not TLS" * 100)
            error = await pair.protocol.lost
    assert isinstance(error, ssl.SSLError)
    assert error.library == "SSL"
    # OpenSSL words it differently from version to version.
    assert error.reason in {"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"}
    assert str(error).startswith(f"[SSL: {error.reason}]")
    assert "(_ssl.c:" in str(error)


@both
async def test_a_record_that_was_tampered_with(loop: Loop, certificates: Certificates, engine: str) -> None:
    """What came before it is delivered."""
    async with tls_pair(certificates) as pair:
        await pair.peer_sends(b"before")
        await pair.protocol.received(6)
        with socket.socket(fileno=pair.peer.detach()) as raw:
            raw.sendall(b"\x17\x03\x03\x00\x40" + b"\0" * 64)
            error = await pair.protocol.lost
    assert isinstance(error, ssl.SSLError)
    assert error.reason in {"DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "RECORD_LAYER_FAILURE"}
    assert bytes(pair.protocol.data) == b"before"


@both
async def test_the_ssl_object_may_be_used_along_with_the_transport(
    loop: Loop, certificates: Certificates, engine: str
) -> None:
    async with tls_pair(certificates) as pair:
        ssl_object = pair.transport.get_extra_info("ssl_object")
        assert ssl_object.pending() == 0
        with pytest.raises(ssl.SSLWantReadError):
            ssl_object.read(10)
        assert ssl_object.write(b"first ") == 6
        pair.transport.write(b"second")
        assert await pair.peer_receives(12) == b"first second"
        assert ssl_object.version() in {"TLSv1.2", "TLSv1.3"}


@both
async def test_the_ssl_object_outlives_its_connection(
    loop: Loop, certificates: Certificates, engine: str
) -> None:
    async with tls_pair(certificates) as pair:
        ssl_object = pair.transport.get_extra_info("ssl_object")
        context = pair.transport.get_extra_info("sslcontext")
        cipher = ssl_object.cipher()
        pair.transport.abort()
        await pair.protocol.lost
        assert pair.transport.get_extra_info("ssl_object") is ssl_object
        assert pair.transport.get_extra_info("cipher") == cipher
        assert pair.transport.get_extra_info("sslcontext") is context
    del pair
    gc.collect()
    assert ssl_object.cipher() == cipher
    with pytest.raises((ssl.SSLError, OSError)):
        ssl_object.read(1)


@both
async def test_a_certificate_requested_after_the_handshake(
    loop: Loop, certificates: Certificates, engine: str
) -> None:
    """TLS 1.3: messages of the handshake's kind in the middle of the data."""
    server_context, client_context = certificates.server(), certificates.client()
    server_context.load_verify_locations(certificates.authority)
    server_context.verify_mode = ssl.CERT_REQUIRED
    client_context.load_cert_chain(certificates.client_pem)
    server_context.post_handshake_auth = client_context.post_handshake_auth = True
    async with (
        tls_server(certificates, context=server_context) as (server, protocols),
        tls_client(address_of(server), certificates, ssl=client_context) as (transport, protocol),
    ):
        transport.write(b"one")
        await protocol.received(3)
        ssl_object = protocols[0].transport.get_extra_info("ssl_object")
        if ssl_object.version() != "TLSv1.3":
            pytest.skip("this OpenSSL does not speak TLS 1.3")
        ssl_object.verify_client_post_handshake()
        protocols[0].transport.write(b"two")
        await protocol.received(6)
        transport.write(b"three")
        await protocol.received(11)
        assert bytes(protocol.data) == b"onetwothree"
        assert ((("commonName", "a client"),)) in ssl_object.getpeercert()["subject"]


@both
@pytest.mark.parametrize("pieces", [1, 7, 1000])
async def test_records_that_arrive_in_pieces(
    loop: Loop, certificates: Certificates, engine: str, pieces: int
) -> None:
    """A relay cuts the stream where it likes."""
    data = bytes(range(256)) * 80

    def relay(source: socket.socket, target: socket.socket) -> None:
        while received := source.recv(65536):
            for start in range(0, len(received), pieces):
                target.sendall(received[start : start + pieces])
        target.shutdown(socket.SHUT_WR)

    async with tls_server(certificates) as (server, _):
        with listener() as front:
            connecting = asyncio.ensure_future(
                loop.create_connection(
                    Recorder, *front.getsockname(), ssl=certificates.client(), server_hostname="localhost"
                )
            )
            near, _ = await asyncio.to_thread(front.accept)
            with near, socket.create_connection(address_of(server), PATIENCE) as far:
                near.settimeout(PATIENCE)
                for end in (near, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                ways = [asyncio.to_thread(relay, near, far), asyncio.to_thread(relay, far, near)]
                running = asyncio.gather(*ways, return_exceptions=True)
                transport, protocol = await connecting
                transport.write(data)
                assert await protocol.received(len(data)) == data
                transport.close()
                await protocol.lost
                await running
        await turns(5)


@both
async def test_a_protocol_may_become_a_buffered_one(
    loop: Loop, certificates: Certificates, engine: str
) -> None:
    """What is decrypted already goes to the protocol of that time."""
    second: BufferedRecorder

    class Switches(Recorder):
        def data_received(self, data: bytes) -> None:
            nonlocal second
            super().data_received(data)
            second = BufferedRecorder(3)
            self.transport.set_protocol(second)

    async with tls_pair(certificates, Switches) as pair:
        await pair.peer_sends(b"first")
        await pair.protocol.received(5)
        await pair.peer_sends(b"second message")
        assert await second.received(14) == b"second message"
        pair.transport.abort()
        await second.lost
        pair.protocol.lost.set_result(None)


@both
async def test_pausing_keeps_the_peer_waiting(loop: Loop, certificates: Certificates, engine: str) -> None:
    """Little more than one read is kept here: the rest waits in the kernel, and then at the peer."""
    async with tls_pair(certificates) as pair:
        pair.transport.pause_reading()
        sending = asyncio.ensure_future(pair.peer_sends(b"x" * 20_000_000))
        await asyncio.sleep(0.05)
        assert not pair.protocol.data
        assert pair.transport.get_read_buffer_size() <= 300_000
        assert not sending.done()
        pair.transport.resume_reading()
        assert len(await pair.protocol.received(20_000_000)) == 20_000_000
        await sending


@both
async def test_the_alert_of_a_failed_handshake_reaches_the_peer(
    loop: Loop, certificates: Certificates, engine: str
) -> None:
    with listener() as server:

        def accept() -> ssl.SSLError | None:
            raw, _ = server.accept()
            raw.settimeout(PATIENCE)
            with raw:
                try:
                    with certificates.server().wrap_socket(raw, server_side=True) as peer:
                        peer.recv(1)
                except ssl.SSLError as error:
                    return error
            return None

        accepting = asyncio.ensure_future(asyncio.to_thread(accept))
        with pytest.raises(ssl.SSLCertVerificationError):
            await loop.create_connection(
                Recorder, *server.getsockname(), ssl=ssl.create_default_context(), server_hostname="localhost"
            )
        error = await accepting
        assert error is not None
        assert "ALERT" in str(error.reason)


@both
@pytest.mark.parametrize("debug", [False, True])
async def test_a_failed_handshake_is_reported_by_a_server_in_debug_mode_only(
    loop: Loop, certificates: Certificates, loop_errors: LoopErrors, engine: str, debug: bool
) -> None:
    async with tls_server(certificates) as (server, protocols):
        loop.set_debug(debug)
        with socket.create_connection(address_of(server), PATIENCE) as client:

            def talk() -> None:
                client.sendall(b"GET / HTTP/1.1\r\n\r\n")
                receive_all(client)

            await asyncio.to_thread(talk)
        await turns(5)
        loop.set_debug(False)
        protocols.clear()
        if debug:
            context = loop_errors.take()
            assert context["message"] == "Error on transport creation for incoming connection"
            assert isinstance(context["exception"], ssl.SSLError)
        assert not loop_errors


@both
async def test_a_failed_handshake_leaves_no_cycle(
    loop: Loop, certificates: Certificates, engine: str
) -> None:
    """cpython #159049: freed by its reference count, with the garbage collector off."""

    async def fail(address: Any) -> list[weakref.ref[Any]]:
        context = ssl.create_default_context()
        # Protocols that do not keep the argument of connection_lost(), which has this frame in its traceback.
        transport, _ = await loop.create_connection(asyncio.Protocol, *address)
        kept: list[weakref.ref[Any]] = [weakref.ref(context), weakref.ref(transport)]
        with contextlib.suppress(ssl.SSLCertVerificationError):
            await loop.start_tls(transport, asyncio.Protocol(), context, server_hostname="localhost")
        return kept

    async with tls_server(certificates) as (server, _):
        gc.collect()
        gc.disable()
        try:
            kept = await fail(address_of(server))
            await turns(5)
            assert [reference() for reference in kept] == [None, None]
        finally:
            gc.enable()


@both
async def test_closing_the_connection_under_start_tls(
    loop: Loop, certificates: Certificates, engine: str
) -> None:
    async with connected() as pair:
        starting = asyncio.ensure_future(
            loop.start_tls(pair.transport, Recorder(), certificates.client(), server_hostname="localhost")
        )
        await turns(5)
        pair.transport.abort()
        with pytest.raises(ConnectionAbortedError):
            await starting
        pair.protocol.lost.set_result(None)


@both
async def test_what_is_raised_by_connection_made_ends_the_connection(
    loop: Loop, certificates: Certificates, loop_errors: LoopErrors, engine: str
) -> None:
    error = ZeroDivisionError()

    class Fails(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            raise error

    async with tls_server(certificates) as (server, _):
        made: list[Fails] = []

        def make() -> Fails:
            made.append(Fails())
            return made[-1]

        with pytest.raises(ZeroDivisionError):
            await loop.create_connection(
                make, *address_of(server), ssl=certificates.client(), server_hostname="localhost"
            )
        assert loop_errors.take()["exception"] is error
        await gone(made[0])
        assert await made[0].lost is error
        await turns(5)


@both
async def test_reentering_the_transport_from_every_callback(
    loop: Loop, certificates: Certificates, engine: str
) -> None:
    class Busy(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()
            self.transport.resume_reading()
            self.transport.get_write_buffer_size()
            self.transport.write(b"")

        def eof_received(self) -> bool | None:
            self.transport.write(b"too late or not")
            self.transport.close()
            return super().eof_received()

        def connection_lost(self, exc: BaseException | None) -> None:
            self.transport.close()
            self.transport.abort()
            self.transport.write(b"long gone")
            super().connection_lost(exc)

    async with tls_pair(certificates, Busy) as pair:
        await pair.peer_sends(b"x" * 100_000)
        await pair.protocol.received(100_000)
        unwrap: Callable[[], Any] = pair.peer.unwrap  # type: ignore[attr-defined]
        # Data after its close_notify, which the ssl module takes for an error.
        with contextlib.suppress(ssl.SSLError):
            await asyncio.to_thread(unwrap)
        assert await pair.protocol.lost is None
        assert pair.protocol.lost_count == 1


@both
async def test_a_context_variable_set_in_connection_made_is_seen_by_all(
    loop: Loop, certificates: Certificates, engine: str
) -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    class Notes(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            variable.set("set")
            super().connection_made(transport)

        def data_received(self, data: bytes) -> None:
            seen.append(variable.get())
            super().data_received(data)

        def connection_lost(self, exc: BaseException | None) -> None:
            seen.append(variable.get())
            super().connection_lost(exc)

    async with tls_pair(certificates, Notes) as pair:
        await pair.peer_sends(b"x")
        await pair.protocol.received(1)
        pair.transport.abort()
        await pair.protocol.lost
    assert seen == ["set", "set"]
    assert variable.get() == "unset"


@both
async def test_many_writes_in_one_turn(loop: Loop, certificates: Certificates, engine: str) -> None:
    async with tls_pair(certificates) as pair:
        for number in range(1000):
            pair.transport.write(b"%04d" % number)
        pair.transport.writelines([b"end"] * 3)
        expected = b"".join(b"%04d" % number for number in range(1000)) + b"endendend"
        assert await pair.peer_receives(len(expected)) == expected


@both
async def test_limits_of_the_buffers(loop: Loop, certificates: Certificates, engine: str) -> None:
    async with tls_pair(certificates) as pair:
        transport = pair.transport
        assert transport.get_write_buffer_limits() == (128 * 1024, 512 * 1024)
        assert transport.get_read_buffer_limits() == (64 * 1024, 256 * 1024)
        transport.set_write_buffer_limits(high=100)
        assert transport.get_write_buffer_limits() == (25, 100)
        transport.set_read_buffer_limits(low=10)
        assert transport.get_read_buffer_limits() == (10, 40)
        for refused in ({"high": 1, "low": 2}, {"high": -1}):
            with pytest.raises(ValueError, match="must be >="):
                transport.set_write_buffer_limits(**refused)
        await until(lambda: not pair.protocol.paused)
