"""Batches of callbacks, timers, tasks and futures. Each takes some 5 to 50 ms on stock asyncio."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.workloads import Batch, Setting

_CHAIN = 10_000
_PER_TURN = 1_000
_TURNS = 20
_FAR_AWAY_S = 60.0


def _nothing() -> None:
    pass


def _chain(loop: asyncio.AbstractEventLoop, schedule: Callable[[Callable[[], None]], Any]) -> Batch:
    """A batch in which every callback schedules the next one by `schedule`."""

    def batch() -> int:
        left = _CHAIN

        def step() -> None:
            nonlocal left
            left -= 1
            if left:
                schedule(step)
            else:
                loop.stop()

        schedule(step)
        loop.run_forever()
        return _CHAIN

    return batch


def _turns(loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> Batch:
    """A batch of `_TURNS` turns of the loop, each doing `work` that is `_PER_TURN` operations."""

    def batch() -> int:
        left = _TURNS

        def turn() -> None:
            nonlocal left
            work()
            left -= 1
            loop.call_soon(turn if left else loop.stop)

        loop.call_soon(turn)
        loop.run_forever()
        return _TURNS * _PER_TURN

    return batch


def call_soon_chain(setting: Setting) -> Batch:
    """One callback a turn."""
    return _chain(setting.loop, setting.loop.call_soon)


def call_soon_batch(setting: Setting) -> Batch:
    """A thousand callbacks a turn."""
    loop = setting.loop

    def work() -> None:
        for _ in range(_PER_TURN):
            loop.call_soon(_nothing)

    return _turns(loop, work)


def call_later_cancel(setting: Setting) -> Batch:
    """Timers made and cancelled, as timeouts are; what the loop does with the dead ones is part of it."""
    loop = setting.loop

    def work() -> None:
        for _ in range(_PER_TURN):
            loop.call_later(_FAR_AWAY_S, _nothing).cancel()

    return _turns(loop, work)


def sleep_zero(setting: Setting) -> Batch:
    """A task that yields."""

    async def main() -> None:
        for _ in range(_CHAIN):
            await asyncio.sleep(0)

    def batch() -> int:
        setting.loop.run_until_complete(main())
        return _CHAIN

    return batch


def gather_many(setting: Setting) -> Batch:
    """50,000 tasks made at once, each finishing in its first step."""
    count = 50_000

    async def nothing() -> None:
        pass

    async def main() -> None:
        await asyncio.gather(*[nothing() for _ in range(count)])

    def batch() -> int:
        setting.loop.run_until_complete(main())
        return count

    return batch


def future_wake_up(setting: Setting) -> Batch:
    """A task waits for a future that a callback resolves."""
    loop = setting.loop

    async def main() -> None:
        for _ in range(_CHAIN):
            future = loop.create_future()
            loop.call_soon(future.set_result, None)
            await future

    def batch() -> int:
        loop.run_until_complete(main())
        return _CHAIN

    return batch


def call_soon_readable(setting: Setting) -> Batch:
    """One callback a turn, while a watched descriptor stays readable and its callback does nothing."""
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.write(writable, b"x")
    setting.loop.add_reader(readable, _nothing)
    return _chain(setting.loop, setting.loop.call_soon)


def threadsafe_own(setting: Setting) -> Batch:
    """call_soon_threadsafe from the loop's own thread, one callback a turn."""
    return _chain(setting.loop, setting.loop.call_soon_threadsafe)


def threadsafe_other(setting: Setting) -> Batch:
    """Another thread posts callbacks as fast as it can while the loop runs; both threads' time counts."""
    loop = setting.loop

    def batch() -> int:
        left = _CHAIN

        def arrived() -> None:
            nonlocal left
            left -= 1
            if not left:
                loop.stop()

        def post() -> None:
            for _ in range(_CHAIN):
                loop.call_soon_threadsafe(arrived)

        thread = threading.Thread(target=post)
        loop.call_soon(thread.start)
        loop.run_forever()
        thread.join()
        return _CHAIN

    return batch
