"""gzip and deflate for the parts of multipart bodies, in pieces of bounded size, and off the loop's thread.

The bodies of responses are decompressed in Rust; this module serves parts alone.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Final, Protocol

from ..typedefs import Byteish

__all__ = [
    "MAX_DECOMPRESS_MEMBERS",
    "MAX_SYNC_CHUNK_SIZE",
    "TooManyMembersError",
    "ZLibBackend",
    "ZLibBackendProtocol",
    "ZLibCompressor",
    "ZLibDecompressor",
    "set_zlib_backend",
]

MAX_SYNC_CHUNK_SIZE: Final = 16 * 1024
"""Up to so many bytes of input the work is done by the caller: handing it to a thread costs more."""

MAX_DECOMPRESS_MEMBERS: Final = 1024
"""So many members may be concatenated in one input: empty ones only cost time."""

# A decompressor copies the input after the end of its member. Input with many members is given in small
# pieces at first and then in larger ones, so that the copying stays in proportion.
_FIRST_WINDOW: Final = 64
_LAST_WINDOW: Final = 64 * 1024


class TooManyMembersError(ValueError):
    """Compressed data is made of more members than anyone has a reason for."""


class _CompressObject(Protocol):
    def compress(self, data: Byteish, /) -> bytes: ...
    def flush(self, mode: int = ..., /) -> bytes: ...


class _DecompressObject(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: Byteish, /, max_length: int = ...) -> bytes: ...
    def flush(self, length: int = ..., /) -> bytes: ...


class ZLibBackendProtocol(Protocol):
    """A module with the interface of :mod:`zlib`."""

    MAX_WBITS: int
    Z_FINISH: int

    @property
    def compressobj(self) -> Callable[..., _CompressObject]: ...
    @property
    def decompressobj(self) -> Callable[..., _DecompressObject]: ...


class ZLibBackendWrapper:
    """The module that compresses; its attributes are that module's."""

    def __init__(self, zlib_backend: ZLibBackendProtocol) -> None:
        self._zlib_backend = zlib_backend

    @property
    def name(self) -> str:
        """The name of the module."""
        return getattr(self._zlib_backend, "__name__", "undefined")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._zlib_backend, name)


ZLibBackend: Final = ZLibBackendWrapper(zlib)


def set_zlib_backend(new_zlib_backend: ZLibBackendProtocol) -> None:
    """Compresses and decompresses parts of multipart bodies with another module from now on, such as
    ``isal.isal_zlib``: one with the interface of :mod:`zlib`."""
    ZLibBackend._zlib_backend = new_zlib_backend


def encoding_to_mode(encoding: str | None = None, suppress_deflate_header: bool = False) -> int:
    """Returns zlib's ``wbits`` for a Content-Encoding.

    ``deflate`` is the zlib format (RFC 9110, section 8.4.1.2), or bare deflate data without its header.
    """
    window: int = ZLibBackend.MAX_WBITS
    if encoding == "gzip":
        return 16 + window
    return -window if suppress_deflate_header else window


class ZLibCompressor:
    """Compresses a stream of data.

    ``encoding`` is ``"gzip"`` or ``"deflate"``, ``level`` and ``strategy`` are zlib's, and ``wbits``
    overrides the encoding. More than ``max_sync_chunk_size`` bytes at once are compressed in ``executor``,
    which is the loop's by default; never, if that is None.
    """

    def __init__(
        self,
        encoding: str | None = None,
        suppress_deflate_header: bool = False,
        level: int | None = None,
        wbits: int | None = None,
        strategy: int | None = None,
        executor: Executor | None = None,
        max_sync_chunk_size: int | None = MAX_SYNC_CHUNK_SIZE,
    ) -> None:
        self._executor = executor
        self._max_sync_chunk_size = max_sync_chunk_size
        options = {"wbits": encoding_to_mode(encoding, suppress_deflate_header) if wbits is None else wbits}
        if level is not None:
            options["level"] = level
        if strategy is not None:
            options["strategy"] = strategy
        self._finish: int = ZLibBackend.Z_FINISH
        self._compressor: _CompressObject = ZLibBackend.compressobj(**options)

    def compress_sync(self, data: Byteish) -> bytes:
        """Compresses more data, and returns the output so far, which may be empty."""
        return self._compressor.compress(data)

    async def compress(self, data: Byteish) -> bytes:
        """As :meth:`compress_sync`. If it is cancelled, the stream cannot be continued."""
        if _is_much(data, self._max_sync_chunk_size):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, self._compressor.compress, data)
        return self._compressor.compress(data)

    def flush(self, mode: int | None = None) -> bytes:
        """Ends the stream, or flushes it by zlib's ``mode``, and returns the rest of the output."""
        return self._compressor.flush(self._finish if mode is None else mode)


class ZLibDecompressor:
    """Decompresses a stream of data, which may be several concatenated ones (RFC 1952, section 2.2).

    The parameters are those of :class:`ZLibCompressor`. What cannot be decompressed raises the backend's
    ``error``.
    """

    def __init__(
        self,
        encoding: str | None = None,
        suppress_deflate_header: bool = False,
        executor: Executor | None = None,
        max_sync_chunk_size: int | None = MAX_SYNC_CHUNK_SIZE,
    ) -> None:
        self._executor = executor
        self._max_sync_chunk_size = max_sync_chunk_size
        self._mode = encoding_to_mode(encoding, suppress_deflate_header)
        self._new: Callable[..., _DecompressObject] = ZLibBackend.decompressobj
        self._decompressor = self._new(wbits=self._mode)
        self._pending = b""
        self._may_have_more = False

    @property
    def eof(self) -> bool:
        """Whether the data so far is complete."""
        return self._decompressor.eof and not self._pending

    @property
    def data_available(self) -> bool:
        """Whether ``b""`` as input may give more output, since the last one was limited."""
        return self._may_have_more or bool(self._pending)

    async def decompress(self, data: Byteish, max_length: int = 0) -> bytes:
        """As :meth:`decompress_sync`. If it is cancelled, the stream cannot be continued."""
        if _is_much(data, self._max_sync_chunk_size) or _is_much(self._pending, self._max_sync_chunk_size):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, self.decompress_sync, data, max_length)
        return self.decompress_sync(data, max_length)

    def decompress_sync(self, data: Byteish, max_length: int = 0) -> bytes:
        """Decompresses more data, and returns at most ``max_length`` bytes; all there are if that is 0.

        Raises :exc:`TooManyMembersError` if the data is made of more than :data:`MAX_DECOMPRESS_MEMBERS`
        streams.
        """
        view = memoryview(self._pending + data if self._pending else data)
        output: list[bytes] = []
        produced = position = 0
        members = 0 if self._decompressor.eof else 1
        window = len(view)
        while True:
            if self._decompressor.eof:
                if position == len(view):
                    break
                members += 1
                if members > MAX_DECOMPRESS_MEMBERS:
                    raise TooManyMembersError(
                        f"compressed data has more than {MAX_DECOMPRESS_MEMBERS} members: not decompressed"
                    )
                self._decompressor = self._new(wbits=self._mode)
                window = _FIRST_WINDOW
            end = min(position + window, len(view))
            piece = self._decompressor.decompress(view[position:end], max_length and max_length - produced)
            output.append(piece)
            produced += len(piece)
            if self._decompressor.eof:
                position = end - len(self._decompressor.unused_data)
            else:
                position = end - len(self._decompressor.unconsumed_tail)
                window = min(2 * window, _LAST_WINDOW)
            if max_length and produced >= max_length:
                break
            if position == len(view):
                break
        self._pending = bytes(view[position:])
        # Some backends return less than they may, and continue in the next call.
        self._may_have_more = bool(max_length and produced)
        return output[0] if len(output) == 1 else b"".join(output)


def _is_much(data: Byteish, limit: int | None) -> bool:
    return limit is not None and len(data) > limit
