"""The clock for tests and TLS: it does not jump over a handshake that goes ahead, nor over a peer outside."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from typing import Any

import pytest

from tests.event_loop.certificates import Certificates
from whorl import testing

#: Seconds of the loop's clock. A test that took them in real time would not end.
HOUR = 3600.0
#: Real seconds after which a thread of a test gives up. Long, so that only a hang reaches it.
PATIENCE = 10.0


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


async def listener_of(kind: str, tmp_path: Any, serve: Any, **options: Any) -> tuple[asyncio.Server, Any]:
    """A server of the loop, and a function that connects to it."""
    if kind == "tcp":
        server = await asyncio.start_server(serve, "127.0.0.1", 0, **options)
        address = server.sockets[0].getsockname()
        return server, lambda **more: asyncio.open_connection(*address, **more)
    path = str(tmp_path / "socket")
    server = await asyncio.start_unix_server(serve, path, **options)
    return server, lambda **more: asyncio.open_unix_connection(path, **more)


def client_options(certificates: Certificates) -> dict[str, Any]:
    return {"ssl": certificates.client(), "server_hostname": "localhost"}


async def serve_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError):
        writer.write(await reader.readexactly(4))
        await reader.read()
    writer.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_handshake_within_the_loop_takes_no_time(
    certificates: Certificates, tmp_path: Any, kind: str, version: ssl.TLSVersion
) -> None:
    """Neither end's limit is reached, however short: time does not jump between two steps of a handshake."""
    server_context = certificates.server()
    server_context.maximum_version = version

    async def main() -> None:
        loop = asyncio.get_running_loop()
        limit: dict[str, Any] = {"ssl_handshake_timeout": 0.001}
        server, connect = await listener_of(kind, tmp_path, serve_echo, ssl=server_context, **limit)
        async with server:
            for _ in range(20):
                began = loop.time()
                reader, writer = await connect(**client_options(certificates), **limit)
                assert loop.time() == began
                writer.write(b"ping")
                assert await reader.readexactly(4) == b"ping"
                assert loop.time() == began
                # The connection is at rest: the clock jumps.
                await asyncio.sleep(HOUR)
                assert loop.time() - began == pytest.approx(HOUR, abs=1e-6)
                writer.close()
                await writer.wait_closed()

    testing.run(main())


def test_a_connection_that_becomes_tls_takes_no_time(certificates: Certificates) -> None:
    server_context, client_context = certificates.server(), certificates.client()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await writer.start_tls(server_context, ssl_handshake_timeout=0.001)
        await serve_echo(reader, writer)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            began = loop.time()
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            await writer.start_tls(client_context, server_hostname="localhost", ssl_handshake_timeout=0.001)
            writer.write(b"ping")
            assert await reader.readexactly(4) == b"ping"
            assert loop.time() == began
            writer.close()
            await writer.wait_closed()

    testing.run(main())


def test_a_handshake_with_a_peer_outside_of_the_loop_holds_the_clock(certificates: Certificates) -> None:
    """However long the peer takes in real time, and in whichever step."""
    server_context = certificates.server()

    def serve(listener: socket.socket) -> None:
        # The client resets the connection once it has seen its handshake end.
        with listener.accept()[0] as raw, contextlib.suppress(ConnectionError):
            raw.settimeout(PATIENCE)
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            engine = server_context.wrap_bio(incoming, outgoing, server_side=True)
            while True:
                time.sleep(0.01)
                done = False
                with contextlib.suppress(ssl.SSLWantReadError):
                    engine.do_handshake()
                    done = True
                if outgoing.pending:
                    raw.sendall(outgoing.read())
                if done:
                    break
                incoming.write(raw.recv(65536))
            raw.recv(65536)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(PATIENCE)
            thread = threading.Thread(target=serve, args=(listener,))
            thread.start()
            began = loop.time()
            _, writer = await asyncio.open_connection(
                *listener.getsockname(), **client_options(certificates), ssl_handshake_timeout=0.001
            )
            assert loop.time() == began
            writer.transport.abort()
            await asyncio.to_thread(thread.join)

    testing.run(main())


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_server_within_the_loop_that_never_answers(
    certificates: Certificates, tmp_path: Any, kind: str
) -> None:
    """Nothing but the limit can come: the clock jumps to it."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * HOUR)
        writer.close()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server, connect = await listener_of(kind, tmp_path, serve)
        async with server:
            began = loop.time()
            with pytest.raises(ConnectionAbortedError):
                await connect(**client_options(certificates), ssl_handshake_timeout=HOUR)
            assert loop.time() - began == pytest.approx(HOUR, abs=1e-6)
            await asyncio.sleep(2 * HOUR)

    testing.run(main())


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_client_within_the_loop_that_never_begins(
    certificates: Certificates, tmp_path: Any, kind: str
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server, connect = await listener_of(
            kind, tmp_path, serve_echo, ssl=certificates.server(), ssl_handshake_timeout=HOUR
        )
        async with server:
            began = loop.time()
            reader, writer = await connect()
            assert await reader.read() == b""
            assert loop.time() - began == pytest.approx(HOUR, abs=1e-6)
            writer.close()

    testing.run(main())


def test_a_peer_outside_of_the_loop_that_never_answers_is_named(certificates: Certificates) -> None:
    """The clock does not jump to the limit, as the answer may come."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            await asyncio.open_connection(
                *listener.getsockname(), **client_options(certificates), ssl_handshake_timeout=HOUR
            )

    with pytest.raises(testing.ClockStuckError, match=r"descriptor \d+ \(socket:"):
        with asyncio.Runner(loop_factory=lambda: testing.EventLoop(patience=0.05)) as runner:
            runner.run(main())
