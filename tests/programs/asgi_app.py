"""The ASGI application which the servers' tests run.

It is plain ASGI, without a framework, so that the server is what is tested.

    GET  /loop            the running loop's class, as JSON
    POST /echo            the body, as it arrives
    POST /sum             {"numbers": […]} -> {"sum": …}
    GET  /slow/<seconds>  answers after so long
    GET  /stream/<n>      n chunks of 64 KiB
    websocket             every message back

With the environment variable WHORL_TEST_LOG it appends a line to that file for each lifespan event.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CHUNK = b"whorl..." * 8192


def _note(line: str) -> None:
    path = os.environ.get("WHORL_TEST_LOG")
    if path:
        with open(path, "a") as log:
            log.write(f"{line}\n")


async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """The application."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "websocket":
        await _websocket(receive, send)
    else:
        await _http(scope, receive, send)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        _note(message["type"])
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _websocket(receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        kept = {key: message[key] for key in ("text", "bytes") if message.get(key) is not None}
        await send({"type": "websocket.send", **kept})


async def _http(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    _, route, *rest = scope["path"].split("/")
    if route == "echo":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            more = message.get("more_body", False)
            await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": True})
        await send({"type": "http.response.body"})
    elif route == "stream":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(int(rest[0])):
            await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
        await send({"type": "http.response.body"})
    elif route == "sum":
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        await _json(send, {"sum": sum(json.loads(body)["numbers"])})
    elif route == "slow":
        _note("slow")
        await asyncio.sleep(float(rest[0]))
        await _json(send, {"slept": float(rest[0])})
    elif route == "loop":
        kind = type(asyncio.get_running_loop())
        await _json(send, {"loop": f"{kind.__module__}.{kind.__qualname__}"})
    else:
        await _json(send, {"error": "no such page"}, status=404)


async def _json(send: Send, value: object, status: int = 200) -> None:
    body = json.dumps(value).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
