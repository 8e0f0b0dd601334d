"""Compressed bodies that come to very much: memory stays within what the session buffers, and the loop
runs."""

from __future__ import annotations

import asyncio
import gzip
import os
import zlib
from typing import Any

import pytest

from tests.http.raw_support import Peer, RawServer, assert_nothing_acquired

pytestmark = pytest.mark.jumping_clock

MiB = 1024 * 1024
#: What the bomb comes to.
SIZE = 128 * MiB
BUFFERED = 64 * 1024


def _deflated(wbits: int) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, wbits)
    zeros = bytes(MiB)
    return b"".join([*(compressor.compress(zeros) for _ in range(SIZE // MiB)), compressor.flush()])


def _bomb(coding: str) -> bytes:
    if coding == "gzip":
        return _deflated(31)
    if coding == "deflate":
        return _deflated(15)
    if coding == "gzip, gzip":
        return gzip.compress(_deflated(31))
    if coding == "br":
        brotli = pytest.importorskip("brotli", reason="makes the bomb; whorl has a decoder of its own")
        compressor = brotli.Compressor(quality=1)
        zeros = bytes(MiB)
        return b"".join([*(compressor.process(zeros) for _ in range(SIZE // MiB)), compressor.finish()])
    zstd = pytest.importorskip("backports.zstd", reason="makes the bomb; whorl has a decoder of its own")
    compressed: bytes = zstd.compress(bytes(SIZE))
    return compressed


def peak() -> int:
    """The most memory that the process has had since :func:`forget_peak`, in bytes."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise AssertionError("the system does not report it")


def forget_peak() -> int:
    """Begins to measure anew; returns what the process has now."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return peak()


@pytest.fixture(autouse=True)
def _measurable() -> None:
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the system does not report how much memory a process has had at most")


def _serving(body: bytes, coding: str) -> Any:
    async def script(peer: Peer) -> None:
        await peer.request()
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n\r\n"
        await peer.send(head.encode())
        await peer.send(body)

    return script


CODINGS = pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])


@CODINGS
async def test_a_stream_that_is_read_in_pieces(ours: Any, coding: str) -> None:
    bomb = _bomb(coding)
    async with RawServer(_serving(bomb, coding)) as server, ours.ClientSession() as session:
        before = forget_peak()
        size = 0
        async with session.get(server.url, read_bufsize=BUFFERED) as response:
            async for piece in response.content.iter_any():
                size += len(piece)
        assert size == SIZE
        assert peak() - before < 16 * MiB


@CODINGS
@pytest.mark.parametrize("content_used", [False, True])
async def test_a_body_that_is_not_read(ours: Any, coding: str, content_used: bool) -> None:
    bomb = _bomb(coding)
    async with RawServer(_serving(bomb, coding)) as server, ours.ClientSession() as session:
        before = forget_peak()
        async with session.get(server.url, read_bufsize=BUFFERED) as response:
            if content_used:
                assert await response.content.read(1) == b"\0"
            await asyncio.sleep(0.2)
        assert peak() - before < 16 * MiB
        await assert_nothing_acquired(session.connector)


# The limit passes while bytes are unpacked, which a clock that stands does not see.
@pytest.mark.jumping_clock(False)
@CODINGS
async def test_the_loop_runs_while_a_body_is_read_whole(ours: Any, coding: str) -> None:
    """It takes the memory that was allowed; timeouts end it nevertheless."""
    bomb = _bomb(coding)
    async with RawServer(_serving(bomb, coding)) as server, ours.ClientSession() as session:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.ensure_future(count())
        async with session.get(server.url, read_bufsize=BUFFERED) as response:
            assert len(await response.read()) == SIZE
        counting.cancel()
        assert turns > 100
        with pytest.raises(asyncio.TimeoutError):
            async with session.get(server.url, timeout=ours.ClientTimeout(total=0.02)) as response:
                await response.read()
        await assert_nothing_acquired(session.connector)
