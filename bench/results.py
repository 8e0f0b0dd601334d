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
from bench.suite import BEST, Limit, Ratio, Row

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from bench.sampling import Sample

#: Of the JSON file; raised when a field changes its meaning.
SCHEMA = 2
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


def judge(row: Row, cells: Mapping[str, Cell], references: Collection[str]) -> list[Judgement]:
    """The verdict on each of the row's targets, from its cells by peer; `references` are the native peers."""
    return [
        _judge_limit(row, target, cells.get(SUBJECT))
        if isinstance(target, Limit)
        else _judge_ratio(row, target, cells, references)
        for target in row.targets
    ]


def _judge_ratio(
    row: Row, target: Ratio, cells: Mapping[str, Cell], references: Collection[str]
) -> Judgement:
    ratios = {
        name: one.ratio
        for name, one in cells.items()
        if one.ratio is not None
        and (target.against == name or (target.against == BEST and name not in references))
    }
    if not ratios:
        return Judgement(row.name, target.text, Verdict.UNKNOWN)
    name, ratio = min(ratios.items(), key=lambda item: item[1].median)
    text = f"best peer ({name}) x{target.least:.2f}" if target.against == BEST else target.text
    return Judgement(row.name, text, ratio.against(target.least))


def _judge_limit(row: Row, target: Limit, ours: Cell | None) -> Judgement:
    if ours is None or ours.value is None:
        return Judgement(row.name, target.text, Verdict.UNKNOWN)
    if ours.value.median < target.under:
        return Judgement(row.name, target.text, Verdict.REACHED)
    verdict = Verdict.NOISE if ours.value.least < target.under else Verdict.MISSED
    return Judgement(row.name, target.text, verdict)


_WORST_FIRST = (Verdict.MISSED, Verdict.NOISE, Verdict.UNKNOWN, Verdict.REACHED)


def worst(judgements: Sequence[Judgement]) -> Verdict | None:
    """The verdict on a row: the worst of its targets'; None where it has none."""
    found = {judgement.verdict for judgement in judgements}
    return next((verdict for verdict in _WORST_FIRST if verdict in found), None)


def environment(
    peers: Sequence[Peer],
    missing: Mapping[str, str],
    rounds: int,
    window: float,
    cores: tuple[int | None, int | None],
) -> dict[str, Any]:
    """What a reader needs to judge the figures, or to take them again.

    `missing` has the peers that could not run here at all, and why.
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", "-m", "bench", *sys.argv[1:]]),
        "python": platform.python_version(),
        "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "cpu": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "kernel": ".".join(platform.release().split(".")[:2]),
        "measured_core": cores[0],
        "load_core": cores[1],
        "load_average": os.getloadavg()[0],
        "rounds": rounds,
        "window_seconds": window,
        "versions": {name: version for peer in peers for name, version in peer.versions().items()},
        "missing": dict(missing),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


@dataclass
class Results:
    """Everything a run of a suite found."""

    suite: str
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
        return {
            "schema": SCHEMA,
            "suite": self.suite,
            "subject": SUBJECT,
            "environment": self.environment,
            "rows": [
                {"row": row.name, "title": row.title, "unit": row.unit.value, "throughput": row.throughput}
                for row in self.rows
            ],
            "results": [_cell_document(one) for one in self.cells],
            "verdicts": [asdict(judgement) for judgement in self.judgements],
        }


def _cell_document(one: Cell) -> dict[str, Any]:
    value, ratio = one.value, one.ratio
    return {
        "row": one.row,
        "peer": one.peer,
        "status": one.status,
        "reason": one.reason,
        "value_median": value.median if value else None,
        "value_min": value.least if value else None,
        "value_max": value.greatest if value else None,
        "operations_per_second": one.operations_per_second,
        "ratio_median": ratio.median if ratio else None,
        "ratio_min": ratio.least if ratio else None,
        "ratio_max": ratio.greatest if ratio else None,
    }
