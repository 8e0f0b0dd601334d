"""The clients that the suite can be run with, and the count of how many sessions of each were really made."""

from __future__ import annotations

import functools
import importlib
from typing import Any

#: The clients by name: the module that has each one's ``ClientSession``.
CLIENTS = {"whorl": "whorl.http", "aiohttp": "aiohttp.client"}

#: The client that needs no substitution.
CONTROL = "aiohttp"


class SessionCount:
    """Counts the sessions that are made: the chosen client's, and as strays those of aiohttp.

    A stray means that the substitution did not reach the place where it was made.
    """

    def __init__(self, client: str) -> None:
        self.made = 0
        self.strays = 0
        theirs: Any = importlib.import_module(CLIENTS[CONTROL]).ClientSession
        if client == CONTROL:
            self._count(theirs, "made")
            return
        self._count(theirs, "strays")
        substitute()
        self._count(importlib.import_module(CLIENTS[client]).ClientSession, "made")

    def _count(self, session: Any, name: str) -> None:
        original = session.__init__

        @functools.wraps(original)
        def counting_init(self_: Any, *args: Any, **kwargs: Any) -> None:
            setattr(self, name, getattr(self, name) + 1)
            original(self_, *args, **kwargs)

        session.__init__ = counting_init


def substitute() -> None:
    """Put whorl's client in aiohttp's place, as ``whorl run --drop-in`` does."""
    from whorl.http.compat import drop_in

    drop_in.install()


def use_own_exceptions() -> None:
    """Have aiohttp's names of exceptions mean whorl's, for tests of the classes themselves.

    A program has no need of it: there the names stay aiohttp's, and catch whorl's.
    """
    import aiohttp
    from aiohttp import client, client_exceptions

    from whorl.http.compat.substitution import counterparts, exceptions

    modules = [aiohttp, client, client_exceptions]
    for name, (mine, _) in exceptions(counterparts(), modules).items():
        for module in modules:
            if hasattr(module, name):
                setattr(module, name, mine)
