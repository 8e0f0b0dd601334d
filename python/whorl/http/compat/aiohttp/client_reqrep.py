"""Requests and responses. The names of ``aiohttp.client_reqrep`` that whorl.http has."""

from __future__ import annotations

from multidict import CIMultiDict, CIMultiDictProxy, MultiDict, MultiDictProxy
from yarl import URL

from whorl.http import hdrs
from whorl.http.abc import AbstractStreamWriter
from whorl.http.auth.basic import BasicAuth
from whorl.http.body.formdata import FormData
from whorl.http.body.upload import UploadTracker
from whorl.http.body.writer import StreamWriter
from whorl.http.client_request import SERVER_SOFTWARE, ClientRequest
from whorl.http.connect.fingerprint import Fingerprint
from whorl.http.cookies.header import (
    parse_cookie_header,
    parse_set_cookie_headers,
    preserve_morsel_with_coded_value,
)
from whorl.http.exceptions import (
    ClientConnectionError,
    ClientOSError,
    ClientResponseError,
    ContentTypeError,
    InvalidURL,
    ServerFingerprintMismatch,
    UploadAbortedError,
)
from whorl.http.helpers import (
    BaseTimerContext,
    HttpVersion,
    HttpVersion10,
    HttpVersion11,
    TimerNoop,
    sentinel,
)
from whorl.http.helpers import Sentinel as _SENTINEL
from whorl.http.request_info import ConnectionKey, RequestInfo, _RequestInfo
from whorl.http.response import ClientResponse, ContentDisposition
from whorl.http.streams import StreamReader
from whorl.http.typedefs import DEFAULT_JSON_DECODER, RawHeaders

__all__ = [
    "DEFAULT_JSON_DECODER",
    "SERVER_SOFTWARE",
    "URL",
    "_SENTINEL",
    "AbstractStreamWriter",
    "BaseTimerContext",
    "BasicAuth",
    "CIMultiDict",
    "CIMultiDictProxy",
    "ClientConnectionError",
    "ClientOSError",
    "ClientRequest",
    "ClientResponse",
    "ClientResponseError",
    "ConnectionKey",
    "ContentDisposition",
    "ContentTypeError",
    "Fingerprint",
    "FormData",
    "HttpVersion",
    "HttpVersion10",
    "HttpVersion11",
    "InvalidURL",
    "MultiDict",
    "MultiDictProxy",
    "RawHeaders",
    "RequestInfo",
    "ServerFingerprintMismatch",
    "StreamReader",
    "StreamWriter",
    "TimerNoop",
    "UploadAbortedError",
    "UploadTracker",
    "_RequestInfo",
    "hdrs",
    "parse_cookie_header",
    "parse_set_cookie_headers",
    "preserve_morsel_with_coded_value",
    "sentinel",
]
