"""One part of a multipart body, as it comes in (RFC 2046, section 5.1)."""

from __future__ import annotations

import base64
import binascii
import json
import sys
import warnings
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from functools import cached_property
from typing import Any, Final
from urllib.parse import parse_qsl

from ..abc import AbstractStreamWriter
from ..hdrs import (
    CONTENT_DISPOSITION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TRANSFER_ENCODING,
    CONTENT_TYPE,
)
from ..helpers import DEFAULT_CHUNK_SIZE, parse_mimetype, text_encoding
from ..streams import StreamReader
from ..typedefs import Byteish
from .compression import ZLibDecompressor
from .content_disposition import content_disposition_filename, parse_content_disposition
from .payload_base import Payload

__all__ = ["READ_SIZE", "BodyPartReader", "BodyPartReaderPayload", "PartDecoder", "put_back"]

_CRLF: Final = b"\r\n"

# The size of a read where the size does not matter, in bytes.
READ_SIZE: Final = 64 * 1024

_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_NOT_BASE64: Final = bytes(set(range(256)) - set(_BASE64))


def put_back(content: StreamReader, data: bytes) -> None:
    """Puts ``data`` back into a stream: one of ours, or another with ``unread_data()``."""
    if isinstance(content, StreamReader):
        content._put_back(data)
    else:
        # aiohttp's own warns of its use, which concerns its caller, not the reader of the body.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            content.unread_data(data)


class PartDecoder:
    """Undoes the Content-Transfer-Encoding and the Content-Encoding of a part, piece by piece.

    The input and output of the latter are bounded: at most ``step`` bytes at once. Raises :exc:`RuntimeError`
    for an encoding that it does not know.
    """

    def __init__(self, transfer_encoding: str, content_encoding: str, step: int) -> None:
        self._transfer = transfer_encoding.lower()
        self._step = step
        self._carry = b""
        if self._transfer not in ("", "base64", "quoted-printable", "binary", "8bit", "7bit"):
            raise RuntimeError(f"unknown content transfer encoding: {self._transfer}")
        self._decompressor: ZLibDecompressor | None = None
        encoding = content_encoding.lower()
        if encoding in ("gzip", "deflate"):
            self._decompressor = ZLibDecompressor(encoding=encoding, suppress_deflate_header=True)
        elif encoding not in ("", "identity"):
            raise RuntimeError(f"unknown content encoding: {encoding}")

    def _undo_transfer(self, data: Byteish, final: bool) -> Byteish:
        if self._transfer == "base64":
            return base64.b64decode(data)
        if self._transfer == "quoted-printable":
            data = self._carry + data
            # An equals sign and the two characters that belong to it may have come apart.
            cut = len(data)
            if not final and (last := data.rfind(b"=", -2)) >= 0:
                cut = last
            self._carry = data[cut:]
            return binascii.a2b_qp(data[:cut])
        return data

    def decode(self, data: Byteish, final: bool = True) -> Iterator[Byteish]:
        """Yields what ``data`` stands for. More of the part may follow unless it is ``final``."""
        data = self._undo_transfer(data, final)
        decompressor = self._decompressor
        if decompressor is None:
            yield data
            return
        yield decompressor.decompress_sync(data, self._step)
        while decompressor.data_available:
            yield decompressor.decompress_sync(b"", self._step)

    async def decode_off_loop(self, data: Byteish, final: bool = True) -> AsyncGenerator[Byteish, None]:
        """As :meth:`decode`; long work is done in a thread."""
        data = self._undo_transfer(data, final)
        decompressor = self._decompressor
        if decompressor is None:
            yield data
            return
        yield await decompressor.decompress(data, self._step)
        while decompressor.data_available:
            yield await decompressor.decompress(b"", self._step)


class BodyPartReader:
    """One part of a multipart body: its ``headers``, and its content as it comes in.

    A part that is not read to its end is skipped when the :class:`MultipartReader` continues with the next.

    ``boundary`` is the line between the parts, with its two hyphens. A part that is larger than
    ``client_max_size`` bytes raises ``max_size_error_cls``, as it is and decoded; ``max_decompress_size`` is
    how much of it is decompressed at once. In ``form-data`` a part has neither a length nor a
    Content-Encoding, whatever its fields say (RFC 7578, section 4.8).

    Raises :exc:`ValueError` if the Content-Length is no number.
    """

    chunk_size = 8192

    def __init__(
        self,
        boundary: bytes,
        headers: Mapping[str, str],
        content: StreamReader,
        *,
        subtype: str = "mixed",
        default_charset: str | None = None,
        max_decompress_size: int = DEFAULT_CHUNK_SIZE,
        client_max_size: int = sys.maxsize,
        max_size_error_cls: type[Exception] = ValueError,
    ) -> None:
        self.headers = headers
        self._boundary = boundary
        # The line end before the boundary belongs to it.
        self._delimiter = _CRLF + boundary
        self._boundary_len = len(self._delimiter)
        self._content = content
        self._default_charset = default_charset
        self._is_form_data = subtype == "form-data"
        length = None if self._is_form_data else headers.get(CONTENT_LENGTH)
        if length is not None and not (length.isascii() and length.isdigit()):
            raise ValueError(f"invalid Content-Length: {length!r} of a part: it has to be a number in digits")
        self._length = None if length is None else int(length)
        self._read_bytes = 0
        self._at_eof = False
        # Without a length: the last read, which may have the beginning of the delimiter at its end, and
        # whether the delimiter was found right after it.
        self._prev_chunk: bytes | None = None
        self._delimiter_follows = False
        # The beginning of a base64 quartet.
        self._b64_carry = b""
        # The line that readline() has looked ahead at.
        self._next_line: bytes | None = None
        self._max_decompress_size = max_decompress_size
        self._client_max_size = client_max_size
        self._max_size_error_cls = max_size_error_cls

    def __aiter__(self) -> BodyPartReader:
        return self

    async def __anext__(self) -> bytes:
        part = await self.next()
        if part is None:
            raise StopAsyncIteration
        return part

    async def next(self) -> bytes | None:
        """Reads the content; None if it has been read."""
        return await self.read() or None

    def at_eof(self) -> bool:
        """Whether all of the content has been read."""
        return self._at_eof

    # Reading.

    async def read(self, *, decode: bool = False) -> bytes:
        """Reads the rest of the content; ``b""`` at its end.

        With ``decode`` it is decoded as its Content-Transfer-Encoding and Content-Encoding say.
        """
        chunks: list[Byteish] = []
        size = 0
        while not self._at_eof:
            chunk = await self.read_chunk(self._large_chunk)
            size = self._checked(size + len(chunk))
            chunks.append(chunk)
        data = b"".join(chunks)
        if not decode or not data:
            return data
        chunks.clear()
        size = 0
        async with aclosing(self._decoder().decode_off_loop(data)) as decoded:
            async for piece in decoded:
                size = self._checked(size + len(piece))
                chunks.append(piece)
        return b"".join(chunks)

    @property
    def _large_chunk(self) -> int:
        return max(self.chunk_size, READ_SIZE)

    def _checked(self, size: int) -> int:
        if size > self._client_max_size:
            raise self._max_size_error_cls(self._client_max_size)
        return size

    async def release(self) -> None:
        """Reads the rest of the content, and drops it."""
        while not self._at_eof:
            await self.read_chunk(self._large_chunk)

    async def read_chunk(self, size: int = chunk_size) -> bytes:
        """Reads at most ``size`` bytes of the content; ``b""`` at its end.

        Of base64 it reads whole quartets, so that each chunk can be decoded on its own. Raises
        :exc:`ValueError` if the body ends within the part, or the part is not as long as it says, or ``size``
        is less than the length of the boundary and a line end.
        """
        if self._at_eof:
            return b""
        if self._next_line is not None:
            put_back(self._content, self._next_line)
            self._next_line = None
        if self.headers.get(CONTENT_TRANSFER_ENCODING, "").lower() == "base64":
            return await self._read_quartets(size)
        return await self._read_raw(size)

    async def _read_raw(self, size: int) -> bytes:
        if self._length is None:
            return await self._read_to_delimiter(size)
        return await self._read_by_length(size, self._length)

    async def _read_by_length(self, size: int, length: int) -> bytes:
        chunk = await self._content.read(min(size, length - self._read_bytes))
        self._read_bytes += len(chunk)
        if self._read_bytes < length:
            if not chunk:
                raise ValueError(
                    f"the body ended after {self._read_bytes} of {length} bytes of a part: it is malformed"
                )
        else:
            self._at_eof = True
            if await self._content.readline() != _CRLF:
                raise ValueError(
                    f"Reader did not read all the data or it is malformed: no line end after {length} bytes"
                )
        return chunk

    async def _read_to_delimiter(self, size: int) -> bytes:
        """Reads a chunk of a part whose end only the delimiter marks.

        One chunk is held back: it is returned when enough of the following bytes is known to exclude that a
        delimiter begins in it.
        """
        if size < self._boundary_len:
            raise ValueError(
                f"cannot read {size} bytes of a part: Chunk size must be greater or equal than boundary"
                f" length + 2, {self._boundary_len}"
            )
        held = self._prev_chunk
        if self._delimiter_follows:
            self._at_eof = True
            return held or b""
        first = held is None
        if held is None:
            # The line end of the head may be the delimiter's too: the part is empty then.
            held = _CRLF + await self._content.read(size)
        start = 2 if first else 0
        end = held.find(self._delimiter) if first else -1
        ahead = b""
        if end < 0:
            ahead = await self._look_ahead(size)
            end = self._find_delimiter(held, ahead)
        if 0 <= end <= len(held):
            self._at_eof = True
            put_back(self._content, (held[end:] + ahead)[2:])
            return held[start:end]
        if end >= 0:
            end -= len(held)
            self._delimiter_follows = True
            put_back(self._content, ahead[end + 2 :])
            ahead = ahead[:end]
        elif len(held) == start and not ahead:
            raise ValueError(f"Reading after EOF: the body ended before the boundary {self._boundary!r}")
        self._prev_chunk = ahead
        return held[start:]

    async def _look_ahead(self, size: int) -> bytes:
        """Reads at most ``size`` bytes more, and enough to see whether a delimiter begins before them."""
        ahead = b""
        while len(ahead) < self._boundary_len:
            piece = await self._content.read(size)
            ahead += piece
            if not piece or self._content.at_eof():
                break
        if len(ahead) > size:
            put_back(self._content, ahead[size:])
            ahead = ahead[:size]
        return ahead

    def _find_delimiter(self, held: bytes, ahead: bytes) -> int:
        """Where the delimiter begins, counted from the beginning of ``held``, which has not all of it; or
        -1."""
        overlap = self._boundary_len - 1
        tail = held[-overlap:]
        found = (tail + ahead[:overlap]).find(self._delimiter)
        if found >= 0:
            return len(held) - len(tail) + found
        found = ahead.find(self._delimiter)
        return found if found < 0 else len(held) + found

    async def _read_quartets(self, size: int) -> bytes:
        """Reads base64 up to the end of a quartet, and keeps the characters of the next for the next read."""
        chunk = self._b64_carry
        smallest = self._boundary_len if self._length is None else 1
        while True:
            wanted = max(size - len(chunk), smallest)
            allowed = len(chunk) + wanted
            chunk += await self._read_raw(wanted)
            if self._at_eof:
                self._b64_carry = b""
                return chunk
            # The bytes to return were requested by the previous call, possibly for more than this one allows.
            chunk, surplus = chunk[:allowed], chunk[allowed:]
            characters = chunk.translate(None, _NOT_BASE64)
            extra = len(characters) % 4
            cut = len(chunk)
            for _ in range(extra):
                cut -= 1
                while chunk[cut] not in _BASE64:
                    cut -= 1
            # Other characters mean nothing, and may as well go before those that are kept.
            whole = chunk[:cut] + chunk[cut:].translate(None, _BASE64)
            self._b64_carry = characters[len(characters) - extra :] + surplus
            if whole:
                return whole
            chunk = self._b64_carry

    async def readline(self) -> bytes:
        """Reads a line of the content with its line end, which the last line has not; ``b""`` at the end.

        :raises ValueError: if the body ends before the boundary
        :raises LineTooLong: if the line is longer than the limit
        """
        if self._at_eof:
            return b""
        if self._prev_chunk is not None:
            put_back(self._content, self._prev_chunk + (_CRLF if self._delimiter_follows else b""))
            self._prev_chunk = None
            self._delimiter_follows = False
        # The rest of a length would have to be counted as well: from here on the boundary marks the end.
        self._length = None
        line = self._next_line
        if line is None:
            line = await self._content.readline()
        if self._is_boundary(line):
            self._end_before(line)
            return b""
        if not line:
            raise ValueError(f"Reading after EOF: the body ended before the boundary {self._boundary!r}")
        self._next_line = await self._content.readline()
        if self._is_boundary(self._next_line):
            self._end_before(self._next_line)
            line = line.removesuffix(b"\n").removesuffix(b"\r")
        return line

    def _is_boundary(self, line: bytes) -> bool:
        return line.startswith(self._boundary) and line[len(self._boundary) :].rstrip() in (b"", b"--")

    def _end_before(self, boundary: bytes) -> None:
        self._at_eof = True
        self._next_line = None
        put_back(self._content, boundary)

    async def text(self, *, encoding: str | None = None) -> str:
        """Reads the rest of the content, decodes it, and returns it as text.

        Its encoding is ``encoding``, or the charset of the Content-Type, or of the form, or UTF-8 where that
        is no charset of text.
        """
        data = await self.read(decode=True)
        return data.decode(encoding or self._text_encoding())

    async def json(self, *, encoding: str | None = None) -> Any:
        """Reads the rest of the content, and returns its JSON value; None if it is empty."""
        data = await self.read(decode=True)
        if not data:
            return None
        return json.loads(data.decode(encoding or self._text_encoding()))

    async def form(self, *, encoding: str | None = None) -> list[tuple[str, str]]:
        """Reads the rest of the content as an urlencoded form, and returns its names and values.

        :raises ValueError: if the content is not text of the encoding, or ends before the boundary
        :raises LookupError: for an ``encoding`` that there is not
        """
        data = await self.read(decode=True)
        if not data:
            return []
        encoding = encoding or self._text_encoding()
        try:
            text = data.rstrip().decode(encoding)
        except UnicodeDecodeError as error:
            raise ValueError(f"data cannot be decoded with {encoding} encoding: {error}") from error
        return parse_qsl(text, keep_blank_values=True, encoding=encoding)

    # Decoding.

    def _decoder(self) -> PartDecoder:
        return PartDecoder(
            self.headers.get(CONTENT_TRANSFER_ENCODING, ""),
            "" if self._is_form_data else self.headers.get(CONTENT_ENCODING, ""),
            self._max_decompress_size,
        )

    def decode(self, data: Byteish) -> Byteish:
        """Decodes ``data`` as the Content-Transfer-Encoding and the Content-Encoding say.

        It may take long: :meth:`decode_iter` does the same off the loop's thread. Raises :exc:`RuntimeError`
        for an encoding that is not known.
        """
        pieces = []
        size = 0
        for piece in self._decoder().decode(data):
            size = self._checked(size + len(piece))
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def decode_iter(self, data: Byteish) -> AsyncGenerator[Byteish, None]:
        """As :meth:`decode`, in pieces of bounded size."""
        async with aclosing(self._decoder().decode_off_loop(data)) as decoded:
            async for piece in decoded:
                yield piece

    def get_charset(self, default: str) -> str:
        """Returns the charset of the Content-Type, or that of the form, or ``default``."""
        mimetype = parse_mimetype(self.headers.get(CONTENT_TYPE, ""))
        return mimetype.parameters.get("charset", self._default_charset or default)

    def _text_encoding(self) -> str:
        """The encoding of the text: UTF-8 for a charset that is none."""
        return text_encoding(self.get_charset(default="utf-8")) or "utf-8"

    @cached_property
    def name(self) -> str | None:
        """The name of the part, of its Content-Disposition; None if it has none that can be read."""
        return self._disposition_parameter("name")

    @cached_property
    def filename(self) -> str | None:
        """The name of the file, of the Content-Disposition; None if it has none that can be read."""
        return self._disposition_parameter("filename")

    def _disposition_parameter(self, name: str) -> str | None:
        _, params = parse_content_disposition(self.headers.get(CONTENT_DISPOSITION))
        return content_disposition_filename(params, name)


class BodyPartReaderPayload(Payload):
    """A part that was received, passed on decoded as it comes in, and once."""

    _value: BodyPartReader

    def __init__(self, value: BodyPartReader, *args: Any, **kwargs: Any) -> None:
        super().__init__(value, *args, **kwargs)
        params = {"name": value.name, "filename": value.filename}
        if given := {name: text for name, text in params.items() if text is not None}:
            self.set_content_disposition("attachment", True, **given)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Raises :exc:`TypeError`: the part is there only while it is sent."""
        raise TypeError("Unable to decode: the part is still to come. Use write() to consume")

    async def as_bytes(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Raises :exc:`TypeError`: the part may be of any size, and is there only while it is sent."""
        raise TypeError("Unable to read body part as bytes. Use write() to consume.")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Writes the content of the part."""
        # The bytes that were read are gone, however far the writing gets.
        self._consumed = True
        part = self._value
        if not isinstance(part, BodyPartReader):
            # aiohttp's own: it decodes chunk by chunk.
            while chunk := await part.read_chunk(size=DEFAULT_CHUNK_SIZE):
                await _write_all(writer, part.decode_iter(chunk))
            return
        decoder = part._decoder()
        while chunk := await part.read_chunk(size=DEFAULT_CHUNK_SIZE):
            await _write_all(writer, decoder.decode_off_loop(chunk, final=False))
        await _write_all(writer, decoder.decode_off_loop(b"", final=True))


async def _write_all(writer: AbstractStreamWriter, pieces: AsyncGenerator[Byteish, None]) -> None:
    async with aclosing(pieces):
        async for piece in pieces:
            if piece:
                await writer.write(piece)
