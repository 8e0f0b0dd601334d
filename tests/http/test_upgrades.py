"""Connections that another protocol takes over after 101, by a parser of the program's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.http.raw_support import Peer, RawServer, until

pytestmark = pytest.mark.jumping_clock

FIELDS = {"Connection": "Upgrade", "Upgrade": "tcp"}
SWITCHING = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"


class LineParser:
    """Puts lines into a queue, as the parsers of aiodocker do; the line ``end`` is its last."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue
        self._rest = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line == b"end":
                return True, self._rest
            self._queue.feed_data(line, len(line))
        return False, b""

    def feed_eof(self) -> None:
        self._queue.feed_eof()

    def set_exception(self, exc: BaseException) -> None:
        self._queue.set_exception(exc)


async def test_a_parser_gets_what_comes_after_the_head(client: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(SWITCHING + b"first\nsec", b"ond\n")
        assert await peer.reader.readline() == b"ping\n"
        await peer.send(b"third\n")

    async with RawServer(script) as server, client.ClientSession() as session:
        response = await session.post(server.url, headers=FIELDS)
        assert response.status == 101
        assert await response.read() == b""
        protocol = response.connection.protocol
        queue = client.DataQueue(asyncio.get_running_loop())
        protocol.set_parser(LineParser(queue), queue)
        protocol.force_close()
        assert [await queue.read(), await queue.read()] == [b"first", b"second"]
        response.connection.transport.write(b"ping\n")
        await protocol._drain_helper()
        assert await queue.read() == b"third"
        with pytest.raises(client.EofStream):
            await queue.read()
        response.close()


async def test_a_parser_that_has_ended_gets_no_more(client: Any) -> None:
    read = 0

    def count() -> None:
        nonlocal read
        read += 1

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(SWITCHING)
        await peer.reader.readline()
        await peer.send(b"first\nend\nsecond\n")
        await peer.reader.readline()
        await peer.send(b"third\n")
        await peer.gone()

    async with RawServer(script) as server, client.ClientSession() as session:
        response = await session.post(server.url, headers=FIELDS)
        protocol, transport = response.connection.protocol, response.connection.transport
        queue = client.DataQueue(asyncio.get_running_loop())
        protocol.set_parser(LineParser(queue), queue, count)
        transport.write(b"\n")
        assert await queue.read() == b"first"
        transport.write(b"\n")
        await asyncio.sleep(0.05)
        assert queue.is_eof() is False
        assert read == 1
        response.close()
        await until(lambda: server.open == 0)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_connection_that_is_lost(ours: Any, when: str) -> None:
    """The reader is woken; with aiohttp it waits on if the connection was lost before."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(SWITCHING)
        await peer.reader.readline()
        peer.reset()

    async with RawServer(script) as server, ours.ClientSession() as session:
        response = await session.post(server.url, headers=FIELDS)
        protocol, transport = response.connection.protocol, response.connection.transport
        queue = ours.DataQueue(asyncio.get_running_loop())
        if when == "after":
            protocol.set_parser(LineParser(queue), queue)
        transport.write(b"\n")
        await until(lambda: not protocol.is_connected())
        if when == "before":
            protocol.set_parser(LineParser(queue), queue)
        with pytest.raises((ours.ClientOSError, ours.EofStream)):
            await queue.read()
        response.close()


async def test_flow_control_is_the_program_s(ours: Any) -> None:
    """Of the connection it has the methods that a transport has."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(SWITCHING)
        await peer.reader.readline()
        await peer.send(b"late\n")
        await peer.gone()

    async with RawServer(script) as server, ours.ClientSession() as session:
        response = await session.post(server.url, headers=FIELDS)
        protocol, transport = response.connection.protocol, response.connection.transport
        queue = ours.DataQueue(asyncio.get_running_loop())
        protocol.set_parser(LineParser(queue), queue)
        protocol.pause_reading()
        assert protocol._reading_paused
        transport.write(b"\n")
        reading = asyncio.ensure_future(queue.read())
        await asyncio.sleep(0.05)
        assert not reading.done()
        protocol.resume_reading()
        assert await reading == b"late"
        # Water marks of nothing: whatever is not written yet pauses the writer.
        transport.set_write_buffer_limits(0)
        transport.write(b"x" * 30_000_000)
        assert protocol.writing_paused
        draining = asyncio.ensure_future(protocol.drain())
        await asyncio.wait_for(draining, 10)
        response.close()
