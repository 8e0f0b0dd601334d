"""The session. The names of ``aiohttp.client`` that whorl.http has."""

from __future__ import annotations

from multidict import CIMultiDict, MultiDict, MultiDictProxy, istr
from yarl import URL

from whorl.http import hdrs
from whorl.http.abc import AbstractCookieJar
from whorl.http.auth.basic import BasicAuth, basicauth_from_netrc, netrc_from_env, strip_auth_from_url
from whorl.http.body.upload import UploadTracker
from whorl.http.client_request import ClientRequest
from whorl.http.connect.connector import BaseConnector
from whorl.http.connect.fingerprint import Fingerprint
from whorl.http.connect.proxies import get_env_proxy_for_url
from whorl.http.connect.tcp import TCPConnector
from whorl.http.connect.unix import NamedPipeConnector, UnixConnector
from whorl.http.context import (
    _BaseRequestContextManager,
    _RequestContextManager,
    _SessionRequestContextManager,
    _WSRequestContextManager,
)
from whorl.http.cookies.jar import CookieJar
from whorl.http.exceptions import (
    ClientConnectionError,
    ClientConnectionResetError,
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientConnectorSSLError,
    ClientError,
    ClientHttpProxyError,
    ClientOSError,
    ClientPayloadError,
    ClientProxyConnectionError,
    ClientResponseError,
    ClientSSLError,
    ConnectionTimeoutError,
    ContentTypeError,
    InvalidURL,
    InvalidUrlClientError,
    InvalidUrlRedirectClientError,
    NonHttpUrlClientError,
    NonHttpUrlRedirectClientError,
    RedirectClientError,
    ServerConnectionError,
    ServerDisconnectedError,
    ServerFingerprintMismatch,
    ServerTimeoutError,
    SocketTimeoutError,
    TooManyRedirects,
    UploadAbortedError,
    WSMessageTypeError,
    WSServerHandshakeError,
)
from whorl.http.helpers import DEBUG, DEFAULT_CHUNK_SIZE, EMPTY_BODY_METHODS, HttpVersion, sentinel
from whorl.http.helpers import Sentinel as _SENTINEL
from whorl.http.hooks.middlewares import build_client_middlewares
from whorl.http.hooks.tracing import Trace, TraceConfig
from whorl.http.options import WSConnectOptions as _WSConnectOptions
from whorl.http.options import _RequestOptions
from whorl.http.request_info import RequestInfo
from whorl.http.response import ClientResponse
from whorl.http.session import ClientSession, request
from whorl.http.timeouts import DEFAULT_TIMEOUT, ClientTimeout
from whorl.http.websocket.client import DEFAULT_WS_CLIENT_TIMEOUT, ClientWebSocketResponse, ClientWSTimeout

__all__ = [
    "DEBUG",
    "DEFAULT_CHUNK_SIZE",
    "DEFAULT_TIMEOUT",
    "DEFAULT_WS_CLIENT_TIMEOUT",
    "EMPTY_BODY_METHODS",
    "URL",
    "_SENTINEL",
    "AbstractCookieJar",
    "BaseConnector",
    "BasicAuth",
    "CIMultiDict",
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
    "ClientRequest",
    "ClientResponse",
    "ClientResponseError",
    "ClientSSLError",
    "ClientSession",
    "ClientTimeout",
    "ClientWSTimeout",
    "ClientWebSocketResponse",
    "ConnectionTimeoutError",
    "ContentTypeError",
    "CookieJar",
    "Fingerprint",
    "HttpVersion",
    "InvalidURL",
    "InvalidUrlClientError",
    "InvalidUrlRedirectClientError",
    "MultiDict",
    "MultiDictProxy",
    "NamedPipeConnector",
    "NonHttpUrlClientError",
    "NonHttpUrlRedirectClientError",
    "RedirectClientError",
    "RequestInfo",
    "ServerConnectionError",
    "ServerDisconnectedError",
    "ServerFingerprintMismatch",
    "ServerTimeoutError",
    "SocketTimeoutError",
    "TCPConnector",
    "TooManyRedirects",
    "Trace",
    "TraceConfig",
    "UnixConnector",
    "UploadAbortedError",
    "UploadTracker",
    "WSMessageTypeError",
    "WSServerHandshakeError",
    "_BaseRequestContextManager",
    "_RequestContextManager",
    "_RequestOptions",
    "_SessionRequestContextManager",
    "_WSConnectOptions",
    "_WSRequestContextManager",
    "basicauth_from_netrc",
    "build_client_middlewares",
    "get_env_proxy_for_url",
    "hdrs",
    "istr",
    "netrc_from_env",
    "request",
    "sentinel",
    "strip_auth_from_url",
]
