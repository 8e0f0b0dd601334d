"""Bodies that are read while they come, over sockets: in which pieces, by what programs, what ends them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import random
import socket
import sys
import threading
import weakref
import zlib
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest

from tests.http.body_support import Source
from tests.http.raw_support import Peer, RawServer, keeping_alive
from whorl.http.streams import StreamReader

BODY = random.Random(1).randbytes(3 * 1024 * 1024 + 17)
SHORT = b"0123456789" * 100


async def by_length(peer: Peer, body: bytes) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
    for start in range(0, len(body), 300_000):
        await peer.send(body[start : start + 300_000])


async def by_chunks(peer: Peer, body: bytes) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    sizes = random.Random(2)
    start = 0
    while piece := body[start : start + sizes.choice([1, 50, 5_000, 70_000, 400_000])]:
        await peer.send(b"%x\r\n" % len(piece) + piece + b"\r\n")
        start += len(piece)
    await peer.send(b"0\r\n\r\n")


async def up_to_the_end(peer: Peer, body: bytes) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body)


async def compressed(peer: Peer, body: bytes) -> None:
    coder = zlib.compressobj(1, wbits=31)
    coded = coder.compress(body) + coder.flush()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(coded))
    await peer.send(coded)


Framing = Callable[[Peer, bytes], Awaitable[None]]
FRAMINGS = [by_length, by_chunks, up_to_the_end, compressed]


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("size", [1_000, 65_536, 1_000_000])
async def test_pieces_of_a_size(client: Any, framing: Framing, size: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await framing(peer, BODY)

    async with RawServer(script) as server, client.ClientSession() as session:
        async with session.get(server.url) as response:
            digest = hashlib.sha256()
            async for piece in response.content.iter_chunked(size):
                assert type(piece) is bytes
                assert 0 < len(piece) <= size
                digest.update(piece)
            assert response.content.total_bytes == len(BODY)
            assert response.content.at_eof()
    assert digest.digest() == hashlib.sha256(BODY).digest()


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_read_of_more_than_there_is_memory_for(client: Any, framing: Framing) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await framing(peer, BODY)

    received = bytearray()
    async with RawServer(script) as server, client.ClientSession() as session:
        async with session.get(server.url) as response:
            while piece := await response.content.read(sys.maxsize):
                received += piece
    assert received == BODY


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("seed", range(3))
async def test_ways_of_reading_in_turn(client: Any, framing: Framing, seed: int) -> None:
    """A read may have memory of its own filled; what follows it is in order all the same."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await framing(peer, BODY)

    chance = random.Random(seed)
    received = bytearray()
    async with RawServer(script) as server, client.ClientSession() as session:
        async with session.get(server.url) as response:
            content = response.content
            while not content.at_eof():
                match chance.randrange(6):
                    case 0:
                        received += await content.readany()
                    case 1:
                        received += (await content.readchunk())[0]
                    case 2:
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(0):
                                received += await content.read(chance.choice([20_000, 200_000]))
                    case 3:
                        received += content.read_nowait(chance.choice([10, 100_000]))
                        await asyncio.sleep(0)
                    case 4 if len(BODY) - len(received) > 100_000:
                        received += await content.readexactly(chance.choice([1, 100_000]))
                    case _:
                        received += await content.read(chance.choice([1, 500, 16_384, 65_536, 300_000]))
    assert received == BODY


async def test_a_read_that_is_cancelled_loses_nothing(client: Any) -> None:
    more = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        await more.wait()
        await peer.send(BODY)

    async with RawServer(script) as server, client.ClientSession() as session:
        async with session.get(server.url) as response:
            for _ in range(3):
                read = asyncio.create_task(response.content.read(100_000))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                read.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await read
            more.set()
            received = [await response.content.read(100_000)]
            # Cancelled after the bytes have come, and before the task runs.
            read = asyncio.create_task(response.content.read(100_000))
            await asyncio.sleep(0)
            read.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                received.append(await read)
            received.extend([piece async for piece in response.content.iter_chunked(100_000)])
    assert b"".join(received) == BODY


async def test_an_exception_that_a_program_sets(client: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        await peer.gone()

    class BoomError(Exception):
        pass

    async with RawServer(script) as server, client.ClientSession() as session:
        response = await session.get(server.url)
        read = asyncio.create_task(response.content.read(5))
        await asyncio.sleep(0.01)
        response.content.set_exception(BoomError("x"))
        with pytest.raises(BoomError, match="x"):
            await read
        assert isinstance(response.content.exception(), BoomError)
        for _ in range(2):
            with pytest.raises(BoomError):
                await response.content.readany()
        with pytest.raises(BoomError):
            response.content.read_nowait()
        response.close()


async def test_a_source_that_is_not_read_waits(client: Any) -> None:
    """What is buffered is bounded, and the rest comes when it is read."""
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        sock: socket.socket = peer.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (16 * len(BODY)))
        for _ in range(16):
            await peer.send(BODY)
            sent += 1

    async with RawServer(script) as server, client.ClientSession(read_bufsize=2**16) as session:
        async with session.get(server.url) as response:
            assert len(await response.content.read(1)) == 1
            for _ in range(20):
                await asyncio.sleep(0.01)
            assert sent < 16
            count = 1
            async for piece in response.content.iter_chunked(65_536):
                count += len(piece)
            assert count == 16 * len(BODY)


@contextlib.contextmanager
def fast_server(size: int) -> Iterator[str]:
    """Sends one body of ``size`` bytes as fast as it can, in a thread: its URL."""

    def serve() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as connection:
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            piece = bytes(1024 * 1024)
            for _ in range(size // len(piece)):
                connection.sendall(piece)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()


async def test_a_fast_body_leaves_time_for_others(client: Any) -> None:
    size = 64 * 1024 * 1024
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    with fast_server(size) as url:
        async with client.ClientSession() as session, session.get(url) as response:
            task = asyncio.create_task(others())
            count = 0
            async for piece in response.content.iter_chunked(65_536):
                count += len(piece)
            task.cancel()
    assert count == size
    assert turns >= size // (1024 * 1024)


def counting(module: Any) -> type[Any]:
    class Counting(module.StreamReader):  # type: ignore[misc, name-defined]
        """As programs make them: attributes, an override of a method that reads and one that feeds."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.reads: list[int] = []
            self.fed = 0

        def feed_data(self, data: bytes, *args: Any) -> Any:
            self.fed += len(data)
            return super().feed_data(data, *args)

        async def read(self, n: int = -1) -> bytes:
            data: bytes = await super().read(n)
            self.reads.append(len(data))
            return data

    return Counting


async def test_a_class_of_a_program_s_own(client: Any) -> None:
    stream = counting(client)(Source(), 2**16, loop=asyncio.get_running_loop())
    stream.feed_data(SHORT)
    asyncio.get_running_loop().call_later(0.01, stream.feed_data, SHORT)
    asyncio.get_running_loop().call_later(0.02, stream.feed_eof)
    pieces = [piece async for piece in stream.iter_chunked(600)]
    assert b"".join(pieces) == SHORT + SHORT
    assert stream.fed == 2 * len(SHORT)
    assert stream.reads == [*map(len, pieces), 0]
    assert isinstance(stream, client.StreamReader)


WAYS: list[Callable[[Any], Coroutine[Any, Any, Any]]] = [
    lambda stream: stream.read(3),
    lambda stream: stream.readany(),
    lambda stream: stream.readexactly(3),
    lambda stream: stream.readline(),
    lambda stream: stream.readuntil(b"x"),
    lambda stream: stream.readchunk(),
    lambda stream: stream.wait_eof(),
]
NAMES = ["read", "readany", "readexactly", "readline", "readuntil", "readchunk", "wait_eof"]


@pytest.mark.parametrize("way", WAYS, ids=NAMES)
async def test_a_read_is_a_coroutine(client: Any, way: Callable[[Any], Coroutine[Any, Any, Any]]) -> None:
    stream = client.StreamReader(Source(), 2**16, loop=asyncio.get_running_loop())
    read = way(stream)
    assert asyncio.iscoroutine(read)
    read.close()
    with pytest.raises(RuntimeError, match="already awaited"):
        await read
    task = asyncio.create_task(way(stream))
    await asyncio.sleep(0)
    assert not task.done()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(task, 0.001)
    results = asyncio.gather(way(stream))
    await asyncio.sleep(0)
    stream.feed_data(b"abcx\n")
    stream.feed_eof()
    await results


@pytest.mark.parametrize("way", WAYS, ids=NAMES)
async def test_a_read_that_is_never_awaited_warns(
    client: Any, way: Callable[[Any], Coroutine[Any, Any, Any]]
) -> None:
    stream = client.StreamReader(Source(), 2**16, loop=asyncio.get_running_loop())
    stream.feed_data(b"abcx\n")
    with pytest.warns(RuntimeWarning, match=r"'StreamReader\.\w+' was never awaited"):
        way(stream)
        gc.collect()
    assert stream.read_nowait() == b"abcx\n"


async def test_a_read_that_is_dropped_while_it_waits(client: Any) -> None:
    """The next read is not the second one then."""
    stream = client.StreamReader(Source(), 2**16, loop=asyncio.get_running_loop())
    read = stream.read(3)
    read.send(None)
    del read
    gc.collect()
    stream.feed_data(b"abc")
    assert await stream.read(3) == b"abc"


def test_a_read_that_waits_in_a_cycle_is_collected() -> None:
    event_loop = asyncio.new_event_loop()
    stream = StreamReader(Source(), 2**16, loop=event_loop)
    stream.read().close()
    read = stream.readuntil(b"x")
    future = read.send(None)
    future.add_done_callback(lambda _, read=read: None)
    event_loop.close()
    references = [weakref.ref(stream), weakref.ref(read), weakref.ref(event_loop)]
    del stream, read, future, event_loop
    gc.collect()
    assert [reference() for reference in references] == [None, None, None]


def test_cycles_through_a_stream_are_collected() -> None:
    class Marked(StreamReader):
        pass

    event_loop = asyncio.new_event_loop()
    stream = Marked(Source(), 2**16, loop=event_loop)
    stream.on_eof(lambda stream=stream: None)  # type: ignore[misc]
    error = ValueError("x")
    error.stream = stream  # type: ignore[attr-defined]
    stream.set_exception(error)
    source: Any = stream._protocol
    source.stream = stream
    stream.iterator = stream.iter_any()  # type: ignore[attr-defined]
    event_loop.close()
    references = [weakref.ref(stream), weakref.ref(source), weakref.ref(event_loop)]
    del stream, source, error, event_loop
    gc.collect()
    assert [reference() for reference in references] == [None, None, None]


@pytest.mark.jumping_clock(False)
async def test_a_response_that_was_read_is_any_threads(client: Any) -> None:
    """As `asyncio.run_coroutine_threadsafe()` gives one to another thread, or a log to its writer."""

    def look(response: Any) -> list[Any]:
        response.raise_for_status()
        response.release()
        response.close()
        assert "200 OK" in repr(response)
        assert response.closed
        assert response.connection is None
        assert response.raw_headers[0][0] == b"Content-Length"
        return [
            response.status,
            response.ok,
            response.reason,
            response.headers["content-length"],
            response.links,
        ]

    async with RawServer(keeping_alive()) as server, client.ClientSession() as session:
        async with session.get(server.url) as response:
            assert await response.read() == b"ok"
        assert await asyncio.to_thread(look, response) == [200, True, "OK", "2", {}]


async def test_another_thread_reads_how_much_has_come(client: Any) -> None:
    """As programs do that show progress."""
    over = threading.Event()
    seen: list[int] = []

    def look(content: Any) -> None:
        while not over.is_set():
            seen.append(content.total_bytes)
            content.is_eof()
            content.at_eof()
            content.exception()
            content.get_read_buffer_limits()
            if client.__name__ == "whorl.http":
                # The control's shows a future, which is the loop thread's.
                repr(content)

    size = 32 * 1024 * 1024
    with fast_server(size) as url:
        async with client.ClientSession() as session, session.get(url) as response:
            thread = asyncio.create_task(asyncio.to_thread(look, response.content))
            try:
                count = 0
                async for piece in response.content.iter_chunked(65_536):
                    count += len(piece)
            finally:
                over.set()
                await thread
    assert count == size
    assert seen == sorted(seen)


async def test_bytes_that_came_before_the_first_read(ours: Any) -> None:
    """A large beginning stays where it was received; who reads the body whole gets it all the same."""

    async def script(peer: Peer) -> None:
        for _ in range(3):
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)

    async with RawServer(script) as server, ours.ClientSession() as session:
        for late in (False, True):
            response = await session.get(server.url)
            await asyncio.sleep(0.05 if late else 0)
            assert await response.read() == BODY
        response = await session.get(server.url)
        await asyncio.sleep(0.05)
        content = response.content
        assert await content.readexactly(10) == BODY[:10]
        assert await response.read() == BODY[10:]
