"""The figures of a run: ratios, targets and verdicts, and the JSON file that holds them."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import sysconfig
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.peers import SUBJECT, Peer
from bench.rows import Kind, Row, Unit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.sampling import Sample

#: Of the JSON file; raised when a field changes its meaning.
SCHEMA = 1
#: A median this far under its target is a miss, however wide the samples spread.
_NOISE_FLOOR = 0.9


class Status(StrEnum):
    """What became of one peer in one row."""

    MEASURED = "measured"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"


class Verdict(StrEnum):
    """What became of a target."""

    REACHED = "reached"
    NOISE = "noise"
    MISSED = "missed"
    #: The subject, or every peer the target names, has no figure.
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of the same quantity over the rounds."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def against(self, target: float) -> Verdict:
        """Reached by the median; noise where the spread holds the target and the median is close under it."""
        if self.median >= target:
            return Verdict.REACHED
        if self.greatest >= target and self.median >= target * _NOISE_FLOOR:
            return Verdict.NOISE
        return Verdict.MISSED


@dataclass(frozen=True)
class Cell:
    """One peer in one row.

    `ratio` is the peer's value over the subject's, round by round: above 1, the subject needs less.
    """

    row: str
    peer: str
    status: Status
    reason: str | None = None
    value: Spread | None = None
    operations_per_second: float | None = None
    ratio: Spread | None = None


@dataclass(frozen=True)
class Judgement:
    """One target of one row."""

    row: str
    target: str
    verdict: Verdict


def cell(row: Row, peer: Peer, samples: Sequence[Sample], subject: Sequence[Sample]) -> Cell:
    """The figures of a peer from its samples and the subject's, both in order of the rounds."""
    throughputs = [sample.operations_per_second for sample in samples]
    known = [throughput for throughput in throughputs if throughput is not None]
    ratios = [
        theirs.value / ours.value for theirs, ours in zip(samples, subject, strict=False) if ours.value > 0
    ]
    return Cell(
        row.name,
        peer.name,
        Status.MEASURED,
        value=Spread.of([sample.value for sample in samples]),
        operations_per_second=statistics.median(known) if known else None,
        ratio=Spread.of(ratios) if ratios and peer.name != SUBJECT else None,
    )


@dataclass(frozen=True)
class _Target:
    """A ratio to reach: against one peer, or against whichever Python peer comes out best."""

    against: str
    ratio: float

    @property
    def text(self) -> str:
        return f"{self.against} x{self.ratio:.2f}"


_BEST = "best peer"
#: A pure-Rust server within 5 %.
_WITHIN_FIVE_PERCENT = 1 / 1.05
_IMPORT_LIMIT_US = 30_000.0


def _targets(row: Row) -> list[_Target]:
    if row.kind is Kind.MEMORY:
        return [_Target("uvloop", 1.0)]
    if row.kind is Kind.IMPORT:
        return []
    targets = [_Target(_BEST, 1.0)]
    if row.name.endswith("tcp-echo-protocol-1KiB"):
        targets.append(_Target("tokio", _WITHIN_FIVE_PERCENT))
    if row.aged_heap:
        # Rows beside the ones that have the targets: not behind any peer is what is asked of them.
        return targets
    if row.kind in (Kind.CALLBACK, Kind.TIMER, Kind.ECHO, Kind.TLS_ECHO):
        targets.append(_Target("asyncio", 3.0))
    if row.name in ("tls-echo-256B", "tls-echo-10KiB"):
        targets.append(_Target("uvloop", 1.5))
    return targets


def judge(row: Row, cells: Mapping[str, Cell]) -> list[Judgement]:
    """The verdict on each of the row's targets, from its cells by peer."""
    if row.kind is Kind.IMPORT:
        return [_judge_import(row, cells.get(SUBJECT))]
    return [_judge(row, target, cells) for target in _targets(row)]


def _judge(row: Row, target: _Target, cells: Mapping[str, Cell]) -> Judgement:
    ratios = {
        name: one.ratio
        for name, one in cells.items()
        if one.ratio is not None and (target.against == name or (target.against == _BEST and name != "tokio"))
    }
    if not ratios:
        return Judgement(row.name, target.text, Verdict.UNKNOWN)
    name, ratio = min(ratios.items(), key=lambda item: item[1].median)
    text = f"best peer ({name}) x{target.ratio:.2f}" if target.against == _BEST else target.text
    return Judgement(row.name, text, ratio.against(target.ratio))


def _judge_import(row: Row, ours: Cell | None) -> Judgement:
    text = f"under {_IMPORT_LIMIT_US / 1000:.0f} ms"
    if ours is None or ours.value is None:
        return Judgement(row.name, text, Verdict.UNKNOWN)
    if ours.value.median < _IMPORT_LIMIT_US:
        return Judgement(row.name, text, Verdict.REACHED)
    return Judgement(row.name, text, Verdict.NOISE if ours.value.least < _IMPORT_LIMIT_US else Verdict.MISSED)


_WORST_FIRST = (Verdict.MISSED, Verdict.NOISE, Verdict.UNKNOWN, Verdict.REACHED)


def worst(judgements: Sequence[Judgement]) -> Verdict:
    """The verdict on a row: the worst of its targets'."""
    found = {judgement.verdict for judgement in judgements}
    return next((verdict for verdict in _WORST_FIRST if verdict in found), Verdict.UNKNOWN)


def environment(
    peers: Sequence[Peer], rounds: int, window: float, cores: tuple[int | None, int | None]
) -> dict[str, Any]:
    """What a reader needs to judge the figures, or to take them again."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", "-m", "bench", *sys.argv[1:]]),
        "python": platform.python_version(),
        "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "cpu": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "kernel": ".".join(platform.release().split(".")[:2]),
        "server_core": cores[0],
        "load_core": cores[1],
        "load_average": os.getloadavg()[0],
        "rounds": rounds,
        "window_seconds": window,
        "versions": {peer.name: peer.version() for peer in peers if peer.version() is not None},
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


@dataclass
class Results:
    """Everything a run found."""

    environment: dict[str, Any]
    rows: list[Row]
    cells: list[Cell]
    judgements: list[Judgement]

    def of_row(self, row: str) -> dict[str, Cell]:
        """The cells of one row, by peer."""
        return {one.peer: one for one in self.cells if one.row == row}

    def failed(self) -> list[Cell]:
        """The cells whose run failed."""
        return [one for one in self.cells if one.status is Status.FAILED]

    def write(self, path: Path) -> None:
        """Writes the JSON file whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + ".part")
        unfinished.write_text(json.dumps(self._document(), indent=1) + "\n")
        unfinished.replace(path)

    def _document(self) -> dict[str, Any]:
        units = {row.name: row.unit for row in self.rows}
        return {
            "schema": SCHEMA,
            "subject": SUBJECT,
            "environment": self.environment,
            "rows": [{"row": row.name, "title": row.title, "unit": row.unit.value} for row in self.rows],
            "results": [_cell_document(one, units[one.row]) for one in self.cells],
            "verdicts": [asdict(judgement) for judgement in self.judgements],
        }


def _cell_document(one: Cell, unit: Unit) -> dict[str, Any]:
    value, ratio = one.value, one.ratio
    return {
        "row": one.row,
        "peer": one.peer,
        "status": one.status,
        "reason": one.reason,
        "cpu_us_per_operation": value.median if value and unit is Unit.CPU_US else None,
        "bytes_per_connection": value.median if value and unit is Unit.BYTES else None,
        "value_min": value.least if value else None,
        "value_max": value.greatest if value else None,
        "operations_per_second": one.operations_per_second,
        "ratio_median": ratio.median if ratio else None,
        "ratio_min": ratio.least if ratio else None,
        "ratio_max": ratio.greatest if ratio else None,
    }
