"""examples/database.py on a real PostgreSQL server; tests/cli has it on SQLite."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.programs.support import python_command, require_package

require_package("asyncpg")

import asyncpg  # type: ignore[import-untyped]  # noqa: E402

if TYPE_CHECKING:
    from tools.services import Postgres

PROGRAM = Path(__file__).parents[2] / "examples" / "database.py"


def run(loop_name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = python_command(loop_name, str(PROGRAM), *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def url(server: Postgres, database: str) -> str:
    return f"postgresql://{server.user}@127.0.0.1:{server.port}/{database}"


def test_queries_in_three_ways(loop_name: str, postgres: Postgres) -> None:
    options = ("--queries", "200", "--connections", "4", "--json")
    result = run(loop_name, *options, url(postgres, postgres.database))
    assert (result.returncode, result.stderr) == (0, "")
    printed = json.loads(result.stdout)
    assert printed["database"] == f"PostgreSQL, 127.0.0.1/{postgres.database}"
    ways = [(one["way"], one["queries"]) for one in printed["runs"]]
    names = ("one by one", "together on one connection", "through a pool of 4")
    assert ways == [(name, 200) for name in names]
    assert asyncio.run(kept_tables(postgres)) == []


async def kept_tables(server: Postgres) -> list[str]:
    """The tables that are called as the program's and are not temporary."""
    connection = await asyncpg.connect(url(server, server.database), ssl=False)
    try:
        query = "SELECT relname FROM pg_class WHERE relname LIKE 'item%' AND relpersistence <> 't'"
        rows = await connection.fetch(query)
        return [row["relname"] for row in rows]
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("database", "options", "message"),
    [
        ("absent", (), 'database "absent" does not exist'),
        ("postgres", ("--connections", "200"), "too many clients already"),
    ],
)
def test_what_the_server_refuses(
    loop_name: str, postgres: Postgres, database: str, options: tuple[str, ...], message: str
) -> None:
    result = run(loop_name, *options, url(postgres, database))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"database.py: 127.0.0.1/{database} cannot be used: ")
    assert message in result.stderr
    assert "Traceback" not in result.stderr
