"""Handles that have run are used again, unless anything still refers to them."""

from __future__ import annotations

import asyncio
import sys
import sysconfig
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import LoopFactory
from .support import whorl_only

Loop = asyncio.AbstractEventLoop

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
MANY = 100


def turn(loop: Loop) -> None:
    loop.call_soon(loop.stop)
    loop.run_forever()


@whorl_only
@pytest.mark.skipif(
    FREE_THREADED and sys.version_info < (3, 14), reason="the interpreter has no check before 3.14"
)
def test_handles_that_have_run_are_used_again(loop: Loop, loop_factory: LoopFactory) -> None:
    """Their memory is not free for the handles of another loop, and the same loop's next ones are in it."""
    addresses = {id(loop.call_soon(int)) for _ in range(MANY)}
    assert len(addresses) == MANY
    turn(loop)
    other = loop_factory()
    others = [other.call_soon(int) for _ in range(10 * MANY)]
    assert not addresses & {id(handle) for handle in others}
    again = {id(loop.call_soon(int)) for _ in range(MANY // 2)}
    # But for the one of the callback that ended the turn.
    assert len(again - addresses) <= 1
    other.close()


def in_a_list(handle: Any) -> Callable[[], object]:
    kept = [handle]
    return lambda: kept[0].cancel()


def by_a_method(handle: Any) -> Callable[[], object]:
    cancel: Callable[[], object] = handle.cancel
    return cancel


def in_another_thread(handle: Any) -> Callable[[], object]:
    """A thread that holds it in a local variable, and cancels it when `requested` is set."""
    requested, ready = threading.Event(), threading.Event()

    def hold(mine: Any) -> None:
        ready.set()
        requested.wait()
        mine.cancel()

    thread = threading.Thread(target=hold, args=(handle,))
    thread.start()
    ready.wait()

    def cancel() -> None:
        requested.set()
        thread.join()

    return cancel


@pytest.mark.parametrize("hold", [in_a_list, by_a_method, in_another_thread])
def test_a_handle_that_is_held_is_not_used_again(
    loop: Loop, hold: Callable[[Any], Callable[[], object]]
) -> None:
    """Cancelling it later must not cancel another callback."""
    ran: list[int] = []
    holds = [hold(loop.call_soon(int)) for _ in range(5)]
    turn(loop)
    for number in range(MANY):
        loop.call_soon(ran.append, number)
    for cancel in holds:
        cancel()
    turn(loop)
    assert ran == list(range(MANY))


def test_a_weak_reference_does_not_find_a_handle_again(loop: Loop) -> None:
    references = [weakref.ref(loop.call_soon(int)) for _ in range(5)]
    gone: list[object] = []
    finalizers = [weakref.finalize(loop.call_soon(int), gone.append, number) for number in range(5)]
    turn(loop)
    assert len(gone) == 5
    later = [loop.call_soon(int) for _ in range(MANY)]
    assert [reference() for reference in references] == [None] * 5
    assert not any(finalizer.alive for finalizer in finalizers)
    del later
    turn(loop)


async def test_a_handle_of_another_thread_runs_and_is_dropped(loop: Loop) -> None:
    ran: list[int] = []

    def schedule() -> None:
        for number in range(MANY):
            loop.call_soon_threadsafe(ran.append, number)

    await asyncio.to_thread(schedule)
    await asyncio.to_thread(schedule)
    await asyncio.sleep(0)
    assert ran == [*range(MANY), *range(MANY)]
