"""Puts what was measured into the documents, or checks that it is what they hold.

    python tools/readme.py            after `make bench`: write the tables and the picture from bench/results
    python tools/readme.py --check    exit with status 1 if one of them differs

No figure is typed by hand: the picture, and all between the two marks of a table, come from the JSON files.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from bench import chart, costs, summary  # noqa: E402
from bench.results import Results, ResultsError  # noqa: E402
from bench.suites import SUITES  # noqa: E402
from bench.tables import made_at, markdown  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Which document holds which tables.
TABLES = {
    "README.md": ("summary",),
    "docs/benchmarks.md": tuple(SUITES),
    "docs/databases.md": ("costs",),
}
PICTURE = "docs/measured.svg"


def with_table(text: str, name: str, table: str) -> str:
    """Return *text* with *table* between the two marks of the table called *name*.

    Raises ValueError if *text* does not have each mark once, in their order.
    """
    begin_mark = f"<!-- measured {name}: written by tools/readme.py -->"
    end_mark = f"<!-- end of measured {name} -->"
    before, begin, rest = text.partition(begin_mark)
    _, end, after = rest.partition(end_mark)
    if not begin or not end or begin_mark in after or end_mark in after:
        raise ValueError(f"there has to be one {begin_mark!r}, and after it one {end_mark!r}")
    return f"{before}{begin_mark}\n\n{table}\n\n{end_mark}{after}"


def written(results: Mapping[str, Results]) -> dict[str, str]:
    """The text that each document and the picture should have, by its path in the repository."""
    rows = summary.rows(results)
    tables = {name: markdown(one) for name, one in results.items()}
    tables |= {"summary": summary.table(rows), "costs": costs.table(results["db"])}
    texts = {PICTURE: chart.svg(rows, made_at(results["loop"].environment))}
    for document, names in TABLES.items():
        text = (REPOSITORY / document).read_text()
        for name in names:
            text = with_table(text, name, tables[name])
        texts[document] = text
    return texts


def main() -> int:
    """Run the command line; returns 0, 1 if the check finds a difference, 2 if it cannot work."""
    parser = argparse.ArgumentParser(description="Put what was measured into the documents.")
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit with 1 if something differs"
    )
    options = parser.parse_args()
    try:
        results = {name: Results.read(REPOSITORY / "bench" / "results" / f"{name}.json") for name in SUITES}
        texts = written(results)
    except (OSError, ValueError, ResultsError) as error:
        print(f"tools/readme.py: {error}", file=sys.stderr)
        return 2
    paths = {name: REPOSITORY / name for name in texts}
    stale = [name for name, path in paths.items() if not path.exists() or path.read_text() != texts[name]]
    if not options.check:
        for name in stale:
            paths[name].write_text(texts[name])
    elif stale:
        print(f"not the kept results in {', '.join(stale)}: run `python tools/readme.py`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
