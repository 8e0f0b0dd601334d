"""The measurements: rows, targets and peers fit together, and verdicts and tables say what the figures do."""

import json
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from bench.peers import SUBJECT, Peer
from bench.results import Cell, Results, Spread, Status, Verdict, cell, judge, worst
from bench.sampling import Sample
from bench.suite import BEST, Limit, Method, Ratio, Row, Suite, Target, Unit
from bench.suites import SUITES
from bench.tables import TableError, markdown
from tests.house import ROOT

EVERY_SUITE = pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)


@EVERY_SUITE
def test_a_suite_fits_together(suite: Suite) -> None:
    names = [row.name for row in suite.rows]
    assert len(names) == len(set(names))
    assert SUBJECT in suite.peers
    assert not suite.peers[SUBJECT].cannot, "the subject is to run every row"
    for row in suite.rows:
        assert set(row.references) <= {name for name, peer in suite.peers.items() if peer.native}
        for target in row.targets:
            assert isinstance(target, Limit) or target.against in {BEST, *suite.peers}, row.name
        if row.method in (Method.AGAINST_SERVER, Method.START_UP):
            assert row.path.startswith("/"), row.name
    for peer in suite.peers.values():
        for pattern, reason in peer.cannot:
            assert any(fnmatchcase(name, pattern) for name in names), (peer.name, pattern)
            assert reason


@EVERY_SUITE
def test_names_that_fit_nothing_are_refused(suite: Suite) -> None:
    with pytest.raises(
        ValueError, match=f"no row matches 'no-such-row'; `python -m bench {suite.name} --list`"
    ):
        suite.matching("no-such-row")
    with pytest.raises(ValueError, match="no peer is called 'nobody'; there are whorl, "):
        suite.named("whorl,nobody")


def test_the_tables_in_the_readme_are_those_of_the_kept_results() -> None:
    check = [sys.executable, "tools/readme.py", "--check"]
    done = subprocess.run(check, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def row_with(*targets: Target, unit: Unit = Unit.CPU_US) -> Row:
    return Row("a-row", "a row", "get", unit=unit, targets=targets, throughput=unit is Unit.CPU_US)


def cells(row: Row, **values: list[float]) -> dict[str, Cell]:
    """A cell for each peer from the figures of its rounds."""
    samples = {name: [Sample(value, 1000, 0.5) for value in taken] for name, taken in values.items()}
    return {
        name: cell(row, Peer(name, ()), taken, samples.get(SUBJECT, [])) for name, taken in samples.items()
    }


@pytest.mark.parametrize(
    ("rounds", "verdict"),
    [
        ([20.0, 20.0, 30.0], Verdict.REACHED),
        ([19.0, 19.0, 21.0], Verdict.NOISE),
        # The spread holds it, but the median is too far under.
        ([17.0, 17.0, 21.0], Verdict.MISSED),
        ([19.0, 19.0, 19.9], Verdict.MISSED),
    ],
)
def test_a_ratio_is_judged_by_its_median_and_spread(rounds: list[float], verdict: Verdict) -> None:
    row = row_with(Ratio("slow", 2.0))
    [judgement] = judge(row, cells(row, whorl=[10.0, 10.0, 10.0], slow=rounds), [])
    assert (judgement.target, judgement.verdict) == ("slow x2.00", verdict)


def test_ratios_are_taken_round_by_round() -> None:
    # The second round ran on a machine half as fast, for both.
    found = cells(row_with(), whorl=[10.0, 20.0, 10.0], slow=[30.0, 60.0, 30.0])
    assert found["slow"].ratio == Spread(3.0, 3.0, 3.0)
    assert found["whorl"].ratio is None
    assert found["slow"].operations_per_second == 2000


def test_the_best_peer_is_no_native_reference() -> None:
    row = row_with(Ratio(BEST, 1.0))
    figures = cells(row, whorl=[10.0], native=[5.0], quick=[12.0], slow=[40.0])
    [judgement] = judge(row, figures, ["native"])
    assert (judgement.target, judgement.verdict) == ("best peer (quick) x1.00", Verdict.REACHED)


@pytest.mark.parametrize(
    ("rounds", "verdict"),
    [
        ([900.0, 999.0, 2000.0], Verdict.REACHED),
        ([900.0, 1000.0, 2000.0], Verdict.NOISE),
        ([1000.0, 1000.0, 2000.0], Verdict.MISSED),
    ],
)
def test_a_limit_is_for_the_subject(rounds: list[float], verdict: Verdict) -> None:
    row = row_with(Limit(1000.0, "under 1 kB"), unit=Unit.BYTES)
    [judgement] = judge(row, cells(row, whorl=rounds, other=[1.0, 1.0, 1.0]), [])
    assert judgement.verdict == verdict


def test_without_figures_nothing_is_known() -> None:
    row = row_with(Ratio("absent", 2.0), Limit(1.0, "under 1"))
    judgements = judge(row, cells(row, other=[1.0]), [])
    assert [judgement.verdict for judgement in judgements] == [Verdict.UNKNOWN, Verdict.UNKNOWN]
    assert worst(judgements) is Verdict.UNKNOWN
    assert worst([]) is None


ENVIRONMENT = {
    "versions": {"whorl": "1.0"},
    "missing": {"absent": "absent is not installed"},
    "free_threaded": False,
    "rounds": 1,
    "python": "3.14.0",
    "cpu": "a processor",
    "cpu_count": 2,
    "kernel": "6.0",
    "date": "2026-01-02T00:00:00+00:00",
    "command": "python -m bench http",
}


def test_the_table_shows_every_peer_and_why_one_has_no_figure(tmp_path: Path) -> None:
    row = row_with(Ratio("slow", 2.0))
    figures = cells(row, whorl=[10.0], slow=[30.0])
    figures["odd"] = Cell(row.name, "odd", Status.UNAVAILABLE, "it has no such thing")
    results = Results("http", ENVIRONMENT, [row], list(figures.values()), judge(row, figures, []))
    results.write(tmp_path / "http.json")
    heading, _, line, _, legend = markdown(tmp_path / "http.json").splitlines()
    assert heading == "| row | whorl | slow | odd | target |"
    assert line == (
        "| a row | 10.0 µs, 2,000/s | 30.0 µs, 2,000/s (x3.00, 3.00-3.00) "
        "| n/a: it has no such thing | reached |"
    )
    assert legend.endswith("Without absent: absent is not installed.")


def test_a_result_of_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"schema": 0}))
    with pytest.raises(TableError, match="measure again with `make bench`"):
        markdown(path)
