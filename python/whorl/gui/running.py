"""A coroutine in a toolkit's main loop: :func:`run` and :func:`start`."""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from whorl.guest import Guest
from whorl.gui.driver import Driver
from whorl.gui.glib_host import glib
from whorl.gui.host import Host
from whorl.gui.interrupts import Interrupts
from whorl.gui.qt_host import application, qt
from whorl.gui.tk_host import tk

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import FrameType

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

    Raises :exc:`RuntimeError` if no toolkit is found or more than one, if the application of the *host* has
    ended (Tk's root window is destroyed), or if an event loop runs in this thread already; :exc:`ValueError`
    for a *main* that is no coroutine; and what *main* raises.
    """
    session = _Session(main, host, None, debug)
    with session.guest:
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
    it ends first, the program closes the guest (the ``with`` statement does), which cancels *main*. What
    *done* raises goes to the loop's exception handler.

    :exc:`KeyboardInterrupt` and :exc:`SystemExit` that a task, a callback or *done* raises end the guest and
    the main loop, and ``result()`` raises them.

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


class _CancelledByFirst(Interrupts):
    """Cancels the guest's coroutine on the first SIGINT, as :class:`asyncio.Runner` does."""

    def __init__(self, guest: Guest[Any], quit_with: Callable[[BaseException], object]) -> None:
        self._guest = guest
        self.has_cancelled = False
        super().__init__(guest._turns, quit_with)

    def interrupt(self, frame: FrameType | None) -> None:
        if not self.has_cancelled:
            self.has_cancelled = True
            if self._guest.cancel():
                return
        super().interrupt(frame)


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
        self._host_ended_first = False
        with ExitStack() as undo:
            if asyncio.iscoroutine(main):
                undo.callback(main.close)
            if asyncio._get_running_loop() is not None:
                raise RuntimeError("whorl.gui runs no main loop within a running event loop")
            self._host = chosen_host(host)
            self._host.check_thread()
            if self._host.has_ended:
                raise RuntimeError(f"the application of {self._host.toolkit} has ended: make another one")
            self.guest = Guest(main, done=self._ended, debug=debug)
            undo.pop_all()
            undo.callback(self.guest.close)
            self._interrupts = _CancelledByFirst(self.guest, self._failed)
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

    def result(self) -> _T | None:
        """Return what *main* returned, and None if it was cancelled because the host has ended."""
        try:
            return self.guest.result()
        except asyncio.CancelledError:
            if self._host_ended_first:
                return None
            raise

    def _turn(self) -> None:
        if not self.guest._turns.have_ended:
            self.guest.turn()
        elif self._driver is not None:
            # A dialog that a task runs while the guest is closed: the loop runs by itself.
            self._driver.close()

    def _failed(self, error: BaseException) -> None:
        """End the guest, by further turns, and the host."""
        self.guest._fail(error)
        if self._driver is not None and not isinstance(error, (KeyboardInterrupt, SystemExit)):
            # A fault, which further turns would repeat.
            self._driver.close()
            self._host.quit()
        if self._running or self.guest._turns.under_way:
            # At once: run() waits for the rest, and the main loop of a dialog ends before the turn that has
            # opened it.
            self._host.quit()

    def _ended(self, guest: Guest[_T]) -> None:
        interrupts = self._interrupts
        interrupts.restore()
        # It has a method of this object, which has the guest.
        del self._interrupts
        if self._driver is not None:
            self._driver.close()
        # As asyncio.Runner, which leaves CancelledError where the program has cancelled it as well.
        only_ours = guest._main.cancelling() <= guest._cancellations + 1
        if interrupts.has_cancelled and guest._main.cancelled() and only_ours:
            guest._fail(KeyboardInterrupt())
        if self._running or guest._has_failed:
            self._host.quit()
        if self._done is not None:
            try:
                self._done(guest)
            except (KeyboardInterrupt, SystemExit):
                self._host.quit()
                raise
            except Exception as error:
                message = "unhandled exception in done(), which was given to whorl.gui.start()"
                guest.loop.call_exception_handler({"message": message, "exception": error})
