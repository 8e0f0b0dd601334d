"""What the environment says of a request, for sessions that trust it."""

from __future__ import annotations

from collections.abc import Awaitable

from yarl import URL

from whorl import _core

from ..auth.basic import BasicAuth
from ..auth.netrc_file import NETRC_VARIABLES, absent_netrc, netrc_auth, netrc_is_read, read_netrc
from ..connect.proxies import PROXY_VARIABLES, names_no_proxy, proxy_from_env
from ..urls import host_of

_VARIABLES = NETRC_VARIABLES + PROXY_VARIABLES


def environment(
    url: URL, wants_proxy: bool
) -> tuple[BasicAuth | None, URL | None, BasicAuth | None] | _core.EnvironmentSnapshot | Awaitable[object]:
    """The credentials for a URL's host in the user's netrc, and its proxy of the environment with the
    credentials for that; or an awaitable for them, where a file has to be read first; or a snapshot of the
    environment, if it says nothing of any URL.

    :raises InvalidURL: if the proxy is one that is not spoken to
    """
    if not netrc_is_read():
        return _look_up_in_file(url, wants_proxy)
    return _silence() or _look_up(url, wants_proxy)


def _silence() -> _core.EnvironmentSnapshot | None:
    """A snapshot of the environment, if there is no netrc and no proxy is named."""
    path = absent_netrc()
    if path is None or not names_no_proxy():
        return None
    snapshot = _core.EnvironmentSnapshot(_VARIABLES, path)
    # Once more: they may have changed on another thread before the snapshot was taken.
    return snapshot if netrc_is_read() and absent_netrc() == path and names_no_proxy() else None


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
