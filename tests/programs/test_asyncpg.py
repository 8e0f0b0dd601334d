"""asyncpg against a real PostgreSQL server: its protocol is a transport's, its TLS a hand-made upgrade."""

# ruff: noqa: E402 - the package is looked for before it is imported

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.programs.support import Harness, Tls, collected_after_its_loop, require_package

require_package("asyncpg")

import asyncpg  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from tools.services import Postgres


def address(server: Postgres, *, unix: bool = False) -> dict[str, Any]:
    """Arguments of `asyncpg.connect` for the server."""
    return {
        "host": server.socket_dir if unix else "localhost",
        "port": server.port,
        "user": server.user,
        "database": server.database,
        "ssl": False,
    }


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_queries_and_types(run: Harness, postgres: Postgres, unix: bool) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(**address(postgres, unix=unix))
        try:
            assert await connection.fetchval("SELECT $1::int + 1", 41) == 42
            row = await connection.fetchrow("SELECT 'é' AS text, ARRAY[1, 2] AS list, NULL AS nothing")
            assert dict(row) == {"text": "é", "list": [1, 2], "nothing": None}
            rows = await connection.fetch("SELECT n, repeat('x', n % 50) FROM generate_series(1, 20000) AS n")
            assert sum(row["n"] for row in rows) == 20000 * 20001 // 2
            blob = bytes(range(256)) * 32768  # 8 MiB there and back
            assert await connection.fetchval("SELECT $1::bytea", blob) == blob
            for number in range(200):
                assert await connection.fetchval("SELECT $1::int", number) == number
            with pytest.raises(asyncpg.DivisionByZeroError):
                await connection.fetchval("SELECT 1 / 0")
            assert await connection.fetchval("SELECT 1") == 1
        finally:
            await connection.close()

    run(main())


def test_transactions_cursors_and_copy(run: Harness, postgres: Postgres) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(**address(postgres))
        try:
            await connection.execute("CREATE TEMP TABLE item (id int PRIMARY KEY, name text)")
            records = [(number, f"name {number}") for number in range(10_000)]
            await connection.copy_records_to_table("item", records=records)
            async with connection.transaction():
                seen = [row["id"] async for row in connection.cursor("SELECT id FROM item ORDER BY id")]
            assert seen == list(range(10_000))
            with pytest.raises(RuntimeError, match="undone"):
                async with connection.transaction():
                    await connection.execute("DELETE FROM item")
                    raise RuntimeError("undone")
            await connection.executemany(
                "UPDATE item SET name = $2 WHERE id = $1", [(n, "new") for n in range(500)]
            )
            assert await connection.fetchval("SELECT count(*) FROM item WHERE name = 'new'") == 500
            copied = bytearray()

            async def keep(data: bytes) -> None:
                copied.extend(data)

            await connection.copy_from_query("SELECT id FROM item ORDER BY id", output=keep)
            assert copied.split() == [str(number).encode() for number in range(10_000)]
        finally:
            await connection.close()

    run(main())


def test_pool_under_load(run: Harness, postgres: Postgres) -> None:
    async def main() -> None:
        async with asyncpg.create_pool(**address(postgres), min_size=2, max_size=8) as pool:

            async def work(number: int) -> int:
                async with pool.acquire() as connection, connection.transaction():
                    value: int = await connection.fetchval("SELECT $1::int FROM pg_sleep(0.001)", number)
                    return value

            assert await asyncio.gather(*map(work, range(300))) == list(range(300))

    run(main())


def test_cancellation_and_timeout_leave_the_connection_usable(run: Harness, postgres: Postgres) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(**address(postgres))
        try:
            with pytest.raises(asyncio.TimeoutError):
                await connection.fetchval("SELECT pg_sleep(60)", timeout=0.1)
            assert await connection.fetchval("SELECT 1") == 1
            query = asyncio.ensure_future(connection.fetchval("SELECT pg_sleep(60)"))
            await asyncio.sleep(0.05)
            query.cancel()
            with pytest.raises(asyncio.CancelledError):
                await query
            assert await connection.fetchval("SELECT 2") == 2
        finally:
            await connection.close()

    run(main())


def test_listen_and_notify(run: Harness, postgres: Postgres) -> None:
    async def main() -> None:
        received: asyncio.Queue[Any] = asyncio.Queue()
        listener = await asyncpg.connect(**address(postgres))
        speaker = await asyncpg.connect(**address(postgres))
        try:
            await listener.add_listener("news", lambda *what: received.put_nowait(what[3]))
            for number in range(50):
                await speaker.execute(f"NOTIFY news, '{number}'")
            assert [await received.get() for _ in range(50)] == [str(number) for number in range(50)]
        finally:
            await listener.close()
            await speaker.close()

    run(main())


def test_tls(run: Harness, postgres: Postgres, tls: Tls) -> None:
    """The client requests TLS in its own protocol, then the same connection is upgraded."""

    async def main() -> None:
        where = {**address(postgres), "ssl": tls.client}
        connection = await asyncpg.connect(**where)
        try:
            assert await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            blob = bytes(range(256)) * 8192
            for _ in range(4):
                assert await connection.fetchval("SELECT $1::bytea", blob) == blob
        finally:
            await connection.close()
        async with asyncpg.create_pool(**where, min_size=1, max_size=5) as pool:
            answers = await asyncio.gather(*(pool.fetchval("SELECT $1::int", n) for n in range(100)))
            assert answers == list(range(100))

    run(main())


def test_server_that_ends_the_session(run: Harness, postgres: Postgres) -> None:
    async def main() -> None:
        victim = await asyncpg.connect(**address(postgres))
        other = await asyncpg.connect(**address(postgres))
        try:
            query = asyncio.ensure_future(victim.fetchval("SELECT pg_sleep(60)"))
            await asyncio.sleep(0.05)
            await other.fetchval("SELECT pg_terminate_backend($1)", victim.get_server_pid())
            with pytest.raises((asyncpg.AdminShutdownError, asyncpg.ConnectionDoesNotExistError)):
                await query
            assert victim.is_closed()
            assert await other.fetchval("SELECT 1") == 1
        finally:
            await victim.close()
            await other.close()

    run(main())


async def kill(other: asyncpg.Connection, victim: asyncpg.Connection) -> None:
    """Have the server end the session of `victim`, and wait until it has."""
    number = victim.get_server_pid()
    assert await other.fetchval("SELECT pg_terminate_backend($1)", number)
    while await other.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", number):
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("noticed", [False, True], ids=["unnoticed", "noticed"])
def test_write_to_a_connection_that_the_server_killed(
    run: Harness, postgres: Postgres, tls: Tls, noticed: bool, encrypted: bool
) -> None:
    """The driver's error, not the loop's (https://github.com/aio-libs/aiomysql/issues/966)."""

    async def main() -> None:
        where = {**address(postgres), "ssl": tls.client if encrypted else False}
        # The last one: a query after the server's message and before the end of the connection.
        errors = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
        victim = await asyncpg.connect(**where)
        other = await asyncpg.connect(**address(postgres))
        try:
            killing = asyncio.ensure_future(kill(other, victim))
            if noticed:
                await killing
                while not victim.is_closed():
                    await asyncio.sleep(0)
            for _ in range(3):
                with pytest.raises(errors):
                    while True:  # the server ends the session after some of these
                        await victim.execute("SELECT 1")
            await killing
        finally:
            await victim.close()
            await other.close()

    run(main())


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_cancellation_ends_the_query_on_the_server(
    run: Harness, postgres: Postgres, tls: Tls, encrypted: bool
) -> None:
    """asyncpg opens a second connection for the request, which the cancelled task does not wait for."""

    async def main() -> None:
        connection = await asyncpg.connect(**{**address(postgres), "ssl": tls.client if encrypted else False})
        other = await asyncpg.connect(**address(postgres))
        running = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND state = 'active'"
        number = connection.get_server_pid()
        try:
            for _ in range(5):
                query = asyncio.ensure_future(connection.fetchval("SELECT pg_sleep(1000)"))
                while not await other.fetchval(running, number):
                    await asyncio.sleep(0.01)
                query.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await query
                while await other.fetchval(running, number):
                    await asyncio.sleep(0.01)
                assert await connection.fetchval("SELECT 7") == 7
        finally:
            await connection.close()
            await other.close()

    run(main())


def test_tls_after_one_plain_byte(run: Harness, postgres: Postgres, tls: Tls) -> None:
    """The server answers to the request for TLS with one byte, in whose turn `start_tls()` follows."""

    async def main() -> None:
        where = {**address(postgres), "ssl": tls.client}
        for _ in range(10):
            connections = await asyncio.gather(*(asyncpg.connect(**where) for _ in range(4)))
            for connection in connections:
                assert await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
                await connection.close()

    run(main())


def test_connection_collected_after_its_loop_is_closed(run: Harness, postgres: Postgres) -> None:
    """What its transport does then does not raise (https://github.com/hail-is/hail/issues/13863)."""
    assert collected_after_its_loop(run, lambda: asyncpg.connect(**address(postgres))) == []
