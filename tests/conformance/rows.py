"""The rows of not_applicable.toml: which tests say nothing about an event loop of another make, and why.

There are two kinds, and both are checked when the control is run along with the loop:

* ``kind = "private"``: the tests are about private classes of another loop; no chosen loop is made in them.
* ``kind = "differs"``: stock asyncio passes (or skips) where the chosen loop does not, and the reason says
  why that is right. A row whose tests come out the same on both is stale, and an error.
"""

from __future__ import annotations

from pathlib import Path

from tests.harness import rows
from tests.harness.rows import Row

FILE = Path(__file__).with_name("not_applicable.toml")

KINDS = ("private", "differs")


def load(path: Path = FILE) -> list[Row]:
    """Read every row of ``path``. Raises RowError for one that is malformed."""
    return rows.load(path, KINDS)
