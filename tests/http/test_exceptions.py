"""The exceptions: what catches what, what they say, and that they survive pickling."""

from __future__ import annotations

import asyncio
import errno
import pickle
import ssl
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from whorl.http import exceptions, http_exceptions
from whorl.http.exceptions import (
    ClientConnectorCertificateError,
    ClientConnectorError,
    ClientError,
    ClientOSError,
    ClientResponseError,
    InvalidURL,
    ServerDisconnectedError,
    ServerFingerprintMismatch,
    ServerTimeoutError,
    UnixClientConnectorError,
)


class Key(NamedTuple):
    host: str = "example.com"
    port: int | None = 8080
    is_ssl: bool = False
    ssl: Any = True


REQUEST = SimpleNamespace(real_url="http://example.com/")
REFUSED = OSError(errno.ECONNREFUSED, "Connection refused")


@pytest.mark.parametrize("name", [name for name in exceptions.__all__ if name != "WSMessageTypeError"])
def test_everything_is_a_client_error(name: str) -> None:
    assert issubclass(getattr(exceptions, name), ClientError)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("ClientOSError", OSError),
        ("ClientConnectionResetError", ConnectionResetError),
        ("ClientConnectorDNSError", exceptions.ClientConnectorError),
        ("ClientConnectorSSLError", ssl.SSLError),
        ("ClientConnectorCertificateError", ssl.CertificateError),
        ("ConnectionTimeoutError", TimeoutError),
        ("SocketTimeoutError", exceptions.ServerTimeoutError),
        ("InvalidUrlRedirectClientError", exceptions.RedirectClientError),
        ("InvalidUrlRedirectClientError", ValueError),
        ("WSMessageTypeError", TypeError),
    ],
)
def test_handlers_of_other_libraries_catch_them_too(name: str, base: type[BaseException]) -> None:
    assert issubclass(getattr(exceptions, name), base)


def test_a_timeout_is_asyncios() -> None:
    with pytest.raises(asyncio.TimeoutError):
        raise ServerTimeoutError("too late")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            ClientResponseError(REQUEST, (), status=404, message="Not Found"),
            "404, message='Not Found', url='http://example.com/'",
        ),
        (
            ClientConnectorError(Key(), REFUSED),
            "Cannot connect to host example.com:8080 ssl:default [Connection refused]",
        ),
        (
            ClientConnectorError(Key(ssl=False), REFUSED),
            "Cannot connect to host example.com:8080 ssl:False [Connection refused]",
        ),
        (
            UnixClientConnectorError("/run/x.sock", Key(), REFUSED),
            "Cannot connect to unix socket /run/x.sock ssl:default [Connection refused]",
        ),
        (
            ClientConnectorCertificateError(Key(is_ssl=True), ssl.CertificateError("bad name")),
            "Cannot connect to host example.com:8080 ssl:True [SSLCertVerificationError: ('bad name',)]",
        ),
        (ServerDisconnectedError(), "Server disconnected"),
        (InvalidURL("http://"), "http://"),
        (InvalidURL("http://", "no host"), "http:// - no host"),
        (
            http_exceptions.LineTooLong(b"GET", 2),
            "400, message:\n  Got more than 2 bytes when reading: b'GET'.",
        ),
        (http_exceptions.BadStatusLine("HTTP"), "400, message:\n  Bad status line 'HTTP'"),
        (http_exceptions.InvalidHeader(b"a\xff"), "400, message:\n  Invalid HTTP header: b'a\\xff'"),
        (
            http_exceptions.BadHttpMethod("\x16\x03\x01"),
            "400, message:\n  Received HTTPS traffic on an HTTP port",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_they_say(error: Exception, text: str) -> None:
    assert str(error) == text


def test_representations_show_the_arguments() -> None:
    response = ClientResponseError("request", (), status=400, message="no", headers=None)
    assert repr(response) == "ClientResponseError('request', (), status=400, message='no')"
    assert repr(InvalidURL("x", "y")) == "<InvalidURL x - y>"
    mismatch = ServerFingerprintMismatch(b"a", b"b", "example.com", 443)
    assert repr(mismatch) == "<ServerFingerprintMismatch expected=b'a' got=b'b' host='example.com' port=443>"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "error",
    [
        ClientResponseError(REQUEST, (), status=500, message="no", headers=None),
        ClientConnectorError(Key(), REFUSED),
        UnixClientConnectorError("/run/x.sock", Key(), REFUSED),
        ClientConnectorCertificateError(Key(), ssl.CertificateError("bad")),
        ClientOSError(errno.EPIPE, "Broken pipe"),
        ServerDisconnectedError("gone"),
        ServerFingerprintMismatch(b"a", b"b", "example.com", 443),
        InvalidURL("x", "y"),
        http_exceptions.LineTooLong(b"x", 10),
        http_exceptions.HttpProcessingError(code=500, message="no"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_pickling_keeps_everything(error: Exception, protocol: int) -> None:
    error.note = "kept"  # type: ignore[attr-defined]
    copy = pickle.loads(pickle.dumps(error, protocol))
    assert type(copy) is type(error)
    assert copy.note == "kept"
    assert str(copy) == str(error)
    assert repr(copy) == repr(error)


def test_the_cause_of_a_connection_that_failed_is_at_hand() -> None:
    error = ClientConnectorError(Key(), REFUSED)
    assert error.os_error is REFUSED
    assert (error.errno, error.strerror) == (errno.ECONNREFUSED, "Connection refused")
    assert (error.host, error.port, error.ssl) == ("example.com", 8080, True)


def test_code_is_the_old_name_of_status() -> None:
    with pytest.warns(DeprecationWarning, match="use status"):
        error = ClientResponseError(REQUEST, (), code=418)
    assert error.status == 418
    with pytest.warns(DeprecationWarning, match="use status"):
        assert error.code == 418
    with pytest.raises(ValueError, match="status=400 and code=500"):
        ClientResponseError(REQUEST, (), status=400, code=500)
