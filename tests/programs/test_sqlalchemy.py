"""SQLAlchemy's asyncio extension over each driver here: it runs their coroutines from greenlets."""

# ruff: noqa: E402 - the package is looked for before it is imported

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.programs.support import REQUIRE_SERVICES, Harness, require_package

require_package("sqlalchemy", "greenlet", "aiosqlite", "asyncpg", "psycopg", "aiomysql", "asyncmy")

from sqlalchemy import ForeignKey, String, func, select, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload

DRIVERS = (
    "sqlite+aiosqlite",
    "postgresql+asyncpg",
    "postgresql+psycopg",
    "mysql+aiomysql",
    "mysql+asyncmy",
)

Engines = Callable[[], Any]


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)
    books: Mapped[list[Book]] = relationship(back_populates="author")


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(50))
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


@pytest.fixture(params=DRIVERS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """Where the driver finds an empty database, and which driver it is."""
    driver = request.param
    if driver.startswith("sqlite"):
        return URL.create(driver, database=str(tmp_path / "books.db"))
    if driver.startswith("mysql"):
        server = request.getfixturevalue("mariadb")
        return URL.create(driver, server.user, server.password, "localhost", server.port, server.database)
    if driver.endswith("psycopg") and not REQUIRE_SERVICES:
        reason = "libpq not found (Debian: apt-get install libpq5)"
        pytest.importorskip("psycopg", reason=reason, exc_type=ImportError)
    server = request.getfixturevalue("postgres")
    options = {"ssl": "disable"} if driver.endswith("asyncpg") else {"sslmode": "disable"}
    return URL.create(
        driver, server.user, host="localhost", port=server.port, database=server.database, query=options
    )


@asynccontextmanager
async def engine_with_tables(url: URL) -> AsyncIterator[AsyncEngine]:
    """An engine whose database has the tables, empty; they are dropped afterwards."""
    engine = create_async_engine(url, pool_size=5, max_overflow=0)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield engine
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
    finally:
        await engine.dispose()


def test_objects_are_written_and_read(run: Harness, url: URL) -> None:
    async def main() -> None:
        async with engine_with_tables(url) as engine:
            async with AsyncSession(engine) as session, session.begin():
                for number in range(20):
                    books = [Book(title=f"book {n}") for n in range(number)]
                    session.add(Author(name=f"author {number}", books=books))
            async with AsyncSession(engine, expire_on_commit=False) as session:
                query = select(Author).options(selectinload(Author.books)).order_by(Author.id)
                authors = (await session.scalars(query)).all()
                assert [len(author.books) for author in authors] == list(range(20))
                book = await session.get_one(Book, authors[5].books[0].id)
                assert await session.run_sync(lambda _: book.author.name) == "author 5"  # loaded lazily
                session.add(Author(name="author 7"))
                with pytest.raises(IntegrityError):
                    await session.commit()
                await session.rollback()
                streamed = await session.stream_scalars(select(Book.title).order_by(Book.id))
                assert len([title async for title in streamed]) == 190

    run(main())


def test_sessions_at_once(run: Harness, url: URL) -> None:
    """Five connections serve twenty tasks, each with a greenlet of its own."""

    async def main() -> None:
        async with engine_with_tables(url) as engine:

            async def work(number: int) -> int:
                async with AsyncSession(engine) as session:
                    session.add(Author(name=f"author {number}"))
                    await session.commit()
                    query = select(Author.name).where(Author.name == f"author {number}")
                    assert (await session.scalars(query)).one() == f"author {number}"
                return number

            assert await asyncio.gather(*map(work, range(20))) == list(range(20))
            async with engine.connect() as connection:
                assert await connection.scalar(select(func.count()).select_from(Author)) == 20

    run(main())


def test_cancellation_gives_the_connection_back(run: Harness, url: URL) -> None:
    if url.drivername.startswith("sqlite"):
        pytest.skip("SQLite has no function that sleeps")
    sleep = text("SELECT sleep(60)" if url.drivername.startswith("mysql") else "SELECT pg_sleep(60)")

    async def main() -> None:
        engine = create_async_engine(url, pool_size=1, max_overflow=0)

        async def wait() -> None:
            async with engine.connect() as connection:
                await connection.execute(sleep)

        for _ in range(5):
            query = asyncio.ensure_future(wait())
            await asyncio.sleep(0.02)
            query.cancel()
            with pytest.raises((asyncio.CancelledError, DBAPIError)):
                await query
            async with engine.connect() as connection:
                assert await connection.scalar(text("SELECT 7")) == 7
        await engine.dispose()

    run(main())
