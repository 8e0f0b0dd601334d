"""URLs from outside: what yarl raises for them, and hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yarl import URL

if TYPE_CHECKING:
    from .typedefs import StrOrURL

__all__ = ["host_of", "make_url"]


def make_url(value: StrOrURL) -> URL:
    """Returns the URL of a text.

    :raises ValueError: if it is none; yarl has other exceptions for some, as for brackets around nothing
    """
    try:
        return URL(value)
    except IndexError as error:
        raise ValueError("Invalid IPv6 URL") from error


def host_of(url: URL) -> str | None:
    """Returns the host of a URL as it is read, or as it is encoded if that cannot be decoded: not every name
    that begins with ``xn--`` is an internationalised one."""
    try:
        return url.host
    except ValueError:
        return url.raw_host
