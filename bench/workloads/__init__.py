"""What the measured process does, by row: batches of work, or servers.

A *batch* is a function that does a fixed amount of work on the loop and returns how many operations that was;
the worker repeats it until the window is over. A *server* is a coroutine that starts serving and returns the
address that the load is to be pointed at.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

#: Runs the loop for a while; returns the number of operations done.
Batch = Callable[[], int]


@dataclass(frozen=True)
class Setting:
    """What a workload is told; `size` is bytes in a message, `target` the server of a client's row."""

    loop: asyncio.AbstractEventLoop
    size: int
    connections: int
    directory: Path
    target: str


MakeBatch = Callable[[Setting], Batch]
StartServer = Callable[[Setting], Awaitable[str]]
