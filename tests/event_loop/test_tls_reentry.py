"""What OpenSSL calls may use its own connection, and other threads may call the SSL object.

Message callbacks and server name callbacks are Python that runs within a handshake, a read or a write.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from .certificates import Certificates
from .support import BufferedRecorder, Recorder, gone, turns, until, whorl_only
from .tls_support import ENGINES, address_of, tls_client, tls_pair, tls_server

Loop = asyncio.AbstractEventLoop

pytestmark = [
    whorl_only,
    pytest.mark.usefixtures("engine"),
    pytest.mark.parametrize("engine", ENGINES, indirect=True),
]


class MessageCallback:
    """A client's context whose message callback does ``act()`` once, when it is armed."""

    def __init__(self, certificates: Certificates) -> None:
        self.context = certificates.client()
        self.acts: list[Callable[[], Any]] = []
        self.direction = ""
        self.calls = 0
        self.failed: list[BaseException] = []
        # Private to the ssl module, but what Wireshark's users and CPython's own tests have.
        self.context._msg_callback = self.called  # type: ignore[attr-defined]

    def arm(self, direction: str, act: Callable[[], Any]) -> None:
        self.direction = direction
        self.acts.append(act)

    def called(self, _connection: Any, direction: str, *_rest: Any) -> None:
        if direction == self.direction and self.acts:
            self.calls += 1
            try:
                self.acts.pop()()
            except BaseException as error:
                self.failed.append(error)


directions = pytest.mark.parametrize("direction", ["read", "write"])


async def exchange(transport: Any, protocol: Any) -> None:
    """Has both a read and a write of ciphertext happen."""
    before = len(protocol.data)
    transport.write(b"ping")
    await until(lambda: len(protocol.data) >= before + 4 or protocol.lost.done())


@directions
@pytest.mark.parametrize("call", ["write", "writelines"])
async def test_a_message_callback_may_write(
    loop: Loop, certificates: Certificates, direction: str, call: str
) -> None:
    callback = MessageCallback(certificates)
    async with (
        tls_server(certificates) as (server, _),
        tls_client(address_of(server), certificates, ssl=callback.context) as (transport, protocol),
    ):
        await exchange(transport, protocol)
        argument = b"[from the callback]" if call == "write" else [b"[from the ", b"callback]"]
        callback.arm(direction, lambda: getattr(transport, call)(argument))
        await exchange(transport, protocol)
        data = await protocol.received(8 + 19)
        assert sorted(data) == sorted(b"pingping[from the callback]")
        assert b"[from the callback]" in data, "it is written whole"
        assert callback.calls == 1
        assert not callback.failed


async def test_what_a_message_callback_writes_comes_before_what_is_written_later(
    loop: Loop, certificates: Certificates
) -> None:
    callback = MessageCallback(certificates)
    async with (
        tls_server(certificates) as (server, _),
        tls_client(address_of(server), certificates, ssl=callback.context) as (transport, protocol),
    ):
        await exchange(transport, protocol)
        callback.arm("write", lambda: transport.write(b"2"))
        transport.write(b"1")
        transport.write(b"3")
        transport.writelines([b"4", b"5"])
        assert (await protocol.received(9))[4:] == b"12345"


async def test_a_message_callback_that_always_writes_does_not_stop_the_loop(
    loop: Loop, certificates: Certificates
) -> None:
    callback = MessageCallback(certificates)
    async with (
        tls_server(certificates) as (server, _),
        tls_client(address_of(server), certificates, ssl=callback.context) as (transport, protocol),
    ):
        await exchange(transport, protocol)

        written = 0

        def write_again() -> None:
            nonlocal written
            if written < 20:
                written += 1
                # Once a turn: OpenSSL has several messages for a record.
                loop.call_soon(callback.arm, "write", write_again)
                transport.write(b"again")

        callback.arm("write", write_again)
        rounds = 0
        while written < 20:
            rounds += 1
            transport.write(b"start")
            await asyncio.sleep(0)
        data = await protocol.received(4 + 5 * (rounds + written))
        assert data.count(b"again") == 20
        transport.abort()
        await gone(protocol)


@directions
async def test_a_message_callback_may_close(loop: Loop, certificates: Certificates, direction: str) -> None:
    callback = MessageCallback(certificates)
    async with (
        tls_server(certificates) as (server, protocols),
        tls_client(address_of(server), certificates, ssl=callback.context) as (transport, protocol),
    ):
        await exchange(transport, protocol)
        seen: list[bool] = []

        def close() -> None:
            transport.write(b"last")
            transport.close()
            transport.write(b"too late")
            seen.append(transport.is_closing())

        callback.arm(direction, close)
        await exchange(transport, protocol)
        await gone(protocol)
        assert await protocol.lost is None
        assert seen == [True]
        assert protocol.lost_count == 1
        await gone(protocols[0])
        assert await protocols[0].lost is None, "the peer has had its close_notify"
        assert bytes(protocols[0].data) == b"pingpinglast"
        assert not callback.failed


@directions
@pytest.mark.parametrize("when", ["handshake", "data"])
async def test_a_message_callback_may_abort(
    loop: Loop, certificates: Certificates, direction: str, when: str
) -> None:
    callback = MessageCallback(certificates)
    made: list[Recorder] = []

    def make() -> Recorder:
        made.append(Recorder())
        return made[-1]

    async with tls_server(certificates) as (server, _):
        if when == "handshake":
            transports: list[Any] = []

            def abort_handshake() -> None:
                transports[0].abort()

            original = loop._make_ssl_transport  # type: ignore[attr-defined]

            def make_ssl_transport(*arguments: Any, **options: Any) -> Any:
                transports.append(original(*arguments, **options))
                return transports[-1]

            loop._make_ssl_transport = make_ssl_transport  # type: ignore[attr-defined]
            callback.arm(direction, abort_handshake)
            with pytest.raises(ConnectionAbortedError):
                await loop.create_connection(
                    make, *address_of(server), ssl=callback.context, server_hostname="localhost"
                )
            assert made[0].events == []
        else:
            transport, protocol = await loop.create_connection(
                make, *address_of(server), ssl=callback.context, server_hostname="localhost"
            )
            await exchange(transport, protocol)
            callback.arm(direction, transport.abort)
            await exchange(transport, protocol)
            await gone(protocol)
            assert protocol.lost_count == 1
            assert bytes(protocol.data) == b"ping", "nothing comes after abort()"
        assert callback.calls == 1
        assert not callback.failed
        await turns(5)


async def test_a_message_callback_may_set_another_protocol(loop: Loop, certificates: Certificates) -> None:
    for buffered in (False, True):
        callback = MessageCallback(certificates)
        async with tls_server(certificates) as (server, _):
            transport, first = await loop.create_connection(
                Recorder, *address_of(server), ssl=callback.context, server_hostname="localhost"
            )
            await exchange(transport, first)
            second: Any = BufferedRecorder(3) if buffered else Recorder()
            callback.arm("read", functools.partial(transport.set_protocol, second))
            transport.write(b"for the second")
            assert await second.received(14) == b"for the second"
            assert bytes(first.data) == b"ping"
            transport.abort()
            await second.lost
            assert not callback.failed


async def test_a_message_callback_may_call_every_method(loop: Loop, certificates: Certificates) -> None:
    callback = MessageCallback(certificates)
    async with (
        tls_server(certificates) as (server, _),
        tls_client(address_of(server), certificates, ssl=callback.context) as (transport, protocol),
    ):
        await exchange(transport, protocol)

        def query() -> None:
            assert transport.get_write_buffer_size() >= 0
            assert transport.get_read_buffer_size() >= 0
            assert not transport.is_closing()
            transport.pause_reading()
            transport.resume_reading()
            transport.set_write_buffer_limits(high=100)
            assert "TlsTransport" in repr(transport)

        for direction in ("read", "write"):
            callback.arm(direction, query)
            await exchange(transport, protocol)
        assert callback.calls == 2
        assert not callback.failed


async def test_a_server_name_callback_may_end_the_connection(loop: Loop, certificates: Certificates) -> None:
    transports: list[Any] = []
    failed: list[BaseException] = []
    context = certificates.server()

    def named(ssl_object: Any, name: str | None, _context: ssl.SSLContext) -> None:
        try:
            for transport in transports:
                transport.write(b"before the handshake is over")
                transport.abort()
        except BaseException as error:
            failed.append(error)

    context.sni_callback = named
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    waiter, protocol = loop.create_future(), Recorder()
    make: Any = loop._make_ssl_transport  # type: ignore[attr-defined]
    transports.append(make(theirs, protocol, context, waiter, server_side=True))
    with pytest.raises((ConnectionError, ssl.SSLError)):
        await loop.create_connection(
            Recorder, sock=ours, ssl=certificates.client(), server_hostname="localhost"
        )
    with pytest.raises(ConnectionAbortedError):
        await waiter
    assert protocol.events == []
    assert not failed
    await turns(5)


async def test_another_thread_may_call_the_ssl_object_while_data_flows(
    loop: Loop, certificates: Certificates
) -> None:
    async with tls_pair(certificates) as pair:
        # With it the session tickets have come: to `ssl` they are a handshake for a moment.
        await pair.peer_sends(b"ping")
        await pair.protocol.received(4)
        pair.protocol.data.clear()
        ssl_object = pair.transport.get_extra_info("ssl_object")
        expected = ssl_object.getpeercert()
        stop = threading.Event()
        queries = 0
        wrong: list[Any] = []

        def query() -> None:
            nonlocal queries
            while not stop.is_set():
                if ssl_object.getpeercert() != expected or not (ssl_object.version() and ssl_object.cipher()):
                    wrong.append(queries)
                ssl_object.pending()
                queries += 1
                # Without a pause the thread releases the interpreter lock for an instant only, and the
                # machine decides when another thread gets it.
                time.sleep(0.0001)

        def echo() -> None:
            left = 400_000
            while left:
                data = pair.peer.recv(min(left, 65536))
                pair.peer.sendall(data)
                left -= len(data)

        querying = asyncio.ensure_future(asyncio.to_thread(query))
        try:
            echoing = asyncio.ensure_future(asyncio.to_thread(echo))
            for _ in range(100):
                pair.transport.write(b"x" * 4000)
                await asyncio.sleep(0)
            assert await pair.protocol.received(400_000) == b"x" * 400_000
            await echoing
            await until(lambda: queries)
        finally:
            stop.set()
        await querying
        assert not wrong
