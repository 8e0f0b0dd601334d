"""Pipe transports: reading and writing ends, flow control, and what is no pipe."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from .support import Recorder, control_xfail, gone, turns, until

Loop = asyncio.AbstractEventLoop


def read_everything(fd: int) -> bytes:
    """Blocking: reads up to the end, and closes."""
    with open(fd, "rb") as file:
        return file.read()


async def test_reading(loop: Loop) -> None:
    read, write = os.pipe()
    pipe = open(read, "rb", buffering=0)
    transport, protocol = await loop.connect_read_pipe(Recorder, pipe)
    assert isinstance(transport, asyncio.ReadTransport)
    assert transport.get_extra_info("pipe") is pipe
    assert not os.get_blocking(read)
    os.write(write, b"hello")
    assert await protocol.received(5) == b"hello"
    transport.pause_reading()
    assert not transport.is_reading()
    os.write(write, b"more")
    await turns()
    assert len(protocol.data) == 5
    transport.resume_reading()
    await protocol.received(9)
    os.close(write)
    assert await protocol.lost is None
    assert protocol.events[-2:] == ["eof", "lost"]
    await turns()
    assert pipe.closed


async def test_reading_much(loop: Loop) -> None:
    read, write = os.pipe()
    _transport, protocol = await loop.connect_read_pipe(Recorder, open(read, "rb", buffering=0))
    data = bytes(range(256)) * 8000

    def feed() -> None:
        with open(write, "wb") as file:
            file.write(data)

    await asyncio.to_thread(feed)
    await protocol.lost
    assert bytes(protocol.data) == data


async def test_writing(loop: Loop) -> None:
    read, write = os.pipe()
    transport, protocol = await loop.connect_write_pipe(Recorder, open(write, "wb", buffering=0))
    assert isinstance(transport, asyncio.WriteTransport)
    # asyncio's derives from Transport, whose methods for reading it leaves as they are.
    assert isinstance(transport, asyncio.Transport)
    for method in (transport.pause_reading, transport.resume_reading, transport.is_reading):
        with pytest.raises(NotImplementedError):
            method()
    assert transport.get_write_buffer_limits() == (16384, 65536)
    reading = asyncio.ensure_future(asyncio.to_thread(read_everything, read))
    data = bytes(range(256)) * 8000
    transport.write(data)
    transport.write(bytearray(b"array"))
    transport.write(memoryview(b"view"))
    transport.writelines([b"one", b"two"])
    with pytest.raises((TypeError, AssertionError)):
        transport.write("text")  # type: ignore[arg-type]
    assert transport.can_write_eof()
    transport.write_eof()
    assert await reading == data + b"arrayviewonetwo"
    assert await protocol.lost is None
    transport.write(b"dropped")


async def test_water_marks_and_snapshots(loop: Loop) -> None:
    read, write = os.pipe()
    transport, protocol = await loop.connect_write_pipe(Recorder, open(write, "wb", buffering=0))
    transport.write(b"x" * 300_000)
    assert protocol.paused
    data = bytearray(b"original")
    transport.write(data)
    data[:] = b"mutated!"
    transport.close()
    received = await asyncio.to_thread(read_everything, read)
    assert received == b"x" * 300_000 + b"original"
    assert await protocol.lost is None


async def test_a_reader_that_goes_away(loop: Loop) -> None:
    read, write = os.pipe()
    transport, protocol = await loop.connect_write_pipe(Recorder, open(write, "wb", buffering=0))
    os.close(read)
    await protocol.lost
    transport.write(b"dropped")

    read, write = os.pipe()
    transport, protocol = await loop.connect_write_pipe(Recorder, open(write, "wb", buffering=0))
    transport.write(b"x" * 1_000_000)
    os.close(read)
    assert isinstance(await protocol.lost, BrokenPipeError)


@control_xfail("asyncio's write pipe forgets its pipe, then closes it again", strict=False)
@pytest.mark.parametrize("how", ["close", "abort"])
async def test_closing_comes_later_and_once(loop: Loop, how: str) -> None:
    read, write = os.pipe()
    transport, protocol = await loop.connect_write_pipe(Recorder, open(write, "wb", buffering=0))
    getattr(transport, how)()
    getattr(transport, how)()
    assert transport.is_closing()
    assert not protocol.lost_count
    assert await protocol.lost is None
    assert await asyncio.to_thread(read_everything, read) == b""
    await turns()
    assert protocol.lost_count == 1


async def test_named_pipes_and_sockets(loop: Loop, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    reader = open(os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)
    writer = open(os.open(tmp_path / "fifo", os.O_WRONLY), "wb", buffering=0)
    _read_transport, read_protocol = await loop.connect_read_pipe(Recorder, reader)
    write_transport, write_protocol = await loop.connect_write_pipe(Recorder, writer)
    write_transport.write(b"hello")
    await read_protocol.received(5)
    write_transport.close()
    await write_protocol.lost
    await read_protocol.lost

    ours, theirs = socket.socketpair()
    transport, protocol = await loop.connect_write_pipe(Recorder, ours)
    transport.write(b"hello")
    assert await asyncio.to_thread(theirs.recv, 5) == b"hello"
    theirs.close()
    transport.abort()
    await gone(protocol)


async def test_terminals(loop: Loop) -> None:
    master, slave = os.openpty()
    _transport, protocol = await loop.connect_read_pipe(Recorder, open(master, "rb", buffering=0))
    os.write(slave, b"hello\n")
    await protocol.received(7)
    os.close(slave)
    await protocol.lost  # EIO or end of file: the connection's end either way


@control_xfail("asyncio's half-made transports fail when they are collected", strict=False)
@pytest.mark.parametrize("connect", ["connect_read_pipe", "connect_write_pipe"])
async def test_what_is_no_pipe_is_refused(loop: Loop, tmp_path: Path, connect: str) -> None:
    with open(tmp_path / "file", "w+b") as file:
        with pytest.raises(ValueError, match="."):
            await getattr(loop, connect)(Recorder, file)
    with pytest.raises((ValueError, OSError)):
        await getattr(loop, connect)(Recorder, file)
    for bad in (None, "text", object()):
        with pytest.raises((TypeError, ValueError, AttributeError)):
            await getattr(loop, connect)(Recorder, bad)
    assert await asyncio.sleep(0, "alive") == "alive"


@control_xfail("asyncio leaves the pipe watched when the factory raises", strict=False)
async def test_a_factory_that_raises(loop: Loop) -> None:
    def fail() -> Any:
        raise ZeroDivisionError

    read, write = os.pipe()
    with open(read, "rb", buffering=0) as pipe, pytest.raises(ZeroDivisionError):
        await loop.connect_read_pipe(fail, pipe)
    os.close(write)
    await until(lambda: True)
