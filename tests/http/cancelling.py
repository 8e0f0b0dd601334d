"""Cancels a coroutine at each place where it waits, one after the other."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

MOST_STEPS = 200


class _Steps:
    """Runs a coroutine in a task, and cancels that when the coroutine waits for the nth time.

    ``when`` is ``"waiting"``: while it waits; or ``"woken"``: what it waited for has come, in the same turn
    of the loop, and it has not run since.
    """

    def __init__(self, nth: int, when: str) -> None:
        self._nth = nth
        self._when = when
        self._step = 0
        self.reached = False

    async def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return await self._drive(coroutine)

    @types.coroutine
    def _drive(self, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        act: Callable[[], Any] = lambda: coroutine.send(None)  # noqa: E731
        while True:
            try:
                awaited = act()
            except StopIteration as end:
                return end.value
            self._step += 1
            if self._step == self._nth:
                self.reached = True
                self._cancel(awaited)
            try:
                value = yield awaited
                act = lambda value=value: coroutine.send(value)  # type: ignore[misc]  # noqa: E731
            except BaseException as error:
                act = lambda error=error: coroutine.throw(error)  # type: ignore[misc]  # noqa: E731

    def _cancel(self, awaited: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._when == "woken" and awaited is not None:
            # Ours is called before the task's own, which is added when this has been yielded.
            awaited.add_done_callback(lambda _: task.cancel())
        else:
            asyncio.get_running_loop().call_soon(task.cancel)


async def cancel_everywhere(
    make: Callable[[], Coroutine[Any, Any, Any]],
    after: Callable[[int], Awaitable[None]],
    *,
    when: str,
) -> int:
    """Runs ``make()`` again and again, cancelled at its first, second, … wait, until it ends before it is
    reached.

    ``after`` is awaited behind each, and checks what is left. Returns at how many places it was cancelled.
    Fails if a cancellation becomes anything but a :exc:`CancelledError`.
    """
    for nth in range(1, MOST_STEPS):
        steps = _Steps(nth, when)
        task = asyncio.ensure_future(steps.run(make()))
        await asyncio.wait({task})
        if not steps.reached:
            await task
            await after(nth)
            return nth - 1
        assert task.cancelled(), (nth, task)
        await after(nth)
    raise AssertionError(f"there are more than {MOST_STEPS} places to cancel at")
