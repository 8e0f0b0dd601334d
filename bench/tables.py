"""The table of a run: for the terminal while it is made, for the documents from its results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.peers import SUBJECT
from bench.results import Status, Verdict, worst
from bench.suite import Unit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.peers import Peer
    from bench.results import Cell, Judgement, Results, Spread
    from bench.suite import Row

_MIB = 1024 * 1024
_ROW_WIDTH = 31
_CELL_WIDTH = 32
_VERDICT_WIDTH = 12


def heading(peers: Sequence[Peer]) -> str:
    """The first lines of the terminal's table."""
    names = [f"{peer.name:<{_CELL_WIDTH}}" for peer in peers]
    line = f"{'row':<{_ROW_WIDTH}}{''.join(names)}{'verdict':<{_VERDICT_WIDTH}}"
    return f"{line}\n{'-' * len(line)}"


def terminal_line(
    row: Row, peers: Sequence[Peer], cells: Mapping[str, Cell], judgements: Sequence[Judgement]
) -> str:
    """One row for the terminal; failures and what whorl is behind are said in full under it."""
    texts, remarks = [], []
    for peer in peers:
        one = cells.get(peer.name)
        texts.append(f"{_terminal_cell(row, one):<{_CELL_WIDTH}}")
        if one is not None and one.status is Status.FAILED:
            remarks.append(f"{'':<{_ROW_WIDTH}}FAILED on {peer.name}: {one.reason}")
    verdict = worst(judgements)
    if verdict is not Verdict.NOT_BEHIND:
        remarks.append(f"{'':<{_ROW_WIDTH}}{_verdict(judgements)}")
    line = f"{row.name:<{_ROW_WIDTH}}{''.join(texts)}{verdict:<{_VERDICT_WIDTH}}".rstrip()
    return "\n".join([line, *remarks])


def unavailable(cells: Sequence[Cell]) -> list[str]:
    """What every `n/a` of the table means: a line for each peer and reason, with its rows."""
    rows: dict[tuple[str, str | None], list[str]] = {}
    for one in cells:
        if one.status is Status.UNAVAILABLE:
            rows.setdefault((one.peer, one.reason), []).append(one.row)
    return [f"n/a: {peer}: {reason} ({', '.join(names)})" for (peer, reason), names in rows.items()]


def _terminal_cell(row: Row, one: Cell | None) -> str:
    if one is None:
        return ""
    if one.value is None:
        return "FAILED" if one.status is Status.FAILED else "n/a"
    text = figure(one.value.median, row.unit)
    if one.ratio is not None:
        return f"{text} {_ratio(one.ratio)}"
    return text if one.operations_per_second is None else f"{text} {one.operations_per_second:,.0f}/s"


def figure(value: float, unit: Unit) -> str:
    """A value with its unit, to a precision that means something."""
    match unit:
        case Unit.BYTES:
            return f"{value:,.0f} B" if value < _MIB else f"{value / _MIB:.1f} MiB"
        case Unit.COUNT:
            return f"{value:.2f}"
        case Unit.MS:
            return f"{value:.3f} ms"
        case Unit.CPU_US if value >= 10_000:
            return f"{value / 1000:.1f} ms"
        case Unit.CPU_US:
            return f"{value:.{3 if value < 10 else 1}f} µs"


def _ratio(ratio: Spread) -> str:
    return f"x{ratio.median:.2f} ({ratio.least:.2f}-{ratio.greatest:.2f})"


def markdown(results: Results) -> str:
    """Every row and peer as a table of Markdown, and under it what a reader needs to judge the figures."""
    peers = results.peers()
    lines = [
        "| " + " | ".join(["row", *peers, "verdict"]) + " |",
        "|" + "|".join(["---", *["---:"] * len(peers), "---"]) + "|",
    ]
    for row in results.rows:
        cells = results.of_row(row.name)
        texts = [_markdown_cell(row, cells.get(peer)) for peer in peers]
        lines.append("| " + " | ".join([row.title, *texts, _verdict(results.judgements(row))]) + " |")
    return "\n".join([*lines, "", _legend(results.environment)])


def _markdown_cell(row: Row, one: Cell | None) -> str:
    if one is None:
        return ""
    if one.value is None:
        return f"{'failed' if one.status is Status.FAILED else 'n/a'}: {one.reason}"
    text = figure(one.value.median, row.unit)
    if row.throughput:
        text += f", {one.operations_per_second:,.0f}/s"
    if one.ratio is None:
        return text
    return f"{text} (x{one.ratio.median:.2f}, {one.ratio.least:.2f}-{one.ratio.greatest:.2f})"


def _verdict(judgements: Sequence[Judgement]) -> str:
    short = [f"{one.verdict}: {one.text}" for one in judgements if one.verdict is not Verdict.NOT_BEHIND]
    # What several targets say alike is said once.
    return "; ".join(dict.fromkeys(short)) or Verdict.NOT_BEHIND


def _legend(environment: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    missing = "".join(f" Without {peer}: {reason}." for peer, reason in environment["missing"].items())
    return (
        f"CPU time (user and system) of the measured process per operation, and in brackets the ratio to "
        f"{SUBJECT}'s (above 1, {SUBJECT} needs less): median, least and greatest of {environment['rounds']} "
        f"interleaved rounds, a fresh process each. {versions}; {made_at(environment)}; "
        f"`{environment['command']}`.{missing}"
    )


def made_at(environment: Mapping[str, Any]) -> str:
    """The interpreter, the machine and the day of a run."""
    threading = " (free-threaded)" if environment["free_threaded"] else ""
    return (
        f"CPython {environment['python']}{threading}; {environment['cpu']}, "
        f"{environment['cpu_count']} cores, Linux {environment['kernel']}; {environment['date'][:10]}"
    )
