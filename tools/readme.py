"""Puts the measured table into README.md, or checks that it is the one there.

    python tools/readme.py            after `make bench`: write the table of bench/results/loop.json
    python tools/readme.py --check    exit with status 1 if README.md holds another one

The figures in README.md are never typed: what stands between the two marks is made from the JSON file.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from bench.tables import TableError, markdown  # noqa: E402

BEGIN = "<!-- measured: written by tools/readme.py -->"
END = "<!-- end of measured -->"
NOT_YET = "No run of `make bench` is kept in this repository yet."


def with_table(text: str, results: Path) -> str:
    """Return *text* with the table of *results* between the marks, or with a note if there are none.

    Raises ValueError if *text* does not have each mark once, in their order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after:
        raise ValueError(f"README.md needs one {BEGIN!r}, and after it one {END!r}")
    table = markdown(results) if results.exists() else NOT_YET
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


def main() -> int:
    """Run the command line; returns 0, 1 if the check finds a difference, 2 if it cannot work."""
    parser = argparse.ArgumentParser(description="Put the measured table into README.md.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if it differs")
    options = parser.parse_args()
    readme = REPOSITORY / "README.md"
    try:
        text = readme.read_text()
        wanted = with_table(text, REPOSITORY / "bench" / "results" / "loop.json")
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
