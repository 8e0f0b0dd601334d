"""What identifies a request in its response and its errors, and a connection in the pool.

Both are values: they are shown without credentials, and can be pickled with the exceptions that have them.
"""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from .auth.redaction import auth_repr, redacted_headers, url_repr
from .connect.tls import SSL_SCHEMES
from .helpers import Sentinel, sentinel
from .urls import dialled_host

if TYPE_CHECKING:
    from .auth.basic import BasicAuth
    from .connect.tls import SSLSetting

__all__ = ["ConnectionKey", "PickledSSLContext", "RequestInfo", "connection_key"]


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

    def __reduce__(self) -> tuple[Any, ...]:
        headers = self.headers
        if not isinstance(headers, CIMultiDictProxy):
            return type(self), tuple(self)
        # A proxy cannot be pickled.
        fields = [(str(name), value) for name, value in headers.items()]
        return _restored_request_info, (type(self), self.url, self.method, fields, self.real_url)


def _restored_request_info(
    cls: type[RequestInfo], url: URL, method: str, fields: Iterable[tuple[str, str]], real_url: URL
) -> RequestInfo:
    return cls(url, method, CIMultiDictProxy(CIMultiDict(fields)), real_url)


class PickledSSLContext:
    """Stands for the :class:`ssl.SSLContext` of a connection key that was pickled: a context has keys and
    callbacks, which stay in their process."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PickledSSLContext) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return self._text

    def __reduce__(self) -> tuple[Any, ...]:
        return PickledSSLContext, (self._text,)


class ConnectionKey(NamedTuple):
    """What requests must have in common to share a connection.

    Its representation has no credentials. Pickled, it has a :class:`PickledSSLContext` in place of a context.
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

    def __reduce__(self) -> tuple[Any, ...]:
        if not isinstance(self.ssl, ssl_module.SSLContext):
            return type(self), tuple(self)
        return type(self), (*self[:3], PickledSSLContext(repr(self.ssl)), *self[4:])

    # A copy stays in its process, and a value needs none.

    def __copy__(self) -> ConnectionKey:
        return self

    def __deepcopy__(self, memo: object) -> ConnectionKey:
        return self


def connection_key(url: URL, ssl: SSLSetting = True) -> ConnectionKey:
    """The key of a request without a proxy."""
    return ConnectionKey(dialled_host(url), url.port, url.scheme in SSL_SCHEMES, ssl, None, None, None)
