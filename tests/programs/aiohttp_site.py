"""The aiohttp site which the tests of aiohttp are about: a server and a client on the running loop."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from tests.programs.support import Tls

MEBIBYTE = 1 << 20
PATTERN = hashlib.sha256(b"whorl").digest() * (MEBIBYTE // 32)


@asynccontextmanager
async def serving(
    *routes: web.RouteDef,
    tls: Tls | None = None,
    handler_cancellation: bool = False,
    shutdown_timeout: float = 5,
) -> AsyncIterator[tuple[str, web.AppRunner]]:
    """A server of `routes` on a port of 127.0.0.1; yields its URL without a path, and its runner."""
    app = web.Application(client_max_size=64 * MEBIBYTE)
    app.add_routes(routes)
    runner = web.AppRunner(app, handler_cancellation=handler_cancellation, shutdown_timeout=shutdown_timeout)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls.server if tls else None).start()
        port = runner.addresses[0][1]
        yield (f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"), runner
    finally:
        await runner.cleanup()


@asynccontextmanager
async def client(tls: Tls | None = None, limit: int = 100) -> AsyncIterator[aiohttp.ClientSession]:
    """A client session which trusts the test authority when `tls` is given."""
    connector = aiohttp.TCPConnector(limit=limit, ssl=tls.client if tls else True)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session
    await asyncio.sleep(0)


async def peer(request: web.Request) -> web.Response:
    """Answers with the port the request came from: the same port is the same connection."""
    assert request.transport is not None
    return web.Response(text=str(request.transport.get_extra_info("peername")[1]))


async def digest(request: web.Request) -> web.Response:
    """Answers with length and SHA-256 of the body, read as it arrives."""
    seen, size = hashlib.sha256(), 0
    async for piece in request.content.iter_any():
        seen.update(piece)
        size += len(piece)
    return web.json_response({"size": size, "sha256": seen.hexdigest()})


async def stream(request: web.Request) -> web.StreamResponse:
    """A chunked response of as many MiB as the path says."""
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    for _ in range(int(request.match_info["mebibytes"])):
        await response.write(PATTERN)
    await response.write_eof()
    return response


async def websocket_echo(request: web.Request) -> web.WebSocketResponse:
    """Sends every message back, until the client closes."""
    ws = web.WebSocketResponse(max_msg_size=32 * MEBIBYTE)
    await ws.prepare(request)
    async for message in ws:
        if message.type is aiohttp.WSMsgType.TEXT:
            await ws.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await ws.send_bytes(message.data)
    return ws
