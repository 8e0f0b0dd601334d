"""Checks of rows against what really ran, so that a row cannot outlive its reason."""

from __future__ import annotations

from collections.abc import Sequence

from tests.harness.rows import Row, row_for
from tests.harness.supervise import ModuleResult


def rows_match(known: Sequence[Row], results: Sequence[ModuleResult]) -> list[str]:
    """Return a problem for every pattern that covers no test although its row applies to this Python."""
    problems = []
    found = {result.module: result.ids for result in results}
    for row in known:
        if row.applies() and found.get(row.module):
            problems += [
                f"{row}: {pattern!r} matches no test" for pattern in row.idle_patterns(found[row.module])
            ]
    return problems


def rows_needed(known: Sequence[Row], results: Sequence[ModuleResult]) -> list[str]:
    """Return a problem for every test that passes although a row says that it does not apply."""
    return [
        f"row {row.number}: {result.module}.{test} passes, so the row must not name it"
        for result in results
        for test, outcome in result.outcomes.items()
        if outcome.status == "passed" and (row := row_for(known, result.module, test)) is not None
    ]
