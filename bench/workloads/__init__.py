"""What the measured process does, by row: batches of work, or servers.

A *batch* is a function that does a fixed amount of work on the loop and returns how many operations that was;
the worker repeats it until the window is over. A *server* is a coroutine that starts serving and returns the
address that the load is to be pointed at. A *reading* is a coroutine that does all of its work once and
returns the row's figure.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

#: Runs the loop for a while; returns the number of operations done.
Batch = Callable[[], int]

#: What the JSON rows send; bench/native has the same one.
DOCUMENT: dict[str, Any] = {
    "message": "hello",
    "items": [{"id": n, "name": f"item {n}", "price": n * 1.5} for n in range(10)],
}


@dataclass(frozen=True)
class Setting:
    """What a workload is given; `size` is bytes in a message, `target` the URL of a client's row."""

    loop: asyncio.AbstractEventLoop
    size: int
    connections: int
    directory: Path
    target: str
    #: Of bench.clients, for a client's row.
    client: str


MakeBatch = Callable[[Setting], Batch]
StartServer = Callable[[Setting], Awaitable[str]]
TakeReading = Callable[[Setting], Awaitable[float]]
