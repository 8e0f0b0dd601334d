"""Redirects: what the next request is made of, whichever way the first one took."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.http.raw_support import Peer, RawServer, assert_nothing_acquired, raw_response

pytestmark = pytest.mark.jumping_clock

KEPT = ("one that is new", "one that is kept alive")


async def _follow(client: Any, method: str, status: int, **options: Any) -> list[tuple[str, bytes, bytes]]:
    """What a server gets of a request that it redirects once; first on a new connection, then on a kept
    one."""
    requests: list[tuple[str, bytes, bytes]] = []

    async def script(peer: Peer) -> None:
        while True:
            head, body = await peer.request()
            requests.append((head.split()[0].decode(), head.lower(), body))
            if b"/end" in head.split()[1]:
                await peer.send(raw_response(b"end"))
            else:
                await peer.send(raw_response(b"", "Location: /end", status=f"{status} Redirect"))

    async with RawServer(script) as server, client.ClientSession() as session:
        for _ in KEPT:
            async with session.request(method, server.url, **options) as response:
                assert await response.read() == b"end"
                assert [step.status for step in response.history] == [status]
        await assert_nothing_acquired(session.connector)
        assert server.accepted == 1
    return requests


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize(
    ("options", "body", "kind"),
    [
        ({"data": b"bytes"}, b"bytes", b"application/octet-stream"),
        ({"json": {"a": 1}}, b'{"a": 1}', b"application/json"),
        ({"data": {"a": "1"}}, b"a=1", b"application/x-www-form-urlencoded"),
    ],
    ids=["bytes", "json", "form"],
)
async def test_the_body_and_the_fields_go_again(
    client: Any, status: int, options: Any, body: bytes, kind: bytes
) -> None:
    requests = await _follow(client, "POST", status, headers={"X-Mine": "yes"}, **options)
    assert len(requests) == 4
    for method, head, sent in requests:
        assert method == "POST"
        assert sent == body
        assert b"\r\nx-mine: yes\r\n" in head
        assert b"\r\ncontent-type: " + kind in head


@pytest.mark.parametrize("status", [301, 302, 303])
async def test_a_post_becomes_a_get(client: Any, status: int) -> None:
    requests = await _follow(client, "POST", status, headers={"X-Mine": "yes"}, data=b"bytes")
    assert [(method, body) for method, _, body in requests] == [("POST", b"bytes"), ("GET", b"")] * 2
    for _, head, _ in requests[1::2]:
        assert b"\r\nx-mine: yes\r\n" in head
        assert b"content-length" not in head


@pytest.mark.parametrize("kept", KEPT)
async def test_total_counts_from_the_first_hop(client: Any, kept: str) -> None:
    """Three hops of 0.15 seconds each within 0.4: not even the way that a plain request takes begins anew."""

    async def script(peer: Peer) -> None:
        while True:
            head, _ = await peer.request()
            if b"/warm" in head:
                await peer.send(raw_response(b""))
                continue
            await asyncio.sleep(0.15)
            hops = int(head.split()[1][1:])
            if hops:
                await peer.send(raw_response(b"", f"Location: /{hops - 1}", status="302 Found"))
            else:
                await peer.send(raw_response(b"end"))

    async with RawServer(script) as server:
        async with client.ClientSession(timeout=client.ClientTimeout(total=0.4)) as session:
            if kept == KEPT[1]:
                async with session.get(server.url + "warm") as response:
                    await response.read()
            with pytest.raises(asyncio.TimeoutError):
                await session.get(server.url + "2")
            await assert_nothing_acquired(session.connector)


async def test_an_error_for_a_status_has_the_redirects_before_it(ours: Any) -> None:
    """aiohttp sets them after its check, so that the error has none."""

    async def script(peer: Peer) -> None:
        while True:
            head, _ = await peer.request()
            if b"/end" in head.split()[1]:
                await peer.send(raw_response(b"", status="500 No"))
            else:
                await peer.send(raw_response(b"", "Location: /end", status="302 Found"))

    seen: list[int] = []

    async def check(response: Any) -> None:
        seen.extend(hop.status for hop in response.history)
        response.raise_for_status()

    async with RawServer(script) as server, ours.ClientSession() as session:
        for raise_for_status in (True, check):
            with pytest.raises(ours.ClientResponseError) as raised:
                await session.get(server.url, raise_for_status=raise_for_status)
            assert [hop.status for hop in raised.value.history] == [302]
    assert seen == [302]
