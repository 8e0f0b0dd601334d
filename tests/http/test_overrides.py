"""Classes of a program's own for responses, requests and cookies: each of their methods is called where
aiohttp calls it."""

from __future__ import annotations

from http.cookies import SimpleCookie
from typing import Any, ClassVar
from unittest import mock

import pytest
from multidict import CIMultiDict

import whorl.http
from tests.http.raw_support import (
    Peer,
    RawServer,
    assert_nothing_acquired,
    keeping_alive,
    once,
    raw_response,
    until,
)

pytestmark = [
    pytest.mark.jumping_clock,
    pytest.mark.filterwarnings("ignore:BasicAuth is deprecated:DeprecationWarning"),
]


# Responses.


async def test_a_response_decides_which_status_raises(client: Any) -> None:
    class Response(client.ClientResponse):  # type: ignore[misc]
        @property
        def ok(self) -> bool:
            return self.headers.get("X-Error") is None

    script = keeping_alive(raw_response(b"", "X-Error: quota"))
    async with RawServer(script) as server:
        for of_session in (True, False):
            async with client.ClientSession(response_class=Response, raise_for_status=of_session) as session:
                options = {} if of_session else {"raise_for_status": True}
                with pytest.raises(client.ClientResponseError):
                    await session.get(server.url, **options)
                async with session.get(server.url, raise_for_status=False) as response:
                    assert response.status == 200
                await assert_nothing_acquired(session.connector)


async def test_a_response_that_raises_in_its_own_way(client: Any) -> None:
    class Response(client.ClientResponse):  # type: ignore[misc]
        def raise_for_status(self) -> None:
            if self.status != 201:
                raise ZeroDivisionError

    async with RawServer(keeping_alive()) as server:
        async with client.ClientSession(response_class=Response, raise_for_status=True) as session:
            with pytest.raises(ZeroDivisionError):
                await session.get(server.url)
        async with client.ClientSession(raise_for_status=True) as session:
            with (
                mock.patch.object(client.ClientResponse, "raise_for_status", side_effect=ZeroDivisionError),
                pytest.raises(ZeroDivisionError),
            ):
                await session.get(server.url)
            async with session.get(server.url) as response:
                assert response.status == 200


async def test_a_response_of_a_middleware_decides_too(client: Any) -> None:
    class Response:
        status = 200
        headers: ClassVar[dict[str, str]] = {}
        _raw_cookie_headers = None
        connection = None
        _history: Any = ("of another call",)

        def __init__(self) -> None:
            self.calls: list[str] = []

        def raise_for_status(self) -> None:
            self.calls.append("raise_for_status")

        async def __aenter__(self) -> Any:
            self.calls.append("__aenter__")
            return self

        async def __aexit__(self, *_: object) -> None:
            self.calls.append("__aexit__")

    made = Response()

    async def answer(request: Any, handler: Any) -> Any:
        return made

    async with client.ClientSession(middlewares=(answer,), raise_for_status=True) as session:
        async with session.get("http://a.test/") as response:
            assert response is made
        assert made.calls == ["raise_for_status", "__aenter__", "__aexit__"]
        assert made._history == ()


async def test_a_start_that_returns_nothing(client: Any) -> None:
    class Response(client.ClientResponse):  # type: ignore[misc]
        async def start(self, connection: Any) -> Any:
            await super().start(connection)
            self.started = True

    for request_class in (client.ClientRequest, type("Request", (client.ClientRequest,), {})):
        async with (
            RawServer(keeping_alive()) as server,
            client.ClientSession(response_class=Response, request_class=request_class) as session,
        ):
            async with session.get(server.url) as response:
                assert response.started
                assert await response.read() == b"ok"
            await assert_nothing_acquired(session.connector)


async def test_a_start_that_fails_closes_its_connection(client: Any) -> None:
    """Whether the exception, which refers to the response, is kept or not."""

    class Response(client.ClientResponse):  # type: ignore[misc]
        async def start(self, connection: Any) -> Any:
            await super().start(connection)
            raise ZeroDivisionError

    unfinished = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"
    async with (
        RawServer(keeping_alive(unfinished)) as server,
        client.ClientSession(response_class=Response) as session,
    ):
        with pytest.raises(ZeroDivisionError) as kept:
            await session.get(server.url)
        await assert_nothing_acquired(session.connector)
        await until(lambda: not server.open)
        assert kept.value.__traceback__ is not None


async def test_a_function_that_makes_responses(client: Any) -> None:
    made: list[Any] = []

    def make(*args: Any, **kwargs: Any) -> Any:
        response = client.ClientResponse(*args, **kwargs)
        made.append(response)
        return response

    async with (
        RawServer(keeping_alive()) as server,
        client.ClientSession(response_class=make) as session,
    ):
        for _ in range(2):
            async with session.get(server.url) as response:
                assert response is made[-1]
                assert await response.read() == b"ok"


# Requests.


async def test_default_headers_of_a_request_class(client: Any) -> None:
    class Request(client.ClientRequest):  # type: ignore[misc]
        DEFAULT_HEADERS: ClassVar[dict[str, str]] = {"Accept": "text/html", "X-Default": "1"}

    async with (
        RawServer(keeping_alive()) as server,
        client.ClientSession(request_class=Request) as session,
    ):
        async with session.get(server.url):
            pass
    (head,) = server.heads
    assert b"\r\nAccept: text/html\r\n" in head
    assert b"\r\nX-Default: 1\r\n" in head
    assert b"Accept-Encoding" not in head


@pytest.mark.parametrize("field", ["Connection: keep-alive", "Connection: close"])
async def test_start_has_the_connection(client: Any, field: str) -> None:
    """Though the whole response may have come before: the recipe for the address of the peer."""

    class Response(client.ClientResponse):  # type: ignore[misc]
        async def start(self, connection: Any) -> Any:
            self.peer = connection.transport.get_extra_info("peername")
            return await super().start(connection)

    async with (
        RawServer(once(raw_response(b"ok", field))) as server,
        client.ClientSession(response_class=Response) as session,
        session.get(server.url) as response,
    ):
        assert response.peer[1] == server.port
        assert await response.read() == b"ok"


async def test_steps_that_add_to_a_request_without_any(client: Any) -> None:
    """They are called for a request that has no cookies and no credentials."""

    class Request(client.ClientRequest):  # type: ignore[misc]
        def update_cookies(self, cookies: Any) -> None:
            super().update_cookies({**(cookies or {}), "added": "1"})

        def update_auth(self, auth: Any, trust_env: bool = False) -> None:
            super().update_auth(auth or client.BasicAuth("me", "secret"))

    async with (
        RawServer(keeping_alive()) as server,
        client.ClientSession(request_class=Request) as session,
    ):
        async with session.get(server.url):
            pass
    (head,) = server.heads
    assert b"\r\nCookie: added=1\r\n" in head
    assert b"\r\nAuthorization: Basic bWU6c2VjcmV0\r\n" in head


async def test_a_request_class_that_keeps_the_fields_itself(client: Any) -> None:
    class Request(client.ClientRequest):  # type: ignore[misc]
        @property
        def headers(self) -> Any:
            return self.kept

        @headers.setter
        def headers(self, headers: Any) -> None:
            self.kept = headers

    async def replace(request: Any, handler: Any) -> Any:
        request.headers = CIMultiDict([*request.headers.items(), ("X-Replaced", "1")])
        return await handler(request)

    async with (
        RawServer(keeping_alive()) as server,
        client.ClientSession(request_class=Request, middlewares=(replace,)) as session,
    ):
        async with session.get(server.url, cookies={"a": "1"}, headers={"X-Own": "1"}):
            pass
    (head,) = server.heads
    for field in (b"Host: ", b"Cookie: a=1\r\n", b"X-Own: 1\r\n", b"Accept: ", b"X-Replaced: 1\r\n"):
        assert head.count(field) == 1


async def test_a_request_without_a_body_is_not_written_by_its_class(client: Any) -> None:
    class Request(client.ClientRequest):  # type: ignore[misc]
        async def write_bytes(self, *args: Any, **kwargs: Any) -> None:
            raise ZeroDivisionError

    async with (
        RawServer(keeping_alive()) as server,
        client.ClientSession(request_class=Request) as session,
        session.get(server.url) as response,
    ):
        assert await response.read() == b"ok"


@pytest.mark.parametrize("begun", [False, True])
async def test_an_error_of_a_class_that_writes_the_body(ours: Any, begun: bool) -> None:
    """The request fails with it. With aiohttp it waits for a response until a timeout."""

    class Request(ours.ClientRequest):  # type: ignore[misc]
        async def write_bytes(self, writer: Any, *args: Any, **kwargs: Any) -> None:
            if begun:
                await writer.write(b"x")
            raise ZeroDivisionError

    async with (
        RawServer(keeping_alive()) as server,
        ours.ClientSession(request_class=Request) as session,
    ):
        with pytest.raises(ZeroDivisionError):
            await session.post(server.url, data=b"xyz")
        await assert_nothing_acquired(session.connector)
        await until(lambda: not server.open)


# Cookies.


class _Filter:
    """What a jar of a program's own may do."""

    def filter_cookies(self, request_url: Any) -> Any:
        cookies: SimpleCookie = super().filter_cookies(request_url)  # type: ignore[misc]
        cookies["added"] = "1"
        return cookies


async def _cookies_of_two_requests(client: Any, jar: Any) -> list[list[bytes]]:
    set_cookie = raw_response(b"", "Set-Cookie: a=1")
    async with RawServer(keeping_alive(set_cookie)) as server:
        async with client.ClientSession(cookie_jar=jar) as session:
            for _ in range(2):
                async with session.get(server.url):
                    pass
    return [
        sorted(line[8:].split(b"; "))
        for head in server.heads
        for line in head.split(b"\r\n")
        if line.startswith(b"Cookie: ")
    ]


async def test_a_jar_that_is_derived_is_asked_though_it_is_empty(client: Any) -> None:
    class Jar(_Filter, client.CookieJar):  # type: ignore[misc]
        pass

    sent = await _cookies_of_two_requests(client, Jar(unsafe=True))
    assert sent == [[b"added=1"], [b"a=1", b"added=1"]]


async def test_a_jar_whose_length_means_something_else(client: Any) -> None:
    class Jar(client.CookieJar):  # type: ignore[misc]
        def __len__(self) -> int:
            return 0

    assert await _cookies_of_two_requests(client, Jar(unsafe=True)) == [[b"a=1"]]


async def test_a_filter_that_a_tool_replaces(client: Any) -> None:
    async with RawServer(keeping_alive()) as server, client.ClientSession() as session:
        async with session.get(server.url):
            pass
        with mock.patch.object(client.CookieJar, "filter_cookies", return_value={"added": "1"}):
            async with session.get(server.url):
                pass
        async with session.get(server.url):
            pass
    assert [b"added=1" in head for head in server.heads] == [False, True, False]


async def test_a_cookie_jar_with_a_filter_of_its_own() -> None:
    async with RawServer(keeping_alive()) as server:
        async with whorl.http.ClientSession(
            cookies={"a": "1"}, cookie_jar=whorl.http.CookieJar(unsafe=True)
        ) as session:
            kept: Any = session.cookie_jar
            for count in range(3):
                if count == 1:
                    kept.filter_cookies = lambda url: {"over": "1"}
                async with session.get(server.url):
                    pass
    assert [b"over=1" in head for head in server.heads] == [False, True, True]


# What a tool sees that takes the place of `_request()`.


async def test_a_tool_gets_the_method_as_it_was_given(client: Any) -> None:
    async with client.ClientSession() as session:
        with mock.patch.object(client.ClientSession, "_request", new_callable=mock.AsyncMock) as replaced:
            await session.request("get", "http://a.test/")
            await session.post("http://a.test/")
    assert [call.args[0] for call in replaced.call_args_list] == ["get", "POST"]


async def test_methods_are_sent_in_capitals(client: Any) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(raw_response(b""))

    async with RawServer(script) as server, client.ClientSession() as session:
        for method in ("get", "Purge", "M-SEARCH", "GET"):
            async with session.request(method, server.url) as response:
                assert response.method == method.upper()
        # The type's name in ours.
        with pytest.raises((TypeError, AttributeError)):
            await session.request(5, server.url)
    assert [head.split()[0] for head in server.heads] == [b"GET", b"PURGE", b"M-SEARCH", b"GET"]


# Tools that replace methods of the client's own classes.

OVERRIDE_POINTS = [
    (whorl.http.ClientSession, "_build_url"),
    (whorl.http.ClientSession, "_prepare_headers"),
    (whorl.http.TCPConnector, "connect"),
    (whorl.http.BaseConnector, "connect"),
    (whorl.http.ClientRequest, "__init__"),
    (whorl.http.ClientRequest, "send"),
    (whorl.http.ClientRequest, "update_headers"),
    (whorl.http.ClientResponse, "__init__"),
    (whorl.http.ClientResponse, "release"),
    (whorl.http.ClientResponse, "start"),
]


@pytest.mark.parametrize(
    ("owner", "name"), OVERRIDE_POINTS, ids=lambda value: getattr(value, "__name__", value)
)
async def test_what_a_tool_replaces_is_called(
    owner: type, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    original = getattr(owner, name)

    def replacement(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return original(*args, **kwargs)

    async with (
        RawServer(keeping_alive()) as server,
        whorl.http.ClientSession() as before,
    ):
        async with before.get(server.url) as response:
            assert response.status == 200
        monkeypatch.setattr(owner, name, replacement)
        async with whorl.http.ClientSession() as since:
            for session in (before, since):
                calls.clear()
                for count in (1, 2):
                    async with session.get(server.url) as response:
                        assert response.status == 200
                    assert len(calls) >= count
        monkeypatch.undo()
        async with whorl.http.ClientSession() as session, session.get(server.url) as response:
            assert response.status == 200


async def test_what_a_tool_puts_into_a_connector_is_called() -> None:
    async with RawServer(keeping_alive()) as server, whorl.http.ClientSession() as session:
        async with session.get(server.url) as response:
            assert response.status == 200
        connector: Any = session.connector
        original, requests = connector.connect, []

        async def connect(req: Any, *args: Any, **kwargs: Any) -> Any:
            requests.append(req)
            return await original(req, *args, **kwargs)

        connector.connect = connect
        async with session.get(server.url) as response:
            assert response.status == 200
    assert [type(request) for request in requests] == [whorl.http.ClientRequest]


@pytest.mark.parametrize("whose", ["jar", "session"])
async def test_what_a_tool_puts_into_an_object_is_called(client: Any, whose: str) -> None:
    """After a request was made: what is known of a session by then does not count any more."""
    async with (
        RawServer(keeping_alive()) as server,
        client.ClientSession(cookie_jar=client.CookieJar(unsafe=True)) as session,
    ):
        owner, name = {"jar": (session.cookie_jar, "filter_cookies"), "session": (session, "_build_url")}[
            whose
        ]
        for _ in range(2):
            async with session.get(server.url) as response:
                assert response.status == 200
            with mock.patch.object(owner, name, wraps=getattr(owner, name)) as patched:
                async with session.get(server.url) as response:
                    assert response.status == 200
            patched.assert_called_once()


async def test_derived_classes_are_made_and_called(client: Any) -> None:
    class Response(client.ClientResponse):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.steps = ["made"]

        async def start(self, connection: Any) -> Any:
            self.steps.append("started")
            return await super().start(connection)

        def release(self) -> Any:
            self.steps.append("released")
            return super().release()

    with pytest.warns(DeprecationWarning, match="Inheritance class Session"):

        class Session(client.ClientSession):  # type: ignore[misc]
            def _prepare_headers(self, headers: Any) -> Any:
                prepared = super()._prepare_headers(headers)
                prepared["X-Signed"] = "yes"
                return prepared

    async with RawServer(keeping_alive()) as server, Session(response_class=Response) as session:
        for _ in range(2):
            async with session.get(server.url) as response:
                assert await response.text() == "ok"
            assert response.steps[:3] == ["made", "started", "released"]
    assert all(b"X-Signed: yes" in head for head in server.heads)


async def test_a_class_derived_for_other_reasons_is_as_fast() -> None:
    class Response(whorl.http.ClientResponse):
        async def shout(self) -> str:
            return (await self.text()).upper()

    async with (
        RawServer(keeping_alive()) as server,
        whorl.http.ClientSession(response_class=Response) as session,
        session.get(server.url) as response,
    ):
        assert isinstance(response, Response)
        assert await response.shout() == "OK"


async def test_a_tool_that_adds_to_every_request(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And sends it elsewhere, in clear text: as tools of tests do that respond for any server."""
    requests, connectors = client.ClientRequest, client.TCPConnector
    original = requests.__init__

    def init(request: Any, *args: Any, **kwargs: Any) -> None:
        original(request, *args, **kwargs)
        request.update_headers({**request.headers, "X-Scheme": request.url.scheme})

    async def here(connector: Any, host: str, port: int, traces: Any = None) -> Any:
        return [
            {
                "hostname": host,
                "host": "127.0.0.1",
                "port": server.port,
                "family": connector._family,
                "proto": 0,
                "flags": 0,
            }
        ]

    async with RawServer(keeping_alive()) as server, client.ClientSession() as session:
        monkeypatch.setattr(requests, "__init__", init)
        monkeypatch.setattr(requests, "is_ssl", lambda request: False)
        monkeypatch.setattr(connectors, "_resolve_host", here)
        for _ in range(2):
            async with session.get("https://a.test/", headers={"X-One": "1"}) as response:
                assert await response.text() == "ok"
        if client is whorl.http:
            # It is not kept for requests with TLS; aiohttp goes by the URL.
            assert [key.is_ssl for key in session.connector._conns] == [False]
    for head in server.heads:
        assert head.count(b"Host:") == 1
        assert b"Host: a.test\r\n" in head
        assert b"X-One: 1\r\n" in head
        assert b"X-Scheme: https\r\n" in head
