"""The suites of database drivers, with the servers that they need (``make db-compat``).

Drivers without a published suite that runs have this project's own tests, of tests/programs, in its place.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.foreign.suite import Servers, Setting, Suite, SuiteError
from tools import services


@contextlib.contextmanager
def _services() -> Iterator[None]:
    """A suite whose server is missing cannot be run."""
    try:
        yield
    except services.ServiceMissingError as error:
        raise SuiteError(str(error)) from None


@contextlib.contextmanager
def postgres_cluster(python: Path, home: Path) -> Iterator[Setting]:
    """No server: asyncpg's tests start their own, by an account that PostgreSQL does not refuse."""
    del python, home
    with _services():
        programs, account = services.newest_postgres_programs(), services.unprivileged_account()
    with tempfile.TemporaryDirectory(prefix="whorl-pg-", dir="/tmp") as scratch:
        environment = {"PGINSTALLATION": str(programs), "TMPDIR": scratch, "HOME": scratch}
        if account is None:
            yield Setting(environment)
            return
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise SuiteError("setpriv not found (Debian: apt-get install util-linux)")
        os.chown(scratch, account.pw_uid, account.pw_gid)
        # It reads the sources, wherever they are, and writes to the scratch directory alone.
        reads = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
        identity = (f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups")
        yield Setting(environment, prefix=(setpriv, *identity, *reads))


#: The role, the database and the schemas that SQLAlchemy's tests expect.
_ROLE = ("CREATE ROLE scott SUPERUSER LOGIN PASSWORD 'tiger'", "CREATE DATABASE test OWNER scott")
_SCHEMAS = (
    "CREATE SCHEMA test_schema AUTHORIZATION scott",
    "CREATE SCHEMA test_schema_2 AUTHORIZATION scott",
    "CREATE EXTENSION hstore",
    "CREATE EXTENSION citext",
)


@contextlib.contextmanager
def _postgres(driver: str) -> Iterator[Setting]:
    with _services(), services.running_postgres() as server:
        psql = services.newest_postgres_programs() / "psql"
        for database, statements in ((server.database, _ROLE), ("test", _SCHEMAS)):
            command = [str(psql), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", server.socket_dir]
            command += ["-p", str(server.port), "-U", server.user, "-d", database]
            command += [part for statement in statements for part in ("-c", statement)]
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
            )
            if done.returncode:
                raise SuiteError(f"psql failed (Debian: apt-get install postgresql-contrib?):\n{done.stdout}")
        yield Setting(
            arguments=("--dburi", f"postgresql+{driver}://scott:tiger@127.0.0.1:{server.port}/test")
        )


def postgres_for_asyncpg(python: Path, home: Path) -> contextlib.AbstractContextManager[Setting]:
    """A server with what SQLAlchemy's tests expect, reached by asyncpg."""
    del python, home
    return _postgres("asyncpg")


def postgres_for_psycopg(python: Path, home: Path) -> contextlib.AbstractContextManager[Setting]:
    """The same, reached by psycopg."""
    del python, home
    return _postgres("psycopg_async")


@contextlib.contextmanager
def redis(python: Path, home: Path) -> Iterator[Setting]:
    """A server that takes the commands for debugging."""
    del python, home
    with _services(), services.running_redis({"enable-debug-command": "yes"}) as server:
        yield Setting(arguments=(f"--redis-url=redis://127.0.0.1:{server.port}/0",))


_REQUIREMENTS = "db-compat.txt"
_NO_PLUGINS = ("-p", "no:asyncio", "-p", "no:anyio")


def _sqlalchemy(
    servers: Servers | None, packages: tuple[str, ...] = (), arguments: tuple[str, ...] = ()
) -> Suite:
    """SQLAlchemy's tests of its asyncio extension, over a driver."""
    return Suite(
        "SQLAlchemy==2.1.9",
        sha256="d700a8b2edfb26282a470333d6bc4a454c4acda4d201a3bea7b72fa76c217d28",
        requirements=_REQUIREMENTS,
        tests="test/ext/asyncio",
        keep=("lib", "test", "pyproject.toml", "setup.cfg"),
        arguments=(*_NO_PLUGINS, *arguments),
        whole=True,
        servers=servers,
        packages=packages,
    )


def _own(package: str, module: str, *packages: str) -> Suite:
    """This project's tests of a driver."""
    return Suite(
        package,
        own=True,
        tests="tests/programs",
        modules=(module,),
        arguments=("--import-mode=importlib",),
        environment={"WHORL_REQUIRE_SERVICES": "1"},
        packages=packages,
    )


DATABASES = {
    "asyncpg": Suite(
        "asyncpg==0.32.0",
        sha256="45e64e56714d888330b884aad1dfb363d0bf43fb343e3d1a8968525f3bade478",
        requirements=_REQUIREMENTS,
        arguments=("--import-mode=importlib", *_NO_PLUGINS),
        whole=True,
        servers=postgres_cluster,
        packages=("postgresql", "postgresql-contrib"),
        left_out={"tests/test__sourcecode.py": "checks the package's source with linters"},
    ),
    "sqlalchemy-asyncpg": _sqlalchemy(postgres_for_asyncpg, ("postgresql", "postgresql-contrib")),
    "sqlalchemy-psycopg": _sqlalchemy(postgres_for_psycopg, ("postgresql", "postgresql-contrib")),
    "sqlalchemy-aiosqlite": _sqlalchemy(None, arguments=("--dburi", "sqlite+aiosqlite:///:memory:")),
    "redis": Suite(
        "redis==8.1.0",
        sha256="6e1a19beef9225c83efd689c7e6b7da2d5215b1f42cd13b7fc3714d0a09c7b25",
        requirements=_REQUIREMENTS,
        tests="tests/test_asyncio",
        keep=("tests", "pyproject.toml"),
        arguments=("-p", "no:anyio"),
        whole=True,
        servers=redis,
        packages=("redis-server",),
        left_out={
            "tests/test_asyncio/test_scenario": "needs an installation of Redis Enterprise",
            "tests/test_asyncio/test_multidb": "needs several servers and their proxies",
            "tests/test_asyncio/test_cluster.py": "needs a cluster of six servers",
            "tests/test_asyncio/test_search.py": "needs a module of Redis that Debian does not have",
        },
        left_out_marks={
            "onlycluster": "needs a cluster of six servers",
            "redismod": "needs modules of Redis that Debian does not have",
            "ssl": "needs a server with the certificates of the suite's container",
            "cp_integration": "needs an identity provider in the cloud",
            "multidb_integration": "needs several servers and their proxies",
        },
    ),
    "aiosqlite": Suite(
        "aiosqlite==0.22.1",
        requirements=_REQUIREMENTS,
        tests="aiosqlite/tests",
        installed=True,
        files=("smoke.py",),
        arguments=_NO_PLUGINS,
    ),
    "psycopg": _own("psycopg==3.3.9", "test_psycopg", "postgresql"),
    "aiomysql": _own("aiomysql==0.3.2", "test_aiomysql", "mariadb-server"),
    "asyncmy": _own("asyncmy==0.2.18", "test_asyncmy", "mariadb-server"),
    "pymongo": Suite(
        "pymongo==4.20.1", not_run="test/asynchronous needs a mongod, which Debian does not have"
    ),
}
