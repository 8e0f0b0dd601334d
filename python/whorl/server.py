"""Servers with the methods of Python 3.13 on every version."""

from __future__ import annotations

import sys
import weakref
from asyncio import base_events
from typing import Any

__all__ = ["Server"]


if sys.version_info >= (3, 13):

    class Server(base_events.Server):
        """asyncio's own server, which has all methods."""

        @classmethod
        def adopt(cls, server: base_events.Server) -> base_events.Server:
            """Return the server as it is."""
            return server

else:

    class Server(base_events.Server):
        """A server that knows its clients: :meth:`close_clients` and :meth:`abort_clients`, from Python 3.13."""

        @classmethod
        def adopt(cls, server: base_events.Server) -> base_events.Server:
            """Give a server that the loop has just made the methods of this class."""
            server.__class__ = cls
            server._clients = weakref.WeakSet()
            return server

        def _attach(self, transport: Any = None) -> None:
            super()._attach()
            if transport is not None:
                self._clients.add(transport)

        def _detach(self, transport: Any = None) -> None:
            if transport is not None:
                self._clients.discard(transport)
            super()._detach()

        def close_clients(self) -> None:
            """Close the transport of every client: what waits to be sent is sent first."""
            for transport in list(self._clients):
                transport.close()

        def abort_clients(self) -> None:
            """Close the transport of every client at once: what waits to be sent is dropped."""
            for transport in list(self._clients):
                transport.abort()
