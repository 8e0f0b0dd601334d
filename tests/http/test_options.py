"""The options of requests are known to type checkers; an unknown one is an error that names the way out."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.http.raw_support import OK, RawServer, keeping_alive
from whorl import http
from whorl.http import options
from whorl.http.session import ClientSession
from whorl.http.session import request as single_request
from whorl.http.websocket.connect import connect

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import ssl
import whorl.http as aiohttp

async def check(response: aiohttp.ClientResponse) -> None: ...

async def main(session: aiohttp.ClientSession, given: dict[str, str]) -> None:
    await session.get("http://x/", headers={"a": "1"}, params={"a": 1}, timeout=5, ssl=False)
    await session.get("http://x/", allow_redirects=False)
    await session.get("http://x/", headers=[("a", "1")], params=[("a", "b")], timeout=None, cookies=given)
    await session.options("http://x/", proxy="http://p", proxy_headers=given, server_hostname="x")
    await session.head("http://x/", raise_for_status=check, ssl=ssl.create_default_context())
    await session.post("http://x/", data={"a": 1}, allow_redirects=True, compress="gzip", chunked=True)
    await session.put("http://x/", json=[1], timeout=aiohttp.ClientTimeout(total=1), skip_auto_headers=["a"])
    await session.patch("http://x/", data=b"x", upload_tracker=aiohttp.UploadTracker())
    await session.delete("http://x/", data=b"x", max_redirects=3, read_bufsize=4096)
    await session.request("PROPFIND", "http://x/", data=b"x", allow_redirects=False, middlewares=())
    async with aiohttp.request("GET", "http://x", timeout=3, expect100=True) as response:
        text: str = await response.text()
    async with session.ws_connect("http://x/", heartbeat=3.5, protocols=["a"], max_msg_size=0) as ws:
        text = await ws.receive_str()

def later(session: aiohttp.ClientSession) -> aiohttp.client._RequestContextManager:
    return session.get("http://x/")

async def retried(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    if (response := await handler(request)).ok:
        return response
    return await handler(request)

class Signing:
    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        request.headers["X-Signature"] = "1"
        return await handler(request)

middlewares: list[aiohttp.ClientMiddlewareType] = [
    retried,
    Signing(),
    aiohttp.DigestAuthMiddleware("a", "b"),
]

async def of_a_number(request: int, handler: aiohttp.ClientHandlerType) -> str:
    return ""

wrong_middleware: aiohttp.ClientMiddlewareType = of_a_number  # wrong: Incompatible types in assignment

async def wrong(session: aiohttp.ClientSession) -> None:
    await session.get("http://x/", verify=False)  # wrong: "verify"
    await session.options("http://x/", headers={"a": 1})  # wrong: "headers"
    await session.head("http://x/", allow_redirects="no")  # wrong: "allow_redirects"
    await session.post("http://x/", timeout="5")  # wrong: "timeout"
    await session.put("http://x/", allow_redirect=False)  # wrong: "allow_redirect"
    await session.patch("http://x/", cookies="a=b; c=d")  # wrong: "cookies"
    await session.delete("http://x/", params=7)  # wrong: "params"
    await session.request("GET", "http://x/", files={})  # wrong: "files"
    await session.ws_connect("http://x/", heartbeet=3)  # wrong: "heartbeet"
    await session.ws_connect("http://x/", json={})  # wrong: "json"
    async with aiohttp.request("GET", "http://x", header={}) as response:  # wrong: "header"
        await response.read()
"""


def test_type_checkers_know_them(tmp_path: Path) -> None:
    """As a user's program is checked, with the package as it is installed."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        "--cache-dir",
        str(tmp_path / "cache"),
    ]
    done = subprocess.run(
        [*command, str(program)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT / "python")},
    )
    found = dict(
        re.findall(r"^program\.py:(\d+): error: (.*)$", done.stdout.replace(str(program), "program.py"), re.M)
    )
    expected = {
        str(number): line.rpartition("# wrong: ")[2]
        for number, line in enumerate(PROGRAM.splitlines(), 1)
        if "# wrong" in line
    }
    assert found.keys() == expected.keys(), done.stdout + done.stderr
    assert all(expected[number] in text for number, text in found.items()), done.stdout


async def test_a_request_is_of_the_class_that_its_type_says(ours: Any) -> None:
    """In aiohttp that is a parameterized generic, which ``isinstance()`` does not take."""
    async with RawServer(keeping_alive()) as server, ours.ClientSession() as session:
        request = session.get(server.url)
        assert isinstance(request, ours.client._RequestContextManager)
        async with request as response:
            assert response.status == 200


def test_the_types_are_those_of_what_takes_them() -> None:
    """Nothing that is taken is unknown to a type checker, nor the other way."""
    source = (ROOT / "crates/python/src/http/client/options.rs").read_text()
    (names,) = re.findall(r"const NAMES: [^=]*= \[(.*?)\];", source, re.S)
    assert set(re.findall(r'"(\w+)"', names)) | {"allow_redirects"} == set(
        options.RequestOptions.__annotations__
    )
    taken = set(inspect.signature(connect).parameters) - {"session", "url", "unknown"}
    assert taken == set(options.WSConnectOptions.__annotations__)


def test_signatures_can_be_inspected() -> None:
    """Tools that wrap or fake a session do."""
    for name in ("request", "get", "options", "head", "post", "put", "patch", "delete", "ws_connect"):
        parameters = inspect.signature(getattr(ClientSession, name)).parameters
        assert parameters["kwargs"].kind is inspect.Parameter.VAR_KEYWORD
    assert inspect.signature(ClientSession.get).parameters["allow_redirects"].default is True
    assert inspect.signature(ClientSession.head).parameters["allow_redirects"].default is False
    assert inspect.signature(ClientSession.post).parameters["data"].default is None
    assert "version" in inspect.signature(single_request).parameters


WAYS_OUT = [
    ("verify", "ssl="),
    ("cert", "ssl="),
    ("files", "data="),
    ("content", "data="),
    ("body", "data="),
    ("follow_redirects", "allow_redirects="),
    ("allow_redirect", "allow_redirects="),
    ("proxies", "proxy="),
    ("stream", "response.content"),
    ("hooks", "middlewares="),
    ("retries", "middlewares="),
    ("header", "did you mean headers=?"),
    ("cookie", "did you mean cookies=?"),
    ("time_out", "did you mean timeout=?"),
    ("trust_env", "ClientSession(trust_env=...)"),
    ("limit_per_host", "TCPConnector(limit_per_host=...)"),
    ("zzz", "there is none like it"),
]


@pytest.mark.parametrize(("name", "way_out"), WAYS_OUT)
async def test_an_unknown_option_names_the_way_out(ours: Any, name: str, way_out: str) -> None:
    async with RawServer(keeping_alive(OK)) as server, ours.ClientSession() as session:
        for call in (session.get, session.post):
            with pytest.raises(TypeError, match="got an unexpected keyword argument") as raised:
                await call(server.url, **{name: None})
            assert repr(name) in str(raised.value)
            assert way_out in str(raised.value)
        async with ours.ClientSession(skip_auto_headers=["Accept"]) as other:
            with pytest.raises(TypeError, match=re.escape(way_out)):
                await other.request("GET", server.url, **{name: 1})
        assert not server.heads


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("verify", "ssl="),
        ("ping_interval", "heartbeat="),
        ("extra_headers", "headers="),
        ("subprotocols", "protocols="),
        ("max_size", "max_msg_size="),
        ("heartbeet", "did you mean heartbeat=?"),
        ("trust_env", "ClientSession(trust_env=...)"),
    ],
)
async def test_an_unknown_option_of_a_websocket_does_too(ours: Any, name: str, way_out: str) -> None:
    async with ours.ClientSession() as session:
        with pytest.raises(TypeError, match="unexpected keyword argument") as raised:
            await session.ws_connect("http://127.0.0.1/", **{name: 1})
    assert way_out in str(raised.value)


async def test_a_request_with_a_session_of_its_own_names_it_and_leaves_nothing_open() -> None:
    with pytest.raises(TypeError, match="ssl="):
        async with single_request("GET", "http://127.0.0.1/", verify=False):  # type: ignore[call-arg]
            pass
    assert http.ClientSession is ClientSession
