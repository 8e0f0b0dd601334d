"""The rows of not_applicable.toml: which tests say nothing about an event loop of another make, and why.

A row names a module, patterns of ``Class.test`` ids in it, the Python versions it is for, and its reason.
There are two kinds, and both are checked when the control is run beside the loop:

* ``kind = "private"``: the tests are about private classes of another loop; no chosen loop is made in them.
* ``kind = "differs"``: stock asyncio passes (or skips) where the chosen loop does not, and the reason says
  why that is right. A row whose tests come out the same on both is stale, and an error.
"""

from __future__ import annotations

import fnmatch
import re
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("not_applicable.toml")

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
        """Whether ``test`` (``Class.test``) of ``module`` is covered by this row."""
        return module == self.module and any(fnmatch.fnmatchcase(test, pattern) for pattern in self.tests)

    def idle_patterns(self, tests: Iterable[str]) -> list[str]:
        """Return the patterns of this row that match none of ``tests``, the ids its module has."""
        known = list(tests)
        return [pattern for pattern in self.tests if not fnmatch.filter(known, pattern)]

    def __str__(self) -> str:
        return f"row {self.number} ({self.module}: {', '.join(self.tests)})"


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


def load(path: Path = FILE) -> list[Row]:
    """Read every row of ``path``. Raises RowError for one that is malformed."""
    with path.open("rb") as file:
        entries: list[dict[str, Any]] = tomllib.load(file).get("row", [])
    return [_row(number, entry) for number, entry in enumerate(entries, 1)]


def _row(number: int, entry: dict[str, Any]) -> Row:
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
    if row.kind not in ("private", "differs"):
        raise RowError(f"row {number}: kind must be 'private' or 'differs'")
    try:
        row.applies()
    except ValueError as error:
        raise RowError(f"row {number}: {error}") from None
    return row


def row_for(rows: Iterable[Row], module: str, test: str) -> Row | None:
    """Return the first row that applies to this Python and covers ``test`` of ``module``."""
    return next((row for row in rows if row.applies() and row.matches(module, test)), None)
