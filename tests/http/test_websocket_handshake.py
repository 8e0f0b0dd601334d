"""What is requested of the server to open a WebSocket, and which responses are accepted."""

from __future__ import annotations

import base64
import hashlib
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from tests.http.websocket_support import Response
from whorl.http.exceptions import WSServerHandshakeError
from whorl.http.websocket import messages as websocket_messages
from whorl.http.websocket.handshake import Agreement, Opening, check_handshake, prepare_handshake
from whorl.http.websocket.messages import WSCloseCode, WSMessage, WSMsgType


def agreement_by(opening: Opening, status: int = 101, **headers: str | None) -> Agreement:
    """What is agreed by a response that is right but for ``headers``; None leaves one out."""
    digest = hashlib.sha1(f"{opening.key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
    right = {
        "Upgrade": "websocket",
        "Connection": "upgrade",
        "Sec-WebSocket-Accept": base64.b64encode(digest).decode(),
    }
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    merged = {name: value for name, value in {**right, **given}.items() if value is not None}
    return check_handshake(Response(status, merged), opening)


def test_the_request() -> None:
    opening = prepare_handshake(
        {"X-Own": "1"}, protocols=["a", "b"], origin="https://example.org", compress=15
    )
    headers = dict(opening.headers)
    assert headers.pop("Sec-WebSocket-Key") == opening.key
    assert len(base64.b64decode(opening.key)) == 16
    assert headers == {
        "X-Own": "1",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "a,b",
        "Origin": "https://example.org",
        "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits",
    }
    assert prepare_handshake().key != opening.key


def test_the_users_version_is_kept_and_the_key_is_not() -> None:
    opening = prepare_handshake([("sec-websocket-version", "8"), ("Sec-WebSocket-Key", "theirs")])
    assert opening.headers["Sec-WebSocket-Version"] == "8"
    assert opening.headers.getall("Sec-WebSocket-Key") == [opening.key]
    assert "Sec-WebSocket-Extensions" not in opening.headers


@pytest.mark.parametrize("compress", [1, 8, 16, -15])
def test_windows_that_cannot_be_had(compress: int) -> None:
    with pytest.raises(ValueError, match=f"compress takes 9 to 15 .*, not {compress}"):
        prepare_handshake(compress=compress)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": 200}, "Invalid response status"),
        ({"Upgrade": None}, "Invalid upgrade header"),
        ({"Upgrade": "h2c"}, "Invalid upgrade header"),
        ({"Connection": None}, "Invalid connection header"),
        ({"Connection": "close"}, "Invalid connection header"),
        ({"Sec_WebSocket_Accept": None}, "Invalid challenge response"),
        ({"Sec_WebSocket_Accept": "asdf"}, "Invalid challenge response"),
    ],
)
def test_responses_that_are_rejected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(WSServerHandshakeError) as caught:
        agreement_by(prepare_handshake(), **change)
    assert caught.value.message == message
    assert caught.value.status == change.get("status", 101)
    assert caught.value.headers is not None


def test_names_in_headers_are_not_case_sensitive_and_a_list_is_a_list() -> None:
    assert (
        agreement_by(prepare_handshake(), Upgrade="WebSocket", Connection="keep-alive, Upgrade")
        == Agreement()
    )


@pytest.mark.parametrize(
    ("header", "protocol"), [("b", "b"), ("x, b", "b"), ("x", None), (None, None), ("A", None)]
)
def test_the_subprotocol(header: str | None, protocol: str | None) -> None:
    opening = prepare_handshake(protocols=("a", "b"))
    assert agreement_by(opening, Sec_WebSocket_Protocol=header).protocol == protocol


@pytest.mark.parametrize(
    ("compress", "header", "agreed"),
    [
        (15, None, (0, False, 15, False)),
        (15, "", (0, False, 15, False)),
        (15, "permessage-deflate", (15, False, 15, False)),
        (15, "permessage-deflate; client_max_window_bits=10", (10, False, 15, False)),
        (15, "permessage-deflate; client_no_context_takeover", (15, True, 15, False)),
        (15, 'permessage-deflate; server_max_window_bits="9"', (15, False, 9, False)),
        (
            10,
            "permessage-deflate; server_max_window_bits=9; server_no_context_takeover",
            (15, False, 9, True),
        ),
        # What was not offered is not checked.
        (0, "permessage-deflate", (0, False, 15, False)),
    ],
)
def test_compression(compress: int, header: str | None, agreed: tuple[int, bool, int, bool]) -> None:
    opening = prepare_handshake(compress=compress)
    assert agreement_by(opening, Sec_WebSocket_Extensions=header) == Agreement(None, *agreed)


@pytest.mark.parametrize(
    ("compress", "header", "message"),
    [
        (15, "permessage-deflate; client_max_window_bits=6", "Invalid window size"),
        (15, "permessage-deflate; client_max_window_bits=8", "Invalid window size"),
        (10, "permessage-deflate; server_max_window_bits=11", "Invalid window size"),
        (10, "permessage-deflate", "Extension for deflate answered without server_max_window_bits"),
        (15, "permessage-deflate; foo=1", "Extension for deflate not supported; foo=1"),
        (
            15,
            "permessage-deflate; client_max_window_bits",
            "Extension for deflate not supported; client_max_window_bits",
        ),
        (15, "permessage-deflate, permessage-deflate", "Extension permessage-deflate is answered twice"),
        (15, "x-other", 'Extension "x-other" was not asked for'),
        (15, "permessage-deflate;", 'Malformed Sec-WebSocket-Extensions at byte 19: "permessage-deflate;"'),
    ],
)
def test_compression_that_is_refused(compress: int, header: str, message: str) -> None:
    with pytest.raises(WSServerHandshakeError) as caught:
        agreement_by(prepare_handshake(compress=compress), Sec_WebSocket_Extensions=header)
    assert caught.value.message == message


# Names.


def test_the_names_are_aiohttps() -> None:
    for ours, theirs in ((WSMsgType, aiohttp.WSMsgType), (WSCloseCode, aiohttp.WSCloseCode)):
        assert {name: int(value) for name, value in ours.__members__.items()} == {
            name: int(value) for name, value in theirs.__members__.items()
        }
    assert WSMessage._fields == aiohttp.WSMessage._fields


def test_a_message_parses_its_data() -> None:
    message = WSMessage(WSMsgType.TEXT, "[1]", "")
    assert message.json() == [1]
    assert message.json(loads=len) == 3


def test_classes_of_another_module_are_adopted(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = {name: getattr(websocket_messages, name) for name in websocket_messages.__all__}
    for name, value in ours.items():
        monkeypatch.setattr(websocket_messages, name, value)
    from aiohttp._websocket import models

    # aiohttp 3.13 has no such class.
    older = {name: value for name, value in vars(models).items() if name != "WSMessageTextBytes"}
    websocket_messages.adopt(SimpleNamespace(**older))  # type: ignore[arg-type]
    assert websocket_messages.WSMessageTextBytes is ours["WSMessageTextBytes"]
    websocket_messages.adopt(models)
    assert websocket_messages.WSMessageTextBytes is models.WSMessageTextBytes
    assert websocket_messages.WSMsgType is aiohttp.WSMsgType
    assert websocket_messages.WSCloseCode is aiohttp.WSCloseCode
