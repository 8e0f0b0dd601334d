"""The HTTP clients that are compared, each used as its documentation shows.

Each method makes `times` requests, one after another, and raises RuntimeError for a response that is not what
the server sends. The loop is written out in each, so that no frame of ours stands between the library and its
user. Imports nothing but the chosen library, and ssl, which all but one of them import themselves:
start-up time is measured with it.
"""

import ssl
from pathlib import Path
from typing import Any, Protocol

#: Bytes of a piece, where the library lets its user choose.
PIECE = 64 * 1024
#: For the libraries that have a limit of a few seconds by default: 10,000 connections take longer to open.
SECONDS = 60.0
#: What the multipart rows call their file.
UPLOAD = "upload.bin"


class Client(Protocol):
    """One library's client. Made and used inside a running loop.

    What a library cannot do its class does not have; bench.suites.http says which rows that are.
    """

    async def get(self, url: str, times: int, size: int) -> None:
        """GETs; each body is read as a whole, and is `size` bytes when it has been decompressed.

        With the feature "redirects" the URL redirects once to that body.
        """

    async def stream(self, url: str, times: int, size: int) -> None:
        """GETs; each body is read by pieces and not kept."""

    async def pages(self, url: str, times: int, size: int) -> None:
        """GETs, each by a client of its own that is closed then; each body is read as text."""

    async def post_json(self, url: str, times: int, document: dict[str, Any]) -> None:
        """POSTs of `document`, which the server sends back; both ways by the library's own JSON."""

    async def post_without_json(self, url: str, times: int, document: dict[str, Any], text: str) -> None:
        """The same calls, with functions in the place of json's: one gives `text`, the other what it gets.

        The client is to have the feature "without_json".
        """

    async def post_bytes(self, url: str, times: int, body: bytes) -> None:
        """POSTs of JSON text, which the server sends back; neither is made or read as JSON."""

    async def post_form(self, url: str, times: int, fields: dict[str, str], size: int) -> None:
        """POSTs of a form; the server says that it received `size` bytes."""

    async def post_multipart(self, url: str, times: int, file: Path, size: int) -> None:
        """POSTs of a form with a file of `size` bytes in it; the server says how much it received."""

    async def close(self) -> None:
        """Closes the client."""


def open_client(name: str, connections: int, authority: Path | None, feature: str = "") -> Client:
    """The client of the library called `name`, whose pool keeps `connections`.

    `authority` is the PEM file of what signed the server's certificate, for TLS. `feature` is what the client
    is to do beyond its defaults: "redirects", "middleware", "trace", "trust_env", "skip_auto_headers" or
    "without_json".
    """
    match name:
        case "whorl":
            from bench.clients.of_aiohttp import AiohttpClient

            return AiohttpClient("whorl.http", authority, feature)
        case "aiohttp":
            from bench.clients.of_aiohttp import AiohttpClient

            return AiohttpClient("aiohttp", authority, feature)
        case "httpx":
            from bench.clients.of_httpx import HttpxClient

            return HttpxClient(authority, feature)
        case "pyreqwest":
            from bench.clients.of_pyreqwest import PyreqwestClient

            return PyreqwestClient(authority, feature)
        case "wreq":
            from bench.clients.of_wreq import WreqClient

            return WreqClient(authority, feature)
        case "pyqwest":
            from bench.clients.of_pyqwest import PyqwestClient

            return PyqwestClient(connections, authority)
        case _:
            raise LookupError(f"no client is called {name!r}")


def trusting(authority: Path) -> ssl.SSLContext:
    """A context for the server's certificate."""
    return ssl.create_default_context(cafile=authority)


# Called where something is wrong only, so that a good response costs no call.


def raise_for_length(url: str, status: int, length: int, size: int) -> None:
    """Raises RuntimeError for a body of another length."""
    raise RuntimeError(f"{url} returned {status} with {length} bytes instead of {size}")


def raise_for_body(url: str, status: int, received: Any) -> None:
    """Raises RuntimeError for another document, or another count."""
    raise RuntimeError(f"{url} returned {status} with {received!r}")
