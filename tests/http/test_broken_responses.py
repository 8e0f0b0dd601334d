"""Servers that break off, stall, or send what is no HTTP: each gets the exception that aiohttp's users
expect."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.http.raw_support import (
    OK,
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
SIZED = HEAD + b"Content-Length: 10\r\n\r\nhello"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = CHUNKED + b"5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nT: v\r\n\r\n"


async def fetch(client: Any, server: RawServer, **options: Any) -> bytes:
    """The body of a response; fails unless the pool is as it was afterwards."""
    async with client.ClientSession(timeout=client.ClientTimeout(total=10)) as session:
        try:
            async with session.get(server.url, **options) as response:
                body: bytes = await response.read()
                return body
        finally:
            await assert_nothing_acquired(session.connector)


# What comes in pieces.


async def test_bytes_may_come_one_by_one(client: Any) -> None:
    """With a pause behind each."""
    pieces = [WHOLE[place : place + 1] for place in range(len(WHOLE))]
    async with RawServer(once(*pieces)) as server:
        assert await fetch(client, server) == b"hello world"


async def test_a_stall_after_any_byte_ends_by_sock_read(client: Any) -> None:
    """In the head, in a chunk's size, its data, its end, and in the trailers."""
    expected = (client.ServerTimeoutError, asyncio.TimeoutError)
    places = range(len(WHOLE))

    async def script(peer: Peer) -> None:
        head, _ = await peer.request()
        await peer.send(WHOLE[: int(head.split()[1][1:])])
        await peer.gone()

    async with RawServer(script) as server:
        limits = client.ClientTimeout(sock_read=0.25)
        connector = client.TCPConnector(limit=0)
        async with client.ClientSession(timeout=limits, connector=connector) as session:

            async def one(place: int) -> BaseException | None:
                try:
                    async with session.get(f"{server.url}{place}") as response:
                        await response.read()
                except Exception as error:
                    return error
                return None

            outcomes = await asyncio.gather(*map(one, places))
            await assert_nothing_acquired(connector)
            await until(lambda: not server.open)
    assert [type(error).__name__ for error in outcomes] == ["SocketTimeoutError"] * len(places)
    assert all(isinstance(error, expected) for error in outcomes)


# What breaks off.


@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_a_connection_that_ends_before_the_response(client: Any, ending: str) -> None:
    expected = client.ServerDisconnectedError if ending == "close" else client.ClientOSError
    async with RawServer(once(then=ending)) as server:
        with pytest.raises(expected):
            await fetch(client, server)
        # A GET is safe to be sent again, once.
        assert server.accepted == 2


@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_a_post_is_not_sent_again(client: Any, ending: str) -> None:
    expected = client.ServerDisconnectedError if ending == "close" else client.ClientOSError
    async with RawServer(once(then=ending)) as server, client.ClientSession() as session:
        with pytest.raises(expected):
            await session.post(server.url, data=b"once")
        assert server.accepted == 1
        await assert_nothing_acquired(session.connector)


@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize("head", [b"H", HEAD, HEAD + b"Content-Le", HEAD + b"Content-Length: 3\r\n"])
async def test_a_connection_that_ends_in_the_head(client: Any, head: bytes, ending: str) -> None:
    async with RawServer(once(head, then=ending)) as server:
        with pytest.raises(client.ClientConnectionError) as raised:
            await fetch(client, server)
    assert isinstance(raised.value, client.ServerDisconnectedError | client.ClientOSError)


@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize(
    "response",
    [SIZED, CHUNKED, CHUNKED + b"5", CHUNKED + b"5\r\n", CHUNKED + b"5\r\nhel", CHUNKED + b"5\r\nhello\r\n"],
)
async def test_a_connection_that_ends_in_the_body(client: Any, response: bytes, ending: str) -> None:
    async with RawServer(once(response, then=ending)) as server:
        with pytest.raises(client.ClientPayloadError):
            await fetch(client, server)


@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_a_stream_gives_what_came_before_the_break(client: Any, ending: str) -> None:
    async with RawServer(once(SIZED, then=ending)) as server, client.ClientSession() as session:
        async with session.get(server.url) as response:
            assert await response.content.readexactly(5) == b"hello"
            with pytest.raises(client.ClientPayloadError):
                await response.content.read(1)
        await assert_nothing_acquired(session.connector)


async def test_a_body_until_the_end_is_cut_by_a_reset(ours: Any) -> None:
    """Of a body without a length, an orderly end is all there is to tell that it is whole: aiohttp takes
    any."""
    response = b"HTTP/1.1 200 OK\r\n\r\nhello"
    async with RawServer(once(response)) as server:
        assert await fetch(ours, server) == b"hello"
    async with RawServer(once(response, then="reset")) as server:
        with pytest.raises(ours.ClientError):
            await fetch(ours, server)


# What is no HTTP.


@pytest.mark.parametrize(
    "response",
    [
        b"\x00\x01\x02\x03 garbage\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        HEAD + b"no colon here\r\n\r\n",
        HEAD + b"Bad Name: value\r\n\r\n",
        HEAD + b"Content-Length: -5\r\n\r\nhello",
        HEAD + b"Content-Length: 0x5\r\n\r\nhello",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    ],
)
async def test_garbage_in_place_of_a_head(client: Any, response: bytes) -> None:
    async with RawServer(once(response, then="stall")) as server:
        with pytest.raises(client.ClientResponseError) as raised:
            await fetch(client, server)
    assert raised.value.status == 400
    assert raised.value.request_info.url.port == server.port


async def test_a_length_with_chunks_is_an_error(ours: Any) -> None:
    """Stricter than aiohttp's parser for responses: two parsers that frame a message differently can be
    played off against each other (RFC 9112, section 6.3)."""
    response = HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    async with RawServer(once(response, then="stall")) as server:
        with pytest.raises(ours.ClientResponseError):
            await fetch(ours, server)


@pytest.mark.parametrize(
    "chunk", [b"zz\r\n", b"-5\r\nhello\r\n", b"5\r\nhelloXX", b"fffffffffffffffff\r\n", b"\r\n"]
)
async def test_broken_chunks(ours: Any, chunk: bytes) -> None:
    """aiohttp finds fault with them too, and then waits for the rest until a limit ends it."""
    async with RawServer(once(CHUNKED + b"2\r\nok\r\n", chunk, then="stall")) as server:
        with pytest.raises(ours.ClientPayloadError):
            await fetch(ours, server)


async def _check_broken_coding(client: Any, coding: str) -> None:
    response = raw_response(b"this is not compressed at all", f"Content-Encoding: {coding}")
    async with RawServer(keeping_alive(response)) as server:
        with pytest.raises(client.ClientPayloadError):
            await fetch(client, server)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_broken_content_coding(client: Any, coding: str) -> None:
    await _check_broken_coding(client, coding)


@pytest.mark.parametrize("coding", ["br", "zstd"])
async def test_a_broken_coding_that_aiohttp_needs_packages_for(ours: Any, coding: str) -> None:
    await _check_broken_coding(ours, coding)


async def test_a_truncated_content_coding(ours: Any) -> None:
    """aiohttp gives what there is: it is not distinguishable from the whole."""
    import gzip

    response = raw_response(gzip.compress(b"hello" * 1000)[:-12], "Content-Encoding: gzip")
    async with RawServer(keeping_alive(response)) as server:
        with pytest.raises(ours.ClientPayloadError):
            await fetch(ours, server)


# What does not end.


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"", b"H" * 4096),
        (b"HTTP/1.1 200 ", b"O" * 4096),
        (HEAD + b"X: ", b"v" * 4096),
        (HEAD, b"N" * 4096),
        (HEAD, b"Name: value\r\n" * 300),
    ],
    ids=["garbage", "reason", "value", "name", "fields"],
)
async def test_a_head_without_an_end_is_cut_at_the_limit(client: Any, start: bytes, piece: bytes) -> None:
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(start)
        while True:
            await peer.send(piece)
            sent += len(piece)
            await asyncio.sleep(0)

    async with RawServer(script) as server:
        with pytest.raises(client.ClientResponseError):
            await fetch(client, server)
    # What the sockets' buffers hold, and no more.
    assert sent < 32 * 1024 * 1024


async def test_interim_responses_without_an_end(client: Any) -> None:
    """They are skipped one by one, and the total limit ends it."""

    async def script(peer: Peer) -> None:
        await peer.request()
        while True:
            await peer.send(
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n" * 50
            )
            await asyncio.sleep(0.005)

    async with RawServer(script) as server, client.ClientSession() as session:
        with pytest.raises(asyncio.TimeoutError):
            await session.get(server.url, timeout=client.ClientTimeout(total=0.3))
        await assert_nothing_acquired(session.connector)


async def test_a_thousand_interim_responses_before_the_final_one(client: Any) -> None:
    async with RawServer(once(b"HTTP/1.1 102 Processing\r\n\r\n" * 1000 + OK)) as server:
        assert await fetch(client, server) == b"ok"


# Connections that must not serve again.


async def _request_thrice(client: Any, response: bytes) -> int:
    """Sends three requests, one after the other; returns over how many connections."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(response)
        await peer.gone()

    async with RawServer(script) as server, client.ClientSession() as session:
        for _ in range(3):
            async with session.get(server.url) as reply:
                assert await reply.read() == b"ok"
        await assert_nothing_acquired(session.connector)
        return server.accepted


@pytest.mark.parametrize(
    "response",
    [
        raw_response(b"ok", "Connection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
    ],
    ids=["close", "1.0", "a forged response"],
)
async def test_a_connection_is_not_used_again(client: Any, response: bytes) -> None:
    assert await _request_thrice(client, response) == 3


@pytest.mark.parametrize("rest", [b"garbage", b"\r\n\r\nx"])
async def test_garbage_behind_a_response(ours: Any, rest: bytes) -> None:
    """The response was whole, and is had; aiohttp raises if both come in one piece, and not if they come in
    two."""
    assert await _request_thrice(ours, OK + rest) == 3


async def test_http_1_0_may_keep_alive(client: Any) -> None:
    response = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"
    async with RawServer(keeping_alive(response)) as server, client.ClientSession() as session:
        for _ in range(3):
            async with session.get(server.url) as reply:
                assert await reply.read() == b"ok"
        assert server.accepted == 1


@pytest.mark.parametrize("data", [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", b"\r\n"])
async def test_an_idle_connection_that_speaks_is_closed(ours: Any, data: bytes) -> None:
    """aiohttp takes what comes for the response to the next request."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await asyncio.sleep(0.02)
        await peer.send(data)
        await peer.gone()

    async with RawServer(script) as server, ours.ClientSession() as session:
        for _ in range(3):
            async with session.get(server.url) as reply:
                assert await reply.read() == b"ok"
            await asyncio.sleep(0.06)
        assert server.accepted == 3
        await assert_nothing_acquired(session.connector)


@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_an_idle_connection_that_ends_is_forgotten(ours: Any, ending: str) -> None:
    """aiohttp closes it when the next request finds it."""
    async with RawServer(once(OK, then=ending)) as server, ours.ClientSession() as session:
        for _ in range(3):
            async with session.post(server.url, data=b"not safe to be sent twice") as reply:
                assert await reply.read() == b"ok"
            await asyncio.sleep(0.06)
        assert not session.connector._conns
        assert server.accepted == 3


async def test_a_response_before_the_request_is_not_taken(ours: Any) -> None:
    """Stricter than aiohttp, which takes what it finds for the response: it was sent before any client had
    sent a request."""
    forged = raw_response(b"forged")

    async def script(peer: Peer) -> None:
        await peer.send(forged)
        await peer.gone()

    async def slowly(*_: Any) -> None:
        await asyncio.sleep(0.05)

    # The signal lets the bytes arrive before the request is written.
    tracing = ours.TraceConfig()
    tracing.on_connection_create_end.append(slowly)
    async with RawServer(script) as server, ours.ClientSession(trace_configs=[tracing]) as session:
        with pytest.raises(ours.ClientConnectionError):
            await session.get(server.url)
        await assert_nothing_acquired(session.connector)


# Responses that come while the request is on its way out.


@pytest.mark.parametrize("status", ["200 OK", "413 Content Too Large"])
async def test_an_early_response_to_an_upload(client: Any, status: str) -> None:
    """The response is had, and the connection, on which half a request was sent, serves no other request."""

    async def body() -> Any:
        for _ in range(10_000):
            yield b"x" * 65536

    async def script(peer: Peer) -> None:
        head = await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(raw_response(b"enough", status=status))
        if b"POST" in head:
            await asyncio.sleep(0.2)

    async with RawServer(script) as server, client.ClientSession() as session:
        async with session.post(server.url, data=body()) as response:
            assert response.status == int(status[:3])
            assert await response.read() == b"enough"
        await assert_nothing_acquired(session.connector)
        async with session.get(server.url) as response:
            assert await response.read() == b"enough"
        assert server.accepted == 2


async def test_an_upload_waits_for_a_server_that_does_not_read(ours: Any) -> None:
    """On every loop: `writelines()` of asyncio in some releases of Python 3.12 and 3.13 does not call
    `pause_writing()`."""
    most, taken = 2048, 0

    async def body() -> Any:
        nonlocal taken
        while taken < most:
            taken += 1
            yield b"x" * 65536

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(3600)

    async with RawServer(script) as server, ours.ClientSession() as session:
        upload = asyncio.create_task(session.post(server.url, data=body()))
        before = 0
        while not before or before < taken:
            before = taken
            await asyncio.sleep(0.05)
        assert taken < most, "128 MiB were taken, which no socket buffer holds"
        upload.cancel()
        await asyncio.wait([upload])
        await assert_nothing_acquired(session.connector)


async def test_an_upload_to_a_server_that_resets(client: Any) -> None:
    async def body() -> Any:
        while True:
            yield b"x" * 65536

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.reader.read(100_000)
        peer.reset()

    async with RawServer(script) as server, client.ClientSession() as session:
        with pytest.raises(client.ClientOSError):
            await session.post(server.url, data=body())
        await assert_nothing_acquired(session.connector)


async def test_redirects_in_a_loop(client: Any) -> None:
    response = raw_response(b"round", "Location: /", status="302 Found")
    async with RawServer(keeping_alive(response)) as server, client.ClientSession() as session:
        with pytest.raises(client.TooManyRedirects) as raised:
            await session.get(server.url, max_redirects=5)
        assert len(raised.value.history) == 5
        await assert_nothing_acquired(session.connector)


async def test_redirects_with_a_body_that_does_not_end(client: Any) -> None:
    """It is not read: the connection is closed."""

    async def script(peer: Peer) -> None:
        head, _ = await peer.request()
        if b"GET / " in head:
            await peer.send(
                HEAD.replace(b"200 OK", b"302 Found") + b"Location: /end\r\nContent-Length: 1000\r\n\r\nx"
            )
            await peer.gone()
        else:
            await peer.send(OK)

    async with RawServer(script) as server:
        assert await fetch(client, server) == b"ok"
        assert server.accepted == 2
