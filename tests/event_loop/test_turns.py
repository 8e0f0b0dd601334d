"""How many turns of the loop pass until a peer on the same loop gets what was sent.

Test-suites of network programs count on a few, however long the loop has had nothing but callbacks to run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from .certificates import Certificates
from .support import DatagramRecorder, Recorder, gone, turns

Loop = asyncio.AbstractEventLoop

#: Turns without anything on a descriptor before the test: fewer and more than count as quiet.
quiet = pytest.mark.parametrize("quiet", [0, 4, 20, 200])


async def turns_until(done: Callable[[], object]) -> int:
    """Turns until ``done()``; so many that it shows if it takes longer."""
    for count in range(1000):
        if done():
            return count
        await asyncio.sleep(0)
    pytest.fail("1000 turns were not enough")


@contextlib.asynccontextmanager
async def both_ends(factory: Callable[[], Any] = Recorder) -> AsyncIterator[tuple[Any, Any]]:
    """The protocols of both ends of a socket pair, on the loop."""
    loop = asyncio.get_running_loop()
    ends = []
    for sock in socket.socketpair():
        _, protocol = await loop.create_connection(factory, sock=sock)
        ends.append(protocol)
    try:
        yield ends[0], ends[1]
    finally:
        for end in ends:
            end.transport.abort()
        for end in ends:
            await gone(end)


@quiet
async def test_a_stream(loop: Loop, quiet: int) -> None:
    async with both_ends() as (near, far):
        await turns(quiet)
        near.transport.write(b"x")
        assert await turns_until(lambda: far.data) <= 2


@quiet
async def test_each_of_several_writes_on_a_stream(loop: Loop, quiet: int) -> None:
    """The second write of a turn as well."""
    async with both_ends() as (near, far):
        await turns(quiet)
        near.transport.write(b"x")
        near.transport.write(b"y")
        assert await turns_until(lambda: len(far.data) == 2) <= 2


@quiet
@pytest.mark.parametrize("how", ["write_eof", "close", "abort"])
async def test_the_end_of_a_stream(loop: Loop, quiet: int, how: str) -> None:
    async with both_ends() as (near, far):
        await turns(quiet)
        getattr(near.transport, how)()
        # A close takes a turn of its own.
        assert await turns_until(far.eof.done) <= (2 if how == "write_eof" else 3)


@quiet
async def test_room_for_a_writer(loop: Loop, quiet: int) -> None:
    async with both_ends() as (near, far):
        far.transport.pause_reading()
        near.transport.write(b"x" * 3_000_000)
        await turns(quiet)
        far.transport.resume_reading()
        assert await turns_until(lambda: far.data) <= 2


@quiet
async def test_tls(loop: Loop, certificates: Certificates, quiet: int) -> None:
    ours, theirs = socket.socketpair()
    (_, far), (_, near) = await asyncio.gather(
        loop.connect_accepted_socket(Recorder, theirs, ssl=certificates.server()),
        loop.create_connection(Recorder, sock=ours, ssl=certificates.client(), server_hostname="localhost"),
    )
    await turns(quiet)
    near.transport.write(b"x")
    assert await turns_until(lambda: far.data) <= 2
    for end in (near, far):
        end.transport.abort()
        await gone(end)


@quiet
async def test_a_datagram(loop: Loop, quiet: int, tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("near", "far")]
    (near, _), (far, receiver) = [
        await loop.create_datagram_endpoint(DatagramRecorder, local_addr=name, family=socket.AF_UNIX)
        for name in names
    ]
    await turns(quiet)
    near.sendto(b"x", names[1])
    assert await turns_until(lambda: receiver.datagrams) <= 2
    near.close()
    far.close()
    await receiver.lost
    await turns()


@quiet
async def test_a_pipe(loop: Loop, quiet: int) -> None:
    read, write = os.pipe()
    reading, receiver = await loop.connect_read_pipe(Recorder, os.fdopen(read, "rb", 0))
    writing, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(write, "wb", 0))
    await turns(quiet)
    writing.write(b"x")
    assert await turns_until(lambda: receiver.data) <= 2
    await turns(quiet)
    writing.close()
    # Closing takes a turn of its own, and so does the end of a pipe.
    assert await turns_until(receiver.eof.done) <= 4
    await receiver.lost
    reading.close()


@quiet
async def test_the_sock_methods(loop: Loop, quiet: int) -> None:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        receiving = loop.create_task(loop.sock_recv(far, 100))
        await turns(quiet + 1)
        await loop.sock_sendall(near, b"x")
        # One more, in which the task continues.
        assert await turns_until(receiving.done) <= 3
        assert await receiving == b"x"


@quiet
async def test_a_new_connection(loop: Loop, quiet: int, tmp_path: Path) -> None:
    made: list[Recorder] = []

    def make() -> Recorder:
        made.append(Recorder())
        return made[-1]

    server = await loop.create_unix_server(make, tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        await turns(quiet)
        await loop.sock_connect(client, str(tmp_path / "socket"))
        # asyncio makes the protocol some turns after it has accepted.
        assert await turns_until(lambda: made and made[0].made.done()) <= 4
    server.close()
    await gone(made[0])
    await server.wait_closed()


@quiet
async def test_a_descriptor_newly_watched(loop: Loop, quiet: int) -> None:
    near, far = socket.socketpair()
    seen: list[str] = []
    with near, far:
        near.send(b"x")
        await turns(quiet)
        loop.add_reader(far, seen.append, "reader")
        assert await turns_until(lambda: seen) <= 2
        loop.remove_reader(far)
        await turns(quiet)
        loop.add_writer(far, seen.append, "writer")
        assert await turns_until(lambda: "writer" in seen) <= 2
        loop.remove_writer(far)


async def test_what_the_loop_cannot_know_is_seen_all_the_same(loop: Loop) -> None:
    """A write past the loop, to a pipe that it watches: on whorl within 128 turns (docs/event-loop.md)."""
    read, write = os.pipe()
    seen: list[bytes] = []
    loop.add_reader(read, lambda: seen.append(os.read(read, 100)))
    await turns(200)
    os.write(write, b"x")
    assert await turns_until(lambda: seen) <= 130
    assert seen == [b"x"]
    loop.remove_reader(read)
    os.close(read)
    os.close(write)
