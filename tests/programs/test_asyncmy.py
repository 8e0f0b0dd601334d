"""asyncmy, whose protocol is compiled, against a real MariaDB server."""

# ruff: noqa: E402 - the package is looked for before it is imported

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.programs.mysql_programs import MysqlPrograms
from tests.programs.support import Harness, require_package

require_package("asyncmy")

import asyncmy
import asyncmy.connection
import asyncmy.cursors
import asyncmy.errors

if TYPE_CHECKING:
    from tools.services import MariaDb


class TestAsyncmy(MysqlPrograms):
    connect = asyncmy.connect
    create_pool = asyncmy.create_pool
    connection_class = asyncmy.connection.Connection
    operational_error = asyncmy.errors.OperationalError
    interface_error = asyncmy.errors.InterfaceError
    syntax_error = asyncmy.errors.ProgrammingError
    streaming_cursor = asyncmy.cursors.SSCursor

    def test_prepared_statements(self, run: Harness, mariadb: MariaDb) -> None:
        """The driver writes to the socket itself while `get_write_buffer_size()` of its transport is 0."""

        async def main() -> None:
            blob = bytes(range(256)) * 8192
            async with self.connected(mariadb) as connection:
                for number in range(100):
                    # The server does not answer to the end of a statement: the next follows in the same turn.
                    async with await connection.prepare("SELECT ? + 1, ?") as statement:
                        assert (await statement.execute((number, blob))).rows == ((number + 1, blob),)
                async with self.connected(mariadb, stmt_cache_size=4) as cached, cached.cursor() as cursor:
                    for number in range(
                        200
                    ):  # six statements, of which four are kept: one is closed for each
                        await cursor.execute(f"SELECT %s + {number % 6}", (number,))
                        assert await cursor.fetchall() == ((number + number % 6,),)

        run(main())
