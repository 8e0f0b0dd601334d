"""Credentials stay with the origin that they are for, and cookies with theirs, however a server redirects."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from tests.http.raw_support import Peer, RawServer, pump, raw_response

SECRETS = (b"authorization:", b"cookie:", b"proxy-authorization:", b"secret")

pytestmark = [
    pytest.mark.filterwarnings("ignore:The .auth. parameter:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:BasicAuth is deprecated:DeprecationWarning"),
]


class Names:
    """Finds ``*.test`` at 127.0.0.1."""

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[dict[str, Any]]:
        return [
            {
                "hostname": host,
                "host": "127.0.0.1",
                "port": port,
                "family": socket.AF_INET,
                "proto": 0,
                "flags": 0,
            }
        ]

    async def close(self) -> None:
        pass


def secrets(head: bytes) -> list[bytes]:
    """What of a request's head is secret."""
    return [line for line in head.lower().split(b"\r\n") if any(word in line for word in SECRETS)]


class Trail:
    """Two servers, one of which speaks TLS too; a request for ``/?a,b,c`` is led to each of these in turn."""

    def __init__(self, client: Any, tls: Any) -> None:
        self.client = client
        self.tls = tls
        self.heads: list[tuple[str, bytes]] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Trail]:
        async with (
            RawServer(self._script) as self.one,
            RawServer(self._script) as self.two,
            RawServer(self._script, ssl=self.tls.server()) as self.secure,
        ):
            self.places = {
                "one": f"http://one.test:{self.one.port}",
                "port": f"http://one.test:{self.two.port}",
                "host": f"http://two.test:{self.one.port}",
                "scheme": f"https://one.test:{self.secure.port}",
                "user": f"http://own:word@two.test:{self.one.port}",
            }
            yield self

    async def _script(self, peer: Peer) -> None:
        while True:
            head, _ = await peer.request()
            path = head.split()[1].decode()
            done, _, left = path.partition("?")
            self.heads.append((done.removeprefix("/"), head))
            if not left:
                await peer.send(raw_response(b"end", "Set-Cookie: set=later"))
                continue
            place, _, rest = left.partition(",")
            location = f"{self.places[place]}/{place}" + (f"?{rest}" if rest else "")
            await peer.send(raw_response(b"", f"Location: {location}", status="302 Found"))

    def session(self, **options: Any) -> Any:
        connector = self.client.TCPConnector(resolver=Names(), ssl=False)
        return self.client.ClientSession(connector=connector, **options)

    async def follow(self, session: Any, steps: str, **options: Any) -> list[tuple[str, list[bytes]]]:
        """Where the request went, and which secrets it carried there."""
        self.heads.clear()
        base = options.pop("base", self.places["one"])
        async with session.get(f"{base}/?{steps}", **options) as response:
            assert await response.text() == "end"
        return [(place, secrets(head)) for place, head in self.heads]


ELSEWHERE = pytest.mark.parametrize("place", ["port", "host", "scheme"])


def _basic(user: str, password: str) -> bytes:
    return b"authorization: basic " + base64.b64encode(f"{user}:{password}".encode()).lower()


@ELSEWHERE
@pytest.mark.parametrize(
    "how", ["header", "auth", "url", "cookie", "cookies", "proxy header", "session header"]
)
async def test_credentials_do_not_cross(client: Any, tls: Any, place: str, how: str) -> None:
    """To another port, another host, another scheme; nor are they sent again when the way leads back."""
    options: dict[str, Any] = {}
    session_options: dict[str, Any] = {}
    async with Trail(client, tls).running() as trail:
        if how == "header":
            options["headers"] = {"Authorization": "Bearer secret"}
        elif how == "auth":
            options["auth"] = client.BasicAuth("user", "secret")
        elif how == "url":
            options["base"] = trail.places["one"].replace("//", "//user:secret@")
        elif how == "cookie":
            options["headers"] = {"Cookie": "secret=1"}
        elif how == "cookies":
            options["cookies"] = {"secret": "1"}
        elif how == "proxy header":
            options["headers"] = {"Proxy-Authorization": "Basic secret"}
        else:
            session_options["headers"] = {"Authorization": "Bearer secret"}
        async with trail.session(**session_options) as session:
            # Once on a new connection, once on one that is kept alive.
            for _ in range(2):
                session.cookie_jar.clear()
                went = await trail.follow(session, f"one,{place},one", **dict(options))
                assert [where for where, _ in went] == ["", "one", place, "one"]
                assert went[0][1]
                assert went[1][1]
                assert went[2][1] == []
                assert went[3][1] == []


@ELSEWHERE
async def test_the_session_s_auth_does_not_leave_the_base(client: Any, tls: Any, place: str) -> None:
    """Without a ``base_url`` it is for every host, as in aiohttp, whose tests say so."""
    async with Trail(client, tls).running() as trail:
        base = trail.places["one"] + "/"
        async with trail.session(base_url=base, auth=client.BasicAuth("user", "secret")) as session:
            for _ in range(2):
                session.cookie_jar.clear()
                went = await trail.follow(session, f"one,{place},{place}")
                assert [bool(carried) for _, carried in went] == [True, True, False, False]


async def test_a_redirect_brings_its_own(client: Any, tls: Any) -> None:
    """Of a user whom the Location names: for that origin, and no other."""
    async with Trail(client, tls).running() as trail, trail.session() as session:
        went = await trail.follow(session, "user,host,port", headers={"Authorization": "Bearer secret"})
        assert went[0][1] == [b"authorization: bearer secret"]
        assert went[1] == ("user", [_basic("own", "word")])
        assert went[3] == ("port", [])


async def test_netrc_is_read_for_each_origin(
    client: Any, tls: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "netrc"
    file.write_text(
        "machine one.test login n1 password secret1\nmachine two.test login n2 password secret2\n"
    )
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with Trail(client, tls).running() as trail, trail.session(trust_env=True) as session:
        for _ in range(2):
            session.cookie_jar.clear()
            went = await trail.follow(session, "one,host,one")
            first, second = [_basic("n1", "secret1")], [_basic("n2", "secret2")]
            assert [carried for _, carried in went] == [first, first, second, first]
    async with Trail(client, tls).running() as trail, trail.session() as session:
        went = await trail.follow(session, "one,host,one")
        assert not any(carried for _, carried in went)


async def test_cookies_of_the_jar_go_to_their_host(client: Any, tls: Any) -> None:
    async with Trail(client, tls).running() as trail, trail.session() as session:
        session.cookie_jar.update_cookies({"jar": "secret"}, URL(trail.places["one"]))
        went = await trail.follow(session, "host,one,port,scheme")
        # Cookies know hosts, not ports and schemes (RFC 6265, section 8.5).
        assert [bool(carried) for _, carried in went] == [True, False, True, True, True]


@pytest.mark.parametrize(
    "cookie",
    [
        "x=1; Domain=two.test",
        "x=1; Domain=other.one.test",
        "x=1; Domain=one.test.",
        "x=1; Domain=ne.test",
    ],
)
async def test_cookies_for_other_hosts_are_not_taken(client: Any, cookie: str) -> None:
    await _refused(client, cookie)


async def _refused(client: Any, cookie: str) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(raw_response(b"", f"Set-Cookie: {cookie}"))

    async with RawServer(script) as server:
        connector = client.TCPConnector(resolver=Names())
        async with client.ClientSession(connector=connector) as session:
            for host in ("one.test", "two.test", "other.one.test", "a.test", "one.test"):
                async with session.get(f"http://{host}:{server.port}/") as response:
                    await response.read()
        for head in server.heads:
            host = head.split(b"Host: ")[1].split(b":")[0].decode()
            if b"x=1" in head:
                # Only where the domain is the host's own.
                assert f"Domain={host}" in cookie, head


async def test_a_redirect_may_set_a_cookie_for_its_own_host(client: Any) -> None:
    async def script(peer: Peer) -> None:
        while True:
            head, _ = await peer.request()
            if b"/start" in head:
                location = f"Location: http://two.test:{server.port}/end"
                fields = ["Set-Cookie: mine=secret", "Set-Cookie: theirs=1; Domain=two.test", location]
                await peer.send(raw_response(b"", *fields, status="302 Found"))
            else:
                await peer.send(raw_response(b"end"))

    async with RawServer(script) as server:
        connector = client.TCPConnector(resolver=Names())
        async with client.ClientSession(connector=connector) as session:
            async with session.get(f"http://one.test:{server.port}/start") as response:
                assert await response.text() == "end"
            assert secrets(server.heads[-1]) == []
            async with session.get(f"http://one.test:{server.port}/") as response:
                await response.read()
            assert secrets(server.heads[-1]) == [b"cookie: mine=secret"]


# Proxies.


async def _proxied(client: Any, tls: Any, url: str, **options: Any) -> list[bytes]:
    """The heads that a proxy gets to see of a request; it refuses tunnels."""

    async def script(peer: Peer) -> None:
        while True:
            head, _ = await peer.request()
            if head.startswith(b"CONNECT"):
                await peer.send(raw_response(b"", status="403 Forbidden"))
            else:
                await peer.send(raw_response(b"proxied"))

    async with RawServer(script) as proxy:
        session_options = options.pop("session", {})
        async with client.ClientSession(**session_options) as session:
            with contextlib.suppress(client.ClientHttpProxyError):
                async with session.get(url, proxy=proxy.url, **options) as response:
                    assert await response.text() == "proxied"
        return proxy.heads


async def test_a_proxy_s_credentials_are_for_the_proxy(client: Any, tls: Any) -> None:
    """In the tunnel they are hidden; the request's own are not shown to the proxy."""
    options = {
        "proxy_headers": {"Proxy-Authorization": "Basic word"},
        "headers": {"Authorization": "Bearer secret", "Cookie": "secret=1"},
    }
    (head,) = await _proxied(client, tls, "https://one.test/", **options)
    assert secrets(head) == [b"proxy-authorization: basic word"]


async def test_the_session_s_fields_are_not_for_the_proxy(ours: Any, tls: Any) -> None:
    """aiohttp shows the header fields of the session to every proxy that it requests a tunnel from."""
    fields = {"Authorization": "secret", "Cookie": "secret=1", "X-Api-Key": "secret", "Accept": "secret/x"}
    session = {"headers": {**fields, "User-Agent": "mine"}}
    (head,) = await _proxied(ours, tls, "https://one.test/", session=session, proxy_headers={"X-A": "b"})
    assert b"secret" not in head
    assert b"\r\nX-A: b\r\n" in head
    assert b"\r\nUser-Agent: mine\r\n" in head
    (head,) = await _proxied(
        ours, tls, "https://one.test/", session=session, proxy_headers={"user-agent": "other"}
    )
    assert head.lower().count(b"user-agent: ") == 1
    assert b"mine" not in head


async def test_the_proxy_s_credentials_do_not_reach_the_host(client: Any, tls: Any) -> None:
    """Not even when a redirect leads away from the proxy's scheme: what is in the tunnel is the host's
    alone."""
    seen: list[bytes] = []

    async def host(peer: Peer) -> None:
        while True:
            head, _ = await peer.request()
            seen.append(head)
            await peer.send(raw_response(b"through"))

    async def tunnel(peer: Peer) -> None:
        head, _ = await peer.request()
        assert head.startswith(b"CONNECT")
        reader, writer = await asyncio.open_connection("127.0.0.1", behind.port)
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")

        await asyncio.gather(pump(peer.reader, writer), pump(reader, peer.writer))

    async with RawServer(host, ssl=tls.server()) as behind, RawServer(tunnel) as proxy:
        connector = client.TCPConnector(ssl=tls.client())
        async with client.ClientSession(connector=connector) as session:
            options = {"proxy": proxy.url, "proxy_headers": {"Proxy-Authorization": "Basic word"}}
            for _ in range(2):
                async with session.get(behind.url, **options) as response:
                    assert await response.text() == "through"
    assert [secrets(head) for head in seen] == [[], []]
