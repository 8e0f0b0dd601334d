"""redis-py's asyncio client, which is built on streams, against a real Redis server."""

# ruff: noqa: E402 - the package is looked for before it is imported

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.programs.support import Harness, collected_after_its_loop, require_package

require_package("redis")

import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

if TYPE_CHECKING:
    from tools.services import Redis


@asynccontextmanager
async def connected(server: Redis, *, unix: bool = False, **options: Any) -> AsyncIterator[Any]:
    """A client, on an empty database."""
    where: dict[str, Any] = {"unix_socket_path": server.socket_path} if unix else {"port": server.port}
    # No timeout and no second tries of its own: what a test waits for is to come from the server.
    settings = {"socket_timeout": None, "retry": Retry(NoBackoff(), 0), **where, **options}
    async with redis.asyncio.Redis(**settings) as client:
        await client.flushdb()
        yield client


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_commands_and_pipelines(run: Harness, redis_server: Redis, unix: bool) -> None:
    async def main() -> None:
        async with connected(redis_server, unix=unix) as client:
            for number in range(300):
                await client.set(f"key:{number}", number)
            assert await client.get("key:299") == b"299"
            blob = bytes(range(256)) * 16384  # 4 MiB
            await client.set("blob", blob)
            assert await client.get("blob") == blob
            async with client.pipeline(transaction=True) as pipeline:
                for _ in range(2000):
                    pipeline.incr("counter")
                assert await pipeline.execute() == list(range(1, 2001))
            assert len([key async for key in client.scan_iter("key:*")]) == 300
            with pytest.raises(redis.exceptions.ResponseError):
                await client.lpush("counter", 1)

    run(main())


def test_many_at_once(run: Harness, redis_server: Redis) -> None:
    async def main() -> None:
        async with connected(redis_server, max_connections=40) as client:
            await asyncio.gather(*(client.incr("counter") for _ in range(40)))

            async def work() -> None:
                for _ in range(20):
                    await client.incr("counter")

            await asyncio.gather(*(work() for _ in range(30)))
            assert await client.get("counter") == b"640"

    run(main())


def test_publish_and_subscribe(run: Harness, redis_server: Redis) -> None:
    async def main() -> None:
        async with connected(redis_server) as client, client.pubsub() as channel:
            await channel.subscribe("news")
            await channel.psubscribe("n?ws")
            received: list[bytes] = []

            async def listen() -> None:
                async for message in channel.listen():
                    if message["type"] in ("message", "pmessage"):
                        received.append(message["data"])
                        if len(received) == 400:
                            return

            listening = asyncio.ensure_future(listen())
            while sum((await client.pubsub_numsub("news"))[0][1:]) < 1 or await client.pubsub_numpat() < 1:
                await asyncio.sleep(0.01)
            for number in range(200):
                assert await client.publish("news", number) == 2
            await listening
            assert received == [str(number // 2).encode() for number in range(400)]

    run(main())


def test_blocking_pops(run: Harness, redis_server: Redis) -> None:
    async def main() -> None:
        async with connected(redis_server) as client:
            takers = [asyncio.ensure_future(client.blpop("queue", timeout=30)) for _ in range(20)]
            await asyncio.sleep(0.05)
            for number in range(20):
                await client.rpush("queue", number)
            taken = await asyncio.gather(*takers)
            assert sorted(int(item) for _, item in taken) == list(range(20))
            assert await client.blpop("queue", timeout=0.05) is None  # nothing came in time

    run(main())


def test_cancelled_pop_frees_its_connection(run: Harness, redis_server: Redis) -> None:
    async def main() -> None:
        async with connected(redis_server, max_connections=3) as client:
            for _ in range(10):
                pop = asyncio.ensure_future(client.blpop("queue", timeout=30))
                await asyncio.sleep(0.01)
                pop.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await pop
            with pytest.raises(asyncio.TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.blpop("queue", timeout=30)
            assert await client.ping()

    run(main())


def test_streams_and_scripts(run: Harness, redis_server: Redis) -> None:
    async def main() -> None:
        async with connected(redis_server, decode_responses=True) as client:
            reading = asyncio.ensure_future(client.xread({"log": "$"}, block=30_000))
            await asyncio.sleep(0.05)
            await client.xadd("log", {"line": "é"})
            ((_, entries),) = _pairs(await reading)
            assert [fields for _, fields in _flat(entries)] == [{"line": "é"}]
            double = client.register_script("return ARGV[1] * 2")
            assert await asyncio.gather(*(double(args=[n]) for n in range(10))) == [2 * n for n in range(10)]

    run(main())


def _pairs(answer: Any) -> list[Any]:
    """XREAD's answer as (stream, entries) pairs: a list in version 2 of the protocol, a mapping in 3."""
    return list(answer.items()) if isinstance(answer, dict) else list(answer)


def _flat(entries: Any) -> list[Any]:
    """Version 3 wraps a stream's entries in one more list."""
    return list(entries[0]) if entries and isinstance(entries[0], list) else list(entries)


def test_server_that_hangs_up(run: Harness, redis_server: Redis) -> None:
    async def main() -> None:
        async with connected(redis_server) as client, connected(redis_server) as other:
            pop = asyncio.ensure_future(client.blpop("queue", timeout=30))
            await asyncio.sleep(0.05)
            own = await other.client_id()
            for entry in await other.client_list():
                if int(entry["id"]) != own:
                    await other.client_kill_filter(_id=entry["id"])
            with pytest.raises(redis.exceptions.ConnectionError):
                await pop
            assert await client.ping()  # on a new connection

    run(main())


def test_write_to_a_connection_that_the_server_killed(run: Harness, redis_server: Redis) -> None:
    """The driver's error, not the loop's (https://github.com/aio-libs/aiomysql/issues/966)."""

    async def main() -> None:
        async with (
            connected(redis_server, single_connection_client=True) as victim,
            connected(redis_server) as other,
        ):
            connection = victim.connection
            await other.client_kill_filter(_id=await victim.client_id())
            with pytest.raises(redis.exceptions.ConnectionError):
                while True:
                    await connection.send_command("PING", check_health=False)
                    await connection.read_response()
            assert await victim.ping()  # on a new connection

    run(main())


def test_connection_collected_after_its_loop_is_closed(run: Harness, redis_server: Redis) -> None:
    """A finaliser that closes the transport then does not raise (https://github.com/hail-is/hail/issues/13863)."""

    async def connect() -> object:
        client = redis.asyncio.Redis(port=redis_server.port)
        assert await client.ping()
        return client

    assert collected_after_its_loop(run, connect) == []
