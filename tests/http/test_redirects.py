"""Redirects: what the next request is made of, whichever way the first one took."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from yarl import URL

from tests.http.raw_support import Peer, RawServer, assert_nothing_acquired, keeping_alive, raw_response
from whorl.http import ClientError
from whorl.http.redirects import target

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


#: Location, and the target that the server gets for it.
LOCATIONS = [
    # Signatures and slashes in a query, as storage services send them.
    ("/Silk_%26_Spider", "/Silk_%26_Spider"),
    ("/o?Credential=AK%2F20&u=http%3A%2F%2Fx", "/o?Credential=AK%2F20&u=http%3A%2F%2Fx"),
    ("/%7Euser/%41?q=%41%2b+%20", "/%7Euser/%41?q=%41%2b+%20"),
    ("/a%2fb/../c", "/c"),
    ("/a b?c d", "/a%20b?c%20d"),
    ("/ü?ü", "/%C3%BC?%C3%BC"),
    ('/"<>\\^`{|}?"<>', "/%22%3C%3E%5C%5E%60%7B%7C%7D?%22%3C%3E"),
    ("/100%", "/100%"),
    ("  /padded\t ", "/padded"),
    ("x", "/start/x"),
    ("./x/./y/../z", "/start/x/z"),
    ("../..", "/"),
    ("?q", "/start/?q"),
    ("#f", "/start/"),
]


@pytest.mark.parametrize(("location", "seen"), LOCATIONS)
@pytest.mark.parametrize("requote", [True, False])
async def test_it_is_followed_as_the_server_sent_it(
    ours: Any, location: str, seen: str, requote: bool
) -> None:
    """aiohttp decodes what a URL need not encode, so that %26 becomes &."""

    async def script(peer: Peer) -> None:
        while True:
            head, _ = await peer.request()
            targets.append(head.split()[1].decode())
            fields = [f"Location: {location}"] if len(targets) == 1 else []
            await peer.send(raw_response(b"", *fields, status="302 Found" if fields else "200 OK"))

    targets: list[str] = []
    async with RawServer(script) as server, ours.ClientSession(requote_redirect_url=requote) as session:
        async with session.get(server.url + "start/") as response:
            assert response.status == 200
    if not requote:
        # All that a request line can carry stays.
        seen = location.strip().replace(" ", "%20") if location[:2] in ("/ü", '/"') else seen
    assert targets == ["/start/", seen]


async def test_octets_that_are_no_utf_8_are_encoded_as_they_are(ours: Any) -> None:
    async def script(peer: Peer) -> None:
        while True:
            head, _ = await peer.request()
            targets.append(head.split()[1])
            moved = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /caf\xe9?\xe9\r\n\r\n"
            await peer.send(moved if len(targets) % 2 else raw_response(b""))

    targets: list[bytes] = []
    async with RawServer(script) as server:
        for requote in (True, False):
            async with ours.ClientSession(requote_redirect_url=requote) as session:
                async with session.get(server.url) as response:
                    assert str(response.url) == f"{server.url}caf%E9?%E9"
    assert targets == [b"/", b"/caf%E9?%E9"] * 2


async def test_a_fragment_is_inherited(ours: Any) -> None:
    """RFC 9110, section 10.2.2, requires it; in aiohttp it is lost."""

    async def script(peer: Peer) -> None:
        while True:
            head, _ = await peer.request()
            where = {b"/": b"/b", b"/b": b"/c#two"}.get(head.split()[1])
            if where is None:
                await peer.send(raw_response(b""))
            else:
                await peer.send(raw_response(b"", f"Location: {where.decode()}", status="301 Moved"))

    async with RawServer(script) as server, ours.ClientSession() as session:
        async with session.get(f"{server.url}#one") as response:
            assert response.real_url.fragment == "two"
            assert response.url.fragment == ""
            assert [hop.real_url.fragment for hop in response.history] == ["one", "one"]


async def test_a_query_from_params_is_part_of_the_base(ours: Any) -> None:
    """For a location that is a fragment alone."""

    async def script(peer: Peer) -> None:
        while True:
            head, _ = await peer.request()
            targets.append(head.split()[1].decode())
            moved = raw_response(b"", "Location: #x", status="302 Found")
            await peer.send(moved if len(targets) == 1 else raw_response(b""))

    targets: list[str] = []
    async with RawServer(script) as server, ours.ClientSession() as session:
        async with session.get(server.url, params={"a": "b"}) as response:
            assert response.real_url.fragment == "x"
    assert targets == ["/?a=b", "/?a=b"]


BASE = URL("http://h.test:8080/a%2Fb/c?q#f")


@pytest.mark.parametrize(
    ("location", "resolved"),
    [
        # RFC 3986, section 5.4, as far as the schemes are HTTP's.
        ("g", "http://a/b/c/g"),
        ("./g", "http://a/b/c/g"),
        ("g/", "http://a/b/c/g/"),
        ("/g", "http://a/g"),
        ("//g", "http://g"),
        ("?y", "http://a/b/c/d;p?y"),
        ("g?y", "http://a/b/c/g?y"),
        ("#s", "http://a/b/c/d;p?q#s"),
        ("g#s", "http://a/b/c/g#s"),
        ("g?y#s", "http://a/b/c/g?y#s"),
        (";x", "http://a/b/c/;x"),
        ("g;x=1/./y", "http://a/b/c/g;x=1/y"),
        ("", "http://a/b/c/d;p?q"),
        (".", "http://a/b/c/"),
        ("./", "http://a/b/c/"),
        ("..", "http://a/b/"),
        ("../g", "http://a/b/g"),
        ("../..", "http://a/"),
        ("../../g", "http://a/g"),
        ("../../../g", "http://a/g"),
        ("/../g", "http://a/g"),
        ("g.", "http://a/b/c/g."),
        ("..g", "http://a/b/c/..g"),
        ("./../g", "http://a/b/g"),
        ("./g/.", "http://a/b/c/g/"),
        ("g/./h", "http://a/b/c/g/h"),
        ("g/../h", "http://a/b/c/h"),
        ("g?y/../x", "http://a/b/c/g?y/../x"),
        ("g#s/../x", "http://a/b/c/g#s/../x"),
        # Not strict: a scheme without an authority.
        ("http:g", "http://a/b/c/g"),
        ("HTTP:/g?x", "http://a/g?x"),
        # Other hosts.
        ("HTTPS://Münch.test/%7e", "https://xn--mnch-0ra.test/%7e"),
        ("http://u:p%40@g:80/x/../y", "http://u:p%40@g/y"),
        ("//[::1]:8080", "http://[::1]:8080"),
        ("http://g?x", "http://g/?x"),
    ],
)
def test_references(location: str, resolved: str) -> None:
    assert str(target(location, URL("http://a/b/c/d;p?q"))) == resolved


def test_a_slash_that_is_encoded_in_the_base_stays_so() -> None:
    assert str(target("d", BASE)) == "http://h.test:8080/a%2Fb/d#f"


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("mailto:joe@h.test", "NonHttpUrlRedirectClientError"),
        ("javascript:alert(1)", "NonHttpUrlRedirectClientError"),
        ("localhost:8080/x", "NonHttpUrlRedirectClientError"),
        ("ftp://h.test/", "NonHttpUrlRedirectClientError"),
        ("https:", "InvalidUrlRedirectClientError"),
        ("https:/x", "InvalidUrlRedirectClientError"),
        ("http:///x", "InvalidUrlRedirectClientError"),
        ("http:\\\\h.test\\x", "InvalidUrlRedirectClientError"),
        ("http:/\\h.test", "InvalidUrlRedirectClientError"),
        ("http://h.test\\@g.test/", "InvalidUrlRedirectClientError"),
        ("http://h.test:999999/", "InvalidUrlRedirectClientError"),
        ("http://h.test:x/", "InvalidUrlRedirectClientError"),
        ("http://[::1", "InvalidUrlRedirectClientError"),
        ("http://h test/", "InvalidUrlRedirectClientError"),
        ("http://h%00\x01/", "InvalidUrlRedirectClientError"),
        ("http://\udcff/", "InvalidUrlRedirectClientError"),
        ("/\ud800", "InvalidUrlRedirectClientError"),
    ],
)
def test_what_leads_nowhere(location: str, error: str) -> None:
    with pytest.raises(ClientError) as raised:
        target(location, BASE)
    assert type(raised.value).__name__ == error
    str(raised.value).encode()


@pytest.mark.parametrize("field", ["Location:", "Location:  "])
async def test_a_location_that_is_empty(client: Any, field: str) -> None:
    """As if there were none."""
    async with (
        RawServer(keeping_alive(raw_response(b"here", field, status="302 Found"))) as server,
        client.ClientSession() as session,
        session.get(server.url) as response,
    ):
        assert response.status == 302
        assert await response.read() == b"here"
    assert len(server.heads) == 1
