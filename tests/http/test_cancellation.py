"""Cancellation at every await of a request: it stays a cancellation, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import io
import socket
from typing import Any

import pytest

from tests.http.cancelling import cancel_everywhere
from tests.http.raw_support import Peer, RawServer, assert_nothing_acquired, until

WHEN = pytest.mark.parametrize("when", ["waiting", "woken"])


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
    """A session, and the server it talks to; looks after each cancellation that both are clean."""

    def __init__(self, client: Any, server: RawServer, session: Any) -> None:
        self._client = client
        self._server = server
        self.session = session
        self.url = server.url

    async def look(self, nth: int) -> None:
        connector = self.session.connector
        await assert_nothing_acquired(connector)

        def idle() -> int:
            return sum(map(len, connector._conns.values()))

        # What is no longer kept is closed, so the server has as many connections as are idle.
        await until(lambda: self._server.open == idle())
        path = f"after-{nth}"
        async with self.session.get(self.url + path) as response:
            assert await response.text() == f"/{path} "


@WHEN
@pytest.mark.parametrize("options", [{}, {"force_close": True}], ids=["kept alive", "force_close"])
async def test_a_get(client: Any, when: str, options: Any) -> None:
    async with RawServer(echo) as server:
        async with client.ClientSession(connector=client.TCPConnector(**options)) as session:
            watched = Watched(client, server, session)

            async def get() -> None:
                async with session.get(server.url + "x") as response:
                    assert await response.text() == "/x "

            assert await cancel_everywhere(get, watched.look, when=when) >= 2


@WHEN
async def test_a_body_that_is_read_as_a_stream(client: Any, when: str) -> None:
    async with RawServer(echo) as server, client.ClientSession() as session:
        watched = Watched(client, server, session)

        async def get() -> None:
            async with session.get(server.url + "stream") as response:
                content = b""
                async for piece in response.content.iter_any():
                    content += piece
                assert content == b"/stream "

        assert await cancel_everywhere(get, watched.look, when=when) >= 2


@WHEN
@pytest.mark.parametrize("options", [{}, {"force_close": True}], ids=["kept alive", "force_close"])
async def test_a_post_with_a_generator(client: Any, when: str, options: Any) -> None:
    async with RawServer(echo) as server:
        async with client.ClientSession(connector=client.TCPConnector(**options)) as session:
            watched = Watched(client, server, session)

            async def body() -> Any:
                for _ in range(3):
                    yield b"piece"
                    await asyncio.sleep(0)

            async def post() -> None:
                async with session.post(server.url + "p", data=body()) as response:
                    assert await response.text() == "/p piecepiecepiece"

            assert await cancel_everywhere(post, watched.look, when=when) >= 2


@WHEN
async def test_a_large_post(client: Any, when: str) -> None:
    """One that has to wait for room in the socket's buffer."""
    data = b"d" * 8_000_000
    async with RawServer(echo) as server, client.ClientSession() as session:
        watched = Watched(client, server, session)

        async def post() -> None:
            async with session.post(server.url + "p", data=io.BytesIO(data)) as response:
                assert len(await response.read()) == len(data) + 3

        assert await cancel_everywhere(post, watched.look, when=when) >= 2


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

    async with RawServer(script) as server, client.ClientSession() as session:
        watched = Watched(client, server, session)

        async def post() -> None:
            async with session.post(server.url + "p", data=b"data", expect100=True) as response:
                assert await response.text() == "/p "

        assert await cancel_everywhere(post, watched.look, when=when) >= 2


@WHEN
async def test_redirects(client: Any, when: str) -> None:
    async with RawServer(echo) as server, client.ClientSession() as session:
        watched = Watched(client, server, session)

        async def get() -> None:
            async with session.get(server.url + "to/to/to/end") as response:
                assert await response.text() == "/end "

        assert await cancel_everywhere(get, watched.look, when=when) >= 5


@WHEN
@pytest.mark.parametrize("options", [{"limit": 1}, {"limit_per_host": 1}], ids=["limit", "limit_per_host"])
@pytest.mark.parametrize("freed", ["kept alive", "closed"])
async def test_waiting_in_the_pool(ours: Any, when: str, options: Any, freed: str) -> None:
    """Behind a request that has the only place, and before another that waits too.

    aiohttp loses the place if the one that was just woken is cancelled: the last one waits for ever.
    """
    async with RawServer(echo) as server:
        connector = ours.TCPConnector(**options, force_close=freed == "closed")
        async with ours.ClientSession(connector=connector) as session:
            watched = Watched(ours, server, session)

            async def fetch(path: str) -> None:
                async with session.get(server.url + path) as response:
                    assert await response.text() == f"/{path} "

            others: list[asyncio.Task[None]] = []

            async def get() -> None:
                others.append(asyncio.ensure_future(fetch("first")))
                await asyncio.sleep(0)
                asyncio.get_running_loop().call_soon(
                    lambda: others.append(asyncio.ensure_future(fetch("last")))
                )
                await fetch("middle")

            async def look(nth: int) -> None:
                await asyncio.gather(*others)
                await watched.look(nth)

            assert await cancel_everywhere(get, look, when=when) >= 3


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
    """At the first address, nobody listens."""
    async with RawServer(echo) as server:
        connector = client.TCPConnector(resolver=Resolver(), use_dns_cache=False, force_close=True)
        async with client.ClientSession(connector=connector) as session:
            watched = Watched(client, server, session)

            async def get() -> None:
                async with session.get(f"http://a.test:{server.port}/x") as response:
                    assert await response.text() == "/x "

            assert await cancel_everywhere(get, watched.look, when=when) >= 4


@WHEN
async def test_tls(client: Any, when: str, tls: Any) -> None:
    async with RawServer(echo, ssl=tls.server()) as server:
        connector = client.TCPConnector(ssl=tls.client(), force_close=True)
        async with client.ClientSession(connector=connector) as session:
            watched = Watched(client, server, session)

            async def get() -> None:
                async with session.get(server.url + "x") as response:
                    assert await response.text() == "/x "

            assert await cancel_everywhere(get, watched.look, when=when) >= 3


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
    async with RawServer(echo) as server:
        connector = ours.TCPConnector(limit=1, force_close=True)
        options = {"connector": connector, "trace_configs": [tracing], "middlewares": [middleware]}
        async with ours.ClientSession(**options) as session:
            watched = Watched(ours, server, session)

            async def post() -> None:
                async with session.post(server.url + "x", data=b"data") as response:
                    assert await response.text() == "/x data"

            assert await cancel_everywhere(post, watched.look, when=when) >= 8
