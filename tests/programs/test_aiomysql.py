"""aiomysql, which is built on streams, against a real MariaDB server."""

# ruff: noqa: E402 - the package is looked for before it is imported

from __future__ import annotations

import contextlib
import gc
from typing import TYPE_CHECKING, Any

import pytest

from tests.programs.mysql_programs import MysqlPrograms
from tests.programs.support import Harness, require_package

require_package("aiomysql")

import aiomysql  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from tools.services import MariaDb


class TestAiomysql(MysqlPrograms):
    connect = aiomysql.connect
    create_pool = aiomysql.create_pool
    connection_class = aiomysql.Connection
    operational_error = aiomysql.OperationalError
    interface_error = aiomysql.InterfaceError
    syntax_error = aiomysql.ProgrammingError
    streaming_cursor = aiomysql.SSCursor

    async def close(self, connection: Any) -> None:
        """aiomysql does not wait for its transport, and under TLS the server has its part in the closing."""
        writer = connection._writer
        await connection.ensure_closed()
        if writer is not None:
            # A server that has closed its end answers to the close_notify with a reset.
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def test_connection_left_open(self, run: Harness, mariadb: MariaDb) -> None:
        """It is reported and closed when it is collected."""

        async def main() -> None:
            connection = await self.opened(mariadb)
            with pytest.warns(ResourceWarning, match="Unclosed connection"):
                del connection
                gc.collect()

        run(main())
