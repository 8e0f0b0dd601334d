"""Lookups that fail or lead nowhere, and TLS with the wrong certificates."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import whorl.http
from tests.http.raw_support import (
    OK,
    Peer,
    RawServer,
    assert_nothing_acquired,
    keeping_alive,
    raw_response,
    until,
)
from tests.http.resolver_support import Resolver

pytestmark = pytest.mark.jumping_clock


async def _get(session: Any, url: str, **options: Any) -> bytes:
    async with session.get(url, **options) as response:
        body: bytes = await response.read()
        return body


# Lookups.


@pytest.mark.parametrize(
    "error",
    [
        OSError(None, "DNS lookup failed"),
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
    ],
    ids=["OSError", "gaierror"],
)
async def test_a_lookup_that_fails(client: Any, error: OSError) -> None:
    resolver = Resolver(error=error)
    async with client.ClientSession(connector=client.TCPConnector(resolver=resolver)) as session:
        for _ in range(2):
            with pytest.raises(client.ClientConnectorDNSError) as raised:
                await session.get("http://a.test/")
            assert isinstance(raised.value, client.ClientConnectorError)
            assert raised.value.host == "a.test"
        await assert_nothing_acquired(session.connector)
    # A failure is not remembered.
    assert resolver.lookups == 2


async def test_a_lookup_that_finds_nothing(ours: Any) -> None:
    """aiohttp tries to connect to nothing, and says so less clearly."""
    async with ours.ClientSession(connector=ours.TCPConnector(resolver=Resolver())) as session:
        with pytest.raises(ours.ClientConnectorDNSError, match="has no address for 'a.test'"):
            await session.get("http://a.test/")
        await assert_nothing_acquired(session.connector)


async def test_a_host_that_does_not_exist(client: Any) -> None:
    """By the system's resolver: names under ``.invalid`` do not (RFC 6761)."""
    async with client.ClientSession() as session:
        with pytest.raises(client.ClientConnectorDNSError):
            await session.get("http://nowhere.invalid/", timeout=client.ClientTimeout(total=15))


class OneAddress:
    """Finds one host and port, in any form, for every host."""

    def __init__(self, host: Any, port: Any = None) -> None:
        self._address = (host, port)

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[dict[str, Any]]:
        found, found_port = self._address
        where = {"hostname": host, "host": found, "port": port if found_port is None else found_port}
        return [{**where, "family": socket.AF_INET, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("host", ["localhost", "127.1"])
@pytest.mark.parametrize("port", [int, str])
async def test_a_resolver_that_finds_what_is_not_numeric(client: Any, host: str, port: Any) -> None:
    """The loop looks it up once more."""
    async with RawServer(keeping_alive()) as server:
        resolver = OneAddress(host, port(server.port))
        async with client.ClientSession(connector=client.TCPConnector(resolver=resolver)) as session:
            assert await _get(session, f"http://a.test:{server.port}/") == b"ok"
            # By the cached result.
            assert await _get(session, f"http://a.test:{server.port}/", headers={"Connection": "close"})
            assert await _get(session, f"http://a.test:{server.port}/") == b"ok"


@pytest.mark.parametrize("host", ["nosuch.invalid", ""])
async def test_a_resolver_that_finds_a_name_that_does_not_exist(client: Any, host: str) -> None:
    connector = client.TCPConnector(resolver=OneAddress(host))
    async with client.ClientSession(connector=connector) as session:
        with pytest.raises(client.ClientConnectorError):
            await session.get("http://a.test/")
        await assert_nothing_acquired(connector)


@pytest.mark.parametrize("host", ["\ud800", "a" * 64, "a..b"])
async def test_a_resolver_that_finds_what_is_no_name(ours: Any, host: str) -> None:
    """aiohttp ends in a UnicodeError."""
    connector = ours.TCPConnector(resolver=OneAddress(host))
    async with ours.ClientSession(connector=connector) as session:
        with pytest.raises(ours.ClientConnectorError):
            await session.get("http://a.test/")
        await assert_nothing_acquired(connector)


async def test_a_name_of_a_resolver_s_may_be_the_program_s_to_connect_to(client: Any) -> None:
    """As in connectors that speak SOCKS, whose proxy looks it up."""
    seen = []

    class Connector(client.TCPConnector):  # type: ignore[misc,name-defined]
        async def _wrap_create_connection(self, *args: Any, addr_infos: Any, **options: Any) -> Any:
            seen.append(addr_infos[0][4][0])
            infos = [(*info[:4], ("127.0.0.1", info[4][1])) for info in addr_infos]
            return await super()._wrap_create_connection(*args, addr_infos=infos, **options)

    async with RawServer(keeping_alive()) as server:
        connector = Connector(resolver=OneAddress("far.invalid"))
        async with client.ClientSession(connector=connector) as session:
            assert await _get(session, f"http://a.test:{server.port}/") == b"ok"
    assert seen == ["far.invalid"]


# Unix-domain sockets.


@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
async def test_a_path_in_any_form(client: Any, kind: Any, tmp_path: Path) -> None:
    path = kind(str(tmp_path / "s\udcff.sock"))
    async with await asyncio.start_unix_server(_answer, path):
        async with client.ClientSession(connector=client.UnixConnector(path=path)) as session:
            assert await _get(session, "http://a.test/") == b"ok"


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(OK)
    writer.close()


@pytest.mark.parametrize(
    ("name", "reason"),
    [("none", "No such file or directory"), ("\udcff", "No such file or directory"), ("x" * 200, "too long")],
)
async def test_a_path_that_leads_nowhere(client: Any, name: str, reason: str, tmp_path: Path) -> None:
    path = str(tmp_path / name)
    connector = client.UnixConnector(path=path)
    async with client.ClientSession(connector=connector) as session:
        with pytest.raises(client.client_exceptions.UnixClientConnectorError) as raised:
            await session.get("http://a.test/")
        assert raised.value.path == path
        assert reason in str(raised.value.os_error)
        await assert_nothing_acquired(connector)


async def test_one_of_several_waiters_for_a_lookup_is_cancelled(client: Any) -> None:
    """Even if it is the one that began it."""
    for which in range(3):
        resolver = Resolver("127.0.0.1", delay=0.05)
        async with RawServer(keeping_alive()) as server:
            async with client.ClientSession(connector=client.TCPConnector(resolver=resolver)) as session:
                url = f"http://a.test:{server.port}/"
                tasks = [asyncio.ensure_future(_get(session, url)) for _ in range(3)]
                await asyncio.sleep(0.01)
                tasks[which].cancel()
                outcomes = await asyncio.gather(*tasks, return_exceptions=True)
                assert isinstance(outcomes.pop(which), asyncio.CancelledError)
                assert outcomes == [b"ok", b"ok"]
                await assert_nothing_acquired(session.connector)
        assert resolver.lookups == 1


# Addresses that are dead.


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Listens at 127.0.0.1, on a port of 127.0.0.2 where connections never come about."""
    for _ in range(100):
        deaf = socket.socket()
        deaf.bind(("127.0.0.2", 0))
        try:
            listener = socket.create_server(("127.0.0.1", deaf.getsockname()[1]))
            break
        except OSError:
            # The port of the other address is another program's.
            deaf.close()
    else:
        pytest.fail("no port is free at both addresses")
    deaf.listen(0)
    fillers = [socket.socket() for _ in range(3)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(deaf.getsockname())
    yield listener
    for sock in [listener, deaf, *fillers]:
        sock.close()


# The connection is begun, and the peer does not answer.
@pytest.mark.jumping_clock(False)
async def test_the_first_address_does_not_answer(client: Any, listener: socket.socket) -> None:
    """The next is tried a quarter of a second later (RFC 8305)."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(OK)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, sock=listener)
    try:
        connector = client.TCPConnector(resolver=Resolver("127.0.0.2", "127.0.0.2", "127.0.0.1"))
        async with client.ClientSession(connector=connector) as session:
            loop = asyncio.get_running_loop()
            begun = loop.time()
            url = f"http://a.test:{listener.getsockname()[1]}/"
            assert await _get(session, url) == b"ok"
            assert 0.2 < loop.time() - begun < 3
            await assert_nothing_acquired(connector)
    finally:
        server.close()


@pytest.mark.parametrize("name", ["happy_eyeballs_delay", "ttl_dns_cache", "keepalive_timeout"])
async def test_a_length_of_time_that_is_none(ours: Any, name: str) -> None:
    """aiohttp takes it, and waits without end, or not at all."""
    with pytest.raises(ValueError, match=f"{name} must be a number of seconds or None, not NaN"):
        ours.TCPConnector(**{name: float("nan")})
    with pytest.raises(TypeError, match=f"{name} must be a number of seconds or None, not 'x'"):
        ours.TCPConnector(**{name: "x"})


@pytest.mark.jumping_clock(False)
@pytest.mark.parametrize("refused", [0, 1])
async def test_an_attempt_whose_timer_cannot_be_set(listener: socket.socket, refused: int) -> None:
    """The connection to an address that does not answer is given up at once: none of it stays open."""
    resolver: Any = Resolver(*["127.0.0.3"] * refused, "127.0.0.2", "127.0.0.2")
    connector = whorl.http.TCPConnector(resolver=resolver)
    # What cannot be given to the constructor stands for an error of the loop's.
    connector._happy_eyeballs_delay = float("nan")
    async with whorl.http.ClientSession(connector=connector) as session:
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(ValueError, match="NaN"):
            await session.get(f"http://a.test:{listener.getsockname()[1]}/")
        assert len(os.listdir("/proc/self/fd")) == before
        await assert_nothing_acquired(connector)


@pytest.mark.parametrize("delay", [0.25, None])
async def test_the_first_addresses_refuse(client: Any, delay: float | None) -> None:
    async with RawServer(keeping_alive()) as server:
        addresses = [f"127.0.0.{last}" for last in (5, 4, 3, 2, 1)]
        connector = client.TCPConnector(resolver=Resolver(*addresses), happy_eyeballs_delay=delay)
        async with client.ClientSession(connector=connector) as session:
            async with asyncio.timeout(1):
                assert await _get(session, f"http://a.test:{server.port}/") == b"ok"


async def test_a_family_that_does_not_work(client: Any) -> None:
    async with RawServer(keeping_alive()) as server:
        connector = client.TCPConnector(resolver=Resolver("::1", "::1", "127.0.0.1"))
        async with client.ClientSession(connector=connector) as session:
            async with asyncio.timeout(2):
                assert await _get(session, f"http://a.test:{server.port}/") == b"ok"


async def test_every_address_refuses(client: Any) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        connector = client.TCPConnector(resolver=Resolver("127.0.0.1", "127.0.0.2"))
        async with client.ClientSession(connector=connector) as session:
            with pytest.raises(client.ClientConnectorError) as raised:
                await session.get(f"http://a.test:{port}/")
            assert raised.value.port == port
            await assert_nothing_acquired(connector)


async def test_an_address_that_hangs_up_at_once(client: Any) -> None:
    async def script(peer: Peer) -> None:
        peer.reset()

    async with RawServer(script) as server, client.ClientSession() as session:
        for _ in range(5):
            with pytest.raises(client.ClientConnectionError):
                await session.get(server.url)
        await assert_nothing_acquired(session.connector)


# Classes that decide themselves.


async def test_a_connector_class_decides_which_hosts_are_connected_to(client: Any) -> None:
    """As guards against requests forged on the server's side do, and tools of tests that send all to one
    place."""

    class Guard(client.TCPConnector):  # type: ignore[misc]
        async def _resolve_host(self, host: str, port: int, traces: Any = None) -> Any:
            if host == "internal.test":
                raise OSError(None, "is not for you")
            return await super()._resolve_host("127.0.0.1", server.port, traces=traces)

    async with RawServer(keeping_alive()) as server, client.ClientSession(connector=Guard()) as session:
        assert await _get(session, "http://public.test/") == b"ok"
        with pytest.raises(client.ClientConnectorDNSError, match="is not for you"):
            await session.get("http://internal.test/")


@pytest.mark.parametrize("where", ["class", "instance"])
async def test_a_method_that_is_replaced_later_decides(
    client: Any, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nowhere(*args: Any, **kwargs: Any) -> Any:
        raise OSError(None, "is not for you")

    async with RawServer(keeping_alive()) as server, client.ClientSession() as session:
        connector = client.TCPConnector if where == "class" else session.connector
        for name in ("_resolve_host", "_wrap_create_connection", "_create_connection"):
            with monkeypatch.context() as patch:
                patch.setattr(connector, name, nowhere)
                with pytest.raises(client.ClientOSError, match="is not for you"):
                    await session.get(server.url)
        assert await _get(session, server.url) == b"ok"


async def test_a_connector_that_brings_its_own_transport(client: Any, tls: Any) -> None:
    """As those that go by SOCKS do: the protocol takes over a transport that another one has used."""
    protocols = "aiohttp.client_proto" if client.__name__ == "aiohttp" else "whorl.http.connect.connection"
    response_handler = importlib.import_module(protocols).ResponseHandler

    class Handler(response_handler):  # type: ignore[misc]
        def __init__(self, loop: Any, writer: asyncio.StreamWriter) -> None:
            super().__init__(loop=loop)
            self.writer = writer

    class Detour(client.TCPConnector):  # type: ignore[misc]
        async def _wrap_create_connection(
            self, *args: Any, addr_infos: Any, req: Any, timeout: Any, client_error: Any = None, **kwargs: Any
        ) -> Any:
            calls.append((addr_infos[0][4][1], req.url.host, kwargs["server_hostname"]))
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"CONNECT a HTTP/1.1\r\n\r\n")
            assert await reader.readexactly(len(OK)) == OK
            if kwargs["ssl"] is not None:
                await writer.start_tls(kwargs["ssl"], server_hostname=kwargs["server_hostname"])
            handler = Handler(loop=self._loop, writer=writer)
            writer.transport.set_protocol(handler)
            handler.connection_made(writer.transport)
            return writer.transport, handler

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        if secure:
            await peer.writer.start_tls(tls.server())
        await keeping_alive(raw_response(b"x" * 100_000))(peer)

    for secure in (False, True):
        calls: list[Any] = []
        async with RawServer(script) as server:
            connector = Detour(ssl=tls.client(), resolver=Resolver("127.0.0.1"))
            async with client.ClientSession(connector=connector) as session:
                for _ in range(2):
                    url = f"http{'s' if secure else ''}://localhost:1/"
                    assert await _get(session, url) == b"x" * 100_000
        assert calls == [(1, "localhost", "localhost" if secure else None)]


# TLS.


async def test_a_certificate_for_another_name(client: Any, tls: Any) -> None:
    async with RawServer(keeping_alive(), ssl=tls.server()) as server:
        connector = client.TCPConnector(resolver=Resolver("127.0.0.1"), ssl=tls.client())
        async with client.ClientSession(connector=connector) as session:
            with pytest.raises(client.ClientConnectorCertificateError) as raised:
                await session.get(f"https://another.test:{server.port}/")
            assert raised.value.host == "another.test"
            assert isinstance(raised.value.certificate_error, ssl.SSLCertVerificationError)
            await assert_nothing_acquired(connector)
            await until(lambda: not server.open)
            # With the name that the certificate has, it is as good as any.
            assert (
                await _get(session, f"https://another.test:{server.port}/", server_hostname="localhost")
                == b"ok"
            )


async def test_a_certificate_of_an_unknown_authority(client: Any, tls: Any) -> None:
    async with RawServer(keeping_alive(), ssl=tls.server()) as server, client.ClientSession() as session:
        for _ in range(2):
            with pytest.raises(client.ClientConnectorCertificateError):
                await session.get(server.url)
        await assert_nothing_acquired(session.connector)
        # No connection that was made without a check of the certificate serves a request that requires one.
        assert await _get(session, server.url, ssl=False) == b"ok"
        with pytest.raises(client.ClientConnectorCertificateError):
            await session.get(server.url)


async def test_a_certificate_that_has_expired(client: Any, tls: Any) -> None:
    async with RawServer(keeping_alive(), ssl=tls.expired()) as server, client.ClientSession() as session:
        with pytest.raises(client.ClientConnectorCertificateError, match="expired"):
            await session.get(server.url, ssl=tls.client())
        assert await _get(session, server.url, ssl=False) == b"ok"


async def test_fingerprints(client: Any, tls: Any) -> None:
    der = ssl.PEM_cert_to_DER_cert(_certificate(tls.server_pem))
    right = client.Fingerprint(hashlib.sha256(der).digest())
    wrong = client.Fingerprint(hashlib.sha256(b"another").digest())
    async with RawServer(keeping_alive(), ssl=tls.server()) as server, client.ClientSession() as session:
        assert await _get(session, server.url, ssl=right) == b"ok"
        with pytest.raises(client.ServerFingerprintMismatch) as raised:
            await session.get(server.url, ssl=wrong)
        assert raised.value.got == hashlib.sha256(der).digest()
        assert await _get(session, server.url, ssl=right) == b"ok"
        await assert_nothing_acquired(session.connector)
        await until(lambda: server.open == 1)
        assert server.accepted == 2
        # Nothing was sent to a server without the right one.
        assert len(server.heads) == 2


def _certificate(path: str) -> str:
    with open(path) as file:
        text = file.read()
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    return begin + text.split(begin)[1].split(end)[0] + end


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_versions(client: Any, tls: Any, version: ssl.TLSVersion) -> None:
    context = tls.server()
    context.minimum_version = context.maximum_version = version
    async with RawServer(keeping_alive(raw_response(b"x" * 300_000)), ssl=context) as server:
        async with client.ClientSession(connector=client.TCPConnector(ssl=tls.client())) as session:
            for _ in range(3):
                async with session.get(server.url) as response:
                    transport = response.connection.transport if response.connection else None
                    if transport is not None:
                        assert transport.get_extra_info("ssl_object").version() == f"TLSv1.{version.name[-1]}"
                    assert len(await response.read()) == 300_000
            assert server.accepted == 1


async def test_versions_that_do_not_meet(client: Any, tls: Any) -> None:
    context, own = tls.server(), tls.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    own.minimum_version = ssl.TLSVersion.TLSv1_3
    async with RawServer(keeping_alive(), ssl=context) as server, client.ClientSession() as session:
        with pytest.raises(client.ClientConnectorError):
            await session.get(server.url, ssl=own)
        await assert_nothing_acquired(session.connector)


async def test_a_server_without_tls(client: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(10)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async with RawServer(script) as server, client.ClientSession() as session:
        with pytest.raises(client.ClientConnectorSSLError):
            await session.get(f"https://127.0.0.1:{server.port}/")
        await assert_nothing_acquired(session.connector)


async def test_a_server_that_hangs_up_in_the_handshake(client: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(10)
        if peer.number % 2:
            peer.reset()

    async with RawServer(script) as server, client.ClientSession() as session:
        for _ in range(4):
            with pytest.raises(client.ClientConnectionError):
                await session.get(f"https://127.0.0.1:{server.port}/")
        await assert_nothing_acquired(session.connector)


@pytest.mark.parametrize("close_notify", [True, False])
@pytest.mark.parametrize("framing", ["length", "until the end"])
async def test_the_end_of_tls(client: Any, tls: Any, framing: str, close_notify: bool) -> None:
    """With ``close_notify`` and without, which many servers do not send: as asyncio's transports do, the end
    is taken for one. Only a body with a length, or in chunks, is known to be whole."""
    length = "Content-Length: 5\r\n" if framing == "length" else ""
    response = f"HTTP/1.1 200 OK\r\n{length}Connection: close\r\n\r\nhello".encode()

    def serve(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        with tls.server().wrap_socket(sock, server_side=True) as secure:
            secure.recv(65536)
            secure.sendall(response)
            if close_notify:
                try:
                    secure.unwrap()
                except OSError:
                    pass
            else:
                # Behind the back of TLS.
                os.close(secure.detach())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.get_running_loop().run_in_executor(None, serve, listener)
        async with client.ClientSession() as session:
            url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
            assert await _get(session, url, ssl=tls.client()) == b"hello"
            await assert_nothing_acquired(session.connector)
        await serving


async def test_a_protocol_method_of_the_program_sees_the_end_of_tls(client: Any, tls: Any) -> None:
    """Programs do as aiohttp's documents once said: they put a method of their own into the protocol."""
    lost, ended = asyncio.Event(), asyncio.Event()

    async with RawServer(keeping_alive(), ssl=tls.server()) as server:
        async with client.ClientSession(connector=client.TCPConnector(ssl=tls.client())) as session:
            await _get(session, server.url)
            ((handler, _),) = next(iter(session.connector._conns.values()))
            protocol = handler.transport._ssl_protocol
            assert protocol._extra["ssl_object"].getpeercert()
            original, original_eof = protocol.connection_lost, protocol.eof_received

            def connection_lost(error: BaseException | None) -> None:
                original(error)
                lost.set()

            protocol.connection_lost = connection_lost
            protocol.eof_received = original_eof
            handler.closed.add_done_callback(lambda _: ended.set())
            del handler, protocol
        async with asyncio.timeout(5):
            await lost.wait()
            await ended.wait()


# A process that has no descriptor left.

_NONE_LEFT = """
import asyncio, os, resource, sys, whorl, whorl.http

async def main():
    outcomes = []
    async with whorl.http.ClientSession() as session:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        taken = []
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            pass
        for url in ("http://127.0.0.1:1/", "http://localhost:1/"):
            for options in ({}, {"data": {"a": "b"}}, {"json": 1}, {"timeout": 5}, {"proxy": "http://127.0.0.1:2"}):
                try:
                    await session.post(url, **options)
                except whorl.http.ClientOSError as error:
                    outcomes.append(error)
        for descriptor in taken:
            os.close(descriptor)
    print(len(outcomes))

(whorl if sys.argv[1] == "whorl" else asyncio).run(main())
"""


@pytest.mark.parametrize("loop", ["whorl", "asyncio"])
def test_the_first_request_finds_no_descriptor(loop: str) -> None:
    """What it needs was imported with the session, or is an error of the client."""
    command = [sys.executable, "-c", _NONE_LEFT, loop]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "10", done.stderr
