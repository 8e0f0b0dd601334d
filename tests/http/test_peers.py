"""Other clients on the corpus: what two of them read otherwise is an error of ours, and what ours tolerates
another one reads too."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.http import peers

#: http.client takes each interim response but 100 for the response.
READ_OTHERWISE = {
    "Interim responses come before the response; their fields frame nothing": {"http.client"},
    "An interim response in doubt is in doubt for the response behind it": {"http.client"},
}


@pytest.fixture(scope="module")
def cases() -> list[peers.Case]:
    return peers.read_corpus()


@pytest.fixture(scope="module")
def record() -> Any:
    return json.loads(peers.RECORD.read_text())


def _read_otherwise(verdicts: dict[str, dict[str, str]]) -> dict[str, set[str]]:
    """The titles of what a user agent's parser of ours reads, with the peers that read something else."""
    odd = {
        title: {name for name in peers.PEERS if row.get(name, "").startswith("reads ")}
        for title, row in verdicts.items()
        if row["user agent"] == "reads"
    }
    return {title: names for title, names in odd.items() if names}


def test_the_record_is_of_this_corpus(cases: list[peers.Case], record: Any) -> None:
    """``python -m tests.http.peers`` makes it anew."""
    assert len(cases) > 180
    titles = [case.title for case in cases]
    assert len(set(titles)) == len(titles)
    recorded = {
        title: {name: row[name] for name in ("strict", "user agent")}
        for title, row in record["cases"].items()
    }
    assert recorded == {case.title: peers.ours(case) for case in cases}


@pytest.mark.parametrize("name", peers.PEERS)
def test_a_peer_reads_what_is_recorded(name: str, cases: list[peers.Case], record: Any) -> None:
    """Another version of it may refuse or accept what the recorded one does not; what it reads has to be the
    same as ours."""
    try:
        version = peers.PEERS[name].version()
    except peers.Unavailable as error:
        pytest.skip(str(error))
    found = peers.verdicts(name, cases)
    if version == record["versions"][name]:
        assert found == {title: row[name] for title, row in record["cases"].items()}
    rows = {case.title: peers.ours(case) | {name: found[case.title]} for case in cases}
    odd = _read_otherwise(rows)
    assert all(names <= READ_OTHERWISE.get(title, set()) for title, names in odd.items()), odd


def test_what_is_read_no_peer_reads_otherwise(record: Any) -> None:
    assert _read_otherwise(record["cases"]) == READ_OTHERWISE


def test_what_is_tolerated_a_peer_reads_too(record: Any) -> None:
    tolerated = {
        title: {row[name] for name in peers.PEERS}
        for title, row in record["cases"].items()
        if (row["strict"], row["user agent"]) == ("refuses", "reads")
    }
    assert len(tolerated) > 25
    assert not [title for title, verdicts in tolerated.items() if "same" not in verdicts]


@pytest.mark.parametrize("tolerance", ["strict", "user agent"])
async def test_the_client_reads_what_its_parser_reads(
    ours: Any, cases: list[peers.Case], tolerance: str
) -> None:
    # The client lets any 101 through, as aiohttp does.
    chosen = [case for case in cases if b" 101 " not in case.raw.partition(b"\n")[0]]
    found: dict[str, peers.Reading] = {}
    with peers.serving([case.raw for case in chosen]) as port:
        async with ours.ClientSession(strict=tolerance == "strict") as session:
            for number, case in enumerate(chosen):
                try:
                    async with session.get(f"http://127.0.0.1:{port}/{number}") as response:
                        found[case.title] = response.status, await response.read()
                except (ours.ClientResponseError, ours.ClientPayloadError, ours.ServerDisconnectedError):
                    found[case.title] = None
    assert found == {case.title: case.reading(tolerance) for case in chosen}
