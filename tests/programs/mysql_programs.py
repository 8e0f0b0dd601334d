"""The tests that aiomysql and asyncmy, the drivers of MariaDB and MySQL, have in common.

asyncmy has aiomysql's interface over a protocol of its own, where aiomysql uses streams. The test file of
each has a class that inherits these tests.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from tests.programs.support import Harness, Tls, collected_after_its_loop

if TYPE_CHECKING:
    from tools.services import MariaDb


class MysqlPrograms:
    """Tests of a driver, which a class of a test file names.

    Attributes:
        connect: its function of that name, and so for `create_pool`.
        connection_class: what `connect` returns.
        operational_error: what it raises when the connection to the server is lost.
        interface_error: what it raises for a connection that it knows to be closed.
        syntax_error: what it raises for a statement that the server cannot parse.
        streaming_cursor: its cursor that reads the rows as they are wanted.
    """

    connect: ClassVar[Callable[..., Any]]
    create_pool: ClassVar[Callable[..., Any]]
    connection_class: ClassVar[type[Any]]
    operational_error: ClassVar[type[Exception]]
    interface_error: ClassVar[type[Exception]]
    syntax_error: ClassVar[type[Exception]]
    streaming_cursor: ClassVar[type[Any]]

    @staticmethod
    def address(server: MariaDb, *, unix: bool = False) -> dict[str, Any]:
        """Arguments of `connect` for the server."""
        where = {"unix_socket": server.socket_path} if unix else {"host": "localhost", "port": server.port}
        return {"user": server.user, "password": server.password, "db": server.database, **where}

    async def opened(self, server: MariaDb, *, unix: bool = False, **options: Any) -> Any:
        """A connection of its own, which has been used."""
        where = self.address(server, unix=unix)
        connection = await type(self).connect(**where, autocommit=True, **options)
        assert await self.value(connection, "SELECT 1") == 1
        return connection

    async def close(self, connection: Any) -> None:
        """Close a connection, and wait until its transport is closed too."""
        await connection.ensure_closed()

    @contextlib.asynccontextmanager
    async def connected(self, server: MariaDb, *, unix: bool = False, **options: Any) -> AsyncIterator[Any]:
        """A connection of its own, closed afterwards."""
        connection = await self.opened(server, unix=unix, **options)
        try:
            yield connection
        finally:
            await self.close(connection)

    @staticmethod
    async def rows(connection: Any, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        async with connection.cursor() as cursor:
            await cursor.execute(statement, parameters or None)
            return list(await cursor.fetchall())

    async def value(self, connection: Any, statement: str, *parameters: Any) -> Any:
        """The first column of the first row."""
        return (await self.rows(connection, statement, *parameters))[0][0]

    async def kill(self, other: Any, victim: int) -> None:
        """Have the server end the connection of that number, and wait until it has."""
        await self.rows(other, f"KILL {victim}")
        listed = "SELECT count(*) FROM information_schema.processlist WHERE id = %s"
        while await self.value(other, listed, victim):
            await asyncio.sleep(0.01)

    @pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
    def test_queries_and_types(self, run: Harness, mariadb: MariaDb, unix: bool) -> None:
        async def main() -> None:
            async with self.connected(mariadb, unix=unix) as connection:
                assert await self.value(connection, "SELECT %s + 1", 41) == 42
                assert await self.rows(connection, "SELECT 'é', NULL, 1.5e0") == [("é", None, 1.5)]
                rows = await self.rows(connection, "SELECT seq, repeat('x', seq mod 50) FROM seq_1_to_20000")
                assert sum(row[0] for row in rows) == 20000 * 20001 // 2
                for number in range(200):
                    assert await self.value(connection, "SELECT %s", number) == number
                with pytest.raises(self.syntax_error):
                    await self.rows(connection, "SELEKT 1")
                assert await self.value(connection, "SELECT 1") == 1

        run(main())

    def test_statement_larger_than_a_packet(self, run: Harness, mariadb: MariaDb) -> None:
        """The protocol cuts 16 MiB and more into several packets, and a socket takes a part of each."""

        async def main() -> None:
            blob = bytes(range(256)) * 36_000
            assert 2 * len(blob) > 1 << 24
            async with self.connected(mariadb) as connection:
                assert await self.value(connection, "SELECT unhex(%s)", blob.hex()) == blob

        run(main())

    def test_rows_read_as_they_are_wanted(self, run: Harness, mariadb: MariaDb) -> None:
        """The server sends more than the sockets hold: reading is paused while no row is wanted."""

        async def main() -> None:
            async with (
                self.connected(mariadb) as connection,
                connection.cursor(self.streaming_cursor) as cursor,
            ):
                await cursor.execute("SELECT seq, repeat('x', 1000) FROM seq_1_to_20000")
                assert (await cursor.fetchone())[0] == 1
                await asyncio.sleep(0.05)
                count = 1
                while (row := await cursor.fetchone()) is not None:
                    count += 1
                    assert row[0] == count
                assert count == 20000

        run(main())

    def test_transactions(self, run: Harness, mariadb: MariaDb) -> None:
        async def main() -> None:
            async with self.connected(mariadb) as connection, self.connected(mariadb) as other:
                await self.rows(connection, "CREATE OR REPLACE TABLE item (id int PRIMARY KEY, name text)")
                async with connection.cursor() as cursor:
                    records = [(number, f"name {number}") for number in range(2000)]
                    await cursor.executemany("INSERT INTO item VALUES (%s, %s)", records)
                await connection.begin()
                await self.rows(connection, "DELETE FROM item")
                assert await self.value(other, "SELECT count(*) FROM item") == 2000
                await connection.rollback()
                await connection.begin()
                await self.rows(connection, "DELETE FROM item WHERE id >= 1000")
                await connection.commit()
                assert await self.value(other, "SELECT count(*) FROM item") == 1000

        run(main())

    def test_pool_under_load(self, run: Harness, mariadb: MariaDb) -> None:
        async def main() -> None:
            pool = await type(self).create_pool(minsize=2, maxsize=8, **self.address(mariadb))

            async def work(number: int) -> int:
                async with pool.acquire() as connection:
                    value: int = await self.value(connection, "SELECT %s + sleep(0.001)", number)
                    return value

            assert await asyncio.gather(*map(work, range(300))) == list(range(300))
            assert pool.size <= 8
            pool.close()
            await pool.wait_closed()

        run(main())

    def test_pool_replaces_a_connection_that_the_server_killed(self, run: Harness, mariadb: MariaDb) -> None:
        async def main() -> None:
            pool = await type(self).create_pool(minsize=1, maxsize=2, **self.address(mariadb))
            async with self.connected(mariadb) as other:
                async with pool.acquire() as connection:
                    victim = await self.value(connection, "SELECT connection_id()")
                await self.kill(other, victim)
                number = victim
                while number == victim:
                    async with pool.acquire() as connection:
                        with contextlib.suppress(self.operational_error):  # its end is still on the way
                            number = await self.value(connection, "SELECT connection_id()")
            pool.close()
            await pool.wait_closed()

        run(main())

    def test_cancellation_in_a_query(self, run: Harness, mariadb: MariaDb) -> None:
        """The answer would come into the next query: the connection is closed, and the pool makes another."""

        async def main() -> None:
            pool = await type(self).create_pool(minsize=1, maxsize=1, **self.address(mariadb))
            for _ in range(5):
                async with pool.acquire() as connection:
                    query = asyncio.ensure_future(self.value(connection, "SELECT sleep(60)"))
                    await asyncio.sleep(0.01)
                    query.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await query
                async with pool.acquire() as connection:
                    assert await self.value(connection, "SELECT 7") == 7
            pool.close()
            await pool.wait_closed()

        run(main())

    def test_tls_after_a_plain_greeting(self, run: Harness, mariadb: MariaDb, tls: Tls) -> None:
        """The driver requests TLS, closes the transport, and makes one over a duplicate of the socket.

        What the first transport has still to write is sent before the handshake.
        """

        async def main() -> None:
            blob = bytes(range(256)) * 8192
            for _ in range(5):
                async with self.connected(mariadb, ssl=tls.client) as connection:
                    cipher = await self.rows(connection, "SHOW STATUS LIKE 'Ssl_cipher'")
                    assert cipher[0][1]
                    assert await self.value(connection, "SELECT unhex(%s)", blob.hex()) == blob

        run(main())

    def test_query_of_a_connection_that_the_server_killed(self, run: Harness, mariadb: MariaDb) -> None:
        async def main() -> None:
            async with self.connected(mariadb) as victim, self.connected(mariadb) as other:
                number = await self.value(victim, "SELECT connection_id()")
                query = asyncio.ensure_future(self.value(victim, "SELECT sleep(60)"))
                state = "SELECT state FROM information_schema.processlist WHERE id = %s"
                while await self.value(other, state, number) != "User sleep":
                    await asyncio.sleep(0.01)
                await self.kill(other, number)
                with pytest.raises(self.operational_error):
                    await query

        run(main())

    @pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
    @pytest.mark.parametrize("noticed", [False, True], ids=["unnoticed", "noticed"])
    def test_write_to_a_connection_that_the_server_killed(
        self, run: Harness, mariadb: MariaDb, tls: Tls, noticed: bool, encrypted: bool
    ) -> None:
        """The driver's error, not the loop's (https://github.com/aio-libs/aiomysql/issues/966)."""

        async def main() -> None:
            secure = {"ssl": tls.client} if encrypted else {}
            async with self.connected(mariadb, **secure) as victim, self.connected(mariadb) as other:
                number = await self.value(victim, "SELECT connection_id()")
                if noticed:
                    await self.kill(other, number)
                    await asyncio.sleep(0.05)  # the transport closes in its own turns
                else:
                    killer = asyncio.ensure_future(self.kill(other, number))
                for _ in range(3):
                    with pytest.raises((self.operational_error, self.interface_error)):
                        while True:  # the server kills it after some of these
                            await self.value(victim, "SELECT 1")
                if not noticed:
                    await killer

        run(main())

    def test_connection_collected_after_its_loop_is_closed(self, run: Harness, mariadb: MariaDb) -> None:
        """A finaliser that closes the transport then does not raise (https://github.com/hail-is/hail/issues/13863)."""
        if run.name == "asyncio" and "__del__" in vars(self.connection_class):
            pytest.skip("stock asyncio raises RuntimeError: Event loop is closed, as the issue says")
        raised = collected_after_its_loop(run, lambda: self.opened(mariadb))
        assert raised == []
