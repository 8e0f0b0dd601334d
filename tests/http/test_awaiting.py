"""The result of a request, as an awaitable and as a context: never awaited, thrown into, kept, entered."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest

import whorl
from tests.http.raw_support import Peer, RawServer, keeping_alive, until

pytestmark = pytest.mark.jumping_clock


async def test_a_session_that_is_closed_while_the_head_is_awaited(client: Any) -> None:
    """The error does not say that the server has ended the connection."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    async with RawServer(script) as server:
        session = client.ClientSession()
        request = asyncio.ensure_future(session.get(server.url))
        await until(lambda: server.heads)
        await session.close()
        with pytest.raises(client.ClientConnectionError) as caught:
            await request
        assert not isinstance(caught.value, client.ServerDisconnectedError)


async def test_a_connector_that_is_closed_by_itself(client: Any) -> None:
    session = client.ClientSession()
    await session.connector.close()
    assert session.closed
    with pytest.raises(RuntimeError, match="Session is closed"):
        await session.get("http://a.test/")
    await session.close()


def test_an_upload_that_is_dropped_after_its_loop() -> None:
    """Nothing is reported: its tasks and transports ended with the loop."""
    reported: list[Any] = []

    async def endless() -> Any:
        yield b"x"
        await asyncio.sleep(3600)

    async def begin() -> tuple[Any, Any, Any]:
        from whorl import http

        server = await RawServer(keeping_alive()).__aenter__()
        session = http.ClientSession()
        request: Any = session.post(server.url, data=endless())
        waiter = request.send(None)
        while not server.open:
            await asyncio.sleep(0.001)
            if waiter.done():
                waiter._asyncio_future_blocking = False
                waiter = request.send(None)
        await server.__aexit__(None, None, None)
        await session.connector.close()
        await session.close()
        return request, session, waiter

    loop = whorl.new_event_loop()
    request, session, waiter = loop.run_until_complete(begin())
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    hook, sys.unraisablehook = sys.unraisablehook, lambda report: reported.append(report.exc_value)
    try:
        del request, session, waiter
        gc.collect()
    finally:
        sys.unraisablehook = hook
    assert reported == []


async def test_a_permit_of_a_request_that_another_thread_drops(ours: Any) -> None:
    """While its connection is being made: the collector, which closes its coroutines, runs on any thread."""
    blocked = asyncio.Event()

    class Resolver(ours.DefaultResolver):  # type: ignore[misc]
        async def resolve(self, *args: Any, **kwargs: Any) -> Any:
            await blocked.wait()
            return await super().resolve(*args, **kwargs)

    async def pass_on(request: Any, handler: Any) -> Any:
        return await handler(request)

    connector = ours.TCPConnector(limit=1, resolver=Resolver(), use_dns_cache=False)
    limits = ours.ClientTimeout(connect=3600)
    async with RawServer(keeping_alive()) as server, ours.ClientSession(connector=connector) as session:
        url = f"http://localhost:{server.port}/"
        for middlewares in ((), (pass_on,)):
            # One that has the permit, and one that waits for it.
            held = [session.get(url, timeout=limits, middlewares=middlewares) for _ in range(2)]
            for request in held:
                request.send(None)
            await asyncio.sleep(0.01)
            thread = threading.Thread(target=lambda held=held: (held.clear(), gc.collect()))
            del request
            thread.start()
            while thread.is_alive():
                await asyncio.sleep(0.001)
            blocked.set()
            async with asyncio.timeout(5), session.get(url) as response:
                assert await response.read() == b"ok"
            blocked.clear()


@pytest.mark.parametrize("loop", ["whorl", "asyncio"])
def test_the_interpreter_ends_with_a_session_open(loop: str) -> None:
    """The end of its loop says nothing but what a program has left open."""
    program = """
        import asyncio, sys, warnings
        import whorl
        from whorl import http

        warnings.simplefilter("ignore")
        new_event_loop = whorl.new_event_loop if sys.argv[1] == "whorl" else asyncio.new_event_loop

        async def begin():
            return http.ClientSession()

        loop = new_event_loop()
        session = loop.run_until_complete(begin())
        loop.close()
        other = new_event_loop()
        kept = other.run_until_complete(begin())
    """
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), loop], capture_output=True, text=True, check=True
    )
    assert "Exception ignored" not in child.stderr
