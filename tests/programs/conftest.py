"""Fixtures for the tests of real programs: the loop under test, certificates, and servers to talk to."""

from __future__ import annotations

import gc
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.programs.support import Harness, Tls, guarded_harness, loop_names, missing_service

if TYPE_CHECKING:
    from tests.programs.services import Postgres, Redis


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


@pytest.fixture(scope="session")
def postgres(tls: Tls) -> Iterator[Postgres]:
    """A PostgreSQL server of our own, for the whole run."""
    try:
        from tests.programs.services import running_postgres
    except ImportError as error:
        missing_service(f"PostgreSQL cannot be set up: {error}")
    with running_postgres(tls.authority) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """A Redis server of our own, for the whole run."""
    try:
        from tests.programs.services import running_redis
    except ImportError as error:
        missing_service(f"Redis cannot be set up: {error}")
    with running_redis() as server:
        yield server
