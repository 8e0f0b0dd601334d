"""Workloads that must not make a process grow, each run in a process of its own.

    python workloads.py LOOP WORKLOAD COUNT

LOOP is ``whorl`` or ``asyncio``. Prints one JSON object: ``growth`` (bytes of resident memory that the
second half of the work added, each time that it was run), ``fds`` and ``threads`` (descriptors and threads
added), ``done`` (operations counted).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

BATCH = 1000

#: Bytes that the second half may add: a few allocator arenas, far below what a leak of one object in each
#: operation comes to.
TOLERANCE = 4 << 20


def resident() -> int:
    """Resident memory of this process, in bytes."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[attr-defined]


class Client(asyncio.Protocol):
    """Sends one message, waits for its echo, closes."""

    def __init__(self, lost: asyncio.Future[int]) -> None:
        self.lost = lost
        self.received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(b"x" * 100)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        if self.received >= 100:
            self.transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set_result(self.received)


async def timers(count: int) -> int:
    """Makes timers far in the future and cancels them."""
    loop = asyncio.get_running_loop()
    for _ in range(count // BATCH):
        for handle in [loop.call_later(3600, print, "never") for _ in range(BATCH)]:
            handle.cancel()
        await asyncio.sleep(0)
    return count


async def callbacks(count: int) -> int:
    """Queues callbacks from this thread, and cancels every other one."""
    loop = asyncio.get_running_loop()
    ran = 0

    def run() -> None:
        nonlocal ran
        ran += 1

    for _ in range(count // BATCH):
        for number in range(BATCH):
            handle = loop.call_soon(run)
            if number % 2:
                handle.cancel()
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    return ran * 2


async def connections(count: int) -> int:
    """Opens and closes connections, with a message there and back on each."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=512)
    address = server.sockets[0].getsockname()
    done = 0

    async def worker(share: int) -> None:
        nonlocal done
        for _ in range(share):
            lost: asyncio.Future[int] = loop.create_future()
            await loop.create_connection(lambda future=lost: Client(future), *address)  # type: ignore[misc]
            received = await lost
            done += received == 100

    await asyncio.gather(*(worker(count // 20) for _ in range(20)))
    server.close()
    await server.wait_closed()
    return done


async def at_once(count: int) -> int:
    """Holds connections open all at once; the clients are another process, as one has too few descriptors."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    client = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, __file__, "clients", str(port), str(count)],
        stdout=subprocess.PIPE,
        check=True,
    )
    server.close()
    await server.wait_closed()
    return int(client.stdout)


async def threads(count: int) -> int:
    """Runs loops in four threads that schedule on one another, cancel that, and collect garbage meanwhile."""
    make_loop = type(asyncio.get_running_loop())
    loops: list[asyncio.AbstractEventLoop] = []
    together = threading.Barrier(4)
    done = [0] * 4

    def ran(index: int) -> None:
        done[index] += 1

    async def echo(sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(sock, 100):
            await loop.sock_sendall(sock, data)

    async def work(index: int) -> None:
        loop = asyncio.get_running_loop()
        loops.append(loop)
        await asyncio.to_thread(together.wait)
        others = [(loops.index(other), other) for other in loops if other is not loop]
        mine, theirs = socket.socketpair()
        mine.setblocking(False)
        theirs.setblocking(False)
        # The other end is served by another thread's loop.
        served = asyncio.run_coroutine_threadsafe(echo(theirs), others[0][1])
        for number in range(count // 4):
            other_index, other = others[number % 3]
            other.call_soon_threadsafe(ran, other_index)
            other.call_soon_threadsafe(int).cancel()
            loop.call_later(3600, int).cancel()
            if number % 10 == 0:
                await loop.sock_sendall(mine, b"%06d" % number)
                assert await loop.sock_recv(mine, 6) == b"%06d" % number
            if number % BATCH == 0:
                gc.collect()
        mine.close()
        await asyncio.wrap_future(served)
        theirs.close()
        await asyncio.to_thread(together.wait)
        await asyncio.sleep(0)

    def run(index: int) -> None:
        with asyncio.Runner(loop_factory=make_loop) as runner:
            runner.run(work(index))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        running = [asyncio.wrap_future(pool.submit(run, index)) for index in range(4)]
        await asyncio.gather(*running)
    return sum(done)


class Holder:
    """Holds the handles of its own method, and enough memory that a leak of one shows."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self.payload = bytearray(8192)
        self.handles = [
            loop.call_soon(self.expire),
            loop.call_later(3600, self.expire),
            loop.call_soon_threadsafe(self.expire, self),
        ]
        loop.add_reader(sock, self.expire)
        loop.add_writer(sock, self.expire, self)
        loop.add_signal_handler(signal.SIGUSR1, self.expire)
        loop.add_signal_handler(signal.SIGUSR2, self.expire, self)

    def expire(self, *_arguments: object) -> None:
        raise AssertionError("its loop is closed")


async def closed_loops(count: int) -> int:
    """Makes loops and closes them with timers, callbacks, watched descriptors and handlers of signals."""
    make_loop = type(asyncio.get_running_loop())
    mine, theirs = socket.socketpair()
    done = 0
    with mine, theirs:
        for _ in range(count):
            loop = make_loop()
            Holder(loop, mine)
            loop.close()
            done += 1
            if done % 100 == 0:
                # Loops are cycles: how many wait for the collector is not to decide how far the heap grows.
                gc.collect()
                await asyncio.sleep(0)
    return done


async def closed_pools(count: int) -> int:
    """Closes loops on which requests wait for the only connection of the client's pool."""
    make_loop = type(asyncio.get_running_loop())
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{directory}/socket")
        listener.listen()
        # On a thread of its own, as a loop runs on this one.
        return await asyncio.to_thread(close_with_waiters, make_loop, listener, count)


def close_with_waiters(
    make_loop: type[asyncio.AbstractEventLoop], listener: socket.socket, count: int
) -> int:
    """Blocking: makes loops, and closes each with a request and two others that wait for its connection."""
    from whorl import http

    async def middleware(request: Any, handler: Any) -> Any:
        return await handler(request)

    async def fetch(session: http.ClientSession, options: dict[str, Any], _payload: bytearray) -> None:
        await session.get("http://host/", **options)

    async def begin() -> None:
        loop = asyncio.get_running_loop()
        connector = http.UnixConnector(listener.getsockname(), limit=1)
        session = http.ClientSession(connector=connector)
        # The fast path's request, and the coroutine's. Each has enough memory that a leak of one shows.
        for options in ({}, {}, {"middlewares": (middleware,)}):
            loop.create_task(fetch(session, options, bytearray(16384)))
        while not connector._acquired:
            await asyncio.sleep(0)
        await asyncio.sleep(0)

    done = 0
    for _ in range(count):
        loop = make_loop()
        # Of the session, and of each task, it is said that they were forgotten.
        loop.set_exception_handler(lambda *_: None)
        loop.run_until_complete(begin())
        loop.close()
        listener.accept()[0].close()
        done += 1
        if done % 20 == 0:
            # As above.
            gc.collect()
    return done


def clients(port: int, count: int) -> int:
    """Blocking: opens ``count`` connections, then sends on each, then reads from each; returns how many
    answered."""
    sockets = [socket.create_connection(("127.0.0.1", port), 60) for _ in range(count)]
    for number, sock in enumerate(sockets):
        sock.sendall(b"%06d" % number)
    return sum(sock.recv(6, socket.MSG_WAITALL) == b"%06d" % number for number, sock in enumerate(sockets))


WORKLOADS = {
    "timers": timers,
    "callbacks": callbacks,
    "connections": connections,
    "at_once": at_once,
    "threads": threads,
    "closed_loops": closed_loops,
    "closed_pools": closed_pools,
}


def raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    raise_descriptor_limit()
    if sys.argv[1] == "clients":
        print(clients(int(sys.argv[2]), int(sys.argv[3])))
        return
    name, workload, count = sys.argv[1], WORKLOADS[sys.argv[2]], int(sys.argv[3])
    if name == "whorl":
        from whorl import new_event_loop
    else:
        from asyncio import new_event_loop
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(asyncio.sleep(0))
        fds, tasks = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
        began = time.monotonic()
        # The first half brings every pool and free list to its size; the second must add nothing. If it does,
        # it is run again: a leak adds as much each time, an allocator that has taken an arena does not.
        first = runner.run(workload(count // 2))
        done, growths = [], []
        while not growths or (min(growths) >= TOLERANCE and len(growths) < 3):
            before = resident()
            done.append(runner.run(workload(count // 2)))
            growths.append(resident() - before)
        runner.run(asyncio.sleep(0.05))
        report = {
            "done": first + min(done),
            "growth": min(growths),
            "fds": len(os.listdir("/proc/self/fd")) - fds,
            "threads": len(os.listdir("/proc/self/task")) - tasks,
            "seconds": round(time.monotonic() - began, 2),
        }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
