"""What a loop still has when it is closed: it does not keep the objects that belong to it alive."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import LoopFactory, Sockets
from .support import whorl_only

Loop = asyncio.AbstractEventLoop


class Holder:
    """Holds what the loop gave it for one of its own methods: a circle through the loop."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.handle: Any = None

    def expire(self, *_arguments: object) -> None:
        raise AssertionError("the loop is closed")


def from_a_thread(loop: Loop, call: Callable[[], Any]) -> Any:
    """Calls in another thread during a turn of the loop, which ends with that turn."""
    result: list[Any] = []

    def turn() -> None:
        thread = threading.Thread(target=lambda: result.append(call()))
        thread.start()
        thread.join()
        loop.stop()

    loop.call_soon(turn)
    loop.run_forever()
    return result[0]


Pending = Callable[[Loop, Holder, Sockets], Any]
PENDING: dict[str, Pending] = {
    "call_soon": lambda loop, holder, _: loop.call_soon(holder.expire),
    "call_later": lambda loop, holder, _: loop.call_later(1000, holder.expire),
    "call_at": lambda loop, holder, _: loop.call_at(loop.time() + 1000, holder.expire, holder),
    "call_soon_threadsafe": lambda loop, holder, _: loop.call_soon_threadsafe(holder.expire),
    "call_soon_threadsafe in another thread": lambda loop, holder, _: from_a_thread(
        loop, lambda: loop.call_soon_threadsafe(holder.expire)
    ),
    "add_reader": lambda loop, holder, pair: loop._add_reader(pair[0], holder.expire),  # type: ignore[attr-defined]
    "add_writer": lambda loop, holder, pair: loop._add_writer(pair[0], holder.expire),  # type: ignore[attr-defined]
    "add_signal_handler": lambda loop, holder, _: loop.add_signal_handler(signal.SIGUSR1, holder.expire),
    "a future's callback": lambda loop, holder, _: _future_of(loop, holder),
}


def _future_of(loop: Loop, holder: Holder) -> asyncio.Future[None]:
    future: asyncio.Future[None] = loop.create_future()
    future.add_done_callback(holder.expire)
    future.set_result(None)
    return future


@pytest.mark.parametrize("kind", PENDING)
def test_a_closed_loop_keeps_nothing_that_was_pending(loop: Loop, pair: Sockets, kind: str) -> None:
    holder = Holder(loop)
    holder.handle = PENDING[kind](loop, holder, pair)
    alive = weakref.ref(holder)
    loop.close()
    del holder
    gc.collect()
    assert alive() is None


def _call_threadsafe_in_thread(loop: Loop, holder: Holder) -> asyncio.Handle:
    """Of a loop that does not run."""
    made: list[asyncio.Handle] = []
    thread = threading.Thread(target=lambda: made.append(loop.call_soon_threadsafe(holder.expire)))
    thread.start()
    thread.join()
    return made[0]


def _call_in_last_turn(loop: Loop, holder: Holder) -> asyncio.Handle:
    made: list[asyncio.Handle] = []

    def turn() -> None:
        loop.stop()
        made.append(loop.call_soon(holder.expire))

    loop.call_soon(turn)
    loop.run_forever()
    return made[0]


def _call_after_a_run(loop: Loop, holder: Holder) -> asyncio.Handle:
    loop.call_soon(loop.stop)
    loop.run_forever()
    return loop.call_soon(holder.expire)


def _call_with_its_list(loop: Loop, holder: Holder) -> list[asyncio.Handle]:
    handles: list[asyncio.Handle] = []
    handles.append(loop.call_soon(holder.expire, handles))
    return handles


def _leave_injected(loop: Loop, holder: Holder) -> None:
    from_a_thread(loop, lambda: loop.call_soon_threadsafe(holder.expire))


LEFT: dict[str, Callable[[Loop, Holder], Any]] = {
    "call_soon": lambda loop, holder: loop.call_soon(holder.expire),
    "call_soon in the last turn": _call_in_last_turn,
    "call_soon after a run": _call_after_a_run,
    "call_soon with its list": _call_with_its_list,
    "call_soon_threadsafe in another thread": _call_threadsafe_in_thread,
    "call_soon_threadsafe in another thread, in the last turn": lambda loop, holder: from_a_thread(
        loop, lambda: loop.call_soon_threadsafe(holder.expire)
    ),
    "call_soon_threadsafe in another thread, without the handle": _leave_injected,
    "call_later": lambda loop, holder: loop.call_later(1000, holder.expire),
    "call_at": lambda loop, holder: loop.call_at(loop.time() + 1000, holder.expire, holder),
}


@pytest.mark.parametrize("kind", LEFT)
def test_a_loop_that_is_dropped_unclosed_keeps_nothing(loop_factory: LoopFactory, kind: str) -> None:
    """Not even the handle that its holder has, which is part of the cycle as well."""

    def drop() -> weakref.ref[Holder]:
        holder = Holder(loop_factory())
        holder.handle = LEFT[kind](holder.loop, holder)
        return weakref.ref(holder)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        alive = drop()
        gc.collect()
    assert alive() is None


class Memory(bytearray):
    """Memory that a loop is lent, and that holds the loop."""

    holder: Holder


@pytest.mark.parametrize("lend", [Memory, memoryview])
@pytest.mark.parametrize("method", ["sock_sendall", "sock_recv_into"])
def test_a_loop_that_is_dropped_unclosed_keeps_no_memory_lent_to_it(
    loop_factory: LoopFactory, pair: Sockets, method: str, lend: type[Memory | memoryview]
) -> None:
    """The operation waits, and the object whose memory it uses is part of a cycle through the loop."""

    def drop() -> weakref.ref[Holder]:
        holder = Holder(loop_factory())
        memory = Memory(8 * 1024 * 1024)
        memory.holder = holder
        lent = memory if lend is Memory else memoryview(memory)

        async def wait() -> None:
            await getattr(holder.loop, method)(pair[0], lent)

        holder.handle = holder.loop.create_task(wait())
        holder.handle._log_destroy_pending = False
        holder.loop.call_soon(lambda: holder.loop.call_soon(holder.loop.stop))
        holder.loop.run_forever()
        assert not holder.handle.done()
        return weakref.ref(holder)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        alive = drop()
        gc.collect()
    assert alive() is None


@whorl_only
@pytest.mark.parametrize("call", ["call_soon", "call_later", "add_reader", "add_writer"])
def test_a_closed_loop_keeps_nothing_that_was_handed_over(loop: Loop, pair: Sockets, call: str) -> None:
    """What another thread has left, and the loop has not taken any more."""
    leading: tuple[Any, ...] = {"call_soon": (), "call_later": (1000,)}.get(call, (pair[0],))

    def hand_over() -> weakref.ref[Holder]:
        holder = Holder(loop)
        holder.handle = from_a_thread(loop, lambda: getattr(loop, call)(*leading, holder.expire))
        return weakref.ref(holder)

    alive = hand_over()
    loop.close()
    gc.collect()
    assert alive() is None


def test_a_closed_loop_keeps_no_socket_operation(loop: Loop, pair: Sockets) -> None:
    async def receive(holder: Holder) -> None:
        await loop.sock_recv(pair[0], 100)
        holder.expire()

    holder = Holder(loop)
    holder.handle = loop.create_task(receive(holder))
    # It is destroyed while it is pending, which is what this test is about.
    holder.handle._log_destroy_pending = False
    loop.call_soon(loop.stop)
    loop.run_forever()
    alive = weakref.ref(holder)
    loop.close()
    del holder
    gc.collect()
    assert alive() is None


def test_what_a_handle_says_once_its_loop_is_closed(loop: Loop) -> None:
    """It was not cancelled, and it may still be."""
    handles = [loop.call_soon(print), loop.call_later(1000, print), loop.call_soon_threadsafe(print)]
    loop.close()
    for handle in handles:
        assert not handle.cancelled()
        assert "Handle" in repr(handle)
        assert "cancelled" not in repr(handle)
    assert handles[1].when() > 0  # type: ignore[attr-defined]
    for handle in handles:
        handle.cancel()
        assert handle.cancelled()
        assert "cancelled" in repr(handle)


def test_finalisers_at_close_find_the_loop_closed(loop: Loop) -> None:
    """They run while `close()` drops what was pending, and may use the loop."""
    found: list[object] = []

    class Finalised:
        def __del__(self) -> None:
            found.append(loop.is_closed())
            try:
                loop.call_soon(print)
            except RuntimeError as error:
                found.append(str(error))

    loop.call_soon(print, Finalised())
    loop.call_later(1000, print, Finalised())
    loop.close()
    gc.collect()
    assert [result for result in found if result is not True] == ["Event loop is closed"] * 2


def test_loops_made_and_closed_with_pending_timers_leave_nothing(loop_factory: LoopFactory) -> None:
    holders: weakref.WeakSet[Holder] = weakref.WeakSet()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        holder = Holder(loop)
        holder.handle = loop.call_later(1000, holder.expire)
        holders.add(holder)

    for _ in range(20):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())
    gc.collect()
    assert len(holders) == 0


def test_fast_methods_keep_nothing(loop_factory: LoopFactory) -> None:
    """Outside of a run: what a call was given is not kept until some other call."""
    loop = loop_factory()
    reference = weakref.ref(loop)
    loop.create_future()
    loop.call_soon(print).cancel()
    loop.call_later(1, print).cancel()
    loop.call_soon_threadsafe(print).cancel()
    loop.close()
    loop.create_future()
    del loop
    gc.collect()
    assert reference() is None
