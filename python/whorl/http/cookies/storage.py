"""Files of cookies: the JSON that aiohttp's jar writes, and the pickles that it wrote before 3.14.

A saved cookie has its deadline rather than its Max-Age, which would begin anew with every load, and says
whether it is for its host alone.
"""

from __future__ import annotations

import json
import os
import pickle
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http.cookies import Morsel, SimpleCookie
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .header import is_as_sent, make_morsel, mark_as_sent

if TYPE_CHECKING:
    from ..typedefs import PathLike

__all__ = ["SavedCookie", "read_cookie_file", "write_cookie_file"]

_ATTRIBUTES: Final = tuple(Morsel._reserved)  # type: ignore[attr-defined]
_RELATIVE: Final = frozenset(("expires", "max-age"))


@dataclass(frozen=True, slots=True)
class SavedCookie:
    """A cookie with its place in a jar. ``deadline`` is in seconds since the epoch, or None."""

    domain: str
    path: str
    name: str
    morsel: Morsel[str]
    host_only: bool = False
    deadline: float | None = None


def write_cookie_file(file_path: PathLike, cookies: Iterable[SavedCookie]) -> None:
    """Writes the cookies as JSON. A new file is for its owner alone, since cookies are credentials."""
    saved: dict[str, dict[str, dict[str, Any]]] = {}
    for cookie in cookies:
        morsel = cookie.morsel
        fields: dict[str, Any] = {
            "key": morsel.key,
            "value": morsel.value,
            "coded_value": morsel.coded_value,
        }
        fields.update(
            (attribute, morsel[attribute])
            for attribute in _ATTRIBUTES
            if attribute not in _RELATIVE and morsel[attribute]
        )
        if is_as_sent(morsel):
            # aiohttp reads no such field, and ignores it.
            fields["as_sent"] = True
        if cookie.host_only:
            fields["host_only"] = True
        if cookie.deadline is not None:
            fields["expires_timestamp"] = cookie.deadline
        saved.setdefault(f"{cookie.domain}|{cookie.path}", {})[cookie.name] = fields
    descriptor = os.open(file_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(saved, file, indent=2)


def read_cookie_file(file_path: PathLike) -> Iterator[SavedCookie]:
    """Reads the cookies of a file.

    Raises :exc:`OSError` if it cannot be read, :exc:`ValueError` or :exc:`TypeError` if its content makes no
    cookies, and :exc:`pickle.UnpicklingError` if it is neither JSON nor a pickle of nothing but cookies.
    """
    content = Path(file_path).read_bytes()
    try:
        saved = json.loads(content)
    except ValueError:
        return _unpickled(content)
    return _decoded(saved, file_path)


def _decoded(saved: Any, file_path: PathLike) -> Iterator[SavedCookie]:
    try:
        for key, cookies in saved.items():
            domain, path = key.split("|", 1)
            for name, fields in cookies.items():
                yield SavedCookie(
                    domain,
                    path,
                    name,
                    _decode_morsel(fields),
                    host_only=bool(fields.get("host_only")),
                    deadline=_decode_deadline(fields, f"Cookie {name!r} in {key!r}"),
                )
    except (AttributeError, KeyError) as error:
        raise ValueError(
            f"{os.fspath(file_path)!r} is not a file that CookieJar.save() has written: {error!r}"
        ) from error


def _decode_morsel(fields: dict[str, Any]) -> Morsel[str]:
    morsel = make_morsel(fields["key"], fields["value"], fields["coded_value"])
    if morsel is None:
        raise ValueError(f"Cookie {fields['key']!r} has control characters")
    for attribute in ("domain", "path"):
        if not isinstance(fields.get(attribute, ""), str):
            raise TypeError(f"Cookie {fields['key']!r}: {attribute} must be a str, not {fields[attribute]!r}")
    for attribute in _ATTRIBUTES:
        if attribute in fields:
            morsel[attribute] = fields[attribute]
    if fields.get("as_sent"):
        mark_as_sent(morsel)
    return morsel


def _decode_deadline(fields: dict[str, Any], cookie: str) -> float | None:
    timestamp = fields.get("expires_timestamp")
    if timestamp is None:
        return None
    try:
        # Of anything but a finite number, the ratio fails.
        deadline = float(timestamp)
        deadline.as_integer_ratio()
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            f"{cookie}: expiration timestamp must be a finite number, not {timestamp!r}"
        ) from error
    return deadline


class _CookieUnpickler(pickle.Unpickler):
    """Makes nothing but cookies and the containers around them: a pickle could otherwise run any code."""

    _CLASSES: Final[dict[tuple[str, str], type]] = {
        ("http.cookies", "SimpleCookie"): SimpleCookie,
        ("http.cookies", "Morsel"): Morsel,
        ("collections", "defaultdict"): defaultdict,
        ("builtins", "dict"): dict,
        ("builtins", "frozenset"): frozenset,
        ("builtins", "set"): set,
        ("builtins", "tuple"): tuple,
    }

    def find_class(self, module_name: str, global_name: str, /) -> type:
        try:
            return self._CLASSES[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"Forbidden class: {module_name}.{global_name}. A file of cookies holds nothing but cookies: "
                "this one could run code of someone else's"
            ) from None


def _unpickled(content: bytes) -> Iterator[SavedCookie]:
    for (domain, path), cookies in _CookieUnpickler(BytesIO(content)).load().items():
        for name, morsel in cookies.items():
            yield SavedCookie(domain, path, name, morsel)
