"""What a program does, and its dialogs."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import whorl.gui
from tests.gui.cases.registry import case, forever, say, ticked, ticking
from tools.toolkits import Toolkit


@case
def results(toolkit: Toolkit) -> None:
    """Several runs in one process, what they return and raise, and what is left of them."""

    async def returns() -> int:
        await asyncio.sleep(0.001)
        return 42

    async def raises() -> None:
        await asyncio.sleep(0.001)
        raise LookupError("this one")

    seen: list[str] = []

    async def leaves() -> None:
        async def background() -> None:
            try:
                await forever()
            finally:
                await asyncio.sleep(0.001)
                seen.append("task")

        async def generator() -> AsyncIterator[int]:
            try:
                yield 1
                yield 2
            finally:
                seen.append("generator")

        tasks.append(asyncio.create_task(background()))
        generators.append(generator())
        async for _ in generators[0]:
            break
        await asyncio.to_thread(seen.append, "thread")

    tasks: list[asyncio.Task[None]] = []
    generators: list[AsyncIterator[int]] = []
    assert whorl.gui.run(returns(), toolkit.host) == 42
    assert asyncio._get_running_loop() is None
    with pytest.raises(LookupError, match="this one"):
        whorl.gui.run(raises(), toolkit.host)
    whorl.gui.run(leaves(), toolkit.host)
    assert sorted(seen) == ["generator", "task", "thread"], seen
    assert threading.active_count() == 1
    # The host is found.
    assert whorl.gui.run(returns()) == 42
    say("ok")


@case
def freed(toolkit: Toolkit) -> None:
    """A loop that is closed is freed without the collector, and with it the memory that it reads into."""

    async def main() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await asyncio.sleep(0)

    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []
    gc.collect()
    gc.disable()
    whorl.gui.run(main(), toolkit.host)
    whorl.gui.start(main(), toolkit.host, done=lambda _: toolkit.after(1, toolkit.end_main_loop))
    toolkit.main_loop()
    with asyncio.Runner(loop_factory=lambda: whorl.gui.new_event_loop(toolkit.host)) as runner:
        runner.run(main())
    del runner
    # Qt's objects are deleted by the next turn of a main loop.
    toolkit.after(1, toolkit.end_main_loop)
    toolkit.main_loop()
    assert [loop() for loop in loops] == [None] * 3
    say("ok")


@case
def network(toolkit: Toolkit) -> None:
    """Streams, TLS, children, threads and whorl's client."""
    from tests.gui.network import main

    assert whorl.gui.run(main(), toolkit.host) == "all"
    say("ok")


@case
def handlers(toolkit: Toolkit) -> None:
    """Handlers of the toolkit make tasks; so do slots, methods among them."""
    seen: list[object] = []

    class Window:
        @whorl.gui.slot
        async def method(self) -> None:
            await asyncio.sleep(0.001)
            seen.append(self)

        @whorl.gui.slot(one_at_a_time=True)
        async def single(self) -> None:
            started.append(self)
            await asyncio.sleep(0.01)

    started: list[Window] = []
    one, two = Window(), Window()

    @whorl.gui.slot
    async def function() -> None:
        await asyncio.sleep(0.001)
        seen.append("function")

    @whorl.gui.slot
    async def failing() -> None:
        raise LookupError("of a handler")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        reported: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda loop, context: reported.append(context))

        async def wait_for(condition: Callable[[], object]) -> None:
            while not condition():
                await asyncio.sleep(0.001)

        made = loop.create_future()
        toolkit.after(1, lambda: loop.create_task(complete(made)))
        await made
        # From the toolkit, and from a task.
        for click in (toolkit.button(function), toolkit.button(one.method)):
            seen.clear()
            toolkit.after(1, click)
            await wait_for(lambda: seen)
            click()
            await wait_for(lambda: len(seen) == 2)
        assert seen == [one, one]
        for window in (one, one, two, one):
            window.single()
        await wait_for(lambda: len(started) == 2)
        assert started == [one, two]
        toolkit.after(1, toolkit.button(failing))
        await wait_for(lambda: reported)
        assert isinstance(reported[0]["exception"], LookupError)
        assert "failing" in reported[0]["message"]

    async def complete(future: asyncio.Future[None]) -> None:
        await asyncio.sleep(0.001)
        future.set_result(None)

    whorl.gui.run(main(), toolkit.host)
    with pytest.raises(RuntimeError, match=r"whorl\.gui\.run"):
        function()
    say("ok")


@case
def started(toolkit: Toolkit) -> None:
    """The program runs the main loop itself."""

    async def main() -> int:
        await asyncio.sleep(0.001)
        return 7

    ended: list[Any] = []

    def done(guest: Any) -> None:
        ended.append(guest)
        # The main loop continues.
        toolkit.after(1, toolkit.end_main_loop)

    guest = whorl.gui.start(main(), toolkit.host, done=done)
    toolkit.main_loop()
    assert ended == [guest]
    assert guest.result() == 7
    # The main loop ends first.
    cancelled: list[None] = []

    async def waits() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0.001)
            cancelled.append(None)

    with whorl.gui.start(waits(), toolkit.host) as second:
        toolkit.after(5, toolkit.end_main_loop)
        toolkit.main_loop()
        assert not second.done
    assert cancelled
    assert second.done
    say("ok")


@case
def runner(toolkit: Toolkit) -> None:
    """A loop of which ``run_forever()`` is the toolkit's main loop."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        made = loop.create_future()
        toolkit.after(1, lambda: made.set_result(3))
        return await made

    with asyncio.Runner(loop_factory=lambda: whorl.gui.new_event_loop(toolkit.host)) as runner:
        assert runner.run(main()) == 3
        assert runner.run(main()) == 3
        loop = runner.get_loop()
        loop.call_soon(loop.stop)
        loop.run_forever()
        toolkit.after(1, toolkit.host.quit)
        with pytest.raises(RuntimeError, match="stopped before"):
            runner.run(forever())
    say("ok")


# -- dialogs -------------------------------------------------------------------------------------------------


@case
def modal(toolkit: Toolkit) -> None:
    """All tasks continue while a dialog is open, however it is opened."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ticks: list[None] = []
        ticker = loop.create_task(ticking(ticks))

        async def closing(close: Callable[[], object]) -> None:
            await ticked(ticks)
            close()

        async def in_a_task() -> None:
            run, close = toolkit.dialog()
            closer = loop.create_task(closing(close))
            run()
            await closer

        async def by_the_host() -> None:
            run, close = toolkit.dialog()
            closer = loop.create_task(closing(close))
            await toolkit.host.modal(run)
            await closer

        def by_a_handler() -> None:
            run, close = toolkit.dialog()
            closers.append(loop.create_task(closing(close)))
            run()
            handled.set_result(None)

        closers: list[asyncio.Task[None]] = []
        handled = loop.create_future()
        for way in (in_a_task, by_the_host, in_a_task):
            before = time.process_time()
            await way()
            # The host does not call turn after turn for nothing meanwhile.
            assert time.process_time() - before < 1
        toolkit.after(1, by_a_handler)
        await handled
        await closers[0]

        def raises() -> None:
            raise LookupError("of a dialog")

        with pytest.raises(LookupError, match="of a dialog"):
            await toolkit.host.modal(raises)
        ticker.cancel()

    whorl.gui.run(main(), toolkit.host)
    say("ok")


@case
def events_in_tasks(toolkit: Toolkit) -> None:
    """Tasks handle the toolkit's events while others are busy: it ends, and none is within the other."""
    depth = deepest = 0

    async def busy() -> None:
        while True:
            await asyncio.sleep(0)

    async def handles() -> None:
        nonlocal depth, deepest
        for _ in range(3):
            depth += 1
            deepest = max(depth, deepest)
            toolkit.handle_events()
            depth -= 1
            await asyncio.sleep(0)

    async def main() -> None:
        other = asyncio.create_task(busy())
        await asyncio.gather(*(handles() for _ in range(300)))
        other.cancel()
        # One is in the other where it takes longer than a dialog is waited for.
        assert deepest < 30, deepest

    whorl.gui.run(main(), toolkit.host)
    say("ok")
