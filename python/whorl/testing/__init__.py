"""A clock for tests: time jumps to the next deadline when nothing else can happen.

On :class:`EventLoop` an hour's ``asyncio.sleep(3600)`` takes no time, and ends exactly when it should::

    def test_the_limit():
        async def main():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(3600):
                    await forever()

        whorl.testing.run(main())

The clock stands while callbacks run, and jumps when the loop would sleep until a timer is due. It does not
jump while something from outside of the loop may come first; see :class:`EventLoop`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from whorl.testing.jumping import ClockStuckError, EventLoop

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["ClockStuckError", "EventLoop", "new_event_loop", "run"]

_T = TypeVar("_T")


def new_event_loop() -> EventLoop:
    """Return a new loop whose clock jumps: a ``loop_factory`` for :class:`asyncio.Runner` and for plugins."""
    return EventLoop()


def run(main: Coroutine[Any, Any, _T], *, debug: bool | None = None) -> _T:
    """Run the coroutine *main* on a new loop whose clock jumps; otherwise as :func:`whorl.run`.

    Raises :exc:`ClockStuckError` when the clock cannot jump for five seconds.
    """
    with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
        return runner.run(main)
