"""Uploads that fail, and those that wait for the server to ask for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.http.raw_support import OK, Peer, RawServer, assert_nothing_acquired, until

pytestmark = pytest.mark.jumping_clock


@pytest.mark.parametrize("after", ["nothing", "a piece", "a piece and a wait"])
@pytest.mark.parametrize("tracked", [False, True])
async def test_a_body_that_fails_fails_its_request(client: Any, after: str, tracked: bool) -> None:
    """Whether it does so at once, which is before the response is waited for, or later."""

    async def body() -> AsyncIterator[bytes]:
        if after != "nothing":
            yield b"piece"
        if after == "a piece and a wait":
            await asyncio.sleep(0.01)
        raise ZeroDivisionError("of the program")

    async with RawServer(Peer.gone) as server, client.ClientSession() as session:
        options: dict[str, Any] = {"upload_tracker": client.UploadTracker()} if tracked else {}
        with pytest.raises(client.ClientConnectionError, match="of the program") as caught:
            await session.post(server.url, data=body(), **options)
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        await assert_nothing_acquired(session.connector)
        if tracked:
            assert options["upload_tracker"].upload_complete.exception() is caught.value


async def test_a_100_that_comes_while_the_head_is_being_sent(
    ours: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts: no time is waited for another."""
    monkeypatch.setattr("whorl.http.client_request._CONTINUE_AFTER", 1e6)
    proceed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await proceed.wait()
        received = b""
        while not received.endswith(b"body"):
            received += await peer.reader.read(65536)
        await peer.send(OK)

    loop = asyncio.get_running_loop()
    async with RawServer(script) as server, ours.ClientSession() as session:
        # More than the two sides' buffers take.
        head = {f"X-{number}": "x" * 60_000 for number in range(200)}
        task = asyncio.ensure_future(session.post(server.url, data=b"body", headers=head, expect100=True))
        await until(lambda: server.accepted)
        # Until what the server has sent has come, and the client waits for it to read.
        await asyncio.sleep(0.1)
        assert not task.done()
        begun = loop.time()
        proceed.set()
        async with await task as response:
            assert response.status == 200
        assert loop.time() - begun < 1e5
