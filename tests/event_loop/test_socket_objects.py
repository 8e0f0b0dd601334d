"""The socket object of an accepted connection, which is made at its first use.

The class is the one in the ``socket`` module, where a tool may have put its own. While that makes the object
the transport works, and whatever becomes of the object it keeps its connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from .support import PATIENCE, Recorder, receive_all, receive_exactly, turns, until, whorl_only

Loop = asyncio.AbstractEventLoop

# asyncio's transport has had its object since `accept()`.
pytestmark = whorl_only


class Accepted:
    """One connection of a server, and the peer of it."""

    def __init__(self, protocol: Recorder, peer: socket.socket) -> None:
        self.protocol = protocol
        self.peer = peer

    @property
    def transport(self) -> Any:
        return self.protocol.transport

    async def works(self) -> None:
        """Bytes go both ways, and the socket object is there."""
        before = len(self.protocol.data)
        self.peer.sendall(b"question")
        await until(lambda: self.protocol.data[before:] == b"question")
        self.transport.write(b"answer")
        assert await asyncio.to_thread(receive_exactly, self.peer, 6) == b"answer"
        sock = self.transport.get_extra_info("socket")
        assert sock.getpeername() == self.peer.getsockname()


@contextlib.asynccontextmanager
async def accepted() -> AsyncIterator[Accepted]:
    protocols: list[Recorder] = []

    def factory() -> Recorder:
        protocols.append(Recorder())
        return protocols[-1]

    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname(), PATIENCE) as peer:
        await until(lambda: protocols and "made" in protocols[0].events)
        yield Accepted(protocols[0], peer)
        protocols[0].transport.abort()
        await protocols[0].lost
    server.close()
    await server.wait_closed()


def hooked(hook: Callable[[socket.socket, str], None]) -> type[socket.socket]:
    """A class that calls ``hook`` with the place where it is."""

    class Hooked(socket.socket):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            hook(self, "before")
            super().__init__(*args, **kwargs)
            hook(self, "after")

        def setblocking(self, flag: bool, /) -> None:
            hook(self, "setblocking")
            super().setblocking(flag)

    return Hooked


PLACES = ["before", "after", "setblocking"]


@pytest.mark.parametrize("place", PLACES)
async def test_a_class_that_raises_costs_nothing(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def hook(_sock: socket.socket, here: str) -> None:
        if here == place:
            raise ZeroDivisionError(place)

    async with accepted() as connection:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", hooked(hook))
            with pytest.raises(ZeroDivisionError):
                connection.transport.get_extra_info("socket")
        gc.collect()
        await connection.works()


@pytest.mark.parametrize("place", PLACES)
async def test_a_class_that_writes_to_the_transport(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    size = 100_000

    def hook(_sock: socket.socket, here: str) -> None:
        if here == place:
            # More than the high-water mark: it is not left for the end of the turn.
            connection.transport.write(b"x" * size)

    async with accepted() as connection:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", hooked(hook))
            assert connection.transport.get_extra_info("socket").fileno() >= 0
        assert not connection.transport.is_closing()
        assert len(await asyncio.to_thread(receive_exactly, connection.peer, size)) == size
        await connection.works()


@pytest.mark.parametrize("place", PLACES)
async def test_a_class_that_half_closes_the_transport(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def hook(_sock: socket.socket, here: str) -> None:
        if here == place:
            connection.transport.write_eof()

    async with accepted() as connection:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", hooked(hook))
            connection.transport.get_extra_info("socket")
        assert await asyncio.to_thread(receive_all, connection.peer) == b""
        assert not connection.transport.is_closing()


@pytest.mark.parametrize("place", PLACES)
async def test_a_class_that_reads_the_object(loop: Loop, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Another one is made meanwhile: there is one in the end, and it is the owner."""
    inner: list[Any] = []

    def hook(_sock: socket.socket, here: str) -> None:
        if here == place and not inner:
            inner.append(None)
            inner[0] = connection.transport.get_extra_info("socket")

    async with accepted() as connection:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", hooked(hook))
            outer = connection.transport.get_extra_info("socket")
        assert outer._sock is inner[0]._sock
        gc.collect()
        await connection.works()


@pytest.mark.parametrize("place", PLACES)
async def test_a_class_that_closes_the_transport(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def hook(_sock: socket.socket, here: str) -> None:
        if here == place:
            connection.transport.write(b"last words")
            connection.transport.close()

    async with accepted() as connection:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", hooked(hook))
            sock = connection.transport.get_extra_info("socket")
        await connection.protocol.lost
        await turns(2)
        assert await asyncio.to_thread(receive_all, connection.peer) == b"last words"
        assert sock.fileno() == -1


async def test_a_function_in_place_of_the_class(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    original = socket.socket

    def make(*args: Any, **kwargs: Any) -> socket.socket:
        connection.transport.write(b"made")
        return original(*args, **kwargs)

    async with accepted() as connection:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", make)
            assert connection.transport.get_extra_info("socket").fileno() >= 0
        assert await asyncio.to_thread(receive_exactly, connection.peer, 4) == b"made"
        await connection.works()


async def test_something_that_is_no_socket_owns_nothing(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused:
        def __init__(self, **_kwargs: Any) -> None:
            pass

        def setblocking(self, _flag: bool) -> None:
            raise ZeroDivisionError

    async with accepted() as connection:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", Refused)
            with pytest.raises(ZeroDivisionError):
                connection.transport.get_extra_info("socket")
        await connection.works()
