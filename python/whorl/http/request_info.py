"""What identifies a request in its response and its errors, and a connection in the pool.

Both are values, and are shown without credentials.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from multidict import CIMultiDictProxy
from yarl import URL

from .auth.redaction import auth_repr, redacted_headers, url_repr
from .connect.tls import SSL_SCHEMES
from .helpers import Sentinel, sentinel

if TYPE_CHECKING:
    from .auth.basic import BasicAuth
    from .connect.tls import SSLSetting

__all__ = ["ConnectionKey", "RequestInfo", "connection_key"]


class _RequestInfo(NamedTuple):
    url: URL
    method: str
    headers: CIMultiDictProxy[str]
    real_url: URL


class RequestInfo(_RequestInfo):
    """The request of a response, and of an exception about one.

    ``url`` has no fragment, ``real_url`` is the requested one. Its representation has no credentials; the
    values of ``headers`` have.
    """

    def __new__(
        cls, url: URL, method: str, headers: CIMultiDictProxy[str], real_url: URL | Sentinel = sentinel
    ) -> RequestInfo:
        """``real_url`` is ``url`` unless it is given."""
        return super().__new__(cls, url, method, headers, url if isinstance(real_url, Sentinel) else real_url)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(url={url_repr(self.url)}, method={self.method!r}, "
            f"headers={redacted_headers(self.headers)}, real_url={url_repr(self.real_url)})"
        )


class ConnectionKey(NamedTuple):
    """What requests must have in common to share a connection.

    Its representation has no credentials.
    """

    host: str
    port: int | None
    is_ssl: bool
    ssl: SSLSetting
    proxy: URL | None
    proxy_auth: BasicAuth | None
    proxy_headers_hash: int | None
    server_hostname: str | None = None

    def __repr__(self) -> str:
        representations = {"proxy": url_repr, "proxy_auth": auth_repr}
        shown = [
            f"{name}={representations.get(name, repr)(value)}"
            for name, value in zip(self._fields, self, strict=True)
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


def connection_key(url: URL, ssl: SSLSetting = True) -> ConnectionKey:
    """The key of a request without a proxy."""
    return ConnectionKey(url.raw_host or "", url.port, url.scheme in SSL_SCHEMES, ssl, None, None, None)
