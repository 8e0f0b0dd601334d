"""Time limits of a request."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Final

__all__ = ["DEFAULT_TIMEOUT", "ClientTimeout", "ceil_timeout", "deadline"]


@dataclass(frozen=True, slots=True)
class ClientTimeout:
    """Time limits of a request, in seconds; None or 0 is no limit. Source of the semantics: aiohttp.

    :param total: everything, from the call to the last byte of the body, redirects included
    :param connect: getting a connection: the wait for a free place in the pool, the lookup and the dialling
    :param sock_read: the peer's silence between two pieces of an answer
    :param sock_connect: dialling a new connection, TLS included
    :param ceil_threshold: limits longer than this are rounded up to whole seconds of the loop's clock, so
        that many requests share one timer
    """

    total: float | None = None
    connect: float | None = None
    sock_read: float | None = None
    sock_connect: float | None = None
    ceil_threshold: float = 5


DEFAULT_TIMEOUT: Final = ClientTimeout(total=5 * 60, sock_connect=30)


def deadline(loop: asyncio.AbstractEventLoop, delay: float, ceil_threshold: float) -> float:
    """When a limit of ``delay`` seconds that starts now ends, on the loop's clock."""
    when = loop.time() + delay
    return math.ceil(when) if delay > ceil_threshold else when


def ceil_timeout(delay: float | None, ceil_threshold: float = 5) -> asyncio.Timeout:
    """:func:`asyncio.timeout`, where None and 0 are no limit and long ones end on a whole second."""
    if delay is None or delay <= 0:
        return asyncio.timeout(None)
    return asyncio.timeout_at(deadline(asyncio.get_running_loop(), delay, ceil_threshold))
