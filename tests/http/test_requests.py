"""Requests: what is sent, what is refused, and the steps that a program may put in its own."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDict, MultiDict
from yarl import URL

import whorl.http
from tests.http.raw_support import (
    OK,
    Peer,
    RawServer,
    assert_nothing_acquired,
    keeping_alive,
    raw_response,
    until,
)

pytestmark = [
    pytest.mark.jumping_clock,
    pytest.mark.filterwarnings("ignore:The .auth. parameter:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:BasicAuth is deprecated:DeprecationWarning"),
]

Keywords = dict[str, Any]


class Request(whorl.http.ClientRequest):
    """A class that changes nothing: requests are made by its constructor."""


class Connector(whorl.http.TCPConnector):
    """One whose ``connect()`` is its own."""

    async def connect(self, *args: Any, **kwargs: Any) -> Any:
        return await super().connect(*args, **kwargs)


async def look(request: Any, handler: Any) -> Any:
    """A middleware that reads what there is, and changes nothing."""
    assert request.headers["Host"]
    assert request.method
    assert request.url
    assert request.session is not None
    assert request.body is not None
    return await handler(request)


async def pass_on(request: Any, handler: Any) -> Any:
    return await handler(request)


def traced() -> whorl.http.TraceConfig:
    config = whorl.http.TraceConfig()

    async def receive(session: Any, context: Any, params: Any) -> None:
        assert params is not None

    for name in vars(whorl.http.TraceConfig):
        if name.startswith("on_"):
            getattr(config, name).append(receive)
    return config


#: Steps of a request that are a program's own, and change nothing about it.
HOOKS: dict[str, Callable[[], Keywords]] = {
    "none": dict,
    "middleware": lambda: {"middlewares": (pass_on,)},
    "middleware-that-looks": lambda: {"middlewares": (look, pass_on)},
    "trace": lambda: {"trace_configs": [traced()]},
    "request-class": lambda: {"request_class": Request},
    "connector": lambda: {"connector": Connector()},
    "all": lambda: {
        "middlewares": (look,),
        "trace_configs": [traced(), traced()],
        "request_class": Request,
        "connector": Connector(),
    },
}


def without_names(head: bytes) -> bytes:
    """A head without what says which client has sent it, and what is installed with it."""
    names = (b"user-agent: python", b"accept-encoding: gzip")
    return b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(names))


async def sent(
    client: Any, server: RawServer, method: str, session: Keywords, request: Keywords, path: str = ""
) -> Any:
    """The response to a request of ``client``."""
    if "base_url" in session:
        url, session = path, {**session, "base_url": server.url + session["base_url"]}
    else:
        url = server.url + path
    async with client.ClientSession(**session) as opened, opened.request(method, url, **request) as response:
        assert await response.read() == (b"" if method == "HEAD" else b"ok")
    return response


class Recorder:
    """A server that keeps what it is sent."""

    def __init__(self) -> None:
        self.requests: list[tuple[bytes, bytes]] = []

    async def __call__(self, peer: Peer) -> None:
        while True:
            head, body = await peer.request()
            self.requests.append((without_names(head), body))
            await peer.send(OK[:-2] if head.startswith(b"HEAD") else OK)


def jar(*args: Any, **kwargs: Any) -> whorl.http.CookieJar:
    return whorl.http.CookieJar(*args, unsafe=True, **kwargs)


def me() -> whorl.http.BasicAuth:
    return whorl.http.BasicAuth("me", "secret")


#: Options that change nothing if they are None.
ABSENT = """
    params data json cookies headers skip_auto_headers auth compress chunked raise_for_status proxy proxy_auth
    proxy_headers verify_ssl fingerprint ssl_context ssl server_hostname read_bufsize auto_decompress
    max_line_size max_field_size max_headers middlewares upload_tracker trace_request_ctx
"""

CASES: dict[str, tuple[str, Keywords, Keywords]] = {
    "nothing": ("GET", {}, {}),
    "head": ("HEAD", {}, {}),
    "delete": ("DELETE", {}, {}),
    "empty-post": ("POST", {}, {}),
    "params": ("GET", {}, {"params": {"b": "x y&z", "n": 5, "u": "ü"}}),
    "params-pairs": ("GET", {}, {"params": [("b", "1"), ("b", "2")]}),
    "params-multidict": ("GET", {}, {"params": MultiDict([("b", "1"), ("b", "2")])}),
    "params-text": ("GET", {}, {"params": "b=1&c=%20"}),
    "params-empty": ("GET", {}, {"params": {}}),
    "headers": ("GET", {}, {"headers": {"X-One": "1", "Authorization": "Bearer x"}}),
    "headers-automatic": ("GET", {}, {"headers": {"user-agent": "me", "Accept": "text/html"}}),
    "headers-cimultidict": ("GET", {}, {"headers": CIMultiDict({"X-One": "1", "aCCept": "x"})}),
    "headers-of-session": ("GET", {"headers": {"X-One": "1", "Authorization": "Bearer x"}}, {}),
    "headers-of-both": (
        "GET",
        {"headers": [("X-One", "1"), ("X-Two", "2"), ("x-one", "3"), ("User-Agent", "me")]},
        {"headers": {"X-three": "3", "x-ONE": "mine", "user-agent": "I"}},
    ),
    "media-type-of-session": ("POST", {"headers": {"Content-Type": "a/b"}}, {"data": b"x"}),
    "media-type": ("POST", {}, {"data": b"x", "headers": {"content-type": "a/b"}}),
    "bytes": ("PUT", {}, {"data": b"\x00\xff"}),
    "no-bytes": ("PUT", {}, {"data": b""}),
    "text": ("POST", {}, {"data": "grün"}),
    "no-text": ("POST", {}, {"data": ""}),
    "json": ("POST", {}, {"json": {"a": ["ü", 1]}}),
    "json-null": ("POST", {}, {"json": None}),
    "json-serialize": ("POST", {"json_serialize": lambda value: repr(value)}, {"json": [1]}),
    # As with orjson, for which aiohttp has an option of its own.
    "json-serialize-to-bytes": (
        "POST",
        {"json_serialize": lambda value: json.dumps(value).encode()},
        {"json": [1]},
    ),
    "json-serialize-bytes": (
        "POST",
        {"json_serialize_bytes": lambda value: json.dumps(value).encode()},
        {"json": [1]},
    ),
    "get-with-body": ("GET", {}, {"data": b"x"}),
    "timeout": ("GET", {}, {"timeout": whorl.http.ClientTimeout(total=5, sock_read=3)}),
    "timeout-number": ("GET", {}, {"timeout": 5}),
    "timeout-none": ("GET", {}, {"timeout": None}),
    "ssl": ("GET", {}, {"ssl": False}),
    "cookies": ("GET", {"cookies": {"b": "2", "a": "1;,"}, "cookie_jar": jar}, {}),
    "cookies-and-params": ("GET", {"cookies": {"b": "2"}, "cookie_jar": jar}, {"params": {"a": 1}}),
    "auth-of-session": ("GET", {"auth": me}, {}),
    "auth-and-cookies": ("GET", {"auth": me, "cookies": {"a": "1"}, "cookie_jar": jar}, {}),
    "base-url": ("GET", {"base_url": "v1/"}, {"params": {"a": 1}}),
    "auth-and-base-url": (
        "GET",
        {"base_url": "v1/", "auth": me},
        {},
    ),
    "defaults": (
        "GET",
        {},
        dict.fromkeys(ABSENT.split())
        | {"expect100": False, "read_until_eof": True, "max_redirects": 3, "allow_redirects": False},
    ),
}

RARE: dict[str, tuple[str, Keywords, Keywords]] = {
    "method": ("PURGE", {}, {}),
    "cookies": ("GET", {}, {"cookies": {"a": "1"}}),
    "form": ("POST", {}, {"data": {"a": "1"}}),
    "compress": ("POST", {}, {"data": b"x", "compress": True}),
    "chunked": ("POST", {}, {"data": b"x", "chunked": True}),
    "auth": ("GET", {}, {"auth": me}),
    "cookie-field": ("GET", {}, {"headers": {"Cookie": "a=1"}}),
    "cookies-and-field": ("GET", {}, {"headers": {"Cookie": "a=1", "X-One": "1"}, "cookies": {"b": "2"}}),
    "chunked-nothing": ("POST", {}, {"chunked": True}),
    "host-field": ("GET", {}, {"headers": {"Host": "elsewhere"}}),
    "header-twice": ("GET", {}, {"headers": MultiDict([("X-One", "1"), ("x-one", "2")])}),
    "skipped": ("GET", {"skip_auto_headers": ["User-Agent"]}, {}),
    "skipped-once": ("GET", {}, {"skip_auto_headers": ["User-Agent"]}),
    "until-eof": ("GET", {}, {"read_until_eof": False}),
    "trust-env": ("GET", {"trust_env": True}, {}),
}


def for_client(client: Any, keywords: Keywords) -> Keywords:
    """What a test has to make itself, of the client's classes."""
    made: Keywords = {}
    for name, value in keywords.items():
        if name == "auth":
            value = client.BasicAuth("me", "secret")
        elif name == "cookie_jar":
            value = client.CookieJar(unsafe=True)
        elif name == "timeout" and isinstance(value, whorl.http.ClientTimeout):
            value = client.ClientTimeout(total=value.total, sock_read=value.sock_read)
        made[name] = value
    return made


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("name", [*CASES, *RARE])
async def test_what_is_sent_is_aiohttps(name: str, hook: str) -> None:
    """Byte for byte, whatever is hooked into the request; what names the client is another matter."""
    method, session, request = {**CASES, **RARE}[name]
    expected, found = Recorder(), Recorder()
    path = "path?q=1#there"
    async with RawServer(expected) as server:
        if name not in NOT_AIOHTTPS:
            theirs = for_client(aiohttp, session), for_client(aiohttp, request)
            response_of_aiohttp = await sent(aiohttp, server, method, *theirs, path)
        server._script = found
        ours = for_client(whorl.http, {**session, **HOOKS[hook]()}), for_client(whorl.http, request)
        response = await sent(whorl.http, server, method, *ours, path)
    if name not in NOT_AIOHTTPS:
        assert found.requests == expected.requests
        assert response.url == response_of_aiohttp.url
        assert response.real_url == response_of_aiohttp.real_url
        names = {"User-Agent", "Accept-Encoding"}
        for info in (response.request_info, response_of_aiohttp.request_info):
            assert info.url == response_of_aiohttp.request_info.url
            assert info.method == method
        headers = [
            [(key, value) for key, value in info.headers.items() if key not in names]
            for info in (response.request_info, response_of_aiohttp.request_info)
        ]
        assert headers[0] == headers[1]


#: Cases in which aiohttp sends something else, or refuses to.
NOT_AIOHTTPS = {
    # What is serialised to bytes already is bytes.decode()d there.
    "json-serialize-to-bytes",
}

BAD: dict[str, tuple[Keywords, Keywords]] = {
    "unknown": ({}, {"bogus": None}),
    "params": ({}, {"params": {"a": object()}}),
    "json": ({}, {"json": object()}),
    "json-and-data": ({}, {"json": 1, "data": b"x"}),
    "json-as-nothing": ({"json_serialize": lambda value: None}, {"json": 1}),
    "header-value": ({}, {"headers": {"X": "a\r\nb"}}),
    "header-name": ({}, {"headers": {"X Y": "a"}}),
    "header-type": ({}, {"headers": {"X": 1}}),
    "timeout": ({}, {"timeout": "5"}),
    "ssl": ({}, {"ssl": "no"}),
    "two-authorizations": ({"auth": None}, {"headers": {"authorization": "x"}}),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_is_refused(name: str) -> None:
    """With the same error, whatever is hooked into the request, and the session can be used on."""
    session, request = BAD[name]
    raised = []
    async with RawServer(keeping_alive()) as server:
        for hook in HOOKS.values():
            async with whorl.http.ClientSession(**for_client(whorl.http, {**session, **hook()})) as opened:
                with pytest.raises(Exception) as caught:
                    await opened.post(server.url, **request)
                raised.append(caught.value)
                async with opened.get(server.url) as response:
                    assert response.status == 200
    assert {(type(error), str(error)) for error in raised} == {(type(raised[0]), str(raised[0]))}
    assert isinstance(raised[0], TypeError | ValueError)


async def test_cookies_that_are_set_are_sent() -> None:
    """Not only those that the jar had when the session was made, and those that it has dropped no more."""
    responses = [
        raw_response(b"", "Set-Cookie: a=1"),
        raw_response(b"", "Set-Cookie: b=2"),
        raw_response(b""),
    ]

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(responses.pop(0) if responses else OK)

    async with RawServer(script) as server, whorl.http.ClientSession(cookie_jar=jar()) as session:
        for _ in range(4):
            async with session.get(server.url) as response:
                await response.read()
        session.cookie_jar.clear(lambda morsel: morsel.key == "a")
        async with session.get(server.url) as response:
            await response.read()
        session.cookie_jar.clear()
        async with session.get(server.url) as response:
            assert response.status == 200
    cookies = [[line for line in head.split(b"\r\n") if line.startswith(b"Cookie")] for head in server.heads]
    assert cookies == [
        [],
        [b"Cookie: a=1"],
        [b"Cookie: a=1; b=2"],
        [b"Cookie: a=1; b=2"],
        [b"Cookie: b=2"],
        [],
    ]


async def test_cookies_that_are_loaded_are_sent(tmp_path: Path) -> None:
    saved = jar()
    saved.update_cookies({"a": "1"}, URL("http://127.0.0.1/"))
    saved.save(tmp_path / "cookies")
    async with RawServer(keeping_alive()) as server, whorl.http.ClientSession(cookie_jar=jar()) as session:
        async with session.get(server.url):
            pass
        kept = session.cookie_jar
        assert isinstance(kept, whorl.http.CookieJar)
        kept.load(tmp_path / "cookies")
        async with session.get(server.url) as response:
            assert response.status == 200
    assert b"\r\nCookie: a=1\r\n" in server.heads[1]


async def test_cookies_expire_between_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    async with RawServer(keeping_alive()) as server, whorl.http.ClientSession(cookie_jar=jar()) as session:
        # A jar goes by the calendar.
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now)
        session.cookie_jar.update_cookies_from_headers(["a=1; Max-Age=100"], URL(server.url))
        for _ in range(2):
            async with session.get(server.url):
                pass
        now += 101
        async with session.get(server.url):
            pass
    assert [b"Cookie: a=1" in head for head in server.heads] == [True, True, False]


async def test_a_shorter_limit_moves_the_timer() -> None:
    """One timer serves the limits of all requests: a request that has less time than those before it is not
    kept waiting for theirs."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        await peer.gone()

    async with RawServer(script) as server, whorl.http.ClientSession() as session:
        warm = [session.get(server.url) for _ in range(2)]
        for response in await asyncio.gather(*(request.__aenter__() for request in warm)):
            await response.read()
        slow: Any = asyncio.create_task(session.get(server.url).__aenter__())  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        with pytest.raises(asyncio.TimeoutError):
            await session.get(server.url, timeout=whorl.http.ClientTimeout(total=0.1))
        assert not slow.done()
        slow.cancel()
    assert server.accepted == 2


async def test_the_setting_of_tls_chooses_the_connection(tls: Any) -> None:
    """A connection whose certificate was not verified serves no request that wants it verified."""
    async with RawServer(keeping_alive(), ssl=tls.server()) as server:
        connector = whorl.http.TCPConnector(ssl=tls.client())
        async with whorl.http.ClientSession(connector=connector) as session:
            context = tls.client()
            for setting in (True, False, context):
                for _ in range(2):
                    async with session.get(server.url, ssl=setting) as response:
                        assert response.status == 200
        assert server.accepted == 3


async def test_the_request_decides_whether_a_status_raises() -> None:
    script = keeping_alive(raw_response(b"no", status="404 Not Found"))
    async with RawServer(script) as server:
        for of_session in (False, True):
            async with whorl.http.ClientSession(raise_for_status=of_session) as session:
                for _ in range(2):
                    async with session.get(server.url, raise_for_status=False) as response:
                        assert response.status == 404
                with pytest.raises(whorl.http.ClientResponseError, match="Not Found"):
                    await session.get(server.url, raise_for_status=True)


async def test_credentials_of_the_session_stay_with_its_base_url() -> None:
    auth = me()
    async with (
        RawServer(keeping_alive()) as home,
        RawServer(keeping_alive()) as away,
        whorl.http.ClientSession(home.url, auth=auth) as session,
    ):
        for _ in range(2):
            for url in ("", away.url):
                async with session.get(url):
                    pass
    assert [b"Authorization" in head for head in home.heads] == [True, True]
    assert [b"Authorization" in head for head in away.heads] == [False, False]


async def _hold(peer: Peer) -> None:
    """Answers the first request after a while, and later ones at once."""
    while True:
        await peer.request()
        if len(peer.server.heads) == 1:
            await asyncio.sleep(0.2)
        await peer.send(OK)


@pytest.mark.parametrize("how", ["dropped", "closed", "cancelled", "timed out"])
async def test_a_place_in_the_queue_is_left(how: str) -> None:
    """By a request that waits for a connection and is given up: the one behind it is the next."""
    connector = whorl.http.TCPConnector(limit=1)
    async with RawServer(_hold) as server, whorl.http.ClientSession(connector=connector) as session:

        async def get(**options: Any) -> bytes:
            async with session.get(server.url, **options) as response:
                return await response.read()

        first = asyncio.ensure_future(get())
        await until(lambda: server.heads)
        if how in ("dropped", "closed"):
            waiting: Any = session.get(server.url)
            assert waiting.send(None) is not None
        else:
            limit = whorl.http.ClientTimeout(total=0.05 if how == "timed out" else 5)
            second = asyncio.ensure_future(get(timeout=limit))
            await asyncio.sleep(0)
        third = asyncio.ensure_future(get())
        await asyncio.sleep(0.01)
        if how == "dropped":
            del waiting
        elif how == "closed":
            waiting.close()
        else:
            if how == "cancelled":
                second.cancel()
            expected = asyncio.TimeoutError if how == "timed out" else asyncio.CancelledError
            with pytest.raises(expected):
                await second
            assert not first.done()
        assert list(await asyncio.gather(first, third)) == [b"ok", b"ok"]
        assert len(server.heads) == 2
        assert server.accepted == 1
        await assert_nothing_acquired(connector)


@pytest.mark.parametrize("where", ["in the queue", "before the head"])
async def test_a_request_is_awaited_once(where: str) -> None:
    """The first waiter continues; the other gets the error."""
    connector = whorl.http.TCPConnector(limit=1)
    async with RawServer(_hold) as server, whorl.http.ClientSession(connector=connector) as session:
        first: Any = session.get(server.url)
        tasks = [asyncio.ensure_future(first.__aenter__())]
        await until(lambda: server.heads)
        request: Any = first
        if where == "in the queue":
            request = session.get(server.url)
            tasks.append(asyncio.ensure_future(request.__aenter__()))
            await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="awaited again before"):
            await request
        if where == "in the queue":
            with pytest.raises(RuntimeError, match="awaited again before"):
                request.send(None)
        for task in tasks:
            assert await (await task).read() == b"ok"
        with pytest.raises(RuntimeError, match="cannot reuse"):
            await request
        await assert_nothing_acquired(connector)


REFUSED_LIMITS: list[Keywords] = [{"connect": "1"}, {"sock_connect": "3"}]


@pytest.mark.parametrize("limits", REFUSED_LIMITS, ids=["connect", "sock_connect"])
@pytest.mark.parametrize("queued", [False, True])
async def test_a_place_is_given_back_if_the_limits_are_refused(
    limits: Keywords, queued: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # They are refused when they are made; numbers of other libraries may fail later.
    monkeypatch.setattr(whorl.http.ClientTimeout, "__post_init__", lambda self: None)
    connector = whorl.http.TCPConnector(limit=1)
    async with RawServer(_hold) as server, whorl.http.ClientSession(connector=connector) as session:
        held: Any = None
        if queued:
            held = asyncio.ensure_future(session.get(server.url).__aenter__())
            await until(lambda: server.heads)
        timeout = whorl.http.ClientTimeout(**limits)
        with pytest.raises(TypeError):
            await session.get(server.url, timeout=timeout)
        if held is not None:
            await (await held).read()
        async with asyncio.timeout(5), session.get(server.url) as response:
            assert await response.read() == b"ok"


async def test_limits_without_end() -> None:
    limits = whorl.http.ClientTimeout(total=float("inf"), connect=float("inf"), sock_connect=float("inf"))
    async with RawServer(keeping_alive()) as server, whorl.http.ClientSession() as session:
        for _ in range(2):
            async with session.get(server.url, timeout=limits) as response:
                assert await response.read() == b"ok"


async def test_a_session_detached_while_its_request_waits() -> None:
    """The request continues, and another session's after it."""
    connector = whorl.http.TCPConnector(limit=1)
    async with RawServer(_hold) as server:
        async with whorl.http.ClientSession(connector=connector) as other:
            session = whorl.http.ClientSession(connector=connector, connector_owner=False)
            first: Any = asyncio.ensure_future(other.get(server.url).__aenter__())
            await until(lambda: server.heads)
            second: Any = asyncio.ensure_future(session.get(server.url).__aenter__())
            await asyncio.sleep(0)
            session.detach()
            # Its connection cannot be used again: a new one has to be made.
            (await first).close()
            assert await (await second).read() == b"ok"
            async with asyncio.timeout(5), other.get(server.url) as response:
                assert await response.read() == b"ok"


REDIRECT = raw_response(b"", "Location: /there", status="307 Temporary Redirect")


@pytest.mark.parametrize("ending", ["redirect", "status", "lost"])
async def test_json_is_made_once(ending: str) -> None:
    """Whatever becomes of the request, and of the value meanwhile."""
    made: list[Any] = []

    def serialize(value: Any) -> str:
        made.append(value)
        return json.dumps(value)

    value = {"a": 1}
    bodies: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            _, body = await peer.request()
            bodies.append(body)
            value["a"] += 1
            if len(bodies) == 1 and ending == "lost":
                return
            if len(bodies) == 1 and ending == "redirect":
                await peer.send(REDIRECT)
            else:
                await peer.send(raw_response(b"", status="404 No") if ending == "status" else OK)

    async with (
        RawServer(script) as server,
        whorl.http.ClientSession(json_serialize=serialize, raise_for_status=True) as session,
    ):
        if ending == "status":
            with pytest.raises(whorl.http.ClientResponseError):
                await session.put(server.url, json=value)
        else:
            async with session.put(server.url, json=value) as response:
                assert response.request_info.headers["Content-Type"] == "application/json"
            assert bodies == [b'{"a": 1}'] * 2
    assert len(made) == 1


async def test_an_address_that_makes_no_sense(ours: Any) -> None:
    async with ours.ClientSession() as session:
        with pytest.raises(ours.ClientConnectorError):
            await session.get("http://[::1%25nowhere]:9/")


async def test_truth_values(client: Any) -> None:
    """Anything is true or false."""

    async def script(peer: Peer) -> None:
        while True:
            head, _ = await peer.request()
            await peer.send(OK if b"/there" in head else REDIRECT)

    async with RawServer(script) as server, client.ClientSession() as session:
        for value, status in (("yes", 200), (1, 200), (0, 307), (None, 307), ("", 307)):
            for options in ({}, {"auto_decompress": value, "read_until_eof": value}, {"max_redirects": None}):
                async with session.get(server.url, allow_redirects=value, **options) as response:
                    assert response.status == status


async def test_a_status_that_comes_after_the_session_was_detached(client: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(0.05)
        await peer.send(raw_response(b"", status="404 Not Found"))

    async with RawServer(script) as server, client.TCPConnector() as connector:
        session = client.ClientSession(connector=connector, connector_owner=False, raise_for_status=True)
        request = asyncio.ensure_future(session.get(server.url).__aenter__())
        await until(lambda: server.heads)
        await session.close()
        with pytest.raises(client.ClientResponseError, match="Not Found"):
            await request


async def test_a_body_of_no_bytes(ours: Any) -> None:
    """From Python 3.12 on asyncio's transport does not close once it was given an empty piece to write, as
    aiohttp does."""
    async with RawServer(keeping_alive()) as server:
        async with asyncio.timeout(5), ours.ClientSession() as session:
            for _ in range(3):
                async with session.post(server.url, data=b"") as response:
                    assert await response.read() == b"ok"
        await until(lambda: not server.open)


async def test_chunked_by_a_field(ours: Any) -> None:
    """A length with it would let two parsers of the message disagree (RFC 9112, section 6.3); aiohttp sends
    both."""
    async with RawServer(keeping_alive()) as server, ours.ClientSession() as session:
        async with session.post(
            server.url, data=b"abc", headers={"Transfer-Encoding": "chunked"}
        ) as response:
            assert response.status == 200
    (head,) = server.heads
    assert b"chunked" in head
    assert b"content-length" not in head.lower()


@pytest.mark.parametrize("options", [{}, {"upload_tracker": True}], ids=["", "tracked"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_no_body_in_chunks(ours: Any, method: str, options: Keywords) -> None:
    """The end of a body follows a head that says that there is one, and no other: what follows is the next
    request. aiohttp sends the end in any case."""
    async with RawServer(keeping_alive()) as server, ours.ClientSession() as session:
        for sent in ({"chunked": True}, {"headers": {"Transfer-Encoding": "chunked"}}):
            for _ in range(2):
                tracker = {"upload_tracker": ours.UploadTracker()} if options else {}
                async with session.request(method, server.url, **sent, **tracker) as response:
                    assert await response.read() == b"ok"
        assert server.accepted == 1
    assert not any(b"Content-Length" in head for head in server.heads)


@pytest.mark.parametrize("limit", [2.5, 10**30, float("inf")])
async def test_limits_of_redirects_that_are_no_small_numbers(client: Any, limit: Any) -> None:
    left = 4

    async def script(peer: Peer) -> None:
        nonlocal left
        while True:
            await peer.request()
            left -= 1
            await peer.send(REDIRECT if left else OK)

    async with RawServer(script) as server, client.ClientSession() as session:
        if limit == 2.5:
            with pytest.raises(client.TooManyRedirects):
                await session.get(server.url, max_redirects=limit)
            assert len(server.heads) == 3
        else:
            async with session.get(server.url, max_redirects=limit) as response:
                assert len(response.history) == 3
