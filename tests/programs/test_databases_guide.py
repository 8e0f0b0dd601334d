"""The programs in docs/databases.md run on private servers and print what it says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.guides import DOCS, Program, check_program, every_program, hosts, programs, sections
from tests.programs.support import Tls, require_package, require_psycopg
from tools.services import MariaDb, Postgres, Redis

require_package(
    "aiomysql", "aiosqlite", "asyncmy", "asyncpg", "psycopg_pool", "pymongo", "redis", "sqlalchemy"
)
require_psycopg()

GUIDE = DOCS / "databases.md"
#: The sections without a program of their own.
PROSE = {"How many connections", "What bounds the speed"}


def of_postgres(server: Postgres) -> dict[str, str]:
    """What stands for the guide's PostgreSQL server."""
    return {
        "shop@localhost:5432/shop": f"{server.user}@localhost:{server.port}/{server.database}",
        '"host": "/var/run/postgresql", "port": 5432, "user": "shop"': (
            f'"host": "{server.socket_dir}", "port": {server.port}, "user": "{server.user}"'
        ),
        'database="shop"': f'database="{server.database}"',
        'dbname="shop"': f'dbname="{server.database}"',
    }


def of_redis(server: Redis) -> dict[str, str]:
    """What stands for the guide's Redis server."""
    return {
        "redis://localhost:6379/0": f"redis://localhost:{server.port}/0",
        "/run/redis/redis-server.sock": server.socket_path,
    }


def of_mariadb(server: MariaDb) -> dict[str, str]:
    """What stands for the guide's MySQL server."""
    account = (server.user, server.password, server.database)
    by_name = '"port": {}, "user": "{}", "password": "{}", "db": "{}"'
    by_keyword = 'unix_socket="{}", user="{}", password="{}"'
    return {
        by_name.format(3306, "shop", "secret", "shop"): by_name.format(server.port, *account),
        by_keyword.format("/run/mysqld/mysqld.sock", "shop", "secret"): by_keyword.format(
            server.socket_path, *account[:2]
        ),
    }


#: By fixture: what the guide's programs have of the server, and the text in its place.
SERVERS = {
    "postgres": ("postgresql", of_postgres),
    "redis_server": ("redis", of_redis),
    "mariadb": ("3306|mysqld", of_mariadb),
}


@every_program(GUIDE)
def test_a_program_of_the_guide(
    program: Program, tls: Tls, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    shutil.copy(tls.authority_path, tmp_path / "authority.pem")
    text = program.text
    for fixture, (named, replacements) in SERVERS.items():
        if re.search(named, program.text):
            for guide, here in replacements(request.getfixturevalue(fixture)).items():
                text = text.replace(guide, here)
    assert "shop" not in text.replace("client.shop", "")
    check_program(program, text, tmp_path)


def test_every_section_has_a_program() -> None:
    assert {program.section for program in programs(GUIDE)} == sections(GUIDE) - PROSE


@every_program(GUIDE)
def test_no_program_needs_the_network(program: Program) -> None:
    assert hosts(program) <= {"localhost"}
