"""Connections by way of a proxy: tunnels (RFC 9110, section 9.3.6), and requests in absolute form."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import whorl.http
from tests.event_loop.certificates import Certificates
from tests.http.raw_support import Peer, RawServer, assert_nothing_acquired, keeping_alive, pump, until

pytestmark = pytest.mark.jumping_clock

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


async def relay(peer: Peer) -> None:
    """Opens each tunnel that it is asked for."""
    head, _ = await peer.request()
    host, _, port = head.split(b" ")[1].decode().partition(":")
    upstream, onward = await asyncio.open_connection(host, int(port))
    await peer.send(ESTABLISHED)
    await asyncio.gather(pump(peer.reader, onward), pump(upstream, peer.writer))


async def test_a_tunnel_takes_no_coroutine(coroutines: list[str], tls: Any) -> None:
    connector = whorl.http.TCPConnector(ssl=tls.client())
    async with (
        RawServer(keeping_alive(), ssl=tls.server()) as server,
        RawServer(relay) as proxy,
        whorl.http.ClientSession(connector=connector, proxy=proxy.url) as session,
    ):
        for _ in range(3):
            async with session.get(server.url) as response:
                assert await response.read() == b"ok"
        assert (server.accepted, proxy.accepted) == (1, 1)
        assert all(b"proxy" not in head.lower() for head in server.heads)
        # Two at once need a second tunnel, whose TLS session is that of the first.
        for response in await asyncio.gather(session.get(server.url), session.get(server.url)):
            await response.read()
        (idle,) = connector._conns.values()
        transports = [connection.transport for connection, _ in idle]
        assert sorted(one.get_extra_info("ssl_object").session_reused for one in transports) == [False, True]
        await assert_nothing_acquired(connector)
    assert coroutines == []


async def test_requests_in_absolute_form_take_no_coroutine(coroutines: list[str]) -> None:
    credentials = {"Proxy-Authorization": "Basic word"}
    async with (
        RawServer(keeping_alive()) as proxy,
        whorl.http.ClientSession(proxy=proxy.url) as session,
    ):
        with_password = proxy.url.replace("127", "a:b@127")
        for _ in range(2):
            async with session.get("http://a.test/path?x=1", proxy_headers=credentials) as response:
                assert await response.read() == b"ok"
            async with session.get("http://a.test/path?x=1", proxy=with_password) as response:
                assert await response.read() == b"ok"
    assert all(head.startswith(b"GET http://a.test/path?x=1 HTTP/1.1\r\n") for head in proxy.heads)
    # Those of the URL are on every request; aiohttp sends no `proxy_headers` outside of CONNECT.
    assert [b"Proxy-Authorization: Basic YTpi" in head for head in proxy.heads] == [False, True] * 2
    assert coroutines == []


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"HTTP/1.1 407 no\r\nContent-Length: 2\r\n\r\nno", "ClientHttpProxyError"),
        (b"HTTP/1.1 204 no\r\n\r\n", "ClientHttpProxyError"),
        (b"", "ServerDisconnectedError"),
        (b"HTTP/1.1 2", "ServerDisconnectedError"),
        (b"SSH-2.0-OpenSSH\r\n", "ClientResponseError"),
        (ESTABLISHED, "ClientConnectorError"),
        (ESTABLISHED + b"no TLS", "ClientConnectorError"),
    ],
)
async def test_a_tunnel_that_is_not_opened(ours: Any, tls: Any, answer: bytes, kind: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)

    connector = ours.TCPConnector(ssl=tls.client(), limit=1)
    async with RawServer(script) as proxy, ours.ClientSession(connector=connector) as session:
        for _ in range(2):
            with pytest.raises(getattr(ours, kind)):
                await session.get("https://a.test/", proxy=proxy.url)
        await until(lambda: not proxy.open)
        await assert_nothing_acquired(connector)


async def test_the_certificate_in_a_tunnel_is_the_host_s(ours: Any, tls: Any) -> None:
    async with (
        RawServer(keeping_alive(), ssl=tls.server()) as server,
        RawServer(relay) as proxy,
        ours.ClientSession(connector=ours.TCPConnector(ssl=tls.client())) as session,
    ):
        with pytest.raises(ours.ClientConnectorCertificateError) as caught:
            await session.get(server.url, proxy=proxy.url, server_hostname="another.test")
        assert caught.value.port == server.port
        async with session.get(server.url, proxy=proxy.url) as response:
            assert await response.read() == b"ok"


async def test_a_proxy_that_cannot_be_reached(ours: Any) -> None:
    async with ours.ClientSession() as session:
        for url in ("http://a.test/", "https://a.test/"):
            with pytest.raises(ours.ClientProxyConnectionError, match="127.0.0.1"):
                await session.get(url, proxy="http://127.0.0.1:9/")


@pytest.mark.parametrize("where", ["asking", "handshake"])
@pytest.mark.parametrize("how", ["cancelled", "total"])
async def test_a_tunnel_that_is_given_up(ours: Any, tls: Any, how: str, where: str) -> None:
    """Nothing of it stays open, and its permit goes to the next."""
    got_there = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        if where == "handshake":
            await peer.send(ESTABLISHED)
            await peer.reader.readexactly(1)
        got_there.set()
        await peer.gone()

    connector = ours.TCPConnector(ssl=tls.client(), limit=1)
    async with RawServer(script) as proxy, ours.ClientSession(connector=connector) as session:
        timeout = ours.ClientTimeout(total=0.05 if how == "total" else None)
        request = session.get("https://a.test/", proxy=proxy.url, timeout=timeout)
        if how == "total":
            with pytest.raises(TimeoutError):
                await request
        else:
            task = asyncio.ensure_future(request.__aenter__())
            await got_there.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await until(lambda: not proxy.open)
        await assert_nothing_acquired(connector)


async def test_a_tunnel_whose_request_is_dropped(tls: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    connector = whorl.http.TCPConnector(ssl=tls.client(), limit=1)
    async with RawServer(script) as proxy, whorl.http.ClientSession(connector=connector) as session:
        request: Any = session.get("https://a.test/", proxy=proxy.url)
        assert request.send(None) is not None
        await until(lambda: proxy.open)
        # It is connected, and asks for the tunnel.
        assert request.send(None) is not None
        await until(lambda: proxy.heads)
        del request
        await until(lambda: not proxy.open)
        await assert_nothing_acquired(connector)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_tls_setting_of_a_connection_to_a_proxy(
    ours: Any, tls: Any, tmp_path: Path, scheme: str
) -> None:
    """Not that of the host, whose context may have a client certificate."""
    elsewhere = Certificates(tmp_path)

    async def script(peer: Peer) -> None:
        if scheme == "https":
            await relay(peer)
        else:
            await keeping_alive()(peer)

    async with (
        RawServer(keeping_alive(), **({"ssl": tls.server()} if scheme == "https" else {})) as server,
        RawServer(script, ssl=elsewhere.server()) as proxy,
    ):
        for setting, works in ((elsewhere.client(), True), (False, True), (None, False)):
            connector = ours.TCPConnector(ssl=tls.client(), proxy_ssl=setting)
            async with ours.ClientSession(connector=connector) as session:
                if works:
                    async with session.get(server.url, proxy=proxy.url) as response:
                        assert await response.read() == b"ok"
                else:
                    with pytest.raises(ours.ClientConnectorCertificateError):
                        await session.get(server.url, proxy=proxy.url)
    with pytest.raises(
        TypeError, match="proxy_ssl should be an SSLContext, Fingerprint, False or None, got 'x'"
    ):
        ours.TCPConnector(proxy_ssl="x")
