"""What a run prints, and the JSON file it writes."""

from __future__ import annotations

import platform
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.harness.supervise import BAD, ModuleResult

_HEADS = ("passed", "failed", "skipped", "n/a")


@dataclass(frozen=True)
class Counted:
    """The objects under test, which are counted: ``tests`` and ``made`` are the heads of two columns.

    ``none`` is said of a module in which tests ran and none was made; it may name the ``{subject}``.
    """

    tests: str
    made: str
    none: str


def python_name() -> str:
    """Return the running interpreter in words, such as ``CPython 3.14.0 free-threaded``."""
    free = " free-threaded" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    return f"{platform.python_implementation()} {platform.python_version()}{free}"


def counts(result: ModuleResult) -> tuple[int, int, int, int, int]:
    """Return the numbers under the table's heads; the last is the tests in which any was made."""
    with_made = sum(outcome.made > 0 for outcome in result.outcomes.values())
    return (
        result.count("passed"),
        result.count(*BAD),
        result.count("skipped"),
        result.count("not applicable"),
        with_made,
    )


def table(columns: Sequence[Sequence[ModuleResult]], counted: Counted) -> str:
    """Return the table of modules, one group of columns per subject."""
    subjects = [column[0].subject for column in columns]
    heads = (*_HEADS, counted.tests, counted.made)
    width = max(len(result.module) for result in columns[0]) + 2
    cell = max(8, *(len(head) + 2 for head in heads))
    lines = [
        " " * width + "".join(subject.rjust(cell * len(heads)) for subject in subjects),
        "module".ljust(width) + "".join(head.rjust(cell) for _ in subjects for head in heads),
    ]
    totals = [[0] * len(heads) for _ in subjects]
    for position, first in enumerate(columns[0]):
        line = first.module.ljust(width)
        for column, total in zip(columns, totals, strict=True):
            numbers = [*counts(column[position]), column[position].made]
            total[:] = [a + b for a, b in zip(total, numbers, strict=True)]
            line += "".join(str(number).rjust(cell) for number in numbers)
        lines.append((line + "  " + remark(columns[0][position], counted)).rstrip())
    lines.append(
        "total".ljust(width) + "".join("".join(str(n).rjust(cell) for n in total) for total in totals)
    )
    return "\n".join(lines)


def remark(result: ModuleResult, counted: Counted) -> str:
    """Return what has to be said about a module in addition to its numbers, or an empty string."""
    remarks = []
    for status in ("hung", "crashed", "not run"):
        if number := result.count(status):
            remarks.append(f"{number} {status}")
    ran = result.count("passed", "failed", "hung", "crashed")
    if ran and result.made == 0 and counted.none:
        remarks.append(counted.none.format(subject=result.subject))
    return ", ".join(remarks)


def failures(result: ModuleResult, verbose: bool) -> str:
    """Return the ids of ``result`` that went wrong with the last line of the cause, or all if ``verbose``."""
    lines = []
    for test, outcome in result.bad.items():
        text = outcome.detail.strip()
        last = text.splitlines()[-1][:160] if text and outcome.status == "failed" else text.split("\n")[0]
        lines.append(f"{outcome.status.upper():8} {result.subject}: {result.module}.{test}: {last}")
        if verbose and text:
            lines += ["         | " + line for line in text.splitlines()]
    return "\n".join(lines)


def all_failures(columns: Sequence[Sequence[ModuleResult]], verbose: bool) -> str:
    """Return what went wrong in every module, with what the module printed if ``verbose``; a line each."""
    lines = []
    for column in columns:
        for result in column:
            if result.bad:
                lines.append(failures(result, verbose))
                if verbose and result.log.strip():
                    lines.append("         output of the module:")
                    lines += ["         > " + line for line in result.log.strip().splitlines()[-60:]]
    return "".join(line + "\n" for line in lines)


def as_json(
    columns: Sequence[Sequence[ModuleResult]], problems: Sequence[str], counted: Counted
) -> dict[str, Any]:
    """Return the whole run as an object for the JSON file."""

    def key(head: str) -> str:
        return head.replace(" ", "_")

    return {
        "python": python_name(),
        "executable_version": sys.version,
        "problems": list(problems),
        "results": {
            column[0].subject: {
                result.module: {
                    **dict(
                        zip(
                            ("passed", "failed", "skipped", "not_applicable", key(counted.tests)),
                            counts(result),
                            strict=True,
                        )
                    ),
                    f"{key(counted.made)}_made": result.made,
                    "seconds": round(result.seconds, 2),
                    "tests": {
                        test: {
                            "status": outcome.status,
                            "seconds": outcome.seconds,
                            f"{key(counted.made)}_made": outcome.made,
                            f"stock_{key(counted.made)}_made": outcome.strays,
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
