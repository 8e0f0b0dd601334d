"""whorl: asyncio programs on an event loop written in Rust.

Three ways in, from the least change to the most explicit:

- ``whorl run program.py`` runs a program as it is (see :mod:`whorl.cli`);
- :func:`run` in place of :func:`asyncio.run`;
- ``asyncio.Runner(loop_factory=whorl.new_event_loop)`` where the program keeps its own runner.

:func:`install` and :class:`EventLoopPolicy` serve older code that still goes through event loop policies.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from whorl._core import __version__
from whorl.event_loop import EventLoop
from whorl.runner import install, new_event_loop, run

if TYPE_CHECKING:
    from whorl.policy import EventLoopPolicy

__all__ = ["EventLoop", "EventLoopPolicy", "__version__", "install", "new_event_loop", "run"]

# Public packages below this one. Not in `__all__`: `from whorl import *` does not import them.
_PACKAGES = ("guest", "gui", "http", "testing")


def __getattr__(name: str) -> object:
    """Import a public package on first use, and make ``EventLoopPolicy``.

    The base class of the latter is deprecated in Python 3.14 and gone in 3.16.
    """
    if name in _PACKAGES:
        return import_module(f"{__name__}.{name}")
    if name != "EventLoopPolicy":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from whorl.policy import EventLoopPolicy

    globals()[name] = EventLoopPolicy
    return EventLoopPolicy


def __dir__() -> list[str]:
    return sorted([*__all__, *_PACKAGES])
