"""Streams on the loop: reading, draining, ending, upgrading."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .support import alone, connected, listener, reset, turns

if TYPE_CHECKING:
    from .certificates import Certificates

Loop = asyncio.AbstractEventLoop
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()


@contextlib.asynccontextmanager
async def conversation(
    handler: Handler = echo, **options: object
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), **options)  # type: ignore[arg-type]
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        server.close()
        await server.wait_closed()
        await alone()


async def test_lines_and_exact_counts(loop: Loop) -> None:
    async with conversation() as (reader, writer):
        writer.writelines([b"first line\nsecond", b" line\n", b"12345|rest"])
        assert await reader.readline() == b"first line\n"
        assert await reader.readline() == b"second line\n"
        assert await reader.readuntil(b"|") == b"12345|"
        assert await reader.readexactly(4) == b"rest"
        writer.write_eof()
        assert await reader.read() == b""
        assert reader.at_eof()
        with pytest.raises(asyncio.IncompleteReadError):
            await reader.readexactly(1)


async def test_much_data_with_flow_control(loop: Loop) -> None:
    data = bytes(range(256)) * 20_000
    async with conversation() as (reader, writer):

        async def send() -> None:
            for at in range(0, len(data), 100_000):
                writer.write(data[at : at + 100_000])
                await writer.drain()
            writer.write_eof()

        sending = asyncio.create_task(send())
        assert await reader.read(-1) == data
        await sending


async def test_lines_that_are_too_long(loop: Loop) -> None:
    async with conversation(limit=100) as (reader, writer):
        writer.write(b"x" * 1000 + b"\n")
        with pytest.raises(ValueError, match="limit"):
            await reader.readline()


async def test_draining_after_a_reset_raises(loop: Loop) -> None:
    with listener() as server:
        reader, writer = await asyncio.open_connection(*server.getsockname())
        reset(server.accept()[0])
        with pytest.raises(ConnectionError):
            for _ in range(100):
                writer.write(b"x" * 10_000)
                await writer.drain()
                await asyncio.sleep(0.001)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        with contextlib.suppress(ConnectionError):
            await reader.read()


async def test_draining_waits_for_a_slow_reader(loop: Loop) -> None:
    with listener() as server:
        _reader, writer = await asyncio.open_connection(*server.getsockname())
        peer, _ = server.accept()
        writer.write(b"x" * 20_000_000)
        draining = asyncio.ensure_future(writer.drain())
        await turns(5)
        assert not draining.done()
        draining.cancel()
        await asyncio.wait([draining])
        peer.close()
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.jumping_clock
async def test_cancelling_a_read_loses_nothing(loop: Loop) -> None:
    async with conversation() as (reader, writer):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await reader.readexactly(5)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"


@pytest.mark.jumping_clock
async def test_unix_streams(loop: Loop, tmp_path: Path) -> None:
    server = await asyncio.start_unix_server(echo, tmp_path / "socket")
    reader, writer = await asyncio.open_unix_connection(tmp_path / "socket")
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    await alone()


async def test_a_reader_of_a_transport(loop: Loop) -> None:
    reader = asyncio.StreamReader()
    async with connected(lambda: asyncio.StreamReaderProtocol(reader)) as pair:
        await pair.peer_sends(b"hello\n")
        assert await reader.readline() == b"hello\n"
        pair.peer.close()
        assert await reader.read() == b""
    await turns(5)


async def test_start_tls_on_streams(loop: Loop, certificates: Certificates) -> None:
    async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"OK\n")
        await writer.drain()
        await writer.start_tls(certificates.server())
        await echo(reader, writer)

    server = await asyncio.start_server(upgrade, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"STARTTLS\n")
    assert await reader.readline() == b"OK\n"
    await writer.start_tls(certificates.client(), server_hostname="localhost")
    for size in (5, 100_000):
        writer.write(b"x" * size)
        assert await reader.readexactly(size) == b"x" * size
    assert isinstance(writer.get_extra_info("ssl_object"), ssl.SSLObject)
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()
    server.close()
    await asyncio.wait_for(server.wait_closed(), 5)
    await alone()


@pytest.mark.jumping_clock
async def test_many_conversations_at_once(loop: Loop) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=200)

    async def one(number: int) -> None:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for turn in range(5):
            message = b"%d %d\n" % (number, turn)
            writer.write(message)
            assert await reader.readline() == message
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(one(number) for number in range(100)))
    server.close()
    await server.wait_closed()
    await alone()
