"""The protocol of a connection to a server."""

from __future__ import annotations

from whorl import _core

__all__ = ["HttpConnection"]


class HttpConnection(_core.HttpConnection):
    """A connection to a server, as a transport's protocol. What it does is native."""

    async def drain(self) -> None:
        """Wait for room in the transport's buffer.

        :raises ClientConnectionResetError: if the connection is lost meanwhile
        """
        waiter = self.drain_waiter()
        if waiter is not None:
            await waiter
