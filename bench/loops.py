"""How each event loop is made.

Imports nothing but the chosen loop: start-up time is measured with it.
"""

import asyncio
import importlib
from collections.abc import Callable

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def loop_factory(name: str) -> LoopFactory:
    """What makes the loop called `name`; imports its package."""
    match name:
        case "asyncio":
            return asyncio.new_event_loop
        case "aiofastnet":
            # On uvloop, the stronger of the two bases it names.
            base = importlib.import_module("uvloop").new_event_loop
            factory: LoopFactory = importlib.import_module("aiofastnet").loop_factory(base)
            return factory
        case name:
            factory = importlib.import_module(name).new_event_loop
            return factory
