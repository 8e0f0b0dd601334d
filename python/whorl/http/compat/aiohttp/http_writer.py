"""What writes a request. The names of ``aiohttp.http_writer`` that whorl.http has."""

from __future__ import annotations

from multidict import CIMultiDict

from whorl.http.abc import AbstractStreamWriter
from whorl.http.body.compression import ZLibCompressor
from whorl.http.body.writer import StreamWriter
from whorl.http.exceptions import ClientConnectionResetError
from whorl.http.helpers import HttpVersion, HttpVersion10, HttpVersion11

__all__ = [
    "AbstractStreamWriter",
    "CIMultiDict",
    "ClientConnectionResetError",
    "HttpVersion",
    "HttpVersion10",
    "HttpVersion11",
    "StreamWriter",
    "ZLibCompressor",
]
