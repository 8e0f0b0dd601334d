"""The small things that several modules share."""

from __future__ import annotations

import datetime
import ipaddress
import itertools

import pytest
from multidict import MultiDict

from whorl.http import hdrs
from whorl.http.helpers import (
    ChainMapProxy,
    ETag,
    HttpVersion11,
    is_canonical_ipv4_address,
    is_expected_content_type,
    is_ip_address,
    must_be_empty_body,
    parse_content_type,
    parse_http_date,
    parse_mimetype,
    should_remove_content_length,
    validate_etag_value,
)


@pytest.mark.parametrize(
    ("text", "parts", "parameters"),
    [
        ("", ("", "", ""), []),
        ("*", ("*", "*", ""), []),
        ("Text/HTML ; Charset=UTF-8", ("text", "html", ""), [("charset", "UTF-8")]),
        ("application/problem+json", ("application", "problem", "json"), []),
        ('a/b; x="1;\\"2"; y = z ;', ("a", "b", ""), [("x", '1;"2'), ("y", "z")]),
        ("text/plain;base64", ("text", "plain", ""), [("base64", "")]),
    ],
)
def test_media_types(text: str, parts: tuple[str, str, str], parameters: list[tuple[str, str]]) -> None:
    parsed = parse_mimetype(text)
    assert (parsed.type, parsed.subtype, parsed.suffix) == parts
    assert parsed.parameters == MultiDict(parameters)


@pytest.mark.parametrize(
    ("raw", "kind", "parameters"),
    [
        ("text/html; charset=utf-8", "text/html", {"charset": "utf-8"}),
        ('Text/HTML;CharSet="utf-8"', "text/html", {"charset": "utf-8"}),
        ("multipart/form-data; boundary=a=b", "multipart/form-data", {"boundary": "a=b"}),
        ("wrong; charset=utf-8", "application/octet-stream", {"charset": "utf-8"}),
        ("", "application/octet-stream", {}),
    ],
)
def test_content_types(raw: str, kind: str, parameters: dict[str, str]) -> None:
    assert parse_content_type(raw) == (kind, parameters)


@pytest.mark.parametrize(
    ("got", "wanted", "fits"),
    [
        ("application/json; charset=utf-8", "application/json", True),
        ("application/vnd.api+json", "application/json", True),
        ("text/json", "application/json", False),
        ("text/html; charset=utf-8", "text/html", True),
        ("", "text/html", False),
    ],
)
def test_expected_content_types(got: str, wanted: str, fits: bool) -> None:
    assert is_expected_content_type(got, wanted) is fits


def test_what_an_ip_address_looks_like() -> None:
    assert all(map(is_ip_address, ("127.0.0.1", "::1", "fe80::1%eth0", "2130706433")))
    assert not any(map(is_ip_address, ("localhost", "1.example", "", None)))


def test_canonical_addresses_are_those_of_ipaddress() -> None:
    octets = ("0", "1", "9", "10", "99", "100", "249", "255", "256", "999", "00", "01", "", "a", "\uff11")
    for count in (1, 3, 4, 5):
        for parts in itertools.product(octets if count < 4 else octets[::2], repeat=count):
            host = ".".join(parts)
            try:
                ipaddress.IPv4Address(host)
            except ValueError:
                assert not is_canonical_ipv4_address(host), host
            else:
                assert is_canonical_ipv4_address(host), host
    assert not is_canonical_ipv4_address("1.2.3.4.")
    assert not is_canonical_ipv4_address("1.2.3.4\n")


@pytest.mark.parametrize(
    ("method", "status", "empty", "lengthless"),
    [
        ("GET", 200, False, False),
        ("HEAD", 200, True, False),
        ("GET", 204, True, True),
        ("GET", 101, True, True),
        ("GET", 304, True, True),
        ("CONNECT", 200, True, True),
        ("CONNECT", 407, False, False),
    ],
)
def test_responses_without_a_body(method: str, status: int, empty: bool, lengthless: bool) -> None:
    assert must_be_empty_body(method, status) is empty
    assert should_remove_content_length(method, status) is lengthless


def test_dates() -> None:
    moment = datetime.datetime(1994, 11, 6, 8, 49, 37, tzinfo=datetime.UTC)
    assert parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT") == moment
    assert parse_http_date("Sunday, 06-Nov-94 08:49:37 GMT") == moment
    for nonsense in (None, "", "soon", "Sun, 06 Nov 1994 08:49:99 GMT"):
        assert parse_http_date(nonsense) is None


def test_entity_tags() -> None:
    assert ETag("x") == ETag("x", is_weak=False)
    validate_etag_value("*")
    validate_etag_value("a-b")
    with pytest.raises(ValueError, match="not a valid etag"):
        validate_etag_value('a"b')


def test_a_chain_of_mappings() -> None:
    chain = ChainMapProxy([{"a": 1}, {"a": 2, "b": 3}])
    assert (chain["a"], chain["b"], chain.get("c", 4)) == (1, 3, 4)
    assert (len(chain), sorted(chain), "b" in chain, "c" in chain) == (2, ["a", "b"], True, False)
    assert chain
    assert not ChainMapProxy([{}])
    with pytest.raises(KeyError):
        chain["c"]
    with pytest.raises(TypeError, match="final"):
        type("Derived", (ChainMapProxy,), {})


def test_names_of_fields_are_case_insensitive_keys() -> None:
    assert hdrs.CONTENT_TYPE == "Content-Type"
    assert MultiDict({hdrs.CONTENT_TYPE: "x"})["Content-Type"] == "x"
    assert {"Host", "host", "HOST", "hOsT"} <= hdrs.HOST_ALL
    assert len(hdrs.HOST_ALL) == 16
    assert HttpVersion11 == (1, 1)
