"""The result of a request, as an awaitable and as a context: never awaited, thrown into, kept, entered."""

from __future__ import annotations

import asyncio
import gc
import io
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import whorl
from tests.http.raw_support import Peer, RawServer, keeping_alive, raw_response, until

pytestmark = pytest.mark.jumping_clock

NOT_FOUND = raw_response(b"why", status="404 Not Found")


async def test_a_request_that_is_never_awaited_warns(client: Any) -> None:
    """As any coroutine does: an ``await`` that is missing."""
    async with client.ClientSession() as session:
        with pytest.warns(RuntimeWarning, match=r"coroutine 'ClientSession\._request' was never awaited"):
            session.get("http://a.test/")
            gc.collect()


async def test_a_request_that_is_closed_does_not_warn(client: Any) -> None:
    async with client.ClientSession() as session:
        session.get("http://a.test/").close()
        gc.collect()


async def test_a_handler_that_is_never_awaited_warns(client: Any) -> None:
    async def middleware(request: Any, handler: Any) -> Any:
        handler(request)
        gc.collect()
        handler(request).close()
        return await handler(request)

    async with RawServer(keeping_alive()) as server, client.ClientSession() as session:
        with pytest.warns(RuntimeWarning, match="was never awaited") as warned:
            async with session.get(server.url, middlewares=(middleware,)) as response:
                assert response.status == 200
        assert len(warned) == 1
        assert len(server.heads) == 1


THROWN: list[tuple[tuple[Any, ...], type[BaseException], tuple[object, ...]]] = [
    ((ZeroDivisionError,), ZeroDivisionError, ()),
    ((ZeroDivisionError("a"),), ZeroDivisionError, ("a",)),
    ((ZeroDivisionError, "a"), ZeroDivisionError, ("a",)),
    ((ZeroDivisionError, ("a", "b")), ZeroDivisionError, ("a", "b")),
    ((ZeroDivisionError, ZeroDivisionError("a"), None), ZeroDivisionError, ("a",)),
]


@pytest.mark.filterwarnings("ignore:the \\(type, exc, tb\\) signature of throw:DeprecationWarning")
@pytest.mark.parametrize("at", ["the request", "a middleware's request"])
@pytest.mark.parametrize(("arguments", "kind", "args"), THROWN)
async def test_what_is_thrown_is_raised(
    client: Any, arguments: tuple[Any, ...], kind: type[BaseException], args: tuple[object, ...], at: str
) -> None:
    handlers: list[Any] = []

    async def middleware(request: Any, handler: Any) -> Any:
        handlers.append(handler(request))
        await asyncio.sleep(0)

    async with RawServer(keeping_alive()) as server, client.ClientSession() as session:
        request: Any = session.get(server.url, middlewares=(middleware,))
        request.send(None)
        if at != "the request":
            request.close()
            (request,) = handlers
            request.send(None)
        with pytest.raises(kind) as caught:
            request.throw(*arguments)
        assert caught.value.args == args
        for handler in handlers:
            handler.close()


class Value(dict[str, int]):
    """A value to which weak references exist."""


class File(io.BytesIO):
    """Likewise."""


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize(("option", "make"), [("json", lambda: Value(a=1)), ("data", lambda: File(b"x"))])
async def test_a_request_keeps_nothing_that_was_sent(
    client: Any, option: str, make: Callable[[], Any], hooked: bool
) -> None:
    """An upload is as large as it is, and a response may be read for hours."""

    async def pass_on(request: Any, handler: Any) -> Any:
        return await handler(request)

    async with RawServer(keeping_alive()) as server, client.ClientSession() as session:
        options = {option: make(), "middlewares": (pass_on,) if hooked else ()}
        sent = weakref.ref(options[option])
        async with session.post(server.url, **options) as response:
            options.clear()
            gc.collect()
            assert sent() is None
            assert await response.read() == b"ok"


async def test_the_body_of_an_error_is_there_in_the_context(client: Any) -> None:
    """The context releases the response, and no sooner."""
    async with RawServer(keeping_alive(NOT_FOUND)) as server, client.ClientSession() as session:
        for _ in range(2):
            async with session.get(server.url) as response:
                with pytest.raises(client.ClientResponseError):
                    response.raise_for_status()
                assert await response.text() == "why"
        response = await session.get(server.url)
        with pytest.raises(client.ClientResponseError):
            response.raise_for_status()
        with pytest.raises(client.ClientConnectionError):
            await response.read()


@pytest.mark.parametrize("suspends", [False, True])
async def test_a_class_that_is_entered(client: Any, suspends: bool) -> None:
    entered: list[Any] = []

    class Response(client.ClientResponse):  # type: ignore[misc]
        async def __aenter__(self) -> Any:
            if suspends:
                await asyncio.sleep(0)
            entered.append(self)
            return (await super().__aenter__(),)

    async with (
        RawServer(keeping_alive(NOT_FOUND)) as server,
        client.ClientSession(response_class=Response) as session,
    ):
        async with session.get(server.url) as (response,):
            with pytest.raises(client.ClientResponseError):
                response.raise_for_status()
            assert await response.text() == "why"
        assert entered == [response]
        await session.get(server.url)
        assert entered == [response]


async def test_a_class_that_cannot_be_entered(client: Any) -> None:
    class Response(client.ClientResponse):  # type: ignore[misc]
        async def __aenter__(self) -> Any:
            raise ZeroDivisionError

    async with (
        RawServer(keeping_alive()) as server,
        client.ClientSession(response_class=Response) as session,
    ):
        request = session.get(server.url)
        with pytest.raises(ZeroDivisionError):
            await request.__aenter__()
        with pytest.raises(RuntimeError, match="cannot reuse"):
            await request


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
