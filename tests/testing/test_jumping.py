"""The clock for tests: it stands, jumps when nothing else can happen, and says what keeps it."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from whorl import testing

pytest_plugins = ["whorl.testing.pytest_plugin"]

#: Seconds of the loop's clock. A test that took them in real time would not end.
HOUR = 3600.0


def run_impatiently(main: Coroutine[Any, Any, Any]) -> Any:
    """With as little patience as shows that the clock is stuck."""
    with asyncio.Runner(loop_factory=lambda: testing.EventLoop(patience=0.05)) as runner:
        return runner.run(main)


def test_time_jumps_to_the_next_deadline() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(HOUR)
        assert loop.time() - began == pytest.approx(HOUR, abs=1e-6)
        assert loop.time() == loop.time()

    testing.run(main())


def test_time_stands_while_callbacks_run() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        time.sleep(0.002)
        await asyncio.sleep(0)
        assert loop.time() == began

    testing.run(main())


def test_deadlines_come_in_order() -> None:
    woken: list[tuple[int, float]] = []

    async def sleeper(number: int) -> None:
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(number * HOUR)
        woken.append((number, round((asyncio.get_running_loop().time() - began) / HOUR)))

    async def main() -> None:
        await asyncio.gather(*map(sleeper, [3, 1, 2]))

    testing.run(main())
    assert woken == [(1, 1), (2, 2), (3, 3)]


def test_the_fixture(jumping_clock: asyncio.Runner) -> None:
    jumping_clock.run(asyncio.sleep(HOUR))


def test_timeouts() -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(HOUR):
                await asyncio.sleep(2 * HOUR)

    testing.run(main())


@pytest.mark.parametrize("kind", ["tcp", "unix", "pipe"])
def test_connections_within_the_loop_do_not_hold_the_clock(kind: str) -> None:
    async def main() -> list[bytes]:
        loop = asyncio.get_running_loop()
        server = None
        accepted: asyncio.Future[Any] = loop.create_future()
        if kind == "tcp":
            server = await asyncio.start_server(lambda *ends: accepted.set_result(ends), "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            other = (await accepted)[1]
        elif kind == "unix":
            ends = socket.socketpair()
            reader, writer = await asyncio.open_connection(sock=ends[0])
            _, other = await asyncio.open_connection(sock=ends[1])
        else:
            reading, writing = os.pipe()
            reader, writer = asyncio.StreamReader(), None
            await loop.connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb")
            )
            other, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(writing, "wb"))
        got = []
        for number in range(3):
            read = asyncio.ensure_future(reader.readexactly(1))
            await asyncio.sleep(HOUR)
            assert not read.done()
            other.write(b"%d" % number)
            got.append(await asyncio.wait_for(read, HOUR))
        other.close()
        await reader.read()
        if writer is not None:
            writer.close()
        if server is not None:
            server.close()
        return got

    assert testing.run(main()) == [b"0", b"1", b"2"]


def test_a_listener_does_not_hold_the_clock() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            accept = asyncio.ensure_future(asyncio.get_running_loop().sock_accept(listener))
            async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0):
                await asyncio.sleep(HOUR)
            accept.cancel()
            await asyncio.wait([accept])

    testing.run(main())


def test_a_job_of_an_executor_holds_the_clock() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        began, release = loop.time(), threading.Event()
        job = asyncio.ensure_future(asyncio.to_thread(release.wait))
        loop.call_soon(release.set)
        async with asyncio.timeout(HOUR):
            await job
        return loop.time() - began

    assert testing.run(main()) == 0


def test_a_child_holds_the_clock() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        child = await asyncio.create_subprocess_exec("sleep", "0.01")
        async with asyncio.timeout(HOUR):
            await child.wait()
        return loop.time() - began

    assert testing.run(main()) == 0


def test_a_peer_outside_of_the_loop_holds_the_clock() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        thread = threading.Thread(target=lambda: (time.sleep(0.01), theirs.send(b"x")))
        thread.start()
        with ours, theirs:
            assert await asyncio.wait_for(loop.sock_recv(ours, 1), HOUR) == b"x"
            thread.join()
        return loop.time() - began

    assert testing.run(main()) == 0


def test_a_clock_that_is_stuck_names_what_it_waits_for() -> None:
    async def a_peer() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours, theirs:
            await asyncio.wait_for(asyncio.get_running_loop().sock_recv(ours, 1), HOUR)

    with pytest.raises(testing.ClockStuckError, match=r"descriptor \d+ \(socket:"):
        run_impatiently(a_peer())

    release = threading.Event()

    async def a_job() -> None:
        try:
            await asyncio.wait_for(asyncio.to_thread(release.wait), HOUR)
        finally:
            release.set()

    with pytest.raises(testing.ClockStuckError, match="a job of an executor"):
        run_impatiently(a_job())


def test_a_loop_that_nothing_would_ever_wake() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(testing.ClockStuckError, match="no timer, and no event"):
        run_impatiently(main())


def test_an_infinite_time_never_ends() -> None:
    """A timer for it is no deadline: the clock is stuck, and does not jump there."""

    async def sleeper() -> None:
        await asyncio.sleep(float("inf"))

    with pytest.raises(testing.ClockStuckError, match="no timer"):
        run_impatiently(sleeper())

    async def limited() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.timeout(float("inf")):
            await asyncio.sleep(HOUR)
        assert loop.time() - began == pytest.approx(HOUR, abs=1e-6)

    run_impatiently(limited())
