"""Digest authentication: the RFC's own examples, and a server that checks what it gets."""

from __future__ import annotations

import asyncio
import hashlib
from types import SimpleNamespace
from typing import Any

import pytest
from multidict import CIMultiDict
from yarl import URL

from whorl.http.auth import digest as digest_auth
from whorl.http.auth.digest import DigestAuthMiddleware, DigestFunctions, parse_challenges, parse_header_pairs
from whorl.http.exceptions import ClientError
from whorl.http.hooks.middlewares import build_client_middlewares

SITE = URL("http://www.example.org/dir/index.html")


class Response(SimpleNamespace):
    released = False

    def release(self) -> None:
        self.released = True


class Server:
    """Answers requests without a good digest by a challenge, and keeps all that it has seen."""

    def __init__(self, *challenges: str, **also: str) -> None:
        self.challenges = list(challenges)
        self.also = also
        self.seen: list[dict[str, str]] = []
        self.responses: list[Response] = []
        self.accepts = True

    async def handle(self, request: Any) -> Response:
        field = request.headers.get("Authorization")
        authorization = parse_header_pairs(field.removeprefix("Digest ")) if field else {}
        self.seen.append(authorization)
        headers: CIMultiDict[str] = CIMultiDict()
        status = 200 if authorization and self.accepts else 401
        if status == 401:
            for challenge in self.challenges:
                headers.add("WWW-Authenticate", challenge)
        headers.update(self.also)
        self.responses.append(Response(status=status, headers=headers, url=request.url))
        await asyncio.sleep(0)
        return self.responses[-1]


def request(url: URL = SITE, method: str = "GET", body: Any = b"") -> Any:
    return SimpleNamespace(url=url, method=method, body=body, headers=CIMultiDict())


def mufasa(**options: bool) -> DigestAuthMiddleware:
    return DigestAuthMiddleware("Mufasa", "Circle of Life", **options)


def expected(
    authorization: dict[str, str], algorithm: str, password: str, method: str, body: bytes = b""
) -> str:
    """The response digest, written down once more from RFC 7616, section 3.4."""
    function = DigestFunctions[algorithm.upper()]

    def h(text: str) -> str:
        return str(function(text.encode()).hexdigest())

    a1 = h(f"{authorization['username']}:{authorization['realm']}:{password}")
    if algorithm.upper().endswith("-SESS"):
        a1 = h(f"{a1}:{authorization['nonce']}:{authorization['cnonce']}")
    a2 = f"{method}:{authorization['uri']}"
    if authorization.get("qop") == "auth-int":
        a2 += ":" + function(body).hexdigest()
    if "qop" in authorization:
        middle = (
            f"{authorization['nonce']}:{authorization['nc']}:{authorization['cnonce']}:{authorization['qop']}"
        )
    else:
        middle = authorization["nonce"]
    return h(f"{a1}:{middle}:{h(a2)}")


@pytest.mark.parametrize(
    ("algorithm", "digest"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
async def test_the_examples_of_the_rfc(algorithm: str, digest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # RFC 7616, section 3.9.1, with its client nonce; it offers auth-int too, which would be taken.
    nonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"

    class Sliceless(str):
        def __getitem__(self, index: Any) -> str:
            return str(self)

    monkeypatch.setattr(
        digest_auth,
        "hashlib",
        SimpleNamespace(sha1=lambda _: SimpleNamespace(hexdigest=lambda: Sliceless(nonce))),
    )
    server = Server(
        'Digest realm="http-auth@example.org", qop="auth", '
        f'algorithm={algorithm}, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", '
        'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
    )
    await mufasa()(request(), server.handle)
    assert server.seen[1]["response"] == digest
    assert server.seen[1]["opaque"] == "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"


@pytest.mark.parametrize("qop", ["", ', qop="auth"', ', qop="auth-int"', ", qop=auth"])
@pytest.mark.parametrize("algorithm", [*sorted(DigestFunctions), "md5-sess", "Sha-256"])
async def test_every_algorithm_and_quality(algorithm: str, qop: str) -> None:
    server = Server(f'Digest realm="r, \\"q\\"", nonce="n", algorithm={algorithm}{qop}')
    response = await mufasa()(request(method="POST", body=b"content"), server.handle)
    assert response.status == 200
    authorization = server.seen[1]
    assert authorization["algorithm"] == algorithm
    assert authorization["realm"] == 'r, "q"'
    assert authorization["response"] == expected(
        authorization, algorithm, "Circle of Life", "POST", b"content"
    )
    assert server.responses[0].released


async def test_a_payload_is_digested_too() -> None:
    class Payload:
        async def as_bytes(self) -> bytes:
            return b"payload"

    server = Server('Digest realm="r", nonce="n", qop="auth-int"')
    await mufasa()(request(method="PUT", body=Payload()), server.handle)
    authorization = server.seen[1]
    assert authorization["response"] == expected(authorization, "MD5", "Circle of Life", "PUT", b"payload")


async def test_later_requests_are_signed_at_once_and_counted() -> None:
    server = Server('Digest realm="r", nonce="n", qop="auth"')
    digest = mufasa()
    await digest(request(), server.handle)
    await asyncio.gather(*(digest(request(SITE / "x"), server.handle) for _ in range(3)))
    assert [authorization.get("nc") for authorization in server.seen] == [
        None,
        "00000001",
        "00000002",
        "00000003",
        "00000004",
    ]
    assert len({authorization.get("cnonce") for authorization in server.seen}) == 5


async def test_not_at_once_if_that_is_unwanted() -> None:
    server = Server('Digest realm="r", nonce="n", qop="auth"')
    digest = mufasa(preemptive=False)
    for _ in range(2):
        await digest(request(), server.handle)
    assert [bool(authorization) for authorization in server.seen] == [False, True, False, True]


async def test_a_new_nonce_is_taken_from_the_response() -> None:
    server = Server('Digest realm="r", nonce="one", qop="auth"', **{"Authentication-Info": 'nextnonce="two"'})
    digest = mufasa()
    await digest(request(), server.handle)
    await digest(request(), server.handle)
    assert [(authorization.get("nonce"), authorization.get("nc")) for authorization in server.seen] == [
        (None, None),
        ("one", "00000001"),
        ("two", "00000001"),
    ]


@pytest.mark.parametrize(("stale", "sent"), [("", 2), (", stale=false", 2), (", stale=TRUE", 3)])
async def test_credentials_that_are_refused_are_not_tried_again(stale: str, sent: int) -> None:
    server = Server(f'Digest realm="r", nonce="n", qop="auth"{stale}')
    server.accepts = False
    response = await mufasa()(request(), server.handle)
    assert response.status == 401
    assert not response.released
    assert len(server.seen) == sent


@pytest.mark.parametrize(
    ("challenges", "algorithm"),
    [
        (['Basic realm="r"', 'Digest realm="r", nonce="n"'], "MD5"),
        (['Digest realm="r", nonce="n", algorithm=X', 'Digest realm="r", nonce="n", algorithm=SHA'], "SHA"),
        (['Basic realm="b", Digest realm="r", nonce="n", algorithm=SHA-256, Negotiate'], "SHA-256"),
        (['Digest realm="r", nonce="n", qop="x", Digest realm="r", nonce="n", algorithm=SHA'], "SHA"),
    ],
)
async def test_the_first_challenge_that_can_be_answered(challenges: list[str], algorithm: str) -> None:
    server = Server(*challenges)
    await mufasa()(request(), server.handle)
    assert server.seen[1]["algorithm"] == algorithm
    assert server.seen[1]["realm"] == "r"


@pytest.mark.parametrize(
    "challenge", ["", "Digest", "Digest ", "Basic realm=x", "Digest =x, y", "Digestrealm=x"]
)
async def test_what_is_no_digest_challenge_is_left_to_the_caller(challenge: str) -> None:
    server = Server(challenge)
    assert (await mufasa()(request(), server.handle)).status == 401
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("challenge", "message"),
    [
        ('Digest nonce="n"', "Missing 'realm'"),
        ('Digest realm="r"', "Missing 'nonce'"),
        ('Digest realm="r", nonce=""', "empty 'nonce'"),
        ('Digest realm="r", nonce="n", algorithm=NEW', "Unsupported hash algorithm: NEW"),
        ('Digest realm="r", nonce="n", qop="other"', "Unsupported Quality of Protection"),
    ],
)
async def test_a_challenge_that_cannot_be_answered(challenge: str, message: str) -> None:
    with pytest.raises(ClientError, match=message):
        await mufasa()(request(), Server(challenge).handle)


# Where the credentials go.


@pytest.mark.parametrize(
    ("domain", "url", "signed"),
    [
        ("", "http://www.example.org/anything", True),
        ("", "http://evil.example/", False),
        ("", "https://www.example.org/", False),
        ("", "http://www.example.org:8080/", False),
        ("/dir", "http://www.example.org/dir/x", True),
        ("/dir", "http://www.example.org/directory", False),
        ("/dir http://api.example/v1/", "http://api.example/v1/x", True),
        ("/dir http://api.example/v1/", "http://api.example/v2", False),
        ('\\"', "http://www.example.org/x", True),
        ("http://[broken", "http://www.example.org/x", True),
    ],
)
async def test_the_protection_space(domain: str, url: str, signed: bool) -> None:
    digest = mufasa()
    await digest(request(), Server(f'Digest realm="r", nonce="n", domain="{domain}"').handle)
    elsewhere = Server('Digest realm="r", nonce="m"')
    elsewhere.accepts = False
    await digest(request(URL(url)), elsewhere.handle)
    assert bool(elsewhere.seen[0]) is signed
    if URL(url).origin() != SITE.origin() and not signed:
        assert not any(elsewhere.seen)


async def test_another_origin_cannot_widen_the_space() -> None:
    digest = mufasa()
    await digest(request(), Server('Digest realm="r", nonce="n", domain="/ http://api.example/"').handle)
    api = URL("http://api.example/x")
    other = Server('Digest realm="r", nonce="m", domain="http://evil.example/"')
    other.accepts = False
    await digest(request(api), other.handle)
    evil = Server('Digest realm="r", nonce="m"')
    await digest(request(URL("http://evil.example/")), evil.handle)
    assert evil.seen == [{}]


def test_credentials_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="not allowed in username"):
        DigestAuthMiddleware("a:b", "c")
    with pytest.raises(ValueError, match="None is not allowed as login"):
        DigestAuthMiddleware(None, "c")  # type: ignore[arg-type]


def test_challenges_are_distinguished() -> None:
    assert parse_challenges('Basic realm="a, b", Digest realm=c,nonce="\\"n\\\\", Negotiate abc==') == [
        ("Basic", {"realm": "a, b"}),
        ("Digest", {"realm": "c", "nonce": '"n\\'}),
        ("Negotiate", {"abc": "="}),
    ]


def test_the_hash_functions_are_what_their_names_say() -> None:
    assert DigestFunctions["SHA-256"](b"x").hexdigest() == hashlib.sha256(b"x").hexdigest()
    if "SHA-512-256" in DigestFunctions:
        # FIPS 180-4's own test vector for "abc".
        assert DigestFunctions["SHA-512-256"](b"abc").hexdigest().startswith("53048e2681941ef9")


async def test_the_first_middleware_is_the_outermost() -> None:
    calls: list[str] = []

    def middleware(name: str) -> Any:
        async def around(request: Any, handler: Any) -> Any:
            calls.append(name)
            response = await handler(request)
            calls.append(name)
            return response

        return around

    async def send(request: str) -> str:
        calls.append(request)
        return "response"

    handler = build_client_middlewares(send, [middleware("a"), middleware("b")])
    assert await handler("request") == "response"
    assert calls == ["a", "b", "request", "b", "a"]
