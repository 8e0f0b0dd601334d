"""anyio: structured concurrency, sockets, processes and threads over the loop under test.

Most tests run by anyio's own pytest plugin, which makes the loop with the backend's option ``loop_factory``.
"""

# ruff: noqa: E402 - the package is looked for before it is imported

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.programs.support import Harness, Tls, guarded_harness, loop_factory, require_package

require_package("anyio")

import anyio
import anyio.abc
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.tls import TLSListener, TLSStream

plugin = pytest.mark.anyio


@pytest.fixture
def anyio_backend(loop_name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The plugin's backend: asyncio's, on the loop under test. The guard finds what is left open."""
    with guarded_harness(loop_name):
        yield "asyncio", {"loop_factory": loop_factory(loop_name)}


async def echo(stream: anyio.abc.ByteStream) -> None:
    """Sends back what comes, until the other side has sent all."""
    async with stream:
        async for data in stream:
            await stream.send(data)


async def exchange(stream: anyio.abc.ByteStream, payload: bytes) -> None:
    """Send the payload and read it back at the same time."""
    received = BufferedByteReceiveStream(stream)
    async with anyio.create_task_group() as group:
        group.start_soon(stream.send, payload)
        assert await received.receive_exactly(len(payload)) == payload


@plugin
async def test_runs_on_the_loop(loop_name: str) -> None:
    assert type(asyncio.get_running_loop()).__module__.split(".")[0] == loop_name


@plugin
async def test_task_group_cancels_the_others(loop_name: str) -> None:
    ended: list[int] = []

    async def sleeper(number: int) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(number)

    async def failing() -> None:
        await anyio.sleep(0.01)
        raise ValueError("on purpose")

    with pytest.raises(ExceptionGroup) as group:
        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(sleeper, number)
            tasks.start_soon(failing)
    assert group.group_contains(ValueError)
    assert sorted(ended) == list(range(100))


@plugin
async def test_cancel_scopes(loop_name: str) -> None:
    with anyio.move_on_after(0.05) as outer:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.1)
            shielded = True
        await anyio.sleep_forever()
    assert shielded
    assert outer.cancelled_caught
    with pytest.raises(TimeoutError), anyio.fail_after(0.01):
        await anyio.sleep_forever()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await anyio.lowlevel.checkpoint()
        raise AssertionError
    await anyio.lowlevel.checkpoint()


@plugin
async def test_tcp(loop_name: str) -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo)

            async def visit(number: int) -> None:
                async with await anyio.connect_tcp("localhost", port) as stream:
                    await exchange(stream, bytes([number]) * 200_000)
                    await stream.send_eof()
                    with pytest.raises(anyio.EndOfStream):
                        await stream.receive()

            async with anyio.create_task_group() as visitors:
                for number in range(40):
                    visitors.start_soon(visit, number)
            group.cancel_scope.cancel()


@plugin
async def test_tls(loop_name: str, tls: Tls) -> None:
    plain = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = plain.extra(anyio.abc.SocketAttribute.local_port)
    async with TLSListener(plain, tls.server) as listener:
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo)
            context: ssl.SSLContext = tls.client
            async with await anyio.connect_tcp("localhost", port, ssl_context=context) as stream:
                assert isinstance(stream, TLSStream)
                await exchange(stream, bytes(range(256)) * 4096)
            group.cancel_scope.cancel()


@plugin
async def test_unix_sockets_and_passing_descriptors(loop_name: str, tmp_path: Path) -> None:
    """anyio's unix streams use ``add_reader`` and ``add_writer`` on their own sockets."""
    path = tmp_path / "s"
    (tmp_path / "file").write_text("passed over")
    async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, echo)
        async with await anyio.connect_unix(path) as stream:
            await exchange(stream, bytes(range(256)) * 4096)
            await stream.send_eof()  # the echo ends before it is cancelled: anyio loses that race on any loop
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
        group.cancel_scope.cancel()
    left, right = socket.socketpair(socket.AF_UNIX)
    async with (
        await anyio.abc.UNIXSocketStream.from_socket(left) as sender,
        await anyio.abc.UNIXSocketStream.from_socket(right) as receiver,
    ):
        with (tmp_path / "file").open() as file:
            await sender.send_fds(b"x", [file])
        message, descriptors = await receiver.receive_fds(10, 1)
        assert message == b"x"
        with open(descriptors[0]) as passed:
            assert passed.read() == "passed over"


@plugin
async def test_udp(loop_name: str) -> None:
    async with await anyio.create_udp_socket(local_host="127.0.0.1") as server:
        port = server.extra(anyio.abc.SocketAttribute.local_port)
        async with await anyio.create_connected_udp_socket("127.0.0.1", port) as client:
            for number in range(100):
                await client.send(str(number).encode())
                packet, sender = await server.receive()
                await server.sendto(packet * 2, *sender)
                assert await client.receive() == str(number).encode() * 2


@plugin
async def test_processes(loop_name: str) -> None:
    finished = await anyio.run_process([sys.executable, "-c", "print(input()[::-1])"], input=b"lrohw\n")
    assert finished.stdout == b"whorl\n"
    upper = "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.stderr.write('e' * 100000)"

    async def work() -> None:
        async with await anyio.open_process([sys.executable, "-c", upper]) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            await process.stdin.send(b"a" * 200_000)
            await process.stdin.aclose()
            output = b"".join([part async for part in process.stdout])
            errors = b"".join([part async for part in process.stderr])
            assert (output, errors) == (b"A" * 200_000, b"e" * 100_000)
            assert await process.wait() == 0

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(work)
    async with await anyio.open_process([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        process.terminate()
        assert await process.wait() == -signal.SIGTERM


@plugin
async def test_threads(loop_name: str) -> None:
    here = threading.get_ident()

    def work(number: int) -> int:
        assert threading.get_ident() != here
        assert anyio.from_thread.run_sync(threading.get_ident) == here
        return anyio.from_thread.run(later, number)

    async def later(number: int) -> int:
        await anyio.sleep(0.001)
        return number * 2

    results: dict[int, int] = {}

    async def collect(number: int) -> None:
        results[number] = await anyio.to_thread.run_sync(work, number)

    async with anyio.create_task_group() as group:
        for number in range(100):
            group.start_soon(collect, number)
    assert results == {number: number * 2 for number in range(100)}


@plugin
async def test_signals(loop_name: str) -> None:
    with anyio.open_signal_receiver(signal.SIGUSR1, signal.SIGUSR2) as received:
        for expected in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1):
            signal.raise_signal(expected)
            async for number in received:
                assert number is expected
                break


@plugin
async def test_waiting_for_a_socket(loop_name: str) -> None:
    left, right = socket.socketpair()

    async def wait() -> None:
        await anyio.wait_readable(left)

    with left, right:
        left.setblocking(False)
        await anyio.wait_writable(left)
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.lowlevel.checkpoint()
            with pytest.raises(anyio.BusyResourceError):
                await anyio.wait_readable(left)
            right.send(b"x")
        assert left.recv(1) == b"x"
        with anyio.move_on_after(0.05) as scope:
            await anyio.wait_readable(left)
        assert scope.cancelled_caught


def test_run_with_a_loop_factory(run: Harness) -> None:
    async def main() -> str:
        await anyio.sleep(0)
        return type(asyncio.get_running_loop()).__module__.split(".")[0]

    assert anyio.run(main, backend_options={"loop_factory": run.factory}) == run.name


def test_portal(run: Harness) -> None:
    """The loop runs in a thread, and is called from this one."""
    with anyio.from_thread.start_blocking_portal(backend_options={"loop_factory": run.factory}) as portal:
        assert portal.call(anyio.sleep, 0) is None
        futures = [portal.start_task_soon(anyio.sleep, 0.01) for _ in range(50)]
        assert [future.result(30) for future in futures] == [None] * 50
        endless = portal.start_task_soon(anyio.sleep_forever)
        endless.cancel()
        assert endless.cancelled()
