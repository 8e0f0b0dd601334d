"""Timers: never early, in deadline order, cheap to cancel, finer than a millisecond."""

from __future__ import annotations

import asyncio
import gc
import itertools
import math
import random
import socket
import threading
import time
import weakref
from typing import Any

import pytest

from .conftest import LoopErrors, LoopFactory
from .support import PATIENCE, control_xfail, turns, whorl_only

Loop = asyncio.AbstractEventLoop

#: What two readings of the clock may differ by for reasons of rounding alone.
ROUNDING = 1e-8


@pytest.mark.parametrize("delay", [0, 0.00001, 0.0001, 0.0005, 0.00099, 0.001, 0.0011, 0.0019, 0.01, 0.0313])
def test_timers_are_never_early(loop: Loop, delay: float) -> None:
    late: list[float] = []
    remaining = 30

    def start() -> None:
        handle = loop.call_later(delay, lambda: fired(handle))

    def fired(handle: asyncio.TimerHandle) -> None:
        nonlocal remaining
        late.append(loop.time() - handle.when())
        remaining -= 1
        if remaining:
            start()
        else:
            loop.stop()

    start()
    loop.run_forever()
    assert min(late) >= -ROUNDING


@pytest.mark.parametrize("delay", [0.0001, 0.0007, 0.0015, 0.0101])
async def test_sleep_is_never_short_by_the_system_clock(loop: Loop, delay: float) -> None:
    for _ in range(30):
        before = time.monotonic()
        await asyncio.sleep(delay)
        assert time.monotonic() - before >= delay - ROUNDING


@control_xfail("selectors.EpollSelector rounds timeouts up to whole milliseconds", strict=False)
async def test_sub_millisecond_sleeps_are_sub_millisecond(loop: Loop) -> None:
    """The best of many, so that a busy machine does not matter."""
    took = []
    for _ in range(500):
        before = time.monotonic()
        await asyncio.sleep(0.0002)
        took.append(time.monotonic() - before)
        if took[-1] < 0.0009:
            break
    assert min(took) < 0.0009


@pytest.mark.jumping_clock
async def test_many_sleepers_wake_in_deadline_order(loop: Loop) -> None:
    woken: list[int] = []
    numbers = list(range(300))
    random.Random(1).shuffle(numbers)

    async def sleeper(number: int) -> None:
        await asyncio.sleep(0.01 + number * 0.0001)
        woken.append(number)

    start = loop.time()
    for number in numbers:
        loop.call_at(start + 0.01 + number * 0.0001, woken.append, number)
    await asyncio.sleep(0.06)
    assert woken == sorted(numbers)


def test_overdue_timers_run_in_deadline_order(loop: Loop) -> None:
    ran: list[int] = []
    start = loop.time()
    numbers = list(range(500))
    random.Random(2).shuffle(numbers)
    for number in numbers:
        loop.call_at(start - 1000 + number, ran.append, number)
    loop.run_until_complete(turns())
    assert ran == sorted(numbers)


@pytest.mark.parametrize("delay", [0, -0.001, -1, -1e9])
def test_zero_and_negative_delays_still_give_a_timer_handle(loop: Loop, delay: float) -> None:
    before = loop.time()
    handle = loop.call_later(delay, loop.stop)
    after = loop.time()
    assert before + delay <= handle.when() <= after + delay
    assert not handle.cancelled()
    loop.run_forever()


@pytest.mark.jumping_clock
def test_zero_and_negative_delays_run_in_deadline_order(loop: Loop) -> None:
    ran: list[str] = []
    loop.call_later(0.001, loop.stop)
    loop.call_later(0, ran.append, "zero")
    loop.call_later(-1, ran.append, "minus one")
    loop.call_later(-100, ran.append, "minus a hundred")
    loop.run_forever()
    assert ran == ["minus a hundred", "minus one", "zero"]


def test_a_zero_delay_does_not_run_in_the_turn_that_made_it(loop: Loop) -> None:
    ran: list[str] = []

    def first() -> None:
        loop.call_later(0, ran.append, "timer")
        loop.stop()

    loop.call_soon(first)
    loop.run_forever()
    assert ran == []
    loop.run_until_complete(turns())
    assert ran == ["timer"]


def test_chained_zero_delays_do_not_starve_io(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    seen: list[bytes] = []

    def again() -> None:
        if seen:
            loop.stop()
        else:
            loop.call_later(0, again)

    with ours, theirs:
        theirs.send(b"x")
        loop.add_reader(ours, lambda: seen.append(ours.recv(1)))
        again()
        loop.run_forever()
        loop.remove_reader(ours)
    assert seen == [b"x"]


@pytest.mark.jumping_clock
@pytest.mark.parametrize("delay", [86400 * 2, 1e10, 1e18, 1e300, math.inf])
def test_huge_delays_are_clamped(loop: Loop, delay: float) -> None:
    """A delay beyond what the kernel or the clock's integer can hold waits; it neither fails nor fires."""
    ran: list[str] = []
    handle = loop.call_later(delay, ran.append, "huge")
    assert handle.when() >= loop.time() + 86400
    loop.run_until_complete(asyncio.sleep(0.002))
    # Alone in the heap, so that it alone sets the timeout of the poll.
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == []
    handle.cancel()


def test_a_loop_with_only_a_huge_delay_still_wakes_up(loop: Loop) -> None:
    handle = loop.call_later(1e300, print)
    thread = threading.Timer(0.02, loop.call_soon_threadsafe, (loop.stop,))
    thread.start()
    loop.run_forever()
    thread.join()
    handle.cancel()


@control_xfail("asyncio checks for None alone, and breaks when it compares", strict=False)
@pytest.mark.parametrize("delay", [None, "1", [], object()])
def test_delays_of_the_wrong_type_are_refused(loop: Loop, delay: Any) -> None:
    with pytest.raises(TypeError):
        loop.call_later(delay, print)
    with pytest.raises(TypeError):
        loop.call_at(delay, print)
    loop.run_until_complete(turns())


@pytest.mark.jumping_clock
def test_a_delay_that_is_not_a_number_does_not_break_the_loop(loop: Loop, loop_errors: LoopErrors) -> None:
    try:
        handle = loop.call_later(math.nan, print)
    except ValueError:
        pass
    else:
        loop.call_soon(handle.cancel)
    assert loop.run_until_complete(asyncio.sleep(0.002, "alive")) == "alive"


def test_integers_booleans_and_floats_are_delays(loop: Loop) -> None:
    ran: list[str] = []
    loop.call_later(0, ran.append, "int")
    loop.call_later(False, ran.append, "bool")
    loop.call_at(int(loop.time()) - 1, ran.append, "call_at")
    loop.run_until_complete(turns())
    assert sorted(ran) == ["bool", "call_at", "int"]


@pytest.mark.jumping_clock
def test_cancelled_timers_never_fire(loop: Loop) -> None:
    ran: list[int] = []
    handles = [loop.call_later(0.002, ran.append, number) for number in range(100)]
    for handle in handles[::2]:
        handle.cancel()
    loop.run_until_complete(asyncio.sleep(0.02))
    assert sorted(ran) == list(range(1, 100, 2))


def test_a_timer_cancelled_by_one_that_is_due_with_it_does_not_fire(loop: Loop) -> None:
    ran: list[str] = []
    start = loop.time() - 1
    later = loop.call_at(start + 0.1, ran.append, "cancelled")
    loop.call_at(start, lambda: (ran.append("first"), later.cancel()))
    loop.run_until_complete(turns())
    assert ran == ["first"]


def test_cancelled_timers_do_not_pile_up(loop: Loop) -> None:
    """What cancelled timers held is gone at once; that their own memory goes too is a test of the scale
    tests."""

    class Thing:
        pass

    alive: list[weakref.ref[Thing]] = []
    loop.set_debug(False)

    def churn() -> None:
        for _ in range(2000):
            thing = Thing()
            alive.append(weakref.ref(thing))
            loop.call_later(3600, print, thing).cancel()

    loop.call_soon(churn)
    loop.run_until_complete(asyncio.sleep(0))
    gc.collect()
    assert not any(ref() for ref in alive)


def test_timers_pending_among_cancelled_ones_keep_their_order(loop: Loop) -> None:
    """Whatever sweeps cancelled timers out of the heap leaves the others in order."""
    ran: list[int] = []
    start = loop.time()
    chance = random.Random(3)
    keep: list[int] = []
    for number in chance.sample(range(20_000), 20_000):
        handle = loop.call_at(start - 100 + number * 0.001, ran.append, number)
        if number % 20:
            handle.cancel()
        else:
            keep.append(number)
    loop.run_until_complete(turns())
    assert ran == sorted(keep)


@pytest.mark.jumping_clock
def test_a_timer_can_be_rearmed_from_its_own_callback(loop: Loop) -> None:
    ran: list[float] = []

    def tick() -> None:
        ran.append(loop.time())
        if len(ran) < 20:
            loop.call_later(0.001, tick)
        else:
            loop.stop()

    tick()
    loop.run_forever()
    assert all(after - before >= 0.001 - ROUNDING for before, after in itertools.pairwise(ran))


def test_when_is_the_deadline(loop: Loop) -> None:
    before = loop.time()
    handle = loop.call_later(12.5, print)
    assert before + 12.5 <= handle.when() <= loop.time() + 12.5
    exact = loop.call_at(1234567.25, print)
    assert exact.when() == 1234567.25
    handle.cancel()
    exact.cancel()
    assert exact.when() == 1234567.25


def test_the_clock_is_monotonic_in_seconds(loop: Loop) -> None:
    before = time.monotonic()
    now = loop.time()
    assert before - ROUNDING <= now <= time.monotonic() + ROUNDING


def test_an_exception_in_a_timer_does_not_stop_the_others(loop: Loop, loop_errors: LoopErrors) -> None:
    ran: list[int] = []
    start = loop.time()
    loop.call_at(start - 2, lambda: 1 / 0)
    loop.call_at(start - 1, ran.append, 1)
    loop.run_until_complete(turns())
    assert isinstance(loop_errors.take()["exception"], ZeroDivisionError)
    assert ran == [1]


@pytest.mark.jumping_clock
async def test_timeouts_cancel_what_runs_over_them(loop: Loop) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.005):
            await asyncio.sleep(PATIENCE)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(loop.create_future(), 0.005)


async def test_timers_follow_a_clock_that_is_turned_by_hand(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Suites of others patch `loop.time` on the instance (aiohttp's do)."""
    real, forward = loop.time, 0.0
    fired: list[str] = []
    monkeypatch.setattr(loop, "time", lambda: real() + forward)
    handle = loop.call_later(3, fired.append, "later")
    await asyncio.sleep(0.001)
    assert not fired
    forward = 4.0
    await asyncio.sleep(0.001)
    await asyncio.sleep(0.001)
    assert fired == ["later"]
    handle.cancel()
    monkeypatch.undo()
    await asyncio.sleep(0.001)


@whorl_only
async def test_handles_are_nothing_to_the_collector(loop: Loop) -> None:
    """While the loop runs."""
    for handle in (loop.call_soon(int), loop.call_soon_threadsafe(int)):
        assert not gc.is_tracked(handle)
    await turns()


def test_a_timer_that_its_loop_keeps_does_not_keep_the_loop(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    loop.cancelled = loop.call_later(3600, int)  # type: ignore[attr-defined]
    loop.pending = loop.call_later(3600, int)  # type: ignore[attr-defined]
    loop.cancelled.cancel()  # type: ignore[attr-defined]
    loop.close()
    gone = weakref.ref(loop)
    del loop
    gc.collect()
    assert gone() is None


async def test_cancelled_timers_go_with_the_next_turn(loop: Loop) -> None:
    """And not only when another timer is cancelled."""

    class Callback:
        def __call__(self) -> None: ...

    timers = [loop.call_later(3600, Callback()) for _ in range(200)]
    for timer in timers:
        timer.cancel()
    gone = [weakref.ref(timer) for timer in timers]
    del timers, timer
    await turns(5)
    assert not any(ref() for ref in gone)


async def test_timers_cancelled_by_another_thread_go_as_well(loop: Loop) -> None:
    """In the loop's next turn, and not an hour later."""
    timers = [loop.call_later(3600, int) for _ in range(200)]
    gone = [weakref.ref(timer) for timer in timers]

    def cancel() -> None:
        for timer in timers:
            timer.cancel()

    await asyncio.to_thread(cancel)
    del cancel
    timers.clear()
    await turns(5)
    assert not any(ref() for ref in gone)
