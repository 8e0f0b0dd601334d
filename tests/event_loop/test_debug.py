"""Debug mode: slow callbacks, where things were made, and hooks put back."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import time
from typing import Any

import pytest

from .conftest import LoopErrors, Script
from .support import connected, turns

Loop = asyncio.AbstractEventLoop


def test_debug_mode_is_off_and_can_be_changed(loop: Loop) -> None:
    loop.set_debug(True)
    assert loop.get_debug()
    assert "debug=True" in repr(loop)
    loop.set_debug(False)
    assert not loop.get_debug()


def test_the_environment_sets_debug_mode(script: Script) -> None:
    body = "loop = new_event_loop(); print(loop.get_debug()); loop.close()"
    assert script.run(body, env={"PYTHONASYNCIODEBUG": ""}).stdout == "False\n"
    assert script.run(body, env={"PYTHONASYNCIODEBUG": "1"}).stdout == "True\n"
    assert script.run(body, flags=("-X", "dev")).stdout == "True\n"


async def test_slow_protocols_are_logged(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    class Slow(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            time.sleep(0.03)
            received.set_result(data)

    received: asyncio.Future[bytes] = loop.create_future()
    async with connected(Slow) as pair:
        loop.set_debug(True)
        loop.slow_callback_duration = 0.01
        with caplog.at_level(logging.WARNING, "asyncio"):
            await pair.peer_sends(b"x")
            assert await received == b"x"
            await asyncio.sleep(0)
        loop.slow_callback_duration = 30
        loop.set_debug(False)
    assert any("Executing" in message and "took 0.0" in message for message in caplog.messages)


@pytest.mark.parametrize("how", ["soon", "later", "threadsafe", "task"])
def test_slow_callbacks_are_logged(loop: Loop, caplog: pytest.LogCaptureFixture, how: str) -> None:
    async def slow_task() -> None:
        time.sleep(0.03)

    loop.set_debug(True)
    loop.slow_callback_duration = 0.01
    with caplog.at_level(logging.WARNING, "asyncio"):
        if how == "soon":
            loop.call_soon(time.sleep, 0.03)
        elif how == "later":
            loop.call_later(0, time.sleep, 0.03)
        elif how == "threadsafe":
            loop.call_soon_threadsafe(time.sleep, 0.03)
        else:
            loop.create_task(slow_task())
        loop.run_until_complete(turns())
    messages = [record.getMessage() for record in caplog.records]
    assert any("Executing" in text and "took" in text and "seconds" in text for text in messages), messages


def test_quick_callbacks_and_no_debug_mode_log_nothing(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 30
    loop.call_soon(time.sleep, 0.01)
    with caplog.at_level(logging.WARNING, "asyncio"):
        loop.run_until_complete(turns())
        loop.set_debug(False)
        loop.slow_callback_duration = 0.001
        loop.call_soon(time.sleep, 0.01)
        loop.run_until_complete(turns())
    assert not caplog.records


def test_errors_say_where_the_callback_was_scheduled(loop: Loop, loop_errors: LoopErrors) -> None:
    def schedule_it_here() -> None:
        loop.call_soon(lambda: 1 / 0)
        loop.call_later(0, lambda: 1 / 0)

    loop.set_debug(True)
    schedule_it_here()
    loop.run_until_complete(turns())
    assert len(loop_errors) == 2
    for context in loop_errors:
        assert "schedule_it_here" in "".join(map(str, context["source_traceback"]))
    loop_errors.clear()


def test_handles_say_where_they_were_made(loop: Loop) -> None:
    loop.set_debug(True)
    handle = loop.call_soon(print)
    timer = loop.call_later(10, print)
    assert "created at" in repr(handle)
    assert "created at" in repr(timer)
    handle.cancel()
    timer.cancel()
    loop.set_debug(False)


@pytest.mark.parametrize("call", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_debug_mode_refuses_coroutines_and_what_is_no_callable(loop: Loop, call: str) -> None:
    async def coroutine() -> None: ...

    loop.set_debug(True)
    delay: tuple[Any, ...] = (1,) if call in ("call_later", "call_at") else ()
    for bad in (coroutine, None, 1):
        with pytest.raises(TypeError):
            getattr(loop, call)(*delay, bad)
    loop.set_debug(False)


def test_coroutine_origins_are_tracked_and_the_depth_is_put_back(loop: Loop) -> None:
    sys.set_coroutine_origin_tracking_depth(3)
    try:
        loop.set_debug(True)

        async def main() -> int:
            return sys.get_coroutine_origin_tracking_depth()

        assert loop.run_until_complete(main()) >= 3
        assert sys.get_coroutine_origin_tracking_depth() == 3

        async def switch() -> int:
            loop.set_debug(False)
            await turns()
            return sys.get_coroutine_origin_tracking_depth()

        assert loop.run_until_complete(switch()) == 3
    finally:
        sys.set_coroutine_origin_tracking_depth(0)


def test_async_generator_hooks_are_put_back(loop: Loop) -> None:
    def first(generator: Any) -> None: ...
    def last(generator: Any) -> None: ...

    async def main() -> Any:
        return sys.get_asyncgen_hooks()

    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(first, last)
    try:
        inside = loop.run_until_complete(main())
        assert inside.firstiter not in (None, first)
        assert tuple(sys.get_asyncgen_hooks()) == (first, last)
        with pytest.raises(KeyboardInterrupt):
            loop.call_soon(interrupt)
            loop.run_forever()
        assert tuple(sys.get_asyncgen_hooks()) == (first, last)
    finally:
        sys.set_asyncgen_hooks(*before)


def interrupt() -> None:
    raise KeyboardInterrupt


def test_a_coroutine_never_awaited_says_where_it_was_made(loop: Loop) -> None:
    async def forgotten() -> None: ...

    async def main() -> None:
        forgotten()  # type: ignore[unused-coroutine]
        gc.collect()

    loop.set_debug(True)
    with pytest.warns(RuntimeWarning, match="(?s)never awaited.*Coroutine created at"):
        loop.run_until_complete(main())
    loop.set_debug(False)


def test_everything_works_in_debug_mode(loop: Loop) -> None:
    async def main() -> None:
        async with connected() as pair:
            pair.transport.write(b"x" * 1_000_000)
            assert len(await pair.peer_receives(1_000_000)) == 1_000_000
            await pair.peer_sends(b"hello")
            await pair.protocol.received(5)

    loop.set_debug(True)
    loop.slow_callback_duration = 60
    loop.run_until_complete(main())
    loop.set_debug(False)
