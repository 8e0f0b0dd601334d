"""The cookies. The names of ``aiohttp.cookiejar`` that whorl.http has."""

from __future__ import annotations

from yarl import URL

from whorl.http.abc import AbstractCookieJar
from whorl.http.cookies.header import parse_set_cookie_headers, preserve_morsel_with_coded_value
from whorl.http.cookies.jar import CookieJar, DummyCookieJar
from whorl.http.helpers import is_ip_address
from whorl.http.log import internal_logger

__all__ = [
    "URL",
    "AbstractCookieJar",
    "CookieJar",
    "DummyCookieJar",
    "internal_logger",
    "is_ip_address",
    "parse_set_cookie_headers",
    "preserve_morsel_with_coded_value",
]
