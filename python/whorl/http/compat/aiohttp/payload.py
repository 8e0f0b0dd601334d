"""Bodies. The names of ``aiohttp.payload`` that whorl.http has."""

from __future__ import annotations

from multidict import CIMultiDict

from whorl.http import hdrs
from whorl.http.abc import AbstractStreamWriter
from whorl.http.body.content_disposition import content_disposition_header
from whorl.http.body.files import (
    BufferedReaderPayload,
    BytesIOPayload,
    IOBasePayload,
    TextIOPayload,
    guess_filename,
)
from whorl.http.body.payload import (
    PAYLOAD_REGISTRY,
    TOO_LARGE_BYTES_BODY,
    AsyncIterablePayload,
    BytesPayload,
    JsonBytesPayload,
    JsonPayload,
    LookupError,
    Order,
    PayloadRegistry,
    StreamReaderPayload,
    StringIOPayload,
    StringPayload,
    get_payload,
    payload_type,
    register_payload,
)
from whorl.http.body.payload_base import Payload
from whorl.http.helpers import DEFAULT_CHUNK_SIZE, parse_mimetype, sentinel
from whorl.http.streams import StreamReader

__all__ = [
    "DEFAULT_CHUNK_SIZE",
    "PAYLOAD_REGISTRY",
    "TOO_LARGE_BYTES_BODY",
    "AbstractStreamWriter",
    "AsyncIterablePayload",
    "BufferedReaderPayload",
    "BytesIOPayload",
    "BytesPayload",
    "CIMultiDict",
    "IOBasePayload",
    "JsonBytesPayload",
    "JsonPayload",
    "LookupError",
    "Order",
    "Payload",
    "PayloadRegistry",
    "StreamReader",
    "StreamReaderPayload",
    "StringIOPayload",
    "StringPayload",
    "TextIOPayload",
    "content_disposition_header",
    "get_payload",
    "guess_filename",
    "hdrs",
    "parse_mimetype",
    "payload_type",
    "register_payload",
    "sentinel",
]
