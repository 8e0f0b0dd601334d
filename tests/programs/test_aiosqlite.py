"""aiosqlite, whose answers come from a thread for each connection by ``call_soon_threadsafe``."""

# ruff: noqa: E402 - the package is looked for before it is imported

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from tests.programs.support import Harness, collected_after_its_loop, require_package

require_package("aiosqlite")

import aiosqlite


async def value(connection: aiosqlite.Connection, statement: str, *parameters: object) -> object:
    """The first column of the first row."""
    async with connection.execute(statement, parameters) as cursor:
        row = await cursor.fetchone()
        assert row is not None
        return row[0]


def test_queries_and_types(run: Harness) -> None:
    async def main() -> None:
        async with aiosqlite.connect(":memory:") as connection:
            blob = bytes(range(256)) * 16384  # 4 MiB
            async with connection.execute("SELECT ?, 'é', NULL, 1.5", (blob,)) as cursor:
                assert await cursor.fetchone() == (blob, "é", None, 1.5)
            for number in range(500):
                assert await value(connection, "SELECT ?", number) == number
            await connection.execute("CREATE TABLE item (id integer PRIMARY KEY)")
            await connection.executemany("INSERT INTO item VALUES (?)", [(n,) for n in range(5000)])
            async with connection.execute("SELECT id FROM item ORDER BY id") as cursor:
                assert [row[0] async for row in cursor] == list(range(5000))
            with pytest.raises(sqlite3.OperationalError, match="syntax error"):
                await connection.execute("SELEKT 1")
            await connection.create_function("twice", 1, lambda number: 2 * number)
            assert await value(connection, "SELECT twice(21)") == 42

    run(main())


def test_many_connections_and_transactions(run: Harness, tmp_path: Path) -> None:
    """Their threads wake one loop, which sleeps between the answers."""

    async def main() -> None:
        file = tmp_path / "numbers.db"
        async with aiosqlite.connect(file) as connection:
            await connection.execute("CREATE TABLE number (value integer)")
            await connection.execute("INSERT INTO number VALUES (0)")
            await connection.commit()

        async def work() -> None:
            async with aiosqlite.connect(file, timeout=60) as connection:
                for _ in range(20):
                    await connection.execute("UPDATE number SET value = value + 1")
                    await connection.commit()
                    await connection.execute("UPDATE number SET value = -1")
                    await connection.rollback()

        await asyncio.gather(*(work() for _ in range(8)))
        async with aiosqlite.connect(file) as connection:
            assert await value(connection, "SELECT value FROM number") == 160

    run(main())


def test_cancellation_in_a_query(run: Harness) -> None:
    """The thread's answer finds its future cancelled; the queries after it get their own."""

    async def main() -> None:
        async with aiosqlite.connect(":memory:") as connection:
            entered, released = threading.Event(), threading.Event()

            def wait() -> int:
                entered.set()
                return int(released.wait(60))

            await connection.create_function("wait", 0, wait)
            query = asyncio.ensure_future(value(connection, "SELECT wait()"))
            while not entered.is_set():
                await asyncio.sleep(0)
            query.cancel()
            with pytest.raises(asyncio.CancelledError):
                await query
            following = asyncio.ensure_future(value(connection, "SELECT 7"))
            released.set()
            assert await following == 7

    run(main())


def test_connection_collected_after_its_loop_is_closed(run: Harness) -> None:
    """It stops its thread (https://github.com/hail-is/hail/issues/13863 is about a finaliser that raises)."""
    asyncio.set_event_loop(None)  # as after asyncio.run(); else it makes a new loop, and does not close it
    before = set(threading.enumerate())
    assert collected_after_its_loop(run, lambda: connect(":memory:")) == []
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
        assert not thread.is_alive()


async def connect(file: str) -> aiosqlite.Connection:
    """A connection that is open."""
    return await aiosqlite.connect(file)
