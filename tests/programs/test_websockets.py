"""The websockets library: its server and client on the loop under test."""

# ruff: noqa: E402 - the package is looked for before it is imported

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.programs.support import Harness, Tls, require_package

require_package("websockets")

from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.asyncio.server import Server, ServerConnection, broadcast, serve, unix_serve
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidHandshake

BIG = bytes(range(256)) * 32768  # 8 MiB


async def echo(connection: ServerConnection) -> None:
    """Sends every message back."""
    async for message in connection:
        await connection.send(message)


@asynccontextmanager
async def serving(handler: Any = echo, **options: Any) -> AsyncIterator[tuple[str, Server]]:
    """A server on a port of 127.0.0.1, without a limit to its messages; yields its URI, and it."""
    async with serve(handler, "127.0.0.1", 0, max_size=None, **options) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"{'wss' if options.get('ssl') else 'ws'}://localhost:{port}", server


def client(uri: str, **options: Any) -> connect:
    """A connection, made directly and without a limit to its messages."""
    return connect(uri, proxy=None, max_size=None, **options)


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_messages(run: Harness, tls: Tls, encrypted: bool, compression: str | None) -> None:
    async def main() -> None:
        server_side = {"ssl": tls.server} if encrypted else {}
        client_side = {"ssl": tls.client} if encrypted else {}
        async with serving(compression=compression, **server_side) as (uri, _):
            async with client(uri, compression=compression, **client_side) as connection:
                for number in range(200):
                    await connection.send(f"message {number}")
                    assert await connection.recv() == f"message {number}"
                await connection.send(BIG)
                assert await connection.recv() == BIG
                await connection.send(
                    BIG[n : n + 100_000] for n in range(0, len(BIG), 100_000)
                )  # in fragments
                assert await connection.recv() == BIG

    run(main())


def test_many_clients(run: Harness) -> None:
    async def main() -> None:
        async def talk(number: int) -> None:
            async with client(uri) as connection:
                for turn in range(20):
                    await connection.send(f"{number}.{turn}")
                    assert await connection.recv() == f"{number}.{turn}"

        async with serving() as (uri, server):
            await asyncio.gather(*map(talk, range(100)))
            while server.connections:
                await asyncio.sleep(0.01)

    run(main(), limit=100)


def test_sender_does_not_outrun_the_reader(run: Harness) -> None:
    """All messages are written before the first is read: both sides' flow control is at work."""

    async def main() -> None:
        async with serving() as (uri, _), client(uri) as connection:

            async def send() -> None:
                for number in range(300):
                    await connection.send(number.to_bytes(2, "big") * 16384)

            sending = asyncio.ensure_future(send())
            for number in range(300):
                assert await connection.recv() == number.to_bytes(2, "big") * 16384
            await sending

    run(main())


def test_ping_pong_and_keep_alive(run: Harness) -> None:
    async def main() -> None:
        async with serving(ping_interval=0.05, ping_timeout=20) as (uri, _):
            async with client(uri, ping_interval=0.05, ping_timeout=20) as connection:
                pongs = await asyncio.gather(*[await connection.ping() for _ in range(50)])
                assert len(pongs) == 50
                assert all(latency >= 0 for latency in pongs)
                await asyncio.sleep(0.3)
                await connection.send("still here")
                assert await connection.recv() == "still here"

    run(main())


def test_peer_without_pongs_is_dropped(run: Harness) -> None:
    async def main() -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            from websockets.http11 import Request
            from websockets.server import ServerProtocol

            protocol = ServerProtocol()
            protocol.receive_data(await reader.readuntil(b"\r\n\r\n"))
            (request,) = protocol.events_received()
            assert isinstance(request, Request)
            protocol.send_response(protocol.accept(request))
            writer.write(b"".join(protocol.data_to_send()))
            with contextlib.suppress(OSError):
                while await reader.read(1000):
                    pass  # reads pings, and answers none
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

        async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
            uri = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with client(uri, ping_interval=0.05, ping_timeout=0.1, close_timeout=0.1) as connection:
                with pytest.raises(ConnectionClosedError):
                    await connection.recv()

    run(main())


def test_broadcast(run: Harness) -> None:
    async def main() -> None:
        async def stay(connection: ServerConnection) -> None:
            await connection.wait_closed()

        async with serving(stay) as (uri, server), contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(client(uri)) for _ in range(50)]
            while len(server.connections) < 50:
                await asyncio.sleep(0.01)
            for number in range(20):
                broadcast(server.connections, f"news {number}")
            for connection in clients:
                assert [await connection.recv() for _ in range(20)] == [
                    f"news {number}" for number in range(20)
                ]

    run(main())


def test_closing_and_refusing(run: Harness) -> None:
    async def main() -> None:
        async def leave(connection: ServerConnection) -> None:
            await connection.close(4000, "done")

        async def fail(connection: ServerConnection) -> None:
            await connection.recv()
            assert connection.transport is not None
            connection.transport.abort()

        async with serving(leave) as (uri, _), client(uri) as connection:
            with pytest.raises(ConnectionClosedError) as closed:
                await connection.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "done")
        async with serving(fail) as (uri, _), client(uri) as connection:
            await connection.send("go")
            with pytest.raises(ConnectionClosedError):
                await connection.recv()
        async with serving(process_request=lambda connection, _: connection.respond(403, "no")) as (uri, _):
            with pytest.raises(InvalidHandshake):
                await client(uri)

    run(main())


def test_server_shutdown_closes_the_clients(run: Harness) -> None:
    async def main() -> None:
        connections: list[ClientConnection] = []
        async with serving() as (uri, server):
            connections += [await client(uri) for _ in range(20)]
            server.close()
            await server.wait_closed()
        for connection in connections:
            with pytest.raises(ConnectionClosedOK):
                await connection.recv()
            assert connection.close_code == 1001

    run(main())


def test_unix_socket(run: Harness, tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "s")
        async with unix_serve(echo, path), unix_connect(path) as connection:
            await connection.send("by path")
            assert await connection.recv() == "by path"

    run(main())
