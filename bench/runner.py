"""Runs a suite: every row, every peer, interleaved."""

from __future__ import annotations

import argparse
import os
import ssl
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.databases import running_databases
from bench.native import ROOT, find_or_build
from bench.peers import SUBJECT, Peer
from bench.results import Cell, Results, Status, Verdict, cell, environment, worst
from bench.sampling import (
    Plan,
    Sample,
    SampleError,
    UnavailableError,
    cores,
    load_command,
    running,
    server_command,
    take,
    target_of,
    url_of,
    worker_command,
)
from bench.suite import Method, Row, Suite
from bench.tables import heading, terminal_line, unavailable
from examples.window.display import virtual_display

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_RESULTS = ROOT / "bench" / "results"
#: Rounds, seconds of warm-up, seconds of the window.
_FULL = (5, 0.2, 0.6)
#: Load average above which other work on the machine shows in the figures.
_BUSY = 0.7
#: Seconds of warm-up, seconds of the window.
_QUICK = (0.1, 0.2)


def add_arguments(parser: argparse.ArgumentParser, suite: Suite) -> None:
    """The options of a suite's command."""
    parser.add_argument(
        "--rows", metavar="GLOB", help="only rows matching one of these comma-separated globs"
    )
    parser.add_argument(
        "--peers", metavar="A,B", help=f"only these peers and {SUBJECT} ({', '.join(suite.peers)})"
    )
    parser.add_argument(
        "--rounds", type=_positive, metavar="N", help=f"samples of each peer in each row ({_FULL[0]})"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"{suite.quick_rounds} short rounds: an estimate, not a measurement",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help=f"JSON file (bench/results/{suite.name}.json for a full run)",
    )
    parser.add_argument("--list", action="store_true", help="print the rows and stop")
    parser.add_argument(
        "--profile-row", metavar="NAME", help="run one row's process under its load, for a profiler"
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="how long --profile-row runs (30)")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def run(suite: Suite, arguments: argparse.Namespace) -> int:
    """Measures. Returns 0, or 1 if a row failed.

    Raises ValueError for arguments that fit nothing, RuntimeError where the native programs cannot be built.
    """
    if arguments.list:
        for row in suite.rows:
            print(f"{row.name:<32}{row.title}")
        return 0
    rounds, warm_up, window = (suite.quick_rounds, *_QUICK) if arguments.quick else _FULL
    rounds = arguments.rounds or rounds
    is_fixed = bool(arguments.quick or arguments.rounds)
    rows = suite.matching(arguments.rows) if arguments.rows else list(suite.rows)
    peers, missing = _present(suite, arguments.peers)
    rows = _with_toolkits(rows, missing)
    print("building the native programs ...", flush=True)
    measured_core, load_core = cores()
    if arguments.profile_row:
        [row] = suite.matching(arguments.profile_row)
        plan = Plan(suite.name, find_or_build(), 0.0, arguments.seconds, measured_core, load_core)
        with _display([row]), running_databases([row], load_core) as databases:
            peer = suite.named(arguments.peers)[0] if arguments.peers else peers[0]
            return _profile(row, peer, replace(plan, databases=databases.urls))
    native = find_or_build()
    plan = Plan(suite.name, native, warm_up, window, measured_core, load_core)
    if load_core is None:
        print("only one core: both sides take turns on it, which costs both", flush=True)
    busy = os.getloadavg()[0]
    if busy > _BUSY:
        print(f"the machine is busy (load average {busy:.1f}): the figures will spread", flush=True)
    about = environment(peers, missing, rounds, window, (measured_core, load_core))
    if any(row.tls for row in rows):
        libraries = {"OpenSSL of the interpreter": ssl.OPENSSL_VERSION, **native.versions()}
        about["versions"] |= libraries
        if len(set(libraries.values())) > 1:
            print("ratios to references over OpenSSL are between versions of it:", libraries, flush=True)
    results = Results(suite.name, about, rows, [])
    partial = bool(arguments.rows or arguments.peers or arguments.quick)
    output = arguments.output or _RESULTS / ("partial.json" if partial else f"{suite.name}.json")
    with _display(rows), running_databases(rows, load_core) as databases:
        about["versions"] |= databases.versions
        plan = replace(plan, databases=databases.urls)
        return _measure(results, peers, plan, output, rounds, is_fixed)


def _measure(
    results: Results, peers: Sequence[Peer], plan: Plan, output: Path, rounds: int, is_fixed: bool
) -> int:
    started = time.monotonic()
    print(heading(peers), flush=True)
    for row in results.rows:
        cells = _measure_row(row, peers, rounds_of(row, peers, rounds, is_fixed), plan)
        results.cells += cells.values()
        print(terminal_line(row, peers, cells, results.judgements(row)), flush=True)
        # After every row, so that a run that is cut short leaves what it has.
        results.write(output)
    _summary(results, output, time.monotonic() - started)
    return 1 if results.failed() else 0


def _present(suite: Suite, names: str | None) -> tuple[list[Peer], dict[str, str]]:
    """The peers to run, the subject first, and those that are not installed, each with what is missing."""
    subject = suite.peers[SUBJECT]
    chosen = suite.named(names) if names else list(suite.peers.values())
    if names is None or subject in chosen or subject.missing() is None:
        chosen = [subject, *[peer for peer in chosen if peer is not subject]]
    present, missing = [], {}
    for peer in chosen:
        reason = peer.missing()
        if reason is None:
            present.append(peer)
        else:
            missing[peer.name] = reason
            print(f"without {peer.name}: {reason}", flush=True)
    if not present:
        raise ValueError("none of these peers is installed")
    return present, missing


def _with_toolkits(rows: Sequence[Row], missing: dict[str, str]) -> list[Row]:
    """The rows whose toolkit is here; why one is not is said, and put among what is missing."""
    if not any(row.toolkit for row in rows):
        return list(rows)
    # Imported here: it imports whorl, and suites without toolkits need not have it.
    from bench.gui_loops import missing as missing_toolkit

    for toolkit in dict.fromkeys(row.toolkit for row in rows if row.toolkit):
        reason = missing_toolkit(toolkit)
        if reason is not None:
            missing[toolkit] = reason
            print(f"without {toolkit}: {reason}", flush=True)
    return [row for row in rows if row.toolkit not in missing]


@contextmanager
def _display(rows: Sequence[Row]) -> Iterator[None]:
    """A virtual display for the processes of a block, if one of the rows needs it."""
    if not any(row.toolkit for row in rows):
        yield
        return
    with virtual_display() as display:
        os.environ |= {"DISPLAY": display, "QT_QPA_PLATFORM": "xcb", "GDK_BACKEND": "x11", "GTK_A11Y": "none"}
        yield


def rounds_of(row: Row, peers: Sequence[Peer], rounds: int, is_fixed: bool) -> dict[str, int]:
    """The rounds of each peer: more than `rounds` for the subject and a peer that a target needs more of."""
    if is_fixed:
        return dict.fromkeys((peer.name for peer in peers), rounds)
    found = {peer.name: max(rounds, row.rounds_with(peer.name)) for peer in peers}
    if SUBJECT in found:
        found[SUBJECT] = max(found.values())
    return found


def has_row(peer: Peer, row: Row) -> bool:
    """Whether a peer has a figure in a row; a reference has one in the rows that name it."""
    if peer.is_reference:
        return peer.name in row.references
    return row.peers is None or peer.name in (SUBJECT, *row.peers)


def _measure_row(row: Row, peers: Sequence[Peer], rounds: Mapping[str, int], plan: Plan) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    samples: dict[str, list[Sample]] = {}
    by_name = {peer.name: peer for peer in peers}
    for peer in peers:
        if not has_row(peer, row):
            continue
        reason = peer.reason_against(row.name)
        if reason is None:
            samples[peer.name] = []
        else:
            cells[peer.name] = Cell(row.name, peer.name, Status.UNAVAILABLE, reason)
    for number in range(max(rounds.values())):
        for name in [name for name in samples if number < rounds[name]]:
            try:
                samples[name].append(take(row, by_name[name], plan))
            except UnavailableError as error:
                # What the subject lacks is a failure: it is to run every row.
                status = Status.FAILED if name == SUBJECT else Status.UNAVAILABLE
                cells[name] = Cell(row.name, name, status, str(error))
                del samples[name]
            except SampleError as error:
                cells[name] = Cell(row.name, name, Status.FAILED, str(error))
                del samples[name]
    ours = samples.get(SUBJECT, [])
    for name, taken in samples.items():
        cells[name] = cell(row, by_name[name], taken, ours)
    return {peer.name: cells[peer.name] for peer in peers if peer.name in cells}


def _summary(results: Results, output: Path, elapsed: float) -> None:
    verdicts = [worst(results.judgements(row)) for row in results.rows]
    rows = f"{len(results.rows)} rows in {elapsed / 60:.1f} min"
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in Verdict if verdict in verdicts)
    print(f"\n{rows}; {counts}; written to {output}")
    print("time is user and system CPU of the measured process per operation; x is the peer's over whorl's")
    for line in unavailable(results.cells):
        print(line)
    for one in results.failed():
        print(f"FAILED: {one.row} on {one.peer}: {one.reason}", file=sys.stderr)


def _profile(row: Row, peer: Peer, plan: Plan) -> int:
    """Keeps one row's process busy for the window, and says which process that is."""
    if row.method in (Method.IMPORT, Method.HELD, Method.START_UP) or row.takes_reading:
        raise ValueError(f"{row.name} has no steady load to profile")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="whorl-bench-")))
        plan.native.write_certificate(directory)
        target = plan.databases.get(row.database, "")
        if row.method is Method.AGAINST_SERVER:
            command = server_command(row, plan, directory)
            target = url_of(row, stack.enter_context(running(command, plan.timeout)).line())
        worker = stack.enter_context(
            running(worker_command(row, peer, plan, directory, target), plan.timeout)
        )
        print(f"{row.name} on {peer.name}: process {worker.pid}, {plan.window:.0f} s", flush=True)
        print(f"  perf record -g -p {worker.pid} -- sleep {max(plan.window - 2, 1):.0f}", flush=True)
        if row.method is Method.LOADED:
            load = load_command(row, plan, target_of(worker.line()), worker.pid)
            print(stack.enter_context(running(load, plan.timeout)).line())
        else:
            print(worker.line())
    return 0
