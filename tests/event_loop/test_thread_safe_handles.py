"""The handles that `call_soon_threadsafe()` returns to other threads: cancelling waits for a run."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from .support import PATIENCE

Loop = asyncio.AbstractEventLoop


@pytest.mark.skipif(
    sys.version_info < (3, 14), reason="cancelling waits for a running callback from Python 3.14 on"
)
def test_cancelling_a_threadsafe_handle_waits_while_it_runs(loop: Loop) -> None:
    events: list[str] = []
    started, cancelling = threading.Event(), threading.Event()

    def callback() -> None:
        started.set()
        cancelling.wait(PATIENCE)
        # The other thread is inside cancel() now, or about to be: give it time to come out wrongly.
        cancelled.wait(0.1)
        events.append("callback returns")
        loop.call_soon(loop.stop)

    cancelled = threading.Event()

    def cancel() -> None:
        started.wait(PATIENCE)
        cancelling.set()
        handle.cancel()
        events.append("cancel returns")
        cancelled.set()

    handle = loop.call_soon_threadsafe(callback)
    thread = threading.Thread(target=cancel)
    thread.start()
    loop.run_forever()
    thread.join()
    assert events == ["callback returns", "cancel returns"]


@pytest.mark.skipif(
    sys.version_info < (3, 14), reason="cancelling waits for a running callback from Python 3.14 on"
)
def test_a_threadsafe_handle_is_not_running_when_cancel_returns(loop: Loop) -> None:
    """It has not begun or is over, wherever the two threads meet."""
    seen: set[tuple[str, ...]] = set()

    def callback(events: list[str]) -> None:
        events.append("begins")
        for _ in range(50):
            pass
        events.append("ends")

    def schedule_and_cancel() -> None:
        for number in range(1000):
            events: list[str] = []
            handle = loop.call_soon_threadsafe(callback, events)
            for _ in range(number % 50):
                pass
            handle.cancel()
            seen.add(tuple(events))
        loop.call_soon_threadsafe(loop.stop)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        thread = threading.Thread(target=schedule_and_cancel)
        thread.start()
        loop.run_forever()
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert seen <= {(), ("begins", "ends")}


@pytest.mark.skipif(sys.version_info < (3, 14), reason="threadsafe handles have a lock from Python 3.14 on")
def test_a_threadsafe_handle_can_be_cancelled_from_its_own_callback(loop: Loop) -> None:
    handles: list[asyncio.Handle] = []
    handles.append(loop.call_soon_threadsafe(lambda: (handles[0].cancel(), loop.stop())))
    loop.run_forever()
    assert handles[0].cancelled()
