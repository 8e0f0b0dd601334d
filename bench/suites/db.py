"""Database drivers on whorl's event loop, against the same drivers on other event loops: rows and peers."""

from __future__ import annotations

from typing import Any

from bench.peers import Peer
from bench.suite import Method, Row, Suite

#: What the bytes alone cost: a blocking socket, which decodes nothing.
_BARE = ("socket",)


def _queries(name: str, title: str, workload: str, database: str, *, at_once: int = 1, **options: Any) -> Row:
    """A row of a driver that talks to a server. The heap is aged, as it is in a program of some size."""
    return Row(
        name,
        title,
        workload,
        Method.AGAINST_DATABASE,
        database=database,
        connections=at_once,
        throughput=True,
        aged_heap=True,
        **options,
    )


def _postgresql() -> list[Row]:
    server = "postgresql"
    return [
        _queries(
            "asyncpg-select",
            "asyncpg: prepared `select 1`, one at a time",
            "asyncpg_select",
            server,
            references=_BARE,
        ),
        _queries(
            "asyncpg-select-10",
            "asyncpg: prepared `select 1`, 10 connections at once",
            "asyncpg_select",
            server,
            at_once=10,
        ),
        _queries(
            "asyncpg-pool-10",
            "asyncpg: `pool.fetchval`, 10 tasks over 10 connections",
            "asyncpg_pool",
            server,
            at_once=10,
        ),
        _queries(
            "asyncpg-pool-10-no-reset",
            "asyncpg: the same with `reset` returning at once",
            "asyncpg_pool_without_reset",
            server,
            at_once=10,
        ),
        _queries(
            "asyncpg-rows",
            "asyncpg: 1,000 rows of int, text, float8 and timestamptz",
            "asyncpg_rows",
            server,
            references=_BARE,
        ),
        _queries(
            "asyncpg-plain-rows",
            "asyncpg: 1,000 rows of int, text and float8",
            "asyncpg_plain_rows",
            server,
        ),
        _queries(
            "asyncpg-numeric-rows",
            "asyncpg: 1,000 rows of int, text, float8 and numeric",
            "asyncpg_numeric_rows",
            server,
        ),
        _queries(
            "psycopg-select",
            "psycopg: prepared `select 1`, one at a time",
            "psycopg_select",
            server,
            references=_BARE,
        ),
        _queries(
            "psycopg-pipeline",
            "psycopg: prepared `select 1`, 32 in a pipeline",
            "psycopg_pipeline",
            server,
            references=_BARE,
        ),
        _queries(
            "sqlalchemy-select",
            "SQLAlchemy over asyncpg: a connection of the engine's pool, `select 1`, given back",
            "sqlalchemy_select",
            server,
        ),
    ]


def _others() -> list[Row]:
    return [
        _queries("redis-get", "redis-py: `GET`, one at a time", "redis_get", "redis", references=_BARE),
        _queries("redis-get-10", "redis-py: `GET`, 10 at once", "redis_get", "redis", at_once=10),
        Row(
            "aiosqlite-select",
            "aiosqlite: `select 1`, one at a time, thread included",
            "aiosqlite_select",
            connections=1,
            throughput=True,
            aged_heap=True,
        ),
    ]


_DRIVERS = ("asyncpg", "psycopg", "redis", "sqlalchemy", "aiosqlite")

_PEERS = (
    Peer("whorl", ("whorl", *_DRIVERS)),
    Peer("asyncio", _DRIVERS),
    Peer("uvloop", ("uvloop", *_DRIVERS)),
    Peer("rloop", ("rloop", *_DRIVERS)),
    Peer("zuvloop", ("zuvloop", *_DRIVERS)),
    Peer("socket", (), loop="asyncio", bare=True),
)

DB = Suite(
    "db",
    "database drivers on the event loop, against other event loops",
    (*_postgresql(), *_others()),
    {peer.name: peer for peer in _PEERS},
)
