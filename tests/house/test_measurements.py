"""The measurements: rows, targets and peers fit together; verdicts and tables say what the figures do."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import chart, costs, summary
from bench.databases import DATABASES
from bench.gui_loops import GUI_LOOPS
from bench.native import Native
from bench.peers import SUBJECT, Peer
from bench.results import Cell, Judgement, Results, ResultsError, Spread, Status, Verdict, cell, judge, worst
from bench.runner import has_row, rounds_of
from bench.sampling import Plan, Sample, worker_command
from bench.suite import (
    AnyOf,
    Limit,
    Margin,
    Median,
    Method,
    Ratio,
    Row,
    Suite,
    Target,
    Unit,
    peers_of,
)
from bench.suites import SUITES
from bench.tables import markdown
from bench.worker import workload_of
from bench.workloads import bare, requests
from tests.house import ROOT
from tools.toolkits import TOOLKITS

EVERY_SUITE = pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)


@EVERY_SUITE
def test_a_suite_fits_together(suite: Suite) -> None:
    names = [row.name for row in suite.rows]
    assert len(names) == len(set(names))
    assert SUBJECT in suite.peers
    assert not suite.peers[SUBJECT].cannot, "the subject is to run every row"
    for row in suite.rows:
        assert set(row.references) <= {name for name, peer in suite.peers.items() if peer.is_reference}
        assert (row.method is Method.AGAINST_DATABASE) == bool(row.database), row.name
        assert row.database in ("", *DATABASES), row.name
        for peer in row.references:
            assert not suite.peers[peer].bare or callable(getattr(bare, row.workload)), row.name
        for target in row.targets:
            for peer in peers_of(target):
                assert has_row(suite.peers[peer], row), (row.name, peer)
                assert suite.peers[peer].reason_against(row.name) is None, (row.name, peer)
        for peer in row.peers or ():
            assert not suite.peers[peer].is_reference, (row.name, peer)
        assert not row.tickets or row.tls, row.name
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


def test_the_rows_of_the_summary_are_rows() -> None:
    assert len(summary.ROWS) <= 10
    assert set(summary.ROWS) <= {(name, row.name) for name, suite in SUITES.items() for row in suite.rows}


def test_the_costs_are_of_rows() -> None:
    rows = {row.name: row for row in SUITES["db"].rows}
    for cost in costs.COSTS:
        assert cost.row in rows
        assert cost.above in ("", *rows)
        peer = SUITES["db"].peers[cost.peer]
        assert not peer.is_reference or cost.peer in rows[cost.row].references


def test_a_cost_is_above_that_of_another_row() -> None:
    figures = [
        Cell(row, SUBJECT, Status.MEASURED, value=Spread(value, value, value))
        for row, value in (("whole", 30.0), ("part", 12.0))
    ]
    results = Results("db", ENVIRONMENT, [], figures)
    assert costs.Cost("all", "whole").value(results) == 30.0
    assert costs.Cost("the rest", "whole", above="part").value(results) == 18.0
    with pytest.raises(ResultsError, match="no figure of socket in whole"):
        costs.Cost("without a driver", "whole", "socket").value(results)


def test_a_reference_gives_no_verdict(tmp_path: Path) -> None:
    row = row_with()
    figures = cells(row, whorl=OURS, asyncio=[20.0] * 5, socket=[1.0] * 5)
    results = written(tmp_path, "db", row, figures)
    assert results.judgements(results.rows[0]) == [Judgement(Verdict.NOT_BEHIND)]


def test_the_documents_show_the_kept_results() -> None:
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


OURS = [10.0] * 5


@pytest.mark.parametrize(
    ("rounds", "verdict"),
    [
        ([10.0, 10.0, 10.0, 10.0, 10.0], Verdict.NOT_BEHIND),
        ([9.6, 9.6, 9.6, 9.6, 9.9], Verdict.NOT_BEHIND),
        # The median is too low, but in one round whorl was ahead.
        ([7.0, 7.0, 7.0, 7.0, 10.0], Verdict.NOT_BEHIND),
        ([9.4, 9.4, 9.4, 9.4, 9.9], Verdict.BEHIND),
        ([9.0, 9.0, 9.0, 9.0], Verdict.UNKNOWN),
    ],
)
def test_behind_is_a_low_median_and_no_round_ahead(rounds: list[float], verdict: Verdict) -> None:
    row = row_with()
    [judgement] = judge(
        row, cells(row, whorl=OURS[: len(rounds)], quick=rounds, slow=[40.0] * len(rounds)), []
    )
    assert judgement.verdict is verdict


def test_every_peer_that_whorl_is_behind_is_named() -> None:
    row = row_with()
    # The native one is a reference: what it needs less is shown, and no verdict.
    figures = cells(row, whorl=OURS, native=[1.0] * 5, quick=[9.0] * 5, quicker=[8.0] * 5, slow=[40.0] * 5)
    assert judge(row, figures, ["native"]) == [Judgement(Verdict.BEHIND, "quick (x0.90), quicker (x0.80)")]


@pytest.mark.parametrize(
    ("rounds", "verdict"),
    [
        ([20.0] * 5, Verdict.NOT_BEHIND),
        ([17.0, 17.0, 17.0, 17.0, 20.0], Verdict.NOT_BEHIND),
        ([18.9, 18.9, 18.9, 18.9, 19.9], Verdict.BEHIND),
    ],
)
def test_a_multiple_of_a_peer_follows_the_same_rule(rounds: list[float], verdict: Verdict) -> None:
    row = row_with(Ratio("slow", 2.0))
    assert judge(row, cells(row, whorl=OURS, slow=rounds), [])[1].verdict is verdict


@pytest.mark.parametrize(
    ("rounds", "verdict"),
    [([9.6] * 3, Verdict.NOT_BEHIND), ([9.4, 9.4, 30.0], Verdict.BEHIND), ([9.6] * 2, Verdict.UNKNOWN)],
)
def test_a_median_needs_its_rounds(rounds: list[float], verdict: Verdict) -> None:
    row = row_with(Median("native", 0.95, rounds=3))
    assert judge(row, cells(row, whorl=[10.0] * 3, native=rounds), ["native"])[1].verdict is verdict


def test_a_target_of_more_rounds_gets_them_for_its_two_sides() -> None:
    row, peers = (
        row_with(Median("native", 0.95, rounds=15)),
        [Peer(name, ()) for name in ("whorl", "slow", "native")],
    )
    assert rounds_of(row, peers, 5, is_fixed=False) == {"whorl": 15, "slow": 5, "native": 15}
    assert rounds_of(row, peers, 5, is_fixed=True) == {"whorl": 5, "slow": 5, "native": 5}


def test_ratios_are_taken_round_by_round() -> None:
    # The second round ran on a machine half as fast, for both.
    found = cells(row_with(), whorl=[10.0, 20.0, 10.0], slow=[30.0, 60.0, 30.0])
    assert found["slow"].ratio == Spread(3.0, 3.0, 3.0)
    assert found["whorl"].ratio is None
    assert found["slow"].operations_per_second == 2000


@pytest.mark.parametrize(
    ("rounds", "verdict"),
    [([900.0, 999.0, 2000.0], Verdict.NOT_BEHIND), ([900.0, 1000.0, 2000.0], Verdict.BEHIND)],
)
def test_a_limit_is_for_the_subject(rounds: list[float], verdict: Verdict) -> None:
    row = row_with(Limit(1000.0, "under 1 kB"), unit=Unit.BYTES)
    assert judge(row, cells(row, whorl=rounds, other=[1.0, 1.0, 1.0]), [])[1].verdict is verdict


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        ([24.0] * 5, Verdict.NOT_BEHIND),
        ([25.0, 25.0, 25.0, 60.0, 60.0], Verdict.NOT_BEHIND),
        ([26.0] * 5, Verdict.BEHIND),
        ([24.0] * 4, Verdict.UNKNOWN),
    ],
)
def test_a_margin_is_between_medians(ours: list[float], verdict: Verdict) -> None:
    row = row_with(Margin("quick", 15.0, "15 µs"))
    judgement = judge(row, cells(row, whorl=ours, quick=[10.0] * len(ours)), [])[1]
    assert judgement.verdict is verdict
    if verdict is Verdict.BEHIND:
        assert judgement == Judgement(verdict, "quick by more than 15 µs", "quick")


@pytest.mark.parametrize(
    ("slow", "native", "verdict"),
    [
        ([40.0] * 5, [1.0] * 5, Verdict.NOT_BEHIND),
        ([20.0] * 5, [8.0] * 5, Verdict.NOT_BEHIND),
        ([20.0] * 5, [1.0] * 5, Verdict.BEHIND),
        ([20.0] * 4, [1.0] * 5, Verdict.UNKNOWN),
    ],
)
def test_one_of_several_targets_is_enough(slow: list[float], native: list[float], verdict: Verdict) -> None:
    row = row_with(AnyOf((Ratio("slow", 3.0), Ratio("native", 1 / 1.5))))
    judgement = judge(row, cells(row, whorl=OURS, slow=slow, native=native), ["native"])[1]
    assert judgement.verdict is verdict
    if verdict is Verdict.BEHIND:
        assert judgement.text == "slow x3.00 (x2.00) and native x0.67 (x0.10)"


def test_without_figures_nothing_is_known() -> None:
    row = row_with(
        Ratio("absent", 2.0),
        Limit(1.0, "under 1"),
        Median("absent", 0.95, rounds=3),
        Margin("absent", 1.0, "1 µs"),
        AnyOf((Ratio("absent", 2.0),)),
    )
    judgements = judge(row, cells(row, other=[1.0]), [])
    assert {judgement.verdict for judgement in judgements} == {Verdict.UNKNOWN}
    assert worst(judgements) is Verdict.UNKNOWN
    assert worst([Judgement(Verdict.NOT_BEHIND), Judgement(Verdict.BEHIND), *judgements]) is Verdict.BEHIND


def test_nothing_is_less_than_nothing() -> None:
    row = row_with(unit=Unit.COUNT)
    assert judge(row, cells(row, whorl=[0.0] * 5, other=[0.0] * 5), []) == [Judgement(Verdict.NOT_BEHIND)]


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


def written(directory: Path, suite: str, row: Row, figures: dict[str, Cell]) -> Results:
    """The results of one row, as they are read back from their file."""
    path = directory / f"{suite}.json"
    Results(suite, ENVIRONMENT, [row], list(figures.values())).write(path)
    return Results.read(path)


def test_the_table_shows_every_peer_and_why_one_has_no_figure(tmp_path: Path) -> None:
    row = row_with()
    figures = cells(row, whorl=OURS, slow=[30.0] * 5)
    figures["odd"] = Cell(row.name, "odd", Status.UNAVAILABLE, "it has no such thing")
    heading, _, line, _, legend = markdown(written(tmp_path, "http", row, figures)).splitlines()
    assert heading == "| row | whorl | slow | odd | verdict |"
    assert line == (
        "| a row | 10.0 µs, 2,000/s | 30.0 µs, 2,000/s (x3.00, 3.00-3.00) "
        "| n/a: it has no such thing | not behind |"
    )
    assert legend.endswith("Without absent: absent is not installed.")


def test_the_table_says_what_whorl_is_behind(tmp_path: Path) -> None:
    row = row_with()
    figures = cells(row, whorl=OURS, quick=[9.0] * 5)
    assert (
        markdown(written(tmp_path, "http", row, figures))
        .splitlines()[2]
        .endswith("| behind: quick (x0.90) |")
    )


def test_kept_results_are_held_to_the_targets_of_today(tmp_path: Path) -> None:
    row = next(row for row in SUITES["loop"].rows if row.name == "tcp-echo-protocol-1KiB")
    figures = cells(row, whorl=OURS, asyncio=[20.0] * 5, tokio=OURS)
    found = written(tmp_path, "loop", row, figures)
    assert found.judgements(found.rows[0])[1] == Judgement(Verdict.UNKNOWN, "tokio: 5 of 15 rounds")


def test_a_result_of_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"schema": 0}))
    with pytest.raises(ResultsError, match="measure again with `make bench`"):
        Results.read(path)


def test_the_summary_says_where_a_target_is_missed() -> None:
    """Ahead of a peer, or level with it, and yet behind what the row requires."""
    ratio = Spread(1.05, 0.9, 1.2)
    assert summary.Mark("tokio", ratio, misses_target=True).text.endswith(", behind its target")
    assert not summary.Mark("tokio", ratio).text.endswith("target")
    behind = summary.Mark("tokio", Spread(0.9, 0.8, 0.95), misses_target=True)
    assert behind.text.endswith(", behind")


def test_the_summary_names_a_peer_of_each_kind() -> None:
    usual, closest = (
        summary.Mark("asyncio", Spread(4.0, 3.0, 5.0)),
        summary.Mark("uvloop", Spread(0.9, 0.8, 0.99)),
    )
    row = summary.SummaryRow("a <row>", "10.0 µs", usual, closest, None)
    line = summary.table([row]).splitlines()[2]
    assert line == ("| a <row> | 10.0 µs | asyncio x4.00 (3.00-5.00) | uvloop x0.90 (0.80-0.99), behind |  |")
    picture = ElementTree.fromstring(chart.svg([row], "a machine & a day"))
    texts = "".join(picture.itertext())
    assert "a <row>" in texts
    assert "asyncio x4.00" in texts
    assert "a machine & a day" in texts
    # Each mark has a place of its own: the one that needs more is further right.
    names = {"c": "http://www.w3.org/2000/svg"}
    assert max(float(one.attrib["cx"]) for one in picture.findall("c:circle", names)) > max(
        float(one.attrib["x"]) for one in picture.findall("c:rect[@class='closest']", names)
    )


def test_a_reference_is_shown_without_a_verdict() -> None:
    """The suite of the main loops has two in Python: loops without a toolkit."""
    suite = SUITES["gui"]
    row = next(row for row in suite.rows if row.name == "call-soon-chain-tk")
    figures = cells(row, **{"whorl": OURS, "whorl-loop": [8.5] * 5, "async-tkinter-loop": [40.0] * 5})
    found = Results("gui", ENVIRONMENT, [row], list(figures.values()))
    assert {judgement.verdict for judgement in found.judgements(row)} == {Verdict.NOT_BEHIND}
    figures = cells(row, **{"whorl": OURS, "whorl-loop": [7.5] * 5, "async-tkinter-loop": [40.0] * 5})
    found = Results("gui", ENVIRONMENT, [row], list(figures.values()))
    assert Judgement(Verdict.BEHIND, "whorl-loop x0.83 (x0.75)", "whorl-loop") in found.judgements(row)


def test_a_reference_has_the_rows_that_name_it() -> None:
    row = Row("a-row", "a row", "get", references=("native",), peers=("slow",))
    peers = [Peer(name, ()) for name in (SUBJECT, "slow", "other")]
    natives = [Peer(name, (), crate=name) for name in ("native", "another")]
    assert [peer.name for peer in (*peers, *natives) if has_row(peer, row)] == [SUBJECT, "slow", "native"]


def test_a_reference_does_what_is_plain_of_a_row() -> None:
    row = Row("a-row", "a row", "get_traced", plain="get", references=("plain", "native"))
    plain, native = Peer("plain", (), reference=True), Peer("native", (), crate="hyper", arguments=("--x",))
    assert workload_of(row, Peer(SUBJECT, ())) is requests.get_traced
    assert workload_of(row, plain) is requests.get
    assert workload_of(replace(row, plain=""), plain) is requests.get_traced
    plan = Plan("http", Native(*(Path(name) for name in ("load", "serve", "client"))), 0, 1, None, None)
    program, kind, *options = worker_command(row, native, plan, Path("there"), "http://127.0.0.1")
    assert (program, kind) == (Path("client"), "get")
    assert "--x" in options


def test_what_native_peers_do_is_a_kind_of_their_program() -> None:
    source = (ROOT / "bench" / "native" / "src" / "bin" / "client.rs").read_text()
    listed = source.partition("\nkinds\n")[2].partition("\noptions\n")[0]
    kinds = set(re.findall(r"^  (\w+)  +\S", listed, re.M))
    peers = SUITES["http"].peers
    for row in SUITES["http"].rows:
        natives = [peers[name] for name in row.references if peers[name].native]
        if any(peer.reason_against(row.name) is None for peer in natives):
            assert (row.plain or row.workload) in kinds, row.name


def test_a_row_of_a_toolkit_has_the_peers_that_run_in_it() -> None:
    for row in SUITES["gui"].rows:
        assert row.toolkit in TOOLKITS
        assert row.peers is not None
        assert set(row.peers) <= set(SUITES["gui"].peers)
        loops = {SUITES["gui"].peers[name].loop_name for name in (SUBJECT, *row.peers)}
        assert loops <= {*GUI_LOOPS, "whorl", "asyncio"}
        # Where a window is needed, no peer is without one.
        if "frames" in row.name:
            assert loops <= set(GUI_LOOPS)


def test_without_other_peers_there_is_none_to_be_behind() -> None:
    row = row_with()
    assert judge(row, cells(row, whorl=OURS, native=[1.0] * 5), ["native"]) == [Judgement(Verdict.NOT_BEHIND)]
