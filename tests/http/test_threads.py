"""Threads along with the client, and classes that are called back at odd moments: no process crashes.

What is tested here ends the process where it fails, or stops it: each program runs in a child of its own.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import pytest

#: Seconds that a child may take. Long, so that only one that stands still reaches it.
PATIENCE = 60

COMMON = """
import asyncio, faulthandler, gc, gzip, importlib, os, sys, threading, time
faulthandler.dump_traceback_later(50, exit=True)
http = importlib.import_module(sys.argv[1])
if sys.argv[2] == "whorl":
    import whorl
    run = whorl.run
else:
    run = asyncio.run


async def serving(serve, use):
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    await use("http://127.0.0.1:%d/" % server.sockets[0].getsockname()[1])
    server.close()
"""


@pytest.fixture(params=["whorl.http-whorl", "whorl.http-asyncio", "aiohttp-asyncio"])
def program(request: pytest.FixtureRequest) -> Any:
    """Runs a program in a child, with one of the clients on one of the loops."""
    client, loop = request.param.split("-")
    if client == "aiohttp":
        pytest.importorskip("aiohttp", reason="aiohttp, the control, is not installed")

    def run(source: str) -> str:
        code = COMMON + textwrap.dedent(source)
        child = subprocess.run(
            [sys.executable, "-c", code, client, loop], capture_output=True, text=True, timeout=PATIENCE
        )
        assert child.returncode == 0, child.stdout + child.stderr
        return child.stdout

    return run


def test_another_thread_collects_garbage_while_bodies_are_decoded(program: Any) -> None:
    """Decoding lets other threads run; a collection there visits the connection that decodes."""
    out = program(
        """
        BODY = os.urandom(3_000_000)
        CODED = gzip.compress(BODY, 1)
        HEAD = b"HTTP/1.1 200 OK\\r\\nContent-Encoding: gzip\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(CODED)
        stop = threading.Event()

        async def serve(reader, writer):
            try:
                while True:
                    await reader.readuntil(b"\\r\\n\\r\\n")
                    writer.write(HEAD + CODED)
                    await writer.drain()
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        def collect():
            while not stop.is_set():
                gc.collect()
                time.sleep(0.0005)

        async def use(url):
            async with http.ClientSession() as session:
                for _ in range(15):
                    async with session.get(url) as response:
                        assert await response.read() == BODY
                async with session.get(url) as response:
                    assert b"".join([piece async for piece in response.content.iter_any()]) == BODY

        thread = threading.Thread(target=collect, daemon=True)
        thread.start()
        run(serving(serve, use))
        stop.set()
        thread.join()
        print("alive")
        """
    )
    assert out == "alive\n"


ONE_INSTANCE = """
SLOW = b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhe"

class One(http.ClientResponse):
    instance = None
    made = 0
    def __new__(cls, *args, **kwargs):
        cls.made += 1
        if cls.instance is None:
            cls.instance = super().__new__(cls)
        return cls.instance

async def serve(reader, writer):
    try:
        await reader.readuntil(b"\\r\\n\\r\\n")
        writer.write(SLOW)
        await reader.readuntil(b"\\r\\n\\r\\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()
"""


def test_a_response_class_that_gives_the_same_instance_again(program: Any) -> None:
    """What the instance held is dropped when it is used again: its exception's finaliser reads it."""
    out = program(
        ONE_INSTANCE
        + textwrap.dedent(
            """
        read = []

        class Boom(Exception):
            def __del__(self):
                response = One.instance
                read.append((response.status, response.headers, response.closed))

        async def use(url):
            async with http.ClientSession(response_class=One) as session:
                for _ in range(3):
                    response = await session.get(url)
                    # aiohttp keeps it in the stream; whorl in what the native half holds.
                    exchange = getattr(response, "_exchange", None)
                    (exchange.fail if exchange else response.content.set_exception)(Boom("x"))
                    del response, exchange
                    gc.collect()
                response = await session.get(url)
                assert (await response.content.read(2)) == b"he"
                response.close()

        run(serving(serve, use))
        assert One.made == 4
        print(len(read) > 0)
        """
        )
    )
    assert out == "True\n"


def test_a_response_class_with_a_finaliser(program: Any) -> None:
    """An instance that its finaliser resurrects, and that is read then."""
    out = program(
        """
        saved = []

        class Response(http.ClientResponse):
            def __del__(self, *args):
                saved.append((self.status, self.closed))
                getattr(super(), "__del__", lambda: None)()

        async def serve(reader, writer):
            try:
                while True:
                    await reader.readuntil(b"\\r\\n\\r\\n")
                    writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nhi")
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        async def use(url):
            async with http.ClientSession(response_class=Response) as session:
                for _ in range(20):
                    async with session.get(url) as response:
                        assert await response.read() == b"hi"
                    del response
            gc.collect()

        run(serving(serve, use))
        assert {status for status, _ in saved} == {200}
        print(len(saved))
        """
    )
    assert out == "20\n"


def test_the_end_of_a_connection_key_may_use_the_pool_and_wait_for_another_thread(program: Any) -> None:
    """What the program gave with a request ends when the pool is done with it: its finaliser runs then."""
    out = program(
        """
        import ssl
        collected = threading.Event()
        requested = threading.Event()
        seen = []

        class Context(ssl.SSLContext):
            def __del__(self):
                try:
                    seen.append(connector.limit + len(connector._conns))
                    requested.set()
                    collected.wait()
                except BaseException as error:
                    seen.append(error)

        async def serve(reader, writer):
            try:
                while True:
                    await reader.readuntil(b"\\r\\n\\r\\n")
                    writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        def collect():
            requested.wait()
            gc.collect()
            collected.set()

        async def use(url):
            global connector
            connector = http.TCPConnector(keepalive_timeout=0.05)
            async with http.ClientSession(connector=connector) as session:
                response = await session.get(url, ssl=Context(ssl.PROTOCOL_TLS_CLIENT))
                await response.read()
                del response
                while not seen:
                    await asyncio.sleep(0.01)

        thread = threading.Thread(target=collect)
        thread.start()
        run(serving(serve, use))
        thread.join()
        print(seen)
        """
    )
    assert out == "[100]\n"


def test_what_is_dropped_while_an_exception_is_raised(program: Any) -> None:
    """The interpreter is in no state to be called then; the exception is what the caller gets."""
    out = program(
        """
        HEAD = b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n"

        async def serve(reader, writer):
            try:
                while True:
                    head = await reader.readuntil(b"\\r\\n\\r\\n")
                    writer.write(HEAD % 2 + b"ok" if b"whole" in head else HEAD % 10)
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        def raises():
            raise LookupError

        def caught(make):
            try:
                print(make(), raises())
            except LookupError as error:
                return type(error).__name__

        def begun(request):
            request.send(None)
            return request

        async def use(url):
            async with http.ClientSession() as session:
                await (await session.get(url + "whole")).read()
                # Collected where the call's arguments are dropped.
                print(caught(lambda: begun(session.get(url))))
                response = [await session.get(url)]
                print(caught(response.pop))
                await asyncio.sleep(0)

        run(serving(serve, use))
        """
    )
    assert out == "LookupError\nLookupError\n"
