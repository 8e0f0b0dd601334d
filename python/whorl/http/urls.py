"""URLs from outside: what yarl raises for them, and hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yarl import URL

from .helpers import is_canonical_ipv4_address
from .lazy import lazy_pattern

if TYPE_CHECKING:
    from .typedefs import StrOrURL

__all__ = ["dialled_host", "host_fault", "host_field", "host_of", "make_url", "without_zone"]

# What no host has: characters that end a line or a field, and half a character.
_NOT_OF_A_HOST = lazy_pattern("[\\x00-\\x20\\x7f\\ud800-\\udfff]")

# The last label of a host by which it is an IPv4 address, or none: digits, or 0x with digits.
_NUMBER = lazy_pattern(r"(?:\A|\.)(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?\Z")


def make_url(value: StrOrURL, argument: str = "url") -> URL:
    """Returns the URL of a text.

    :param argument: what an error calls it
    :raises TypeError: if it is neither a text nor a URL
    :raises ValueError: if it is no URL; yarl has other exceptions for some, as for brackets around nothing
    """
    try:
        return URL(value)
    except IndexError as error:
        raise ValueError("Invalid IPv6 URL") from error
    except TypeError as error:
        raise TypeError(f"{argument} must be a str or a yarl.URL, not {type(value).__name__}") from error


def host_of(url: URL) -> str | None:
    """Returns the host of a URL as it is read, or as it is encoded if that cannot be decoded: not every name
    that begins with ``xn--`` is an internationalised one."""
    try:
        return url.host
    except ValueError:
        return url.raw_host


def host_fault(url: URL) -> str | None:
    """Returns why no request can go to the host of a URL, or None if one can.

    A host whose last label is a number is an IPv4 address or none (the URL standard, section 3.5). Its other
    forms, such as ``127.1`` and ``0x7f.1``, get past filters of addresses. A label that is too long for DNS
    is no fault: a resolver of the program's may have it, or a proxy.
    """
    host = url.raw_host
    if not host:
        return "has no host" if url.scheme else "has neither a scheme nor a host"
    if match := _NOT_OF_A_HOST.search(host):
        return f"has a host with {match[0]!r} in it"
    if ":" not in host and (host.startswith(".") or ".." in host.rstrip(".")):
        return "has a host with an empty label: two dots in a row, or one at its beginning"
    if ":" not in host and _NUMBER.search(host) and not is_canonical_ipv4_address(host):
        return "is not a canonical IPv4 address: four decimal numbers up to 255"
    return None


def dialled_host(url: URL) -> str:
    """Returns the host to connect to: as it is encoded in the URL, but for the zone of an IPv6 address.

    RFC 6874 has the zone behind ``%25``, RFC 9844 does away with it; as in curl, both ways are read.
    """
    host = url.raw_host or ""
    return host.replace("%25", "%", 1) if ":" in host else host


def without_zone(host: str) -> str:
    """Returns the host as its peer knows it: a zone is a name of this machine's (RFC 6874, section 3)."""
    return host.partition("%")[0] if ":" in host else host


def host_field(url: URL) -> str | None:
    """Returns the value of the Host field for a URL, or None if it has no host."""
    subcomponent = url.host_port_subcomponent
    if subcomponent is None or "%" not in subcomponent or not subcomponent.startswith("["):
        return subcomponent
    address, _, port = subcomponent.rpartition("]")
    return f"{without_zone(address)}]{port}"
