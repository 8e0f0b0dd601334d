"""The command line of the measurements."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench import runner
from bench.results import Results, ResultsError
from bench.sampling import SampleError, UnavailableError
from bench.suites import SUITES
from bench.tables import markdown


def main() -> int:
    """Runs one command; returns its exit status: 0, 1 if a row failed, 2 if it could not start."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures whorl against its peers.")
    commands = parser.add_subparsers(dest="command", required=True)
    for suite in SUITES.values():
        runner.add_arguments(commands.add_parser(suite.name, help=suite.title), suite)
    table = commands.add_parser("table", help="print the Markdown table of a result")
    table.add_argument("file", type=Path, nargs="?", default=Path("bench/results/loop.json"))
    arguments = parser.parse_args()
    try:
        if arguments.command in SUITES:
            return runner.run(SUITES[arguments.command], arguments)
        print(markdown(Results.read(arguments.file)))
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    except (OSError, ResultsError, RuntimeError, SampleError, UnavailableError, ValueError) as error:
        print(f"python -m bench: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
