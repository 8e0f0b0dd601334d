"""The event loop policy, for code that still uses policies.

A module of its own, imported on first use of ``whorl.EventLoopPolicy``: Python 3.14 deprecates policies and
3.16 removes them, so no other code should import the base class.
"""

from __future__ import annotations

import asyncio
import warnings

from whorl.runner import new_event_loop

__all__ = ["EventLoopPolicy"]

if not hasattr(asyncio.events, "set_event_loop_policy"):
    raise AttributeError(
        "this version of Python has no event loop policies: "
        "use whorl.run(), or pass whorl.new_event_loop as the loop_factory"
    )

with warnings.catch_warnings():
    # From 3.14 on, looking the base class up warns. asyncio itself warns the code that sets a policy.
    warnings.simplefilter("ignore", DeprecationWarning)
    _DefaultEventLoopPolicy = asyncio.DefaultEventLoopPolicy


class EventLoopPolicy(_DefaultEventLoopPolicy):
    """asyncio's default policy, with whorl's loops.

    Used as ``asyncio.set_event_loop_policy(whorl.EventLoopPolicy())``, or through :func:`whorl.install`.
    Which loop is current in which thread, and when one is made implicitly, is as the Python version has it.
    """

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """Return a new event loop of whorl's."""
        return new_event_loop()
