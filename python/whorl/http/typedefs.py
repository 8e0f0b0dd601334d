"""The types of what callers may pass: names for signatures, as in ``aiohttp.typedefs``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from http.cookies import BaseCookie, Morsel
from typing import Any, Final

from multidict import CIMultiDict, CIMultiDictProxy, istr
from yarl import URL, Query

__all__ = [
    "DEFAULT_JSON_DECODER",
    "DEFAULT_JSON_ENCODER",
    "Byteish",
    "JSONBytesEncoder",
    "JSONDecoder",
    "JSONEncoder",
    "LooseCookies",
    "LooseCookiesIterables",
    "LooseCookiesMappings",
    "LooseHeaders",
    "PathLike",
    "Query",
    "RawHeaders",
    "StrOrURL",
]

Byteish = bytes | bytearray | memoryview

JSONEncoder = Callable[[Any], str]
JSONBytesEncoder = Callable[[Any], bytes]
JSONDecoder = Callable[[str], Any]
DEFAULT_JSON_ENCODER: Final[JSONEncoder] = json.dumps
DEFAULT_JSON_DECODER: Final[JSONDecoder] = json.loads

LooseHeaders = (
    Mapping[str, str]
    | Mapping[istr, str]
    | CIMultiDict[str]
    | CIMultiDictProxy[str]
    | Iterable[tuple[str | istr, str]]
)
RawHeaders = tuple[tuple[bytes, bytes], ...]

StrOrURL = str | URL
PathLike = str | os.PathLike[str]

CookieValue = str | BaseCookie[str] | Morsel[Any]
LooseCookiesMappings = Mapping[str, CookieValue]
LooseCookiesIterables = Iterable[tuple[str, CookieValue]]
LooseCookies = LooseCookiesMappings | LooseCookiesIterables | BaseCookie[str]
