"""Exceptions leave the process they are raised in: a pool's workers, task queues and caches pickle them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import importlib
import inspect
import multiprocessing
import pickle
import pkgutil
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from tests.http.failures_support import CREDENTIALS, FAILURES, SECRET, failure
from tests.http.raw_support import RawServer, keeping_alive, raw_response
from whorl import http
from whorl.http import exceptions
from whorl.http.auth.basic import make_basic_auth
from whorl.http.request_info import ConnectionKey, PickledSSLContext, RequestInfo

needs_aiohttp = pytest.importorskip("aiohttp", reason="the WebSocket server is aiohttp's")

WAYS: dict[str, Callable[[Any], Any]] = {
    **{
        f"protocol {number}": lambda error, number=number: pickle.loads(pickle.dumps(error, number))
        for number in range(pickle.HIGHEST_PROTOCOL + 1)
    },
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def alike(error: BaseException, other: BaseException) -> None:
    """Fails unless the two say and have the same."""
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert repr(other) == repr(error)
    assert len(other.args) == len(error.args)
    for name, value in vars(error).items():
        kept = vars(other)[name]
        assert type(kept) is type(value), name
        if isinstance(value, CIMultiDictProxy | RequestInfo | str | int | URL):
            assert kept == value, name


@pytest.mark.parametrize("name", FAILURES)
async def test_what_a_request_ends_with_survives(ours: Any, name: str, tls: Any) -> None:
    error = await failure(ours, name, tls)
    error.note = "kept"  # type: ignore[attr-defined]
    for way in WAYS.values():
        alike(error, way(error))


async def test_the_response_of_an_error_is_all_there(ours: Any, tls: Any) -> None:
    error = await failure(ours, "ClientResponseError", tls)
    assert isinstance(error, exceptions.ClientResponseError)
    restored = pickle.loads(pickle.dumps(error))
    assert isinstance(restored.headers, CIMultiDictProxy)
    assert restored.headers["set-cookie"] == f"b={SECRET}"
    assert restored.request_info == error.request_info
    assert isinstance(restored.request_info.headers, CIMultiDictProxy)
    assert restored.request_info.headers["authorization"] == CREDENTIALS["Authorization"]
    assert (restored.status, restored.message) == (500, "No")
    (hop,) = restored.history
    assert (hop.status, hop.reason, hop.headers["LOCATION"]) == (302, "Found", "/refused")
    assert hop.cookies["a"].value == SECRET
    assert hop.url.path == "/moved"
    assert hop.request_info.method == "GET"


async def test_a_response_is_pickled_as_a_record(ours: Any) -> None:
    """Its head, and its body if that was read; there is no connection in another process."""
    content = raw_response(b'{"a": 1}', "Content-Type: application/json; charset=utf-8", "X: y", "x: z")
    async with RawServer(keeping_alive(content)) as server, ours.ClientSession() as session:
        async with session.get(server.url) as response:
            unread = pickle.loads(pickle.dumps(response))
            await response.read()
            read = pickle.loads(pickle.dumps(response))
        async with session.post(server.url, data=b"x", skip_auto_headers=["accept"]) as response:
            posted = copy.copy(response)
    for record in (unread, read):
        assert type(record) is ours.ClientResponse
        assert (record.status, record.reason, record.version, record.ok) == (200, "OK", (1, 1), True)
        assert record.headers.getall("X") == ["y", "z"]
        assert record.raw_headers[-2:] == ((b"X", b"y"), (b"x", b"z"))
        assert (record.method, record.url, record.host) == ("GET", URL(server.url), "127.0.0.1")
        assert record.content_type == "application/json"
        assert record.closed
        assert record.connection is None
        assert record.request_info.headers["Host"] == f"127.0.0.1:{server.port}"
        assert repr(record).startswith(f"<ClientResponse({server.url}) [200 OK]>")
    assert posted.request_info.method == "POST"
    assert await read.json() == {"a": 1}
    with pytest.raises(ours.ClientConnectionError, match="Connection closed"):
        await unread.read()
    with pytest.raises(ours.ClientConnectionError, match="Connection closed"):
        await unread.content.read()
    read.release()
    unread.raise_for_status()


def modules() -> Iterator[Any]:
    """The modules of the client."""
    for info in pkgutil.walk_packages(http.__path__, "whorl.http."):
        yield importlib.import_module(info.name)


def every_exception() -> dict[str, type[BaseException]]:
    """The exceptions and warnings of whorl.http, by name."""
    return {
        name: value
        for module in modules()
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and issubclass(value, BaseException)
        and value.__module__.startswith("whorl.http.")
        and not name.startswith("_")
    }


KEY = ConnectionKey("h.test", 443, True, True, None, None, None)
REQUEST_INFO = RequestInfo(URL("http://h.test/"), "GET", CIMultiDictProxy(CIMultiDict()))

#: Arguments for exceptions that no request above ends with.
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "ClientSSLError": (KEY, OSError(1, "no")),
    "InvalidHeader": (b"a\xff",),
    "LineTooLong": (b"GET", 2),
    "BadStatusLine": (b"HTTP",),
    "BadHttpMessage": ("no",),
    "HttpBadRequest": ("no",),
    "HttpProcessingError": (),
    "InvalidURLError": ("no",),
    "WebSocketError": (1002, "no"),
}


@pytest.mark.parametrize("name", sorted(every_exception()))
def test_every_exception_survives(name: str) -> None:
    """By its arguments, whether or not a request of these tests ends with it."""
    kind = every_exception()[name]
    if name in ARGUMENTS:
        arguments = ARGUMENTS[name]
    elif issubclass(kind, exceptions.ClientResponseError):
        arguments = (REQUEST_INFO, ())
    elif issubclass(kind, exceptions.UnixClientConnectorError):
        arguments = ("/x", KEY, OSError(1, "no"))
    elif issubclass(kind, exceptions.ClientConnectorError):
        arguments = (KEY, OSError(1, "no"))
    elif issubclass(kind, exceptions.ServerFingerprintMismatch):
        arguments = (b"a", b"b", "h.test", 443)
    else:
        arguments = ("no",)
    error = kind(*arguments)
    for way in WAYS.values():
        alike(error, way(error))


def test_a_context_stays_in_its_process() -> None:
    """An SSLContext has private keys, and cannot be pickled: what comes out says which one it was."""
    context = ssl.create_default_context()
    key = KEY._replace(ssl=context, proxy=URL("http://ada:word@p.test"), proxy_auth=make_basic_auth("a", "b"))
    assert copy.deepcopy(key) is key
    restored = pickle.loads(pickle.dumps(key))
    assert isinstance(restored.ssl, PickledSSLContext)
    assert repr(restored) == repr(key)
    assert restored._replace(ssl=context) == key
    error = exceptions.ClientConnectorError(key, OSError(1, "no"))
    assert copy.copy(error).ssl is context
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_credentials_are_pickled_without_their_warning(protocol: int) -> None:
    auth = make_basic_auth("ada", "word")
    restored = pickle.loads(pickle.dumps(auth, protocol))
    assert restored == auth
    assert type(restored) is http.BasicAuth
    pinned = http.Fingerprint(bytes(32))
    assert pickle.loads(pickle.dumps(pinned, protocol)) == pinned


def fetch(url: str) -> int:
    """What a worker process does."""

    async def main() -> int:
        async with http.ClientSession(headers=CREDENTIALS) as session:
            async with session.get(url, raise_for_status=True) as response:
                return response.status

    return asyncio.run(main())


async def test_a_worker_of_a_process_pool_raises_it() -> None:
    refusal = raw_response(b"", "Retry-After: 7", status="503 Busy")
    async with RawServer(keeping_alive(refusal)) as server:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            loop = asyncio.get_running_loop()
            with pytest.raises(http.ClientResponseError) as raised:
                await loop.run_in_executor(pool, fetch, server.url)
    assert (raised.value.status, raised.value.message) == (503, "Busy")
    assert raised.value.headers is not None
    assert raised.value.headers["retry-after"] == "7"
    assert raised.value.request_info.url == URL(server.url)
