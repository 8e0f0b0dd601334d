"""The protocol of a connection to a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whorl import _core

from .. import exceptions, http_exceptions

if TYPE_CHECKING:
    import asyncio

__all__ = ["HttpConnection", "ResponseHandler"]


class HttpConnection(_core.HttpConnection):
    """A connection to a server, as a transport's protocol. Its methods are native.

    A class derived from it may have further parameters.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """``__new__()`` has seen to it."""

    async def drain(self) -> None:
        """Wait until the transport's buffer is below its high-water mark.

        :raises ClientConnectionResetError: if the connection is lost meanwhile
        """
        waiter = self.drain_waiter()
        if waiter is not None:
            await waiter


#: aiohttp's name for it, by which connectors that come with a transport of their own make one.
ResponseHandler = HttpConnection


# The extension imports nothing of this package: it is given what it uses.
_core.give_exceptions(exceptions, http_exceptions)
