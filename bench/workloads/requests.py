"""A client's requests to the native HTTP server: batches of them, and what they cost other than time."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urljoin

from bench.clients import PIECE, UPLOAD, Client, open_client
from bench.clients.of_websockets import Echo, open_echo
from bench.workloads import DOCUMENT, FORM, growing_batch
from bench.workloads.memory import BEFORE, peak_since_reset, raise_file_limit, reset_peak, resident_bytes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bench.workloads import Batch, Setting

#: Bodies streamed before the peak of memory is read.
_STREAMED = 5
#: Collections are counted in rounds of so many requests of each task, for so many requests in all or, where a
#: client is slow, so many seconds.
_ROUND = 10
_OBSERVED = 10_000
_OBSERVED_SECONDS = 5.0


def get(setting: Setting) -> Batch:
    """GETs, each body read as a whole."""
    return _gets(setting)


def get_redirected(setting: Setting) -> Batch:
    """GETs that are redirected once."""
    return _gets(setting, "redirects")


def get_with_middleware(setting: Setting) -> Batch:
    """GETs through a middleware that does nothing."""
    return _gets(setting, "middleware")


def get_traced(setting: Setting) -> Batch:
    """GETs of a session that is traced by functions that do nothing."""
    return _gets(setting, "trace")


def get_trusting_env(setting: Setting) -> Batch:
    """GETs of a session that reads proxies from the environment, where there are none."""
    return _gets(setting, "trust_env")


def get_skipping_fields(setting: Setting) -> Batch:
    """GETs of a session that leaves out a field which the client sends by itself."""
    return _gets(setting, "skip_auto_headers")


def stream(setting: Setting) -> Batch:
    """GETs, each body read by pieces."""
    return _batch(setting, lambda client, times: client.stream(setting.target, times, setting.size))


def pages(setting: Setting) -> Batch:
    """GETs, each by a client of its own, as text."""
    return _batch(setting, lambda client, times: client.pages(setting.target, times, setting.size))


def post_json(setting: Setting) -> Batch:
    """POSTs of a JSON document, which comes back."""
    return _batch(setting, lambda client, times: client.post_json(setting.target, times, DOCUMENT))


def post_without_json(setting: Setting) -> Batch:
    """The same, but for what json does: the client's own share."""
    text = json.dumps(DOCUMENT)
    return _batch(
        setting,
        lambda client, times: client.post_without_json(setting.target, times, DOCUMENT, text),
        "without_json",
    )


def post_bytes(setting: Setting) -> Batch:
    """POSTs of the same document as bytes, which come back."""
    body = json.dumps(DOCUMENT).encode()
    return _batch(setting, lambda client, times: client.post_bytes(setting.target, times, body))


def post_form(setting: Setting) -> Batch:
    """POSTs of a form."""
    size = len(urlencode(FORM))
    return _batch(setting, lambda client, times: client.post_form(setting.target, times, FORM, size))


def post_multipart(setting: Setting) -> Batch:
    """POSTs of a form with a file in it, which is in the page cache."""
    file = setting.directory / UPLOAD
    file.write_bytes(bytes(setting.size))
    return _batch(
        setting, lambda client, times: client.post_multipart(setting.target, times, file, setting.size)
    )


def echo(setting: Setting) -> Batch:
    """Messages of open WebSockets, each sent back before the next one is sent."""
    url = setting.target.replace("http", "ws", 1)

    async def connect() -> list[Echo]:
        messages = [_message(number, setting.size) for number in range(setting.connections)]
        return [await open_echo(setting.client, url, message) for message in messages]

    opened = setting.loop.run_until_complete(connect())
    return growing_batch(setting, lambda number, times: opened[number].echo(times))


def _message(connection: int, size: int) -> bytes:
    """Bytes that differ at every position and for every connection, as those of bench/native."""
    return bytes((at * 31 ^ at >> 8 ^ connection * 97) & 0xFF for at in range(size))


def _gets(setting: Setting, feature: str = "") -> Batch:
    return _batch(setting, lambda client, times: client.get(setting.target, times, setting.size), feature)


def _batch(setting: Setting, requests: Callable[[Client, int], Awaitable[None]], feature: str = "") -> Batch:
    """One client; in a batch, `setting.connections` tasks make as many requests each."""
    client = setting.loop.run_until_complete(_open(setting, feature))
    return growing_batch(setting, lambda _, times: requests(client, times))


async def _open(setting: Setting, feature: str = "") -> Client:
    authority = setting.directory / "authority.pem"
    return open_client(
        setting.client,
        # One more than the row's: for the requests of the row itself.
        setting.connections + 1,
        authority if setting.target.startswith("https:") else None,
        feature,
    )


async def peak_memory(setting: Setting) -> float:
    """By how many bytes resident memory grows, at its peak, while large bodies are streamed."""
    client = await _open(setting)
    # What a small body brings in (code, a connection, buffers of the usual size) is there before.
    await client.stream(urljoin(setting.target, f"/bytes/{PIECE}"), _STREAMED, PIECE)
    gc.collect()
    reset_peak()
    before = resident_bytes()
    await client.stream(setting.target, _STREAMED, setting.size)
    return max(0.0, float(peak_since_reset() - before))


async def memory_in_flight(setting: Setting) -> float:
    """Bytes of resident memory for each request that waits for its response, connection and task included."""
    raise_file_limit(setting.connections)
    client = await _open(setting)
    waiting: list[asyncio.Future[None]] = []
    readings = []
    for count in (BEFORE, setting.connections):
        while len(waiting) < count:
            waiting.append(asyncio.ensure_future(client.get(setting.target, 1, setting.size)))
        held = asyncio.ensure_future(client.get(urljoin(setting.target, f"/held/{count}"), 1, 0))
        # A request that fails ends the wait at once.
        await asyncio.wait([held, *waiting], return_when=asyncio.FIRST_COMPLETED)
        for one in (one for one in waiting if one.done()):
            one.result()
        await held
        gc.collect()
        readings.append(resident_bytes())
    await client.get(urljoin(setting.target, "/release"), 1, 0)
    await asyncio.gather(*waiting)
    before, after = readings
    return (after - before) / (setting.connections - BEFORE)


async def collections(setting: Setting) -> float:
    """Passes of the garbage collector, of any generation, in 1,000 requests."""
    client = await _open(setting)

    async def one_round() -> int:
        tasks = [client.get(setting.target, _ROUND, setting.size) for _ in range(setting.connections)]
        await asyncio.gather(*tasks)
        return len(tasks) * _ROUND

    seen = done = 0

    def observe(phase: str, details: dict[str, int]) -> None:
        nonlocal seen
        seen += phase == "start"

    await one_round()
    gc.collect()
    gc.callbacks.append(observe)
    ends = time.perf_counter() + _OBSERVED_SECONDS
    while done < _OBSERVED and time.perf_counter() < ends:
        done += await one_round()
    gc.callbacks.remove(observe)
    return seen * 1000 / done
