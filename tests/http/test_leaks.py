"""What programs drop without closing it is given back; and nothing grows with the number of requests."""

from __future__ import annotations

import asyncio
import collections
import gc
import os
import socket
import sys
import threading
import warnings
import weakref
from typing import Any

import pytest

import whorl
from tests.http.raw_support import (
    OK,
    Peer,
    RawServer,
    assert_nothing_acquired,
    keeping_alive,
    once,
    raw_response,
    until,
)
from whorl import _core, http

pytestmark = pytest.mark.jumping_clock

UNFINISHED = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"


@pytest.mark.parametrize("response", [UNFINISHED, CHUNKED])
async def test_a_dropped_response_gives_its_connection_back(ours: Any, response: bytes) -> None:
    """At once, without the garbage collector. aiohttp keeps both until the server ends it."""
    async with RawServer(once(response, then="stall")) as server:
        async with ours.ClientSession(connector=ours.TCPConnector(limit=1)) as session:
            for _ in range(3):
                reply = await session.get(server.url)
                reference = weakref.ref(reply)
                del reply
                assert reference() is None
            await assert_nothing_acquired(session.connector)
            await until(lambda: not server.open)


async def test_a_dropped_response_whose_content_was_accessed(ours: Any) -> None:
    """The two know each other, so it takes the collector."""
    async with RawServer(once(UNFINISHED, then="stall")) as server:
        async with ours.ClientSession(connector=ours.TCPConnector(limit=1)) as session:
            for _ in range(3):
                reply = await session.get(server.url)
                assert await reply.content.readexactly(5) == b"hello"
                reference = weakref.ref(reply)
                del reply
                gc.collect()
                assert reference() is None
            await assert_nothing_acquired(session.connector)


async def test_a_dropped_response_with_an_upload_under_way(ours: Any) -> None:
    async def endless() -> Any:
        while True:
            yield b"x" * 65536

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(UNFINISHED)
        await asyncio.sleep(3600)

    before = asyncio.all_tasks()
    async with RawServer(script) as server, ours.ClientSession() as session:
        reply = await session.post(server.url, data=endless())
        await asyncio.sleep(0.05)
        del reply
        await assert_nothing_acquired(session.connector)
        await until(lambda: len(asyncio.all_tasks() - before) == 1, 2)


async def test_content_outlives_its_response(client: Any) -> None:
    """A caller that keeps only the stream can read it to its end."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(UNFINISHED)
        await asyncio.sleep(0.05)
        await peer.send(b"world")
        await peer.gone()

    async with RawServer(script) as server, client.ClientSession() as session:
        content = (await session.get(server.url)).content
        gc.collect()
        assert await content.read() == b"helloworld"
        await assert_nothing_acquired(session.connector)


async def test_a_task_without_a_reference_reads_to_the_end(client: Any) -> None:
    """The loop knows of a task only by what wakes it: that must be held by the connection."""
    done = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(UNFINISHED)
        await asyncio.sleep(0.1)
        await peer.send(b"world")
        await peer.gone()

    async with RawServer(script) as server, client.ClientSession() as session:

        async def fetch() -> None:
            response = await session.get(server.url)
            assert await response.content.read() == b"helloworld"
            done.set()

        asyncio.get_running_loop().create_task(fetch())
        for _ in range(8):
            await asyncio.sleep(0.02)
            gc.collect()
        async with asyncio.timeout(5):
            await done.wait()


async def test_two_tasks_read_one_response(ours: Any) -> None:
    """Both get all of it. In aiohttp the second gets RuntimeError, and the first an error of its
    connection."""
    script = once(UNFINISHED, b"world", then="stall")
    async with RawServer(script) as server, ours.ClientSession() as session:
        async with session.get(server.url) as response:
            bodies = await asyncio.gather(response.read(), response.text(), response.read())
        assert bodies == [b"helloworld", "helloworld", b"helloworld"]


async def test_a_response_held_after_its_session_was_closed(client: Any) -> None:
    async with RawServer(keeping_alive(raw_response(b"hello", "X: y", "Set-Cookie: a=b"))) as server:
        async with client.ClientSession() as session:
            response = await session.get(server.url)
            assert await response.read() == b"hello"
        del session
        assert await response.read() == b"hello"
        assert await response.text() == "hello"
        assert response.headers["x"] == "y"
        assert response.cookies["a"].value == "b"
        assert response.closed
        response.release()
        response.close()


async def test_an_unread_response_held_after_its_session_was_closed(client: Any) -> None:
    async with RawServer(once(UNFINISHED, then="stall")) as server:
        async with client.ClientSession() as session:
            response = await session.get(server.url)
        await until(lambda: not server.open)
        assert response.status == 200
        with pytest.raises((client.ClientError, RuntimeError)):
            await response.read()
        response.close()


async def test_a_session_that_is_not_closed_warns(client: Any) -> None:
    """And its idle connections are closed."""
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    contexts: list[str] = []
    loop.set_exception_handler(lambda _, context: contexts.append(context["message"]))
    try:
        async with RawServer(keeping_alive()) as server:
            session: Any = client.ClientSession()
            async with session.get(server.url) as response:
                await response.read()
            messages: list[str] = []
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                session = response = None
                for _ in range(3):
                    gc.collect()
                    messages += [str(it.message) for it in caught if it.category is ResourceWarning]
                    # A warning keeps what it is about.
                    caught.clear()
            await until(lambda: not server.open)
    finally:
        loop.set_exception_handler(handler)
    assert any("Unclosed client session" in message for message in messages)
    assert any("Unclosed connector" in message for message in messages)
    assert contexts == ["Unclosed client session", "Unclosed connector"]


@pytest.mark.parametrize("count", [1, 3])
def test_a_closed_loop_keeps_no_request(count: int) -> None:
    """One that is in flight, and those that wait for its place in the pool, whose tasks hold all there is. On
    aiohttp as well; there the connector's finaliser fails where requests wait."""
    import whorl
    import whorl.http as client

    class Holder:
        loop: asyncio.AbstractEventLoop
        session: Any
        task: asyncio.Task[None]

    failed: list[object] = []
    alive: list[weakref.ref[Any]] = []

    async def get(session: Any, url: str, holder: Holder) -> None:
        async with session.get(url):
            raise AssertionError(holder)

    async def begin(loop: asyncio.AbstractEventLoop, url: str) -> None:
        session = client.ClientSession(connector=client.TCPConnector(limit=1))
        alive.append(weakref.ref(session))
        for _ in range(count):
            holder = Holder()
            holder.loop, holder.session = loop, session
            holder.task = loop.create_task(get(session, url, holder))
            # It is destroyed while it is pending, which is what this test is about.
            holder.task._log_destroy_pending = False  # type: ignore[attr-defined]
            alive.extend([weakref.ref(holder), weakref.ref(holder.task)])
        while not session.connector._acquired:
            await asyncio.sleep(0)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        loop = whorl.new_event_loop()
        loop.set_exception_handler(lambda _, context: None)
        loop.run_until_complete(begin(loop, f"http://127.0.0.1:{listener.getsockname()[1]}/"))
        loop.close()
        alive.append(weakref.ref(loop))
        del loop
        hook = sys.unraisablehook
        sys.unraisablehook = lambda it: failed.append(it.exc_value)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                for _ in range(3):
                    gc.collect()
        finally:
            sys.unraisablehook = hook
    assert [it() for it in alive] == [None] * len(alive)
    assert failed == []


# Growth.


def resident() -> int:
    """Bytes of memory that the process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def _many(session: Any, server: RawServer, count: int) -> None:
    async def some() -> None:
        for number in range(count // 20):
            if number % 5 == 0:
                async with session.post(server.url, data=b"data") as response:
                    assert await response.read() == b"ok"
            elif number % 5 == 1:
                async with session.get(server.url) as response:
                    assert await response.content.read() == b"ok"
            else:
                async with session.get(server.url, params={"n": "1"}) as response:
                    assert await response.text() == "ok"

    await asyncio.gather(*(some() for _ in range(20)))


async def test_ten_thousand_requests_leave_nothing(ours: Any) -> None:
    async with RawServer(keeping_alive()) as server, ours.ClientSession() as session:
        await _many(session, server, 1000)
        gc.collect()
        objects, files = _kinds(), descriptors()
        growths = []
        # An allocator may take more memory from the system once; what leaks does so each time.
        while not growths or (min(growths) >= 4 * 1024 * 1024 and len(growths) < 3):
            memory = resident()
            await _many(session, server, 10_000)
            gc.collect()
            growths.append(resident() - memory)
        grown = _kinds() - objects
        assert min(growths) < 4 * 1024 * 1024, growths
        assert descriptors() == files
        # A cache or two may have filled; what is per request would be there thousands of times.
        assert all(count < 200 for count in grown.values()), grown.most_common(5)


async def test_requests_make_no_garbage(ours: Any) -> None:
    """What a request leaves goes with its last reference: the collector has nothing to find."""
    async with RawServer(keeping_alive()) as server, ours.ClientSession() as session:
        await _many(session, server, 100)
        gc.collect()
        gc.disable()
        try:
            before = _kinds()
            await _many(session, server, 1000)
            grown = _kinds() - before
        finally:
            gc.enable()
        ours_grown = {kind: count for kind, count in grown.items() if kind.startswith("whorl")}
        assert all(count < 100 for count in ours_grown.values()), ours_grown


def _kinds() -> collections.Counter[str]:
    return collections.Counter(f"{type(it).__module__}.{type(it).__name__}" for it in gc.get_objects())


async def test_failures_leave_nothing(ours: Any) -> None:
    """Requests that break off, one after the other."""

    async def script(peer: Peer) -> None:
        for number in range(1000):
            await peer.request()
            if number % 3 == 2:
                await peer.send(UNFINISHED)
                return
            await peer.send(OK)

    async with RawServer(script) as server, ours.ClientSession() as session:

        async def some(count: int) -> None:
            for _ in range(count):
                try:
                    async with session.get(server.url) as response:
                        await response.read()
                except ours.ClientError:
                    pass

        await some(100)
        gc.collect()
        before, files = _kinds(), descriptors()
        await some(1000)
        await asyncio.sleep(0.05)
        gc.collect()
        grown = _kinds() - before
        assert descriptors() <= files + 2
        assert all(count < 50 for count in grown.values()), grown.most_common(5)
        await assert_nothing_acquired(session.connector)


async def test_a_request_that_cannot_be_written(client: Any) -> None:
    """It fails before anything is sent: the connection belongs to no request, and is not lost."""
    async with RawServer(keeping_alive()) as server:
        async with client.ClientSession(connector=client.TCPConnector(limit=1)) as session:
            for _ in range(3):
                async with session.get(server.url) as response:
                    assert await response.read() == b"ok"
                with pytest.raises(ValueError):
                    await session.request("NO TOKEN", server.url)
                with pytest.raises(ValueError):
                    await session.get(server.url, headers={"X": "a\r\nb"})
                with pytest.raises(TypeError):
                    await session.post(server.url, json=object())
                await assert_nothing_acquired(session.connector)


async def test_a_request_whose_awaiting_is_given_up(ours: Any) -> None:
    """A coroutine's ``close()``, and a task without a reference."""
    async with RawServer(keeping_alive()) as server:
        async with ours.ClientSession(connector=ours.TCPConnector(limit=1)) as session:
            for give_up in ("close", "drop"):
                async with session.get(server.url) as response:
                    assert await response.read() == b"ok"
                request = session.get(server.url)
                request.send(None)
                assert session.connector._acquired
                if give_up == "close":
                    request.close()
                del request
                await assert_nothing_acquired(session.connector)


@pytest.mark.parametrize("ending", ["cancelled", "timed out", "dropped"])
async def test_a_peer_that_does_not_read_keeps_nothing_open(ours: Any, ending: str) -> None:
    """What it has not taken of a request that was given up is not kept for it. aiohttp waits until it has."""

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        if ending == "dropped":
            await peer.send(UNFINISHED)
        await asyncio.sleep(3600)

    data = b"x" * 1_000_000
    limits = ours.ClientTimeout(total=0.2 if ending == "timed out" else None)
    async with RawServer(script, limit=1024) as server, ours.ClientSession(timeout=limits) as session:

        async def post() -> Any:
            async def body() -> Any:
                for _ in range(20):
                    yield data

            return await session.post(server.url, data=body())

        before = descriptors()
        task = asyncio.ensure_future(post())
        if ending == "cancelled":
            await asyncio.sleep(0.1)
            task.cancel()
        await asyncio.wait({task})
        assert task.cancelled() or isinstance(task.exception(), (asyncio.TimeoutError, type(None)))
        del task
        await assert_nothing_acquired(session.connector)
        # The server's end stays; ours is gone.
        await until(lambda: descriptors() <= before + 1)


@pytest.mark.parametrize("way", ["fast path", "coroutine", "debug"])
@pytest.mark.parametrize("what", ["response", "request", "session"])
async def test_the_collector_runs_on_another_thread(ours: Any, what: str, way: str) -> None:
    """As it does in programs with threads: what it finds belongs to the loop's thread nevertheless.

    A middleware makes a request a coroutine. In debug mode it is one too, and asyncio's loop refuses what is
    not called on its thread.
    """

    async def middleware(request: Any, handler: Any) -> Any:
        return await handler(request)

    async def one_response(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.gone()

    loop: Any = asyncio.get_running_loop()
    loop.set_debug(way == "debug")
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda *_: None)
    # What asyncio's transports call when they are closed; whorl's refuse another thread by themselves.
    remove_reader, removed_on = loop._remove_reader, set()
    loop._remove_reader = lambda fd: (removed_on.add(threading.get_ident()), remove_reader(fd))[1]
    scripts = {
        "response": once(UNFINISHED, then="stall"),
        "request": one_response,
        "session": keeping_alive(),
    }
    gc.collect()
    gc.disable()
    try:
        async with RawServer(scripts[what]) as server:
            middlewares = (middleware,) if way == "coroutine" else ()
            session: Any = ours.ClientSession(middlewares=middlewares)
            response: Any = await session.get(server.url)
            cycle: list[Any] = []
            cycle.append(cycle)
            if what == "response":
                assert await response.content.readexactly(5) == b"hello"
            else:
                await response.read()
            if what == "request":
                request = session.get(server.url)
                request.send(None)
                cycle.append(request)
                del request
            if what == "session":
                cycle.append(session)
            connector = session.connector if what != "session" else None
            response = None
            if what == "session":
                session = None
            del cycle
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                await asyncio.to_thread(gc.collect)
                if what == "session":
                    await until(lambda: not server.open)
                else:
                    await assert_nothing_acquired(connector)
                    await until(lambda: not server.open)
                    await session.close()
        assert removed_on == (set() if isinstance(loop, whorl.EventLoop) else {threading.get_ident()})
    finally:
        gc.enable()
        del loop._remove_reader
        loop.set_exception_handler(handler)


def test_a_run_that_begins_while_the_collector_ends_a_response() -> None:
    """On a loop at rest the collector's thread closes what it finds, until another thread runs the loop."""
    loop = whorl.new_event_loop()
    running = threading.Event()
    thread = threading.Thread(target=loop.run_forever)
    called_on: list[threading.Thread] = []

    async def begin() -> tuple[RawServer, Any, Any]:
        server = await RawServer(once(UNFINISHED, then="stall")).__aenter__()
        session = http.ClientSession()
        return server, session, await session.get(server.url)

    server, session, response = loop.run_until_complete(begin())

    def finish() -> None:
        called_on.append(threading.current_thread())
        if len(called_on) == 1:
            loop.call_soon(running.set)
            thread.start()
            assert running.wait(5)
        response.close()

    async def end() -> None:
        await assert_nothing_acquired(session.connector)
        await until(lambda: not server.open)
        await session.close()
        await server.__aexit__(None, None, None)

    _core.finish_on(loop, finish)
    asyncio.run_coroutine_threadsafe(end(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    assert called_on == [threading.main_thread(), thread]
