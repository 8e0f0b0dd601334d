"""What ``make database`` shows: a plain asyncio program that makes queries, on asyncio's loop and on whorl's.

    python -m examples.database_demo          on SQLite
    python -m examples.database_demo URL      on PostgreSQL

:mod:`examples.database` is run by ``python`` and by ``whorl run``, each in a process of its own, with the
options that are given here. The exit status is that of a run that failed, and 130 after Ctrl-C.
"""

import json
import sys
from pathlib import Path
from typing import Any

from examples.children import WHORL_RUN, child, end_children_on_termination
from examples.database import PICTURE, Run, arguments

PROGRAM = Path(__file__).with_name("database.py")

#: What comes before the program on Python's command line.
LOOPS: dict[str, tuple[str, ...]] = {"asyncio": (), "whorl": WHORL_RUN}


def run(loop: str, options: list[str]) -> tuple[str, list[Run]]:
    """Run the example on one of :data:`LOOPS`; returns the database's name, and what each way took."""
    with child(sys.executable, *LOOPS[loop], str(PROGRAM), "--json", *options) as process:
        output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(process.returncode)
    result: dict[str, Any] = json.loads(output)
    return result["database"], [Run(**one) for one in result["runs"]]


def table(runs: dict[str, list[Run]]) -> str:
    """Return a line for each way, and in it a column for each loop."""
    head = "".join(f"{f'on {loop}':>44}" for loop in runs)
    lines = [f"{'':<26}{head}"]
    for ways in zip(*runs.values(), strict=True):
        line = f"{ways[0].way:<26}"
        for one in ways:
            rate, cpu = one.queries / one.seconds, one.cpu_seconds / one.queries * 1e6
            line += f"{one.seconds:>9.3f} s {rate:>9,.0f} queries/s {cpu:>6.0f} µs CPU"
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    """Run the demonstration."""
    # Read here as well, so that what is wrong with them is said once.
    arguments()
    end_children_on_termination()
    runs: dict[str, list[Run]] = {}
    for loop in LOOPS:
        name, runs[loop] = run(loop, sys.argv[1:])
    [queries] = {one.queries for ways in runs.values() for one in ways}
    print(f"{name}: {queries:,} queries, every result checked; CPU time of the program for each")
    print(table(runs), PICTURE, sep="\n\n", end="")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)  # 128 + SIGINT, as shells count it
