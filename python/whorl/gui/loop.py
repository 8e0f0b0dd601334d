"""An event loop whose ``run_forever()`` runs a toolkit's main loop."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from whorl.event_loop import EventLoop
from whorl.gui.driver import Driver
from whorl.gui.interrupts import Interrupts
from whorl.gui.running import chosen_host
from whorl.turns import BUDGET, Turns

if TYPE_CHECKING:
    from whorl.gui.host import Host

__all__ = ["GuiEventLoop", "new_event_loop"]


def new_event_loop(host: Host | None = None) -> GuiEventLoop:
    """Return a new event loop that runs in a toolkit's main loop. The caller closes it.

    For programs that have an :class:`asyncio.Runner` or call ``run_forever()`` themselves, and for tests::

        with asyncio.Runner(loop_factory=lambda: whorl.gui.new_event_loop(whorl.gui.qt(app))) as runner:
            runner.run(main())

    *host* and what is raised are those of :func:`whorl.gui.run`, which is the simpler way: it runs the main
    loop once, and this loop once for *main* and again for each step of the end.
    """
    return GuiEventLoop(chosen_host(host))


class GuiEventLoop(EventLoop):
    """An event loop whose :meth:`run_forever` runs the main loop of *host*."""

    #: Set by the host.
    _gui_host: Host

    def __init__(self, host: Host) -> None:
        super().__init__()
        host.adopt(self)

    @property
    def host(self) -> Host:
        """The main loop that it runs in."""
        return self._gui_host

    def run_forever(self) -> None:
        """Run the main loop of the host until :meth:`stop` is called, or the main loop ends.

        Where the toolkit is gone, as Tk is once its root window is destroyed, the loop runs without it.
        Raises as :meth:`whorl.EventLoop.run_forever`. Source: :meth:`asyncio.loop.run_forever`.
        """
        host = self._gui_host
        self._check_closed()
        self._check_running()
        host.check_thread()
        if host.has_ended:
            super().run_forever()
            return
        turns = Turns(self)
        errors: list[BaseException] = []

        def turn() -> None:
            with turns.put_aside():
                turns.run(BUDGET)
            # An error may have come before the main loop: the first turn, which is due at once, ends it.
            if errors or (turns.stopped and not turns.under_way):
                host.quit()

        def failed(error: BaseException) -> None:
            errors.append(error)
            host.quit()

        with ExitStack() as undo:
            undo.callback(turns.close_fd)
            undo.callback(turns.end)
            undo.callback(Interrupts(turns, failed).restore)
            undo.callback(Driver(host, turns.fd, turn, failed, self.time).close)
            host.run()
        if errors:
            raise errors[0]
