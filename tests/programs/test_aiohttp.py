"""An aiohttp server and client, both on the loop under test."""

# ruff: noqa: E402 - the package is looked for before it is imported

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.programs.support import Harness, Tls, require_package

require_package("aiohttp")

import aiohttp
from aiohttp import web

from tests.programs.aiohttp_site import (
    MEBIBYTE,
    PATTERN,
    client,
    digest,
    peer,
    serving,
    stream,
    websocket_echo,
)


def test_keep_alive_serves_one_connection_after_another_request(run: Harness) -> None:
    async def main() -> None:
        async with serving(web.get("/", peer)) as (url, _), client() as session:
            ports = set()
            for _ in range(300):
                async with session.get(url) as response:
                    assert response.status == 200
                    ports.add(await response.text())
            assert len(ports) == 1

    run(main())


def test_many_requests_at_once(run: Harness) -> None:
    async def main() -> None:
        async def fetch(number: int) -> None:
            async with session.get(f"{url}/{number}") as response:
                assert await response.text() == str(number)

        async def number(request: web.Request) -> web.Response:
            await asyncio.sleep(0.001 * (int(request.match_info["number"]) % 7))
            return web.Response(text=request.match_info["number"])

        async with serving(web.get("/{number}", number)) as (url, _), client(limit=0) as session:
            await asyncio.gather(*map(fetch, range(400)))

    run(main())


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_large_bodies_both_ways(run: Harness, tls: Tls, encrypted: bool) -> None:
    async def main() -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(16):
                yield PATTERN

        security = tls if encrypted else None
        async with (
            serving(web.post("/digest", digest), web.get("/stream/{mebibytes}", stream), tls=security) as (
                url,
                _,
            ),
            client(security) as session,
        ):
            expected = hashlib.sha256(PATTERN * 16).hexdigest()
            for body in (io.BytesIO(PATTERN * 16), pieces()):  # with a length, and chunked
                async with session.post(f"{url}/digest", data=body) as response:
                    assert await response.json() == {"size": 16 * MEBIBYTE, "sha256": expected}
            async with session.get(f"{url}/stream/16") as response:
                assert response.headers["Transfer-Encoding"] == "chunked"
                assert hashlib.sha256(await response.read()).hexdigest() == expected

    run(main())


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_websockets(run: Harness, tls: Tls, encrypted: bool) -> None:
    async def main() -> None:
        security = tls if encrypted else None

        async def talk(number: int) -> None:
            async with session.ws_connect(f"{url}/ws", max_msg_size=0) as ws:
                for turn in range(20):
                    await ws.send_str(f"{number}.{turn}")
                    assert await ws.receive_str() == f"{number}.{turn}"
                await ws.send_bytes(PATTERN[: 1000 + number])
                assert await ws.receive_bytes() == PATTERN[: 1000 + number]
            assert ws.close_code == 1000

        async with (
            serving(web.get("/ws", websocket_echo), tls=security) as (url, _),
            client(security) as session,
        ):
            await asyncio.gather(*map(talk, range(25)))
            async with session.ws_connect(f"{url}/ws", max_msg_size=0) as ws:
                await ws.send_bytes(PATTERN * 8)
                assert await ws.receive_bytes() == PATTERN * 8

    run(main())


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_files_are_sent(run: Harness, tls: Tls, tmp_path: Path, encrypted: bool) -> None:
    """`web.FileResponse` calls ``loop.sendfile``, which falls back under TLS."""
    file = tmp_path / "file.bin"
    file.write_bytes(PATTERN * 6 + b"end")

    async def main() -> None:
        security = tls if encrypted else None

        async def send(request: web.Request) -> web.FileResponse:
            return web.FileResponse(file)

        async def get(headers: dict[str, str]) -> tuple[int, bytes]:
            async with session.get(url, headers=headers) as response:
                return response.status, await response.read()

        async with serving(web.get("/", send), tls=security) as (url, _), client(security) as session:
            assert await get({}) == (200, file.read_bytes())
            assert await get({"Range": "bytes=5-99"}) == (206, file.read_bytes()[5:100])
            assert await get({"Range": "bytes=-3"}) == (206, b"end")
            responses = await asyncio.gather(*(get({}) for _ in range(8)))
            assert all(response == (200, file.read_bytes()) for response in responses)

    run(main())


def test_unix_socket(run: Harness, tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "s")
        app = web.Application()
        app.add_routes([web.post("/digest", digest)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.UnixSite(runner, path).start()
        try:
            async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session:
                async with session.post("http://whatever/digest", data=PATTERN) as response:
                    assert (await response.json())["size"] == MEBIBYTE
        finally:
            await runner.cleanup()

    run(main())


def test_forms_redirects_cookies_compression_and_100_continue(run: Harness) -> None:
    async def main() -> None:
        async def form(request: web.Request) -> web.Response:
            fields = await request.post()
            upload = fields["file"]
            assert isinstance(upload, web.FileField)
            assert isinstance(fields["name"], str)
            response = web.HTTPSeeOther("/result")
            response.set_cookie("seen", f"{fields['name']}-{len(upload.file.read())}")
            raise response

        async def result(request: web.Request) -> web.Response:
            response = web.Response(text=request.cookies["seen"] * 1000)
            response.enable_compression()
            return response

        # Cookies of an address are kept only by an unsafe jar.
        routes = (web.post("/form", form), web.get("/result", result))
        jar = aiohttp.CookieJar(unsafe=True)
        async with serving(*routes) as (url, _), aiohttp.ClientSession(cookie_jar=jar) as session:
            data = aiohttp.FormData({"name": "whorl"})
            data.add_field("file", PATTERN[:5000], filename="pattern.bin")
            async with session.post(f"{url}/form", data=data, expect100=True) as response:
                assert response.url.path == "/result"
                assert response.headers["Content-Encoding"] in ("deflate", "gzip")
                assert await response.text() == "whorl-5000" * 1000

    run(main())


def test_in_debug_mode(run: Harness, tls: Tls) -> None:
    async def main() -> None:
        asyncio.get_running_loop().slow_callback_duration = 60
        async with serving(web.get("/", peer), web.get("/ws", websocket_echo), tls=tls) as (url, _):
            async with client(tls) as session:
                for _ in range(10):
                    async with session.get(url) as response:
                        assert response.status == 200
                async with session.ws_connect(f"{url}/ws") as ws:
                    await ws.send_str("debug")
                    assert await ws.receive_str() == "debug"

    run(main(), debug=True)
