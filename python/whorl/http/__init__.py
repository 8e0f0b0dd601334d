"""The HTTP client: aiohttp's client API, its work done in Rust on the event loop's own thread.

``import whorl.http as aiohttp`` is the one line that changes in a program.

A name's module is imported when the name is first used. aiohttp's modules are there by their own names as
well (``compat/aiohttp``).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from . import abc as abc
    from . import hdrs as hdrs
    from . import helpers as helpers
    from . import http_exceptions as http_exceptions
    from . import log as log
    from . import streams as streams
    from . import typedefs as typedefs
    from .auth.basic import (
        BasicAuth as BasicAuth,
    )
    from .auth.basic import (
        encode_basic_auth as encode_basic_auth,
    )
    from .auth.digest import (
        DigestAuthMiddleware as DigestAuthMiddleware,
    )
    from .body.compression import (
        set_zlib_backend as set_zlib_backend,
    )
    from .body.content_disposition import (
        BadContentDispositionHeader as BadContentDispositionHeader,
    )
    from .body.content_disposition import (
        BadContentDispositionParam as BadContentDispositionParam,
    )
    from .body.content_disposition import (
        content_disposition_filename as content_disposition_filename,
    )
    from .body.content_disposition import (
        parse_content_disposition as parse_content_disposition,
    )
    from .body.formdata import (
        FormData as FormData,
    )
    from .body.multipart import (
        BodyPartReader as BodyPartReader,
    )
    from .body.multipart import (
        MultipartReader as MultipartReader,
    )
    from .body.multipart import (
        MultipartWriter as MultipartWriter,
    )
    from .body.payload import (
        PAYLOAD_REGISTRY as PAYLOAD_REGISTRY,
    )
    from .body.payload import (
        AsyncIterablePayload as AsyncIterablePayload,
    )
    from .body.payload import (
        BufferedReaderPayload as BufferedReaderPayload,
    )
    from .body.payload import (
        BytesIOPayload as BytesIOPayload,
    )
    from .body.payload import (
        BytesPayload as BytesPayload,
    )
    from .body.payload import (
        IOBasePayload as IOBasePayload,
    )
    from .body.payload import (
        JsonPayload as JsonPayload,
    )
    from .body.payload import (
        Payload as Payload,
    )
    from .body.payload import (
        StringIOPayload as StringIOPayload,
    )
    from .body.payload import (
        StringPayload as StringPayload,
    )
    from .body.payload import (
        TextIOPayload as TextIOPayload,
    )
    from .body.payload import (
        get_payload as get_payload,
    )
    from .body.payload import (
        payload_type as payload_type,
    )
    from .body.streamer import (
        streamer as streamer,
    )
    from .body.upload import (
        UploadTracker as UploadTracker,
    )
    from .client_request import (
        ClientRequest as ClientRequest,
    )
    from .compat import drop_in as drop_in
    from .compat.aiohttp import (
        client as client,
    )
    from .compat.aiohttp import (
        client_exceptions as client_exceptions,
    )
    from .compat.aiohttp import (
        client_middleware_digest_auth as client_middleware_digest_auth,
    )
    from .compat.aiohttp import (
        client_middlewares as client_middlewares,
    )
    from .compat.aiohttp import (
        client_proto as client_proto,
    )
    from .compat.aiohttp import (
        client_reqrep as client_reqrep,
    )
    from .compat.aiohttp import (
        client_ws as client_ws,
    )
    from .compat.aiohttp import (
        compression_utils as compression_utils,
    )
    from .compat.aiohttp import (
        connector as connector,
    )
    from .compat.aiohttp import (
        cookiejar as cookiejar,
    )
    from .compat.aiohttp import (
        formdata as formdata,
    )
    from .compat.aiohttp import (
        http as http,
    )
    from .compat.aiohttp import (
        http_websocket as http_websocket,
    )
    from .compat.aiohttp import (
        http_writer as http_writer,
    )
    from .compat.aiohttp import (
        multipart as multipart,
    )
    from .compat.aiohttp import (
        payload as payload,
    )
    from .compat.aiohttp import (
        payload_streamer as payload_streamer,
    )
    from .compat.aiohttp import (
        resolver as resolver,
    )
    from .compat.aiohttp import (
        tracing as tracing,
    )
    from .connect.connector import (
        BaseConnector as BaseConnector,
    )
    from .connect.fingerprint import (
        Fingerprint as Fingerprint,
    )
    from .connect.happy_eyeballs import (
        AddrInfoType as AddrInfoType,
    )
    from .connect.happy_eyeballs import (
        SocketFactoryType as SocketFactoryType,
    )
    from .connect.resolver import (
        AsyncResolver as AsyncResolver,
    )
    from .connect.resolver import (
        DefaultResolver as DefaultResolver,
    )
    from .connect.resolver import (
        ThreadedResolver as ThreadedResolver,
    )
    from .connect.tcp import (
        TCPConnector as TCPConnector,
    )
    from .connect.unix import (
        NamedPipeConnector as NamedPipeConnector,
    )
    from .connect.unix import (
        UnixConnector as UnixConnector,
    )
    from .cookies.jar import (
        CookieJar as CookieJar,
    )
    from .cookies.jar import (
        DummyCookieJar as DummyCookieJar,
    )
    from .exceptions import (
        ClientConnectionError as ClientConnectionError,
    )
    from .exceptions import (
        ClientConnectionResetError as ClientConnectionResetError,
    )
    from .exceptions import (
        ClientConnectorCertificateError as ClientConnectorCertificateError,
    )
    from .exceptions import (
        ClientConnectorDNSError as ClientConnectorDNSError,
    )
    from .exceptions import (
        ClientConnectorError as ClientConnectorError,
    )
    from .exceptions import (
        ClientConnectorSSLError as ClientConnectorSSLError,
    )
    from .exceptions import (
        ClientError as ClientError,
    )
    from .exceptions import (
        ClientHttpProxyError as ClientHttpProxyError,
    )
    from .exceptions import (
        ClientOSError as ClientOSError,
    )
    from .exceptions import (
        ClientPayloadError as ClientPayloadError,
    )
    from .exceptions import (
        ClientProxyConnectionError as ClientProxyConnectionError,
    )
    from .exceptions import (
        ClientResponseError as ClientResponseError,
    )
    from .exceptions import (
        ClientSSLError as ClientSSLError,
    )
    from .exceptions import (
        ConnectionTimeoutError as ConnectionTimeoutError,
    )
    from .exceptions import (
        ContentTypeError as ContentTypeError,
    )
    from .exceptions import (
        InvalidURL as InvalidURL,
    )
    from .exceptions import (
        InvalidUrlClientError as InvalidUrlClientError,
    )
    from .exceptions import (
        InvalidUrlRedirectClientError as InvalidUrlRedirectClientError,
    )
    from .exceptions import (
        NonHttpUrlClientError as NonHttpUrlClientError,
    )
    from .exceptions import (
        NonHttpUrlRedirectClientError as NonHttpUrlRedirectClientError,
    )
    from .exceptions import (
        RedirectClientError as RedirectClientError,
    )
    from .exceptions import (
        ServerConnectionError as ServerConnectionError,
    )
    from .exceptions import (
        ServerDisconnectedError as ServerDisconnectedError,
    )
    from .exceptions import (
        ServerFingerprintMismatch as ServerFingerprintMismatch,
    )
    from .exceptions import (
        ServerTimeoutError as ServerTimeoutError,
    )
    from .exceptions import (
        SocketTimeoutError as SocketTimeoutError,
    )
    from .exceptions import (
        TooManyRedirects as TooManyRedirects,
    )
    from .exceptions import (
        UploadAbortedError as UploadAbortedError,
    )
    from .exceptions import (
        WSMessageTypeError as WSMessageTypeError,
    )
    from .exceptions import (
        WSServerHandshakeError as WSServerHandshakeError,
    )
    from .helpers import (
        ChainMapProxy as ChainMapProxy,
    )
    from .helpers import (
        ETag as ETag,
    )
    from .helpers import (
        HttpVersion as HttpVersion,
    )
    from .helpers import (
        HttpVersion10 as HttpVersion10,
    )
    from .helpers import (
        HttpVersion11 as HttpVersion11,
    )
    from .hooks.middlewares import (
        ClientHandlerType as ClientHandlerType,
    )
    from .hooks.middlewares import (
        ClientMiddlewareType as ClientMiddlewareType,
    )
    from .hooks.tracing import (
        TraceConfig as TraceConfig,
    )
    from .hooks.tracing import (
        TraceConnectionCreateEndParams as TraceConnectionCreateEndParams,
    )
    from .hooks.tracing import (
        TraceConnectionCreateStartParams as TraceConnectionCreateStartParams,
    )
    from .hooks.tracing import (
        TraceConnectionQueuedEndParams as TraceConnectionQueuedEndParams,
    )
    from .hooks.tracing import (
        TraceConnectionQueuedStartParams as TraceConnectionQueuedStartParams,
    )
    from .hooks.tracing import (
        TraceConnectionReuseconnParams as TraceConnectionReuseconnParams,
    )
    from .hooks.tracing import (
        TraceDnsCacheHitParams as TraceDnsCacheHitParams,
    )
    from .hooks.tracing import (
        TraceDnsCacheMissParams as TraceDnsCacheMissParams,
    )
    from .hooks.tracing import (
        TraceDnsResolveHostEndParams as TraceDnsResolveHostEndParams,
    )
    from .hooks.tracing import (
        TraceDnsResolveHostStartParams as TraceDnsResolveHostStartParams,
    )
    from .hooks.tracing import (
        TraceRequestChunkSentParams as TraceRequestChunkSentParams,
    )
    from .hooks.tracing import (
        TraceRequestEndParams as TraceRequestEndParams,
    )
    from .hooks.tracing import (
        TraceRequestExceptionParams as TraceRequestExceptionParams,
    )
    from .hooks.tracing import (
        TraceRequestHeadersSentParams as TraceRequestHeadersSentParams,
    )
    from .hooks.tracing import (
        TraceRequestRedirectParams as TraceRequestRedirectParams,
    )
    from .hooks.tracing import (
        TraceRequestStartParams as TraceRequestStartParams,
    )
    from .hooks.tracing import (
        TraceResponseChunkReceivedParams as TraceResponseChunkReceivedParams,
    )
    from .request_info import (
        RequestInfo as RequestInfo,
    )
    from .response import (
        ClientResponse as ClientResponse,
    )
    from .session import (
        ClientSession as ClientSession,
    )
    from .session import (
        request as request,
    )
    from .streams import (
        EMPTY_PAYLOAD as EMPTY_PAYLOAD,
    )
    from .streams import (
        EofStream as EofStream,
    )
    from .streams import (
        StreamReader as StreamReader,
    )
    from .timeouts import (
        ClientTimeout as ClientTimeout,
    )
    from .websocket.client import (
        ClientWebSocketResponse as ClientWebSocketResponse,
    )
    from .websocket.client import (
        ClientWSTimeout as ClientWSTimeout,
    )
    from .websocket.data_queue import (
        DataQueue as DataQueue,
    )
    from .websocket.data_queue import (
        FlowControlDataQueue as FlowControlDataQueue,
    )
    from .websocket.messages import (
        WebSocketError as WebSocketError,
    )
    from .websocket.messages import (
        WSCloseCode as WSCloseCode,
    )
    from .websocket.messages import (
        WSMessage as WSMessage,
    )
    from .websocket.messages import (
        WSMsgType as WSMsgType,
    )

# What the package offers, by the module that has it.
_NAMES = {
    "auth.basic": (
        "BasicAuth",
        "encode_basic_auth",
    ),
    "auth.digest": ("DigestAuthMiddleware",),
    "body.compression": ("set_zlib_backend",),
    "body.content_disposition": (
        "BadContentDispositionHeader",
        "BadContentDispositionParam",
        "content_disposition_filename",
        "parse_content_disposition",
    ),
    "body.formdata": ("FormData",),
    "body.multipart": (
        "BodyPartReader",
        "MultipartReader",
        "MultipartWriter",
    ),
    "body.payload": (
        "AsyncIterablePayload",
        "BufferedReaderPayload",
        "BytesIOPayload",
        "BytesPayload",
        "IOBasePayload",
        "JsonPayload",
        "PAYLOAD_REGISTRY",
        "Payload",
        "StringIOPayload",
        "StringPayload",
        "TextIOPayload",
        "get_payload",
        "payload_type",
    ),
    "body.streamer": ("streamer",),
    "body.upload": ("UploadTracker",),
    "connect.connector": ("BaseConnector",),
    "connect.fingerprint": ("Fingerprint",),
    "connect.happy_eyeballs": ("AddrInfoType", "SocketFactoryType"),
    "connect.resolver": (
        "AsyncResolver",
        "DefaultResolver",
        "ThreadedResolver",
    ),
    "connect.tcp": ("TCPConnector",),
    "connect.unix": ("NamedPipeConnector", "UnixConnector"),
    "cookies.jar": (
        "CookieJar",
        "DummyCookieJar",
    ),
    "exceptions": (
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
        "UploadAbortedError",
        "WSMessageTypeError",
        "WSServerHandshakeError",
    ),
    "helpers": (
        "ChainMapProxy",
        "ETag",
        "HttpVersion",
        "HttpVersion10",
        "HttpVersion11",
    ),
    "hooks.middlewares": (
        "ClientHandlerType",
        "ClientMiddlewareType",
    ),
    "hooks.tracing": (
        "TraceConfig",
        "TraceConnectionCreateEndParams",
        "TraceConnectionCreateStartParams",
        "TraceConnectionQueuedEndParams",
        "TraceConnectionQueuedStartParams",
        "TraceConnectionReuseconnParams",
        "TraceDnsCacheHitParams",
        "TraceDnsCacheMissParams",
        "TraceDnsResolveHostEndParams",
        "TraceDnsResolveHostStartParams",
        "TraceRequestChunkSentParams",
        "TraceRequestEndParams",
        "TraceRequestExceptionParams",
        "TraceRequestHeadersSentParams",
        "TraceRequestRedirectParams",
        "TraceRequestStartParams",
        "TraceResponseChunkReceivedParams",
    ),
    "client_request": ("ClientRequest",),
    "request_info": ("RequestInfo",),
    "response": ("ClientResponse",),
    "session": (
        "ClientSession",
        "request",
    ),
    "streams": (
        "EMPTY_PAYLOAD",
        "EofStream",
        "StreamReader",
    ),
    "timeouts": ("ClientTimeout",),
    "websocket.client": (
        "ClientWSTimeout",
        "ClientWebSocketResponse",
    ),
    "websocket.data_queue": (
        "DataQueue",
        "FlowControlDataQueue",
    ),
    "websocket.messages": (
        "WSCloseCode",
        "WSMessage",
        "WSMsgType",
        "WebSocketError",
    ),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}

# aiohttp's modules that a program imports: those in compat/aiohttp, and those that have the same name here.
AIOHTTP_MODULES = frozenset(
    {
        "abc",
        "client",
        "client_exceptions",
        "client_middleware_digest_auth",
        "client_middlewares",
        "client_proto",
        "client_reqrep",
        "client_ws",
        "compression_utils",
        "connector",
        "cookiejar",
        "formdata",
        "hdrs",
        "helpers",
        "http",
        "http_exceptions",
        "http_websocket",
        "http_writer",
        "log",
        "multipart",
        "payload",
        "payload_streamer",
        "resolver",
        "streams",
        "tracing",
        "typedefs",
    }
)
__path__.append(f"{__path__[0]}/compat/aiohttp")

_MODULES = {"drop_in": "compat.drop_in", **{name: name for name in AIOHTTP_MODULES}}

__all__ = sorted(_MODULE_OF.keys() - {"drop_in"} | {"hdrs"})


# Hidden from type checkers, for which it would make any name one of the package's.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _MODULE_OF:
            value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        elif name in _MODULES:
            value = import_module(f"{__name__}.{_MODULES[name]}")
        elif name == "__version__":
            value = import_module(f"{__name__}.compat").AIOHTTP_VERSION
        elif name.startswith("web") or name in ("test_utils", "pytest_plugin", "worker"):
            raise AttributeError(
                f"{name!r} is aiohttp's server, which whorl.http has none of: import aiohttp.{name}"
            )
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return list(__all__)
