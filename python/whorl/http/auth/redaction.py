"""Representations without credentials: of header fields and URLs, for messages, logs and ``repr()``.

What is shown ends up in logs, in error trackers and in what users paste into issues. The values themselves
stay readable by attribute.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from whorl import _core

if TYPE_CHECKING:
    from yarl import URL

__all__ = ["HIDDEN", "SECRET_FIELDS", "auth_repr", "redacted_headers", "redacted_url", "url_repr"]

HIDDEN: Final = "***"
"""What is shown in place of a credential."""

SECRET_FIELDS: Final = frozenset(_core.SECRET_FIELDS)
"""The names, in lower case, of header fields whose values are credentials."""

# What a parser takes for user and password: all up to the last "@" of the authority (RFC 3986, section 3.2).
_USERINFO: Final = r"\A((?:[A-Za-z][A-Za-z0-9+.-]*:)?//)([^/?#]*)@"
# A text that is no URL, often as its password is not quoted: the end of the password is not known.
_LIKELY_USERINFO: Final = r"(?si)\A((?:[A-Za-z][A-Za-z0-9+.-]*:)?//|(?:https?|wss?|socks\w*):/?)?.*@"


def redacted_headers(headers: object) -> str:
    """Returns the representation of header fields, without the values of :data:`SECRET_FIELDS`.

    :param headers: a mapping or pairs; of anything else, its own representation is returned
    """
    if isinstance(headers, Mapping):
        pairs: list[tuple[Any, Any]] = list(headers.items())
    elif isinstance(headers, list | tuple) and all(isinstance(item, tuple) for item in headers):
        pairs = [item for item in headers if len(item) == 2]
    else:
        return repr(headers)
    if not any(_is_credential(name) for name, _ in pairs):
        return repr(headers)
    shown = [(name, HIDDEN if _is_credential(name) else value) for name, value in pairs]
    return _like(headers, shown)


def _is_credential(name: object) -> bool:
    if isinstance(name, bytes):
        name = name.decode("latin-1")
    return isinstance(name, str) and name.lower() in SECRET_FIELDS


def _like(headers: object, pairs: Iterable[tuple[Any, Any]]) -> str:
    """The representation that ``headers`` would have with other values."""
    from multidict import CIMultiDict, CIMultiDictProxy, MultiDict, MultiDictProxy

    if isinstance(headers, CIMultiDictProxy):
        return repr(CIMultiDictProxy(CIMultiDict(pairs)))
    if isinstance(headers, MultiDictProxy):
        return repr(MultiDictProxy(MultiDict(pairs)))
    if isinstance(headers, CIMultiDict):
        return repr(CIMultiDict(pairs))
    if isinstance(headers, MultiDict):
        return repr(MultiDict(pairs))
    return repr(dict(pairs) if isinstance(headers, Mapping) else list(pairs))


def redacted_url(url: URL | str) -> str:
    """Returns the text of a URL without the password in it. Of a text that cannot be parsed as one, all
    between scheme and "@" is hidden. Octets that are no characters, which servers may send, are shown by
    their numbers."""
    text = str(url).encode("utf-8", "backslashreplace").decode()
    if "@" not in text:
        return text
    if isinstance(url, str) and not _is_url(url):
        return re.sub(_LIKELY_USERINFO, rf"\1{HIDDEN}@", text)
    return re.sub(_USERINFO, _without_password, text)


def _without_password(match: re.Match[str]) -> str:
    user, colon, _ = match[2].partition(":")
    return f"{match[1]}{user}:{HIDDEN}@" if colon else match[0]


def _is_url(text: str) -> bool:
    from ..urls import make_url

    try:
        return make_url(text).raw_host is not None
    except ValueError:
        return False


def auth_repr(auth: object) -> str:
    """Returns the representation of a :class:`BasicAuth`, or another library's class of that name, without
    the password; of anything else, its own."""
    if not isinstance(auth, tuple) or len(auth) != 3:
        return repr(auth)
    login, password, encoding = auth
    shown = HIDDEN if password else ""
    return f"{type(auth).__name__}(login={login!r}, password={shown!r}, encoding={encoding!r})"


def url_repr(url: object) -> str:
    """Returns the representation of a :class:`yarl.URL` without its password; of anything else, its own."""
    from yarl import URL

    if isinstance(url, URL):
        return repr(url) if url.raw_password is None else f"URL({redacted_url(url)!r})"
    return repr(url)
