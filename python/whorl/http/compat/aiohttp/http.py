"""HTTP/1.1 and WebSocket. The names of ``aiohttp.http`` that whorl.http has."""

from __future__ import annotations

from whorl.http.body.writer import StreamWriter
from whorl.http.client_request import SERVER_SOFTWARE
from whorl.http.helpers import HttpVersion, HttpVersion10, HttpVersion11
from whorl.http.http_exceptions import HttpProcessingError
from whorl.http.websocket.messages import (
    WS_CLOSED_MESSAGE,
    WS_CLOSING_MESSAGE,
    WebSocketError,
    WSCloseCode,
    WSMessage,
    WSMessageTextBytes,
    WSMsgType,
)

__all__ = [
    "SERVER_SOFTWARE",
    "WS_CLOSED_MESSAGE",
    "WS_CLOSING_MESSAGE",
    "HttpProcessingError",
    "HttpVersion",
    "HttpVersion10",
    "HttpVersion11",
    "StreamWriter",
    "WSCloseCode",
    "WSMessage",
    "WSMessageTextBytes",
    "WSMsgType",
    "WebSocketError",
]
