"""The harness: its table, its exit status, and what it reports of failures, on a suite of its own."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("trustme", reason="trustme makes the servers' certificates (requirements/programs.txt)")

from tests.foreign import cli
from tests.foreign.cli import GROUPS
from tests.foreign.environment import install_packages, requirement_files
from tests.foreign.report import only_on_whorl, table
from tests.foreign.run import Outcome, run_modules
from tests.foreign.suite import Setting, Suite, SuiteError

RunCli = Callable[..., int]
Capture = pytest.CaptureFixture[str]

SAMPLE = """
import asyncio
import pytest

def loop_module():
    loop = asyncio.new_event_loop()
    try:
        return type(loop).__module__
    finally:
        loop.close()

def test_passes(): pass

def test_fails_on_both(): assert False

@pytest.mark.skip("one of each outcome: this is the skipped one")
def test_skips(): pass

def test_fails_on_whorl(): assert not loop_module().startswith("whorl")

def test_fails_on_asyncio(): assert not loop_module().startswith("asyncio")

def test_left_out(): assert False

@pytest.mark.filterwarnings("default")
def test_left_out_by_mark(): assert False
"""
GOOD = "def test_passes(): pass\n"
SUITE = Suite(
    "sample==1.0",
    left_out={"tests/test_sample.py::test_left_out": "a reason"},
    left_out_marks={"filterwarnings": "another reason"},
)


@pytest.fixture
def run_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunCli:
    """Runs the command line on a suite whose test files are given, without an environment of its own."""
    monkeypatch.setattr(cli, "make_environment", lambda *_: Path(sys.executable))
    monkeypatch.setattr(cli, "fetch_tests", lambda *_: tmp_path)
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    (tmp_path / "tests").mkdir()

    def run(files: dict[str, str], *arguments: str, suite: Suite = SUITE) -> int:
        for name, content in files.items():
            (tmp_path / "tests" / f"{name}.py").write_text(content, encoding="utf-8")
        return cli.main(["--work", str(tmp_path / "work"), *arguments], {"group": {"sample": suite}})

    return run


def rows(printed: str) -> list[str]:
    """The lines of the table and below it, with single spaces."""
    text = printed.partition("\nsuite ")[2]
    return [" ".join(line.split()) for line in text.splitlines()[1:]]


@pytest.mark.parametrize("whole", [False, True])
def test_what_fails_on_whorl_alone_is_named(run_cli: RunCli, capsys: Capture, whole: bool) -> None:
    suite = Suite(SUITE.package, left_out=SUITE.left_out, left_out_marks=SUITE.left_out_marks, whole=whole)
    assert run_cli({"test_sample": SAMPLE, "test_other": GOOD}, suite=suite) == 1
    assert rows(capsys.readouterr().out) == [
        "sample 1.0 whorl 3 2 1 2",
        "sample 1.0 asyncio 3 2 1 2",
        "n/a: sample: tests/test_sample.py::test_left_out: a reason",
        "n/a: sample: filterwarnings: another reason",
        "fails on whorl and not in the control: 1",
        "sample: tests.test_sample::test_fails_on_whorl",
    ]


def test_what_fails_on_both_is_no_failure(run_cli: RunCli, capsys: Capture) -> None:
    both = {"test_sample": "def test_fails(): assert False\n", "test_crash": "import os; os._exit(3)\n"}
    assert run_cli(both, suite=Suite("sample==1.0")) == 0
    printed = rows(capsys.readouterr().out)
    assert printed[0] == "sample 1.0 whorl 0 2 0 0 1 without results"
    assert printed[2:] == ["fails on whorl and not in the control: 0"]


def test_a_crash_on_whorl_alone_is_named(run_cli: RunCli, capsys: Capture) -> None:
    crash = "import os, sys\nif 'whorl' in sys.modules: os._exit(3)\n" + GOOD
    assert run_cli({"test_crash": crash}, suite=Suite("sample==1.0")) == 1
    assert rows(capsys.readouterr().out)[-1] == "sample: tests-test_crash: ended by status 3 without results"


def test_a_way_can_be_chosen(run_cli: RunCli, capsys: Capture) -> None:
    assert run_cli({"test_sample": GOOD}, "--way", "asyncio") == 0
    assert rows(capsys.readouterr().out)[0] == "sample 1.0 asyncio 1 0 0 0"


def test_modules_can_be_chosen(run_cli: RunCli, capsys: Capture) -> None:
    assert run_cli({"test_one": GOOD, "test_two": GOOD}, "--module", "two", suite=Suite("sample==1.0")) == 0
    assert rows(capsys.readouterr().out)[0] == "sample 1.0 whorl 1 0 0 0"


def test_what_does_not_run_has_a_row(run_cli: RunCli, capsys: Capture) -> None:
    assert run_cli({}, suite=Suite("sample==1.0", not_run="there is no server for it")) == 0
    assert rows(capsys.readouterr().out)[0] == "sample 1.0 not run: there is no server for it"


def test_what_cannot_run_is_an_error(run_cli: RunCli, capsys: Capture) -> None:
    def servers(python: Path, home: Path) -> object:
        raise SuiteError("no server here")

    assert run_cli({"test_one": GOOD}, suite=Suite("sample==1.0", servers=servers)) == 1  # type: ignore[arg-type]
    assert capsys.readouterr().err == "foreign: sample: no server here\n"


def test_a_suite_that_is_not_there_is_an_error(run_cli: RunCli, capsys: Capture) -> None:
    assert run_cli({}, "--suite", "other") == 2
    assert capsys.readouterr().err == "foreign: no suite other; there are: sample\n"


def test_a_hang_is_reported(tmp_path: Path) -> None:
    (tmp_path / "test_hang.py").write_text("import time\ntime.sleep(3600)\n", encoding="utf-8")
    suite, python = Suite("sample==1.0", tests="."), Path(sys.executable)
    outcome = run_modules(
        suite, "hang", ["test_hang.py"], "asyncio", python, tmp_path, Setting(), tmp_path, 1
    )
    assert outcome.broken == {"hang": "no end within 1 s"}


def test_a_suite_without_a_control_is_compared_with_nothing() -> None:
    results = {"sample": {"whorl": Outcome(failed={"a::b"})}}
    assert only_on_whorl({"sample": SUITE}, results) == ["sample: a::b"]
    assert (
        table({"sample": Suite("sample==1.0", own=True)}, results)
        .splitlines()[1]
        .startswith("sample 1.0 (tests/programs)")
    )


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/usr/bin/dpkg-query").exists():
        pytest.skip("dpkg-query is not on this machine")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(SuiteError, match="run 'apt-get install no-such-package-anywhere'"):
        install_packages(("dpkg", "no-such-package-anywhere"))


def test_what_every_suite_needs_is_packages() -> None:
    for suite in (suite for suites in GROUPS.values() for suite in suites.values()):
        assert isinstance(suite.needs, tuple)
        assert isinstance(suite.sha256, str)


@pytest.mark.parametrize(("name", "suite"), GROUPS["databases"].items())
def test_the_suites_of_databases_are_pinned(name: str, suite: Suite) -> None:
    if suite.not_run:
        return
    if not suite.own and not suite.installed:
        assert re.fullmatch("[0-9a-f]{64}", suite.sha256)
    files = (
        requirement_files(suite)
        if suite.requirements
        else requirement_files(Suite("", requirements="programs.txt"))
    )
    assert suite.package in {line for path in files for line in path.read_text().splitlines()}
