"""Types of messages, close codes, messages, and the error of a peer.

Names and values are aiohttp's; the close codes are those of RFC 6455, section 7.4.1, and its registry.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import IntEnum
from types import ModuleType
from typing import Any, NamedTuple

from ..exception_type import ExceptionType

__all__ = [
    "WS_CLOSED_MESSAGE",
    "WS_CLOSING_MESSAGE",
    "WSCloseCode",
    "WSMessage",
    "WSMessageTextBytes",
    "WSMsgType",
    "WebSocketError",
    "adopt",
]


class WSCloseCode(IntEnum):
    """Why a WebSocket was closed."""

    OK = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    #: Without a close frame. It is never sent.
    ABNORMAL_CLOSURE = 1006
    INVALID_TEXT = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014


class WSMsgType(IntEnum):
    """The type of a :class:`WSMessage`: an opcode of RFC 6455, or what happened to the connection."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA

    #: ``close()`` was called while ``receive()`` waited.
    CLOSING = 0x100
    #: There is nothing more to receive.
    CLOSED = 0x101
    #: The peer broke the protocol, or did not respond to a ping: the message's ``data`` is the exception.
    ERROR = 0x102

    # Their first names, which programs still use.
    text = TEXT
    binary = BINARY
    close = CLOSE
    ping = PING
    pong = PONG
    closing = CLOSING
    closed = CLOSED
    error = ERROR


class WSMessage(NamedTuple):
    """A message. ``data`` is by its type:

    - TEXT: :class:`str`; BINARY, PING, PONG: :class:`bytes`
    - CLOSE: the close code, 0 if the peer gave none; its reason is in ``extra``
    - ERROR: the exception
    - CLOSING, CLOSED: None
    """

    type: WSMsgType
    data: Any
    extra: str | None

    def json(self, *, loads: Callable[[Any], Any] = json.loads) -> Any:
        """The message's ``data``, parsed by ``loads``.

        :raises ValueError: what ``loads`` raises for text that is not JSON
        """
        return loads(self.data)


WS_CLOSED_MESSAGE = WSMessage(WSMsgType.CLOSED, None, None)
"""There is nothing more to receive."""

WS_CLOSING_MESSAGE = WSMessage(WSMsgType.CLOSING, None, None)
"""``close()`` was called meanwhile."""


class WSMessageTextBytes(NamedTuple):
    """A text message that was not decoded (``decode_text=False``): ``data`` is its UTF-8."""

    type: WSMsgType
    data: Any
    extra: str | None

    def json(self, *, loads: Callable[[Any], Any] = json.loads) -> Any:
        """The message's ``data``, parsed by ``loads``.

        :raises ValueError: what ``loads`` raises for text that is not JSON
        """
        return loads(self.data)


class WebSocketError(Exception, metaclass=ExceptionType):
    """The peer broke the protocol, or sent more than is allowed.

    :param code: the close code for the close frame to the peer
    :param message: the peer's fault
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code

    def __str__(self) -> str:
        return str(self.args[1])


def adopt(vocabulary: ModuleType) -> None:
    """From now on, messages are made of the classes of this name in another module.

    For programs in which aiohttp's server and this client live together: its messages and ours are then
    compared with the same ``WSMsgType``, by ``is`` as well. To be called before the first connection is made.
    A class that the module does not have, as aiohttp before 3.14 has no ``WSMessageTextBytes``, stays ours.
    """
    names = [name for name in __all__ if name != "adopt"]
    globals().update({name: getattr(vocabulary, name) for name in names if hasattr(vocabulary, name)})
