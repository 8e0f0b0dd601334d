"""What stays registered between ``sock_*`` operations, and never outlives its socket."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import weakref
from collections.abc import Iterator

import pytest

from .support import Recorder, turns, whorl_only

Loop = asyncio.AbstractEventLoop
Sockets = tuple[socket.socket, socket.socket]


def socketpair() -> Sockets:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


@pytest.fixture
def pair() -> Iterator[Sockets]:
    ours, theirs = socketpair()
    with ours, theirs:
        yield ours, theirs


async def ping(loop: Loop, ours: socket.socket, theirs: socket.socket) -> None:
    """One receive that has to wait."""
    waiting = asyncio.ensure_future(loop.sock_recv(ours, 100))
    await turns(2)
    theirs.send(b"ping")
    assert await waiting == b"ping"


async def idle_cpu_seconds() -> float:
    before = os.times()
    await asyncio.sleep(0.3)
    after = os.times()
    return after.user + after.system - before.user - before.system


async def test_a_new_socket_with_the_same_number_is_reported(loop: Loop) -> None:
    """uvloop #645: the number is not the socket."""
    for _ in range(20):
        ours, theirs = socketpair()
        with ours, theirs:
            await ping(loop, ours, theirs)
            await ping(loop, theirs, ours)


async def test_a_number_closed_while_waited_for_is_reported_to_its_next_owner(loop: Loop) -> None:
    ours, theirs = socketpair()
    stuck = asyncio.ensure_future(loop.sock_recv(ours, 100))
    await turns(2)
    number = ours.fileno()
    ours.close()
    theirs.close()
    after = socketpair()
    with after[0], after[1]:
        if number not in (after[0].fileno(), after[1].fileno()):
            pytest.skip("the number was not given away again")
        loop.remove_reader(number)  # asyncio needs the call; whorl does not
        await ping(loop, after[0], after[1])
        await ping(loop, after[1], after[0])
    stuck.cancel()
    await asyncio.gather(stuck, return_exceptions=True)


@whorl_only
async def test_the_same_without_the_call(loop: Loop) -> None:
    ours, theirs = socketpair()
    stuck = asyncio.ensure_future(loop.sock_recv(ours, 100))
    await turns(2)
    ours.close()
    theirs.close()
    after = socketpair()
    with after[0], after[1]:
        await ping(loop, after[0], after[1])
        await ping(loop, after[1], after[0])
    # Its descriptor has gone for good: an error, once another file has the number.
    assert isinstance((await asyncio.gather(stuck, return_exceptions=True))[0], OSError)


async def test_a_finished_operation_keeps_no_socket_alive(loop: Loop) -> None:
    ours, theirs = socketpair()
    await ping(loop, ours, theirs)
    known = weakref.ref(ours)
    number = ours.fileno()
    ours.close()
    del ours
    gc.collect()
    assert known() is None
    theirs.close()
    with pytest.raises(OSError):
        os.fstat(number)


async def test_a_cancelled_operation_keeps_no_socket_alive(loop: Loop) -> None:
    ours, theirs = socketpair()
    waiting = asyncio.ensure_future(loop.sock_recv(ours, 100))
    await turns(2)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    del waiting
    await turns(2)
    known = weakref.ref(ours)
    ours.close()
    del ours
    gc.collect()
    assert known() is None
    theirs.close()


async def test_data_without_a_waiter_does_not_spin(loop: Loop, pair: Sockets) -> None:
    ours, theirs = pair
    await ping(loop, ours, theirs)
    theirs.send(b"unasked")
    assert await idle_cpu_seconds() < 0.1
    assert await loop.sock_recv(ours, 100) == b"unasked"


async def test_a_peer_that_went_away_meanwhile_does_not_spin(loop: Loop, pair: Sockets) -> None:
    ours, theirs = pair
    await ping(loop, ours, theirs)
    theirs.close()
    assert await idle_cpu_seconds() < 0.1
    assert await loop.sock_recv(ours, 100) == b""
    assert await loop.sock_recv(ours, 100) == b""


async def test_a_duplicate_of_a_closed_socket_does_not_spin(loop: Loop) -> None:
    """aiohttp #1412: the kernel reports the open file, not the number."""
    ours, theirs = socketpair()
    with theirs:
        await ping(loop, ours, theirs)
        with socket.socket(fileno=os.dup(ours.fileno())) as duplicate:
            ours.close()
            theirs.send(b"for the duplicate")
            assert await idle_cpu_seconds() < 0.1
            assert duplicate.recv(100) == b"for the duplicate"


async def test_a_callback_after_an_operation_and_the_other_way_round(loop: Loop, pair: Sockets) -> None:
    ours, theirs = pair
    await ping(loop, ours, theirs)
    seen = asyncio.Event()
    loop.add_reader(ours.fileno(), lambda: (ours.recv(100), seen.set()))
    theirs.send(b"x")
    await asyncio.wait_for(seen.wait(), 10)
    assert loop.remove_reader(ours.fileno())
    assert not loop.remove_reader(ours.fileno())
    await ping(loop, ours, theirs)


async def test_reading_and_writing_wait_together(loop: Loop, pair: Sockets) -> None:
    ours, theirs = pair
    reading = asyncio.ensure_future(loop.sock_recv(ours, 100))
    sent = os.urandom(3_000_000)
    writing = asyncio.ensure_future(loop.sock_sendall(ours, sent))
    await turns(3)
    assert not reading.done()
    assert not writing.done()
    theirs.send(b"in between")
    assert await reading == b"in between"
    received = bytearray()
    while len(received) < len(sent):
        received += await loop.sock_recv(theirs, 1 << 18)
    await writing
    assert received == sent


async def test_a_transport_takes_the_socket_over_after_an_operation(loop: Loop, pair: Sockets) -> None:
    ours, theirs = pair
    await ping(loop, ours, theirs)
    transport, protocol = await loop.create_connection(Recorder, sock=ours)
    theirs.send(b"for the protocol")
    theirs.shutdown(socket.SHUT_WR)
    await protocol.lost
    assert protocol.data == b"for the protocol"
    assert transport.is_closing()


async def test_a_socket_of_a_transport_is_refused(loop: Loop, pair: Sockets) -> None:
    ours, _theirs = pair
    transport, protocol = await loop.create_connection(Recorder, sock=ours)
    with pytest.raises(RuntimeError, match="is used by transport"):
        await loop.sock_recv(ours, 100)
    transport.close()
    await protocol.lost


@whorl_only
async def test_a_paused_transport_whose_peer_reset_does_not_spin(loop: Loop) -> None:
    """The kernel reports a hang-up even to a registration without interest."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        transport, protocol = await loop.create_connection(Recorder, *server.getsockname())
        peer, _ = server.accept()
        transport.pause_reading()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        peer.close()
        assert await idle_cpu_seconds() < 0.1
        assert not protocol.lost.done()
        transport.resume_reading()
        assert isinstance(await protocol.lost, ConnectionResetError)


async def test_a_task_about_to_be_cancelled_takes_no_data_with_it(loop: Loop, pair: Sockets) -> None:
    """What was scheduled before the data is seen comes first (cpython gh-153761, for a connection)."""
    ours, theirs = pair
    receiving = asyncio.ensure_future(loop.sock_recv(ours, 100))
    await turns(2)
    theirs.send(b"must not be lost")
    loop.call_soon(receiving.cancel)
    await asyncio.gather(receiving, return_exceptions=True)
    assert receiving.cancelled()
    assert await loop.sock_recv(ours, 100) == b"must not be lost"
