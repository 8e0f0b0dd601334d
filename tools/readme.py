"""Puts the measured tables into README.md, or checks that they are the ones there.

    python tools/readme.py            after `make bench`: write the tables of bench/results
    python tools/readme.py --check    exit with status 1 if README.md holds other ones

The figures in README.md are never typed: what stands between the marks of a suite is made from its JSON file.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from bench.suites import SUITES  # noqa: E402
from bench.tables import TableError, markdown  # noqa: E402


def with_table(text: str, suite: str, results: Path) -> str:
    """Return *text* with the table of *results*, or a note if there are none, between the marks of *suite*.

    Raises ValueError if *text* does not have each mark once, in their order.
    """
    begin_mark = f"<!-- measured {suite}: written by tools/readme.py -->"
    end_mark = f"<!-- end of measured {suite} -->"
    before, begin, rest = text.partition(begin_mark)
    _, end, after = rest.partition(end_mark)
    if not begin or not end or begin_mark in after or end_mark in after:
        raise ValueError(f"README.md needs one {begin_mark!r}, and after it one {end_mark!r}")
    not_yet = f"No run of `make bench BENCH={suite}` is kept in this repository yet."
    table = markdown(results) if results.exists() else not_yet
    return f"{before}{begin_mark}\n\n{table}\n\n{end_mark}{after}"


def main() -> int:
    """Run the command line; returns 0, 1 if the check finds a difference, 2 if it cannot work."""
    parser = argparse.ArgumentParser(description="Put the measured tables into README.md.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if it differs")
    options = parser.parse_args()
    readme = REPOSITORY / "README.md"
    try:
        wanted = text = readme.read_text()
        for suite in SUITES:
            wanted = with_table(wanted, suite, REPOSITORY / "bench" / "results" / f"{suite}.json")
    except (OSError, ValueError, TableError) as error:
        print(f"tools/readme.py: {error}", file=sys.stderr)
        return 2
    if options.check:
        if text != wanted:
            print("README.md does not show the kept results: run `python tools/readme.py`", file=sys.stderr)
        return int(text != wanted)
    readme.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
