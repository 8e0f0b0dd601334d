"""uvicorn: inside the test's own loop, by its `loop` setting, and as the real program under ``whorl run``."""

# ruff: noqa: E402 - the packages are looked for before they are imported

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.programs.support import Harness, Tls, python_command, require_package
from tools.services import free_port, wait_for_port

require_package("uvicorn", "httptools", "h11", "websockets", "wsproto", "httpx")

import httpx
import uvicorn
import websockets.asyncio.client

from tests.programs.asgi_app import CHUNK, app

HTTP_IMPLEMENTATIONS = ["httptools", "h11"]
WEBSOCKET_IMPLEMENTATIONS = ["websockets-sansio", "wsproto"]
REPOSITORY = Path(__file__).parents[2]
MODULE_OF_LOOP = {"asyncio": "asyncio.unix_events", "whorl": "whorl", "uvloop": "uvloop"}


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """uvicorn's loggers as they were: in this process its log configuration would outlive the test."""
    loggers = [
        logging.getLogger(name) for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")
    ]
    before = [(logger, logger.level) for logger in loggers]
    yield
    for logger, level in before:
        logger.setLevel(level)


@asynccontextmanager
async def serving(application: Any = app, **settings: Any) -> AsyncIterator[str]:
    """A uvicorn server on the running loop; yields its URL without a path."""
    config = uvicorn.Config(application, log_config=None, log_level="warning", **settings)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serve = asyncio.ensure_future(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.wait([serve], timeout=0.01)
            if serve.done():
                serve.result()
        try:
            yield f"{'https' if settings.get('ssl_certfile') else 'http'}://localhost:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serve


@pytest.mark.parametrize("http", HTTP_IMPLEMENTATIONS)
def test_requests(run: Harness, http: str) -> None:
    async def main() -> None:
        async with serving(http=http) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
            kind = (await client.get("/loop")).json()["loop"]
            assert kind.startswith(MODULE_OF_LOOP[run.name])
            for numbers in ([], [1, 2, 3], list(range(10_000))):
                assert (await client.post("/sum", json={"numbers": numbers})).json() == {"sum": sum(numbers)}
            responses = await asyncio.gather(
                *(client.post("/sum", json={"numbers": [n]}) for n in range(100))
            )
            assert [response.json()["sum"] for response in responses] == list(range(100))
            assert (await client.get("/nothing")).status_code == 404

    run(main())


@pytest.mark.parametrize("http", HTTP_IMPLEMENTATIONS)
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_large_bodies(run: Harness, tls: Tls, http: str, encrypted: bool) -> None:
    async def main() -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(64):
                yield CHUNK

        settings = {"ssl_certfile": tls.chain_path, "ssl_keyfile": tls.key_path} if encrypted else {}
        async with (
            serving(http=http, **settings) as url,
            httpx.AsyncClient(base_url=url, verify=tls.client, trust_env=False, timeout=30) as client,
        ):
            assert (await client.post("/echo", content=pieces())).content == CHUNK * 64
            assert (await client.get("/stream/64")).content == CHUNK * 64
            async with client.stream("GET", "/stream/200") as response:  # left in the middle
                async for _ in response.aiter_raw():
                    break
            assert (await client.get("/loop")).status_code == 200

    run(main())


@pytest.mark.parametrize("ws", WEBSOCKET_IMPLEMENTATIONS)
def test_websockets(run: Harness, ws: str) -> None:
    async def main() -> None:
        async def talk(number: int) -> None:
            uri = url.replace("http", "ws", 1)
            async with websockets.asyncio.client.connect(uri, max_size=None, proxy=None) as client:
                for turn in range(10):
                    await client.send(f"{number}.{turn}")
                    assert await client.recv() == f"{number}.{turn}"
                await client.send(CHUNK * 4)
                assert await client.recv() == CHUNK * 4

        async with serving(ws=ws) as url:
            await asyncio.gather(*map(talk, range(15)))

    run(main())


def test_pipelined_requests_are_answered_in_order(run: Harness) -> None:
    async def main() -> None:
        async with serving(http="httptools") as url:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            bodies = [json.dumps({"numbers": [number]}) for number in range(50)]
            for body in bodies:
                head = f"POST /sum HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}"
                writer.write(head.encode())
            for number in range(50):
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
                assert json.loads(await reader.readexactly(length)) == {"sum": number}
            writer.close()
            await writer.wait_closed()

    run(main())


def test_starlette(run: Harness) -> None:
    require_package("starlette")
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route

    done = asyncio.Event()

    async def create(request: Request) -> Response:
        item = await request.json()
        return JSONResponse({**item, "id": 7}, status_code=201, background=BackgroundTask(done.set))

    def blocking(request: Request) -> Response:  # starlette runs this one in a thread, through anyio
        return JSONResponse({"thread": threading.current_thread() is not threading.main_thread()})

    async def count(request: Request) -> Response:
        async def numbers() -> AsyncIterator[str]:
            for number in range(100):
                yield f"{number}\n"
                await asyncio.sleep(0)

        return StreamingResponse(numbers())

    async def main() -> None:
        routes = [
            Route("/items", create, methods=["POST"]), Route("/blocking", blocking), Route("/count", count),
        ]  # fmt: skip
        async with serving(Starlette(routes=routes)) as url:
            async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
                response = await client.post("/items", json={"name": "whorl", "tags": ["a", "é"]})
                assert (response.status_code, response.json()) == (
                    201,
                    {"name": "whorl", "tags": ["a", "é"], "id": 7},
                )
                await done.wait()
                responses = await asyncio.gather(*(client.get("/blocking") for _ in range(20)))
                assert all(response.json() == {"thread": True} for response in responses)
                assert (await client.get("/count")).text.splitlines() == [str(n) for n in range(100)]

    run(main())


def test_custom_loop_setting(loop_name: str) -> None:
    """``uvicorn.run(loop="module:factory")``: uvicorn makes the loop itself, with what the setting names."""
    setting = {"whorl": "whorl:new_event_loop", "uvloop": "uvloop:new_event_loop", "asyncio": "asyncio"}[
        loop_name
    ]
    config = uvicorn.Config(app, loop=setting, port=0, log_config=None, log_level="warning")
    server = uvicorn.Server(config)
    seen: list[str] = []

    def visit() -> None:
        try:
            while not server.started:
                if ended.wait(0.01):
                    return
            port = server.servers[0].sockets[0].getsockname()[1]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/loop", timeout=20) as response:
                seen.append(json.load(response)["loop"])
        finally:
            server.should_exit = True

    ended = threading.Event()
    visitor = threading.Thread(target=visit)
    visitor.start()
    try:
        server.run()
    finally:
        ended.set()
        visitor.join()
    assert len(seen) == 1
    assert seen[0].startswith(MODULE_OF_LOOP[loop_name])


@contextmanager
def program(loop_name: str, log: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """``python -m uvicorn`` (under ``whorl run`` on whorl) as a child process; yields it and its port."""
    port = free_port()
    command = python_command(
        loop_name, "-m", "uvicorn", "tests.programs.asgi_app:app", "--port", str(port), *options
    )
    environment = {**os.environ, "WHORL_TEST_LOG": str(log)}
    with (log.parent / "output").open("wb") as output:
        child = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=output, stderr=output)
    try:
        if not wait_for_port(port, lambda: child.poll() is None):
            pytest.fail(f"uvicorn did not start:\n{(log.parent / 'output').read_text()}", pytrace=False)
        yield child, port
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()


@pytest.mark.parametrize("http", HTTP_IMPLEMENTATIONS)
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_program_stops_gracefully(loop_name: str, tmp_path: Path, http: str, stop: signal.Signals) -> None:
    """A request under way when the signal comes is answered; then lifespan and process end."""
    log = tmp_path / "log"
    with program(loop_name, log, "--http", http, "--loop", "none") as (child, port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/loop", timeout=30) as response:
            assert json.load(response)["loop"].startswith(MODULE_OF_LOOP[loop_name])
        responses: list[object] = []

        def slow() -> None:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/slow/0.3", timeout=30) as response:
                responses.append(json.load(response))

        visitor = threading.Thread(target=slow)
        visitor.start()
        while "slow" not in log.read_text():
            assert child.poll() is None
            threading.Event().wait(0.01)
        child.send_signal(stop)
        visitor.join()
        status = child.wait(30)
        output = (tmp_path / "output").read_text()
        assert responses == [{"slept": 0.3}], output
        # uvicorn raises the signal again once it has shut down: SIGTERM kills, SIGINT it swallows.
        assert status in ((-stop,) if stop == signal.SIGTERM else (0, 130, -stop)), output
        assert log.read_text().split() == ["lifespan.startup", "slow", "lifespan.shutdown"]
        assert "Traceback" not in output


@pytest.mark.parametrize("setting", ["none", "auto", "asyncio"])
def test_program_runs_on_the_loop_whatever_its_loop_setting(
    loop_name: str, tmp_path: Path, setting: str
) -> None:
    """Under ``whorl run`` every new loop is whorl's, also where uvicorn names a loop class itself.

    Its default is "auto": uvloop's when that is installed, else `asyncio.SelectorEventLoop`.
    """
    if loop_name == "asyncio" and setting == "auto":
        setting = "asyncio"  # the control is not to run on uvloop
    with program(loop_name, tmp_path / "log", "--loop", setting) as (_, port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/loop", timeout=30) as response:
            assert json.load(response)["loop"].startswith(MODULE_OF_LOOP[loop_name])
