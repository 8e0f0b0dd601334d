"""Exceptions, Ctrl-C, and the end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import whorl.gui
from tests.gui.cases.registry import case, forever, say
from tools.toolkits import Toolkit


async def until_cancelled() -> None:
    try:
        say("ready")
        await forever()
    finally:
        await asyncio.sleep(0.001)
        say("cancelled")


@case
def ctrl_c(toolkit: Toolkit) -> None:
    """The coroutine is cancelled, and may still await."""

    try:
        whorl.gui.run(until_cancelled(), toolkit.host)
    except KeyboardInterrupt:
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        say("interrupted")


@case
def ctrl_c_twice(toolkit: Toolkit) -> None:
    """The second one ends a coroutine that does not react to its cancellation."""

    async def main() -> None:
        say("ready")
        for number in range(2):
            try:
                await forever()
            except asyncio.CancelledError:
                if number == 0:
                    say("ready")
                else:
                    raise

    try:
        whorl.gui.run(main(), toolkit.host)
    except KeyboardInterrupt:
        say("interrupted")


@case
def ctrl_c_started(toolkit: Toolkit) -> None:
    """In a main loop that the program runs itself."""

    with whorl.gui.start(until_cancelled(), toolkit.host) as guest:
        toolkit.main_loop()
    with pytest.raises(KeyboardInterrupt):
        guest.result()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    say("interrupted")


@case
def ctrl_c_often(toolkit: Toolkit) -> None:
    """Signals that come at any moment, between turns and within, in a run and in ``run_forever()``."""

    async def main(number: int) -> None:
        timer.start()
        while number % 2:
            await asyncio.sleep(0)
        await forever()

    for number in range(24):
        seconds = number / 1000
        timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            whorl.gui.run(main(number), toolkit.host)
        timer.join()
        loop = whorl.gui.new_event_loop(toolkit.host)
        timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
        loop.call_soon(timer.start)
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        timer.join()
        loop.close()
    say("ok")


@case
def exits_in_a_task(toolkit: Toolkit) -> None:
    """SystemExit leaves the toolkit's main loop, whatever the toolkit does with exceptions."""
    _exits(toolkit, lambda loop, leave: loop.create_task(leave()))


@case
def exits_in_a_callback(toolkit: Toolkit) -> None:
    _exits(toolkit, lambda loop, leave: loop.call_later(0.001, sys.exit, 3))


@case
def exits_within_a_dialog(toolkit: Toolkit) -> None:
    """A turn within a turn: the dialog ends, and then the main loop."""

    def schedule(loop: asyncio.AbstractEventLoop, leave: Any) -> object:
        async def opens() -> None:
            run, close = toolkit.dialog()
            loop.call_later(0.001, sys.exit, 3)
            toolkit.after(100, close)
            run()

        return loop.create_task(opens())

    _exits(toolkit, schedule)


def _exits(
    toolkit: Toolkit,
    schedule: Callable[[asyncio.AbstractEventLoop, Callable[[], Coroutine[Any, Any, None]]], object],
) -> None:
    async def leave() -> None:
        await asyncio.sleep(0.001)
        sys.exit(3)

    async def main() -> None:
        kept = schedule(asyncio.get_running_loop(), leave)
        try:
            await forever()
        finally:
            await asyncio.sleep(0.001)
            say("cancelled", kept is not None)

    try:
        whorl.gui.run(main(), toolkit.host)
    except SystemExit as error:
        say("exit", error.code)


@case
def window_closed(toolkit: Toolkit) -> None:
    """The coroutine is cancelled, and ``run`` waits for it."""

    async def main() -> None:
        toolkit.after(5, toolkit.close_window)
        try:
            await forever()
        finally:
            await asyncio.sleep(0.001)
            say("cancelled")

    assert whorl.gui.run(main(), toolkit.host) is None

    assert asyncio._get_running_loop() is None
    say("ok")


@case
def window_closed_by_a_task(toolkit: Toolkit) -> None:
    """A task closes the window within its turn, and the coroutine has a result all the same."""

    async def main() -> str:
        toolkit.close_window()
        try:
            await forever()
        except asyncio.CancelledError:
            await asyncio.sleep(0.001)
        return "result"

    assert whorl.gui.run(main(), toolkit.host) == "result"
    if toolkit.name == "tk":
        # Nothing is left to run in.
        with pytest.raises(RuntimeError, match="Tk has ended"):
            whorl.gui.run(forever(), toolkit.host)
        with asyncio.Runner(loop_factory=lambda: whorl.gui.new_event_loop(toolkit.host)) as runner:
            runner.run(asyncio.sleep(0))
    say("ok")
