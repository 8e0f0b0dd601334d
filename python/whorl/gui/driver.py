"""Calls the turns of a loop from a toolkit's main loop, and leaves the toolkit its share of the time."""

from __future__ import annotations

import threading
from time import sleep
from typing import TYPE_CHECKING

from whorl.turns import BUDGET

if TYPE_CHECKING:
    from collections.abc import Callable

    from whorl.gui.host import Host

__all__ = ["Driver"]

#: Seconds that other threads are given after BUDGET. The main loop detaches for a moment more often than the
#: interpreter's switch interval, and then a thread that waits to attach never asks for it: it would wait as
#: long as the loop is busy.
_FOR_THREADS = 0.0001


class Driver:
    """Calls *turn* whenever *fd* is readable, until it is closed.

    Toolkits redraw when nothing else is ready: a loop that always has something to do would keep a window
    from being drawn. So the toolkit goes first each time that the turns have taken BUDGET seconds of *time*
    together.

    **Within a turn** a callback may run a main loop, which calls the next turns: a dialog's, or one that
    handles what there is and returns (``root.update()``, ``app.processEvents()``). The second kind would
    return only once the loop has nothing to do, and each task that runs one would do so on top of the one
    before. So the turns within a turn begin after AGE_LIMIT, and pause for as long whenever they have taken
    BUDGET.

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
        #: How many turns are under way, and within how many of them a main loop has lasted for AGE_LIMIT.
        self._depth = 0
        self._lasting = 0
        self._watch = host.watch(fd, self._call)

    def close(self) -> None:
        """Call no more turns."""
        if self._closed:
            return
        self._closed = True
        self._watch.close()
        # What the watch calls refers to this object: without these it is no more than that, and not a cycle
        # with the loop in it and the memory that it reads into.
        del self._turn, self._failed, self._time

    def _call(self) -> None:
        if self._closed:
            return
        depth = self._depth
        if self._rests:
            # Before the turn: it may run a dialog with a main loop of its own, which calls the next ones.
            self._resume()
            self._lasting = depth
        elif depth > self._lasting:
            self._rest(self._watch.pause)
            return
        self._depth = depth + 1
        start = self._time()
        failed = self._failed
        try:
            self._turn()
        except BaseException as error:
            failed(error)
        finally:
            self._depth = depth
            self._lasting = min(self._lasting, depth)
        if self._closed:
            return
        if self._rests:
            # A main loop within this turn has ended meanwhile.
            self._resume()
        self._spent += self._time() - start
        if self._spent >= BUDGET:
            self._rest(self._watch.pause if depth else self._watch.let_others_go_first)

    def _rest(self, how: Callable[[], None]) -> None:
        self._spent = 0.0
        self._rests = True
        how()
        if threading.active_count() > 1:
            sleep(_FOR_THREADS)

    def _resume(self) -> None:
        self._rests = False
        self._watch.resume()
