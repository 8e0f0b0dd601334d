"""The database servers that a suite's clients talk to: private ones, which run as long as the suite does."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tools.services import Postgres, Redis, running_postgres, running_redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bench.suite import Row


def _postgres_url(server: Postgres) -> str:
    return f"postgresql://{server.user}@127.0.0.1:{server.port}/{server.database}"


def _redis_url(server: Redis) -> str:
    return f"redis://127.0.0.1:{server.port}/0"


#: By the name that rows use: what starts the server, and its URL.
DATABASES: Mapping[str, tuple[Callable[[], AbstractContextManager[Any]], Callable[[Any], str]]] = {
    "postgresql": (running_postgres, _postgres_url),
    "redis": (running_redis, _redis_url),
}


@dataclass(frozen=True)
class Databases:
    """The servers that run: the URL of each by its name, and their versions."""

    urls: dict[str, str]
    versions: dict[str, str]


@contextmanager
def running_databases(rows: Sequence[Row], core: int | None) -> Iterator[Databases]:
    """Each server that one of `rows` needs. The servers run on `core`; where it is None, anywhere.

    Raises ServiceMissingError where this machine cannot run one.
    """
    with ExitStack() as stack:
        running = Databases({}, {})
        for name in dict.fromkeys(row.database for row in rows if row.database):
            start, url = DATABASES[name]
            with _children_on(core):
                server = stack.enter_context(start())
            running.urls[name] = url(server)
            # redis is also what the driver is called.
            running.versions[f"{name} server"] = server.version
        yield running


@contextmanager
def _children_on(core: int | None) -> Iterator[None]:
    """Processes that are started meanwhile, and those that they start, run on `core`."""
    usable = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, usable)
