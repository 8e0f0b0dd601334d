"""Running: ``run_until_complete`` and its errors, Runner, ``whorl.run``, async-generator shutdown."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from .conftest import LoopErrors, LoopFactory
from .support import control_xfail, turns, whorl_only

Loop = asyncio.AbstractEventLoop


def runner_of(loop_name: str) -> Callable[..., Any]:
    if loop_name == "asyncio":
        return asyncio.run
    import whorl

    return whorl.run


@pytest.fixture
def run(loop_name: str) -> Callable[..., Any]:
    """``whorl.run``, or ``asyncio.run`` as its control."""
    return runner_of(loop_name)


async def forty_two() -> int:
    await asyncio.sleep(0)
    return 42


def test_run_returns_the_result(run: Callable[..., Any]) -> None:
    assert run(forty_two()) == 42


@whorl_only
def test_run_runs_on_whorl(run: Callable[..., Any]) -> None:
    import whorl

    async def main() -> bool:
        return isinstance(asyncio.get_running_loop(), whorl.EventLoop)

    assert run(main())


def test_run_raises_what_main_raises(run: Callable[..., Any]) -> None:
    async def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(main())


@pytest.mark.parametrize("debug", [True, False])
def test_run_sets_the_debug_mode(run: Callable[..., Any], debug: bool) -> None:
    async def main() -> bool:
        return asyncio.get_running_loop().get_debug()

    assert run(main(), debug=debug) is debug


@pytest.mark.parametrize("bad", [None, 1, "text", forty_two])
def test_run_refuses_what_is_no_coroutine(run: Callable[..., Any], bad: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        run(bad)


def test_run_cannot_be_called_from_a_running_loop(run: Callable[..., Any]) -> None:
    async def main() -> None:
        inner = forty_two()
        try:
            with pytest.raises(RuntimeError, match="running event loop"):
                run(inner)
        finally:
            inner.close()

    run(main())


def test_run_cancels_what_is_left_and_closes_the_loop(run: Callable[..., Any]) -> None:
    events: list[str] = []
    loops: list[Loop] = []

    async def left() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            events.append("cancelled")
            await asyncio.sleep(0)
            events.append("cleaned up")
            raise

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        loops[0].left = asyncio.create_task(left())  # type: ignore[attr-defined]
        await asyncio.sleep(0)

    run(main())
    assert events == ["cancelled", "cleaned up"]
    assert loops[0].is_closed()


def test_run_finishes_async_generators(run: Callable[..., Any]) -> None:
    events: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            events.append("finished")

    kept: list[Any] = []

    async def main() -> None:
        generator = numbers()
        kept.append(generator)
        assert await anext(generator) == 1

    run(main())
    assert events == ["finished"]


def test_run_waits_for_the_default_executor(run: Callable[..., Any]) -> None:
    events: list[str] = []
    go = threading.Event()

    def work() -> None:
        go.wait(10)
        events.append("worked")

    async def main() -> None:
        asyncio.get_running_loop().run_in_executor(None, work)
        go.set()

    run(main())
    assert events == ["worked"]


def test_runner_with_a_loop_factory(loop_factory: LoopFactory) -> None:
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="unset")

    async def change() -> None:
        var.set("changed")

    async def observe() -> str:
        return var.get()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        loop = runner.get_loop()
        assert not loop.is_closed()
        runner.run(change())
        assert runner.run(observe()) == "changed"
        assert runner.get_loop() is loop
    assert loop.is_closed()
    assert var.get() == "unset"


# The loop itself


def test_run_until_complete_takes_coroutines_tasks_and_futures(loop: Loop) -> None:
    assert loop.run_until_complete(forty_two()) == 42
    assert loop.run_until_complete(loop.create_task(forty_two())) == 42
    future = loop.create_future()
    loop.call_soon(future.set_result, 43)
    assert loop.run_until_complete(future) == 43
    with pytest.raises(TypeError):
        loop.run_until_complete(1)  # type: ignore[arg-type]


def test_run_until_complete_that_is_stopped_early(loop: Loop) -> None:
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match="stopped before"):
        loop.run_until_complete(future)
    assert loop.run_until_complete(forty_two()) == 42


def test_a_future_of_another_loop_is_refused(loop: Loop, loop_factory: LoopFactory) -> None:
    other = loop_factory()
    with pytest.raises(ValueError, match="loop"):
        loop.run_until_complete(other.create_future())
    other.close()


@pytest.mark.timeout(10)
@control_xfail(
    "asyncio 3.13.0 takes the running loop down when run_forever is refused", since=(3, 13), strict=False
)
def test_a_running_loop_cannot_be_run_or_closed(loop: Loop) -> None:
    async def main() -> None:
        assert loop.is_running()
        with pytest.raises(RuntimeError, match="already running"):
            loop.run_forever()
        future = loop.create_future()
        with pytest.raises(RuntimeError, match="already running"):
            loop.run_until_complete(future)
        with pytest.raises(RuntimeError, match="running"):
            loop.close()

    loop.run_until_complete(main())
    assert not loop.is_running()


def test_another_loop_cannot_be_run_inside_one(loop: Loop, loop_factory: LoopFactory) -> None:
    async def main() -> None:
        other = loop_factory()
        with pytest.raises(RuntimeError, match="another loop is running"):
            other.run_forever()
        other.close()

    loop.run_until_complete(main())


def test_the_running_loop_is_set_and_reset(loop: Loop) -> None:
    async def main() -> None:
        assert asyncio.get_running_loop() is loop
        assert asyncio.get_event_loop() is loop

    loop.run_until_complete(main())
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_async_generators_dropped_while_running_are_finished(loop: Loop) -> None:
    events: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            events.append("finished")

    async def main() -> None:
        generator = numbers()
        await anext(generator)
        del generator
        await turns(5)
        assert events == ["finished"]

    loop.run_until_complete(main())


def test_an_async_generator_that_fails_to_finish_is_reported(loop: Loop, loop_errors: LoopErrors) -> None:
    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise ZeroDivisionError

    generator = numbers()

    async def begin() -> None:
        await anext(generator)

    loop.run_until_complete(begin())
    loop.run_until_complete(loop.shutdown_asyncgens())
    context = loop_errors.take()
    assert isinstance(context["exception"], ZeroDivisionError)
    assert context["asyncgen"] is generator


def test_a_task_that_is_dropped_pending_is_reported(loop: Loop) -> None:
    async def wait() -> None:
        await asyncio.get_running_loop().create_future()

    messages: list[str] = []
    # Of its own, and it keeps the text only: a reference to the task would resurrect it.
    loop.set_exception_handler(lambda loop, context: messages.append(context["message"]))
    task = loop.create_task(wait())
    loop.run_until_complete(asyncio.sleep(0))
    del task
    gc.collect()
    assert messages == ["Task was destroyed but it is pending!"]


def test_an_exception_never_retrieved_is_reported(loop: Loop, loop_errors: LoopErrors) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    loop.create_task(fail())
    loop.run_until_complete(asyncio.sleep(0))
    gc.collect()
    assert "never retrieved" in loop_errors.take()["message"]
