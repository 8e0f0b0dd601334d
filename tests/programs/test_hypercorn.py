"""hypercorn, an ASGI server built on streams and task groups, with HTTP/1.1 and HTTP/2 over TLS by ALPN."""

# ruff: noqa: E402 - the packages are looked for before they are imported

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.programs.support import Harness, Tls, require_package

require_package("hypercorn", "httpx", "h2")

import httpx
from hypercorn.asyncio import serve
from hypercorn.config import Config

from tests.programs.asgi_app import CHUNK, app


@asynccontextmanager
async def serving(tls: Tls | None = None) -> AsyncIterator[str]:
    """A server on the running loop; yields its URL without a path."""
    config = Config()
    config.accesslog = config.errorlog = None
    config.graceful_timeout = 5
    if tls is not None:
        config.certfile, config.keyfile = tls.chain_path, tls.key_path
    stop = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config.bind = [f"fd://{listener.fileno()}"]
        port = listener.getsockname()[1]
        task = asyncio.ensure_future(serve(app, config, shutdown_trigger=stop.wait))  # type: ignore[arg-type]
        try:
            yield f"http{'s' if tls else ''}://localhost:{port}"
        finally:
            stop.set()
            await task
            listener.detach()  # hypercorn has closed it


@pytest.mark.parametrize("encrypted", [False, True], ids=["http1", "http2-tls"])
def test_requests(run: Harness, tls: Tls, encrypted: bool) -> None:
    async def main() -> None:
        async with serving(tls if encrypted else None) as url:
            async with httpx.AsyncClient(
                base_url=url, http2=encrypted, verify=tls.client, trust_env=False, timeout=30
            ) as client:
                response = await client.get("/loop")
                assert response.http_version == ("HTTP/2" if encrypted else "HTTP/1.1")
                assert response.json()["loop"].split(".")[0] == run.name
                responses = await asyncio.gather(
                    *(client.post("/sum", json={"numbers": [n]}) for n in range(50))
                )
                assert [response.json()["sum"] for response in responses] == list(range(50))
                assert (await client.post("/echo", content=CHUNK * 16)).content == CHUNK * 16
                assert (await client.get("/stream/32")).content == CHUNK * 32

    run(main())
