"""Responses that a server should not send: those that leave no doubt about where they end are read, as curl,
browsers and aiohttp read them, and not by a session that is strict. The corpus of the core has every case;
these go over sockets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.http.raw_support import (
    Peer,
    RawServer,
    assert_nothing_acquired,
    keeping_alive,
    once,
    raw_response,
    until,
)

#: Time is what is tested, or is waited for: it takes none.
pytestmark = pytest.mark.jumping_clock

HEAD = b"HTTP/1.1 200 OK\r\n"
SIZED = b"Content-Length: 5\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

TOLERATED = {
    "line feeds alone": b"HTTP/1.1 200 OK\nContent-Length: 5\nX: y\n\nhello",
    "a line feed alone": HEAD + b"X: y\n" + SIZED + b"\r\nhello",
    "a fold": HEAD + b"X: y\r\n z\r\n" + SIZED + b"\r\nhello",
    "a fold behind a line feed": HEAD + b"X: y\n z\r\n" + SIZED + b"\r\nhello",
    "a control character": HEAD + b"X: y\x01\r\n" + SIZED + b"\r\nhello",
    "a control character in the reason": b"HTTP/1.1 200 O\x1bK\r\n" + SIZED + b"\r\nhello",
    "an empty line": b"\r\n" + HEAD + SIZED + b"\r\nhello",
    "two equal lengths": HEAD + SIZED + SIZED + b"\r\nhello",
    "a list of equal lengths": HEAD + b"Content-Length: 5, 5\r\n\r\nhello",
    "white space behind a size": CHUNKED + b"5  \r\nhello\r\n0\r\n\r\n",
    "white space before a size": CHUNKED + b"  5\r\nhello\r\n0\r\n\r\n",
    "a folded trailer": CHUNKED + b"5\r\nhello\r\n0\r\nT: x\r\n y\r\n\r\n",
}

IN_DOUBT = {
    "a carriage return alone": HEAD + b"X: y\rContent-Length: 3\r\n" + SIZED + b"\r\nhello",
    "a NUL": HEAD + b"X: y\0\r\n" + SIZED + b"\r\nhello",
    "a folded length": HEAD + b"Content-Length:\r\n 5\r\n\r\nhello",
    "a folded coding": HEAD + b"Transfer-Encoding:\r\n chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "white space before the colon": HEAD + b"Content-Length : 5\r\n\r\nhello",
    "white space before the first field": HEAD + b" X: y\r\n" + SIZED + b"\r\nhello",
    "two lengths": HEAD + SIZED + b"Content-Length: 6\r\n\r\nhello",
    "a list of lengths": HEAD + b"Content-Length: 5, 6\r\n\r\nhello",
    "a length with a sign": HEAD + b"Content-Length: +5\r\n\r\nhello",
    "a length and a coding": HEAD + SIZED + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "a coding behind a control character": HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "two empty lines": b"\r\n\r\n" + HEAD + SIZED + b"\r\nhello",
}

IN_DOUBT_IN_THE_BODY = {
    "a line feed alone behind a size": b"5\nhello\r\n0\r\n\r\n",
    "a line feed alone in an extension": b"5;x\nhello\r\n0\r\n\r\n",
    "a line feed alone behind data": b"5\r\nhello\n0\r\n\r\n",
    "a line feed alone behind the last chunk": b"5\r\nhello\r\n0\r\n\n",
    "a line feed alone in trailers": b"5\r\nhello\r\n0\r\nT: x\n\r\n",
    "two sizes": b"5 0\r\nhello\r\n0\r\n\r\n",
}


async def _pass(request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
    return await handler(request)


#: A session whose requests are on the fast path, and one whose requests are not.
PATHS = [pytest.param((), id="fast path"), pytest.param((_pass,), id="middleware")]


async def _fetch(client: Any, response: bytes, pieces: bool = False, **options: Any) -> bytes:
    """The body of a response that comes whole, or byte by byte."""
    single = [response[place : place + 1] for place in range(len(response))]
    async with (
        RawServer(once(*(single if pieces else [response]))) as server,
        client.ClientSession(**options) as session,
    ):
        try:
            async with session.get(server.url) as reply:
                body: bytes = await reply.read()
                return body
        finally:
            await assert_nothing_acquired(session.connector)


@pytest.mark.parametrize("middlewares", PATHS)
@pytest.mark.parametrize("case", TOLERATED)
async def test_what_leaves_no_doubt_is_read(ours: Any, case: str, middlewares: Any) -> None:
    """aiohttp does not read equal lengths said twice, nor white space before a size."""
    assert await _fetch(ours, TOLERATED[case], middlewares=middlewares) == b"hello"


@pytest.mark.parametrize("case", TOLERATED)
async def test_in_whatever_pieces_it_comes(ours: Any, case: str) -> None:
    assert await _fetch(ours, TOLERATED[case], pieces=True) == b"hello"


@pytest.mark.parametrize("middlewares", PATHS)
@pytest.mark.parametrize("case", TOLERATED)
async def test_a_strict_session_reads_nothing_of_it(ours: Any, case: str, middlewares: Any) -> None:
    in_body = TOLERATED[case].startswith(CHUNKED)
    expected = ours.ClientPayloadError if in_body else ours.ClientResponseError
    with pytest.raises(expected, match="RFC 9"):
        await _fetch(ours, TOLERATED[case], middlewares=middlewares, strict=True)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("case", IN_DOUBT)
async def test_a_doubt_in_the_head_is_an_error(ours: Any, case: str, strict: bool) -> None:
    with pytest.raises(ours.ClientResponseError, match="RFC 9") as raised:
        await _fetch(ours, IN_DOUBT[case], strict=strict)
    assert raised.value.status == 400


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("case", IN_DOUBT_IN_THE_BODY)
async def test_a_doubt_in_a_chunked_body_is_an_error(ours: Any, case: str, strict: bool) -> None:
    with pytest.raises(ours.ClientPayloadError, match="RFC 9"):
        await _fetch(ours, CHUNKED + IN_DOUBT_IN_THE_BODY[case], strict=strict)


async def test_sessions_of_one_connector_keep_their_own_rules(ours: Any) -> None:
    """The connection is the connector's; the rule goes with each request."""
    response = HEAD + b"X: \x01\r\n" + SIZED + b"\r\nhello"
    async with RawServer(keeping_alive(response)) as server:
        connector = ours.TCPConnector()
        async with (
            ours.ClientSession(connector=connector, connector_owner=False) as tolerant,
            ours.ClientSession(connector=connector, strict=True) as strict,
        ):
            for _ in range(2):
                async with tolerant.get(server.url) as reply:
                    assert await reply.read() == b"hello"
            with pytest.raises(ours.ClientResponseError, match="control character"):
                await strict.get(server.url)
            assert server.accepted == 1


async def test_the_response_of_a_proxy_is_read_by_the_same_rule(ours: Any) -> None:
    """It is the response to CONNECT."""
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\nProxy-Authenticate: Basic\n\n"
    async with RawServer(once(refusal)) as server:
        async with ours.ClientSession() as session:
            with pytest.raises(ours.ClientHttpProxyError, match="407"):
                await session.get("https://localhost/", proxy=server.url)
        async with ours.ClientSession(strict=True) as session:
            with pytest.raises(ours.ClientResponseError, match="line feed without a carriage return"):
                await session.get("https://localhost/", proxy=server.url)


# Whether the connection serves another request.


@pytest.mark.parametrize(
    ("case", "connections"),
    [
        ("a fold", 1),
        ("a fold behind a line feed", 1),
        ("a control character", 1),
        ("an empty line", 1),
        ("two equal lengths", 1),
        ("white space behind a size", 1),
        ("a line feed alone", 3),
        ("line feeds alone", 3),
    ],
)
async def test_a_connection_serves_again_if_all_parties_see_the_same_end(
    ours: Any, case: str, connections: int
) -> None:
    async with RawServer(keeping_alive(TOLERATED[case])) as server, ours.ClientSession() as session:
        for _ in range(3):
            async with session.get(server.url) as reply:
                assert await reply.read() == b"hello"
        assert server.accepted == connections


async def test_a_response_that_is_split_by_a_line_feed_gets_no_request(ours: Any) -> None:
    """A line feed that an application lets into a value ends the head there, and what stands behind it looks
    like another response. It may come after the next request was sent."""
    first = HEAD + b"X-Name: a\nContent-Length: 0\n\n"
    forged = raw_response(b"forged")

    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number:
            await peer.send(raw_response(b"own"))
            return
        await peer.send(first)
        # Not before the client has had the time to send a request.
        await until(lambda: peer.server.accepted == 2)
        await peer.send(forged)

    async with RawServer(script) as server, ours.ClientSession() as session:
        async with session.get(server.url) as reply:
            assert await reply.read() == b""
        async with session.get(server.url) as reply:
            assert await reply.read() == b"own"


# What a program gets of it.

CONTROLS = "".join(map(chr, [*range(1, 9), 11, 12, *range(14, 32), 127]))


async def test_fields_are_text_with_what_the_server_sent(ours: Any) -> None:
    response = (
        HEAD
        + b"X: a\r\n\t b \r\n  c\r\nY: "
        + CONTROLS.encode()
        + b"z\r\nSet-Cookie: a=b\x01\r\nSet-Cookie: c=d\r\n"
        + SIZED
        + b"\r\nhello"
    )
    async with RawServer(keeping_alive(response)) as server:
        jar = ours.CookieJar(unsafe=True)
        async with ours.ClientSession(cookie_jar=jar) as session:
            async with session.get(server.url) as reply:
                assert reply.headers["X"] == "a b c"
                assert reply.headers["Y"] == CONTROLS + "z"
                assert dict(reply.raw_headers)[b"Y"] == CONTROLS.encode() + b"z"
                # A cookie with a control character is ignored (RFC 6265bis, section 5.6).
                assert {name: cookie.value for name, cookie in reply.cookies.items()} == {"c": "d"}
            async with session.get(server.url) as reply:
                assert await reply.read() == b"hello"
        assert b"\r\nCookie: c=d\r\n" in server.heads[1]


async def test_a_value_with_a_control_character_cannot_be_sent_on(ours: Any) -> None:
    async with RawServer(keeping_alive(TOLERATED["a control character"])) as server:
        async with ours.ClientSession() as session, session.get(server.url) as reply:
            with pytest.raises(ValueError, match=r"field X has a control character \(0x01\) at index 1"):
                await session.get(server.url, headers={"X": reply.headers["X"]})
        assert len(server.heads) == 1


async def test_a_reason_is_shown_without_control_characters(ours: Any) -> None:
    async with RawServer(once(TOLERATED["a control character in the reason"])) as server:
        async with ours.ClientSession() as session, session.get(server.url) as reply:
            assert reply.reason == "O\x1bK"
            assert "[200 O\\x1bK]" in repr(reply)


@pytest.mark.parametrize("requotes", [True, False])
@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/a\x01b", {True: "/a%01b", False: "/a%01b"}),
        ("/a\x0b", {True: "/a", False: "/a"}),
        ("http://local\x01host:{port}/", {True: None, False: None}),
        ("http://localhost:\x01{port}/", {True: None, False: None}),
    ],
)
async def test_a_location_with_a_control_character(
    ours: Any, location: str, expected: dict[bool, str | None], requotes: bool
) -> None:
    """It is quoted where a URL can have it, dropped at its ends as in browsers, and elsewhere no URL."""

    async def script(peer: Peer) -> None:
        await peer.request()
        place = location.format(port=peer.server.port)
        await peer.send(raw_response(b"", f"Location: {place}", status="302 Found"))
        await peer.request()
        await peer.send(raw_response(b"end"))

    async with (
        RawServer(script) as server,
        ours.ClientSession(requote_redirect_url=requotes) as session,
    ):
        target = expected[requotes]
        if target is None:
            with pytest.raises(ours.InvalidUrlRedirectClientError):
                await session.get(server.url)
        else:
            async with session.get(server.url) as reply:
                assert await reply.read() == b"end"
            assert server.heads[1].split()[1].decode() == target


@pytest.mark.parametrize("parameter", ['realm="a\x01"', 'nonce="a\x0b"', 'opaque="\x1f"', b'nonce="\xff"'])
async def test_a_digest_challenge_that_cannot_be_repeated(ours: Any, parameter: str | bytes) -> None:
    """It is named; another challenge is taken if there is one."""
    bad = parameter.encode() if isinstance(parameter, str) else parameter
    refused = HEAD.replace(b"200 OK", b"401 Unauthorized") + b"Content-Length: 0\r\n"
    challenge = b"WWW-Authenticate: Digest " + bad + b', realm="r", nonce="n"\r\n'
    alone = refused + challenge + b"\r\n"
    with_another = refused + challenge + b'WWW-Authenticate: Digest realm="r", nonce="n"\r\n\r\n'

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(with_another if b"another" in peer.server.heads[-1] else alone)
        await peer.request()
        await peer.send(raw_response(b"ok", 'Authentication-Info: nextnonce="\x01"'))
        await peer.request()
        await peer.send(raw_response(b"ok"))

    async with RawServer(script) as server:
        middlewares = [ours.DigestAuthMiddleware("user", "password")]
        async with ours.ClientSession(middlewares=middlewares) as session:
            with pytest.raises(ours.ClientError, match="cannot be sent: "):
                await session.get(server.url)
        middlewares = [ours.DigestAuthMiddleware("user", "password")]
        async with ours.ClientSession(middlewares=middlewares) as session:
            for _ in range(2):
                async with session.get(server.url + "another") as reply:
                    assert reply.status == 200
        assert b'nonce="n"' in server.heads[-1]


async def test_a_websocket_handshake_that_is_tolerated(ours: Any) -> None:
    """Its head is a response's, and the bytes behind it are frames."""
    import base64
    import hashlib
    import re

    async def script(peer: Peer) -> None:
        head, _ = await peer.request()
        key = re.search(rb"(?i)sec-websocket-key: *(\S+)", head)
        assert key
        digest = hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        await peer.send(
            b"HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: upgrade\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\n\n\x81\x05hello"
        )
        await peer.gone()

    async with RawServer(script) as server, ours.ClientSession() as session:
        async with session.ws_connect(server.url) as websocket:
            assert await websocket.receive_str() == "hello"


def test_the_parameter_is_documented(ours: Any) -> None:
    assert ":param strict:" in ours.ClientSession.__doc__
