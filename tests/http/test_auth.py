"""Credentials: basic authentication, .netrc, the proxies of the environment, pinned certificates."""

from __future__ import annotations

import hashlib
import logging
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from yarl import URL

from whorl.http.auth.basic import (
    BasicAuth,
    basicauth_from_netrc,
    encode_basic_auth,
    make_basic_auth,
    netrc_from_env,
    strip_auth_from_url,
)
from whorl.http.connect.fingerprint import Fingerprint
from whorl.http.connect.proxies import get_env_proxy_for_url, proxies_from_env
from whorl.http.exceptions import ServerFingerprintMismatch


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for scheme in ("http", "https", "ws", "wss", "no", "all"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme}_proxy".upper(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("login", "password"), [("user", "pass"), ("", ""), ("u", ":a:b:"), ("Ünï", "cödé"), ("a b", "\t")]
)
def test_what_is_encoded_is_decoded(login: str, password: str) -> None:
    decoded = BasicAuth.decode(encode_basic_auth(login, password), encoding="utf-8")
    assert (decoded.login, decoded.password) == (login, password)


def test_the_class_warns_and_the_client_itself_does_not() -> None:
    with pytest.warns(DeprecationWarning, match="BasicAuth is deprecated"):
        auth = BasicAuth("user", "pass")
    assert auth == make_basic_auth("user", "pass")
    assert auth.encode() == "Basic dXNlcjpwYXNz"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BasicAuth.decode("Basic dXNlcjpwYXNz")
        BasicAuth.from_url(URL("http://user:pass@example.com"))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("Basic", "Could not parse"),
        ("Digest x", "Unknown authorization method Digest"),
        ("Basic ???", "Invalid base64"),
        ("Basic dXNlcg==", "Invalid credentials"),
    ],
)
def test_a_malformed_header_is_refused(header: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BasicAuth.decode(header)


def test_a_login_with_a_colon_is_refused() -> None:
    for make in (encode_basic_auth, BasicAuth):
        with pytest.raises(ValueError, match="not allowed in login"):
            make("a:b", "c")
    with pytest.raises(ValueError, match="None is not allowed as password"):
        BasicAuth("a", None)  # type: ignore[arg-type]


def test_credentials_are_taken_out_of_a_url() -> None:
    url, auth = strip_auth_from_url(URL("http://us%40er:p%3Aass@example.com/x?y"))
    assert url == URL("http://example.com/x?y")
    assert auth == make_basic_auth("us@er", "p:ass")
    plain = URL("http://example.com/")
    assert strip_auth_from_url(plain) == (plain, None)


# .netrc


def test_the_netrc_that_the_environment_names(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.write_text("machine a.example login one password two\ndefault login any password thing\n")
    path.chmod(0o600)
    environment.setenv("NETRC", str(path))
    assert basicauth_from_netrc(netrc_from_env(), "a.example") == make_basic_auth("one", "two")
    assert basicauth_from_netrc(netrc_from_env(), "b.example") == make_basic_auth("any", "thing")


def test_a_missing_netrc_is_logged_only_where_it_was_named(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert netrc_from_env() is None
    assert not caplog.records
    with pytest.raises(LookupError):
        basicauth_from_netrc(None, "example.com")
    environment.setenv("NETRC", "/nonexistent/netrc")
    assert netrc_from_env() is None
    assert "Could not read .netrc" in caplog.text


def test_a_malformed_netrc_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / ".netrc").write_text("what is this\n")
    assert netrc_from_env() is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


# Proxies


def test_a_proxy_for_each_scheme_with_its_credentials(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("http_proxy", "http://user:pass@proxy.example:3128")
    assert get_env_proxy_for_url(URL("http://example.com/")) == (
        URL("http://proxy.example:3128"),
        make_basic_auth("user", "pass"),
    )
    with pytest.raises(LookupError, match="No proxies found"):
        get_env_proxy_for_url(URL("https://example.com/"))


def test_credentials_of_a_proxy_come_from_netrc(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine proxy.example login one password two\n")
    netrc.chmod(0o600)
    environment.setenv("https_proxy", "http://proxy.example:3128")
    assert proxies_from_env()["https"].proxy_auth == make_basic_auth("one", "two")


@pytest.mark.parametrize(
    ("no_proxy", "url", "excluded"),
    [
        ("example.com", "http://example.com/", True),
        ("example.com", "http://a.example.com/", True),
        (".example.com", "http://notexample.com/", False),
        ("localhost:8080", "http://localhost:8080/", True),
        ("localhost:8080", "http://localhost:9090/", False),
        ("::1", "http://[::1]/", True),
        ("*", "http://anything/", True),
    ],
)
def test_hosts_without_a_proxy(
    environment: pytest.MonkeyPatch, no_proxy: str, url: str, excluded: bool
) -> None:
    environment.setenv("http_proxy", "http://proxy.example:3128")
    environment.setenv("no_proxy", no_proxy)
    if excluded:
        with pytest.raises(LookupError, match="disallowed"):
            get_env_proxy_for_url(URL(url))
    else:
        assert get_env_proxy_for_url(URL(url))[0].host == "proxy.example"


def test_a_tls_proxy_of_the_environment_is_left_out(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    environment.setenv("https_proxy", "https://proxy.example")
    assert proxies_from_env() == {}
    assert caplog.messages == ["HTTPS proxies https://proxy.example are not supported, ignoring"]


# Fingerprints


def transport(certificate: bytes) -> Any:
    info = {
        "sslcontext": object(),
        "ssl_object": mock.Mock(getpeercert=mock.Mock(return_value=certificate)),
        "peername": ("192.0.2.1", 443),
    }
    return mock.Mock(get_extra_info=info.get)


def test_a_fingerprint_knows_its_certificate() -> None:
    digest = hashlib.sha256(b"certificate").digest()
    fingerprint = Fingerprint(digest)
    fingerprint.check(transport(b"certificate"))
    with pytest.raises(ServerFingerprintMismatch) as raised:
        fingerprint.check(transport(b"another"))
    assert (raised.value.expected, raised.value.host) == (digest, "192.0.2.1")
    assert fingerprint == Fingerprint(digest)
    assert hash(fingerprint) == hash(Fingerprint(digest))


@pytest.mark.parametrize(
    ("length", "reason"), [(16, "insecure"), (20, "insecure"), (31, "invalid length 31")]
)
def test_other_digests_are_refused(length: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Fingerprint(bytes(length))
