"""Multipart bodies (RFC 2046, section 5.1; forms: RFC 7578), with the interface of ``aiohttp.multipart``.

This module reads them; each part is a :class:`BodyPartReader` (``multipart_part.py``), and the writer
is in ``multipart_writer.py``.
"""

from __future__ import annotations

import sys
from abc import ABC
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final, Protocol

from multidict import CIMultiDict, CIMultiDictProxy

from ..hdrs import CONTENT_DISPOSITION, CONTENT_TYPE
from ..helpers import parse_mimetype
from ..http_exceptions import BadHttpMessage, InvalidHeader
from ..lazy import lazy_pattern
from ..streams import StreamReader
from .content_disposition import (
    BadContentDispositionHeader,
    BadContentDispositionParam,
    content_disposition_filename,
    parse_content_disposition,
)
from .multipart_part import READ_SIZE, BodyPartReader, BodyPartReaderPayload
from .multipart_writer import MultipartPayloadWriter, MultipartWriter
from .payload import Order, register_payload

__all__ = [
    "BadContentDispositionHeader",
    "BadContentDispositionParam",
    "BodyPartReader",
    "BodyPartReaderPayload",
    "MultipartPayloadWriter",
    "MultipartReader",
    "MultipartResponseWrapper",
    "MultipartWriter",
    "content_disposition_filename",
    "parse_content_disposition",
]

# RFC 2046, section 5.1.1.
_LONGEST_BOUNDARY: Final = 70

# The longest name of an encoding that browsers know has 19 characters.
_LONGEST_CHARSET: Final = 31

_FIELD_NAME = lazy_pattern(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = lazy_pattern(rb"[\x00-\x08\x0a-\x1f\x7f]")

# Two of these would make two readers disagree.
_SINGLE_FIELDS: Final = frozenset((b"content-length", b"content-type"))


class _Response(Protocol):
    """The source of a multipart body: a ``ClientResponse``."""

    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def content(self) -> StreamReader: ...
    def release(self) -> Awaitable[Any]: ...


def _parse_fields(lines: Sequence[bytes]) -> CIMultiDictProxy[str]:
    """Reads the head of a part. The rules are those of a message (RFC 9112, section 5), without folded
    lines."""
    headers: CIMultiDict[str] = CIMultiDict()
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _FIELD_NAME.fullmatch(name) or _CONTROL.search(value):
            raise InvalidHeader(line)
        text = name.decode()
        if name.lower() in _SINGLE_FIELDS and text in headers:
            raise BadHttpMessage(f"Duplicate {text!r} header found.")
        headers.add(text, value.strip(b" \t").decode("utf-8", "surrogateescape"))
    return CIMultiDictProxy(headers)


class MultipartReader:
    """A multipart body as it comes in::

        async for part in MultipartReader.from_response(response):
            ...

    Its parts are :class:`BodyPartReader` objects, and readers of its own kind for those that are multipart
    themselves. A part has to be read before the next is requested, which skips the rest of it.

    ``headers`` are those of the message or the part, with a Content-Type that has the boundary. The head of
    a part may have ``max_headers`` fields of ``max_field_size`` bytes; for the rest see
    :class:`BodyPartReader`.

    Raises :exc:`ValueError` if the Content-Type is not multipart or has no boundary, or one of more than 70
    characters.
    """

    #: What :meth:`from_response` returns.
    response_wrapper_cls: type[MultipartResponseWrapper]
    #: The class that reads parts that are multipart themselves; None for the same class.
    multipart_reader_cls: type[MultipartReader] | None = None
    #: The class that reads all other parts.
    part_reader_cls: type[BodyPartReader] = BodyPartReader

    # Whether this is a part of another.
    _nested = False

    def __init__(
        self,
        headers: Mapping[str, str],
        content: StreamReader,
        *,
        client_max_size: int = sys.maxsize,
        max_field_size: int = 8190,
        max_headers: int = 128,
        max_size_error_cls: type[Exception] = ValueError,
    ) -> None:
        self._mimetype = parse_mimetype(headers[CONTENT_TYPE])
        if self._mimetype.type != "multipart":
            raise ValueError(f"multipart/* content type expected, got {headers[CONTENT_TYPE]!r}")
        if "boundary" not in self._mimetype.parameters:
            raise ValueError(f"boundary missed for Content-Type: {headers[CONTENT_TYPE]}")
        self.headers = headers
        self._boundary = b"--" + self._get_boundary().encode()
        self._content = content
        self._client_max_size = client_max_size
        self._max_field_size = max_field_size
        self._max_headers = max_headers
        self._max_size_error_cls = max_size_error_cls
        self._default_charset: str | None = None
        self._last_part: MultipartReader | BodyPartReader | None = None
        self._at_eof = False

    def _get_boundary(self) -> str:
        boundary = self._mimetype.parameters["boundary"]
        if len(boundary) > _LONGEST_BOUNDARY:
            raise ValueError(f"boundary {boundary!r} is too long ({_LONGEST_BOUNDARY} chars max)")
        return boundary

    def __aiter__(self) -> MultipartReader:
        return self

    async def __anext__(self) -> MultipartReader | BodyPartReader:
        part = await self.next()
        if part is None:
            raise StopAsyncIteration
        return part

    @classmethod
    def from_response(cls, response: _Response) -> MultipartResponseWrapper:
        """Returns a reader of a response's body, which releases the response at its end."""
        return cls.response_wrapper_cls(response, cls(response.headers, response.content))

    def at_eof(self) -> bool:
        """Whether the last part has been read."""
        return self._at_eof

    async def next(self) -> MultipartReader | BodyPartReader | None:
        """Returns the next part; None after the last.

        Raises :exc:`ValueError` if there is no boundary where one has to be, and :exc:`BadHttpMessage` if the
        head of the part is malformed or too large.
        """
        part = await self._next()
        if (
            self._last_part is None
            and self._mimetype.subtype == "form-data"
            and isinstance(part, BodyPartReader)
            and _is_charset(part)
        ):
            # The form's default charset (RFC 7578, section 4.6); the form begins after it.
            self._last_part = part
            self._default_charset = await _read_charset(part)
            part = await self._next()
        self._last_part = part
        return part

    async def _next(self) -> MultipartReader | BodyPartReader | None:
        if self._at_eof:
            return None
        last = self._last_part
        if last is not None and not last.at_eof():
            await last.release()
        # Before the first part there may be a preamble, and after the last of a nested body an epilogue.
        if not await self._read_boundary(skip=not isinstance(last, BodyPartReader)):
            return None
        return await self.fetch_next_part()

    async def release(self) -> None:
        """Reads the rest of the body, and drops it."""
        while not self._at_eof:
            part = await self.next()
            if part is None:
                break
            await part.release()

    async def _read_boundary(self, skip: bool) -> bool:
        """Reads the line before a part. False if it is the one after the last part.

        With ``skip`` other lines before it are skipped.
        """
        while True:
            line = await self._content.readline()
            text = line.rstrip()
            if text == self._boundary:
                return True
            if text == self._boundary + b"--":
                self._at_eof = True
                await self._read_epilogue()
                return False
            if not line:
                raise ValueError(f"Could not find starting boundary {self._boundary!r}: the body has ended")
            if not skip:
                raise ValueError(f"Invalid boundary {text!r}, expected {self._boundary!r}")

    async def _read_epilogue(self) -> None:
        """Reads and drops the epilogue after the last part, so that the connection can be used again."""
        # The outer reader skips that of a nested body.
        while not self._nested and not self._content.at_eof():
            if not await self._content.read(READ_SIZE):
                return

    async def fetch_next_part(self) -> MultipartReader | BodyPartReader:
        """Reads the head of a part, whose boundary has been read, and returns its reader."""
        return self._get_part_reader(await self._read_headers())

    async def _read_headers(self) -> CIMultiDictProxy[str]:
        lines: list[bytes] = []
        while line := (await self._content.readline(max_line_length=self._max_field_size)).rstrip(b"\r\n"):
            lines.append(line)
            if len(lines) > self._max_headers:
                raise BadHttpMessage(f"Too many headers received: more than {self._max_headers}")
        return _parse_fields(lines)

    def _get_part_reader(self, headers: Mapping[str, str]) -> MultipartReader | BodyPartReader:
        """Returns the reader of a part with these fields."""
        if parse_mimetype(headers.get(CONTENT_TYPE, "")).type == "multipart":
            nested = (self.multipart_reader_cls or type(self))(
                headers,
                self._content,
                client_max_size=self._client_max_size,
                max_field_size=self._max_field_size,
                max_headers=self._max_headers,
                max_size_error_cls=self._max_size_error_cls,
            )
            nested._nested = True
            return nested
        return self.part_reader_cls(
            self._boundary,
            headers,
            self._content,
            subtype=self._mimetype.subtype,
            default_charset=self._default_charset,
            client_max_size=self._client_max_size,
            max_size_error_cls=self._max_size_error_cls,
        )


def _is_charset(part: BodyPartReader) -> bool:
    _, params = parse_content_disposition(part.headers.get(CONTENT_DISPOSITION))
    return params.get("name") == "_charset_"


async def _read_charset(part: BodyPartReader) -> str:
    charset = b""
    while not part.at_eof():
        charset += await part.read_chunk()
        if len(charset) > _LONGEST_CHARSET:
            raise RuntimeError(f"Invalid default charset {charset[:64]!r}: it is too long to be one")
    return charset.strip().decode()


class MultipartResponseWrapper:
    """A multipart body that is a response's: at its end the response is released."""

    def __init__(self, resp: _Response, stream: MultipartReader) -> None:
        self.resp = resp
        self.stream = stream

    def __aiter__(self) -> MultipartResponseWrapper:
        return self

    async def __anext__(self) -> MultipartReader | BodyPartReader:
        part = await self.next()
        if part is None:
            raise StopAsyncIteration
        return part

    def at_eof(self) -> bool:
        """Whether all of the response has been read."""
        return self.resp.content.at_eof()

    async def next(self) -> MultipartReader | BodyPartReader | None:
        """Returns the next part; None after the last."""
        part = await self.stream.next()
        if self.stream.at_eof():
            await self.release()
        return part

    async def release(self) -> None:
        """Releases the response: the rest of it is not read."""
        await self.resp.release()


MultipartReader.response_wrapper_cls = MultipartResponseWrapper


class _ForeignPart(ABC):  # noqa: B024 - its hook is below
    """aiohttp's own parts, as a server hands them out."""

    @classmethod
    def __subclasshook__(cls, other: type) -> bool:
        return all(hasattr(other, name) for name in ("read_chunk", "decode_iter", "filename"))


# First, since a part can be iterated over too.
register_payload(BodyPartReaderPayload, BodyPartReader, order=Order.try_first)
register_payload(BodyPartReaderPayload, _ForeignPart)
