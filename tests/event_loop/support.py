"""Marks, recording protocols and plain-socket peers shared by the event-loop tests.

Peers are blocking sockets driven from worker threads, never from the loop under test, so that a fault in the
loop cannot hide itself by being on both ends of the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest

#: Seconds after which a test that waits for something gives up. Long, so that only a hang reaches it.
PATIENCE = 10.0

#: For what only whorl promises: stock asyncio has no such thing, so there is no control to run.
whorl_only = pytest.mark.whorl_only


def control_xfail(
    reason: str,
    *,
    below: tuple[int, int] | None = None,
    since: tuple[int, int] | None = None,
    strict: bool = True,
    run: bool = True,
) -> pytest.MarkDecorator:
    """Says that stock asyncio is known to fail this test, and why, on interpreters in ``[since, below)``.

    ``strict=False`` is for faults that a patch release cured, or that show only sometimes; ``run=False`` is
    for those that show as a hang, which costs the whole timeout to see.
    """
    return pytest.mark.control_xfail(reason, below=below, since=since, strict=strict, run=run)


class Recorder(asyncio.Protocol):
    """A stream protocol that writes down what happens to it, in order."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.transport: Any = None
        self.events: list[str] = []
        self.data = bytearray()
        self.made: asyncio.Future[None] = loop.create_future()
        self.eof: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[BaseException | None] = loop.create_future()
        self.lost_count = 0
        self.keep_open_on_eof: bool | None = None
        self.paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.events.append("made")
        if not self.made.done():
            self.made.set_result(None)

    def data_received(self, data: bytes) -> None:
        self.events.append("data")
        self.data += data

    def eof_received(self) -> bool | None:
        self.events.append("eof")
        if not self.eof.done():
            self.eof.set_result(None)
        return self.keep_open_on_eof

    def pause_writing(self) -> None:
        self.events.append("pause")
        self.paused = True

    def resume_writing(self) -> None:
        self.events.append("resume")
        self.paused = False

    def connection_lost(self, exc: BaseException | None) -> None:
        self.events.append("lost")
        self.lost_count += 1
        if not self.lost.done():
            self.lost.set_result(exc)

    async def received(self, count: int) -> bytes:
        """Waits until ``count`` bytes have come in all, and returns everything that has come."""
        await until(lambda: len(self.data) >= count, lambda: f"{count} bytes (has {len(self.data)})")
        return bytes(self.data)


class Echo(Recorder):
    """Sends back what it gets."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.write(data)


class BufferedRecorder(asyncio.BufferedProtocol):
    """As :class:`Recorder`, by way of ``get_buffer`` and ``buffer_updated``."""

    def __init__(self, size: int = 4096) -> None:
        loop = asyncio.get_running_loop()
        self.transport: Any = None
        self.buffer = bytearray(size)
        self.events: list[str] = []
        self.data = bytearray()
        self.eof: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[BaseException | None] = loop.create_future()
        self.paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.events.append("made")

    def get_buffer(self, sizehint: int) -> bytearray | memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.events.append("data")
        self.data += self.buffer[:nbytes]

    def eof_received(self) -> bool | None:
        self.events.append("eof")
        self.eof.set_result(None)
        return None

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False

    def connection_lost(self, exc: BaseException | None) -> None:
        self.events.append("lost")
        self.lost.set_result(exc)

    async def received(self, count: int) -> bytes:
        await until(lambda: len(self.data) >= count, lambda: f"{count} bytes (has {len(self.data)})")
        return bytes(self.data)


class DatagramRecorder(asyncio.DatagramProtocol):
    """Writes down datagrams and errors."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.transport: Any = None
        self.datagrams: list[tuple[bytes, Any]] = []
        self.errors: list[Exception] = []
        self.events: list[str] = []
        self.lost: asyncio.Future[BaseException | None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.events.append("made")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.events.append("data")
        self.datagrams.append((data, addr))

    def error_received(self, exc: Exception) -> None:
        self.events.append("error")
        self.errors.append(exc)

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.events.append("lost")
        self.lost.set_result(exc)


async def until(done: Callable[[], object], what: str | Callable[[], str] = "a condition") -> None:
    """Waits until ``done()`` is true; fails the test after :data:`PATIENCE` seconds."""
    deadline = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {PATIENCE:.0f} s in vain for {what() if callable(what) else what}")
        await asyncio.sleep(0.001)


async def gone(protocol: Any) -> None:
    """Waits for the protocol's ``connection_lost``; fails when it does not come."""
    done, _ = await asyncio.wait([protocol.lost], timeout=PATIENCE / 2)
    assert done, f"connection_lost was not called (events: {protocol.events})"


async def turns(count: int = 3) -> None:
    """Lets the loop turn ``count`` times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def alone() -> None:
    """Waits until the tasks of others, a server's handlers for one, have ended."""
    own = asyncio.current_task()
    await until(lambda: asyncio.all_tasks() <= {own}, lambda: f"the end of {asyncio.all_tasks()}")
    await turns()


def listener(family: int = socket.AF_INET, backlog: int = 16) -> socket.socket:
    """A blocking listening socket on loopback."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    sock.listen(backlog)
    sock.settimeout(PATIENCE)
    return sock


def reset(sock: socket.socket) -> None:
    """Closes a TCP socket so that the other end sees a reset, not an end of file."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def receive_exactly(sock: socket.socket, count: int) -> bytes:
    """Blocking: reads ``count`` bytes, or fewer at the end of the stream."""
    data = bytearray()
    while len(data) < count:
        part = sock.recv(min(1 << 16, count - len(data)))
        if not part:
            break
        data += part
    return bytes(data)


def receive_all(sock: socket.socket) -> bytes:
    """Blocking: reads up to the end of the stream."""
    return receive_exactly(sock, 1 << 40)


@dataclass
class Pair:
    """One TCP connection: our transport and protocol on this end, a blocking socket on the other."""

    transport: Any
    protocol: Any
    peer: socket.socket

    async def peer_receives(self, count: int) -> bytes:
        return await asyncio.to_thread(receive_exactly, self.peer, count)

    async def peer_receives_all(self) -> bytes:
        return await asyncio.to_thread(receive_all, self.peer)

    async def peer_sends(self, data: bytes) -> None:
        await asyncio.to_thread(self.peer.sendall, data)

    async def fill(self) -> int:
        """Writes until the kernel takes no more, so that the transport must buffer; returns the bytes
        written."""
        written = 0
        while self.transport.get_write_buffer_size() < 200_000:
            self.transport.write(b"f" * 65536)
            written += 65536
            await asyncio.sleep(0)
        # A few more turns: whatever the kernel could still take has been taken.
        await asyncio.sleep(0.01)
        return written


@contextlib.asynccontextmanager
async def connected(factory: Callable[[], Any] = Recorder, **options: Any) -> AsyncIterator[Pair]:
    """A :class:`Pair` over loopback TCP; both ends are closed, and the loss delivered, on the way out."""
    loop = asyncio.get_running_loop()
    with listener() as server:
        transport, protocol = await loop.create_connection(factory, *server.getsockname(), **options)
        peer, _ = server.accept()
    peer.settimeout(PATIENCE)
    try:
        yield Pair(transport, protocol, peer)
    finally:
        peer.close()
        lost = getattr(protocol, "lost", None)
        if not isinstance(lost, asyncio.Future):
            transport.abort()
        elif not lost.done():
            transport.abort()
            await gone(protocol)
        await turns()


def open_fds() -> dict[int, str]:
    """The process's open file descriptors and what each stands for."""
    found: dict[int, str] = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


async def cpu_seconds_while_idle(wall: float = 0.3) -> float:
    """CPU time this process uses while the loop only sleeps: near ``wall`` when the loop spins, near 0 when
    it waits."""
    before = time.process_time()
    await asyncio.sleep(wall)
    return time.process_time() - before
