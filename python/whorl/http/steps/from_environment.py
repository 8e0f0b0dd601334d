"""What the environment says of a request, for sessions that trust it."""

from __future__ import annotations

from collections.abc import Awaitable

from yarl import URL

from ..auth.basic import BasicAuth
from ..auth.netrc_file import netrc_auth, netrc_is_read, read_netrc
from ..connect.proxies import proxy_from_env
from ..urls import host_of


def environment(
    url: URL, wants_proxy: bool
) -> tuple[BasicAuth | None, URL | None, BasicAuth | None] | Awaitable[object]:
    """The credentials for a URL's host in the user's netrc, and its proxy of the environment with the
    credentials for that; or an awaitable for them, where a file has to be read first.

    :raises InvalidURL: if the proxy is one that is not spoken to
    """
    return _look_up(url, wants_proxy) if netrc_is_read() else _look_up_in_file(url, wants_proxy)


async def _look_up_in_file(
    url: URL, wants_proxy: bool
) -> tuple[BasicAuth | None, URL | None, BasicAuth | None]:
    await read_netrc()
    return _look_up(url, wants_proxy)


def _look_up(url: URL, wants_proxy: bool) -> tuple[BasicAuth | None, URL | None, BasicAuth | None]:
    host = host_of(url)
    auth = None if host is None else netrc_auth(host)
    proxy = proxy_from_env(url) if wants_proxy else None
    return (auth, None, None) if proxy is None else (auth, *proxy)
