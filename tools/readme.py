"""Puts the measured tables into the documents, or checks that they are the ones there.

    python tools/readme.py            after `make bench`: write the tables of bench/results
    python tools/readme.py --check    exit with status 1 if a document holds another one

The figures are never typed: what stands between the two marks of a suite is made from its JSON file.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from bench.tables import TableError, markdown  # noqa: E402

#: Which document shows the tables of which suites.
TABLES = {"README.md": ("loop", "http"), "docs/coming-from-aiohttp.md": ("http",)}


def with_table(text: str, suite: str, results: Path) -> str:
    """Return *text* with the table of *results*, or a note if there are none, between the marks of *suite*.

    Raises ValueError if *text* does not have each mark once, in their order.
    """
    begin_mark = f"<!-- measured {suite}: written by tools/readme.py -->"
    end_mark = f"<!-- end of measured {suite} -->"
    before, begin, rest = text.partition(begin_mark)
    _, end, after = rest.partition(end_mark)
    if not begin or not end or begin_mark in after or end_mark in after:
        raise ValueError(f"there has to be one {begin_mark!r}, and after it one {end_mark!r}")
    not_yet = f"No run of `make bench BENCH={suite}` is kept in this repository yet."
    table = markdown(results) if results.exists() else not_yet
    return f"{before}{begin_mark}\n\n{table}\n\n{end_mark}{after}"


def main() -> int:
    """Run the command line; returns 0, 1 if the check finds a difference, 2 if it cannot work."""
    parser = argparse.ArgumentParser(description="Put the measured tables into the documents.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if one differs")
    options = parser.parse_args()
    stale = []
    for name, suites in TABLES.items():
        document = REPOSITORY / name
        try:
            wanted = text = document.read_text()
            for suite in suites:
                wanted = with_table(wanted, suite, REPOSITORY / "bench" / "results" / f"{suite}.json")
        except (OSError, ValueError, TableError) as error:
            print(f"tools/readme.py: {name}: {error}", file=sys.stderr)
            return 2
        if text == wanted:
            continue
        if options.check:
            stale.append(name)
        else:
            document.write_text(wanted)
    if stale:
        names = " and ".join(stale)
        print(f"not the kept results in {names}: run `python tools/readme.py`", file=sys.stderr)
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main())
