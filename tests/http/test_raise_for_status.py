"""A status that is raised for, and the body that says why."""

from __future__ import annotations

from typing import Any

import pytest

from tests.http.raw_support import Peer, RawServer, assert_nothing_acquired, keeping_alive, raw_response

WHY = b'{"error": "why"}'
REFUSAL = raw_response(WHY, "Content-Type: application/json", status="422 Unprocessable")

SESSIONS: dict[str, dict[str, Any]] = {"plain": {}, "with a hook": {"skip_auto_headers": ["User-Agent"]}}

#: How the body comes: with the head, or after it was checked.
COMES = ("at once", "later")


def server(comes: str) -> RawServer:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(*([REFUSAL] if comes == "at once" else [REFUSAL[: -len(WHY)], WHY[:5], WHY[5:]]))

    return RawServer(script)


@pytest.mark.parametrize("comes", COMES)
@pytest.mark.parametrize("session", SESSIONS)
async def test_within_the_block_the_body_stays_readable(client: Any, session: str, comes: str) -> None:
    """It is the block that releases the response."""
    async with server(comes) as site, client.ClientSession(**SESSIONS[session]) as made:
        async with made.get(site.url) as response:
            with pytest.raises(client.ClientResponseError) as raised:
                response.raise_for_status()
            assert (raised.value.status, raised.value.message) == (422, "Unprocessable")
            assert await response.json() == {"error": "why"}
        async with made.post(site.url, data=b"x") as response:
            with pytest.raises(client.ClientResponseError):
                response.raise_for_status()
            assert await response.content.read() == WHY
        assert site.accepted == 1
        with pytest.raises(client.ClientResponseError):
            async with made.get(site.url) as response:
                response.raise_for_status()
        assert response.closed
        await assert_nothing_acquired(made.connector)


@pytest.mark.parametrize("session", SESSIONS)
async def test_without_a_block_it_is_released(client: Any, session: str) -> None:
    """Nothing else would release it."""
    async with server("later") as site, client.ClientSession(**SESSIONS[session]) as made:
        response = await made.get(site.url)
        with pytest.raises(client.ClientResponseError):
            response.raise_for_status()
        with pytest.raises(client.ClientConnectionError):
            await response.read()
        await assert_nothing_acquired(made.connector)


@pytest.mark.parametrize("session", SESSIONS)
async def test_an_option_raises_before_there_is_a_response_to_read(client: Any, session: str) -> None:
    async with server("at once") as site, client.ClientSession(**SESSIONS[session]) as made:
        with pytest.raises(client.ClientResponseError) as raised:
            async with made.get(site.url, raise_for_status=True):
                raise AssertionError("there is no response")
        assert raised.value.status == 422
        await assert_nothing_acquired(made.connector)


@pytest.mark.parametrize("comes", COMES)
@pytest.mark.parametrize("where", ["session", "request"])
async def test_a_coroutine_function_may_read_it(client: Any, where: str, comes: str) -> None:
    seen: list[Any] = []

    async def check(response: Any) -> None:
        if not response.ok:
            seen.append(await response.json())
            response.raise_for_status()

    option = {"raise_for_status": check}
    async with server(comes) as site:
        async with client.ClientSession(**(option if where == "session" else {})) as made:
            with pytest.raises(client.ClientResponseError):
                async with made.get(site.url, **(option if where == "request" else {})):
                    raise AssertionError("there is no response")
            await assert_nothing_acquired(made.connector)
    assert seen == [{"error": "why"}]


async def test_a_request_with_a_session_of_its_own(ours: Any) -> None:
    """aiohttp releases the response there, though its block closes it as well."""
    async with RawServer(keeping_alive(REFUSAL)) as site:
        async with ours.request("GET", site.url) as response:
            with pytest.raises(ours.ClientResponseError):
                response.raise_for_status()
            assert await response.read() == WHY
