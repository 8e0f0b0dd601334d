"""The rows of not_applicable.toml: which of aiohttp's tests are not about what its client promises, and why.

There are three kinds:

* ``kind = "private"``: the test uses private parts of aiohttp's classes, or puts mocks in their place.
* ``kind = "differs"``: whorl.http behaves otherwise, as its documentation says; the reason says why.
* ``kind = "loop"``: whorl's event loop behaves otherwise, whichever the client.

The tests of the rows are run too, after the others: one that passes has no place in the file.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.harness import rows
from tests.harness.rows import Row

FILE = Path(__file__).with_name("not_applicable.toml")

KINDS = ("private", "differs", "loop")


def load(path: Path = FILE) -> list[Row]:
    """Read every row of ``path``. Raises RowError for one that is malformed."""
    return rows.load(path, KINDS)


def in_force(known: Iterable[Row], client: str, loop: str) -> list[Row]:
    """Return the rows that say something about a run with ``client`` on ``loop``."""
    return [row for row in known if (loop if row.kind == "loop" else client) == "whorl"]
