"""The HTTP client's exceptions: aiohttp's tree of client exceptions, with its names, bases and attributes.

All derive from :exc:`ClientError`, except :exc:`WSMessageTypeError`, which is a :exc:`TypeError`::

    ClientError
    ├── ClientResponseError              a response came, and is not acceptable
    │   ├── ClientHttpProxyError, ContentTypeError, TooManyRedirects, WSServerHandshakeError
    ├── ClientConnectionError            the connection failed
    │   ├── ClientConnectionResetError   (ConnectionResetError)
    │   ├── ClientOSError                (OSError)
    │   │   └── ClientConnectorError     it could not be made
    │   │       ├── ClientConnectorDNSError, ClientProxyConnectionError, UnixClientConnectorError
    │   │       └── ClientSSLError
    │   │           ├── ClientConnectorSSLError          (ssl.SSLError)
    │   │           └── ClientConnectorCertificateError  (ssl.CertificateError)
    │   └── ServerConnectionError
    │       ├── ServerDisconnectedError, ServerFingerprintMismatch
    │       └── ServerTimeoutError       (asyncio.TimeoutError)
    │           ├── ConnectionTimeoutError, SocketTimeoutError
    ├── ClientPayloadError, UploadAbortedError
    ├── InvalidURL                       (ValueError)
    │   └── InvalidUrlClientError
    ├── NonHttpUrlClientError
    └── RedirectClientError              a Location that cannot be followed
        ├── InvalidUrlRedirectClientError    (InvalidUrlClientError)
        └── NonHttpUrlRedirectClientError    (NonHttpUrlClientError)

All of them can be pickled, and keep attributes that were set on them. What they say, and their
representations, have no credentials in them: not those of a URL, nor of header fields.
"""

from __future__ import annotations

import asyncio
import ssl
import warnings
from typing import TYPE_CHECKING, Any, Protocol

from .auth.redaction import redacted_headers, redacted_url, url_repr
from .exception_type import ExceptionType

if TYPE_CHECKING:
    from multidict import MultiMapping
    from yarl import URL

    class ConnectionTarget(Protocol):
        """The part of a connection key that the exceptions read: the target and its TLS settings."""

        @property
        def host(self) -> str: ...
        @property
        def port(self) -> int | None: ...
        @property
        def is_ssl(self) -> bool: ...
        @property
        def ssl(self) -> Any: ...


__all__ = [
    "ClientConnectionError",
    "ClientConnectionResetError",
    "ClientConnectorCertificateError",
    "ClientConnectorDNSError",
    "ClientConnectorError",
    "ClientConnectorSSLError",
    "ClientError",
    "ClientHttpProxyError",
    "ClientOSError",
    "ClientPayloadError",
    "ClientProxyConnectionError",
    "ClientResponseError",
    "ClientSSLError",
    "ConnectionTimeoutError",
    "ContentTypeError",
    "InvalidURL",
    "InvalidUrlClientError",
    "InvalidUrlRedirectClientError",
    "NonHttpUrlClientError",
    "NonHttpUrlRedirectClientError",
    "RedirectClientError",
    "ServerConnectionError",
    "ServerDisconnectedError",
    "ServerFingerprintMismatch",
    "ServerTimeoutError",
    "SocketTimeoutError",
    "TooManyRedirects",
    "UnixClientConnectorError",
    "UploadAbortedError",
    "WSMessageTypeError",
    "WSServerHandshakeError",
]


class ClientError(Exception, metaclass=ExceptionType):
    """The base of everything that the client raises about a request."""


# A response came.


class _Fields(tuple[tuple[str, str], ...]):
    """The header fields of an exception, while it is pickled or copied."""

    __slots__ = ()


class ClientResponseError(ClientError):
    """A response came that is not acceptable.

    ``request_info`` is the request it answers and ``history`` the responses of the redirects before it;
    ``status`` (0 if there is none), ``message`` (the reason phrase, or the fault) and ``headers`` (or
    None) are the response's. ``code`` is the deprecated name of ``status``; giving both raises
    :exc:`ValueError`.
    """

    def __init__(
        self,
        request_info: Any,
        history: tuple[Any, ...],
        *,
        code: int | None = None,
        status: int | None = None,
        message: str = "",
        headers: MultiMapping[str] | None = None,
    ) -> None:
        if code is not None:
            if status is not None:
                raise ValueError(
                    f"status={status!r} and code={code!r} are the same thing: leave out code, the old name"
                )
            warnings.warn("code= is deprecated, use status=", DeprecationWarning, stacklevel=2)
            status = code
        super().__init__(request_info, history)
        self.request_info = request_info
        self.history = history
        self.status = 0 if status is None else status
        self.message = message
        self.headers = headers

    def __str__(self) -> str:
        url = redacted_url(self.request_info.real_url)
        return f"{self.status}, message={self.message!r}, url={url!r}"

    def __repr__(self) -> str:
        said = [repr(self.request_info), repr(self.history)]
        if self.status != 0:
            said.append(f"status={self.status!r}")
        if self.message != "":
            said.append(f"message={self.message!r}")
        if self.headers is not None:
            said.append(f"headers={redacted_headers(self.headers)}")
        return f"{type(self).__name__}({', '.join(said)})"

    def __reduce__(self) -> tuple[Any, ...]:
        from multidict import CIMultiDictProxy

        state = self.__dict__
        if isinstance(self.headers, CIMultiDictProxy):
            # A proxy cannot be pickled.
            state = {**state, "headers": _Fields((str(name), value) for name, value in self.headers.items())}
        return type(self), self.args, state

    def __setstate__(self, state: dict[str, Any] | None) -> None:
        if state is not None and isinstance(fields := state.get("headers"), _Fields):
            from multidict import CIMultiDict, CIMultiDictProxy

            state = {**state, "headers": CIMultiDictProxy(CIMultiDict(fields))}
        super().__setstate__(state)

    @property
    def code(self) -> int:
        """The status, under its deprecated name, which warns."""
        warnings.warn("code is deprecated, use status", DeprecationWarning, stacklevel=2)
        return self.status

    @code.setter
    def code(self, value: int) -> None:
        warnings.warn("code is deprecated, use status", DeprecationWarning, stacklevel=2)
        self.status = value


class ClientHttpProxyError(ClientResponseError):
    """The proxy refused to open a tunnel: its response to CONNECT had another status than 200."""


class ContentTypeError(ClientResponseError):
    """The response is not of the content type that was requested, as by ``json()``."""


class TooManyRedirects(ClientResponseError):
    """There were more redirects than ``max_redirects``; ``history`` has all of them."""


class WSServerHandshakeError(ClientResponseError):
    """The server did not agree to open a WebSocket."""


# The connection failed.


class ClientConnectionError(ClientError):
    """The base of everything about the connection."""


class ClientConnectionResetError(ClientConnectionError, ConnectionResetError):
    """The connection was gone when something was to be sent."""


class ClientOSError(ClientConnectionError, OSError):
    """The operating system reported an error on the connection: ``errno`` and ``strerror`` are its own."""


class ClientConnectorError(ClientOSError):
    """No connection could be made to ``host`` and ``port``; ``os_error`` is the reason."""

    def __init__(self, connection_key: ConnectionTarget, os_error: OSError) -> None:
        super().__init__(os_error.errno, os_error.strerror)
        self._conn_key = connection_key
        self._os_error = os_error
        self.args = (connection_key, os_error)

    # OSError's own would pickle errno and strerror in place of the arguments.
    __reduce__ = BaseException.__reduce__

    @property
    def os_error(self) -> OSError:
        """The error that connecting ended with."""
        return self._os_error

    @property
    def host(self) -> str:
        """The host of the URL, or of the proxy."""
        return self._conn_key.host

    @property
    def port(self) -> int | None:
        """The port, 1 to 65535."""
        return self._conn_key.port

    @property
    def ssl(self) -> Any:
        """The ``ssl`` argument in force: True (the defaults), False, a context or a fingerprint."""
        return self._conn_key.ssl

    def _describe(self, whereto: str) -> str:
        tls = "default" if self.ssl is True else self.ssl
        # A resolver's own error may have a text and no number, and one of a transport neither.
        reason = self.strerror or str(self._os_error) or type(self._os_error).__name__
        return f"Cannot connect to {whereto} ssl:{tls} [{reason}]"

    def _whereto(self) -> str:
        address, percent, zone = self.host.partition("%")
        return f"host {address}:{self.port}" + (f" in the zone {zone}" if percent else "")

    def __str__(self) -> str:
        return self._describe(self._whereto())


class ClientConnectorDNSError(ClientConnectorError):
    """The host name could not be resolved."""


class ClientProxyConnectionError(ClientConnectorError):
    """No connection could be made to the proxy."""


class UnixClientConnectorError(ClientConnectorError):
    """No connection could be made to the Unix domain socket at ``path``."""

    def __init__(self, path: str, connection_key: ConnectionTarget, os_error: OSError) -> None:
        super().__init__(connection_key, os_error)
        self._path = path
        self.args = (path, connection_key, os_error)

    @property
    def path(self) -> str:
        """The path of the socket."""
        return self._path

    def __str__(self) -> str:
        return self._describe(f"unix socket {self.path}")


class ClientSSLError(ClientConnectorError):
    """The base of what TLS reports while a connection is made."""


class ClientConnectorSSLError(ClientSSLError, ssl.SSLError):
    """The TLS handshake failed."""


class ClientConnectorCertificateError(ClientSSLError, ssl.CertificateError):
    """The server's certificate was not accepted; ``certificate_error`` says why."""

    def __init__(self, connection_key: ConnectionTarget, certificate_error: Exception) -> None:
        super().__init__(
            connection_key, certificate_error if isinstance(certificate_error, OSError) else OSError()
        )
        self._certificate_error = certificate_error
        self.args = (connection_key, certificate_error)

    @property
    def certificate_error(self) -> Exception:
        """The error of the verification."""
        return self._certificate_error

    @property
    def ssl(self) -> bool:
        """Whether the connection was to use TLS."""
        return self._conn_key.is_ssl

    def __str__(self) -> str:
        reason = self.certificate_error
        return f"Cannot connect to {self._whereto()} ssl:{self.ssl} [{type(reason).__name__}: {reason.args}]"


class ServerConnectionError(ClientConnectionError):
    """The base of errors that the server caused on an open connection."""


class ServerDisconnectedError(ServerConnectionError):
    """The server closed the connection before its response was complete.

    ``message`` is the part of it that had arrived, or a text.
    """

    def __init__(self, message: Any = None) -> None:
        if message is None:
            message = "Server disconnected"
        super().__init__(message)
        self.message = message


class ServerTimeoutError(ServerConnectionError, asyncio.TimeoutError):
    """The server took longer than one of the times in :class:`ClientTimeout`."""


class ConnectionTimeoutError(ServerTimeoutError):
    """A connection was not made in time (``connect`` or ``sock_connect``)."""


class SocketTimeoutError(ServerTimeoutError):
    """Nothing came from the server in time (``sock_read``)."""


class ServerFingerprintMismatch(ServerConnectionError):
    """The server's certificate has not the digest that was ``expected``, but the one in ``got``."""

    def __init__(self, expected: bytes, got: bytes, host: str, port: int) -> None:
        super().__init__(expected, got, host, port)
        self.expected = expected
        self.got = got
        self.host = host
        self.port = port

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} expected={self.expected!r} got={self.got!r} "
            f"host={self.host!r} port={self.port!r}>"
        )


# Bodies.


class ClientPayloadError(ClientError):
    """The body of a response is cut short or malformed, or that of a request cannot be sent again."""


class UploadAbortedError(ClientError):
    """The body of the request was not sent to its end."""


# URLs.


class InvalidURL(ClientError, ValueError):
    """The ``url`` cannot be requested; ``description`` says why, if there is more to say."""

    def __init__(self, url: URL | str, description: str | None = None) -> None:
        super().__init__(*((url, description) if description else (url,)))
        self._url = url
        self._description = description

    @property
    def url(self) -> URL | str:
        """The URL as it was given."""
        return self._url

    @property
    def description(self) -> str | None:
        """The fault of the URL."""
        return self._description

    def __str__(self) -> str:
        url = redacted_url(self._url)
        return f"{url} - {self._description}" if self._description else url

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"


class InvalidUrlClientError(InvalidURL):
    """The URL of a request is malformed, as one without a host is."""


class NonHttpUrlClientError(ClientError):
    """The scheme of the URL is not one of http, https, ws and wss."""

    def __str__(self) -> str:
        url = self.args[0] if self.args else ""
        return " - ".join([redacted_url(url), *map(str, self.args[1:])])

    def __repr__(self) -> str:
        shown = [repr(redacted_url(arg)) if isinstance(arg, str) else url_repr(arg) for arg in self.args]
        return f"{type(self).__name__}({', '.join(shown)})"


class RedirectClientError(ClientError):
    """The base of errors of a redirect's Location."""


class InvalidUrlRedirectClientError(InvalidUrlClientError, RedirectClientError):
    """The Location of a redirect is malformed."""


class NonHttpUrlRedirectClientError(NonHttpUrlClientError, RedirectClientError):
    """The Location of a redirect is not an HTTP one."""


# WebSocket.


class WSMessageTypeError(TypeError, metaclass=ExceptionType):
    """The WebSocket message is not of the type that was requested, as by ``receive_str()``."""
