"""Which hosts and paths a cookie is for (RFC 6265, section 5.1)."""

from __future__ import annotations

from collections.abc import Iterator

from yarl import URL

from ..helpers import is_ip_address

__all__ = ["default_path", "domain_matches", "parent_domains", "path_prefixes"]


def domain_matches(domain: str, hostname: str) -> bool:
    """Whether a cookie of ``domain`` is for ``hostname`` (RFC 6265, section 5.1.3)."""
    if hostname == domain:
        return True
    return hostname.endswith(f".{domain}") and not is_ip_address(hostname)


def parent_domains(hostname: str) -> Iterator[str]:
    """The domains that the host is part of, itself the last: ``com``, ``example.com``,
    ``www.example.com``."""
    labels = hostname.split(".")
    for count in range(1, len(labels) + 1):
        yield ".".join(labels[-count:])


def path_prefixes(path: str) -> list[str]:
    """The paths that this one begins with, without the slash at the end: empty, ``/a``, ``/a/b``."""
    prefixes = [""]
    start = path.find("/") + 1
    while start:
        end = path.find("/", start)
        prefixes.append(path if end < 0 else path[:end])
        start = end + 1
    return prefixes


def default_path(response_url: URL) -> str:
    """The path of a cookie that has none: the response's up to its last slash (RFC 6265, section 5.1.4)."""
    path = response_url.path
    return path[: path.rfind("/")] or "/" if path.startswith("/") else "/"
