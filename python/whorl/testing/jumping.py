"""The loop whose clock jumps, and the conditions that keep it from jumping."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import whorl.event_loop
from whorl.testing.peers import are_peers, has_bytes_under_way, known_descriptors

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

__all__ = ["ClockStuckError", "EventLoop"]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class ClockStuckError(RuntimeError):
    """The clock of a test could not jump. The message names what the loop waits for."""


class EventLoop(whorl.event_loop.EventLoop):
    """whorl's loop with a clock that stands, and jumps to the next deadline when nothing else can happen.

    That is: no callback is ready, no descriptor is, and the loop waits for nothing from outside:

    - a job of an executor, a name look-up among them;
    - a child process;
    - a descriptor whose other end is outside of this loop. Connections, socket pairs and pipes whose two ends
      are both watched by the loop do not count, once all bytes sent through them have arrived; listeners
      never do.

    While one of these is waited for, time stands, and the loop waits for it in real time. After *patience*
    real seconds without an event :exc:`ClockStuckError` leaves the loop and says what the loop waits for,
    also when no timer is left that would ever wake the loop.

    A thread that will call :meth:`call_soon_threadsafe` later is not known to the loop, unless it is an
    executor's: the clock does not wait for it.
    """

    def __init__(self, *, patience: float = 5.0) -> None:
        self._clock_patience = patience
        self._jobs: dict[asyncio.Future[Any], str] = {}
        super().__init__()
        self._let_clock_jump()

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        """As :meth:`asyncio.loop.run_in_executor`; the clock stands until the job is done."""
        future = super().run_in_executor(executor, func, *args)
        self._jobs[future] = f"a job of an executor, {func!r}"
        future.add_done_callback(lambda job: self._jobs.pop(job, None))
        return future

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """As :meth:`asyncio.loop.shutdown_default_executor`; the clock stands until its threads end."""
        ended = self.create_future()
        self._jobs[ended] = "the end of the default executor's threads"
        try:
            await super().shutdown_default_executor(*args, **kwargs)
        finally:
            del self._jobs[ended]

    def _what_holds_the_clock(self) -> list[str]:
        """Return the outside events that may still come. The native loop calls it before a jump."""
        holds = list(self._jobs.values())
        ignored = {*self._listeners, *([] if self._ssock is None else [self._ssock.fileno()])}
        registrations = [entry for entry in self._registrations() if entry[0] not in ignored]
        with known_descriptors((fd, owner) for fd, _, _, owner in registrations) as known:
            for descriptor, (_, reads, writes, _) in zip(known, registrations, strict=True):
                if not (reads or writes) or descriptor.is_listener():
                    continue
                peer = next((other for other in known if are_peers(descriptor, other)), None)
                if peer is None:
                    holds.append(descriptor.name())
                elif has_bytes_under_way(peer, descriptor):
                    holds.append(f"bytes under way to {descriptor.name()}")
        return holds

    def _clock_is_stuck(self, holds: list[str]) -> None:
        waiting = "; ".join(holds) if holds else "no timer, and no event that could come"
        tasks = ", ".join(sorted(task.get_name() for task in asyncio.all_tasks(self)))
        raise ClockStuckError(
            f"the clock of the test could not jump for {self._clock_patience:g} s. "
            f"The loop waits for: {waiting}. Tasks: {tasks or 'none'}"
        )
