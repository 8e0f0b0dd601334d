"""Tk's main loop as a host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from whorl.gui.host import AGE_LIMIT, Host, Watch

if TYPE_CHECKING:
    import tkinter
    from collections.abc import Callable

__all__ = ["TkHost", "tk"]

#: How many descriptors ``select()`` has room for.
_SELECT_LIMIT = 1024


def tk(root: tkinter.Misc | None = None) -> Host:
    """Tk's main loop.

    *root* is the :class:`tkinter.Tk`, or any of its widgets; the one that was made first unless given.

    Raises :exc:`RuntimeError` if there is none, and :exc:`TypeError` for another object.
    """
    import tkinter

    if root is None:
        root = getattr(tkinter, "_default_root", None)
        if root is None:
            raise RuntimeError("there is no Tk root window: make a tkinter.Tk() first, or pass it")
    if not isinstance(root, tkinter.Misc):
        raise TypeError(f"tk() takes a tkinter.Tk or a widget, got {root!r}")
    return TkHost(root)


class TkHost(Host):
    """Tk's main loop."""

    toolkit = "Tk"

    def __init__(self, root: tkinter.Misc) -> None:
        super().__init__()
        self._root = root.nametowidget(".")
        self._tk: Any = root.tk

    def run(self) -> None:
        self._root.mainloop()

    def quit(self) -> None:
        self._tk.quit()

    def watch(self, fd: int, function: Callable[[], None]) -> Watch:
        if fd >= _SELECT_LIMIT and self._uses_select():
            raise OSError(
                f"Tk before version 9 watches descriptors by select(), which has no room for number {fd}: "
                f"start the loop before {_SELECT_LIMIT} files are open"
            )
        return _TkWatch(self._tk, fd, function)

    def post(self, function: Callable[[], None]) -> None:
        self._root.after(0, function)

    @property
    def has_ended(self) -> bool:
        from tkinter import TclError

        try:
            self._tk.call("winfo", "exists", ".")
        except TclError:
            return True
        return False

    def _uses_select(self) -> bool:
        return int(str(self._tk.call("info", "patchlevel")).split(".")[0]) < 9


class _TkWatch(Watch):
    """A file handler; at rest, a command that Tk calls when it is idle, and again after a time.

    Tk calls what waits for it to be idle, its redraws among it, when no event and no file handler is ready.
    What an idle command adds to that runs at once, before any event (Tcl 8.6): so a timer adds it.
    """

    def __init__(self, tk: Any, fd: int, function: Callable[[], None]) -> None:
        self._tk = tk
        self._fd = fd
        self._command = f"whorl_turn_{id(self)}"
        self._waiting: list[Any] = []
        self._closed = False
        self._call = lambda fd, mask: function()
        tk.createcommand(self._command, function)
        self.resume()

    def let_others_go_first(self) -> None:
        self._tk.deletefilehandler(self._fd)
        call = self._tk.call
        self._waiting = [
            call("after", 0, f"after idle {self._command}"),
            call("after", round(AGE_LIMIT * 1000), self._command),
        ]

    def pause(self) -> None:
        self._tk.deletefilehandler(self._fd)
        self._waiting = [self._tk.call("after", round(AGE_LIMIT * 1000), self._command)]

    def resume(self) -> None:
        from _tkinter import READABLE

        self._cancel()
        self._tk.createfilehandler(self._fd, READABLE, self._call)

    def close(self) -> None:
        from tkinter import TclError

        if self._closed:
            return
        self._closed = True
        self._tk.deletefilehandler(self._fd)
        try:
            self._cancel()
            self._tk.deletecommand(self._command)
        except TclError:
            # The application has been destroyed, and these with it.
            return

    def _cancel(self) -> None:
        if not self._waiting:
            return
        # The command is what the timer has added since.
        for script in (*self._waiting, self._command):
            self._tk.call("after", "cancel", script)
        self._waiting = []
