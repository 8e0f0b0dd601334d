"""Rows of a ``not_applicable.toml``: which tests of a foreign suite say nothing about us, and why.

A row names a module, patterns of the tests in it, the Python versions it is for, its kind and its reason.
Which kinds there are, and what each promises, is the suite's.
"""

from __future__ import annotations

import fnmatch
import re
import sys
import tomllib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_COMPARISON = re.compile(r"(>=|<=|==|<|>)\s*(\d+(?:\.\d+)*)$")


class RowError(Exception):
    """A row is malformed; the message names the row."""


@dataclass(frozen=True)
class Row:
    """One entry of the file; ``number`` counts from 1 in file order."""

    number: int
    module: str
    tests: tuple[str, ...]
    python: str
    kind: str
    reason: str

    def applies(self, version: tuple[int, ...] = sys.version_info[:3]) -> bool:
        """Whether the row is meant for Python ``version``."""
        return version_matches(self.python, version)

    def matches(self, module: str, test: str) -> bool:
        """Whether ``test`` of ``module`` is covered by this row."""
        return module == self.module and any(covers(pattern, test) for pattern in self.tests)

    def idle_patterns(self, tests: Iterable[str]) -> list[str]:
        """Return the patterns of this row that match none of ``tests``, the ids its module has."""
        known = list(tests)
        return [pattern for pattern in self.tests if not any(covers(pattern, test) for test in known)]

    def __str__(self) -> str:
        return f"row {self.number} ({self.module}: {', '.join(self.tests)})"


def covers(pattern: str, test: str) -> bool:
    """Whether ``pattern`` stands for ``test``, such as ``Class.test_name`` or ``test_name[parameters]``.

    A pattern with parameters is taken as it is written; any other may have the wildcards of a shell, and
    stands for all parameters.
    """
    if "[" in pattern:
        return pattern == test
    return fnmatch.fnmatchcase(test.partition("[")[0], pattern)


def version_matches(specification: str, version: tuple[int, ...]) -> bool:
    """Whether ``version`` satisfies ``specification``, such as ``>=3.11, <3.13``; empty means always.

    Versions compare to the precision written: 3.13.2 is ``==3.13`` and ``<=3.13``. Raises ValueError if
    malformed.
    """
    for part in filter(None, (part.strip() for part in specification.split(","))):
        match = _COMPARISON.match(part)
        if match is None:
            raise ValueError(f"not a version comparison: {part!r}")
        operator, text = match.groups()
        wanted = tuple(int(number) for number in text.split("."))
        have = version[: len(wanted)]
        satisfied = {
            ">=": have >= wanted,
            "<=": have <= wanted,
            "==": have == wanted,
            "<": have < wanted,
            ">": have > wanted,
        }[operator]
        if not satisfied:
            return False
    return True


def load(path: Path, kinds: Collection[str]) -> list[Row]:
    """Read every row of ``path``. Raises RowError for one that is malformed, or of none of the ``kinds``."""
    with path.open("rb") as file:
        entries: list[dict[str, Any]] = tomllib.load(file).get("row", [])
    return [_row(number, entry, kinds) for number, entry in enumerate(entries, 1)]


def _row(number: int, entry: dict[str, Any], kinds: Collection[str]) -> Row:
    unknown = entry.keys() - {"module", "tests", "python", "kind", "reason"}
    if unknown:
        raise RowError(f"row {number}: unknown keys {sorted(unknown)}")
    tests = entry.get("tests")
    if not (isinstance(tests, list) and tests and all(isinstance(test, str) for test in tests)):
        raise RowError(f"row {number}: tests must be a list of patterns")
    row = Row(
        number=number,
        module=str(entry.get("module", "")),
        tests=tuple(tests),
        python=str(entry.get("python", "")),
        kind=str(entry.get("kind", "")),
        reason=str(entry.get("reason", "")).strip(),
    )
    if not row.module or not row.reason:
        raise RowError(f"row {number}: module and reason are needed")
    if row.kind not in kinds:
        raise RowError(f"row {number}: kind must be {' or '.join(map(repr, kinds))}, not {row.kind!r}")
    try:
        row.applies()
    except ValueError as error:
        raise RowError(f"row {number}: {error}") from None
    return row


def row_for(rows: Iterable[Row], module: str, test: str) -> Row | None:
    """Return the first row that applies to this Python and covers ``test`` of ``module``."""
    return next((row for row in rows if row.applies() and row.matches(module, test)), None)
