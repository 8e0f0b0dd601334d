"""A loop inside the main loop of another program: what a program does, and when its host is woken."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from .certificates import Certificates
from .guest_support import closing_pair, forever, hosted, is_readable, run, settle

# -- what a program does -------------------------------------------------------------------------------------


def test_the_result_of_main() -> None:
    async def main() -> int:
        await asyncio.sleep(0)
        return 42

    assert run(main()) == 42


def test_what_main_raises() -> None:
    async def main() -> None:
        await asyncio.sleep(0)
        raise LookupError("this one")

    with pytest.raises(LookupError, match="this one"):
        run(main())


def test_timers_wake_the_host() -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        woken: list[int] = []

        async def sleeper(number: int) -> None:
            began = loop.time()
            await asyncio.sleep(number / 1000)
            assert loop.time() - began >= number / 1000
            woken.append(number)

        await asyncio.gather(*map(sleeper, (3, 1, 2)))
        return woken

    assert run(main()) == [1, 2, 3]


def test_echo() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(100_000))
        writer.close()
        await writer.wait_closed()

    async def main() -> bytes:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"x" * 100_000)
            reply = await reader.read()
            writer.close()
            await writer.wait_closed()
            return reply

    assert run(main()) == b"x" * 100_000


def test_tls(certificates: Certificates) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(5))
        writer.close()
        await writer.wait_closed()

    async def main() -> bytes:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=certificates.server())
        async with server:
            address = server.sockets[0].getsockname()
            client = certificates.client()
            reader, writer = await asyncio.open_connection(*address, ssl=client, server_hostname="localhost")
            writer.write(b"hello")
            reply = await reader.read()
            writer.close()
            await writer.wait_closed()
            return reply

    assert run(main()) == b"hello"


def test_a_subprocess() -> None:
    async def main() -> bytes:
        child = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        output, _ = await child.communicate(b"through a child")
        return output

    assert run(main()) == b"through a child"


def test_an_executor_and_what_is_left_at_the_end() -> None:
    seen: list[str] = []

    async def generator() -> Any:
        try:
            yield 1
            yield 2
        finally:
            seen.append("generator")

    async def background() -> None:
        try:
            await forever()
        finally:
            seen.append("task")

    async def main() -> None:
        task = asyncio.create_task(background())
        await asyncio.sleep(0)
        assert await asyncio.to_thread(threading.get_ident) != threading.get_ident()
        async for _ in generator():
            break
        seen.append("main")
        del task

    threads = threading.active_count()
    run(main())
    assert sorted(seen) == ["generator", "main", "task"]
    assert threading.active_count() == threads


# -- when the descriptor is readable -------------------------------------------------------------------------


def test_an_idle_guest_does_not_wake_its_host() -> None:
    with hosted(forever()) as (_, guest):
        settle(guest)
        assert not is_readable(guest)
        assert guest.turn() is None
        assert not is_readable(guest)


def test_a_closed_descriptor_with_a_duplicate_does_not_wake_the_host_for_long() -> None:
    """The kernel reports it without end; the guest keeps its descriptor when the loop ends that."""
    with hosted(forever()) as (host, guest), closing_pair() as (ours, theirs):
        fd = guest.fd
        loop = guest.loop
        number = ours.fileno()
        loop.add_reader(number, ours.recv, 1)
        settle(guest)
        with ours.dup():
            ours.close()
            assert loop.remove_reader(number)
            theirs.send(b"unread")
            host.run(lambda: host.woken >= 50 or not is_readable(guest))
            assert host.woken < 50
            assert guest.fd == fd
            host.woken = 0
            # What came before is still watched: another thread, a timer, a descriptor.
            done: list[str] = []
            loop.call_later(0.01, done.append, "timer")
            host.run(lambda: "timer" in done)
            with ThreadPoolExecutor(1) as pool:
                pool.submit(loop.call_soon_threadsafe, done.append, "thread")
                host.run(lambda: "thread" in done)
            with closing(theirs.dup()) as other:
                loop.add_writer(other, done.append, "descriptor")
                host.run(lambda: "descriptor" in done)
                loop.remove_writer(other)


def test_the_turn_says_when_the_next_timer_is_due() -> None:
    async def main() -> None:
        await asyncio.sleep(3600)

    with hosted(main()) as (_, guest):
        settle(guest)
        delay = guest.turn()
        assert delay is not None
        assert 3500 < delay <= 3600
        assert not is_readable(guest)


def test_a_call_from_another_thread_wakes_an_idle_host() -> None:
    with hosted(forever()) as (host, guest):
        settle(guest)
        ran: list[int] = []
        thread = threading.Thread(
            target=guest.loop.call_soon_threadsafe, args=(lambda: ran.append(threading.get_ident()),)
        )
        thread.start()
        host.run(lambda: bool(ran))
        thread.join()
        assert ran == [threading.get_ident()]


BETWEEN_TURNS: dict[str, Callable[[asyncio.AbstractEventLoop, Callable[[], None]], object]] = {
    "call_soon": lambda loop, callback: loop.call_soon(callback),
    "call_soon_threadsafe": lambda loop, callback: loop.call_soon_threadsafe(callback),
    "call_later": lambda loop, callback: loop.call_later(0.001, callback),
    "a future": lambda loop, callback: _completed(loop).add_done_callback(lambda _: callback()),
}


def _completed(loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
    future = loop.create_future()
    future.set_result(None)
    return future


@pytest.mark.parametrize("way", BETWEEN_TURNS)
def test_what_a_handler_of_the_host_schedules_wakes_it(way: str) -> None:
    with hosted(forever()) as (host, guest):
        settle(guest)
        ran: list[None] = []
        BETWEEN_TURNS[way](guest.loop, lambda: ran.append(None))
        host.run(lambda: bool(ran))
        settle(guest)


def test_a_handler_of_the_host_makes_a_task_and_writes() -> None:
    ends: tuple[socket.socket, socket.socket]
    got: list[bytes] = []

    async def main() -> asyncio.StreamWriter:
        nonlocal ends, writer
        ends = socket.socketpair()
        ends[1].setblocking(False)
        _, writer = await asyncio.open_connection(sock=ends[0])
        await forever()
        return writer

    writer: asyncio.StreamWriter | None = None
    with hosted(main()) as (host, guest):
        host.run(lambda: writer is not None)
        settle(guest)
        assert writer is not None

        async def read() -> None:
            got.append(await asyncio.get_running_loop().sock_recv(ends[1], 100))

        tasks: list[Any] = []
        host.post(lambda: tasks.append(asyncio.create_task(read())))
        host.post(lambda: writer.write(b"from a handler"))
        host.run(lambda: bool(got))
        writer.close()
        settle(guest)
        ends[1].close()
    assert got == [b"from a handler"]


def test_stop_ends_the_guest() -> None:
    with hosted(forever()) as (host, guest):
        settle(guest)
        guest.loop.stop()
        host.run()
        assert guest.done
        with pytest.raises(RuntimeError, match="stopped before"):
            guest.result()


def test_work_beyond_the_budget_is_left_for_the_next_turn() -> None:
    ran: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in range(100):
            loop.call_soon(ran.append, number)
        await forever()

    with hosted(main()) as (_, guest):
        turns = 0
        while len(ran) < 100:
            assert is_readable(guest)
            before = len(ran)
            guest.turn(budget=0)
            # The first turn runs the task that schedules them; each other one runs a callback, and only that.
            assert len(ran) == before + (turns > 0)
            turns += 1
        assert ran == list(range(100))
        settle(guest)


def test_a_budget_used_up_for_a_connection_leaves_one_callback() -> None:
    """Of the connections that are ready one is served, and of the callbacks that are due one runs."""
    served: list[bytes] = []
    ran: list[int] = []
    theirs: list[socket.socket] = []

    class Served(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            served.append(data)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(2):
            ours, other = socket.socketpair()
            theirs.append(other)
            await loop.create_connection(Served, sock=ours)
        await forever()

    with hosted(main()) as (_, guest):
        settle(guest)
        for peer in theirs:
            peer.send(b"x")
        for number in range(2):
            guest.loop.call_later(0, ran.append, number)
        guest.turn(budget=0)
        assert (len(served), ran) == (1, [0])
        settle(guest)
        assert (len(served), ran) == (2, [0, 1])
        for peer in theirs:
            peer.close()
        # The end of each connection.
        settle(guest)


def test_a_callback_that_repeats_without_end_does_not_hold_the_host() -> None:
    with hosted(forever()) as (_, guest):
        settle(guest)
        count = 0

        def again() -> None:
            nonlocal count
            count += 1
            if count < 1_000_000:
                guest.loop.call_soon(again)

        guest.loop.call_soon(again)
        assert guest.turn(budget=0.001) == 0
        assert 0 < count < 1_000_000
        count = 1_000_000
        settle(guest)


def test_a_poll_that_finds_something_is_followed_by_another() -> None:
    """Peers on one loop exchange many messages in one turn; the host is not needed for each of them."""

    class Echo(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            transports.append(transport)

        def data_received(self, data: bytes) -> None:
            received.append(data)
            if len(received) < 100:
                self.transport.write(data)

    received: list[bytes] = []
    transports: list[asyncio.Transport] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        transport, _ = await loop.create_connection(Echo, sock=ours)
        await loop.create_connection(Echo, sock=theirs)
        transport.write(b"x")
        await forever()

    with hosted(main()) as (_, guest):
        turns = 0
        while len(received) < 100:
            guest.turn(budget=60)
            turns += 1
        assert turns < 10
        for transport in transports:
            transport.close()
        settle(guest)
