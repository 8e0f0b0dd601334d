"""Checks of not_applicable.toml against what really ran, so that a row cannot outlive its reason."""

from __future__ import annotations

from collections.abc import Sequence

from tests.harness.rows import Row
from tests.harness.supervise import ModuleResult, Outcome


def rows_differ(
    known: Sequence[Row], chosen: Sequence[ModuleResult], control: Sequence[ModuleResult]
) -> list[str]:
    """Return a problem for every test whose row has no ground; rows.py says what each kind promises."""
    problems = []
    stock = {result.module: result.outcomes for result in control}
    for result in chosen:
        for test in result.ids:
            row = next((row for row in known if row.applies() and row.matches(result.module, test)), None)
            mine, theirs = result.outcomes.get(test), stock[result.module].get(test)
            if row is None or mine is None or theirs is None:
                continue
            problem = _objection(row, mine, theirs)
            if problem:
                problems.append(f"{row}: {test}: {problem}")
    return problems


def _objection(row: Row, mine: Outcome, theirs: Outcome) -> str | None:
    if row.kind == "private":
        return "is not about private classes only: it made a loop of the chosen class" if mine.made else None
    if mine.status == theirs.status:
        return f"comes out the same on both loops ({mine.status})"
    return None
