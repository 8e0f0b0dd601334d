"""Loop classes that run in a toolkit's main loop, for suites that make their loops without arguments."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import cache
from importlib import import_module

import whorl.gui
from whorl.event_loop import EventLoop

_PROCESS = os.getpid()


def _has_toolkit() -> bool:
    """Elsewhere, in other threads and forked children, there is whorl's loop alone."""
    return threading.current_thread() is threading.main_thread() and os.getpid() == _PROCESS


@cache
def tk_host() -> whorl.gui.Host:
    root = import_module("tkinter").Tk()
    root.withdraw()
    return whorl.gui.tk(root)


@cache
def qt_host(binding: str) -> whorl.gui.Host:
    # Kept by the host.
    return whorl.gui.qt(import_module(f"{binding}.QtCore").QCoreApplication([]))


@cache
def glib_host() -> whorl.gui.Host:
    return whorl.gui.glib()


class HostedLoop(whorl.gui.GuiEventLoop):
    """A loop in the one main loop of this process."""

    made_host: Callable[[], whorl.gui.Host]

    def __init__(self) -> None:
        if _has_toolkit():
            super().__init__(type(self).made_host())
        else:
            EventLoop.__init__(self)

    def run_forever(self) -> None:
        if _has_toolkit() and hasattr(self, "_gui_host"):
            super().run_forever()
        else:
            EventLoop.run_forever(self)


class TkLoop(HostedLoop):
    """A loop in Tk's main loop."""

    made_host = staticmethod(tk_host)


class PySide6Loop(HostedLoop):
    """A loop in Qt's main loop, by PySide6."""

    made_host = staticmethod(lambda: qt_host("PySide6"))


class PyQt6Loop(HostedLoop):
    """A loop in Qt's main loop, by PyQt6."""

    made_host = staticmethod(lambda: qt_host("PyQt6"))


class GLibLoop(HostedLoop):
    """A loop in GLib's main loop."""

    made_host = staticmethod(glib_host)
