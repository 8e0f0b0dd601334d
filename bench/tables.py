"""The table of a run, for the terminal while it is made and for the README from the JSON file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bench.peers import SUBJECT, Peer
from bench.results import SCHEMA, Cell, Judgement, Spread, Status, Verdict, worst
from bench.suite import Unit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

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
    """One row for the terminal; what failed or missed is said in full under it."""
    texts, remarks = [], []
    for peer in peers:
        one = cells.get(peer.name)
        texts.append(f"{_terminal_cell(row, one):<{_CELL_WIDTH}}")
        if one is not None and one.status is Status.FAILED:
            remarks.append(f"{'':<{_ROW_WIDTH}}FAILED on {peer.name}: {one.reason}")
    verdict = worst(judgements) or ""
    remarks += [
        f"{'':<{_ROW_WIDTH}}{judgement.verdict}: {judgement.target}"
        for judgement in judgements
        if judgement.verdict in (Verdict.MISSED, Verdict.NOISE)
    ]
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
    text = _figure(one.value.median, row.unit)
    if one.ratio is not None:
        return f"{text} {_ratio(one.ratio)}"
    return text if one.operations_per_second is None else f"{text} {one.operations_per_second:,.0f}/s"


def _figure(value: float, unit: Unit) -> str:
    """A value with its unit, to a precision that means something."""
    match unit:
        case Unit.BYTES:
            return f"{value:,.0f} B" if value < _MIB else f"{value / _MIB:.1f} MiB"
        case Unit.COUNT:
            return f"{value:.2f}"
        case Unit.CPU_US if value >= 10_000:
            return f"{value / 1000:.1f} ms"
        case Unit.CPU_US:
            return f"{value:.{3 if value < 10 else 1}f} µs"


def _ratio(ratio: Spread) -> str:
    return f"x{ratio.median:.2f} ({ratio.least:.2f}-{ratio.greatest:.2f})"


class TableError(Exception):
    """The file is not a result of this version of the measurements."""


def markdown(path: Path) -> str:
    """The README's table from a JSON file.

    Raises TableError for a file that does not hold a result, OSError for one that cannot be read.
    """
    try:
        document = json.loads(path.read_text())
    except ValueError as error:
        raise TableError(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise TableError(f"{path} has no schema {SCHEMA}; measure again with `make bench`")
    results = {(one["row"], one["peer"]): one for one in document["results"]}
    peers = list(dict.fromkeys(one["peer"] for one in document["results"]))
    peers.sort(key=lambda name: name != SUBJECT)
    lines = [
        "| " + " | ".join(["row", *peers, "target"]) + " |",
        "|" + "|".join(["---", *["---:"] * len(peers), "---"]) + "|",
    ]
    for row in document["rows"]:
        cells = [_markdown_cell(results.get((row["row"], peer)), row) for peer in peers]
        verdicts = [
            Judgement(**judgement) for judgement in document["verdicts"] if judgement["row"] == row["row"]
        ]
        lines.append("| " + " | ".join([row["title"], *cells, _markdown_verdict(verdicts)]) + " |")
    return "\n".join([*lines, "", _legend(document["environment"])])


def _markdown_cell(one: Mapping[str, Any] | None, row: Mapping[str, Any]) -> str:
    if one is None:
        return ""
    if one["status"] != Status.MEASURED:
        return f"{'failed' if one['status'] == Status.FAILED else 'n/a'}: {one['reason']}"
    text = _figure(one["value_median"], Unit(row["unit"]))
    if row["throughput"]:
        text += f", {one['operations_per_second']:,.0f}/s"
    if one["ratio_median"] is None:
        return text
    return f"{text} (x{one['ratio_median']:.2f}, {one['ratio_min']:.2f}-{one['ratio_max']:.2f})"


def _markdown_verdict(judgements: Sequence[Judgement]) -> str:
    short = [one for one in judgements if one.verdict in (Verdict.MISSED, Verdict.NOISE)]
    if not short:
        return worst(judgements) or ""
    return "; ".join(f"{one.verdict}: {one.target}" for one in short)


def _legend(environment: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    threading = " (free-threaded)" if environment["free_threaded"] else ""
    missing = "".join(f" Without {peer}: {reason}." for peer, reason in environment["missing"].items())
    return (
        f"CPU time (user and system) of the measured process per operation, and in brackets the ratio to "
        f"{SUBJECT}'s (above 1, {SUBJECT} needs less): median, least and greatest of {environment['rounds']} "
        f"interleaved rounds, a fresh process each. CPython {environment['python']}{threading}, {versions}; "
        f"{environment['cpu']}, {environment['cpu_count']} cores, Linux {environment['kernel']}; "
        f"{environment['date'][:10]}; `{environment['command']}`.{missing}"
    )
