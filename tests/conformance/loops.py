"""The event loops that the suite can be run on, and the count of how many of each were really made."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import mmap
import threading
from asyncio import selector_events
from typing import Any

#: Name on the command line -> (module, attribute) of the loop class. Imported only when chosen.
LOOPS: dict[str, tuple[str, str]] = {
    "whorl": ("whorl", "EventLoop"),
    "asyncio": ("asyncio", "SelectorEventLoop"),
    "uvloop": ("uvloop", "Loop"),
    "tk": ("tests.gui.loops", "TkLoop"),
    "pyside6": ("tests.gui.loops", "PySide6Loop"),
    "pyqt6": ("tests.gui.loops", "PyQt6Loop"),
    "glib": ("tests.gui.loops", "GLibLoop"),
}

#: What a loop of tests.gui.loops needs in addition.
TOOLKITS = {"tk": "tkinter", "pyside6": "PySide6", "pyqt6": "PyQt6", "glib": "gi"}

#: The loop that every other one is compared with.
CONTROL = "asyncio"


def why_unavailable(name: str) -> str | None:
    """Say in one line why the loop ``name`` cannot be used in this interpreter, or return None if it can."""
    package = TOOLKITS.get(name) or LOOPS[name][0]
    if importlib.util.find_spec(package) is None:
        return f"{package} is not installed in this interpreter"
    return None


class SharedCount:
    """A number that forked children add to as well. Children that start from a new program are not seen."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)
        self._lock = threading.Lock()

    def add_one(self) -> None:
        """Add one; exact between threads, and between processes that take turns, as the suite's do."""
        with self._lock:
            self._memory[:] = (self.value + 1).to_bytes(8, "little")

    @property
    def value(self) -> int:
        """Return the number."""
        return int.from_bytes(self._memory[:], "little")


class LoopFactory:
    """Makes loops of the chosen class and counts them; ``asyncio.new_event_loop()`` comes to call it.

    ``made`` counts the loops of the chosen class. ``strays`` counts asyncio's own selector loops that were
    made although another class was chosen: in the tests that made them the substitution did not reach, or
    was not meant to.
    """

    def __init__(self, loop_class: type[asyncio.AbstractEventLoop]) -> None:
        self.loop_class = loop_class
        self._made = SharedCount()
        self._strays = SharedCount()
        self._watching = False

    @property
    def made(self) -> int:
        """Return how many loops of the chosen class were made."""
        return self._made.value

    @property
    def strays(self) -> int:
        """Return how many stock loops were made in addition to the chosen class."""
        return self._strays.value

    @classmethod
    def for_name(cls, name: str) -> LoopFactory:
        """Import the loop class called ``name`` (a key of LOOPS) and return a factory of it."""
        package, attribute = LOOPS[name]
        loop_class: type[asyncio.AbstractEventLoop] = getattr(importlib.import_module(package), attribute)
        if not hasattr(loop_class, "_default_executor") and not issubclass(loop_class, asyncio.BaseEventLoop):
            # The suite's own clean-up reads this attribute of BaseEventLoop; a loop that has an executor but
            # not that name for it would fail every test for it, and show nothing else.
            loop_class = type(loop_class.__name__, (loop_class,), {"_default_executor": None})
        return cls(loop_class)

    def __call__(self) -> asyncio.AbstractEventLoop:
        loop = self.loop_class()
        if type(loop) is not self.loop_class:
            raise TypeError(f"{self.loop_class!r} made a {type(loop)!r}")
        self._made.add_one()
        return loop

    def watch_strays(self) -> None:
        """Count from now on every stock selector loop that is made in addition to the chosen class."""
        if self._watching:
            return
        self._watching = True
        selector_loop: Any = selector_events.BaseSelectorEventLoop
        original = selector_loop.__init__

        def counting_init(loop: Any, *args: Any, **kwargs: Any) -> None:
            if not isinstance(loop, self.loop_class):
                self._strays.add_one()
            original(loop, *args, **kwargs)

        selector_loop.__init__ = counting_init
