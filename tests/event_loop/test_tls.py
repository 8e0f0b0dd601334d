"""TLS: client and server, what they have to say of a connection, and what they leave behind."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .support import (
    BufferedRecorder,
    Recorder,
    control_xfail,
    turns,
    until,
    whorl_only,
)
from .tls_support import address_of, tls_client, tls_pair, tls_server

if TYPE_CHECKING:
    from .certificates import Certificates

Loop = asyncio.AbstractEventLoop

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


@control_xfail(
    "cpython reads into a copy of a slice of the bytearray, and may spin without end on what it then finds",
    run=False,
)
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


@whorl_only
async def test_paused_is_readable(loop: Loop, certificates: Certificates) -> None:
    """By the private name of the other read transports."""
    async with tls_pair(certificates) as pair:
        assert pair.transport._paused is False
        pair.transport.pause_reading()
        assert pair.transport._paused is True
        pair.transport.resume_reading()
        assert pair.transport._paused is False


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
