"""What is said of a suite, and the ways to run one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

#: The ways to run pytest: what comes before it on Python's command line.
WAYS = {
    "whorl": ("-m", "whorl", "run"),
    "drop-in": ("-m", "whorl", "run", "--drop-in"),
    "asyncio": (),
}
CONTROL = "asyncio"


class SuiteError(Exception):
    """A suite cannot be run here; the message says why, and what to do."""


@dataclass(frozen=True)
class Setting:
    """What the tests need of the servers that run with them.

    Attributes:
        environment: environment variables.
        arguments: for pytest.
        prefix: what comes before the name of the interpreter on the command line.
    """

    environment: dict[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    prefix: tuple[str, ...] = ()


#: Runs servers while its context lasts. It is given the Python of the suite's environment, and a directory
#: for logs.
Servers = Callable[[Path, Path], AbstractContextManager[Setting]]


@dataclass(frozen=True)
class Suite:
    """A package's test-suite.

    Attributes:
        package: its name and pinned version, as pip takes them.
        needs: what else its tests import, for an environment of the suite's own.
        sha256: the digest of its source distribution, which pip checks; not checked if it is empty.
        requirements: the file in `requirements` to make the environment from, in place of `package` and
            `needs`. The suites that have one file share an environment.
        tests: the directory of the tests, in the source distribution or (with `installed`) in the package.
        keep: other files of the source distribution which the tests read. The package's own source is left
            out: imported from there, it would lack its compiled parts.
        arguments: for pytest.
        installed: whether the tests come with the installed package.
        own: whether the tests are this project's (tests/programs), as the package publishes none that run.
        environment: environment variables for the tests.
        files: patterns of the names of test files.
        modules: the modules to run, if not all: parts of their paths.
        whole: whether one process runs all modules, which is quicker if they share costly fixtures.
        way: how it is run on whorl, a key of WAYS.
        servers: what runs with the tests.
        packages: what has to be installed on the machine for that, by Debian's names.
        left_out: tests that do not apply (the beginnings of pytest's ids), each with the reason.
        left_out_marks: the same by marks.
        not_run: why it is not run at all; it has a row in the table that says so.
    """

    package: str
    needs: tuple[str, ...] = ()
    sha256: str = ""
    requirements: str = ""
    tests: str = "tests"
    keep: tuple[str, ...] = ("pyproject.toml", "pytest.ini", "setup.cfg")
    arguments: tuple[str, ...] = ()
    installed: bool = False
    own: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ("test_*.py", "*_test.py")
    modules: tuple[str, ...] = ()
    whole: bool = False
    way: str = "whorl"
    servers: Servers | None = None
    packages: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    left_out_marks: dict[str, str] = field(default_factory=dict)
    not_run: str = ""

    @property
    def selection(self) -> tuple[str, ...]:
        """Arguments for pytest that leave out what does not apply."""
        chosen = tuple(f"--deselect={prefix}" for prefix in self.left_out)
        if self.left_out_marks:
            chosen += ("-m", " and ".join(f"not {mark}" for mark in self.left_out_marks))
        return chosen

    def modules_in(self, directory: Path) -> list[Path]:
        """The suite's test modules, without its benchmarks."""
        found = {path for pattern in self.files for path in (directory / self.tests).rglob(pattern)}
        return sorted(path for path in found if "benchmark" not in path.name and self._has(path, directory))

    def _has(self, path: Path, directory: Path) -> bool:
        return not self.modules or any(part in str(path.relative_to(directory)) for part in self.modules)
