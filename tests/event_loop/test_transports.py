"""Stream transports over TCP and Unix sockets: the life of a connection, as a protocol sees it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import socket
import warnings
from pathlib import Path
from typing import Any

import pytest

from .conftest import LoopErrors, LoopFactory
from .support import (
    BufferedRecorder,
    Echo,
    Recorder,
    connected,
    control_xfail,
    listener,
    open_fds,
    receive_all,
    reset,
    turns,
    until,
)

Loop = asyncio.AbstractEventLoop


# What a transport is


async def test_transports_are_asyncio_transports(loop: Loop) -> None:
    async with connected() as pair:
        assert isinstance(pair.transport, asyncio.Transport)
        assert isinstance(pair.transport, asyncio.ReadTransport)
        assert isinstance(pair.transport, asyncio.WriteTransport)


async def test_extra_info(loop: Loop) -> None:
    async with connected() as pair:
        sock = pair.transport.get_extra_info("socket")
        assert isinstance(sock, asyncio.trsock.TransportSocket)
        assert sock.type == socket.SOCK_STREAM
        assert sock.family == socket.AF_INET
        assert sock.gettimeout() == 0
        assert pair.transport.get_extra_info("peername") == pair.peer.getsockname()
        assert pair.transport.get_extra_info("sockname") == pair.peer.getpeername()
        assert pair.transport.get_extra_info("nothing") is None
        assert pair.transport.get_extra_info("nothing", "default") == "default"


async def test_extra_info_is_still_there_after_close(loop: Loop) -> None:
    async with connected() as pair:
        peername = pair.transport.get_extra_info("peername")
        pair.transport.abort()
        await pair.protocol.lost
        assert pair.transport.get_extra_info("peername") == peername


async def test_tcp_nodelay_is_on_at_both_ends(loop: Loop) -> None:
    served: list[Recorder] = []

    def factory() -> Recorder:
        served.append(Recorder())
        return served[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
    await until(lambda: served and served[0].transport)
    for end in (transport, served[0].transport):
        assert end.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    transport.close()
    await protocol.lost
    await served[0].lost
    server.close()
    await server.wait_closed()


async def test_repr_works_in_every_state(loop: Loop) -> None:
    async with connected() as pair:
        shown = [repr(pair.transport)]
        await pair.fill()
        shown.append(repr(pair.transport))
        pair.transport.pause_reading()
        shown.append(repr(pair.transport))
        pair.transport.abort()
        shown.append(repr(pair.transport))
        await pair.protocol.lost
        shown.append(repr(pair.transport))
    assert all(isinstance(text, str) and text for text in shown)


async def test_callbacks_come_in_order(loop: Loop) -> None:
    async with connected() as pair:
        await pair.peer_sends(b"x")
        await pair.protocol.received(1)
        pair.peer.close()
        await pair.protocol.lost
        assert pair.protocol.events == ["made", "data", "eof", "lost"]


async def test_connection_made_comes_before_create_connection_returns(loop: Loop) -> None:
    async with connected() as pair:
        assert pair.protocol.transport is pair.transport


# connection_lost


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_connection_lost_is_never_called_from_within_close_or_abort(loop: Loop, how: str) -> None:
    async with connected() as pair:
        getattr(pair.transport, how)()
        assert pair.transport.is_closing()
        assert not pair.protocol.lost_count
        assert await pair.protocol.lost is None


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_connection_lost_from_inside_data_received_comes_later(loop: Loop, how: str) -> None:
    class Closes(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            getattr(self.transport, how)()
            self.events.append("returned")

    async with connected(Closes) as pair:
        await pair.peer_sends(b"x")
        await pair.protocol.lost
        assert pair.protocol.events == ["made", "data", "returned", "lost"]


async def test_connection_lost_comes_exactly_once(loop: Loop) -> None:
    async with connected() as pair:
        pair.transport.close()
        pair.transport.close()
        pair.transport.abort()
        pair.transport.abort()
        pair.peer.close()
        await pair.protocol.lost
        pair.transport.close()
        pair.transport.abort()
        await asyncio.sleep(0.01)
        assert pair.protocol.lost_count == 1


async def test_connection_lost_gets_the_original_exception(loop: Loop) -> None:
    async with connected() as pair:
        reset(pair.peer)
        assert isinstance(await pair.protocol.lost, ConnectionResetError)


async def test_connection_lost_gets_none_after_end_of_file(loop: Loop) -> None:
    async with connected() as pair:
        pair.peer.close()
        assert await pair.protocol.lost is None


async def test_no_data_after_close(loop: Loop) -> None:
    """What has arrived when close() is called is not delivered any more."""
    async with connected() as pair:
        await turns()
        pair.peer.send(b"x" * 1000)
        pair.transport.close()
        await pair.protocol.lost
        assert pair.protocol.events == ["made", "lost"]


async def test_no_data_after_close_within_a_batch_of_reads(loop: Loop) -> None:
    class ClosesAfterOne(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.close()

    async with connected(ClosesAfterOne) as pair:
        with contextlib.suppress(OSError):
            await pair.peer_sends(b"x" * 3_000_000)
        await pair.protocol.lost
        assert pair.protocol.events == ["made", "data", "lost"]


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_closing_in_connection_made(loop: Loop, how: str) -> None:
    class ClosesAtOnce(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            getattr(transport, how)()

    async with connected(ClosesAtOnce) as pair:
        await pair.protocol.lost
        assert pair.protocol.events == ["made", "lost"]


async def test_closing_in_eof_received(loop: Loop) -> None:
    class ClosesOnEof(Recorder):
        def eof_received(self) -> bool:
            super().eof_received()
            self.transport.close()
            return True

    async with connected(ClosesOnEof) as pair:
        pair.peer.shutdown(socket.SHUT_WR)
        assert await pair.protocol.lost is None
        assert pair.protocol.events == ["made", "eof", "lost"]


async def test_close_flushes_what_is_buffered(loop: Loop) -> None:
    async with connected() as pair:
        written = await pair.fill()
        pair.transport.close()
        assert pair.transport.get_write_buffer_size() > 0
        await turns()
        assert not pair.protocol.lost_count
        assert len(await pair.peer_receives_all()) == written
        assert await pair.protocol.lost is None


async def test_abort_drops_what_is_buffered(loop: Loop) -> None:
    async with connected() as pair:
        written = await pair.fill()
        pair.transport.abort()
        assert await pair.protocol.lost is None
        assert pair.transport.get_write_buffer_size() == 0
        assert len(await pair.peer_receives_all()) < written


def test_a_transport_dropped_with_its_loop_warns_and_closes_its_socket(loop_factory: LoopFactory) -> None:
    before = set(open_fds().items())
    with listener() as server:
        loop = loop_factory()
        transport, protocol = loop.run_until_complete(
            loop.create_connection(asyncio.Protocol, *server.getsockname())
        )
        peer, _ = server.accept()
        loop.close()
        # A list of its own: the socket inside may say, too, that no one closed it.
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del transport, protocol
            gc.collect()
        assert any("unclosed transport" in str(warning.message) for warning in caught)
        peer.close()
    del loop
    gc.collect()
    assert not set(open_fds().items()) - before


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
        await asyncio.sleep(0.01)
        assert pair.protocol.events == ["made"]
        pair.transport.resume_reading()
        pair.transport.resume_reading()
        assert pair.transport.is_reading()
        await pair.protocol.received(1)


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
        await asyncio.sleep(0.01)
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


# Half-closed connections


@pytest.mark.parametrize("answer", [None, False])
async def test_eof_received_that_returns_false_closes(loop: Loop, answer: bool | None) -> None:
    async with connected() as pair:
        pair.protocol.keep_open_on_eof = answer
        pair.peer.shutdown(socket.SHUT_WR)
        assert await pair.protocol.lost is None
        assert pair.protocol.events == ["made", "eof", "lost"]


async def test_eof_received_that_returns_true_keeps_the_write_half_open(loop: Loop) -> None:
    async with connected() as pair:
        pair.protocol.keep_open_on_eof = True
        pair.peer.shutdown(socket.SHUT_WR)
        await pair.protocol.eof
        await asyncio.sleep(0.01)
        assert not pair.transport.is_closing()
        assert pair.protocol.events == ["made", "eof"]
        pair.transport.write(b"still writing")
        assert await pair.peer_receives(13) == b"still writing"
        pair.transport.close()
        await pair.protocol.lost


async def test_write_eof_closes_our_half_alone(loop: Loop) -> None:
    async with connected() as pair:
        pair.transport.write(b"question")
        pair.transport.write_eof()
        assert await pair.peer_receives_all() == b"question"
        await pair.peer_sends(b"answer")
        assert await pair.protocol.received(6) == b"answer"
        assert not pair.transport.is_closing()


async def test_write_eof_waits_for_what_is_buffered(loop: Loop) -> None:
    async with connected() as pair:
        written = await pair.fill()
        pair.transport.write_eof()
        assert len(await pair.peer_receives_all()) == written
        await pair.peer_sends(b"answer")
        await pair.protocol.received(6)


async def test_write_eof_after_close_does_no_harm(loop: Loop) -> None:
    async with connected() as pair:
        pair.transport.close()
        pair.transport.write_eof()
        await pair.protocol.lost
        pair.transport.write_eof()


async def test_end_of_file_while_much_is_buffered(loop: Loop) -> None:
    """The peer ends its half: what we had buffered is still sent before the connection is lost."""
    async with connected() as pair:
        written = await pair.fill()
        pair.peer.shutdown(socket.SHUT_WR)
        await pair.protocol.eof
        assert len(await pair.peer_receives_all()) == written
        assert await pair.protocol.lost is None


# Peers that misbehave


async def test_a_peer_that_resets_in_the_middle_of_a_write(loop: Loop) -> None:
    async with connected() as pair:
        await pair.fill()
        reset(pair.peer)
        error = await pair.protocol.lost
        assert isinstance(error, (ConnectionResetError, BrokenPipeError))
        assert pair.transport.get_write_buffer_size() == 0
        pair.transport.write(b"dropped")


async def test_a_peer_that_resets_while_reading_is_paused(loop: Loop) -> None:
    async with connected() as pair:
        await turns()
        pair.transport.pause_reading()
        reset(pair.peer)
        await asyncio.sleep(0.01)
        # One of these notices at the latest.
        pair.transport.write(b"x" * 100_000)
        pair.transport.resume_reading()
        assert isinstance(await pair.protocol.lost, OSError)


async def test_writing_to_a_peer_that_is_gone(loop: Loop) -> None:
    """The error of a write made in a callback is delivered later, never raised by ``write``."""
    async with connected() as pair:
        await turns()
        pair.transport.pause_reading()
        reset(pair.peer)
        for _ in range(20):
            pair.transport.write(b"x" * 1000)
            await asyncio.sleep(0)
        assert isinstance(await pair.protocol.lost, OSError)


async def test_a_peer_that_stalls(loop: Loop) -> None:
    async with connected() as pair:
        await pair.fill()
        assert pair.protocol.paused
        pair.transport.close()
        await asyncio.sleep(0.02)
        # Closing waits for the peer, as it must; aborting does not.
        assert not pair.protocol.lost_count
        pair.transport.abort()
        assert await pair.protocol.lost is None


async def test_half_closed_peers_that_reset_later(loop: Loop) -> None:
    async with connected() as pair:
        pair.protocol.keep_open_on_eof = True
        pair.peer.shutdown(socket.SHUT_WR)
        await pair.protocol.eof
        reset(pair.peer)
        for _ in range(20):
            pair.transport.write(b"x" * 1000)
            await asyncio.sleep(0.001)
        assert isinstance(await pair.protocol.lost, OSError)


# Protocols that raise


async def test_data_received_that_raises_loses_the_connection_with_that_exception(
    loop: Loop, loop_errors: LoopErrors
) -> None:
    error = ZeroDivisionError("in data_received")

    class Fails(Recorder):
        def data_received(self, data: bytes) -> None:
            raise error

    async with connected(Fails) as pair:
        await pair.peer_sends(b"x")
        assert await pair.protocol.lost is error
        context = loop_errors.take()
        assert context["exception"] is error
        assert context["transport"] is pair.transport
        assert context["protocol"] is pair.protocol
        assert await pair.peer_receives_all() == b""


async def test_eof_received_that_raises_loses_the_connection_with_that_exception(
    loop: Loop, loop_errors: LoopErrors
) -> None:
    error = ZeroDivisionError("in eof_received")

    class Fails(Recorder):
        def eof_received(self) -> bool:
            raise error

    async with connected(Fails) as pair:
        pair.peer.shutdown(socket.SHUT_WR)
        assert await pair.protocol.lost is error
        assert loop_errors.take()["exception"] is error


async def test_connection_made_that_raises_is_reported(loop: Loop, loop_errors: LoopErrors) -> None:
    class Fails(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            raise ZeroDivisionError

    async with connected(Fails):
        assert isinstance(loop_errors.take()["exception"], ZeroDivisionError)


async def test_connection_lost_that_raises_is_reported_and_the_socket_closed(
    loop: Loop, loop_errors: LoopErrors
) -> None:
    class Fails(Recorder):
        def connection_lost(self, exc: BaseException | None) -> None:
            super().connection_lost(exc)
            raise ZeroDivisionError

    async with connected(Fails) as pair:
        pair.transport.close()
        await pair.protocol.lost
        await turns()
        assert isinstance(loop_errors.take()["exception"], ZeroDivisionError)
        assert await pair.peer_receives_all() == b""


async def test_a_protocol_without_the_method_that_is_needed_is_reported(
    loop: Loop, loop_errors: LoopErrors
) -> None:
    class NoProtocol:
        def connection_made(self, transport: asyncio.Transport) -> None:
            self.transport = transport

        def connection_lost(self, exc: BaseException | None) -> None:
            lost.set_result(exc)

    lost: asyncio.Future[BaseException | None] = loop.create_future()
    async with connected(NoProtocol) as pair:
        await pair.peer_sends(b"x")
        assert isinstance(await lost, AttributeError)
        assert isinstance(loop_errors.take()["exception"], AttributeError)


# Changing protocols


async def test_set_protocol_takes_effect_for_the_next_data(loop: Loop) -> None:
    async with connected() as pair:
        await pair.peer_sends(b"first")
        await pair.protocol.received(5)
        second = Recorder()
        pair.transport.set_protocol(second)
        assert pair.transport.get_protocol() is second
        await pair.peer_sends(b"second")
        await second.received(6)
        pair.peer.shutdown(socket.SHUT_WR)
        await second.lost
        assert second.events == ["data", "eof", "lost"]
        assert pair.protocol.events == ["made", "data"]
        pair.protocol.lost.set_result(None)


async def test_set_protocol_refreshes_every_cached_method(loop: Loop) -> None:
    async with connected() as pair:
        await pair.fill()
        assert pair.protocol.events == ["made", "pause"]
        second = Recorder()
        pair.transport.set_protocol(second)
        await pair.peer_receives(pair.transport.get_write_buffer_size())
        reading = asyncio.ensure_future(pair.peer_receives_all())
        await until(lambda: "resume" in second.events)
        second.keep_open_on_eof = True
        pair.peer.shutdown(socket.SHUT_WR)
        await second.eof
        pair.transport.close()
        await second.lost
        await reading
        assert second.events == ["resume", "eof", "lost"]
        assert pair.protocol.events == ["made", "pause"]
        pair.protocol.lost.set_result(None)


async def test_set_protocol_from_plain_to_buffered_and_back(loop: Loop) -> None:
    async with connected() as pair:
        buffered = BufferedRecorder()
        pair.transport.set_protocol(buffered)
        await pair.peer_sends(b"buffered")
        assert await buffered.received(8) == b"buffered"
        plain = Recorder()
        pair.transport.set_protocol(plain)
        await pair.peer_sends(b"plain")
        assert await plain.received(5) == b"plain"
        pair.transport.abort()
        await plain.lost
        pair.protocol.lost.set_result(None)


async def test_set_protocol_inside_data_received(loop: Loop) -> None:
    class Hands(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.set_protocol(second)

    second = Recorder()
    async with connected(Hands) as pair:
        await pair.peer_sends(b"x")
        await pair.protocol.received(1)
        await pair.peer_sends(b"y")
        assert await second.received(1) == b"y"
        pair.transport.abort()
        await second.lost
        pair.protocol.lost.set_result(None)


# Buffered protocols


async def test_buffered_protocols(loop: Loop) -> None:
    data = bytes(range(256)) * 2000
    async with connected(lambda: BufferedRecorder(1000)) as pair:
        await pair.peer_sends(data)
        assert await pair.protocol.received(len(data)) == data
        pair.peer.shutdown(socket.SHUT_WR)
        await pair.protocol.lost
        assert pair.protocol.events[0] == "made"
        assert pair.protocol.events[-2:] == ["eof", "lost"]


@pytest.mark.parametrize("fault", ["raises", "empty", "read-only", "not a buffer"])
async def test_a_bad_get_buffer_loses_the_connection(loop: Loop, loop_errors: LoopErrors, fault: str) -> None:
    class Bad(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> Any:
            if fault == "raises":
                raise ZeroDivisionError
            return {"empty": bytearray(), "read-only": b"read-only", "not a buffer": None}[fault]

    async with connected(Bad) as pair:
        await pair.peer_sends(b"x")
        error = await pair.protocol.lost
        context = loop_errors.take()
        assert error is context["exception"]
        assert isinstance(error, {"raises": ZeroDivisionError, "empty": RuntimeError}.get(fault, Exception))


async def test_a_bad_buffer_updated_loses_the_connection(loop: Loop, loop_errors: LoopErrors) -> None:
    class Bad(BufferedRecorder):
        def buffer_updated(self, nbytes: int) -> None:
            raise ZeroDivisionError

    async with connected(Bad) as pair:
        await pair.peer_sends(b"x")
        assert isinstance(await pair.protocol.lost, ZeroDivisionError)
        assert isinstance(loop_errors.take()["exception"], ZeroDivisionError)


async def test_get_buffer_may_return_a_slice_of_a_larger_one(loop: Loop) -> None:
    class Slices(BufferedRecorder):
        filled = 0

        def get_buffer(self, sizehint: int) -> memoryview:
            assert isinstance(sizehint, int)
            return memoryview(self.buffer)[self.filled :]

        def buffer_updated(self, nbytes: int) -> None:
            self.filled += nbytes
            self.data = self.buffer[: self.filled]

    async with connected(Slices) as pair:
        for part in (b"one", b"two", b"three"):
            await pair.peer_sends(part)
            await asyncio.sleep(0.001)
        assert await pair.protocol.received(11) == b"onetwothree"


async def test_a_buffer_is_released_between_reads(loop: Loop) -> None:
    """The protocol may resize its buffer: the loop holds no export of it while it waits."""
    async with connected(BufferedRecorder) as pair:
        await pair.peer_sends(b"x")
        await pair.protocol.received(1)
        pair.protocol.buffer.extend(b"grown")
        await pair.peer_sends(b"y")
        assert await pair.protocol.received(2) == b"xy"


# Descriptors


async def test_no_answer_reaches_the_wrong_connection_when_descriptors_are_reused(loop: Loop) -> None:
    """uvloop #645: connections close with writes outstanding, and new ones get their numbers at once."""
    for number in range(1, 60):
        async with connected() as old:
            await old.fill()
            descriptor = old.transport.get_extra_info("socket").fileno()
            old.transport.abort()
            await old.protocol.lost
            # The number is free: another connection takes it while the old transport is still referred to.
            async with connected() as new:
                reused = new.transport.get_extra_info("socket").fileno() == descriptor
                new.transport.write(b"%d" % number)
                old.transport.write(b"wrong")
                old.transport.close()
                old.transport.abort()
                new.transport.close()
                assert await new.peer_receives_all() == b"%d" % number
                assert await new.protocol.lost is None
    assert reused


async def test_a_socket_given_to_create_connection_belongs_to_the_transport(loop: Loop) -> None:
    """Neither collecting nor forgetting the original socket closes the connection, and its end is closed
    once."""
    with listener() as server:
        sock = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
        peer.settimeout(10)
        sock.setblocking(False)
        transport, protocol = await loop.create_connection(Recorder, sock=sock)
        del sock
        gc.collect()
        transport.write(b"alive")
        with peer:
            assert await asyncio.to_thread(peer.recv, 5) == b"alive"
            transport.close()
            await protocol.lost
            assert await asyncio.to_thread(receive_all, peer) == b""


async def test_a_socket_given_to_create_connection_does_not_close_what_took_its_number(loop: Loop) -> None:
    with listener() as server:
        sock = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
        number = sock.fileno()
        transport, protocol = await loop.create_connection(Recorder, sock=sock)
        assert transport.get_extra_info("socket").fileno() == number
        transport.close()
        await protocol.lost
        await turns()
        assert sock.fileno() == -1
        with socket.socket() as other:
            assert other.fileno() == number
            sock.close()
            del sock
            other.getsockname()
        peer.close()


# Unix sockets


async def test_unix_connections(loop: Loop, tmp_path: Path) -> None:
    for path in (str(tmp_path / "a"), tmp_path / "b", f"\0whorl-test-{tmp_path.name}"):
        server = await loop.create_unix_server(Echo, path)
        transport, protocol = await loop.create_unix_connection(Recorder, str(path))
        transport.write(b"hello")
        assert await protocol.received(5) == b"hello"
        sock = transport.get_extra_info("socket")
        assert sock.family == socket.AF_UNIX
        assert isinstance(transport, asyncio.Transport)
        transport.close()
        await protocol.lost
        server.close()
        await server.wait_closed()


async def test_unix_connections_of_adopted_sockets(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    transport, protocol = await loop.create_unix_connection(Recorder, sock=ours)
    transport.write(b"x")
    assert await asyncio.to_thread(theirs.recv, 1) == b"x"
    theirs.close()
    assert await protocol.lost is None


async def test_unix_connection_failures(loop: Loop, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await loop.create_unix_connection(Recorder, str(tmp_path / "nothing"))
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "bound"))
        with pytest.raises(ConnectionRefusedError):
            await loop.create_unix_connection(Recorder, str(tmp_path / "bound"))
    with pytest.raises(ValueError, match="path"):
        await loop.create_unix_connection(Recorder)
    with socket.socket() as inet, pytest.raises(ValueError, match="."):
        await loop.create_unix_connection(Recorder, sock=inet)
