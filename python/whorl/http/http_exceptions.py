"""The faults of HTTP messages on the wire.

One of these is the cause of a :exc:`ClientResponseError` with status 400 or a :exc:`ClientPayloadError`.
Names, attributes and texts are those of ``aiohttp.http_exceptions``.
"""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import indent

from .exception_type import ExceptionType

__all__ = [
    "BadHttpMessage",
    "BadHttpMethod",
    "BadStatusLine",
    "ContentEncodingError",
    "ContentLengthError",
    "DecompressSizeError",
    "HttpBadRequest",
    "HttpProcessingError",
    "InvalidHeader",
    "InvalidURLError",
    "LineTooLong",
    "PayloadEncodingError",
    "TransferEncodingError",
]

Headers = Mapping[str, str]


class HttpProcessingError(Exception, metaclass=ExceptionType):
    """An error with an HTTP status (``code``), a ``message`` and, if a response is due, ``headers``."""

    code: int = 0
    message: str = ""
    headers: Headers | None = None

    def __init__(self, *, code: int | None = None, message: str = "", headers: Headers | None = None) -> None:
        super().__init__()
        if code is not None:
            self.code = code
        self.message = message
        self.headers = headers

    def __str__(self) -> str:
        return f"{self.code}, message:\n{indent(self.message, '  ')}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.code}, message={self.message!r}>"


class BadHttpMessage(HttpProcessingError):
    """The message breaks the rules of HTTP/1.1 (RFC 9112)."""

    code = 400
    message = "Bad Request"

    def __init__(self, message: str, *, headers: Headers | None = None) -> None:
        super().__init__(message=message, headers=headers)
        self.args = (message,)


class HttpBadRequest(BadHttpMessage):
    """The request is malformed."""


class PayloadEncodingError(BadHttpMessage):
    """The base of errors of a body."""


class ContentEncodingError(PayloadEncodingError):
    """The body does not follow its Content-Encoding."""


class TransferEncodingError(PayloadEncodingError):
    """The chunks of the body are malformed, or their end is missing."""


class ContentLengthError(PayloadEncodingError):
    """The body ended before its Content-Length was reached."""


class DecompressSizeError(PayloadEncodingError):
    """The decompressed body is larger than allowed. Deprecated in aiohttp; nothing raises it."""


class LineTooLong(BadHttpMessage):
    """A ``line`` (or the part of it that had arrived) is longer than its ``limit``, in bytes."""

    def __init__(
        self, line: str | bytes, limit: str | int = "Unknown", actual_size: str | int = "Unknown"
    ) -> None:
        super().__init__(f"Got more than {limit} bytes when reading: {line!r}.")
        self.args = (line, limit, actual_size)


class InvalidHeader(BadHttpMessage):
    """A header field is malformed; ``hdr`` is its text."""

    def __init__(self, hdr: bytes | str) -> None:
        super().__init__(f"Invalid HTTP header: {hdr!r}")
        self.hdr = hdr if isinstance(hdr, str) else hdr.decode(errors="backslashreplace")
        self.args = (hdr,)


class BadStatusLine(BadHttpMessage):
    """The first ``line`` of the message is malformed."""

    def __init__(self, line: str | bytes = "", error: str | None = None) -> None:
        text = line if isinstance(line, str) else repr(line)
        super().__init__(error or f"Bad status line {text!r}")
        self.line = text
        self.args = (text,)


class BadHttpMethod(BadStatusLine):
    """The first line of a request does not begin with a method."""

    def __init__(self, line: str = "", error: str | None = None) -> None:
        # A TLS record of type handshake, version 3.x.
        if error is None and line.startswith("\x16\x03"):
            error = "Received HTTPS traffic on an HTTP port"
        super().__init__(line, error or f"Bad HTTP method in status line {line!r}")


class InvalidURLError(BadHttpMessage):
    """The target in the first line of a request is malformed."""
