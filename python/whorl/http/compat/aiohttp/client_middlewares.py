"""Middlewares. The names of ``aiohttp.client_middlewares`` that whorl.http has."""

from __future__ import annotations

from whorl.http.client_request import ClientRequest
from whorl.http.hooks.middlewares import build_client_middlewares
from whorl.http.response import ClientResponse

__all__ = [
    "ClientRequest",
    "ClientResponse",
    "build_client_middlewares",
]
