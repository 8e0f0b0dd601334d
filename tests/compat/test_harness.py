"""The harness: what it reports of a test file, and the checks of its rows."""

from __future__ import annotations

import tarfile
import textwrap
from pathlib import Path

import pytest

from tests.compat import rows, source
from tests.compat.worker import job, short_id
from tests.harness.check import rows_match, rows_needed
from tests.harness.rows import Row
from tests.harness.supervise import Limits, ModuleResult, Outcome, complete, run_module

pytest.importorskip("aiohttp", reason="the harness needs aiohttp, which is not installed")

LIMITS = Limits(test=30, module=300)

SUITE = """
import asyncio, os, time
import aiohttp, pytest
from aiohttp import web

async def test_1_makes_a_request(aiohttp_client):
    async def respond(request):
        return web.Response(text=type(asyncio.get_running_loop()).__module__)
    application = web.Application()
    application.router.add_get("/", respond)
    client = await aiohttp_client(application)
    async with client.get("/") as response:
        assert (await response.text()).startswith("whorl")

def test_2_crashes():
    os._exit(3)

@pytest.mark.parametrize("number", [1, 2])
def test_3_fails(number):
    assert number == 1

def test_4_hangs():
    time.sleep(3600)

@pytest.mark.skip("no reason needed")
def test_5_is_skipped():
    pass

@pytest.mark.xfail(reason="as intended")
def test_6_is_expected_to_fail():
    raise ValueError

@pytest.fixture
def broken():
    yield
    raise ValueError

def test_7_fails_in_its_clean_up(broken):
    pass

async def test_8_leaves_its_loop_open():
    raise ValueError

class TestClass:
    def test_9_is_not_concerned(self):
        import gc
        gc.collect()
"""


def run_sample(content: str, directory: Path) -> ModuleResult:
    """Run *content* as a file of a suite of its own, with aiohttp's client."""
    (directory / "tests").mkdir()
    (directory / "tests" / "conftest.py").write_text('pytest_plugins = ["aiohttp.pytest_plugin"]\n')
    (directory / "tests" / "test_sample.py").write_text(textwrap.dedent(content), encoding="utf-8")
    result = run_module(job("test_sample", "aiohttp", "whorl", directory), LIMITS)
    complete(result, {})
    return result


def test_every_outcome_is_distinguished(tmp_path: Path) -> None:
    result = run_sample(SUITE, tmp_path)
    assert {test: outcome.status for test, outcome in result.outcomes.items()} == {
        "test_1_makes_a_request": "passed",
        "test_2_crashes": "crashed",
        "test_3_fails[1]": "passed",
        "test_3_fails[2]": "failed",
        "test_4_hangs": "hung",
        "test_5_is_skipped": "skipped",
        "test_6_is_expected_to_fail": "skipped",
        "test_7_fails_in_its_clean_up": "failed",
        "test_8_leaves_its_loop_open": "failed",
        "TestClass.test_9_is_not_concerned": "passed",
    }, result.log
    assert result.outcomes["test_1_makes_a_request"].made == 1
    assert result.outcomes["test_3_fails[1]"].made == 0
    assert "in test_4_hangs" in result.outcomes["test_4_hangs"].detail


def test_a_file_that_cannot_be_imported_is_reported(tmp_path: Path) -> None:
    result = run_sample("import no_such_module_anywhere", tmp_path)
    assert [outcome.status for outcome in result.bad.values()] == ["failed"]
    assert "no_such_module_anywhere" in next(iter(result.bad.values())).detail


@pytest.mark.parametrize(
    ("nodeid", "expected"),
    [
        ("tests/test_a.py::test_one", "test_one"),
        ("tests/test_a.py::test_one[pyloop]", "test_one"),
        ("tests/test_a.py::TestA::test_one[pyloop-x-1]", "TestA.test_one[x-1]"),
        ("tests/test_a.py::test_one[http://a::b]", "test_one[http://a::b]"),
    ],
)
def test_ids_are_without_file_and_loop(nodeid: str, expected: str) -> None:
    assert short_id(nodeid) == expected


def sample_row(*tests: str, kind: str = "private") -> Row:
    return Row(number=1, module="test_a", tests=tests, python="", kind=kind, reason="r")


def sample_results(status: str) -> list[ModuleResult]:
    return [ModuleResult("test_a", "whorl", ["test_one[x]"], {"test_one[x]": Outcome(status)})]


def test_a_row_that_names_what_passes_or_is_not_there_is_a_problem() -> None:
    assert rows_needed([sample_row("test_one")], sample_results("failed")) == []
    assert "passes, so" in rows_needed([sample_row("test_one")], sample_results("passed"))[0]
    assert rows_match([sample_row("test_one[x]")], sample_results("failed")) == []
    assert "matches no test" in rows_match([sample_row("test_two")], sample_results("failed"))[0]


@pytest.mark.parametrize(
    ("client", "loop", "expected"),
    [
        ("whorl", "whorl", {"private", "differs", "loop"}),
        ("whorl", "asyncio", {"private", "differs"}),
        ("aiohttp", "whorl", {"loop"}),
        ("aiohttp", "asyncio", set()),
    ],
)
def test_rows_are_in_force_where_whorl_is_tested(client: str, loop: str, expected: set[str]) -> None:
    known = [sample_row("test_one", kind=kind) for kind in rows.KINDS]
    assert {row.kind for row in rows.in_force(known, client, loop)} == expected


def test_rows_of_the_project_are_well_formed() -> None:
    assert rows.load()


def test_another_archive_than_the_one_expected_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(version: str, directory: Path) -> Path:
        archive = directory / f"aiohttp-{version}.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(__file__, f"aiohttp-{version}/tests/test_sample.py")
        return archive

    monkeypatch.setattr(source, "CACHE", tmp_path)
    monkeypatch.setattr(source, "_download", download)
    with pytest.raises(source.SourceError, match=f"expected {source.SHA256}"):
        source.tests()
    assert list(tmp_path.iterdir()) == []
