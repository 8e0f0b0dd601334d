"""The command line.

Each suite comes from the package's source distribution (or, for a few, from the package itself), which pip
fetches, and runs in a virtual environment that is made for the interpreter that runs this. The ways are the
user's own: packages that use a loop are run by ``whorl run -m pytest …``, packages that use aiohttp's client
by ``whorl run --drop-in -m pytest …``. Stock asyncio and aiohttp are the control: some tests fail anywhere.
"""

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.foreign.databases import DATABASES
from tests.foreign.environment import TAG, fetch_tests, install_packages, make_environment
from tests.foreign.programs import PROGRAMS
from tests.foreign.report import only_on_whorl, table
from tests.foreign.run import Outcome, run_suite, ways_of
from tests.foreign.suite import CONTROL, REPOSITORY, WAYS, Suite, SuiteError

GROUPS: dict[str, dict[str, Suite]] = {"programs": PROGRAMS, "databases": DATABASES}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.foreign",
        description="Run the public test-suites of other packages on whorl's loop and on stock asyncio.",
    )
    parser.add_argument("--group", choices=GROUPS, help="only the suites of this group")
    parser.add_argument("--suite", action="append", metavar="NAME", help="only this suite (repeatable)")
    parser.add_argument(
        "--module", action="append", default=[], help="only modules whose path has this in it (repeatable)"
    )
    parser.add_argument("--way", action="append", choices=WAYS, default=[], help="only this way (repeatable)")
    parser.add_argument(
        "--limit", type=int, default=300, help="seconds for each module (default: %(default)s)"
    )
    parser.add_argument(
        "--work", type=Path, default=REPOSITORY / ".build" / "foreign", help="where to keep it all"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None, groups: Mapping[str, Mapping[str, Suite]] = GROUPS) -> int:
    """Run the suites; return 1 if something fails on whorl alone or cannot be run, 2 for a wrong name."""
    options = parse(arguments)
    known = {
        name: suite
        for group, suites in groups.items()
        if options.group in (None, group)
        for name, suite in suites.items()
    }
    if unknown := sorted(set(options.suite or ()) - set(known)):
        print(f"foreign: no suite {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    if options.way != [CONTROL] and importlib.util.find_spec("whorl") is None:
        print("foreign: whorl is not built for this interpreter: run make build", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    results: dict[str, dict[str, Outcome] | str] = {}
    errors = []
    for name in options.suite or known:
        try:
            results[name] = _run(name, known[name], options)
        except SuiteError as error:
            errors.append(f"{name}: {error}")
            results[name] = str(error)
    print()
    print(table(known, results))
    alone = only_on_whorl(known, results)
    print(f"fails on whorl and not in the control: {len(alone)}")
    for line in alone:
        print(f"  {line}")
    for line in errors:
        print(f"foreign: {line}", file=sys.stderr)
    return 1 if alone or errors else 0


def _run(name: str, suite: Suite, options: argparse.Namespace) -> dict[str, Outcome] | str:
    if suite.not_run:
        return suite.not_run
    print(f"{name}: {suite.package} on Python {TAG}", flush=True)
    work = options.work.resolve()
    install_packages(suite.packages)
    python = make_environment(name, suite, work)
    directory = fetch_tests(suite, python, work)
    ways = ways_of(suite, options.way)
    return run_suite(suite, python, directory, work / f"{name}-{TAG}", ways, options.module, options.limit)
