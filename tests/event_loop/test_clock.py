"""The clock of a loop is one value: what the user puts in its place is what every timer goes by."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import whorl

from .support import whorl_only

Loop = asyncio.AbstractEventLoop


def test_a_clock_in_place_of_the_loops_own(loop: Loop) -> None:
    moved = 0.0
    replaced: Any = loop
    replaced.time = lambda: time.monotonic() + moved
    ran: list[str] = []
    handle = loop.call_later(3600, ran.append, "timer")
    assert 3599 < handle.when() - time.monotonic() <= 3600

    def move() -> None:
        nonlocal moved
        moved = 3601.0
        loop.call_later(0, loop.stop)

    loop.call_soon(move)
    loop.run_forever()
    assert ran == ["timer"]


def test_a_clock_is_given_back(loop: Loop) -> None:
    replaced: Any = loop
    replaced.time = lambda: 5.0
    assert loop.call_later(1, print).when() == 6.0
    del replaced.time
    assert loop.call_later(1, print).when() - time.monotonic() > 0


@whorl_only
def test_a_subclass_with_a_clock_of_its_own() -> None:
    class Loop(whorl.EventLoop):
        now = 1000.0

        def time(self) -> float:
            return self.now

    loop = Loop()
    try:
        ran: list[str] = []
        assert loop.call_later(50, ran.append, "timer").when() == 1050.0

        def move() -> None:
            loop.now += 50
            loop.call_later(0, loop.stop)

        loop.call_soon(move)
        loop.run_forever()
        assert ran == ["timer"]
    finally:
        loop.close()


@whorl_only
def test_what_a_clock_raises_leaves_the_loop(loop: Loop) -> None:
    class BrokenClockError(Exception):
        pass

    def broken() -> float:
        raise BrokenClockError

    replaced: Any = loop
    loop.call_later(3600, print)
    replaced.time = broken
    try:
        loop.run_forever()
    except BrokenClockError:
        pass
    else:
        raise AssertionError("the loop continued without a clock")
    finally:
        del replaced.time
    # The loop is whole.
    loop.run_until_complete(asyncio.sleep(0))
