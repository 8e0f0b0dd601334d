"""The two ways in which a connection is made end alike: natively, and by the connector's coroutine.

A subclass whose ``_create_connection()`` only calls the original has the coroutine make every connection.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import whorl.http
from tests.http.raw_support import Peer, RawServer, keeping_alive, pump
from tests.http.resolver_support import Resolver

pytestmark = pytest.mark.jumping_clock


class Native(whorl.http.TCPConnector):
    """Its class is a program's, none of its methods is."""


class Coroutine(whorl.http.TCPConnector):
    async def _create_connection(self, *args: Any, **options: Any) -> Any:
        return await super()._create_connection(*args, **options)


# Scenes: what a request is sent to, and with which options.

Scene = Callable[[Any], Any]
SCENES: dict[str, Scene] = {}


def scene(make: Callable[[Any], AsyncIterator[tuple[str, dict[str, Any], dict[str, Any]]]]) -> None:
    SCENES[make.__name__.replace("_", " ")] = asynccontextmanager(make)


def _closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@scene
async def a_server(tls: Any) -> Any:
    async with RawServer(keeping_alive()) as server:
        yield server.url, {}, {}


@scene
async def a_server_with_TLS(tls: Any) -> Any:
    async with RawServer(keeping_alive(), ssl=tls.server()) as server:
        yield server.url, {"ssl": tls.client()}, {}


@scene
async def nobody_listens(tls: Any) -> Any:
    yield f"http://127.0.0.1:{_closed_port()}/", {}, {}


@scene
async def nobody_listens_with_TLS(tls: Any) -> Any:
    yield f"https://127.0.0.1:{_closed_port()}/", {"ssl": tls.client()}, {}


@scene
async def no_address_of_the_family(tls: Any) -> Any:
    async with RawServer(keeping_alive()) as server:
        yield server.url, {"family": socket.AF_INET6}, {}


@scene
async def a_name_without_addresses(tls: Any) -> Any:
    yield "http://host.test/", {"resolver": Resolver()}, {}


@scene
async def a_name_that_is_unknown(tls: Any) -> Any:
    error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    yield "http://host.test/", {"resolver": Resolver(error=error)}, {}


@scene
async def a_resolver_that_times_out(tls: Any) -> Any:
    yield "http://host.test/", {"resolver": Resolver(error=TimeoutError())}, {}


@scene
async def a_resolver_that_fails(tls: Any) -> Any:
    yield "http://host.test/", {"resolver": Resolver(error=ZeroDivisionError("of the program"))}, {}


@scene
async def the_second_address(tls: Any) -> Any:
    async with RawServer(keeping_alive()) as server:
        yield f"http://host.test:{server.port}/", {"resolver": Resolver("127.0.0.9", "127.0.0.1")}, {}


@scene
async def the_second_address_without_happy_eyeballs(tls: Any) -> Any:
    async with RawServer(keeping_alive()) as server:
        options = {"resolver": Resolver("::1", "127.0.0.1"), "happy_eyeballs_delay": None}
        yield f"http://host.test:{server.port}/", options, {}


@scene
async def no_address_answers(tls: Any) -> Any:
    port = _closed_port()
    yield f"http://host.test:{port}/", {"resolver": Resolver("127.0.0.9", "127.0.0.8")}, {}


@scene
async def a_resolver_that_finds_names(tls: Any) -> Any:
    async with RawServer(keeping_alive()) as server:
        yield f"http://host.test:{server.port}/", {"resolver": Resolver("localhost")}, {}


@scene
async def a_local_address(tls: Any) -> Any:
    async with RawServer(keeping_alive()) as server:
        yield server.url, {"local_addr": ("127.0.0.2", 0)}, {}


@scene
async def a_local_address_of_another_machine(tls: Any) -> Any:
    async with RawServer(keeping_alive()) as server:
        yield server.url, {"local_addr": ("192.0.2.1", 0)}, {}


@scene
async def a_local_address_of_another_family(tls: Any) -> Any:
    async with RawServer(keeping_alive()) as server:
        yield server.url, {"local_addr": ("::1", 0)}, {}


@scene
async def an_authority_that_is_unknown(tls: Any) -> Any:
    async with RawServer(keeping_alive(), ssl=tls.server()) as server:
        yield server.url, {"ssl": ssl.create_default_context()}, {}


@scene
async def the_certificate_of_another(tls: Any) -> Any:
    async with RawServer(keeping_alive(), ssl=tls.server()) as server:
        yield server.url, {"ssl": tls.client()}, {"server_hostname": "another.test"}


@scene
async def a_certificate_that_is_not_verified(tls: Any) -> Any:
    async with RawServer(keeping_alive(), ssl=tls.server()) as server:
        yield server.url, {}, {"ssl": False}


@scene
async def a_certificate_of_another_fingerprint(tls: Any) -> Any:
    async with RawServer(keeping_alive(), ssl=tls.server()) as server:
        yield server.url, {}, {"ssl": whorl.http.Fingerprint(b"\0" * 32)}


@scene
async def TLS_with_a_server_that_has_none(tls: Any) -> Any:
    async def script(peer: Peer) -> None:
        await peer.reader.read(100)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with RawServer(script) as server:
        yield server.url.replace("http", "https"), {"ssl": tls.client()}, {}


@scene
async def a_handshake_that_is_broken_off(tls: Any) -> Any:
    async def script(peer: Peer) -> None:
        await peer.reader.read(100)

    async with RawServer(script) as server:
        yield server.url.replace("http", "https"), {"ssl": tls.client()}, {}


@scene
async def a_handshake_that_is_reset(tls: Any) -> Any:
    async def script(peer: Peer) -> None:
        await peer.reader.read(100)
        peer.reset()

    async with RawServer(script) as server:
        yield server.url.replace("http", "https"), {"ssl": tls.client()}, {}


@scene
async def a_handshake_without_end(tls: Any) -> Any:
    async with RawServer(Peer.gone) as server:
        limit = whorl.http.ClientTimeout(sock_connect=0.1)
        yield server.url.replace("http", "https"), {"ssl": tls.client()}, {"timeout": limit}


@scene
async def a_handshake_without_end_in_all(tls: Any) -> Any:
    async with RawServer(Peer.gone) as server:
        limit = whorl.http.ClientTimeout(total=0.1)
        yield server.url.replace("http", "https"), {"ssl": tls.client()}, {"timeout": limit}


@scene
async def a_handshake_without_end_and_a_limit_of_connecting(tls: Any) -> Any:
    async with RawServer(Peer.gone) as server:
        limit = whorl.http.ClientTimeout(connect=0.1)
        yield server.url.replace("http", "https"), {"ssl": tls.client()}, {"timeout": limit}


def _proxy(answer: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> Any:
    async def script(peer: Peer) -> None:
        head, _ = await peer.request()
        host, _, port = head.split(b" ")[1].decode().partition(":")
        if not head.startswith(b"CONNECT") or b" 200 " not in answer:
            await peer.send(answer)
            return
        reader, writer = await asyncio.open_connection(host, int(port))
        await peer.send(answer)
        await asyncio.gather(pump(peer.reader, writer), pump(reader, peer.writer))

    return RawServer(script)


@scene
async def a_proxy(tls: Any) -> Any:
    async with _proxy(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as proxy:
        yield "http://host.test/", {}, {"proxy": proxy.url}


@scene
async def a_proxy_that_is_not_there(tls: Any) -> Any:
    yield "http://host.test/", {}, {"proxy": f"http://127.0.0.1:{_closed_port()}"}


@scene
async def a_proxy_whose_name_is_unknown(tls: Any) -> Any:
    error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    yield "http://host.test/", {"resolver": Resolver(error=error)}, {"proxy": "http://proxy.test"}


@scene
async def a_tunnel(tls: Any) -> Any:
    async with RawServer(keeping_alive(), ssl=tls.server()) as server, _proxy() as proxy:
        yield server.url, {"ssl": tls.client()}, {"proxy": proxy.url}


@scene
async def a_tunnel_that_is_refused(tls: Any) -> Any:
    async with _proxy(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n") as proxy:
        yield "https://host.test/", {"ssl": tls.client()}, {"proxy": proxy.url}


@scene
async def a_tunnel_that_wants_a_password(tls: Any) -> Any:
    answer = b"HTTP/1.1 407 Who?\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"
    async with _proxy(answer) as proxy:
        yield "https://host.test/", {"ssl": tls.client()}, {"proxy": proxy.url}


@scene
async def a_tunnel_with_an_answer_that_is_none(tls: Any) -> Any:
    async with _proxy(b"what?\r\n\r\n") as proxy:
        yield "https://host.test/", {"ssl": tls.client()}, {"proxy": proxy.url}


@scene
async def a_tunnel_to_the_certificate_of_another(tls: Any) -> Any:
    async with RawServer(keeping_alive(), ssl=tls.server()) as server, _proxy() as proxy:
        yield server.url, {"ssl": tls.client()}, {"proxy": proxy.url, "server_hostname": "another.test"}


@scene
async def a_tunnel_that_ends_in_the_handshake(tls: Any) -> Any:
    async def script(peer: Peer) -> None:
        await peer.reader.read(100)

    async with RawServer(script) as server, _proxy() as proxy:
        yield server.url.replace("http", "https"), {"ssl": tls.client()}, {"proxy": proxy.url}


# How they end.


def _without_numbers(text: object) -> str:
    """What two runs say alike: no ports, and no addresses of objects."""
    return re.sub(r"\b\d{4,5}\b|0x[0-9a-f]+", "…", str(text))


def described(error: BaseException | None) -> list[tuple[Any, ...]]:
    """An exception and its causes."""
    causes: list[tuple[Any, ...]] = []
    while error is not None:
        names = ("errno", "strerror", "host", "status", "ssl")
        attributes = [_without_numbers(getattr(error, name, None)) for name in names]
        causes.append((type(error), _without_numbers(error), *attributes))
        # What asyncio's own timeouts are caused by is no matter of the client's.
        error = None if isinstance(error, TimeoutError) else error.__cause__
    return causes


async def ended(tls: Any, make: Scene, connector_class: type[whorl.http.TCPConnector]) -> Any:
    """What a request by a connector of the class ends in, and what the connector has afterwards."""
    async with make(tls) as (url, of_connector, of_request):
        connector = connector_class(**of_connector)
        result: Any
        async with whorl.http.ClientSession(connector=connector) as session:
            try:
                async with session.get(url, **of_request) as response:
                    result = response.status, await response.read()
            except Exception as error:
                result = described(error)
            idle = sum(map(len, connector._conns.values()))
            return result, idle, len(connector._acquired)


@pytest.mark.parametrize("name", SCENES)
async def test_both_ways_end_alike(coroutines: list[str], tls: Any, name: str) -> None:
    natively = await ended(tls, SCENES[name], Native)
    assert coroutines == []
    by_coroutine = await ended(tls, SCENES[name], Coroutine)
    assert coroutines
    assert natively == by_coroutine
