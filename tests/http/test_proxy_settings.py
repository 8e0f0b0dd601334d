"""Proxies of users: those that cannot be spoken to, those of the environment, and what a lookup costs."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from tests.http.raw_support import OK, RawServer, keeping_alive
from whorl.http import InvalidURL
from whorl.http.auth.basic import encode_basic_auth, netrc_from_env
from whorl.http.connect.proxies import NoProxy, checked_proxy, proxies_from_env, proxy_from_env


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment without proxies and without a .netrc."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.delenv("REQUEST_METHOD", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


def _netrc(path: Path, host: str, password: str) -> Path:
    path.write_text(f"machine {host} login ada password {password}\n")
    path.chmod(0o600)
    return path


# Those that cannot be spoken to.

REFUSED = [
    ("socks5://{}", "socks5 proxies are not supported: .*aiohttp-socks"),
    ("socks5h://ada:word@{}", "socks5h proxies are not supported"),
    ("socks4://{}", "socks4 proxies are not supported"),
    ("ftp://{}", "ftp proxies are not supported: a proxy is spoken to by http or https"),
    ("ws://{}", "ws proxies are not supported"),
    ("http://", "the proxy's URL has no host"),
    ("http://[", "the proxy's URL cannot be read"),
]


@pytest.mark.parametrize(("proxy", "text"), REFUSED)
@pytest.mark.parametrize("where", ["request", "session", "environment"])
async def test_a_proxy_of_another_scheme_is_refused_by_name(
    ours: Any, environment: pytest.MonkeyPatch, proxy: str, text: str, where: str
) -> None:
    """It is not spoken to in HTTP, which a SOCKS proxy waits for without end."""
    async with RawServer(keeping_alive(OK)) as server:
        url = proxy.format(f"127.0.0.1:{server.port}")
        of_session: dict[str, Any] = {"proxy": url} if where == "session" else {}
        of_request: dict[str, Any] = {"proxy": url} if where == "request" else {}
        if where == "environment":
            environment.setenv("http_proxy", url)
            of_session["trust_env"] = True
        async with ours.ClientSession(**of_session) as session:
            for _ in range(2):
                with pytest.raises(ours.InvalidURL, match=text) as raised:
                    await session.get("http://host.test/", **of_request)
                assert "word" not in str(raised.value)
                assert isinstance(raised.value, ours.ClientError)
        assert server.accepted == 0


@pytest.mark.parametrize("proxy", ["127.0.0.1:3128", "proxy.test:3128", "proxy.test", URL("proxy.test:3128")])
async def test_a_proxy_without_a_scheme_is_said_to_have_none(ours: Any, proxy: Any) -> None:
    async with ours.ClientSession() as session:
        with pytest.raises(ours.InvalidURL, match=f"has no scheme: write http://{proxy}$"):
            await session.get("http://host.test/", proxy=proxy)
    with pytest.raises(InvalidURL) as raised:
        checked_proxy("ada:word@proxy.test:3128")
    assert "word" not in str(raised.value)


async def test_in_the_environment_it_is_one_by_http(ours: Any, environment: pytest.MonkeyPatch) -> None:
    """As curl has it, for which the variable is mostly written."""
    async with RawServer(keeping_alive(OK)) as proxy:
        environment.setenv("http_proxy", f"ada:word@127.0.0.1:{proxy.port}")
        async with (
            ours.ClientSession(trust_env=True) as session,
            session.get("http://host.test/x") as response,
        ):
            assert response.status == 200
    assert proxy.heads[0].startswith(b"GET http://host.test/x HTTP/1.1\r\n")
    assert encode_basic_auth("ada", "word").encode() in proxy.heads[0]


async def test_a_proxy_by_https_in_the_environment(
    ours: Any, environment: pytest.MonkeyPatch, tls: Any
) -> None:
    """aiohttp leaves it out, and connects directly."""
    async with RawServer(keeping_alive(OK), ssl=tls.server()) as proxy:
        environment.setenv("http_proxy", proxy.url)
        async with ours.ClientSession(trust_env=True) as session:
            async with session.get("http://host.test/", ssl=tls.client()) as response:
                assert response.status == 200
    assert proxy.heads[0].startswith(b"GET http://host.test/ HTTP/1.1\r\n")


# no_proxy.

EXCLUDED = [
    ("example.org", "http://example.org/", True),
    ("example.org", "http://www.example.org/", True),
    ("example.org", "http://EXAMPLE.ORG/", True),
    ("EXAMPLE.org", "http://example.org/", True),
    ("example.org", "http://notexample.org/", False),
    ("example.org", "http://example.org.test/", False),
    ("example.org", "http://example.org./", True),
    (".example.org", "http://example.org/", True),
    (".example.org", "http://a.b.example.org/", True),
    ("*.example.org", "http://a.example.org/", True),
    ("example.org.", "http://example.org/", True),
    ("a.test, b.test", "http://b.test/", True),
    ("a.test b.test", "http://b.test/", True),
    (" ,, ", "http://b.test/", False),
    ("", "http://b.test/", False),
    ("*", "http://b.test/", True),
    ("a.test,*", "http://127.0.0.1/", True),
    ("localhost:8080", "http://localhost:8080/", True),
    ("localhost:8080", "http://localhost:9090/", False),
    ("localhost:80", "http://localhost/", True),
    ("127.0.0.1", "http://127.0.0.1:8080/", True),
    ("127.0.0.1:8080", "http://127.0.0.1:8080/", True),
    ("127.0.0.1:8080", "http://127.0.0.1:80/", False),
    ("0.0.1", "http://127.0.0.1/", False),
    ("127.0.0.0/8", "http://127.1.2.3/", True),
    ("10.0.0.0/8", "http://10.255.0.1/", True),
    ("10.0.0.0/8", "http://11.0.0.1/", False),
    ("10.1.2.3/8", "http://10.9.9.9/", True),
    ("10.0.0.0/99", "http://10.0.0.1/", False),
    ("10.0.0.0/8", "http://10.example.org/", False),
    ("::1", "http://[::1]/", True),
    ("[::1]", "http://[::1]/", True),
    ("[::1]:8080", "http://[::1]:8080/", True),
    ("[::1]:8080", "http://[::1]:80/", False),
    ("0:0:0:0:0:0:0:1", "http://[::1]/", True),
    ("fd00::/8", "http://[fd12:3456::1]/", True),
    ("[fd00::]/8", "http://[fd12::1]/", True),
    ("fd00::/8", "http://[fe80::1]/", False),
    ("fe80::/10", "http://[fe80::1%25lo]/", True),
    ("10.0.0.0/8", "http://[::ffff:10.0.0.1]/", True),
    ("fd00::/8", "http://10.0.0.1/", False),
    ("xn--mnchen-3ya.test", "http://xn--mnchen-3ya.test/", True),
    ("münchen.test", "http://xn--mnchen-3ya.test/", True),
]


@pytest.mark.parametrize(("no_proxy", "url", "excluded"), EXCLUDED)
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_no_proxy(
    environment: pytest.MonkeyPatch, name: str, no_proxy: str, url: str, excluded: bool
) -> None:
    """As curl and requests read it."""
    environment.setenv("http_proxy", "http://proxy.test:3128")
    environment.setenv(name, no_proxy)
    assert (proxy_from_env(URL(url)) is None) == excluded


def test_the_lower_case_variables_go_first(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HTTP_PROXY", "http://upper.test")
    environment.setenv("HTTPS_PROXY", "http://upper.test")
    environment.setenv("https_proxy", "http://lower.test")
    assert proxy_from_env(URL("http://h.test/")) == (URL("http://upper.test"), None)
    assert proxy_from_env(URL("https://h.test/")) == (URL("http://lower.test"), None)
    assert proxy_from_env(URL("ws://h.test/")) is None
    environment.setenv("https_proxy", "")
    assert proxy_from_env(URL("https://h.test/")) is None
    # A request to a CGI program sets HTTP_PROXY by a field "Proxy".
    environment.setenv("REQUEST_METHOD", "GET")
    assert proxy_from_env(URL("http://h.test/")) is None


def test_hosts_that_are_no_hosts_do_no_harm() -> None:
    excluded = NoProxy("[::1 ]: :80 [ / a:b:c a:x 1.2.3 [::1]x")
    for host in ("", "a", "1.2.3.4", "::1", "a:b:c", "[", "%"):
        assert excluded.covers(host, 80) in (True, False)


# What looking them up costs.


class Counted:
    """Counts the jobs that a loop hands to threads."""

    def __init__(self) -> None:
        self.jobs = 0
        loop = asyncio.get_running_loop()
        self._original = loop.run_in_executor
        loop.run_in_executor = self._run  # type: ignore[method-assign]

    def _run(self, *args: Any) -> Any:
        self.jobs += 1
        return self._original(*args)


async def test_without_anything_set_no_thread_is_used(ours: Any) -> None:
    async with RawServer(keeping_alive(OK)) as server:
        async with ours.ClientSession(trust_env=True) as session:
            counted = Counted()
            for _ in range(5):
                async with session.get(server.url) as response:
                    assert response.status == 200
            assert counted.jobs == 0


async def test_a_netrc_is_read_once_for_each_state_of_it(ours: Any, tmp_path: Path) -> None:
    async with RawServer(keeping_alive(OK)) as server:
        async with ours.ClientSession(trust_env=True) as session:

            async def sent() -> bytes:
                async with session.get(server.url) as response:
                    assert response.status == 200
                return server.heads[-1]

            assert b"Authorization" not in await sent()
            counted = Counted()
            for jobs, password in ((1, "one"), (2, "another"), (3, "a third")):
                _netrc(tmp_path / ".netrc", "127.0.0.1", password.replace(" ", ""))
                for _ in range(3):
                    head = await sent()
                    assert encode_basic_auth("ada", password.replace(" ", "")).encode() in head
                assert counted.jobs == jobs
            (tmp_path / ".netrc").unlink()
            assert b"Authorization" not in await sent()
            assert counted.jobs == 3


async def test_many_requests_at_once_read_it_once_and_all_have_it(
    ours: Any, tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("NETRC", str(_netrc(tmp_path / "credentials", "127.0.0.1", "word")))
    async with RawServer(keeping_alive(OK)) as server:
        async with ours.ClientSession(trust_env=True) as session:

            async def get() -> int:
                async with session.get(server.url) as response:
                    return int(response.status)

            assert await asyncio.gather(*(get() for _ in range(30))) == [200] * 30
    assert len(server.heads) == 30
    assert all(encode_basic_auth("ada", "word").encode() in head for head in server.heads)


async def test_the_proxy_s_credentials_are_in_the_netrc_too(
    ours: Any, tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    _netrc(tmp_path / ".netrc", "127.0.0.1", "word")
    async with RawServer(keeping_alive(OK)) as proxy:
        environment.setenv("http_proxy", proxy.url)
        async with ours.ClientSession(trust_env=True) as session:
            async with session.get("http://host.test/") as response:
                assert response.status == 200
    credentials = encode_basic_auth("ada", "word").encode()
    assert b"\r\nProxy-Authorization: " + credentials in proxy.heads[0]
    assert b"\r\nAuthorization" not in proxy.heads[0]


async def test_a_change_of_the_environment_counts_from_the_next_request(
    ours: Any, environment: pytest.MonkeyPatch
) -> None:
    async with RawServer(keeping_alive(OK)) as server, RawServer(keeping_alive(OK)) as proxy:
        async with ours.ClientSession(trust_env=True) as session:
            for _ in range(2):
                async with session.get(server.url) as response:
                    assert response.status == 200
                environment.setenv("http_proxy", proxy.url)
                async with session.get(server.url) as response:
                    assert response.status == 200
                environment.setenv("no_proxy", "127.0.0.0/8")
                async with session.get(server.url) as response:
                    assert response.status == 200
                environment.delenv("http_proxy")
                environment.delenv("no_proxy")
    assert (len(server.heads), len(proxy.heads)) == (4, 2)


@pytest.mark.parametrize("variable", ["NETRC", "HOME"])
async def test_a_netrc_elsewhere_counts_from_the_next_request(
    ours: Any, environment: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    path = _netrc(folder / ".netrc", "127.0.0.1", "word")
    async with RawServer(keeping_alive(OK)) as server, ours.ClientSession(trust_env=True) as session:
        for _ in range(2):
            async with session.get(server.url) as response:
                assert response.status == 200
        environment.setenv(variable, str(path if variable == "NETRC" else folder))
        async with session.get(server.url) as response:
            assert response.status == 200
    assert [b"\r\nAuthorization" in head for head in server.heads] == [False, False, True]


async def test_another_mapping_counts_from_the_next_request(
    ours: Any, environment: pytest.MonkeyPatch
) -> None:
    async with RawServer(keeping_alive(OK)) as server, RawServer(keeping_alive(OK)) as proxy:
        async with ours.ClientSession(trust_env=True) as session:
            for mapping in (os.environ, {"http_proxy": proxy.url}, {}, {"http_proxy": proxy.url}):
                environment.setattr(os, "environ", mapping)
                async with session.get(server.url) as response:
                    assert response.status == 200
    assert (len(server.heads), len(proxy.heads)) == (2, 2)


def test_another_mapping_in_the_place_of_the_environment(environment: pytest.MonkeyPatch) -> None:
    """As tests of programs have it."""
    environment.setattr(os, "environ", {"http_proxy": "http://other.test"})
    assert proxy_from_env(URL("http://h.test/")) == (URL("http://other.test"), None)
    environment.setattr(os, "environ", {})
    assert proxy_from_env(URL("http://h.test/")) is None


def test_a_malformed_netrc_is_logged_without_its_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / ".netrc"
    path.write_text("machine h.test\nlogin ada\npassword\nword topsecret\n")
    path.chmod(0o600)
    assert netrc_from_env() is None
    ((_, level, text),) = caplog.record_tuples
    assert level == logging.WARNING
    assert "topsecret" not in text
    assert f"{path}, line " in text


def test_the_functions_of_aiohttp_s_helpers_log_what_they_leave_out(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    environment.setenv("http_proxy", "socks5://ada:topsecret@proxy.test")
    environment.setenv("https_proxy", "http://proxy.test")
    assert list(proxies_from_env()) == ["https"]
    assert caplog.messages == ["SOCKS5 proxies socks5://ada:***@proxy.test are not supported, ignoring"]
