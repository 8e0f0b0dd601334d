"""The table of a run, and what fails on whorl alone."""

from __future__ import annotations

from collections.abc import Mapping

from tests.foreign.run import Outcome
from tests.foreign.suite import CONTROL, Suite

_HEADS = ("passed", "failed", "skipped", "n/a")

#: What came of each suite: its outcomes by way, or why it did not run.
Results = Mapping[str, Mapping[str, Outcome] | str]


def table(suites: Mapping[str, Suite], results: Results) -> str:
    """The table: a row for each suite and way, then the reasons of what did not run."""
    names = {name: _title(name, suites[name]) for name in results}
    width = max(map(len, names.values()), default=0) + 2
    lines = ["suite".ljust(width) + "loop".ljust(9) + "".join(head.rjust(9) for head in _HEADS)]
    reasons = []
    for name, outcomes in results.items():
        if isinstance(outcomes, str):
            lines.append(f"{names[name].ljust(width)}not run: {outcomes}")
            continue
        for way, outcome in outcomes.items():
            failed = len(outcome.failed) + len(outcome.broken)
            cells = (outcome.passed, failed, outcome.skipped, outcome.not_applicable)
            row = names[name].ljust(width) + way.ljust(9) + "".join(str(n).rjust(9) for n in cells)
            lines.append(f"{row}  {len(outcome.broken)} without results" if outcome.broken else row)
        left_out = suites[name].left_out | suites[name].left_out_marks
        reasons += [f"n/a: {name}: {what}: {why}" for what, why in left_out.items()]
    return "\n".join(lines + reasons)


def _title(name: str, suite: Suite) -> str:
    version = suite.package.partition("==")[2]
    return f"{name} {version}" + (" (tests/programs)" if suite.own else "")


def only_on_whorl(suites: Mapping[str, Suite], results: Results) -> list[str]:
    """What fails on whorl and not in the control, by name."""
    found = []
    for name, outcomes in results.items():
        if isinstance(outcomes, str) or suites[name].way not in outcomes:
            continue
        control = outcomes.get(CONTROL, Outcome())
        found += [f"{name}: {test}" for test in outcomes[suites[name].way].only_here(control)]
    return found
