"""The first write of a turn is sent at once, the others when the turn ends or at ``drain()``.

The peers here receive while the loop stands still, in the middle of the step that has written.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from .certificates import Certificates
from .conftest import Script
from .support import PATIENCE, Pair, Recorder, gone, receive_exactly, turns, whorl_only
from .tls_support import tls_pair

Loop = asyncio.AbstractEventLoop


@contextlib.asynccontextmanager
async def unix_pair(
    factory: Callable[[], Any] = Recorder, kind: int = socket.SOCK_STREAM
) -> AsyncIterator[Pair]:
    """A connection over a socket pair; with SOCK_SEQPACKET the peer sees each system call as one message."""
    loop: Any = asyncio.get_running_loop()
    ours, peer = socket.socketpair(socket.AF_UNIX, kind)
    ours.setblocking(False)
    peer.settimeout(PATIENCE)
    protocol, connected = factory(), loop.create_future()
    # `create_connection(sock=…)` takes streams only.
    transport = loop._make_socket_transport(ours, protocol, connected)
    await connected
    try:
        yield Pair(transport, protocol, peer)
    finally:
        peer.close()
        if not protocol.lost.done():
            transport.abort()
            await gone(protocol)
        await turns()


def arrived(peer: socket.socket) -> bytes:
    """What the peer has by now."""
    peer.setblocking(False)
    try:
        return peer.recv(1 << 16)
    except BlockingIOError:
        return b""
    finally:
        peer.settimeout(PATIENCE)


async def test_a_write_is_sent_before_the_step_continues(loop: Loop) -> None:
    async with unix_pair() as pair:
        for _ in range(3):
            pair.transport.write(b"first")
            assert arrived(pair.peer) == b"first"
            assert pair.transport.get_write_buffer_size() == 0
            await asyncio.sleep(0)


async def test_writelines_are_sent_before_the_step_continues(loop: Loop) -> None:
    async with unix_pair() as pair:
        pair.transport.writelines([b"one ", bytearray(b"two "), b"", memoryview(b"three")])
        assert arrived(pair.peer) == b"one two three"


@pytest.mark.parametrize("callback", ["connection_made", "data_received", "eof_received", "connection_lost"])
async def test_what_a_protocol_writes_is_sent_before_its_method_returns(loop: Loop, callback: str) -> None:
    seen: list[bytes] = []
    peers: list[socket.socket] = []

    class Replies(Recorder):
        def reply(self, name: str, transport: Any) -> None:
            if name == callback:
                transport.write(b"answer")
                seen.append(arrived(peers[0]))

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.reply("connection_made", transport)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.reply("data_received", self.transport)

        def eof_received(self) -> bool | None:
            self.reply("eof_received", self.transport)
            return super().eof_received()

        def connection_lost(self, exc: BaseException | None) -> None:
            super().connection_lost(exc)
            self.reply("connection_lost", self.transport)

    ours, peer = socket.socketpair()
    with peer:
        peers.append(peer)
        _, protocol = await loop.create_connection(Replies, sock=ours)
        peer.sendall(b"question")
        await protocol.received(8)
        peer.shutdown(socket.SHUT_WR)
        await gone(protocol)
        # The last one comes too late: it is dropped.
        assert seen == [b"" if callback == "connection_lost" else b"answer"]


@whorl_only
async def test_what_follows_in_the_turn_is_one_system_call(loop: Loop) -> None:
    async with unix_pair(kind=socket.SOCK_SEQPACKET) as pair:
        for _ in range(3):
            for piece in (b"a", b"b", b"c", b"d"):
                pair.transport.write(piece)
            assert arrived(pair.peer) == b"a"
            assert arrived(pair.peer) == b""
            assert pair.transport.get_write_buffer_size() == 3
            await asyncio.sleep(0)
            assert arrived(pair.peer) == b"bcd"
            assert pair.transport.get_write_buffer_size() == 0
        pair.transport.writelines([b"e", b"f"])
        assert arrived(pair.peer) == b"ef"
        pair.transport.write(b"g")
        pair.transport.set_write_buffer_limits(high=2)
        pair.transport.write(b"hi")
        assert arrived(pair.peer) == b"ghi", "more than the high-water mark does not wait"


async def test_drain_sends_what_was_written(loop: Loop) -> None:
    """It returns without giving the loop a turn: what it does not send may never be."""
    ours, peer = socket.socketpair()
    with peer:
        _, writer = await asyncio.open_connection(sock=ours)
        for number in range(5):
            writer.write(b"one ")
            writer.write(b"two ")
            writer.writelines([b"three ", b"four"])
            await writer.drain()
            assert receive_exactly(peer, 18) == b"one two three four", number
        writer.close()
        await writer.wait_closed()


async def test_drain_sends_under_tls(loop: Loop, certificates: Certificates) -> None:
    async with tls_pair(certificates) as pair:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        writer = asyncio.StreamWriter(pair.transport, protocol, reader, loop)
        for _ in range(3):
            writer.write(b"one ")
            writer.write(b"two ")
            await writer.drain()
            # In this thread: the loop stands still.
            assert receive_exactly(pair.peer, 8) == b"one two "


@pytest.mark.parametrize("call", ["write", "writelines"])
async def test_a_write_under_tls_is_sent_before_the_step_continues(
    loop: Loop, certificates: Certificates, call: str
) -> None:
    async with tls_pair(certificates) as pair:
        for _ in range(3):
            if call == "write":
                pair.transport.write(b"first")
            else:
                pair.transport.writelines([b"fi", b"rst"])
            assert receive_exactly(pair.peer, 5) == b"first"
            await turns(1)


@pytest.mark.parametrize("how", ["abort", "close", "write_eof"])
async def test_what_was_written_in_a_turn_is_sent_before_the_end(loop: Loop, how: str) -> None:
    async with unix_pair() as pair:
        pair.transport.write(b"first ")
        pair.transport.write(b"second")
        getattr(pair.transport, how)()
        assert arrived(pair.peer) == b"first second"


async def test_what_was_written_under_tls_is_sent_before_an_abort(
    loop: Loop, certificates: Certificates
) -> None:
    async with tls_pair(certificates) as pair:
        pair.transport.write(b"first ")
        pair.transport.write(b"second")
        pair.transport.abort()
        assert await asyncio.to_thread(receive_exactly, pair.peer, 12) == b"first second"


async def test_an_error_of_the_first_write_is_not_raised(loop: Loop) -> None:
    async with unix_pair() as pair:
        pair.peer.close()
        pair.transport.write(b"to no peer")
        pair.transport.write(b"dropped")
        assert pair.transport.is_closing()
        assert pair.protocol.events == ["made"], "connection_lost() comes in a turn of its own"
        await gone(pair.protocol)
        assert isinstance(await pair.protocol.lost, BrokenPipeError)
        assert pair.protocol.events == ["made", "lost"]


async def test_pause_writing_is_called_by_the_write_that_is_too_much(loop: Loop) -> None:
    async with unix_pair() as pair:
        pair.transport.write(b"x" * 10_000_000)
        assert pair.protocol.events == ["made", "pause"]
        reading = asyncio.ensure_future(pair.peer_receives(10_000_000))
        await reading
        await turns(3)
        assert pair.protocol.events == ["made", "pause", "resume"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_was_written_is_sent_though_an_exception_ends_the_run(
    loop: Loop, error: type[BaseException]
) -> None:
    ours, peer = socket.socketpair()

    def write_and_leave(transport: asyncio.WriteTransport) -> None:
        transport.write(b"first ")
        transport.write(b"second")
        raise error

    with peer:
        transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
        loop.call_soon(write_and_leave, transport)
        with pytest.raises(error):
            loop.run_forever()
        assert arrived(peer) == b"first second"
        transport.close()
        loop.run_until_complete(turns())


async def test_pipes_and_datagrams_are_sent_before_the_step_continues(loop: Loop) -> None:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ours, peer = socket.socketpair()
    with receiver, peer:
        receiver.bind(("127.0.0.1", 0))
        datagrams, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=receiver.getsockname()
        )
        pipe, _ = await loop.connect_write_pipe(asyncio.Protocol, ours.makefile("wb", 0))
        ours.close()
        for _ in range(2):
            datagrams.sendto(b"datagram")
            pipe.write(b"pipe")
            for end, data in ((receiver, b"datagram"), (peer, b"pipe")):
                assert select.select([end], [], [], PATIENCE)[0]
                assert arrived(end) == data
        datagrams.close()
        pipe.close()
        await turns()


ENDINGS = {
    "exit": "os._exit(0)",
    "exec": 'os.execv("/bin/true", ["true"])',
    "kill": "os.kill(os.getpid(), signal.SIGKILL)",
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("pieces", [1, 3])
def test_what_was_drained_survives_the_end_of_the_process(script: Script, ending: str, pieces: int) -> None:
    script.run(
        f"""
        ours, peer = socket.socketpair()
        if os.fork() == 0:
            peer.close()

            async def main():
                _, writer = await asyncio.open_connection(sock=ours)
                for _ in range({pieces}):
                    writer.write(b"restarting ")
                await writer.drain()
                {ENDINGS[ending]}

            run(main())
        ours.close()
        os.wait()
        received = b""
        while data := peer.recv(100):
            received += data
        assert received == b"restarting " * {pieces}, received
        """,
        watchdog=False,
    )


def test_a_child_does_not_send_what_its_parent_has_written(script: Script) -> None:
    script.run(
        """
        ours, peer = socket.socketpair()

        async def main():
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
            transport.write(b"one ")
            transport.write(b"two")
            if os.fork() == 0:
                return "child"
            await asyncio.sleep(0)
            transport.close()
            await asyncio.sleep(0)
            os.wait()
            return "parent"

        loop = new_event_loop()
        if loop.run_until_complete(main()) == "child":
            os._exit(0)
        loop.close()
        received = b""
        while data := peer.recv(100):
            received += data
        assert received == b"one two", received
        """,
        watchdog=False,
    )
