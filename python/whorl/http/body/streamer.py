"""Coroutines that write a body: deprecated in aiohttp, which has async generators in their place."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable
from typing import Any

from ..abc import AbstractStreamWriter
from .payload import Payload, payload_type

__all__ = ["StreamPayload", "StreamWrapperPayload", "streamer"]


class _StreamWrapper:
    """A call of the coroutine, for which only the writer is missing."""

    def __init__(
        self, coro: Callable[..., Awaitable[None]], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.coro = coro
        self.args = args
        self.kwargs = kwargs

    async def __call__(self, writer: AbstractStreamWriter) -> None:
        await self.coro(writer, *self.args, **self.kwargs)


class streamer:  # noqa: N801 - aiohttp's name
    """Makes a body of a coroutine function whose first parameter is the writer::

        @streamer
        async def count(writer, to):
            for number in range(to):
                await writer.write(b"%d\\n" % number)

        await session.post(url, data=count(to=3))

    Deprecated, as in aiohttp.
    """

    def __init__(self, coro: Callable[..., Awaitable[None]]) -> None:
        warnings.warn(
            "@streamer is deprecated, use async generators instead", DeprecationWarning, stacklevel=2
        )
        self.coro = coro

    def __call__(self, *args: Any, **kwargs: Any) -> _StreamWrapper:
        return _StreamWrapper(self.coro, args, kwargs)


@payload_type(_StreamWrapper)
class StreamWrapperPayload(Payload):
    """The body of a decorated coroutine function that is called with arguments."""

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Lets the coroutine write."""
        await self._value(writer)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Raises :exc:`TypeError`: the body is not known before it is written."""
        raise TypeError("Unable to decode: a coroutine writes the body. Use write()")


@payload_type(streamer)
class StreamPayload(StreamWrapperPayload):
    """The body of a decorated coroutine function that is called without arguments."""

    def __init__(self, value: streamer, *args: Any, **kwargs: Any) -> None:
        super().__init__(value(), *args, **kwargs)
