"""Both ends of one pipe as transports: flow control between them, and ends that go away."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import os
import socket
import tty
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest

from .conftest import LoopFactory
from .support import Recorder, turns, until

Loop = asyncio.AbstractEventLoop


class Pipe:
    """The two transports of one pipe, and their protocols."""

    def __init__(self, reading: tuple[Any, Recorder], writing: tuple[Any, Recorder]) -> None:
        self.reader, self.received = reading
        self.writer, self.written = writing


@contextlib.asynccontextmanager
async def connected(loop: Loop) -> AsyncIterator[Pipe]:
    read, write = os.pipe()
    reading = await loop.connect_read_pipe(Recorder, open(read, "rb", 0))
    writing = await loop.connect_write_pipe(Recorder, open(write, "wb", 0))
    pipe = Pipe(reading, writing)
    try:
        yield pipe
    finally:
        pipe.reader.close()
        if not pipe.written.lost.done():
            # asyncio's cannot be aborted once it is lost.
            pipe.writer.abort()
        await pipe.received.lost
        await pipe.written.lost


async def test_data_goes_through_in_order(loop: Loop) -> None:
    async with connected(loop) as pipe:
        pipe.writer.write(b"one ")
        pipe.writer.writelines([b"two ", bytearray(b"three "), memoryview(b"four")])
        pipe.writer.write(b"")
        await until(lambda: len(pipe.received.data) == 18)
        assert pipe.received.data == b"one two three four"


async def test_transports_are_asyncios_by_isinstance(loop: Loop) -> None:
    async with connected(loop) as pipe:
        assert isinstance(pipe.reader, asyncio.ReadTransport)
        assert isinstance(pipe.writer, asyncio.WriteTransport)
        assert isinstance(pipe.writer.get_extra_info("pipe"), io.RawIOBase)
        assert pipe.writer.get_extra_info("peername", "none") == "none"


async def test_more_than_the_pipe_holds_pauses_and_resumes_the_writer(loop: Loop) -> None:
    async with connected(loop) as pipe:
        pipe.reader.pause_reading()
        data = os.urandom(1_000_000)
        pipe.writer.write(data)
        assert pipe.written.paused
        assert 0 < pipe.writer.get_write_buffer_size() < len(data)
        pipe.reader.resume_reading()
        await until(lambda: len(pipe.received.data) == len(data))
        assert pipe.received.data == data
        assert pipe.written.events == ["made", "pause", "resume"]


async def test_a_bytearray_may_be_changed_after_the_write(loop: Loop) -> None:
    async with connected(loop) as pipe:
        pipe.reader.pause_reading()
        data = bytearray(b"x" * 300_000)
        pipe.writer.write(data)
        data[:] = b"y" * len(data)
        pipe.reader.resume_reading()
        await until(lambda: len(pipe.received.data) == len(data))
        assert set(pipe.received.data) == set(b"x")


async def test_close_sends_what_waits_and_the_reader_sees_the_end(loop: Loop) -> None:
    async with connected(loop) as pipe:
        pipe.writer.write(b"z" * 400_000)
        pipe.writer.close()
        assert pipe.writer.is_closing()
        pipe.writer.write(b"dropped")
        assert await pipe.written.lost is None
        assert await pipe.received.lost is None
        assert len(pipe.received.data) == 400_000
        assert pipe.received.events[-2:] == ["eof", "lost"]


async def test_write_eof_is_the_end_of_the_pipe(loop: Loop) -> None:
    async with connected(loop) as pipe:
        assert pipe.writer.can_write_eof()
        pipe.writer.write(b"last")
        pipe.writer.write_eof()
        assert await pipe.received.lost is None
        assert pipe.received.data == b"last"


async def test_a_reader_that_goes_away_is_noticed_without_a_write(loop: Loop) -> None:
    async with connected(loop) as pipe:
        pipe.reader.close()
        assert await pipe.written.lost is None
        assert pipe.written.lost_count == 1


async def test_a_reader_that_goes_away_while_data_waits_is_a_broken_pipe(loop: Loop) -> None:
    async with connected(loop) as pipe:
        pipe.reader.pause_reading()
        pipe.writer.write(b"x" * 1_000_000)
        pipe.reader.close()
        assert isinstance(await pipe.written.lost, BrokenPipeError)
        assert pipe.writer.get_write_buffer_size() == 0


async def test_a_paused_reader_whose_writer_has_gone_does_not_spin(loop: Loop) -> None:
    async with connected(loop) as pipe:
        pipe.reader.pause_reading()
        pipe.writer.close()
        await pipe.written.lost
        before = os.times()
        await asyncio.sleep(0.3)
        after = os.times()
        assert after.user + after.system - before.user - before.system < 0.1
        assert not pipe.received.lost.done()
        pipe.reader.resume_reading()
        assert await pipe.received.lost is None


async def test_a_new_protocol_gets_the_data(loop: Loop) -> None:
    async with connected(loop) as pipe:
        pipe.writer.write(b"first")
        await until(lambda: bool(pipe.received.data))
        other = Recorder()
        pipe.reader.set_protocol(other)
        assert pipe.reader.get_protocol() is other
        pipe.writer.write(b"second")
        await until(lambda: bool(other.data))
        assert (pipe.received.data, other.data) == (b"first", b"second")
        pipe.reader.set_protocol(pipe.received)


async def test_sockets_and_terminals_are_pipes_too(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        transport, protocol = await loop.connect_write_pipe(Recorder, ours)
        transport.write(b"to a socket")
        assert theirs.recv(100) == b"to a socket"
        theirs.close()
        await protocol.lost
    controller, terminal = os.openpty()
    tty.setraw(terminal)
    _reader, received = await loop.connect_read_pipe(Recorder, open(controller, "rb", 0))
    writer, written = await loop.connect_write_pipe(Recorder, open(terminal, "wb", 0))
    writer.write(b"to a terminal")
    await until(lambda: received.data == b"to a terminal")
    writer.close()
    await written.lost
    # The other end of a terminal goes away with EIO, which is not reported to the exception handler.
    assert isinstance(await received.lost, OSError)


async def test_the_file_is_closed_with_the_transport(loop: Loop) -> None:
    read, write = os.pipe()
    file = open(read, "rb", 0)
    transport, protocol = await loop.connect_read_pipe(Recorder, file)
    transport.close()
    assert not file.closed
    await protocol.lost
    await turns(2)
    assert file.closed
    os.close(write)


def test_an_unclosed_transport_is_warned_of(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    read, write = os.pipe()

    async def connect(loop: Loop) -> Any:
        return await loop.connect_read_pipe(asyncio.Protocol, open(read, "rb", 0))

    made = loop.run_until_complete(connect(loop))
    loop.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del made
        gc.collect()
        del loop
        gc.collect()
    assert any("unclosed transport" in str(warning.message) for warning in caught)
    with pytest.raises(OSError):
        os.fstat(read)
    os.close(write)
