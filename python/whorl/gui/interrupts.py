"""Ctrl-C while a toolkit's main loop runs."""

from __future__ import annotations

import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from whorl.turns import Turns

__all__ = ["Interrupts"]

#: The modules whose functions a toolkit calls: an exception must not leave them.
_OURS = ("whorl.gui.", "whorl.guest", "whorl.turns")


class Interrupts:
    """Ends a run in a toolkit's main loop on SIGINT, from now until :meth:`restore`.

    Only in the main thread, and not if the program has a handler of its own. *turns* are those of the run.

    In a callback of a turn :exc:`KeyboardInterrupt` is raised, and reaches the driver of the turns. It is
    raised as well once the main loop has ended, while the loop runs by itself to its own end. Anywhere else
    it could leave a function that a toolkit has called, which some print and others end the process for:
    *quit_with* is called with it, which is to end the main loop. If that has not helped, the next one is
    raised anywhere.
    """

    def __init__(self, turns: Turns, quit_with: Callable[[BaseException], object]) -> None:
        self._turns = turns
        self._quit_with = quit_with
        self._has_quit = False
        self._installed = False
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            # As asyncio.Runner: ValueError where the main thread does not get signals.
            with suppress(ValueError):
                signal.signal(signal.SIGINT, self._handle)
                self._installed = True

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self.interrupt(frame)

    def interrupt(self, frame: FrameType | None) -> None:
        """End the run, which SIGINT has interrupted in *frame*."""
        error = KeyboardInterrupt()
        turns = self._turns
        if self._has_quit or turns.have_ended or (turns.under_way and not _is_ours(frame)):
            raise error
        self._has_quit = True
        self._quit_with(error)

    def restore(self) -> None:
        """Put Python's own handler back, if no other has been set. Calling it twice does nothing."""
        if not self._installed or threading.current_thread() is not threading.main_thread():
            return
        self._installed = False
        if signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_ours(frame: FrameType | None) -> bool:
    return frame is not None and str(frame.f_globals.get("__name__")).startswith(_OURS)
