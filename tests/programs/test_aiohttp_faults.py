"""aiohttp when things go wrong: peers that stall, leave or break off, cancellation, timeouts, shutdown."""

# ruff: noqa: E402 - the package is looked for before it is imported

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.programs.support import Harness, Tls, require_package

require_package("aiohttp")

import aiohttp
from aiohttp import web

from tests.programs.aiohttp_site import MEBIBYTE, PATTERN, client, peer, serving


def test_slow_reader_holds_the_server_back(run: Harness) -> None:
    """Flow control: a server which awaits its writes gets no further than buffers reach until it is read."""

    async def main() -> None:
        written = 0

        async def endless(request: web.Request) -> web.StreamResponse:
            nonlocal written
            response = web.StreamResponse()
            await response.prepare(request)
            for _ in range(64):
                await response.write(PATTERN)
                written += 1
            return response

        async with (
            serving(web.get("/", endless)) as (url, _),
            client() as session,
            session.get(url) as response,
        ):
            before = -1
            while before != written:  # until it no longer advances
                before = written
                await asyncio.sleep(0.2)
            assert written < 64
            assert len(await response.read()) == 64 * MEBIBYTE
            assert written == 64

    run(main())


def test_tls_refuses_a_stranger(run: Harness, tls: Tls) -> None:
    async def main() -> None:
        async with serving(web.get("/", peer), tls=tls) as (url, _):
            async with client() as session:  # trusts the system's authorities only
                with pytest.raises(aiohttp.ClientConnectorCertificateError):
                    await session.get(url)
            async with client(tls) as session, session.get(url) as response:
                assert response.status == 200

    run(main())


def test_client_that_goes_away_cancels_the_handler(run: Harness) -> None:
    async def main() -> None:
        entered, cancelled = asyncio.Event(), asyncio.Event()

        async def never(request: web.Request) -> web.Response:
            entered.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise
            raise AssertionError

        routes = (web.get("/never", never), web.get("/", peer))
        async with serving(*routes, handler_cancellation=True) as (url, _), client() as session:
            request = asyncio.ensure_future(session.get(f"{url}/never"))
            await entered.wait()
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            await cancelled.wait()
            async with session.get(url) as response:
                assert response.status == 200

    run(main())


def test_timeouts(run: Harness) -> None:
    async def main() -> None:
        async def never(request: web.Request) -> web.Response:
            await asyncio.Event().wait()
            raise AssertionError

        async def half(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Length": "10"})
            await response.prepare(request)
            await response.write(b"half.")
            await asyncio.Event().wait()
            raise AssertionError

        routes = (web.get("/never", never), web.get("/half", half))
        async with serving(*routes, handler_cancellation=True) as (url, _), client() as session:
            with pytest.raises(asyncio.TimeoutError):
                await session.get(f"{url}/never", timeout=aiohttp.ClientTimeout(total=0.1))
            with pytest.raises(asyncio.TimeoutError):
                async with asyncio.timeout(0.1):
                    await session.get(f"{url}/never")
            async with session.get(f"{url}/half", timeout=aiohttp.ClientTimeout(sock_read=0.2)) as response:
                with pytest.raises(asyncio.TimeoutError):
                    await response.read()

    run(main())


def test_shutdown_lets_a_request_finish(run: Harness) -> None:
    async def main() -> None:
        entered = asyncio.Event()

        async def slow(request: web.Request) -> web.Response:
            entered.set()
            await asyncio.sleep(0.2)
            return web.Response(text="finished")

        async with client() as session:
            async with serving(web.get("/", slow), shutdown_timeout=30) as (url, runner):
                request = asyncio.ensure_future(session.get(url))
                await entered.wait()
                await runner.cleanup()
                response = await request
                assert await response.text() == "finished"
            with pytest.raises(aiohttp.ClientConnectionError):
                await session.get(url)

    run(main())


def test_peers_that_break_off(run: Harness) -> None:
    async def main() -> None:
        async def reset(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Length": "1000"})
            await response.prepare(request)
            await response.write(b"some")
            assert request.transport is not None
            request.transport.abort()
            return response

        broken = asyncio.Event()

        async def upload(request: web.Request) -> web.Response:
            try:
                await request.read()
            except (aiohttp.ClientPayloadError, ConnectionError, web.RequestPayloadError):
                broken.set()
            return web.Response()

        routes = (web.get("/reset", reset), web.post("/upload", upload), web.get("/", peer))
        async with serving(*routes) as (url, runner), client() as session:
            with pytest.raises(aiohttp.ClientError):
                async with session.get(f"{url}/reset") as response:
                    await response.read()
            _, writer = await asyncio.open_connection(*runner.addresses[0])
            writer.write(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nsome")
            await writer.drain()
            await asyncio.sleep(0.05)
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close by a reset
            writer.transport.abort()
            await broken.wait()
            async with session.get(url) as response:
                assert response.status == 200

    run(main())


def test_dns_and_dual_stack(run: Harness) -> None:
    """A name is resolved in a thread; a refused address is followed by the next (happy eyeballs)."""

    async def main() -> None:
        async with serving(web.get("/", peer)) as (url, _), client() as session:
            port = url.rpartition(":")[2]
            async with session.get(f"http://localhost:{port}/") as response:
                assert response.status == 200
            with pytest.raises(aiohttp.ClientConnectorDNSError):
                await session.get("http://no-such-host.invalid/")

    run(main())
