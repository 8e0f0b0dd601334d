"""psycopg 3, which watches libpq's socket with ``add_reader`` and ``add_writer``, on a real PostgreSQL.

Its compiled part waits by the same Python code as the pure one, which stands in where it has no wheel.
"""

# ruff: noqa: E402 - the package is looked for before it is imported

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.programs.support import Harness, Tls, collected_after_its_loop, require_package, require_psycopg

require_psycopg()
require_package("psycopg_pool")

import psycopg
import psycopg_pool

if TYPE_CHECKING:
    from tools.services import Postgres

Connection = psycopg.AsyncConnection[tuple[Any, ...]]


def address(server: Postgres, *, unix: bool = False, **options: Any) -> dict[str, Any]:
    """Arguments of `connect` for the server."""
    return {
        "host": server.socket_dir if unix else "localhost", "port": server.port, "user": server.user,
        "dbname": server.database, "sslmode": "disable", "autocommit": True, **options,
    }  # fmt: skip


@asynccontextmanager
async def connected(server: Postgres, *, unix: bool = False, **options: Any) -> AsyncIterator[Connection]:
    """A connection of its own, closed afterwards whatever the transaction's state."""
    connection = await psycopg.AsyncConnection.connect(**address(server, unix=unix, **options))
    try:
        yield connection
    finally:
        await connection.close()


async def value(connection: Connection, query: str, *parameters: Any) -> Any:
    """The first column of the first row."""
    row = await (await connection.execute(query.encode(), parameters)).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_queries(run: Harness, postgres: Postgres, unix: bool) -> None:
    async def main() -> None:
        async with connected(postgres, unix=unix) as connection:
            assert await value(connection, "SELECT %s + 1", 41) == 42
            blob = bytes(range(256)) * 8192  # 2 MiB: more than a socket takes at once, so it waits to write
            assert await value(connection, "SELECT %b::bytea", blob) == blob
            cursor = await connection.execute("SELECT * FROM generate_series(1, 5000)")
            assert sum(row[0] for row in await cursor.fetchall()) == 5000 * 5001 // 2
            for number in range(100):
                assert await value(connection, "SELECT %s", number) == number
            with pytest.raises(psycopg.errors.DivisionByZero):
                await value(connection, "SELECT 1 / 0")
            assert await value(connection, "SELECT 1") == 1

    run(main())


def test_many_connections_at_once(run: Harness, postgres: Postgres) -> None:
    async def main() -> None:
        async def work(number: int) -> None:
            async with connected(postgres) as connection:
                for turn in range(10):
                    assert (
                        await value(connection, "SELECT %s FROM pg_sleep(0.001)", number + turn)
                        == number + turn
                    )

        await asyncio.gather(*map(work, range(20)))

    run(main())


def test_pipeline_copy_and_transaction(run: Harness, postgres: Postgres) -> None:
    async def main() -> None:
        async with connected(postgres) as connection:
            await connection.execute("CREATE TEMP TABLE item (id int)")
            async with connection.cursor() as cursor, cursor.copy("COPY item FROM STDIN") as copy:
                for number in range(5000):
                    await copy.write_row((number,))
            assert await value(connection, "SELECT count(*) FROM item") == 5000
            with pytest.raises(RuntimeError, match="undone"):
                async with connection.transaction():
                    await connection.execute("DELETE FROM item")
                    raise RuntimeError("undone")
            assert await value(connection, "SELECT count(*) FROM item") == 5000
            async with connection.pipeline():
                cursors = [await connection.execute("SELECT %s", (number,)) for number in range(200)]
                assert [await cursor.fetchone() for cursor in cursors] == [(number,) for number in range(200)]

    run(main())


def test_cancellation(run: Harness, postgres: Postgres) -> None:
    async def main() -> None:
        async with connected(postgres) as connection:
            query = asyncio.ensure_future(value(connection, "SELECT pg_sleep(60)"))
            await asyncio.sleep(0.1)
            query.cancel()
            # psycopg cancels the query at the server too, and then passes the cancellation on.
            with pytest.raises((asyncio.CancelledError, psycopg.errors.QueryCanceled)):
                await query
            assert await value(connection, "SELECT 1") == 1

    run(main())


def test_notifications(run: Harness, postgres: Postgres) -> None:
    async def main() -> None:
        async with connected(postgres) as listener, connected(postgres) as speaker:
            await listener.execute("LISTEN news")

            async def listen() -> list[str]:
                return [notice.payload async for notice in listener.notifies(stop_after=20)]

            listening = asyncio.ensure_future(listen())
            for number in range(20):
                await speaker.execute("SELECT pg_notify('news', %s)", (str(number),))
            got: list[str] = []
            got += await listening
            while len(got) < 20:  # those which came together count as one for stop_after
                got += await listen()
            assert got == [str(number) for number in range(20)]

    run(main())


def test_tls(run: Harness, postgres: Postgres, tls: Tls) -> None:
    async def main() -> None:
        options: dict[str, Any] = {"sslmode": "verify-full", "sslrootcert": tls.authority_path}
        async with connected(postgres, **options) as connection:
            assert await value(connection, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            blob = bytes(range(256)) * 2048
            assert await value(connection, "SELECT %b::bytea", blob) == blob

    run(main())


def test_server_that_ends_the_session(run: Harness, postgres: Postgres) -> None:
    """The socket is readable for good once its peer has gone: the loop must not spin, nor keep the watch."""

    async def main() -> None:
        async with connected(postgres) as victim, connected(postgres) as other:
            query = asyncio.ensure_future(value(victim, "SELECT pg_sleep(60)"))
            await asyncio.sleep(0.05)
            await value(other, "SELECT pg_terminate_backend(%s)", victim.info.backend_pid)
            with pytest.raises(psycopg.OperationalError):
                await query
            assert victim.closed
            assert await value(other, "SELECT 1") == 1

    run(main())


@pytest.mark.parametrize("noticed", [False, True], ids=["unnoticed", "noticed"])
def test_write_to_a_connection_that_the_server_killed(
    run: Harness, postgres: Postgres, noticed: bool
) -> None:
    """The driver's error, not the loop's (https://github.com/aio-libs/aiomysql/issues/966)."""

    async def main() -> None:
        async with connected(postgres) as victim, connected(postgres) as other:
            await value(other, "SELECT pg_terminate_backend(%s)", victim.info.backend_pid)
            if noticed:
                listed = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
                while await value(other, listed, victim.info.backend_pid):
                    await asyncio.sleep(0.01)
            for _ in range(3):
                with pytest.raises(psycopg.OperationalError):
                    while True:  # the server ends the session after some of these
                        await value(victim, "SELECT 1")

    run(main())


def test_copy_out_of_a_large_table(run: Harness, postgres: Postgres) -> None:
    """libpq has several rows for each readable socket, and the socket has more than one read takes."""

    async def main() -> None:
        query = b"COPY (SELECT n, repeat('x', 100) FROM generate_series(1, 20000) AS n) TO STDOUT"
        async with connected(postgres) as connection, connection.cursor() as cursor:
            async with cursor.copy(query) as copy:
                numbers = [int(bytes(row).split(b"\t")[0]) async for row in copy]
            assert numbers == list(range(1, 20001))

    run(main())


def test_pool(run: Harness, postgres: Postgres) -> None:
    """Its workers are tasks, and it replaces what the server has ended."""

    async def main() -> None:
        check = psycopg_pool.AsyncConnectionPool.check_connection
        pool: psycopg_pool.AsyncConnectionPool[Connection] = psycopg_pool.AsyncConnectionPool(
            kwargs=address(postgres), min_size=2, max_size=6, open=False, check=check
        )
        async with pool:

            async def work(number: int) -> int:
                async with pool.connection() as connection:
                    result: int = await value(connection, "SELECT %s FROM pg_sleep(0.001)", number)
                    return result

            assert await asyncio.gather(*map(work, range(200))) == list(range(200))
            async with connected(postgres) as other, pool.connection() as connection:
                await value(other, "SELECT pg_terminate_backend(%s)", connection.info.backend_pid)
                with pytest.raises(psycopg.OperationalError):
                    while True:
                        await value(connection, "SELECT 1")
            assert await asyncio.gather(*map(work, range(20))) == list(range(20))

    run(main())


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_idle_connection_while_transports_come_and_go(
    run: Harness, postgres: Postgres, tls: Tls, encrypted: bool
) -> None:
    """libpq's descriptor is watched in each wait only, among those that transports open and close.

    A loop that keeps something of a closed descriptor takes it for the next one of that number:
    https://github.com/MagicStack/uvloop/issues/645, and "SSL unexpected EOF" under TLS.
    """

    async def main() -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while line := await reader.readline():
                writer.write(line)
            writer.close()

        async def come_and_go(number: int) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"%d\n" % number)
            assert await reader.readline() == b"%d\n" % number
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        options = {"sslmode": "verify-full", "sslrootcert": tls.authority_path} if encrypted else {}
        async with connected(postgres, **options) as idle, connected(postgres, **options) as listener:
            await listener.execute("LISTEN news")
            for round_number in range(40):
                notified = asyncio.ensure_future(anext(listener.notifies()))
                await asyncio.gather(*(come_and_go(number) for number in range(10)))
                # A new connection of libpq has a number that a transport had just now, and gives it back.
                async with connected(postgres, **options) as passing:
                    assert await value(passing, "SELECT %s", round_number) == round_number
                await asyncio.gather(*(come_and_go(number) for number in range(10)))
                await idle.execute("SELECT pg_notify('news', %s)", (str(round_number),))
                assert (await notified).payload == str(round_number)
        server.close()
        await server.wait_closed()

    run(main())


def test_connection_collected_after_its_loop_is_closed(run: Harness, postgres: Postgres) -> None:
    """What it then does with the loop does not raise (https://github.com/hail-is/hail/issues/13863)."""
    connect = psycopg.AsyncConnection.connect
    assert collected_after_its_loop(run, lambda: connect(**address(postgres))) == []
