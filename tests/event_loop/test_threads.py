"""Threads: one owner for a loop, one way in from other threads, and many loops at once."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import gc
import os
import socket
import threading
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from .conftest import LoopFactory, Script
from .support import PATIENCE, Recorder, alone, connected, turns, until, whorl_only
from .tls_support import tls_pair

Loop = asyncio.AbstractEventLoop


def in_thread(call: Callable[[], Any]) -> Any:
    """Calls in a new thread; returns the result, or the exception."""
    result: list[Any] = []

    def work() -> None:
        try:
            result.append(call())
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return result[0]


@whorl_only
@pytest.mark.parametrize("call", ["write", "write_eof", "pause_reading", "set_protocol"])
async def test_transports_used_from_the_wrong_thread_are_refused(loop: Loop, call: str) -> None:
    arguments: dict[str, tuple[Any, ...]] = {"write": (b"x",), "set_protocol": (asyncio.Protocol(),)}
    async with connected() as pair:
        method = getattr(pair.transport, call)
        error = await asyncio.to_thread(in_thread, lambda: method(*arguments.get(call, ())))
        assert isinstance(error, RuntimeError)
        assert "call_soon_threadsafe" in str(error)


class Ends(Recorder):
    """Notes the thread in which its transport is lost."""

    lost_in = 0

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost_in = threading.get_ident()
        super().connection_lost(exc)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        raise AssertionError("none is sent")


@contextlib.asynccontextmanager
async def transport_of(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[tuple[Any, Ends]]:
    """A transport of the loop under test."""
    loop = asyncio.get_running_loop()
    if kind == "stream":
        async with connected(Ends) as pair:
            yield pair.transport, pair.protocol
    elif kind == "tls":
        async with tls_pair(request.getfixturevalue("certificates"), Ends) as pair:
            peer: Any = pair.peer

            def reply() -> None:
                """Our close_notify with its own."""
                with contextlib.suppress(OSError):
                    peer.recv(10)
                    peer.unwrap()

            replying = asyncio.ensure_future(asyncio.to_thread(reply))
            yield pair.transport, pair.protocol
            await replying
    elif kind == "datagram":
        yield await loop.create_datagram_endpoint(Ends, local_addr=("127.0.0.1", 0))  # type: ignore[type-var]
    else:
        read, write = (os.fdopen(fd, mode, 0) for fd, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
        own, other = (read, write) if kind == "read pipe" else (write, read)
        connect = loop.connect_read_pipe if kind == "read pipe" else loop.connect_write_pipe
        with other:
            yield await connect(Ends, own)


@whorl_only
@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("call", ["close", "abort"])
@pytest.mark.parametrize("kind", ["stream", "tls", "datagram", "read pipe", "write pipe"])
async def test_what_ends_a_transport_is_handed_over(
    loop: Loop, request: pytest.FixtureRequest, kind: str, call: str, debug: bool
) -> None:
    """The collector finds what closes a transport on any thread. asyncio races, or refuses in debug mode."""
    if (kind, call) == ("read pipe", "abort"):
        pytest.skip("a reading end has no such method, as on asyncio")
    async with transport_of(kind, request) as (transport, protocol):
        loop.set_debug(debug)
        assert await asyncio.to_thread(in_thread, getattr(transport, call)) is None
        assert await asyncio.to_thread(in_thread, getattr(transport, call)) is None
        assert await asyncio.wait_for(protocol.lost, PATIENCE) is None
        loop.set_debug(False)
        assert protocol.lost_in == threading.get_ident()
        assert protocol.lost_count == 1


@whorl_only
async def test_a_close_that_is_handed_over_sends_what_waits(loop: Loop) -> None:
    async with connected() as pair:
        written = await pair.fill()
        in_thread(pair.transport.close)
        assert len(await pair.peer_receives_all()) == written
        assert await pair.protocol.lost is None


def test_a_transport_of_a_loop_that_has_stopped_is_closed_from_another_thread(loop: Loop) -> None:
    async def connect() -> tuple[Any, Recorder]:
        own, other = socket.socketpair()
        with other:
            return await loop.create_connection(Recorder, sock=own)

    transport, protocol = loop.run_until_complete(connect())
    in_thread(transport.close)
    assert transport.is_closing()
    loop.run_until_complete(asyncio.wait_for(protocol.lost, PATIENCE))


def test_a_stream_writer_that_is_collected_in_another_thread(loop: Loop) -> None:
    """Its end closes the transport; nothing is printed, and the connection does not stay."""

    async def forget() -> socket.socket:
        own, other = socket.socketpair()
        streams: list[Any] = [*await asyncio.open_connection(sock=own)]
        streams.append(streams)
        return other

    async def main() -> None:
        gc.disable()
        try:
            other = await forget()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                await asyncio.to_thread(gc.collect)
        finally:
            gc.enable()
        with other:
            other.settimeout(PATIENCE)
            assert await asyncio.to_thread(other.recv, 1) == b""

    loop.run_until_complete(main())


SCHEDULING: dict[str, Callable[[Loop, Callable[[], object]], object]] = {
    "call_soon": lambda loop, callback: loop.call_soon(callback),
    "call_later": lambda loop, callback: loop.call_later(0.01, callback),
    "call_at": lambda loop, callback: loop.call_at(loop.time() + 0.01, callback),
}


@pytest.mark.parametrize("call", SCHEDULING)
async def test_debug_mode_refuses_the_wrong_thread(loop: Loop, call: str) -> None:
    loop.set_debug(True)
    error = await asyncio.to_thread(in_thread, lambda: SCHEDULING[call](loop, print))
    loop.set_debug(False)
    assert isinstance(error, RuntimeError)


@whorl_only
@pytest.mark.parametrize("call", SCHEDULING)
async def test_what_the_wrong_thread_schedules_is_not_lost(loop: Loop, call: str) -> None:
    """Not asyncio's contract, and its loop may sleep over it; but programs do it, often through a future."""
    ran_in: asyncio.Future[int] = loop.create_future()
    in_thread(lambda: SCHEDULING[call](loop, lambda: ran_in.set_result(threading.get_ident())))
    assert await asyncio.wait_for(ran_in, 10) == threading.get_ident()


@whorl_only
async def test_an_event_set_by_the_wrong_thread_wakes_its_waiter(loop: Loop) -> None:
    """Starlette runs a plain function given as a background task in a thread; `done.set` is such a one."""
    done = asyncio.Event()
    waiter = asyncio.create_task(done.wait())
    await asyncio.sleep(0)
    assert in_thread(done.set) is None
    assert await asyncio.wait_for(waiter, 10)


async def test_what_is_safe_from_any_thread(loop: Loop) -> None:
    for call in (loop.is_running, loop.is_closed, loop.get_debug, lambda: isinstance(loop.time(), float)):
        assert await asyncio.to_thread(in_thread, call) in (True, False)


def test_a_loop_that_does_not_run_may_be_prepared_in_another_thread(loop: Loop) -> None:
    """Made here, filled there, run in a third: as long as one comes after the other."""
    ran: list[int] = []
    in_thread(lambda: loop.call_soon(ran.append, 1))
    in_thread(lambda: loop.call_later(0, ran.append, 2))
    in_thread(lambda: loop.run_until_complete(turns()))
    assert ran == [1, 2]
    loop.run_until_complete(asyncio.sleep(0))


async def test_running_a_loop_in_two_threads_is_refused(loop: Loop) -> None:
    error = await asyncio.to_thread(in_thread, loop.run_forever)
    assert isinstance(error, RuntimeError)
    assert "already running" in str(error)


def test_call_soon_threadsafe_keeps_the_order_of_each_thread(loop: Loop) -> None:
    got: list[tuple[int, int]] = []
    threads, count = 6, 3000

    def send(thread: int) -> None:
        for number in range(count):
            loop.call_soon_threadsafe(got.append, (thread, number))

    async def main() -> None:
        workers = [threading.Thread(target=send, args=(thread,)) for thread in range(threads)]
        for worker in workers:
            worker.start()
        await until(lambda: len(got) == threads * count)
        for worker in workers:
            worker.join()

    loop.run_until_complete(main())
    for thread in range(threads):
        assert [number for other, number in got if other == thread] == list(range(count))


def test_call_soon_threadsafe_while_runs_begin_and_end(loop: Loop) -> None:
    """A thread that meets the end of a run neither keeps the next one from beginning nor loses its order."""
    got: list[tuple[int, int]] = []
    threads, count = 3, 4000

    def send(thread: int) -> None:
        for number in range(count):
            loop.call_soon_threadsafe(got.append, (thread, number))

    workers = [threading.Thread(target=send, args=(thread,)) for thread in range(threads)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        loop.run_until_complete(turns(1))
    loop.run_until_complete(until(lambda: len(got) == threads * count))
    for thread in range(threads):
        assert [number for other, number in got if other == thread] == list(range(count))


def test_call_soon_threadsafe_races_with_close(loop_factory: LoopFactory) -> None:
    for _ in range(10):
        loop = loop_factory()
        errors: list[BaseException] = []
        go = threading.Event()

        def send(loop: Loop = loop, errors: list[BaseException] = errors, go: threading.Event = go) -> None:
            go.wait()
            try:
                for _ in range(100_000):
                    loop.call_soon_threadsafe(int)
            except RuntimeError:
                pass
            except BaseException as error:
                errors.append(error)

        workers = [threading.Thread(target=send) for _ in range(3)]
        for worker in workers:
            worker.start()
        go.set()
        loop.run_until_complete(asyncio.sleep(0.002))
        loop.close()
        for worker in workers:
            worker.join()
        assert not errors


def test_run_coroutine_threadsafe(loop: Loop) -> None:
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return number * 2

    async def main() -> None:
        def query() -> int:
            return asyncio.run_coroutine_threadsafe(double(21), loop).result(PATIENCE)

        assert await asyncio.to_thread(query) == 42

        def cancel() -> None:
            future = asyncio.run_coroutine_threadsafe(asyncio.sleep(PATIENCE), loop)
            future.cancel()
            with pytest.raises(concurrent.futures.CancelledError):
                future.result(PATIENCE)

        await asyncio.to_thread(cancel)

    loop.run_until_complete(main())


def test_several_loops_in_several_threads(loop_factory: LoopFactory) -> None:
    """Each with its own sockets, timers and threads, and all of them calling into each other."""
    loops: list[Loop] = []
    ready = threading.Barrier(4)
    received = [0] * 4

    def count(index: int) -> None:
        received[index] += 1

    async def work(index: int) -> str:
        loop = asyncio.get_running_loop()
        loops.append(loop)
        await asyncio.to_thread(ready.wait)

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(1000):
                writer.write(data)
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for number in range(200):
            writer.write(b"%05d" % number)
            assert await reader.readexactly(5) == b"%05d" % number
            loops[number % 4].call_soon_threadsafe(count, loops.index(loops[number % 4]))
            if number % 50 == 0:
                await asyncio.sleep(0.001)
        writer.close()
        await writer.wait_closed()
        server.close()
        await alone()
        await asyncio.to_thread(ready.wait)
        await turns()
        return "done"

    def run() -> str:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(work(0))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert [future.result(60) for future in [pool.submit(run) for _ in range(4)]] == ["done"] * 4
    assert sum(received) == 800


def test_a_loop_moves_from_thread_to_thread(loop: Loop) -> None:
    for _ in range(3):
        assert in_thread(lambda: loop.run_until_complete(asyncio.sleep(0, "ran"))) == "ran"
    assert loop.run_until_complete(asyncio.sleep(0, "ran")) == "ran"


async def test_executors(loop: Loop) -> None:
    assert await loop.run_in_executor(None, pow, 2, 10) == 1024
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(None, lambda: 1 / 0)
    with concurrent.futures.ThreadPoolExecutor(1, "own") as pool:
        assert (await loop.run_in_executor(pool, lambda: threading.current_thread().name)).startswith("own")
    with pytest.raises(TypeError):
        loop.set_default_executor("pool")  # type: ignore[arg-type]


async def test_to_thread_carries_the_context(loop: Loop) -> None:
    var: contextvars.ContextVar[int] = contextvars.ContextVar("var")
    var.set(42)
    assert await asyncio.to_thread(var.get) == 42


async def test_the_default_executor_can_be_shut_down(loop: Loop) -> None:
    await asyncio.to_thread(int)
    await loop.shutdown_default_executor()
    with pytest.raises(RuntimeError, match="shut"):
        loop.run_in_executor(None, int)


async def test_results_from_threads_that_outlive_the_waiter(loop: Loop) -> None:
    finish = threading.Event()
    future = loop.run_in_executor(None, finish.wait, PATIENCE)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(future, 0.01)
    finish.set()
    await turns()


async def test_a_protocols_data_may_be_echoed_from_a_thread_by_call_soon_threadsafe(loop: Loop) -> None:
    class Echo(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            threading.Thread(target=loop.call_soon_threadsafe, args=(self.transport.write, data)).start()

    async with connected(Echo) as pair:
        await pair.peer_sends(b"hello")
        assert await pair.peer_receives(5) == b"hello"


@whorl_only
async def test_any_thread_may_call_is_closing_of_a_transport(loop: Loop) -> None:
    """A StreamWriter that is collected on another thread calls it."""
    async with connected() as pair:
        assert await asyncio.to_thread(pair.transport.is_closing) is False
        pair.transport.close()
        assert await asyncio.to_thread(pair.transport.is_closing) is True


@whorl_only
async def test_transports_may_be_made_while_the_collector_is_eager(loop: Loop) -> None:
    """Before Python 3.12 the collector may run while an object is being made, and visit it."""
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(50):
            async with connected():
                pass
    finally:
        gc.set_threshold(*threshold)


@pytest.mark.parametrize(
    "main",
    [
        "while True: await asyncio.sleep(0)",
        "while True: sum(range(1000)); await asyncio.sleep(0.0001)",
        "again = lambda: loop.call_soon(again); again(); await asyncio.Event().wait()",
    ],
    ids=["sleeps", "computes", "callbacks"],
)
def test_a_loop_in_a_daemon_thread_ends_with_the_program(script: Script, main: str) -> None:
    """Before Python 3.14 the interpreter ends such a thread in the middle of a callback."""
    for _ in range(3):
        ended = script.run(
            f"""
            loop = new_event_loop()

            async def main():
                {main}

            threading.Thread(target=loop.run_until_complete, args=(main(),), daemon=True).start()
            time.sleep(0.05)
            sys.exit(3)
            """,
            status=3,
        )
        assert ended.stderr == ""
