"""A loop inside the main loop of another program: one descriptor to watch, one call to make."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import gc
import inspect
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from typing import Any

import pytest

from whorl.guest import Guest

from .certificates import Certificates
from .support import PATIENCE, open_fds


class Host:
    """A main loop of ``select()``: descriptors with callbacks, and handlers that are posted."""

    def __init__(self) -> None:
        self.readers: dict[int, Callable[[], object]] = {}
        self.posted: list[Callable[[], object]] = []
        self.quitting = False
        #: How often something was readable.
        self.woken = 0

    def post(self, handler: Callable[[], object]) -> None:
        self.posted.append(handler)

    def quit(self) -> None:
        self.quitting = True

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Runs until :meth:`quit`, or until a condition holds."""
        end = time.monotonic() + PATIENCE
        while not self.quitting and not until():
            if self.posted:
                self.posted.pop(0)()
                continue
            readable, _, _ = select.select(list(self.readers), [], [], max(0, end - time.monotonic()))
            assert readable, "nothing has come"
            self.woken += 1
            for fd in readable:
                if fd in self.readers:
                    self.readers[fd]()


def is_readable(guest: Guest[Any]) -> bool:
    return bool(select.select([guest.fd], [], [], 0)[0])


def settle(guest: Guest[Any]) -> None:
    """Turns until nothing is left to do."""
    for _ in range(1000):
        if guest.turn() != 0 and not is_readable(guest):
            return
    raise AssertionError("the guest does not come to rest")


@contextmanager
def hosted(main: Coroutine[Any, Any, Any], **options: Any) -> Iterator[tuple[Host, Guest[Any]]]:
    """A guest that its host runs, and closes at the end."""
    before = open_fds()
    host = Host()
    with Guest(main, done=lambda _: host.quit(), **options) as guest:
        host.readers[guest.fd] = guest.turn
        yield host, guest
    assert guest.done
    assert asyncio._get_running_loop() is None
    assert open_fds() == before


def run(main: Coroutine[Any, Any, Any]) -> Any:
    with hosted(main) as (host, guest):
        host.run()
        assert guest.done
        return guest.result()


@contextmanager
def closing_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


# -- what a program does -------------------------------------------------------------------------------------


def test_the_result_of_main() -> None:
    async def main() -> int:
        await asyncio.sleep(0)
        return 42

    assert run(main()) == 42


def test_what_main_raises() -> None:
    async def main() -> None:
        await asyncio.sleep(0)
        raise LookupError("this one")

    with pytest.raises(LookupError, match="this one"):
        run(main())


def test_timers_wake_the_host() -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        woken: list[int] = []

        async def sleeper(number: int) -> None:
            began = loop.time()
            await asyncio.sleep(number / 1000)
            assert loop.time() - began >= number / 1000
            woken.append(number)

        await asyncio.gather(*map(sleeper, (3, 1, 2)))
        return woken

    assert run(main()) == [1, 2, 3]


def test_echo() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(100_000))
        writer.close()
        await writer.wait_closed()

    async def main() -> bytes:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"x" * 100_000)
            reply = await reader.read()
            writer.close()
            await writer.wait_closed()
            return reply

    assert run(main()) == b"x" * 100_000


def test_tls(certificates: Certificates) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(5))
        writer.close()
        await writer.wait_closed()

    async def main() -> bytes:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=certificates.server())
        async with server:
            address = server.sockets[0].getsockname()
            client = certificates.client()
            reader, writer = await asyncio.open_connection(*address, ssl=client, server_hostname="localhost")
            writer.write(b"hello")
            reply = await reader.read()
            writer.close()
            await writer.wait_closed()
            return reply

    assert run(main()) == b"hello"


def test_a_subprocess() -> None:
    async def main() -> bytes:
        child = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        output, _ = await child.communicate(b"through a child")
        return output

    assert run(main()) == b"through a child"


def test_an_executor_and_what_is_left_at_the_end() -> None:
    seen: list[str] = []

    async def generator() -> Any:
        try:
            yield 1
            yield 2
        finally:
            seen.append("generator")

    async def background() -> None:
        try:
            await forever()
        finally:
            seen.append("task")

    async def main() -> None:
        task = asyncio.create_task(background())
        await asyncio.sleep(0)
        assert await asyncio.to_thread(threading.get_ident) != threading.get_ident()
        async for _ in generator():
            break
        seen.append("main")
        del task

    threads = threading.active_count()
    run(main())
    assert sorted(seen) == ["generator", "main", "task"]
    assert threading.active_count() == threads


# -- when the descriptor is readable -------------------------------------------------------------------------


def test_an_idle_guest_does_not_wake_its_host() -> None:
    with hosted(forever()) as (_, guest):
        settle(guest)
        assert not is_readable(guest)
        assert guest.turn() is None
        assert not is_readable(guest)


def test_a_closed_descriptor_with_a_duplicate_does_not_wake_the_host_for_long() -> None:
    """The kernel reports it without end; the guest keeps its descriptor when the loop ends that."""
    with hosted(forever()) as (host, guest), closing_pair() as (ours, theirs):
        fd = guest.fd
        loop = guest.loop
        number = ours.fileno()
        loop.add_reader(number, ours.recv, 1)
        settle(guest)
        with ours.dup():
            ours.close()
            assert loop.remove_reader(number)
            theirs.send(b"unread")
            host.run(lambda: host.woken >= 50 or not is_readable(guest))
            assert host.woken < 50
            assert guest.fd == fd
            host.woken = 0
            # What came before is still watched: another thread, a timer, a descriptor.
            done: list[str] = []
            loop.call_later(0.01, done.append, "timer")
            host.run(lambda: "timer" in done)
            with ThreadPoolExecutor(1) as pool:
                pool.submit(loop.call_soon_threadsafe, done.append, "thread")
                host.run(lambda: "thread" in done)
            with closing(theirs.dup()) as other:
                loop.add_writer(other, done.append, "descriptor")
                host.run(lambda: "descriptor" in done)
                loop.remove_writer(other)


def test_the_turn_says_when_the_next_timer_is_due() -> None:
    async def main() -> None:
        await asyncio.sleep(3600)

    with hosted(main()) as (_, guest):
        settle(guest)
        delay = guest.turn()
        assert delay is not None
        assert 3500 < delay <= 3600
        assert not is_readable(guest)


def test_a_call_from_another_thread_wakes_an_idle_host() -> None:
    with hosted(forever()) as (host, guest):
        settle(guest)
        ran: list[int] = []
        thread = threading.Thread(
            target=guest.loop.call_soon_threadsafe, args=(lambda: ran.append(threading.get_ident()),)
        )
        thread.start()
        host.run(lambda: bool(ran))
        thread.join()
        assert ran == [threading.get_ident()]


BETWEEN_TURNS: dict[str, Callable[[asyncio.AbstractEventLoop, Callable[[], None]], object]] = {
    "call_soon": lambda loop, callback: loop.call_soon(callback),
    "call_soon_threadsafe": lambda loop, callback: loop.call_soon_threadsafe(callback),
    "call_later": lambda loop, callback: loop.call_later(0.001, callback),
    "a future": lambda loop, callback: _completed(loop).add_done_callback(lambda _: callback()),
}


def _completed(loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
    future = loop.create_future()
    future.set_result(None)
    return future


@pytest.mark.parametrize("way", BETWEEN_TURNS)
def test_what_a_handler_of_the_host_schedules_wakes_it(way: str) -> None:
    with hosted(forever()) as (host, guest):
        settle(guest)
        ran: list[None] = []
        BETWEEN_TURNS[way](guest.loop, lambda: ran.append(None))
        host.run(lambda: bool(ran))
        settle(guest)


def test_a_handler_of_the_host_makes_a_task_and_writes() -> None:
    ends: tuple[socket.socket, socket.socket]
    got: list[bytes] = []

    async def main() -> asyncio.StreamWriter:
        nonlocal ends, writer
        ends = socket.socketpair()
        ends[1].setblocking(False)
        _, writer = await asyncio.open_connection(sock=ends[0])
        await forever()
        return writer

    writer: asyncio.StreamWriter | None = None
    with hosted(main()) as (host, guest):
        host.run(lambda: writer is not None)
        settle(guest)
        assert writer is not None

        async def read() -> None:
            got.append(await asyncio.get_running_loop().sock_recv(ends[1], 100))

        tasks: list[Any] = []
        host.post(lambda: tasks.append(asyncio.create_task(read())))
        host.post(lambda: writer.write(b"from a handler"))
        host.run(lambda: bool(got))
        writer.close()
        settle(guest)
        ends[1].close()
    assert got == [b"from a handler"]


def test_stop_ends_the_guest() -> None:
    with hosted(forever()) as (host, guest):
        settle(guest)
        guest.loop.stop()
        host.run()
        assert guest.done
        with pytest.raises(RuntimeError, match="stopped before"):
            guest.result()


def test_work_beyond_the_budget_is_left_for_the_next_turn() -> None:
    ran: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in range(100):
            loop.call_soon(ran.append, number)
        await forever()

    with hosted(main()) as (_, guest):
        turns = 0
        while len(ran) < 100:
            assert is_readable(guest)
            before = len(ran)
            guest.turn(budget=0)
            # The first turn runs the task that schedules them; each other one runs a callback, and only that.
            assert len(ran) == before + (turns > 0)
            turns += 1
        assert ran == list(range(100))
        settle(guest)


def test_a_budget_used_up_for_a_connection_leaves_one_callback() -> None:
    """Of the connections that are ready one is served, and of the callbacks that are due one runs."""
    served: list[bytes] = []
    ran: list[int] = []
    theirs: list[socket.socket] = []

    class Served(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            served.append(data)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(2):
            ours, other = socket.socketpair()
            theirs.append(other)
            await loop.create_connection(Served, sock=ours)
        await forever()

    with hosted(main()) as (_, guest):
        settle(guest)
        for peer in theirs:
            peer.send(b"x")
        for number in range(2):
            guest.loop.call_later(0, ran.append, number)
        guest.turn(budget=0)
        assert (len(served), ran) == (1, [0])
        settle(guest)
        assert (len(served), ran) == (2, [0, 1])
        for peer in theirs:
            peer.close()
        # The end of each connection.
        settle(guest)


def test_a_callback_that_repeats_without_end_does_not_hold_the_host() -> None:
    with hosted(forever()) as (_, guest):
        settle(guest)
        count = 0

        def again() -> None:
            nonlocal count
            count += 1
            if count < 1_000_000:
                guest.loop.call_soon(again)

        guest.loop.call_soon(again)
        assert guest.turn(budget=0.001) == 0
        assert 0 < count < 1_000_000
        count = 1_000_000
        settle(guest)


# -- exceptions and the end ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["callback", "main"])
def test_exceptions_that_leave_a_turn(kind: type[BaseException], where: str) -> None:
    def leave() -> None:
        raise kind

    async def main() -> None:
        if where == "main":
            leave()
        asyncio.get_running_loop().call_soon(leave)
        await forever()

    with hosted(main()) as (host, guest):
        ran: list[None] = []
        with pytest.raises(kind):
            host.run()
        assert not guest.done
        # The host may continue.
        guest.loop.call_soon(ran.append, None)
        host.run(lambda: bool(ran))


def test_ctrl_c_wakes_an_idle_host() -> None:
    """The signal's descriptor is among those of the guest: a host that sleeps in C is woken."""
    with hosted(forever()) as (_, guest):
        settle(guest)
        previous = signal.signal(signal.SIGUSR1, lambda *_: None)
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert is_readable(guest)
            settle(guest)
        finally:
            signal.signal(signal.SIGUSR1, previous)
        with pytest.raises(KeyboardInterrupt):
            # The handler runs in this line or in the turn, whichever is first.
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(100):
                guest.turn()


def test_close_ends_a_guest_that_is_not_done() -> None:
    seen: list[str] = []

    async def main() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            seen.append("cancelled")

    with hosted(main()) as (_, guest):
        settle(guest)
        guest.close()
        assert guest.done
        assert seen == ["cancelled"]
        with pytest.raises(asyncio.CancelledError):
            guest.result()
        assert guest.turn() is None


def test_close_before_the_first_turn() -> None:
    with hosted(forever()) as (_, guest):
        assert not guest.done


def test_cancel_ends_it_by_turns() -> None:
    with hosted(forever()) as (host, guest):
        settle(guest)
        assert guest.cancel()
        host.run()
        assert guest.done


def test_another_thread_calls_no_turn() -> None:
    with hosted(forever()) as (_, guest):
        errors: list[BaseException] = []

        def elsewhere() -> None:
            for call in (guest.turn, guest.close):
                try:
                    call()
                except RuntimeError as error:
                    errors.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert len(errors) == 2


def test_what_is_no_coroutine_is_refused() -> None:
    with pytest.raises(ValueError, match="a coroutine was expected"):
        Guest(print)  # type: ignore[arg-type]


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Lets the process open so many descriptors and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_fds()) + 1 + count, hard))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(count):
            os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)


def state_of_the_thread() -> tuple[Any, ...]:
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    return wakeup, sys.get_asyncgen_hooks(), asyncio._get_running_loop(), open_fds()


def test_a_guest_that_cannot_be_made_leaves_nothing_behind() -> None:
    """With one more descriptor each time, until there are enough."""
    before = state_of_the_thread()
    for count in range(20):
        main = forever()
        guest, number = attempt(main, count)
        if guest is not None:
            guest.close()
            break
        assert number == errno.EMFILE
        assert inspect.getcoroutinestate(main) == inspect.CORO_CLOSED
        with warnings.catch_warnings():
            # A loop that was not made to its end warns that it was not closed, as asyncio's does.
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
        assert state_of_the_thread() == before
    assert 4 < count < 19


def attempt(main: Coroutine[Any, Any, Any], count: int) -> tuple[Guest[Any] | None, int | None]:
    """A guest with so many descriptors to be had, or the number of the error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            with descriptors_left(count):
                return Guest(main), None
        except OSError as error:
            return None, error.errno


# -- main loops within main loops ----------------------------------------------------------------------------


def test_other_tasks_continue_while_a_task_runs_a_main_loop() -> None:
    ticks = 0

    async def ticker() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    async def main() -> tuple[int, bool]:
        task = asyncio.create_task(ticker())
        current = asyncio.current_task()
        began = ticks
        # A modal dialog.
        host.run(lambda: ticks >= began + 10)
        assert asyncio.current_task() is current
        assert asyncio.get_running_loop() is guest.loop
        return ticks, task.cancel()

    with hosted(main()) as (host, guest):
        host.run()
        count, cancelled = guest.result()
        assert count >= 10
        assert cancelled


def test_the_batch_continues_in_order() -> None:
    ran: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(ran.append, "before")
        loop.call_soon(lambda: host.run(lambda: "second" in ran))
        loop.call_soon(ran.append, "first")
        loop.call_soon(ran.append, "second")
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    with hosted(main()) as (host, _):
        host.run()
    assert ran == ["before", "first", "second"]


def test_a_context_that_is_entered_waits_for_the_outer_turn() -> None:
    ran: list[str] = []
    context = contextvars.copy_context()

    def modal() -> None:
        guest.loop.call_soon(ran.append, "same context", context=context)
        guest.loop.call_soon(ran.append, "other")
        host.run(lambda: "other" in ran)
        settle(guest)
        assert ran == ["other"]

    with hosted(forever()) as (host, guest):
        guest.loop.call_soon(modal, context=context)
        host.run(lambda: len(ran) == 2)
        settle(guest)
    assert ran == ["other", "same context"]


def test_a_context_that_is_entered_is_free_after_an_exception() -> None:
    """The handle that waited for it makes the descriptor readable, though the outer turn has failed."""
    seen: list[str] = []
    with hosted(forever()) as (host, guest):
        settle(guest)
        context = contextvars.copy_context()

        def outer() -> None:
            guest.loop.call_soon(seen.append, "inner", context=context)
            guest.turn()
            assert not seen
            raise KeyboardInterrupt

        guest.loop.call_soon(outer, context=context)
        with pytest.raises(KeyboardInterrupt):
            guest.turn()
        host.run(lambda: bool(seen))
        assert seen == ["inner"]


def test_a_guest_is_not_closed_within_a_turn() -> None:
    async def main() -> None:
        guest.close()

    with hosted(main()) as (host, guest):
        host.run()
        with pytest.raises(RuntimeError, match="within a turn"):
            guest.result()


def test_other_threads_query_a_guest_that_ends() -> None:
    """Without an interpreter's lock a question may outlast the guest: the loop is given back all the same."""
    guests: list[Guest[None]] = []
    stop = threading.Event()

    def query() -> None:
        while not stop.is_set():
            for guest in guests[-1:]:
                with suppress(RuntimeError):
                    assert guest.fd >= 0
                with suppress(RuntimeError):
                    guest.turn()

    async def nothing() -> None:
        pass

    threads = [threading.Thread(target=query) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(500):
            guests.append(Guest(nothing()))
            guests[-1].close()
            guests.clear()
    finally:
        stop.set()
        for thread in threads:
            thread.join()


# -- an asyncio host -----------------------------------------------------------------------------------------


def test_an_asyncio_loop_as_the_host(loop: asyncio.AbstractEventLoop) -> None:
    async def inner() -> int:
        assert asyncio.get_running_loop() is guest.loop
        async with asyncio.timeout(PATIENCE):
            await asyncio.sleep(0.001)
        return await asyncio.get_running_loop().run_in_executor(None, lambda: 7)

    async def host() -> int:
        nonlocal guest
        over = loop.create_future()
        guest = Guest(inner(), done=over.set_result)
        assert asyncio.get_running_loop() is loop
        watched = guest.fd
        loop.add_reader(watched, guest.turn)
        # Called by a task of the host's as well.
        guest.turn()
        assert asyncio.get_running_loop() is loop
        assert asyncio.current_task() is not None
        await over
        loop.remove_reader(watched)
        return guest.result()

    guest: Guest[int]
    assert loop.run_until_complete(host()) == 7
