"""The cookies of a session (RFC 6265).

A cookie is known by its domain, its path and its name. The morsels are kept by domain and path, as the
``cookies`` view shows them; a record for each morsel has the jar's other data. A request looks up the domains
that its host is part of and the paths that its own begins with, from the widest to the
narrowest, so that of two cookies with the same name the narrower one is sent.

The jar is bounded as Firefox's is: a domain that has 180 cookies is brought down to 150 for a new one, a jar
with 3300 down to 3000. Expired cookies go first, then the least recently used; secure cookies are evicted for
secure ones only.
"""

from __future__ import annotations

import asyncio
import heapq
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from http.cookies import BaseCookie, Morsel, SimpleCookie
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from yarl import URL

from ..abc import AbstractCookieJar, ClearCookiePredicate
from ..arguments import check_cookies
from ..helpers import is_ip_address
from ..log import internal_logger
from .header import (
    build_cookie_header,
    cookie_pairs,
    encoded_length,
    is_as_sent,
    is_sendable,
    make_morsel,
    parse_cookie_date,
    parse_set_cookie_headers,
    preserve_morsel_with_coded_value,
)
from .matching import default_path, domain_matches, parent_domains, path_prefixes

if TYPE_CHECKING:
    from ..typedefs import LooseCookies, PathLike, StrOrURL

__all__ = ["CookieJar", "DummyCookieJar", "filter_request_cookies"]

# How many cookies a domain or the jar may have, and how many it is left with when there is one too many.
_MAX_COOKIES_PER_DOMAIN = 180
_COOKIE_QUOTA_PER_DOMAIN = 150
_MAX_COOKIES_TOTAL = 3300
_COOKIE_QUOTA_TOTAL = 3000

# The limit of a request's Cookie field: servers refuse longer ones.
_MAX_COOKIES_PER_REQUEST = 150
_MAX_COOKIE_HEADER_LENGTH = 8190
_COOKIE_HEADER_PREFIX_LENGTH = len("Cookie: ")

# The heap of deadlines keeps those of cookies that are gone or have another one by now; from this size on it
# is cleaned up when they are the greater part.
_MIN_SCHEDULED_COOKIE_EXPIRATION = 100

# For how many different targets the jar caches the cookies it has sent.
_MAX_SELECTIONS = 64

_NOWHERE = URL()
_CODING: Final[BaseCookie[str]] = SimpleCookie()

_UNPREPARED: Final[Morsel[str]] = Morsel()

_Place = tuple[str, str]
"""Domain and path. The domain of cookies for every host is empty, and the path has no slash at its end."""

_Key = tuple[str, str, str]
"""Domain, path and name: the key of a cookie."""


class _Record:
    """The jar's data of a cookie, in addition to its morsel."""

    __slots__ = ("host_only", "last_used", "prepared", "prepared_length")

    def __init__(self) -> None:
        self.host_only = False
        # Of two numbers, the greater is the later: it counts uses.
        self.last_used = 0
        # As it is sent, and its octets in the Cookie field; made when it is first sent.
        self.prepared = _UNPREPARED
        self.prepared_length = 0


class _Selection:
    """The cookies that a request to some target sends."""

    __slots__ = ("field", "records")

    def __init__(self, records: dict[str, _Record]) -> None:
        # By name, the narrowest last.
        self.records = records
        # The value of the Cookie field; made when it is first sent as such.
        self.field: str | None = None


def _origins(urls: StrOrURL | Iterable[StrOrURL] | None) -> frozenset[URL]:
    if urls is None:
        return frozenset()
    return frozenset(URL(url).origin() for url in ((urls,) if isinstance(urls, (str, URL)) else urls))


class CookieJar(AbstractCookieJar):
    """Keeps cookies, and sends them where they belong.

    :param unsafe: whether hosts that are IP addresses may set cookies.
    :param quote_cookie: whether values with special characters that a program gives are sent in quotes, as in
        aiohttp, and those of servers octet for octet as they came (RFC 6265, section 5.4). Otherwise all are
        sent without the quotes that they came in.
    :param treat_as_secure_origin: origins that get Secure cookies over cleartext connections too, for tests.
    :param loop: of no use; for compatibility.
    """

    MAX_TIME: Final = 253_402_300_799
    """The latest deadline, the end of the year 9999, in seconds since the epoch."""

    # Whether the jar keeps this module's limits.
    _limits_enabled = True

    _is_domain_match = staticmethod(domain_matches)
    _parse_date = staticmethod(parse_cookie_date)

    def __init__(
        self,
        *,
        unsafe: bool = False,
        quote_cookie: bool = True,
        treat_as_secure_origin: StrOrURL | Iterable[StrOrURL] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(loop=loop)
        self._unsafe = unsafe
        self._quote_cookie = quote_cookie
        self._treat_as_secure_origin = _origins(treat_as_secure_origin)
        self._cookies: dict[_Place, SimpleCookie] = {}
        self._records: dict[_Key, _Record] = {}
        self._domain_counts: dict[str, int] = {}
        # Only cookies with a deadline are here. An entry of the heap counts if its deadline is still the
        # cookie's.
        self._expirations: dict[_Key, float] = {}
        self._expire_heap: list[tuple[float, _Key]] = []
        self._uses = 0
        # The cookies sent to a scheme, authority and path, until any cookie changes.
        self._selections: dict[tuple[str, str, str], _Selection] = {}

    @property
    def unsafe(self) -> bool:
        """Whether hosts that are IP addresses may set cookies."""
        return self._unsafe

    @property
    def quote_cookie(self) -> bool:
        """Whether values with special characters that a program gives are sent in quotes, and those of
        servers as they came."""
        return self._quote_cookie

    @property
    def treat_as_secure_origin(self) -> frozenset[URL]:
        """The origins that get Secure cookies over cleartext connections too."""
        return self._treat_as_secure_origin

    @property
    def cookies(self) -> MappingProxyType[tuple[str, str], SimpleCookie]:
        """The cookies by their domain and path: a live view, with those that have expired but were not yet
        removed."""
        return MappingProxyType(self._cookies)

    @property
    def host_only_cookies(self) -> frozenset[tuple[str, str, str]]:
        """Domain, path and name of the cookies that were set without a domain, and go to their host alone."""
        return frozenset(key for key, record in self._records.items() if record.host_only)

    def __iter__(self) -> Iterator[Morsel[str]]:
        self._do_expiration()
        for cookies in self._cookies.values():
            yield from cookies.values()

    def __len__(self) -> int:
        # Expired ones count: the session checks this before every request.
        return len(self._records)

    # Files.

    def save(self, file_path: PathLike) -> None:
        """Writes the cookies to a file, as JSON; a new file is readable by its owner alone."""
        # Imported only for files: it imports pickle.
        from .storage import SavedCookie, write_cookie_file

        write_cookie_file(
            file_path,
            [
                SavedCookie(
                    domain, path, name, morsel, self._records[key].host_only, self._expirations.get(key)
                )
                for (domain, path), cookies in self._cookies.items()
                for name, morsel in cookies.items()
                for key in ((domain, path, name),)
            ],
        )

    def load(self, file_path: PathLike) -> None:
        """Replaces the cookies by those of a file, which are checked as if they had just come.

        Takes the pickles of older versions of aiohttp too, as far as there are nothing but cookies in them. A
        file that is malformed raises, as :func:`read_cookie_file` says, and leaves the jar as it was.
        """
        from .storage import read_cookie_file

        loaded = CookieJar(
            unsafe=self._unsafe,
            quote_cookie=self._quote_cookie,
            treat_as_secure_origin=self._treat_as_secure_origin,
            loop=self._loop,
        )
        for saved in read_cookie_file(file_path):
            if saved.host_only:
                saved.morsel["domain"] = ""
            url = URL.build(scheme="https", host=saved.domain) if saved.domain else _NOWHERE
            loaded._update_cookies([(saved.name, saved.morsel)], url, deadline=saved.deadline)
        # The same dictionaries, for the views that there are of them.
        self._cookies.clear()
        self._cookies.update(loaded._cookies)
        self._records.clear()
        self._records.update(loaded._records)
        self._domain_counts = loaded._domain_counts
        self._expirations = loaded._expirations
        self._expire_heap = loaded._expire_heap
        self._uses = loaded._uses
        self._selections.clear()

    # Removing.

    def clear(self, predicate: ClearCookiePredicate | None = None) -> None:
        """Removes all cookies, or those that have expired and those for which ``predicate`` is true."""
        if predicate is None:
            self._cookies.clear()
            self._records.clear()
            self._domain_counts.clear()
            self._expirations.clear()
            self._expire_heap.clear()
            self._selections.clear()
            return
        self._do_expiration()
        self._delete_cookies(
            [
                (domain, path, name)
                for (domain, path), cookies in self._cookies.items()
                for name, morsel in cookies.items()
                if predicate(morsel)
            ]
        )

    def clear_domain(self, domain: str) -> None:
        """Removes the cookies of ``domain`` and its subdomains."""
        self.clear(lambda morsel: domain_matches(domain, morsel["domain"]))

    def _delete_cookies(self, keys: Iterable[_Key]) -> None:
        for key in keys:
            if self._records.pop(key, None) is None:
                continue
            domain, path, name = key
            cookies = self._cookies[domain, path]
            del cookies[name]
            if not cookies:
                del self._cookies[domain, path]
            self._domain_counts[domain] -= 1
            if not self._domain_counts[domain]:
                del self._domain_counts[domain]
            self._expirations.pop(key, None)
            self._selections.clear()

    def _do_expiration(self) -> None:
        """Removes the cookies whose deadline has passed."""
        heap = self._expire_heap
        if not heap:
            return
        current = self._expirations
        if len(heap) > max(_MIN_SCHEDULED_COOKIE_EXPIRATION, 2 * len(current)):
            heap[:] = [entry for entry in heap if current.get(entry[1]) == entry[0]]
            heapq.heapify(heap)
        now = time.time()
        expired: list[_Key] = []
        while heap and heap[0][0] <= now:
            deadline, key = heapq.heappop(heap)
            if current.get(key) == deadline:
                expired.append(key)
        if expired:
            self._delete_cookies(expired)

    # Storing.

    def update_cookies(self, cookies: LooseCookies, response_url: URL = _NOWHERE) -> None:
        """Stores cookies as if the response from ``response_url`` had set them.

        Without a URL, those that have no domain are sent to every host. Cookies for a domain that the host is
        not part of are refused, those of an IP address unless the jar is ``unsafe``, and those that no Cookie
        field could carry.
        """
        self._update_cookies(cookies, response_url, copy=True)

    def update_cookies_from_headers(self, headers: Sequence[str], response_url: URL) -> None:
        """Stores the cookies of a response's Set-Cookie fields."""
        if not self._unsafe and is_ip_address(response_url.raw_host):
            return
        if headers and (cookies := parse_set_cookie_headers(headers)):
            self._update_cookies(cookies, response_url)

    def _update_cookies(
        self,
        cookies: LooseCookies,
        response_url: URL,
        *,
        copy: bool = False,
        deadline: float | None = None,
    ) -> None:
        pairs = check_cookies(cookies)
        hostname = response_url.raw_host
        if not self._unsafe and is_ip_address(hostname):
            return
        for name, cookie in pairs:
            if not isinstance(cookie, Morsel):
                coded: SimpleCookie = SimpleCookie()
                coded[name] = cookie
                morsel = coded[name]
            else:
                morsel = cookie.copy() if copy else cookie
            self._store(name, morsel, hostname, response_url, deadline)
        self._do_expiration()

    def _store(
        self, name: str, morsel: Morsel[str], hostname: str | None, response_url: URL, deadline: float | None
    ) -> None:
        # The steps of RFC 6265, section 5.3. A domain with a dot at its end counts as none.
        domain = morsel["domain"]
        if domain.endswith("."):
            domain = ""
        domain = domain.removeprefix(".")
        if domain and hostname and not domain_matches(domain, hostname):
            return
        host_only = not domain and hostname is not None
        if host_only:
            assert hostname is not None
            domain = hostname
        morsel["domain"] = domain
        if not morsel["path"].startswith("/"):
            morsel["path"] = default_path(response_url)
        path = morsel["path"].rstrip("/")
        if deadline is None:
            deadline = self._deadline(morsel)
        if self._limits_enabled and not is_sendable(morsel):
            internal_logger.debug("Dropped cookie %r for %s: no Cookie field can carry it", name, domain)
            return

        key = (domain, path, name)
        record = self._records.get(key)
        if record is None:
            if not self._has_room(domain, morsel, deadline):
                internal_logger.debug("Dropped cookie %r for %s: it is full of secure cookies", name, domain)
                return
            record = self._records[key] = _Record()
            self._domain_counts[domain] = self._domain_counts.get(domain, 0) + 1
            record.host_only = host_only
        cookies = self._cookies.setdefault((domain, path), SimpleCookie())
        known = cookies.get(name)
        if (
            known is None
            or known != morsel
            or is_as_sent(known) != is_as_sent(morsel)
            or record.host_only != host_only
        ):
            dict.__setitem__(cookies, name, morsel)
            record.prepared = _UNPREPARED
            record.host_only = host_only
            self._selections.clear()
        self._uses += 1
        record.last_used = self._uses
        self._schedule(key, deadline)

    def _deadline(self, morsel: Morsel[str]) -> float | None:
        """When the cookie expires by its Max-Age, or else by its Expires. Invalid values are removed."""
        if max_age := morsel["max-age"]:
            try:
                seconds = int(max_age)
            except ValueError:
                morsel["max-age"] = ""
                return None
            return 0.0 if seconds <= 0 else min(time.time() + min(seconds, self.MAX_TIME), self.MAX_TIME)
        if expires := morsel["expires"]:
            # Unlike in aiohttp, a cookie that expires with the epoch itself is one that has expired.
            if (date := parse_cookie_date(expires)) is not None:
                return date
            morsel["expires"] = ""
        return None

    def _schedule(self, key: _Key, deadline: float | None) -> None:
        if deadline is None:
            self._expirations.pop(key, None)
        elif self._expirations.get(key) != deadline:
            self._expirations[key] = deadline
            heapq.heappush(self._expire_heap, (deadline, key))

    # Limits.

    def _has_room(self, domain: str, morsel: Morsel[str], deadline: float | None) -> bool:
        """Whether a new cookie can be stored, if need be in the place of others."""
        if not self._limits_enabled:
            return True
        domain_full = self._domain_counts.get(domain, 0) >= _MAX_COOKIES_PER_DOMAIN
        if not domain_full and len(self._records) < _MAX_COOKIES_TOTAL:
            return True
        if deadline is not None and deadline <= time.time():
            # It is gone in a moment, and should not take others with it.
            return True
        self._do_expiration()
        if domain_full:
            return self._make_room_in_domain(domain, bool(morsel["secure"]))
        self._evict(
            list(self._records),
            len(self._records) - _COOKIE_QUOTA_TOTAL,
            f"over the {_MAX_COOKIES_TOTAL}-cookie total limit",
        )
        return True

    def _make_room_in_domain(self, domain: str, secure: bool) -> bool:
        count = self._domain_counts.get(domain, 0)
        excess = count + 1 - _COOKIE_QUOTA_PER_DOMAIN
        if excess <= 0:
            return True
        reason = f"for {domain} over the {_MAX_COOKIES_PER_DOMAIN}-cookie domain limit"
        insecure: list[_Key] = []
        protected: list[_Key] = []
        for place, cookies in self._cookies.items():
            if place[0] == domain:
                for name, morsel in cookies.items():
                    (protected if morsel["secure"] else insecure).append((*place, name))
        if insecure:
            self._evict(insecure, excess, reason)
        elif count >= _MAX_COOKIES_PER_DOMAIN:
            if not secure:
                return False
            self._evict(protected, excess, reason)
        return True

    def _evict(self, keys: list[_Key], count: int, reason: str) -> None:
        """Removes the ``count`` cookies of ``keys`` that were not used for longest."""
        if count <= 0:
            return
        keys.sort(key=lambda key: self._records[key].last_used)
        self._delete_cookies(keys[:count])
        internal_logger.debug("Evicted %d cookie(s) %s", min(count, len(keys)), reason)

    # Sending.

    def filter_cookies(self, request_url: URL = _NOWHERE) -> BaseCookie[str]:
        """Returns the cookies that a request for ``request_url`` sends, the narrowest last.

        Where there are more than 150, or more than fit into a Cookie field of 8190 octets, the narrowest are
        chosen. A URL that is a string is deprecated.
        """
        filtered: BaseCookie[str] = BaseCookie()
        if self._records:
            self._do_expiration()
        if not self._records:
            return filtered
        if type(request_url) is not URL:
            warnings.warn(
                f"filter_cookies expects yarl.URL instances only, got {type(request_url)}: make it a URL",
                DeprecationWarning,
                stacklevel=2,
            )
            request_url = URL(request_url)
        for name, record in self._use(request_url).records.items():
            # Not by BaseCookie's own __setitem__: this is the same morsel, made faster.
            dict.__setitem__(filtered, name, record.prepared)
        return filtered

    def _field_for(self, url: URL) -> str:
        """The value of the Cookie field for what :meth:`filter_cookies` returns; empty if that is."""
        if getattr(self.filter_cookies, "__func__", None) is not _FILTER_COOKIES:
            # A tool has put its own there.
            return build_cookie_header(self.filter_cookies(url))
        self._do_expiration()
        selection = self._use(url)
        if selection.field is None:
            prepared: BaseCookie[str] = BaseCookie()
            for name, record in selection.records.items():
                dict.__setitem__(prepared, name, record.prepared)
            selection.field = cookie_pairs(prepared)
        return selection.field

    def _use(self, url: URL) -> _Selection:
        """The cookies for ``url``; the call counts as a use."""
        target = (url.scheme, url.raw_authority, url.path)
        selection = self._selections.get(target)
        if selection is None:
            selected = self._select(url)
            if self._limits_enabled:
                selected = self._within_limits(selected, url)
            if len(self._selections) >= _MAX_SELECTIONS:
                self._selections.clear()
            selection = self._selections[target] = _Selection(selected)
        self._uses += 1
        for record in selection.records.values():
            record.last_used = self._uses
        return selection

    def _select(self, url: URL) -> dict[str, _Record]:
        hostname = url.raw_host or ""
        secure = self._is_secure(url)
        path = url.path
        prefixes = path_prefixes(path)
        domains = [""]
        if not is_ip_address(hostname):
            domains += parent_domains(hostname) if hostname else ()
        elif self._unsafe:
            domains.append(hostname)

        selected: dict[str, _Record] = {}
        for domain in domains:
            if domain not in self._domain_counts:
                continue
            for prefix in prefixes:
                cookies = self._cookies.get((domain, prefix))
                if cookies is None:
                    continue
                for name, morsel in cookies.items():
                    record = self._records[domain, prefix, name]
                    if (
                        (record.host_only and domain != hostname)
                        or (morsel["secure"] and not secure)
                        # A cookie for /a/ is not for /a.
                        or (prefix and len(morsel["path"]) > len(path))
                    ):
                        continue
                    if record.prepared is _UNPREPARED:
                        self._prepare(record, morsel)
                    # Removed first: the narrower one comes later in the field.
                    selected.pop(name, None)
                    selected[name] = record
        return selected

    def _is_secure(self, url: URL) -> bool:
        if url.scheme in ("https", "wss"):
            return True
        if not self._treat_as_secure_origin:
            return False
        try:
            return url.origin() in self._treat_as_secure_origin
        except ValueError:
            return False

    def _prepare(self, record: _Record, morsel: Morsel[str]) -> None:
        """Returns the cookie as it is sent."""
        if self._quote_cookie and (is_as_sent(morsel) or morsel.coded_value[:1] == '"'):
            prepared = preserve_morsel_with_coded_value(morsel)
        else:
            value, coded_value = morsel.value, morsel.value
            if self._quote_cookie:
                value, coded_value = _CODING.value_encode(morsel.value)
            made = make_morsel(morsel.key, value, coded_value)
            prepared = morsel if made is None else made
        record.prepared = prepared
        record.prepared_length = encoded_length(f"{prepared.key}={prepared.coded_value}") or 0

    def _within_limits(self, selected: dict[str, _Record], url: URL) -> dict[str, _Record]:
        # A separator of two octets before each but the first.
        length = _COOKIE_HEADER_PREFIX_LENGTH - 2
        total = length + sum(record.prepared_length + 2 for record in selected.values())
        if len(selected) <= _MAX_COOKIES_PER_REQUEST and total <= _MAX_COOKIE_HEADER_LENGTH:
            return selected
        admitted: list[str] = []
        for name, record in reversed(selected.items()):
            if len(admitted) == _MAX_COOKIES_PER_REQUEST:
                break
            if length + record.prepared_length + 2 <= _MAX_COOKIE_HEADER_LENGTH:
                length += record.prepared_length + 2
                admitted.append(name)
        internal_logger.debug(
            "Omitted %d cookie(s) for %s over the %d-cookie or %d-octet Cookie header limit",
            len(selected) - len(admitted),
            url.raw_host,
            _MAX_COOKIES_PER_REQUEST,
            _MAX_COOKIE_HEADER_LENGTH,
        )
        return {name: selected[name] for name in reversed(admitted)}


class _UnlimitedCookieJar(CookieJar):
    """Holds the cookies that a caller gave to one request: no server's, so without limits."""

    _limits_enabled = False


def filter_request_cookies(
    cookies: LooseCookies,
    request_url: URL,
    *,
    quote_cookie: bool = True,
    treat_as_secure_origin: frozenset[URL] = frozenset(),
) -> BaseCookie[str]:
    """Returns those of the ``cookies`` given to one request that a request for ``request_url`` sends: all of
    them, but for morsels with a domain or a path that is not the URL's."""
    jar = _UnlimitedCookieJar(quote_cookie=quote_cookie, treat_as_secure_origin=treat_as_secure_origin)
    jar.update_cookies(cookies)
    return jar.filter_cookies(request_url)


_FILTER_COOKIES: Final = CookieJar.filter_cookies


class DummyCookieJar(AbstractCookieJar):
    """A jar that keeps nothing, for sessions without cookies."""

    def __iter__(self) -> Iterator[Morsel[str]]:
        return iter(())

    def __len__(self) -> int:
        return 0

    @property
    def unsafe(self) -> bool:
        """False."""
        return False

    @property
    def quote_cookie(self) -> bool:
        """True: for the cookies that a request is given."""
        return True

    @property
    def cookies(self) -> MappingProxyType[tuple[str, str], SimpleCookie]:
        """Nothing."""
        return MappingProxyType({})

    @property
    def host_only_cookies(self) -> frozenset[tuple[str, str, str]]:
        """Nothing."""
        return frozenset()

    def clear(self, predicate: ClearCookiePredicate | None = None) -> None:
        """Does nothing."""

    def clear_domain(self, domain: str) -> None:
        """Does nothing."""

    def update_cookies(self, cookies: LooseCookies, response_url: URL = _NOWHERE) -> None:
        """Does nothing."""

    def update_cookies_from_headers(self, headers: Sequence[str], response_url: URL) -> None:
        """Does nothing: the fields are not even parsed."""

    def filter_cookies(self, request_url: URL) -> BaseCookie[str]:
        """Returns no cookies."""
        return SimpleCookie()
