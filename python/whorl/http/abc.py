"""Interfaces that users of the client may implement: resolvers, cookie jars, writers of request bodies."""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence, Sized
from http.cookies import BaseCookie, Morsel, SimpleCookie
from types import MappingProxyType
from typing import TYPE_CHECKING, TypedDict

from yarl import URL

from .cookies.header import parse_set_cookie_headers

if TYPE_CHECKING:
    from multidict import CIMultiDict

    from .typedefs import Byteish, LooseCookies

__all__ = [
    "AbstractCookieJar",
    "AbstractResolver",
    "AbstractStreamWriter",
    "ClearCookiePredicate",
    "ResolveResult",
]

ClearCookiePredicate = Callable[["Morsel[str]"], bool]

_NOWHERE = URL()


class ResolveResult(TypedDict):
    """One address of a host, as :meth:`AbstractResolver.resolve` returns it."""

    hostname: str
    """The name that was looked up; the server's certificate is checked against it."""

    host: str
    """The numeric address, with its scope (``%eth0``) if it is a link-local one."""

    port: int
    """The port to connect to, 0 to 65535."""

    family: int
    """The address family, :data:`socket.AF_INET` or :data:`socket.AF_INET6`."""

    proto: int
    """The protocol for :func:`socket.socket`; 0 is the family's default."""

    flags: int
    """The flags for :func:`socket.getaddrinfo` with this address, as :data:`socket.AI_NUMERICHOST`."""


class AbstractResolver(ABC):
    """Turns the names of hosts into addresses, for a :class:`TCPConnector`."""

    @abstractmethod
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Returns the addresses of ``host``, best first; raises :exc:`OSError` if it has none."""

    @abstractmethod
    async def close(self) -> None:
        """Releases the resolver's resources."""


class AbstractCookieJar(Sized, Iterable["Morsel[str]"]):
    """Keeps the cookies of a session: takes them from responses, and chooses those that a request sends.

    The session calls no method of an empty jar (``len(jar) == 0``), so the length has to be cheap and true.
    """

    def __init__(self, *, loop: asyncio.AbstractEventLoop | None = None) -> None:
        # For jars that derive from this one. Unlike aiohttp's, they can be made where no loop runs.
        if loop is None:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                pass
        self._loop = loop

    @property
    @abstractmethod
    def unsafe(self) -> bool:
        """Whether hosts that are IP addresses may set cookies."""

    @property
    @abstractmethod
    def quote_cookie(self) -> bool:
        """Whether values with special characters are sent in quotes."""

    @property
    def treat_as_secure_origin(self) -> frozenset[URL]:
        """The origins that get Secure cookies over cleartext connections too."""
        return frozenset()

    @property
    @abstractmethod
    def cookies(self) -> MappingProxyType[tuple[str, str], SimpleCookie]:
        """The cookies by their domain and path: a live view."""

    @property
    @abstractmethod
    def host_only_cookies(self) -> frozenset[tuple[str, str, str]]:
        """Domain, path and name of those cookies that no subdomain gets."""

    @abstractmethod
    def clear(self, predicate: ClearCookiePredicate | None = None) -> None:
        """Removes all cookies, or those for which ``predicate`` is true."""

    @abstractmethod
    def clear_domain(self, domain: str) -> None:
        """Removes the cookies of ``domain`` and its subdomains."""

    @abstractmethod
    def update_cookies(self, cookies: LooseCookies, response_url: URL = _NOWHERE) -> None:
        """Stores ``cookies`` as if the response from ``response_url`` had set them. Without a URL they belong
        to every host."""

    def update_cookies_from_headers(self, headers: Sequence[str], response_url: URL) -> None:
        """Stores the cookies of a response's Set-Cookie fields."""
        if headers and (cookies := parse_set_cookie_headers(headers)):
            self.update_cookies(cookies, response_url)

    @abstractmethod
    def filter_cookies(self, request_url: URL) -> BaseCookie[str]:
        """Returns the cookies that a request for ``request_url`` sends."""


class AbstractStreamWriter(ABC):
    """Where a payload's ``write()`` puts the body of a request."""

    buffer_size: int = 0
    """Bytes that wait to be sent."""

    output_size: int = 0
    """Bytes of the message so far, head and framing included."""

    length: int | None = 0
    """Bytes of the body that are still to come, or None if that is not known."""

    on_body_write: Callable[[int, int], None] | None = None
    """Called for every piece of the body: its size before any coding, and ``output_size`` after it."""

    @property
    def transport(self) -> asyncio.WriteTransport | None:
        """The transport underneath, if there is one."""
        return None

    @abstractmethod
    async def write(self, chunk: Byteish) -> None:
        """Writes one piece of the body, and waits while the connection takes no more."""

    @abstractmethod
    async def write_eof(self, chunk: bytes = b"") -> None:
        """Writes the last piece, and ends the body."""

    @abstractmethod
    async def drain(self) -> None:
        """Waits until the connection takes more."""

    @abstractmethod
    def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None:
        """Compresses the body from now on, with zlib's ``strategy``."""

    @abstractmethod
    def enable_chunking(self) -> None:
        """Sends the body in chunks from now on (RFC 9112, section 7.1)."""

    @abstractmethod
    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None:
        """Writes the head of the message."""

    def send_headers(self) -> None:  # noqa: B027
        """Sends the head if it is still held back, to go out with the body.

        A writer that holds nothing back has nothing to do.
        """
