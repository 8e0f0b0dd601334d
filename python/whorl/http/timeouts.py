"""Timeouts of a request."""

from __future__ import annotations

import asyncio
import math
import warnings
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from .arguments import check_seconds
from .helpers import Sentinel

__all__ = [
    "DEFAULT_TIMEOUT",
    "ClientTimeout",
    "ceil_timeout",
    "deadline",
    "is_timeout",
    "request_timeout",
    "session_timeout",
]


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ClientTimeout:
    """Timeouts of a request, in seconds; None or 0 is no limit. Source of the semantics: aiohttp.

    :param total: everything, from the call to the last byte of the body, redirects included
    :param connect: getting a connection: the wait for a permit of the pool, the lookup and the connecting
    :param sock_read: the peer's silence between two pieces of a response
    :param sock_connect: connecting, TLS included
    :param ceil_threshold: of the connecting that coroutines do (through traces, a socket factory, a
        connector's override), limits longer than this are rounded up to whole seconds of the loop's clock

    For many requests to share one timer, ``total`` and ``connect`` may pass later than they say: by up to a
    64th of the limit, and never more than a second.
    """

    total: float | None = None
    connect: float | None = None
    sock_read: float | None = None
    sock_connect: float | None = None
    ceil_threshold: float = 5

    def __post_init__(self) -> None:
        check_seconds(
            " of a ClientTimeout",
            total=self.total,
            connect=self.connect,
            sock_read=self.sock_read,
            sock_connect=self.sock_connect,
            ceil_threshold=self.ceil_threshold,
        )


DEFAULT_TIMEOUT: Final = ClientTimeout(total=5 * 60, sock_connect=30)


def deadline(loop: asyncio.AbstractEventLoop, delay: float, ceil_threshold: float) -> float:
    """When a limit of ``delay`` seconds that starts now ends, on the loop's clock."""
    when = loop.time() + delay
    return math.ceil(when) if ceil_threshold < delay < math.inf else when


class _NoLimit:
    """What :func:`asyncio.timeout` is to None, at less cost."""

    __slots__ = ()

    def __aenter__(self) -> _Done[_NoLimit]:
        return _Done(self)

    def __aexit__(self, *exc: object) -> _Done[None]:
        return _Done(None)

    def when(self) -> None:
        """Never."""


class _Done(Generic[T]):
    """Awaiting it gives ``result``, and suspends nothing."""

    __slots__ = ("_result",)

    def __init__(self, result: T) -> None:
        self._result = result

    def __await__(self) -> Generator[Any, None, T]:
        return self._result
        yield


_NO_LIMIT: Final = _NoLimit()


def ceil_timeout(delay: float | None, ceil_threshold: float = 5) -> asyncio.Timeout | _NoLimit:
    """:func:`asyncio.timeout`, where None and 0 are no limit and long ones end on a whole second."""
    if delay is None or delay <= 0:
        return _NO_LIMIT
    return asyncio.timeout_at(deadline(asyncio.get_running_loop(), delay, ceil_threshold))


def is_timeout(error: BaseException) -> bool:
    """Whether it is a timeout of ours: the system's own (``ETIMEDOUT``) has a number."""
    return isinstance(error, TimeoutError) and error.errno is None


def session_timeout(
    timeout: object, read_timeout: float | Sentinel | None, conn_timeout: float | None
) -> ClientTimeout:
    """The limits of a session's requests: ``timeout``, or those of the deprecated parameters, with a warning.

    :raises ValueError: for a ``timeout`` that is no :class:`ClientTimeout`, or is given with another of them
    """
    old_read, old_connect = not isinstance(read_timeout, Sentinel), conn_timeout is not None
    if timeout is None or isinstance(timeout, Sentinel):
        total = DEFAULT_TIMEOUT.total if isinstance(read_timeout, Sentinel) else read_timeout
        if old_read:
            warnings.warn(
                "read_timeout is deprecated, use timeout argument instead", DeprecationWarning, stacklevel=3
            )
        if old_connect:
            warnings.warn(
                "conn_timeout is deprecated, use timeout argument instead", DeprecationWarning, stacklevel=3
            )
        return ClientTimeout(total=total, connect=conn_timeout, sock_connect=DEFAULT_TIMEOUT.sock_connect)
    if old_read:
        raise ValueError("read_timeout and timeout parameters conflict, please setup timeout.read")
    if old_connect:
        raise ValueError("conn_timeout and timeout parameters conflict, please setup timeout.connect")
    limits = _as_client_timeout(timeout)
    if limits is None:
        raise ValueError(
            f"timeout parameter cannot be of {type(timeout)} type, please use 'timeout=ClientTimeout(...)'"
        )
    return limits


def _as_client_timeout(timeout: object) -> ClientTimeout | None:
    """``timeout``, if it has the limits of one: another library's class of that name is as good as ours."""
    if isinstance(timeout, ClientTimeout):
        return timeout
    if type(timeout).__name__ != "ClientTimeout":
        return None
    names = ("total", "connect", "sock_read", "sock_connect", "ceil_threshold")
    return ClientTimeout(**{name: getattr(timeout, name) for name in names if hasattr(timeout, name)})


def request_timeout(timeout: object) -> ClientTimeout:
    """The limits of a request: a :class:`ClientTimeout`, or seconds in all.

    :raises ValueError: for a value of another type, and for NaN
    """
    limits = _as_client_timeout(timeout)
    if limits is not None:
        return limits
    if timeout is None or isinstance(timeout, int | float):
        return ClientTimeout(total=timeout)
    raise ValueError(f"timeout must be a ClientTimeout or a number of seconds, not {timeout!r}")
