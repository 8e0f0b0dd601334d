"""What a cancelled task leaves of its query and its connection, by driver: the table in docs/databases.md."""

# ruff: noqa: E402 - the packages are looked for before they are imported

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.programs.support import Harness, require_package, require_psycopg
from tools.services import MariaDb, Postgres, Redis

require_package("aiomysql", "aiosqlite", "asyncmy", "asyncpg", "redis", "sqlalchemy")
require_psycopg()

import aiosqlite
import asyncpg  # type: ignore[import-untyped]
import psycopg
import redis.asyncio
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine

#: Longer than any test: only its end by the server, or a kill, ends it.
SLEEP = "SELECT pg_sleep(600)"
OWN_PID = "SELECT pg_backend_pid()"


def url(server: Postgres) -> str:
    return f"postgresql://{server.user}@localhost:{server.port}/{server.database}?sslmode=disable"


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that the server does; the harness limits it."""
    while not await condition():
        await asyncio.sleep(0.01)


async def cancelled(query: Awaitable[Any], is_running: Callable[[], Awaitable[bool]]) -> None:
    """Run a query in a task, and cancel that when the server works on it."""
    task = asyncio.ensure_future(query)
    await until(is_running)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class Observer:
    """Another connection to PostgreSQL, which sees what the others do."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def sees_the_query(self) -> bool:
        query = "SELECT count(*) FROM pg_stat_activity WHERE query = $1 AND state = 'active'"
        return bool(await self.connection.fetchval(query, SLEEP))

    async def sees_no_query(self) -> bool:
        return not await self.sees_the_query()


async def observer(server: Postgres, stack: AsyncExitStack) -> Observer:
    connection = await asyncpg.connect(url(server))
    stack.push_async_callback(connection.close)
    return Observer(connection)


def test_asyncpg(run: Harness, postgres: Postgres) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            others = await observer(postgres, stack)
            async with asyncpg.create_pool(url(postgres), min_size=1, max_size=1) as pool:
                before = await pool.fetchval(OWN_PID)
                await cancelled(pool.execute(SLEEP), others.sees_the_query)
                assert await pool.fetchval(OWN_PID) == before
                await until(others.sees_no_query)

    run(main())


def test_psycopg(run: Harness, postgres: Postgres) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            others = await observer(postgres, stack)
            connection = await psycopg.AsyncConnection.connect(url(postgres), autocommit=True)
            stack.push_async_callback(connection.close)
            await cancelled(connection.execute(SLEEP), others.sees_the_query)
            # The task ends only with the query.
            assert await others.sees_no_query()
            row = await (await connection.execute(OWN_PID)).fetchone()
            assert row == (connection.info.backend_pid,)

    run(main())


def test_sqlalchemy_over_asyncpg(run: Harness, postgres: Postgres) -> None:
    async def main() -> None:
        address = url(postgres).replace("postgresql:", "postgresql+asyncpg:").partition("?")[0]
        engine = create_async_engine(address, pool_size=1, max_overflow=0, connect_args={"ssl": False})

        async def execute(query: str) -> Any:
            async with engine.connect() as connection:
                return (await connection.execute(sqlalchemy.text(query))).scalar_one()

        async with AsyncExitStack() as stack:
            others = await observer(postgres, stack)
            stack.push_async_callback(engine.dispose)
            before = await execute(OWN_PID)
            await cancelled(execute(SLEEP), others.sees_the_query)
            await until(others.sees_no_query)
            assert await execute(OWN_PID) != before

    run(main())


def test_aiosqlite(run: Harness) -> None:
    began, go_on = threading.Event(), threading.Event()

    def wait() -> int:
        began.set()
        return int(go_on.wait(60))

    async def is_running() -> bool:
        return began.is_set()

    async def main() -> None:
        async with aiosqlite.connect(":memory:") as database:
            await database.create_function("wait", 0, wait)
            await database.execute("CREATE TABLE done (waited int)")
            await cancelled(database.execute("INSERT INTO done SELECT wait()"), is_running)
            after = asyncio.ensure_future(database.execute_fetchall("SELECT waited FROM done"))
            await asyncio.sleep(0.05)
            assert not after.done()
            go_on.set()
            assert [tuple(row) for row in await after] == [(1,)]

            # Without end but for the interruption.
            began.clear()
            series = "WITH RECURSIVE n(i) AS (SELECT wait() UNION ALL SELECT i FROM n)"
            endless = f"{series} SELECT count(*) FROM n"
            query = asyncio.ensure_future(database.execute_fetchall(endless))
            await until(is_running)
            await database.interrupt()
            with pytest.raises(aiosqlite.OperationalError, match="interrupted"):
                await query

    run(main())


def test_redis(run: Harness, redis_server: Redis) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            here = {"port": redis_server.port}
            client = await stack.enter_async_context(redis.asyncio.Redis(**here, max_connections=1))
            other = await stack.enter_async_context(redis.asyncio.Redis(**here))

            async def is_blocked() -> bool:
                return (await other.info("clients"))["blocked_clients"] == 1

            async def is_not() -> bool:
                return not await is_blocked()

            before = await client.client_id()
            await cancelled(client.blpop("absent", timeout=600), is_blocked)
            assert await client.client_id() != before
            await until(is_not)

    run(main())


@pytest.mark.parametrize("driver", ["aiomysql", "asyncmy"])
def test_mysql(run: Harness, mariadb: MariaDb, driver: str) -> None:
    module: Any = importlib.import_module(driver)
    server = {
        "host": "localhost",
        "port": mariadb.port,
        "user": mariadb.user,
        "password": mariadb.password,
        "db": mariadb.database,
    }

    async def value(pool: Any, query: str) -> Any:
        async with pool.acquire() as connection, connection.cursor() as cursor:
            await cursor.execute(query)
            row = await cursor.fetchone()
            return row[0] if row else None

    async def main() -> None:
        async with AsyncExitStack() as stack:
            pool, other = [
                await stack.enter_async_context(module.create_pool(**server, minsize=1, maxsize=1))
                for _ in range(2)
            ]
            victim = await value(pool, "SELECT connection_id()")

            async def is_running() -> bool:
                query = f"SELECT info FROM information_schema.processlist WHERE id = {victim}"
                return await value(other, query) == "SELECT sleep(600)"

            await cancelled(value(pool, "SELECT sleep(600)"), is_running)
            assert await value(pool, "SELECT connection_id()") != victim
            assert await is_running()
            await value(other, f"KILL {victim}")

    run(main())
