"""Cookies on the wire: reading Set-Cookie and Cookie fields, writing the Cookie field (RFC 6265).

Real servers send names and values that :class:`http.cookies.SimpleCookie` does not take, or reads as
something else, and old ones want their values back octet for octet. So the fields are read here, into the
:class:`~http.cookies.Morsel` that callers of aiohttp know, and every morsel keeps its value as it was sent
(``coded_value``) in addition to its meaning (``value``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http.cookies import BaseCookie, CookieError, Morsel, SimpleCookie
from typing import TYPE_CHECKING, Final

from ..lazy import lazy_pattern
from ..log import internal_logger

if TYPE_CHECKING:
    from ..typedefs import LooseCookies

__all__ = [
    "build_cookie_header",
    "cookie_pairs",
    "encoded_length",
    "is_as_sent",
    "is_sendable",
    "make_morsel",
    "mark_as_sent",
    "parse_cookie_date",
    "parse_cookie_header",
    "parse_set_cookie_headers",
    "preserve_morsel_with_coded_value",
]

# Limits on the cookies that one response can set (RFC 6265, section 6.1), near those of the browsers.
_MAX_COOKIES_PER_RESPONSE: Final = 50
_MAX_COOKIE_PAIR_LENGTH: Final = 4096
_MAX_COOKIE_ATTRIBUTES: Final = 32
_MAX_COOKIE_ATTRIBUTE_VALUE_LENGTH: Final = 1024

# The attributes of a Morsel on the newest Python; older ones do not know all of them.
_COOKIE_BOOL_ATTRS: Final = frozenset(("secure", "httponly", "partitioned"))
_COOKIE_KNOWN_ATTRS: Final = _COOKIE_BOOL_ATTRS.union(
    ("comment", "domain", "expires", "max-age", "path", "samesite", "version")
)
_ATTRIBUTES: Final[frozenset[str]] = _COOKIE_KNOWN_ATTRS.intersection(
    Morsel._reserved  # type: ignore[attr-defined]
)

# Visible ASCII but the characters that separate or quote: far more than a token (RFC 6265, section 4.1.1),
# because names such as "cookie[index]" and "{uuid}" are out there.
_COOKIE_NAME = lazy_pattern(r"[!#-+\-.-:<-\[\]-~]+")
_CONTROL = lazy_pattern(r"[\x00-\x1f\x7f]")
_CONTROL_BUT_TAB = lazy_pattern(r"[\x00-\x08\x0a-\x1f\x7f]")

_WORD: Final = r"\w!#%&'~`><@,:/$*+\-.^|)(?}{\[\]"
_QUOTED: Final = r'"(?:[^\\"]|\\.)*+"'
_UNCLOSED_QUOTE: Final = r'"[^";]*+'
# The dates of the Expires attribute, which have spaces: HTTP's own, old and new, and that of C's asctime().
_HTTP_DATE: Final = r"(?:\w{3,6}day|\w{3}),\s[\w\s-]{9,11}\s[\d:]{8}\s(?:GMT|[+-]\d{4})"
_ASCTIME_DATE: Final = r"\w{3}\s+\w{3}\s+[\s\d]\d\s+\d\d:\d\d:\d\d\s+\d{4}"
_VALUE: Final = rf"{_QUOTED}|{_UNCLOSED_QUOTE}|{_HTTP_DATE}|{_ASCTIME_DATE}|[={_WORD}]*+"

# One "name" or "name=value" with its end: a semicolon, white space or the end of the field. Words are not
# backtracked into, so that a hostile field costs no more than its length.
_COOKIE_PATTERN = lazy_pattern(
    rf"\s*+(?P<key>[{_WORD}]++)(?:\s*+=\s*+(?P<val>{_VALUE}))?\s*+(?:;|\Z|(?<=\s))", re.ASCII
)

# The pair of a Set-Cookie field whose quoted value may hold semicolons, up to where the attributes begin.
_QUOTED_PAIR = lazy_pattern(rf"\s*+([^\s=;]++)\s*+=\s*+({_QUOTED})[ \t]*+(?:;|\Z)")


def encoded_length(text: str) -> int | None:
    """The length in octets of ``text`` in UTF-8, or None if it has lone surrogates and so cannot be sent."""
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None


def is_sendable(morsel: Morsel[str]) -> bool:
    """Whether a Cookie field can carry the cookie: it has no control characters, and can be encoded."""
    # Which of the two values is sent depends on the jar.
    text = f"{morsel.key}={morsel.value}{morsel.coded_value}"
    return _CONTROL.search(text) is None and encoded_length(text) is not None


def make_morsel(name: str, value: str, coded_value: str) -> Morsel[str] | None:
    """Returns a morsel of these, or None if this Python refuses it (newer ones check for control characters).

    ``Morsel.set()`` would not do: it takes no names but tokens, and none that are the name of an attribute.
    """
    morsel: Morsel[str] = Morsel()
    state = {"key": name, "value": value, "coded_value": coded_value}
    try:
        morsel.__setstate__(state)  # type: ignore[attr-defined]
    except CookieError:
        return None
    return morsel


def mark_as_sent(morsel: Morsel[str]) -> None:
    """Notes that ``coded_value`` is what a server has sent, and gets back octet for octet (RFC 6265, section
    5.4). The mark is part of the morsel's copies."""
    vars(morsel)["_as_sent"] = True


def is_as_sent(morsel: Morsel[str]) -> bool:
    """Whether the morsel is marked by :func:`mark_as_sent`."""
    return "_as_sent" in vars(morsel)


def preserve_morsel_with_coded_value(cookie: Morsel[str]) -> Morsel[str]:
    """Returns a copy of the cookie without attributes, its value coded as it came from the server."""
    morsel = make_morsel(cookie.key, cookie.value, cookie.coded_value)
    return cookie if morsel is None else morsel


_ESCAPE = lazy_pattern(r"\\(?:([0-3][0-7][0-7])|(.))")


def _unquote(value: str) -> str:
    """The text of a value in quotes, as :mod:`http.cookies` would read it; any other value as it is."""
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    return _ESCAPE.sub(lambda escape: chr(int(escape[1], 8)) if escape[1] else escape[2], value[1:-1])


# Set-Cookie


def parse_set_cookie_headers(headers: Sequence[str]) -> list[tuple[str, Morsel[str]]]:
    """Reads the Set-Cookie fields of one response.

    A field gives one cookie or none (RFC 6265, section 5.2). Left out are fields with control characters,
    without a name, with a name or value that no Cookie field could carry or that is longer than 4096 octets,
    and everything after 50 cookies. Unknown and malformed attributes are ignored.
    """
    cookies: list[tuple[str, Morsel[str]]] = []
    ignored = 0
    for index, field in enumerate(headers):
        if len(cookies) == _MAX_COOKIES_PER_RESPONSE:
            over_limit = len(headers) - index
            break
        if (morsel := _parse_set_cookie(field)) is None:
            ignored += 1
        else:
            cookies.append((morsel.key, morsel))
    else:
        over_limit = 0
    if ignored or over_limit:
        internal_logger.debug(
            "Ignored %d invalid Set-Cookie fields and %d over the %d-cookie limit",
            ignored,
            over_limit,
            _MAX_COOKIES_PER_RESPONSE,
        )
    return cookies


def _parse_set_cookie(field: str) -> Morsel[str] | None:
    if _CONTROL_BUT_TAB.search(field):
        return None
    pair, _, attributes = field.partition(";")
    if '"' in pair and (quoted := _QUOTED_PAIR.match(field)):
        name, coded_value = quoted.groups()
        attributes = field[quoted.end() :]
    else:
        name, equals, coded_value = pair.partition("=")
        if not equals:
            return None
        name, coded_value = name.strip(" \t"), coded_value.strip(" \t")
    if not name:
        return None
    if not _COOKIE_NAME.fullmatch(name):
        internal_logger.warning("Can not load cookies: Illegal cookie name %r", name)
        return None
    length = encoded_length(name + coded_value)
    if length is None or length > _MAX_COOKIE_PAIR_LENGTH:
        return None
    value = _unquote(coded_value)
    if _CONTROL.search(value):
        return None
    morsel = make_morsel(name, value, coded_value)
    if morsel is None:
        return None
    mark_as_sent(morsel)
    if attributes:
        _set_attributes(morsel, attributes)
    return morsel


def _set_attributes(morsel: Morsel[str], text: str) -> None:
    position = 0
    for _ in range(_MAX_COOKIE_ATTRIBUTES):
        if position >= len(text):
            return
        attribute = _COOKIE_PATTERN.match(text, position)
        if attribute is None:
            # An unreadable part extends to the next semicolon with text after it.
            position = text.find(";", position)
            if position < 0:
                return
            position = len(text) - len(text[position:].lstrip("; \t"))
            continue
        position = attribute.end()
        name = attribute["key"].lower()
        if name not in _ATTRIBUTES:
            continue
        # Past Morsel's own checks: the same has been checked above.
        if name in _COOKIE_BOOL_ATTRS:
            dict.__setitem__(morsel, name, True)
            continue
        coded_value = attribute["val"] or ""
        length = encoded_length(coded_value)
        if length is not None and length <= _MAX_COOKIE_ATTRIBUTE_VALUE_LENGTH:
            value = _unquote(coded_value)
            if not _CONTROL.search(value):
                dict.__setitem__(morsel, name, value)


# Dates of the Expires attribute (RFC 6265, section 5.1.1).

_DATE_TOKEN = lazy_pattern(r"[^\x09\x20-\x2f\x3b-\x40\x5b-\x60\x7b-\x7e]+")
_TIME = lazy_pattern(r"(\d{1,2}):(\d{1,2}):(\d{1,2})(?!\d)")
_DAY = lazy_pattern(r"\d{1,2}(?!\d)")
_YEAR = lazy_pattern(r"\d{2,4}(?!\d)")
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def parse_cookie_date(date: str) -> int | None:
    """Reads the date of an Expires attribute: seconds since the epoch, or None if it is none.

    As lenient as RFC 6265 requires: the parts may come in any order, and anything may be between them.
    """
    time: tuple[int, int, int] | None = None
    day = month = year = None
    for token in _DATE_TOKEN.findall(date):
        if time is None and (match := _TIME.match(token)):
            time = (int(match[1]), int(match[2]), int(match[3]))
        elif day is None and (match := _DAY.match(token)):
            day = int(match[0])
        elif month is None and (name := token[:3].lower()) in _MONTHS:
            month = _MONTHS.index(name) + 1
        elif year is None and (match := _YEAR.match(token)):
            year = int(match[0])
    if time is None or day is None or month is None or year is None:
        return None
    if year < 100:
        year += 1900 if year >= 70 else 2000
    hour, minute, second = time
    if year < 1601 or not 1 <= day <= 31 or hour > 23 or minute > 59 or second > 59:
        return None
    # Imported only for a date: it imports datetime.
    import calendar

    return calendar.timegm((year, month, day, hour, minute, second))


# Cookie


def parse_cookie_header(header: str) -> list[tuple[str, Morsel[str]]]:
    """Reads a Cookie field: names and values, no attributes (a cookie can be called ``path``).

    Parts that cannot be read are left out; parts after them are still read.
    """
    cookies: list[tuple[str, Morsel[str]]] = []
    illegal: list[str] = []
    position = 0
    while position < len(header):
        match = _COOKIE_PATTERN.match(header, position)
        if match is not None:
            name, coded_value = match["key"], match["val"] or ""
            position = match.end()
        else:
            # A value with characters that have no place in one, as bare JSON: take all up to the semicolon.
            pair, _, _ = header[position:].partition(";")
            position += len(pair) + 1
            name, equals, coded_value = pair.partition("=")
            if not equals:
                continue
            name, coded_value = name.strip(), coded_value.strip()
        if not _COOKIE_NAME.fullmatch(name):
            illegal.append(name)
        elif (morsel := make_morsel(name, _unquote(coded_value), coded_value)) is not None:
            cookies.append((name, morsel))
    if illegal:
        internal_logger.debug("Cannot load cookie. Illegal cookie names: %r", illegal)
    return cookies


def build_cookie_header(cookies: LooseCookies, header: str | None = None) -> str:
    """Returns the Cookie field for ``cookies``, sorted by name.

    ``header`` is a field that the request has already: its cookies are kept, except for the names in
    ``cookies``. Values that are strings are put in quotes where they need it; morsels are sent as they
    are coded. Raises :exc:`http.cookies.CookieError` for a string name that cannot be one.
    """
    merged: SimpleCookie = SimpleCookie()
    if header:
        merged.update(parse_cookie_header(header))
    for name, cookie in cookies.items() if isinstance(cookies, Mapping) else cookies:
        if isinstance(cookie, Morsel):
            dict.__setitem__(merged, name, preserve_morsel_with_coded_value(cookie))
        else:
            merged[name] = cookie  # type: ignore[assignment]
    return cookie_pairs(merged)


def cookie_pairs(cookies: BaseCookie[str]) -> str:
    """Returns the value of the Cookie field for cookies that are ready to be sent, as a jar's are."""
    return "; ".join([f"{morsel.key}={morsel.coded_value}" for _, morsel in sorted(cookies.items())])
