"""A loop that runs inside the main loop of another program: a GUI toolkit, a game, another event loop.

The host watches one descriptor, :attr:`Guest.fd`, for reading, and calls :meth:`Guest.turn` whenever it is
readable. An adapter does little more (:mod:`whorl.gui` has those of Tk, Qt and GLib)::

    def start(main):
        def done(guest):
            root.deletefilehandler(guest.fd)
            root.quit()

        guest = whorl.guest.Guest(main, done=done)
        root.createfilehandler(guest.fd, tkinter.READABLE, lambda fd, mask: guest.turn())

A host that cannot watch descriptors calls :meth:`Guest.turn` when the time comes that the last call returned,
and often enough in between (once a frame).
"""

from __future__ import annotations

import asyncio
from asyncio import events, tasks
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from whorl.event_loop import EventLoop
from whorl.turns import BUDGET, Turns, resume, suspend

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

__all__ = ["BUDGET", "Guest"]

_T = TypeVar("_T")


class Guest(Generic[_T]):
    """Runs the coroutine *main* by turns that a host calls.

    The counterpart of :func:`whorl.run`: when *main* is done, the tasks that are left are cancelled,
    asynchronous generators and the default executor are shut down, by further turns, and the loop is closed.
    Then :attr:`done` is true and *done* is called with the guest; the host stops to watch :attr:`fd`, which
    is closed when *done* has returned.

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
        self._error: BaseException | None = None
        self._ending: asyncio.Task[None] | None = None
        self._closed = False
        #: How often the end has cancelled *main*.
        self._cancellations = 0
        with ExitStack() as undo:
            # Or the interpreter warns that it was never awaited.
            undo.callback(main.close)
            self._loop = EventLoop()
            undo.callback(self._loop.close)
            if debug is not None:
                self._loop.set_debug(debug)
            self._turns = Turns(self._loop)
            undo.callback(self._turns.end)
            self._main: asyncio.Task[_T] = self._loop.create_task(main)
            undo.pop_all()
        self._main.add_done_callback(lambda _: self._begin_end())

    def __repr__(self) -> str:
        state = "done" if self.done else "ending" if self._ending else "running"
        return f"<whorl.guest.Guest {state} main={self._main!r}>"

    # -- the host's side -------------------------------------------------------------------------------------

    @property
    def fd(self) -> int:
        """The descriptor to watch for reading, the same until *done* has returned, and closed then.

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
        turns = self._turns
        turns.check_thread("a guest's turns are called")
        if self._closed or turns.have_ended:
            # Or it is being closed, and a task runs the host's main loop.
            return None
        with turns.put_aside():
            delay = turns.run(budget)
            if turns.stopped and self._ending is None:
                self._fail(RuntimeError("Event loop stopped before Future completed."))
                delay = 0.0
        if self._ending is not None and self._ending.done() and not turns.under_way:
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
        self._turns.check_thread("a guest is closed")
        self._turns.end()
        host = self._turns.host
        outer = suspend(host)
        events._set_running_loop(None)
        try:
            self._loop.run_until_complete(self._begin_end())
        finally:
            ending: Any = self._ending
            if ending is not None:
                # KeyboardInterrupt or SystemExit may have left it pending; it is no task of the user's.
                ending._log_destroy_pending = False
            self._loop.close()
            events._set_running_loop(host)
            resume(host, outer)
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
        self._cancellations = left.count(self._main)
        await asyncio.gather(*left, return_exceptions=True)
        seen = self._error
        if seen is None:
            # What main raises is the result.
            left = [task for task in left if task is not self._main]
        elif self._main not in left:
            left.append(self._main)
        for task in left:
            error = None if task.cancelled() else task.exception()
            if error is not None and error is not seen:
                loop.call_exception_handler(
                    {
                        "message": "unhandled exception while a guest ended",
                        "exception": error,
                        "task": task,
                    }
                )
        await loop.shutdown_asyncgens()
        await loop.shutdown_default_executor()

    @property
    def _has_failed(self) -> bool:
        return self._error is not None

    def _fail(self, error: BaseException) -> None:
        """End the guest by further turns; :meth:`result` raises the error, or one that came before."""
        self._error = self._error or error
        _ending = self._begin_end()

    def _finish(self) -> None:
        """End the guest: restore the thread's state, and notify the host."""
        self._turns.end()
        self._loop.close()
        self._closed = True
        self._notify()

    def _notify(self) -> None:
        callback, self._done_callback = self._done_callback, None
        try:
            if callback is not None:
                callback(self)
        finally:
            self._turns.close_fd()
