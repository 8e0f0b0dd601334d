"""What a run prints, and the JSON file it writes."""

from __future__ import annotations

import platform
import sys
import sysconfig
from collections.abc import Sequence
from typing import Any

from tests.conformance.supervise import BAD, ModuleResult

_HEADS = ("passed", "failed", "skipped", "n/a", "on loop")


def python_name() -> str:
    """Return the running interpreter in words, such as ``CPython 3.14.0 free-threaded``."""
    free = " free-threaded" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    return f"{platform.python_implementation()} {platform.python_version()}{free}"


def counts(result: ModuleResult) -> tuple[int, int, int, int, int]:
    """Return the numbers under the table's heads; the last is the tests in which a chosen loop was made."""
    on_loop = sum(outcome.made > 0 for outcome in result.outcomes.values())
    return (
        result.count("passed"),
        result.count(*BAD),
        result.count("skipped"),
        result.count("not applicable"),
        on_loop,
    )


def table(columns: Sequence[Sequence[ModuleResult]]) -> str:
    """Return the table of modules, one group of columns per loop."""
    loops = [column[0].loop for column in columns]
    width = max(len(result.module) for result in columns[0]) + 2
    cell = 8
    group = cell * len(_HEADS) + 8
    lines = [
        " " * width + "".join(loop.rjust(group) for loop in loops),
        "module".ljust(width) + "".join("".join(h.rjust(cell) for h in (*_HEADS, "loops")) for _ in loops),
    ]
    totals = [[0] * (len(_HEADS) + 1) for _ in loops]
    for position, first in enumerate(columns[0]):
        line = first.module.ljust(width)
        for column, total in zip(columns, totals, strict=True):
            numbers = [*counts(column[position]), column[position].made]
            total[:] = [a + b for a, b in zip(total, numbers, strict=True)]
            line += "".join(str(number).rjust(cell) for number in numbers)
        lines.append((line + "  " + remark(columns[0][position])).rstrip())
    lines.append(
        "total".ljust(width) + "".join("".join(str(n).rjust(cell) for n in total) for total in totals)
    )
    return "\n".join(lines)


def remark(result: ModuleResult) -> str:
    """Return what has to be said about a module beside its numbers, or an empty string."""
    remarks = []
    for status in ("hung", "crashed", "not run"):
        if number := result.count(status):
            remarks.append(f"{number} {status}")
    ran = result.count("passed", "failed", "hung", "crashed")
    if ran and result.made == 0:
        remarks.append(f"no {result.loop} loop was made here")
    return ", ".join(remarks)


def failures(result: ModuleResult, verbose: bool) -> str:
    """Return the ids of ``result`` that went wrong with the last line of the cause, or all if ``verbose``."""
    lines = []
    for test, outcome in result.bad.items():
        text = outcome.detail.strip()
        last = text.splitlines()[-1][:160] if text and outcome.status == "failed" else text.split("\n")[0]
        lines.append(f"{outcome.status.upper():8} {result.loop}: {result.module}.{test}: {last}")
        if verbose and text:
            lines += ["         | " + line for line in text.splitlines()]
    return "\n".join(lines)


def as_json(columns: Sequence[Sequence[ModuleResult]], problems: Sequence[str]) -> dict[str, Any]:
    """Return the whole run as an object for the JSON file."""
    return {
        "python": python_name(),
        "executable_version": sys.version,
        "problems": list(problems),
        "loops": {
            column[0].loop: {
                result.module: {
                    **dict(
                        zip(
                            ("passed", "failed", "skipped", "not_applicable", "on_loop"),
                            counts(result),
                            strict=True,
                        )
                    ),
                    "loops_made": result.made,
                    "seconds": round(result.seconds, 2),
                    "tests": {
                        test: {
                            "status": outcome.status,
                            "seconds": outcome.seconds,
                            "loops_made": outcome.made,
                            "stock_loops_made": outcome.strays,
                            "detail": outcome.detail,
                        }
                        for test, outcome in result.outcomes.items()
                    },
                }
                for result in column
            }
            for column in columns
        },
    }
