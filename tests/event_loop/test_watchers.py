"""``add_reader`` and ``add_writer``: level-triggered, on any descriptor, safe against reuse and
duplicates."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import tempfile
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import LoopErrors, Sockets
from .support import Recorder, connected, control_xfail, cpu_seconds_while_idle, turns, until

Loop = asyncio.AbstractEventLoop


async def test_readers_are_level_triggered(loop: Loop, pair: Sockets) -> None:
    ours, theirs = pair
    got: list[bytes] = []
    loop.add_reader(ours, lambda: got.append(ours.recv(1)))
    theirs.send(b"abc")
    await until(lambda: len(got) == 3)
    assert got == [b"a", b"b", b"c"]
    assert loop.remove_reader(ours)


async def test_writers_are_level_triggered(loop: Loop, pair: Sockets) -> None:
    ours, _ = pair
    calls: list[int] = []
    loop.add_writer(ours, calls.append, 1)
    await until(lambda: len(calls) >= 5)
    assert loop.remove_writer(ours)
    before = len(calls)
    await turns()
    assert len(calls) == before


async def test_reader_and_writer_of_one_descriptor_are_independent(loop: Loop, pair: Sockets) -> None:
    ours, theirs = pair
    got: list[str] = []
    loop.add_reader(ours, lambda: (ours.recv(100), got.append("read")))
    loop.add_writer(ours, lambda: (got.append("write"), loop.remove_writer(ours)))
    await until(lambda: "write" in got)
    theirs.send(b"x")
    await until(lambda: "read" in got)
    loop.add_writer(ours, lambda: (got.append("write again"), loop.remove_writer(ours)))
    await until(lambda: "write again" in got)
    assert loop.remove_reader(ours)
    theirs.send(b"y")
    await turns()
    assert ours.recv(10) == b"y"


async def test_adding_again_replaces(loop: Loop, pair: Sockets) -> None:
    ours, theirs = pair
    got: list[str] = []
    loop.add_reader(ours, got.append, "old")
    loop.add_reader(ours, lambda: (got.append("new"), ours.recv(10)))
    theirs.send(b"x")
    await until(lambda: got)
    assert got == ["new"]
    assert loop.remove_reader(ours)
    assert not loop.remove_reader(ours)


async def test_a_replaced_callback_and_its_arguments_are_dropped(loop: Loop, pair: Sockets) -> None:
    class Thing:
        pass

    thing = Thing()
    alive = weakref.ref(thing)
    loop.add_reader(pair[0], print, thing)
    del thing
    loop.add_reader(pair[0], print)
    gc.collect()
    assert alive() is None
    loop.remove_reader(pair[0])


def test_remove_says_whether_there_was_something_to_remove(loop: Loop, pair: Sockets) -> None:
    ours, _ = pair
    assert not loop.remove_reader(ours)
    assert not loop.remove_writer(ours)
    loop.add_reader(ours, print)
    assert not loop.remove_writer(ours)
    assert loop.remove_reader(ours)
    assert not loop.remove_reader(ours)
    loop.close()
    assert not loop.remove_reader(ours)
    assert not loop.remove_writer(ours)


async def test_a_reader_removed_in_the_same_batch_does_not_run(loop: Loop) -> None:
    """Two descriptors become readable at once; whichever runs first removes the other."""
    pairs = [socket.socketpair() for _ in range(2)]
    ran: list[int] = []

    def ready(number: int) -> None:
        ran.append(number)
        for ours, _ in pairs:
            loop.remove_reader(ours)

    for number, (ours, theirs) in enumerate(pairs):
        theirs.send(b"x")
        loop.add_reader(ours, ready, number)
    await until(lambda: ran)
    await turns()
    assert len(ran) == 1
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


async def test_descriptors_closed_and_reused_in_the_same_batch_get_no_stale_event(loop: Loop) -> None:
    """Of two readable sockets the first callback closes the other and opens a new one with the same
    number."""
    first, other = socket.socketpair(), socket.socketpair()
    stale: list[str] = []
    fresh: list[tuple[socket.socket, socket.socket]] = []

    def ready(mine: socket.socket, victim: socket.socket) -> None:
        loop.remove_reader(mine)
        loop.remove_reader(victim)
        if fresh:
            return
        mine.recv(1)
        number = victim.fileno()
        victim.close()
        new = socket.socketpair()
        if new[0].fileno() != number:
            new = (new[1], new[0])
        assert new[0].fileno() == number
        loop.add_reader(new[0], lambda: stale.append("called"))
        fresh.append(new)

    for mine, victim in ((first[0], other[0]), (other[0], first[0])):
        loop.add_reader(mine, ready, mine, victim)
    first[1].send(b"x")
    other[1].send(b"x")
    await until(lambda: fresh)
    await turns()
    assert stale == []
    fresh[0][1].send(b"x")
    await until(lambda: stale)
    loop.remove_reader(fresh[0][0])
    for sock in (*first, *other, *fresh[0]):
        sock.close()


@pytest.mark.parametrize("kind", ["number", "socket", "object with fileno", "file object"])
async def test_every_kind_of_file_object(loop: Loop, kind: str) -> None:
    read, write = os.pipe()

    class WithFileno:
        def fileno(self) -> int:
            return read

    target: Any = read
    ours = theirs = None
    if kind == "socket":
        ours, theirs = socket.socketpair()
        target = ours
    elif kind == "object with fileno":
        target = WithFileno()
    elif kind == "file object":
        target = os.fdopen(os.dup(read), "rb", buffering=0)
    seen = asyncio.Event()
    loop.add_reader(target, seen.set)
    if theirs is not None:
        theirs.send(b"x")
    else:
        os.write(write, b"x")
    await seen.wait()
    assert loop.remove_reader(target)
    if kind in {"socket", "file object"}:
        target.close()
    if theirs is not None:
        theirs.close()
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("call", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
@pytest.mark.parametrize("bad", ["text", None, 1.5, b"0", object(), -1, -(2**40)])
def test_what_is_no_descriptor_is_refused(loop: Loop, call: str, bad: Any) -> None:
    arguments = (print,) if call.startswith("add") else ()
    with pytest.raises((TypeError, ValueError, OverflowError)):
        getattr(loop, call)(bad, *arguments)
    assert loop.run_until_complete(asyncio.sleep(0, "alive")) == "alive"


@pytest.mark.parametrize("call", ["add_reader", "add_writer"])
def test_a_number_too_large_for_a_descriptor_is_refused(loop: Loop, call: str) -> None:
    with pytest.raises((OSError, ValueError, OverflowError)):
        getattr(loop, call)(2**40, print)
    assert loop.run_until_complete(asyncio.sleep(0, "alive")) == "alive"


@pytest.mark.parametrize("call", ["add_reader", "add_writer"])
def test_a_closed_socket_is_refused(loop: Loop, call: str) -> None:
    sock = socket.socket()
    sock.close()
    with pytest.raises(ValueError, match="-1|file descriptor|fileno"):
        getattr(loop, call)(sock, print)
    assert loop.run_until_complete(asyncio.sleep(0, "alive")) == "alive"


@pytest.mark.parametrize("call", ["add_reader", "add_writer"])
def test_a_closed_descriptor_is_refused(loop: Loop, call: str) -> None:
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    with pytest.raises(OSError, match=r"\[Errno 9\]"):
        getattr(loop, call)(read, print)
    assert not loop.remove_reader(read)
    assert loop.run_until_complete(asyncio.sleep(0, "alive")) == "alive"


@pytest.mark.parametrize("call", ["add_reader", "add_writer"])
def test_a_regular_file_is_refused(loop: Loop, call: str) -> None:
    with tempfile.TemporaryFile() as file:
        with pytest.raises(PermissionError):
            getattr(loop, call)(file.fileno(), print)
        assert loop.run_until_complete(asyncio.sleep(0, "alive")) == "alive"


async def test_a_descriptor_that_a_transport_owns_is_refused(loop: Loop) -> None:
    async with connected(Recorder) as connection:
        sock = connection.transport.get_extra_info("socket")
        number = sock.fileno()
        calls: list[Callable[[], object]] = [
            lambda: loop.add_reader(number, print),
            lambda: loop.add_writer(number, print),
            lambda: loop.remove_reader(number),
            lambda: loop.remove_writer(number),
            lambda: loop.add_reader(sock, print),
        ]
        for call in calls:
            with pytest.raises(RuntimeError, match="transport"):
                call()
        await connection.peer_sends(b"still works")
        await connection.protocol.received(11)


async def test_a_descriptor_is_free_again_after_its_transport_closed(loop: Loop) -> None:
    async with connected(Recorder) as connection:
        number = connection.transport.get_extra_info("socket").fileno()
        read, write = os.pipe()
        connection.transport.abort()
        await connection.protocol.lost
        os.dup2(read, number)
        seen = asyncio.Event()
        loop.add_reader(number, seen.set)
        os.write(write, b"x")
        await seen.wait()
        loop.remove_reader(number)
        for fd in {read, write, number}:
            os.close(fd)


async def test_the_loop_holds_a_reference_to_the_file_object(loop: Loop) -> None:
    """Otherwise the collector closes the descriptor while it is watched."""
    read, write = os.pipe()

    class File:
        def fileno(self) -> int:
            return read

    file = File()
    alive = weakref.ref(file)
    seen: list[int] = []
    loop.add_reader(file, seen.append, 1)
    del file
    gc.collect()
    assert alive() is not None
    os.write(write, b"x")
    await until(lambda: seen)
    assert loop.remove_reader(read)
    await turns()
    gc.collect()
    assert alive() is None
    os.close(read)
    os.close(write)


@control_xfail("a descriptor closed while it is watched stays in the selector's map, never in the kernel's")
async def test_a_descriptor_closed_while_watched_can_be_reused(loop: Loop, pair: Sockets) -> None:
    """The user's mistake must not affect the next owner of the same number."""
    read, write = os.pipe()
    loop.add_reader(read, print)
    os.close(read)
    os.dup2(pair[0].fileno(), read)
    seen = asyncio.Event()
    loop.add_reader(read, seen.set)
    pair[1].send(b"x")
    try:
        await asyncio.wait_for(seen.wait(), 1)
    finally:
        loop.remove_reader(read)
        os.close(read)
        os.close(write)


async def test_a_duplicate_of_a_removed_descriptor_does_not_spin(loop: Loop, pair: Sockets) -> None:
    """aiohttp #1412: the kernel reports the open file, not the number, so the loop must unregister
    it before the number is closed."""
    ours, theirs = pair
    loop.add_reader(ours, print)
    with socket.socket(fileno=os.dup(ours.fileno())):
        loop.remove_reader(ours)
        ours.close()
        theirs.send(b"always readable")
        assert await cpu_seconds_while_idle() < 0.03


async def test_a_duplicate_of_a_transports_socket_does_not_spin(loop: Loop) -> None:
    """aiohttp #1412."""
    async with connected(Recorder) as connection:
        fd = connection.transport.get_extra_info("socket").fileno()
        with socket.socket(fileno=os.dup(fd)):
            connection.transport.abort()
            await connection.protocol.lost
            await connection.peer_sends(b"always readable")
            assert await cpu_seconds_while_idle() < 0.03


async def test_hang_up_wakes_readers_and_writers(loop: Loop) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    while True:
        try:
            os.write(write, b"x" * 65536)
        except BlockingIOError:
            break
    seen = asyncio.Event()
    loop.add_writer(write, seen.set)
    await turns()
    assert not seen.is_set()
    os.close(read)
    await seen.wait()
    loop.remove_writer(write)
    os.close(write)

    read, write = os.pipe()
    ended = asyncio.Event()
    loop.add_reader(read, ended.set)
    os.close(write)
    await ended.wait()
    loop.remove_reader(read)
    os.close(read)


async def test_a_callback_that_raises_is_reported_and_stays(
    loop: Loop, loop_errors: LoopErrors, pair: Sockets
) -> None:
    ours, theirs = pair
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        if len(calls) == 2:
            ours.recv(10)
        raise ZeroDivisionError

    loop.add_reader(ours, fail)
    theirs.send(b"x")
    await until(lambda: len(calls) == 2)
    loop.remove_reader(ours)
    assert len(loop_errors) == 2
    loop_errors.clear()


async def test_many_descriptors(loop: Loop) -> None:
    pairs = [socket.socketpair() for _ in range(400)]
    got: set[int] = set()
    for number, (ours, theirs) in enumerate(pairs):
        loop.add_reader(ours, lambda n=number, s=ours: (s.recv(1), got.add(n)))
        theirs.send(b"x")
    await until(lambda: len(got) == len(pairs))
    for ours, theirs in pairs:
        assert loop.remove_reader(ours)
        ours.close()
        theirs.close()


async def test_a_reader_that_raises_drops_nothing_in_the_wrong_place(
    loop: Loop, loop_errors: LoopErrors, pair: Sockets
) -> None:
    """The arguments' finaliser, which may run when the callback has raised, comes back to the loop."""

    class Finalised:
        def __del__(self) -> None:
            finalised.append(loop.call_soon(print))

    def fails(_argument: object) -> None:
        pair[0].recv(1)
        loop.remove_reader(pair[0])
        raise ZeroDivisionError

    finalised: list[asyncio.Handle] = []
    loop.add_reader(pair[0], fails, Finalised())
    pair[1].send(b"x")
    await until(lambda: loop_errors)
    assert isinstance(loop_errors.take().pop("exception"), ZeroDivisionError)
    await until(lambda: gc.collect() >= 0 and finalised)
    finalised[0].cancel()
