"""The few rows that the README shows, from the results of both suites."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.peers import SUBJECT
from bench.results import ResultsError
from bench.tables import figure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bench.results import Results, Spread

#: Suite and row: what a program does most, and where whorl is behind or close to it.
ROWS = (
    ("loop", "call-soon-chain"),
    ("loop", "future-wake-up"),
    ("loop", "call-later-cancel"),
    ("loop", "tcp-echo-protocol-1KiB"),
    ("loop", "tls-echo-256B"),
    ("loop", "uvicorn"),
    ("http", "get-1KiB-32"),
    ("http", "tls-get"),
    ("http", "connections"),
    ("http", "tls-handshake"),
)
#: What a program has before it has anything else, by suite.
_USUAL = {"loop": "asyncio", "http": "aiohttp"}
#: The kinds of peers that a row is compared with.
USUAL_TITLE = "asyncio, or aiohttp on it"
CLOSEST_TITLE = "the best other Python package"
NATIVE_TITLE = "Rust without Python"


@dataclass(frozen=True)
class Mark:
    """One peer's ratio in a row."""

    peer: str
    ratio: Spread
    #: Whether whorl is behind a target that the row has against the peer.
    misses_target: bool = False

    @property
    def short(self) -> str:
        """The peer and the median."""
        return f"{self.peer} x{self.ratio.median:.2f}"

    @property
    def text(self) -> str:
        """The peer and the spread, and whether whorl is behind it or behind a target."""
        behind = ", behind" if self.ratio.behind(1.0) else ", behind its target" if self.misses_target else ""
        return f"{self.short} ({self.ratio.least:.2f}-{self.ratio.greatest:.2f}){behind}"


@dataclass(frozen=True)
class SummaryRow:
    """One row: whorl's figure, and the ratio of a peer of each kind; None where there is none."""

    title: str
    figure: str
    usual: Mark | None
    closest: Mark | None
    native: Mark | None


def rows(results: Mapping[str, Results]) -> list[SummaryRow]:
    """The rows of the summary, from the results of each suite.

    Raises ResultsError where a row of the summary has no figure.
    """
    return [_row(results[suite], name) for suite, name in ROWS]


def _row(results: Results, name: str) -> SummaryRow:
    row = next((row for row in results.rows if row.name == name), None)
    cells = results.of_row(name)
    ours = cells.get(SUBJECT)
    if row is None or ours is None or ours.value is None:
        raise ResultsError(f"the results of {results.suite} have no figure of {SUBJECT} in {name}")
    usual, natives = _USUAL[results.suite], results.natives()
    missed = {judgement.against for judgement in results.judgements(row)}
    marks = {
        peer: Mark(peer, one.ratio, peer in missed) for peer, one in cells.items() if one.ratio is not None
    }
    return SummaryRow(
        row.title,
        figure(ours.value.median, row.unit),
        marks.get(usual),
        _closest(mark for peer, mark in marks.items() if peer != usual and peer not in natives),
        _closest(mark for peer, mark in marks.items() if peer in natives),
    )


def _closest(marks: Iterable[Mark]) -> Mark | None:
    """The peer with the least median ratio."""
    return min(marks, key=lambda mark: mark.ratio.median, default=None)


def table(summary: Sequence[SummaryRow]) -> str:
    """The rows as a table of Markdown."""
    lines = [
        f"| | {SUBJECT} | {USUAL_TITLE} | {CLOSEST_TITLE} | {NATIVE_TITLE} |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in summary:
        marks = [mark.text if mark else "" for mark in (row.usual, row.closest, row.native)]
        lines.append("| " + " | ".join([row.title, row.figure, *marks]) + " |")
    return "\n".join(lines)
