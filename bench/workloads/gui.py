"""In a toolkit's main loop: both ends on one loop, frames that are drawn in time, and an idle window."""

from __future__ import annotations

import asyncio
import queue
import resource
import statistics
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.workloads.network import Echo

if TYPE_CHECKING:
    from bench.workloads import Batch, Setting

_ROUND_TRIPS = 500
_SLEEPS = 300
_FRAMES = 60
#: From frame to frame, by the toolkit's own timer: not the same, so that none is in step with the turns.
_FRAME_MS = (16, 17, 18, 19)
#: Until a new window has been drawn.
_SETTLED_S = 0.3
_IDLE_S = 2.0
_SHORT_S = 0.1
#: For which the thread may be kept from its core in an interval that counts.
_UNDISTURBED_S = 0.0002


class _Client(asyncio.Protocol):
    """Sends a message when all of the one before has come back, and stops the loop after the last."""

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int) -> None:
        self._loop = loop
        self._message = b"x" * size
        self._missing = 0
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def start(self, times: int) -> None:
        self._left = times
        self._missing = len(self._message)
        self._transport.write(self._message)

    def data_received(self, data: bytes) -> None:
        self._missing -= len(data)
        if self._missing:
            return
        self._left -= 1
        if self._left:
            self._missing = len(self._message)
            self._transport.write(self._message)
        else:
            self._loop.stop()


def echo_own(setting: Setting) -> Batch:
    """One connection with both ends on the loop: a message and its echo, one after the other."""
    loop = setting.loop

    async def connect() -> tuple[asyncio.Server, _Client]:
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        _, client = await loop.create_connection(lambda: _Client(loop, setting.size), "127.0.0.1", port)
        return server, client

    server, client = loop.run_until_complete(connect())

    def batch() -> int:
        assert server.is_serving()
        client.start(_ROUND_TRIPS)
        loop.run_forever()
        return _ROUND_TRIPS

    return batch


def threadsafe_await(setting: Setting) -> Batch:
    """A task awaits futures that another thread resolves; the time of both threads counts."""
    loop = setting.loop
    futures: queue.SimpleQueue[asyncio.Future[None]] = queue.SimpleQueue()

    def resolve() -> None:
        while True:
            loop.call_soon_threadsafe(futures.get().set_result, None)

    threading.Thread(target=resolve, daemon=True).start()

    async def main() -> None:
        for _ in range(_ROUND_TRIPS):
            future = loop.create_future()
            futures.put(future)
            await future

    def batch() -> int:
        loop.run_until_complete(main())
        return _ROUND_TRIPS

    return batch


async def sleep_median(setting: Setting) -> float:
    """How far from 1 ms ``sleep(1 ms)`` ends, earlier or later, in the median, in ms."""
    return statistics.median(await _sleeps())


async def sleep_greatest(setting: Setting) -> float:
    """The same at most."""
    return max(await _sleeps())


async def _sleeps() -> list[float]:
    await asyncio.sleep(_SETTLED_S)
    found: list[float] = []
    while len(found) < _SLEEPS:
        interval = _Interval()
        await asyncio.sleep(0.001)
        if (passed := interval.milliseconds()) is not None:
            found.append(abs(passed - 1))
    return found


async def frame_lateness(setting: Setting) -> float:
    """By how many ms the toolkit's timer is late at most while the loop always has a callback to run."""
    late: list[float] = []
    done = await _busy(setting.loop)

    def frame(interval: _Interval, due: int) -> None:
        if (passed := interval.milliseconds()) is not None:
            late.append(passed - due)
        if len(late) < _FRAMES:
            schedule()
        else:
            done.set_result(None)

    def schedule() -> None:
        interval, due = _Interval(), _FRAME_MS[len(late) % len(_FRAME_MS)]
        setting.window.after(due, lambda: frame(interval, due))

    # Not in this callback: the first call of a toolkit's timer takes some milliseconds.
    setting.window.after(1, schedule)
    await done
    return max(late)


async def frames_missed(setting: Setting) -> float:
    """How many redraws have not come when the toolkit's timer comes again, while the loop is busy."""
    window, missed, frames, is_drawn = setting.window, 0, 0, True
    done = await _busy(setting.loop)

    def frame() -> None:
        nonlocal missed, frames, is_drawn
        missed += not is_drawn
        frames += 1
        if frames > _FRAMES:
            done.set_result(None)
            return
        if is_drawn:
            is_drawn = False
            window.when_idle(redraw)
        window.after(_FRAME_MS[0], frame)

    def redraw() -> None:
        nonlocal is_drawn
        is_drawn = True

    frame()
    await done
    return missed


async def _busy(loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
    """Keep the loop busy by callbacks that each schedule the next, until the returned future is done."""
    await asyncio.sleep(_SETTLED_S)
    done = loop.create_future()

    def spin() -> None:
        if not done.done():
            loop.call_soon(spin)

    spin()
    return done


async def idle_wake_ups(setting: Setting) -> float:
    """How often in a second threads of the process wake up, and wait again, that has nothing to do."""
    await asyncio.sleep(_SETTLED_S)
    added = []
    for seconds in (_SHORT_S, _SHORT_S + _IDLE_S):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
        await asyncio.sleep(seconds)
        added.append(resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before)
    # What a sleep costs, however long, is not counted.
    return max(added[1] - added[0], 0) / _IDLE_S


async def idle_cpu(setting: Setting) -> float:
    """CPU time of a sleep of two seconds with nothing else to do, for each of them, in microseconds."""
    await asyncio.sleep(_SETTLED_S)
    before = time.process_time()
    await asyncio.sleep(_IDLE_S)
    return (time.process_time() - before) * 1e6 / _IDLE_S


class _Interval:
    """A time that begins now, on the loop's thread."""

    def __init__(self) -> None:
        self._delayed = _delayed_s()
        self._began = time.perf_counter()

    def milliseconds(self) -> float | None:
        """How long it has been; None if meanwhile the thread was ready to run, and another had the core."""
        passed = time.perf_counter() - self._began
        return None if _delayed_s() - self._delayed > _UNDISTURBED_S else passed * 1000


def _delayed_s() -> float:
    """For how long this thread has been ready to run and without a core so far."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
