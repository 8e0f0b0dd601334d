"""Runs the modules of a suite each way, in processes with a timeout, and reads what pytest reports.

A hang or a crash costs the modules of one process, and is reported as that.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.foreign.suite import CONTROL, WAYS, Setting, Suite

#: A suite that one process runs takes as long as so many modules.
WHOLE = 6


@dataclass
class Outcome:
    """What came of some modules one way; `broken` says of each that gave no results by test why not."""

    passed: int = 0
    skipped: int = 0
    not_applicable: int = 0
    failed: set[str] = field(default_factory=set)
    broken: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.broken:
            return ", ".join(self.broken.values())
        return f"{self.passed} passed, {len(self.failed)} failed, {self.skipped} skipped"

    def add(self, other: Outcome) -> None:
        """Take in the outcome of another module."""
        self.passed += other.passed
        self.skipped += other.skipped
        self.not_applicable += other.not_applicable
        self.failed |= other.failed
        self.broken |= other.broken

    def only_here(self, control: Outcome) -> list[str]:
        """What fails in this outcome, and not in the control."""
        broken = [f"{name}: {why}" for name, why in self.broken.items() if name not in control.broken]
        return sorted(broken) + sorted(self.failed - control.failed)


def read_results(report: Path, outcome: Outcome) -> None:
    """Add up a JUnit file."""
    for case in ET.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            outcome.failed.add(f"{case.get('classname', '')}::{case.get('name', '')}")
        elif "skipped" in kinds:
            outcome.skipped += 1
        else:
            outcome.passed += 1


def command_line(suite: Suite, way: str, python: Path, setting: Setting) -> list[str]:
    """The command that runs pytest one way, up to what belongs to a module."""
    before = () if suite.own else WAYS[way]  # the project's own tests take the loop from a variable
    command = [*setting.prefix, str(python), *before, "-m", "pytest", "-q"]
    command += ["-o", "addopts=", "-o", "junit_family=xunit1", "-p", "no:cacheprovider", "-p", "no:xdist"]
    return [*command, *suite.arguments, *setting.arguments, *suite.selection]


def run_modules(
    suite: Suite, label: str, paths: list[str], way: str, python: Path, directory: Path, setting: Setting,
    results: Path, limit: int,
) -> Outcome:  # fmt: skip
    """Run some modules one way, in a process group of its own, which is gone afterwards."""
    log = results / f"{label}.{way}.log"
    outcome = Outcome()
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **suite.environment, **setting.environment}
    if suite.own:
        environment["WHORL_TEST_LOOPS"] = way
    with tempfile.TemporaryDirectory(prefix="whorl-foreign-", dir="/tmp") as scratch:
        os.chmod(scratch, 0o777)  # tests that run by another account write the report too
        report = Path(scratch, "report.xml")
        command = command_line(suite, way, python, setting)
        command += [f"--timeout={max(min(limit, 300) // 3, 10)}", f"--junit-xml={report}", *paths]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=directory, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True, env=environment,
            )  # fmt: skip
            try:
                status = process.wait(limit)
            except subprocess.TimeoutExpired:
                outcome.broken[label] = f"no end within {limit} s"
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # its children too
                process.wait()
        if outcome.broken:
            return outcome
        try:
            read_results(report, outcome)
        except (OSError, ET.ParseError):
            how = f"signal {-status}" if status < 0 else f"status {status}"
            outcome.broken[label] = f"ended by {how} without results"
            return outcome
        shutil.copyfile(report, log.with_suffix(".xml"))
    deselected = re.findall(r"\b(\d+) deselected\b", log.read_text(encoding="utf-8", errors="replace"))
    outcome.not_applicable = int(deselected[-1]) if deselected else 0
    if suite.own:  # the loop is a parameter
        outcome.failed = {re.sub(rf"\b{way}-|-?\b{way}\b", "", name) for name in outcome.failed}
    return outcome


def run_suite(
    suite: Suite, python: Path, directory: Path, home: Path, ways: list[str], parts: list[str], limit: int
) -> dict[str, Outcome]:
    """Run a suite each way; only modules whose path has one of the `parts`, if there are any."""
    modules = [str(path.relative_to(directory)) for path in suite.modules_in(directory)]
    modules = [path for path in modules if not parts or any(part in path for part in parts)]
    results = home / "results"
    results.mkdir(parents=True, exist_ok=True)
    if suite.whole and not parts:
        work = [("all", [suite.tests])]
        limit *= WHOLE
    else:
        work = [("-".join(Path(path).with_suffix("").parts), [path]) for path in modules]
    outcomes = {}
    for way in ways:
        outcomes[way] = Outcome()
        with _servers(suite, python, home) as setting:
            for label, paths in work:
                outcome = run_modules(suite, label, paths, way, python, directory, setting, results, limit)
                outcomes[way].add(outcome)
                print(f"  {way + ':':<9}{' '.join(paths):<52} {outcome}", flush=True)
    print(f"  logs: {results}", flush=True)
    return outcomes


@contextlib.contextmanager
def _servers(suite: Suite, python: Path, home: Path) -> Iterator[Setting]:
    if suite.servers is None:
        yield Setting()
        return
    with suite.servers(python, home) as setting:
        yield setting


def ways_of(suite: Suite, wanted: list[str]) -> list[str]:
    """The ways to run the suite: whorl's first, then the control."""
    return [way for way in (suite.way, CONTROL) if not wanted or way in wanted]
