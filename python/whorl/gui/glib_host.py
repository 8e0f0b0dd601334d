"""GLib's main loop, which is GTK's, as a host."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from whorl.gui.host import AGE_LIMIT, Host, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from whorl.event_loop import EventLoop

__all__ = ["GLibHost", "glib"]

#: Just behind the redraws of GTK (GDK_PRIORITY_REDRAW is 120).
_BEHIND_REDRAWS = 121


def glib(context: Any = None, *, application: Any = None, priority: int = 0) -> Host:
    """GLib's main loop, for GTK 3 and 4, by PyGObject.

    *context* is the ``GLib.MainContext``, the default one unless given. With an *application* (a
    ``Gtk.Application`` or ``Gio.Application``) the main loop is that of its ``run()``, which ends with its
    last window. *priority* is that of the loop's source: ``GLib.PRIORITY_DEFAULT`` is 0, and less comes
    first.

    Raises :exc:`ImportError` without PyGObject, and :exc:`TypeError` for other objects.
    """
    # By name: type checkers have no stubs of them, and no need to have them installed.
    gio, native = import_module("gi.repository.Gio"), import_module("gi.repository.GLib")
    if application is not None and context is not None:
        raise TypeError("an application has the default context: pass one of the two")
    if application is not None and not isinstance(application, gio.Application):
        raise TypeError(f"glib() takes a Gio.Application or Gtk.Application, got {application!r}")
    if context is not None and not isinstance(context, native.MainContext):
        raise TypeError(f"glib() takes a GLib.MainContext, got {context!r}")
    return GLibHost(native, context or native.MainContext.default(), application, priority)


class GLibHost(Host):
    """GLib's main loop."""

    toolkit = "GLib"

    def __init__(self, glib: Any, context: Any, application: Any, priority: int) -> None:
        super().__init__()
        self._glib = glib
        self._context = context
        self._application = application
        self._priority = priority
        #: What ends each main loop that :meth:`run` runs, and each that PyGObject reports; the innermost
        #: last.
        self._ours: list[Callable[[], object]] = []
        self._reported: list[Callable[[], object]] = []

    def run(self) -> None:
        application, self._application = self._application, None
        if application is None:
            main_loop = self._glib.MainLoop(self._context)
            with _pushed(self._ours, main_loop.quit):
                _run(main_loop)
            return
        handlers = [application.connect("startup", _hold)]
        if hasattr(application, "get_windows"):
            handlers.append(application.connect("window-removed", self._window_removed))
        if application.get_is_registered() and not application.get_is_remote():
            # It has started up before.
            _hold(application)
        try:
            with _pushed(self._ours, application.quit):
                application.run(None)
        finally:
            if application.get_is_registered() and not application.get_is_remote():
                application.release()
            for handler in handlers:
                application.disconnect(handler)

    def _window_removed(self, application: Any, window: Any) -> None:
        if not application.get_windows():
            self.quit()

    def quit(self) -> None:
        if self._ours:
            self._ours[-1]()
        elif self._reported:
            self._reported[0]()

    def watch(self, fd: int, function: Callable[[], None]) -> Watch:
        return _GLibWatch(self._glib, self._context, self._priority, fd, function)

    def post(self, function: Callable[[], None]) -> None:
        source = self._glib.Idle()
        source.set_priority(self._priority)
        source.set_callback(lambda *_: function())
        source.attach(self._context)

    @property
    def has_ended(self) -> bool:
        return False

    def is_same_as(self, other: Host) -> bool:
        """A thread may have several main contexts."""
        return super().is_same_as(other) and isinstance(other, GLibHost) and other._context == self._context

    def adopt(self, loop: EventLoop) -> None:
        """Make PyGObject's awaitables work, which want a running loop of their main context.

        It calls these methods of such a loop around each main loop that a program runs
        (``gi._ossighelper.get_event_loop``), in place of watching for signals itself.
        """
        super().adopt(loop)
        adopted: Any = loop
        adopted._context = self._context
        adopted.running = partial(_pushed, self._reported)
        # An iteration of the main context runs the guest's turns as well.
        adopted.paused = nullcontext


def _hold(application: Any) -> None:
    """Have the application run whatever the guest has yet to do: it would end without a window.

    Not where another process has the application: there it would never end.
    """
    application.hold()


@contextmanager
def _pushed(stack: list[Callable[[], object]], end: Callable[[], object]) -> Iterator[None]:
    stack.append(end)
    try:
        yield
    finally:
        stack.pop()


def _run(main_loop: Any) -> None:
    # Not PyGObject's own run(), which handles SIGINT itself: signals wake the guest.
    native: Any = super(type(main_loop), main_loop)
    native.run()


class _GLibWatch(Watch):
    """A source, at rest behind GTK's redraws; and one that calls it all the same after a time.

    Of the sources that are ready GLib calls those of the first priority, and redraws come late among them.
    """

    def __init__(self, glib: Any, context: Any, priority: int, fd: int, function: Callable[[], None]) -> None:
        self._glib = glib
        self._context = context
        self._priority = priority
        self._function = function
        self._late: Any = None
        self._fd = fd
        self._watch()

    def _watch(self) -> None:
        self._source = self._glib.unix_fd_source_new(self._fd, self._glib.IOCondition.IN)
        self._source.set_priority(self._priority)
        # A main loop that is run within a turn watches as well.
        self._source.set_can_recurse(True)
        self._source.set_callback(self._due)
        self._source.attach(self._context)

    def _due(self, *args: object) -> bool:
        self._function()
        return True

    def _is_late(self, *args: object) -> bool:
        self._late = None
        self._function()
        return False

    def let_others_go_first(self) -> None:
        self._source.set_priority(max(self._priority, _BEHIND_REDRAWS))
        self._call_late()

    def pause(self) -> None:
        # At any priority it would keep MainContext.pending() true.
        self._source.destroy()
        self._call_late()

    def _call_late(self) -> None:
        self._late = self._glib.Timeout(round(AGE_LIMIT * 1000))
        self._late.set_priority(self._priority)
        self._late.set_callback(self._is_late)
        self._late.attach(self._context)

    def resume(self) -> None:
        if self._source.is_destroyed():
            self._watch()
        self._source.set_priority(self._priority)
        self._destroy_late()

    def close(self) -> None:
        if not self._source.is_destroyed():
            self._source.destroy()
        self._destroy_late()

    def _destroy_late(self) -> None:
        late, self._late = self._late, None
        if late is not None:
            late.destroy()
