"""``add_reader`` and ``add_writer`` from other threads than the loop's: handed over in order, never lost.

asyncio's documentation does not promise it, and its loop does it: the kernel takes a change while it is
waited on. ipykernel and tornado rely on it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sysconfig
import tempfile
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import whorl

from .conftest import LoopErrors, Sockets
from .support import PATIENCE, connected, turns, until, whorl_only

Loop = asyncio.AbstractEventLoop


def in_thread(call: Callable[..., Any], *args: Any) -> Any:
    """Calls in a new thread, with this one waiting; returns the result, or raises what it raised."""
    result: list[Any] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            result.append(call(*args))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return result[0]


@pytest.mark.parametrize("call", ["add_reader", "add_writer"])
async def test_a_loop_that_sleeps_wakes_for_a_new_callback(loop: Loop, pair: Sockets, call: str) -> None:
    ours, theirs = pair
    ran_in: asyncio.Future[int] = loop.create_future()
    remove = getattr(loop, call.replace("add", "remove"))

    def ready() -> None:
        remove(ours)
        ran_in.set_result(threading.get_ident())

    # The loop has nothing to do meanwhile, and no deadline that would wake it in time.
    adding = threading.Timer(0.05, lambda: (getattr(loop, call)(ours, ready), theirs.send(b"x")))
    adding.start()
    assert await asyncio.wait_for(ran_in, PATIENCE) == threading.get_ident()
    adding.join()


async def test_arguments_and_context_are_the_callers(loop: Loop, pair: Sockets) -> None:
    got: asyncio.Future[tuple[object, ...]] = loop.create_future()
    pair[1].send(b"x")
    in_thread(loop.add_reader, pair[0], lambda *args: got.done() or got.set_result(args), 1, "two")
    assert await got == (1, "two")
    assert in_thread(loop.remove_reader, pair[0])


async def test_a_callback_that_is_removed_is_not_called_again(loop: Loop, pair: Sockets) -> None:
    """Not even for data that the loop has seen already: the caller may have closed the descriptor."""
    ours, theirs = pair
    called: list[int] = []
    loop.add_reader(ours, called.append, 1)
    theirs.send(b"x")
    assert in_thread(loop.remove_reader, ours) is True
    assert in_thread(loop.remove_reader, ours) is False
    assert loop.remove_reader(ours) is False
    await turns(5)
    assert called == []


async def test_the_result_of_remove_is_the_same_in_every_thread(loop: Loop, pair: Sockets) -> None:
    ours, _ = pair
    assert in_thread(loop.remove_reader, ours) is False
    assert in_thread(loop.remove_writer, ours) is False
    in_thread(loop.add_reader, ours, print)
    assert in_thread(loop.remove_writer, ours) is False
    assert loop.remove_reader(ours) is True
    in_thread(loop.add_writer, ours, print)
    assert in_thread(loop.remove_writer, ours) is True
    assert loop.remove_writer(ours) is False


async def test_changes_are_made_in_order(loop: Loop, pair: Sockets) -> None:
    ours, theirs = pair
    called: list[str] = []

    def changes() -> None:
        loop.add_reader(ours, called.append, "first")
        loop.remove_reader(ours)
        loop.add_reader(ours, called.append, "second")
        loop.add_reader(ours, lambda: (ours.recv(1), called.append("third")))

    theirs.send(b"x")
    in_thread(changes)
    await until(lambda: called)
    assert called == ["third"]
    assert loop.remove_reader(ours)


async def test_what_a_thread_adds_is_there_for_what_it_schedules(loop: Loop, pair: Sockets) -> None:
    removed: asyncio.Future[bool] = loop.create_future()

    def changes() -> None:
        loop.add_reader(pair[0], print)
        loop.call_soon_threadsafe(lambda: removed.set_result(loop.remove_reader(pair[0])))

    in_thread(changes)
    assert await removed is True


async def test_a_late_removal_spares_the_numbers_next_callback(loop: Loop, pair: Sockets) -> None:
    """The loop adds one for a new descriptor of the same number before it comes to the removal."""
    ours, theirs = pair
    got: asyncio.Future[None] = loop.create_future()
    read, write = os.pipe()
    loop.add_reader(read, print)

    def changes() -> None:
        loop.remove_reader(read)
        os.close(read)

    in_thread(changes)
    os.dup2(ours.fileno(), read)
    loop.add_reader(read, lambda: got.done() or got.set_result(None))
    await turns()
    theirs.send(b"x")
    await asyncio.wait_for(got, PATIENCE)
    assert loop.remove_reader(read)
    os.close(read)
    os.close(write)


async def test_a_late_addition_is_dropped_once_it_is_replaced(loop: Loop, pair: Sockets) -> None:
    ours, theirs = pair
    called: list[str] = []
    in_thread(loop.add_reader, ours, called.append, "handed over")
    loop.add_reader(ours, lambda: (ours.recv(1), called.append("own")))
    theirs.send(b"x")
    await until(lambda: called)
    await turns()
    assert called == ["own"]
    assert loop.remove_reader(ours)


async def test_a_file_object_that_was_closed_is_still_known(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        in_thread(loop.add_reader, ours, print)
        await turns()
        ours.close()
        assert in_thread(loop.remove_reader, ours) is True


@pytest.mark.parametrize("call", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
@pytest.mark.parametrize("bad", ["text", None, object(), -1])
async def test_what_is_no_descriptor_is_refused_at_once(loop: Loop, call: str, bad: Any) -> None:
    arguments = (print,) if call.startswith("add") else ()
    with pytest.raises((TypeError, ValueError)):
        in_thread(getattr(loop, call), bad, *arguments)


@pytest.mark.parametrize("call", ["add_reader", "add_writer"])
async def test_a_closed_descriptor_is_refused_at_once(loop: Loop, call: str) -> None:
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    with pytest.raises(OSError, match=r"\[Errno 9\]"):
        in_thread(getattr(loop, call), read, print)
    assert in_thread(loop.remove_reader, read) is False


@whorl_only
@pytest.mark.parametrize("call", ["add_reader", "add_writer"])
async def test_what_cannot_be_watched_goes_to_the_exception_handler(
    loop: Loop, loop_errors: LoopErrors, call: str
) -> None:
    with tempfile.TemporaryFile() as file:
        in_thread(getattr(loop, call), file, print)
        await until(lambda: loop_errors)
        context = loop_errors.take()
        assert (
            context["message"] == f"{call}() from another thread failed for file descriptor {file.fileno()}"
        )
        assert isinstance(context.pop("exception"), PermissionError)
        assert in_thread(getattr(loop, call.replace("add", "remove")), file) is False


@whorl_only
async def test_a_descriptor_that_a_transport_owns_goes_to_the_exception_handler(
    loop: Loop, loop_errors: LoopErrors
) -> None:
    async with connected() as connection:
        number = connection.transport.get_extra_info("socket").fileno()
        in_thread(loop.add_reader, number, print)
        await until(lambda: loop_errors)
        context = loop_errors.take()
        assert str(number) in context["message"]
        assert "is used by transport" in str(context.pop("exception"))
        assert in_thread(loop.remove_reader, number) is False
        await connection.peer_sends(b"still works")
        await connection.protocol.received(11)


async def test_the_file_object_is_kept_alive(loop: Loop) -> None:
    read, write = os.pipe()

    class File:
        def fileno(self) -> int:
            return read

    file = File()
    alive = weakref.ref(file)
    in_thread(loop.add_reader, file, print)
    del file
    gc.collect()
    assert alive() is not None
    await turns()
    gc.collect()
    assert alive() is not None
    assert in_thread(loop.remove_reader, read)
    await turns()
    gc.collect()
    assert alive() is None
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("call", ["add_reader", "add_writer"])
async def test_debug_mode_does_not_check_the_thread(loop: Loop, pair: Sockets, call: str) -> None:
    loop.set_debug(True)
    in_thread(getattr(loop, call), pair[0], int)
    loop.set_debug(False)
    assert getattr(loop, call.replace("add", "remove"))(pair[0])


def test_a_closed_loop_takes_no_callback(loop: Loop, pair: Sockets) -> None:
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        in_thread(loop.add_reader, pair[0], print)
    assert in_thread(loop.remove_reader, pair[0]) is False


@pytest.mark.parametrize("_again", range(50))
def test_a_loop_about_to_run_in_another_thread_takes_callbacks(
    loop: Loop, pair: Sockets, _again: int
) -> None:
    """Whether it has begun to run or not makes no difference: no callback is lost, and none is refused."""
    ours, theirs = pair
    theirs.send(b"x")
    ran = threading.Event()

    def ready() -> None:
        loop.remove_reader(ours)
        ran.set()

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    loop.add_reader(ours, ready)
    assert ran.wait(PATIENCE)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


async def test_many_threads_add_and_remove_at_once(loop: Loop) -> None:
    """Each descriptor's last callback is called, however the changes of the threads fall together."""
    if sysconfig.get_config_var("Py_GIL_DISABLED") and not isinstance(loop, whorl.EventLoop):
        pytest.skip("control: a handle of asyncio's that is cancelled while it begins to run raises")
    count, rounds = 4, 200
    pairs = [socket.socketpair() for _ in range(count)]
    got: set[int] = set()

    def work(number: int) -> None:
        ours, _ = pairs[number]
        for _ in range(rounds):
            loop.add_reader(ours, print)
            loop.add_writer(ours, int)
            assert loop.remove_reader(ours)
            assert loop.remove_writer(ours)
        loop.add_reader(ours, lambda: (ours.recv(1), got.add(number)))

    await asyncio.gather(*(asyncio.to_thread(work, number) for number in range(count)))
    for _, theirs in pairs:
        theirs.send(b"x")
    await until(lambda: len(got) == count)
    for ours, theirs in pairs:
        assert in_thread(loop.remove_reader, ours)
        ours.close()
        theirs.close()
