"""Whatever a server sends in its header fields, a program gets a value or a ClientError."""

from __future__ import annotations

import base64
import hashlib
import random
import re
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from tests.http.raw_support import Peer, RawServer, keeping_alive, raw_response
from whorl.http.redirects import target

#: Pieces of values, by the field's name: what parsers have cases for, and what does not belong there.
PIECES = {
    name: pieces.split()
    for name, pieces in {
        "Location": """http: https: // / \\ .. . ? # %26 % %zz @ : [ ] [::1] [fe80::1%25lo] 127.0.0.1
            1.2.3 0x7f.1 h.test :99999 :0 :-1 u:p@ xn-- xn--a ü 。 ftp: javascript:""",
        "Set-Cookie": """a=b = ; Path=/ Domain= Max-Age= Expires= 99999999999999999999 -1 " \\ é Secure , a
            HttpOnly [ { é=é nan GMT Thu""",
        "Content-Type": """text/plain application/json ; charset= " \\ zip idna punycode utf-8 hex rot13
            undefined unicode_escape cp037 utf-16 utf-7 é = / +""",
        "Content-Disposition": """attachment inline ; filename= filename*= filename*0*= utf-8'' ' " %zz %E9
            zip'' idna'x' \\ é filename*1= = a filename*99999999999=""",
        "Content-Encoding": "gzip deflate br zstd identity , x é",
        "Connection": "close keep-alive upgrade , é",
        "Link": """< > <http://h.test/> <http://[> <//h:99999/> ; , rel= "next" ' é rel title*= =
            <http://h:x/>""",
        "Last-Modified": "Thu, 01 Jan 1970 99999 00:00:00 GMT : -0000 99:99:99 é 99999999999999999999 -1",
        "WWW-Authenticate": """Digest Basic realm= "x" nonce= qop= auth , algorithm= MD5 é " \\ domain= =
            http://[ http://[a@b]""",
        "Retry-After": "1 -1 x é",
    }.items()
}

CONTROLS = "\x00\x01\x0b\x1f\x7f"


def values(dice: random.Random, name: str) -> Iterator[bytes]:
    """Values for a field of this name: of its pieces, and of any octets."""
    while True:
        pieces = dice.choices(PIECES[name], k=dice.randint(0, 8))
        value = dice.choice(["", "", " "]).join(pieces).encode()
        if dice.random() < 0.2:
            place = dice.randint(0, len(value))
            value = value[:place] + dice.randbytes(dice.randint(1, 4)) + value[place:]
        yield value.replace(b"\r", b"").replace(b"\n", b"")


def responses(dice: random.Random) -> Iterator[bytes]:
    while True:
        status = dice.choice([200, 200, 204, 206, 301, 302, 303, 307, 308, 401, 407, 429, 500, 503])
        reason = dice.choice([b"OK", b"", b"caf\xe9", "café".encode(), dice.randbytes(3)])
        reason = reason.replace(b"\r", b"").replace(b"\n", b"")
        head = b"HTTP/1.1 %d %s\r\n" % (status, reason)
        for name in dice.sample(sorted(PIECES), dice.randint(1, 4)):
            head += b"%s: %s\r\n" % (name.encode(), next(values(dice, name)))
        body = dice.choice([b"", b"text", b"{}", b"\xff\xfe", "é".encode()])
        length = [] if status == 204 else [b"Content-Length: %d" % len(body)]
        if dice.random() < 0.05:
            length = [dice.choice([b"Content-Length: -1", b"Content-Length: 1e3", b"Content-Length: \xb2"])]
        yield head + b"".join(line + b"\r\n" for line in length) + b"\r\n" + (b"" if status == 204 else body)


#: What a response has that is made of its header fields.
ATTRIBUTES = (
    *("status", "reason", "version", "headers", "raw_headers", "cookies", "history", "ok", "content_type"),
    *(
        "charset",
        "content_length",
        "last_modified",
        "content_disposition",
        "links",
        "url",
        "real_url",
        "host",
    ),
    *("request_info", "method", "connection", "closed"),
)


async def _look(client: Any, response: Any) -> None:
    """Reads everything that the response has."""
    for name in ATTRIBUTES:
        getattr(response, name)
    repr(response)
    await response.read()
    response.get_encoding()
    await response.text(errors="replace")
    try:
        await response.json()
    except (client.ContentTypeError, ValueError):
        # The body is the server's too, and `loads` is the program's.
        pass


@pytest.mark.parametrize("seed", range(4))
async def test_no_field_ends_in_another_exception(ours: Any, seed: int) -> None:
    """On the way that a plain request takes, with hooks, and with digest authentication."""
    dice = random.Random(seed)
    source = responses(dice)
    sent: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            sent.append(next(source))
            await peer.send(sent[-1])

    limits = ours.ClientTimeout(total=5)
    outcomes: dict[str, int] = {}
    async with RawServer(script) as server:
        options: dict[str, Any] = {"timeout": limits, "cookie_jar": ours.CookieJar(unsafe=True)}
        sessions = [
            ours.ClientSession(**options, connector=ours.TCPConnector(resolver=_Nowhere())),
            ours.ClientSession(**options, requote_redirect_url=False, skip_auto_headers=["Accept"]),
            ours.ClientSession(
                **options,
                middlewares=[ours.DigestAuthMiddleware("ada", "word")],
                connector=ours.TCPConnector(resolver=_Nowhere()),
            ),
        ]
        for number in range(150):
            session = sessions[number % 3]
            try:
                with warnings.catch_warnings():
                    # Of fields that are malformed.
                    warnings.simplefilter("ignore")
                    allow_redirects = dice.random() < 0.7
                    async with session.get(server.url, allow_redirects=allow_redirects) as response:
                        await _look(ours, response)
                outcome = "response"
            except ours.ClientError as error:
                str(error).encode()
                repr(error).encode()
                outcome = type(error).__name__
            except TimeoutError:
                raise AssertionError(f"no end to {sent[-1]!r}") from None
            except Exception as error:
                raise AssertionError(f"{error!r} after {sent[-1]!r}") from error
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        for session in sessions:
            await session.close()
    assert outcomes["response"] > 20
    assert sum(outcomes.values()) - outcomes["response"] > 0


class _Nowhere:
    """A resolver that knows no host."""

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[Any]:
        raise OSError(f"{host} is not known")

    async def close(self) -> None:
        pass


class _Encoding(_Nowhere):
    """One that encodes names as ``getaddrinfo`` does, and finds none."""

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[Any]:
        host.encode("idna")
        return await super().resolve(host, port, family)


USERS, HOSTS = (
    text.split()
    for text in (
        "u u:p :p us%3Aer us%3Aer:p u%E2%82%AC:p %FF:p %00:p %0D%0A é:é 名:前 u@v:p : a:b:c %ED%A0%80",
        """a a. a.. .a a..b . .. %61 %00 a%00b %2E%2E %zz é 。 a。。b xn-- xn--a ﹒ 1.2.3 0x1 [::1] [::]
        [::1%25\udcff] [fe80::1%25] [::1%25lo] [v1.x] * _ -""",
    )
)
HOSTS += ["a" * 64, "a." * 200, "%61" * 70, "é" * 60, "127.0.0.1"]


@pytest.mark.parametrize("options", [{}, {"headers": {"Authorization": "mine"}}, {"trust_env": True}])
async def test_no_authority_of_a_location_ends_in_another_exception(ours: Any, options: Any) -> None:
    dice = random.Random(11)
    location = b""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n" % location)

    connector = ours.TCPConnector(resolver=_Encoding())
    async with RawServer(script) as server:
        async with ours.ClientSession(connector=connector, **options) as session:
            authorities = [f"{user}@127.0.0.1:{server.port}" for user in USERS] + HOSTS
            authorities += [f"{dice.choice(USERS)}@{dice.choice(HOSTS)}:1" for _ in range(200)]
            for authority in authorities:
                scheme = dice.choice(["http:", "HTTP:", ""])
                location = f"{scheme}//{authority}/".encode("utf-8", "surrogateescape")
                try:
                    await session.get(server.url, max_redirects=2, timeout=ours.ClientTimeout(total=5))
                except ours.ClientError as error:
                    str(error).encode()
                    repr(error).encode()
                except Exception as error:
                    raise AssertionError(f"{error!r} after {location!r}") from error


@pytest.mark.parametrize("status", ["599", "599 ", "299 Fine", "403"])
async def test_a_proxy_s_status_may_be_any(ours: Any, status: str) -> None:
    """A code that the standard library does not know ended in its ValueError."""
    async with (
        RawServer(keeping_alive(raw_response(b"", status=status))) as proxy,
        ours.ClientSession() as session,
    ):
        with pytest.raises(ours.ClientHttpProxyError) as raised:
            await session.get("https://h.test/", proxy=proxy.url)
    assert raised.value.status == int(status[:3])
    assert raised.value.message == {"403": "Forbidden", "299 Fine": "Fine"}.get(status, "")


def test_a_location_is_a_url_or_an_error() -> None:
    from whorl.http import ClientError

    dice = random.Random(5)
    bases = [URL("http://h.test/a/b?c#d"), URL("https://[::1]:8443/"), URL("http://münch.test/%2F/..;x")]
    source = values(dice, "Location")
    for _ in range(20_000):
        location = next(source).decode("utf-8", "surrogateescape")
        base = dice.choice(bases)
        requote = dice.random() < 0.5
        try:
            url = target(location, base, requote=requote)
        except ClientError as error:
            str(error).encode()
            continue
        assert url.scheme in ("http", "https")
        assert url.raw_host
        assert url.origin().raw_host == url.raw_host
        assert not set(url.raw_path_qs) & set(" \t\r\n" + CONTROLS)
        url.raw_path_qs.encode()
        if requote:
            assert url.raw_path_qs.isascii()
        # It is resolved: another time changes nothing, and no dots are left.
        assert target(str(url), base, requote=requote).raw_path_qs == url.raw_path_qs
        assert not {".", ".."} & set(url.raw_path.split("/"))


@pytest.mark.parametrize(
    "charset", ["zip", "hex", "rot13", "idna", "punycode", "undefined", "unicode_escape", "x"]
)
async def test_a_charset_that_is_none_of_text_counts_as_none(ours: Any, charset: str) -> None:
    """Python has codecs that are no charsets: aiohttp ends in a LookupError of theirs."""
    part = f'--b\r\nContent-Type: text/plain; charset="{charset}"\r\n\r\né\r\n--b--'.encode()

    async def script(peer: Peer) -> None:
        while True:
            head, _ = await peer.request()
            if b"/parts" in head:
                await peer.send(raw_response(part, "Content-Type: multipart/mixed; boundary=b"))
            else:
                await peer.send(raw_response("é".encode(), f"Content-Type: text/plain; charset={charset}"))

    async with RawServer(script) as server, ours.ClientSession() as session:
        async with session.get(server.url) as response:
            assert await response.text() == "é"
            assert response.get_encoding() == "utf-8"
            assert response.charset == charset
        async with session.get(f"{server.url}parts") as response:
            async for item in ours.MultipartReader.from_response(response):
                assert await item.text() == "é"


async def test_values_that_are_none(ours: Any) -> None:
    """Of a field that says nothing there is nothing, and the rest is there."""
    fields = [
        "Last-Modified: Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Link: <http://[>; rel=bad, </b>; rel=next",
    ]
    async with (
        RawServer(keeping_alive(raw_response(b"", *fields))) as server,
        ours.ClientSession() as session,
    ):
        async with session.get(server.url) as response:
            assert response.last_modified is None
            assert list(response.links) == ["next"]
            assert response.links["next"]["url"] == URL(f"{server.url}b")


@pytest.mark.parametrize(
    "url", ["http://[fe80::1]  @", "http://h:99999", "http://[", "http://\udcff/", "http://"]
)
async def test_what_a_url_contains_ends_in_invalid_url(ours: Any, url: str) -> None:
    async with ours.ClientSession() as session:
        with pytest.raises(ours.InvalidURL):
            await session.get(url)
        with pytest.raises(ours.InvalidURL):
            await session.get("http://h.test/", proxy=url)


@pytest.mark.parametrize(
    "url",
    [
        "http://a..b/",
        "http://./",
        "http://.a/",
        "HTTP://A..B",
        "http://\x00/",
        "http://a\x00b.test/",
        "http://[fe80::1%25\ud800]/",
        "http://us%3Aer:x@h.test/",
        "http://us%3Aer@h.test/",
    ],
)
async def test_hosts_and_users_that_cannot_be_sent(ours: Any, url: str) -> None:
    """aiohttp ends in a UnicodeError of the codec for internationalised names, or in a ValueError."""
    async with ours.ClientSession() as session:
        with pytest.raises(ours.InvalidUrlClientError):
            await session.get(url)
        with pytest.raises(ours.InvalidUrlClientError):
            await session.ws_connect(url)


@pytest.mark.parametrize(
    "location", ["http://a..b/", "http://./", "https://a..b/", "HTTP://A..B", "http://us%3Aer:x@h.test/"]
)
async def test_locations_that_cannot_be_requested(ours: Any, location: str) -> None:
    redirect = raw_response(b"", f"Location: {location}", status="302 Found")
    async with RawServer(keeping_alive(redirect)) as server, ours.ClientSession() as session:
        with pytest.raises(ours.InvalidUrlRedirectClientError) as raised:
            await session.get(server.url)
    assert "x@" not in str(raised.value)


_TOO_LONG = ["http://" + "a" * 64 + ".test/", "http://" + "%61" * 70 + "/", "http://" + "a." * 200 + "test/"]


@pytest.mark.parametrize("url", _TOO_LONG, ids=["a label", "an encoded label", "a name"])
async def test_a_name_that_is_too_long_is_not_found(ours: Any, url: str) -> None:
    redirect = raw_response(b"", f"Location: {url}", status="302 Found")
    async with RawServer(keeping_alive(redirect)) as server, ours.ClientSession() as session:
        for requested in (url, server.url):
            with pytest.raises(ours.ClientConnectorDNSError):
                await session.get(requested)
        with pytest.raises(ours.ClientConnectorDNSError):
            await session.get("http://h.test/", proxy=url)


async def test_a_long_label_is_the_program_s_resolver_s_to_know(ours: Any) -> None:
    """As is the identifier of a container, of 64 digits."""
    async with RawServer(keeping_alive(raw_response(b""))) as server:
        async with ours.ClientSession(connector=ours.TCPConnector(resolver=_Here())) as session:
            async with session.get(f"http://{'a' * 64}:{server.port}/") as response:
                assert response.status == 200


@pytest.mark.parametrize("error", [UnicodeError("u"), ValueError("v")])
async def test_a_resolver_that_cannot_encode_a_name(ours: Any, error: Exception) -> None:
    class Failing(_Here):
        async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[Any]:
            raise error

    async with ours.ClientSession(connector=ours.TCPConnector(resolver=Failing())) as session:
        with pytest.raises(ours.ClientConnectorDNSError) as raised:
            await session.get("http://h.test/")
    assert "h.test" in str(raised.value)


async def test_an_error_of_a_receiver_during_a_lookup_stays_the_program_s(client: Any) -> None:
    async def receive(*args: Any) -> None:
        raise ValueError("of the program")

    config = client.TraceConfig()
    config.on_dns_resolvehost_start.append(receive)
    connector = client.TCPConnector(resolver=_Here())
    async with client.ClientSession(connector=connector, trace_configs=[config]) as session:
        with pytest.raises(ValueError, match="of the program"):
            await session.get("http://h.test/")


@pytest.mark.parametrize("place", ["url", "location", "proxy", "netrc"])
async def test_credentials_that_latin_1_does_not_have(
    ours: Any, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are sent in UTF-8 (RFC 7617, section 2.1); aiohttp ends in a UnicodeEncodeError."""

    async def script(peer: Peer) -> None:
        while True:
            head, _ = await peer.request()
            location = f"Location: http://u%E2%82%AC:%E2%82%AC@127.0.0.1:{server.port}/end"
            if place == "location" and b"/end" not in head:
                await peer.send(raw_response(b"", location, status="302 Found"))
            else:
                await peer.send(raw_response(b""))

    if place == "netrc":
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login u€ password €\n", "utf-8")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    trust_env = place == "netrc"
    async with RawServer(script) as server, ours.ClientSession(trust_env=trust_env) as session:
        url = f"http://u€:€@127.0.0.1:{server.port}/"
        if place == "url":
            await session.get(url)
        elif place in ("location", "netrc"):
            await session.get(server.url)
        else:
            await session.get("http://h.test/", proxy=url)
        assert base64.b64encode("u€:€".encode()) in server.heads[-1]


async def test_a_proxy_s_user_that_cannot_be_sent(ours: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with ours.ClientSession(trust_env=True) as session:
        with pytest.raises(ours.InvalidURL):
            await session.get("http://h.test/", proxy="http://us%3Aer:x@127.0.0.1:1/")
        monkeypatch.setenv("http_proxy", "http://us%3Aer:x@127.0.0.1:1/")
        with pytest.raises(ours.InvalidURL):
            await session.get("http://h.test/")


@pytest.mark.parametrize("of", ["call", "session"])
async def test_a_location_s_credentials_do_not_replace_the_program_s_field(ours: Any, of: str) -> None:
    """aiohttp ends in a ValueError, whose cause is the server."""
    fields = {"headers": {"Authorization": "Bearer mine"}}

    async def script(peer: Peer) -> None:
        while True:
            head, _ = await peer.request()
            location = f"Location: http://u:p@127.0.0.1:{server.port}/end"
            if b"/end" in head:
                await peer.send(raw_response(b""))
            else:
                await peer.send(raw_response(b"", location, status="302 Found"))

    async with RawServer(script) as server:
        async with ours.ClientSession(**(fields if of == "session" else {})) as session:
            async with session.get(server.url, **(fields if of == "call" else {})) as response:
                assert response.status == 200
            assert b"Authorization: Bearer mine\r\n" in server.heads[-1]
            # What the program itself says twice stays an error, as in aiohttp.
            with pytest.raises(ValueError, match="Cannot combine AUTHORIZATION header"):
                await session.get(f"http://u:p@127.0.0.1:{server.port}/", headers=fields["headers"])


async def test_a_host_that_only_looks_internationalised(ours: Any) -> None:
    """It cannot be decoded, and is shown as it is."""
    async with RawServer(keeping_alive(raw_response(b""))) as server:
        for trust_env in (False, True):
            connector = ours.TCPConnector(resolver=_Here())
            async with ours.ClientSession(connector=connector, trust_env=trust_env) as session:
                async with session.get(f"http://xn--a.test:{server.port}/") as response:
                    assert response.host == "xn--a.test"


class _Here:
    """A resolver that finds every host at 127.0.0.1."""

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[Any]:
        where = {"hostname": host, "host": "127.0.0.1", "port": port, "family": socket.AF_INET}
        return [{**where, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        pass


async def test_no_answer_to_a_websocket_s_opening_ends_in_another_exception(ours: Any) -> None:
    dice = random.Random(7)
    texts = {
        "Upgrade": "websocket WebSocket h2c , é",
        "Connection": "upgrade Upgrade close , keep-alive é",
        "Sec-WebSocket-Accept": "= x é AAAA",
        "Sec-WebSocket-Protocol": "chat other , é",
        "Sec-WebSocket-Extensions": """permessage-deflate ; server_max_window_bits=10 , x " = é
            client_max_window_bits=99 client_no_context_takeover server_max_window_bits""",
    }
    pieces = {name: text.split() for name, text in texts.items()}

    async def script(peer: Peer) -> None:
        head, _ = await peer.request()
        key = re.search(rb"Sec-WebSocket-Key: (\S+)", head)
        assert key is not None
        accept = hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        sound = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Accept": base64.b64encode(accept).decode(),
        }
        fields = dict(sound) if dice.random() < 0.7 else {}
        for name in dice.sample(sorted(pieces), dice.randint(0, 2)):
            fields[name] = dice.choice(["", " "]).join(dice.choices(pieces[name], k=dice.randint(0, 5)))
        status = dice.choice([101, 101, 101, 200, 302, 400])
        lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in fields.items())]
        await peer.send(("\r\n".join(lines) + "\r\n\r\n").encode())

    opened = refused = 0
    async with RawServer(script) as server, ours.ClientSession() as session:
        for _ in range(150):
            try:
                options = {"protocols": ["chat"], "compress": dice.choice([0, 15])}
                ws = await session.ws_connect(server.url, **options, timeout=ours.ClientWSTimeout(ws_close=1))
            except ours.ClientError as error:
                str(error).encode()
                refused += 1
            else:
                opened += 1
                await ws.close()
    assert opened > 10
    assert refused > 10
