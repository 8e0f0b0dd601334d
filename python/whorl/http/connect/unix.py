"""Connections to Unix-domain sockets; and named pipes, which are Windows"."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from ..client_request import Destination
from ..exceptions import (
    UnixClientConnectorError,
)
from ..helpers import Sentinel, sentinel
from ..timeouts import ceil_timeout, is_timeout
from .connection import HttpConnection
from .connector import HIGH_LEVEL_SCHEMES, BaseConnector

if TYPE_CHECKING:
    from ..client_request import ClientRequest
    from ..hooks.tracing import Trace
    from ..timeouts import ClientTimeout

__all__ = ["NamedPipeConnector", "UnixConnector"]


class UnixConnector(BaseConnector):
    """Connects to a Unix-domain socket, whatever the host. Source of the semantics:
    ``aiohttp.UnixConnector``.

    :param path: the socket's path; the others are :class:`BaseConnector`'s
    """

    allowed_protocol_schema_set = HIGH_LEVEL_SCHEMES | {"unix"}

    def __init__(
        self,
        path: str,
        force_close: bool = False,
        keepalive_timeout: float | Sentinel | None = sentinel,
        limit: int = 100,
        limit_per_host: int = 0,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(
            force_close=force_close,
            keepalive_timeout=keepalive_timeout,
            limit=limit,
            limit_per_host=limit_per_host,
            loop=loop,
        )
        self._path = path

    @property
    def path(self) -> str:
        """The socket's path."""
        return self._path

    async def _create_connection(
        self, req: ClientRequest | Destination, traces: Sequence[Trace], timeout: ClientTimeout
    ) -> HttpConnection:
        try:
            async with ceil_timeout(timeout.sock_connect, timeout.ceil_threshold):
                _, protocol = await self._loop.create_unix_connection(self._factory, self._path)
        except OSError as error:
            if is_timeout(error):
                raise
            raise UnixClientConnectorError(self._path, req.connection_key, error) from error
        return protocol


class NamedPipeConnector(BaseConnector):
    """Windows only, where whorl does not run: there so that programs which name it can be imported.

    :raises RuntimeError: always
    """

    allowed_protocol_schema_set = HIGH_LEVEL_SCHEMES | {"npipe"}

    def __init__(self, path: str, **kwargs: Any) -> NoReturn:
        raise RuntimeError("Named Pipes are only available on Windows: use UnixConnector")
