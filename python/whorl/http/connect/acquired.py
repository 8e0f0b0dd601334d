"""A connection while a request has it."""

from __future__ import annotations

import asyncio
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from whorl import _core

from ..request_info import ConnectionKey
from .connection import HttpConnection

if TYPE_CHECKING:
    from .connector import BaseConnector

__all__ = ["Connection"]


class Connection:
    """A connection while a request has it. Source of the semantics: ``aiohttp.connector.Connection``."""

    _source_traceback: traceback.StackSummary | None = None

    def __init__(
        self,
        connector: BaseConnector,
        key: ConnectionKey,
        protocol: HttpConnection,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._connector = connector
        self._key = key
        self._loop = loop
        self._protocol: HttpConnection | None = protocol
        # The connection returns to the pool by itself when a response has ended, and may serve another
        # request then.
        self._served = protocol.served
        self.options: dict[str, Any] = {}
        if loop.get_debug():
            self._source_traceback = traceback.extract_stack(sys._getframe(1))

    def __repr__(self) -> str:
        return f"Connection<{self._key}>"

    def __bool__(self) -> Literal[True]:
        return True

    def __del__(self, _warnings: Any = warnings) -> None:
        _core.finish_on(self._loop, self._finish, _warnings)

    def _finish(self, _warnings: Any) -> None:
        protocol = self.protocol
        # With a request on it, it is its response that has to be released.
        if protocol is None or protocol.exchange is not None or protocol.upgraded:
            return
        _warnings.warn(f"Unclosed connection {self!r}", ResourceWarning, source=self)
        if self._loop.is_closed():
            return
        protocol.close()
        context = {"client_connection": self, "message": "Unclosed connection"}
        if self._source_traceback is not None:
            context["source_traceback"] = self._source_traceback
        self._loop.call_exception_handler(context)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop. Deprecated."""
        warnings.warn("connector.loop property is deprecated", DeprecationWarning, stacklevel=2)
        return self._loop

    @property
    def protocol(self) -> HttpConnection | None:
        """The protocol, until the connection is released or closed."""
        protocol = self._protocol
        if protocol is not None and not protocol.has_permit(self._served):
            self._protocol = protocol = None
        return protocol

    @property
    def transport(self) -> asyncio.Transport | None:
        """The transport, until the connection is released or closed."""
        protocol = self.protocol
        return None if protocol is None else protocol.transport

    @property
    def closed(self) -> bool:
        """Whether it is released or closed."""
        protocol = self.protocol
        return protocol is None or not protocol.is_connected()

    def add_callback(self, callback: Callable[[], None] | None) -> None:
        """Call ``callback`` when the connection is released or closed."""
        protocol = self.protocol
        if callback is not None and protocol is not None:
            protocol.on_release(callback)

    def release(self) -> None:
        """Give the connection back; it is closed if a response on it has not ended."""
        protocol = self.protocol
        if protocol is not None:
            protocol.release()
        self._protocol = None

    def close(self) -> None:
        """Close the connection."""
        protocol = self.protocol
        if protocol is not None:
            protocol.close()
        self._protocol = None
