"""Where a redirect leads: the Location field against the URL of the request (RFC 9110, section 10.2.2).

The URL is followed as the server wrote it. What is percent-encoded stays so, as servers sign their URLs and
tell ``%26`` from ``&``: :class:`yarl.URL` would decode what need not be encoded. What a request line cannot
carry is percent-encoded.
"""

from __future__ import annotations

import re
from typing import Final

from yarl import URL

from .exceptions import InvalidUrlRedirectClientError, NonHttpUrlRedirectClientError
from .lazy import lazy_pattern
from .urls import make_url

__all__ = ["target"]

_SCHEMES: Final = frozenset({"http", "https"})

# URL parsers drop these before they parse a URL, and white space around it.
_DROPPED: Final = str.maketrans("", "", "\t\n\r")
_AROUND: Final = "".join(map(chr, range(0x21)))

# The parts of a reference (RFC 3986, appendix B).
_REFERENCE = lazy_pattern(
    r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):)?(?://(?P<authority>[^/?#]*))?"
    r"(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?(?:#(?P<fragment>.*))?",
    re.DOTALL,
)

# Octets that are encoded: all but those of RFC 3986, or none but those that end a request line.
_NOT_OF_A_URL = lazy_pattern(rb"[^A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]")
_NOT_SENDABLE = lazy_pattern(rb"[\x00-\x20\x7f]")

_HOST = lazy_pattern(r"[A-Za-z0-9\-._~!$&'()*+,;=%:]+")


def target(location: str, base: URL, *, requote: bool = True) -> URL:
    """Returns the URL that a redirect leads to.

    A relative reference is resolved as RFC 3986, section 5.2, says; the fragment is the one of ``base`` if
    ``location`` has none. A scheme without an authority (``http:path``) is taken for relative, as browsers
    do.

    :param location: the field's value, with octets that are not UTF-8 as surrogates
    :param base: the URL of the request, with its fragment
    :param requote: percent-encode everything that RFC 3986 does not allow in a URL, octets of UTF-8 among
        it; False: only what no request line can carry (``requote_redirect_url`` of a session)
    :raises InvalidUrlRedirectClientError: if it is no URL, or has no host
    :raises NonHttpUrlRedirectClientError: if its scheme is neither http nor https
    """
    text = location.translate(_DROPPED).strip(_AROUND)
    match = _REFERENCE.fullmatch(text)
    assert match is not None, "every part may be empty"
    scheme, authority, path, query, fragment = match.groups()
    if scheme is not None and (scheme := scheme.lower()) not in _SCHEMES:
        raise NonHttpUrlRedirectClientError(location)
    try:
        path = _encoded(path, requote)
        query = None if query is None else _encoded(query, requote)
        fragment = base.raw_fragment if fragment is None else _encoded(fragment, requote).replace("#", "%23")
    except UnicodeEncodeError as error:
        raise _invalid(location) from error
    if authority is not None:
        host = _host(location, scheme or base.scheme, authority)
        scheme, authority = host.scheme, host.raw_authority
        path = _without_dots(path)
    else:
        # Browsers take a backslash for a slash there: it is not for a parser to say where that leads.
        if scheme is not None and (scheme != base.scheme or re.match(r"[/\\]{2}", text[len(scheme) + 1 :])):
            raise InvalidUrlRedirectClientError(location, "Invalid redirect URL origin")
        scheme, authority = base.scheme, base.raw_authority
        if not path:
            path = base.raw_path
            query = base.raw_query_string if query is None else query
        elif path.startswith("/"):
            path = _without_dots(path)
        else:
            path = _without_dots(base.raw_path[: base.raw_path.rfind("/")] + "/" + path)
    try:
        return URL.build(
            scheme=scheme,
            authority=authority,
            path=path,
            query_string=query or "",
            fragment=fragment,
            encoded=True,
        )
    except ValueError as error:
        raise _invalid(location) from error


def _invalid(location: str) -> InvalidUrlRedirectClientError:
    return InvalidUrlRedirectClientError(
        location, "Server attempted redirecting to a location that does not look like a URL"
    )


def _host(location: str, scheme: str, authority: str) -> URL:
    """The URL of an authority, whose host may be an internationalised name."""
    try:
        url = make_url(f"{scheme}://{authority}")
        # The port is parsed when it is asked for.
        _ = url.port
    except ValueError as error:
        raise _invalid(location) from error
    if not url.raw_host:
        raise InvalidUrlRedirectClientError(location, "Invalid redirect URL origin")
    if not _HOST.fullmatch(url.raw_host):
        raise _invalid(location)
    return url


def _encoded(part: str, requote: bool) -> str:
    octets = part.encode("utf-8", "surrogateescape")
    pattern = _NOT_OF_A_URL if requote else _NOT_SENDABLE
    encoded = pattern.sub(lambda match: b"%%%02X" % ord(match[0]), octets)
    if requote or encoded.isascii():
        return encoded.decode("ascii")
    # Octets that are not UTF-8 are encoded in any case: they have no character.
    return "".join(
        f"%{ord(character) - 0xDC00:02X}" if "\udc80" <= character <= "\udcff" else character
        for character in encoded.decode("utf-8", "surrogateescape")
    )


def _without_dots(path: str) -> str:
    """The path without its segments "." and ".." (RFC 3986, section 5.2.4)."""
    if "/." not in path:
        return path
    segments: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            del segments[-1:]
        elif segment != ".":
            segments.append(segment)
    if path.rpartition("/")[2] in (".", ".."):
        segments.append("")
    return "/" + "/".join(segments)
