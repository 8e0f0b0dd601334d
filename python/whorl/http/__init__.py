"""The HTTP client: aiohttp's client API, its work done in Rust on the event loop's own thread.

``import whorl.http as aiohttp`` is the one line that changes in a program.
"""

from . import hdrs
from .auth import BasicAuth, encode_basic_auth
from .connector import (
    AddrInfoType,
    BaseConnector,
    NamedPipeConnector,
    SocketFactoryType,
    TCPConnector,
    UnixConnector,
)
from .content_disposition import (
    BadContentDispositionHeader,
    BadContentDispositionParam,
    content_disposition_filename,
    parse_content_disposition,
)
from .cookiejar import CookieJar, DummyCookieJar
from .digest_auth import DigestAuthMiddleware
from .exceptions import (
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
from .fingerprint import Fingerprint
from .formdata import FormData
from .helpers import ChainMapProxy, ETag, HttpVersion, HttpVersion10, HttpVersion11
from .middlewares import ClientHandlerType, ClientMiddlewareType
from .payload import (
    PAYLOAD_REGISTRY,
    AsyncIterablePayload,
    BytesPayload,
    JsonPayload,
    Payload,
    StringPayload,
    get_payload,
    payload_type,
)
from .request import ClientRequest, RequestInfo
from .resolver import AsyncResolver, DefaultResolver, ThreadedResolver
from .response import ClientResponse
from .session import ClientSession, request
from .streams import EMPTY_PAYLOAD, DataQueue, EofStream, FlowControlDataQueue, StreamReader
from .timeouts import ClientTimeout
from .tracing import TraceConfig
from .upload import UploadTracker
