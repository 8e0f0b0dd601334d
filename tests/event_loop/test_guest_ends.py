"""A loop inside the main loop of another program: exceptions, the end, and main loops within main loops."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import gc
import inspect
import os
import resource
import signal
import sys
import threading
import warnings
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from whorl.guest import Guest

from .guest_support import forever, hosted, is_readable, settle
from .support import PATIENCE, open_fds

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


def test_the_descriptor_is_open_until_the_host_has_been_notified() -> None:
    """A host stops to watch a number that no other file has got meanwhile."""
    seen: list[tuple[int, int]] = []

    async def nothing() -> None:
        pass

    def done(guest: Guest[None]) -> None:
        seen.append((guest.fd, os.fstat(guest.fd).st_ino))

    guest = Guest(nothing(), done=done)
    watched = guest.fd, os.fstat(guest.fd).st_ino
    while not guest.done:
        guest.turn()
    assert seen == [watched]
    with pytest.raises(RuntimeError, match="has ended"):
        _fd = guest.fd
    guest = Guest(forever(), done=done)
    watched = guest.fd, os.fstat(guest.fd).st_ino
    guest.close()
    assert seen[1:] == [watched]


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
