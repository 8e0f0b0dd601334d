"""Runs the public test-suites of other packages on whorl's loop, beside stock asyncio as the control.

    .venv/bin/python tools/foreign_suites.py                       every suite, in .build/foreign
    .venv/bin/python tools/foreign_suites.py --suite anyio --module test_sockets
    .venv/bin/python tools/foreign_suites.py --loop asyncio        the control alone

Each suite comes from the package's source distribution (or, for a few, from the package itself), which pip
fetches. It runs in a virtual environment of its own, made for the interpreter that runs this script, with
the packages that the suite needs. There is one process for each test module and loop, with a time limit, so
that a hang or a crash costs one module and is reported as that. On whorl the process is ``whorl run -m
pytest …``: the user's own way in.

Printed: for each module what passed, failed and was skipped on each loop, then by name what fails on whorl's
loop and not on the control. The exit status is 1 if there is such a test or module. Nothing of this is part
of ``make test``: the suites are others', they need the network to be fetched, and some fail in places on any
loop.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

LOOPS = ("whorl", "asyncio")
REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Suite:
    """A package's test-suite.

    Attributes:
        package: its name and pinned version, as pip takes them.
        needs: what else its tests import.
        tests: the directory of the tests, in the source distribution or (with `installed`) in the package.
        keep: other files of the source distribution which the tests read. The package's own source is left
            out: imported from there, it would lack its compiled parts.
        arguments: for pytest.
        installed: whether the tests come with the installed package.
        environment: environment variables for the tests.
    """

    package: str
    needs: tuple[str, ...] = ()
    tests: str = "tests"
    keep: tuple[str, ...] = ("pyproject.toml", "pytest.ini", "setup.cfg")
    arguments: tuple[str, ...] = ()
    installed: bool = False
    environment: dict[str, str] = field(default_factory=dict)


SUITES = {
    "aiohttp": Suite(
        "aiohttp==3.14.5",
        ("trustme", "pytest-mock", "freezegun", "re-assert", "proxy.py", "python-on-whales",
         "pytest-codspeed", "brotli", "zlib_ng", "isal", "aiodns", "coverage", "pytest-cov",
         "blockbuster", "gunicorn"),
        arguments=("-m", "not dev_mode and not autobahn and not internal", "--aiohttp-loop=pyloop"),
    ),
    "anyio": Suite(
        "anyio==4.16.0",
        ("trustme", "hypothesis", "psutil", "pytest-mock", "truststore", "blockbuster"),
        arguments=("-k", "not uvloop and not trio"),
    ),
    "asyncssh": Suite("asyncssh==2.24.1", ("aiofiles", "bcrypt", "ifaddr", "pyOpenSSL")),
    "uvicorn": Suite(
        "uvicorn==0.54.0",
        ("httptools", "wsproto", "websockets", "httpx", "trustme", "a2wsgi", "pyyaml", "python-dotenv",
         "watchfiles", "pytest-mock", "cryptography"),
    ),
    "aiosmtpd": Suite("aiosmtpd==1.4.6", ("pytest-mock",), tests="aiosmtpd/tests", installed=True),
    "tornado": Suite("tornado==6.6.1", tests="tornado/test", installed=True),
    # The longest to fetch: pip prepares its metadata, which translates all of it from Cython (minutes).
    # Its classes Test_UV_… run on uvloop in the control, on whorl by the replaced uvloop.new_event_loop.
    "uvloop": Suite("uvloop==0.23.0", ("psutil", "pyOpenSSL", "aiohttp")),
}  # fmt: skip
PYTEST = ("pytest==9.2.0", "pytest-timeout==2.4.0", "pytest-xdist")


@dataclass
class Outcome:
    """What came of one module on one loop; `broken` says why, if there are no results by test."""

    passed: int = 0
    skipped: int = 0
    failed: set[str] = field(default_factory=set)
    broken: str = ""

    def __str__(self) -> str:
        if self.broken:
            return self.broken
        return f"{self.passed} passed, {len(self.failed)} failed, {self.skipped} skipped"


def make_environment(suite: Suite, home: Path) -> Path:
    """A virtual environment with the suite's packages, in which whorl can be imported; returns its Python."""
    python = home / "venv" / "bin" / "python"
    ready = home / "venv" / ".ready"
    if not ready.exists():
        print("  making its virtual environment", flush=True)
        shutil.rmtree(home / "venv", ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", home / "venv"], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, suite.package, *PYTEST], check=True)
        for (
            need
        ) in suite.needs:  # one by one: what has no wheel here costs the tests which use it, and no more
            if subprocess.run(
                [*pip, "--only-binary=:all:", need], stderr=subprocess.DEVNULL, check=False
            ).returncode:
                print(f"  no wheel of {need} for this interpreter", flush=True)
        ready.touch()
    spec = importlib.util.find_spec("whorl")
    if spec is not None and spec.submodule_search_locations:
        site = (
            python.parents[1]
            / "lib"
            / f"python{sysconfig.get_python_version()}{sys.abiflags}"
            / "site-packages"
        )
        source = Path(next(iter(spec.submodule_search_locations))).parent
        (site / "whorl-under-test.pth").write_text(f"{source}\n")
    return python


def fetch_tests(suite: Suite, home: Path, python: Path) -> Path:
    """Put the suite's tests into a directory of their own; returns the directory to run pytest in."""
    directory = home / "suite"
    if directory.exists():
        return directory
    partial = home / "partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    if suite.installed:
        package = suite.tests.split("/")[0]
        code = f"import {package} as p, os; print(os.path.dirname(os.path.dirname(p.__file__)))"
        found = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        partial.rmdir()
        directory.symlink_to(found)
        return directory
    print(f"  fetching the source distribution of {suite.package}", flush=True)
    pip = [str(python), "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--no-binary=:all:", "--dest", partial, suite.package], check=True)
    with tarfile.open(next(partial.glob("*.tar.gz"))) as archive:
        archive.extractall(partial, filter="data")
    root = next(path for path in partial.iterdir() if path.is_dir())
    chosen = partial / "chosen"
    chosen.mkdir()
    for name in (suite.tests, *suite.keep):
        if (root / name).exists():
            shutil.move(str(root / name), chosen / name)
    if not (chosen / suite.tests).is_dir():
        raise SystemExit(f"{suite.package}: its source distribution has no directory {suite.tests}")
    chosen.rename(directory)
    shutil.rmtree(partial)
    return directory


def modules_of(suite: Suite, directory: Path) -> list[Path]:
    """The suite's test modules, without its benchmarks."""
    tests = directory / suite.tests
    found = [path for pattern in ("test_*.py", "*_test.py") for path in tests.rglob(pattern)]
    return sorted(path for path in found if "benchmark" not in path.name)


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


def run_module(
    suite: Suite, module: Path, directory: Path, python: Path, loop: str, home: Path, limit: int
) -> Outcome:
    """Run one module on one loop, in a process group of its own, which is gone afterwards."""
    label = "-".join(module.relative_to(directory).with_suffix("").parts)
    report, log = home / "results" / f"{label}.{loop}.xml", home / "results" / f"{label}.{loop}.log"
    report.parent.mkdir(exist_ok=True)
    report.unlink(missing_ok=True)
    command = [str(python), *(("-m", "whorl", "run") if loop == "whorl" else ()), "-m", "pytest"]
    command += [
        "-o",
        "addopts=",
        "-o",
        "junit_family=xunit1",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-q",
    ]
    command += [f"--timeout={max(limit // 3, 10)}", f"--junit-xml={report}", *suite.arguments]
    command.append(str(module.relative_to(directory)))
    outcome = Outcome()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=directory, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **suite.environment},
        )  # fmt: skip
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            outcome.broken = f"no end within {limit} s"
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)  # its children too
            except ProcessLookupError:
                pass
            process.wait()
    if outcome.broken:
        return outcome
    try:
        read_results(report, outcome)
    except (OSError, ET.ParseError):
        how = f"signal {-status}" if status < 0 else f"status {status}"
        outcome.broken = f"ended by {how} without results" if status != 5 else ""
    return outcome


def run_suite(name: str, suite: Suite, options: argparse.Namespace) -> list[str]:
    """Run a suite on each loop, print its table, and return what fails on whorl's loop alone."""
    tag = f"{sys.version_info.major}.{sys.version_info.minor}{sys.abiflags}"
    home = options.work.resolve() / f"{name}-{tag}"
    home.mkdir(parents=True, exist_ok=True)
    print(f"{suite.package} on Python {tag}", flush=True)
    python = make_environment(suite, home)
    directory = fetch_tests(suite, home, python)
    only_ours: list[str] = []
    for module in modules_of(suite, directory):
        if options.module and not any(part in str(module.relative_to(directory)) for part in options.module):
            continue
        outcomes = {
            loop: run_module(suite, module, directory, python, loop, home, options.limit)
            for loop in options.loop
        }
        columns = "   ".join(f"{loop}: {outcome!s:<38}" for loop, outcome in outcomes.items())
        print(f"  {module.relative_to(directory)!s:<48} {columns}".rstrip(), flush=True)
        if "whorl" not in outcomes:
            continue
        ours, control = outcomes["whorl"], outcomes.get("asyncio", Outcome())
        if ours.broken and not control.broken:
            only_ours.append(f"{name}: {module.relative_to(directory)}: {ours.broken}")
        only_ours += [f"{name}: {test}" for test in sorted(ours.failed - control.failed)]
    print(f"  logs: {home / 'results'}", flush=True)
    return only_ours


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--suite", action="append", choices=SUITES, help="only this suite (repeatable)")
    parser.add_argument(
        "--module", action="append", help="only modules whose path has this in it (repeatable)"
    )
    parser.add_argument("--loop", action="append", choices=LOOPS, help="only this loop (repeatable)")
    parser.add_argument("--limit", type=int, default=300, help="seconds for each module (default: 300)")
    parser.add_argument(
        "--work", type=Path, default=REPOSITORY / ".build" / "foreign", help="where to keep it all"
    )
    options = parser.parse_args()
    options.loop = options.loop or list(LOOPS)
    if "whorl" in options.loop and importlib.util.find_spec("whorl") is None:
        parser.error(
            "whorl is not built for this interpreter: run make build, and use its virtual environment"
        )
    only_ours: list[str] = []
    for name in options.suite or SUITES:
        only_ours += run_suite(name, SUITES[name], options)
    if "whorl" in options.loop:
        print(f"fails on whorl's loop and not on the control: {len(only_ours)}")
        for line in only_ours:
            print(f"  {line}")
    return 1 if only_ours else 0


if __name__ == "__main__":
    raise SystemExit(main())
