"""Calls the turns of a loop from a toolkit's main loop, and leaves the toolkit its share of the time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whorl.turns import BUDGET

if TYPE_CHECKING:
    from collections.abc import Callable

    from whorl.gui.host import Host

__all__ = ["Driver"]


class Driver:
    """Calls *turn* whenever *fd* is readable, until it is closed.

    Toolkits redraw when nothing else is ready: a loop that always has something to do would keep a window
    from being drawn. So the toolkit goes first each time that the turns have taken BUDGET seconds of *time*
    together.

    An exception that leaves *turn* goes to *failed*: none leaves the function that the toolkit calls, as some
    print it and continue, and others end the process.
    """

    def __init__(
        self,
        host: Host,
        fd: int,
        turn: Callable[[], object],
        failed: Callable[[BaseException], object],
        time: Callable[[], float],
    ) -> None:
        self._turn = turn
        self._failed = failed
        self._time = time
        self._spent = 0.0
        self._rests = False
        self._closed = False
        self._watch = host.watch(fd, self._call)

    def close(self) -> None:
        """Call no more turns."""
        self._closed = True
        self._watch.close()

    def _call(self) -> None:
        if self._closed:
            return
        if self._rests:
            # Before the turn: it may run a dialog with a main loop of its own, which calls the next ones.
            self._rests = False
            self._watch.resume()
        start = self._time()
        try:
            self._turn()
        except BaseException as error:
            self._failed(error)
        if self._closed:
            return
        self._spent += self._time() - start
        if self._spent >= BUDGET and not self._rests:
            self._spent = 0.0
            self._rests = True
            self._watch.let_others_go_first()
