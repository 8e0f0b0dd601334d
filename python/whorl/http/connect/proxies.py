"""Proxies: which of them are spoken to, and those that the environment names.

The variables are ``http_proxy``, ``https_proxy``, ``ws_proxy``, ``wss_proxy`` and ``no_proxy``, in lower or
in upper case; lower case goes first, and ``HTTP_PROXY`` does not count in a CGI program, where a request may
set it. They are read as curl reads them. What they say is parsed once for each state of them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from yarl import URL

from ..auth.basic import BasicAuth, basicauth_from_netrc, netrc_from_env, strip_auth_from_url
from ..auth.netrc_file import netrc_auth
from ..auth.redaction import redacted_url
from ..environment import FromEnvironment
from ..exceptions import InvalidURL
from ..log import client_logger
from ..urls import host_fault, host_of, make_url

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

    from ..typedefs import StrOrURL

__all__ = [
    "PROXY_VARIABLES",
    "ProxyInfo",
    "checked_proxy",
    "get_env_proxy_for_url",
    "names_no_proxy",
    "proxies_from_env",
    "proxy_from_env",
]

_SCHEMES: Final = ("http", "https", "ws", "wss")
_SPOKEN: Final = frozenset({"http", "https"})


class ProxyInfo(NamedTuple):
    """A proxy, and the credentials for it."""

    proxy: URL
    proxy_auth: BasicAuth | None


def checked_proxy(proxy: StrOrURL) -> URL:
    """Returns the URL of a proxy that a program or the environment names.

    :raises TypeError: if it is neither a text nor a URL
    :raises InvalidURL: if it is no URL, has no host, has a scheme by which no proxy is spoken to, or a user
        or password that cannot be sent
    """
    if "://" not in str(proxy) and isinstance(proxy, str | URL):
        raise InvalidURL(proxy, f"the proxy's URL has no scheme: write http://{redacted_url(proxy)}")
    try:
        url = make_url(proxy, "proxy")
    except ValueError as error:
        raise InvalidURL(proxy, "the proxy's URL cannot be read") from error
    if url.scheme not in _SPOKEN:
        way_out = "a proxy is spoken to by http or https"
        if url.scheme.startswith("socks"):
            way_out = "take a connector that speaks SOCKS, as the package aiohttp-socks has one"
        raise InvalidURL(proxy, f"{url.scheme} proxies are not supported: {way_out}")
    if not url.raw_host:
        raise InvalidURL(proxy, "the proxy's URL has no host")
    if fault := host_fault(url):
        raise InvalidURL(proxy, f"the proxy's URL {fault}")
    try:
        BasicAuth.from_url(url)
    except ValueError as error:
        raise InvalidURL(proxy, "the proxy's URL has a user or a password that cannot be sent") from error
    return url


# The environment.


class NoProxy:
    """The hosts that ``no_proxy`` has: those that are connected to directly.

    Its entries are separated by commas or white space:

    - ``*``: every host
    - ``example.org``, ``.example.org``: the host and those below it
    - ``192.0.2.1``, ``2001:db8::1``, ``[2001:db8::1]``: the address
    - ``192.0.2.0/24``, ``2001:db8::/32``: the addresses of the network
    - with ``:port`` behind it: at this port alone (an IPv6 address in brackets)
    """

    def __init__(self, value: str) -> None:
        self._all = False
        self._names: set[tuple[str, int | None]] = set()
        self._addresses: set[tuple[IPv4Address | IPv6Address, int | None]] = set()
        self._networks: list[IPv4Network | IPv6Network] = []
        for entry in re.split(r"[\s,]+", value.lower()):
            if entry:
                self._add(entry)

    def _add(self, entry: str) -> None:
        if entry == "*":
            self._all = True
        elif "/" in entry:
            from ipaddress import ip_network

            try:
                self._networks.append(ip_network(entry.replace("[", "").replace("]", ""), strict=False))
            except ValueError:
                # No network: it covers none.
                return
        else:
            host, port = _split_port(entry)
            if (address := _address(host)) is not None:
                self._addresses.add((address, port))
            elif name := host.removeprefix("*").strip("."):
                self._names.add((name, port))

    def covers(self, host: str, port: int | None) -> bool:
        """Whether a host is connected to directly."""
        if self._all:
            return True
        host = host.lower().rstrip(".")
        address = _address(host)
        if address is not None:
            if (address, None) in self._addresses or (address, port) in self._addresses:
                return True
            return any(address in network for network in self._networks)
        if not self._names:
            return False
        labels = host.split(".")
        names = (".".join(labels[index:]) for index in range(len(labels)))
        return any((name, None) in self._names or (name, port) in self._names for name in names)


def _split_port(entry: str) -> tuple[str, int | None]:
    if entry.startswith("["):
        host, _, rest = entry[1:].partition("]")
        port = rest.removeprefix(":")
    elif entry.count(":") == 1:
        host, _, port = entry.partition(":")
    else:
        return entry, None
    return host, int(port) if port.isascii() and port.isdigit() else None


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host is, or None if it is a name."""
    if ":" not in host and not host[-1:].isdigit():
        return None
    # Imported for addresses only: few programs name any.
    from ipaddress import IPv6Address, ip_address

    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


class _Environment:
    """What the environment says of proxies."""

    def __init__(self, in_cgi: str | None, *values: str | None) -> None:
        lower, upper, excluded = values[: len(_SCHEMES)], values[len(_SCHEMES) : -2], values[-2:]
        self.proxies: dict[str, ProxyInfo | InvalidURL] = {}
        for scheme, named, shouted in zip(_SCHEMES, lower, upper, strict=True):
            # An empty one stands for none, whatever the other says.
            value = shouted if named is None and not (in_cgi and scheme == "http") else named
            if value:
                self.proxies[scheme] = _proxy(value)
        self.no_proxy = NoProxy(next((value for value in excluded if value is not None), ""))

    def covers(self, url: URL) -> bool:
        """Whether ``no_proxy`` has the host of a URL."""
        # An internationalised name may be written in both forms.
        hosts = {host_of(url), url.raw_host} - {None}
        return any(self.no_proxy.covers(host, url.port) for host in hosts if host is not None)


def _proxy(value: str) -> ProxyInfo | InvalidURL:
    # As curl does; the value is mostly for more programs than this one.
    value = value.strip()
    try:
        return ProxyInfo(*strip_auth_from_url(checked_proxy(value if "://" in value else f"http://{value}")))
    except InvalidURL as error:
        return error


PROXY_VARIABLES: Final = (
    "REQUEST_METHOD",
    *(f"{scheme}_proxy" for scheme in _SCHEMES),
    *(f"{scheme.upper()}_PROXY" for scheme in _SCHEMES),
    "no_proxy",
    "NO_PROXY",
)

_environment = FromEnvironment(PROXY_VARIABLES, _Environment)


def names_no_proxy() -> bool:
    """Whether the environment names a proxy for no URL at all."""
    return not _environment.get().proxies


def proxy_from_env(url: URL) -> ProxyInfo | None:
    """Returns the proxy that the environment names for a URL, or None. Reads nothing from disk.

    The credentials are those in the proxy's URL, or those for its host in the .netrc as it was last read: see
    :mod:`whorl.http.auth.netrc_file`.

    :raises InvalidURL: if the proxy is one that cannot be spoken to
    """
    environment = _environment.get()
    if not environment.proxies:
        return None
    info = environment.proxies.get(url.scheme)
    if info is None or environment.covers(url):
        return None
    if isinstance(info, InvalidURL):
        raise InvalidURL(info.url, f"{info.description} (the environment names it for {url.scheme})")
    if info.proxy_auth is None and (host := host_of(info.proxy)) is not None:
        return ProxyInfo(info.proxy, netrc_auth(host))
    return info


# As in `aiohttp.helpers`.


def proxies_from_env() -> dict[str, ProxyInfo]:
    """Returns the proxies of the environment by the scheme that they are for.

    The credentials are the URL's own, or those in the user's .netrc. Proxies that are not spoken to by http
    are left out, with a warning in the log, as in aiohttp. May read from disk: not for the thread of an event
    loop.
    """
    found = _environment.get().proxies
    return {scheme: info for scheme in found if (info := _with_netrc(found[scheme])) is not None}


def get_env_proxy_for_url(url: URL) -> tuple[URL, BasicAuth | None]:
    """Returns the proxy that the environment names for the URL, and the credentials for it.

    Raises :exc:`LookupError` if there is none, or ``no_proxy`` excludes the host. May read from disk: not for
    the thread of an event loop.
    """
    environment = _environment.get()
    if environment.covers(url):
        raise LookupError(f"Proxying is disallowed for `{host_of(url)!r}`")
    found = environment.proxies.get(url.scheme)
    info = None if found is None else _with_netrc(found)
    if info is None:
        raise LookupError(f"No proxies found for `{redacted_url(url)}` in the env")
    return info.proxy, info.proxy_auth


def _with_netrc(info: ProxyInfo | InvalidURL) -> ProxyInfo | None:
    proxy = info.url if isinstance(info, InvalidURL) else info.proxy
    scheme = str(proxy).partition("://")[0]
    if isinstance(info, InvalidURL) or isinstance(proxy, str) or scheme != "http":
        shown = redacted_url(proxy)
        client_logger.warning("%s proxies %s are not supported, ignoring", scheme.upper(), shown)
        return None
    if info.proxy_auth is not None or proxy.host is None:
        return info
    try:
        return ProxyInfo(proxy, basicauth_from_netrc(netrc_from_env(), proxy.host))
    except LookupError:
        return info
