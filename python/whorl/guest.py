"""A loop that runs inside the main loop of another program: a GUI toolkit, a game, another event loop.

The host watches one descriptor, :attr:`Guest.fd`, for reading, and calls :meth:`Guest.turn` whenever it is
readable. That is all an adapter has to do::

    def start(root, main):
        guest = whorl.guest.Guest(main, done=lambda guest: root.quit())
        root.createfilehandler(guest.fd, tkinter.READABLE, lambda fd, mask: guest.turn())

A host that cannot watch descriptors calls :meth:`Guest.turn` when the time comes that the last call returned,
and often enough in between (once a frame).
"""

from __future__ import annotations

import asyncio
import sys
import threading
from asyncio import events, tasks
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from whorl import _core
from whorl.event_loop import EventLoop
from whorl.patches import handle_run_is_replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

__all__ = ["BUDGET", "Guest"]

_T = TypeVar("_T")

#: Seconds that the callbacks of one turn may take: it leaves a host time for 60 frames a second.
BUDGET = 0.004


class Guest(Generic[_T]):
    """Runs the coroutine *main* by turns that a host calls.

    The counterpart of :func:`whorl.run`: when *main* is done, the tasks that are left are cancelled,
    asynchronous generators and the default executor are shut down, by further turns, and the loop is closed.
    Then :attr:`done` is true and *done* is called with the guest; the host stops to watch :attr:`fd`.

    Unless the host is an event loop itself, the guest's loop is the running loop of this thread from here
    to the end: a handler of the host's may call :func:`asyncio.create_task`, ``transport.write()`` or
    ``loop.call_later()``, and the next turn follows at once. In a host that is an asyncio loop, make the
    guest within a coroutine or callback of that loop: its loop is then the running one during its turns.

    *debug* is that of :class:`asyncio.Runner`.

    Raises :exc:`ValueError` for a *main* that is no coroutine, and :exc:`OSError` if there are too few
    descriptors; *main* is closed then.
    """

    def __init__(
        self,
        main: Coroutine[Any, Any, _T],
        *,
        done: Callable[[Guest[_T]], object] | None = None,
        debug: bool | None = None,
    ) -> None:
        if not asyncio.iscoroutine(main):
            raise ValueError(f"a coroutine was expected, got {main!r}")
        self._done_callback = done
        self._thread = threading.get_ident()
        #: The loop that runs in this thread between the turns: none, or that of an asyncio host.
        self._host = events._get_running_loop()
        self._error: BaseException | None = None
        self._ending: asyncio.Task[None] | None = None
        self._closed = False
        with ExitStack() as undo:
            # Or the interpreter warns that it was never awaited.
            undo.callback(main.close)
            self._loop = EventLoop()
            undo.callback(self._loop.close)
            if debug is not None:
                self._loop.set_debug(debug)
            self._hooks = sys.get_asyncgen_hooks()
            undo.callback(self._restore_thread)
            self._loop._claim_wakeup_fd("run")
            self._loop._thread_id = self._thread
            self._turns = _core.GuestTurns(self._loop)
            undo.callback(self._turns.end)
            if self._host is None:
                self._install()
            self._main: asyncio.Task[_T] = self._loop.create_task(main)
            undo.pop_all()
        self._main.add_done_callback(lambda _: self._begin_end())

    def __repr__(self) -> str:
        state = "done" if self.done else "ending" if self._ending else "running"
        return f"<whorl.guest.Guest {state} main={self._main!r}>"

    # -- the host's side -------------------------------------------------------------------------------------

    @property
    def fd(self) -> int:
        """The descriptor to watch for reading, the same until the guest is done.

        It is readable when a descriptor of the loop is ready, a timer is due, another thread has called
        :meth:`~asyncio.loop.call_soon_threadsafe`, or the last turn has left something to do.
        """
        return self._turns.fd

    @property
    def loop(self) -> EventLoop:
        """The guest's loop."""
        return self._loop

    @property
    def done(self) -> bool:
        """Whether all is over and the loop is closed."""
        return self._closed

    def turn(self, budget: float = BUDGET) -> float | None:
        """Run what is due without waiting, and return in how many seconds the next timer is due.

        0 means that more work is ready; None that the loop waits only for descriptors and other threads, or
        that the guest is done. A host that watches :attr:`fd` may ignore the result.

        The budget, in seconds, is checked after each callback: a turn runs at least one if one is due, so
        that the loop makes progress with any budget, and no further one begins once it is used up. Only a
        turn that has used it up for ready descriptors runs one scheduled callback as well.

        A turn may be called within a turn, by a main loop that a callback runs (a modal dialog): other tasks
        continue; a callback in a context that is entered further up the stack waits for the outer turn.

        :exc:`KeyboardInterrupt` and :exc:`SystemExit` that a callback or a signal handler raises leave the
        turn. The guest can continue; :meth:`close` ends it.

        Raises :exc:`RuntimeError` on another thread than the one that made the guest.
        """
        if threading.get_ident() != self._thread:
            raise RuntimeError("a guest's turns are called on the thread that made it")
        if self._closed:
            return None
        with _PutAside(self):
            delay = self._turns.turn(budget)
            if self._turns.stopped and self._ending is None:
                self._error = RuntimeError("Event loop stopped before Future completed.")
                _ending = self._begin_end()
                delay = 0.0
        if self._ending is not None and self._ending.done() and not self._turns.depth:
            self._finish()
            return None
        return delay

    def result(self) -> _T:
        """Return what *main* returned, or raise what it raised.

        Raises :exc:`asyncio.InvalidStateError` before *main* is done, and :exc:`RuntimeError` if the loop was
        stopped before.
        """
        if self._error is not None:
            raise self._error
        return self._main.result()

    def cancel(self) -> bool:
        """Cancel *main*, and return whether it was not done before. The guest ends by further turns."""
        return self._main.cancel()

    def close(self) -> None:
        """End the guest now: cancel *main*, and wait until all that follows is done.

        For a host that ends first, or after an exception that has left a turn. It blocks until the
        coroutines have dealt with their cancellation; :meth:`cancel` and further turns do not block.
        Raises :exc:`RuntimeError` within a turn of the guest's own. Closing twice does nothing.
        """
        if self._closed:
            return
        if threading.get_ident() != self._thread:
            raise RuntimeError("a guest is closed on the thread that made it")
        self._leave()
        outer = _suspend(events._get_running_loop())
        events._set_running_loop(None)
        try:
            self._loop.run_until_complete(self._begin_end())
        finally:
            self._loop.close()
            events._set_running_loop(self._host)
            _resume(self._host, outer)
            self._closed = True
        self._notify()

    def __enter__(self) -> Self:
        """Nothing but the guest."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """As :meth:`close`."""
        self.close()

    # -- the end ---------------------------------------------------------------------------------------------

    def _begin_end(self) -> asyncio.Task[None]:
        """Cancel *main* or the tasks it has left, as :class:`asyncio.Runner` does, but by turns."""
        if self._ending is None:
            self._ending = self._loop.create_task(self._end(), name="whorl.guest.Guest.end")
        return self._ending

    async def _end(self) -> None:
        loop = self._loop
        left = [task for task in tasks.all_tasks(loop) if task is not asyncio.current_task()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for task in left:
            if task is self._main or task.cancelled():
                continue
            error = task.exception()
            if error is not None:
                loop.call_exception_handler(
                    {
                        "message": "unhandled exception while a guest ended",
                        "exception": error,
                        "task": task,
                    }
                )
        await loop.shutdown_asyncgens()
        await loop.shutdown_default_executor()

    def _finish(self) -> None:
        """End the guest: restore the thread's state, and notify the host."""
        self._leave()
        self._loop.close()
        self._closed = True
        self._notify()

    def _leave(self) -> None:
        self._turns.end()
        self._restore_thread()

    def _restore_thread(self) -> None:
        """Undo what a running loop changes in its thread and process."""
        self._loop._thread_id = None
        if self._host is None:
            self._uninstall()
        self._loop._release_wakeup_fd("run")

    def _notify(self) -> None:
        callback, self._done_callback = self._done_callback, None
        if callback is not None:
            callback(self)

    # -- the state of a running loop in its thread -----------------------------------------------------------

    def _install(self) -> None:
        sys.set_asyncgen_hooks(
            firstiter=self._loop._asyncgen_firstiter_hook, finalizer=self._loop._asyncgen_finalizer_hook
        )
        self._loop._set_coroutine_origin_tracking(self._loop.get_debug())
        self._loop._set_native_handle_run_replaced(handle_run_is_replaced())
        events._set_running_loop(self._loop)

    def _uninstall(self) -> None:
        events._set_running_loop(self._host)
        self._loop._set_coroutine_origin_tracking(False)
        sys.set_asyncgen_hooks(*self._hooks)


class _PutAside:
    """Puts the task that is running, and the loop of an asyncio host, aside for the length of a turn."""

    __slots__ = ("_guest", "_outer", "_switch", "_task")

    def __init__(self, guest: Guest[Any]) -> None:
        self._guest = guest

    def __enter__(self) -> None:
        guest = self._guest
        self._outer = events._get_running_loop()
        self._task = _suspend(self._outer)
        # Within a turn, and in a host that is no loop, it is the guest's already.
        self._switch = self._outer is not guest._loop
        if self._switch:
            guest._hooks = sys.get_asyncgen_hooks()
            guest._install()

    def __exit__(self, *exc: object) -> None:
        guest = self._guest
        if self._switch:
            guest._uninstall()
            events._set_running_loop(self._outer)
        _resume(self._outer, self._task)


def _suspend(loop: Any) -> asyncio.Task[Any] | None:
    """Make no task the current one of ``loop``, which is running; return the one that was."""
    if loop is None:
        return None
    task = asyncio.current_task(loop)
    if task is None:
        return None
    swap = getattr(tasks, "_swap_current_task", None)
    if swap is not None:
        swap(loop, None)
    else:
        tasks._leave_task(loop, task)
    return task


def _resume(loop: Any, task: asyncio.Task[Any] | None) -> None:
    """Make ``task`` the current one of ``loop`` again."""
    if task is None:
        return
    swap = getattr(tasks, "_swap_current_task", None)
    if swap is not None:
        swap(loop, task)
    else:
        tasks._enter_task(loop, task)
