"""The turns of a loop that another main loop calls, and the state of its thread between them."""

from __future__ import annotations

import sys
import threading
from asyncio import current_task, events, tasks
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from whorl import _core
from whorl.patches import handle_run_is_replaced

if TYPE_CHECKING:
    import asyncio

    from whorl.event_loop import EventLoop

__all__ = ["BUDGET", "Turns", "resume", "suspend"]

#: Seconds that the callbacks of one turn may take: it leaves a host time for 60 frames a second.
BUDGET = 0.004


class Turns:
    """Runs *loop* by turns, from now until :meth:`end`.

    Unless the host is an event loop itself, *loop* is the running loop of this thread for all that time.
    Raises :exc:`RuntimeError` for a loop that runs or is closed, and :exc:`OSError` if there are too few
    descriptors; the thread is as it was then.
    """

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        #: The loop that runs in this thread between the turns: none, or that of an asyncio host.
        self._host = events._get_running_loop()
        self._hooks = sys.get_asyncgen_hooks()
        with ExitStack() as undo:
            undo.callback(self._restore_thread)
            loop._claim_wakeup_fd("run")
            loop._thread_id = self._thread
            loop._runs_by_turns = True
            self._native = _core.GuestTurns(loop)
            undo.callback(self._native.end)
            if self._host is None:
                self._install()
            undo.pop_all()

    @property
    def host(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that runs in this thread between the turns, if the host is one."""
        return self._host

    @property
    def fd(self) -> int:
        """The descriptor that is readable when there is something to do, until :meth:`close_fd`."""
        return self._native.fd

    @property
    def stopped(self) -> bool:
        """Whether ``loop.stop()`` was called."""
        return self._native.stopped

    @property
    def under_way(self) -> bool:
        """Whether a turn is under way, further up the stack."""
        return bool(self._native.depth)

    @property
    def have_ended(self) -> bool:
        """Whether :meth:`end` was called."""
        return not self._loop._runs_by_turns

    def check_thread(self, what: str) -> None:
        """Raise :exc:`RuntimeError` on another thread than the one that the turns belong to."""
        if threading.get_ident() != self._thread:
            raise RuntimeError(f"{what} on the thread that made it")

    def put_aside(self) -> _PutAside:
        """Put aside what runs in this thread, for a block that calls :meth:`run`."""
        return _PutAside(self)

    def run(self, budget: float) -> float | None:
        """Run what is due without waiting, and return in how many seconds the next timer is due.

        0: more work is ready; ``None``: no timer. What is said of :meth:`whorl.guest.Guest.turn` holds.
        """
        return self._native.turn(budget)

    def end(self) -> None:
        """Give the loop back, to be run or closed. :attr:`fd` stays open.

        Raises :exc:`RuntimeError` within a turn.
        """
        self._native.end()
        self._restore_thread()

    def close_fd(self) -> None:
        """Close the descriptor, which the host does not watch any more."""
        self._native.close_fd()

    def _restore_thread(self) -> None:
        """Undo what a running loop changes in its thread and process."""
        self._loop._thread_id = None
        self._loop._runs_by_turns = False
        if self._host is None:
            self._uninstall()
        self._loop._release_wakeup_fd("run")

    def _install(self) -> None:
        loop = self._loop
        sys.set_asyncgen_hooks(
            firstiter=loop._asyncgen_firstiter_hook, finalizer=loop._asyncgen_finalizer_hook
        )
        loop._set_coroutine_origin_tracking(loop.get_debug())
        loop._set_native_handle_run_replaced(handle_run_is_replaced())
        events._set_running_loop(loop)

    def _uninstall(self) -> None:
        events._set_running_loop(self._host)
        self._loop._set_coroutine_origin_tracking(False)
        sys.set_asyncgen_hooks(*self._hooks)


class _PutAside:
    """Puts the task that is running, and the loop of an asyncio host, aside for the length of a block."""

    __slots__ = ("_outer", "_switch", "_task", "_turns")

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def __enter__(self) -> None:
        turns = self._turns
        self._outer = events._get_running_loop()
        self._task = suspend(self._outer)
        # Within a turn, and in a host that is no loop, it is the guest's already.
        self._switch = self._outer is not turns._loop
        if self._switch:
            turns._hooks = sys.get_asyncgen_hooks()
            turns._install()

    def __exit__(self, *exc: object) -> None:
        turns = self._turns
        if self._switch:
            turns._uninstall()
            events._set_running_loop(self._outer)
        resume(self._outer, self._task)


def suspend(loop: Any) -> asyncio.Task[Any] | None:
    """Make no task the current one of ``loop``, which is running; return the one that was."""
    if loop is None:
        return None
    task = current_task(loop)
    if task is None:
        return None
    swap = getattr(tasks, "_swap_current_task", None)
    if swap is not None:
        swap(loop, None)
    else:
        tasks._leave_task(loop, task)
    return task


def resume(loop: Any, task: asyncio.Task[Any] | None) -> None:
    """Make ``task`` the current one of ``loop`` again."""
    if task is None:
        return
    swap = getattr(tasks, "_swap_current_task", None)
    if swap is not None:
        swap(loop, task)
    else:
        tasks._enter_task(loop, task)
