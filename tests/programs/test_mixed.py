"""Several programs at once on one loop: what each does alone must hold while the others keep it busy."""

# ruff: noqa: E402 - the packages are looked for before they are imported

from __future__ import annotations

import asyncio
import hashlib
import signal
import socket
import sys
import threading
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import pytest

from tests.programs.support import Harness, Tls, require_package

require_package("aiohttp", "asyncpg", "redis", "psycopg", "websockets", "anyio", "httpx")

import aiohttp
import anyio.to_thread
import asyncpg  # type: ignore[import-untyped]
import httpx
import redis.asyncio
from aiohttp import web
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

if TYPE_CHECKING:
    from tools.services import Postgres, Redis


def test_a_site_with_database_cache_and_push(
    run: Harness, tls: Tls, postgres: Postgres, redis_server: Redis
) -> None:
    """aiohttp serves over TLS from PostgreSQL, cached in Redis, and reports each miss over a websocket."""

    async def main() -> None:
        where: dict[str, Any] = {"host": "localhost", "port": postgres.port, "user": postgres.user}
        listeners: set[ServerConnection] = set()

        async def listen(connection: ServerConnection) -> None:
            listeners.add(connection)
            await connection.wait_closed()

        async def square(request: web.Request) -> web.Response:
            number = int(request.match_info["number"])
            cached = await cache.get(f"square:{number}")
            if cached is None:
                value = await pool.fetchval("SELECT $1::int * $1::int FROM pg_sleep(0.002)", number)
                await cache.set(f"square:{number}", value, ex=60)
                await asyncio.gather(*(listener.send(str(number)) for listener in listeners))
                return web.json_response({"square": value, "cached": False})
            digest = await asyncio.to_thread(hashlib.sha256, str(number).encode())
            return web.json_response({"square": int(cached), "cached": True, "digest": digest.hexdigest()})

        app = web.Application()
        app.router.add_get("/square/{number}", square)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls.server).start()
        url = f"https://localhost:{runner.addresses[0][1]}"
        async with (
            asyncpg.create_pool(
                **where, database=postgres.database, min_size=2, max_size=6, ssl=tls.client
            ) as pool,
            redis.asyncio.Redis(port=redis_server.port, max_connections=200) as cache,
            serve(listen, "127.0.0.1", 0) as push,
        ):
            await cache.flushdb()
            port = next(iter(push.sockets)).getsockname()[1]
            async with (
                connect(f"ws://127.0.0.1:{port}", proxy=None) as watcher,
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls.client, limit=20)) as by_aiohttp,
                httpx.AsyncClient(verify=tls.client, trust_env=False, timeout=30) as by_httpx,
            ):
                while not listeners:
                    await asyncio.sleep(0.01)

                async def first(number: int) -> None:
                    async with by_aiohttp.get(f"{url}/square/{number}") as response:
                        assert await response.json() == {"square": number**2, "cached": False}

                async def second(number: int) -> None:
                    response = (await by_httpx.get(f"{url}/square/{number}")).json()
                    assert (response["square"], response["cached"]) == (number**2, True)

                await asyncio.gather(*map(first, range(100)))
                reported = {int(await watcher.recv()) for _ in range(100)}
                assert reported == set(range(100))
                await asyncio.gather(*map(second, range(100)))
        await runner.cleanup()

    run(main(), limit=100)


def test_everything_at_once(run: Harness) -> None:
    """Sockets, pipes, child processes, threads, signals, timers and cancelled tasks, all at the same time."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        signals = 0

        def on_signal() -> None:
            nonlocal signals
            signals += 1

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        async def talk() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for size in (1, 1000, 100_000):
                writer.write(b"x" * size)
                assert len(await reader.readexactly(size)) == size
            writer.close()
            await writer.wait_closed()

        async def child(number: int) -> None:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-S", "-E", "-c", "import sys; print(sys.stdin.read() * 2, end='')",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            output, _ = await process.communicate(str(number).encode())
            assert (output, process.returncode) == (str(number).encode() * 2, 0)

        async def low_level() -> None:
            left, right = socket.socketpair()
            with left, right:
                left.setblocking(False)
                right.setblocking(False)
                for _ in range(50):
                    receiving = asyncio.ensure_future(loop.sock_recv(left, 100))
                    await asyncio.sleep(0)
                    await loop.sock_sendall(right, b"ping")
                    assert await receiving == b"ping"
                waiting = asyncio.ensure_future(loop.sock_recv(left, 100))
                await asyncio.sleep(0)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting

        async def threads() -> None:
            here = threading.get_ident()

            async def served_number() -> int:
                await asyncio.sleep(0.001)
                return threading.get_ident()

            def work() -> bool:
                return asyncio.run_coroutine_threadsafe(served_number(), loop).result(60) == here

            assert all(await asyncio.gather(*(anyio.to_thread.run_sync(work) for _ in range(50))))

        async def timers() -> None:
            while not stop.is_set():
                before = loop.time()
                with pytest.raises(asyncio.TimeoutError):
                    async with asyncio.timeout(0.002):
                        await asyncio.Event().wait()
                assert loop.time() - before > 0.00199  # never early, but for the sum's rounding
                loop.call_later(1000, stop.set).cancel()

        async def alarms() -> None:
            for number in range(1, 21):
                signal.raise_signal(signal.SIGUSR1)
                while signals < number:
                    await asyncio.sleep(0)

        loop.add_signal_handler(signal.SIGUSR1, on_signal)
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            ticking = asyncio.ensure_future(timers())
            work: list[Coroutine[Any, Any, None]] = [talk() for _ in range(60)]
            work += [child(number) for number in range(12)]
            work += [low_level() for _ in range(10)]
            work += [threads(), alarms()]
            await asyncio.gather(*work)
            stop.set()
            await ticking
        assert loop.remove_signal_handler(signal.SIGUSR1)
        assert signals == 20

    run(main(), limit=100)
