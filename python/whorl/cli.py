"""The command line: ``whorl run script.py``, ``whorl run -m module``, ``whorl --version``."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from whorl._core import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

# The status of `python` when it cannot open the script, and of argparse for a wrong command line.
EXIT_USAGE = 2

RUN_USAGE = "whorl run [-h] [--drop-in] (script | -m module) [argument ...]"

RUN_DESCRIPTION = """\
Run a Python program on whorl's event loop, unchanged.

The program runs as `python` would run it: a script, a directory or zip file with
a __main__.py, or with -m a module. What follows its name belongs to the program.
"""

RUN_DETAILS = """\
Every event loop that asyncio's factories make in this process is whorl's, in every
thread: asyncio.run, asyncio.Runner, asyncio.new_event_loop, asyncio.get_event_loop
and event loop policies. uvloop's factories (uvloop.run, uvloop.install and so on)
return whorl's loop too, because servers choose uvloop by themselves where it is
installed. A loop class that the program names itself stays that class.

With --drop-in, `import aiohttp` gives whorl's HTTP client, and aiohttp's own server
and test utilities where aiohttp is installed; except clauses that name aiohttp's
exceptions catch what the client raises.

Child processes that are forked inherit this; children that start a new interpreter
(multiprocessing's spawn and forkserver, subprocess) run on asyncio's own loop.

The exit status is the program's; 2 means that the script could not be opened.

examples:
  whorl run examples/fetch.py https://www.python.org
  whorl run -m uvicorn app:application --port 8000
  whorl run --drop-in examples/fetch.py https://www.python.org
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (``sys.argv`` by default) and return the exit status.

    Raises :exc:`SystemExit` for ``--help``, ``--version`` and usage errors, and whatever the program that is
    run raises.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parser, run_parser = _parsers()
    if not arguments:
        parser.print_help(sys.stderr)
        return EXIT_USAGE
    if arguments[0] != "run":
        parser.parse_args(arguments)  # leaves by SystemExit: only `run` gets past the parser
        return EXIT_USAGE

    options, is_module, program = _split(arguments[1:])
    drop_in: bool = run_parser.parse_args(options).drop_in
    if not program:
        missing = "the name of a module after -m" if is_module else "a script, or -m and a module"
        run_parser.error(f"missing {missing}")
    target, *rest = program
    if target == "-" and not is_module:
        run_parser.error("reading the program from standard input is not supported")
    return _run(target, rest, is_module=is_module, drop_in=drop_in)


def _parsers() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    parser = argparse.ArgumentParser(
        prog="whorl",
        description="whorl: asyncio programs on an event loop written in Rust.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action="version", version=f"whorl {__version__}", help="print the version and exit"
    )
    commands = parser.add_subparsers(title="commands", metavar="command", required=True)
    run_parser = commands.add_parser(
        "run",
        usage=RUN_USAGE,
        help="run a Python program on whorl's event loop",
        description=RUN_DESCRIPTION,
        epilog=RUN_DETAILS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    run_parser.add_argument(
        "--drop-in", action="store_true", help="have `import aiohttp` give whorl's HTTP client"
    )
    return parser, run_parser


def _split(arguments: Sequence[str]) -> tuple[Sequence[str], bool, Sequence[str]]:
    """Split the arguments after ``run``: our own options, whether a module is named, the program's line.

    argparse cannot be left to it: it would take a ``--help`` meant for the program, and drop ``--``.
    """
    for index, argument in enumerate(arguments):
        own, rest = arguments[:index], arguments[index + 1 :]
        if argument == "-m":
            return own, True, rest
        if argument.startswith("-m"):
            return own, True, [argument[2:], *rest]
        if argument == "--":
            return own, False, rest
        if not argument.startswith("-") or argument == "-":
            return own, False, arguments[index:]
    return arguments, False, []


def _run(target: str, arguments: Sequence[str], *, is_module: bool, drop_in: bool) -> int:
    from whorl.default_loop import make_default
    from whorl.program import CannotOpenError, run_file, run_module

    make_default()
    if drop_in:
        from whorl.http.compat.drop_in import install

        install()
    if is_module:
        run_module(target, arguments)
        return 0
    try:
        run_file(target, arguments)
    except CannotOpenError as error:
        print(f"whorl run: {error}", file=sys.stderr)
        return EXIT_USAGE
    return 0
