"""Stream transports: what is written arrives whole and in order, and the protocol is paused."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import Any

import pytest

from .conftest import LoopErrors
from .support import (
    DatagramRecorder,
    Recorder,
    connected,
    control_xfail,
    turns,
    until,
)

Loop = asyncio.AbstractEventLoop


# Writing


@pytest.mark.parametrize("bad", ["text", None, 1, [b"x"], object()])
async def test_writing_what_is_not_bytes_is_refused(loop: Loop, bad: Any) -> None:
    async with connected() as pair:
        with pytest.raises(TypeError):
            pair.transport.write(bad)
        pair.transport.write(b"fine")
        assert await pair.peer_receives(4) == b"fine"


async def test_writes_after_close_are_dropped_silently(loop: Loop) -> None:
    async with connected() as pair:
        pair.transport.write(b"before")
        pair.transport.close()
        pair.transport.write(b"after")
        assert await pair.peer_receives_all() == b"before"
        await pair.protocol.lost
        for _ in range(10):
            pair.transport.write(b"long after")


@control_xfail(
    "cpython's writelines lacks from 3.12 on the check that write has", since=(3, 12), strict=False
)
async def test_writelines_after_close_is_dropped_silently(loop: Loop) -> None:
    async with connected() as pair:
        pair.transport.write(b"before")
        pair.transport.close()
        pair.transport.writelines([b"after", b"after"])
        assert await pair.peer_receives_all() == b"before"
        await pair.protocol.lost
        for _ in range(10):
            pair.transport.writelines([b"long after"])


@control_xfail("cpython forgets its loop, then calls it", strict=False)
async def test_abort_after_a_close_that_had_to_flush_does_no_harm(loop: Loop) -> None:
    async with connected() as pair:
        written = await pair.fill()
        pair.transport.close()
        assert len(await pair.peer_receives_all()) == written
        await pair.protocol.lost
        pair.transport.abort()
        pair.transport.close()
        await turns()
        assert pair.protocol.lost_count == 1


async def test_writing_after_write_eof_is_an_error(loop: Loop) -> None:
    async with connected() as pair:
        assert pair.transport.can_write_eof()
        pair.transport.write_eof()
        with pytest.raises(RuntimeError):
            pair.transport.write(b"x")
        pair.transport.write_eof()


async def test_empty_writes_send_nothing(loop: Loop) -> None:
    async with connected() as pair:
        pair.transport.write(b"")
        pair.transport.writelines([])
        pair.transport.writelines([b"", b""])
        pair.transport.write(b"end")
        pair.transport.close()
        assert await pair.peer_receives_all() == b"end"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_every_kind_of_buffer_can_be_written(loop: Loop, kind: Any) -> None:
    async with connected() as pair:
        pair.transport.write(kind(b"abc"))
        pair.transport.writelines([kind(b"def"), bytearray(b"ghi"), memoryview(b"jkl")])
        pair.transport.writelines(kind(part) for part in (b"mno", b"pqr"))
        assert await pair.peer_receives(18) == b"abcdefghijklmnopqr"


@control_xfail("cpython keeps a view of the caller's buffer from 3.12 on", since=(3, 12))
@pytest.mark.parametrize("kind", ["bytearray", "memoryview"])
async def test_a_mutable_buffer_is_snapshotted_if_it_cannot_be_sent_at_once(loop: Loop, kind: str) -> None:
    """zuvloop #61."""
    async with connected() as pair:
        written = await pair.fill()
        data = bytearray(b"original")
        pair.transport.write(data if kind == "bytearray" else memoryview(data))
        data[:] = b"mutated!"
        pair.transport.close()
        received = await pair.peer_receives_all()
        assert received[written:] == b"original"


@control_xfail("cpython keeps a view of the caller's buffer from 3.12 on", since=(3, 12), strict=False)
async def test_the_unsent_rest_of_a_mutable_buffer_is_snapshotted(loop: Loop) -> None:
    """A write larger than the kernel takes at once, by a caller who then reuses the buffer."""
    async with connected() as pair:
        data = bytearray(b"a" * 30_000_000)
        pair.transport.write(data)
        data[:] = b"b" * len(data)
        pair.transport.close()
        received = await pair.peer_receives_all()
        assert received.count(b"a") == 30_000_000


async def test_a_buffer_can_be_resized_after_it_was_written(loop: Loop) -> None:
    """No export of the caller's bytearray outlives the call (a held export would make resizing a
    BufferError)."""
    async with connected() as pair:
        data = bytearray(b"x" * 1000)
        pair.transport.write(data)
        data.extend(b"more")
        assert len(await pair.peer_receives(1000)) == 1000


@control_xfail("cpython #135862: a multi-dimensional view is cut by items, not bytes", strict=False)
@pytest.mark.parametrize("buffered", [False, True])
async def test_multi_dimensional_memoryviews_are_cast(loop: Loop, buffered: bool) -> None:
    """cpython #135862."""
    async with connected() as pair:
        written = await pair.fill() if buffered else 0
        pair.transport.write(memoryview(b"abcdef").cast("B", (2, 3)))
        pair.transport.writelines([memoryview(b"ghijkl").cast("B", (3, 2))])
        pair.transport.write(memoryview(b"0123456789abcdef").cast("I"))
        pair.transport.close()
        received = await pair.peer_receives_all()
        assert received[written:] == b"abcdefghijkl0123456789abcdef"


@control_xfail("cpython loses the connection over it")
async def test_a_view_that_is_not_contiguous_is_sent_or_refused(loop: Loop) -> None:
    async with connected() as pair:
        try:
            pair.transport.write(memoryview(b"a.b.c.")[::2])
            expected = b"abc!"
        except (BufferError, TypeError, ValueError):
            expected = b"!"
        pair.transport.write(b"!")
        pair.transport.close()
        assert await pair.peer_receives_all() == expected


@pytest.mark.parametrize("call", ["write", "writelines"])
async def test_large_writes_arrive_whole(loop: Loop, call: str) -> None:
    data = bytes(range(256)) * 40_000
    async with connected() as pair:
        reading = asyncio.ensure_future(pair.peer_receives(len(data)))
        if call == "write":
            pair.transport.write(data)
        else:
            pair.transport.writelines([data[at : at + 7001] for at in range(0, len(data), 7001)])
        assert hashlib.sha1(await reading).digest() == hashlib.sha1(data).digest()
        assert pair.transport.get_write_buffer_size() == 0


async def test_large_reads_arrive_whole(loop: Loop) -> None:
    data = bytes(range(256)) * 40_000
    async with connected() as pair:
        await pair.peer_sends(data)
        received = await pair.protocol.received(len(data))
        assert hashlib.sha1(received).digest() == hashlib.sha1(data).digest()


async def test_data_received_gets_bytes_of_its_own(loop: Loop) -> None:
    """Each delivery is an immutable object that later reads do not change."""
    kept: list[bytes] = []

    class Keeps(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            assert type(data) is bytes
            kept.append(data)

    async with connected(Keeps) as pair:
        for number in range(50):
            await pair.peer_sends(b"%03d" % number)
            await pair.protocol.received(3 * (number + 1))
        assert b"".join(kept) == b"".join(b"%03d" % number for number in range(50))


async def test_many_small_writes_keep_their_order(loop: Loop) -> None:
    async with connected() as pair:
        reading = asyncio.ensure_future(pair.peer_receives_all())
        for number in range(20_000):
            pair.transport.write(b"%07d" % number)
            if number % 1000 == 0:
                await asyncio.sleep(0)
        pair.transport.close()
        assert await reading == b"".join(b"%07d" % number for number in range(20_000))


# Flow control


async def test_default_water_marks(loop: Loop) -> None:
    async with connected() as pair:
        assert pair.transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (16384, 65536)),
        ({"high": 4000}, (1000, 4000)),
        ({"low": 1000}, (1000, 4000)),
        ({"high": 0}, (0, 0)),
        ({"high": 10, "low": 10}, (10, 10)),
    ],
)
async def test_setting_water_marks(loop: Loop, options: dict[str, int], expected: tuple[int, int]) -> None:
    async with connected() as pair:
        pair.transport.set_write_buffer_limits(**options)
        assert pair.transport.get_write_buffer_limits() == expected


@pytest.mark.parametrize("options", [{"high": 1, "low": 2}, {"high": -1}, {"low": -1}])
async def test_impossible_water_marks_are_refused(loop: Loop, options: dict[str, int]) -> None:
    async with connected() as pair:
        with pytest.raises(ValueError, match="."):
            pair.transport.set_write_buffer_limits(**options)
        assert pair.transport.get_write_buffer_limits() == (16384, 65536)


async def test_writing_pauses_above_the_high_mark_and_resumes_below_the_low_one(loop: Loop) -> None:
    levels: list[int] = []

    class Levels(Recorder):
        def pause_writing(self) -> None:
            super().pause_writing()
            levels.append(self.transport.get_write_buffer_size())

        def resume_writing(self) -> None:
            super().resume_writing()
            levels.append(self.transport.get_write_buffer_size())

    async with connected(Levels) as pair:
        written = await pair.fill()
        assert pair.protocol.paused
        assert pair.protocol.events == ["made", "pause"]
        await pair.peer_receives(written)
        await until(lambda: not pair.protocol.paused)
        assert pair.protocol.events == ["made", "pause", "resume"]
        assert levels[0] > 65536
        assert levels[1] <= 16384


async def test_resume_writing_may_write(loop: Loop) -> None:
    """uvloop #496: re-entering ``write`` from ``resume_writing`` neither loses nor reorders."""
    chunk = 300_000
    rounds = 20

    class Refills(Recorder):
        sent = 0

        def send(self) -> None:
            while not self.paused and self.sent < rounds:
                self.sent += 1
                self.transport.write(bytes([self.sent]) * chunk)

        def resume_writing(self) -> None:
            super().resume_writing()
            self.send()

    async with connected(Refills) as pair:
        pair.protocol.send()
        received = await pair.peer_receives(chunk * rounds)
        assert received == b"".join(bytes([number]) * chunk for number in range(1, rounds + 1))


@control_xfail("cpython takes the connection down twice", strict=False)
@pytest.mark.parametrize("how", ["close", "abort"])
async def test_resume_writing_may_close(loop: Loop, loop_errors: LoopErrors, how: str) -> None:
    """zuvloop #33."""

    class Closes(Recorder):
        def resume_writing(self) -> None:
            super().resume_writing()
            self.transport.write(b"last words")
            getattr(self.transport, how)()

    async with connected(Closes) as pair:
        written = await pair.fill()
        received = await pair.peer_receives_all()
        assert await pair.protocol.lost is None
        assert pair.protocol.events == ["made", "pause", "resume", "lost"]
        if how == "close":
            assert len(received) == written + len(b"last words")
        await turns()
        assert not loop_errors


async def test_pause_writing_may_abort(loop: Loop) -> None:
    class Aborts(Recorder):
        def pause_writing(self) -> None:
            super().pause_writing()
            self.transport.abort()

    async with connected(Aborts) as pair:
        for _ in range(200):
            pair.transport.write(b"x" * 65536)
        assert await pair.protocol.lost is None
        assert pair.protocol.events == ["made", "pause", "lost"]


async def test_pause_writing_that_raises_is_reported(loop: Loop, loop_errors: LoopErrors) -> None:
    class Fails(Recorder):
        def pause_writing(self) -> None:
            raise ZeroDivisionError

    async with connected(Fails) as pair:
        written = await pair.fill()
        context = loop_errors.take()
        assert isinstance(context["exception"], ZeroDivisionError)
        assert context["transport"] is pair.transport
        assert context["protocol"] is pair.protocol
        assert len(await pair.peer_receives(written)) == written


async def test_resume_writing_that_raises_is_reported(loop: Loop, loop_errors: LoopErrors) -> None:
    class Fails(Recorder):
        def resume_writing(self) -> None:
            raise ZeroDivisionError

    async with connected(Fails) as pair:
        written = await pair.fill()
        assert len(await pair.peer_receives(written)) == written
        await until(lambda: loop_errors)
        assert isinstance(loop_errors.take()["exception"], ZeroDivisionError)
        pair.transport.write(b"alive")
        assert await pair.peer_receives(5) == b"alive"


async def test_reading_can_be_paused_and_resumed(loop: Loop) -> None:
    async with connected() as pair:
        await turns()
        assert pair.transport.is_reading()
        pair.transport.pause_reading()
        pair.transport.pause_reading()
        assert not pair.transport.is_reading()
        await pair.peer_sends(b"x")
        await turns()
        assert pair.protocol.events == ["made"]
        pair.transport.resume_reading()
        pair.transport.resume_reading()
        assert pair.transport.is_reading()
        await pair.protocol.received(1)


def private_paused(transport: Any) -> bool:
    """What programs read that use asyncio's private attributes."""
    paused: bool = transport._paused
    return paused


async def test_paused_is_readable_on_every_read_transport(loop: Loop) -> None:
    """By the private name that asyncio's and uvloop's classes have."""
    read, write = os.pipe()
    pipe, protocol = await loop.connect_read_pipe(Recorder, open(read, "rb", buffering=0))
    async with connected() as pair:
        for transport in (pair.transport, pipe):
            await turns()
            assert private_paused(transport) is False
            transport.pause_reading()
            assert private_paused(transport) is True
            transport.resume_reading()
            assert private_paused(transport) is False
    os.close(write)
    await protocol.lost
    datagram, _ = await loop.create_datagram_endpoint(DatagramRecorder, local_addr=("127.0.0.1", 0))
    assert private_paused(datagram) is False
    datagram.abort()
    await turns()


async def test_pausing_in_data_received_stops_delivery_at_once(loop: Loop) -> None:
    class PausesAfterOne(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()

    async with connected(PausesAfterOne) as pair:
        sending = asyncio.ensure_future(pair.peer_sends(b"x" * 3_000_000))
        await until(lambda: pair.protocol.data)
        await asyncio.sleep(0.01)
        assert pair.protocol.events == ["made", "data"]
        while len(pair.protocol.data) < 3_000_000:
            pair.transport.resume_reading()
            await asyncio.sleep(0)
        await sending
        assert pair.protocol.events.count("data") > 1


async def test_pausing_in_connection_made(loop: Loop) -> None:
    class PausesAtOnce(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.pause_reading()

    async with connected(PausesAtOnce) as pair:
        await pair.peer_sends(b"x")
        await turns()
        assert pair.protocol.events == ["made"]
        pair.transport.resume_reading()
        await pair.protocol.received(1)


async def test_pausing_and_resuming_after_close_does_no_harm(loop: Loop) -> None:
    async with connected() as pair:
        pair.transport.close()
        pair.transport.pause_reading()
        pair.transport.resume_reading()
        assert not pair.transport.is_reading()
        await pair.protocol.lost
