"""The proxies that the environment names: ``http_proxy``, ``https_proxy``, ``no_proxy`` and their like, as
:mod:`urllib.request` reads them."""

from __future__ import annotations

from typing import NamedTuple

from yarl import URL

from ..auth.basic import BasicAuth, basicauth_from_netrc, netrc_from_env, strip_auth_from_url
from ..log import client_logger
from ..urls import host_of

__all__ = ["ProxyInfo", "get_env_proxy_for_url", "proxies_from_env"]

_SCHEMES = ("http", "https", "ws", "wss")


class ProxyInfo(NamedTuple):
    """A proxy, and the credentials for it."""

    proxy: URL
    proxy_auth: BasicAuth | None


def proxies_from_env() -> dict[str, ProxyInfo]:
    """Returns the proxies of the environment by the scheme that they are for.

    The credentials are the URL's own, or those in the user's .netrc. Proxies that are spoken to over TLS are
    left out, with a warning in the log, as in aiohttp. May read from disk: not for the thread of an event
    loop.
    """
    # Imported only where the environment is read: it imports http.client, email and tempfile.
    from urllib.request import getproxies

    proxies = getproxies()
    return {
        scheme: info
        for scheme in _SCHEMES
        if scheme in proxies and (info := _proxy_info(proxies[scheme])) is not None
    }


def get_env_proxy_for_url(url: URL) -> tuple[URL, BasicAuth | None]:
    """Returns the proxy that the environment names for the URL, and the credentials for it.

    Raises :exc:`LookupError` if there is none, or ``no_proxy`` excludes the host; unlike in aiohttp, an entry
    there may have a port (``localhost:8080``). May read from disk: not for the thread of an event loop.
    """
    from urllib.request import getproxies

    host = host_of(url)
    if host is not None and _is_excluded(host, url.port):
        raise LookupError(f"Proxying is disallowed for `{host!r}`")
    proxy = getproxies().get(url.scheme) if url.scheme in _SCHEMES else None
    info = None if proxy is None else _proxy_info(proxy)
    if info is None:
        raise LookupError(f"No proxies found for `{url}` in the env")
    return info.proxy, info.proxy_auth


def _is_excluded(host: str, port: int | None) -> bool:
    from urllib.request import proxy_bypass

    if proxy_bypass(host):
        return True
    # urllib would take the last group of an IPv6 address for the port.
    return port is not None and ":" not in host and bool(proxy_bypass(f"{host}:{port}"))


def _proxy_info(value: str) -> ProxyInfo | None:
    proxy, auth = strip_auth_from_url(URL(value))
    if proxy.scheme in ("https", "wss"):
        client_logger.warning("%s proxies %s are not supported, ignoring", proxy.scheme.upper(), proxy)
        return None
    if auth is None and proxy.host is not None:
        try:
            auth = basicauth_from_netrc(netrc_from_env(), proxy.host)
        except LookupError:
            pass
    return ProxyInfo(proxy, auth)
