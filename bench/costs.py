"""What docs/databases.md shows of the results: the cost of a query's parts, by the difference of two rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.peers import SUBJECT
from bench.results import ResultsError
from bench.suite import Unit
from bench.tables import figure

if TYPE_CHECKING:
    from bench.results import Results


@dataclass(frozen=True)
class Cost:
    """A line of the table: a row's median on a peer, or what it is above that of another row."""

    title: str
    row: str
    peer: str = SUBJECT
    above: str = ""

    def value(self, results: Results) -> float:
        """The cost in the row's unit. Raises ResultsError where a row has no figure."""
        return self._median(results, self.row) - (self._median(results, self.above) if self.above else 0.0)

    def _median(self, results: Results, row: str) -> float:
        cell = results.of_row(row).get(self.peer)
        if cell is None or cell.value is None:
            raise ResultsError(f"the results of {results.suite} have no figure of {self.peer} in {row}")
        return cell.value.median


COSTS = (
    Cost("a prepared `select 1` by asyncpg, one at a time", "asyncpg-select"),
    Cost("the same by psycopg", "psycopg-select"),
    Cost("the same by a blocking socket without a driver", "asyncpg-select", "socket"),
    Cost("by asyncpg with 10 connections at once, each", "asyncpg-select-10"),
    Cost("by psycopg with 32 in a pipeline, each", "psycopg-pipeline"),
    Cost("by the methods of asyncpg's pool, 10 tasks at once, each", "asyncpg-pool-10"),
    Cost("of that, the pool's reset of the connection", "asyncpg-pool-10", above="asyncpg-pool-10-no-reset"),
    Cost("by SQLAlchemy over asyncpg, with the transaction around it", "sqlalchemy-select"),
    Cost("1,000 rows of int, text and float8 by asyncpg", "asyncpg-plain-rows"),
    Cost("a column of `timestamptz` more", "asyncpg-rows", above="asyncpg-plain-rows"),
    Cost("a column of `numeric` more", "asyncpg-numeric-rows", above="asyncpg-plain-rows"),
    Cost("a `GET` by redis-py, one at a time", "redis-get"),
    Cost("10 at once, each", "redis-get-10"),
    Cost("`select 1` on SQLite by aiosqlite, its thread included", "aiosqlite-select"),
)


def table(results: Results) -> str:
    """The costs as a table of Markdown."""
    lines = [f"| {cost.title} | {figure(cost.value(results), Unit.CPU_US)} |" for cost in COSTS]
    return "\n".join(["| | CPU time |", "|---|---:|", *lines])
