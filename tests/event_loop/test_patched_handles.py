"""Tools that put a function of theirs in the place of ``asyncio.events.Handle._run``, as aiodebug does."""

from __future__ import annotations

import asyncio
import asyncio.events
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import LoopErrors
from .support import turns, until

Loop = asyncio.AbstractEventLoop

#: What asyncio's own `_run` calls with, noted by the replacement: callback, arguments, what came of it.
Seen = list[tuple[Any, Any, str]]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Replaces `_run` until the end of the test, and says what went through it."""
    handles: Seen = []
    run: Callable[[Any], object] = asyncio.events.Handle._run  # type: ignore[attr-defined]

    def observed(self: Any) -> object:
        callback, args = self._callback, self._args
        result = run(self)
        handles.append((callback, args, repr(self)))
        return result

    monkeypatch.setattr(asyncio.events.Handle, "_run", observed)
    return handles


def of(seen: Seen, callback: object) -> list[Any]:
    return [args for known, args, _ in seen if known == callback]


def test_every_handle_goes_through_it(loop: Loop, seen: Seen) -> None:
    ran: list[object] = []
    note = ran.append

    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            loop.call_soon(note, "soon")
            loop.call_later(0, note, "later")
            loop.call_soon_threadsafe(note, "threadsafe")
            thread = threading.Thread(target=loop.call_soon_threadsafe, args=(note, "thread"))
            thread.start()
            thread.join()
            loop.add_writer(ours, note, "writer")
            await until(lambda: ran.count("writer") >= 2)
            loop.remove_writer(ours)

    loop.run_until_complete(main())
    assert {"soon", "later", "threadsafe", "thread", "writer"} == set(ran)
    assert [(thing,) for thing in ran] == of(seen, note)
    # Steps of the task are among them.
    assert len(seen) > len(ran)


def test_it_sees_the_callback_until_it_returns(loop: Loop, seen: Seen) -> None:
    def named() -> None:
        pass

    loop.run_until_complete(asyncio.sleep(0))
    loop.call_soon(named)
    loop.run_until_complete(asyncio.sleep(0))
    assert any("named" in shown for _, _, shown in seen)


def test_exceptions_reach_the_loops_handler(loop: Loop, loop_errors: LoopErrors, seen: Seen) -> None:
    handle = loop.call_soon(lambda: 1 / 0)
    loop.run_until_complete(turns())
    context = loop_errors.take()
    assert isinstance(context.pop("exception"), ZeroDivisionError)
    assert context["handle"] is handle
    assert "Exception in callback" in context["message"]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_ends_the_loop_still_ends_it(loop: Loop, seen: Seen, error: type[BaseException]) -> None:
    def leave() -> None:
        raise error

    loop.call_soon(leave)
    with pytest.raises(error):
        loop.run_forever()
    loop.run_until_complete(asyncio.sleep(0))


def test_what_it_raises_itself_ends_the_loop(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object) -> None:
        raise LookupError("the tool's own")

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.events.Handle, "_run", broken)
        loop.call_soon(print)
        with pytest.raises(LookupError, match="the tool's own"):
            loop.run_forever()
    loop.run_until_complete(asyncio.sleep(0))


def test_cancelled_handles_do_not_reach_it(loop: Loop, seen: Seen) -> None:
    loop.call_soon(print).cancel()
    loop.call_later(0, print).cancel()
    loop.run_until_complete(turns())
    assert of(seen, print) == []


def test_a_callback_may_cancel_its_own_handle(loop: Loop, seen: Seen) -> None:
    handles: list[asyncio.Handle] = []
    handles.append(loop.call_soon(lambda: handles[0].cancel()))
    loop.run_until_complete(turns())
    assert handles[0].cancelled()


def test_once_it_is_taken_away_handles_run_without_it(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[object] = []

    def observed(self: object) -> None:
        called.append(self)
        loop.stop()

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.events.Handle, "_run", observed)
        handle = loop.call_soon(print)
        loop.run_forever()
    assert called == [handle]
    loop.run_until_complete(asyncio.sleep(0))
    assert called == [handle]


def test_debug_mode_reports_as_well(loop: Loop, seen: Seen, caplog: pytest.LogCaptureFixture) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 0.01
    with caplog.at_level(logging.WARNING, "asyncio"):
        loop.call_soon(time.sleep, 0.03)
        loop.run_until_complete(turns())
    loop.set_debug(False)
    assert of(seen, time.sleep) == [(0.03,)]
    assert any("Executing" in message and "took 0.0" in message for message in caplog.messages)
