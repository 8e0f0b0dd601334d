"""The opening handshake of a WebSocket (RFC 6455, section 4.1): request fields, check of the response."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from multidict import CIMultiDict, MultiMapping

from whorl import _core

from .. import hdrs
from ..arguments import header_fields
from ..exceptions import WSServerHandshakeError
from ..typedefs import LooseHeaders

__all__ = ["Agreement", "Opening", "check_handshake", "prepare_handshake"]

#: The server appends this to the key, to show that it knows the protocol (RFC 6455, section 1.3).
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class HandshakeResponse(Protocol):
    """The used part of the server's response."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> MultiMapping[str]: ...
    @property
    def request_info(self) -> Any: ...
    @property
    def history(self) -> tuple[Any, ...]: ...


class Opening(NamedTuple):
    """The client's offer, against which the response is checked."""

    #: Of the request.
    headers: CIMultiDict[str]
    #: ``Sec-WebSocket-Key``.
    key: str
    #: Subprotocols that were offered, the preferred one first.
    protocols: tuple[str, ...]
    #: The window of the compression that was offered in bits, 0 for none.
    compress: int


class Agreement(NamedTuple):
    """What client and server have agreed on."""

    #: The subprotocol, None without one.
    protocol: str | None = None
    #: The window that our messages are compressed with in bits (9 to 15), 0 if they are not.
    compress: int = 0
    #: Our messages are each compressed by themselves.
    client_notakeover: bool = False
    #: The window that the server compresses with, in bits.
    server_window_bits: int = 15
    #: The server's messages are each compressed by themselves.
    server_notakeover: bool = False


def prepare_handshake(
    headers: LooseHeaders | None = None,
    *,
    protocols: Iterable[str] = (),
    origin: str | None = None,
    compress: int = 0,
) -> Opening:
    """The offer to the server.

    :param headers: of the request. Given here, ``Upgrade``, ``Connection`` and ``Sec-WebSocket-Version`` go
        before our own
    :param protocols: subprotocols, the preferred one first
    :param origin: the header ``Origin``
    :param compress: offer ``permessage-deflate`` with a window of so many bits, 9 to 15; 0 for none
    :raises ValueError: for another ``compress``
    """
    own = header_fields(headers)
    own.setdefault(hdrs.UPGRADE, "websocket")
    own.setdefault(hdrs.CONNECTION, "Upgrade")
    own.setdefault(hdrs.SEC_WEBSOCKET_VERSION, "13")
    own[hdrs.SEC_WEBSOCKET_KEY] = key = base64.b64encode(os.urandom(16)).decode()
    protocols = tuple(protocols)
    if protocols:
        own[hdrs.SEC_WEBSOCKET_PROTOCOL] = ",".join(protocols)
    if origin is not None:
        own[hdrs.ORIGIN] = origin
    if compress:
        own[hdrs.SEC_WEBSOCKET_EXTENSIONS] = _core.websocket_offer(compress)
    return Opening(own, key, protocols, compress)


def check_handshake(response: HandshakeResponse, opening: Opening) -> Agreement:
    """The parameters that the server has accepted.

    A subprotocol that was not offered counts as none, as in aiohttp. Where compression was offered, another
    extension or parameters that do not fit the offer are an error (RFC 7692, section 7.1).

    :raises WSServerHandshakeError: if it does not agree; its ``message`` is aiohttp's for the same case
    """
    headers = response.headers
    if response.status != 101:
        raise _handshake_error(response, "Invalid response status")
    if headers.get(hdrs.UPGRADE, "").strip().lower() != "websocket":
        raise _handshake_error(response, "Invalid upgrade header")
    # A list of options, of which a proxy may have added some.
    if "upgrade" not in _items(headers, hdrs.CONNECTION, lower=True):
        raise _handshake_error(response, "Invalid connection header")
    if headers.get(hdrs.SEC_WEBSOCKET_ACCEPT, "").strip() != _accept_of(opening.key):
        raise _handshake_error(response, "Invalid challenge response")
    chosen = _items(headers, hdrs.SEC_WEBSOCKET_PROTOCOL)
    protocol = next((name for name in chosen if name in opening.protocols), None)
    accepted = ", ".join(headers.getall(hdrs.SEC_WEBSOCKET_EXTENSIONS, ()))
    if not (opening.compress and accepted):
        return Agreement(protocol)
    try:
        agreed = _core.websocket_agreement(opening.compress, accepted)
    except ValueError as error:
        raise _handshake_error(response, str(error)) from error
    return Agreement(protocol, *agreed) if agreed is not None else Agreement(protocol)


def _accept_of(key: str) -> str:
    digest = hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def _items(headers: MultiMapping[str], name: str, *, lower: bool = False) -> list[str]:
    """The elements of a header that is a list."""
    whole = ",".join(headers.getall(name, ()))
    items = [item.strip() for item in whole.split(",")]
    return [item.lower() for item in items] if lower else items


def _handshake_error(response: HandshakeResponse, message: str) -> WSServerHandshakeError:
    return WSServerHandshakeError(
        response.request_info,
        response.history,
        message=message,
        status=response.status,
        headers=response.headers,
    )
