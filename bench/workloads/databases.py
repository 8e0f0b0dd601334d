"""Clients of databases, each used as its documentation shows; every result is checked."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bench.workloads import growing_batch

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from bench.workloads import Batch, Setting

#: How many queries are in a pipeline.
PIPELINED = 32
#: The rows of a large result, and its columns; what each column is in the last row.
ROWS = 1000
_PLAIN = "n, 'row ' || n, n * 1.5::float8"
_PLAIN_LAST = (ROWS, f"row {ROWS}", ROWS * 1.5)
_SERIES = f"from generate_series(1, {ROWS}) as n"
PLAIN_ROWS = f"select {_PLAIN} {_SERIES}"
TIMES = f"select {_PLAIN}, timestamptz '2026-01-01 00:00:00+00' + n * interval '1 second' {_SERIES}"
NUMBERS = f"select {_PLAIN}, n + 0.25::numeric {_SERIES}"


def _check(value: Any, expected: Any) -> None:
    if value != expected:
        raise RuntimeError(f"the database answers {value!r}, not {expected!r}")


def _all(setting: Setting, coroutines: list[Coroutine[Any, Any, Any]]) -> list[Any]:
    """What a list of coroutines gives, run one after another on the loop."""

    async def main() -> list[Any]:
        return [await coroutine for coroutine in coroutines]

    return setting.loop.run_until_complete(main())


def asyncpg_select(setting: Setting) -> Batch:
    """A prepared statement on a connection for each task."""
    asyncpg: Any = import_module("asyncpg")

    async def prepare() -> Any:
        connection = await asyncpg.connect(setting.target, ssl=False)
        return await connection.prepare("select 1")

    statements = _all(setting, [prepare() for _ in range(setting.connections)])

    async def work(number: int, times: int) -> None:
        fetch = statements[number].fetchval
        for _ in range(times):
            _check(await fetch(), 1)

    return growing_batch(setting, work)


def asyncpg_pool(setting: Setting, **options: Any) -> Batch:
    """Queries by the methods of a pool that has a connection for each task."""
    asyncpg: Any = import_module("asyncpg")
    size = setting.connections
    ends = {"min_size": size, "max_size": size}
    pool = asyncpg.create_pool(setting.target, ssl=False, loop=setting.loop, **ends, **options)
    setting.loop.run_until_complete(pool)

    async def work(_: int, times: int) -> None:
        for _ in range(times):
            _check(await pool.fetchval("select 1"), 1)

    return growing_batch(setting, work)


def asyncpg_pool_without_reset(setting: Setting) -> Batch:
    """The same, without the query by which the pool resets a connection that it gets back."""

    async def leave(_: Any) -> None:
        pass

    return asyncpg_pool(setting, reset=leave)


def _asyncpg_rows(setting: Setting, query: str, last: tuple[Any, ...]) -> Batch:
    asyncpg: Any = import_module("asyncpg")

    async def prepare() -> Any:
        return await (await asyncpg.connect(setting.target, ssl=False)).prepare(query)

    [statement] = _all(setting, [prepare()])

    async def work(_: int, times: int) -> None:
        for _ in range(times):
            rows = await statement.fetch()
            _check((len(rows), *rows[-1]), (ROWS, *last))

    return growing_batch(setting, work)


def asyncpg_rows(setting: Setting) -> Batch:
    """A large result with a column of times."""
    return _asyncpg_rows(setting, TIMES, (*_PLAIN_LAST, datetime.fromtimestamp(1767225600 + ROWS, UTC)))


def asyncpg_plain_rows(setting: Setting) -> Batch:
    """The same without it."""
    return _asyncpg_rows(setting, PLAIN_ROWS, _PLAIN_LAST)


def asyncpg_numeric_rows(setting: Setting) -> Batch:
    """The same with a column of decimal numbers in its place."""
    return _asyncpg_rows(setting, NUMBERS, (*_PLAIN_LAST, Decimal(f"{ROWS}.25")))


def psycopg_select(setting: Setting) -> Batch:
    """A prepared statement, by one cursor."""
    connection = setting.loop.run_until_complete(_psycopg_connection(setting))
    cursor = connection.cursor()

    async def work(_: int, times: int) -> None:
        for _ in range(times):
            await cursor.execute("select 1", prepare=True)
            _check(await cursor.fetchone(), (1,))

    return growing_batch(setting, work)


def psycopg_pipeline(setting: Setting) -> Batch:
    """Prepared statements in pipelines, one pipeline at a time."""
    connection = setting.loop.run_until_complete(_psycopg_connection(setting))

    async def work(_: int, times: int) -> None:
        for _ in range(times):
            async with connection.pipeline():
                cursors = [await connection.execute("select 1", prepare=True) for _ in range(PIPELINED)]
                for cursor in cursors:
                    _check(await cursor.fetchone(), (1,))

    return growing_batch(setting, work, operations=PIPELINED)


async def _psycopg_connection(setting: Setting) -> Any:
    psycopg: Any = import_module("psycopg")
    return await psycopg.AsyncConnection.connect(setting.target, autocommit=True)


def sqlalchemy_select(setting: Setting) -> Batch:
    """A connection of the engine's pool for each query, and the transaction that it begins and rolls back."""
    sqlalchemy: Any = import_module("sqlalchemy")
    sqlalchemy_asyncio: Any = import_module("sqlalchemy.ext.asyncio")
    url = setting.target.replace("postgresql:", "postgresql+asyncpg:")
    engine = sqlalchemy_asyncio.create_async_engine(url, connect_args={"ssl": False})
    query = sqlalchemy.text("select 1")

    async def work(_: int, times: int) -> None:
        for _ in range(times):
            async with engine.connect() as connection:
                _check((await connection.execute(query)).scalar_one(), 1)

    return growing_batch(setting, work)


def redis_get(setting: Setting) -> Batch:
    """GETs by one client, whose pool has a connection for each task."""
    redis: Any = import_module("redis.asyncio")
    client = redis.Redis.from_url(setting.target, max_connections=setting.connections)
    setting.loop.run_until_complete(client.set("key", "1"))

    async def work(_: int, times: int) -> None:
        for _ in range(times):
            _check(await client.get("key"), b"1")

    return growing_batch(setting, work)


def aiosqlite_select(setting: Setting) -> Batch:
    """A query on a database in memory; the driver runs each in the connection's thread."""
    aiosqlite: Any = import_module("aiosqlite")
    connection = setting.loop.run_until_complete(aiosqlite.connect(":memory:"))

    async def work(_: int, times: int) -> None:
        for _ in range(times):
            async with connection.execute("select 1") as cursor:
                _check(await cursor.fetchone(), (1,))

    return growing_batch(setting, work)
