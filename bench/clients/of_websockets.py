"""The WebSocket clients that are compared, each used as its documentation shows.

Each has one WebSocket. What it sends is compared with what comes back, byte by byte.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import Any, Protocol


class Echo(Protocol):
    """An open WebSocket, whose server sends each message back."""

    async def echo(self, times: int) -> None:
        """Sends the message, waits until it is back, and so on. Raises RuntimeError for another one."""


async def open_echo(name: str, url: str, message: bytes) -> Echo:
    """A WebSocket of the library called `name`, for one binary message that is sent again and again."""
    match name:
        case "whorl":
            return await AiohttpEcho.open("whorl.http", url, message)
        case "aiohttp":
            return await AiohttpEcho.open("aiohttp", url, message)
        case "websockets" | "picows.websockets":
            return await WebsocketsEcho.open(f"{name}.asyncio.client", url, message)
        case "picows":
            return await PicowsEcho.open(url, message)
        case _:
            raise LookupError(f"no WebSocket client is called {name!r}")


def _raise_for_message(received: bytes) -> None:
    raise RuntimeError(f"the echo differs from what was sent: {len(received)} bytes")


class AiohttpEcho:
    """aiohttp, or whorl.http, which has its API."""

    def __init__(self, session: Any, websocket: Any, message: bytes) -> None:
        self._session = session
        self._websocket = websocket
        self._message = message

    @classmethod
    async def open(cls, module: str, url: str, message: bytes) -> AiohttpEcho:
        """Connects."""
        session = importlib.import_module(module).ClientSession()
        return cls(session, await session.ws_connect(url), message)

    async def echo(self, times: int) -> None:
        """See :class:`Echo`."""
        websocket, message = self._websocket, self._message
        for _ in range(times):
            await websocket.send_bytes(message)
            received = await websocket.receive_bytes()
            if received != message:
                _raise_for_message(received)


class WebsocketsEcho:
    """websockets, or the module of picows that has its API."""

    def __init__(self, websocket: Any, message: bytes) -> None:
        self._websocket = websocket
        self._message = message

    @classmethod
    async def open(cls, module: str, url: str, message: bytes) -> WebsocketsEcho:
        """Connects."""
        return cls(await importlib.import_module(module).connect(url), message)

    async def echo(self, times: int) -> None:
        """See :class:`Echo`."""
        websocket, message = self._websocket, self._message
        for _ in range(times):
            await websocket.send(message)
            received = await websocket.recv()
            if received != message:
                _raise_for_message(received)


class PicowsEcho:
    """picows, whose frames come to a callback: what is sent next is sent from there."""

    def __init__(self, message: bytes) -> None:
        self._message = message
        self._transport: Any = None
        self._left = 0
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, url: str, message: bytes) -> PicowsEcho:
        """Connects."""
        picows: Any = importlib.import_module("picows")
        binary = picows.WSMsgType.BINARY
        self = cls(message)

        class Listener(picows.WSListener):
            def on_ws_frame(self, transport: Any, frame: Any, echo: PicowsEcho = self) -> None:
                received = frame.get_payload_as_bytes()
                if frame.msg_type != binary or received != message:
                    echo._done.set_exception(RuntimeError(f"another message: {len(received)} bytes"))
                    return
                echo._left -= 1
                if echo._left:
                    transport.send(binary, message)
                else:
                    echo._done.set_result(None)

        self._transport, _ = await picows.ws_connect(Listener, url)
        self._binary = binary
        return self

    async def echo(self, times: int) -> None:
        """See :class:`Echo`."""
        self._left = times
        self._done = asyncio.get_running_loop().create_future()
        self._transport.send(self._binary, self._message)
        await self._done
