"""Multipart bodies that are sent (RFC 2046, section 5.1; forms: RFC 7578)."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, cast
from urllib.parse import urlencode

from ..abc import AbstractStreamWriter
from ..hdrs import (
    CONTENT_DISPOSITION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TRANSFER_ENCODING,
)
from ..lazy import lazy_pattern
from ..log import internal_logger
from ..typedefs import Byteish
from . import payload as payloads
from .compression import ZLibCompressor
from .content_disposition import TOKEN
from .files import IOBasePayload
from .payload import JsonPayload, StringPayload, get_payload, is_payload
from .payload_base import Payload

__all__ = ["MultipartPayloadWriter", "MultipartWriter"]

_NOT_QUOTABLE = lazy_pattern(r"[^\t\x20-\x7e]")

# The name of a file will do, as in aiohttp.
_NAMED = lazy_pattern(r"name\*?=")

_NOT_IN_FORMS = frozenset((CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TRANSFER_ENCODING))

# A part, its Content-Encoding and its Content-Transfer-Encoding: empty where there is nothing to do.
_Part = tuple[Payload, str, str]


class MultipartWriter(Payload):
    """A body of several parts::

        with MultipartWriter("related") as writer:
            writer.append_json({"title": "a picture"})
            writer.append(open("picture.png", "rb"))
        await session.post(url, data=writer)

    ``subtype`` is the second half of the media type. The ``boundary`` must not begin any line of any part;
    the default is a random one.

    Raises :exc:`ValueError` if the boundary is not ASCII, or has control characters.
    """

    _value: None
    _autoclose = True

    def __init__(self, subtype: str = "mixed", boundary: str | None = None) -> None:
        boundary = os.urandom(16).hex() if boundary is None else boundary
        if not boundary.isascii():
            raise ValueError(f"boundary should contain ASCII only chars, got {boundary!r}")
        self._boundary = boundary.encode()
        super().__init__(None, content_type=f"multipart/{subtype}; boundary={self._boundary_value}")
        self._parts: list[_Part] = []
        self._is_form_data = subtype == "form-data"

    def __enter__(self) -> MultipartWriter:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        return None

    def __iter__(self) -> Iterator[_Part]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __bool__(self) -> bool:
        return True

    @property
    def boundary(self) -> str:
        """The line between the parts, without its two hyphens."""
        return self._boundary.decode()

    @property
    def _boundary_value(self) -> str:
        """The boundary as the parameter of a media type: in quotes if it is no token."""
        value = self.boundary
        if TOKEN.fullmatch(value):
            return value
        if _NOT_QUOTABLE.search(value):
            raise ValueError(f"boundary value contains invalid characters: {value!r}")
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'

    @property
    def consumed(self) -> bool:
        """Whether one of the parts has been used up, so that the body cannot be sent again."""
        return self._consumed or any(part.consumed for part, _, _ in self._parts)

    # Adding parts.

    def append(self, obj: Any, headers: Mapping[str, str] | None = None) -> Payload:
        """Adds a part with the value ``obj`` and these fields, and returns its payload.

        Raises :exc:`TypeError` if there is no payload for the type of the value.
        """
        if is_payload(obj):
            part = cast("Payload", obj)
            if headers:
                part.headers.update(headers)
            return self.append_payload(part)
        try:
            return self.append_payload(get_payload(obj, headers=headers))
        except payloads.LookupError as error:
            raise TypeError(f"Cannot create payload from {obj!r}: {error}") from None

    def append_payload(self, payload: Payload) -> Payload:
        """Adds a part, and returns it.

        It is compressed if it has the Content-Encoding ``gzip`` or ``deflate``, and encoded if it has the
        Content-Transfer-Encoding ``base64`` or ``quoted-printable``. In a form it may have neither, nor a
        length (RFC 7578, sections 4.7 and 4.8), and gets a name if it has none.

        Raises :exc:`ValueError` for fields that a form does not allow, and :exc:`RuntimeError` for an
        encoding that is not known.
        """
        encoding = te_encoding = ""
        if self._is_form_data:
            if not_allowed := _NOT_IN_FORMS & payload.headers.keys():
                raise ValueError(
                    f"a part of a form cannot have {', '.join(sorted(not_allowed))}: remove it, or use"
                    " multipart/mixed"
                )
            if CONTENT_DISPOSITION not in payload.headers:
                payload.set_content_disposition("form-data", name=f"section-{len(self._parts)}")
        else:
            encoding = payload.headers.get(CONTENT_ENCODING, "").lower()
            if encoding not in ("", "identity", "deflate", "gzip"):
                raise RuntimeError(f"unknown content encoding: {encoding}")
            te_encoding = payload.headers.get(CONTENT_TRANSFER_ENCODING, "").lower()
            if te_encoding not in ("", "binary", "base64", "quoted-printable"):
                raise RuntimeError(f"unknown content transfer encoding: {te_encoding}")
            encoding = encoding.replace("identity", "")
            te_encoding = te_encoding.replace("binary", "")
            size = payload.size
            if size is not None and not encoding and not te_encoding:
                payload.headers[CONTENT_LENGTH] = str(size)
        self._parts.append((payload, encoding, te_encoding))
        return payload

    def append_json(self, obj: Any, headers: Mapping[str, str] | None = None) -> Payload:
        """Adds a part that is ``obj`` as JSON, and returns it."""
        return self.append_payload(JsonPayload(obj, headers=headers))

    def append_form(
        self,
        obj: Sequence[tuple[str, str]] | Mapping[str, str],
        headers: Mapping[str, str] | None = None,
    ) -> Payload:
        """Adds a part that is ``obj`` as an urlencoded form, and returns it.

        :raises TypeError: if ``obj`` is neither a mapping nor a sequence of pairs
        """
        if not isinstance(obj, (Sequence, Mapping)):
            raise TypeError(f"a form is made of a mapping or of pairs, not of {obj!r}")
        text = urlencode(list(obj.items()) if isinstance(obj, Mapping) else obj, doseq=True)
        return self.append_payload(
            StringPayload(text, headers=headers, content_type="application/x-www-form-urlencoded")
        )

    # Sending.

    @property
    def _separator(self) -> bytes:
        return b"--%b\r\n" % self._boundary

    @property
    def _end(self) -> bytes:
        return b"--%b--\r\n" % self._boundary

    @property
    def size(self) -> int | None:
        """How many bytes are sent; None if that is not known of one of the parts."""
        total = len(self._end)
        for part, encoding, te_encoding in self._parts:
            part_size = part.size
            if encoding or te_encoding or part_size is None:
                return None
            total += len(self._separator) + len(part._binary_headers) + part_size + 2
        return total

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Returns the body as text, with its parts as they are before any encoding. May read files, and
        then blocks."""
        texts = []
        for part, _, _ in self._parts:
            head = (self._separator + part._binary_headers).decode(encoding, errors)
            texts += [head, part.decode(), "\r\n"]
        return "".join([*texts, self._end.decode()])

    async def as_bytes(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Returns the body as it is sent."""
        body = bytearray()
        for part, content_encoding, te_encoding in self._parts:
            body += self._separator
            body += part._binary_headers
            value = await part.as_bytes(encoding, errors)
            if content_encoding or te_encoding:
                coded = MultipartPayloadWriter(_Collector(body))
                coded.enable(content_encoding, te_encoding)
                await coded.write(value)
                await coded.write_eof()
            else:
                body += value
            body += b"\r\n"
        body += self._end
        return bytes(body)

    async def write(self, writer: AbstractStreamWriter, close_boundary: bool = True) -> None:
        """Writes the body; without its last line if ``close_boundary`` is false, for more parts to follow.

        Raises :exc:`ValueError` if a part of a form has no name (RFC 7578, section 4.2).
        """
        between = b""
        for part, encoding, te_encoding in self._parts:
            if self._is_form_data and not _NAMED.search(part.headers.get(CONTENT_DISPOSITION, "")):
                raise ValueError(
                    "a part of a form has no name: set one with"
                    " set_content_disposition('form-data', name=...)"
                )
            await writer.write(between + self._separator + part._binary_headers)
            if encoding or te_encoding:
                coded = MultipartPayloadWriter(writer)
                coded.enable(encoding, te_encoding)
                await part.write(cast("AbstractStreamWriter", coded))
                await coded.write_eof()
            else:
                await part.write(writer)
            between = b"\r\n"
        if last := between + (self._end if close_boundary else b""):
            await writer.write(last)

    async def close(self) -> None:
        """Closes those parts that hold something. The body cannot be sent again if there are any."""
        if self._consumed:
            return
        for index, (part, _, _) in enumerate(self._parts):
            if part.autoclose or (part.consumed and not isinstance(part, IOBasePayload)):
                continue
            self._consumed = True
            try:
                await part.close()
            except Exception as error:
                # The others have to be closed all the same.
                internal_logger.error("Failed to close multipart part %d: %s", index, error, exc_info=True)


class _Collector:
    """A writer into memory."""

    def __init__(self, body: bytearray) -> None:
        self._body = body

    async def write(self, chunk: Byteish) -> None:
        self._body += chunk


class MultipartPayloadWriter:
    """The writer of a part that is compressed or encoded."""

    def __init__(self, writer: AbstractStreamWriter | _Collector) -> None:
        self._writer = writer
        self._compress: ZLibCompressor | None = None
        self._encoding = ""
        # Up to two bytes: base64 takes three at a time.
        self._carry = b""

    def enable(self, encoding: str, te_encoding: str) -> None:
        """Applies the Content-Encoding and the Content-Transfer-Encoding; empty for none."""
        if encoding:
            self.enable_compression(encoding)
        if te_encoding:
            self.enable_encoding(te_encoding)

    def enable_encoding(self, encoding: str) -> None:
        """Encodes the written bytes: ``base64`` or ``quoted-printable``."""
        self._encoding = encoding

    def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None:
        """Compresses the written bytes: ``gzip`` or ``deflate``, with zlib's ``strategy``."""
        self._compress = ZLibCompressor(encoding=encoding, suppress_deflate_header=True, strategy=strategy)

    async def write(self, chunk: Byteish) -> None:
        """Writes a piece of the part."""
        if self._compress is not None:
            chunk = await self._compress.compress(chunk)
        await self._write_encoded(chunk, final=False)

    async def write_eof(self, chunk: Byteish = b"") -> None:
        """Ends the part, with a last piece of it if there is one."""
        if self._compress is not None:
            chunk = await self._compress.compress(chunk) + self._compress.flush()
            self._compress = None
        await self._write_encoded(chunk, final=True)

    async def drain(self) -> None:
        """Does nothing: every write waits while the connection takes no more."""

    async def _write_encoded(self, chunk: Byteish, final: bool) -> None:
        if self._encoding == "base64":
            data = self._carry + chunk
            cut = len(data) if final else len(data) - len(data) % 3
            self._carry = data[cut:]
            chunk = base64.b64encode(data[:cut])
        elif self._encoding == "quoted-printable":
            chunk = binascii.b2a_qp(chunk)
        if chunk:
            await self._writer.write(chunk)
