"""The ``sock_*`` methods: on bare sockets, cancellable, careful with whose descriptor it is."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from .support import control_xfail, listener, receive_exactly, reset, turns, until

Loop = asyncio.AbstractEventLoop
Sockets = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Sockets]:
    """A socket of ours that does not block, and a blocking peer."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(10)
    with ours, theirs:
        yield ours, theirs


async def test_receiving(loop: Loop, pair: Sockets) -> None:
    ours, theirs = pair
    theirs.send(b"ready")
    assert await loop.sock_recv(ours, 100) == b"ready"
    waiting = asyncio.ensure_future(loop.sock_recv(ours, 3))
    await turns()
    assert not waiting.done()
    theirs.send(b"later")
    assert await waiting == b"lat"
    buffer = bytearray(10)
    assert await loop.sock_recv_into(ours, buffer) == 2
    assert buffer[:2] == b"er"
    theirs.close()
    assert await loop.sock_recv(ours, 100) == b""


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_sending(loop: Loop, pair: Sockets, kind: Any) -> None:
    ours, theirs = pair
    data = bytes(range(256)) * 8000
    reading = asyncio.ensure_future(asyncio.to_thread(receive_exactly, theirs, len(data)))
    await loop.sock_sendall(ours, kind(data))
    assert await reading == data
    await loop.sock_sendall(ours, kind(b""))


@control_xfail("asyncio counts items where the kernel counts bytes, and waits without end")
async def test_sending_a_view_of_two_dimensions(loop: Loop, pair: Sockets) -> None:
    ours, theirs = pair
    async with asyncio.timeout(1):
        await loop.sock_sendall(ours, memoryview(b"abcdef").cast("B", (2, 3)))
    assert receive_exactly(theirs, 6) == b"abcdef"


async def test_cancelling_a_receive_loses_nothing(loop: Loop, pair: Sockets) -> None:
    ours, theirs = pair
    waiting = asyncio.ensure_future(loop.sock_recv(ours, 100))
    await turns()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    theirs.send(b"kept")
    await turns()
    assert await loop.sock_recv(ours, 100) == b"kept"
    assert not loop.remove_reader(ours)


async def test_a_receive_cancelled_as_data_arrives_loses_nothing(loop: Loop, pair: Sockets) -> None:
    ours, theirs = pair
    waiting = asyncio.ensure_future(loop.sock_recv(ours, 100))
    await turns()
    theirs.send(b"kept")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await loop.sock_recv(ours, 100) == b"kept"


async def test_cancelling_a_send(loop: Loop, pair: Sockets) -> None:
    ours, _ = pair
    sending = asyncio.ensure_future(loop.sock_sendall(ours, b"x" * 10_000_000))
    await turns()
    assert not sending.done()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert not loop.remove_writer(ours)


async def test_connecting_and_accepting(loop: Loop) -> None:
    with socket.socket() as server, socket.socket() as client:
        server.setblocking(False)
        client.setblocking(False)
        server.bind(("127.0.0.1", 0))
        server.listen()
        accepting = asyncio.ensure_future(loop.sock_accept(server))
        await turns()
        await loop.sock_connect(client, server.getsockname())
        connection, address = await accepting
        with connection:
            assert address == client.getsockname()
            assert connection.gettimeout() == 0
            await loop.sock_sendall(client, b"hello")
            assert await loop.sock_recv(connection, 5) == b"hello"


async def test_connecting_by_name_and_to_a_closed_port(loop: Loop) -> None:
    with listener() as server:
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, ("localhost", server.getsockname()[1]))
        address = server.getsockname()
    with socket.socket() as client:
        client.setblocking(False)
        with pytest.raises(ConnectionRefusedError):
            await loop.sock_connect(client, address)


async def test_cancelling_a_connect_frees_the_descriptor(loop: Loop, pair: Sockets) -> None:
    with listener(backlog=0) as full:
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        client = socket.socket()
        client.setblocking(False)
        connecting = asyncio.ensure_future(loop.sock_connect(client, full.getsockname()))
        await turns()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        number = client.fileno()
        client.close()
        for filler in fillers:
            filler.close()
    reused = socket.socket(fileno=pair[0].detach())
    with reused:
        assert not loop.remove_writer(number)
        pair[1].send(b"x")
        assert await loop.sock_recv(reused, 1) == b"x"


async def test_cancelling_an_accept(loop: Loop) -> None:
    with listener() as server:
        server.setblocking(False)
        accepting = asyncio.ensure_future(loop.sock_accept(server))
        await turns()
        accepting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await accepting
        with socket.create_connection(server.getsockname()):
            connection, _ = await loop.sock_accept(server)
            connection.close()


async def test_datagram_methods(loop: Loop) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as two,
    ):
        for sock in (one, two):
            sock.setblocking(False)
            sock.bind(("127.0.0.1", 0))
        receiving = asyncio.ensure_future(loop.sock_recvfrom(two, 100))
        await turns()
        assert await loop.sock_sendto(one, b"hello", two.getsockname()) == 5
        assert await receiving == (b"hello", one.getsockname())
        buffer = bytearray(100)
        await loop.sock_sendto(two, b"answer", one.getsockname())
        assert await loop.sock_recvfrom_into(one, buffer) == (6, two.getsockname())
        assert buffer[:6] == b"answer"
        await loop.sock_sendto(two, b"again", one.getsockname())
        assert await loop.sock_recvfrom_into(one, buffer, 3) == (3, two.getsockname())


async def test_blocking_sockets_are_refused_in_debug_mode(loop: Loop) -> None:
    loop.set_debug(True)
    try:
        with socket.socket() as sock:
            for call in (
                lambda: loop.sock_recv(sock, 1),
                lambda: loop.sock_recv_into(sock, bytearray(1)),
                lambda: loop.sock_sendall(sock, b"x"),
                lambda: loop.sock_accept(sock),
                lambda: loop.sock_connect(sock, ("127.0.0.1", 1)),
                lambda: loop.sock_recvfrom(sock, 1),
                lambda: loop.sock_sendto(sock, b"x", ("127.0.0.1", 1)),
            ):
                with pytest.raises(ValueError, match="non-blocking"):
                    await call()
    finally:
        loop.set_debug(False)


async def test_closed_sockets_and_wrong_types_are_refused(loop: Loop, pair: Sockets) -> None:
    closed = socket.socket()
    closed.setblocking(False)
    closed.close()
    calls = [
        lambda: loop.sock_recv(closed, 1),
        lambda: loop.sock_recv_into(closed, bytearray(1)),
        lambda: loop.sock_sendall(closed, b"x"),
        lambda: loop.sock_accept(closed),
        lambda: loop.sock_connect(closed, ("127.0.0.1", 1)),
    ]
    for call in calls:
        with pytest.raises((OSError, ValueError)):
            await call()
    wrong: list[Any] = [
        lambda: loop.sock_recv(pair[0], "many"),  # type: ignore[arg-type]
        lambda: loop.sock_sendall(pair[0], "text"),  # type: ignore[arg-type]
        lambda: loop.sock_recv_into(pair[0], b"read-only"),
    ]
    for call in wrong:
        with pytest.raises((TypeError, BufferError)):
            await call()
    await loop.sock_sendall(pair[0], b"alive")
    assert receive_exactly(pair[1], 5) == b"alive"


async def test_a_peer_that_resets(loop: Loop) -> None:
    with listener() as server, socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, server.getsockname())
        peer, _ = server.accept()
        waiting = asyncio.ensure_future(loop.sock_recv(client, 1))
        await turns()
        reset(peer)
        with pytest.raises(ConnectionResetError):
            await waiting


@control_xfail("asyncio waits without end once the descriptor is gone from the kernel's set", strict=False)
async def test_a_socket_closed_while_it_is_waited_for_does_not_break_the_loop(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    waiting = asyncio.ensure_future(loop.sock_recv(ours, 1))
    await turns()
    ours.close()
    theirs.close()
    await turns()
    waiting.cancel()
    with pytest.raises((asyncio.CancelledError, OSError)):
        await waiting
    # The number is free for others.
    one, two = socket.socketpair()
    one.setblocking(False)
    with one, two:
        two.send(b"x")
        async with asyncio.timeout(2):
            assert await loop.sock_recv(one, 1) == b"x"
    await until(lambda: True)
