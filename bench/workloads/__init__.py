"""What the measured process does, by row: batches of work, or servers.

A *batch* is a function that does a fixed amount of work on the loop and returns how many operations that was;
the worker repeats it until the window is over. A *server* is a coroutine that starts serving and returns the
address that the load is to be pointed at. A *reading* is a coroutine that does all of its work once and
returns the row's figure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

#: Runs the loop for a while; returns the number of operations done.
Batch = Callable[[], int]

#: Seconds that a growing batch is to take, so that starting and ending its tasks is nothing against its work.
_LONG_ENOUGH = 0.04

#: What the JSON rows send; bench/native has the same one.
DOCUMENT: dict[str, Any] = {
    "message": "hello",
    "items": [{"id": n, "name": f"item {n}", "price": n * 1.5} for n in range(10)],
}


#: What the form rows send; bench/native has it as a form encodes it.
FORM = {"name": "Ada Lovelace", "email": "ada@example.org", "subject": "notes", "message": "hello"}


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
    #: Of tools.toolkits, for a loop that runs in its main loop.
    window: Any = None


MakeBatch = Callable[[Setting], Batch]
StartServer = Callable[[Setting], Awaitable[str]]
TakeReading = Callable[[Setting], Awaitable[float]]


def growing_batch(
    setting: Setting, work: Callable[[int, int], Awaitable[None]], *, operations: int = 1
) -> Batch:
    """Batches of `setting.connections` tasks at once; `work` gets a task's number, and how often to do it.

    In the first batch that is once, and the next ones grow until they are long enough: a client may be a
    hundred times slower than another. `operations` is how many there are each time.
    """
    at_once, each = setting.connections, 1

    async def main() -> None:
        await asyncio.gather(*[work(number, each) for number in range(at_once)])

    def batch() -> int:
        nonlocal each
        started, done = time.perf_counter(), at_once * each * operations
        setting.loop.run_until_complete(main())
        if time.perf_counter() - started < _LONG_ENOUGH:
            each *= 2
        return done

    return batch
