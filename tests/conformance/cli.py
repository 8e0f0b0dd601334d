"""The command line of the conformance run."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from examples.window.display import DisplayError, virtual_display
from tests.conformance import check, rows
from tests.conformance.loops import CONTROL, LOOPS, why_unavailable
from tests.conformance.worker import PACKAGE, job
from tests.harness import report
from tests.harness.check import rows_match
from tests.harness.rows import RowError, row_for
from tests.harness.supervise import Limits, ModuleResult, complete, run_jobs

#: Modules that take longest, started first so that they do not end the run alone.
_LONG = (
    "test_subprocess",
    "test_ssl",
    "test_sslproto",
    "test_events",
    "test_tasks",
    "test_sendfile",
    "test_unix_events",
    "test_free_threading",
)

#: What the table counts in addition to the outcomes.
COUNTED = report.Counted(tests="on loop", made="loops", none="no {subject} loop was made here")


def suite_modules() -> list[str] | None:
    """Return the names of the suite's modules, or None if the interpreter came without its tests."""
    try:
        spec = importlib.util.find_spec(PACKAGE)
    except ModuleNotFoundError:
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    directory = Path(next(iter(spec.submodule_search_locations)))
    return sorted(path.stem for path in directory.glob("test_*.py"))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance",
        description="Run this interpreter's own asyncio test-suite on an event loop.",
    )
    parser.add_argument(
        "--loop", choices=LOOPS, default="whorl", help="the loop to run on (default: %(default)s)"
    )
    parser.add_argument(
        "--control",
        action="store_true",
        help="run stock asyncio as well, show both, and check the rows of not_applicable.toml against it",
    )
    parser.add_argument(
        "--module", action="append", metavar="NAME", help="only this test module (repeatable)"
    )
    parser.add_argument(
        "--jobs", type=int, default=2, metavar="N", help="modules at once (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every result to FILE")
    parser.add_argument(
        "--verbose", action="store_true", help="print tracebacks, and tests the loop did not reach"
    )
    parser.add_argument(
        "--test-timeout",
        type=float,
        default=60,
        metavar="S",
        help="seconds for one test (default: %(default)s)",
    )
    parser.add_argument(
        "--module-timeout",
        type=float,
        default=600,
        metavar="S",
        help="seconds for one module (default: %(default)s)",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite; return 0 if all went well, 1 for failures or bad rows, 2 if it could not be run."""
    options = parse(arguments)
    modules = suite_modules()
    if modules is None:
        print(
            f"conformance: skipped on {report.python_name()}: it came without {PACKAGE} "
            "(distributions split it off; on Debian it is in libpython3-testsuite)"
        )
        return 0
    if options.module:
        unknown = sorted(set(options.module) - set(modules))
        if unknown:
            print(f"conformance: no such module in {PACKAGE}: {', '.join(unknown)}", file=sys.stderr)
            return 2
        modules = [module for module in modules if module in options.module]
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    reason = why_unavailable(options.loop)
    if reason:
        print(f"conformance: cannot run on {options.loop}: {reason}", file=sys.stderr)
        return 2
    try:
        known = rows.load()
    except RowError as error:
        print(f"conformance: {rows.FILE.name}: {error}", file=sys.stderr)
        return 1
    loops = [options.loop]
    if options.control and options.loop != CONTROL:
        loops.append(CONTROL)
    comparing = len(loops) > 1
    print(
        f"asyncio's own test-suite of {report.python_name()} on {' and '.join(loops)}: {len(modules)} modules"
    )
    try:
        with _display_for(options.loop):
            results = _run(modules, loops, options, with_not_applicable=comparing)
    except DisplayError as error:
        print(f"conformance: cannot run on {options.loop}: {error}", file=sys.stderr)
        return 2

    problems = rows_match(known, results[0])
    if comparing:
        problems += check.rows_differ(known, results[0], results[1])
    for column in results:
        for result in column:
            left_out = {
                test: row.reason
                for test in result.ids
                if (row := row_for(known, result.module, test)) is not None
            }
            for test in left_out:
                result.outcomes.pop(test, None)
            complete(result, left_out)
    _print(results, problems, options.verbose)
    if options.json:
        options.json.write_text(
            json.dumps(report.as_json(results, problems, COUNTED), indent=1), encoding="utf-8"
        )
    return 1 if problems or any(result.bad for column in results for result in column) else 0


@contextmanager
def _display_for(loop: str) -> Iterator[None]:
    """Give the workers the display that ``loop`` needs."""
    if loop != "tk":
        yield
        return
    with virtual_display() as name:
        os.environ["DISPLAY"] = name
        yield


def _run(
    modules: Sequence[str], loops: Sequence[str], options: argparse.Namespace, with_not_applicable: bool
) -> list[list[ModuleResult]]:
    """Run every module on every loop, ``options.jobs`` at once; return one list of results per loop."""
    limits = Limits(options.test_timeout, options.module_timeout)
    order = sorted(modules, key=lambda module: _LONG.index(module) if module in _LONG else len(_LONG))
    work = [job(module, loop, with_not_applicable) for module in order for loop in loops]
    done = run_jobs(work, limits, options.jobs)
    return [[done[module, loop] for module in modules] for loop in loops]


def _print(results: Sequence[Sequence[ModuleResult]], problems: Sequence[str], verbose: bool) -> None:
    print(report.table(results, COUNTED))
    print(report.all_failures(results, verbose), end="")
    if verbose:
        for result in results[0]:
            for test, outcome in result.outcomes.items():
                if outcome.strays and not outcome.made:
                    print(f"STOCK    {result.module}.{test}: made a stock loop only")
    for problem in problems:
        print(f"ROW      {problem}")
