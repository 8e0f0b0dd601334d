"""The WebSocket client. The names of ``aiohttp.client_ws`` that whorl.http has."""

from __future__ import annotations

from whorl.http.exceptions import ClientError, ServerTimeoutError, WSMessageTypeError
from whorl.http.response import ClientResponse
from whorl.http.typedefs import DEFAULT_JSON_DECODER, DEFAULT_JSON_ENCODER
from whorl.http.websocket.client import DEFAULT_WS_CLIENT_TIMEOUT, ClientWebSocketResponse, ClientWSTimeout
from whorl.http.websocket.data_queue import EofStream
from whorl.http.websocket.messages import (
    WS_CLOSED_MESSAGE,
    WS_CLOSING_MESSAGE,
    WebSocketError,
    WSCloseCode,
    WSMessage,
    WSMsgType,
)

__all__ = [
    "DEFAULT_JSON_DECODER",
    "DEFAULT_JSON_ENCODER",
    "DEFAULT_WS_CLIENT_TIMEOUT",
    "WS_CLOSED_MESSAGE",
    "WS_CLOSING_MESSAGE",
    "ClientError",
    "ClientResponse",
    "ClientWSTimeout",
    "ClientWebSocketResponse",
    "EofStream",
    "ServerTimeoutError",
    "WSCloseCode",
    "WSMessage",
    "WSMessageTypeError",
    "WSMsgType",
    "WebSocketError",
]
