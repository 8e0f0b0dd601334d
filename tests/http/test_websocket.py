"""Messages over a WebSocket: against aiohttp's own server, and against one that says any bytes."""

from __future__ import annotations

import asyncio
import json
import zlib
from typing import Any

import pytest
from aiohttp import WSMsgType as TheirMsgType
from aiohttp import web

from tests.http.websocket_support import Peer, bare_server, connected, on_both_loops, serving
from whorl.http.exceptions import ClientConnectionResetError, WSMessageTypeError
from whorl.http.websocket.messages import (
    WebSocketError,
    WSCloseCode,
    WSMessage,
    WSMessageTextBytes,
    WSMsgType,
)

pytestmark = pytest.mark.jumping_clock


async def echo(ws: web.WebSocketResponse) -> None:
    async for message in ws:
        if message.type is TheirMsgType.TEXT:
            await ws.send_str(message.data)
        else:
            await ws.send_bytes(message.data)


@pytest.mark.parametrize("offer", [0, 9, 15])
@on_both_loops
async def test_messages_of_all_sizes_come_back(offer: int) -> None:
    async with serving(echo, max_msg_size=0) as port, connected(port, offer=offer, max_msg_size=0) as ws:
        assert ws.compress == (15 if offer else 0)
        for size in (0, 1, 125, 126, 65535, 65536, 300_000):
            text = "äé€😀"[: size % 5] + "x" * (size - size % 5)
            await ws.send_str(text)
            assert await ws.receive() == (WSMsgType.TEXT, text, "")
            data = bytes(range(256)) * (size // 256) + b"." * (size % 256)
            await ws.send_bytes(data)
            assert await ws.receive() == (WSMsgType.BINARY, data, "")


@on_both_loops
async def test_json_and_what_is_not_bytes_but_like_it() -> None:
    async with serving(echo) as port, connected(port) as ws:
        await ws.send_json({"number": 1})
        assert await ws.receive_json() == {"number": 1}
        await ws.send_json_bytes([1], dumps=lambda value: json.dumps(value).encode())
        message = await ws.receive()
        assert (message.type, message.json()) == (WSMsgType.BINARY, [1])
        await ws.send_bytes(bytearray(b"array"))
        assert await ws.receive_bytes() == b"array"
        await ws.send_bytes(memoryview(b"--view--")[2:-2])
        assert await ws.receive_bytes() == b"view"
        await ws.send_frame(b"frame", WSMsgType.TEXT)
        assert await ws.receive_str() == "frame"


@on_both_loops
async def test_the_classes_of_messages() -> None:
    async with serving(echo) as port:
        async with connected(port) as ws:
            await ws.send_str("text")
            message = await ws.receive()
            assert type(message) is WSMessage
            assert message.type is WSMsgType.TEXT
        async with connected(port, decode_text=False) as ws:
            await ws.send_str("täxt")
            message = await ws.receive()
            assert type(message) is WSMessageTextBytes
            assert message == (WSMsgType.TEXT, "täxt".encode(), "")
            await ws.send_str("[1]")
            assert await ws.receive_str() == b"[1]"
            await ws.send_str("[1]")
            assert await ws.receive_json() == [1]


@on_both_loops
async def test_a_message_of_another_type_than_was_requested() -> None:
    async with serving(echo) as port, connected(port) as ws:
        await ws.send_str("text")
        with pytest.raises(WSMessageTypeError, match="Received message 1:'text' is not WSMsgType.BINARY"):
            await ws.receive_bytes()
        await ws.send_bytes(b"bytes")
        with pytest.raises(WSMessageTypeError, match="Received message 2:b'bytes' is not WSMsgType.TEXT"):
            await ws.receive_json()


@on_both_loops
async def test_wrong_arguments_raise_and_send_nothing() -> None:
    async with serving(echo) as port, connected(port) as ws:
        with pytest.raises(TypeError, match="use send_bytes"):
            await ws.send_str(b"bytes")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="use send_str"):
            await ws.send_bytes("text")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="a ping frame takes at most 125 bytes, not 126"):
            await ws.ping(bytes(126))
        with pytest.raises(ValueError, match="opcode 3 cannot be sent"):
            await ws.send_frame(b"", 3)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"compress takes 9 to 15 .*, not -1"):
            await ws.send_str("text", compress=-1)
        with pytest.raises(ValueError, match="close code 1006 must not be sent"):
            await ws.close(code=WSCloseCode.ABNORMAL_CLOSURE)
        with pytest.raises(ValueError, match="at most 123 bytes, not 124"):
            await ws.close(message=bytes(124))
        await ws.send_str("alive")
        assert await ws.receive_str() == "alive"


@on_both_loops
async def test_the_subprotocol() -> None:
    async with serving(echo, protocols=("other", "second")) as port:
        async with connected(port, protocols=("first", "second")) as ws:
            assert ws.protocol == "second"
        async with connected(port) as ws:
            assert ws.protocol is None


@on_both_loops
async def test_extra_info_is_the_transports() -> None:
    async with serving(echo) as port, connected(port) as ws:
        assert ws.get_extra_info("peername") == ("127.0.0.1", port)
        assert ws.get_extra_info("nothing", "default") == "default"
        await ws.close()
        assert ws.get_extra_info("peername") is None


# Compression.


@on_both_loops
async def test_compression_for_single_messages() -> None:
    seen: list[int] = []
    inflater = zlib.decompressobj(wbits=-15)

    async def handler(peer: Peer) -> None:
        while True:
            first, payload = await peer.frame()
            if first == 0x88:
                await peer.send(b"\x88\x00")
                return
            seen.append(first)
            text = inflater.decompress(payload + b"\x00\x00\xff\xff") if first & 0x40 else payload
            assert text == b"the same text, the same text"

    fields = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
    async with bare_server(handler, response_fields=fields) as port, connected(port, offer=15) as ws:
        # A window of its own in between, and none at all: what the server inflates stays in step.
        for compress in (None, None, 9, None, 0, None, 15, None):
            await ws.send_str("the same text, the same text", compress=compress)
    assert seen == [0xC1, 0xC1, 0xC1, 0xC1, 0x81, 0xC1, 0xC1, 0xC1]


@on_both_loops
async def test_without_an_agreement_nothing_is_compressed() -> None:
    async with serving(echo, compress=False) as port, connected(port, offer=15) as ws:
        assert ws.compress == 0
        await ws.send_str("plain", compress=15)
        assert await ws.receive_str() == "plain"


@on_both_loops
async def test_each_message_by_itself_if_agreed() -> None:
    sizes: list[int] = []

    async def handler(peer: Peer) -> None:
        deflater = zlib.compressobj(wbits=-9)
        for _ in range(2):
            _, payload = await peer.frame()
            sizes.append(len(payload))
            text = zlib.decompressobj(wbits=-10).decompress(payload + b"\x00\x00\xff\xff")
            compressed = (deflater.compress(text) + deflater.flush(zlib.Z_FULL_FLUSH))[:-4]
            await peer.send(bytes([0xC1, len(compressed)]), compressed)
        await peer.close_code()
        await peer.send(b"\x88\x02\x03\xe8")

    fields = (
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=10; "
        "server_max_window_bits=9; client_no_context_takeover; server_no_context_takeover\r\n"
    )
    async with bare_server(handler, response_fields=fields) as port, connected(port, offer=15) as ws:
        assert (ws.compress, ws.client_notakeover) == (10, True)
        for _ in range(2):
            await ws.send_str("once, and once more")
            assert await ws.receive_str() == "once, and once more"
    assert sizes[0] == sizes[1]


@on_both_loops
async def test_a_bomb_is_refused() -> None:
    deflater = zlib.compressobj(wbits=-15)
    bomb = deflater.compress(bytes(50_000_000)) + deflater.flush(zlib.Z_SYNC_FLUSH)
    codes: list[int] = []

    async def handler(peer: Peer) -> None:
        await peer.send(b"\xc2\x7f", (len(bomb) - 4).to_bytes(8, "big"), bomb[:-4])
        codes.append(await peer.close_code())

    fields = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
    async with bare_server(handler, response_fields=fields) as port, connected(port, offer=15) as ws:
        message = await ws.receive()
        assert message.type is WSMsgType.ERROR
        assert message.data.code == ws.close_code == WSCloseCode.MESSAGE_TOO_BIG
        assert str(message.data).startswith("Decompressed message exceeds size limit 4194304")
    assert codes == [1009]


# What the server may do wrong.


@pytest.mark.parametrize(
    ("wire", "code", "text"),
    [
        (b"\xc1\x01x", 1002, "Received frame with non-zero reserved bits"),
        (b"\x83\x00", 1002, "Received frame with unknown opcode 0x3"),
        (b"\x81\x80", 1002, "Received masked frame from the server"),
        (b"\x80\x00", 1002, "Received continuation frame, but no message was started"),
        (b"\x01\x00\x81\x00", 1002, "Received text frame before the last message was finished"),
        (b"\x09\x00", 1002, "Received fragmented ping frame"),
        (b"\x89\x7e\x00\x7e", 1002, "Received ping frame with more than 125 bytes"),
        (b"\x88\x02\x03\xed", 1002, "Received close frame with invalid code 1005"),
        (b"\x81\x01\xff", 1007, "Text message is not valid UTF-8"),
        (b"\x88\x03\x03\xe8\xff", 1007, "Reason in close frame is not valid UTF-8"),
        (
            b"\x82\x7e\x03\xe9",
            1009,
            "Message size 1001 exceeds limit 1000: raise max_msg_size, or 0 for no limit",
        ),
    ],
)
@on_both_loops
async def test_the_close_frame_says_what_the_server_did_wrong(wire: bytes, code: int, text: str) -> None:
    codes: list[int] = []

    async def handler(peer: Peer) -> None:
        await peer.send(b"\x81\x06before", wire, b"\x81\x05after")
        codes.append(await peer.close_code())

    async with bare_server(handler) as port, connected(port, max_msg_size=1000) as ws:
        assert await ws.receive() == (WSMsgType.TEXT, "before", "")
        message = await ws.receive()
        assert message.type is WSMsgType.ERROR
        assert type(message.data) is WebSocketError
        assert (message.data.code, str(message.data), message.extra) == (code, text, None)
        assert ws.closed
        assert ws.close_code == code
        assert ws.exception() is None
        assert await ws.receive() == (WSMsgType.CLOSED, None, None)
    assert codes == [code]


@on_both_loops
async def test_what_comes_after_an_error_is_dropped_and_what_came_before_can_be_replied_to() -> None:
    flooded = asyncio.Event()
    received: list[Any] = []

    async def handler(peer: Peer) -> None:
        # There is no receiver yet: it still has to be read, and not kept.
        await peer.send(b"\x41\x01x", b"A" * 4_000_000)
        flooded.set()
        received.append(await peer.frame())
        await peer.close_code()

    async with bare_server(handler, early=b"\x81\x04ping") as port, connected(port) as ws:
        await flooded.wait()
        assert await ws.receive_str() == "ping"
        await ws.send_str("pong")
        assert (await ws.receive()).type is WSMsgType.ERROR
    assert received == [(0x81, b"pong")]


@pytest.mark.parametrize("reset", [False, True])
@on_both_loops
async def test_the_connection_ends_without_a_close_frame(reset: bool) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(b"\x81\x04last")
        await peer.frame()
        if reset:
            peer.writer.transport.abort()

    async with bare_server(handler) as port, connected(port) as ws:
        assert await ws.receive_str() == "last"
        await ws.send_str("got it")
        assert await ws.receive() == (WSMsgType.CLOSED, None, None)
        assert ws.close_code is WSCloseCode.ABNORMAL_CLOSURE
        assert isinstance(ws.exception(), ClientConnectionResetError)
        assert ws.closed
        with pytest.raises(ClientConnectionResetError):
            await ws.send_str("too late")
        assert await ws.receive() == (WSMsgType.CLOSED, None, None)


# Flow control.


@on_both_loops
async def test_a_flood_is_not_read_before_it_is_received() -> None:
    count = 30_000
    sent = asyncio.Event()

    async def handler(peer: Peer) -> None:
        for number in range(count):
            await peer.send(b"\x82\x7e\x04\x00", number.to_bytes(4, "big"), bytes(1020))
        sent.set()
        await peer.close_code()
        await peer.send(b"\x88\x02\x03\xe8")

    async with bare_server(handler) as port, connected(port) as ws:
        await asyncio.sleep(0.2)
        # 30 MB do not fit into the buffers of two sockets and 256 KiB.
        assert not sent.is_set()
        for number in range(count):
            message = await ws.receive()
            assert message.data[:4] == number.to_bytes(4, "big")
        assert sent.is_set()


@on_both_loops
async def test_many_tiny_messages_in_one_piece_all_come() -> None:
    count = 50_000

    async def handler(peer: Peer) -> None:
        await peer.send(b"\x81\x00" * count)

    # The connection is lost long before they are received.
    async with bare_server(handler) as port, connected(port) as ws:
        await asyncio.sleep(0.1)
        seen = 0
        async for message in ws:
            assert message == (WSMsgType.TEXT, "", "")
            seen += 1
        assert seen == count


@on_both_loops
async def test_sending_waits_for_a_server_that_does_not_read() -> None:
    reads = asyncio.Event()

    async def handler(peer: Peer) -> None:
        await reads.wait()
        for _ in range(64):
            first, payload = await peer.frame()
            assert (first, len(payload)) == (0x82, 250_000)
        await peer.close_code()
        await peer.send(b"\x88\x02\x03\xe8")

    async with bare_server(handler) as port, connected(port) as ws:

        async def send() -> None:
            for _ in range(64):
                await ws.send_bytes(bytes(250_000))

        sending = asyncio.create_task(send())
        done, _ = await asyncio.wait([sending], timeout=0.3)
        assert not done
        reads.set()
        await sending
