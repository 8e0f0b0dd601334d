"""What every kind of request body has in common."""

from __future__ import annotations

import mimetypes
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

from multidict import CIMultiDict

from .. import hdrs
from ..abc import AbstractStreamWriter
from ..helpers import Sentinel, sentinel
from ..lazy import lazy_pattern
from .content_disposition import content_disposition_header

__all__ = ["Payload", "PayloadHeaders", "safe_header"]

PayloadHeaders = Mapping[str, str] | Iterable[tuple[str, str]]

_CONTROL = lazy_pattern(r"[\x00-\x08\x0a-\x1f\x7f]")

if sys.version_info >= (3, 13):
    _guess_type = mimetypes.guess_file_type
else:
    _guess_type = mimetypes.guess_type


def safe_header(text: str) -> str:
    """Returns the name or value of a header field, if it can be one.

    Raises :exc:`ValueError` if it has a control character other than a tab: with a line end in it, it would
    be two fields (RFC 9110, section 5.5).
    """
    if _CONTROL.search(text):
        raise ValueError(
            f"Forbidden control character detected in headers: {text!r}. Potential header injection attack."
        )
    return text


class Payload(ABC):
    """The body of a request, or of a part of one: a ``value``, and how it is sent.

    Its ``headers`` are the fields that the request or the part gets: ``content_type``, or else the one that
    the name of the file suggests, and those given. ``encoding`` is that of text. Derived classes write the
    value, and say how long it is if they know.
    """

    _default_content_type: str = "application/octet-stream"
    _size: int | None = None
    # Whether the value has been used up, so that it cannot be sent again.
    _consumed: bool = False
    # Whether there is nothing to close.
    _autoclose: bool = False

    def __init__(
        self,
        value: Any,
        headers: PayloadHeaders | None = None,
        content_type: str | Sentinel | None = sentinel,
        filename: str | None = None,
        encoding: str | None = None,
        **kwargs: Any,
    ) -> None:
        self._value = value
        self._encoding = encoding
        self._filename = filename
        if content_type is None or isinstance(content_type, Sentinel):
            guessed = None if filename is None else _guess_type(filename)[0]
            content_type = guessed or self._default_content_type
        self._headers: CIMultiDict[str] = CIMultiDict({hdrs.CONTENT_TYPE: content_type})
        if headers:
            self._headers.update(headers)

    @property
    def size(self) -> int | None:
        """How many bytes are sent, or None if that is not known before."""
        return self._size

    @property
    def filename(self) -> str | None:
        """The name of the file that this is."""
        return self._filename

    @property
    def headers(self) -> CIMultiDict[str]:
        """The fields of the request or the part: they may be changed."""
        return self._headers

    @property
    def encoding(self) -> str | None:
        """The encoding of text."""
        return self._encoding

    @property
    def content_type(self) -> str:
        """The media type."""
        return self._headers[hdrs.CONTENT_TYPE]

    @property
    def consumed(self) -> bool:
        """Whether the value has been used up, so that it cannot be sent again."""
        return self._consumed

    @property
    def autoclose(self) -> bool:
        """Whether there is nothing to close."""
        return self._autoclose

    @property
    def _binary_headers(self) -> bytes:
        """The fields as they are sent before a part, with the empty line."""
        lines = [f"{safe_header(name)}: {safe_header(value)}\r\n" for name, value in self.headers.items()]
        lines.append("\r\n")
        return "".join(lines).encode()

    def set_content_disposition(
        self, disptype: str, quote_fields: bool = True, _charset: str = "utf-8", **params: str
    ) -> None:
        """Sets the Content-Disposition field: see :func:`content_disposition_header`."""
        self._headers[hdrs.CONTENT_DISPOSITION] = content_disposition_header(
            disptype, quote_fields=quote_fields, _charset=_charset, **params
        )

    @abstractmethod
    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Returns the value as text. It may read a file, and then blocks.

        Raises :exc:`TypeError` if the value is there only while it is sent.
        """

    @abstractmethod
    async def write(self, writer: AbstractStreamWriter) -> None:
        """Writes all of the value."""

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Writes the value, but no more than ``content_length`` bytes of it if that is given.

        Classes that know only :meth:`write` write everything.
        """
        await self.write(writer)

    async def as_bytes(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Returns the value as it is sent. A payload with an encoding of its own uses that."""
        encoding = self._encoding or encoding
        return self.decode(encoding, errors).encode(encoding)

    def _close(self) -> None:  # noqa: B027 - most hold nothing
        """What :meth:`close` does, for callers that are no coroutines; it has to be done on the loop."""

    async def close(self) -> None:
        """Closes the payload's value, without waiting: it may be called while a request is cancelled."""
        self._close()
