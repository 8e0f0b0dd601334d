"""The limits of a request, and timeouts around it."""

from __future__ import annotations

import asyncio
import socket
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from tests.http.raw_support import (
    OK,
    Peer,
    RawServer,
    Script,
    assert_nothing_acquired,
    keeping_alive,
    once,
    raw_response,
    until,
)

#: The limits are reached without waiting.
pytestmark = pytest.mark.jumping_clock

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
#: Seconds of a clock that jumps: no machine is too slow for them.
SHORT = 0.2


async def slowly(peer: Peer) -> None:
    """A byte of the body now and then: never silent, never done."""
    await peer.request()
    await peer.send(HEAD)
    for _ in range(9):
        await peer.send(b"x")
        await asyncio.sleep(SHORT / 2)


@pytest.mark.parametrize(
    "script", [once(then="stall"), once(HEAD[:20], then="stall")], ids=["nothing", "a part"]
)
async def test_total_in_the_head(client: Any, script: Script) -> None:
    async with RawServer(script) as server, client.ClientSession() as session:
        with pytest.raises(asyncio.TimeoutError):
            await session.get(server.url, timeout=client.ClientTimeout(total=SHORT))
        await assert_nothing_acquired(session.connector)
        assert server.accepted == 1


@pytest.mark.parametrize(
    "read",
    [
        lambda response: response.read(),
        lambda response: response.content.read(),
        lambda response: response.content.readexactly(10),
        lambda response: response.content.readline(),
    ],
    ids=["read", "content.read", "readexactly", "readline"],
)
async def test_total_in_the_body(client: Any, read: Callable[[Any], Any]) -> None:
    async with RawServer(slowly) as server, client.ClientSession() as session:
        async with session.get(server.url, timeout=client.ClientTimeout(total=SHORT)) as response:
            with pytest.raises(asyncio.TimeoutError):
                await read(response)
        await assert_nothing_acquired(session.connector)


async def test_total_over_redirects(client: Any) -> None:
    """Each hop takes less than the limit, all of them more."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(SHORT / 3)
        await peer.send(raw_response(b"", "Location: /", "Connection: close", status="302 Found"))

    async with RawServer(script) as server, client.ClientSession() as session:
        with pytest.raises(asyncio.TimeoutError):
            await session.get(server.url, timeout=client.ClientTimeout(total=SHORT), max_redirects=100)
        await assert_nothing_acquired(session.connector)
        assert 2 <= server.accepted <= 5


async def test_total_does_not_outlive_the_response(client: Any) -> None:
    """The connection serves the next request longer than the first had."""
    async with RawServer(keeping_alive()) as server, client.ClientSession() as session:
        for _ in range(3):
            async with session.get(server.url, timeout=client.ClientTimeout(total=SHORT)) as response:
                assert await response.read() == b"ok"
            await asyncio.sleep(SHORT * 0.7)
        assert server.accepted == 1


async def test_total_outlives_the_session(client: Any) -> None:
    """The connector is another's: the request continues, and keeps its limit."""
    async with RawServer(once(then="stall")) as server, client.TCPConnector() as connector:
        session = client.ClientSession(
            connector=connector, connector_owner=False, timeout=client.ClientTimeout(total=SHORT * 3)
        )

        async def get() -> None:
            async with session.get(server.url):
                pass

        request = asyncio.create_task(get())
        await until(lambda: server.heads)
        await session.close()
        with pytest.raises(asyncio.TimeoutError):
            async with asyncio.timeout(5):
                await request
        assert not request.cancelled()


async def test_total_does_not_end_a_websocket(client: Any) -> None:
    """It limits the handshake; what follows has limits of its own."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        echo = web.WebSocketResponse()
        await echo.prepare(request)
        async for message in echo:
            await echo.send_str(message.data)
        return echo

    app = web.Application()
    app.router.add_get("/", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        limits = client.ClientTimeout(total=SHORT, sock_read=SHORT)
        async with client.ClientSession(timeout=limits) as session:
            async with session.ws_connect(f"http://127.0.0.1:{port}/") as ws:
                await asyncio.sleep(SHORT * 2)
                await ws.send_str("still there")
                assert await ws.receive_str(timeout=5) == "still there"
    finally:
        await runner.cleanup()


@pytest.fixture
def deaf() -> Any:
    """A port whose connections never come about: the queue of those that are not accepted is full."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fillers = []
    for _ in range(3):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        fillers.append(filler)
    yield listener.getsockname()[1]
    for sock in [listener, *fillers]:
        sock.close()


# The connection is begun, and the peer does not answer.
@pytest.mark.jumping_clock(False)
@pytest.mark.parametrize("limit", ["total", "connect", "sock_connect"])
async def test_limits_of_connecting(client: Any, deaf: int, limit: str) -> None:
    expected = asyncio.TimeoutError if limit == "total" else client.ConnectionTimeoutError
    async with client.ClientSession(timeout=client.ClientTimeout(**{limit: SHORT})) as session:
        with pytest.raises(expected):
            await session.get(f"http://127.0.0.1:{deaf}/")
        await assert_nothing_acquired(session.connector)


async def test_connect_limits_the_wait_for_a_place(client: Any) -> None:
    async with RawServer(once(HEAD, then="stall")) as server:
        connector = client.TCPConnector(limit=1)
        async with client.ClientSession(connector=connector) as session:
            async with session.get(server.url):
                with pytest.raises(client.ConnectionTimeoutError):
                    await session.get(server.url, timeout=client.ClientTimeout(connect=SHORT))
                # It is not the connecting that takes so long.
                with pytest.raises(asyncio.TimeoutError):
                    limits = client.ClientTimeout(sock_connect=SHORT, total=SHORT * 2)
                    await session.get(server.url, timeout=limits)
            await assert_nothing_acquired(connector)
            assert server.accepted == 1


class SlowResolver:
    """Finds 127.0.0.1 after some seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[dict[str, Any]]:
        await asyncio.sleep(self.seconds)
        found = {"hostname": host, "host": "127.0.0.1", "port": port, "family": socket.AF_INET}
        return [{**found, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("waits_for", ["resolver", "handshake", "tunnel"])
async def test_connect_limits_all_that_comes_after_the_wait_for_a_place(client: Any, waits_for: str) -> None:
    """One limit: half of it goes by in the queue, and what comes then may not take as much again."""
    async with RawServer(keeping_alive()) as server, RawServer(once(then="stall")) as stalling:
        connector = client.TCPConnector(
            limit=1, resolver=SlowResolver(SHORT if waits_for == "resolver" else 0), use_dns_cache=False
        )
        scheme = "http" if waits_for == "resolver" else "https"
        proxy = stalling.url if waits_for == "tunnel" else None
        async with client.ClientSession(connector=connector) as session:
            async with session.get(server.url):
                began = asyncio.get_running_loop().time()
                late = asyncio.create_task(
                    session.get(
                        f"{scheme}://localhost:{stalling.port}/",
                        proxy=proxy,
                        timeout=client.ClientTimeout(connect=SHORT),
                    )
                )
                await asyncio.sleep(SHORT / 2)
            with pytest.raises(client.ConnectionTimeoutError, match="localhost"):
                await late
            took = asyncio.get_running_loop().time() - began
            await assert_nothing_acquired(connector)
    assert took < SHORT * 1.5


async def test_connect_does_not_limit_what_comes_after_it(client: Any) -> None:
    async with RawServer(slowly) as server, client.ClientSession() as session:
        limits = client.ClientTimeout(connect=SHORT)
        async with session.get(server.url, timeout=limits) as response:
            assert await response.content.readexactly(8) == b"x" * 8


async def test_a_resolver_that_times_out(client: Any) -> None:
    class Resolver(SlowResolver):
        async def resolve(self, *args: Any, **kwargs: Any) -> Any:
            raise TimeoutError

    connector = client.TCPConnector(resolver=Resolver(0))
    async with client.ClientSession(connector=connector) as session:
        with pytest.raises(client.ConnectionTimeoutError):
            await session.get("http://somewhere.example/")
        await assert_nothing_acquired(connector)


async def test_a_tunnel_that_was_not_asked_for_is_limited(ours: Any) -> None:
    """A server cannot end the total timeout by a status."""
    switching = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    async with RawServer(once(switching, then="stall")) as server, ours.ClientSession() as session:
        timeout = ours.ClientTimeout(total=SHORT)
        async with session.get(server.url, timeout=timeout) as response:
            assert response.status == 101
            with pytest.raises(asyncio.TimeoutError):
                async for _ in response.content.iter_any():
                    pass
        await assert_nothing_acquired(session.connector)
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with session.get(server.url, timeout=timeout, headers={"Upgrade": "x"}) as response:
            with pytest.raises(asyncio.TimeoutError):
                async with asyncio.timeout(SHORT * 10):
                    await response.content.readany()
        assert loop.time() - began > SHORT * 9


async def test_sock_read_counts_silence(client: Any) -> None:
    """Not the time that a response takes."""
    async with RawServer(slowly) as server, client.ClientSession() as session:
        limits = client.ClientTimeout(sock_read=SHORT * 2)
        async with session.get(server.url, timeout=limits) as response:
            with pytest.raises(client.ClientPayloadError):
                await response.read()


@pytest.mark.parametrize("kind", [bytes, str])
async def test_a_server_that_reads_is_not_silent(ours: Any, kind: type) -> None:
    """Though all of a large body was handed to the transport at once."""
    size = 40 << 20

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        # More than the kernel keeps: longer than the limit altogether.
        for _ in range(16):
            await peer.reader.readexactly(1 << 20)
            await asyncio.sleep(SHORT / 4)
        await peer.reader.readexactly(size - (16 << 20))
        await peer.send(OK)

    data = "x" * size if kind is str else b"x" * size
    async with RawServer(script) as server, ours.ClientSession() as session:
        timeout = ours.ClientTimeout(sock_read=SHORT)
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            async with session.post(server.url, data=data, timeout=timeout) as response:
                assert await response.read() == b"ok"


async def test_sock_read_in_the_head(client: Any) -> None:
    async with RawServer(once(then="stall")) as server, client.ClientSession() as session:
        with pytest.raises(client.SocketTimeoutError) as raised:
            await session.get(server.url, timeout=client.ClientTimeout(sock_read=SHORT))
        assert isinstance(raised.value, asyncio.TimeoutError)
        await assert_nothing_acquired(session.connector)


async def test_sock_read_in_the_body(client: Any) -> None:
    async with RawServer(once(HEAD, b"hello", then="stall")) as server, client.ClientSession() as session:
        async with session.get(server.url, timeout=client.ClientTimeout(sock_read=SHORT)) as response:
            assert await response.content.readexactly(5) == b"hello"
            with pytest.raises(client.SocketTimeoutError):
                await response.content.read()
        await assert_nothing_acquired(session.connector)


async def test_sock_read_does_not_watch_idle_connections(client: Any) -> None:
    async with RawServer(keeping_alive()) as server, client.ClientSession() as session:
        for _ in range(3):
            async with session.get(server.url, timeout=client.ClientTimeout(sock_read=SHORT)) as response:
                assert await response.read() == b"ok"
            await asyncio.sleep(SHORT * 1.5)
        assert server.accepted == 1


async def test_sock_read_waits_for_a_slow_reader(client: Any) -> None:
    """While the program does not read, it is not the server that is silent."""
    size = 4_000_000
    response_head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size

    async with RawServer(once(response_head + b"x" * size)) as server, client.ClientSession() as session:
        limits = client.ClientTimeout(sock_read=SHORT)
        async with session.get(server.url, timeout=limits, read_bufsize=2**14) as response:
            await response.content.readexactly(1)
            await asyncio.sleep(SHORT * 2)
            assert len(await response.content.read()) == size - 1


# Limits of the program's own.


async def test_a_timeout_around_a_request(client: Any) -> None:
    async with RawServer(once(then="stall")) as server, client.ClientSession() as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SHORT):
                await session.get(server.url)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(session.get(server.url), SHORT)
        await assert_nothing_acquired(session.connector)
        await until(lambda: not server.open)


async def test_cancellation_wins_over_a_limit(client: Any) -> None:
    """Both at the same time, or nearly: the task that cancels gets no TimeoutError."""
    async with RawServer(once(then="stall")) as server, client.ClientSession() as session:
        for step in range(10):

            async def get() -> None:
                await session.get(server.url, timeout=client.ClientTimeout(total=0.03))

            task = asyncio.ensure_future(get())
            await asyncio.sleep(0.026 + step / 1000)
            cancelled = task.cancel()
            await asyncio.wait({task})
            if cancelled and not task.cancelled():
                # The limit had passed, and its exception was on the way.
                assert isinstance(task.exception(), asyncio.TimeoutError)
            assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
        await assert_nothing_acquired(session.connector)


async def test_a_limit_leaves_the_task_uncancelled(client: Any) -> None:
    """The task whose request reached the limit may continue."""
    async with RawServer(once(then="stall")) as stalling, RawServer(keeping_alive()) as server:
        async with client.ClientSession() as session:

            async def get() -> bytes:
                with pytest.raises(asyncio.TimeoutError):
                    await session.get(stalling.url, timeout=client.ClientTimeout(total=0.05))
                task = asyncio.current_task()
                assert task is not None
                assert not task.cancelling()
                async with asyncio.timeout(5), session.get(server.url) as response:
                    body: bytes = await response.read()
                    return body

            assert await asyncio.create_task(get()) == b"ok"


async def test_a_task_group_cancels_its_requests(client: Any) -> None:
    async def script(peer: Peer) -> None:
        head, _ = await peer.request()
        if b"/bad" in head:
            await peer.send(b"garbage\r\n\r\n")
        else:
            await peer.gone()

    async with RawServer(script) as server, client.ClientSession() as session:

        async def get(path: str) -> None:
            await session.get(server.url + path)

        with pytest.raises(BaseExceptionGroup) as raised:
            async with asyncio.TaskGroup() as group:
                for _ in range(20):
                    group.create_task(get("good"))
                await asyncio.sleep(SHORT)
                group.create_task(get("bad"))
        assert len(raised.value.exceptions) == 1
        assert isinstance(raised.value.exceptions[0], client.ClientResponseError)
        await assert_nothing_acquired(session.connector)
        await until(lambda: not server.open)


async def test_no_limit_at_all(client: Any) -> None:
    for limits in (client.ClientTimeout(), client.ClientTimeout(total=0, sock_read=0, connect=0)):
        async with RawServer(once(OK)) as server, client.ClientSession(timeout=limits) as session:
            async with session.get(server.url) as response:
                assert await response.read() == b"ok"
