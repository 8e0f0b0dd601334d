"""Content codings of responses, in any pieces; and that long work on them does not hold up the loop.

How codings are distinguished, their bounds and their faults are tested in the core.
"""

from __future__ import annotations

import asyncio
import gzip
import random
import sys
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from tests.http.raw_support import Peer, RawServer, Script
from whorl._core import HttpConnection

pytestmark = pytest.mark.jumping_clock

TEXT = b"The quick brown fox jumps over the lazy dog. " * 2000
# TEXT[:1800] by Brotli's own encoder.
BROTLI = bytes.fromhex(
    "1b0707882c0e78d3d0955d9710bb172ba9cad092cc8cad415ce6f236c8199e9e0a7b830d387048206f24bf41a715ce1c1e27aa2938"
    "c2a9749f0603"
)
# b"whorl" as a zstd frame of one raw block.
ZSTD = bytes.fromhex("28b52ffd2005290000") + b"whorl"


def bare_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


ENCODED = {
    "gzip": ("gzip", gzip.compress(TEXT), TEXT),
    "x-gzip": ("x-gzip", gzip.compress(TEXT), TEXT),
    "zlib": ("deflate", zlib.compress(TEXT), TEXT),
    "bare deflate": ("deflate", bare_deflate(TEXT), TEXT),
    "br": ("br", BROTLI, TEXT[:1800]),
    "zstd": ("zstd", ZSTD, b"whorl"),
    "two": ("br, gzip", gzip.compress(BROTLI), TEXT[:1800]),
    "none": ("identity", TEXT, TEXT),
}
encoded = pytest.mark.parametrize(("encoding", "body", "text"), ENCODED.values(), ids=ENCODED)


def head(encoding: str, body: bytes) -> bytes:
    fields = f"Content-Encoding: {encoding}\r\nContent-Length: {len(body)}"
    return f"HTTP/1.1 200 OK\r\n{fields}\r\n\r\n".encode()


def serving(encoding: str, body: bytes, *cuts: int) -> Script:
    """A script that sends the body in pieces that end there."""
    ends = [*cuts, len(body)]
    pieces = [body[begin:end] for begin, end in zip([0, *cuts], ends, strict=True)]

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(head(encoding, body), *pieces)

    return script


@encoded
@pytest.mark.parametrize("where", ["at once", "first byte", "last byte", "anywhere"])
async def test_responses(ours: Any, encoding: str, body: bytes, text: bytes, where: str) -> None:
    rng = random.Random(encoding)
    cuts = {
        "at once": [],
        "first byte": [1],
        "last byte": [len(body) - 1],
        "anywhere": sorted(rng.randrange(len(body)) for _ in range(8)),
    }[where]
    async with RawServer(serving(encoding, body, *cuts)) as server, ours.ClientSession() as session:
        async with session.get(server.url) as response:
            assert await response.read() == text
        async with session.get(server.url, read_bufsize=100) as response:
            assert b"".join([piece async for piece in response.content.iter_chunked(64)]) == text


async def test_a_body_that_waits_is_not_moved_about_for_each_piece(ours: Any) -> None:
    """Megabytes would be copied with each piece, and there are thousands of them: minutes of it."""
    noise = random.Random(1).randbytes(8 * 1024 * 1024)
    body = gzip.compress(noise, 0)
    async with RawServer(serving("gzip", body)) as server, ours.ClientSession(read_bufsize=1024) as session:
        async with session.get(server.url) as response:
            await asyncio.sleep(0.1)
            assert await response.read() == noise


@pytest.mark.parametrize("name", sorted(ENCODED.keys() - {"none"}))
async def test_a_body_that_is_cut(ours: Any, name: str) -> None:
    encoding, body, _ = ENCODED[name]
    async with RawServer(serving(encoding, body[:-1])) as server, ours.ClientSession() as session:
        async with session.get(server.url) as response:
            with pytest.raises(ours.ClientPayloadError, match="ends within the compressed data"):
                await response.read()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
async def test_a_body_that_is_something_else(ours: Any, encoding: str) -> None:
    body = b"<html>not compressed at all</html>"
    async with RawServer(serving(encoding, body)) as server, ours.ClientSession() as session:
        async with session.get(server.url) as response:
            with pytest.raises(ours.ClientPayloadError, match=f"{encoding}: "):
                await response.read()


@pytest.mark.parametrize("encoding", ["compress", "identity", ", ".join(["gzip"] * 6)])
async def test_a_coding_that_is_not_undone(ours: Any, encoding: str) -> None:
    async with RawServer(serving(encoding, TEXT)) as server, ours.ClientSession() as session:
        async with session.get(server.url) as response:
            assert await response.read() == TEXT


class Silent(asyncio.Transport):
    """A transport whose peer says nothing."""

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        pass

    def close(self) -> None:
        pass


def receive(body: bytes, encoding: str) -> Callable[[], None]:
    """Gives a response to a connection, by one call from Python."""

    def call() -> None:
        loop = asyncio.new_event_loop()
        connection: Any = HttpConnection(loop)
        connection.connection_made(Silent())
        exchange = connection.begin("GET", buffer_size=1 << 25)
        connection.data_received(head(encoding, body) + body)
        assert exchange.is_over()
        loop.close()

    return call


@pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="there is no lock to release")
@pytest.mark.parametrize("size", ["large", "a bomb"])
def test_large_bodies_let_other_threads_run(size: str) -> None:
    """A thread that needs the interpreter counts on while a call works."""
    count = 0
    done = threading.Event()

    def counts() -> None:
        nonlocal count
        while not done.is_set():
            count += 1
            time.sleep(0)

    noise = random.Random(2).randbytes(1 << 20) * 8
    bomb = gzip.compress(zlib.compress(bytes(20_000_000)))
    assert len(bomb) < 64 * 1024
    body = gzip.compress(noise, 1)
    work = receive(bomb, "deflate, gzip") if size == "a bomb" else receive(body, "gzip")
    thread = threading.Thread(target=counts)
    # Longer than any call: only a lock that is released lets the other thread in.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    try:
        thread.start()
        for _ in range(50):
            before = count
            work()
            if count != before:
                break
        else:
            pytest.fail("the other thread stood still")
    finally:
        done.set()
        sys.setswitchinterval(interval)
        thread.join()
