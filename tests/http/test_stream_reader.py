"""Bodies as they come in: every way of reading, flow control, cancelling, ends of chunks and of bodies."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from types import TracebackType

import pytest

from tests.http.body_support import Source, cut, feed, stream_of
from whorl.http.helpers import BaseTimerContext
from whorl.http.http_exceptions import LineTooLong
from whorl.http.streams import EMPTY_PAYLOAD, DataQueue, EofStream, FlowControlDataQueue, StreamReader

TEXT = b"".join(b"line %d of the body\n" % number for number in range(3000))


async def by_lines(stream: StreamReader) -> list[bytes]:
    return [line async for line in stream]


async def by_chunks(stream: StreamReader) -> list[bytes]:
    return [data async for data, _ in stream.iter_chunks()]


async def by_any(stream: StreamReader) -> list[bytes]:
    return [data async for data in stream.iter_any()]


async def by_size(stream: StreamReader) -> list[bytes]:
    return [data async for data in stream.iter_chunked(1000)]


async def at_once(stream: StreamReader) -> list[bytes]:
    return [await stream.read()]


async def exactly(stream: StreamReader) -> list[bytes]:
    return [await stream.readexactly(len(TEXT))]


async def to_the_last_byte(stream: StreamReader) -> list[bytes]:
    return [await stream.readuntil(TEXT[-20:], max_size=len(TEXT)), await stream.read()]


WAYS = [by_lines, by_chunks, by_any, by_size, at_once, exactly, to_the_last_byte]


@pytest.mark.parametrize("read", WAYS)
@pytest.mark.parametrize("chunked", [False, True], ids=["plain", "chunked"])
@pytest.mark.parametrize("sizes", [(1,), (7, 1, 300), (60_000,)], ids=["bytes", "pieces", "whole"])
async def test_every_way_of_reading_gets_everything(
    read: Callable[[StreamReader], Awaitable[list[bytes]]], chunked: bool, sizes: tuple[int, ...]
) -> None:
    body = TEXT if sizes != (1,) else TEXT[:3000] + TEXT[-3000:]
    stream = StreamReader(Source(), 512)
    if read is exactly:
        body = TEXT
    feeding = asyncio.create_task(feed(stream, cut(body, *sizes), chunked=chunked))
    assert b"".join(await read(stream)) == body
    await feeding
    assert stream.at_eof()
    assert stream.total_bytes == stream.total_raw_bytes == len(body)


@pytest.mark.parametrize("seed", range(30))
async def test_ways_of_reading_mixed_at_random(seed: int) -> None:
    choice = random.Random(seed)
    body = bytes(choice.choices(b"ab\r\n", k=5000))
    stream = StreamReader(Source(), 64)
    sizes = [choice.randrange(1, 90) for _ in range(20)]
    feeding = asyncio.create_task(feed(stream, cut(body, *sizes), chunked=seed % 2 == 0))
    read = b""
    while not stream.at_eof():
        count = choice.randrange(1, 120)
        match choice.randrange(7):
            case 0:
                data = await stream.read(count)
                assert len(data) <= count
            case 1:
                data = await stream.readany()
            case 2:
                try:
                    data = await stream.readexactly(count)
                    assert len(data) == count
                except asyncio.IncompleteReadError as error:
                    data = error.partial
                    assert stream.at_eof()
            case 3:
                data = await stream.readline()
                assert b"\n" not in data[:-1]
            case 4:
                data = await stream.readuntil(b"\r\n", max_size=len(body))
                assert data.find(b"\r\n") in (-1, len(data) - 2)
            case 5:
                data, _ = await stream.readchunk()
            case _:
                data = stream.read_nowait(count)
                stream._put_back(data[1:])
                data = data[:1]
        read += data
    await feeding
    assert read == body


async def test_lines_as_they_are_and_the_rest() -> None:
    stream = stream_of(b"one\ntw", b"o\n", b"\nthr", b"ee")
    assert [line async for line in stream] == [b"one\n", b"two\n", b"\n", b"three"]


@pytest.mark.parametrize("separator", [b"\r\n", b"\r\n\r\n", b"aab", b"----"])
async def test_a_separator_in_two_pieces(separator: bytes) -> None:
    body = b"aa" + separator + b"rest"
    for at in range(1, len(body)):
        stream = stream_of(body[:at], body[at:])
        assert await stream.readuntil(separator) == b"aa" + separator
        assert await stream.read() == b"rest"


async def test_lines_that_are_too_long_are_dropped() -> None:
    stream = stream_of(b"x" * 50 + b"\nnext\n")
    with pytest.raises(LineTooLong, match="Got more than 49 bytes"):
        await stream.readline(max_line_length=49)
    assert await stream.readline(max_line_length=5) == b"next\n"
    endless = StreamReader(Source(), 16)
    feeding = asyncio.create_task(feed(endless, [b"x"] * 100))
    with pytest.raises(LineTooLong):
        await endless.readline()
    await endless.read()
    await feeding


async def test_an_empty_separator() -> None:
    with pytest.raises(ValueError, match="at least one-byte"):
        await stream_of(b"body").readuntil(b"")


async def test_less_than_exactly() -> None:
    stream = stream_of(b"four")
    with pytest.raises(asyncio.IncompleteReadError) as caught:
        await stream.readexactly(5)
    assert (caught.value.partial, caught.value.expected) == (b"four", 5)


async def test_whole_pieces_are_handed_out_without_a_copy() -> None:
    pieces = [bytes([number]) * 1000 for number in range(4)]
    stream = stream_of(*pieces)
    assert await stream.read(1000) is pieces[0]
    assert (await stream.readchunk())[0] is pieces[1]
    assert stream.read_nowait(1000) is pieces[2]
    assert await stream.readany() is pieces[3]


# Flow control.


@pytest.mark.parametrize("read", [by_lines, by_chunks, by_any, by_size])
async def test_memory_is_bounded_by_the_marks(
    read: Callable[[StreamReader], Awaitable[list[bytes]]],
) -> None:
    stream = StreamReader(Source(), 1000)
    piece = 500
    feeding = asyncio.create_task(feed(stream, cut(TEXT, piece)))
    # A reader that comes late.
    for _ in range(50):
        await asyncio.sleep(0)
    assert stream._protocol._reading_paused
    await read(stream)
    assert await feeding <= 2 * 1000 + piece


async def test_tiny_chunks_pause_the_source_too() -> None:
    stream = StreamReader(Source(), 160)
    feeding = asyncio.create_task(feed(stream, [b"x"] * 100, chunked=True))
    for _ in range(150):
        await asyncio.sleep(0)
    assert stream._protocol._reading_paused
    assert stream.total_bytes == 11
    chunks = [pair async for pair in stream.iter_chunks()]
    assert chunks == [(b"x", True)] * 100
    await feeding


async def test_reading_everything_leaves_the_marks_as_they_were() -> None:
    stream = StreamReader(Source(), 100)
    feeding = asyncio.create_task(feed(stream, [b"x" * 90] * 20))
    assert len(await stream.read()) == 1800
    await feeding
    assert stream.get_read_buffer_limits() == (100, 200)


async def test_reading_large_pieces_raises_the_marks() -> None:
    stream = StreamReader(Source(), 100)
    stream.iter_chunked(1000)
    assert stream.get_read_buffer_limits() == (1000, 2000)
    stream.set_read_chunk_size(10)
    assert stream.get_read_buffer_limits() == (1000, 2000)


async def test_after_the_end_the_source_is_left_alone() -> None:
    # It may be reading the next message, which another stream has paused.
    stream = stream_of(b"x" * 100, limit=10)
    source = stream._protocol
    assert isinstance(source, Source)
    assert not source._reading_paused
    assert source.resumed == 1
    source.pause_reading()
    while not stream.at_eof():
        await stream.read(30)
    assert source._reading_paused


async def test_a_source_that_feeds_while_it_is_resumed() -> None:
    class Eager(Source):
        def resume_reading(self) -> None:
            super().resume_reading()
            if more:
                stream.feed_data(more.pop(0))

    more = [b"second", b"third"]
    stream = StreamReader(Eager(), 4)
    stream.feed_data(b"first")
    assert [await stream.readany() for _ in range(3)] == [b"first", b"second", b"third"]


# Waiting.


@pytest.mark.jumping_clock
@pytest.mark.parametrize("read", [at_once, exactly, to_the_last_byte])
async def test_nothing_is_lost_to_a_cancelled_read(
    read: Callable[[StreamReader], Awaitable[list[bytes]]],
) -> None:
    stream = StreamReader(Source(), 2**16)
    stream.begin_http_chunk_receiving()
    stream.feed_data(b"abc")
    stream.end_http_chunk_receiving()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await read(stream)
    stream.feed_data(b"def")
    stream.feed_eof()
    assert await stream.read() == b"abcdef"


async def test_a_second_reader_is_refused() -> None:
    stream = StreamReader(Source(), 100)
    first = asyncio.create_task(stream.read(5))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match=r"readuntil\(\) called while another coroutine"):
        await stream.readline()
    with pytest.raises(RuntimeError, match="waiting for incoming data"):
        stream.read_nowait()
    stream.feed_data(b"for the first")
    assert await first == b"for t"


async def test_waiting_for_a_source_that_is_gone() -> None:
    source = Source()
    stream = StreamReader(source, 100)
    stream.feed_data(b"what had come")
    source.connected = False
    assert await stream.readany() == b"what had come"
    with pytest.raises(RuntimeError, match="Connection closed"):
        await stream.readany()


@pytest.mark.parametrize("read", WAYS)
async def test_a_body_that_breaks_off(read: Callable[[StreamReader], Awaitable[list[bytes]]]) -> None:
    stream = StreamReader(Source(), 100)
    stream.on_eof(lambda: pytest.fail("it has not ended"))
    stream.feed_data(b"first part, ")
    reading = asyncio.create_task(read(stream))
    ending = asyncio.create_task(stream.wait_eof())
    await asyncio.sleep(0)
    cause = OSError("reset")
    stream.set_exception(ValueError("broken"), cause)
    for task in (reading, ending):
        with pytest.raises(ValueError, match="broken") as caught:
            await task
        assert caught.value.__cause__ is cause
    with pytest.raises(ValueError, match="broken"):
        await stream.wait_eof()
    with pytest.raises(ValueError, match="broken"):
        stream.read_nowait()
    assert stream.exception() is caught.value


async def test_each_wait_is_timed() -> None:
    class Timer(BaseTimerContext):
        waits = 0
        over = False

        def assert_timeout(self) -> None:
            if self.over:
                raise TimeoutError

        def __enter__(self) -> BaseTimerContext:
            self.waits += 1
            return self

        def __exit__(
            self,
            exc_type: type[BaseException] | None,
            exc_value: BaseException | None,
            traceback: TracebackType | None,
        ) -> None:
            pass

    timer = Timer()
    stream = StreamReader(Source(), 100, timer=timer)
    stream.feed_data(b"here")
    assert await stream.readany() == b"here"
    assert timer.waits == 0
    asyncio.get_running_loop().call_soon(stream.feed_data, b"later")
    assert await stream.readany() == b"later"
    assert timer.waits == 1
    timer.over = True
    stream.feed_data(b"too late")
    with pytest.raises(TimeoutError):
        await stream.readany()


# Ends.


async def test_chunks_end_where_they_ended() -> None:
    stream = StreamReader(Source(), 100)
    for pieces in ([b"ab", b"c"], [], [b"de"]):
        stream.begin_http_chunk_receiving()
        for piece in pieces:
            stream.feed_data(piece)
        stream.end_http_chunk_receiving()
    stream.begin_http_chunk_receiving()
    stream.feed_data(b"f")
    stream.feed_eof()
    assert [pair async for pair in stream.iter_chunks()] == [(b"abc", True), (b"de", True), (b"f", False)]


async def test_the_end_of_a_chunk_that_comes_late() -> None:
    stream = StreamReader(Source(), 100)
    stream.begin_http_chunk_receiving()
    stream.feed_data(b"abc")
    assert await stream.readchunk() == (b"abc", False)
    asyncio.get_running_loop().call_soon(stream.end_http_chunk_receiving)
    assert await stream.readchunk() == (b"", True)


async def test_chunks_have_to_begin_before_data() -> None:
    stream = stream_of(b"data", end=False)
    with pytest.raises(RuntimeError, match="some data was already fed"):
        stream.begin_http_chunk_receiving()
    with pytest.raises(RuntimeError, match="without calling"):
        stream.end_http_chunk_receiving()


async def test_callbacks_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    called = []
    stream = stream_of(b"body", end=False)
    stream.on_eof(lambda: called.append("early"))
    stream.on_eof(lambda: 1 // 0)
    stream.on_eof(lambda: called.append("after a fault"))
    waiting = asyncio.create_task(stream.wait_eof())
    await asyncio.sleep(0)
    assert not called
    stream.feed_eof()
    await waiting
    stream.on_eof(lambda: called.append("late"))
    assert called == ["early", "after a fault", "late"]
    assert "ZeroDivisionError" in caplog.text
    assert stream.is_eof()
    assert not stream.at_eof()


async def test_data_after_the_end() -> None:
    with pytest.raises(RuntimeError, match="4 bytes too many"):
        stream_of(b"body").feed_data(b"more")


async def test_reading_at_the_end_again_and_again(caplog: pytest.LogCaptureFixture) -> None:
    stream = stream_of()
    for _ in range(5):
        assert await stream.read() == b""
    assert not caplog.records
    await stream.read()
    assert "infinite loop" in caplog.text


async def test_unread_data_is_read_first_and_warns() -> None:
    stream = stream_of(b"abcdef")
    assert await stream.read(4) == b"abcd"
    with pytest.deprecated_call(match="unread_data"):
        stream.unread_data(b"cd")
    assert await stream.read() == b"cdef"


async def test_compressed_bytes_are_what_was_sent() -> None:
    stream = stream_of(b"decompressed")
    stream.total_compressed_bytes = 5
    assert (stream.total_bytes, stream.total_raw_bytes) == (12, 5)


async def test_the_empty_body_serves_any_number_of_messages() -> None:
    for _ in range(3):
        assert [pair async for pair in EMPTY_PAYLOAD.iter_chunks()] == []
        assert [line async for line in EMPTY_PAYLOAD] == []
        assert [piece async for piece in EMPTY_PAYLOAD.iter_chunked(10)] == []
        while (await EMPTY_PAYLOAD.readchunk())[1]:
            pass
        assert await EMPTY_PAYLOAD.readuntil(b"x") == EMPTY_PAYLOAD.read_nowait() == b""
    assert EMPTY_PAYLOAD.at_eof()
    assert EMPTY_PAYLOAD.total_raw_bytes == 0
    EMPTY_PAYLOAD.set_exception(ValueError())
    assert EMPTY_PAYLOAD.exception() is None
    await EMPTY_PAYLOAD.wait_eof()


# Queues.


async def test_a_queue_keeps_the_order_and_ends() -> None:
    queue: DataQueue[int] = DataQueue(asyncio.get_running_loop())
    for number in range(3):
        queue.feed_data(number)
    asyncio.get_running_loop().call_soon(queue.feed_eof)
    assert [number async for number in queue] == [0, 1, 2]
    assert queue.at_eof()
    with pytest.raises(EofStream):
        await queue.read()


async def test_a_queue_that_breaks_off_is_read_to_its_end() -> None:
    queue: DataQueue[str] = DataQueue(asyncio.get_running_loop())
    queue.feed_data("last")
    queue.set_exception(ValueError("broken"), OSError("reset"))
    assert await queue.read() == "last"
    with pytest.raises(ValueError, match="broken") as caught:
        await queue.read()
    assert isinstance(caught.value.__cause__, OSError)


async def test_a_queue_pauses_its_source() -> None:
    source = Source()
    queue: FlowControlDataQueue[str] = FlowControlDataQueue(source, 10, loop=asyncio.get_running_loop())
    queue.feed_data("a", 15)
    assert not source._reading_paused
    queue.feed_data("b", 15)
    assert source._reading_paused
    await queue.read()
    assert not source._reading_paused
