"""Digest authentication. The names of ``aiohttp.client_middleware_digest_auth`` that whorl.http has."""

from __future__ import annotations

from yarl import URL

from whorl.http import hdrs
from whorl.http.auth.digest import (
    DigestAuthChallenge,
    DigestAuthMiddleware,
    DigestFunctions,
    escape_quotes,
    parse_header_pairs,
    unescape_quotes,
)
from whorl.http.body.payload_base import Payload
from whorl.http.client_request import ClientRequest
from whorl.http.exceptions import ClientError
from whorl.http.response import ClientResponse

__all__ = [
    "URL",
    "ClientError",
    "ClientRequest",
    "ClientResponse",
    "DigestAuthChallenge",
    "DigestAuthMiddleware",
    "DigestFunctions",
    "Payload",
    "escape_quotes",
    "hdrs",
    "parse_header_pairs",
    "unescape_quotes",
]
