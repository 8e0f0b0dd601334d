"""Timeouts go by the clock of the loop, also where a test has put another in its place."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.http.raw_support import OK, RawServer, keeping_alive, once, until

#: Of the loop's clock, by which the bound of each test (conftest.py) goes as well.
LONG = 5.0

WAYS: dict[str, Callable[[Any, str], Any]] = {
    "get": lambda session, url: session.get(url).__aenter__(),
    "_request": lambda session, url: session._request("GET", url),
}


class Skewed:
    """The time of the running loop, moved on by hand."""

    def __init__(self) -> None:
        self.loop: Any = asyncio.get_running_loop()
        self.skew = 0.0
        self.loop.time = lambda: time.monotonic() + self.skew

    def move(self, seconds: float) -> None:
        self.skew += seconds
        # The loop reads its clock when it wakes.
        self.loop.call_soon(lambda: None)


@pytest.mark.parametrize("way", WAYS)
async def test_the_total_limit_goes_by_the_loops_clock(ours: Any, way: str) -> None:
    clock = Skewed()
    limits = ours.ClientTimeout(total=LONG)
    async with RawServer(once(then="stall")) as server, ours.ClientSession(timeout=limits) as session:
        request = asyncio.ensure_future(WAYS[way](session, server.url))
        await until(lambda: server.accepted == 1)
        clock.move(LONG / 2)
        await asyncio.sleep(0)
        assert not request.done()
        clock.move(LONG)
        with pytest.raises(asyncio.TimeoutError):
            await request


async def test_the_limit_of_silence_goes_by_the_loops_clock(ours: Any) -> None:
    clock = Skewed()
    limits = ours.ClientTimeout(total=None, sock_read=LONG)
    async with RawServer(once(then="stall")) as server, ours.ClientSession(timeout=limits) as session:
        request = asyncio.ensure_future(WAYS["get"](session, server.url))
        await until(lambda: server.accepted == 1)
        clock.move(2 * LONG)
        with pytest.raises(ours.SocketTimeoutError):
            await request


async def test_idle_connections_are_closed_by_the_loops_clock(ours: Any) -> None:
    clock = Skewed()
    connector = ours.TCPConnector(keepalive_timeout=LONG)
    async with RawServer(keeping_alive(OK)) as server, ours.ClientSession(connector=connector) as session:
        async with session.get(server.url) as response:
            await response.read()
        async with session.get(server.url) as response:
            await response.read()
        assert server.accepted == 1
        clock.move(2 * LONG)
        async with session.get(server.url) as response:
            await response.read()
        assert server.accepted == 2
