"""Stream transports: changing the protocol, and buffered protocols."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Any

import pytest

from .conftest import LoopErrors
from .support import (
    BufferedRecorder,
    Recorder,
    connected,
    gone,
    turns,
    until,
    whorl_only,
)
from .tls_support import tls_pair

Loop = asyncio.AbstractEventLoop


# Changing protocols


class ReadsProtocol(Recorder):
    """Reads the transport's protocol when it is lost; receives datagrams as well."""

    read: object = None

    def connection_lost(self, exc: BaseException | None) -> None:
        self.read = self.transport.get_protocol()
        super().connection_lost(exc)


@pytest.mark.parametrize("kind", ["stream", "tls", "datagram", "read pipe", "write pipe"])
async def test_the_protocol_is_the_transports_until_it_is_lost(
    loop: Loop, loop_name: str, request: pytest.FixtureRequest, kind: str
) -> None:
    if (kind, loop_name) == ("tls", "asyncio"):
        pytest.skip("asyncio's TLS forgets its protocol a turn before")
    async with contextlib.AsyncExitStack() as stack:
        connection: Any
        if kind == "stream":
            pair = await stack.enter_async_context(connected(ReadsProtocol))
            connection = pair.transport, pair.protocol
        elif kind == "tls":
            pair = await stack.enter_async_context(
                tls_pair(request.getfixturevalue("certificates"), ReadsProtocol)
            )
            connection = pair.transport, pair.protocol
        elif kind == "datagram":
            connection = await loop.create_datagram_endpoint(ReadsProtocol, local_addr=("127.0.0.1", 0))  # type: ignore[type-var]
        else:
            read, write = (os.fdopen(fd, mode, 0) for fd, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
            own, other = (read, write) if kind == "read pipe" else (write, read)
            stack.enter_context(other)
            connect = loop.connect_read_pipe if kind == "read pipe" else loop.connect_write_pipe
            connection = await connect(ReadsProtocol, own)
        transport, protocol = connection
        assert transport.get_protocol() is protocol
        transport.close() if kind == "read pipe" else transport.abort()
        await gone(protocol)
        assert protocol.read is protocol
        await turns()
        assert transport.get_protocol() is None


async def test_set_protocol_takes_effect_for_the_next_data(loop: Loop) -> None:
    async with connected() as pair:
        await pair.peer_sends(b"first")
        await pair.protocol.received(5)
        second = Recorder()
        pair.transport.set_protocol(second)
        assert pair.transport.get_protocol() is second
        await pair.peer_sends(b"second")
        await second.received(6)
        pair.peer.shutdown(socket.SHUT_WR)
        await second.lost
        assert second.events == ["data", "eof", "lost"]
        assert pair.protocol.events == ["made", "data"]
        pair.protocol.lost.set_result(None)


async def test_set_protocol_refreshes_every_cached_method(loop: Loop) -> None:
    async with connected() as pair:
        await pair.fill()
        assert pair.protocol.events == ["made", "pause"]
        second = Recorder()
        pair.transport.set_protocol(second)
        await pair.peer_receives(pair.transport.get_write_buffer_size())
        reading = asyncio.ensure_future(pair.peer_receives_all())
        await until(lambda: "resume" in second.events)
        second.keep_open_on_eof = True
        pair.peer.shutdown(socket.SHUT_WR)
        await second.eof
        pair.transport.close()
        await second.lost
        await reading
        assert second.events == ["resume", "eof", "lost"]
        assert pair.protocol.events == ["made", "pause"]
        pair.protocol.lost.set_result(None)


async def test_set_protocol_from_plain_to_buffered_and_back(loop: Loop) -> None:
    async with connected() as pair:
        buffered = BufferedRecorder()
        pair.transport.set_protocol(buffered)
        await pair.peer_sends(b"buffered")
        assert await buffered.received(8) == b"buffered"
        plain = Recorder()
        pair.transport.set_protocol(plain)
        await pair.peer_sends(b"plain")
        assert await plain.received(5) == b"plain"
        pair.transport.abort()
        await plain.lost
        pair.protocol.lost.set_result(None)


async def test_set_protocol_inside_data_received(loop: Loop) -> None:
    class Hands(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.set_protocol(second)

    second = Recorder()
    async with connected(Hands) as pair:
        await pair.peer_sends(b"x")
        await pair.protocol.received(1)
        await pair.peer_sends(b"y")
        assert await second.received(1) == b"y"
        pair.transport.abort()
        await second.lost
        pair.protocol.lost.set_result(None)


# Buffered protocols


async def test_buffered_protocols(loop: Loop) -> None:
    data = bytes(range(256)) * 2000
    async with connected(lambda: BufferedRecorder(1000)) as pair:
        await pair.peer_sends(data)
        assert await pair.protocol.received(len(data)) == data
        pair.peer.shutdown(socket.SHUT_WR)
        await pair.protocol.lost
        assert pair.protocol.events[0] == "made"
        assert pair.protocol.events[-2:] == ["eof", "lost"]


@pytest.mark.parametrize("fault", ["raises", "empty", "read-only", "not a buffer"])
async def test_a_bad_get_buffer_loses_the_connection(loop: Loop, loop_errors: LoopErrors, fault: str) -> None:
    class Bad(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> Any:
            if fault == "raises":
                raise ZeroDivisionError
            return {"empty": bytearray(), "read-only": b"read-only", "not a buffer": None}[fault]

    async with connected(Bad) as pair:
        await pair.peer_sends(b"x")
        error = await pair.protocol.lost
        context = loop_errors.take()
        assert error is context["exception"]
        assert isinstance(error, {"raises": ZeroDivisionError, "empty": RuntimeError}.get(fault, Exception))


async def test_a_bad_buffer_updated_loses_the_connection(loop: Loop, loop_errors: LoopErrors) -> None:
    class Bad(BufferedRecorder):
        def buffer_updated(self, nbytes: int) -> None:
            raise ZeroDivisionError

    async with connected(Bad) as pair:
        await pair.peer_sends(b"x")
        assert isinstance(await pair.protocol.lost, ZeroDivisionError)
        assert isinstance(loop_errors.take()["exception"], ZeroDivisionError)


async def test_get_buffer_may_return_a_slice_of_a_larger_one(loop: Loop) -> None:
    class Slices(BufferedRecorder):
        filled = 0

        def get_buffer(self, sizehint: int) -> memoryview:
            assert isinstance(sizehint, int)
            return memoryview(self.buffer)[self.filled :]

        def buffer_updated(self, nbytes: int) -> None:
            self.filled += nbytes
            self.data = self.buffer[: self.filled]

    async with connected(Slices) as pair:
        for part, whole in ((b"one", b"one"), (b"two", b"onetwo"), (b"three", b"onetwothree")):
            await pair.peer_sends(part)
            assert await pair.protocol.received(len(whole)) == whole


async def test_a_buffer_is_released_between_reads(loop: Loop) -> None:
    """The protocol may resize its buffer: the loop holds no export of it while it waits."""
    async with connected(BufferedRecorder) as pair:
        await pair.peer_sends(b"x")
        await pair.protocol.received(1)
        pair.protocol.buffer.extend(b"grown")
        await pair.peer_sends(b"y")
        assert await pair.protocol.received(2) == b"xy"


@whorl_only
async def test_a_buffered_protocol_by_its_methods(loop: Loop) -> None:
    """As uvloop takes it; asyncio checks the class, and finds no ``data_received``."""

    class Buffered(asyncio.BaseProtocol):
        def __init__(self) -> None:
            self.room = bytearray(3)
            self.data = bytearray()

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.room

        def buffer_updated(self, nbytes: int) -> None:
            self.data += self.room[:nbytes]

    async with connected(Buffered) as pair:
        await pair.peer_sends(b"more than three")
        await until(lambda: pair.protocol.data == b"more than three")
