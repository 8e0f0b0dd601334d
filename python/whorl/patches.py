"""The parts of asyncio that other packages replace, and how whorl's loop treats each.

- Tools that name slow callbacks (aiodebug and others) replace ``asyncio.events.Handle._run``. A loop that
  starts while it is replaced runs each handle through the replacement.
- ``nest_asyncio`` rewrites the loop's class so that the loop can run within itself. The native loop cannot,
  and :class:`whorl.EventLoop` has the mark that keeps its class as it is: a program that applies the patch
  and does not nest works, and a nested run is refused with a hint at the solution.
"""

from __future__ import annotations

import asyncio
from asyncio import events

__all__ = ["handle_run_is_replaced", "nesting_hint"]


def handle_run_is_replaced() -> bool:
    """Whether ``Handle._run`` is another function than asyncio's, which has asyncio's module around it."""
    run: object = vars(events.Handle).get("_run")
    return getattr(run, "__globals__", None) is not vars(events)


def nesting_hint() -> str:
    """Return the hint for the error of a nested run where ``nest_asyncio`` was applied."""
    if not hasattr(asyncio, "_nest_patched"):
        return ""
    return (
        ": nest_asyncio does not work on whorl's loop, which cannot run within itself; await the coroutine "
        "in place of running it, or use asyncio's own loop (without `whorl run` and whorl.install())"
    )
