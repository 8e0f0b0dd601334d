"""Stock asyncio's loop on a clock that jumps: the control of tests that run on ``whorl.testing``."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

from whorl.testing.peers import are_peers, has_bytes_under_way, known_descriptors

__all__ = ["JumpingControl"]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

#: Real seconds to wait for an event from outside of the loop. Long, so that only a hang reaches it.
PATIENCE = 5.0


class JumpingControl(asyncio.SelectorEventLoop):
    """The clock stands, and jumps to the next deadline when nothing else can happen."""

    def __init__(self) -> None:
        self._time = time.monotonic()
        self._jobs: set[asyncio.Future[Any]] = set()
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self._time

    def jump(self, seconds: float) -> None:
        self._time += seconds

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        job = super().run_in_executor(executor, func, *args)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return job

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        ended = self.create_future()
        self._jobs.add(ended)
        try:
            await super().shutdown_default_executor(*args, **kwargs)
        finally:
            self._jobs.discard(ended)

    def is_held(self, registered: dict[int, int]) -> bool:
        """Whether something may come from outside of the loop: the end of a job, or an event."""
        if self._jobs:
            return True
        # A transport that neither reads nor writes just now is not registered, and is an end all the same.
        ends = [fd for fd in self._transports if fd not in registered]  # type: ignore[attr-defined]
        own: int = self._ssock.fileno()  # type: ignore[attr-defined]
        waiting = [fd for fd in registered if fd != own]
        with known_descriptors((fd, None) for fd in [*waiting, *ends]) as known:
            for descriptor in known[: len(waiting)]:
                if descriptor.is_listener():
                    continue
                peer = next((other for other in known if are_peers(descriptor, other)), None)
                if peer is None or has_bytes_under_way(peer, descriptor):
                    return True
        return False


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: JumpingControl) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        registered = {key.fd: key.events for key in self.get_map().values()}
        if timeout is not None and not self._loop.is_held(registered):
            self._loop.jump(timeout)
            return []
        ready = super().select(PATIENCE)
        assert ready, "the clock of the control could not jump"
        return ready
