"""A coroutine in a toolkit's main loop: :func:`run` and :func:`start`."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from whorl.guest import Guest
from whorl.gui.driver import Driver
from whorl.gui.glib_host import glib
from whorl.gui.host import Host
from whorl.gui.qt_host import application, qt
from whorl.gui.tk_host import tk

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

__all__ = ["chosen_host", "run", "start"]

_T = TypeVar("_T")


def run(main: Coroutine[Any, Any, _T], host: Host | None = None, *, debug: bool | None = None) -> _T | None:
    """Run the toolkit's main loop, and in it the coroutine *main*; return its result.

    The counterpart of :func:`asyncio.run` for programs with a window: when *main* is done, the tasks that are
    left are cancelled, asynchronous generators and the default executor are shut down, and the main loop is
    ended; windows stay as they are. All of that happens in the main loop, which remains responsive. Until
    then the loop is the running one in this thread also while handlers of the toolkit run: these may call
    :func:`asyncio.create_task` (or are made by :func:`whorl.gui.slot`).

    If the main loop ends first, as it does with its last window or by its own ``quit()``, *main* is
    cancelled, and ``run`` waits until all is over. The result is that of *main* if it has caught the
    cancellation and returned, else None.

    Ctrl-C cancels *main*, and then :exc:`KeyboardInterrupt` is raised here, as :class:`asyncio.Runner` does
    it; a second one ends the main loop without waiting for *main*. :exc:`SystemExit` that a task or a
    callback raises ends the main loop and is raised here, whatever the toolkit does with exceptions.

    *host* is :func:`whorl.gui.tk`, :func:`whorl.gui.qt` or :func:`whorl.gui.glib`; unless given, that of the
    toolkit that has been imported and has an application. *debug* is that of :class:`asyncio.Runner`.

    Raises :exc:`RuntimeError` if no toolkit is found or more than one, or an event loop runs in this thread
    already, :exc:`ValueError` for a *main* that is no coroutine, and what *main* raises.
    """
    session = _Session(main, host, None, debug)
    with session.guest, _cancelled_by_ctrl_c(session):
        session.run()
    return session.result()


def start(
    main: Coroutine[Any, Any, _T],
    host: Host | None = None,
    *,
    done: Callable[[Guest[_T]], object] | None = None,
    debug: bool | None = None,
) -> Guest[_T]:
    """Start the coroutine *main* in the toolkit's main loop, which the program runs itself; return at once.

    ::

        with whorl.gui.start(main(), whorl.gui.tk(root)):
            root.mainloop()

    When *main* is done and all that follows, as with :func:`run`, *done* is called with the
    :class:`whorl.guest.Guest`: :meth:`~whorl.guest.Guest.result` has the outcome. The main loop continues. If
    it ends first, the program closes the guest (the ``with`` statement does), which cancels *main*.

    :exc:`KeyboardInterrupt` and :exc:`SystemExit` that a task or a callback raises end the guest and the
    main loop, and ``result()`` raises them.

    *host*, *debug* and the exceptions are those of :func:`run`. The semantics are those of Trio's
    ``start_guest_run``, without the thread.
    """
    return _Session(main, host, done, debug).guest


def chosen_host(host: Host | None) -> Host:
    """Return *host*, or that of the toolkit that has been imported and has an application.

    Raises :exc:`RuntimeError` if there is none or more than one, and :exc:`TypeError` for another object.
    """
    if host is not None:
        if not isinstance(host, Host):
            raise TypeError(f"host is to be whorl.gui.tk(), qt() or glib(), got {host!r}")
        return host
    found: list[Callable[[], Host]] = []
    if application() is not None:
        found.append(qt)
    if getattr(sys.modules.get("tkinter"), "_default_root", None) is not None:
        found.append(tk)
    if not found and "gi.repository.GLib" in sys.modules:
        # It has a main loop without anything else.
        found.append(glib)
    if len(found) != 1:
        what = "more than one toolkit has" if found else "no toolkit that is imported has"
        raise RuntimeError(
            f"{what} an application: pass host=whorl.gui.tk(root), whorl.gui.qt(app) or whorl.gui.glib()"
        )
    return found[0]()


class _Session(Generic[_T]):
    """A guest and the host that runs it."""

    def __init__(
        self,
        main: Coroutine[Any, Any, _T],
        host: Host | None,
        done: Callable[[Guest[_T]], object] | None,
        debug: bool | None,
    ) -> None:
        self._done = done
        self._driver: Driver | None = None
        self._running = False
        self._interrupted = False
        self._host_ended_first = False
        with ExitStack() as undo:
            if asyncio.iscoroutine(main):
                undo.callback(main.close)
            if asyncio._get_running_loop() is not None:
                raise RuntimeError("whorl.gui runs no main loop within a running event loop")
            self._host = chosen_host(host)
            self._host.check_thread()
            self.guest = Guest(main, done=self._ended, debug=debug)
            undo.pop_all()
            undo.callback(self.guest.close)
            self._host.adopt(self.guest.loop)
            guest = self.guest
            self._driver = Driver(self._host, guest.fd, self._turn, self._failed, guest.loop.time)
            undo.pop_all()

    def run(self) -> None:
        """Run the main loop to its end, and the guest's after it."""
        self._running = True
        try:
            self._host.run()
        finally:
            self._running = False
        self._host_ended_first = not self.guest.done
        self.guest.close()

    def interrupt(self) -> None:
        """Cancel *main*, or if it has been before, end all of it."""
        first, self._interrupted = not self._interrupted, True
        if first and self.guest.cancel():
            return
        # Some toolkits print an exception that a handler of theirs raises, and continue.
        self._host.quit()
        raise KeyboardInterrupt

    def result(self) -> _T | None:
        """Return what *main* returned, and None if it was cancelled because the host has ended."""
        guest = self.guest
        try:
            return guest.result()
        except asyncio.CancelledError:
            if self._interrupted and guest._main.uncancel() == 0:
                raise KeyboardInterrupt from None
            if self._host_ended_first:
                return None
            raise

    def _turn(self) -> None:
        self.guest.turn()
        self._close_failed()

    def _failed(self, error: BaseException) -> None:
        """End the guest and the host."""
        self.guest._fail(error)
        self._host.quit()
        self._close_failed()

    def _close_failed(self) -> None:
        # Within a turn, which runs a main loop, it is left to that turn.
        if self.guest._has_failed and not self.guest._turns.under_way:
            self.guest.close()

    def _ended(self, guest: Guest[_T]) -> None:
        if self._driver is not None:
            self._driver.close()
        if self._running:
            self._host.quit()
        if self._done is not None:
            self._done(guest)


@contextmanager
def _cancelled_by_ctrl_c(session: _Session[Any]) -> Iterator[None]:
    """Have SIGINT cancel the session's coroutine, unless the program has a handler of its own."""
    handler = signal.default_int_handler
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not handler
    ):
        yield
        return

    def interrupt(signum: int, frame: object) -> None:
        session.interrupt()

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is interrupt:
            signal.signal(signal.SIGINT, handler)
