"""Thousands of requests through a proxy that delays, cuts, truncates and resets: every one is accounted
for."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import gc
import hashlib
import os
import random
import socket
import struct
import zlib
from typing import Any

import pytest
from aiohttp import web

from tests.http.raw_support import until

#: Seconds that each run sends requests for.
DURATION = 3.0
TASKS = 40


class Faults:
    """What goes wrong with a connection, drawn from a seeded generator."""

    def __init__(self, dice: random.Random) -> None:
        #: How bytes are handed on.
        self.shape = dice.choices(["whole", "pieces", "delayed"], [4, 4, 2])[0]
        #: How it ends.
        self.end = dice.choices(["truncate", "reset", "swallow", "refuse", "none"], [7, 7, 1, 1, 4])[0]
        #: After so many bytes of the responses.
        self.after = int(10 ** (dice.random() * 6))
        self.sizes = [dice.choice([1, 2, 3, 7, 100, 1000, 65_536]) for _ in range(8)]
        self.delays = [dice.random() * 0.004 for _ in range(8)]


class Proxy:
    """Hands on what it gets between a client and a server, with faults."""

    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self._dice = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        faults = Faults(self._dice)
        self.connections += 1
        up_writer: asyncio.StreamWriter | None = None
        try:
            if faults.end == "refuse":
                self._reset(writer)
                return
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._port)
            upwards = asyncio.ensure_future(self._copy(reader, up_writer, None))
            try:
                await self._copy(up_reader, writer, faults)
            finally:
                upwards.cancel()
                await asyncio.gather(upwards, return_exceptions=True)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            for each in (writer, up_writer):
                if each is not None:
                    each.close()
                    with contextlib.suppress(BaseException):
                        await each.wait_closed()
            self._tasks.discard(task)

    @staticmethod
    def _reset(writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        # The other side may have gone first: there is no socket then, or a closed one.
        with contextlib.suppress(OSError, AttributeError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, faults: Faults | None
    ) -> None:
        passed = turn = 0
        while data := await reader.read(65_536):
            while data:
                size = len(data)
                if faults is not None:
                    if faults.shape != "whole":
                        size = faults.sizes[turn % 8]
                    if faults.end != "none":
                        size = min(size, faults.after - passed)
                    if not size:
                        await self._end(faults, writer)
                        return
                piece, data = data[:size], data[size:]
                writer.write(piece)
                await writer.drain()
                passed += size
                turn += 1
                if faults is not None and faults.shape == "delayed" and turn < 100:
                    await asyncio.sleep(faults.delays[turn % 8])
                elif turn < 200:
                    await asyncio.sleep(0)

    async def _end(self, faults: Faults, writer: asyncio.StreamWriter) -> None:
        if faults.end == "reset":
            self._reset(writer)
        elif faults.end == "swallow":
            # Silence, until the client's patience is at its end.
            await asyncio.sleep(3600)


def _body(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


async def _respond(request: web.Request) -> web.StreamResponse:
    seed, size, how = int(request.query["seed"]), int(request.query["size"]), request.match_info["how"]
    body = _body(seed, size)
    if request.method in ("POST", "PUT"):
        body += hashlib.sha256(await request.read()).digest()
    if how == "redirect":
        raise web.HTTPFound(f"/sized?{request.query_string}")
    if how == "sized":
        return web.Response(body=body)
    headers = {"Content-Encoding": "deflate"} if how == "coded" else {}
    response = web.StreamResponse(headers=headers)
    response.enable_chunked_encoding()
    await response.prepare(request)
    content = zlib.compress(body) if how == "coded" else body
    for start in range(0, len(content), 3000):
        await response.write(content[start : start + 3000])
    await response.write_eof()
    return response


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def _run(client: Any, seed: int) -> tuple[collections.Counter[str], list[str]]:
    """Sends requests for a while; returns what became of them, and what is wrong."""
    application = web.Application(client_max_size=2**24)
    application.router.add_route("*", "/{how}", _respond)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    outcomes: collections.Counter[str] = collections.Counter()
    wrong: list[str] = []
    loop = asyncio.get_running_loop()
    try:
        async with Proxy(runner.addresses[0][1], seed) as proxy:
            dice = random.Random(seed)
            connector = client.TCPConnector(limit=TASKS // 2)
            limits = client.ClientTimeout(total=3, sock_read=0.5)
            async with client.ClientSession(connector=connector, timeout=limits) as session:

                async def one(number: int) -> None:
                    size = dice.choice([0, 1, 10, 1000, 5000, 66_000, 300_000])
                    how = dice.choice(["sized", "sized", "chunked", "coded", "redirect"])
                    method = dice.choice(["GET", "GET", "GET", "POST", "PUT"])
                    sent = _body(number, dice.choice([0, 10, 1000, 200_000]))
                    style = dice.choice(["read", "stream", "text", "drop", "cancel"])
                    url = f"http://127.0.0.1:{proxy.port}/{how}?seed={number}&size={size}"
                    options: dict[str, Any] = {}
                    if method != "GET":

                        async def pieces() -> Any:
                            for start in range(0, len(sent), 10_000):
                                yield sent[start : start + 10_000]

                        options["data"] = sent if how == "redirect" or dice.random() < 0.5 else pieces()
                    expected = _body(number, size)
                    # A POST that is redirected becomes a GET.
                    if method == "PUT" or (method == "POST" and how != "redirect"):
                        expected += hashlib.sha256(sent).digest()
                    async with session.request(method, url, **options) as response:
                        assert response.status == 200, response.status
                        if style == "drop":
                            return
                        if style == "stream":
                            body = b"".join([piece async for piece in response.content.iter_chunked(5000)])
                        elif style == "text":
                            body = (await response.text("latin-1")).encode("latin-1")
                        else:
                            body = await response.read()
                    if body != expected:
                        wrong.append(
                            f"{number}: {method} {how} {style}: {len(body)} of {len(expected)} bytes"
                        )

                async def worker(first: int) -> None:
                    number = first
                    while loop.time() < end:
                        number += TASKS
                        task = asyncio.ensure_future(one(number))
                        if dice.random() < 0.05:
                            loop.call_later(dice.random() * 0.05, task.cancel)
                        await asyncio.wait({task})
                        if task.cancelled():
                            outcomes["cancelled"] += 1
                        elif (error := task.exception()) is None:
                            outcomes["completed"] += 1
                        elif isinstance(error, client.ClientError | asyncio.TimeoutError):
                            outcomes[type(error).__name__] += 1
                        else:
                            wrong.append(f"{number}: {error!r}")

                end = loop.time() + DURATION
                await asyncio.gather(*map(worker, range(TASKS)))
                await until(lambda: not connector._acquired, 2)
            outcomes["connections"] = proxy.connections
    finally:
        await runner.cleanup()
    return outcomes, wrong


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_every_request_is_accounted_for(ours: Any, seed: int) -> None:
    """The response is byte by byte what was sent, or raises what is documented; and nothing is left."""
    tasks, files = asyncio.all_tasks(), _descriptors()
    outcomes, wrong = await _run(ours, seed)
    print(dict(outcomes))
    assert not wrong, wrong[:10]
    assert outcomes["completed"] > 100
    # Each kind of fault has been met.
    assert {"ServerDisconnectedError", "ClientPayloadError", "SocketTimeoutError", "cancelled"} <= set(
        outcomes
    )
    gc.collect()
    await until(lambda: asyncio.all_tasks() <= tasks, 2)
    await until(lambda: _descriptors() <= files, 2)
