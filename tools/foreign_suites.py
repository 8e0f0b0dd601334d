"""Runs the public test-suites of other packages on whorl, with stock asyncio and aiohttp as the control.

    .venv/bin/python tools/foreign_suites.py                       every suite, in .build/foreign
    .venv/bin/python tools/foreign_suites.py --suite anyio --module test_sockets
    .venv/bin/python tools/foreign_suites.py --way asyncio         the control alone

Each suite comes from the package's source distribution (or, for a few, from the package itself), which pip
fetches. It runs in a virtual environment of its own, made for the interpreter that runs this script, with
the packages that the suite needs. There is one process for each test module and way, with a timeout, so
that a hang or a crash costs one module and is reported as that. The ways are the user's own: packages that
use a loop are run by ``whorl run -m pytest …``, packages that use aiohttp's client by ``whorl run --drop-in
-m pytest …``.

Printed: for each module what passed, failed and was skipped each way, then by name what fails on whorl and
not in the control. The exit status is 1 if there is such a test or module. Nothing of this is part of ``make
test``: the suites are others', they need the network to be fetched, and some fail in places anywhere.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tarfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

#: The ways to run pytest: what comes before it on Python's command line.
WAYS = {
    "whorl": ("-m", "whorl", "run"),
    "drop-in": ("-m", "whorl", "run", "--drop-in"),
    "asyncio": (),
}
CONTROL = "asyncio"
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
        modules: the modules to run, if not all: parts of their paths.
        way: how it is run on whorl, a key of WAYS.
        server: what runs with the tests: Python's command line, with a port of this machine to connect to.
    """

    package: str
    needs: tuple[str, ...] = ()
    tests: str = "tests"
    keep: tuple[str, ...] = ("pyproject.toml", "pytest.ini", "setup.cfg")
    arguments: tuple[str, ...] = ()
    installed: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    way: str = "whorl"
    server: tuple[tuple[str, ...], int] | None = None


#: A server that echoes the request, which some suites expect to have.
HTTPBIN = (("-m", "httpbin.core", "--host", "127.0.0.1", "--port", "8642"), 8642)

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
    # What uses aiohttp's client, or stands in for parts of it. In the control most of aioresponses fails: it
    # makes responses as aiohttp did before 3.14.5.
    "aiohttp-client-cache": Suite(
        "aiohttp-client-cache==0.15.0",
        ("aiofiles", "aiosqlite", "brotli", "faker", "httpbin", "pytest-aiohttp", "pytest-asyncio"),
        tests="test", modules=("unit", "test_memory", "test_filesystem", "test_sqlite"), way="drop-in",
        server=HTTPBIN, environment={"HTTPBIN_URL": "http://127.0.0.1:8642/"},
    ),
    "aioresponses": Suite("aioresponses==0.7.9", ("ddt", "pytest-asyncio"), way="drop-in"),
    "gql": Suite(
        "gql[aiohttp]==4.4.0",
        ("aiofiles", "botocore", "httpx", "parse", "pytest-asyncio", "pytest-console-scripts", "requests",
         "requests-toolbelt", "vcrpy", "websockets"),
        modules=("test_aiohttp",), way="drop-in",
    ),
    "pytest-aiohttp": Suite("pytest-aiohttp==1.1.1", ("pytest-asyncio",), way="drop-in"),
    "vcrpy": Suite(
        "vcrpy==9.4.2",
        ("aiohttp==3.14.5", "httpbin", "pytest-aiohttp", "pytest-asyncio", "pytest-httpbin", "requests"),
        modules=("test_aiohttp",), way="drop-in",
    ),
}  # fmt: skip
PYTEST = ("pytest==9.2.0", "pytest-timeout==2.4.0", "pytest-xdist")


@dataclass
class Outcome:
    """What came of one module one way; `broken` says why, if there are no results by test."""

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
    suite: Suite, module: Path, directory: Path, python: Path, way: str, home: Path, limit: int
) -> Outcome:
    """Run one module one way, in a process group of its own, which is gone afterwards."""
    label = "-".join(module.relative_to(directory).with_suffix("").parts)
    report, log = home / "results" / f"{label}.{way}.xml", home / "results" / f"{label}.{way}.log"
    report.parent.mkdir(exist_ok=True)
    report.unlink(missing_ok=True)
    command = [str(python), *WAYS[way], "-m", "pytest"]
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


@contextlib.contextmanager
def serving(suite: Suite, python: Path, home: Path) -> Iterator[None]:
    """Run the suite's server, if it has one, while the context lasts."""
    if suite.server is None:
        yield
        return
    arguments, port = suite.server
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [python, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{suite.package}: its server does not answer, see {home / 'server.log'}")
            time.sleep(0.1)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run_suite(name: str, suite: Suite, options: argparse.Namespace) -> list[str]:
    """Run a suite each way, print its table, and return what fails on whorl alone."""
    tag = f"{sys.version_info.major}.{sys.version_info.minor}{sys.abiflags}"
    home = options.work.resolve() / f"{name}-{tag}"
    home.mkdir(parents=True, exist_ok=True)
    print(f"{suite.package} on Python {tag}", flush=True)
    python = make_environment(suite, home)
    directory = fetch_tests(suite, home, python)
    only_ours: list[str] = []
    for module in modules_of(suite, directory):
        if suite.modules and not any(part in str(module.relative_to(directory)) for part in suite.modules):
            continue
        if options.module and not any(part in str(module.relative_to(directory)) for part in options.module):
            continue
        outcomes = {}
        for way in (suite.way, CONTROL):
            if not options.way or way in options.way:
                with serving(suite, python, home):
                    outcomes[way] = run_module(suite, module, directory, python, way, home, options.limit)
        columns = "   ".join(f"{way}: {outcome!s:<38}" for way, outcome in outcomes.items())
        print(f"  {module.relative_to(directory)!s:<48} {columns}".rstrip(), flush=True)
        if suite.way not in outcomes:
            continue
        ours, control = outcomes[suite.way], outcomes.get(CONTROL, Outcome())
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
    parser.add_argument("--way", action="append", choices=WAYS, help="only this way (repeatable)")
    parser.add_argument("--limit", type=int, default=300, help="seconds for each module (default: 300)")
    parser.add_argument(
        "--work", type=Path, default=REPOSITORY / ".build" / "foreign", help="where to keep it all"
    )
    options = parser.parse_args()
    on_whorl = options.way != [CONTROL]
    if on_whorl and importlib.util.find_spec("whorl") is None:
        parser.error(
            "whorl is not built for this interpreter: run make build, and use its virtual environment"
        )
    only_ours: list[str] = []
    for name in options.suite or SUITES:
        only_ours += run_suite(name, SUITES[name], options)
    if on_whorl:
        print(f"fails on whorl and not in the control: {len(only_ours)}")
        for line in only_ours:
            print(f"  {line}")
    return 1 if only_ours else 0


if __name__ == "__main__":
    raise SystemExit(main())
