"""The Content-Disposition field: of the parts of a multipart body (RFC 7578) and of responses (RFC 6266)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from urllib.parse import quote, unquote, unquote_to_bytes

from ..exception_type import ExceptionType
from ..lazy import lazy_pattern

__all__ = [
    "TOKEN",
    "BadContentDispositionHeader",
    "BadContentDispositionParam",
    "content_disposition_filename",
    "content_disposition_header",
    "parse_content_disposition",
]


class BadContentDispositionHeader(RuntimeWarning, metaclass=ExceptionType):
    """A field that cannot be read, or not without guessing; its text is the argument."""


class BadContentDispositionParam(RuntimeWarning, metaclass=ExceptionType):
    """A parameter of a field could not be read and was left out; its text is the argument."""


# RFC 9110, section 5.6.2.
TOKEN = lazy_pattern(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

# One parameter, up to the semicolon or the end. A value in quotes is read by the rules (RFC 9110, section
# 5.6.4) if they lead to the end of a parameter; otherwise its end is the first quote that does, as browsers
# have sent names with quotes and backslashes as they are.
_PARAMETER = lazy_pattern(
    r"""
    (?P<name>[^=;]*)=[ \t]*
    (?: "(?P<strict>(?:[^"\\]|\\.)*+)"[ \t]*(?=;|\Z)
      | "(?P<loose>.*?)"[ \t]*(?=;|\Z)
      | (?P<unquoted>[^;]*)
    )
    """,
    re.VERBOSE | re.DOTALL,
)

# One of several parameters that make up one value (RFC 2231, section 3).
_CONTINUED = lazy_pattern(r"[^*]*\*[0-9]+\*?")

_ESCAPED = lazy_pattern(r"\\([\x00-\x7f])")


def parse_content_disposition(header: str | None) -> tuple[str | None, dict[str, str]]:
    """Takes a Content-Disposition field apart: its type, and the parameters by name, both names in lower
    case.

    ``name*`` (RFC 8187) is decoded and stays under that name; for the pieces ``name*0`` and so on call
    :func:`content_disposition_filename`. Slashes and backslashes in front of a quoted value are dropped,
    since it may be taken for the name of a file.

    A field that cannot be read is ``(None, {})``, with a :exc:`BadContentDispositionHeader` warning; a
    parameter that cannot is left out, with a :exc:`BadContentDispositionParam` warning.
    """
    if not header:
        return None, {}
    kind, semicolon, rest = header.partition(";")
    kind = kind.strip()
    params = _parse_parameters(rest, header) if semicolon else {}
    if params is None or not TOKEN.fullmatch(kind):
        warnings.warn(BadContentDispositionHeader(header), stacklevel=2)
        return None, {}
    return kind.lower(), params


def _parse_parameters(text: str, header: str) -> dict[str, str] | None:
    """The parameters in ``text``; None if there is something else in it."""
    params: dict[str, str] = {}
    position = 0
    while True:
        match = _PARAMETER.match(text, position)
        if match is None:
            # No parameter, but a semicolon too many does no harm.
            if text[position : position + 1] not in ("", ";"):
                return None
            warnings.warn(BadContentDispositionHeader(header), stacklevel=3)
            end = position
        else:
            end = match.end()
            name = match["name"].strip().lower()
            if name in params:
                return None
            if not TOKEN.fullmatch(name):
                value = None
            elif _CONTINUED.fullmatch(name):
                value = _quoted(match)
                if value is None and TOKEN.fullmatch(match["unquoted"]):
                    value = match["unquoted"]
            elif name.endswith("*"):
                value = _decode_extended(match["unquoted"] or "")
            else:
                value = _quoted(match, leading="\\/")
                if value is None:
                    if not TOKEN.fullmatch(match["unquoted"]):
                        return None
                    value = match["unquoted"]
            if value is None:
                warnings.warn(BadContentDispositionParam(match[0]), stacklevel=3)
            else:
                params[name] = value
        if end == len(text):
            return params
        position = end + 1


def _quoted(parameter: re.Match[str], leading: str = "") -> str | None:
    """The value if it is in quotes, without its first characters that match ``leading``."""
    text = parameter["strict"] if parameter["loose"] is None else parameter["loose"]
    return None if text is None else _ESCAPED.sub(r"\1", text.lstrip(leading) if leading else text)


def _decode_extended(text: str) -> str | None:
    """Decodes ``charset'language'value`` (RFC 8187); None if it is something else."""
    if not TOKEN.fullmatch(text) or text.count("'") != 2:
        return None
    charset, _, value = text.split("'")
    try:
        return unquote(value, charset or "utf-8", "strict")
    except (LookupError, UnicodeError):
        return None


def content_disposition_filename(params: Mapping[str, str], name: str = "filename") -> str | None:
    """Returns the parameter ``name`` in the best of the forms in which it is there.

    ``name*`` comes before ``name``, and that before the pieces ``name*0``, ``name*1`` and so on. None if
    there is none, or one that cannot be decoded.
    """
    for form in (f"{name}*", name):
        if form in params:
            return params[form]
    return _join_pieces(params, name)


def _join_pieces(params: Mapping[str, str], name: str) -> str | None:
    """Puts the pieces of a value together (RFC 2231, section 3), up to the first that is missing.

    Those whose name ends with a star are percent-encoded, and the first of these names the charset.
    """
    charset = "utf-8"
    pieces: list[bytes] = []
    try:
        while True:
            key = f"{name}*{len(pieces)}"
            if key in params:
                pieces.append(params[key].encode(charset))
            elif f"{key}*" in params:
                text = params[f"{key}*"]
                if not pieces and text.count("'") == 2:
                    named, _, text = text.split("'")
                    charset = named or charset
                pieces.append(unquote_to_bytes(text.encode(charset)))
            else:
                break
        return b"".join(pieces).decode(charset) if pieces else None
    except (LookupError, UnicodeError):
        return None


def content_disposition_header(
    disptype: str, quote_fields: bool = True, _charset: str = "utf-8", **params: str
) -> str:
    """Returns a Content-Disposition field for a part of a multipart body (RFC 2183, RFC 7578 section 4.2).

    With ``quote_fields`` it is ASCII: a ``filename`` is percent-encoded, another value that is not ASCII
    becomes ``name*`` (RFC 8187), both in ``_charset``. Without, values are put in quotes as they are, for
    servers that take 8-bit names.

    Raises :exc:`ValueError` if the type or the name of a parameter is no token.
    """
    if not TOKEN.fullmatch(disptype):
        raise ValueError(
            f"bad content disposition type {disptype!r}: letters, digits and hyphens are allowed"
        )
    fields = [disptype]
    for name, value in params.items():
        if not TOKEN.fullmatch(name):
            raise ValueError(
                f"bad content disposition parameter {name!r}={value!r}:"
                " letters, digits and hyphens are allowed in its name"
            )
        if not quote_fields:
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            fields.append(f'{name}="{escaped}"')
        elif name.lower() == "filename":
            fields.append(f'{name}="{quote(value, "", encoding=_charset)}"')
        elif _QUOTABLE.fullmatch(value):
            fields.append(f'{name}="{_TO_ESCAPE.sub(_BACKSLASHED, value)}"')
        else:
            fields.append(f"{name}*={_charset}''{quote(value, '', encoding=_charset)}")
    return "; ".join(fields)


# The characters of a quoted string in 7 bits, and those that need a backslash (spaces too, as in RFC 822).
_QUOTABLE = lazy_pattern(r"[\t\x20-\x7e]*")
_TO_ESCAPE = lazy_pattern(r'[\t "\\]')
_BACKSLASHED = r"\\\g<0>"
