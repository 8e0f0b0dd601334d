"""The names of Unix sockets, as ``get_extra_info()`` and ``datagram_received()`` give them."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .support import DatagramRecorder, Recorder, control_xfail, gone, turns, until

Loop = asyncio.AbstractEventLoop

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")


def names(transport: asyncio.BaseTransport) -> tuple[Any, Any]:
    return transport.get_extra_info("sockname"), transport.get_extra_info("peername")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose path leaves most of a socket's name free."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        yield Path(directory)


async def accepted(loop: Loop, name: str, client: socket.socket) -> tuple[Any, Any, Any, Any]:
    """The names that a server's transport and a client's have: the own one and the peer's of each."""
    protocols: list[Recorder] = []

    def make() -> Recorder:
        protocols.append(Recorder())
        return protocols[-1]

    server = await loop.create_unix_server(make, name)
    try:
        client.setblocking(False)
        await loop.sock_connect(client, name)
        transport, protocol = await loop.create_unix_connection(Recorder, sock=client)
        await until(lambda: protocols and protocols[0].transport is not None)
        all_names = (*names(protocols[0].transport), *names(transport))
        transport.close()
        await gone(protocol)
        await gone(protocols[0])
        return all_names
    finally:
        server.close()
        await turns()


async def test_a_client_without_a_name(loop: Loop, short_path: Path) -> None:
    path = str(short_path / "socket")
    assert await accepted(loop, path, socket.socket(socket.AF_UNIX)) == (path, "", "", path)


async def test_a_client_with_a_name(loop: Loop, short_path: Path) -> None:
    path, own = str(short_path / "server"), str(short_path / "client")
    client = socket.socket(socket.AF_UNIX)
    client.bind(own)
    assert await accepted(loop, path, client) == (path, own, own, path)


@pytest.mark.parametrize("length", [106, 107])
async def test_a_path_as_long_as_may_be(loop: Loop, short_path: Path, length: int) -> None:
    path = str(short_path / "x")
    path += "x" * (length - len(path))
    assert await accepted(loop, path, socket.socket(socket.AF_UNIX)) == (path, "", "", path)


@linux_only
async def test_a_path_without_a_nul(loop: Loop, short_path: Path) -> None:
    """One that fills the whole field: the socket module makes none, and other programs may."""
    own = str(short_path / "y")
    own += "y" * (108 - len(own))
    client = socket.socket(socket.AF_UNIX)
    address = socket.AF_UNIX.to_bytes(2, sys.byteorder) + os.fsencode(own)
    assert not ctypes.CDLL(None).bind(client.fileno(), address, len(address))
    path = str(short_path / "server")
    assert await accepted(loop, path, client) == (path, own, own, path)


@linux_only
@pytest.mark.parametrize("own", [b"\0whorl-client-%d" % os.getpid(), b"\0"])
async def test_abstract_names(loop: Loop, own: bytes) -> None:
    name = f"\0whorl-server-{os.getpid()}"
    client = socket.socket(socket.AF_UNIX)
    client.bind(own)
    assert await accepted(loop, name, client) == (name.encode(), own, own, name.encode())


async def test_a_pair_of_streams(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        assert names(transport) == ("", "")
        transport.close()
        await gone(protocol)


async def test_datagram_sockets(loop: Loop, short_path: Path) -> None:
    path, own = str(short_path / "server"), str(short_path / "client")
    transport, served = await loop.create_datagram_endpoint(
        DatagramRecorder, local_addr=path, family=socket.AF_UNIX
    )
    assert names(transport) == (path, None)
    client, protocol = await loop.create_datagram_endpoint(
        DatagramRecorder, remote_addr=path, family=socket.AF_UNIX
    )
    assert names(client) == ("", path)
    client.sendto(b"from none")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as named:
        named.bind(own)
        named.sendto(b"from one", path)
    await until(lambda: len(served.datagrams) == 2)
    assert served.datagrams == [(b"from none", None), (b"from one", own)]
    for ending, its in ((client, protocol), (transport, served)):
        ending.close()
        await gone(its)


@control_xfail("asyncio takes a peer without a name for none, and sends to the address None")
async def test_a_pair_of_datagram_sockets_needs_no_address(loop: Loop) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with theirs:
        theirs.settimeout(10)
        transport, protocol = await loop.create_datagram_endpoint(DatagramRecorder, sock=ours)
        assert names(transport) == ("", "")
        theirs.send(b"question")
        await until(lambda: protocol.datagrams or protocol.lost.done())
        transport.sendto(b"reply")
        await turns()
        assert not protocol.lost.done()
        assert await asyncio.to_thread(theirs.recv, 100) == b"reply"
        transport.close()
        await gone(protocol)


async def test_an_address_given_to_a_pair_of_datagram_sockets(loop: Loop, short_path: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with theirs, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(short_path / "other"))
        other.settimeout(10)
        transport, protocol = await loop.create_datagram_endpoint(DatagramRecorder, sock=ours)
        transport.sendto(b"elsewhere", str(short_path / "other"))
        assert await asyncio.to_thread(other.recv, 100) == b"elsewhere"
        transport.close()
        await gone(protocol)
