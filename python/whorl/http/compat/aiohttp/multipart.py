"""Multipart bodies. The names of ``aiohttp.multipart`` that whorl.http has."""

from __future__ import annotations

from multidict import CIMultiDict, CIMultiDictProxy

from whorl.http.abc import AbstractStreamWriter
from whorl.http.body.compression import ZLibCompressor, ZLibDecompressor
from whorl.http.body.content_disposition import (
    TOKEN,
    BadContentDispositionHeader,
    BadContentDispositionParam,
    content_disposition_filename,
    parse_content_disposition,
)
from whorl.http.body.multipart import MultipartReader, MultipartResponseWrapper
from whorl.http.body.multipart_part import BodyPartReader, BodyPartReaderPayload
from whorl.http.body.multipart_writer import MultipartPayloadWriter, MultipartWriter
from whorl.http.body.payload import JsonPayload, LookupError, Order, StringPayload, get_payload, payload_type
from whorl.http.body.payload_base import Payload
from whorl.http.helpers import DEFAULT_CHUNK_SIZE, parse_mimetype
from whorl.http.http_exceptions import BadHttpMessage
from whorl.http.log import internal_logger
from whorl.http.streams import StreamReader

__all__ = [
    "DEFAULT_CHUNK_SIZE",
    "TOKEN",
    "AbstractStreamWriter",
    "BadContentDispositionHeader",
    "BadContentDispositionParam",
    "BadHttpMessage",
    "BodyPartReader",
    "BodyPartReaderPayload",
    "CIMultiDict",
    "CIMultiDictProxy",
    "JsonPayload",
    "LookupError",
    "MultipartPayloadWriter",
    "MultipartReader",
    "MultipartResponseWrapper",
    "MultipartWriter",
    "Order",
    "Payload",
    "StreamReader",
    "StringPayload",
    "ZLibCompressor",
    "ZLibDecompressor",
    "content_disposition_filename",
    "get_payload",
    "internal_logger",
    "parse_content_disposition",
    "parse_mimetype",
    "payload_type",
]
