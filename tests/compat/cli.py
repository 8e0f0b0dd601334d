"""The command line of the compatibility run."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.compat import rows, source
from tests.compat.clients import CLIENTS
from tests.compat.files import FILES, LONG
from tests.compat.worker import job
from tests.harness import report
from tests.harness.check import rows_match, rows_needed
from tests.harness.rows import RowError, row_for
from tests.harness.supervise import BAD, Limits, ModuleResult, Outcome, complete, run_jobs

#: What the table counts in addition to the outcomes.
COUNTED = report.Counted(tests="with it", made="sessions", none="")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.compat", description="Run aiohttp's own tests with whorl's HTTP client."
    )
    parser.add_argument(
        "--client",
        choices=CLIENTS,
        default="whorl",
        help="the client to run them with (default: %(default)s)",
    )
    parser.add_argument(
        "--loop",
        choices=("whorl", "asyncio"),
        default="whorl",
        help="the event loop to run them on (default: %(default)s)",
    )
    parser.add_argument(
        "--file", action="append", metavar="NAME", choices=FILES, help="only this (repeatable)"
    )
    parser.add_argument(
        "--jobs", type=int, default=2, metavar="N", help="files at once (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every result to FILE")
    parser.add_argument("--verbose", action="store_true", help="print tracebacks and what the tests printed")
    parser.add_argument(
        "--test-timeout",
        type=float,
        default=60,
        metavar="S",
        help="seconds for a test (default: %(default)s)",
    )
    parser.add_argument(
        "--file-timeout",
        type=float,
        default=600,
        metavar="S",
        help="seconds for a file (default: %(default)s)",
    )
    return parser.parse_args(arguments)


def strays(results: Sequence[ModuleResult]) -> list[str]:
    """Return a problem for every test that made a session of aiohttp's own, not of the chosen client."""
    return [
        f"{result.module}.{test}: the substitution missed {outcome.strays} sessions, which were aiohttp's own"
        for result in results
        for test, outcome in result.outcomes.items()
        if outcome.strays
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite; return 0 if all went well, 1 for failures or problems, 2 if it could not be run."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        version = source.installed_version()
        suite = source.tests()
        known = rows.load()
    except source.SourceError as error:
        print(f"compat: {error}", file=sys.stderr)
        return 2
    except RowError as error:
        print(f"compat: {rows.FILE.name}: {error}", file=sys.stderr)
        return 1
    files = [name for name in FILES if options.file is None or name in options.file]
    print(
        f"aiohttp {version}'s own tests with {options.client}'s client on {options.loop}'s loop, "
        f"{report.python_name()}: {len(files)} files"
    )
    order = sorted(files, key=lambda name: LONG.index(name) if name in LONG else len(LONG))
    done = run_jobs(
        (job(name, options.client, options.loop, suite) for name in order),
        Limits(options.test_timeout, options.file_timeout),
        options.jobs,
    )
    results = [done[name, options.client] for name in files]

    in_force = rows.in_force(known, options.client, options.loop)
    problems = rows_match(known, results) + rows_needed(in_force, results)
    for result in results:
        for test, outcome in result.outcomes.items():
            row = row_for(in_force, result.module, test)
            if row is not None and outcome.status in BAD:
                result.outcomes[test] = Outcome("not applicable", row.reason)
        complete(result, {})
    problems += strays(results)
    print(report.table([results], COUNTED))
    print(report.all_failures([results], options.verbose), end="")
    for problem in problems:
        print(f"PROBLEM  {problem}")
    if options.json:
        options.json.write_text(
            json.dumps(report.as_json([results], problems, COUNTED), indent=1), encoding="utf-8"
        )
    return 1 if problems or any(result.bad for result in results) else 0
