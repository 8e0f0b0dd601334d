"""No message, log or representation shows a credential: they end up in error trackers and in issues."""

from __future__ import annotations

import asyncio
import gc
import logging
import traceback
import warnings
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy, MultiDict, MultiDictProxy
from yarl import URL

from tests.http.failures_support import CREDENTIALS, FAILURES, SECRET, failure
from tests.http.raw_support import OK, Peer, RawServer, keeping_alive, once, raw_response
from whorl.http.auth.basic import encode_basic_auth, make_basic_auth
from whorl.http.auth.redaction import redacted_headers, redacted_url, url_repr
from whorl.http.request_info import ConnectionKey, RequestInfo

pytest.importorskip("aiohttp", reason="the WebSocket server is aiohttp's")


@pytest.mark.parametrize("name", FAILURES)
async def test_no_error_shows_a_credential(ours: Any, name: str, tls: Any) -> None:
    error = await failure(ours, name, tls)
    shown = [str(error), repr(error), *traceback.format_exception(error)]
    if isinstance(error, ours.ClientResponseError | ours.ClientConnectorError):
        shown += [repr(error.args), repr(error.__cause__)]
    assert not [text for text in shown if SECRET in text]


async def test_the_values_stay_readable(ours: Any, tls: Any) -> None:
    error = await failure(ours, "ClientResponseError", tls)
    assert error.request_info.headers["Authorization"] == f"Bearer {SECRET}"  # type: ignore[attr-defined]
    assert error.headers["Set-Cookie"] == f"b={SECRET}"  # type: ignore[attr-defined]
    assert "'Authorization': '***'" in repr(error)
    assert "'Set-Cookie': '***'" in repr(error)
    error = await failure(ours, "InvalidUrlClientError", tls)
    assert SECRET in error.url  # type: ignore[attr-defined]
    assert str(error) == "http://***@host.test:x/"


async def test_results_of_gather_show_none(ours: Any) -> None:
    async with RawServer(keeping_alive(raw_response(b"", status="500 No"))) as server:
        async with ours.ClientSession(headers=CREDENTIALS, cookies={"a": SECRET}) as session:
            results = await asyncio.gather(
                session.get(server.url, raise_for_status=True),
                session.get(server.url, raise_for_status=True, cookies={"b": SECRET}),
                return_exceptions=True,
            )
    assert SECRET not in str(results)
    assert str(results).count("ClientResponseError") == 2


async def test_what_a_program_meets_shows_none(ours: Any) -> None:
    """Requests in middlewares, parameters of tracing, responses, sessions, connections and their keys."""
    shown: list[str] = []

    async def middleware(request: Any, handler: Any) -> Any:
        shown.append(f"{request!r} {request.request_info!r} {request.connection_key!r}")
        response = await handler(request)
        shown.append(repr(response))
        shown.append(repr(response.connection))
        return response

    async def receive(session: Any, context: Any, params: Any) -> None:
        shown.append(f"{session!r} {params!r}")

    trace = ours.TraceConfig()
    for signal in (trace.on_request_start, trace.on_request_headers_sent, trace.on_request_end):
        signal.append(receive)
    trace.on_request_redirect.append(receive)
    trace.on_request_exception.append(receive)

    async def script(peer: Peer) -> None:
        while True:
            head, _ = await peer.request()
            moved = head.startswith(b"GET http://host.test/a")
            fields = [f"Set-Cookie: a={SECRET}", *(["Location: /b"] if moved else [])]
            await peer.send(raw_response(b"", *fields, status="302 Found" if moved else "200 OK"))

    async with RawServer(script) as proxy:
        options = {"trace_configs": [trace], "middlewares": [middleware], "headers": CREDENTIALS}
        async with ours.ClientSession(**options) as session:
            proxy_url = proxy.url.replace("//", f"//ada:{SECRET}@")
            request = session.get("http://host.test/a", proxy=proxy_url)
            shown.append(repr(request))
            async with request as response:
                shown += [repr(response), repr(response.history), repr(response.request_info)]
            shown += [repr(session.connector), repr(session.connector._conns), repr(session.cookie_jar)]
            with pytest.raises(ours.ClientProxyConnectionError):
                await session.get("http://host.test/", proxy=f"http://ada:{SECRET}@127.0.0.1:1")
    assert len(shown) > 15
    assert not [text for text in shown if SECRET in text]
    assert any("proxy=URL('http://ada:***@127.0.0.1" in text for text in shown)


@pytest.mark.filterwarnings("ignore:BasicAuth is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .*auth. parameter is deprecated:DeprecationWarning")
async def test_credentials_of_a_wrong_type_are_not_shown(ours: Any) -> None:
    """A tuple is what requests takes, and is often given."""
    async with RawServer(once(OK)) as server, ours.ClientSession() as session:
        for options in ({"auth": ("ada", SECRET)}, {"proxy": server.url, "proxy_auth": ("ada", SECRET)}):
            with pytest.raises((TypeError, ValueError)) as raised:
                await session.get(server.url, **options)
            assert SECRET not in str(raised.value)
        for field in ("Authorization", "Cookie", "X-Auth-Token"):
            with pytest.raises(ValueError, match="line feed") as value:
                await session.get(server.url, headers={field: f"{SECRET}\n"})
            assert SECRET not in str(value.value)
            assert field in str(value.value)
            with pytest.raises(TypeError, match="must be str") as kind:
                await session.get(server.url, headers={field: SECRET.encode()})
            assert SECRET not in str(kind.value)
    for make in (ours.BasicAuth, encode_basic_auth, ours.DigestAuthMiddleware):
        with pytest.raises(ValueError, match='A ":" is not allowed') as login:
            make(f"ada:{SECRET}", "")
        assert SECRET not in str(login.value)
        assert "ada:***" in str(login.value)
    assert SECRET not in repr(ours.DigestAuthMiddleware("ada", SECRET))


async def test_debug_mode_shows_none(ours: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What is left unclosed is named in warnings, in the log and to the exception handler."""
    loop = asyncio.get_running_loop()
    contexts: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: contexts.append(context))
    loop.set_debug(True)
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with RawServer(once(raw_response(b"", f"Set-Cookie: a={SECRET}")[:-1], then="stall")) as proxy:
            session = ours.ClientSession(headers=CREDENTIALS)
            url = proxy.url.replace("//", f"//ada:{SECRET}@")
            task = asyncio.create_task(session._request("GET", "http://host.test/", proxy=url))
            await asyncio.sleep(0)
            shown = [repr(task)]
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            connection = await session.connector.connect(
                ours.ClientRequest("GET", URL(proxy.url), loop=loop, headers=CREDENTIALS),
                [],
                ours.ClientTimeout(),
            )
            shown.append(repr(connection))
            del connection, session, task
            gc.collect()
            await asyncio.sleep(0)
        shown += [str(warning.message) for warning in caught]
    shown += [f"{context} {list(map(repr, context.values()))}" for context in contexts]
    shown += [record.getMessage() for record in caplog.records]
    assert any("Unclosed" in text for text in shown)
    assert not [text for text in shown if SECRET in text]
    loop.set_debug(False)


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        (CIMultiDict(authorization="x", a="b"), "<CIMultiDict('authorization': '***', 'a': 'b')>"),
        (CIMultiDictProxy(CIMultiDict([("Cookie", "x")])), "<CIMultiDictProxy('Cookie': '***')>"),
        (MultiDict([("Cookie", "x"), ("Cookie", "y")]), "<MultiDict('Cookie': '***', 'Cookie': '***')>"),
        (MultiDictProxy(MultiDict({"A": "b"})), "<MultiDictProxy('A': 'b')>"),
        ({"X-API-Key": "x", "A": "b"}, "{'X-API-Key': '***', 'A': 'b'}"),
        ([("set-cookie", "x")], "[('set-cookie', '***')]"),
        (((b"Set-Cookie", b"x"),), "[(b'Set-Cookie', '***')]"),
        ({"A": "b"}, "{'A': 'b'}"),
        (None, "None"),
        ("text", "'text'"),
        ([1, 2], "[1, 2]"),
    ],
)
def test_header_fields(headers: object, shown: str) -> None:
    assert redacted_headers(headers) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://ada:word@h/", "http://ada:***@h/"),
        (URL("http://ada:word@h/?a=b@c"), "http://ada:***@h/?a=b@c"),
        ("http://ada:@h/", "http://ada:***@h/"),
        ("http://ada@h/", "http://ada@h/"),
        ("http://:word@h/", "http://:***@h/"),
        ("//ada:word@h/", "//ada:***@h/"),
        ("http://h:8080/@scope/name", "http://h:8080/@scope/name"),
        ("http://h/?to=ada:word@h", "http://h/?to=ada:word@h"),
        # No URLs, as the password is not quoted: the end of the password is not known.
        ("http://ada:wo/rd@h", "http://***@h"),
        ("http://ada:wo#rd@h:80/", "http://***@h:80/"),
        ("http://ada:w@rd@h:x/", "http://***@h:x/"),
        ("ada:word@h:3128", "***@h:3128"),
        ("http:ada:word@h", "http:***@h"),
        ("http://h:x/", "http://h:x/"),
    ],
)
def test_urls(url: str | URL, shown: str) -> None:
    assert redacted_url(url) == shown


def test_values_show_what_is_no_secret() -> None:
    url = URL("http://h.test/")
    info = RequestInfo(url, "GET", CIMultiDictProxy(CIMultiDict(A="b")), URL("http://h.test/#f"))
    assert repr(info) == (
        "RequestInfo(url=URL('http://h.test/'), method='GET', headers=<CIMultiDictProxy('A': 'b')>, "
        "real_url=URL('http://h.test/#f'))"
    )
    auth = make_basic_auth("ada", SECRET)
    assert repr(auth) == f"{auth}" == "BasicAuth(login='ada', password='***', encoding='latin1')"
    key = ConnectionKey("h", 80, False, True, URL("http://p.test"), auth, None)
    assert repr(key) == (
        "ConnectionKey(host='h', port=80, is_ssl=False, ssl=True, proxy=URL('http://p.test'), "
        f"proxy_auth={auth!r}, proxy_headers_hash=None, server_hostname=None)"
    )
    assert url_repr("http://h") == "'http://h'"


@pytest.mark.filterwarnings("ignore:BasicAuth is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .proxy_auth. parameter is deprecated:DeprecationWarning")
@pytest.mark.parametrize("where", ["url", "proxy_auth"])
async def test_connections_of_other_credentials_are_others(client: Any, where: str) -> None:
    """They look alike, and are not."""
    async with RawServer(keeping_alive(OK)) as proxy, client.ClientSession() as session:
        for password in ("one", "two", "one"):
            options: dict[str, Any] = {"proxy": proxy.url}
            if where == "url":
                options["proxy"] = proxy.url.replace("//", f"//ada:{password}@")
            else:
                options["proxy_auth"] = client.BasicAuth("ada", password)
            async with session.get("http://host.test/", **options) as response:
                assert await response.read() == b"ok"
    assert proxy.accepted == 2
