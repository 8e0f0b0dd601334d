"""The cases by name, and what several of them need."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

#: Each takes a toolkit, or one of the class that it is for.
CASES: dict[str, Callable[[Any], object]] = {}

_Case = TypeVar("_Case", bound=Callable[..., object])


def case(function: _Case) -> _Case:
    """Have the case run by its name."""
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
