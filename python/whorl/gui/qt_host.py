"""Qt's main loop as a host."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from whorl.gui.host import AGE_LIMIT, Host, Watch

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BINDINGS", "QtHost", "qt"]

#: The bindings of Qt that are supported.
BINDINGS = ("PySide6", "PyQt6")


def qt(app: Any = None) -> Host:
    """Qt's main loop, of PySide6 or PyQt6.

    *app* is the ``QApplication``, ``QGuiApplication`` or ``QCoreApplication``; the one that there is unless
    given.

    Raises :exc:`RuntimeError` if there is none, and :exc:`TypeError` for another object.
    """
    if app is None:
        app = application()
        if app is None:
            raise RuntimeError(
                f"there is no Qt application: make one of {' or '.join(BINDINGS)} first, or pass it"
            )
    for ancestor in type(app).__mro__:
        binding = ancestor.__module__.partition(".")[0]
        if binding in BINDINGS:
            core = import_module(f"{binding}.QtCore")
            if isinstance(app, core.QCoreApplication):
                return QtHost(app, core)
    raise TypeError(
        f"qt() takes a QCoreApplication of {' or '.join(BINDINGS)}, or one derived from it, got {app!r}"
    )


def application() -> Any:
    """Return the Qt application of this process, or None."""
    for binding in BINDINGS:
        core: Any = sys.modules.get(f"{binding}.QtCore")
        if core is not None and core.QCoreApplication.instance() is not None:
            return core.QCoreApplication.instance()
    return None


class QtHost(Host):
    """Qt's main loop."""

    toolkit = "Qt"

    def __init__(self, app: Any, core: Any) -> None:
        super().__init__()
        self._app = app
        self._core = core
        #: The main loops that run, the innermost last; the application's own is None.
        self._running: list[Any] = []

    def run(self) -> None:
        if self._core.QThread.currentThread().loopLevel():
            # exec() of the application cannot be called again.
            inner = self._core.QEventLoop()
            self._run(inner, inner.exec)
        else:
            # The event by which Qt itself then quits gets lost where dialogs and processEvents() are nested
            # in turns.
            closed = getattr(self._app, "lastWindowClosed", None)
            connection = closed.connect(self._last_window_closed) if closed is not None else None
            try:
                self._run(None, self._app.exec)
            finally:
                if closed is not None and self._core.QCoreApplication.instance() is not None:
                    closed.disconnect(connection)

    def _last_window_closed(self) -> None:
        if self._app.quitOnLastWindowClosed():
            self.quit()

    def _run(self, loop: Any, execute: Callable[[], object]) -> None:
        self._running.append(loop)
        try:
            execute()
        finally:
            self._running.pop()

    def quit(self) -> None:
        if self._running and self._running[-1] is not None:
            self._running[-1].exit(0)
        else:
            # Not quit(), which asks windows to close first, and which they may refuse.
            self._app.exit(0)

    def watch(self, fd: int, function: Callable[[], None]) -> Watch:
        return _QtWatch(self._core, self._app, fd, function)

    def post(self, function: Callable[[], None]) -> None:
        self._core.QTimer.singleShot(0, function)

    @property
    def has_ended(self) -> bool:
        return self._core.QCoreApplication.instance() is None


def _without_arguments(core: Any, function: Callable[[], None]) -> Any:
    """Make a slot of ``function`` for which the arguments of no signal are converted.

    A notifier's are enums, which Python code makes: a signal handler that runs in there, and raises, ends the
    process (PySide6).
    """

    def due() -> None:
        function()

    return core.pyqtSlot()(due) if hasattr(core, "pyqtSlot") else due


class _QtWatch(Watch):
    """A notifier; at rest, a timer of length 0, which comes when the main loop is idle, and another."""

    def __init__(self, core: Any, app: Any, fd: int, function: Callable[[], None]) -> None:
        self._core = core
        # As children of the application they are deleted by Qt, and not within their own signals by Python.
        self._notifier = core.QSocketNotifier(fd, core.QSocketNotifier.Type.Read, app)
        self._timers = [core.QTimer(app) for _ in range(2)]
        due = _without_arguments(core, function)
        for timer, milliseconds in zip(self._timers, (0, round(AGE_LIMIT * 1000)), strict=True):
            timer.setSingleShot(True)
            timer.setInterval(milliseconds)
            timer.timeout.connect(due)
        self._notifier.activated.connect(due)
        self._closed = False

    def let_others_go_first(self) -> None:
        self._notifier.setEnabled(False)
        for timer in self._timers:
            timer.start()

    def pause(self) -> None:
        self._notifier.setEnabled(False)
        self._timers[-1].start()

    def resume(self) -> None:
        for timer in self._timers:
            timer.stop()
        self._notifier.setEnabled(True)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._core.QCoreApplication.instance() is None:
            # The application is gone, and its children with it.
            return
        self._notifier.setEnabled(False)
        for each in (self._notifier, *self._timers):
            each.deleteLater()
