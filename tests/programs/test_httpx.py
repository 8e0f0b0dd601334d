"""httpx's async client, which runs on anyio's streams, against a server on the same loop."""

# ruff: noqa: E402 - the package is looked for before it is imported

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.programs.support import Harness, Tls, require_package

require_package("httpx")

import httpx


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A small HTTP/1.1 server: the body comes back; ``/slow`` never answers, ``/cut`` breaks off."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            lines = head.decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
            path = lines[0].split()[1]
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            if path == "/slow":
                await reader.read()
                return
            if path == "/cut":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\ncut")
                return
            if path == "/chunked":
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                for _ in range(100):
                    writer.write(b"2710\r\n" + b"c" * 10_000 + b"\r\n")
                    await writer.drain()
                writer.write(b"0\r\n\r\n")
            else:
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode())
                writer.write(body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the client is done
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@asynccontextmanager
async def session(tls: Tls | None = None, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose base URL is a server's."""
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls.server if tls else None) as server:
        port = server.sockets[0].getsockname()[1]
        base = f"http{'s' if tls else ''}://localhost:{port}"
        verify = tls.client if tls else False
        async with httpx.AsyncClient(base_url=base, verify=verify, trust_env=False, **options) as client:
            yield client
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_requests(run: Harness, tls: Tls, encrypted: bool) -> None:
    async def main() -> None:
        async with session(tls if encrypted else None, timeout=30) as client:
            for number in range(50):
                assert (await client.post("/", content=str(number))).text == str(number)
            responses = await asyncio.gather(*(client.post("/", content=str(n) * 1000) for n in range(60)))
            assert [response.text for response in responses] == [str(n) * 1000 for n in range(60)]
            big = bytes(range(256)) * 16384
            assert (await client.post("/", content=big)).content == big
            async with client.stream("GET", "/chunked") as response:
                assert sum([len(part) async for part in response.aiter_bytes()]) == 1_000_000

    run(main())


def test_timeouts_cancellation_and_faults(run: Harness) -> None:
    async def main() -> None:
        async with session() as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.get("/slow", timeout=0.1)
            request = asyncio.ensure_future(client.get("/slow", timeout=None))
            await asyncio.sleep(0.05)
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get("/cut")
            assert (await client.post("/", content="alive")).text == "alive"
        with pytest.raises(httpx.ConnectError):
            async with httpx.AsyncClient(trust_env=False) as client:
                await client.get("http://127.0.0.1:1/")

    run(main())


def test_certificate_is_checked(run: Harness, tls: Tls) -> None:
    async def main() -> None:
        async with session(tls) as good:
            async with httpx.AsyncClient(base_url=good.base_url, trust_env=False) as client:
                with pytest.raises(httpx.ConnectError, match=r"(?i)certificate"):
                    await client.get("/")
            assert (await good.post("/", content="good")).text == "good"

    run(main())
