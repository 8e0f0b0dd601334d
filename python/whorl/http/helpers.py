"""Small things that several modules of the client share, and that its users reach for: those of
``aiohttp.helpers``."""

from __future__ import annotations

import codecs
import enum
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from multidict import MultiDict, MultiDictProxy

from .lazy import lazy_pattern

if TYPE_CHECKING:
    import datetime

    from yarl import URL as URL

    from .auth.basic import BasicAuth as BasicAuth
    from .auth.basic import basicauth_from_netrc as basicauth_from_netrc
    from .auth.basic import encode_basic_auth as encode_basic_auth
    from .auth.basic import netrc_from_env as netrc_from_env
    from .auth.basic import strip_auth_from_url as strip_auth_from_url
    from .body.content_disposition import TOKEN as TOKEN
    from .body.content_disposition import content_disposition_header as content_disposition_header
    from .body.files import guess_filename as guess_filename
    from .connect.proxies import ProxyInfo as ProxyInfo
    from .connect.proxies import get_env_proxy_for_url as get_env_proxy_for_url
    from .connect.proxies import proxies_from_env as proxies_from_env
    from .log import client_logger as client_logger
    from .timeouts import ceil_timeout as ceil_timeout

# What is in `aiohttp.helpers` and elsewhere here: imported when a program uses it.
_ELSEWHERE = {
    "BasicAuth": "auth.basic",
    "ProxyInfo": "connect.proxies",
    "TOKEN": "body.content_disposition",
    "URL": "typedefs",
    "basicauth_from_netrc": "auth.basic",
    "ceil_timeout": "timeouts",
    "client_logger": "log",
    "content_disposition_header": "body.content_disposition",
    "encode_basic_auth": "auth.basic",
    "get_env_proxy_for_url": "connect.proxies",
    "guess_filename": "body.files",
    "netrc_from_env": "auth.basic",
    "proxies_from_env": "connect.proxies",
    "strip_auth_from_url": "auth.basic",
}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _ELSEWHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"whorl.http.{_ELSEWHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*__all__, *_ELSEWHERE})


__all__ = [
    "DEBUG",
    "DEFAULT_CHUNK_SIZE",
    "EMPTY_BODY_METHODS",
    "EMPTY_BODY_STATUS_CODES",
    "ETAG_ANY",
    "BaseTimerContext",
    "ChainMapProxy",
    "ETag",
    "HttpVersion",
    "HttpVersion10",
    "HttpVersion11",
    "MimeType",
    "Sentinel",
    "TimerNoop",
    "is_canonical_ipv4_address",
    "is_expected_content_type",
    "is_ip_address",
    "must_be_empty_body",
    "parse_content_type",
    "parse_http_date",
    "parse_mimetype",
    "sentinel",
    "should_remove_content_length",
    "text_encoding",
    "validate_etag_value",
]

DEFAULT_CHUNK_SIZE: Final = 256 * 1024
"""How much is read from a file or a stream at once, in bytes."""

DEBUG: Final = sys.flags.dev_mode or (
    not sys.flags.ignore_environment and bool(os.environ.get("PYTHONASYNCIODEBUG"))
)
"""Whether the interpreter runs in development mode, or asyncio in debug mode."""


class Sentinel(enum.Enum):
    """The type of ``sentinel``."""

    sentinel = enum.auto()


sentinel: Final = Sentinel.sentinel
"""The default of parameters for which None has a meaning."""


class HttpVersion(NamedTuple):
    """A version of HTTP."""

    major: int
    minor: int


HttpVersion10: Final = HttpVersion(1, 0)
HttpVersion11: Final = HttpVersion(1, 1)


# Hosts.


def is_ip_address(host: str | None) -> bool:
    """Whether ``host`` may be an IP address rather than a name: it is all digits and dots, or has a
    colon.

    Cheap and without validation, for a host out of a URL.
    """
    if not host:
        return False
    return ":" in host or host.replace(".", "").isdigit()


_CANONICAL_IPV4 = lazy_pattern(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?=.)|\Z)){4}+\Z")


def is_canonical_ipv4_address(host: str) -> bool:
    """Whether ``host`` is an IPv4 address as everyone writes it: four decimal numbers up to 255.

    False for the other forms that the C library takes, such as ``127.1`` and ``0x7f000001``, which get past
    filters of addresses.
    """
    return _CANONICAL_IPV4.match(host) is not None


# Media types (RFC 9110, section 8.3.1).


@dataclass(frozen=True, slots=True)
class MimeType:
    """A media type in its parts: ``application/rss+xml; charset=utf-8`` has the type ``application``, the
    subtype ``rss``, the suffix ``xml`` and one parameter."""

    type: str
    subtype: str
    suffix: str
    parameters: MultiDictProxy[str]


# A name, and a value that may be in quotes; a name alone counts as one with an empty value.
_PARAMETER = lazy_pattern(r';\s*([^;=\s][^;=]*)(?:=\s*(?:"((?:[^"\\]|\\.)*+)"[^;]*|([^;]*)))?')


def _parameters(text: str) -> Iterator[tuple[str, str]]:
    for name, quoted, token in _PARAMETER.findall(text):
        yield name.strip().lower(), re.sub(r"\\(.)", r"\1", quoted) if quoted else token.strip(' \t"')


@lru_cache(maxsize=64)
def parse_mimetype(mimetype: str) -> MimeType:
    """Takes a media type apart. Names come out in lower case; ``*`` is short for ``*/*``."""
    kind, semicolon, rest = mimetype.partition(";")
    kind = kind.strip().lower()
    main, _, subtype = ("*/*" if kind == "*" else kind).partition("/")
    subtype, _, suffix = subtype.partition("+")
    return MimeType(main, subtype, suffix, MultiDictProxy(MultiDict(_parameters(semicolon + rest))))


@lru_cache(maxsize=64)
def parse_content_type(raw: str) -> tuple[str, MappingProxyType[str, str]]:
    """Returns the media type and the parameters of a Content-Type field.

    The type is ``application/octet-stream`` if there is none that could be one (RFC 9110, section 8.3).
    """
    kind, semicolon, rest = raw.partition(";")
    kind = kind.strip().lower()
    if kind.count("/") != 1:
        kind = "application/octet-stream"
    return kind, MappingProxyType(dict(_parameters(semicolon + rest)))


_JSON_TYPE = lazy_pattern(r"application/(?:[\w.+-]+?\+)?json", re.IGNORECASE)


def is_expected_content_type(response_content_type: str, expected_content_type: str) -> bool:
    """Whether a response's Content-Type is the one expected.

    ``application/json`` stands for the whole family, as ``application/problem+json``; anything else has to be
    part of the field.
    """
    if expected_content_type == "application/json":
        return _JSON_TYPE.match(response_content_type) is not None
    return expected_content_type in response_content_type


# Codecs that Python takes for encodings of text, and that are no charset of any server's.
_NO_CHARSETS: Final = frozenset(("idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"))


def text_encoding(charset: str) -> str | None:
    """Returns the name that Python has for a charset, or None if it has none for text of that encoding."""
    try:
        codec = codecs.lookup(charset)
    except (LookupError, ValueError):
        return None
    # Between bytes and bytes, as zip is: `bytes.decode()` refuses those by the same attribute.
    if not getattr(codec, "_is_text_encoding", True) or codec.name in _NO_CHARSETS:
        return None
    return codec.name


# Messages without a body (RFC 9112, section 6.3).

EMPTY_BODY_STATUS_CODES: Final = frozenset((*range(100, 200), 204, 304))
EMPTY_BODY_METHODS: Final = frozenset(("HEAD",))


def should_remove_content_length(method: str, code: int) -> bool:
    """Whether a Content-Length has no place in the response: no length of a body could be meant."""
    return code in EMPTY_BODY_STATUS_CODES or (method == "CONNECT" and 200 <= code < 300)


def must_be_empty_body(method: str, code: int) -> bool:
    """Whether the response to ``method`` with the status ``code`` ends with its head, whatever that says."""
    return method in EMPTY_BODY_METHODS or should_remove_content_length(method, code)


# Fields.


def parse_http_date(date_str: str | None) -> datetime.datetime | None:
    """Reads a date as of Last-Modified (RFC 9110, section 5.6.7), in UTC; None if it is none."""
    # Imported on first use: few programs read dates.
    import datetime
    from email.utils import parsedate

    if date_str is not None and (parts := parsedate(date_str)) is not None:
        try:
            return datetime.datetime(*parts[:6], tzinfo=datetime.UTC)
        except (OverflowError, ValueError):
            pass
    return None


ETAG_ANY: Final = "*"

_ETAG_VALUE = lazy_pattern(r"[!\x23-\x7e\x80-\xff]+")


@dataclass(frozen=True, slots=True)
class ETag:
    """An entity tag (RFC 9110, section 8.8.3): its ``value`` without quotes, and whether it is a weak one."""

    value: str
    is_weak: bool = False


def validate_etag_value(value: str) -> None:
    """Raises :exc:`ValueError` unless ``value`` can be between the quotes of an entity tag, or is ``*``."""
    if value != ETAG_ANY and not _ETAG_VALUE.fullmatch(value):
        raise ValueError(f"Value {value!r} is not a valid etag. Maybe it contains '\"'?")


# Containers and contexts.


class ChainMapProxy(Mapping[Any, Any]):
    """A read-only view of several mappings as one; the first that has a key gives its value."""

    __slots__ = ("_maps",)

    def __init__(self, maps: Iterable[Mapping[Any, Any]]) -> None:
        self._maps = tuple(maps)

    def __init_subclass__(cls) -> None:
        raise TypeError(f"{cls.__name__} cannot derive from ChainMapProxy, which is final: wrap it")

    def __getitem__(self, key: Any) -> Any:
        for mapping in self._maps:
            try:
                return mapping[key]
            except KeyError:
                continue
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return any(key in mapping for mapping in self._maps)

    def __iter__(self) -> Iterator[Any]:
        # A key is where the last of the mappings has it: an override does not move it.
        return iter(dict.fromkeys(key for mapping in reversed(self._maps) for key in mapping))

    def __len__(self) -> int:
        return len(set().union(*self._maps))

    def __bool__(self) -> bool:
        return any(self._maps)

    def __repr__(self) -> str:
        return f"ChainMapProxy({', '.join(map(repr, self._maps))})"


class BaseTimerContext(AbstractContextManager["BaseTimerContext", None]):
    """What limits the time of the block under ``with``."""

    __slots__ = ()

    def assert_timeout(self) -> None:
        """Raises :exc:`asyncio.TimeoutError` if the time is up."""


class TimerNoop(BaseTimerContext):
    """The timer of a request without a limit."""

    __slots__ = ()

    def __enter__(self) -> BaseTimerContext:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None
