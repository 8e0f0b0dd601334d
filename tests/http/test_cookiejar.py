"""The cookie jar: which cookies it takes, for how long, and which request gets them."""

from __future__ import annotations

import json
import pickle
import random
import re
import stat
from collections.abc import Callable
from http.cookies import Morsel, SimpleCookie
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from tests.http.raw_support import RawServer, keeping_alive, raw_response
from whorl import http
from whorl.http.cookies import jar as cookiejar
from whorl.http.cookies.jar import CookieJar, DummyCookieJar, filter_request_cookies

SITE = URL("https://www.example.com/a/b")


class Clock:
    """The time of day that the jar sees."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(cookiejar, "time", clock)
    return clock


def jar_of(*fields: str, url: URL = SITE, **options: bool) -> CookieJar:
    jar = CookieJar(**options)
    jar.update_cookies_from_headers(fields, url)
    return jar


def sent(jar: CookieJar, url: URL | str) -> dict[str, str]:
    return {name: morsel.coded_value for name, morsel in jar.filter_cookies(URL(url)).items()}


@pytest.mark.parametrize(
    ("field", "url", "goes"),
    [
        ("a=1", "https://www.example.com/a/", True),
        ("a=1", "https://www.example.com/", False),  # the default path is /a
        ("a=1; Path=/", "https://www.example.com/", True),
        ("a=1; Path=/", "https://sub.www.example.com/", False),  # for its host alone
        ("a=1; Path=/", "https://example.com/", False),
        ("a=1; Path=/; Domain=example.com", "https://example.com/", True),
        ("a=1; Path=/; Domain=.example.com", "https://x.y.example.com/", True),
        ("a=1; Path=/; Domain=example.com", "https://notexample.com/", False),
        ("a=1; Path=/; Domain=example.com.", "https://example.com/", False),
        ("a=1; Path=/; Secure", "http://www.example.com/", False),
        ("a=1; Path=/; Secure", "wss://www.example.com/", True),
        ("a=1; Path=/a", "https://www.example.com/a", True),
        ("a=1; Path=/a", "https://www.example.com/a/b", True),
        ("a=1; Path=/a", "https://www.example.com/ab", False),
        ("a=1; Path=/a/", "https://www.example.com/a", False),
        ("a=1; Path=/a/", "https://www.example.com/a/x", True),
        ("a=1; Path=relative", "https://www.example.com/a/b", True),
        ("a=1; Path=/; Max-Age=0", "https://www.example.com/", False),
        ("a=1; Path=/; Max-Age=-1", "https://www.example.com/", False),
        ("a=1; Path=/; Max-Age=soon", "https://www.example.com/", True),
        ("a=1; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "https://www.example.com/", False),
        ("a=1; Path=/; Expires=never", "https://www.example.com/", True),
        ("a=1; Path=/; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "https://www.example.com/", True),
    ],
)
def test_where_a_cookie_of_a_response_goes(field: str, url: str, goes: bool) -> None:
    assert ("a" in sent(jar_of(field), url)) is goes


@pytest.mark.parametrize(
    "domain", ["other.com", "sub.www.example.com", "ww.example.com", "www.example.com.evil"]
)
def test_a_cookie_for_a_domain_that_the_host_is_not_part_of_is_refused(domain: str) -> None:
    assert not jar_of(f"a=1; Domain={domain}")


def test_of_two_cookies_the_narrower_is_sent() -> None:
    jar = jar_of("a=wide; Path=/; Domain=example.com", "a=site; Path=/", "b=1; Path=/", "a=path; Path=/a")
    assert sent(jar, "https://www.example.com/") == {"a": "site", "b": "1"}
    assert list(sent(jar, "https://www.example.com/a").items()) == [("b", "1"), ("a", "path")]
    assert len(jar) == 4


def test_hosts_that_are_addresses() -> None:
    url = URL("http://127.0.0.1:8080/")
    assert not jar_of("a=1", url=url)
    jar = jar_of("a=1", url=url, unsafe=True)
    assert sent(jar, url) == {"a": "1"}
    assert sent(jar, "http://1.127.0.0.1/") == {}
    ipv6 = jar_of("a=1", url=URL("http://[::1]/"), unsafe=True)
    assert sent(ipv6, "http://[::1]/") == {"a": "1"}


def test_internationalised_hosts() -> None:
    jar = jar_of("a=1", url=URL("http://bücher.example/"))
    assert sent(jar, "http://xn--bcher-kva.example/") == {"a": "1"}


def test_origins_that_count_as_secure() -> None:
    jar = CookieJar(treat_as_secure_origin=["http://www.example.com:8080/x"])
    jar.update_cookies_from_headers(["a=1; Path=/; Secure"], SITE)
    assert sent(jar, "http://www.example.com:8080/") == {"a": "1"}
    assert sent(jar, "http://www.example.com/") == {}


def test_cookies_without_a_url_are_for_every_host() -> None:
    jar = CookieJar()
    jar.update_cookies({"a": "1"})
    assert sent(jar, "http://x.example/") == sent(jar, "http://192.0.2.1/") == {"a": "1"}
    assert jar.host_only_cookies == frozenset()


@pytest.mark.parametrize(
    "cookies",
    [{"a": "1"}, [("a", "1")], SimpleCookie({"a": "1"}), {"a": SimpleCookie({"a": "1"})["a"]}],
    ids=["mapping", "pairs", "SimpleCookie", "morsel"],
)
def test_what_cookies_may_be_given_as(cookies: dict[str, str]) -> None:
    jar = CookieJar()
    jar.update_cookies(cookies, SITE)
    assert sent(jar, SITE) == {"a": "1"}


def test_a_morsel_of_the_callers_stays_as_it_is() -> None:
    cookies = SimpleCookie("a=1; Domain=.example.com")
    before = dict(cookies["a"])
    CookieJar().update_cookies(cookies, SITE)
    assert dict(cookies["a"]) == before


@pytest.mark.parametrize(
    ("quote", "coded", "plain"), [(True, '"as sent"', '"x y"'), (False, "as sent", "x y")]
)
def test_quotes(quote: bool, coded: str, plain: str) -> None:
    jar = jar_of('a="as sent"; Path=/', quote_cookie=quote)
    jar.update_cookies({"b": "x y"}, SITE)
    assert sent(jar, SITE) == {"a": coded, "b": plain}


# Time.


def test_cookies_expire(clock: Clock) -> None:
    jar = jar_of("a=1; Max-Age=10", "b=2; Max-Age=20", "c=3")
    assert sent(jar, SITE) == {"a": "1", "b": "2", "c": "3"}
    clock.now += 10
    assert sent(jar, SITE) == {"b": "2", "c": "3"}
    clock.now += 10
    assert [morsel.key for morsel in jar] == ["c"]
    assert len(jar) == 1


def test_a_cookie_that_is_set_again_has_its_new_deadline(clock: Clock) -> None:
    jar = jar_of("a=1; Max-Age=10", "b=1; Max-Age=10")
    jar.update_cookies_from_headers(["a=2; Max-Age=100", "b=2"], SITE)
    clock.now += 50
    assert sent(jar, SITE) == {"a": "2", "b": "2"}
    jar.update_cookies_from_headers(["a=; Max-Age=0"], SITE)
    assert sent(jar, SITE) == {"b": "2"}


def test_deadlines_of_cookies_that_are_refreshed_do_not_pile_up(clock: Clock) -> None:
    jar = CookieJar()
    for _ in range(1000):
        clock.now += 1
        jar.update_cookies_from_headers(["a=1; Max-Age=5000"], SITE)
    assert len(jar._expire_heap) <= 101


def test_the_farthest_deadline_is_bounded(clock: Clock) -> None:
    jar = jar_of(f"a=1; Max-Age={10**400}")
    clock.now = CookieJar.MAX_TIME - 1
    assert sent(jar, SITE) == {"a": "1"}
    clock.now += 1
    assert sent(jar, SITE) == {}


# What is sent follows every change: it is remembered.


@pytest.mark.parametrize(
    ("change", "after"),
    [
        (lambda jar: jar.update_cookies({"a": "2"}, SITE), {"a": "2", "b": "1"}),
        (lambda jar: jar.update_cookies({"c": "3"}, SITE), {"a": "1", "b": "1", "c": "3"}),
        (lambda jar: jar.update_cookies({"a": "1"}, SITE), {"a": "1", "b": "1"}),
        (lambda jar: jar.clear(), {}),
        (lambda jar: jar.clear(lambda morsel: morsel.key == "b"), {"a": "1"}),
        (lambda jar: jar.clear_domain("example.com"), {}),
        (lambda jar: jar.clear_domain("ww.example.com"), {"a": "1", "b": "1"}),
        (lambda jar: jar.update_cookies_from_headers(["a=x; Secure; Path=/a"], SITE), {"a": "x", "b": "1"}),
    ],
)
def test_changes_show(change: Callable[[CookieJar], None], after: dict[str, str]) -> None:
    jar = jar_of("a=1", "b=1")
    assert sent(jar, SITE) == {"a": "1", "b": "1"}
    change(jar)
    assert sent(jar, SITE) == after
    assert len(jar) == len(list(jar)) == len(after)


def test_a_cookie_that_gets_a_domain_is_for_the_subdomains_from_then_on() -> None:
    jar = jar_of("a=1; Path=/")
    subdomain = "https://x.www.example.com/"
    assert sent(jar, subdomain) == {}
    assert jar.host_only_cookies == {("www.example.com", "", "a")}
    jar.update_cookies_from_headers(["a=1; Path=/; Domain=www.example.com"], SITE)
    assert sent(jar, subdomain) == {"a": "1"}
    assert jar.host_only_cookies == frozenset()


# Limits.


def test_a_full_domain_loses_what_was_not_used_for_longest() -> None:
    jar = jar_of("keep=1; Path=/k", "secret=1; Secure")
    for number in range(178):
        jar.update_cookies({f"c{number}": "x"}, SITE)
    assert len(jar) == 180
    sent(jar, "https://www.example.com/k")
    jar.update_cookies({"new": "1"}, SITE)
    assert len(jar) == 150
    names = {morsel.key for morsel in jar}
    assert {"keep", "secret", "new", "c177"} <= names
    assert "c0" not in names


def test_secure_cookies_make_room_for_none_but_secure_ones() -> None:
    jar = CookieJar()
    for number in range(180):
        jar.update_cookies_from_headers([f"c{number}=x; Secure"], SITE)
    jar.update_cookies_from_headers(["plain=1"], SITE)
    assert len(jar) == 180
    jar.update_cookies_from_headers(["another=1; Secure"], SITE)
    assert len(jar) == 150


def test_a_full_jar_loses_what_was_not_used_for_longest() -> None:
    jar = CookieJar()
    for number in range(3300):
        jar.update_cookies({"a": "x"}, URL(f"http://h{number}.example/"))
    jar.update_cookies({"a": "x"}, URL("http://new.example/"))
    assert len(jar) == 3001
    assert sent(jar, "http://h0.example/") == {}
    assert sent(jar, "http://h3299.example/") == sent(jar, "http://new.example/") == {"a": "x"}


def test_a_request_carries_no_more_than_servers_take() -> None:
    jar = jar_of("wide=x; Path=/; Domain=example.com", "near=x")
    for number in range(10):
        jar.update_cookies({f"c{number}": "x" * 1000}, SITE)
    cookies = sent(jar, SITE)
    assert len("Cookie: " + "; ".join(f"{name}={value}" for name, value in cookies.items())) <= 8190
    assert "near" in cookies
    assert len(cookies) < 12


def test_the_books_balance() -> None:
    rng = random.Random(0)
    jar = CookieJar(unsafe=True)
    hosts = ["a.example", "b.a.example", "127.0.0.1", "c.example"]
    for _ in range(3000):
        url = URL(f"http{rng.choice(['', 's'])}://{rng.choice(hosts)}/{rng.choice(['', 'p/', 'p/q/'])}")
        match rng.randrange(8):
            case 0:
                jar.clear(lambda morsel: rng.random() < 0.05)
            case 1:
                jar.filter_cookies(url)
            case _:
                attributes = rng.choice(
                    ["", "; Secure", "; Domain=a.example", "; Max-Age=0", "; Max-Age=9", "; Path=/"]
                )
                jar.update_cookies_from_headers([f"n{rng.randrange(40)}=x{attributes}"], url)
        stored = {(*place, name) for place, cookies in jar.cookies.items() for name in cookies}
        assert stored == set(jar._records)
        assert len(jar) == sum(jar._domain_counts.values()) == len(list(jar))
        assert set(jar._expirations) <= stored
        assert jar.host_only_cookies <= stored
        assert all(jar.cookies.values())
    assert len(jar) > 50


# Files.


def test_a_jar_that_was_saved_is_loaded_as_it_was(tmp_path: Path, clock: Clock) -> None:
    jar = jar_of(
        "host=1",
        "domain=2; Domain=example.com; Path=/",
        'quoted="x y"; Path=/',
        "timed=3; Max-Age=100; Secure",
    )
    jar.update_cookies({"everywhere": "4"})
    file = tmp_path / "cookies.json"
    jar.save(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    loaded = jar_of("old=1")
    view = loaded.cookies
    loaded.load(file)
    urls = [SITE, "https://www.example.com/", "https://x.www.example.com/", "http://www.example.com/a/b"]
    assert [sent(loaded, url) for url in urls] == [sent(jar, url) for url in urls]
    assert loaded.host_only_cookies == jar.host_only_cookies
    assert view == loaded.cookies
    clock.now += 100
    assert "timed" not in sent(loaded, SITE)


def test_a_pickle_of_an_older_version_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "cookies.pickle"
    morsel: Morsel[str] = SimpleCookie("a=1; Path=/; Domain=example.com")["a"]
    file.write_bytes(pickle.dumps({("example.com", ""): SimpleCookie({"a": morsel})}))
    jar = CookieJar()
    jar.load(file)
    assert sent(jar, SITE) == {"a": "1"}


class Attack:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return exec, ("raise SystemExit('run')",)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (pickle.dumps(Attack()), pickle.UnpicklingError),
        (b"[]", ValueError),
        (b'{"example.com": {}}', ValueError),
        (b'{"example.com|": {"a": {}}}', ValueError),
        (
            json.dumps(
                {
                    "example.com|": {
                        "a": {"key": "a", "value": "1", "coded_value": "1", "expires_timestamp": "x"}
                    }
                }
            ).encode(),
            ValueError,
        ),
        (
            json.dumps(
                {"example.com|": {"a": {"key": "a", "value": "1", "coded_value": "1", "path": 5}}}
            ).encode(),
            TypeError,
        ),
    ],
)
def test_a_file_that_makes_no_cookies_leaves_the_jar_alone(
    tmp_path: Path, content: bytes, error: type[Exception]
) -> None:
    file = tmp_path / "cookies"
    file.write_bytes(content)
    jar = jar_of("a=1")
    with pytest.raises(error):
        jar.load(file)
    assert sent(jar, SITE) == {"a": "1"}


# Others.


def test_a_jar_needs_no_loop_and_is_false_when_empty() -> None:
    jar = CookieJar()
    assert not jar
    assert len(jar) == 0
    assert not jar.filter_cookies(SITE)


def test_a_url_that_is_a_string_is_deprecated() -> None:
    jar = jar_of("a=1")
    with pytest.warns(DeprecationWarning, match="expects yarl.URL"):
        assert "a" in jar.filter_cookies("https://www.example.com/a/b")  # type: ignore[arg-type]


def test_cookies_of_one_request() -> None:
    morsel = SimpleCookie("b=2; Domain=other.com; Path=/")["b"]
    cookies = filter_request_cookies({"a": "x y", "b": morsel}, SITE)
    assert {name: cookie.coded_value for name, cookie in cookies.items()} == {"a": '"x y"'}
    many = {f"c{number}": "x" * 100 for number in range(300)}
    assert len(filter_request_cookies(many, SITE)) == 300


def test_the_dummy_keeps_nothing() -> None:
    jar = DummyCookieJar()
    jar.update_cookies({"a": "1"}, SITE)
    jar.update_cookies_from_headers(["a=1"], SITE)
    assert (len(jar), list(jar), dict(jar.cookies), len(jar.filter_cookies(SITE))) == (0, [], {}, 0)


# What a server sets comes back to it octet for octet (RFC 6265, section 5.4).

AS_SENT = [
    "42kHBlGFz/k=",
    '{"k":1,"l":[2]}',
    "é",
    "日本",
    "a b",
    '"a b"',
    '"a;b"',
    '"unclosed',
    "",
    '""',
    "a=b=c",
    "a,b",
    "it's",
    r"x\y",
    r'"\"\054"',
    "%20%7B",
    "<>@?()",
]


async def _returned(client: Any, jar: Any, value: str, between: Callable[[Any, Any], Any]) -> bytes:
    """The Cookie field of the request after a response that has set the cookie ``n`` to ``value``."""
    response = raw_response(b"", f"Set-Cookie: n={value}; Path=/")
    async with RawServer(keeping_alive(response)) as server:
        async with client.ClientSession(cookie_jar=jar) as session:
            async with session.get(server.url) as first:
                await first.read()
            jar = between(session.cookie_jar, first)
        async with client.ClientSession(cookie_jar=jar) as session:
            async with session.get(server.url) as second:
                await second.read()
            # Not on the fast path.
            async with session.get(server.url, skip_auto_headers=["Accept"]) as third:
                await third.read()
    fields = [re.search(rb"\r\nCookie: n=(.*)\r\n", head) for head in server.heads[1:]]
    assert all(fields)
    values = {field[1] for field in fields if field is not None}
    assert len(values) == 1
    return values.pop()


@pytest.mark.parametrize("value", AS_SENT)
@pytest.mark.parametrize("way", ["kept", "saved and loaded", "by the response's cookies", "copied"])
async def test_what_a_server_sets_comes_back_as_it_was_sent(
    ours: Any, value: str, way: str, tmp_path: Path
) -> None:
    """aiohttp puts it into quotes, and escapes it."""

    def between(jar: Any, response: Any) -> Any:
        if way == "kept":
            return jar
        other = ours.CookieJar(unsafe=True)
        if way == "saved and loaded":
            jar.save(tmp_path / "cookies")
            other.load(tmp_path / "cookies")
        elif way == "copied":
            other.update_cookies((cookie.key, cookie) for cookie in jar)
        else:
            other.update_cookies(response.cookies, response.url)
        return other

    seen = await _returned(ours, ours.CookieJar(unsafe=True), value, between)
    assert seen == value.encode()


@pytest.mark.parametrize("value", ["x/y", "a b", "é", '"q"', "plain"])
async def test_what_a_program_sets_is_quoted_as_in_aiohttp(client: Any, value: str) -> None:
    async with RawServer(keeping_alive(raw_response(b""))) as server:
        async with client.ClientSession(cookie_jar=client.CookieJar(unsafe=True)) as session:
            session.cookie_jar.update_cookies({"n": value}, URL(server.url))
            async with session.get(server.url) as response:
                await response.read()
            async with session.get(server.url, cookies={"n": value}) as response:
                await response.read()
        plain = client.CookieJar(unsafe=True, quote_cookie=False)
        async with client.ClientSession(cookies={"n": value}, cookie_jar=plain) as session:
            async with session.get(server.url) as response:
                await response.read()
    quoted = SimpleCookie({"n": value})["n"].coded_value
    for coded, head in zip((quoted, quoted, value), server.heads, strict=True):
        assert f"\r\nCookie: n={coded}\r\n".encode() in head


def test_a_server_s_value_in_the_place_of_the_same_one_of_a_program() -> None:
    jar = CookieJar()
    jar.update_cookies(SimpleCookie("a=x/y; Path=/"), SITE)
    assert sent(jar, SITE) == {"a": '"x/y"'}
    jar.update_cookies_from_headers(["a=x/y; Path=/"], SITE)
    assert sent(jar, SITE) == {"a": "x/y"}


def test_cookies_of_a_response_that_a_tool_made() -> None:
    """It sets them by the response's attribute, as a SimpleCookie."""
    response = http.ClientResponse("GET", SITE)
    response.cookies = SimpleCookie({"a": "x/y"})
    jar = CookieJar()
    jar.update_cookies_from_headers(response._raw_cookie_headers or (), SITE)
    assert sent(jar, SITE) == {"a": '"x/y"'}
