"""Running coroutines on whorl's event loop: :func:`run`, :func:`new_event_loop` and :func:`install`."""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING, Any, TypeVar

from whorl.event_loop import EventLoop
from whorl.patches import nesting_hint

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["install", "new_event_loop", "run"]

_T = TypeVar("_T")


def new_event_loop() -> EventLoop:
    """Return a new event loop, which the caller closes.

    The loop is not made the current one. This is the ``loop_factory`` for :class:`asyncio.Runner`, and for
    :func:`asyncio.run` from Python 3.12.
    """
    return EventLoop()


def run(main: Coroutine[Any, Any, _T], *, debug: bool | None = None) -> _T:
    """Run the coroutine *main* on a new event loop, close the loop and return the result.

    The counterpart of :func:`asyncio.run`: when *main* is done, the tasks that are left are cancelled,
    asynchronous generators and the default executor are shut down, and Ctrl-C cancels *main* and then raises
    :exc:`KeyboardInterrupt`.

    *debug* switches asyncio's debug mode on or off; ``None`` leaves it to ``PYTHONASYNCIODEBUG`` and
    ``-X dev``.

    Raises :exc:`RuntimeError` when this thread already runs an event loop, and :exc:`ValueError` or
    :exc:`TypeError`, as the Python version's :class:`asyncio.Runner` does, when *main* is not a coroutine.
    """
    if asyncio._get_running_loop() is not None:
        # Runner would say so too, but only after it has made a loop for nothing.
        hint = nesting_hint() or ": await the coroutine instead"
        raise RuntimeError(f"whorl.run() cannot be called from a running event loop{hint}")
    with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
        return runner.run(main)


def install() -> None:
    """Make whorl's the loop of every later :func:`asyncio.run` and :func:`asyncio.new_event_loop`.

    For code that does not choose its loop itself; new code calls :func:`run` or passes
    :func:`new_event_loop` as the ``loop_factory``. Does what
    ``asyncio.set_event_loop_policy(whorl.EventLoopPolicy())`` does, without the :exc:`DeprecationWarning` of
    Python 3.14 and 3.15. Python 3.16 has no policies left: there the factory that :func:`asyncio.run` calls
    is replaced. Loops that exist already stay what they are: where one is running in this thread, as in a
    Jupyter notebook, a :exc:`RuntimeWarning` says so.
    """
    running = asyncio._get_running_loop()
    if running is not None and not isinstance(running, EventLoop):
        warnings.warn(
            f"whorl.install() has no effect on the loop that runs here already ({type(running).__name__}); "
            "call it before the loop is made, or start the program with `whorl run` "
            "(a notebook: its kernel, with `whorl run -m ipykernel_launcher`)",
            RuntimeWarning,
            stacklevel=2,
        )
    if not hasattr(asyncio.events, "set_event_loop_policy"):
        replace_factories()
        return
    from whorl.policy import EventLoopPolicy

    with warnings.catch_warnings():
        # The warning is for callers that use policies; here the caller is this function.
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(EventLoopPolicy())


def replace_factories() -> None:
    """Replace :func:`asyncio.new_event_loop` and the default loop class, whatever policy is in force.

    asyncio calls the factory through its ``events`` module and re-exports it at its top level; a program may
    use either name. ``asyncio.EventLoop`` (Python 3.13) names the default loop class of the platform.
    """
    asyncio.events.new_event_loop = new_event_loop
    asyncio.new_event_loop = new_event_loop
    module: Any = asyncio
    if hasattr(module, "EventLoop"):
        module.EventLoop = EventLoop
