"""Connectors. The names of ``aiohttp.connector`` that whorl.http has."""

from __future__ import annotations

from whorl.http import hdrs
from whorl.http.abc import AbstractResolver, ResolveResult
from whorl.http.client_request import ClientRequest
from whorl.http.connect.acquired import Connection
from whorl.http.connect.connection import ResponseHandler
from whorl.http.connect.connector import BaseConnector
from whorl.http.connect.fingerprint import Fingerprint
from whorl.http.connect.happy_eyeballs import AddrInfoType, SocketFactoryType
from whorl.http.connect.resolver import DefaultResolver
from whorl.http.connect.tcp import TCPConnector
from whorl.http.connect.unix import NamedPipeConnector, UnixConnector
from whorl.http.exceptions import (
    ClientConnectionError,
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientConnectorSSLError,
    ClientHttpProxyError,
    ClientProxyConnectionError,
    InvalidUrlClientError,
    ServerFingerprintMismatch,
    UnixClientConnectorError,
)
from whorl.http.helpers import is_canonical_ipv4_address, is_ip_address, sentinel
from whorl.http.log import client_logger
from whorl.http.timeouts import ceil_timeout

__all__ = [
    "AbstractResolver",
    "AddrInfoType",
    "BaseConnector",
    "ClientConnectionError",
    "ClientConnectorCertificateError",
    "ClientConnectorDNSError",
    "ClientConnectorError",
    "ClientConnectorSSLError",
    "ClientHttpProxyError",
    "ClientProxyConnectionError",
    "ClientRequest",
    "Connection",
    "DefaultResolver",
    "Fingerprint",
    "InvalidUrlClientError",
    "NamedPipeConnector",
    "ResolveResult",
    "ResponseHandler",
    "ServerFingerprintMismatch",
    "SocketFactoryType",
    "TCPConnector",
    "UnixClientConnectorError",
    "UnixConnector",
    "ceil_timeout",
    "client_logger",
    "hdrs",
    "is_canonical_ipv4_address",
    "is_ip_address",
    "sentinel",
]
