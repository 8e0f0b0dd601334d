"""Bodies that are read from files, piece by piece, and off the event loop's thread."""

from __future__ import annotations

import asyncio
import codecs
import io
import os
import stat
from pathlib import PurePath
from typing import IO, Any, Final, TextIO

from .. import hdrs
from ..abc import AbstractStreamWriter
from ..helpers import DEFAULT_CHUNK_SIZE, parse_mimetype
from .payload_base import Payload

__all__ = [
    "BufferedReaderPayload",
    "BytesIOPayload",
    "IOBasePayload",
    "TextIOPayload",
    "guess_filename",
    "text_type",
]

# Files that are being closed. The loop itself holds on to them only weakly.
_CLOSE_FUTURES: Final[set[asyncio.Future[None]]] = set()

# The descriptor of one of their files is that of the compressed file, whose size says nothing.
_DECOMPRESSING_MODULES: Final = frozenset(("gzip", "bz2", "lzma", "compression.zstd._zstdfile"))


def guess_filename(obj: Any, default: str | None = None) -> str | None:
    """Returns the name of an open file, without its directory; ``default`` if it has none."""
    name = getattr(obj, "name", None)
    # "<stdin>" and the like are no names, and the number of a descriptor is none either.
    if not isinstance(name, str) or not name or name[0] == "<" or name[-1] == ">":
        return default
    return PurePath(name).name


def text_type(encoding: str | None, content_type: str | None) -> tuple[str, str]:
    """Returns the encoding and the media type of text, of which one, both or none are given."""
    if content_type is None:
        encoding = encoding or "utf-8"
        return encoding, f"text/plain; charset={encoding}"
    if encoding is None:
        encoding = parse_mimetype(content_type).parameters.get("charset", "utf-8")
    return encoding, content_type


class IOBasePayload(Payload):
    """An open binary file, from where it stands to its end. Sent again, it starts there again.

    ``disposition`` is the type of the Content-Disposition field that a file with a name gets; None for none.
    Closing the payload closes the file.
    """

    _value: Any
    # Where the file stood at first.
    _start_position: int | None = None
    _closed: bool = False

    def __init__(
        self, value: IO[Any], disposition: str | None = "attachment", *args: Any, **kwargs: Any
    ) -> None:
        if "filename" not in kwargs:
            kwargs["filename"] = guess_filename(value)
        super().__init__(value, *args, **kwargs)
        if (
            self._filename is not None
            and disposition is not None
            and hdrs.CONTENT_DISPOSITION not in self.headers
        ):
            self.set_content_disposition(disposition, filename=self._filename)

    @property
    def size(self) -> int | None:
        """How many bytes there are from the file's first position; None if it is no regular file."""
        if any(cls.__module__ in _DECOMPRESSING_MODULES for cls in type(self._value).__mro__):
            return None
        try:
            if self._start_position is None:
                self._start_position = self._value.tell()
            status = os.fstat(self._value.fileno())
        except (AttributeError, OSError):
            return None
        return max(0, status.st_size - self._start_position) if stat.S_ISREG(status.st_mode) else None

    def _rewind(self) -> None:
        """Notes where the file stands, or goes back there."""
        try:
            if self._start_position is None:
                self._start_position = self._value.tell()
            else:
                self._value.seek(self._start_position)
        except (AttributeError, OSError):
            # It can be read only once.
            self._consumed = True

    def _read(self, count: int) -> bytes:
        """Reads about ``count`` bytes; ``b""`` at the end."""
        data: bytes = self._value.read(count)
        return data

    def _read_all(self) -> bytes:
        self._rewind()
        pieces = []
        while piece := self._read(DEFAULT_CHUNK_SIZE):
            pieces.append(piece)
        return b"".join(pieces)

    def _begin(self, limit: int | None) -> tuple[int | None, bytes]:
        """Returns how many bytes to write (None if only the file's end shows it), and the first of them."""
        self._rewind()
        left = self.size
        if limit is not None:
            left = limit if left is None else min(left, limit)
        return left, self._read(_portion(left))

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Writes all of the file."""
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Writes the file, but no more than ``content_length`` bytes if that is given.

        A file that grows meanwhile is written up to its size at the start.
        """
        loop = asyncio.get_running_loop()
        left, piece = await loop.run_in_executor(None, self._begin, content_length)
        while piece:
            if left is None:
                await writer.write(piece)
            else:
                await writer.write(piece if len(piece) <= left else piece[:left])
                left -= len(piece)
                if left <= 0:
                    return
            piece = await loop.run_in_executor(None, self._read, _portion(left))

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Reads the file, and decodes it. Blocks."""
        return self._read_all().decode(encoding, errors)

    async def as_bytes(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Reads the file, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(None, self._read_all)

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = self._consumed = True
        # Closing may write to a disk or a network, and this must not wait.
        closing = asyncio.get_running_loop().run_in_executor(None, self._value.close)
        _CLOSE_FUTURES.add(closing)
        closing.add_done_callback(_CLOSE_FUTURES.discard)


def _portion(left: int | None) -> int:
    return DEFAULT_CHUNK_SIZE if left is None else min(left, DEFAULT_CHUNK_SIZE)


class BufferedReaderPayload(IOBasePayload):
    """A file opened with ``open(path, "rb")``."""

    _value: io.BufferedIOBase


class TextIOPayload(IOBasePayload):
    """A file opened as text, sent in ``encoding``, which is UTF-8 unless ``content_type`` has another
    charset.

    A file on disk in that same encoding is sent as it is there, with the line ends that it has there.
    Everything else is decoded and encoded, which leaves the size open.
    """

    _value: io.TextIOBase
    _encoding: str
    _encoder: codecs.IncrementalEncoder | None = None

    def __init__(
        self,
        value: TextIO,
        *args: Any,
        encoding: str | None = None,
        content_type: str | None = None,
        **kwargs: Any,
    ) -> None:
        encoding, content_type = text_type(encoding, content_type)
        super().__init__(value, *args, content_type=content_type, encoding=encoding, **kwargs)

    @property
    def size(self) -> int | None:
        """How many bytes are sent; None if only encoding the text would show it."""
        size = super().size
        return size if self._binary() is not None else None

    def _binary(self) -> Any:
        """The binary file underneath, if the text can be sent as it is there."""
        file = self._value
        # From another position the decoder may have a state.
        if type(file) is not io.TextIOWrapper or self._start_position != 0:
            return None
        return file.buffer if codecs.lookup(file.encoding) == codecs.lookup(self._encoding) else None

    def _rewind(self) -> None:
        super()._rewind()
        self._encoder = None
        if self._binary() is not None:
            # The text file has read ahead.
            self._value.seek(0)

    def _read(self, count: int) -> bytes:
        binary = self._binary()
        if binary is not None:
            data: bytes = binary.read(count)
            return data
        # Incrementally, as a byte order mark belongs to the beginning only.
        if self._encoder is None:
            self._encoder = codecs.getincrementalencoder(self._encoding)()
        text = self._value.read(count)
        return self._encoder.encode(text, final=not text)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Reads the text. Blocks."""
        self._rewind()
        return self._value.read()


class BytesIOPayload(IOBasePayload):
    """Bytes in memory, from where the :class:`io.BytesIO` stands. Closing the payload leaves it open."""

    _value: io.BytesIO
    _size: int
    _autoclose = True

    def __init__(self, value: io.BytesIO, *args: Any, **kwargs: Any) -> None:
        super().__init__(value, *args, **kwargs)
        with value.getbuffer() as buffer:
            self._size = max(0, buffer.nbytes - value.tell())

    @property
    def size(self) -> int:
        """How many bytes there were when the payload was made."""
        return self._size

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Writes the bytes, but no more than ``content_length`` if that is given."""
        left, piece = self._begin(content_length)
        while piece:
            await writer.write(piece if left is None else piece[:left])
            if left is not None:
                left -= len(piece)
                if left <= 0:
                    return
            # The writer need not have waited: others get their turn.
            await asyncio.sleep(0)
            piece = self._read(_portion(left))

    async def as_bytes(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Returns the bytes."""
        return self._read_all()

    def _close(self) -> None:
        """Leaves the object open: it holds nothing but memory."""
