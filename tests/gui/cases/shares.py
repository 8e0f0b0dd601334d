"""How a loop and a toolkit share the time."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any
from unittest.mock import patch

import whorl.gui
from tests.gui.cases.registry import case, say
from tools.toolkits import Toolkit
from whorl.turns import Turns


@case
def busy(toolkit: Toolkit) -> None:
    """A loop that always has something to do leaves the toolkit its redraws and its timers."""
    calls: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def spin() -> None:
            if not done.done():
                loop.call_soon(spin)

        def idle() -> None:
            calls.append("idle")
            again()

        def timer() -> None:
            calls.append("timer")
            again()

        def again() -> None:
            if calls.count("idle") >= 20 and calls.count("timer") >= 20:
                done.done() or done.set_result(None)
            elif calls[-1] == "idle":
                toolkit.when_idle(idle)
            else:
                toolkit.after(1, timer)

        # One that is always ready to be read from as well, so that each poll finds something.
        reading, writing = os.pipe()
        os.write(writing, b"x")
        loop.add_reader(reading, lambda: None)
        spin()
        toolkit.when_idle(idle)
        toolkit.after(1, timer)
        await done
        loop.remove_reader(reading)
        os.close(reading)
        os.close(writing)

    whorl.gui.run(main(), toolkit.host)
    say("ok")


@case
def busy_toolkit(toolkit: Toolkit) -> None:
    """A toolkit that is never idle leaves a loop its turns, a busy loop's as well."""

    async def main() -> None:
        running = True

        def redraw() -> None:
            if running:
                toolkit.when_idle(redraw)

        redraw()
        loop = asyncio.get_running_loop()
        for _ in range(20):
            end = loop.time() + 0.005
            while loop.time() < end:
                await asyncio.sleep(0)
            await asyncio.sleep(0.001)
        running = False

    whorl.gui.run(main(), toolkit.host)
    say("ok")


@case
def busy_with_threads(toolkit: Toolkit) -> None:
    """A loop that always has something to do leaves other threads their share of the interpreter."""

    def work() -> int:
        for _ in range(50):
            time.sleep(0.0001)
        return 3

    async def main() -> int:
        done = asyncio.get_running_loop().run_in_executor(None, work)
        while not done.done():
            await asyncio.sleep(0)
        return await done

    assert whorl.gui.run(main(), toolkit.host) == 3
    say("ok")


@case
def idle(toolkit: Toolkit) -> None:
    """A loop with nothing to do takes no turns but its timer's, and some more on a machine that is so slow
    that the toolkit goes first."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0.1)
        turns = 0

        def count(*args: Any) -> Any:
            nonlocal turns
            turns += 1
            return original(*args)

        original = Turns.run
        before = time.process_time()
        with patch.object(Turns, "run", count):
            await asyncio.sleep(2)
        assert 1 <= turns <= 10, turns
        assert time.process_time() - before < 0.2, "a busy wait"
        assert loop.is_running()

    whorl.gui.run(main(), toolkit.host)
    say("ok")
