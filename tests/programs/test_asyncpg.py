"""asyncpg against a real PostgreSQL server: its protocol is a transport's, its TLS a hand-made upgrade."""

# ruff: noqa: E402 - the package is looked for before it is imported

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.programs.support import Harness, Tls, require_package

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
