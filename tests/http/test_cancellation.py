"""Cancellation at every await of a request: it stays a cancellation, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.http.cancelling import cancel_everywhere
from tests.http.raw_support import Peer, RawServer, assert_nothing_acquired, until

pytestmark = pytest.mark.jumping_clock

WHEN = pytest.mark.parametrize("when", ["waiting", "woken"])
KEPT_OR_CLOSED = pytest.mark.parametrize(
    "options", [{}, {"force_close": True}], ids=["kept alive", "force_close"]
)


async def echo(peer: Peer) -> None:
    """Answers with the path and the body that it was sent, in pieces, so that a client has to wait for
    each."""
    while True:
        head, body = await peer.request()
        path = head.split()[1]
        status = b"200 OK"
        location = b""
        if path.startswith(b"/to/"):
            status, location = b"302 Found", b"Location: " + path[3:] + b"\r\n"
        content = path + b" " + body
        await peer.send(
            b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n" % (status, location, len(content)),
            b"\r\n" + content[:2],
            content[2:],
        )


class Watched:
    """A session, and the server it talks to; checks after each cancellation that both are clean."""

    def __init__(self, server: RawServer, session: Any) -> None:
        self.server = server
        self.session = session
        self.url = server.url

    async def fetch(self, path: str, expected: str, **options: Any) -> None:
        method = "POST" if "data" in options else "GET"
        async with self.session.request(method, self.url + path, **options) as response:
            assert await response.text() == expected

    async def cancel_everywhere(self, make: Callable[[], Coroutine[Any, Any, None]], when: str) -> int:
        return await cancel_everywhere(make, self.check, when=when)

    async def check(self, nth: int) -> None:
        connector = self.session.connector
        await assert_nothing_acquired(connector)

        def idle() -> int:
            return sum(map(len, connector._conns.values()))

        # What is no longer kept is closed, so the server has as many connections as are idle.
        await until(lambda: self.server.open == idle())
        await self.fetch(f"after-{nth}", f"/after-{nth} ")


@asynccontextmanager
async def watching(
    client: Any, server: RawServer | None = None, session: Any = None, **options: Any
) -> AsyncIterator[Watched]:
    """A session that has a connector with these ``options``."""
    async with server or RawServer(echo) as server:
        connector = client.TCPConnector(**options)
        async with client.ClientSession(connector=connector, **(session or {})) as opened:
            yield Watched(server, opened)


@WHEN
@KEPT_OR_CLOSED
async def test_a_get(client: Any, when: str, options: Any) -> None:
    async with watching(client, **options) as watched:
        assert await watched.cancel_everywhere(lambda: watched.fetch("x", "/x "), when) >= 2


@WHEN
async def test_a_body_that_is_read_as_a_stream(client: Any, when: str) -> None:
    async with watching(client) as watched:

        async def get() -> None:
            async with watched.session.get(watched.url + "stream") as response:
                content = b""
                async for piece in response.content.iter_any():
                    content += piece
                assert content == b"/stream "

        assert await watched.cancel_everywhere(get, when) >= 2


@WHEN
@KEPT_OR_CLOSED
async def test_a_post_with_a_generator(client: Any, when: str, options: Any) -> None:
    async def body() -> Any:
        for _ in range(3):
            yield b"piece"
            await asyncio.sleep(0)

    async with watching(client, **options) as watched:

        def post() -> Any:
            return watched.fetch("p", "/p piecepiecepiece", data=body())

        assert await watched.cancel_everywhere(post, when) >= 2


@WHEN
async def test_a_large_post(client: Any, when: str) -> None:
    """One that has to wait for room in the socket's buffer."""
    data = b"d" * 8_000_000
    async with watching(client) as watched:

        async def post() -> None:
            async with watched.session.post(watched.url + "p", data=io.BytesIO(data)) as response:
                assert len(await response.read()) == len(data) + 3

        assert await watched.cancel_everywhere(post, when) >= 2


@WHEN
async def test_expecting_100(client: Any, when: str) -> None:
    async def script(peer: Peer) -> None:
        while True:
            head = await peer.reader.readuntil(b"\r\n\r\n")
            if b"100-continue" in head:
                await asyncio.sleep(0.002)
                await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
                await peer.reader.readexactly(4)
            path = head.split()[1]
            content = path + b" "
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content), content)

    async with watching(client, RawServer(script)) as watched:

        def post() -> Any:
            return watched.fetch("p", "/p ", data=b"data", expect100=True)

        assert await watched.cancel_everywhere(post, when) >= 2


@WHEN
async def test_redirects(client: Any, when: str) -> None:
    async with watching(client) as watched:
        assert await watched.cancel_everywhere(lambda: watched.fetch("to/to/to/end", "/end "), when) >= 5


@WHEN
@pytest.mark.parametrize("options", [{"limit": 1}, {"limit_per_host": 1}], ids=["limit", "limit_per_host"])
@pytest.mark.parametrize("freed", ["kept alive", "closed"])
async def test_waiting_in_the_pool(ours: Any, when: str, options: Any, freed: str) -> None:
    """Behind a request that has the only place, and before another that waits too.

    aiohttp loses the place if the one that was just woken is cancelled: the last one waits without end.
    """
    async with watching(ours, **options, force_close=freed == "closed") as watched:
        others: list[asyncio.Task[None]] = []

        def start(path: str) -> None:
            others.append(asyncio.ensure_future(watched.fetch(path, f"/{path} ")))

        async def get() -> None:
            start("first")
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(start, "last")
            await watched.fetch("middle", "/middle ")

        async def check(nth: int) -> None:
            await asyncio.gather(*others)
            await watched.check(nth)

        assert await cancel_everywhere(get, check, when=when) >= 3


class Resolver:
    """Finds every host at 127.0.0.1, after a while."""

    def __init__(self) -> None:
        self.lookups = 0

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[dict[str, Any]]:
        self.lookups += 1
        await asyncio.sleep(0.001)
        address = {"hostname": host, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}
        return [{**address, "host": "127.0.0.2"}, {**address, "host": "127.0.0.1"}]

    async def close(self) -> None:
        pass


@WHEN
async def test_lookups_and_dialling(client: Any, when: str) -> None:
    """At the first address, no server listens."""
    options: dict[str, Any] = {"resolver": Resolver(), "use_dns_cache": False, "force_close": True}
    async with watching(client, **options) as watched:
        watched.url = f"http://a.test:{watched.server.port}/"
        assert await watched.cancel_everywhere(lambda: watched.fetch("x", "/x "), when) >= 4


@WHEN
async def test_tls(client: Any, when: str, tls: Any) -> None:
    server = RawServer(echo, ssl=tls.server())
    async with watching(client, server, ssl=tls.client(), force_close=True) as watched:
        assert await watched.cancel_everywhere(lambda: watched.fetch("x", "/x "), when) >= 3


@WHEN
async def test_signals_and_middlewares(ours: Any, when: str) -> None:
    """aiohttp leaves the connection open if a receiver of ``on_connection_create_end`` raises."""

    async def step(*_: Any) -> None:
        await asyncio.sleep(0)

    async def middleware(request: Any, handler: Any) -> Any:
        await asyncio.sleep(0)
        response = await handler(request)
        try:
            await asyncio.sleep(0)
        except BaseException:
            response.close()
            raise
        return response

    tracing = ours.TraceConfig()
    for name in (
        "on_request_start",
        "on_request_chunk_sent",
        "on_response_chunk_received",
        "on_request_end",
        "on_request_redirect",
        "on_connection_queued_start",
        "on_connection_queued_end",
        "on_connection_create_start",
        "on_connection_create_end",
        "on_connection_reuseconn",
        "on_dns_resolvehost_start",
        "on_dns_resolvehost_end",
        "on_request_headers_sent",
    ):
        getattr(tracing, name).append(step)
    session = {"trace_configs": [tracing], "middlewares": [middleware]}
    async with watching(ours, session=session, limit=1, force_close=True) as watched:

        def post() -> Any:
            return watched.fetch("x", "/x data", data=b"data")

        assert await watched.cancel_everywhere(post, when) >= 8
