"""Whole programs: HTTP servers, an HTTP client, child processes."""

from __future__ import annotations

import asyncio
import importlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench.workloads import DOCUMENT, requests

if TYPE_CHECKING:
    from bench.workloads import Batch, Setting

_KEPT: list[Any] = []


async def aiohttp_server(setting: Setting) -> str:
    """An aiohttp application with one JSON route; no access log."""
    web: Any = importlib.import_module("aiohttp.web")

    async def respond(request: Any) -> Any:
        return web.json_response(DOCUMENT)

    application = web.Application()
    application.router.add_get("/", respond)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    _KEPT.append(runner)
    return "{}:{}".format(*runner.addresses[0])


async def uvicorn_server(setting: Setting) -> str:
    """A plain ASGI application with a JSON response, under uvicorn with httptools; no lifespan, no log."""
    uvicorn: Any = importlib.import_module("uvicorn")

    async def application(scope: Any, receive: Any, send: Any) -> None:
        body = json.dumps(DOCUMENT).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    # uvicorn binds by itself, as it does for its users: with a socket of ours, stock asyncio would leave
    # Nagle's algorithm on, and responses written in two parts would wait for delayed acknowledgements.
    quiet = {"lifespan": "off", "access_log": False, "log_level": "warning"}
    config = uvicorn.Config(application, host="127.0.0.1", port=0, http="httptools", ws="none", **quiet)
    server = uvicorn.Server(config)
    _KEPT.append(setting.loop.create_task(server.serve()))
    while not server.started:
        await asyncio.sleep(0.01)
    return "{}:{}".format(*server.servers[0].sockets[0].getsockname())


def aiohttp_client(setting: Setting) -> Batch:
    """aiohttp's client on the loop that is measured."""
    return requests.get(replace(setting, client="aiohttp"))


def spawn_true(setting: Setting) -> Batch:
    """`true`, started and waited for, one at a time."""
    count = 10

    async def main() -> None:
        for _ in range(count):
            process = await asyncio.create_subprocess_exec("/bin/true")
            if await process.wait() != 0:
                raise RuntimeError("true failed")

    def batch() -> int:
        setting.loop.run_until_complete(main())
        return count

    return batch
