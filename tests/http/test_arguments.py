"""Arguments of a wrong type, and URLs that lead nowhere: errors that name them, before anything is sent."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest
from yarl import URL

import whorl
from tests.http.raw_support import OK, Peer, RawServer, keeping_alive
from whorl import http

SECRET = "topsecret"

WRONG: list[tuple[dict[str, Any], str, str]] = [
    (
        {"cookies": f"a={SECRET}"},
        "TypeError",
        "cookies must be a mapping, or pairs of names and values, not str",
    ),
    ({"cookies": b"a=b"}, "TypeError", "cookies must be a mapping, or pairs of names and values, not bytes"),
    ({"cookies": 5}, "TypeError", "cookies must be a mapping, or pairs of names and values, not int"),
    ({"cookies": ["a"]}, "TypeError", "cookies must be .*, not list of str"),
    ({"cookies": {1: "a"}}, "TypeError", "the name of a cookie must be str, not int"),
    ({"headers": {"X-Count": 1}}, "TypeError", "the value of the header field X-Count must be str, not int"),
    ({"headers": [("X-Count", None)]}, "TypeError", "of the header field X-Count must be str, not NoneType"),
    (
        {"headers": {"Authorization": SECRET.encode()}},
        "TypeError",
        "field Authorization must be str, not bytes",
    ),
    ({"headers": {5: "a"}}, "TypeError", "the name of a header field must be str, not int"),
    ({"headers": f"a: {SECRET}"}, "TypeError", "headers must be a mapping, or pairs .*, not str"),
    ({"headers": 5}, "TypeError", "headers must be a mapping, or pairs of names and values, not int"),
    ({"proxy": "http://127.0.0.1:1", "proxy_headers": {"X": 1}}, "TypeError", "field X must be str, not int"),
    ({"read_bufsize": "x"}, "TypeError", "read_bufsize must be an int, not str"),
    ({"read_bufsize": -1}, "ValueError", "read_bufsize must not be negative: -1"),
    ({"max_headers": 1.5}, "TypeError", "max_headers must be an int, not float"),
    ({"max_redirects": "5"}, "TypeError", "max_redirects must be an int or None, not str"),
    ({"server_hostname": 5}, "TypeError", "server_hostname must be str or None, not int"),
    ({"timeout": "5"}, "ValueError", "timeout must be a ClientTimeout or a number of seconds, not '5'"),
    ({"timeout": (1, 2)}, "ValueError", "timeout must be a ClientTimeout or a number of seconds"),
    ({"params": 5}, "TypeError", "params must be a mapping, pairs, or a str, not int"),
    ({"params": [1]}, "TypeError", "params must be a mapping, pairs of names and values, or a str"),
    ({"params": {"a": None}}, "TypeError", "params: the value of 'a' is None, .*: leave it out"),
    ({"params": {"a": True}}, "TypeError", "params: the value of 'a' is True, .*: use a str, such as 'true'"),
    ({"params": {"a": object()}}, "TypeError", "params: .*object"),
    ({"params": {"a": float("nan")}}, "ValueError", "params: .*nan"),
    ({"proxy": {"http": "http://p"}}, "TypeError", "proxy must be a str or a yarl.URL, not dict"),
    ({"skip_auto_headers": "User-Agent"}, "TypeError", "skip_auto_headers must be a list of names, not str"),
    ({"middlewares": print}, "TypeError", "middlewares must be a list of coroutine functions, not builtin"),
]


@pytest.mark.parametrize(("options", "kind", "text"), WRONG, ids=[str(row[0])[:40] for row in WRONG])
async def test_a_wrong_argument_is_named(ours: Any, options: dict[str, Any], kind: str, text: str) -> None:
    async with RawServer(keeping_alive(OK)) as server:
        for session_options in ({}, {"skip_auto_headers": ["Accept"]}):
            async with ours.ClientSession(**session_options) as session:
                with pytest.raises((TypeError, ValueError), match=text) as raised:
                    await session.post(server.url, **options)
                assert type(raised.value).__name__ == kind
                assert SECRET not in str(raised.value)
        assert server.accepted == 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"headers": {"a": 1}}, "the value of the header field a must be str, not int"),
        ({"headers": "a: b"}, "headers must be a mapping"),
        ({"cookies": "a=b"}, "cookies must be a mapping"),
        ({"read_bufsize": "x"}, "read_bufsize must be an int"),
        ({"max_line_size": -1}, "max_line_size must not be negative"),
        ({"skip_auto_headers": "Accept"}, "skip_auto_headers must be a list of names"),
        ({"base_url": 5}, "base_url must be a str or a yarl.URL, not int"),
        ({"base_url": "api/"}, "base_url must be absolute: 'api/'"),
        ({"connector": http.TCPConnector}, "connector must be an object, not the class TCPConnector"),
        ({"cookie_jar": http.CookieJar}, "cookie_jar must be an object, not the class CookieJar"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_wrong_argument_of_a_session_is_named(ours: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        ours.ClientSession(**options)


@pytest.mark.parametrize("member", ["total", "connect", "sock_read", "sock_connect", "ceil_threshold"])
def test_a_wrong_timeout_is_named(member: str) -> None:
    with pytest.raises(TypeError, match=f"{member} of a ClientTimeout must be a number .*, not '5'"):
        http.ClientTimeout(**{member: "5"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"{member} of a ClientTimeout .*, not NaN"):
        http.ClientTimeout(**{member: float("nan")})
    assert getattr(http.ClientTimeout(**{member: 0}), member) == 0


@pytest.mark.parametrize("value", [{1, 2}, object(), {"a": b"x"}])
async def test_json_that_cannot_be_serialised_is_the_serialiser_s_own_error(
    client: Any, value: object
) -> None:
    async with RawServer(keeping_alive(OK)) as server, client.ClientSession() as session:
        with pytest.raises(TypeError, match="is not JSON serializable"):
            await session.post(server.url, json=value)
        assert server.accepted == 0


async def test_the_error_of_a_serialiser_of_the_user_s_stays(client: Any) -> None:
    class Own(Exception):
        pass

    def serialize(value: object) -> str:
        raise Own

    async with client.ClientSession(json_serialize=serialize) as session:
        with pytest.raises(Own):
            await session.post("http://127.0.0.1:1/", json={})


@pytest.mark.parametrize("method", [b"GET", 5, None])
async def test_a_method_that_is_no_text(ours: Any, method: object) -> None:
    async with ours.ClientSession() as session:
        with pytest.raises(TypeError, match="method must be str, not "):
            await session.request(method, "http://127.0.0.1:1/")


@pytest.mark.parametrize("url", [None, b"http://h/", 5])
async def test_a_url_that_is_no_text(ours: Any, url: object) -> None:
    async with ours.ClientSession() as session:
        with pytest.raises(TypeError, match="url must be a str or a yarl.URL, not "):
            await session.get(url)


async def test_trace_configs_may_be_any_sequence(client: Any) -> None:
    began: list[str] = []

    async def on_start(session: object, context: object, params: Any) -> None:
        began.append(params.method)

    config = client.TraceConfig()
    config.on_request_start.append(on_start)
    async with (
        RawServer(keeping_alive(OK)) as server,
        client.ClientSession(trace_configs=(config,)) as session,
    ):
        async with session.get(server.url):
            pass
        with pytest.raises(TypeError):
            await session.get(server.url, params={"a": None})
    assert began == ["GET"]


# Hosts.


@pytest.mark.parametrize(
    "host", ["1.2.3.4.5", "256.1.1.1", "127.1", "2130706433", "0x7f.1", "0x7f000001", "1.2.3.4."]
)
@pytest.mark.parametrize("redirected", [False, True])
async def test_an_address_that_is_none_is_said_to_be_none(ours: Any, host: str, redirected: bool) -> None:
    """They get past filters of addresses, and the C library reads most of them."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(
            b"HTTP/1.1 302 F\r\nContent-Length: 0\r\nLocation: http://%s/\r\n\r\n" % host.encode()
        )

    async with RawServer(script) as server, ours.ClientSession() as session:
        with pytest.raises(ours.InvalidUrlClientError, match="is not a canonical IPv4 address: four decimal"):
            await session.get(server.url if redirected else f"http://{host}:{server.port}/")
        assert server.accepted == redirected


@pytest.mark.parametrize(
    ("url", "text"),
    [("", "has neither a scheme nor a host"), ("/x", "has neither a scheme"), ("http:///x", "has no host")],
)
async def test_a_url_without_a_host_is_said_to_have_none(ours: Any, url: str, text: str) -> None:
    async with ours.ClientSession() as session:
        with pytest.raises(ours.InvalidUrlClientError, match=text):
            await session.get(url)


class Names:
    """Finds no host, and says so without a number."""

    def __init__(self, error: OSError) -> None:
        self.error = error

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[Any]:
        raise self.error

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError("the name server is on holiday"), "[the name server is on holiday]"),
        (ConnectionResetError(), "[ConnectionResetError]"),
    ],
    ids=["with a text", "without"],
)
async def test_an_error_of_a_resolver_s_is_described(ours: Any, error: OSError, text: str) -> None:
    async with ours.ClientSession(connector=ours.TCPConnector(resolver=Names(error))) as session:
        with pytest.raises(ours.ClientConnectorDNSError) as raised:
            await session.get("http://h.test/")
    assert str(raised.value) == f"Cannot connect to host h.test:80 ssl:default {text}"


needs_ipv6 = pytest.mark.skipif(
    not socket.has_ipv6 or not hasattr(socket, "if_nameindex"), reason="this machine has no IPv6"
)


async def _ipv6_server() -> tuple[asyncio.Server, list[bytes]]:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)
        await writer.drain()
        writer.close()

    try:
        return await asyncio.start_server(serve, "::1", 0), heads
    except OSError as error:
        pytest.skip(f"this machine has no ::1: {error}")


@needs_ipv6
@pytest.mark.parametrize("percent", ["%25", "%"])
async def test_a_zone_is_read_in_both_forms_and_not_sent(ours: Any, percent: str) -> None:
    """RFC 6874 has it behind %25, RFC 9844 not at all; curl reads both. It is a name of this machine's."""
    name = next(name for index, name in socket.if_nameindex() if index == socket.if_nametoindex("lo"))
    server, heads = await _ipv6_server()
    async with server:
        port = server.sockets[0].getsockname()[1]
        for options in ({}, {"skip_auto_headers": ["Accept"]}):
            async with ours.ClientSession(**options) as session:
                async with session.get(URL(f"http://[::1{percent}{name}]:{port}/", encoded=True)) as response:
                    assert response.status == 200
    assert len(heads) == 2
    assert all(f"\r\nHost: [::1]:{port}\r\n".encode() in head for head in heads)


@needs_ipv6
@pytest.mark.parametrize("percent", ["%25", "%"])
async def test_a_zone_that_is_no_interface_is_named(ours: Any, percent: str) -> None:
    async with ours.ClientSession() as session:
        with pytest.raises(ours.ClientConnectorError) as raised:
            await session.get(URL(f"http://[fe80::1{percent}nope]/", encoded=True))
    assert str(raised.value) == (
        "Cannot connect to host fe80::1:80 in the zone nope ssl:default "
        "[the zone nope is no interface of this machine]"
    )


# Loops.

RUNS = {"whorl": whorl.run, "asyncio": asyncio.run}


@pytest.mark.parametrize("second", RUNS)
@pytest.mark.parametrize("first", RUNS)
@pytest.mark.parametrize("used", [False, True])
def test_a_session_of_a_loop_that_is_closed_says_so(first: str, second: str, used: bool) -> None:
    """The most common form: a session in a global variable, and asyncio.run() twice."""
    sessions: list[http.ClientSession] = []

    async def make() -> None:
        sessions.append(session := http.ClientSession())
        if used:
            async with RawServer(keeping_alive(OK)) as server, session.get(server.url) as response:
                await response.read()

    async def use() -> None:
        async with RawServer(keeping_alive(OK)) as server:
            for options in ({}, {"data": {"a": "b"}}):
                with pytest.raises(
                    RuntimeError, match="this session belongs to another event loop, which is closed"
                ):
                    await sessions[0].post(server.url, **options)
            with pytest.raises(RuntimeError, match="this session belongs to another event loop"):
                await sessions[0].ws_connect(server.url)
            assert server.accepted == 0
        await sessions[0].close()

    RUNS[first](make())
    RUNS[second](use())


@pytest.mark.parametrize("second", RUNS)
@pytest.mark.parametrize("first", RUNS)
def test_a_session_of_a_loop_in_another_thread_is_refused(first: str, second: str) -> None:
    made, over = threading.Event(), threading.Event()
    sessions: list[http.ClientSession] = []

    async def make() -> None:
        async with http.ClientSession() as session:
            sessions.append(session)
            made.set()
            await asyncio.to_thread(over.wait)

    async def use() -> None:
        for options in ({}, {"data": {"a": "b"}}):
            with pytest.raises(
                RuntimeError, match="this session belongs to another event loop, which is not"
            ):
                await sessions[0].post("http://127.0.0.1:1/", **options)

    thread = threading.Thread(target=lambda: RUNS[first](make()))
    thread.start()
    made.wait(20)
    try:
        RUNS[second](use())
    finally:
        over.set()
        thread.join(20)


# WebSocket.


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"protocols": "chat"}, TypeError, "protocols must be a list of names, not str"),
        ({"protocols": 5}, TypeError, "protocols must be a list of names, not int"),
        ({"timeout": "5"}, TypeError, "timeout must be a ClientWSTimeout or a number of seconds, not '5'"),
        (
            {"timeout": http.ClientTimeout(total=1)},
            TypeError,
            "must be a ClientWSTimeout or .*, not ClientTimeout",
        ),
        ({"heartbeat": "5"}, TypeError, "heartbeat must be a number of seconds or None, not '5'"),
        ({"heartbeat": 0}, ValueError, "heartbeat must be more than 0 seconds, or None for none, not 0"),
        ({"receive_timeout": "5"}, TypeError, "receive_timeout must be a number of seconds"),
        ({"max_msg_size": "5"}, TypeError, "max_msg_size must be an int, not str"),
        ({"max_msg_size": -1}, ValueError, "max_msg_size must not be negative"),
        ({"compress": "5"}, TypeError, "compress must be an int, not str"),
        ({"headers": {"a": 1}}, TypeError, "the value of the header field a must be str, not int"),
        ({"headers": "a: b"}, TypeError, "headers must be a mapping"),
        ({"origin": 5}, TypeError, "the value of the header field Origin must be str, not int"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_wrong_argument_of_a_websocket_is_named(
    ours: Any, options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    async with RawServer(keeping_alive(OK)) as server, ours.ClientSession() as session:
        with pytest.raises(kind, match=text):
            await session.ws_connect(server.url, **options)
        assert server.accepted == 0


@pytest.mark.parametrize("member", ["ws_receive", "ws_close"])
def test_a_wrong_timeout_of_a_websocket_is_named(member: str) -> None:
    with pytest.raises(TypeError, match=f"{member} of a ClientWSTimeout must be a number"):
        http.ClientWSTimeout(**{member: "5"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"{member} of a ClientWSTimeout .*, not NaN"):
        http.ClientWSTimeout(**{member: float("nan")})
