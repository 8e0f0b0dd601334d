"""The harness, tests/harness included: what it counts, how it reports a hang or a crash, checks of rows."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.conformance import check, rows
from tests.conformance.cli import COUNTED
from tests.conformance.worker import job
from tests.harness import report
from tests.harness.check import rows_match
from tests.harness.rows import Row, RowError, covers, version_matches
from tests.harness.supervise import Limits, ModuleResult, Outcome, complete, run_module

SUITE = """
import asyncio, os, time, unittest
from asyncio import SelectorEventLoop

class Sample(unittest.TestCase):
    def test_1_passes(self):
        asyncio.run(asyncio.sleep(0))

    def test_2_crashes(self):
        os._exit(3)

    def test_3_fails(self):
        self.fail("as intended")

    def test_4_hangs(self):
        time.sleep(3600)

    @unittest.skip("no reason needed")
    def test_5_skips(self):
        pass

    def test_6_fails_in_one_subtest(self):
        for number in range(3):
            with self.subTest(number=number):
                self.assertNotEqual(number, 1)

    def test_7_passes_without_a_loop(self):
        pass

class Skipped(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise unittest.SkipTest("not on this machine")

    def test_one(self):
        pass

class Broken(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise ValueError("broken fixture")

    def test_one(self):
        pass
"""


def run_sample(source: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleResult:
    """Run ``source`` as a module of a suite of its own, on stock asyncio."""
    package = directory / "sample_suite"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "test_sample.py").write_text(textwrap.dedent(source), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(directory))
    result = run_module(
        job("test_sample", "asyncio", False, package="sample_suite"), Limits(test=15, module=300)
    )
    complete(result, {})
    return result


def test_every_outcome_is_distinguished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("test.support", reason="this Python came without its test package")
    result = run_sample(SUITE, tmp_path, monkeypatch)
    statuses = {test: outcome.status for test, outcome in result.outcomes.items()}
    fixture = next(test for test in statuses if test.startswith("setUpClass"))
    assert statuses == {
        "Sample.test_1_passes": "passed",
        "Sample.test_2_crashes": "crashed",
        "Sample.test_3_fails": "failed",
        "Sample.test_4_hangs": "hung",
        "Sample.test_5_skips": "skipped",
        "Sample.test_6_fails_in_one_subtest": "failed",
        "Sample.test_7_passes_without_a_loop": "passed",
        "Skipped.test_one": "skipped",
        "Broken.test_one": "not run",
        fixture: "failed",
    }
    assert result.outcomes["Sample.test_1_passes"].made == 1
    assert result.outcomes["Sample.test_7_passes_without_a_loop"].made == 0
    assert "exited with status 3" in result.outcomes["Sample.test_2_crashes"].detail
    assert "in test_4_hangs" in result.outcomes["Sample.test_4_hangs"].detail
    assert report.remark(result, COUNTED) == "1 hung, 1 crashed, 1 not run"


def test_module_that_cannot_be_imported_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("test.support", reason="this Python came without its test package")
    result = run_sample("import no_such_module_anywhere", tmp_path, monkeypatch)
    assert [outcome.status for outcome in result.bad.values()] == ["crashed"]
    assert "no_such_module_anywhere" in next(iter(result.bad.values())).detail


def test_module_without_the_chosen_loop_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("test.support", reason="this Python came without its test package")
    source = "import unittest\nclass A(unittest.TestCase):\n    def test(self): pass\n"
    assert (
        report.remark(run_sample(source, tmp_path, monkeypatch), COUNTED) == "no asyncio loop was made here"
    )


@pytest.mark.parametrize(
    ("specification", "version", "expected"),
    [
        ("", (3, 11, 0), True),
        (">=3.11, <3.13", (3, 12, 9), True),
        (">=3.11, <3.13", (3, 13, 0), False),
        ("==3.13", (3, 13, 4), True),
        ("<=3.13", (3, 13, 4), True),
        (">3.13", (3, 13, 4), False),
        (">=3.13.4", (3, 13, 3), False),
    ],
)
def test_versions_compare_to_the_precision_written(
    specification: str, version: tuple[int, ...], expected: bool
) -> None:
    assert version_matches(specification, version) is expected


@pytest.mark.parametrize(
    "entry",
    [
        'module = "m"\ntests = ["*"]\nkind = "private"',
        'module = "m"\ntests = []\nkind = "private"\nreason = "r"',
        'module = "m"\ntests = ["*"]\nkind = "other"\nreason = "r"',
        'module = "m"\ntests = ["*"]\nkind = "private"\nreason = "r"\npython = "3.11"',
        'module = "m"\ntests = ["*"]\nkind = "private"\nreason = "r"\nversion = ">3"',
    ],
)
def test_malformed_row_is_refused(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "rows.toml"
    path.write_text("[[row]]\n" + entry, encoding="utf-8")
    with pytest.raises(RowError, match="row 1"):
        rows.load(path)


@pytest.mark.parametrize(
    ("pattern", "test", "expected"),
    [
        ("A.test_*", "A.test_one", True),
        ("test_one", "test_one[x-1]", True),
        ("test_one[x-1]", "test_one[x-1]", True),
        ("test_one[x-1]", "test_one[x-2]", False),
        ("test_one", "test_one_more", False),
    ],
)
def test_patterns_stand_for_tests(pattern: str, test: str, expected: bool) -> None:
    assert covers(pattern, test) is expected


def test_rows_of_the_project_are_well_formed() -> None:
    assert rows.load()


def sample_row(kind: str = "differs", pattern: str = "A.*") -> Row:
    return Row(number=1, module="m", tests=(pattern,), python="", kind=kind, reason="r")


def sample_result(loop: str, status: str, made: int) -> ModuleResult:
    return ModuleResult("m", loop, ["A.test"], {"A.test": Outcome(status, made=made)})


def test_row_that_matches_nothing_is_a_problem() -> None:
    results = [sample_result("whorl", "passed", 1)]
    assert rows_match([sample_row()], results) == []
    assert "matches no test" in rows_match([sample_row(pattern="B.*")], results)[0]


@pytest.mark.parametrize(
    ("kind", "mine", "made", "theirs", "problem"),
    [
        ("differs", "failed", 1, "passed", None),
        ("differs", "hung", 1, "passed", None),
        ("differs", "passed", 1, "passed", "comes out the same"),
        ("differs", "failed", 1, "failed", "comes out the same"),
        ("private", "passed", 0, "passed", None),
        ("private", "failed", 1, "passed", "made a loop of the chosen class"),
    ],
)
def test_row_without_ground_is_a_problem(
    kind: str, mine: str, made: int, theirs: str, problem: str | None
) -> None:
    found = check.rows_differ(
        [sample_row(kind)], [sample_result("whorl", mine, made)], [sample_result("asyncio", theirs, made)]
    )
    assert (problem is None) == (not found)
    assert problem is None or problem in found[0]
