"""``sendfile`` and ``sock_sendfile``: whole files, parts, order, refusals and fallbacks."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import LoopErrors
from .support import (
    PATIENCE,
    Pair,
    connected,
    control_xfail,
    gone,
    listener,
    receive_all,
    receive_exactly,
    reset,
    turns,
)
from .tls_support import tls_pair

Loop = asyncio.AbstractEventLoop
DATA = bytes(range(256)) * 20_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(DATA)
    return tmp_path / "file"


@pytest.mark.parametrize(
    ("offset", "count"),
    [(0, None), (0, len(DATA)), (1000, None), (1000, 5000), (len(DATA) - 1, 10), (len(DATA), 1)],
)
async def test_files_and_parts_of_files(loop: Loop, path: Path, offset: int, count: int | None) -> None:
    expected = DATA[offset:] if count is None else DATA[offset : offset + count]
    async with connected() as pair:
        reading = asyncio.ensure_future(pair.peer_receives_all())
        with open(path, "rb") as file:
            assert await loop.sendfile(pair.transport, file, offset, count) == len(expected)
            # Where nothing was sent, asyncio does not seek.
            assert file.tell() == offset + len(expected) or not expected
        pair.transport.close()
        assert await reading == expected


async def test_what_was_written_before_and_after_keeps_its_place(loop: Loop, path: Path) -> None:
    async with connected() as pair:
        written = await pair.fill()
        pair.transport.write(b"before")
        reading = asyncio.ensure_future(pair.peer_receives_all())
        with open(path, "rb") as file:
            sending = asyncio.ensure_future(loop.sendfile(pair.transport, file))
            assert await sending == len(DATA)
        pair.transport.write(b"after")
        pair.transport.close()
        received = await reading
        assert received[written:] == b"before" + DATA + b"after"


async def test_reading_continues_afterwards(loop: Loop, path: Path) -> None:
    async with connected() as pair:
        reading = asyncio.ensure_future(pair.peer_receives(len(DATA)))
        with open(path, "rb") as file:
            await loop.sendfile(pair.transport, file)
        assert await reading == DATA
        await pair.peer_sends(b"thanks")
        assert await pair.protocol.received(6) == b"thanks"


async def test_what_is_no_regular_file_falls_back(loop: Loop) -> None:
    async with connected() as pair:
        reading = asyncio.ensure_future(pair.peer_receives_all())
        assert await loop.sendfile(pair.transport, io.BytesIO(DATA), 10, 1000) == 1000
        with pytest.raises((asyncio.SendfileNotAvailableError, RuntimeError)):
            await loop.sendfile(pair.transport, io.BytesIO(DATA), fallback=False)
        pair.transport.close()
        assert await reading == DATA[10:1010]


async def test_arguments_that_make_no_sense(loop: Loop, path: Path) -> None:
    async with connected() as pair:
        with open(path) as text, pytest.raises(ValueError, match="binary"):
            await loop.sendfile(pair.transport, text)  # type: ignore[arg-type]
        with open(path, "rb") as file:
            for offset, count, error in ((0, 0, ValueError), (0, -1, ValueError), (-1, None, ValueError),
                                         (0, "1", TypeError), ("0", None, TypeError)):  # fmt: skip
                wrong: Any = (offset, count)
                with pytest.raises(error):
                    await loop.sendfile(pair.transport, file, *wrong)
            pair.transport.close()
            with pytest.raises(RuntimeError, match="closing"):
                await loop.sendfile(pair.transport, file)


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_peer_that_goes_away(loop: Loop, tmp_path: Path, how: str) -> None:
    with open(tmp_path / "large", "wb") as large:
        large.truncate(200_000_000)
    async with connected() as pair:
        with open(tmp_path / "large", "rb") as file:
            sending = asyncio.ensure_future(loop.sendfile(pair.transport, file))
            await pair.peer_receives(100_000)
            assert not sending.done()
            reset(pair.peer) if how == "reset" else pair.peer.close()
            with pytest.raises((ConnectionError, BrokenPipeError)):
                await sending
    assert await asyncio.sleep(0, "alive") == "alive"


@contextlib.asynccontextmanager
async def connected_by(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    """A connection of the loop under test, whose ``sendfile()`` is the kernel's, or asyncio's fallback."""
    if kind == "plain":
        async with connected() as pair:
            yield pair
    else:
        async with tls_pair(request.getfixturevalue("certificates")) as pair:
            yield pair


@pytest.mark.parametrize("kind", ["plain", "tls"])
@pytest.mark.parametrize("how", ["the peer closes", "abort", "close, then the peer closes"])
async def test_an_end_while_earlier_writes_wait(
    loop: Loop, loop_name: str, loop_errors: LoopErrors, request: pytest.FixtureRequest, kind: str, how: str
) -> None:
    """What sendfile() waits for is never sent: it gets the error of the connection."""
    async with connected_by(kind, request) as pair:
        await pair.fill()
        file: Any = io.BytesIO() if kind == "tls" else tempfile.TemporaryFile()
        with file:
            file.write(DATA)
            file.seek(0)
            sending = asyncio.ensure_future(loop.sendfile(pair.transport, file))
            await turns()
            assert not sending.done()
            if how == "abort":
                pair.transport.abort()
            else:
                if how.startswith("close"):
                    pair.transport.close()
                    await turns()
                reset(pair.peer)
            with pytest.raises(ConnectionError):
                await asyncio.wait_for(sending, PATIENCE)
        await gone(pair.protocol)
    if loop_name == "asyncio":
        # It sets the error of a failed write twice, and reports that it cannot.
        loop_errors.clear()


@control_xfail(
    "a sendfile() that is cancelled while it waits leaves the transport paused and refusing writes"
)
async def test_a_cancelled_sendfile_leaves_the_transport_in_use(loop: Loop, path: Path) -> None:
    async with connected() as pair:
        written = await pair.fill()
        with open(path, "rb") as file:
            sending = asyncio.ensure_future(loop.sendfile(pair.transport, file))
            await turns()
            with pytest.raises(RuntimeError, match="already set"):
                await loop.sendfile(pair.transport, file)
            assert not pair.transport.is_reading()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            assert pair.transport.is_reading()
            pair.transport.write(b"between")
            sending = asyncio.ensure_future(loop.sendfile(pair.transport, file))
            assert await pair.peer_receives(written + 7 + len(DATA)) == b"f" * written + b"between" + DATA
            assert await sending == len(DATA)
        await pair.peer_sends(b"thanks")
        assert await pair.protocol.received(6) == b"thanks"


async def test_sock_sendfile(loop: Loop, path: Path) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(10)
    with ours, theirs:
        with open(path, "rb") as file:
            reading = asyncio.ensure_future(asyncio.to_thread(receive_exactly, theirs, len(DATA)))
            assert await loop.sock_sendfile(ours, file) == len(DATA)
            assert await reading == DATA
            assert file.tell() == len(DATA)
            assert await loop.sock_sendfile(ours, file, 100, 50) == 50
            assert receive_exactly(theirs, 50) == DATA[100:150]
            assert await loop.sock_sendfile(ours, io.BytesIO(DATA), 0, 10, fallback=True) == 10
            assert receive_exactly(theirs, 10) == DATA[:10]
            with pytest.raises(asyncio.SendfileNotAvailableError):
                await loop.sock_sendfile(ours, io.BytesIO(DATA), fallback=False)


async def test_sock_sendfile_cancelled(loop: Loop, tmp_path: Path) -> None:
    with open(tmp_path / "large", "wb") as large:
        large.truncate(50_000_000)
    with listener() as server, socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, server.getsockname())
        peer, _ = server.accept()
        with open(tmp_path / "large", "rb") as file:
            sending = asyncio.ensure_future(loop.sock_sendfile(client, file))
            await turns()
            assert not sending.done()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
        assert not loop.remove_writer(client)
        client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(receive_all, peer)
        peer.close()
    await turns()
