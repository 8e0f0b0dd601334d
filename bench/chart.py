"""The picture of the summary: an SVG that follows the reader's light or dark scheme."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from bench.peers import SUBJECT
from bench.summary import CLOSEST_TITLE, NATIVE_TITLE, USUAL_TITLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.summary import Mark, SummaryRow

_WIDTH = 840
_LEFT = 330
_RIGHT = 24
_TOP = 96
_ROW = 38
_BOTTOM = 40
_TICKS = (0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)

_STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
.panel { fill: #ffffff; stroke: #d1d9e0; }
.heading { font-size: 15px; font-weight: 600; }
.small { font-size: 11px; fill: #59636e; }
.grid { stroke: #d1d9e0; }
.one { stroke: #1f2328; stroke-width: 2; }
.usual { fill: #0969da; }
.closest { fill: #bc4c00; }
.native { fill: #1a7f37; }
line.usual { stroke: #0969da; }
line.closest { stroke: #bc4c00; }
line.native { stroke: #1a7f37; }
.spread { stroke-width: 2; stroke-opacity: 0.4; }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc; }
.panel { fill: #0d1117; stroke: #3d444d; }
.small { fill: #9198a1; }
.grid { stroke: #3d444d; }
.one { stroke: #f0f6fc; }
.usual { fill: #58a6ff; }
.closest { fill: #f0883e; }
.native { fill: #3fb950; }
line.usual { stroke: #58a6ff; }
line.closest { stroke: #f0883e; }
line.native { stroke: #3fb950; }
}
"""


def svg(summary: Sequence[SummaryRow], made: str) -> str:
    """The ratios of the rows on one logarithmic scale, whorl's figure at 1."""
    scale = _Scale([mark for row in summary for _, mark in _marks(row)])
    bottom = _TOP + _ROW * len(summary)
    height = bottom + _BOTTOM
    heading = f"CPU time per operation, as a multiple of {SUBJECT}'s"
    size = f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
    reading = f"right of the line {SUBJECT} needs less, left of it more"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(heading)}" {size}>',
            f"<style>{_STYLE}</style>",
            f'<rect class="panel" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="6"/>',
            f'<text class="heading" x="16" y="27">{escape(heading)}</text>',
            f'<text class="small" x="{_WIDTH - 16}" y="27" text-anchor="end">{escape(reading)}</text>',
            *_key(),
            *_axis(scale, bottom),
            *(
                line
                for number, row in enumerate(summary)
                for line in _row(row, scale, _TOP + _ROW * number + _ROW / 2)
            ),
            f'<text class="small" x="16" y="{height - 12}">median, least and greatest; {escape(made)}</text>',
            "</svg>",
            "",
        ]
    )


class _Scale:
    """Where a ratio is on the logarithmic axis."""

    def __init__(self, marks: Sequence[Mark]) -> None:
        ends = [1.0, *(mark.ratio.least for mark in marks), *(mark.ratio.greatest for mark in marks)]
        self._low, high = min(ends) / 1.1, max(ends) * 1.1
        self._per_unit = (_WIDTH - _LEFT - _RIGHT) / math.log(high / self._low)
        self.ticks = [tick for tick in _TICKS if self._low < tick < high]

    def x(self, ratio: float) -> float:
        """The place of a ratio, from the left."""
        return round(_LEFT + math.log(ratio / self._low) * self._per_unit, 1)


def _marks(row: SummaryRow) -> list[tuple[str, Mark]]:
    """The marks that a row has, each with its class."""
    found = (("usual", row.usual), ("closest", row.closest), ("native", row.native))
    return [(kind, mark) for kind, mark in found if mark is not None]


def _key() -> Iterable[str]:
    x = 16
    for kind, title in (("usual", USUAL_TITLE), ("closest", CLOSEST_TITLE), ("native", NATIVE_TITLE)):
        yield _symbol(kind, x + 5, 49)
        yield f'<text x="{x + 18}" y="53">{escape(title)}</text>'
        x += 46 + 7 * len(title)


def _axis(scale: _Scale, bottom: int) -> Iterable[str]:
    for tick in scale.ticks:
        x = scale.x(tick)
        kind = "one" if tick == 1 else "grid"
        yield f'<line class="{kind}" x1="{x}" y1="{_TOP - 8}" x2="{x}" y2="{bottom}"/>'
        text = SUBJECT if tick == 1 else f"x{tick:g}"
        yield f'<text class="small" x="{x}" y="{_TOP - 14}" text-anchor="middle">{text}</text>'


def _row(row: SummaryRow, scale: _Scale, y: float) -> Iterable[str]:
    yield f'<text x="16" y="{y - 2:g}">{escape(row.title)}</text>'
    names = ",  ".join(f'<tspan class="{kind}">{escape(mark.short)}</tspan>' for kind, mark in _marks(row))
    yield f'<text class="small" x="16" y="{y + 12:g}">{names}</text>'
    for kind, mark in _marks(row):
        least, greatest = scale.x(mark.ratio.least), scale.x(mark.ratio.greatest)
        yield f'<line class="{kind} spread" x1="{least}" y1="{y:g}" x2="{greatest}" y2="{y:g}"/>'
    for kind, mark in _marks(row):
        yield _symbol(kind, scale.x(mark.ratio.median), y)


def _symbol(kind: str, x: float, y: float) -> str:
    """A shape for each kind, so that colour is not the only difference."""
    match kind:
        case "usual":
            return f'<circle class="{kind}" cx="{x:g}" cy="{y:g}" r="5"/>'
        case "closest":
            return f'<rect class="{kind}" x="{x - 4.5:g}" y="{y - 4.5:g}" width="9" height="9"/>'
        case _:
            return f'<path class="{kind}" d="M{x:g} {y - 6:g}l6 6l-6 6l-6 -6z"/>'
