"""The figures of a run: ratios and verdicts, and the JSON file that holds the ratios."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import sysconfig
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.peers import SUBJECT, Peer
from bench.suite import AnyOf, Limit, Margin, Median, Ratio, Row, Target, Unit
from bench.suites import SUITES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from bench.sampling import Sample

#: Of the JSON file; raised when a field changes its meaning.
SCHEMA = 2
#: Behind is a median ratio below this part of the target, with the greatest ratio below the target.
_BEHIND = 0.95
#: With fewer interleaved rounds nothing is said.
_FEWEST_ROUNDS = 5


class Status(StrEnum):
    """What became of one peer in one row."""

    MEASURED = "measured"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"


class Verdict(StrEnum):
    """What became of a target."""

    NOT_BEHIND = "not behind"
    BEHIND = "behind"
    #: The subject or the peer has no figure, or too few rounds were taken.
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

    def behind(self, least: float) -> bool:
        """Whether these ratios say that the subject is behind: the median and the greatest are too low."""
        return self.median < least * _BEHIND and self.greatest < least


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
    #: How many samples there are.
    rounds: int = 0


@dataclass(frozen=True)
class Judgement:
    """One target of one row: the verdict, and where it is not the good one, a text that says of what."""

    verdict: Verdict
    text: str = ""
    #: The peer whose target is missed.
    against: str | None = None


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
        rounds=len(samples),
    )


def judge(row: Row, cells: Mapping[str, Cell], references: Collection[str]) -> list[Judgement]:
    """Whether the subject is behind any Python peer, and the verdict on each of the row's targets.

    `cells` are the row's by peer, `references` the peers that are shown without a verdict.
    """
    peers = {name: one for name, one in cells.items() if name != SUBJECT and name not in references}
    return [
        _judge_peers(peers, cells.get(SUBJECT)),
        *[_judge_target(target, cells) for target in row.targets],
    ]


def _judge_target(target: Target, cells: Mapping[str, Cell]) -> Judgement:
    match target:
        case Ratio():
            return _judge_ratio(target, cells.get(target.against))
        case Median():
            return _judge_median(target, cells.get(target.against))
        case Limit():
            return _judge_limit(target, cells.get(SUBJECT))
        case Margin():
            return _judge_margin(target, cells.get(target.against), cells.get(SUBJECT))
        case AnyOf():
            return _judge_any([_judge_target(one, cells) for one in target.targets])


def _judge_peers(peers: Mapping[str, Cell], ours: Cell | None) -> Judgement:
    if ours is None or ours.value is None:
        return Judgement(Verdict.UNKNOWN, f"no figure of {SUBJECT}")
    if ours.value.greatest == 0:
        # No ratio can be taken to it, and none is needed.
        return Judgement(Verdict.NOT_BEHIND)
    if not peers:
        return Judgement(Verdict.NOT_BEHIND)
    measured = [(name, one.ratio, one.rounds) for name, one in peers.items() if one.ratio is not None]
    if not measured:
        return Judgement(Verdict.UNKNOWN, "no figure of a peer")
    if any(rounds < _FEWEST_ROUNDS for _, _, rounds in measured):
        return Judgement(Verdict.UNKNOWN, f"fewer than {_FEWEST_ROUNDS} rounds")
    behind = [f"{name} (x{ratio.median:.2f})" for name, ratio, _ in measured if ratio.behind(1.0)]
    return Judgement(Verdict.BEHIND, ", ".join(behind)) if behind else Judgement(Verdict.NOT_BEHIND)


def _judge_ratio(target: Ratio, one: Cell | None) -> Judgement:
    if one is None or one.ratio is None:
        return Judgement(Verdict.UNKNOWN, f"no ratio to {target.against}")
    if one.rounds < _FEWEST_ROUNDS:
        return Judgement(Verdict.UNKNOWN, f"fewer than {_FEWEST_ROUNDS} rounds")
    if not one.ratio.behind(target.least):
        return Judgement(Verdict.NOT_BEHIND)
    text = f"{target.against} x{target.least:.2f} (x{one.ratio.median:.2f})"
    return Judgement(Verdict.BEHIND, text, target.against)


def _judge_median(target: Median, one: Cell | None) -> Judgement:
    if one is None or one.ratio is None:
        return Judgement(Verdict.UNKNOWN, f"no ratio to {target.against}")
    if one.rounds < target.rounds:
        return Judgement(Verdict.UNKNOWN, f"{target.against}: {one.rounds} of {target.rounds} rounds")
    if one.ratio.median >= target.least:
        return Judgement(Verdict.NOT_BEHIND)
    text = f"{target.against} x{target.least:.2f} (x{one.ratio.median:.2f})"
    return Judgement(Verdict.BEHIND, text, target.against)


def _judge_limit(target: Limit, ours: Cell | None) -> Judgement:
    if ours is None or ours.value is None:
        return Judgement(Verdict.UNKNOWN, f"no figure of {SUBJECT}")
    if ours.value.median < target.under:
        return Judgement(Verdict.NOT_BEHIND)
    return Judgement(Verdict.BEHIND, f"the limit, {target.text}")


def _judge_margin(target: Margin, one: Cell | None, ours: Cell | None) -> Judgement:
    if ours is None or ours.value is None or one is None or one.value is None:
        return Judgement(Verdict.UNKNOWN, f"no difference to {target.against}")
    if one.rounds < _FEWEST_ROUNDS:
        return Judgement(Verdict.UNKNOWN, f"fewer than {_FEWEST_ROUNDS} rounds")
    if ours.value.median - one.value.median <= target.most:
        return Judgement(Verdict.NOT_BEHIND)
    return Judgement(Verdict.BEHIND, f"{target.against} by more than {target.text}", target.against)


def _judge_any(judgements: Sequence[Judgement]) -> Judgement:
    """The best verdict; where that is not the good one, the texts of all."""
    verdict = min((one.verdict for one in judgements), key=_WORST_FIRST[::-1].index)
    if verdict is Verdict.NOT_BEHIND:
        return Judgement(verdict)
    return Judgement(verdict, " and ".join(one.text for one in judgements), judgements[0].against)


_WORST_FIRST = (Verdict.BEHIND, Verdict.UNKNOWN, Verdict.NOT_BEHIND)


def worst(judgements: Sequence[Judgement]) -> Verdict:
    """The verdict on a row: the worst of its judgements."""
    return min((judgement.verdict for judgement in judgements), key=_WORST_FIRST.index)


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


class ResultsError(Exception):
    """The file does not hold results of this version of the measurements."""


@dataclass
class Results:
    """Everything a run of a suite found."""

    suite: str
    environment: dict[str, Any]
    rows: list[Row]
    cells: list[Cell]

    @classmethod
    def read(cls, path: Path) -> Results:
        """The results that a file keeps, with the targets that the suite has today.

        Raises ResultsError for a file that does not hold results, OSError for one that cannot be read.
        """
        try:
            document = json.loads(path.read_text())
        except ValueError as error:
            raise ResultsError(f"{path} is not JSON: {error}") from error
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise ResultsError(f"{path} has no schema {SCHEMA}; measure again with `make bench`")
        suite, rounds = document["suite"], document["environment"]["rounds"]
        targets = {row.name: row.targets for row in SUITES[suite].rows} if suite in SUITES else {}
        rows = [
            Row(
                one["row"],
                one["title"],
                "",
                unit=Unit(one["unit"]),
                throughput=one["throughput"],
                targets=targets.get(one["row"], ()),
            )
            for one in document["rows"]
        ]
        return cls(suite, document["environment"], rows, [_cell(one, rounds) for one in document["results"]])

    def peers(self) -> list[str]:
        """The peers that have a cell, the subject first."""
        names = dict.fromkeys(one.peer for one in self.cells)
        return sorted(names, key=lambda name: name != SUBJECT)

    def natives(self) -> set[str]:
        """The peers that are references in Rust."""
        return {name for name, peer in SUITES[self.suite].peers.items() if peer.native}

    def references(self) -> set[str]:
        """The peers that are shown without a verdict, those in Rust among them."""
        return {name for name, peer in SUITES[self.suite].peers.items() if peer.is_reference}

    def judgements(self, row: Row) -> list[Judgement]:
        """The verdict on each target of a row."""
        return judge(row, self.of_row(row.name), self.references())

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
        "rounds": one.rounds,
    }


def _cell(one: Mapping[str, Any], rounds: int) -> Cell:
    """The cell of a document; `rounds` where it does not say how many of its own it has."""
    return Cell(
        one["row"],
        one["peer"],
        Status(one["status"]),
        one["reason"],
        _spread(one, "value"),
        one["operations_per_second"],
        _spread(one, "ratio"),
        one.get("rounds", rounds),
    )


def _spread(one: Mapping[str, Any], quantity: str) -> Spread | None:
    if one[f"{quantity}_median"] is None:
        return None
    return Spread(one[f"{quantity}_median"], one[f"{quantity}_min"], one[f"{quantity}_max"])
