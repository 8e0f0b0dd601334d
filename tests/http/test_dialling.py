"""Connections: how they are made, resumed and looked at before they are used again."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import socket
import ssl
import time
import warnings
import weakref
from collections.abc import AsyncIterator
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
    once,
    raw_response,
    until,
)
from tests.http.resolver_support import Resolver

pytestmark = pytest.mark.jumping_clock

NO_LIMIT = whorl.http.ClientTimeout()


async def fetch(session: Any, url: str, **options: Any) -> bytes:
    async with session.get(url, **options) as response:
        return bytes(await response.read())


# Without a coroutine, unless something of it is the program's.


async def test_a_connection_takes_no_coroutine(coroutines: list[str], tls: Any, tmp_path: Path) -> None:
    async with (
        RawServer(keeping_alive()) as server,
        RawServer(keeping_alive(), ssl=tls.server()) as secure,
        whorl.http.ClientSession(connector=whorl.http.TCPConnector(ssl=tls.client())) as session,
    ):
        assert await fetch(session, server.url) == b"ok"
        assert await fetch(session, secure.url) == b"ok"
    path = str(tmp_path / "socket")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        writer.close()

    async with (
        await asyncio.start_unix_server(serve, path),
        whorl.http.ClientSession(connector=whorl.http.UnixConnector(path)) as session,
    ):
        assert await fetch(session, "http://anything/") == b"ok"
    assert coroutines == []


class Connector(whorl.http.TCPConnector):
    made = 0

    async def _create_connection(self, *args: Any, **kwargs: Any) -> Any:
        self.made += 1
        return await super()._create_connection(*args, **kwargs)


async def test_what_a_program_overrides_is_called(coroutines: list[str]) -> None:
    made: list[socket.socket] = []

    def factory(info: Any) -> socket.socket:
        made.append(socket.socket(info[0], info[1], info[2]))
        return made[-1]

    async with RawServer(keeping_alive()) as server:
        connector = Connector()
        async with whorl.http.ClientSession(connector=connector) as session:
            assert await fetch(session, server.url) == b"ok"
        assert connector.made == 1
        connector = whorl.http.TCPConnector(socket_factory=factory)
        async with whorl.http.ClientSession(connector=connector) as session:
            assert await fetch(session, server.url) == b"ok"
        assert len(made) == 1
    assert coroutines == ["acquire", "acquire"]


async def test_a_local_address(coroutines: list[str]) -> None:
    peers: list[Any] = []

    async def script(peer: Peer) -> None:
        await peer.request()
        peers.append(peer.writer.get_extra_info("peername"))
        await peer.send(OK)

    async with RawServer(script) as server:
        connector = whorl.http.TCPConnector(local_addr=("127.0.0.2", 0))
        async with whorl.http.ClientSession(connector=connector) as session:
            assert await fetch(session, server.url) == b"ok"
        connector = whorl.http.TCPConnector(local_addr=("::1", 0))
        async with whorl.http.ClientSession(connector=connector) as session:
            with pytest.raises(whorl.http.ClientConnectorError, match="no local address"):
                await session.get(server.url)
            await assert_nothing_acquired(connector)
    assert [host for host, _ in peers] == ["127.0.0.2"]
    assert coroutines == []


async def test_one_lookup_for_all_that_wait_for_it(coroutines: list[str]) -> None:
    resolver = Resolver("127.0.0.1", delay=0.01)
    async with RawServer(keeping_alive()) as server:
        connector = whorl.http.TCPConnector(resolver=resolver)
        async with whorl.http.ClientSession(connector=connector) as session:
            url = f"http://a.test:{server.port}/"
            bodies = await asyncio.gather(*(fetch(session, url) for _ in range(10)))
        assert bodies == [b"ok"] * 10
    assert resolver.lookups == 1
    assert coroutines == []


async def test_the_next_address_after_one_that_refuses(coroutines: list[str]) -> None:
    async with RawServer(keeping_alive()) as server:
        connector = whorl.http.TCPConnector(resolver=Resolver("127.0.0.9", "::1", "127.0.0.1", delay=0.01))
        async with whorl.http.ClientSession(connector=connector) as session:
            assert await fetch(session, f"http://a.test:{server.port}/") == b"ok"
            with pytest.raises(whorl.http.ClientConnectorError) as caught:
                # The port of no server.
                await session.get("http://a.test:9/")
    assert "Multiple exceptions" in str(caught.value)
    assert all(f"'{host}', 9" in str(caught.value) for host in ("127.0.0.9", "::1", "127.0.0.1"))
    assert coroutines == []


async def test_the_next_address_after_one_with_another_certificate(coroutines: list[str], tls: Any) -> None:
    der = ssl.PEM_cert_to_DER_cert(Path(tls.server_pem).read_text().split("-----BEGIN PRIVATE")[0])
    pinned = whorl.http.Fingerprint(hashlib.sha256(der).digest())
    async with RawServer(keeping_alive(), ssl=tls.server()) as server:
        another = await asyncio.start_server(
            lambda _, writer: writer.close(), "127.0.0.9", server.port, ssl=tls.expired()
        )
        connector = whorl.http.TCPConnector(resolver=Resolver("127.0.0.9", "127.0.0.1", delay=0.01))
        async with another, whorl.http.ClientSession(connector=connector) as session:
            url = f"https://a.test:{server.port}/"
            async with session.get(url, ssl=pinned) as response:
                assert await response.read() == b"ok"
            with pytest.raises(whorl.http.ServerFingerprintMismatch):
                await session.get(url, ssl=whorl.http.Fingerprint(bytes(32)))
            await assert_nothing_acquired(connector)
            # Nothing was sent to a server without the right one.
            assert len(server.heads) == 1
    assert coroutines == []


@pytest.mark.parametrize("how", ["cancelled", "total", "sock_connect", "dropped"])
async def test_a_handshake_that_is_given_up(how: str, tls: Any) -> None:
    """By the task, by a limit, by a program that drops it: nothing of it stays open."""

    async def silent(peer: Peer) -> None:
        await peer.gone()

    async with RawServer(silent) as server:
        connector = whorl.http.TCPConnector(ssl=tls.client(), limit=1)
        async with whorl.http.ClientSession(connector=connector) as session:
            url = server.url.replace("http:", "https:")
            limits = {how: 0.05} if how in ("total", "sock_connect") else {}
            request: Any = session.get(url, timeout=whorl.http.ClientTimeout(**limits))
            if how == "dropped":
                assert request.send(None) is not None
                await until(lambda: server.open)
                del request
            else:
                task = asyncio.ensure_future(request.__aenter__())
                await until(lambda: server.open)
                if how == "cancelled":
                    task.cancel()
                expected = {
                    "cancelled": asyncio.CancelledError,
                    "total": TimeoutError,
                    "sock_connect": whorl.http.ConnectionTimeoutError,
                }
                with pytest.raises(expected[how]):
                    await task
            await until(lambda: not server.open)
            await assert_nothing_acquired(connector)


async def test_a_loop_that_sets_no_timer(tls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request whose limit cannot be kept fails, and what it has begun of a connection is closed."""
    loop = asyncio.get_running_loop()
    call_later = loop.call_later
    limit = 12.25

    def refuses(delay: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
        if delay == limit:
            raise RuntimeError("no timer")
        return call_later(delay, *args, **options)

    async def silent(peer: Peer) -> None:
        await peer.gone()

    async with RawServer(silent) as server:
        connector = whorl.http.TCPConnector(ssl=tls.client(), limit=1)
        async with whorl.http.ClientSession(connector=connector) as session:
            monkeypatch.setattr(loop, "call_later", refuses)
            with pytest.raises(RuntimeError, match="no timer"):
                await fetch(
                    session,
                    server.url.replace("http:", "https:"),
                    timeout=whorl.http.ClientTimeout(sock_connect=limit),
                )
            await assert_nothing_acquired(connector)
            monkeypatch.undo()
            await until(lambda: server.accepted == 1 and not server.open)


@pytest.mark.parametrize("waits_for", ["handshake", "tunnel"])
async def test_a_session_that_is_closed_while_it_connects(waits_for: str, tls: Any) -> None:
    """The request fails at once: it does not wait for what it needs no more."""
    async with RawServer(once(then="stall")) as server:
        connector = whorl.http.TCPConnector(ssl=tls.client(), limit=1)
        session = whorl.http.ClientSession(connector=connector)
        proxy = server.url if waits_for == "tunnel" else None
        url = server.url.replace("http:", "https:")
        tasks = [
            asyncio.ensure_future(session.get(url, proxy=proxy, timeout=NO_LIMIT).__aenter__())
            for _ in range(2)
        ]
        await until(lambda: server.open)
        await session.close()
        for task in tasks:
            with pytest.raises(whorl.http.ClientConnectionError, match="closed"):
                await task
        await assert_nothing_acquired(connector)
        await until(lambda: not server.open)


async def test_a_session_that_is_closed_during_a_lookup() -> None:
    """No connection is begun once the addresses are known."""
    looking, found = asyncio.Event(), asyncio.Event()

    class Slow(Resolver):
        async def resolve(self, *args: Any, **kwargs: Any) -> Any:
            looking.set()
            await found.wait()
            return await super().resolve(*args, **kwargs)

    async with RawServer(keeping_alive()) as server:
        connector = whorl.http.TCPConnector(resolver=Slow("127.0.0.1"))
        session = whorl.http.ClientSession(connector=connector)
        task = asyncio.ensure_future(session.get(f"http://a.test:{server.port}/").__aenter__())
        await looking.wait()
        await session.close()
        found.set()
        with pytest.raises(whorl.http.ClientConnectionError, match="closed"):
            await task
        assert server.accepted == 0


# TLS sessions (RFC 8446, section 2.2).


async def resumed(url: str, context: ssl.SSLContext, **options: Any) -> bool:
    """Whether a new connection resumes a session."""
    async with whorl.http.ClientSession() as session:
        assert await fetch(session, url, ssl=context, **options) == b"ok"
        ((connection, _),) = next(iter(session.connector._conns.values()))  # type: ignore[union-attr]
        return bool(connection.transport.get_extra_info("ssl_object").session_reused)


async def test_a_session_is_resumed_with_the_same_context(tls: Any) -> None:
    context, other = tls.client(), tls.client()
    async with RawServer(keeping_alive(), ssl=tls.server()) as server:
        assert [await resumed(server.url, context) for _ in range(3)] == [False, True, True]
        assert not await resumed(server.url, other)


async def test_the_session_of_a_connection_that_is_closed_is_kept(tls: Any) -> None:
    """It ends with the response, and its tickets have come before."""
    reused = []

    async def script(peer: Peer) -> None:
        reused.append(peer.writer.get_extra_info("ssl_object").session_reused)
        await peer.request()
        await peer.send(raw_response(b"ok", "Connection: close"))

    connector = whorl.http.TCPConnector(ssl=tls.client())
    async with (
        RawServer(script, ssl=tls.server()) as server,
        whorl.http.ClientSession(connector=connector) as session,
    ):
        for _ in range(3):
            assert await fetch(session, server.url) == b"ok"
    assert reused == [False, True, True]


async def test_a_session_is_not_resumed_for_another_server_or_name(tls: Any) -> None:
    context = tls.client()
    context.check_hostname = False
    certificates = tls.server()
    async with (
        RawServer(keeping_alive(), ssl=certificates) as server,
        RawServer(keeping_alive(), ssl=certificates) as elsewhere,
    ):
        assert not await resumed(server.url, context)
        assert not await resumed(elsewhere.url, context)
        assert not await resumed(server.url, context, server_hostname="another.test")
        assert await resumed(server.url, context)


async def test_a_session_that_was_not_verified_is_not_resumed_where_it_has_to_be(tls: Any) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    async with RawServer(keeping_alive(), ssl=tls.server()) as server:
        assert not await resumed(server.url, context)
        context.verify_mode = ssl.CERT_REQUIRED
        with pytest.raises(whorl.http.ClientConnectorCertificateError):
            await resumed(server.url, context)


async def test_a_session_is_not_resumed_with_another_certificate_of_the_client(tls: Any) -> None:
    """A session stands for what a client has proved by its certificate."""
    context, certificates = tls.client(), tls.server()
    certificates.verify_mode = ssl.CERT_REQUIRED
    certificates.load_verify_locations(tls.authority)
    shown = []

    async def script(peer: Peer) -> None:
        shown.append(hashlib.sha256(peer.writer.get_extra_info("ssl_object").getpeercert(True)).hexdigest())
        await peer.request()
        await peer.send(OK)

    async with RawServer(script, ssl=certificates) as server:
        context.load_cert_chain(tls.client_pem)
        resumptions = [await resumed(server.url, context) for _ in range(2)]
        context.load_cert_chain(tls.server_pem)
        resumptions += [await resumed(server.url, context) for _ in range(2)]
    assert shown[0] == shown[1] != shown[2] == shown[3]
    # Where nothing is known of certificates, no session is kept.
    assert resumptions in ([False, True, False, True], [False] * 4)


async def test_a_session_is_not_resumed_when_more_is_demanded_of_the_server(tls: Any) -> None:
    context = tls.client()
    async with RawServer(keeping_alive(), ssl=tls.server()) as server:
        assert not await resumed(server.url, context)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        with pytest.raises(whorl.http.ClientConnectorCertificateError, match="CRL"):
            await resumed(server.url, context)
        context.verify_flags &= ~ssl.VERIFY_CRL_CHECK_LEAF
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        assert not await resumed(server.url, context)


async def test_sessions_are_freed_with_their_context(tls: Any) -> None:
    contexts: weakref.WeakSet[ssl.SSLContext] = weakref.WeakSet()
    async with RawServer(keeping_alive(), ssl=tls.server()) as server:
        for _ in range(3):
            context = tls.client()
            contexts.add(context)
            await resumed(server.url, context)
        del context
        await until(lambda: not server.open)
        gc.collect()
        assert not contexts


# Connections that the server has closed.


async def closing(peer: Peer) -> None:
    """Says that it keeps the connection, and closes it."""
    await peer.request()
    await peer.send(OK)


async def _one_piece() -> AsyncIterator[bytes]:
    yield b"data"


async def _ignore(*_: object) -> None:
    pass


@pytest.mark.parametrize("what", ["post", "put-generator", "traced"])
async def test_a_connection_that_has_ended_is_not_used_again(ours: Any, what: str) -> None:
    """The end has arrived, and the loop has not polled since: a request would be lost with it."""
    configs = []
    if what == "traced":
        configs.append(ours.TraceConfig())
        configs[0].on_connection_reuseconn.append(_ignore)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"

        def answer() -> None:
            connection, _ = server.accept()
            received = connection.recv(65536)
            while b"chunked" in received and not received.endswith(b"0\r\n\r\n"):
                received += connection.recv(65536)
            connection.sendall(OK)
            connection.close()

        async with ours.ClientSession(trace_configs=configs) as session:
            for _ in range(5):
                thread = asyncio.get_running_loop().run_in_executor(None, answer)
                method, data = ("PUT", _one_piece()) if what == "put-generator" else ("POST", None)
                async with session.request(method, url, data=data) as response:
                    assert await response.read() == b"ok"
                # Not a wait of the loop.
                while not thread.done():
                    time.sleep(0.001)
                    await asyncio.sleep(0)
                time.sleep(0.005)


async def test_a_waiter_that_gets_an_ended_connection_keeps_its_place(ours: Any) -> None:
    served: list[int] = []
    with socket.create_server(("127.0.0.1", 0), backlog=10) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"

        def answer() -> None:
            while len(served) < 6:
                connection, _ = server.accept()
                served.append(int(connection.recv(65536).split(b" ")[1][1:]))
                # The end comes with the response.
                connection.send(OK, socket.MSG_MORE)
                connection.close()

        thread = asyncio.get_running_loop().run_in_executor(None, answer)
        async with ours.ClientSession(connector=ours.TCPConnector(limit=1)) as session:

            async def fetch(number: int) -> None:
                async with session.post(f"{url}{number}") as response:
                    assert await response.read() == b"ok"

            await asyncio.gather(*map(fetch, range(6)))
        await thread
    assert served == list(range(6))


@pytest.mark.parametrize("kind", [bytes, str])
async def test_a_connection_with_an_unsent_request_is_not_used_again(ours: Any, kind: type) -> None:
    """The server has answered early, and reads no more: the next request would wait behind the rest."""

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(OK)
        if peer.number == 0:
            await peer.gone()

    data = "x" * (20 << 20) if kind is str else b"x" * (20 << 20)
    async with RawServer(script) as server, ours.ClientSession() as session:
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            async with session.post(server.url, data=data) as response:
                assert await response.read() == b"ok"
        async with session.get(server.url, timeout=ours.ClientTimeout(total=5)) as response:
            assert await response.read() == b"ok"
        assert server.accepted == 2


async def test_a_read_that_is_cancelled_loses_nothing(ours: Any) -> None:
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        await go_on.wait()
        await peer.send(b"cd")

    async with (
        RawServer(script) as server,
        ours.ClientSession() as session,
        session.get(server.url) as response,
    ):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(response.read(), 0.05)
        go_on.set()
        assert await response.read() == b"abcd"


# Expect: 100-continue (RFC 9110, section 10.1.1).


@pytest.mark.parametrize("status", ["413 Content Too Large", "417 Expectation Failed", "200 OK"])
async def test_a_body_that_is_refused_is_not_sent(ours: Any, status: str) -> None:
    received = []

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        received.append(await peer.reader.read())

    async with RawServer(script) as server, ours.ClientSession() as session:
        for data in (b"secret" * 1000, {"a": "b"}):
            async with session.post(server.url, data=data, expect100=True) as response:
                assert str(response.status) in status
        await until(lambda: len(received) == 2)
    assert received == [b"", b""]
    assert server.accepted == 2


async def test_a_body_is_sent_to_a_server_that_does_not_answer_the_expectation(ours: Any) -> None:
    async def script(peer: Peer) -> None:
        _, body = await peer.request()
        assert body == b"body"
        await peer.send(OK)

    async with RawServer(script) as server, ours.ClientSession() as session:
        async with session.post(server.url, data=b"body", expect100=True) as response:
            assert await response.read() == b"ok"


@pytest.mark.parametrize("data", [b"abc", "abc"])
async def test_a_body_that_is_shorter_than_its_length_ends_the_connection(ours: Any, data: Any) -> None:
    """What follows would be taken for the rest of it (RFC 9112, section 9.3)."""

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(OK)
        await peer.gone()

    async with RawServer(script) as server, ours.ClientSession() as session:
        for _ in range(2):
            async with session.post(server.url, data=data, headers={"Content-Length": "9"}) as response:
                assert await response.read() == b"ok"
    assert server.accepted == 2


async def test_the_request_to_a_proxy_is_a_connectors_to_change(ours: Any) -> None:
    """And its TLS setting that of the connection to the proxy, so that a client certificate for the endpoint
    does not go there."""
    built = []

    class ForProxies(ours.TCPConnector):  # type: ignore[misc]
        def _update_proxy_auth_header_and_build_proxy_req(self, request: Any) -> Any:
            to_proxy = super()._update_proxy_auth_header_and_build_proxy_req(request)
            to_proxy._ssl = False
            built.append(to_proxy)
            return to_proxy

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 502 no\r\nContent-Length: 0\r\n\r\n")

    async with RawServer(script) as proxy, ours.ClientSession(connector=ForProxies()) as session:
        with pytest.raises(ours.ClientHttpProxyError):
            await session.get("https://example.test/", proxy=proxy.url)
    assert [request.ssl for request in built] == [False]
