"""The cases by name, and what several of them need."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.gui.toolkits import Toolkit

CASES: dict[str, Callable[[Toolkit], object]] = {}


def case(function: Callable[[Toolkit], object]) -> Callable[[Toolkit], object]:
    CASES[function.__name__] = function
    return function


def say(*words: object) -> None:
    print(*words, flush=True)


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def ticking(ticks: list[None]) -> None:
    while True:
        ticks.append(None)
        await asyncio.sleep(0.001)


async def ticked(ticks: list[None], more: int = 5) -> None:
    """Wait until the ticking task has continued."""
    wanted = len(ticks) + more
    while len(ticks) < wanted:
        await asyncio.sleep(0.001)
