"""The pool under load: its limits hold, its queue is fair, and it ends in order."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from tests.http.raw_support import OK, Peer, RawServer, assert_nothing_acquired, keeping_alive, once, until

#: Time is what is tested, or is waited for: it takes none.
pytestmark = pytest.mark.jumping_clock


class Counting:
    """Counts the requests that a server is working on, as it counts them itself; responds after a while."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self.now = self.most = self.served = 0

    async def __call__(self, peer: Peer) -> None:
        while True:
            head, _ = await peer.request()
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                await asyncio.sleep(self._dice.random() * 0.004)
                path = head.split()[1]
                fate = self._dice.random()
                if fate < 0.05:
                    return
                end = b"Connection: close\r\n" if fate < 0.15 else b""
                await peer.send(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n" % (end, len(path)) + path)
                self.served += 1
                if end:
                    return
            finally:
                self.now -= 1


@pytest.mark.parametrize(
    "options", [{"limit": 7}, {"limit": 0, "limit_per_host": 3}, {"limit": 8, "limit_per_host": 5}]
)
@pytest.mark.parametrize("seed", [1, 2])
async def test_limits_hold(ours: Any, options: dict[str, int], seed: int) -> None:
    """With hundreds of tasks, of which some are cancelled, at any time; no place is lost, and all get their
    own."""
    dice = random.Random(seed)
    counts = [Counting(dice), Counting(dice)]
    most = 0
    async with RawServer(counts[0]) as one, RawServer(counts[1]) as two:
        connector = ours.TCPConnector(**options)
        async with ours.ClientSession(connector=connector) as session:
            outcomes = {"completed": 0, "cancelled": 0, "failed": 0}

            async def get(number: int) -> None:
                nonlocal most
                server = (one, two)[number % 2]
                async with session.get(f"{server.url}{number}") as response:
                    most = max(most, len(connector._acquired))
                    assert await response.text() == f"/{number}"

            tasks = []
            for number in range(600):
                task = asyncio.ensure_future(get(number))
                tasks.append(task)
                if dice.random() < 0.3:
                    asyncio.get_running_loop().call_later(dice.random() * 0.3, task.cancel)
                if dice.random() < 0.02:
                    await asyncio.sleep(0.005)
            await asyncio.wait(tasks)
            for task in tasks:
                if task.cancelled():
                    outcomes["cancelled"] += 1
                elif task.exception() is None:
                    outcomes["completed"] += 1
                else:
                    assert isinstance(task.exception(), ours.ClientConnectionError), task.exception()
                    outcomes["failed"] += 1
            await assert_nothing_acquired(connector)
            # Every place is free again: as many requests at a time get through at once.
            limit = options["limit"] or 2 * options["limit_per_host"]
            async with asyncio.timeout(5):
                done = await asyncio.gather(
                    *(get(number) for number in range(limit * 2)), return_exceptions=True
                )
            assert sum(outcome is None for outcome in done) > limit
    if options["limit"]:
        assert most <= options["limit"]
        # A server notices a little later that a request was given up.
    if per_host := options.get("limit_per_host"):
        assert most <= 2 * per_host
    assert most > 2
    assert outcomes["completed"] > 100
    assert outcomes["cancelled"] > 20


@pytest.mark.parametrize("option", ["limit", "limit_per_host"])
async def test_the_server_sees_no_more_than_the_limit(client: Any, option: str) -> None:
    """Without cancellation, even by what the server counts."""
    counting = Counting(random.Random(5))
    async with RawServer(counting) as server:
        async with client.ClientSession(connector=client.TCPConnector(**{option: 4})) as session:

            async def get() -> None:
                async with session.get(server.url) as response:
                    await response.read()

            done = await asyncio.gather(*(get() for _ in range(300)), return_exceptions=True)
            assert sum(outcome is None for outcome in done) > 200
    assert counting.most == 4


async def test_first_come_first_served(client: Any) -> None:
    order: list[str] = []
    queued = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            head, _ = await peer.request()
            order.append(head.split()[1].decode())
            await queued.wait()
            await peer.send(OK)

    async with RawServer(script) as server:
        async with client.ClientSession(connector=client.TCPConnector(limit=1)) as session:

            async def get(number: int) -> None:
                async with session.get(f"{server.url}{number}") as response:
                    await response.read()

            tasks = []
            for number in range(50):
                tasks.append(asyncio.ensure_future(get(number)))
                await asyncio.sleep(0)
            # Those that leave the queue do not upset it.
            for task in tasks[10:40:3]:
                task.cancel()
            queued.set()
            await asyncio.wait(tasks)
    expected = [f"/{number}" for number in range(50) if number not in range(10, 40, 3)]
    assert order == expected


async def test_a_full_host_does_not_hold_up_another(client: Any) -> None:
    async with RawServer(once(then="stall")) as stalling, RawServer(keeping_alive()) as server:
        connector = client.TCPConnector(limit=10, limit_per_host=1)
        async with client.ClientSession(connector=connector) as session:
            waiting = [asyncio.ensure_future(session.get(stalling.url)) for _ in range(5)]
            await asyncio.sleep(0.02)
            async with asyncio.timeout(2), session.get(server.url) as response:
                assert await response.read() == b"ok"
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
            await assert_nothing_acquired(connector)


async def test_idle_connections_expire(ours: Any) -> None:
    """By themselves, at their time. aiohttp checks only now and then."""
    async with RawServer(keeping_alive()) as server:
        connector = ours.TCPConnector(keepalive_timeout=0.1)
        async with ours.ClientSession(connector=connector) as session:
            for _ in range(2):
                await asyncio.gather(*(_get(session, server.url) for _ in range(5)))
                assert server.open == 5
                await until(lambda: not server.open, 2)
            assert server.accepted == 10


async def _get(session: Any, url: str) -> bytes:
    async with session.get(url) as response:
        body: bytes = await response.read()
        return body


async def test_a_connection_is_used_until_it_expires(client: Any) -> None:
    async with RawServer(keeping_alive()) as server:
        connector = client.TCPConnector(keepalive_timeout=0.5)
        async with client.ClientSession(connector=connector) as session:
            for _ in range(6):
                await _get(session, server.url)
                await asyncio.sleep(0.15)
            assert server.accepted == 1
            await asyncio.sleep(0.6)
            await _get(session, server.url)
            assert server.accepted == 2


async def test_force_close(client: Any) -> None:
    async with RawServer(keeping_alive()) as server:
        connector = client.TCPConnector(force_close=True)
        async with client.ClientSession(connector=connector) as session:
            for _ in range(3):
                assert await _get(session, server.url) == b"ok"
                await until(lambda: not server.open)
        assert server.accepted == 3
        assert all(b"Connection: close" in head for head in server.heads)


async def test_requests_that_differ_do_not_share(client: Any, tls: Any) -> None:
    """Of the same host: with other TLS settings, or another name in the certificate."""
    async with RawServer(keeping_alive(), ssl=tls.server()) as server:
        async with client.ClientSession() as session:
            context = tls.client()
            for options in (
                {"ssl": context},
                {"ssl": context},
                {"ssl": tls.client()},
                {"ssl": False},
                {"ssl": context, "server_hostname": "localhost"},
                {"ssl": context},
            ):
                async with session.get(server.url, **options) as response:
                    await response.read()
        assert server.accepted == 4


# The end.


async def test_a_session_closed_with_requests_in_flight_and_in_the_queue(ours: Any) -> None:
    """Each ends at once, with ClientConnectionError; in aiohttp, some never end."""

    async def script(peer: Peer) -> None:
        head, _ = await peer.request()
        if b"/body" in head:
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        await peer.gone()

    async with RawServer(script) as server:
        session = ours.ClientSession(connector=ours.TCPConnector(limit=4))
        tasks = [
            asyncio.ensure_future(_get(session, server.url + path))
            for path in ["head", "head", "body", "body", *["queue"] * 5]
        ]
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in tasks)
        await session.close()
        done, pending = await asyncio.wait(tasks, timeout=2)
        assert not pending
        assert all(isinstance(task.exception(), ours.ClientConnectionError) for task in done), done
        with pytest.raises(RuntimeError, match="Session is closed"):
            await session.get(server.url)
        await until(lambda: not server.open)


async def test_a_session_closed_while_it_looks_a_host_up(ours: Any) -> None:
    """aiohttp cancels the task that waits."""

    class Slow:
        async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[Any]:
            await asyncio.sleep(3600)
            return []

        async def close(self) -> None:
            pass

    session = ours.ClientSession(connector=ours.TCPConnector(resolver=Slow()))
    lookup = asyncio.ensure_future(_get(session, "http://a.test/"))
    await asyncio.sleep(0.05)
    await session.close()
    await asyncio.wait({lookup}, timeout=2)
    assert lookup.done()
    assert isinstance(lookup.exception(), ours.ClientConnectionError)


async def test_a_session_closed_during_a_handshake(client: Any) -> None:
    """What comes of it is closed when it comes."""

    async def script(peer: Peer) -> None:
        await peer.gone()

    async with RawServer(script) as server:
        session = client.ClientSession()
        handshake = asyncio.ensure_future(_get(session, f"https://127.0.0.1:{server.port}/"))
        await until(lambda: server.open)
        await session.close()
        handshake.cancel()
        await asyncio.wait({handshake})
        await until(lambda: not server.open)


async def test_a_connector_that_sessions_share(client: Any) -> None:
    async with RawServer(keeping_alive()) as server:
        connector = client.TCPConnector(limit=1)
        one = client.ClientSession(connector=connector, connector_owner=False)
        two = client.ClientSession(connector=connector, connector_owner=False)
        for session in (one, two, one):
            assert await _get(session, server.url) == b"ok"
        assert server.accepted == 1
        # One waits for the place that the other has.
        assert await asyncio.gather(_get(one, server.url), _get(two, server.url)) == [b"ok", b"ok"]
        await one.close()
        assert one.closed
        assert not connector.closed
        assert await _get(two, server.url) == b"ok"
        await two.close()
        assert server.accepted == 1
        await connector.close()
        await until(lambda: not server.open)


async def test_a_detached_session_leaves_its_connector(client: Any) -> None:
    async with RawServer(keeping_alive()) as server:
        connector = client.TCPConnector()
        session = client.ClientSession(connector=connector)
        assert await _get(session, server.url) == b"ok"
        session.detach()
        assert session.closed
        with pytest.raises(RuntimeError):
            await session.get(server.url)
        async with client.ClientSession(connector=connector) as session:
            assert await _get(session, server.url) == b"ok"
        assert server.accepted == 1


async def test_closing_twice_and_at_the_same_time(client: Any) -> None:
    async with RawServer(keeping_alive()) as server:
        session = client.ClientSession()
        assert await _get(session, server.url) == b"ok"
        await asyncio.gather(session.close(), session.close())
        await session.close()
        assert session.closed
