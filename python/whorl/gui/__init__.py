"""asyncio programs in the main loop of a GUI toolkit: Tk, Qt (PySide6, PyQt6), GLib (GTK 3 and 4).

::

    root = tkinter.Tk()

    async def main():
        ...

    whorl.gui.run(main())

:func:`run` runs the toolkit's own main loop, and in it the coroutine and its tasks, on the same thread: tasks
use widgets, and handlers of widgets make tasks (:func:`slot`). There is no other thread and nothing polls:
the toolkit watches one descriptor. :func:`start` is for a program that runs the main loop itself,
:func:`new_event_loop` for one that has an :class:`asyncio.Runner`. Another toolkit takes a
:class:`whorl.guest.Guest`, on which all of this is built.
"""

from __future__ import annotations

from whorl.gui.glib_host import glib
from whorl.gui.host import Host
from whorl.gui.loop import GuiEventLoop, new_event_loop
from whorl.gui.qt_host import qt
from whorl.gui.running import run, start
from whorl.gui.slots import slot
from whorl.gui.tk_host import tk

__all__ = ["GuiEventLoop", "Host", "glib", "new_event_loop", "qt", "run", "slot", "start", "tk"]
