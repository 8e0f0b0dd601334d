"""The protocol of a connection. The names of ``aiohttp.client_proto`` that whorl.http has."""

from __future__ import annotations

from whorl.http.connect.connection import ResponseHandler
from whorl.http.exceptions import (
    ClientConnectionError,
    ClientOSError,
    ClientPayloadError,
    ServerDisconnectedError,
    SocketTimeoutError,
)
from whorl.http.helpers import DEFAULT_CHUNK_SIZE, EMPTY_BODY_STATUS_CODES, BaseTimerContext
from whorl.http.http_exceptions import HttpProcessingError
from whorl.http.streams import EMPTY_PAYLOAD, StreamReader
from whorl.http.websocket.data_queue import DataQueue

__all__ = [
    "DEFAULT_CHUNK_SIZE",
    "EMPTY_BODY_STATUS_CODES",
    "EMPTY_PAYLOAD",
    "BaseTimerContext",
    "ClientConnectionError",
    "ClientOSError",
    "ClientPayloadError",
    "DataQueue",
    "HttpProcessingError",
    "ResponseHandler",
    "ServerDisconnectedError",
    "SocketTimeoutError",
    "StreamReader",
]
