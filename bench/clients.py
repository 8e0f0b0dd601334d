"""The HTTP clients that are compared, each used as its documentation shows.

Each method makes `times` requests, one after another, and raises RuntimeError for a response that is not what
the server sends. The loop is written out in each, so that no frame of ours stands between the library and its
user. Imports nothing but the chosen library, and ssl, which all but one of them import themselves:
start-up time is measured with it.
"""

import importlib
import ssl
from pathlib import Path
from typing import Any, Protocol

#: Bytes of a piece, where the library lets its user choose.
PIECE = 64 * 1024
#: For the libraries that have a limit of a few seconds by default: 10,000 connections take longer to open.
_SECONDS = 60.0


class Client(Protocol):
    """One library's client. Made and used inside a running loop."""

    async def get(self, url: str, times: int, size: int) -> None:
        """GETs; each body is read as a whole, and is `size` bytes when it has been decompressed."""

    async def stream(self, url: str, times: int, size: int) -> None:
        """GETs; each body is read by pieces and not kept."""

    async def post_json(self, url: str, times: int, document: dict[str, Any]) -> None:
        """POSTs of `document`, which the server sends back; both ways by the library's own JSON."""

    async def close(self) -> None:
        """Closes the client."""


def open_client(name: str, connections: int, authority: Path | None) -> Client:
    """The client of the library called `name`, whose pool keeps `connections`.

    `authority` is the PEM file of what signed the server's certificate, for TLS.
    """
    match name:
        case "whorl":
            return AiohttpClient("whorl.http", authority)
        case "aiohttp":
            return AiohttpClient("aiohttp", authority)
        case "httpx":
            return HttpxClient(authority)
        case "pyreqwest":
            return PyreqwestClient(authority)
        case "wreq":
            return WreqClient(authority)
        case "pyqwest":
            return PyqwestClient(connections, authority)
        case _:
            raise LookupError(f"no client is called {name!r}")


def _context(authority: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority)


def _raise_for_length(url: str, status: int, length: int, size: int) -> None:
    """Called where something is wrong only, so that a good response costs no call."""
    raise RuntimeError(f"{url} returned {status} with {length} bytes instead of {size}")


def _raise_for_document(url: str, status: int, received: Any) -> None:
    raise RuntimeError(f"{url} returned {status} with {received!r}")


class AiohttpClient:
    """aiohttp, or whorl.http, which has its API."""

    def __init__(self, module: str, authority: Path | None) -> None:
        http: Any = importlib.import_module(module)
        secured = True if authority is None else _context(authority)
        self._session = http.ClientSession(connector=http.TCPConnector(limit=0, ssl=secured))

    async def get(self, url: str, times: int, size: int) -> None:
        session = self._session
        for _ in range(times):
            async with session.get(url) as response:
                body = await response.read()
                if response.status != 200 or len(body) != size:
                    _raise_for_length(url, response.status, len(body), size)

    async def stream(self, url: str, times: int, size: int) -> None:
        session = self._session
        for _ in range(times):
            async with session.get(url) as response:
                length = 0
                async for piece in response.content.iter_chunked(PIECE):
                    length += len(piece)
                if response.status != 200 or length != size:
                    _raise_for_length(url, response.status, length, size)

    async def post_json(self, url: str, times: int, document: dict[str, Any]) -> None:
        session = self._session
        for _ in range(times):
            async with session.post(url, json=document) as response:
                received = await response.json()
                if response.status != 200 or received != document:
                    _raise_for_document(url, response.status, received)

    async def close(self) -> None:
        await self._session.close()


class HttpxClient:
    """httpx, HTTP/1.1, with no limit on connections."""

    def __init__(self, authority: Path | None) -> None:
        httpx: Any = importlib.import_module("httpx")
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        trusted = True if authority is None else _context(authority)
        self._client = httpx.AsyncClient(limits=limits, verify=trusted, timeout=_SECONDS)

    async def get(self, url: str, times: int, size: int) -> None:
        client = self._client
        for _ in range(times):
            response = await client.get(url)
            if response.status_code != 200 or len(response.content) != size:
                _raise_for_length(url, response.status_code, len(response.content), size)

    async def stream(self, url: str, times: int, size: int) -> None:
        client = self._client
        for _ in range(times):
            async with client.stream("GET", url) as response:
                length = 0
                async for piece in response.aiter_bytes(PIECE):
                    length += len(piece)
                if response.status_code != 200 or length != size:
                    _raise_for_length(url, response.status_code, length, size)

    async def post_json(self, url: str, times: int, document: dict[str, Any]) -> None:
        client = self._client
        for _ in range(times):
            response = await client.post(url, json=document)
            received = response.json()
            if response.status_code != 200 or received != document:
                _raise_for_document(url, response.status_code, received)

    async def close(self) -> None:
        await self._client.aclose()


class PyreqwestClient:
    """pyreqwest, on the runtime of one thread that is its default."""

    def __init__(self, authority: Path | None) -> None:
        builder: Any = importlib.import_module("pyreqwest.client").ClientBuilder()
        if authority is not None:
            builder = builder.add_root_certificate_pem(authority.read_bytes())
        self._client = builder.build()

    async def get(self, url: str, times: int, size: int) -> None:
        client = self._client
        for _ in range(times):
            response = await client.get(url).build().send()
            body = await response.bytes()
            if response.status != 200 or len(body) != size:
                _raise_for_length(url, response.status, len(body), size)

    async def stream(self, url: str, times: int, size: int) -> None:
        client = self._client
        for _ in range(times):
            async with client.get(url).build_streamed() as response:
                length, reader = 0, response.body_reader
                while piece := await reader.read(PIECE):
                    length += len(piece)
                if response.status != 200 or length != size:
                    _raise_for_length(url, response.status, length, size)

    async def post_json(self, url: str, times: int, document: dict[str, Any]) -> None:
        client = self._client
        for _ in range(times):
            response = await client.post(url).body_json(document).build().send()
            received = await response.json()
            if response.status != 200 or received != document:
                _raise_for_document(url, response.status, received)

    async def close(self) -> None:
        await self._client.close()


class WreqClient:
    """wreq, imitating no browser. Its pieces are as they come."""

    def __init__(self, authority: Path | None) -> None:
        trusted = True if authority is None else authority
        self._client = importlib.import_module("wreq").Client(gzip=True, tls_verify=trusted)

    async def get(self, url: str, times: int, size: int) -> None:
        client = self._client
        for _ in range(times):
            response = await client.get(url)
            body = await response.bytes()
            if response.status.as_int() != 200 or len(body) != size:
                _raise_for_length(url, response.status.as_int(), len(body), size)

    async def stream(self, url: str, times: int, size: int) -> None:
        client = self._client
        for _ in range(times):
            async with client.get(url) as response:
                length = 0
                async with response.stream() as pieces:
                    async for piece in pieces:
                        length += len(piece)
                if response.status.as_int() != 200 or length != size:
                    _raise_for_length(url, response.status.as_int(), length, size)

    async def post_json(self, url: str, times: int, document: dict[str, Any]) -> None:
        client = self._client
        for _ in range(times):
            response = await client.post(url, json=document)
            received = await response.json()
            if response.status.as_int() != 200 or received != document:
                _raise_for_document(url, response.status.as_int(), received)

    async def close(self) -> None:
        self._client.close()


class PyqwestClient:
    """pyqwest, whose pool keeps two connections unless a number is given. Its pieces are as they come."""

    def __init__(self, connections: int, authority: Path | None) -> None:
        pyqwest: Any = importlib.import_module("pyqwest")
        trusted = None if authority is None else authority.read_bytes()
        self._transport = pyqwest.HTTPTransport(tls_ca_cert=trusted, pool_max_idle_per_host=connections)
        self._client = pyqwest.Client(self._transport)

    async def get(self, url: str, times: int, size: int) -> None:
        client = self._client
        for _ in range(times):
            response = await client.get(url)
            if response.status != 200 or len(response.content) != size:
                _raise_for_length(url, response.status, len(response.content), size)

    async def stream(self, url: str, times: int, size: int) -> None:
        client = self._client
        for _ in range(times):
            async with client.stream("GET", url) as response:
                length = 0
                async for piece in response.content:
                    length += len(piece)
                if response.status != 200 or length != size:
                    _raise_for_length(url, response.status, length, size)

    async def post_json(self, url: str, times: int, document: dict[str, Any]) -> None:
        client = self._client
        for _ in range(times):
            response = await client.post(url, content=document)
            received = response.json()
            if response.status != 200 or received != document:
                _raise_for_document(url, response.status, received)

    async def close(self) -> None:
        await self._transport.aclose()
