"""Servers: starting, closing, waiting for clients, and accepting when something is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import LoopErrors, Script
from .support import (
    PATIENCE,
    Echo,
    Recorder,
    control_xfail,
    gone,
    receive_all,
    receive_exactly,
    reset,
    turns,
    until,
)

Loop = asyncio.AbstractEventLoop


class Served:
    """A protocol factory that remembers what it made."""

    def __init__(self, kind: type[Recorder] = Echo) -> None:
        self.kind = kind
        self.protocols: list[Recorder] = []

    def __call__(self) -> Recorder:
        self.protocols.append(self.kind())
        return self.protocols[-1]

    async def count(self, number: int) -> None:
        """Waits until that many connections have been made."""
        await until(lambda: sum("made" in protocol.events for protocol in self.protocols) >= number)

    async def end(self) -> None:
        for protocol in self.protocols:
            if protocol.transport is not None and not protocol.lost.done():
                protocol.transport.abort()
            if protocol.transport is not None:
                await gone(protocol)


def address_of(server: asyncio.Server) -> Any:
    return server.sockets[0].getsockname()


def connect(server: asyncio.Server) -> socket.socket:
    return socket.create_connection(address_of(server), PATIENCE)


async def test_a_server_serves(loop: Loop) -> None:
    served = Served()
    server = await loop.create_server(served, "127.0.0.1", 0)
    assert isinstance(server, asyncio.AbstractServer)
    assert server.is_serving()
    assert server.get_loop() is loop
    assert all(isinstance(sock, asyncio.trsock.TransportSocket) for sock in server.sockets)
    with connect(server) as client:
        client.sendall(b"hello")
        assert await asyncio.to_thread(receive_exactly, client, 5) == b"hello"
        transport = served.protocols[0].transport
        assert isinstance(transport, asyncio.Transport)
        assert transport.get_extra_info("peername") == client.getsockname()
        assert transport.get_extra_info("sockname") == client.getpeername()
    await served.end()
    server.close()
    await server.wait_closed()
    assert not server.is_serving()
    assert tuple(server.sockets) == ()


async def test_a_server_started_later(loop: Loop) -> None:
    server = await loop.create_server(Echo, "127.0.0.1", 0, start_serving=False)
    assert not server.is_serving()
    with pytest.raises(ConnectionRefusedError):
        connect(server)
    await server.start_serving()
    await server.start_serving()
    assert server.is_serving()
    connect(server).close()
    server.close()
    await turns(5)


async def test_async_with_closes(loop: Loop) -> None:
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    async with server as entered:
        assert entered is server
        address = address_of(server)
    assert not server.is_serving()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


async def test_cancelling_serve_forever_closes(loop: Loop) -> None:
    server = await loop.create_server(Echo, "127.0.0.1", 0, start_serving=False)
    address = address_of(server)
    serving = asyncio.ensure_future(server.serve_forever())
    await until(server.is_serving)
    with pytest.raises(RuntimeError, match="already"):
        await server.serve_forever()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert not server.is_serving()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    with pytest.raises(RuntimeError, match="closed"):
        await server.serve_forever()


async def test_closing_ends_serve_forever(loop: Loop) -> None:
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    serving = asyncio.ensure_future(server.serve_forever())
    await turns()
    server.close()
    server.close()
    with pytest.raises(asyncio.CancelledError):
        await serving


async def test_closing_refuses_new_connections_and_keeps_the_old(loop: Loop) -> None:
    served = Served()
    server = await loop.create_server(served, "127.0.0.1", 0)
    address = address_of(server)
    with connect(server) as client:
        await served.count(1)
        server.close()
        await turns()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        client.sendall(b"still here")
        assert await asyncio.to_thread(receive_exactly, client, 10) == b"still here"
    await served.end()
    await server.wait_closed()


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="wait_closed waits for the clients from Python 3.12 on"
)
async def test_wait_closed_waits_for_the_clients(loop: Loop) -> None:
    served = Served()
    server = await loop.create_server(served, "127.0.0.1", 0)
    with connect(server) as client:
        await served.count(1)
        server.close()
        waiting = asyncio.ensure_future(server.wait_closed())
        await turns()
        assert not waiting.done()
        client.shutdown(socket.SHUT_WR)
        await waiting
        assert served.protocols[0].lost.done()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="wait_closed waits for close() from Python 3.12 on")
async def test_wait_closed_before_close_waits(loop: Loop) -> None:
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    waiting = asyncio.ensure_future(server.wait_closed())
    await turns()
    if sys.version_info >= (3, 12, 1):
        assert not waiting.done()
    server.close()
    await waiting
    await server.wait_closed()


@control_xfail("Server.close_clients is new in Python 3.13", below=(3, 13))
async def test_close_clients_flushes_and_closes(loop: Loop) -> None:
    served = Served()
    server = await loop.create_server(served, "127.0.0.1", 0)
    clients = [connect(server) for _ in range(5)]
    await served.count(5)
    for protocol in served.protocols:
        protocol.transport.write(b"x" * 5_000_000)
    server.close()
    server.close_clients()
    for client in clients:
        assert len(await asyncio.to_thread(receive_all, client)) == 5_000_000
        client.close()
    await server.wait_closed()
    assert [await protocol.lost for protocol in served.protocols] == [None] * 5


@control_xfail("Server.abort_clients is new in Python 3.13", below=(3, 13))
async def test_abort_clients_drops_at_once(loop: Loop) -> None:
    served = Served()
    server = await loop.create_server(served, "127.0.0.1", 0)
    clients = [connect(server) for _ in range(5)]
    await served.count(5)
    for protocol in served.protocols:
        protocol.transport.write(b"x" * 50_000_000)
    server.close()
    server.abort_clients()
    await server.wait_closed()
    assert [await protocol.lost for protocol in served.protocols] == [None] * 5
    for client in clients:
        with contextlib.suppress(ConnectionResetError):
            assert len(await asyncio.to_thread(receive_all, client)) < 50_000_000
        client.close()


@control_xfail("Server.close_clients is new in Python 3.13", below=(3, 13))
async def test_close_clients_without_clients_and_after_they_left(loop: Loop) -> None:
    served = Served()
    server = await loop.create_server(served, "127.0.0.1", 0)
    server.close_clients()
    server.abort_clients()
    connect(server).close()
    await served.count(1)
    await served.protocols[0].lost
    server.close_clients()
    server.abort_clients()
    server.close()
    await server.wait_closed()


async def test_many_hosts_and_an_adopted_socket(loop: Loop) -> None:
    server = await loop.create_server(Echo, ["127.0.0.1", "127.0.0.2"], 0)
    assert {sock.getsockname()[0] for sock in server.sockets} == {"127.0.0.1", "127.0.0.2"}
    server.close()
    await server.wait_closed()

    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    address = sock.getsockname()
    server = await loop.create_server(Echo, sock=sock)
    socket.create_connection(address).close()
    await turns(5)
    server.close()
    await server.wait_closed()
    await turns()


async def test_every_interface(loop: Loop) -> None:
    server = await loop.create_server(Echo, None, 0)
    assert server.sockets
    server.close()
    await server.wait_closed()


async def test_addresses_that_cannot_be_had(loop: Loop) -> None:
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    with pytest.raises(OSError, match="address already in use"):
        await loop.create_server(Echo, *address_of(server))
    server.close()
    await server.wait_closed()
    with pytest.raises(OSError, match="."):
        await loop.create_server(Echo, "192.0.2.1", 0)


async def test_contradictory_arguments(loop: Loop) -> None:
    with socket.socket() as sock, pytest.raises(ValueError, match="."):
        await loop.create_server(Echo, "127.0.0.1", 0, sock=sock)
    with pytest.raises(ValueError, match="."):
        await loop.create_server(Echo)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, pytest.raises(ValueError, match="."):
        await loop.create_server(Echo, sock=sock)
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(ValueError, match="."):
        await loop.create_unix_server(Echo, "path", sock=sock)
    with pytest.raises(ValueError, match="."):
        await loop.create_unix_server(Echo)


async def test_reuse_port_shares_a_port(loop: Loop) -> None:
    first = await loop.create_server(Echo, "127.0.0.1", 0, reuse_port=True)
    second = await loop.create_server(Echo, *address_of(first), reuse_port=True)
    assert address_of(first) == address_of(second)
    for server in (first, second):
        server.close()
        await server.wait_closed()


async def test_reuse_address_is_on_by_default(loop: Loop) -> None:
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    assert server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    server.close()
    await server.wait_closed()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="keep_alive is new in Python 3.13")
@pytest.mark.parametrize("wanted", [True, False, None])
async def test_keep_alive(loop: Loop, wanted: bool | None) -> None:
    served = Served()
    server = await loop.create_server(served, "127.0.0.1", 0, keep_alive=wanted)  # type: ignore[call-overload]
    with connect(server):
        await served.count(1)
        sock = served.protocols[0].transport.get_extra_info("socket")
        assert bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) == bool(wanted)
    await served.end()
    server.close()
    await server.wait_closed()


async def test_a_burst_of_connections(loop: Loop) -> None:
    served = Served()
    server = await loop.create_server(served, "127.0.0.1", 0, backlog=500)
    clients = [connect(server) for _ in range(300)]
    for number, client in enumerate(clients):
        client.sendall(b"%03d" % number)
    await until(lambda: sum(bool(protocol.data) for protocol in served.protocols) == 300)
    for number, client in enumerate(clients):
        assert receive_exactly(client, 3) == b"%03d" % number
        client.close()
    for protocol in served.protocols:
        await protocol.lost
    server.close()
    await server.wait_closed()


async def test_accepted_sockets_do_not_block_and_are_not_inherited(loop: Loop) -> None:
    served = Served()
    server = await loop.create_server(served, "127.0.0.1", 0)
    with connect(server):
        await served.count(1)
        for fd in (
            served.protocols[0].transport.get_extra_info("socket").fileno(),
            server.sockets[0].fileno(),
        ):
            assert not os.get_inheritable(fd)
            assert not os.get_blocking(fd)
    await served.end()
    server.close()
    await server.wait_closed()


# Faults


@control_xfail("asyncio says so in debug mode alone, and leaves the socket to the collector")
async def test_a_protocol_factory_that_raises_costs_its_connection_alone(
    loop: Loop, loop_errors: LoopErrors
) -> None:
    fail = True
    error = ZeroDivisionError("in the factory")
    good = Served()

    def factory() -> Recorder:
        if fail:
            raise error
        return good()

    server = await loop.create_server(factory, "127.0.0.1", 0)
    with connect(server) as client:
        client.settimeout(2)
        assert await asyncio.to_thread(receive_all, client) == b""
    context = loop_errors.take()
    assert context["exception"] is error
    fail = False
    with connect(server) as client:
        client.sendall(b"x")
        assert await asyncio.to_thread(receive_exactly, client, 1) == b"x"
    await good.end()
    server.close()
    await asyncio.wait_for(server.wait_closed(), PATIENCE)


@control_xfail("asyncio leaves the socket to the collector", strict=False)
async def test_a_protocol_factory_that_raises_fails_create_connection(loop: Loop) -> None:
    server = await loop.create_server(Echo, "127.0.0.1", 0, start_serving=True)

    def fail() -> Recorder:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await loop.create_connection(fail, *address_of(server))
    await turns(5)
    server.close()
    await server.wait_closed()
    await turns(5)


@control_xfail("asyncio says so in debug mode alone")
async def test_a_factory_that_makes_no_protocol_is_reported(loop: Loop, loop_errors: LoopErrors) -> None:
    server = await loop.create_server(lambda: None, "127.0.0.1", 0)  # type: ignore[arg-type, return-value]
    client = connect(server)
    await turns(10)
    assert loop_errors
    client.close()
    await turns(10)
    assert all(isinstance(context["exception"], (AttributeError, TypeError)) for context in loop_errors)
    loop_errors.clear()
    server.close()
    if hasattr(server, "abort_clients"):
        server.abort_clients()
    await turns(5)
    loop_errors.clear()


async def test_connections_reset_before_they_are_accepted(loop: Loop) -> None:
    served = Served()
    server = await loop.create_server(served, "127.0.0.1", 0)
    for _ in range(20):
        reset(connect(server))
    with connect(server) as client:
        client.sendall(b"x")
        assert await asyncio.to_thread(receive_exactly, client, 1) == b"x"
    await served.end()
    server.close()
    await server.wait_closed()


async def test_closing_the_server_from_a_protocol(loop: Loop) -> None:
    class Closes(Echo):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            server.close()

    served = Served(Closes)
    server = await loop.create_server(served, "127.0.0.1", 0)
    clients = [connect(server) for _ in range(3)]
    await served.count(1)
    assert not server.is_serving()
    await served.end()
    for client in clients:
        client.close()
    await turns(5)
    await served.end()


EMFILE_SERVER = """
import resource

async def main():
    loop = asyncio.get_running_loop()
    messages = []
    loop.set_exception_handler(lambda loop, context: messages.append(context["message"]))

    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
        def data_received(self, data):
            self.transport.write(data)

    server = await loop.create_server(Echo, "127.0.0.1", 0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    print(server.sockets[0].getsockname()[1], flush=True)
    while not messages:
        await asyncio.sleep(0.01)
    before = time.process_time()
    await asyncio.sleep(0.5)
    print(messages[0], flush=True)
    print(time.process_time() - before, flush=True)
    await asyncio.sleep(3600)

run(main())
"""


async def test_emfile_while_accepting_backs_off_and_recovers(loop: Loop, script: Script) -> None:
    """The process runs out of descriptors: the server says so, does not spin, and continues when there are
    some again."""
    process = script.start(EMFILE_SERVER)
    assert process.stdout is not None
    port = int(process.stdout.readline())
    clients = [socket.create_connection(("127.0.0.1", port), PATIENCE) for _ in range(60)]
    message = process.stdout.readline()
    assert "out of system resource" in message, message
    used = float(process.stdout.readline())
    assert used < 0.25, f"{used} s of CPU in 0.5 s: the server spins"
    # The first ones are served all along.
    clients[0].sendall(b"first")
    assert receive_exactly(clients[0], 5) == b"first"
    for client in clients[:40]:
        client.close()
    for client in clients[40:]:
        client.sendall(b"x")
    for client in clients[40:]:
        assert receive_exactly(client, 1) == b"x"
        client.close()
    assert process.poll() is None


# Unix-domain servers


async def test_a_unix_server_replaces_a_stale_socket(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    server = await loop.create_unix_server(Echo, path)
    assert stat.S_ISSOCK(path.stat().st_mode)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    await turns(5)
    server.close()
    await server.wait_closed()


async def test_a_unix_server_does_not_replace_what_is_no_socket(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(OSError, match="already in use"):
        await loop.create_unix_server(Echo, path)
    assert path.read_text() == "precious"


@pytest.mark.skipif(sys.version_info < (3, 13), reason="the path is removed on closing from Python 3.13 on")
async def test_a_unix_path_is_removed_on_closing(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = await loop.create_unix_server(Echo, path)
    assert path.exists()
    server.close()
    assert not path.exists()
    await server.wait_closed()

    server = await loop.create_unix_server(Echo, path, cleanup_socket=False)  # type: ignore[call-arg]
    server.close()
    assert path.exists()
    await server.wait_closed()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="the path is removed on closing from Python 3.13 on")
async def test_a_unix_path_that_is_someone_elses_by_now_stays(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = await loop.create_unix_server(Echo, path)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        server.close()
        assert path.exists()
    await server.wait_closed()
