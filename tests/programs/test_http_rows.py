"""Each workload of `make bench BENCH=http`, for a moment: it takes the right responses, and no others."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.suite import Method, Row
from bench.suites import SUITES
from tests.programs.support import Tls, require_package

require_package("aiohttp")

from aiohttp import web  # noqa: E402

from tests.programs.aiohttp_site import serving  # noqa: E402

ROOT = Path(__file__).parents[2]
SUITE = SUITES["http"]
#: What the site of these tests has not: pages that end connections, hold requests or have a content coding.
OTHER_PAGES = ("/close/", "/gzip/", "/hold/")
#: The first row of each workload, plain and under TLS: the others differ by size and number.
ROWS = {
    (row.workload, row.tls): row
    for row in reversed(SUITE.rows)
    if row.method is Method.AGAINST_SERVER and not row.takes_reading and not row.path.startswith(OTHER_PAGES)
}.values()
CASES = [
    pytest.param(row, peer, id=f"{row.name}-{peer}")
    for row in ROWS
    for peer in ("whorl", "aiohttp", *row.references)
    if not SUITE.peers[peer].native
]


def routes(extra: bytes) -> list[web.RouteDef]:
    """The pages of the native server; with ``extra`` at the end, or other ones, where that is not empty."""

    async def page(request: web.Request) -> web.Response:
        return web.Response(body=bytes(int(request.match_info["size"])) + extra)

    async def redirect(request: web.Request) -> web.Response:
        raise web.HTTPFound(f"/bytes/{request.match_info['size']}")

    async def same(request: web.Request) -> web.Response:
        received = await request.read()
        return web.Response(body=b"[1]" if extra else received, content_type="application/json")

    async def count(request: web.Request) -> web.Response:
        received = await request.read()
        return web.Response(text="0" if extra else str(len(received)))

    async def echo(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        async for message in websocket:
            await websocket.send_bytes(message.data + extra)
        return websocket

    return [
        web.get("/bytes/{size}", page),
        web.get("/text/{size}", page),
        web.get("/redirect/{size}", redirect),
        web.post("/json", same),
        web.post("/sink", count),
        web.get("/echo", echo),
    ]


@contextmanager
def site(extra: bytes, tls: Tls | None = None) -> Iterator[str]:
    """The URL of a server in a thread of its own."""
    with asyncio.Runner() as runner:
        server = serving(*routes(extra), tls=tls, shutdown_timeout=0)
        url, _ = runner.run(server.__aenter__())
        loop = runner.get_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            yield url.replace("localhost", "127.0.0.1")
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            runner.run(server.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def sites(tls: Tls) -> Iterator[dict[bool, str]]:
    """The URLs of the site: without TLS, and with it."""
    with site(b"") as plain, site(b"", tls) as secured:
        yield {False: plain, True: secured}


@pytest.fixture(scope="module")
def wrong_sites(tls: Tls) -> Iterator[dict[bool, str]]:
    """The same of a site whose bodies are others."""
    with site(b" ") as plain, site(b" ", tls) as secured:
        yield {False: plain, True: secured}


def run_worker(row: Row, peer: str, url: str, authority: str) -> subprocess.CompletedProcess[str]:
    names = ["--suite", SUITE.name, "--row", row.name, "--peer", peer]
    # The authority's file has the name that the workloads look for.
    places = ["--directory", str(Path(authority).parent), "--target", url + row.path]
    return subprocess.run(
        [sys.executable, "-m", "bench.worker", *names, *places, "--warm-up", "0", "--seconds", "0.01"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(("row", "peer"), CASES)
def test_a_row(row: Row, peer: str, sites: dict[bool, str], tls: Tls) -> None:
    done = run_worker(row, peer, sites[row.tls], tls.authority_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["operations"] > 0


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_another_response_is_an_error(row: Row, wrong_sites: dict[bool, str], tls: Tls) -> None:
    done = run_worker(row, "whorl", wrong_sites[row.tls], tls.authority_path)
    assert done.returncode == 1
    assert "\nRuntimeError: " in done.stderr
