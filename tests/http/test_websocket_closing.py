"""How a WebSocket ends, and how it is kept alive: close frames, timeouts, pings and heartbeats."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from aiohttp import WSMsgType as TheirMsgType
from aiohttp import web

from tests.http.websocket_support import Peer, bare_server, connected, on_both_loops, serving
from whorl.http.exceptions import ClientConnectionResetError, ServerTimeoutError
from whorl.http.websocket.client import ClientWSTimeout
from whorl.http.websocket.messages import WSCloseCode, WSMsgType

#: Time is what is tested, or is waited for: it takes none.
pytestmark = pytest.mark.jumping_clock

CLOSED = (WSMsgType.CLOSED, None, None)


async def until_closed(ws: web.WebSocketResponse) -> None:
    async for _ in ws:
        pass


async def reply_to_close(peer: Peer) -> None:
    await peer.close_code()
    await peer.send(b"\x88\x02\x03\xe8")


# Close frames.


@on_both_loops
async def test_closing_from_our_side() -> None:
    seen: list[Any] = []

    async def handler(ws: web.WebSocketResponse) -> None:
        seen.append(await ws.receive())

    async with serving(handler) as port, connected(port) as ws:
        assert not ws.closed
        assert ws.close_code is None
        assert await ws.close(code=WSCloseCode.GOING_AWAY, message="good bye")
        assert ws.closed
        # The server answers with a code of its own.
        assert ws.close_code == 1000
        assert ws.exception() is None
        assert not await ws.close()
        assert await ws.receive() == CLOSED
        with pytest.raises(ClientConnectionResetError, match="Cannot write to closing transport"):
            await ws.send_str("too late")
        with pytest.raises(ClientConnectionResetError):
            await ws.ping()
    assert [(message.type, message.data, message.extra) for message in seen] == [(8, 1001, "good bye")]


@on_both_loops
async def test_closing_without_a_code() -> None:
    payloads: list[bytes] = []

    async def handler(peer: Peer) -> None:
        payloads.append((await peer.frame())[1])
        await peer.send(b"\x88\x00")

    async with bare_server(handler) as port, connected(port) as ws:
        assert await ws.close(code=0)
        assert ws.close_code == 0
    assert payloads == [b""]


@on_both_loops
async def test_closing_from_the_servers_side() -> None:
    async def handler(ws: web.WebSocketResponse) -> None:
        await ws.send_str("last")
        await ws.close(code=4321, message=b"enough")
        assert ws.close_code == 1000

    async with serving(handler) as port, connected(port) as ws:
        assert await ws.receive_str() == "last"
        assert await ws.receive() == (WSMsgType.CLOSE, 4321, "enough")
        assert ws.closed
        assert ws.close_code == 4321
        assert await ws.receive() == CLOSED


@on_both_loops
async def test_a_close_frame_without_a_code_is_answered_at_once() -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(b"\x88\x00")
        assert await peer.close_code() == 1000
        # It does not hang up: that is up to the client.
        assert await peer.reader.read() == b""

    # Without a limit: waiting for a second close frame would have no end.
    async with bare_server(handler) as port, connected(port, timeout=ClientWSTimeout()) as ws:
        assert await ws.receive() == (WSMsgType.CLOSE, 0, "")
        assert (ws.closed, ws.close_code) == (True, 0)


@on_both_loops
async def test_closing_by_hand() -> None:
    async def handler(ws: web.WebSocketResponse) -> None:
        await ws.close()

    async with serving(handler) as port, connected(port, autoclose=False) as ws:
        assert await ws.receive() == (WSMsgType.CLOSE, 1000, "")
        assert not ws.closed
        await ws.send_str("still allowed")
        assert await ws.close()
        assert ws.closed


@on_both_loops
async def test_iteration_ends_with_the_close_frame() -> None:
    async def handler(ws: web.WebSocketResponse) -> None:
        for number in range(3):
            await ws.send_str(str(number))
        await ws.close()

    async with serving(handler) as port, connected(port) as ws:
        assert [message.data async for message in ws] == ["0", "1", "2"]
        assert ws.closed
        assert [message async for message in ws] == []


@on_both_loops
async def test_a_receive_that_waits_returns() -> None:
    async with serving(until_closed) as port, connected(port) as ws:
        receiving = asyncio.create_task(ws.receive())
        await asyncio.sleep(0.05)
        assert await ws.close()
        assert await receiving == (WSMsgType.CLOSING, None, None)
        assert ws.close_code == 1000


@on_both_loops
async def test_two_tasks_close_while_a_third_receives() -> None:
    async with serving(until_closed) as port, connected(port) as ws:
        receiving = asyncio.create_task(ws.receive())
        await asyncio.sleep(0.05)
        closed = await asyncio.gather(ws.close(), ws.close(code=4000))
        assert sorted(closed) == [False, True]
        assert (await receiving).type in (WSMsgType.CLOSING, WSMsgType.CLOSED)
        assert ws.close_code == 1000


@on_both_loops
async def test_what_comes_before_the_reply_to_our_close_frame_is_dropped() -> None:
    async def handler(peer: Peer) -> None:
        await peer.close_code()
        await peer.send(b"\x81\x04data" * 10_000, b"\x89\x00", b"\x88\x02\x03\xe9")

    async with bare_server(handler) as port, connected(port) as ws:
        assert await ws.close()
        assert ws.close_code == 1001


@on_both_loops
async def test_a_server_that_does_not_reply_to_our_close_frame() -> None:
    async def handler(peer: Peer) -> None:
        await peer.close_code()
        # The server keeps sending, and that does not prolong it.
        with contextlib.suppress(ConnectionError):
            while not peer.reader.at_eof():
                await peer.send(b"\x81\x00")
                await asyncio.sleep(0.01)

    limit = ClientWSTimeout(ws_close=0.1)
    async with bare_server(handler) as port, connected(port, timeout=limit) as ws:
        assert await ws.close()
        assert ws.closed
        assert ws.close_code is WSCloseCode.ABNORMAL_CLOSURE
        assert isinstance(ws.exception(), TimeoutError)


@on_both_loops
async def test_a_server_that_hangs_up_on_our_close_frame() -> None:
    async def handler(peer: Peer) -> None:
        await peer.close_code()

    async with bare_server(handler) as port, connected(port) as ws:
        assert await ws.close()
        assert ws.close_code is WSCloseCode.ABNORMAL_CLOSURE
        assert isinstance(ws.exception(), ClientConnectionResetError)


@on_both_loops
async def test_a_close_that_is_cancelled() -> None:
    async def handler(peer: Peer) -> None:
        await peer.close_code()
        assert await peer.reader.read() == b""

    async with bare_server(handler) as port, connected(port) as ws:
        closing = asyncio.create_task(ws.close())
        await asyncio.sleep(0.05)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert ws.closed
        assert ws.close_code is WSCloseCode.ABNORMAL_CLOSURE
        assert ws.exception() is None


# Timeouts of receive().


@on_both_loops
async def test_a_receive_that_times_out_loses_nothing() -> None:
    async def handler(ws: web.WebSocketResponse) -> None:
        await ws.receive()
        await ws.send_str("late")
        await until_closed(ws)

    limit = ClientWSTimeout(ws_receive=0.05, ws_close=10)
    async with serving(handler) as port, connected(port, timeout=limit) as ws:
        with pytest.raises(TimeoutError):
            await ws.receive()
        with pytest.raises(TimeoutError):
            await ws.receive_str(timeout=0.01)
        assert ws.close_code is WSCloseCode.ABNORMAL_CLOSURE
        assert not ws.closed
        await ws.send_str("go on")
        assert await ws.receive_str(timeout=10) == "late"


@on_both_loops
async def test_a_receive_that_is_cancelled_loses_nothing() -> None:
    async def handler(ws: web.WebSocketResponse) -> None:
        for number in range(200):
            await ws.send_str(str(number))
            await asyncio.sleep(0)
        await until_closed(ws)

    async with serving(handler) as port, connected(port) as ws:
        seen: list[str] = []

        async def receive() -> None:
            while len(seen) < 200:
                seen.append(await ws.receive_str())

        while len(seen) < 200:
            receiving = asyncio.create_task(receive())
            await asyncio.sleep(0.001)
            receiving.cancel()
            await asyncio.wait([receiving])
        assert seen == [str(number) for number in range(200)]


@on_both_loops
async def test_one_task_receives_at_a_time() -> None:
    async with serving(until_closed) as port, connected(port) as ws:
        receiving = asyncio.create_task(ws.receive())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="Concurrent call to receive"):
            await ws.receive()
        await ws.close()
        await receiving


# Pings.


@on_both_loops
async def test_pings_are_answered_unseen() -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(b"\x89\x04ping", b"\x8a\x00", b"\x81\x04text")
        assert await peer.frame() == (0x8A, b"ping")
        await reply_to_close(peer)

    async with bare_server(handler) as port, connected(port) as ws:
        assert await ws.receive_str() == "text"


@on_both_loops
async def test_pings_by_hand() -> None:
    async def handler(ws: web.WebSocketResponse) -> None:
        await ws.ping(b"theirs")
        assert (await ws.receive()).type is TheirMsgType.PING
        await ws.pong(b"theirs")
        message = await ws.receive()
        assert (message.type, message.data) == (TheirMsgType.PONG, b"ours")
        await until_closed(ws)

    async with serving(handler, autoping=False) as port, connected(port, autoping=False) as ws:
        assert await ws.receive() == (WSMsgType.PING, b"theirs", "")
        await ws.ping("text")
        assert await ws.receive() == (WSMsgType.PONG, b"theirs", "")
        await ws.pong("ours")


@on_both_loops
async def test_a_ping_that_cannot_be_answered_is_no_error() -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(b"\x89\x00", b"\x81\x04text", b"\x89\x00")

    async with bare_server(handler) as port, connected(port) as ws:
        await asyncio.sleep(0.1)
        assert await ws.receive_str() == "text"
        assert await ws.receive() == CLOSED


# Heartbeats.


@on_both_loops
async def test_a_heartbeat_is_not_seen() -> None:
    async def handler(ws: web.WebSocketResponse) -> None:
        for _ in range(2):
            assert (await ws.receive()).type is TheirMsgType.PING
            await ws.pong()
        await ws.send_str("alive")
        await until_closed(ws)

    async with serving(handler, autoping=False) as port, connected(port, heartbeat=0.4) as ws:
        assert await ws.receive_str() == "alive"


@pytest.mark.parametrize("receiving", [True, False])
@on_both_loops
async def test_a_server_without_a_pulse_is_given_up(receiving: bool) -> None:
    async def handler(peer: Peer) -> None:
        assert await peer.frame() == (0x89, b"")
        # No close frame: there is no peer to read it.
        assert await peer.reader.read() == b""

    async with bare_server(handler) as port, connected(port, heartbeat=0.1) as ws:
        if receiving:
            message = await ws.receive()
            assert message.type is WSMsgType.ERROR
            assert message.data is ws.exception()
        else:
            await asyncio.sleep(0.3)
        assert ws.closed
        assert ws.close_code is WSCloseCode.ABNORMAL_CLOSURE
        assert isinstance(ws.exception(), ServerTimeoutError)
        assert str(ws.exception()) == "No PONG received after 0.05 seconds"
        assert await ws.receive() == CLOSED


@on_both_loops
async def test_any_byte_is_a_sign_of_life() -> None:
    async def handler(peer: Peer) -> None:
        # One message, byte by byte, for longer than a heartbeat.
        for byte in b"\x81\x1e" + b"x" * 30:
            await peer.send(bytes([byte]))
            await asyncio.sleep(0.02)
        # What comes first is this and no ping.
        assert await peer.frame() == (0x81, b"got it")
        await reply_to_close(peer)

    async with bare_server(handler) as port, connected(port, heartbeat=0.5) as ws:
        assert await ws.receive_str() == "x" * 30
        await ws.send_str("got it")


@on_both_loops
async def test_anything_that_comes_after_the_ping_will_do() -> None:
    async def handler(peer: Peer) -> None:
        for _ in range(2):
            assert await peer.frame() == (0x89, b"")
            await peer.send(b"\x81\x00")
        await peer.send(b"\x88\x00")
        await peer.close_code()

    async with bare_server(handler) as port, connected(port, heartbeat=0.4) as ws:
        assert [message.data async for message in ws] == ["", ""]


@on_both_loops
async def test_silence_while_we_do_not_read_is_no_reason() -> None:
    async def handler(peer: Peer) -> None:
        for _ in range(10_000):
            await peer.send(b"\x82\x7e\x04\x00", bytes(1024))
        await peer.close_code()
        await peer.send(b"\x88\x02\x03\xe8")

    async with bare_server(handler) as port, connected(port, heartbeat=0.2) as ws:
        # Ten megabytes wait, and our user is busy with something else.
        await asyncio.sleep(0.7)
        assert not ws.closed
        for _ in range(10_000):
            assert len(await ws.receive_bytes()) == 1024


@on_both_loops
async def test_closing_ends_the_heartbeat() -> None:
    frames: list[int] = []

    async def handler(peer: Peer) -> None:
        frames.append((await peer.frame())[0])
        await asyncio.sleep(0.2)
        await peer.send(b"\x88\x00")
        assert await peer.reader.read() == b""

    async with bare_server(handler) as port, connected(port, heartbeat=0.05) as ws:
        assert await ws.close()
        assert ws.close_code == 0
    assert frames == [0x88]
