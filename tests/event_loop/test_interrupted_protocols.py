"""KeyboardInterrupt and SystemExit out of a protocol: they end the loop's run, not the connection."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .support import (
    PATIENCE,
    BufferedRecorder,
    DatagramRecorder,
    Recorder,
    control_xfail,
    gone,
    listener,
    turns,
)
from .tls_support import address_of

if TYPE_CHECKING:
    from .certificates import Certificates

Loop = asyncio.AbstractEventLoop


def interrupted(
    loop: Loop, coroutine: Coroutine[Any, Any, Any], error: type[BaseException]
) -> asyncio.Task[Any]:
    """Runs the loop with a task for ``coroutine`` until ``error`` ends the run; returns the task."""
    task = loop.create_task(coroutine)
    with pytest.raises(error):
        loop.run_until_complete(task)
    assert not task.done()
    return task


def run(loop: Loop, coroutine: Coroutine[Any, Any, Any]) -> Any:
    return loop.run_until_complete(asyncio.wait_for(coroutine, PATIENCE))


async def finish(task: asyncio.Task[Any]) -> Any:
    return await task


async def close(protocol: Any) -> None:
    protocol.transport.close()
    await gone(protocol)
    await turns()


@pytest.fixture(params=[KeyboardInterrupt, SystemExit])
def error(request: pytest.FixtureRequest) -> type[BaseException]:
    kind: type[BaseException] = request.param
    return kind


def raising(base: type, error: type[BaseException]) -> type:
    class Raises(base):  # type: ignore[misc]
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            raise error

    return Raises


def test_connection_made_of_a_stream(loop: Loop, error: type[BaseException]) -> None:
    own, peer = socket.socketpair()
    with peer:
        task = interrupted(loop, loop.create_connection(raising(Recorder, error), sock=own), error)
        peer.send(b"hello")
        transport, protocol = run(loop, finish(task))
        assert run(loop, protocol.received(5)) == b"hello"
        transport.write(b"answer")
        run(loop, close(protocol))
        assert peer.recv(100) == b"answer"


def greet_at_once(peer: socket.socket, context: ssl.SSLContext, data: bytes) -> None:
    """Sends data in one piece with the last bytes of the client's handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    while True:
        try:
            client.do_handshake()
            break
        except ssl.SSLWantReadError:
            peer.sendall(outgoing.read())
            incoming.write(peer.recv(65536))
    client.write(data)
    peer.sendall(outgoing.read())


@pytest.mark.parametrize(
    "family",
    [
        "TCP",
        "Unix",
        "TLS",
        pytest.param(
            "TLS in one segment",
            marks=control_xfail("asyncio leaves what came with the handshake's end", run=False),
        ),
    ],
)
def test_connection_made_of_an_accepted_connection(
    loop: Loop, error: type[BaseException], tmp_path: Path, request: pytest.FixtureRequest, family: str
) -> None:
    protocols: list[Any] = []

    def make() -> Any:
        protocols.append(raising(Recorder, error)())
        return protocols[-1]

    certificates: Certificates = request.getfixturevalue("certificates")
    interruption = threading.Event()
    peer = socket.socket(socket.AF_UNIX if family == "Unix" else socket.AF_INET)
    peer.settimeout(PATIENCE)
    with peer:
        if family == "Unix":
            server = run(loop, loop.create_unix_server(make, str(tmp_path / "socket")))
            peer.connect(str(tmp_path / "socket"))
        else:
            context = certificates.server() if family.startswith("TLS") else None
            server = run(loop, loop.create_server(make, "127.0.0.1", 0, ssl=context))
            peer.connect(address_of(server))
        encrypted: list[Any] = [peer]

        def greet() -> None:
            if family == "TLS in one segment":
                greet_at_once(peer, certificates.client(), b"hello")
                return
            if family == "TLS":
                encrypted[0] = certificates.client().wrap_socket(peer, server_hostname="localhost")
                # Not with the end of the handshake: that is the case of one segment.
                assert interruption.wait(PATIENCE)
            encrypted[0].sendall(b"hello")

        greeting = threading.Thread(target=greet)
        greeting.start()
        interrupted(loop, asyncio.sleep(PATIENCE), error).cancel()
        interruption.set()
        (protocol,) = protocols
        assert run(loop, protocol.received(5)) == b"hello"
        greeting.join()
        protocol.transport.abort()
        run(loop, close(protocol))
        server.close()
        encrypted[0].close()


def test_connection_made_of_a_datagram_transport(loop: Loop, error: type[BaseException]) -> None:
    making = loop.create_datagram_endpoint(raising(DatagramRecorder, error), local_addr=("127.0.0.1", 0))
    transport, protocol = run(loop, finish(interrupted(loop, making, error)))

    async def received() -> None:
        while not protocol.datagrams:
            await asyncio.sleep(0.001)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.sendto(b"hello", transport.get_extra_info("sockname"))
        run(loop, received())
    assert protocol.datagrams[0][0] == b"hello"
    run(loop, close(protocol))


def test_connection_made_of_pipes(loop: Loop, error: type[BaseException]) -> None:
    read, write = (os.fdopen(fd, mode, 0) for fd, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
    reading = interrupted(loop, loop.connect_read_pipe(raising(Recorder, error), read), error)
    writing = interrupted(loop, loop.connect_write_pipe(raising(Recorder, error), write), error)
    _, reader = run(loop, finish(reading))
    transport, writer = run(loop, finish(writing))
    transport.write(b"hello")
    assert run(loop, reader.received(5)) == b"hello"
    run(loop, close(writer))
    run(loop, close(reader))


@control_xfail("asyncio never wakes create_connection()", run=False)
def test_connection_made_of_a_client_under_tls(
    loop: Loop, error: type[BaseException], certificates: Certificates
) -> None:
    with listener() as server:

        def serve() -> None:
            peer = server.accept()[0]
            with certificates.server().wrap_socket(peer, server_side=True, suppress_ragged_eofs=False) as tls:
                tls.sendall(b"hello")
                assert tls.recv(100) == b"answer"
                assert tls.recv(100) == b""

        serving = threading.Thread(target=serve)
        serving.start()
        making = loop.create_connection(
            raising(Recorder, error),
            *server.getsockname(),
            ssl=certificates.client(),
            server_hostname="localhost",
        )
        transport, protocol = run(loop, finish(interrupted(loop, making, error)))
        assert run(loop, protocol.received(5)) == b"hello"
        transport.write(b"answer")
        transport.close()
        serving.join()
        run(loop, gone(protocol))


class RaisesOnce(BufferedRecorder):
    """``error`` out of its first ``buffer_updated()``, whose buffer takes a part of what has arrived."""

    error: type[BaseException] | None = None

    def buffer_updated(self, nbytes: int) -> None:
        super().buffer_updated(nbytes)
        error, self.error = self.error, None
        if error is not None:
            raise error


@control_xfail("asyncio delivers the rest with the next data, if there is any", run=False)
@pytest.mark.parametrize("ends", [False, True])
def test_buffer_updated_under_tls(
    loop: Loop, error: type[BaseException], certificates: Certificates, ends: bool
) -> None:
    """What has arrived along with the data comes in the next run, the end of the stream included."""
    paused, sent = threading.Event(), threading.Event()
    with listener() as server:

        def serve() -> None:
            peer = server.accept()[0]
            with certificates.server().wrap_socket(peer, server_side=True, suppress_ragged_eofs=False) as tls:
                assert paused.wait(PATIENCE)
                for _ in range(10):
                    tls.sendall(b"x" * 5000)
                if not ends:
                    sent.set()
                    tls.recv(100)
            sent.set()

        serving = threading.Thread(target=serve)
        serving.start()

        async def connect() -> RaisesOnce:
            transport, protocol = await loop.create_connection(
                RaisesOnce, *server.getsockname(), ssl=certificates.client(), server_hostname="localhost"
            )
            # The session's tickets come first.
            await asyncio.sleep(0.01)
            transport.pause_reading()
            return protocol

        protocol = run(loop, connect())
        protocol.error = error
        paused.set()
        assert sent.wait(PATIENCE)
        fd = protocol.transport.get_extra_info("socket").fileno()
        with socket.socket(fileno=os.dup(fd)) as own:
            while len(own.recv(100_000, socket.MSG_PEEK)) < 50_000:
                time.sleep(0.001)
        protocol.transport.resume_reading()
        interrupted(loop, asyncio.sleep(PATIENCE), error).cancel()
        assert len(run(loop, protocol.received(50_000))) == 50_000
        if ends:
            run(loop, gone(protocol))
        else:
            run(loop, close(protocol))
        serving.join()
