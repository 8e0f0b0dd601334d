"""Each row of `make bench BENCH=db`, for a moment: its queries are answered as the workload expects."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.databases import DATABASES
from bench.suite import Row
from bench.suites import SUITES
from tests.programs.support import require_package, require_psycopg

require_package("aiosqlite", "asyncpg", "redis", "sqlalchemy")
require_psycopg()

ROOT = Path(__file__).parents[2]
SUITE = SUITES["db"]
#: The fixture of each server.
SERVERS = {"postgresql": "postgres", "redis": "redis_server"}


@pytest.mark.parametrize(
    ("row", "peer"),
    [(row, peer) for row in SUITE.rows for peer in ("whorl", "asyncio", *row.references)],
    ids=lambda part: part.name if isinstance(part, Row) else part,
)
def test_a_row(row: Row, peer: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    target = ""
    if row.database:
        _, url = DATABASES[row.database]
        target = url(request.getfixturevalue(SERVERS[row.database]))
    names = ["--suite", SUITE.name, "--row", row.name, "--peer", peer]
    places = ["--directory", str(tmp_path), "--target", target]
    done = subprocess.run(
        [sys.executable, "-m", "bench.worker", *names, *places, "--warm-up", "0", "--seconds", "0.01"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["operations"] > 0
