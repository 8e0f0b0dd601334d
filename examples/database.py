"""Make a thousand queries with asyncio: one by one, all together on one connection, and through a pool.

    python -m examples.database                                  on SQLite, in a temporary file
    python -m examples.database postgresql://user@host/database  on PostgreSQL, in temporary tables

Prints how long each way took. Every result is checked; the exit status is 1 if one is wrong or the database
cannot be used.

In a shop, one cashier who serves the next customer while another fetches his purse is concurrency; several
cashiers are parallelism. Here the one cashier is the event loop: while the database works on a query, the
loop takes the next. The database has several: PostgreSQL a process for each connection, aiosqlite a thread.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import importlib
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

#: Gets the price of an item by its number.
Fetch = Callable[[int], Awaitable[int]]

CONNECT_TIMEOUT = 10  # seconds

PICTURE = """\
In a shop, one cashier who serves the next customer while another fetches his purse is concurrency; several
cashiers are parallelism. Here the program's one cashier is the event loop.
  one by one: the next customer comes in when the one before has left, and the cashier mostly waits;
  together on one connection: all are in the shop, and the database serves them at one counter, in a queue;
  through a pool: the database has a counter for each connection. While it works at some, the cashier serves
  the next customer at another: concurrency in the program, parallelism in the database.
"""


class DatabaseError(Exception):
    """The database cannot be used, or its answer is wrong; the text says what to do."""


@dataclasses.dataclass
class Run:
    """One way of making the queries, and the time that they took, in seconds."""

    way: str
    queries: int
    seconds: float
    cpu_seconds: float


@dataclasses.dataclass
class Shop:
    """A database that has a price for each item: by one connection of it, and by a pool."""

    name: str
    on_one_connection: Fetch
    through_the_pool: Fetch


def price(item: int) -> int:
    """What an item costs."""
    return item * 7 + 1


def driver(name: str) -> Any:
    """Import the package that talks to the database."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise DatabaseError(f"{name} is not installed: pip install {name}") from None


@contextlib.asynccontextmanager
async def sqlite(items: int, connections: int) -> AsyncIterator[Shop]:
    """A database in a file of its own. aiosqlite has no pool: a queue of connections is one."""
    aiosqlite = driver("aiosqlite")

    async def fetch(connection: Any, item: int) -> int:
        async with connection.execute("SELECT price FROM item WHERE id = ?", (item,)) as cursor:
            [result] = await cursor.fetchone()
            return result

    with tempfile.TemporaryDirectory(prefix="database-") as directory:
        path = Path(directory, "shop.sqlite")
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            database.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, price INTEGER)")
            database.executemany("INSERT INTO item VALUES (?, ?)", [(n, price(n)) for n in range(items)])

        async with contextlib.AsyncExitStack() as stack:
            one = await stack.enter_async_context(aiosqlite.connect(path))
            pool: asyncio.Queue[Any] = asyncio.Queue()
            for _ in range(connections):
                pool.put_nowait(await stack.enter_async_context(aiosqlite.connect(path)))

            async def on_one_connection(item: int) -> int:
                return await fetch(one, item)

            async def through_the_pool(item: int) -> int:
                connection = await pool.get()
                try:
                    return await fetch(connection, item)
                finally:
                    pool.put_nowait(connection)

            yield Shop("SQLite, in a temporary file", on_one_connection, through_the_pool)


@contextlib.asynccontextmanager
async def postgresql(url: str, items: int, connections: int) -> AsyncIterator[Shop]:
    """A server's database, in which each connection has a temporary table: nothing of it stays."""
    asyncpg = driver("asyncpg")
    parts = urlsplit(url)
    # Without the password.
    server = f"{parts.hostname or 'the default host'}{parts.path}"

    async def fill(connection: Any) -> None:
        await connection.execute("CREATE TEMPORARY TABLE item (id int PRIMARY KEY, price int)")
        rows = [(item, price(item)) for item in range(items)]
        await connection.copy_records_to_table("item", records=rows)

    async def fetch(connection: Any, item: int) -> int:
        return await connection.fetchval("SELECT price FROM item WHERE id = $1", item)

    # A connection of PostgreSQL's works on one query at a time, and asyncpg refuses a second one meanwhile.
    turn = asyncio.Lock()

    async def on_one_connection(item: int) -> int:
        async with turn:
            return await fetch(one, item)

    # A connection that comes back is reset by default, which costs a second query; here each stays as it is.
    async def leave_as_it_is(connection: Any) -> None:
        pass

    async def through_the_pool(item: int) -> int:
        async with pool.acquire() as connection:
            return await fetch(connection, item)

    sizes = {"min_size": connections, "max_size": connections}
    try:
        async with contextlib.AsyncExitStack() as stack:
            one = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT)
            stack.push_async_callback(one.close)
            await fill(one)
            pool = await stack.enter_async_context(
                asyncpg.create_pool(url, timeout=CONNECT_TIMEOUT, init=fill, reset=leave_as_it_is, **sizes)
            )
            yield Shop(f"PostgreSQL, {server}", on_one_connection, through_the_pool)
    except TimeoutError:
        raise DatabaseError(f"{server} does not answer within {CONNECT_TIMEOUT} seconds") from None
    # A ValueError is asyncpg's for a URL that it cannot read.
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DatabaseError(f"{server} cannot be used: {str(error) or type(error).__name__}") from error


async def check(fetch: Fetch, item: int) -> None:
    """Get one price, and see that it is right."""
    found = await fetch(item)
    if found != price(item):
        raise DatabaseError(f"the price of item {item} is {price(item)}, not {found}")


async def timed(way: str, work: Awaitable[Any], queries: int) -> Run:
    """Measure *work*."""
    start, cpu_start = time.perf_counter(), time.process_time()
    await work
    return Run(way, queries, time.perf_counter() - start, time.process_time() - cpu_start)


async def main(url: str | None, queries: int, connections: int) -> tuple[str, list[Run]]:
    """Make the queries in each way; returns the database's name, and what each way took."""
    opened = sqlite(queries, connections) if url is None else postgresql(url, queries, connections)
    async with opened as shop:

        async def one_by_one() -> None:
            for item in range(queries):
                await check(shop.on_one_connection, item)

        def together(fetch: Fetch) -> Awaitable[Any]:
            return asyncio.gather(*[check(fetch, item) for item in range(queries)])

        return shop.name, [
            await timed("one by one", one_by_one(), queries),
            await timed("together on one connection", together(shop.on_one_connection), queries),
            await timed(f"through a pool of {connections}", together(shop.through_the_pool), queries),
        ]


def report(name: str, runs: list[Run]) -> str:
    """Return a line for each way."""
    lines = [f"{name}: {runs[0].queries:,} queries, every result checked"]
    for run in runs:
        rate = f"{run.queries / run.seconds:>10,.0f} queries/s"
        cpu = f"{run.cpu_seconds / run.queries * 1e6:>8.0f} µs of CPU time each"
        lines.append(f"{run.way:<28}{run.seconds:>8.3f} s{rate}{cpu}")
    return "\n".join(lines)


def database_url(text: str) -> str:
    """An argument of the command line that is a URL of PostgreSQL's."""
    try:
        scheme = urlsplit(text).scheme
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"malformed URL: {error}") from None
    if scheme not in ("postgresql", "postgres"):
        raise argparse.ArgumentTypeError(
            f"the scheme is {scheme!r}; use postgresql://user@host/database, or no URL for SQLite"
        )
    return text


def positive(text: str) -> int:
    """An argument of the command line that is a number above 0."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description="Make queries one by one, all together, and through a pool of connections."
    )
    parser.add_argument(
        "url", nargs="?", type=database_url, metavar="URL", help="postgresql://user@host/database (SQLite)"
    )
    parser.add_argument("--queries", type=positive, default=1000, metavar="N", help="how many (1000)")
    parser.add_argument(
        "--connections", type=positive, default=10, metavar="N", help="how many the pool has (10)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    return parser.parse_args()


if __name__ == "__main__":
    options = arguments()
    try:
        name, runs = asyncio.run(main(options.url, options.queries, options.connections))
    except DatabaseError as error:
        sys.exit(f"database.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)  # 128 + SIGINT, as shells count it
    if options.json:
        print(json.dumps({"database": name, "runs": [dataclasses.asdict(run) for run in runs]}))
    else:
        print(report(name, runs), PICTURE, sep="\n\n", end="")
