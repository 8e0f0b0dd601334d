"""Request bodies: the payload for a value of each type, with the interface of ``aiohttp.payload``.

:func:`get_payload` finds the class for a value; :func:`register_payload` and :class:`payload_type` add
classes.
"""

from __future__ import annotations

import enum
import io
import json
import warnings
from abc import ABC
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from itertools import chain
from typing import IO, Any, Final, TypeVar

from ..abc import AbstractStreamWriter
from ..exception_type import ExceptionType
from ..streams import StreamReader
from ..typedefs import Byteish, JSONBytesEncoder, JSONEncoder
from .files import (
    _CLOSE_FUTURES,
    BufferedReaderPayload,
    BytesIOPayload,
    IOBasePayload,
    TextIOPayload,
    text_type,
)
from .payload_base import Payload

__all__ = [
    "PAYLOAD_REGISTRY",
    "TOO_LARGE_BYTES_BODY",
    "_CLOSE_FUTURES",
    "AsyncIterablePayload",
    "BufferedReaderPayload",
    "BytesIOPayload",
    "BytesPayload",
    "IOBasePayload",
    "JsonBytesPayload",
    "JsonPayload",
    "LookupError",
    "Order",
    "Payload",
    "PayloadRegistry",
    "StreamReaderPayload",
    "StringIOPayload",
    "StringPayload",
    "TextIOPayload",
    "get_payload",
    "is_payload",
    "payload_type",
    "register_payload",
]

TOO_LARGE_BYTES_BODY: Final = 1024 * 1024
"""More bytes than these in one piece give a :exc:`ResourceWarning`, as in aiohttp."""


class LookupError(Exception, metaclass=ExceptionType):  # noqa: A001 - the name that aiohttp's users catch
    """There is no payload for a value of this type."""


class Order(enum.StrEnum):
    """When a class of payloads is tried: before the others, by the type of the value, or if no other fits."""

    normal = "normal"
    try_first = "try_first"
    try_last = "try_last"


PayloadFactory = Callable[..., Payload]
_FactoryT = TypeVar("_FactoryT", bound=PayloadFactory)


class PayloadRegistry:
    """Which class makes the payload for values of which type.

    A type may be a tuple of types, as for :func:`isinstance`.
    """

    __slots__ = ("_by_type", "_first", "_last", "_normal", "_unknown")

    def __init__(self) -> None:
        self._first: list[tuple[PayloadFactory, Any]] = []
        self._normal: list[tuple[PayloadFactory, Any]] = []
        self._last: list[tuple[PayloadFactory, Any]] = []
        # Of the normal ones, for values that are of the very type.
        self._by_type: dict[type, PayloadFactory] = {}
        # Types whose values no class is registered for.
        self._unknown: set[type] = set()

    def get(self, data: Any, *args: Any, **kwargs: Any) -> Payload:
        """Returns the payload for ``data``: ``data`` itself if it is one.

        The arguments go to the class. Raises :exc:`LookupError` if there is none for the type.
        """
        found = self.find(data, *args, **kwargs)
        if found is not None:
            return found
        raise LookupError(
            f"there is no payload for a value of type {type(data).__name__!r}: pass bytes, a str, a file,"
            " an async iterable or a FormData, or register a payload for the type"
        )

    def find(self, data: Any, *args: Any, **kwargs: Any) -> Payload | None:
        """As :meth:`get`, but returns None if there is none."""
        kind = type(data)
        if kind in self._unknown:
            return None
        for factory, type_ in self._first:
            if isinstance(data, type_):
                return factory(data, *args, **kwargs)
        exact = self._by_type.get(kind)
        if exact is not None:
            return exact(data, *args, **kwargs)
        if isinstance(data, Payload):
            return data
        for factory, type_ in chain(self._normal, self._last):
            if isinstance(data, type_):
                try:
                    return factory(data, *args, **kwargs)
                except LookupError:
                    # Another registry has been asked.
                    return None
        if is_payload(data):
            foreign: Payload = data
            return foreign
        if kind in _PLAIN:
            self._unknown.add(kind)
        return None

    def register(
        self,
        factory: PayloadFactory,
        type: Any,  # noqa: A002 - aiohttp's name
        *,
        order: Order = Order.normal,
    ) -> None:
        """Has ``factory`` make the payloads for values of ``type``. Of two for one type, the later counts,
        unless they are tried first or last: then it is the earlier.

        :raises ValueError: for an ``order`` that is none of :class:`Order`
        """
        self._unknown.clear()
        match order:
            case Order.try_first:
                self._first.append((factory, type))
            case Order.normal:
                self._normal.append((factory, type))
                self._by_type.update(dict.fromkeys(type if isinstance(type, Iterable) else (type,), factory))
            case Order.try_last:
                self._last.append((factory, type))
            case _:
                raise ValueError(f"Unsupported order {order!r}: it is one of Order's")


# The types of forms: whether a payload is registered for them is known by the type.
_PLAIN = (dict, list, tuple)


def is_payload(data: object) -> bool:
    """Whether ``data`` is a payload: one of ours, or one of aiohttp's own, which is as good."""
    return isinstance(data, Payload) or all(
        hasattr(data, name) for name in ("write", "headers", "content_type", "size")
    )


def get_payload(data: Any, *args: Any, **kwargs: Any) -> Payload:
    """Returns the payload for ``data``: see :meth:`PayloadRegistry.get`."""
    return PAYLOAD_REGISTRY.get(data, *args, **kwargs)


def register_payload(
    factory: PayloadFactory,
    type: Any,  # noqa: A002 - aiohttp's name
    *,
    order: Order = Order.normal,
) -> None:
    """Has ``factory`` make the payloads for values of ``type``."""
    PAYLOAD_REGISTRY.register(factory, type, order=order)


class payload_type:  # noqa: N801 - aiohttp's name
    """Decorates a class of payloads: it makes those for values of ``type``."""

    def __init__(self, type: Any, *, order: Order = Order.normal) -> None:  # noqa: A002
        self.type = type
        self.order = order

    def __call__(self, factory: _FactoryT) -> _FactoryT:
        register_payload(factory, self.type, order=self.order)
        return factory


class BytesPayload(Payload):
    """Bytes in memory: :class:`bytes`, :class:`bytearray` or :class:`memoryview`."""

    _value: Byteish
    _size: int
    _autoclose = True

    def __init__(self, value: Byteish, *args: Any, **kwargs: Any) -> None:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise TypeError(f"value argument must be byte-ish, not {type(value)!r}")
        kwargs.setdefault("content_type", "application/octet-stream")
        super().__init__(value, *args, **kwargs)
        self._size = value.nbytes if isinstance(value, memoryview) else len(value)
        if self._size > TOO_LARGE_BYTES_BODY:
            warnings.warn(
                "Sending a large body directly with raw bytes might lock the event loop. You should probably"
                " pass an io.BytesIO object instead",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Decodes the bytes."""
        return str(self._value, encoding, errors)

    async def as_bytes(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Returns the bytes, whatever the encoding."""
        return self._value if isinstance(self._value, bytes) else bytes(self._value)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Writes the bytes, in one piece."""
        await writer.write(self._value)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Writes the bytes, in one piece, but no more than ``content_length`` if that is given."""
        value = self._value
        if content_length is not None and content_length < self._size:
            value = memoryview(value).cast("B")[:content_length]
        await writer.write(value)


class StringPayload(BytesPayload):
    """Text, in ``encoding``, which is UTF-8 unless ``content_type`` has another charset."""

    def __init__(
        self,
        value: str,
        *args: Any,
        encoding: str | None = None,
        content_type: str | None = None,
        **kwargs: Any,
    ) -> None:
        encoding, content_type = text_type(encoding, content_type)
        encoded = value.encode(encoding)
        super().__init__(encoded, *args, encoding=encoding, content_type=content_type, **kwargs)


class StringIOPayload(StringPayload):
    """The unread rest of an :class:`io.StringIO`."""

    def __init__(self, value: IO[str], *args: Any, **kwargs: Any) -> None:
        super().__init__(value.read(), *args, **kwargs)


class JsonPayload(BytesPayload):
    """``value`` as JSON, by ``dumps``, which returns text; or bytes, as orjson's does.

    :raises TypeError: if it returns something else
    """

    def __init__(
        self,
        value: Any,
        encoding: str = "utf-8",
        content_type: str = "application/json",
        dumps: JSONEncoder = json.dumps,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        encoded: object = dumps(value)
        if isinstance(encoded, str):
            encoded = encoded.encode(encoding)
        elif not isinstance(encoded, bytes):
            raise TypeError(f"json_serialize must return text, not {type(encoded).__name__}: {encoded!r}")
        super().__init__(encoded, *args, content_type=content_type, encoding=encoding, **kwargs)


class JsonBytesPayload(BytesPayload):
    """``value`` as JSON, by ``dumps``, which returns bytes, as orjson's does."""

    def __init__(
        self,
        value: Any,
        dumps: JSONBytesEncoder,
        content_type: str = "application/json",
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(dumps(value), *args, content_type=content_type, **kwargs)


class AsyncIterablePayload(Payload):
    """The bytes that an async iterable yields, such as an async generator: sent as they come, and once.

    :meth:`as_bytes` keeps them, so that they can be sent again.
    """

    _value: AsyncIterable[Byteish]
    # None when it is exhausted.
    _iter: AsyncIterator[Byteish] | None
    _cached_chunks: list[Byteish] | None = None
    _autoclose = True

    def __init__(self, value: AsyncIterable[Byteish], *args: Any, **kwargs: Any) -> None:
        if not isinstance(value, AsyncIterable):
            raise TypeError(
                "value argument must support collections.abc.AsyncIterable interface,"
                f" got {type(value)!r}: pass an async generator, or a list of bytes joined"
            )
        kwargs.setdefault("content_type", "application/octet-stream")
        super().__init__(value, *args, **kwargs)
        self._iter = value.__aiter__()

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Writes the yielded pieces."""
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Writes the yielded pieces, but no more than ``content_length`` bytes if that is given.

        The rest is yielded and not written: a generator closes its resources after its last ``yield``.
        """
        left = content_length
        if self._cached_chunks is not None:
            for piece in self._cached_chunks:
                left = await _write_piece(writer, piece, left)
        elif self._iter is not None:
            # The yielded pieces are gone, however far the writing gets.
            self._consumed = True
            async for piece in self._iter:
                left = await _write_piece(writer, piece, left)
            self._iter = None

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Decodes what :meth:`as_bytes` has kept; before that it raises :exc:`TypeError`."""
        if self._cached_chunks is None:
            raise TypeError("Unable to decode - content not cached. Call as_bytes() first.")
        return b"".join(self._cached_chunks).decode(encoding, errors)

    async def as_bytes(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Returns everything that is yielded, and keeps it. ``b""`` if it has been sent already."""
        if self._cached_chunks is None:
            if self._iter is None:
                return b""
            pieces = [piece async for piece in self._iter]
            self._iter = None
            self._cached_chunks = pieces
        return b"".join(self._cached_chunks)


async def _write_piece(writer: AbstractStreamWriter, piece: Byteish, left: int | None) -> int | None:
    """Writes at most ``left`` bytes of ``piece``, and returns how many are left after it."""
    if left is None:
        await writer.write(piece)
        return None
    if left > 0:
        await writer.write(piece[:left])
    return max(0, left - len(piece))


class StreamReaderPayload(AsyncIterablePayload):
    """The body of another message, passed on as it comes."""

    def __init__(self, value: StreamReader, *args: Any, **kwargs: Any) -> None:
        super().__init__(value.iter_any(), *args, **kwargs)


class _ForeignStream(ABC):  # noqa: B024 - its hook is below
    """aiohttp's own streams, which iterate over lines by default."""

    @classmethod
    def __subclasshook__(cls, other: type) -> bool:
        return all(hasattr(other, name) for name in ("iter_any", "readany", "at_eof"))


PAYLOAD_REGISTRY = PayloadRegistry()
register_payload(BytesPayload, (bytes, bytearray, memoryview))
register_payload(StringPayload, str)
register_payload(StringIOPayload, io.StringIO)
register_payload(TextIOPayload, io.TextIOBase)
register_payload(BytesIOPayload, io.BytesIO)
register_payload(BufferedReaderPayload, (io.BufferedReader, io.BufferedRandom))
register_payload(IOBasePayload, io.IOBase)
register_payload(StreamReaderPayload, (StreamReader, _ForeignStream))
# Last, since an iterable may have a better way to be sent.
register_payload(AsyncIterablePayload, AsyncIterable, order=Order.try_last)
