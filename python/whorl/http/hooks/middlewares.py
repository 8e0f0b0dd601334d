"""Middlewares of the client: coroutine functions around the sending of a request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..client_request import ClientRequest
    from ..response import ClientResponse

__all__ = ["ClientHandlerType", "ClientMiddlewareType", "build_client_middlewares"]

ClientHandlerType = Callable[["ClientRequest"], Awaitable["ClientResponse"]]
"""Sends a request and returns its response."""

ClientMiddlewareType = Callable[["ClientRequest", ClientHandlerType], Awaitable["ClientResponse"]]
"""Takes a request and the handler that sends it; may change the request, call the handler any number of
times, and returns a response."""


def build_client_middlewares(
    handler: ClientHandlerType, middlewares: Sequence[ClientMiddlewareType]
) -> ClientHandlerType:
    """Returns the handler with the middlewares around it; the first of them is the outermost."""
    for middleware in reversed(middlewares):
        handler = _around(middleware, handler)
    return handler


def _around(middleware: ClientMiddlewareType, handler: ClientHandlerType) -> ClientHandlerType:
    # A function of its own, for the two names; no coroutine, as the middleware's is awaited in its place.
    def handle(request: ClientRequest) -> Awaitable[ClientResponse]:
        return middleware(request, handler)

    return handle
