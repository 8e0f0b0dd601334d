"""Servers with the methods of Python 3.13 on every version."""

from __future__ import annotations

import sys
import weakref
from asyncio import base_events
from typing import Any, cast

__all__ = ["with_clients"]


if sys.version_info >= (3, 13):

    def with_clients(server: base_events.Server) -> base_events.Server:
        """Return the server as it is: asyncio's own has all methods."""
        return server

else:

    class Server(base_events.Server):
        """A server that knows its clients: :meth:`close_clients` and :meth:`abort_clients` of Python 3.13."""

        _clients: weakref.WeakSet[Any]

        # The two ignored lines: typeshed declares neither method.
        def _attach(self, transport: Any = None) -> None:
            super()._attach()  # type: ignore[misc]
            if transport is not None:
                self._clients.add(transport)

        def _detach(self, transport: Any = None) -> None:
            if transport is not None:
                self._clients.discard(transport)
            super()._detach()  # type: ignore[misc]

        def close_clients(self) -> None:
            """Close the transport of every client, after its write queue is sent."""
            for transport in list(self._clients):
                transport.close()

        def abort_clients(self) -> None:
            """Close the transport of every client at once: its write queue is dropped."""
            for transport in list(self._clients):
                transport.abort()

    def with_clients(server: base_events.Server) -> base_events.Server:
        """Give a server that the loop has just made the methods of 3.13."""
        server.__class__ = Server
        cast("Server", server)._clients = weakref.WeakSet()
        return server
