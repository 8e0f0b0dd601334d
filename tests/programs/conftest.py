"""Fixtures for the tests of real programs: the loop under test, certificates, and servers to talk to."""

from __future__ import annotations

import gc
import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import TypeVar

import pytest

from tests.programs.support import Harness, Tls, guarded_harness, loop_names, missing_service
from tools.services import (
    MariaDb,
    Postgres,
    Redis,
    ServiceMissingError,
    running_mariadb,
    running_postgres,
    running_redis,
)

T = TypeVar("T")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test which uses `loop_name` (or `run`, which does) once on each loop."""
    if "loop_name" in metafunc.fixturenames:
        metafunc.parametrize("loop_name", loop_names())


@pytest.fixture(scope="session", autouse=True)
def quick_collections() -> Iterator[None]:
    """Put what is loaded by now out of the garbage collector's sight; each test ends with a collection."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def run(loop_name: str) -> Iterator[Harness]:
    """Runs a coroutine on the loop under test.

    Tear-down fails on unhandled exceptions, tasks left running and leaked descriptors.
    """
    with guarded_harness(loop_name) as harness:
        yield harness


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """Certificates made for this run."""
    trustme = pytest.importorskip(
        "trustme", reason="trustme makes the certificates (requirements/programs.txt)"
    )
    home = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    authority.cert_pem.write_to_path(str(home / "authority.pem"))
    leaf.private_key_pem.write_to_path(str(home / "key.pem"))
    with (home / "chain.pem").open("wb") as chain:
        for certificate in leaf.cert_chain_pems:
            chain.write(certificate.bytes())
    paths = [str(home / name) for name in ("authority.pem", "chain.pem", "key.pem")]
    return Tls(server, client, authority, *paths)


def started(server: AbstractContextManager[T]) -> Iterator[T]:
    """The server while it runs. Skips the test, or fails it, where this machine cannot run one."""
    with ExitStack() as stack:
        try:
            running = stack.enter_context(server)
        except ServiceMissingError as error:
            missing_service(str(error))
        yield running


@pytest.fixture(scope="session")
def postgres(tls: Tls) -> Iterator[Postgres]:
    """A PostgreSQL server of our own, for the whole run."""
    yield from started(running_postgres(tls.authority))


@pytest.fixture(scope="session")
def mariadb(tls: Tls) -> Iterator[MariaDb]:
    """A MariaDB server of our own, for the whole run."""
    yield from started(running_mariadb(tls.authority))


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """A Redis server of our own, for the whole run."""
    yield from started(running_redis())
