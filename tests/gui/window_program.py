"""What a user does in the window of ``make gui``: ``python -m tests.gui.window_program TOOLKIT ACTION``."""

from __future__ import annotations

import asyncio
import importlib
import multiprocessing
import sys
from typing import Any

import whorl.gui
from examples.demo import local_site
from examples.window.__main__ import VIEWS
from examples.window.work import Work

#: More numbers than are counted while the test runs.
FAR = 10_000_000


async def under_way(work: Work) -> None:
    """Wait until both buttons have begun something, and neither has finished it."""
    while not work.pages or not work.steps_done:
        await asyncio.sleep(0.001)
    assert work.busy
    assert not work.complete


async def closes(work: Work, view: Any) -> None:
    """Close the window in the middle."""
    async with work:
        view.click()
        await under_way(work)
        view.close()
        await asyncio.get_running_loop().create_future()


async def cancels(work: Work, view: Any) -> None:
    """Cancel, and fetch again."""
    async with work:
        view.click()
        await under_way(work)
        work.cancel()
        while work.busy:
            await asyncio.sleep(0.001)
        assert work.steps_done < work.steps
        view.click()
        # The tasks of the handlers begin in the next turn, and clear what is left of the first.
        while not work.busy:
            await asyncio.sleep(0.001)
        while len(work.pages) < len(work.urls):
            await asyncio.sleep(0.001)


ACTIONS = {"closes": closes, "cancels": cancels}


def main(toolkit: str, action: str) -> None:
    with local_site(8, 0) as (urls, _):
        work = Work(urls, FAR)
        module, name = VIEWS[toolkit]
        view = getattr(importlib.import_module(module), name)(work)
        assert whorl.gui.run(ACTIONS[action](work, view), view.host) is None
    assert not work.busy
    assert not work.errors
    assert not multiprocessing.active_children()
    print("ok", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
