"""Names and addresses: what the resolver gets and gives, no thread for numbers, and happy eyeballs."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from typing import Any

import pytest

from .support import Echo, Recorder, listener, turns, until

Loop = asyncio.AbstractEventLoop


def what_happens(call: Any) -> Any:
    """The call's result, or the type and code of what it raises."""
    try:
        return call()
    except Exception as error:
        return type(error), getattr(error, "errno", None)


QUESTIONS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    (("127.0.0.1", 80), {}),
    (("127.0.0.1", 80), {"type": socket.SOCK_STREAM}),
    (("127.0.0.1", 80), {"type": socket.SOCK_DGRAM, "family": socket.AF_INET}),
    (("127.0.0.1", 80), {"proto": socket.IPPROTO_TCP}),
    (("127.0.0.1", "80"), {"type": socket.SOCK_STREAM}),
    (("127.0.0.1", None), {"type": socket.SOCK_STREAM}),
    (("127.0.0.1", "http"), {"type": socket.SOCK_STREAM}),
    ((b"127.0.0.1", b"80"), {"type": socket.SOCK_STREAM}),
    ((None, 80), {"type": socket.SOCK_STREAM, "flags": socket.AI_PASSIVE}),
    (("", 80), {"type": socket.SOCK_STREAM}),
    (("::1", 80), {"type": socket.SOCK_STREAM}),
    (("::1", 80), {"type": socket.SOCK_STREAM, "family": socket.AF_INET}),
    (("127.0.0.1", 80), {"type": socket.SOCK_STREAM, "family": socket.AF_INET6}),
    (("fe80::1%lo", 80), {"type": socket.SOCK_STREAM}),
    (("fe80::1%1", 80), {"type": socket.SOCK_STREAM}),
    (("fe80::1%no-such-interface", 80), {"type": socket.SOCK_STREAM, "flags": socket.AI_NUMERICHOST}),
    (("localhost", 80), {"type": socket.SOCK_STREAM}),
    (("localhost", 80), {"type": socket.SOCK_STREAM, "flags": socket.AI_CANONNAME}),
    (("localhost", 80), {"flags": socket.AI_NUMERICHOST}),
    (("127.0.0.1", "no such service"), {}),
    (("127.0.0.1", 80), {"family": 12345}),
    (("127.0.0.1", 80), {"type": 12345}),
    (("127.1", 80), {"type": socket.SOCK_STREAM}),
    (("0x7f.1", 80), {"type": socket.SOCK_STREAM}),
    (("127.0.0.1", 70000), {"type": socket.SOCK_STREAM}),
    (("a" * 64 + ".invalid", 80), {}),
    (("nul\0l", 80), {"flags": socket.AI_NUMERICHOST}),
    ((1, 80), {}),
    (("127.0.0.1", 1.5), {}),
]


@pytest.mark.parametrize(("arguments", "options"), QUESTIONS, ids=[repr(question) for question in QUESTIONS])
def test_getaddrinfo_returns_the_same_as_the_socket_module(
    loop: Loop, arguments: tuple[Any, ...], options: dict[str, Any]
) -> None:
    expected = what_happens(lambda: socket.getaddrinfo(*arguments, **options))
    assert what_happens(lambda: loop.run_until_complete(loop.getaddrinfo(*arguments, **options))) == expected


def test_getaddrinfo_encodes_international_names(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever resolves it, the name goes out in its ASCII form, or as text for the socket module to
    encode."""
    looked_up: list[Any] = []

    def resolver(host: Any, *arguments: Any, **options: Any) -> Any:
        looked_up.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    loop.run_until_complete(loop.getaddrinfo("bücher.example", 80))
    assert looked_up in (["bücher.example"], ["xn--bcher-kva.example"], [b"xn--bcher-kva.example"])


ADDRESSES: list[tuple[Any, int]] = [
    (("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
    (("127.0.0.1", 80), socket.NI_NUMERICHOST),
    (("::1", 80, 0, 0), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
    (("fe80::1", 80, 0, 1), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
    (("127.0.0.1", 53), socket.NI_NUMERICHOST | socket.NI_DGRAM),
    (("localhost", 80), socket.NI_NUMERICHOST),
    (("127.0.0.1",), 0),
    (("127.0.0.1", "80"), 0),
    ("127.0.0.1", 0),
    ((1, 2), 0),
    (("127.0.0.1", 80, 0, 0, 0), 0),
]


@pytest.mark.parametrize(("address", "flags"), ADDRESSES, ids=repr)
def test_getnameinfo_returns_the_same_as_the_socket_module(loop: Loop, address: Any, flags: int) -> None:
    expected = what_happens(lambda: socket.getnameinfo(address, flags))
    assert what_happens(lambda: loop.run_until_complete(loop.getnameinfo(address, flags))) == expected


async def test_numeric_addresses_take_no_thread(loop: Loop) -> None:
    before = set(threading.enumerate())
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
    endpoint, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, server.sockets[0].getsockname())
    assert set(threading.enumerate()) == before
    transport.close()
    await protocol.lost
    endpoint.close()
    server.close()
    await server.wait_closed()
    await turns(5)


async def test_a_resolver_that_fails(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
        UnicodeError("label too long"),
        ZeroDivisionError("a resolver with a fault"),
    ):

        def resolver(*arguments: Any, error: Exception = error, **options: Any) -> Any:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(socket, "getaddrinfo", resolver)
            with pytest.raises(type(error)) as caught:
                await loop.create_connection(Recorder, "host.example", 80)
            assert getattr(caught.value, "errno", None) == getattr(error, "errno", None)
            with pytest.raises(type(error)):
                await loop.create_server(Recorder, "host.example", 80)
            with pytest.raises(type(error)):
                await loop.create_datagram_endpoint(
                    asyncio.DatagramProtocol, remote_addr=("host.example", 80)
                )
    server = await loop.create_server(Echo, "localhost", 0)
    server.close()
    await server.wait_closed()


async def test_a_resolver_that_finds_nothing(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: [])
    with pytest.raises(OSError, match="empty list"):
        await loop.create_connection(Recorder, "host.example", 80)
    with pytest.raises(OSError, match="empty list"):
        await loop.create_server(Recorder, "host.example", 80)


async def test_cancelling_while_a_name_is_resolved(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    started, finish = threading.Event(), threading.Event()

    def resolver(*arguments: Any, **options: Any) -> Any:
        started.set()
        finish.wait(10)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 9))]

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    task = asyncio.ensure_future(loop.create_connection(Recorder, "host.example", 80))
    await until(started.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    finish.set()
    # What the thread has found comes, and finds no caller.
    await loop.shutdown_default_executor()
    await turns()


# Trying one address after another


def returning(*addresses: Any) -> Any:
    """A resolver that gives these IPv4 addresses in this order."""

    def resolver(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

    return resolver


def refusing() -> Any:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()


async def test_the_next_address_is_tried_when_one_refuses(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listener() as server:
        monkeypatch.setattr(socket, "getaddrinfo", returning(refusing(), server.getsockname()))
        for options in ({}, {"happy_eyeballs_delay": 0.05}, {"happy_eyeballs_delay": 0.05, "interleave": 1}):
            transport, protocol = await loop.create_connection(Recorder, "host.example", 80, **options)  # type: ignore[arg-type]
            assert transport.get_extra_info("peername") == server.getsockname()
            server.accept()[0].close()
            await protocol.lost


async def test_happy_eyeballs_do_not_wait_for_an_address_that_hangs(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listener(backlog=0) as full, listener() as server:
        fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
            fillers.append(filler)
        monkeypatch.setattr(socket, "getaddrinfo", returning(full.getsockname(), server.getsockname()))
        transport, protocol = await loop.create_connection(
            Recorder, "host.example", 80, happy_eyeballs_delay=0.02
        )
        assert transport.get_extra_info("peername") == server.getsockname()
        transport.abort()
        await protocol.lost
        for filler in fillers:
            filler.close()


async def test_cancelling_a_connect_that_hangs_closes_its_socket(loop: Loop) -> None:
    with listener(backlog=0) as full:
        fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
            fillers.append(filler)
        task = asyncio.ensure_future(loop.create_connection(Recorder, *full.getsockname()))
        await turns(5)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for filler in fillers:
            filler.close()
    # Its number is free, and its next owner gets its own events.
    ours, theirs = socket.socketpair()
    with ours, theirs:
        seen = asyncio.Event()
        loop.add_reader(ours, seen.set)
        theirs.send(b"x")
        await seen.wait()
        loop.remove_reader(ours)


async def test_all_addresses_fail(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = refusing(), refusing()
    monkeypatch.setattr(socket, "getaddrinfo", returning(one))
    with pytest.raises(ConnectionRefusedError):
        await loop.create_connection(Recorder, "host.example", 80)
    monkeypatch.setattr(socket, "getaddrinfo", returning(one, two))
    with pytest.raises(OSError, match="."):
        await loop.create_connection(Recorder, "host.example", 80)
    if sys.version_info >= (3, 12):
        with pytest.raises(ExceptionGroup) as caught:
            await loop.create_connection(Recorder, "host.example", 80, all_errors=True)
        assert [type(error) for error in caught.value.exceptions] == [ConnectionRefusedError] * 2


async def test_local_addresses(loop: Loop) -> None:
    with listener() as server:
        transport, protocol = await loop.create_connection(
            Recorder, *server.getsockname(), local_addr=("127.0.0.2", 0)
        )
        assert transport.get_extra_info("sockname")[0] == "127.0.0.2"
        peer, address = server.accept()
        assert address[0] == "127.0.0.2"
        peer.close()
        await protocol.lost
        with pytest.raises(OSError, match="."):
            await loop.create_connection(Recorder, *server.getsockname(), local_addr=("192.0.2.1", 0))


async def test_contradictory_arguments(loop: Loop) -> None:
    with socket.socket() as sock, pytest.raises(ValueError, match="."):
        await loop.create_connection(Recorder, "127.0.0.1", 80, sock=sock)
    with pytest.raises(ValueError, match="."):
        await loop.create_connection(Recorder)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, pytest.raises(ValueError, match="."):
        await loop.create_connection(Recorder, sock=sock)
    with pytest.raises(ValueError, match="."):
        await loop.create_connection(
            Recorder, "127.0.0.1", 80, ssl=True, server_hostname=None, sock=socket.socket
        )  # type: ignore[call-overload]


async def test_a_closed_socket_is_refused(loop: Loop) -> None:
    sock = socket.socket()
    sock.close()
    with pytest.raises((OSError, ValueError)):
        await loop.create_connection(Recorder, sock=sock)
